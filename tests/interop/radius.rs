//! FreeRADIUS beside the gateway: it knows the peers, whatever their EAP method.

use std::fs;
use std::time::Instant;

use super::credentials::{by_password, certify_gateway};
use super::gateway::{Conf, GATEWAY_ID, Gateway};
use super::keys::Kind;
use super::pki::Holder;
use super::refusals::is_refused;
use super::session::Session;
use super::strongswan::{Client, Credentials, StrongSwan};
use super::world::{
    INSIDE, Layout, Process, World, assert_says, coupled, lossy, need, text, wait_for,
    wait_long_for,
};

const RADIUS_SECRET: &str = "between gateway and server";
const SERVER_ID: &str = "radius.example";

/// A running FreeRADIUS.
#[derive(Debug)]
struct FreeRadius {
    process: Process,
}

impl FreeRadius {
    /// Starts it in the gateway's host, at 127.0.0.1, and waits until it is ready.
    fn start(world: &World, own: &Holder, root: &Holder) -> Self {
        need("freeradius", "freeradius");
        let folder = world.folder("freeradius");
        fs::write(
            folder.join("radiusd.conf"),
            settings(text(&folder), own, root),
        )
        .unwrap();
        fs::write(folder.join("dictionary"), "").unwrap();
        let users = "alice Cleartext-Password := \"Hier ist's grün\"\n\
                     \tFramed-IP-Address = 10.9.0.77,\n\
                     \tAcct-Interim-Interval = 60,\n\
                     \tClass = 0x676f6c64,\n\
                     \tMS-Primary-DNS-Server = 10.8.0.53\n";
        fs::write(folder.join("users"), users).unwrap();
        let mut command = world.command("gw", "freeradius");
        command.args(["-f", "-X", "-d", text(&folder)]);
        let mut radius = Self {
            process: world.start("freeradius", command),
        };
        wait_for("freeradius", || {
            radius.process.must_run();
            let log = radius.process.log();
            log.contains("Ready to process requests").then_some(())
        });
        radius
    }

    fn log(&self) -> String {
        self.process.log()
    }
}

/// The accounting records that FreeRADIUS has written down, once one of this kind is among them as
/// often as that.
fn written_down(world: &World, kind: &str, times: usize) -> Vec<String> {
    let path = world.path("freeradius").join("detail");
    let word = format!("Acct-Status-Type = {kind}\n");
    let text = wait_long_for(kind, || {
        let text = fs::read_to_string(&path).unwrap_or_default();
        (text.matches(&word).count() == times).then_some(text)
    });
    let records = text.split("\n\n").filter(|record| !record.is_empty());
    records.map(str::to_owned).collect()
}

/// The value of an attribute in a record.
fn value<'a>(record: &'a str, name: &str) -> &'a str {
    let line = record.lines().find(|line| {
        let words = line.trim().split_once(" = ");
        words.is_some_and(|(word, _)| word == name)
    });
    let found = line.and_then(|line| line.split_once(" = "));
    found.unwrap_or_else(|| panic!("no {name} in:\n{record}")).1
}

fn settings(folder: &str, own: &Holder, root: &Holder) -> String {
    let key = text(&own.keys.private);
    let (certificate, root) = (text(&own.certificate), text(&root.certificate));
    let inner = "files\n mschap\n eap\n";
    let ways = "eap\n Auth-Type MS-CHAP {\n mschap\n }\n";
    format!(
        "prefix = /usr\nlibdir = /usr/lib/freeradius\nraddbdir = {folder}\nlogdir = {folder}\n\
         run_dir = {folder}\npidfile = {folder}/pid\nmax_request_time = 30\n\
         security {{\n allow_vulnerable_openssl = yes\n status_server = no\n }}\n\
         client gateway {{\n ipaddr = 127.0.0.1\n secret = \"{RADIUS_SECRET}\"\n \
         require_message_authenticator = yes\n }}\n\
         modules {{\n mschap {{ }}\n files {{\n usersfile = {folder}/users\n }}\n\
         eap {{\n default_eap_type = mschapv2\n\
         tls-config common {{\n private_key_file = {key}\n certificate_file = {certificate}\n \
         ca_file = {root}\n cipher_list = \"DEFAULT\"\n tls_min_version = \"1.2\"\n \
         tls_max_version = \"1.2\"\n }}\n\
         tls {{\n tls = common\n }}\n\
         ttls {{\n tls = common\n default_eap_type = mschapv2\n virtual_server = inner\n }}\n\
         peap {{\n tls = common\n default_eap_type = mschapv2\n virtual_server = inner\n }}\n\
         mschapv2 {{ }}\n }}\n\
         detail {{\n filename = {folder}/detail\n }}\n }}\n\
         server outer {{\n listen {{\n type = auth\n ipaddr = 127.0.0.1\n port = 1812\n }}\n\
         listen {{\n type = acct\n ipaddr = 127.0.0.1\n port = 1813\n }}\n\
         accounting {{\n detail\n }}\n\
         authorize {{\n files\n eap\n }}\nauthenticate {{\n {ways} }}\n }}\n\
         server inner {{\n authorize {{\n {inner} }}\nauthenticate {{\n {ways} }}\n }}\n"
    )
}

