//! The `radius` lines of newer OpenBSD: read, given their meaning, and printed. Its words are only
//! words here; elsewhere they are strings like any other.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use super::ast::{NameOrNumber, Position, RadiusText, Text};
use super::lexer::Kind;
use super::parser::{Parser, Read, unexpected};
use super::{Diagnostic, Environment, hosts, tables};
use crate::policy::Secret;
use crate::policy::radius::{Mapping, Radius, Server, Servers};
use crate::wire::registry::CfgAttrType;

impl Parser<'_> {
    /// Reads what follows `radius`, without the end of the line.
    pub(super) fn radius(&mut self) -> Read<RadiusText> {
        if self.accept("dae") {
            return self.radius_dae();
        }
        if self.accept("config") {
            return self.radius_config();
        }
        let accounting = self.accept("accounting");
        if self.accept("server") {
            let address = self.string()?;
            let port = self.radius_port()?;
            self.expect("secret")?;
            let secret = self.string()?;
            return Ok(RadiusText::Server {
                accounting,
                address,
                port,
                secret,
            });
        }
        let tries = self.accept("max-tries");
        if !tries {
            self.expect("max-failovers")?;
        }
        let at = self.peek().at.clone();
        Ok(RadiusText::Most {
            accounting,
            tries,
            number: (self.number()?, at),
        })
    }

    fn radius_dae(&mut self) -> Read<RadiusText> {
        if self.accept("listen") {
            self.expect("on")?;
            let address = self.string()?;
            let port = self.radius_port()?;
            return Ok(RadiusText::Listen { address, port });
        }
        self.expect("client")?;
        let address = self.string()?;
        self.expect("secret")?;
        let secret = self.string()?;
        Ok(RadiusText::Client { address, secret })
    }

    fn radius_config(&mut self) -> Read<RadiusText> {
        let inet = if self.accept("inet") {
            Some(true)
        } else if self.accept("inet6") {
            Some(false)
        } else {
            None
        };
        let name = self.string()?;
        let first = self.radius_number()?;
        let second = if matches!(self.peek().kind, Kind::Newline | Kind::Eof) {
            None
        } else {
            Some(self.radius_number()?)
        };
        Ok(RadiusText::Config {
            inet,
            name,
            vendor: second.is_some().then(|| first.clone()),
            attribute: second.unwrap_or(first),
        })
    }

    fn radius_port(&mut self) -> Read<Option<NameOrNumber>> {
        if !self.accept("port") {
            return Ok(None);
        }
        let at = self.peek().at.clone();
        if let Kind::Number(_) = self.peek().kind {
            return Ok(Some(NameOrNumber::Number(self.number()?, at)));
        }
        Ok(Some(NameOrNumber::Name(self.string()?)))
    }

    /// A number, also as `0x1a`.
    fn radius_number(&mut self) -> Read<Number> {
        let token = self.take();
        let number = match &token.kind {
            Kind::Number(number) => Some(*number),
            Kind::Bare(text) => text
                .strip_prefix("0x")
                .and_then(|digits| i64::from_str_radix(digits, 16).ok()),
            Kind::Quoted(_) | Kind::Char(_) | Kind::Newline | Kind::Eof | Kind::Error(_) => None,
        };
        let number = number.ok_or_else(|| unexpected(&token))?;
        Ok((number, token.at))
    }
}

/// Gives one line its meaning.
pub(super) fn resolve(
    radius: &mut Radius,
    line: &RadiusText,
    environment: Environment<'_>,
) -> Result<(), Diagnostic> {
    match line {
        RadiusText::Server {
            accounting,
            address,
            port,
            secret,
        } => {
            let usual = if *accounting {
                ACCOUNTING_PORT
            } else {
                AUTH_PORT
            };
            let address = socket(address, port.as_ref(), usual, environment)?;
            let servers = servers(radius, *accounting);
            if servers.list.len() >= SERVERS_MAX {
                return Err(too_many(&secret.at));
            }
            let secret = self::secret(secret)?;
            servers.list.push(Server { address, secret });
        }
        RadiusText::Most {
            accounting,
            tries,
            number: (number, at),
        } => {
            let least = i64::from(*tries);
            let word = if *tries { "max-tries" } else { "max-failovers" };
            if !(least..=MOST).contains(number) {
                let message = format!("{word} must be in the range [{least}, {MOST}]");
                return Err(Diagnostic::at(at, message));
            }
            let number = u32::try_from(*number).unwrap_or(0);
            let servers = servers(radius, *accounting);
            if *tries {
                servers.tries = number;
            } else {
                servers.failovers = number;
            }
        }
        RadiusText::Config {
            inet,
            name,
            vendor,
            attribute,
        } => {
            radius
                .mappings
                .push(mapping(*inet, name, vendor.as_ref(), attribute)?);
        }
        RadiusText::Listen { address, port } => {
            if radius.dae_listen.len() >= SERVERS_MAX {
                return Err(too_many(&address.at));
            }
            let address = socket(address, port.as_ref(), DAE_PORT, environment)?;
            radius.dae_listen.push(address);
        }
        RadiusText::Client { address, secret } => {
            let client = (self::address(address)?, self::secret(secret)?);
            radius.dae_clients.push(client);
        }
    }
    Ok(())
}

