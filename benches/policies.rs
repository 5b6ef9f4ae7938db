//! What it costs to choose a policy among one to ten thousand: by addresses, as at IKE_SA_INIT, and with
//! the peer's identity, as at IKE_AUTH. Each client has a policy of its own, told apart by `peer` or by
//! `dstid` alone.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "the table is the result")]
#![allow(
    clippy::disallowed_methods,
    reason = "the hosts that benches share read the clock, which are not used here"
)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;

use iked::config::{self, Environment, Nobody};
use iked::policy::select::{PolicyKey, select};
use iked::policy::{Config, Generation, Identity};
use iked::wire::registry::IdType;

mod support;

use support::{Wanted, micros, take_turns};

const COLUMNS: [&str; 3] = ["policies", "by addresses", "and identity"];

fn main() {
    let wanted = Wanted::from_command_line();
    support::head("policies", &COLUMNS);
    for (how, by_peer) in [("told apart by `peer`", true), ("by `dstid`", false)] {
        for count in [1, 100, 10_000] {
            let name = format!("{count} {how}");
            if wanted.has(&name) {
                measure(&wanted, name, count, by_peer);
            }
        }
    }
}

fn measure(wanted: &Wanted, name: String, count: u32, by_peer: bool) {
    let config = config(count, by_peer);
    let ids: Vec<Identity> = (0..count).map(identity).collect();
    let choose = |number: u32, id: Option<&Identity>| {
        let key = PolicyKey {
            local: LOCAL,
            peer: if by_peer { address(number) } else { address(0) },
            peer_id: id,
            local_id: None,
            transport: false,
            fits: &|_| Ok(()),
        };
        select(black_box(&config), &key).unwrap().index
    };
    let next = |number: &mut u32| {
        *number = (*number + 997) % count;
        *number
    };
    let (mut a, mut b) = (0, 0);
    let addresses = || {
        black_box(choose(next(&mut a), None));
    };
    let identities = || {
        let number = next(&mut b);
        assert_eq!(choose(number, ids.get(number as usize)), number);
    };
    let (addresses, identities, _) = take_turns(wanted, addresses, identities).medians();
    support::row(&[name, micros(addresses), micros(identities)]);
}

fn config(count: u32, by_peer: bool) -> Arc<Config> {
    let mut text = String::new();
    for number in 0..count {
        let peer = if by_peer {
            address(number).to_string()
        } else {
            "any".to_owned()
        };
        writeln!(
            text,
            "ikev2 passive esp from 10.1.0.0/16 to 10.2.0.0/16 local {LOCAL} peer {peer} \
             srcid gateway.example dstid host{number}.example psk \"secret {number}\""
        )
        .unwrap();
    }
    let environment = Environment {
        hostname: "gateway.example",
        passive: false,
        resolver: &Nobody,
        files: &Nobody,
    };
    let loaded = config::parse_str("policies", &text, &[], Generation(0), environment);
    loaded.unwrap().config.ready()
}

fn address(number: u32) -> IpAddr {
    // INVARIANT: fewer than 2^24 are asked for.
    IpAddr::from((10 << 24 | number).to_be_bytes())
}

fn identity(number: u32) -> Identity {
    Identity {
        kind: IdType::FQDN,
        data: format!("host{number}.example").into_bytes(),
    }
}

const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
