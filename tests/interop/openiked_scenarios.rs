//! OpenIKED at the other end, in either role, with traffic. Only the rig's kernel lets it start.

use super::gateway::{CLIENT_ID, Conf, Gateway};
use super::keys::Kind;
use super::openiked::{
    BEHIND, BEHIND_NET, CBC_X25519, GCM_ECP256, GCM_SNTRUP, OpenIked, Peer, Suite,
};
use super::rekey::inbound_spis_of;
use super::session::{kernel_is_clean, passes_packets, raw_keys, sas_of};
use super::world::{
    CLIENT, GATEWAY, INSIDE, INSIDE_NET, Layout, World, assert_says, wait_for, wait_long_for,
    wait_long_to_see,
};

/// Both ends, up.
pub struct Ends {
    pub world: World,
    pub gateway: Gateway,
    pub peer: OpenIked,
}

impl Ends {
    /// The end that answers starts first.
    pub fn meet(world: World, peer: &Peer, conf: &Conf) -> Self {
        let lines =
            format!("addr add {BEHIND}/24 dev lo\nroute add {INSIDE_NET} dev wan src {BEHIND}\n");
        world.batch("rw", &lines);
        let (gateway, peer) = if peer.mode == "active" {
            let gateway = Gateway::start(&world, conf);
            (gateway, OpenIked::start(&world, peer))
        } else {
            let peer = OpenIked::start(&world, peer);
            (Gateway::start(&world, conf), peer)
        };
        let ends = Self {
            world,
            gateway,
            peer,
        };
        // Over a lossy wire a request may be sent five times.
        wait_long_for("an IKE SA", || {
            (ends.gateway.count("IKE SA currently established") == 1).then_some(())
        });
        let role = if conf.mode == "active" { "i" } else { "r" };
        let up = format!("] ESTABLISHED {role}");
        assert_says(
            &ends.gateway.show_sa(),
            &[&format!("<FQDN/{CLIENT_ID}>["), &up],
        );
        ends.wait_for_one_child();
        ends
    }

    /// One Child SA at both ends, and two SAs in either kernel.
    pub fn wait_for_one_child(&self) {
        wait_long_to_see("one Child SA at both ends", || {
            let (ours, theirs) = (self.gateway.show_sa(), self.peer.ikectl(&["show", "sa"]));
            let states = ["gw", "rw"].map(|host| self.world.ip(host, &["xfrm", "state"]));
            let one = inbound_spis_of(&self.gateway).len() == 1
                && theirs.matches("sa_childsas").count() == 2
                && states.iter().all(|states| sas_of(states) == 2);
            one.then_some(())
                .ok_or_else(|| format!("{ours}{theirs}{}", states.concat()))
        });
    }

    pub fn carries(&self) {
        passes_packets(&self.world, BEHIND, INSIDE);
        assert_eq!(self.gateway.count("faults"), 0);
    }

    pub fn is_gone(&self) {
        self.gateway
            .wait_for_count("IKE SA currently established", 0);
        kernel_is_clean(&self.world);
        assert_eq!(self.gateway.count("faults"), 0);
    }
}

fn meets(mode: &'static str, suite: Suite) {
    let peer = Peer {
        suite,
        ..Peer::new(mode)
    };
    let ends = Ends::meet(World::new(Layout::Wire), &peer, &peer.mirror());
    ends.carries();
    // Its Delete reaches us, and ours it.
    if mode == "active" {
        ends.peer.ikectl(&["passive"]);
        ends.peer.ikectl(&["reset", "id", "FQDN/gateway.example"]);
    } else {
        ends.gateway.ikectl(&["passive"]);
        ends.gateway.ikectl(&["reset", "sa"]);
        wait_for("the peer to forget", || {
            let shown = ends.peer.ikectl(&["show", "sa"]);
            (!shown.contains("ESTABLISHED")).then_some(())
        });
    }
    ends.is_gone();
}

pub fn the_peer_begins_aes_cbc_x25519() {
    meets("active", CBC_X25519);
}

pub fn the_peer_begins_aes_gcm_ecp256() {
    meets("active", GCM_ECP256);
}

pub fn the_gateway_begins_aes_cbc_x25519() {
    meets("passive", CBC_X25519);
}

pub fn the_gateway_begins_aes_gcm_ecp256() {
    meets("passive", GCM_ECP256);
}