fn mapping(
    inet: Option<bool>,
    name: &Text,
    vendor: Option<&Number>,
    attribute: &Number,
) -> Result<Mapping, Diagnostic> {
    let vendor = vendor.map_or(Ok(0), |vendor| within(vendor, 0xff_ffff, "vendor id"))?;
    let attribute = u8::try_from(within(attribute, 0xff, "attribute")?).unwrap_or(0);
    let (v4, v6) = option(inet, name)?;
    Ok(Mapping {
        vendor,
        attribute,
        v4,
        v6,
    })
}

fn too_many(at: &Position) -> Diagnostic {
    Diagnostic::at(at, "too many radius lines of this kind".to_owned())
}

type Number = (i64, Position);

fn servers(radius: &mut Radius, accounting: bool) -> &mut Servers {
    if accounting {
        &mut radius.accounting
    } else {
        &mut radius.auth
    }
}

fn within(number: &Number, most: u32, what: &str) -> Result<u32, Diagnostic> {
    let found = u32::try_from(number.0).ok();
    let wrong = || Diagnostic::at(&number.1, format!("{what} outside range: {}", number.0));
    found.filter(|found| *found <= most).ok_or_else(wrong)
}

type Meanings = (Option<CfgAttrType>, Option<CfgAttrType>);

fn option(inet: Option<bool>, name: &Text) -> Result<Meanings, Diagnostic> {
    if name.text == "none" {
        return Ok((None, None));
    }
    let found = tables::find(tables::CFG, &name.text);
    let wrong = || {
        Diagnostic::at(
            &name.at,
            format!("not a valid ikecfg option: {}", name.text),
        )
    };
    let (v4, v6) = *found.ok_or_else(wrong)?;
    if v4 == CfgAttrType::INTERNAL_IP4_SUBNET || (inet == Some(false) && v6.is_none()) {
        return Err(wrong());
    }
    Ok((
        Some(v4).filter(|_| inet != Some(false)),
        v6.filter(|_| inet != Some(true)),
    ))
}

fn address(text: &Text) -> Result<IpAddr, Diagnostic> {
    let wrong = |_| {
        let message = format!("could not parse the address: {}", text.text);
        Diagnostic::at(&text.at, message)
    };
    text.text.parse().map_err(wrong)
}

fn socket(
    text: &Text,
    port: Option<&NameOrNumber>,
    usual: u16,
    environment: Environment<'_>,
) -> Result<SocketAddr, Diagnostic> {
    let address = address(text)?;
    match hosts::port(port, environment)? {
        Some(0) => Err(Diagnostic::at(&text.at, "port out of range: 0".to_owned())),
        port => Ok(SocketAddr::new(address, port.unwrap_or(usual))),
    }
}

fn secret(text: &Text) -> Result<Secret, Diagnostic> {
    if text.text.is_empty() {
        return Err(Diagnostic::at(&text.at, "secret is empty".to_owned()));
    }
    Ok(Secret::new(text.text.as_bytes().to_vec()))
}

/// Appends the lines; `secret` says how a secret is shown.
pub(super) fn print(text: &mut String, radius: &Radius, secret: impl Fn(&Secret) -> String) {
    let usual = Servers::default();
    for (word, servers) in [("", &radius.auth), ("accounting ", &radius.accounting)] {
        for server in &servers.list {
            let (address, port) = (server.address.ip(), server.address.port());
            let secret = secret(&server.secret);
            let _ = writeln!(
                text,
                "radius {word}server \"{address}\" port {port} secret {secret}"
            );
        }
        if servers.tries != usual.tries {
            let _ = writeln!(text, "radius {word}max-tries {}", servers.tries);
        }
        if servers.failovers != usual.failovers {
            let _ = writeln!(text, "radius {word}max-failovers {}", servers.failovers);
        }
    }
    for mapping in &radius.mappings {
        let (family, name) = shown(mapping);
        let _ = write!(text, "radius config {family}{name}");
        if mapping.vendor != 0 {
            let _ = write!(text, " {}", mapping.vendor);
        }
        let _ = writeln!(text, " {}", mapping.attribute);
    }
    for address in &radius.dae_listen {
        let (address, port) = (address.ip(), address.port());
        let _ = writeln!(text, "radius dae listen on \"{address}\" port {port}");
    }
    for (address, key) in &radius.dae_clients {
        let secret = secret(key);
        let _ = writeln!(text, "radius dae client \"{address}\" secret {secret}");
    }
}

/// The words for family and option of a mapping.
fn shown(mapping: &Mapping) -> (&'static str, &'static str) {
    let rows = tables::CFG.iter();
    let name = |is: &dyn Fn(&Meanings) -> bool| {
        let mut rows = rows.clone();
        let found = rows.find(|(_, (v4, v6))| is(&(Some(*v4), *v6)));
        found.map(|(name, _)| *name)
    };
    let (v4, v6) = (mapping.v4, mapping.v6);
    let (family, name) = match (v4, v6) {
        (None, None) => return ("", "none"),
        (Some(_), None) => ("inet ", name(&|row| row.0 == v4)),
        (None, Some(_)) => ("inet6 ", name(&|row| row.1 == v6)),
        (Some(_), Some(_)) => ("", name(&|row| *row == (v4, v6))),
    };
    (family, name.unwrap_or("none"))
}

const AUTH_PORT: u16 = 1812;
const ACCOUNTING_PORT: u16 = 1813;
const DAE_PORT: u16 = 3799;
/// Largest `max-tries` and `max-failovers`: each try doubles the wait.
const MOST: i64 = 16;
/// Servers of one kind.
const SERVERS_MAX: usize = 16;
