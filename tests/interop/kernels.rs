//! Ways into the kernel that a peer does not see: PF_KEY, and a VPN by routes.

use super::gateway::Conf;
use super::rekey::inbound_spis_of;
use super::session::Session;
use super::strongswan::Client;
use super::world::{INSIDE, Layout, World, assert_says, wait_long_for};

/// Either end makes another Child SA, and packets pass.
fn rekeys(session: &Session<'_>, address: &str) {
    let before = inbound_spis_of(&session.gateway);
    session.swan.rekey(&["--child", "net"]);
    wait_long_for("another Child SA in the place of the first", || {
        let now = inbound_spis_of(&session.gateway);
        (now.len() == 1 && now != before).then_some(())
    });
    session.passes_packets(address, INSIDE);
}

/// Nothing of ours is in the gateway's kernel.
fn nothing_is_left(world: &World) {
    wait_long_for("an empty kernel", || {
        let states = world.ip("gw", &["xfrm", "state"]);
        let policies = world.ip("gw", &["xfrm", "policy", "list", "nosock"]);
        (states + &policies).is_empty().then_some(())
    });
}

pub fn over_pf_key() {
    let world = World::new(Layout::Nat);
    let conf = Conf {
        set: vec!["kernel pfkey".to_owned()],
        childsa: vec!["enc aes-256 auth hmac-sha2-512".to_owned()],
        ..Conf::default()
    };
    let client = Client {
        esp_proposals: "aes256-sha512".to_owned(),
        ..Client::default()
    };
    let session = Session::open(&world, &conf, &client);
    let states = world.ip("gw", &["xfrm", "state"]);
    assert_says(&states, &["enc cbc(aes)", "hmac(sha512)", "espinudp"]);
    let address = session.address();
    rekeys(&session, &address);
    session.swan.disconnect();
    session.is_gone_from_the_gateway();
    nothing_is_left(&world);
}

pub fn by_routes_through_an_xfrm_interface() {
    let world = World::new(Layout::Wire);
    let lines = "link add xfrm7 type xfrm dev wan if_id 7\nlink set xfrm7 up\n\
                 route add 10.9.0.0/24 dev xfrm7\n";
    world.batch("gw", lines);
    let conf = Conf {
        flows: "from 0.0.0.0/0 to 0.0.0.0/0 from 0.0.0.0/0 to dynamic".to_owned(),
        iface: Some("xfrm7"),
        ..Conf::default()
    };
    let session = Session::open(&world, &conf, &Client::default());
    let address = session.address();
    let before = received(&world);
    rekeys(&session, &address);
    assert!(received(&world) > before, "not out of the interface");
    session.swan.disconnect();
    session.is_gone_from_the_gateway();
    nothing_is_left(&world);
}

/// Packets that came out of the gateway's interface.
fn received(world: &World) -> u64 {
    let path = "/sys/class/net/xfrm7/statistics/rx_packets";
    world.run("gw", "cat", &[path]).trim().parse().unwrap()
}
