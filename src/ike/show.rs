//! The text of `ikectl show sa`: the lines of OpenIKED with its field order. Where OpenIKED prints
//! pointers there are zeros: nobody can use them, and they tell an attacker about the heap.

use std::fmt;
use std::net::IpAddr;

use super::Role;
use super::child_sa::ChildSa;
use super::ike_sa::IkeSa;
use crate::kernel::SelectorPair;
use crate::policy::IpNet;
use crate::wire::spi::{Cpi, EspSpi, IkeSpi};

/// All lines of one IKE SA.
pub fn sa(sa: &IkeSa) -> Vec<String> {
    let mut lines = vec![ike_line(sa)];
    for child in &sa.children {
        lines.extend(child_lines(child));
    }
    lines
}

fn ike_line(sa: &IkeSa) -> String {
    let spi = |spi: Option<IkeSpi>| spi.map_or(0, IkeSpi::value);
    let id = sa
        .peer_id
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    let lease = |lease: Option<(IpAddr, Option<IpNet>)>| {
        lease
            .map(|(address, _)| format!("[{address}]"))
            .unwrap_or_default()
    };
    let role = match sa.role {
        Role::OriginalInitiator => "i",
        Role::OriginalResponder => "r",
    };
    let natt = if sa.nat.encapsulate() { " natt" } else { "" };
    let encap = if sa.path.marker { " udpecap" } else { "" };
    format!(
        "iked_sas: 0x0 rspi 0x{:016x} ispi 0x{:016x} {}->{}<{id}>[{}]{} {} {role}{natt}{encap} \
         nexti 0x0 pol 0x0",
        spi(sa.responder_spi()),
        spi(sa.initiator_spi()),
        sa.path.local,
        sa.path.remote,
        sa.lease
            .v4
            .map(|(address, _)| address.to_string())
            .unwrap_or_default(),
        lease(sa.lease.v6),
        sa.state,
    )
}

fn child_lines(child: &ChildSa) -> Vec<String> {
    let names = &child.names;
    let letters = if child.loaded { "LA" } else { "A" };
    let (local, remote) = (names.local, names.remote);
    let line = |label, protocol, spi, out| {
        let (word, from, to) = if out {
            ("out", local, remote)
        } else {
            ("in", remote, local)
        };
        format!("{label}: 0x0 {protocol} {spi} {word} {from} -> {to} ({letters}) B=0x0 P=0x0 @0x0")
    };
    let main_protocol = names.protocol.to_string();
    let both = |out, spi: EspSpi, cpi: Option<Cpi>| {
        let main = line("  sa_childsas", main_protocol.as_str(), spi, out);
        let comp = cpi.map(|cpi| line(BUNDLED, "IPCOMP", cpi.as_spi(), out));
        [main].into_iter().chain(comp)
    };
    let cpis = names.ipcomp;
    let mut lines: Vec<String> = both(true, names.outbound_spi, cpis.map(|c| c.outbound)).collect();
    lines.extend(both(false, names.inbound_spi, cpis.map(|c| c.inbound)));
    let loaded = if child.loaded { "L" } else { "" };
    for pair in &names.selectors {
        let (source, target) = (net(pair.local), net(pair.remote));
        let protocol = protocol(pair);
        let ways = [("out", &source, &target), ("in", &target, &source)];
        let ways = ways.into_iter().take(if pair.outward { 1 } else { 2 });
        for (word, from, to) in ways {
            lines.push(format!(
                "  sa_flows: 0x0 {} {word} {from} -> {to} {protocol}@-1 ({loaded}) @0x0",
                names.protocol
            ));
        }
    }
    lines
}

/// In the place of `  sa_childsas`, where the SA belongs to the one of the line before.
const BUNDLED: &str = "             ";

fn net(net: IpNet) -> impl fmt::Display {
    fmt::from_fn(move |f| write!(f, "{}/{}", net.addr, net.len))
}

fn protocol(pair: &SelectorPair) -> String {
    format!("[{}]", pair.protocol)
}

/// The "loaded flows" part of the log: outbound flows only.
pub fn flows(child: &ChildSa) -> impl fmt::Display {
    let protocol = child.names.protocol;
    fmt::from_fn(move |f| {
        for (index, pair) in child.names.selectors.iter().enumerate() {
            let before = if index > 0 { ", " } else { "" };
            let (local, remote) = (net(pair.local), net(pair.remote));
            write!(f, "{before}{protocol}-{local}={remote}({})", pair.protocol)?;
        }
        Ok(())
    })
}