fn meets_with_keys(mode: &'static str, kind: Kind) {
    let world = World::new(Layout::Wire);
    let peer = Peer {
        set: vec!["fragmentation".to_owned()],
        keys: raw_keys(&world, kind, kind),
        ..Peer::new(mode)
    };
    let ends = Ends::meet(world, &peer, &peer.mirror());
    ends.carries();
}

pub fn raw_ecdsa_keys_where_the_peer_begins() {
    meets_with_keys("active", Kind::EcdsaP256);
}

pub fn raw_rsa_keys_where_the_gateway_begins() {
    meets_with_keys("passive", Kind::Rsa2048);
}

/// Either end rekeys by its own lifetimes.
fn rekeys(peer: &Peer, lifetimes: &str) {
    let conf = Conf {
        lifetimes: lifetimes.to_owned(),
        ..peer.mirror()
    };
    let ends = Ends::meet(World::new(Layout::Wire), peer, &conf);
    let first = inbound_spis_of(&ends.gateway);
    for round in 1..=2 {
        ends.gateway
            .wait_for_count_above("IKE SA rekeyed", round - 1);
    }
    wait_for("another Child SA", || {
        (inbound_spis_of(&ends.gateway) != first).then_some(())
    });
    ends.gateway
        .wait_for_count("IKE SA currently established", 1);
    ends.wait_for_one_child();
    ends.carries();
}

pub fn the_gateway_rekeys() {
    rekeys(&Peer::new("active"), "ikelifetime 10 lifetime 14");
}

pub fn the_peer_rekeys() {
    let peer = Peer {
        lifetimes: "ikelifetime 10 lifetime 14".to_owned(),
        ..Peer::new("passive")
    };
    rekeys(&peer, "");
}

pub fn the_gateway_rekeys_by_the_hybrid_group() {
    let peer = Peer {
        suite: GCM_SNTRUP,
        ..Peer::new("active")
    };
    rekeys(&peer, "ikelifetime 10 lifetime 14");
}

pub fn the_peer_rekeys_by_the_hybrid_group() {
    let peer = Peer {
        suite: GCM_SNTRUP,
        lifetimes: "ikelifetime 10 lifetime 14".to_owned(),
        ..Peer::new("passive")
    };
    rekeys(&peer, "");
}

pub fn in_transport_mode() {
    let peer = Peer {
        encap: "transport",
        flows: format!("from {CLIENT} to {GATEWAY}"),
        ..Peer::new("active")
    };
    let conf = Conf {
        flows: format!("from {GATEWAY} to {CLIENT}"),
        ..peer.mirror()
    };
    let ends = Ends::meet(World::new(Layout::Wire), &peer, &conf);
    let states = ends.world.ip("gw", &["xfrm", "state"]);
    assert_eq!(states.matches("mode transport").count(), 2, "{states}");
    passes_packets(&ends.world, CLIENT, GATEWAY);
}

pub fn fragments_of_both_sides() {
    let peer = Peer {
        set: vec!["fragmentation".to_owned()],
        // Its fragments are as long as a packet may be, so the message must be longer.
        flows: (0..90)
            .map(|number| format!("from 10.66.{number}.0/24 to {INSIDE_NET} "))
            .collect(),
        ..Peer::new("active")
    };
    let conf = Conf {
        set: vec!["fragmentation".to_owned(), "fragment_size 300".to_owned()],
        flows: peer
            .flows
            .replace("from", "at")
            .replace("to", "from")
            .replace("at", "to"),
        ..peer.mirror()
    };
    let ends = Ends::meet(World::new(Layout::Wire), &peer, &conf);
    assert!(ends.gateway.count("fragment received") >= 2);
    assert!(ends.gateway.count("fragment sent") >= 2);
    assert_eq!(ends.gateway.count("fragment dropped"), 0);
    ends.carries();
    assert_says(&ends.gateway.show_sa(), &[BEHIND_NET]);
}

/// A fifth of all datagrams is lost, a tenth comes twice, a quarter out of turn.
fn meets_over_a_lossy_wire(mode: &'static str) {
    let peer = Peer::new(mode);
    let world = World::new(Layout::Wire);
    world.disturb();
    let ends = Ends::meet(world, &peer, &peer.mirror());
    ends.world.calm();
    ends.carries();
}

