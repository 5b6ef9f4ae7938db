//! The command line of iked(8).

use std::path::PathBuf;

use clap::Parser;

use crate::steer::SHARDS_MAX;

/// The flags as written.
#[derive(Debug, Parser)]
#[command(
    name = "iked",
    disable_version_flag = true,
    disable_help_flag = true,
    args_override_self = true
)]
pub struct Args {
    /// Accepted and ignored, as OpenIKED does.
    #[arg(short = '6', hide = true)]
    pub six: bool,
    /// `-D macro=value`, any number of times.
    #[arg(short = 'D', value_name = "macro=value", value_parser = definition)]
    pub define: Vec<(String, String)>,
    /// Stay in the foreground and log to stderr.
    #[arg(short = 'd')]
    pub debug: bool,
    /// Configuration file.
    #[arg(short = 'f', value_name = "file", default_value = "/etc/iked.conf")]
    pub file: PathBuf,
    /// Check the configuration and exit.
    #[arg(short = 'n')]
    pub check: bool,
    /// NAT-T port; implies -t.
    #[arg(short = 'p', value_name = "udpencap_port", value_parser = port)]
    pub port: Option<u16>,
    /// Start passive.
    #[arg(short = 'S')]
    pub passive: bool,
    /// Control socket.
    #[arg(
        short = 's',
        value_name = "socket",
        default_value = "/var/run/iked.sock"
    )]
    pub socket: PathBuf,
    /// No NAT traversal.
    #[arg(short = 'T')]
    pub natt_off: bool,
    /// Only NAT traversal.
    #[arg(short = 't')]
    pub natt_only: bool,
    /// Print the version and exit.
    #[arg(short = 'V')]
    pub version: bool,
    /// More output; repeat for more.
    #[arg(short = 'v', action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Directory of keys and certificates.
    #[arg(long, value_name = "DIR", default_value = "/etc/iked")]
    pub config_dir: PathBuf,
    /// Worker threads; one for each allowed CPU by default.
    #[arg(long, value_name = "N", value_parser = shards)]
    pub shards: Option<u8>,
}

impl Args {
    /// Reads the command line. The error is what to print before exiting with 1.
    pub fn read(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Self, String> {
        let args = Self::try_parse_from(arguments).map_err(|error| message(&error))?;
        if args.natt_off && args.port.is_some() {
            return Err("iked: -T and -p are mutually exclusive".to_owned());
        }
        if args.natt_off && args.natt_only {
            return Err("iked: -T and -t are mutually exclusive".to_owned());
        }
        Ok(args)
    }
}

/// A wrong value has its own words; everything else gets the usage line.
fn message(error: &clap::Error) -> String {
    use std::error::Error;
    let source = error.source().map(ToString::to_string);
    match (error.kind(), source) {
        (clap::error::ErrorKind::ValueValidation, Some(source)) => format!("iked: {source}"),
        (_, _) => USAGE.to_owned(),
    }
}

fn definition(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("could not parse macro definition {text}"))?;
    Ok((name.to_owned(), value.to_owned()))
}

fn port(text: &str) -> Result<u16, String> {
    match text.parse::<i64>() {
        Ok(number) if number < 1 => Err(format!("port is too small: {text}")),
        Ok(number) => u16::try_from(number).map_err(|_| format!("port is too large: {text}")),
        Err(_) => Err(format!("port is invalid: {text}")),
    }
}

fn shards(text: &str) -> Result<u8, String> {
    match text.parse() {
        Ok(number) if (1..=SHARDS_MAX).contains(&number) => Ok(number),
        Ok(_) | Err(_) => Err(format!("number of shards is not 1 to {SHARDS_MAX}: {text}")),
    }
}

const USAGE: &str = "usage: iked [-dnSTtVv] [-D macro=value] [-f file] [-p udpencap_port] \
                     [-s socket] [--config-dir dir] [--shards n]";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Args, String> {
        Args::read(line.split(' ').map(Into::into))
    }

    #[test]
    fn flags_may_stand_together_and_repeat() {
        let args = read("iked -dvvt -p4501 -D a=b -Dc=d=e --shards 3").unwrap();
        assert!(args.debug && args.natt_only && args.verbose == 2);
        assert_eq!((args.port, args.shards), (Some(4501), Some(3)));
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(args.define, [pair("a", "b"), pair("c", "d=e")]);
        assert_eq!(args.file, PathBuf::from("/etc/iked.conf"));
        assert_eq!(args.socket, PathBuf::from("/var/run/iked.sock"));
    }

    #[test]
    fn wrong_ports_say_what_is_wrong() {
        assert_eq!(read("iked -p 0").unwrap_err(), "iked: port is too small: 0");
        assert_eq!(
            read("iked -p 99999").unwrap_err(),
            "iked: port is too large: 99999"
        );
        assert_eq!(read("iked -p x").unwrap_err(), "iked: port is invalid: x");
    }

    #[test]
    fn every_flag_is_in_the_manual() {
        use clap::CommandFactory;
        let page = include_str!("../../man/iked.8");
        let command = Args::command();
        for flag in command.get_arguments().filter(|flag| !flag.is_hide_set()) {
            let short = flag.get_short().map(|short| short.to_string());
            let long = flag.get_long().map(|long| format!("-{long}"));
            let entry = format!(".It Fl {}", short.or(long).unwrap());
            assert!(page.lines().any(|line| line.starts_with(&entry)), "{entry}");
        }
    }

    #[test]
    fn contradictions_and_unknown_flags_are_refused() {
        let t = "iked: -T and -t are mutually exclusive";
        assert_eq!(read("iked -T -t").unwrap_err(), t);
        let p = "iked: -T and -p are mutually exclusive";
        assert_eq!(read("iked -p 4500 -T").unwrap_err(), p);
        for wrong in ["iked -x", "iked operand", "iked --shards 0", "iked -h"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(
            read("iked -x")
                .unwrap_err()
                .starts_with("usage: iked [-dnSTtVv]")
        );
    }
}
