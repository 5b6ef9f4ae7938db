//! A strongSwan road warrior in an established session, and what both ends must say about it.

use std::collections::BTreeMap;

use super::gateway::{CLIENT_ID, Conf, Gateway};
use super::keys::{Keys, Kind};
use super::strongswan::{Client, StrongSwan};
use super::world::{INSIDE, World, assert_says, coupled};

/// Gateway and client after the client got in.
#[derive(Debug)]
pub struct Session<'w> {
    pub world: &'w World,
    pub gateway: Gateway,
    pub swan: StrongSwan<'w>,
    /// What charon said while it connected.
    pub said: String,
}

impl<'w> Session<'w> {
    /// The client connects, is assigned an IPv4 address, and everybody agrees about it; where there
    /// is ESP, packets pass.
    pub fn open(world: &'w World, conf: &Conf, client: &Client) -> Self {
        let session = Self::connect(world, conf, client);
        let address = session.address();
        session.passes_packets(&address, INSIDE);
        session
    }

    /// The client connects, and both ends show one IKE SA with one Child SA.
    pub fn connect(world: &'w World, conf: &Conf, client: &Client) -> Self {
        let gateway = Gateway::start(world, conf);
        let swan = StrongSwan::start(world, client);
        let said = swan.connect();
        let session = Self {
            world,
            gateway,
            swan,
            said,
        };
        session.is_up();
        session
    }

    /// Both ends show one IKE SA with one Child SA.
    pub fn is_up(&self) {
        assert_says(&self.said, &["IKE_SA home[", "established between"]);
        assert_says(&self.swan.list_sas(), &["ESTABLISHED", "INSTALLED"]);
        let shown = self.gateway.show_sa();
        assert_says(
            &shown,
            &[&format!("<FQDN/{CLIENT_ID}>["), "] ESTABLISHED r"],
        );
        assert_eq!(shown.matches("iked_sas:").count(), 1, "{shown}");
        assert_eq!(shown.matches("sa_childsas:").count(), 2, "{shown}");
        assert_eq!(self.gateway.count("IKE SA currently established"), 1);
        assert_eq!(self.gateway.count("IKE SA established"), 1);
        assert_eq!(self.gateway.count("half open"), 0);
        assert_eq!(self.gateway.count("faults"), 0);
    }

    /// The IPv4 address that the client says it was assigned; the gateway must say the same.
    pub fn address(&self) -> String {
        let listed = self.swan.list_sas();
        let line = listed.lines().find(|line| line.contains("local  '"));
        let inside = line
            .and_then(|line| line.rsplit_once('['))
            .map(|(_, rest)| rest);
        let addresses = inside
            .and_then(|rest| rest.split(']').next())
            .unwrap_or_default();
        let address = addresses.split(' ').next().unwrap_or_default().to_owned();
        assert!(
            address.starts_with("10.9.0."),
            "no assigned address in:\n{listed}"
        );
        let shown = self.gateway.show_sa();
        assert_says(
            &shown,
            &[&format!("[{address}]"), &format!("-> {address}/32 ")],
        );
        self.gateway.says(&[&format!("assigned {address}")]);
        address
    }

    /// Pings through the tunnel as [`passes_packets`] does.
    pub fn passes_packets(&self, from: &str, to: &str) {
        passes_packets(self.world, from, to);
    }

    /// As [`gateway_has_let_go`].
    pub fn is_gone_from_the_gateway(&self) {
        gateway_has_let_go(self.world, &self.gateway);
    }
}

/// Pings from the client through the tunnel, and the two SAs of the gateway's kernel count the packets.
pub fn passes_packets(world: &World, from: &str, to: &str) {
    packets_pass(world, from, to, &[2]);
}

