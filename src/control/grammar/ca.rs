//! The words after `ca` and `show ca`. Most of them take values, and options in any order.

use std::slice::Iter;

use super::{Fault, GrammarError, fault_among, pick};
use crate::ca::request::{Command, Export, KeyKind, OfCertificate, OfKey, Secret, Usage, What};

type Table<T> = &'static [(&'static str, T)];

#[derive(Clone, Copy)]
enum Main {
    Certificate,
    Create,
    Delete,
    Export,
    Install,
    Key,
    Renew,
}

const OF_CA: Table<Main> = &[
    ("certificate", Main::Certificate),
    ("create", Main::Create),
    ("delete", Main::Delete),
    ("export", Main::Export),
    ("install", Main::Install),
    ("key", Main::Key),
    ("renew", Main::Renew),
];

#[derive(Clone, Copy)]
enum Certificate {
    Create,
    Delete,
    Export,
    Install,
    Revoke,
}

const OF_CERTIFICATE: Table<Certificate> = &[
    ("create", Certificate::Create),
    ("delete", Certificate::Delete),
    ("export", Certificate::Export),
    ("install", Certificate::Install),
    ("revoke", Certificate::Revoke),
];

#[derive(Clone, Copy)]
enum Key {
    Create,
    Delete,
    Import,
    Install,
}

const OF_KEY: Table<Key> = &[
    ("create", Key::Create),
    ("delete", Key::Delete),
    ("import", Key::Import),
    ("install", Key::Install),
];

#[derive(Clone, Copy)]
enum Choice {
    Peer,
    Password,
    Private,
    Rsa,
    Usage(Usage),
}

const FOR_CA: Table<Choice> = &[("password", Choice::Password), ("rsa", Choice::Rsa)];
const FOR_CERTIFICATE: Table<Choice> = &[
    ("server", Choice::Usage(Usage::Server)),
    ("client", Choice::Usage(Usage::Client)),
    ("ocsp", Choice::Usage(Usage::Ocsp)),
    ("rsa", Choice::Rsa),
];
const FOR_KEY: Table<Choice> = &[("rsa", Choice::Rsa)];
const FOR_EXPORT: Table<Choice> = &[("peer", Choice::Peer), ("password", Choice::Password)];
const FOR_EXPORT_OF_CA: Table<Choice> = &[
    ("peer", Choice::Peer),
    ("password", Choice::Password),
    ("private", Choice::Private),
];

/// What follows `ca`.
pub(super) fn ca(words: &mut Iter<'_, String>) -> Result<Command, GrammarError> {
    let ca = value("<caname>", words)?;
    let what = match choose(OF_CA, words)? {
        Main::Certificate => certificate(words)?,
        Main::Create => {
            let options = options(FOR_CA, words)?;
            What::Create {
                password: options.export.password,
                kind: options.kind,
            }
        }
        Main::Delete => What::Delete,
        Main::Export => What::Export(options(FOR_EXPORT_OF_CA, words)?.export),
        Main::Install => What::Install(words.next().cloned()),
        Main::Key => key(words)?,
        Main::Renew => What::Renew,
    };
    end(words)?;
    Ok(Command { ca, what })
}

/// What follows `show ca`.
pub(super) fn show(words: &mut Iter<'_, String>) -> Result<Command, GrammarError> {
    let ca = value("<caname>", words)?;
    choose(&[("certificates", ())], words)?;
    let what = What::Show(words.next().cloned());
    end(words)?;
    Ok(Command { ca, what })
}

fn certificate(words: &mut Iter<'_, String>) -> Result<What, GrammarError> {
    let host = value("<host>", words)?;
    let what = match choose(OF_CERTIFICATE, words)? {
        Certificate::Create => {
            let options = options(FOR_CERTIFICATE, words)?;
            OfCertificate::Create {
                usage: options.usage.unwrap_or_default(),
                kind: options.kind,
            }
        }
        Certificate::Delete => OfCertificate::Delete,
        Certificate::Export => OfCertificate::Export(options(FOR_EXPORT, words)?.export),
        Certificate::Install => OfCertificate::Install(words.next().cloned()),
        Certificate::Revoke => OfCertificate::Revoke,
    };
    Ok(What::Certificate { host, what })
}