pub fn the_peer_begins_over_a_lossy_wire() {
    meets_over_a_lossy_wire("active");
}

pub fn the_gateway_begins_over_a_lossy_wire() {
    meets_over_a_lossy_wire("passive");
}

/// Both ends rekey over such a wire. It is calm until they have met: 7.2 answers a rekey also before it
/// has the answer to its IKE_AUTH, which takes both ends minutes to forget.
fn rekeys_over_a_lossy_wire(mode: &'static str) {
    let peer = Peer {
        lifetimes: "ikelifetime 25".to_owned(),
        ..Peer::new(mode)
    };
    let conf = Conf {
        lifetimes: "ikelifetime 20".to_owned(),
        ..peer.mirror()
    };
    let ends = Ends::meet(World::new(Layout::Wire), &peer, &conf);
    ends.world.disturb();
    wait_long_for("rekeys over a lossy wire", || {
        (ends.gateway.count("IKE SA rekeyed") >= 2).then_some(())
    });
    ends.world.calm();
    ends.gateway
        .wait_for_count("IKE SA currently established", 1);
    ends.wait_for_one_child();
    ends.carries();
}

pub fn both_sides_rekey_over_a_lossy_wire_after_the_peer_began() {
    rekeys_over_a_lossy_wire("active");
}

pub fn both_sides_rekey_over_a_lossy_wire_after_the_gateway_began() {
    rekeys_over_a_lossy_wire("passive");
}

pub fn both_sides_rekey_the_ike_sa_at_once() {
    let peer = Peer {
        lifetimes: "ikelifetime 10".to_owned(),
        ..Peer::new("active")
    };
    let conf = Conf {
        lifetimes: "ikelifetime 10".to_owned(),
        ..peer.mirror()
    };
    let ends = Ends::meet(World::new(Layout::Wire), &peer, &conf);
    ends.world.interrupt();
    // Both begin between 8.5 and 9.5 seconds after the start, and neither hears of the other.
    std::thread::sleep(std::time::Duration::from_secs(10));
    ends.world.calm();
    ends.gateway.wait_for_count_above("IKE SA rekeyed", 0);
    ends.gateway
        .wait_for_count("IKE SA currently established", 1);
    ends.wait_for_one_child();
    ends.carries();
}

pub fn an_address_is_assigned_to_the_peer() {
    let peer = Peer {
        flows: format!("from dynamic to {INSIDE_NET}"),
        config: "request address any iface wan",
        ..Peer::new("active")
    };
    let conf = Conf {
        hosts: "local any peer any".to_owned(),
        flows: format!("from {INSIDE_NET} to dynamic"),
        config: vec!["address 10.9.0.7".to_owned()],
        ..peer.mirror()
    };
    let ends = Ends::meet(World::new(Layout::Wire), &peer, &conf);
    assert_says(&ends.gateway.show_sa(), &["[10.9.0.7]", "-> 10.9.0.7/32 "]);
    wait_for("the address on the peer's interface", || {
        let addresses = ends.world.ip("rw", &["addr", "show", "dev", "wan"]);
        addresses.contains("10.9.0.7").then_some(())
    });
    passes_packets(&ends.world, "10.9.0.7", INSIDE);
}

pub fn the_peer_assigns_an_address() {
    let peer = Peer {
        flows: format!("from {BEHIND_NET} to dynamic"),
        // With a single address instead of a pool it leaves 0.0.0.0 in its selector.
        config: "config address 10.7.0.0/24",
        ..Peer::new("passive")
    };
    let conf = Conf {
        flows: format!("from dynamic to {BEHIND_NET}"),
        requests: vec!["address any"],
        ..peer.mirror()
    };
    let ends = Ends::meet(World::new(Layout::Wire), &peer, &conf);
    let shown = ends.gateway.show_sa();
    let before = shown.split("/32 -> 10.66.0.0/24 ").next().unwrap();
    let address = before.rsplit(' ').next().unwrap();
    assert!(address.starts_with("10.7.0."), "{shown}");
    let lines = format!("addr add {address}/32 dev lo\n");
    ends.world.batch("gw", &lines);
    let lines = format!("route add {address}/32 dev wan src {BEHIND}\n");
    ends.world.batch("rw", &lines);
    passes_packets(&ends.world, BEHIND, address);
}
