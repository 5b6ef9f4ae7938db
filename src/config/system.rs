//! The real world behind `config`: files with their owner and mode checked, services
//! and protocols by the files in /etc with the common ones built in. The addresses of interfaces and
//! of host names take system calls and time, so those functions are passed in.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;

use zeroize::Zeroizing;

use super::{Files, Link, Resolver};

/// Files of this machine; `-` is standard input.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemFiles;

impl Files for SystemFiles {
    fn read(&self, path: &str) -> Result<Zeroizing<Vec<u8>>, String> {
        if path == "-" {
            return read_all(std::io::stdin().lock());
        }
        let file = File::open(path).map_err(|error| reason(&error))?;
        // The open file is asked and not its path, which may by now name another.
        let metadata = file.metadata().map_err(|error| reason(&error))?;
        let own = std::fs::metadata("/proc/self")
            .map(|own| own.uid())
            .unwrap_or(0);
        check_secrecy(metadata.uid(), metadata.mode(), own)?;
        if metadata.is_dir() {
            return Err("Is a directory".to_owned());
        }
        read_all(file)
    }
}

/// Owner root or ourselves; not to be written by the group, nor anything by others.
fn check_secrecy(owner: u32, mode: u32, own: u32) -> Result<(), String> {
    if owner != 0 && owner != own {
        return Err("owner not root or current user".to_owned());
    }
    if mode & 0o037 != 0 {
        return Err("group writable or world read/writable".to_owned());
    }
    Ok(())
}

fn read_all(from: impl Read) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut bytes = Zeroizing::new(Vec::new());
    from.take(FILE_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| reason(&error))?;
    if bytes.len() as u64 > FILE_MAX {
        return Err("file too large".to_owned());
    }
    Ok(bytes)
}

/// The words of strerror(3) without the number that Rust adds.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text.get(..end).unwrap_or(&text).to_owned(),
        None => text,
    }
}

/// Names of this machine.
#[derive(Clone, Copy, Debug)]
pub struct SystemResolver {
    /// The addresses of a local interface, none where there is no such interface.
    pub interface_addresses: fn(&str) -> Vec<IpAddr>,
    /// What a local interface is.
    pub link: fn(&str) -> Link,
    /// Whether PF_KEY is the only way into the kernel.
    pub only_pfkey: fn() -> bool,
    /// The addresses of host names, as [`Resolver::hosts`] says.
    pub host_addresses: fn(&[String]) -> Vec<Option<Vec<IpAddr>>>,
}

impl Resolver for SystemResolver {
    fn interface(&self, name: &str) -> Vec<IpAddr> {
        let mut found = (self.interface_addresses)(name);
        found.retain(|addr| match addr {
            IpAddr::V4(_) => true,
            IpAddr::V6(addr) => !addr.is_unicast_link_local(),
        });
        found
    }

    fn link(&self, name: &str) -> Link {
        (self.link)(name)
    }

    fn has_only_pfkey(&self) -> bool {
        (self.only_pfkey)()
    }

    fn hosts(&self, names: &[String]) -> Vec<Option<Vec<IpAddr>>> {
        (self.host_addresses)(names)
    }

    fn service(&self, name: &str) -> Option<u16> {
        let text = std::fs::read_to_string("/etc/services").unwrap_or_default();
        let builtin = SERVICES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, port)| *port);
        service_in(&text, name).or(builtin)
    }

    fn protocol(&self, name: &str) -> Option<u8> {
        let text = std::fs::read_to_string("/etc/protocols").unwrap_or_default();
        let builtin = PROTOCOLS
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, id)| *id);
        let listed = entries(&text).find(|(names, _)| names.contains(&name));
        listed
            .and_then(|(_, number)| number.parse().ok())
            .or(builtin)
    }
}

/// The port of a service in a text like /etc/services; TCP before UDP.
fn service_in(text: &str, name: &str) -> Option<u16> {
    let of = |protocol| {
        entries(text).find_map(|(names, value)| {
            let (port, kind) = value.split_once('/')?;
            (kind == protocol && names.contains(&name)).then(|| port.parse().ok())?
        })
    };
    of("tcp").or_else(|| of("udp"))
}

/// Lines of `name value alias ..`: all names, and the value.
fn entries(text: &str) -> impl Iterator<Item = (Vec<&str>, &str)> {
    text.lines().filter_map(|line| {
        let line = line.split('#').next()?;
        let mut words = line.split_ascii_whitespace();
        let (name, value) = (words.next()?, words.next()?);
        Some((std::iter::once(name).chain(words).collect(), value))
    })
}

/// What works without /etc/protocols too.
pub(super) const PROTOCOLS: &[(&str, u8)] = &[
    ("ip", 0),
    ("icmp", 1),
    ("igmp", 2),
    ("ipencap", 4),
    ("tcp", 6),
    ("egp", 8),
    ("udp", 17),
    ("ipv6", 41),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("ipv6-icmp", 58),
    ("icmp6", 58),
    ("ospf", 89),
    ("etherip", 97),
    ("pim", 103),
    ("ipcomp", 108),
    ("vrrp", 112),
    ("l2tp", 115),
    ("sctp", 132),
    ("udplite", 136),
];

/// What works without /etc/services too.
pub(super) const SERVICES: &[(&str, u16)] = &[
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("domain", 53),
    ("bootps", 67),
    ("bootpc", 68),
    ("http", 80),
    ("ntp", 123),
    ("snmp", 161),
    ("bgp", 179),
    ("ldap", 389),
    ("https", 443),
    ("isakmp", 500),
    ("syslog", 514),
    ("l2tp", 1701),
    ("radius", 1812),
];

/// No configuration is larger.
const FILE_MAX: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_of_root_or_ours_and_closed_to_others() {
        assert_eq!(check_secrecy(0, 0o100_600, 1000), Ok(()));
        assert_eq!(check_secrecy(1000, 0o100_640, 1000), Ok(()));
        let owner = Err("owner not root or current user".to_owned());
        assert_eq!(check_secrecy(1001, 0o100_600, 1000), owner);
        for mode in [0o620, 0o610, 0o604, 0o602, 0o601, 0o777] {
            let wrong = Err("group writable or world read/writable".to_owned());
            assert_eq!(check_secrecy(0, mode, 0), wrong, "{mode:o}");
        }
    }

    #[test]
    fn services_prefer_tcp_and_know_aliases() {
        let text = "# comment\nweb 8080/udp\nweb 80/tcp www # the web\nonly 9/udp\nbad x/tcp\n";
        assert_eq!(service_in(text, "web"), Some(80));
        assert_eq!(service_in(text, "www"), Some(80));
        assert_eq!(service_in(text, "only"), Some(9));
        assert_eq!(service_in(text, "bad"), None);
    }

    #[test]
    fn link_local_addresses_of_interfaces_are_left_out() {
        let resolver = SystemResolver {
            interface_addresses: |_| vec![[192, 0, 2, 1].into(), "fe80::1".parse().unwrap()],
            link: |_| Link::Absent,
            only_pfkey: || false,
            host_addresses: |_| Vec::new(),
        };
        assert_eq!(resolver.interface("eth0"), [IpAddr::from([192, 0, 2, 1])]);
    }

    #[test]
    fn missing_files_are_named_by_the_system_s_words() {
        let error = SystemFiles.read("/nonexistent/iked.conf").unwrap_err();
        assert_eq!(error, "No such file or directory");
    }
}
