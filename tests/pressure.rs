//! A shard and the kernel thread as they run in the daemon, over a kernel that takes its time or refuses: the
//! shard never waits for it, what is up goes on, and new handshakes are passed over until it has caught up.
//!
//! It runs in a network namespace of its own, as root.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(
    clippy::disallowed_methods,
    reason = "the threads run in real time, and so does who waits for them"
)]

use std::net::IpAddr;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use client::{Client, Ports, SUITE};
use house::alone;
use iked::auth::store::CredentialStore;
use iked::config::{self, Environment, Nobody};
use iked::crypto::{Rng, boring};
use iked::ike::{Command, Endpoint, EndpointParts, Reply, Stats};
use iked::kernel::{
    Backend, ChildRemove, Count, Found, KernelError, KernelEvent, KernelRequest, SelectorPair, Trap,
};
use iked::mail::{self, ControlMail, Inbox, KernelMail, Mailbox, ShardMail};
use iked::policy::{Generation, Options};
use iked::sadb::{self, SadbParts, Ways};
use iked::shard::{self, ShardParts, socket};
use iked::steer::{ShardId, Steering};
use iked::time::Now;
use mio::{Poll, Token, Waker};

#[path = "daemon/client.rs"]
#[allow(dead_code, reason = "shared with the daemon tests")]
mod client;
#[path = "daemon/house.rs"]
#[allow(dead_code, reason = "shared with the daemon tests")]
mod house;

/// What the kernel does with what it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Willing,
    /// It comes back from no system call.
    Stuck,
    Refusing,
}

/// A kernel whose mood the test changes, and how many Child SAs it has.
#[derive(Clone, Debug)]
struct Moody(Arc<(Mutex<(Mood, usize)>, Condvar)>);

impl Moody {
    fn set(&self, mood: Mood) {
        self.0.0.lock().unwrap().0 = mood;
        self.0.1.notify_all();
    }

    fn holds(&self) -> usize {
        self.0.0.lock().unwrap().1
    }
}

impl Backend for Moody {
    fn name(&self) -> &'static str {
        "moody"
    }

    fn apply(&mut self, batch: &[KernelRequest]) -> Vec<Result<(), KernelError>> {
        let state = self.0.0.lock().unwrap();
        let stuck = |state: &mut (Mood, usize)| state.0 == Mood::Stuck;
        let mut state = self.0.1.wait_while(state, stuck).unwrap();
        let mut results = Vec::new();
        for request in batch {
            let adds = matches!(request, KernelRequest::AddChild { .. });
            results.push(match (adds, state.0) {
                (true, Mood::Refusing) => Err(KernelError {
                    errno: libc::ENOBUFS,
                    action: "add SA",
                }),
                (true, Mood::Willing | Mood::Stuck) => {
                    state.1 += 1;
                    Ok(())
                }
                (false, _) => {
                    state.1 -= 1;
                    Ok(())
                }
            });
        }
        results
    }

    fn set_policies(&mut self, _: &ChildRemove) -> Result<(), KernelError> {
        Ok(())
    }

    fn set_trap(&mut self, _: &Trap, _: u32) -> Result<(), KernelError> {
        Ok(())
    }

    fn remove_policies(&mut self, _: &[SelectorPair]) -> Result<(), KernelError> {
        Ok(())
    }

    fn count(&mut self, _: &[ChildRemove]) -> Vec<Count> {
        Vec::new()
    }

    fn event_fd(&self) -> Option<RawFd> {
        None
    }

    fn poll_events(&mut self, _: &mut Vec<KernelEvent>) -> bool {
        false
    }

    fn survey(&mut self, _: SystemTime, _: &mut dyn FnMut(Found)) -> Result<(), KernelError> {
        Ok(())
    }
}

/// A gateway of one shard.
struct Gateway {
    kernel: Moody,
    to_shard: Mailbox<ShardMail>,
    control: Inbox<ControlMail>,
    to_kernel: Mailbox<KernelMail>,
    threads: Vec<JoinHandle<()>>,
    /// Nobody waits for what comes to these, but somebody must have them.
    _polls: [Poll; 2],
    _lookup: Inbox<mail::LookupMail>,
}

