//! What a fuzzer does with a text: read it, and if it is good, print it and read that again.

use std::net::IpAddr;

use zeroize::Zeroizing;

use super::{Environment, Files, Resolver, parse_bytes, print};
use crate::policy::Generation;

/// Reads any bytes as a configuration; nothing outside is touched. What can be read must survive
/// being printed and read again.
pub fn fuzz(bytes: &[u8]) {
    let environment = Environment {
        hostname: "fuzz.example",
        passive: false,
        resolver: &Nobody,
        files: &Nobody,
    };
    let generation = Generation::default();
    let Ok(first) = parse_bytes("fuzz", bytes, &[], generation, environment) else {
        return;
    };
    let text = print(&first.config, true);
    let again = parse_bytes("printed", text.as_bytes(), &[], generation, environment);
    match again {
        Ok(again) => assert_eq!(print(&again.config, true), text, "printed text changes"),
        Err(errors) => assert!(
            errors.is_empty(),
            "printed text is refused: {errors:?}\n{text}"
        ),
    }
}

/// Knows no file and hardly a name: a configuration that depends on nothing.
#[derive(Clone, Copy, Debug)]
pub struct Nobody;

impl Resolver for Nobody {
    fn interface(&self, name: &str) -> Vec<IpAddr> {
        if name == "lo" {
            vec![IpAddr::from([127, 0, 0, 1])]
        } else {
            Vec::new()
        }
    }

    fn hosts(&self, names: &[String]) -> Vec<Option<Vec<IpAddr>>> {
        let both = ["192.0.2.1", "2001:db8::1"];
        let find = |name: &String| match name.as_str() {
            "both" => Some(both.iter().flat_map(|a| a.parse()).collect()),
            "late" => None,
            _ => Some(Vec::new()),
        };
        names.iter().map(find).collect()
    }

    fn service(&self, name: &str) -> Option<u16> {
        (name == "http").then_some(80)
    }

    fn protocol(&self, name: &str) -> Option<u8> {
        match name {
            "icmp" => Some(1),
            "tcp" => Some(6),
            "udp" => Some(17),
            "gre" => Some(47),
            _ => None,
        }
    }
}

impl Files for Nobody {
    fn read(&self, path: &str) -> Result<Zeroizing<Vec<u8>>, String> {
        match path {
            "key" => Ok(Zeroizing::new(b"00ff\n".to_vec())),
            "macros" => Ok(Zeroizing::new(b"net = \"10.0.0.0/8\"\n".to_vec())),
            _ => Err("No such file or directory".to_owned()),
        }
    }
}
