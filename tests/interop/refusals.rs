//! What the gateway must refuse, and with which words.

use super::gateway::{Conf, Gateway};
use super::session::kernel_is_clean;
use super::strongswan::{Client, StrongSwan};
use super::world::{Layout, World, assert_says};

/// The client fails with these words in its log, and the gateway keeps nothing.
pub fn is_refused(world: &World, conf: &Conf, client: &Client, words: &str) -> Gateway {
    let gateway = Gateway::start(world, conf);
    let swan = StrongSwan::start(world, client);
    let (up, said) = swan.try_connect();
    assert!(!up, "the client got in:\n{said}");
    assert_says(&said, &[words]);
    let listed = swan.list_sas();
    assert!(!listed.contains("ESTABLISHED"), "{listed}");
    let shown = gateway.show_sa();
    assert!(!shown.contains("ESTABLISHED"), "{shown}");
    assert_eq!(gateway.count("IKE SA currently established"), 0);
    assert_eq!(gateway.count("Child SA created"), 0);
    assert_eq!(gateway.count("leases"), 0);
    assert_eq!(gateway.count("half open"), 0);
    kernel_is_clean(world);
    gateway
}

pub fn no_common_proposal() {
    let world = World::new(Layout::Wire);
    let client = Client {
        proposals: "aes128-sha1-modp1536".to_owned(),
        ..Client::default()
    };
    let words = "received NO_PROPOSAL_CHOSEN notify error";
    let gateway = is_refused(&world, &Conf::default(), &client, words);
    assert_eq!(gateway.count("failed proposal negotiation"), 1);
}

/// The Child SA is refused with these words, and the IKE SA stays at both ends.
fn child_is_refused(client: &Client, words: &str) {
    let world = World::new(Layout::Wire);
    let gateway = Gateway::start(&world, &Conf::default());
    let swan = StrongSwan::start(&world, client);
    let (up, said) = swan.try_connect();
    assert!(!up, "the Child SA came up:\n{said}");
    assert_says(&said, &[words, "keeping IKE_SA"]);
    let listed = swan.list_sas();
    assert_says(&listed, &["ESTABLISHED"]);
    assert!(!listed.contains("INSTALLED"), "{listed}");
    let shown = gateway.show_sa();
    assert_says(&shown, &["ESTABLISHED r"]);
    assert!(!shown.contains("sa_childsas"), "{shown}");
    assert_eq!(gateway.count("IKE SA currently established"), 1);
    assert_eq!(gateway.count("Child SA created"), 0);
    kernel_is_clean(&world);
    swan.disconnect();
    gateway.wait_for_count("IKE SA currently established", 0);
}

pub fn disjoint_selectors_keep_the_ike_sa() {
    let client = Client {
        remote_ts: "172.16.0.0/16".to_owned(),
        ..Client::default()
    };
    child_is_refused(
        &client,
        "received TS_UNACCEPTABLE notify, no CHILD_SA built",
    );
}

pub fn no_common_esp_proposal_keeps_the_ike_sa() {
    let client = Client {
        esp_proposals: "aes128-sha1".to_owned(),
        ..Client::default()
    };
    child_is_refused(
        &client,
        "received NO_PROPOSAL_CHOSEN notify, no CHILD_SA built",
    );
}