/// Authority, gateway with a certificate, and a server whose name the clients can check.
fn world_of_three(world: &World, servers: &[&str]) -> (Holder, Holder, Conf) {
    let root = Holder::authority(world, "root");
    let gateway = root.vouches_for(world, "gateway", GATEWAY_ID, Kind::Rsa2048);
    let server = root.vouches_for(world, "radius", SERVER_ID, Kind::Rsa2048);
    certify_gateway(world, &gateway, &[], &[&root]);
    let mut conf = Conf {
        auth: "eap \"radius\"".to_owned(),
        ..Conf::default()
    };
    for server in servers {
        let line = format!("radius server {server} secret \"{RADIUS_SECRET}\"");
        conf.lines.push(line);
    }
    (root, server, conf)
}

const PASSWORD: &str = "Hier ist's grün";
const HERE: &str = "127.0.0.1";

pub fn a_password_that_freeradius_knows() {
    let world = World::new(Layout::Wire);
    let (root, server, conf) = world_of_three(&world, &[HERE]);
    let radius = FreeRadius::start(&world, &server, &root);
    let client = by_password(&root.certificate, "alice", PASSWORD);
    let session = Session::open(&world, &conf, &client);
    let words = [
        "EAP method EAP_MSCHAPV2 succeeded, MSK established",
        "with EAP successful",
        "CPRP(ADDR DNS)",
    ];
    assert_says(&session.said, &words);
    assert_eq!(session.address(), "10.9.0.77", "Framed-IP-Address");
    session.gateway.says(&["EAP user 'alice' authenticated"]);
    let heard = radius.log();
    assert_says(
        &heard,
        &[
            "NAS-Identifier = \"iked\"",
            "Calling-Station-Id = \"192.0.2.2\"",
            "Called-Station-Id = \"192.0.2.1\"",
            "Sent Access-Accept",
        ],
    );
}

pub fn a_password_that_freeradius_does_not_know() {
    let world = World::new(Layout::Wire);
    let (root, server, conf) = world_of_three(&world, &[HERE]);
    let radius = FreeRadius::start(&world, &server, &root);
    let client = by_password(&root.certificate, "alice", "hier ist's grün");
    let words = "received EAP_FAILURE, EAP authentication failed";
    let gateway = is_refused(&world, &conf, &client, words);
    assert_eq!(gateway.count("IKE SA failed to establish"), 1);
    assert!(!radius.log().contains("Sent Access-Accept"));
}

pub fn eap_tls_through_freeradius() {
    let world = World::new(Layout::Wire);
    let (root, server, conf) = world_of_three(&world, &[HERE]);
    let _radius = FreeRadius::start(&world, &server, &root);
    let own = root.vouches_for(&world, "client", "alice", Kind::Rsa2048);
    let client = Client {
        credentials: Some(Credentials {
            local: format!(
                "auth = eap-tls\n certs = client.pem\n eap_id = alice\n aaa_id = {SERVER_ID}\n"
            ),
            remote: "auth = pubkey\n".to_owned(),
            secrets: String::new(),
            files: vec![
                (own.keys.private.clone(), "private/client.pem".to_owned()),
                (own.certificate, "x509/client.pem".to_owned()),
                (root.certificate, "x509ca/root.pem".to_owned()),
            ],
        }),
        ..Client::default()
    };
    let session = Session::open(&world, &conf, &client);
    let words = [
        "EAP method EAP_TLS succeeded, MSK established",
        "with EAP successful",
    ];
    assert_says(&session.said, &words);
}

pub fn a_password_inside_ttls_through_freeradius() {
    passes_in_a_tunnel("ttls", "EAP_TTLS", None);
}

/// Debian's strongSwan comes without this method.
pub fn a_password_inside_peap_through_freeradius() {
    passes_in_a_tunnel("peap", "EAP_PEAP", Some("eap-peap"));
}

fn passes_in_a_tunnel(method: &str, name: &str, built_plugin: Option<&'static str>) {
    let world = World::new(Layout::Wire);
    let (root, server, conf) = world_of_three(&world, &[HERE]);
    let _radius = FreeRadius::start(&world, &server, &root);
    let mut client = by_password(&root.certificate, "alice", PASSWORD);
    client.built_plugin = built_plugin;
    if let Some(credentials) = &mut client.credentials {
        credentials.local =
            format!("auth = eap-{method}\n eap_id = alice\n aaa_id = {SERVER_ID}\n");
    }
    let session = Session::open(&world, &conf, &client);
    let words = format!("EAP method {name} succeeded, MSK established");
    assert_says(&session.said, &[&words]);
}