fn key(words: &mut Iter<'_, String>) -> Result<What, GrammarError> {
    let host = value("<host>", words)?;
    let what = match choose(OF_KEY, words)? {
        Key::Create => OfKey::Create(options(FOR_KEY, words)?.kind),
        Key::Delete => OfKey::Delete,
        Key::Import => OfKey::Import(value("<file>", words)?),
        Key::Install => OfKey::Install(words.next().cloned()),
    };
    Ok(What::Key { host, what })
}

#[derive(Default)]
struct Options {
    export: Export,
    kind: KeyKind,
    usage: Option<Usage>,
}

/// Words until the end, each once, and of the usages one.
fn options(table: Table<Choice>, words: &mut Iter<'_, String>) -> Result<Options, GrammarError> {
    let mut options = Options::default();
    while let Some(word) = words.as_slice().first() {
        let again = match choose(table, words)? {
            Choice::Peer => options
                .export
                .peer
                .replace(value("<peer>", words)?)
                .is_some(),
            Choice::Password => {
                let password = Secret::new(value("<password>", words)?);
                options.export.password.replace(password).is_some()
            }
            Choice::Private => std::mem::replace(&mut options.export.private, true),
            Choice::Rsa => std::mem::replace(&mut options.kind, KeyKind::Rsa) == KeyKind::Rsa,
            Choice::Usage(usage) => options.usage.replace(usage).is_some(),
        };
        if again {
            return Err(fault_among(Fault::Superfluous, Some(word), Vec::new()));
        }
    }
    Ok(options)
}

