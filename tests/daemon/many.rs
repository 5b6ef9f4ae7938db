//! Ten thousand policies: they load, each client gets its own, and reloads under traffic cost nobody a
//! repeated request or an IKE SA.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use super::client::{Client, Ports, SUITE};
use super::house::{House, alone};

const POLICIES: u32 = 10_000;

/// A policy with a secret of its own for each client, told apart by identity alone.
fn conf() -> String {
    let mut text = "set decouple\n".to_owned();
    for number in 0..POLICIES {
        writeln!(
            text,
            "ikev2 \"p{number}\" passive esp from 10.1.0.0/16 to 10.2.0.0/16 local any peer any {SUITE} \
             srcid gateway.example dstid host{number}.example psk \"secret {number}\""
        )
        .unwrap();
    }
    text
}

fn client(number: u32, last: u8) -> Client {
    let name = format!("host{number}.example");
    let proof = format!("psk \"secret {number}\"");
    let address = [127, 0, 1, last].into();
    let store = Default::default();
    Client::with(
        (&name, &proof),
        address,
        [127, 0, 0, 1].into(),
        Ports::Translated,
        store,
    )
}

#[test]
fn ten_thousand_policies_are_reloaded_while_clients_come_and_stay() {
    alone(|| {
        let house = House::new();
        let daemon = house.start(&conf(), &["--shards", "2"]);
        let mut first = client(77, 1);
        first.establish();
        let (reloads, done) = (AtomicU64::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    daemon.shows(&["reload"]);
                    reloads.fetch_add(1, Ordering::Relaxed);
                }
            });
            let mut rounds = 0;
            while reloads.load(Ordering::Relaxed) < 5 {
                let number = rounds * 997 % POLICIES;
                let mut one = client(number, 2);
                one.establish();
                one.say_goodbye();
                assert_eq!(one.stats().retransmit_request, 0, "host{number}");
                rounds += 1;
            }
            done.store(true, Ordering::Relaxed);
            assert!(rounds > 5, "{rounds} handshakes beside the reloads");
        });
        let log = daemon.said();
        assert!(log.contains(" policy 'p997' "), "{log}");
        // Whoever was there before is there still.
        first.ask_for_life();
        assert_eq!(daemon.count("IKE SAs currently established"), 1);
    });
}