/// What `radclient` says of a request to the gateway.
fn radclient(world: &World, kind: &str, attributes: &str) -> String {
    let script = format!(
        "echo '{attributes}' | radclient -x -r 1 -t 5 127.0.0.1:3799 {kind} '{RADIUS_SECRET}'"
    );
    let output = world.attempt("gw", "sh", &["-c", &script]);
    lossy(&output.stdout) + &lossy(&output.stderr)
}

pub fn a_server_ends_an_ike_sa() {
    let world = World::new(Layout::Wire);
    need("radclient", "freeradius-utils");
    let (root, server, mut conf) = world_of_three(&world, &[HERE]);
    conf.lines.push("radius dae listen on 127.0.0.1".to_owned());
    let line = format!("radius dae client 127.0.0.1 secret \"{RADIUS_SECRET}\"");
    conf.lines.push(line);
    let radius = FreeRadius::start(&world, &server, &root);
    let client = by_password(&root.certificate, "alice", PASSWORD);
    let session = Session::open(&world, &conf, &client);
    let said = radclient(&world, "disconnect", "User-Name = bob");
    let cause = "Error-Cause = Session-Context-Not-Found";
    assert_says(&said, &["Received Disconnect-NAK", cause]);
    let said = radclient(&world, "coa", "User-Name = alice");
    let cause = "Error-Cause = Missing-Attribute";
    assert_says(&said, &["Received CoA-NAK", cause]);
    let said = radclient(&world, "coa", "User-Name = alice, Filter-Id = all");
    let cause = "Error-Cause = Unsupported-Attribute";
    assert_says(&said, &["Received CoA-NAK", cause]);
    let what = "User-Name = alice, Service-Type = Authorize-Only";
    let cause = "Error-Cause = Unsupported-Service";
    let said = radclient(&world, "coa", what);
    assert_says(&said, &["Received CoA-NAK", cause]);
    let said = radclient(&world, "coa", "User-Name = alice, Session-Timeout = 4");
    assert_says(&said, &["Received CoA-ACK"]);
    session.swan.wait_for_log("received DELETE for IKE_SA");
    session
        .gateway
        .wait_for_count("IKE SA currently established", 0);
    session.swan.connect();
    // Its name stays, whatever becomes of its keys.
    session.swan.rekey(&["--ike", "home"]);
    let heard = radius.log();
    let name = heard.rsplit("Acct-Session-Id = \"").next().unwrap();
    let name = name.split('"').next().unwrap();
    assert_eq!(session.gateway.count("IKE SA currently established"), 1);
    let what = format!("Acct-Session-Id = {name}, Framed-IP-Address = 10.9.0.77");
    let said = radclient(&world, "disconnect", &what);
    assert_says(&said, &["Received Disconnect-ACK"]);
    session
        .gateway
        .wait_for_count("IKE SA currently established", 0);
    session.gateway.says(&["ended by a RADIUS server"]);
}

/// Nobody listens at the first address.
pub fn a_dead_server_is_left_for_the_next() {
    let world = World::new(Layout::Wire);
    let (root, server, mut conf) = world_of_three(&world, &["127.0.0.2", HERE]);
    conf.lines.push("radius max-failovers 1".to_owned());
    let _radius = FreeRadius::start(&world, &server, &root);
    let client = by_password(&root.certificate, "alice", PASSWORD);
    let begun = Instant::now();
    Session::open(&world, &conf, &client);
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
}

/// Nothing comes from the first address, not even that there is nobody.
pub fn a_silent_server_is_left_for_the_next_and_holds_up_nobody_else() {
    let world = World::new(Layout::Wire);
    let (root, server, mut conf) = world_of_three(&world, &["192.0.2.99", HERE]);
    conf.lines.push("radius max-failovers 1".to_owned());
    conf.lines.push("radius max-tries 1".to_owned());
    let line = "neigh add 192.0.2.99 lladdr 02:00:00:00:00:99 dev wan";
    world.run("gw", "ip", &line.split(' ').collect::<Vec<_>>());
    let _radius = FreeRadius::start(&world, &server, &root);
    let client = by_password(&root.certificate, "alice", PASSWORD);
    let session = Session::open(&world, &conf, &client);
    session.swan.disconnect();
    let begun = Instant::now();
    session.swan.connect();
    let took = begun.elapsed();
    assert!(
        took.as_millis() < 1900,
        "it is not asked first again: {took:?}"
    );
}

