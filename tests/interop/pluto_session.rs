//! A libreswan road warrior that got in, and what both ends must say about it. Where the kernel has
//! no ESP pluto drops everything when it installs the first SA (5.2 says so by a Delete), so its words
//! are looked at, not its state.

use super::gateway::{CLIENT_ID, Conf, Gateway};
use super::libreswan::{Client, Libreswan};
use super::session::passes_packets;
use super::world::{INSIDE, World, assert_says, coupled};

/// What the gateway logs of a Child SA's SPIs.
const LOADED: &str = "loaded SPIs: ";

/// Gateway and client after the client got in.
#[derive(Debug)]
pub struct Session<'w> {
    world: &'w World,
    pub gateway: Gateway,
    pub swan: Libreswan,
    /// What pluto said while it connected.
    pub said: String,
}

impl<'w> Session<'w> {
    /// The client connects, is assigned an IPv4 address, and everybody agrees about it; where there
    /// is ESP, packets pass.
    pub fn open(world: &'w World, conf: &Conf, client: &Client) -> Self {
        let session = Self::connect(world, conf, client);
        let address = session.address("INTERNAL_IP4_ADDRESS");
        assert!(address.starts_with("10.9.0."), "{address}");
        session.passes_packets(&address, INSIDE);
        session
    }

    /// The client connects and both ends show one IKE SA with one Child SA.
    pub fn connect(world: &'w World, conf: &Conf, client: &Client) -> Self {
        let gateway = Gateway::start(world, conf);
        let swan = Libreswan::start(world, client);
        let said = swan.connect();
        let session = Self {
            world,
            gateway,
            swan,
            said,
        };
        session.is_up();
        session
    }

    fn is_up(&self) {
        assert_says(
            &self.said,
            &["initiator established IKE SA; authenticated peer"],
        );
        let shown = self.gateway.show_sa();
        assert_says(
            &shown,
            &[&format!("<FQDN/{CLIENT_ID}>["), "] ESTABLISHED r"],
        );
        assert_eq!(shown.matches("iked_sas:").count(), 1, "{shown}");
        assert_eq!(self.gateway.count("IKE SA currently established"), 1);
        assert_eq!(self.gateway.count("IKE SA established"), 1);
        assert_eq!(self.gateway.count("half open"), 0);
        assert_eq!(self.gateway.count("faults"), 0);
        if coupled() {
            assert_eq!(shown.matches("sa_childsas:").count(), 2, "{shown}");
            assert_says(&self.said, &["initiator established Child SA using"]);
            assert_says(&self.swan.traffic(), &["type=ESP", "id='@gateway.example'"]);
        } else {
            // The first SA that it wants to install is one of those that the gateway has loaded.
            let spi = self.between("netlink response for Add SA esp", "@");
            let spi = format!("0x{:0>8}", spi.trim_start_matches(['.', ':']));
            self.gateway.says(&[LOADED]);
            let log = self.gateway.log();
            let line = log.lines().find(|line| line.contains(LOADED));
            assert_says(line.unwrap_or_default(), &[&spi]);
        }
    }

    /// What pluto said between two parts.
    fn between(&self, before: &str, behind: &str) -> &str {
        let rest = self.said.split_once(before).map(|(_, rest)| rest);
        rest.and_then(|rest| rest.split(behind).next())
            .unwrap_or_else(|| panic!("no `{before}` in:\n{}", self.said))
    }

    /// The address that the client says it was assigned with this attribute; the gateway must say
    /// the same.
    pub fn address(&self, attribute: &str) -> String {
        let rest = self.between(&format!("received {attribute} "), "\n");
        let address = rest.split(['/', ' ']).next().unwrap_or_default().to_owned();
        let prefix = if address.contains(':') { 128 } else { 32 };
        assert_says(&self.gateway.show_sa(), &[&format!("[{address}]")]);
        let (assigned, flow) = (
            format!("assigned {address}"),
            format!("={address}/{prefix}("),
        );
        self.gateway.says(&[&assigned, &flow]);
        address
    }

    /// Pings through the tunnel. The address and the way to the other side are put in place here:
    /// libreswan's script for that knows only tunnels whose inside is of the family of the outside.
    pub fn passes_packets(&self, from: &str, to: &str) {
        if coupled() {
            let prefix = if from.contains(':') { "128" } else { "32" };
            let lines = format!(
                "addr add {from}/{prefix} dev lo\nroute add {to}/{prefix} dev wan src {from}\n"
            );
            self.world.batch("rw", &lines);
            passes_packets(self.world, from, to);
        }
    }

    /// The words of the suite in pluto's log: how it calls the IKE suite, and, where it came so far,
    /// the one of ESP.
    pub fn chose(&self, ike: &str, esp: &str) {
        assert_says(&self.said, &[ike]);
        if coupled() {
            assert_says(&self.said, &[esp]);
        }
    }
}