fn choose<T: Copy>(
    table: &[(&'static str, T)],
    words: &mut Iter<'_, String>,
) -> Result<T, GrammarError> {
    let names: Vec<&'static str> = table.iter().map(|(name, _)| *name).collect();
    let word = words.next();
    let chosen = table.get(pick(&names, word)?).map(|(_, chosen)| *chosen);
    chosen.ok_or_else(|| fault_among(Fault::Unknown, word, names))
}

fn value(name: &'static str, words: &mut Iter<'_, String>) -> Result<String, GrammarError> {
    let word = words.next().filter(|word| !word.is_empty()).cloned();
    word.ok_or_else(|| fault_among(Fault::Missing, None, vec![name]))
}

fn end(words: &mut Iter<'_, String>) -> Result<(), GrammarError> {
    match words.next() {
        None => Ok(()),
        Some(word) => Err(fault_among(Fault::Superfluous, Some(word), Vec::new())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match super::super::Command::parse(&words) {
            Ok(super::super::Command::Ca(command)) => Ok(command),
            Ok(super::super::Command::Ask(other)) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    fn host(line: &str) -> OfCertificate {
        let What::Certificate { host, what } = parse(line).unwrap().what else {
            panic!("{line}");
        };
        assert_eq!(host, "a.example");
        what
    }

    #[test]
    fn authorities_are_made_with_options_in_any_order() {
        let create = |password: Option<&str>, kind| What::Create {
            password: password.map(|words| Secret::new(words.to_owned())),
            kind,
        };
        let ca = |line: &str| parse(line).map(|command| (command.ca, command.what));
        let vpn = |what| Ok(("vpn".to_owned(), what));
        assert_eq!(ca("ca vpn create"), vpn(create(None, KeyKind::EcdsaP256)));
        let rsa = vpn(create(Some("s3cret"), KeyKind::Rsa));
        assert_eq!(ca("ca vpn create rsa password s3cret"), rsa);
        assert_eq!(ca("ca vpn cr p s3cret r"), rsa);
        assert_eq!(ca("ca vpn install"), vpn(What::Install(None)));
        assert_eq!(
            ca("ca vpn install /tmp/a"),
            vpn(What::Install(Some("/tmp/a".to_owned())))
        );
        assert_eq!(ca("ca vpn delete"), vpn(What::Delete));
        assert_eq!(ca("ca vpn renew"), vpn(What::Renew));
    }

    #[test]
    fn hosts_have_certificates_and_keys() {
        let create = |usage, kind| OfCertificate::Create { usage, kind };
        let line = "ca vpn certificate a.example create";
        assert_eq!(host(line), create(Usage::Any, KeyKind::EcdsaP256));
        assert_eq!(
            host("ca vpn ce a.example c s rsa"),
            create(Usage::Server, KeyKind::Rsa)
        );
        assert_eq!(host("ca vpn cert a.example revoke"), OfCertificate::Revoke);
        let export = Export {
            peer: Some("gw.example".to_owned()),
            password: Some(Secret::new("pw".to_owned())),
            private: false,
        };
        let line = "ca vpn cert a.example export peer gw.example password pw";
        assert_eq!(host(line), OfCertificate::Export(export));
        let what = OfKey::Import("k.pem".to_owned());
        let key = What::Key {
            host: "a.example".to_owned(),
            what,
        };
        assert_eq!(parse("ca vpn key a.example imp k.pem").unwrap().what, key);
    }

    #[test]
    fn certificates_are_shown() {
        let all = Command {
            ca: "vpn".to_owned(),
            what: What::Show(None),
        };
        assert_eq!(parse("show ca vpn certificates"), Ok(all));
        let one = parse("sh ca vpn cert a.example").unwrap().what;
        assert_eq!(one, What::Show(Some("a.example".to_owned())));
    }

    #[test]
    fn faults_are_those_of_the_other_commands() {
        let missing = "missing argument:\nvalid commands/args:\n  ";
        assert_eq!(parse("ca"), Err(format!("{missing}<caname>")));
        assert_eq!(parse("ca vpn key"), Err(format!("{missing}<host>")));
        let of_key = format!("{missing}create\n  delete\n  import\n  install");
        assert_eq!(parse("ca vpn key a"), Err(of_key));
        assert_eq!(
            parse("ca vpn key a i"),
            Err("ambiguous argument: i\nvalid commands/args:\n  create\n  delete\n  import\n  install".to_owned())
        );
        assert_eq!(
            parse("ca vpn export password"),
            Err(format!("{missing}<password>"))
        );
        assert_eq!(
            parse("ca vpn delete now"),
            Err("superfluous argument: now".to_owned())
        );
        assert_eq!(
            parse("ca vpn cert a create server client"),
            Err("superfluous argument: client".to_owned())
        );
        assert_eq!(
            parse("ca vpn cert a export private"),
            Err("unknown argument: private\nvalid commands/args:\n  peer\n  password".to_owned())
        );
    }

    #[test]
    fn passwords_are_not_shown() {
        let command = parse("ca vpn create password hunter2").unwrap();
        assert!(!format!("{command:?}").contains("hunter2"));
    }

    #[test]
    fn every_command_is_in_the_manual() {
        let page = include_str!("../../../man/ikectl.8");
        let of_ca = OF_CA.iter().map(|(word, _)| (*word).to_owned());
        let of_host = OF_CERTIFICATE.iter().map(|(word, _)| *word);
        let of_host = of_host.map(|word| format!("certificate Ar host Cm {word}"));
        let of_key = OF_KEY
            .iter()
            .map(|(word, _)| format!("key Ar host Cm {word}"));
        for words in of_ca.chain(of_host).chain(of_key) {
            let line = format!(".It Cm ca Ar name Cm {words}");
            assert!(page.lines().any(|l| l.starts_with(&line)), "{line}");
        }
    }
}
