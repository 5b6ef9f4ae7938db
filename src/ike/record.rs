//! An IKE SA as a record for programs: what `ikectl --json show sa` prints, one JSON object for each.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use super::Role;
use super::child_sa::ChildSa;
use super::ike_sa::IkeSa;
use crate::wire::spi::IkeSpi;

/// An IKE SA. Fields are added, never renamed.
#[derive(Serialize)]
struct Record<'a> {
    initiator_spi: String,
    responder_spi: String,
    /// `initiator` or `responder`: who began it.
    role: &'static str,
    state: String,
    policy: &'a str,
    local: SocketAddr,
    peer: SocketAddr,
    peer_id: Option<String>,
    /// Addresses that the peer was assigned.
    assigned: Vec<IpAddr>,
    /// A NAT was found between us.
    nat: bool,
    udp_encapsulation: bool,
    child_sas: Vec<Child>,
}

#[derive(Serialize)]
struct Child {
    protocol: String,
    inbound_spi: String,
    outbound_spi: String,
    /// The kernel has it.
    loaded: bool,
    flows: Vec<Flow>,
}

#[derive(Serialize)]
struct Flow {
    local: String,
    remote: String,
    /// IP protocol, 0 for all.
    protocol: u8,
}

/// The object, in one line.
pub fn sa(sa: &IkeSa) -> String {
    let spi = |spi: Option<IkeSpi>| format!("0x{:016x}", spi.map_or(0, IkeSpi::value));
    let leases = [sa.lease.v4, sa.lease.v6].into_iter().flatten();
    let record = Record {
        initiator_spi: spi(sa.initiator_spi()),
        responder_spi: spi(sa.responder_spi()),
        role: match sa.role {
            Role::OriginalInitiator => "initiator",
            Role::OriginalResponder => "responder",
        },
        state: sa.state.to_string(),
        policy: &sa.policy.name,
        local: sa.path.local,
        peer: sa.path.remote,
        peer_id: sa.peer_id.as_ref().map(ToString::to_string),
        assigned: leases.map(|(address, _)| address).collect(),
        nat: sa.nat.encapsulate(),
        udp_encapsulation: sa.path.marker,
        child_sas: sa.children.iter().map(child).collect(),
    };
    // INVARIANT: only what has no keys or keys that are no text cannot be written.
    serde_json::to_string(&record).unwrap_or_default()
}

fn child(child: &ChildSa) -> Child {
    let names = &child.names;
    let flows = names.selectors.iter().map(|pair| Flow {
        local: format!("{}/{}", pair.local.addr, pair.local.len),
        remote: format!("{}/{}", pair.remote.addr, pair.remote.len),
        protocol: pair.protocol,
    });
    Child {
        protocol: names.protocol.to_string(),
        inbound_spi: names.inbound_spi.to_string(),
        outbound_spi: names.outbound_spi.to_string(),
        loaded: child.loaded,
        flows: flows.collect(),
    }
}