/// The same where the gateway's kernel has one of these numbers of SAs: two of them count the packets.
pub fn packets_pass(world: &World, from: &str, to: &str, sas: &[usize]) {
    if !coupled() {
        return;
    }
    // A rekey may fall between two counts: then they are of other SAs, and say nothing.
    let counted = (0..5).find_map(|_| {
        let before = kernel_counts(world);
        let words = ["-q", "-c", "3", "-i", "0.3", "-W", "5", "-I", from, to];
        world.run("rw", "ping", &words);
        let after = kernel_counts(world);
        let same = sas.contains(&before.len()) && before.keys().eq(after.keys());
        same.then(|| {
            after
                .iter()
                .map(|(spi, packets)| packets - before[spi])
                .collect::<Vec<_>>()
        })
    });
    let counted = counted.expect("the same SAs before and after some packets");
    let busy: Vec<u64> = counted.iter().copied().filter(|&count| count > 0).collect();
    assert_eq!(
        busy,
        [3, 3],
        "packets counted by the SAs of the gateway: {counted:?}"
    );
}

/// SAs of ESP and AH in this output of `ip xfrm state`.
pub fn sas_of(states: &str) -> usize {
    states.matches("proto esp spi ").count() + states.matches("proto ah spi ").count()
}

/// The packets that each SA of the gateway's kernel has counted, by its SPI.
fn kernel_counts(world: &World) -> BTreeMap<String, u64> {
    let text = world.ip("gw", &["-s", "xfrm", "state"]);
    let text = text.replace("proto ah spi ", "proto esp spi ");
    let states = text.split("proto esp spi ").skip(1);
    let counts = states.filter_map(|state| {
        let (_, rest) = state.split_once("lifetime current:")?;
        let (_, packets) = rest.split_once("(bytes), ")?;
        let count = packets.split('(').next()?.parse().unwrap();
        Some((state.split('(').next()?.to_owned(), count))
    });
    // What the kernel has asked for has SPI 0 until it is forgotten.
    counts.filter(|(spi, _)| spi != "0x00000000").collect()
}

/// No lease, no Child SA, nothing in the kernel. What remains of the IKE SA answers
/// retransmissions for some seconds.
pub fn gateway_has_let_go(world: &World, gateway: &Gateway) {
    gateway.wait_for_count("IKE SA currently established", 0);
    let shown = gateway.show_sa();
    assert!(!shown.contains("ESTABLISHED"), "{shown}");
    assert!(!shown.contains("sa_childsas"), "{shown}");
    assert_eq!(gateway.count("leases"), 0);
    kernel_is_clean(world);
}

/// The gateway's kernel has no SA and no policy of ours.
pub fn kernel_is_clean(world: &World) {
    if !coupled() {
        return;
    }
    super::world::wait_for("the gateway's kernel to be clean", || {
        let states = world.ip("gw", &["xfrm", "state"]);
        let policies = world.ip("gw", &["xfrm", "policy"]);
        (states.is_empty() && !policies.contains("tmpl")).then_some(())
    });
}

/// The gateway's kernel has no SA of ours, and no policy but that many traps.
pub fn kernel_holds_traps(world: &World, count: usize) {
    if !coupled() {
        return;
    }
    super::world::wait_for("the gateway's kernel to hold only traps", || {
        let states = world.ip("gw", &["xfrm", "state"]);
        let policies = world.ip("gw", &["xfrm", "policy"]);
        let only = policies.matches("tmpl").count() == count
            && policies.matches(&format!("reqid {TRAP}")).count() == count;
        // The kernel keeps a note of what it asked for, with SPI 0.
        let all = states.matches("proto esp spi 0x").count();
        let notes = states.matches("proto esp spi 0x00000000").count();
        (only && all == notes).then_some(())
    });
}

/// How the reqids of traps begin in decimal, 0x4a000000 and a bit.
const TRAP: &str = "124151";

/// Gives both ends raw key pairs of these kinds; the result goes into [`Client::keys`].
pub fn raw_keys(world: &World, gateway: Kind, client: Kind) -> Option<(Keys, Keys)> {
    let own = Keys::make(world, "gateway", gateway);
    let theirs = Keys::make(world, "client", client);
    Gateway::give_keys(world, &own, &theirs.public);
    Some((theirs, own))
}
