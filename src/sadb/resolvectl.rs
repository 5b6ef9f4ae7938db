//! Name servers by resolvectl(1), where there is one: a thread of its own runs it, one process after
//! the other, so that nobody else waits for a resolver that is slow or stuck.

use std::io;
use std::process::{Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use super::host::Names;
use crate::ike::Level;
use crate::log;

/// What is to become of an interface.
type Job = (String, Option<Names>);

/// The thread, once there is something to do.
#[derive(Debug, Default)]
pub(super) struct Resolvectl {
    running: Option<(Sender<Job>, JoinHandle<()>)>,
}

impl Resolvectl {
    /// Has the resolver told, soon.
    pub(super) fn tell(&mut self, iface: &str, names: Option<Names>) {
        let jobs = match &self.running {
            Some((jobs, _)) => jobs,
            None => match start() {
                Ok(running) => &self.running.insert(running).0,
                Err(error) => return warn(&format!("no thread for name servers: {error}")),
            },
        };
        if jobs.try_send((iface.to_owned(), names)).is_err() {
            warn(&format!("iface {iface}: the resolver is too slow"));
        }
    }
}

impl Drop for Resolvectl {
    /// Waits, not for ever, until the last word has been said.
    fn drop(&mut self) {
        let Some((jobs, thread)) = self.running.take() else {
            return;
        };
        drop(jobs);
        for _ in 0..LOOKS_MAX {
            if thread.is_finished() {
                return;
            }
            pause();
        }
        warn("the resolver does not answer; name servers of tunnels may be left");
    }
}

fn start() -> io::Result<(Sender<Job>, JoinHandle<()>)> {
    let (jobs, inbox) = crossbeam_channel::bounded(JOBS_MAX);
    let thread = std::thread::Builder::new()
        .name("resolvectl".to_owned())
        .spawn(move || run(&inbox))?;
    Ok((jobs, thread))
}

/// Ends when nobody can have anything to say any more.
fn run(jobs: &Receiver<Job>) {
    let mut told_missing = false;
    while let Ok(first) = jobs.recv() {
        // The last word about each interface counts.
        let mut waiting = vec![first];
        for (iface, names) in jobs.try_iter() {
            waiting.retain(|(other, _)| *other != iface);
            waiting.push((iface, names));
        }
        for (iface, names) in waiting {
            for words in commands(&iface, names.as_ref()) {
                match call(&words) {
                    Ok(status) if status.success() => {}
                    Ok(status) => warn(&format!("resolvectl {}: {status}", words.join(" "))),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        if !std::mem::replace(&mut told_missing, true) {
                            let line = "there is no resolvectl: name servers are not set";
                            log::write(Level::Info, line);
                        }
                        break;
                    }
                    Err(error) => warn(&format!("resolvectl {}: {error}", words.join(" "))),
                }
            }
        }
    }
}

/// The arguments of each call, none of which a program could take for an option.
fn commands(iface: &str, names: Option<&Names>) -> Vec<Vec<String>> {
    let words = |verb: &str, more: &[String]| {
        let first = [verb.to_owned(), iface.to_owned()];
        first.iter().chain(more).cloned().collect::<Vec<_>>()
    };
    if iface.starts_with('-') {
        return Vec::new();
    }
    let Some(names) = names else {
        return vec![words("revert", &[])];
    };
    let servers: Vec<String> = names.servers.iter().map(ToString::to_string).collect();
    let domains = names.domains.iter();
    let mut domains: Vec<String> = domains.filter(|d| !d.starts_with('-')).cloned().collect();
    // The servers of other interfaces are asked for other names, if they are not for all.
    let default = if names.all || domains.is_empty() {
        "yes"
    } else {
        "no"
    };
    if names.all {
        domains.push("~.".to_owned());
    }
    if domains.is_empty() {
        // Takes away those of before.
        domains.push(String::new());
    }
    vec![
        words("dns", &servers),
        words("domain", &domains),
        words("default-route", &[default.to_owned()]),
    ]
}

/// Runs it to its end, or ends it. What it has to say goes where the daemon's own stderr goes.
fn call(words: &[String]) -> io::Result<ExitStatus> {
    let mut child = Command::new("resolvectl")
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    for _ in 0..LOOKS_MAX {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        pause();
    }
    child.kill()?;
    child.wait()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the thread is there to wait, and so is the end of the daemon"
)]
fn pause() {
    std::thread::sleep(LOOK_AFTER);
}

fn warn(line: &str) {
    log::write(Level::Warning, line);
}

/// Until it is looked whether a process has ended.
const LOOK_AFTER: Duration = Duration::from_millis(10);
/// A process has five seconds, and so has the end.
const LOOKS_MAX: u32 = 500;
/// Words that may wait for a resolver.
const JOBS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(names: Option<&Names>) -> Vec<String> {
        let commands = commands("vpn0", names);
        commands.iter().map(|words| words.join(" ")).collect()
    }

    fn names(domains: &[&str], all: bool) -> Names {
        Names {
            servers: vec!["10.9.0.53".parse().unwrap(), "fd00::53".parse().unwrap()],
            domains: domains.iter().map(|&domain| domain.to_owned()).collect(),
            all,
        }
    }

    #[test]
    fn servers_of_domains_are_asked_for_those_and_others_for_all() {
        let dns = "dns vpn0 10.9.0.53 fd00::53";
        assert_eq!(
            lines(Some(&names(&["corp.example", "lab.example"], false))),
            [
                dns,
                "domain vpn0 corp.example lab.example",
                "default-route vpn0 no"
            ]
        );
        assert_eq!(
            lines(Some(&names(&["corp.example"], true))),
            [dns, "domain vpn0 corp.example ~.", "default-route vpn0 yes"]
        );
        assert_eq!(
            lines(Some(&names(&[], true))),
            [dns, "domain vpn0 ~.", "default-route vpn0 yes"]
        );
        assert_eq!(
            lines(Some(&names(&[], false))),
            [dns, "domain vpn0 ", "default-route vpn0 yes"]
        );
        assert_eq!(lines(None), ["revert vpn0"]);
    }

    #[test]
    fn nothing_that_looks_like_an_option_is_passed_on() {
        let odd = names(&["-h.example", "corp.example"], false);
        assert_eq!(lines(Some(&odd))[1], "domain vpn0 corp.example");
        assert!(commands("--version", Some(&odd)).is_empty());
    }
}
