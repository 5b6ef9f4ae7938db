//! Names of servers to addresses. The system's resolver blocks, so it is asked by a few threads of
//! its own; whoever needs an address waits for none of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, after, select, unbounded};
use mio::Waker;

/// The addresses of a name; none where it has none, or nobody can say.
pub type Addresses = Vec<IpAddr>;

/// The resolver.
#[derive(Debug)]
pub struct Names {
    known: BTreeMap<String, Entry>,
    questions: Sender<String>,
    answers: Receiver<(String, Addresses)>,
    /// For threads still to be started.
    ends: (Receiver<String>, Sender<(String, Addresses)>),
    waker: Arc<Waker>,
    threads: usize,
}

#[derive(Debug)]
enum Entry {
    Asked,
    Known {
        addresses: Addresses,
        until: Instant,
    },
}

impl Names {
    /// A resolver that rings `waker` when [`Self::answers`] has some.
    pub fn new(waker: Arc<Waker>) -> Self {
        let (questions, asked) = unbounded();
        let (said, answers) = unbounded();
        Self {
            known: BTreeMap::new(),
            questions,
            answers,
            ends: (asked, said),
            waker,
            threads: 0,
        }
    }

    /// The addresses of a name, if they are known; else [`Self::answers`] will tell.
    pub fn find(&mut self, name: &str, now: Instant) -> Option<Addresses> {
        if let Ok(address) = name.parse() {
            return Some(vec![address]);
        }
        match self.known.get(name) {
            Some(Entry::Known { addresses, until }) if now < *until => {
                return Some(addresses.clone());
            }
            Some(Entry::Asked) => return None,
            Some(Entry::Known { .. }) | None => {}
        }
        if self.known.len() >= NAMES_MAX {
            self.known.retain(|_, entry| matches!(entry, Entry::Asked));
        }
        self.known.insert(name.to_owned(), Entry::Asked);
        self.add_thread();
        // The receiving end is ours as well, so it is there.
        let _ = self.questions.send(name.to_owned());
        None
    }

    /// What was found out since the last call.
    pub fn answers(&mut self, now: Instant) -> Vec<(String, Addresses)> {
        let answers: Vec<_> = self.answers.try_iter().collect();
        for (name, addresses) in &answers {
            let keep = if addresses.is_empty() {
                NOT_FOUND_KEEP
            } else {
                KEEP
            };
            let (addresses, until) = (addresses.clone(), now + keep);
            let entry = Entry::Known { addresses, until };
            self.known.insert(name.clone(), entry);
        }
        answers
    }

    fn add_thread(&mut self) {
        if self.threads >= THREADS_MAX {
            return;
        }
        let (asked, said) = self.ends.clone();
        let waker = Arc::clone(&self.waker);
        let work = move || {
            for name in asked {
                let found = (name.as_str(), 0).to_socket_addrs();
                let addresses = found.map(|all| all.map(|address| address.ip()).collect());
                let _ = said.send((name, addresses.unwrap_or_default()));
                let _ = waker.wake();
            }
        };
        // Without a thread the question waits for another, or for its end.
        let started = thread::Builder::new().name("names".to_owned()).spawn(work);
        self.threads += usize::from(started.is_ok());
    }
}

/// The addresses of each of these names, in the order of the system's resolver: none where it has
/// none, `None` where that is not known after ten seconds, which are those of all. Waits as long; not
/// for the threads of the shards.
pub fn ask_all(names: &[String]) -> Vec<Option<Addresses>> {
    ask(names, PATIENCE, |name| {
        let mut found = Vec::new();
        for address in (name, 0).to_socket_addrs().into_iter().flatten() {
            if !found.contains(&address.ip()) {
                found.push(address.ip());
            }
        }
        found
    })
}

/// Asks `find` in threads, which are left to themselves if they take too long.
fn ask(
    names: &[String],
    patience: Duration,
    find: fn(&str) -> Addresses,
) -> Vec<Option<Addresses>> {
    let (questions, asked) = unbounded();
    let (said, answers) = unbounded();
    for question in names.iter().cloned().enumerate() {
        // The receiving end is ours as well, so it is there.
        let _ = questions.send(question);
    }
    // Who has nothing left to ask ends.
    drop(questions);
    let mut threads = Vec::new();
    for _ in 0..names.len().min(THREADS_MAX) {
        let (asked, said) = (asked.clone(), said.clone());
        let work = move || {
            for (number, name) in asked {
                if said.send((number, find(&name))).is_err() {
                    return;
                }
            }
        };
        // Without a thread the names wait for another, or for the end.
        threads.extend(thread::Builder::new().name("names".to_owned()).spawn(work));
    }
    drop(said);
    let mut found = vec![None; names.len()];
    let late = after(patience);
    while found.contains(&None) {
        select! {
            recv(answers) -> answer => match answer {
                Ok((number, addresses)) => {
                    if let Some(place) = found.get_mut(number) {
                        *place = Some(addresses);
                    }
                }
                Err(_) => break,
            },
            recv(late) -> _ => return found,
        }
    }
    for thread in threads {
        // None has anything left to do.
        let _ = thread.join();
    }
    found
}

/// Names that are asked for at the same time; one whose servers are dead takes a thread for as long
/// as the system's resolver tries.
const THREADS_MAX: usize = 8;
/// How long an address is believed: the system does not say how long it could be.
const KEEP: Duration = Duration::from_secs(60);
const NOT_FOUND_KEEP: Duration = Duration::from_secs(5);
/// For all names of a configuration: the system's resolver tries its second server within it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Names remembered; only those of trusted certificates and of the configuration come in.
const NAMES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use mio::{Events, Poll, Token};

    use super::*;

    #[test]
    fn one_dead_name_takes_no_answer_from_the_others_and_no_more_time() {
        let mut names: Vec<String> = (0..40).map(|n| format!("name{n}")).collect();
        names[3] = "dead".to_owned();
        let find = |name: &str| match name {
            "dead" => {
                let (_never, silence) = unbounded::<()>();
                let _ = silence.recv_timeout(Duration::from_secs(20));
                Vec::new()
            }
            "name7" => Vec::new(),
            _ => vec![IpAddr::from([192, 0, 2, 1])],
        };
        let start = crate::lookup::now().mono;
        let found = ask(&names, Duration::from_secs(2), find);
        let took = crate::lookup::now().mono - start;
        assert!(took < Duration::from_secs(10), "{took:?}");
        assert_eq!(found[3], None);
        assert_eq!(found[7], Some(Vec::new()));
        let known = found.iter().flatten().filter(|known| !known.is_empty());
        assert_eq!((found.len(), known.count()), (40, 38));
        assert_eq!(ask(&[], Duration::from_secs(20), find), []);
    }

    #[test]
    fn an_address_is_known_at_once_and_a_name_is_looked_up_by_another_thread() {
        let mut poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let mut names = Names::new(waker);
        let now = crate::lookup::now().mono;
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        assert_eq!(names.find("2001:db8::1", now), Some(vec![v6]));
        assert_eq!(names.find("localhost", now), None);
        assert_eq!(names.find("localhost", now), None);
        let mut events = Events::with_capacity(4);
        poll.poll(&mut events, Some(Duration::from_secs(20)))
            .unwrap();
        let answers = names.answers(now);
        assert_eq!(answers.len(), 1, "asked once: {answers:?}");
        assert!(answers[0].1.iter().all(IpAddr::is_loopback), "{answers:?}");
        assert_eq!(names.find("localhost", now), Some(answers[0].1.clone()));
        assert_eq!(names.find("localhost", now + KEEP), None);
    }
}
