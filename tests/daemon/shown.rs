//! What our `ikectl` shows beyond OpenIKED's: policies, pools, why a policy applies, and all of it as JSON.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::client::{Client, Ports, gateway_conf};
use super::house::{Daemon, House, alone, ikectl};

fn json(daemon: &Daemon, words: &[&str]) -> Value {
    let shown = daemon.shows(&[&["--json"], words].concat());
    serde_json::from_str(&shown).unwrap_or_else(|error| panic!("{error}: {shown}"))
}

#[test]
fn a_program_reads_what_people_see() {
    alone(|| {
        let house = House::new();
        let conf = gateway_conf(&[])
            + "ikev2 \"pool\" passive esp from 10.1.0.0/16 to dynamic local any peer any srcid gateway.example \
               dstid other.example psk \"never shown\" config address 10.9.0.0/24\n";
        let daemon = house.start(&conf, &["--shards", "2"]);
        let (here, gateway) = ([127, 0, 0, 9].into(), [127, 0, 0, 1].into());
        let mut client = Client::new("warrior.example", here, gateway, Ports::Translated);
        client.establish();

        let sas = json(&daemon, &["show", "sa"]);
        assert_eq!(sas.as_array().unwrap().len(), 1);
        assert_eq!(sas[0]["state"], "ESTABLISHED");
        assert_eq!(sas[0]["peer_id"], "FQDN/warrior.example");
        assert_eq!(sas[0]["policy"], "clients");
        let child = &sas[0]["child_sas"][0];
        assert_eq!(
            (&child["protocol"], &child["loaded"]),
            (&"ESP".into(), &false.into())
        );
        assert_eq!(child["flows"][0]["local"], "10.1.0.0/16");
        let spi = child["inbound_spi"].as_str().unwrap();
        assert!(daemon.shows(&["show", "sa"]).contains(spi), "{spi}");

        let stats = json(&daemon, &["show", "stats"]);
        assert_eq!(stats["sa_established_current"], 1);
        assert_eq!(
            json(&daemon, &["show", "certstore"]),
            Value::Array(Vec::new())
        );
        let pools = json(&daemon, &["show", "pool"]);
        assert_eq!(
            (&pools[0]["net"], &pools[0]["leased"]),
            (&"10.9.0.0/24".into(), &0.into())
        );
        assert_eq!(
            daemon.shows(&["show", "pool"]),
            "10.9.0.0/24: 0 of 254 leased (policy 'pool')\n"
        );

        let policies = json(&daemon, &["show", "policy"]);
        assert_eq!(
            (&policies[1]["name"], &policies[1]["dstid"]),
            (&"pool".into(), &"other.example".into())
        );
        let shown = daemon.shows(&["show", "policy"]);
        assert!(shown.starts_with("ikev2 \"clients\" passive "), "{shown}");
        assert!(!shown.contains("never shown"), "{shown}");
    });
}

#[test]
fn explain_names_the_policy_that_a_peer_would_get() {
    alone(|| {
        let house = House::new();
        let daemon = house.start(&gateway_conf(&[]), &[]);
        let said = daemon.shows(&["explain", "127.0.0.9", "warrior.example"]);
        assert!(
            said.starts_with("policy 'clients' applies\n\tikesa enc aes-128-gcm "),
            "{said}"
        );
        let record = json(&daemon, &["explain", "127.0.0.9"]);
        assert_eq!(record[0]["applies"], true);
        let refused = daemon.ikectl(&["explain", "127.0.0.9", "/nonsense"]);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.err.starts_with("ikectl: "), "{refused:?}");
        let refused = daemon.ikectl(&["--json", "reload"]);
        assert_eq!(refused.code, Some(1), "{refused:?}");
    });
}

#[test]
fn a_monitor_hears_who_comes_and_who_goes() {
    alone(|| {
        let house = House::new();
        let _daemon = house.start(&gateway_conf(&[]), &[]);
        let mut monitor = Command::new(env!("CARGO_BIN_EXE_ikectl"))
            .args(["-s", &house.text("sock"), "monitor"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(monitor.stdout.take().unwrap()).lines();
        let mut hears = |words: &str| {
            let found = lines.any(|line| line.unwrap().contains(words));
            assert!(found, "{words}");
        };
        // A copy of another's request shows that it listens.
        let asks = thread::spawn({
            let socket = house.path("sock");
            move || {
                for _ in 0..100 {
                    ikectl(&socket, &["show", "sa"]);
                    thread::sleep(Duration::from_millis(20));
                }
            }
        });
        hears("show sa: imsg type 12 ");
        let (here, gateway) = ([127, 0, 0, 9].into(), [127, 0, 0, 1].into());
        let mut client = Client::new("warrior.example", here, gateway, Ports::Translated);
        client.establish();
        hears(": established peer 127.0.0.9:");
        client.say_goodbye();
        hears(": received delete, closing SA");
        monitor.kill().unwrap();
        monitor.wait().unwrap();
        asks.join().unwrap();
    });
}

#[test]
fn top_shows_what_each_second_brings() {
    alone(|| {
        let house = House::new();
        let daemon = house.start(&gateway_conf(&[]), &[]);
        let (here, gateway) = ([127, 0, 0, 9].into(), [127, 0, 0, 1].into());
        let mut client = Client::new("warrior.example", here, gateway, Ports::Translated);
        client.establish();
        let mut top = Command::new(env!("CARGO_BIN_EXE_ikectl"))
            .args(["-s", &house.text("sock"), "top"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(top.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "           1  IKE SAs established"));
        client.say_goodbye();
        assert!(lines.any(|line| line.unwrap().ends_with("  msg_rcvd")));
        // It ends with the daemon.
        drop(daemon);
        assert_eq!(top.wait().unwrap().code(), Some(1));
    });
}
