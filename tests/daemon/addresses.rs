//! An answer leaves from the address and port that were asked, whichever of the host's it is.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use iked::wire::registry::KeId;

use super::client::{Client, IKE_PORT, NATT_PORT, Ports, gateway_conf};
use super::house::{House, alone, ip};
use super::probe::ask;

/// Addresses of the host; the last is the one that asks.
const V4: [&str; 4] = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.9"];
const V6: [&str; 4] = ["::1", "fd00::2", "fd00::3", "fd00::9"];

fn give_addresses() {
    for address in V6.iter().skip(1) {
        ip(&format!("addr add {address}/128 dev lo nodad"));
    }
}

#[test]
fn answers_leave_from_the_address_that_was_asked() {
    alone(|| {
        let house = House::new();
        give_addresses();
        let daemon = house.start(&gateway_conf(&[]), &["--shards", "2"]);
        let mut asked = 0;
        for addresses in [V4, V6] {
            let [.., asker] = addresses;
            for port in [IKE_PORT, NATT_PORT] {
                let asker: IpAddr = asker.parse().unwrap();
                for address in addresses {
                    // Several, so that both shards answer.
                    for spi in 1..=8 {
                        let socket = UdpSocket::bind((asker, 0)).unwrap();
                        let to = SocketAddr::new(address.parse().unwrap(), port);
                        let answer = ask(&socket, to, port == NATT_PORT, spi << 32 | spi);
                        assert_eq!(answer, (KeId::CURVE25519, to));
                        asked += 1;
                    }
                }
            }
        }
        assert_eq!(daemon.count("message received"), asked);
        assert_eq!(daemon.count("message sent"), asked);
        assert_eq!(daemon.count("message could not be sent"), 0);
    });
}

#[test]
fn an_ike_sa_keeps_the_address_that_the_peer_chose() {
    alone(|| {
        let house = House::new();
        give_addresses();
        let daemon = house.start(&gateway_conf(&[]), &["--shards", "2"]);
        let cases = [
            (V4, Ports::Own, IKE_PORT),
            (V4, Ports::Translated, NATT_PORT),
            (V6, Ports::Own, IKE_PORT),
            (V6, Ports::Translated, NATT_PORT),
        ];
        for (number, (addresses, ports, port)) in (1..).zip(cases) {
            let [_, gateway, _, own] = addresses.map(|text| text.parse::<IpAddr>().unwrap());
            let name = format!("warrior{number}.example");
            let mut client = Client::new(&name, own, gateway, ports);
            client.establish();
            client.ask_for_life();
            let shown = daemon.shows(&["show", "sa"]);
            let local = SocketAddr::new(gateway, port);
            let remote = client.socket(port == NATT_PORT).local_addr().unwrap();
            let line = format!(" {local}->{remote}<FQDN/{name}>[] ESTABLISHED r");
            assert!(shown.contains(&line), "no `{line}` in:\n{shown}");
            client.say_goodbye();
        }
        assert_eq!(daemon.count("IKE SA established"), 4);
        assert_eq!(daemon.count("integrity_errors"), 0);
    });
}
