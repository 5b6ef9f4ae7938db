//! What gateways grant this host: addresses, which are set on the interface of the policy, and what
//! comes with them.

use std::collections::BTreeMap;
use std::io;

use crate::ike::Level;
use crate::kernel::{Grant, RequestId};
use crate::log;
use crate::route::link::Links;
use crate::route::message::LinkAddress;
use crate::steer::ShardId;
use crate::sys::net;

/// A way to the interfaces of this host, or a stand-in for one.
pub trait Interfaces: Send {
    /// The number of an interface.
    fn index_of(&self, name: &str) -> io::Result<u32>;
    /// Sets an address; `AlreadyExists` is one that is there already.
    fn add(&mut self, at: LinkAddress) -> io::Result<()>;
    /// Takes an address away; one that is not there is no error.
    fn remove(&mut self, at: LinkAddress) -> io::Result<()>;
}

impl Interfaces for Links {
    fn index_of(&self, name: &str) -> io::Result<u32> {
        net::interface_index(name)
    }

    fn add(&mut self, at: LinkAddress) -> io::Result<()> {
        self.add(at)
    }

    fn remove(&mut self, at: LinkAddress) -> io::Result<()> {
        self.remove(at)
    }
}

/// All grants, by shard and the shard's name for it.
pub struct Grants {
    interfaces: Option<Box<dyn Interfaces>>,
    held: BTreeMap<(ShardId, RequestId), Held>,
}

/// A grant, and those of its addresses that are set.
struct Held {
    grant: Grant,
    set: Vec<LinkAddress>,
}

impl Grants {
    /// None so far.
    pub fn new(interfaces: Option<Box<dyn Interfaces>>) -> Self {
        Self {
            interfaces,
            held: BTreeMap::new(),
        }
    }

    /// The way to the interfaces is there from now on.
    pub(super) fn couple(&mut self, interfaces: Option<Box<dyn Interfaces>>) {
        self.interfaces = interfaces;
    }

    /// Keeps a grant and sets its addresses, where the policy names an interface for them.
    pub fn take(&mut self, name: (ShardId, RequestId), grant: Grant) {
        let set = self.set(&grant);
        self.held.insert(name, Held { grant, set });
    }

    /// What is granted now, in the order of shards and age.
    pub fn all(&self) -> impl Iterator<Item = &Grant> {
        self.held.values().map(|held| &held.grant)
    }

    /// Takes its addresses away, where no other grant has the same.
    pub fn give_back(&mut self, name: (ShardId, RequestId)) {
        let Some(held) = self.held.remove(&name) else {
            return;
        };
        for at in held.set {
            if is_set(&self.held, at) {
                continue;
            }
            let Some(interfaces) = &mut self.interfaces else {
                continue;
            };
            if let Err(error) = interfaces.remove(at) {
                let line = format!("address {} not taken away: {error}", at.address);
                log::write(Level::Warning, &line);
            }
        }
    }

    /// The daemon ends.
    pub fn give_back_all(&mut self) {
        let names: Vec<_> = self.held.keys().copied().collect();
        for name in names {
            self.give_back(name);
        }
    }

    /// Sets what can be set, and says what cannot. What somebody else set stays theirs; a new IKE SA
    /// with the gateway may get the address that the old one still has.
    fn set(&mut self, grant: &Grant) -> Vec<LinkAddress> {
        let mut set = Vec::new();
        let Self { interfaces, held } = self;
        let (Some(iface), Some(interfaces)) = (&grant.iface, interfaces) else {
            return set;
        };
        for net in &grant.addresses {
            let result = interfaces.index_of(iface).and_then(|index| {
                let at = LinkAddress {
                    index,
                    address: net.addr,
                    len: net.len,
                };
                if is_set(held, at) {
                    return Ok(at);
                }
                interfaces.add(at)?;
                let line = format!("iface {iface}: address {net} set");
                log::write(Level::Info, &line);
                Ok(at)
            });
            match result {
                Ok(at) => set.push(at),
                Err(error) => {
                    let line = format!("iface {iface}: address {net} not set: {error}");
                    log::write(Level::Warning, &line);
                }
            }
        }
        set
    }
}

/// Whether any grant has this address set.
fn is_set(held: &BTreeMap<(ShardId, RequestId), Held>, at: LinkAddress) -> bool {
    held.values().any(|held| held.set.contains(&at))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::IpAddr;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::policy::IpNet;

    /// One interface, `vpn0`, that has an address already.
    #[derive(Clone, Default)]
    struct Fake(Arc<Mutex<BTreeSet<IpAddr>>>);

    impl Interfaces for Fake {
        fn index_of(&self, name: &str) -> io::Result<u32> {
            let known = (name == "vpn0").then_some(7);
            known.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
        }

        fn add(&mut self, at: LinkAddress) -> io::Result<()> {
            assert_eq!(at.index, 7);
            let fresh = self.0.lock().insert(at.address);
            fresh
                .then_some(())
                .ok_or_else(|| io::ErrorKind::AlreadyExists.into())
        }

        fn remove(&mut self, at: LinkAddress) -> io::Result<()> {
            assert!(self.0.lock().remove(&at.address), "{at:?} is not set");
            Ok(())
        }
    }

    fn grant(iface: Option<&str>, addresses: &[&str]) -> Grant {
        let addresses = addresses.iter().map(|net| {
            let (addr, len) = net.split_once('/').unwrap();
            IpNet {
                addr: addr.parse().unwrap(),
                len: len.parse().unwrap(),
            }
        });
        Grant {
            iface: iface.map(str::to_owned),
            addresses: addresses.collect(),
            ..Grant::default()
        }
    }

    fn name(shard: u8, id: u64) -> (ShardId, RequestId) {
        (ShardId(shard), RequestId(id))
    }

    #[test]
    fn an_address_is_there_as_long_as_any_grant_has_it() {
        let fake = Fake::default();
        let mut grants = Grants::new(Some(Box::new(fake.clone())));
        let there = || {
            fake.0
                .lock()
                .iter()
                .map(IpAddr::to_string)
                .collect::<Vec<_>>()
        };
        grants.take(
            name(0, 1),
            grant(Some("vpn0"), &["10.9.0.1/24", "fd00::1/64"]),
        );
        assert_eq!(there(), ["10.9.0.1", "fd00::1"]);
        grants.take(name(1, 1), grant(Some("vpn0"), &["10.9.0.1/24"]));
        grants.give_back(name(0, 1));
        assert_eq!(there(), ["10.9.0.1"]);
        assert_eq!(grants.all().count(), 1);
        grants.give_back(name(0, 1));
        grants.give_back(name(1, 1));
        assert!(there().is_empty());
    }

    #[test]
    fn what_another_set_and_what_has_no_interface_is_left_alone() {
        let fake = Fake::default();
        fake.0.lock().insert("10.9.0.1".parse().unwrap());
        let mut grants = Grants::new(Some(Box::new(fake.clone())));
        grants.take(
            name(0, 1),
            grant(Some("vpn0"), &["10.9.0.1/24", "10.9.0.2/24"]),
        );
        grants.take(name(0, 2), grant(Some("vpn1"), &["10.9.0.3/24"]));
        grants.take(name(0, 3), grant(None, &["10.9.0.4/24"]));
        assert_eq!(fake.0.lock().len(), 2);
        grants.give_back_all();
        let left: Vec<IpAddr> = fake.0.lock().iter().copied().collect();
        assert_eq!(left, ["10.9.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(grants.all().count(), 0);
    }
}