fn ring<T>(capacity: usize, token: Token) -> (Poll, Mailbox<T>, Inbox<T>) {
    let poll = Poll::new().unwrap();
    let waker = Arc::new(Waker::new(poll.registry(), token).unwrap());
    let (mailbox, inbox) = mail::mailbox(capacity, waker);
    (poll, mailbox, inbox)
}

impl Gateway {
    /// `room`: pieces of mail that may wait for the kernel thread.
    fn new(room: usize) -> Self {
        let kernel = Moody(Arc::new((Mutex::new((Mood::Willing, 0)), Condvar::new())));
        let (kernel_poll, to_kernel, kernel_inbox) = ring(room, sadb::WAKER);
        let (shard_poll, to_shard, shard_inbox) = ring(64, shard::WAKE);
        let (control_poll, to_control, control) = ring(64, Token(0));
        let (lookup_poll, to_lookup, lookup) = ring(64, Token(0));
        let parts = SadbParts {
            ways: Some(Ways {
                backend: Box::new(kernel.clone()),
                interfaces: None,
            }),
            open: Box::new(|| Err("it is open".to_owned())),
            watch: None,
            poll: kernel_poll,
            inbox: kernel_inbox,
            shards: vec![to_shard.clone()],
        };
        let kernel_thread = thread::spawn(move || sadb::run(parts).unwrap());
        let steering = Steering::new(1, 7);
        let ports = socket::Ports {
            ike: Some(client::IKE_PORT),
            natt: Some(client::NATT_PORT),
        };
        let addresses: [IpAddr; 1] = ["127.0.0.1".parse().unwrap()];
        let mut bound = socket::bind(&addresses, ports, &steering).unwrap();
        let parts = ShardParts {
            id: ShardId(0),
            endpoint: endpoint(),
            sockets: bound.shards.remove(0),
            poll: shard_poll,
            inbox: shard_inbox,
            peers: vec![to_shard.clone()],
            kernel: to_kernel.clone(),
            lookup: to_lookup,
            control: to_control,
            steering,
        };
        let shard_thread = thread::spawn(move || shard::run(parts).unwrap());
        Self {
            kernel,
            to_shard,
            control,
            to_kernel,
            threads: vec![shard_thread, kernel_thread],
            _polls: [control_poll, lookup_poll],
            _lookup: lookup,
        }
    }