pub fn without_any_server_the_client_is_refused() {
    let world = World::new(Layout::Wire);
    let (root, _, mut conf) = world_of_three(&world, &[HERE]);
    conf.lines.push("radius max-tries 1".to_owned());
    let client = by_password(&root.certificate, "alice", PASSWORD);
    let gateway = Gateway::start(&world, &conf);
    let swan = StrongSwan::start(&world, &client);
    let (up, said) = swan.try_connect();
    assert!(!up, "{said}");
    assert_says(&said, &["received EAP_FAILURE, EAP authentication failed"]);
    gateway.says(&["EAP: no answer in time"]);
    assert_eq!(gateway.count("IKE SA currently established"), 0);
    assert_eq!(gateway.count("leases"), 0);
}

pub fn an_accounting_server_is_told_of_a_session_from_start_to_stop() {
    let world = World::new(Layout::Wire);
    let (root, server, mut conf) = world_of_three(&world, &[HERE]);
    let line = format!("radius accounting server {HERE} secret \"{RADIUS_SECRET}\"");
    conf.lines.push(line);
    let _radius = FreeRadius::start(&world, &server, &root);
    let client = by_password(&root.certificate, "alice", PASSWORD);
    let session = Session::open(&world, &conf, &client);
    written_down(&world, "Start", 1);
    // What went through a Child SA that is gone is in the sum, whatever it was rekeyed in.
    session.swan.rekey(&["--child", "net"]);
    session.passes_packets("10.9.0.77", INSIDE);
    session.swan.rekey(&["--ike", "home"]);
    written_down(&world, "Interim-Update", 1);
    session.swan.disconnect();
    let records = written_down(&world, "Stop", 1);
    let kinds: Vec<&str> = records
        .iter()
        .map(|r| value(r, "Acct-Status-Type"))
        .collect();
    assert_eq!(kinds, ["Accounting-On", "Start", "Interim-Update", "Stop"]);
    let [_, start, interim, stop] = &records[..] else {
        panic!("{records:?}");
    };
    for record in [start, interim, stop] {
        for (name, expected) in [
            ("Acct-Session-Id", value(start, "Acct-Session-Id")),
            ("Framed-IP-Address", "10.9.0.77"),
            ("User-Name", "\"alice\""),
            ("Class", "0x676f6c64"),
            ("NAS-Identifier", "\"iked\""),
        ] {
            assert_eq!(value(record, name), expected, "{record}");
        }
    }
    assert_eq!(value(stop, "Acct-Terminate-Cause"), "User-Request");
    let number = |name: &str| value(stop, name).parse::<u64>().unwrap();
    assert!(number("Acct-Session-Time") >= 60);
    let least = if coupled() { 6 } else { 0 };
    for way in ["Input", "Output"] {
        let packets = number(&format!("Acct-{way}-Packets"));
        let octets = number(&format!("Acct-{way}-Octets"));
        assert!(packets >= least && octets >= 64 * packets, "{stop}");
        assert!(coupled() || octets == 0, "{stop}");
    }
    // Who is still there when the daemon ends goes with it.
    session.swan.connect();
    written_down(&world, "Start", 2);
    session.gateway.stop();
    let records = written_down(&world, "Accounting-Off", 1);
    let last = &records[records.len() - 2];
    assert_eq!(value(last, "Acct-Terminate-Cause"), "Admin-Reboot");
}

/// Nothing comes from it: nobody comes or goes later for that.
pub fn a_silent_accounting_server_holds_up_nobody() {
    let world = World::new(Layout::Wire);
    let (root, server, mut conf) = world_of_three(&world, &[HERE]);
    let line = format!("radius accounting server 192.0.2.99 secret \"{RADIUS_SECRET}\"");
    conf.lines.push(line);
    let line = "neigh add 192.0.2.99 lladdr 02:00:00:00:00:99 dev wan";
    world.run("gw", "ip", &line.split(' ').collect::<Vec<_>>());
    let _radius = FreeRadius::start(&world, &server, &root);
    let client = by_password(&root.certificate, "alice", PASSWORD);
    let session = Session::open(&world, &conf, &client);
    for _ in 0..3 {
        let begun = Instant::now();
        session.swan.disconnect();
        session
            .gateway
            .wait_for_count("IKE SA currently established", 0);
        session.swan.connect();
        let took = begun.elapsed();
        // Whoever waited for its answer would do so for 14 seconds.
        assert!(took.as_secs() < 8, "{took:?}");
    }
    wait_long_for("no answer", || {
        let said = session.gateway.log();
        let line = "radius accounting server 192.0.2.99:1813: no answer";
        said.contains(line).then_some(())
    });
    let begun = Instant::now();
    session.gateway.stop();
    let took = begun.elapsed();
    assert!(took.as_secs() < 5, "it ends without them: {took:?}");
}
