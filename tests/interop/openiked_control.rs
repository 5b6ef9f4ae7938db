//! Our `ikectl` at OpenIKED's socket: every command that OpenIKED has. Only the rig's kernel lets it
//! start. The reverse is tested without it, in tests/daemon/theirs.rs.

use std::fs;

use super::openiked::Peer;
use super::openiked_scenarios::Ends;
use super::pki::Holder;
use super::world::{Layout, World, assert_says, wait_for, wait_long_for};

pub fn our_ikectl_controls_the_peer() {
    let world = World::new(Layout::Wire);
    let root = Holder::authority(&world, "root");
    let place = world.folder("openiked/etc/ca").join("root.crt");
    fs::copy(&root.certificate, place).unwrap();
    let peer = Peer::new("passive");
    let ends = Ends::meet(world, &peer, &peer.mirror());
    let peer = &ends.peer;

    assert_eq!(
        peer.our_ikectl(&["show", "sa"]),
        peer.ikectl(&["show", "sa"])
    );
    assert_says(
        &peer.our_ikectl(&["show", "certstore"]),
        &["CA: ", "CN=root"],
    );
    let stats = peer.our_ikectl(&["show", "stats"]);
    assert_eq!(stats.lines().count(), 27, "{stats}");
    assert_says(&stats, &["\t1 IKE SA currently established\n"]);

    let loads = || peer.log().matches("loaded 1 configuration rules").count();
    let before = loads();
    peer.our_ikectl(&["reload"]);
    wait_for("a reload", || (loads() == before + 1).then_some(()));
    for word in ["verbose", "brief"] {
        assert_eq!(peer.our_ikectl(&["log", word]), "logging request sent.\n");
    }
    let quiet = ["passive", "active", "decouple", "couple"];
    for word in quiet {
        assert_eq!(peer.our_ikectl(&[word]), "");
    }
    for what in ["ca", "user"] {
        assert_eq!(peer.our_ikectl(&["reset", what]), "reset request sent.\n");
    }
    assert_says(&peer.our_ikectl(&["show", "sa"]), &["ESTABLISHED"]);
    ends_what_it_names(&ends);
}

/// `reset id`, `reset sa` and `reset all`.
fn ends_what_it_names(ends: &Ends) {
    let (peer, gateway) = (&ends.peer, &ends.gateway);
    let gateway_id = format!("FQDN/{}", super::gateway::GATEWAY_ID);
    for words in [&["reset", "id", &gateway_id][..], &["reset", "sa"]] {
        let before = gateway.count("IKE SA removed");
        peer.our_ikectl(words);
        gateway.wait_for_count_above("IKE SA removed", before);
        // Our policy is active: it begins again, within a minute.
        wait_long_for("another IKE SA", || {
            (gateway.count("IKE SA currently established") == 1).then_some(())
        });
    }
    peer.our_ikectl(&["reset", "all"]);
    wait_for("an empty peer", || {
        let shown = peer.our_ikectl(&["show", "sa"]);
        (!shown.contains("ESTABLISHED")).then_some(())
    });
}