    fn tell(&self, command: Command) -> Reply {
        let mail = ShardMail::Command { id: 7, command };
        self.to_shard.try_send(mail).unwrap();
        let asked = Instant::now();
        loop {
            let mut answer = None;
            self.control.drain(64, |mail| {
                if let ControlMail::Reply { reply, .. } = mail {
                    answer = Some(reply);
                }
            });
            if let Some(answer) = answer {
                return answer;
            }
            assert!(asked.elapsed() < MOMENT, "the shard is stuck too");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn stats(&self) -> Stats {
        let Reply::Stats(stats) = self.tell(Command::ShowStats) else {
            panic!("another answer");
        };
        *stats
    }

    /// Ends in order.
    fn end(self) {
        self.kernel.set(Mood::Willing);
        self.tell(Command::Shutdown);
        let mut threads = self.threads.into_iter();
        threads.next().unwrap().join().unwrap();
        // What the shard has left there comes first.
        while self.to_kernel.try_send(KernelMail::Shutdown).is_err() {
            thread::sleep(Duration::from_millis(1));
        }
        threads.next().unwrap().join().unwrap();
        assert_eq!(self.kernel.holds(), 0, "something is left in the kernel");
    }
}

fn endpoint() -> Endpoint {
    let text = format!(
        "ikev2 \"clients\" passive esp from 10.1.0.0/16 to 10.2.0.0/16 \
         local any peer any {SUITE} srcid gateway.example psk \"a secret of the tests\"\n"
    );
    let environment = Environment {
        hostname: "gateway.example",
        passive: false,
        resolver: &Nobody,
        files: &Nobody,
    };
    let loaded = config::parse_str("gateway", &text, &[], Generation(0), environment).unwrap();
    let options = Options {
        natt_off: false,
        natt_only: false,
        natt_port: client::NATT_PORT,
        config_dir: PathBuf::new(),
    };
    Endpoint::new(EndpointParts {
        shard: ShardId(0),
        shards: 1,
        config: Arc::new(loaded.config),
        options: Arc::new(options),
        store: Arc::new(CredentialStore::default()),
        provider: boring::provider(),
        rng: Rng::from_seed([3; 32]),
        cookie_seed: [3; 32],
        now: Now {
            mono: Instant::now(),
            wall: SystemTime::now(),
        },
    })
}

fn client(number: u8) -> Client {
    let name = format!("client{number}.example");
    let address = IpAddr::from([127, 0, 1, number]);
    let gateway = IpAddr::from([127, 0, 0, 1]);
    Client::new(&name, address, gateway, Ports::Translated)
}

/// Lets a client talk until `done`, or for a second and a half.
fn talk(client: &mut Client, done: impl Fn(&Stats) -> bool) -> bool {
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1500) {
        if done(client.stats()) {
            return true;
        }
        client.turn();
    }
    false
}

/// Asks whether the gateway lives; the answer must come at once.
fn must_live(client: &mut Client) {
    let asked = Instant::now();
    client.ask_for_life();
    assert!(asked.elapsed() < MOMENT, "{:?}", asked.elapsed());
}

#[test]
fn a_kernel_that_is_stuck_holds_up_new_handshakes_and_nothing_else() {
    alone(|| {
        let gateway = Gateway::new(64);
        let mut up = client(1);
        up.establish();
        gateway.kernel.set(Mood::Stuck);
        // It gets as far as the kernel.
        let mut waits = client(2);
        waits.begin();
        assert!(!talk(&mut waits, |stats| stats.sa_established_current > 0));
        let mut late = client(3);
        late.begin();
        // The first request is what makes the shard look; those that come after a second are passed over.
        assert!(!talk(&mut late, |stats| stats.sa_established_current > 0));
        let mut later = client(4);
        later.begin();
        assert!(!talk(&mut later, |_| false));
        assert_eq!(later.got, 0, "it was answered");
        let stats = gateway.stats();
        assert!(stats.half_open_kernel > 0, "{stats:?}");
        assert_eq!(stats.sa_established_current, 1);
        must_live(&mut up);
        gateway.kernel.set(Mood::Willing);
        for client in [&mut waits, &mut late, &mut later] {
            client.turn_until("an IKE SA", |stats| stats.sa_established_current == 1);
        }
        assert_eq!(gateway.kernel.holds(), 4);
        let passed_over = gateway.stats().half_open_kernel;
        client(5).establish();
        assert_eq!(gateway.stats().half_open_kernel, passed_over);
        gateway.end();
    });
}

#[test]
fn a_mailbox_that_is_full_holds_up_new_handshakes_at_once() {
    alone(|| {
        let gateway = Gateway::new(1);
        let mut up = client(1);
        up.establish();
        gateway.kernel.set(Mood::Stuck);
        // One is what the kernel is at, one is in the mailbox, and one waits before it.
        let mut first: Vec<Client> = (2..5).map(client).collect();
        for client in &mut first {
            client.begin();
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(200) {
                client.turn();
            }
        }
        let mut late = client(5);
        late.begin();
        let asked = Instant::now();
        while asked.elapsed() < Duration::from_millis(200) {
            late.turn();
        }
        assert_eq!((late.got, gateway.stats().half_open_kernel), (0, 1));
        must_live(&mut up);
        gateway.kernel.set(Mood::Willing);
        for client in first.iter_mut().chain([&mut late]) {
            client.turn_until("an IKE SA", |stats| stats.sa_established_current == 1);
        }
        gateway.end();
    });
}

#[test]
fn a_kernel_that_refuses_leaves_each_peer_its_ike_sa_and_is_asked_again() {
    alone(|| {
        let gateway = Gateway::new(64);
        gateway.kernel.set(Mood::Refusing);
        let mut clients: Vec<Client> = (1..=20).map(client).collect();
        for client in &mut clients {
            client.establish();
        }
        let stats = gateway.stats();
        assert_eq!(stats.sa_established_current, 20);
        assert_eq!((stats.csa_created, gateway.kernel.holds()), (0, 0));
        assert!(stats.kernel_failures >= 20, "{stats:?}");
        gateway.kernel.set(Mood::Willing);
        client(21).establish();
        assert_eq!(gateway.kernel.holds(), 1);
        gateway.end();
    });
}

/// How long a shard may take for anything on a machine with much else to do; what waits for the kernel here
/// waits for ever.
const MOMENT: Duration = Duration::from_secs(5);
