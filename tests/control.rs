//! The control socket from both ends: our client and hand-made frames on one side, the server in
//! the middle, shards that say what a test wants on the other.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_in_result,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test stops at the first thing that is not as it should be"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::{Poll, Token, Waker};
use signal_hook::consts::{SIGHUP, SIGTERM, SIGUSR1};
use signal_hook::low_level::raise;

use iked::auth::store::CredentialStore;
use iked::control::client;
use iked::control::grammar::Request;
use iked::control::imsg::{Frame, Kind, Reset};
use iked::control::listener::Listener;
use iked::control::query::{Query, What};
use iked::control::server::{Ending, Hooks, Link, Server, ServerParts};
use iked::control::signals::Signals;
use iked::ike::{Command, Reply, Stats};
use iked::mail::{ControlMail, Inbox, KernelMail, Mailbox, ShardMail, mailbox};
use iked::policy::{Config, Generation, IpNet};
use iked::steer::ShardId;

#[test]
fn show_sa_has_the_lines_of_all_shards_in_order() {
    let daemon = Daemon::start(3, |shard, command| {
        assert_eq!(*command, Command::ShowSa { json: false });
        thread::sleep(Duration::from_millis(u64::from(10 * (3 - shard))));
        vec![
            text(
                &[format!("iked_sas: {shard}a"), "  sa_childsas: x".to_owned()],
                true,
            ),
            text(&[format!("iked_sas: {shard}b")], false),
        ]
    });
    let mut expected = String::new();
    for shard in 0..3 {
        let _ = write!(
            expected,
            "iked_sas: {shard}a\n  sa_childsas: x\niked_sas: {shard}b\n"
        );
    }
    assert_eq!(daemon.ask(&Request::ShowSa).unwrap(), expected);
    daemon.stop();
}

#[test]
fn show_stats_prints_the_sum_in_the_words_of_openiked() {
    let daemon = Daemon::start(2, |shard, _| {
        let stats = Stats {
            sa_created: 1,
            msg_rcvd_busy: 1 - u64::from(shard),
            msg_rcvd_dropped: 7,
            cookies_sent: 3,
            ..Stats::default()
        };
        vec![Reply::Stats(Box::new(stats))]
    });
    let quiet = daemon.ask_quietly(&Request::ShowStats).unwrap();
    let expected = "ike:\n\t2 IKE SAs created\n\t14 messages dropped\n\
                    \t1 request dropped, response being worked on\n\t6 cookies_sent\n";
    assert_eq!(quiet, expected);
    let all = daemon.ask(&Request::ShowStats).unwrap();
    assert!(all.contains("\t0 keepalive messages sent\n"), "{all}");
    assert!(all.contains("\t0 shards_missing\n"), "{all}");
    daemon.stop();
}

#[test]
fn a_silent_shard_is_named_and_the_others_are_shown() {
    let daemon = Daemon::start(3, |shard, command| match (shard, command) {
        (1, _) => vec![],
        (_, Command::ShowSa { json: false }) => vec![text(&[format!("iked_sas: {shard}")], false)],
        _ => vec![Reply::Done { count: 0 }],
    });
    let shown = daemon.ask(&Request::ShowSa).unwrap();
    assert_eq!(
        shown,
        "iked_sas: 0\niked_sas: 2\niked: no answer from shard 1\n"
    );
    let error = daemon.ask(&Request::Couple).unwrap_err();
    assert_eq!(error, "no answer from shard 1");
    daemon.stop();
}

#[test]
fn commands_reach_every_shard() {
    let daemon = Daemon::start(2, |_, _| vec![Reply::Done { count: 0 }]);
    let requests = [
        (Request::Active, Command::Active(true)),
        (Request::Passive, Command::Active(false)),
        (Request::Couple, Command::Couple(true)),
        (Request::Decouple, Command::Couple(false)),
        (Request::Reset(Reset::All), Command::ResetAll),
        (Request::Reset(Reset::Sa), Command::ResetSa),
        (
            Request::ResetId("FQDN/a.b".to_owned()),
            Command::ResetId("FQDN/a.b".to_owned()),
        ),
        (
            Request::Redirect("2001:db8::9".to_owned()),
            Command::Redirect("2001:db8::9".parse().unwrap()),
        ),
    ];
    for (request, command) in requests {
        let said = daemon.ask(&request).unwrap();
        let expected = if matches!(request, Request::Reset(_)) {
            "reset request sent.\n"
        } else {
            ""
        };
        assert_eq!(said, expected);
        assert_eq!(
            daemon.take_seen(),
            [format!("{command:?}"), format!("{command:?}")]
        );
    }
    daemon.stop();
}

#[test]
fn leases_of_all_shards_are_summed_by_pool() {
    let daemon = Daemon::start(2, |shard, command| {
        assert_eq!(*command, Command::ShowPools);
        let net = |addr: [u8; 4]| IpNet {
            addr: addr.into(),
            len: 24,
        };
        let own = (net([10, 0, shard, 0]), 1);
        vec![Reply::Pools(vec![
            (net([10, 9, 9, 0]), 20 + u64::from(shard)),
            own,
        ])]
    });
    let said = daemon.ask(&Request::Show(What::Pool)).unwrap();
    assert_eq!(said, "10.0.0.0/24 1\n10.0.1.0/24 1\n10.9.9.0/24 41\n");
    let refused = daemon.ask(&Request::Show(What::Policy)).unwrap_err();
    assert_eq!(refused, "not here");
    daemon.stop();
}

#[test]
fn what_only_the_daemon_can_do_goes_to_its_hooks() {
    let daemon = Daemon::start(1, |_, _| vec![]);
    assert_eq!(
        daemon.ask(&Request::Log { verbose: true }).unwrap(),
        "logging request sent.\n"
    );
    assert_eq!(daemon.ask(&Request::ShowCertstore).unwrap(), "CA: /CN=x\n");
    assert_eq!(
        daemon.ask(&Request::Reset(Reset::User)).unwrap(),
        "reset request sent.\n"
    );
    assert_eq!(
        daemon.ask(&Request::Reset(Reset::Radius)).unwrap(),
        "reset request sent.\n"
    );
    assert_eq!(
        daemon.ask(&Request::Reset(Reset::Ca)).unwrap(),
        "reset request sent.\n"
    );
    assert_eq!(
        daemon.take_seen(),
        [
            "config 100",
            "config 100",
            "credentials",
            "credentials read",
            "forget Radius",
            "forget User",
            "verbose true"
        ]
    );
    daemon.stop();
}

#[test]
fn reload_gives_every_shard_the_new_configuration_and_a_faulty_one_changes_nothing() {
    let daemon = Daemon::start(2, |_, _| vec![]);
    assert_eq!(daemon.ask(&Request::Reload).unwrap(), "");
    let news = ["credentials", "credentials", "credentials read"];
    assert_eq!(
        daemon.take_seen(),
        [&["config 1"; 2][..], &news, &["reload None"]].concat()
    );
    assert_eq!(
        daemon
            .ask(&Request::Load("/etc/other.conf".to_owned()))
            .unwrap(),
        ""
    );
    assert_eq!(
        daemon.take_seen(),
        [
            &["config 2"; 2][..],
            &news,
            &["reload Some(\"/etc/other.conf\")"]
        ]
        .concat()
    );
    let error = daemon
        .ask(&Request::Load("/faulty".to_owned()))
        .unwrap_err();
    assert_eq!(error, "/faulty: 1: syntax error\n/faulty: 2: no such word");
    assert_eq!(daemon.take_seen(), ["reload Some(\"/faulty\")"]);
    daemon.stop();
}

#[test]
fn statistics_answer_to_the_number_of_every_version() {
    let daemon = Daemon::start(1, |_, _| {
        let stats = Stats {
            sa_created: 1,
            keepalive_sent: 26,
            half_open: 99,
            ..Stats::default()
        };
        vec![Reply::Stats(Box::new(stats))]
    });
    for kind in [39, 40, 45] {
        let mut raw = Raw::connect(&daemon.socket);
        raw.send(Kind(kind), &[]);
        let frame = raw.receive();
        assert_eq!(frame.kind, Kind(kind));
        assert_eq!(frame.payload.len(), 208);
        assert_eq!(frame.payload[..8], 1u64.to_ne_bytes());
        assert_eq!(frame.payload[200..], 26u64.to_ne_bytes());
    }
    daemon.stop();
}

#[test]
fn text_is_terminated_and_the_end_is_an_empty_frame() {
    let daemon = Daemon::start(1, |_, _| vec![text(&["iked_sas: 0x0".to_owned()], false)]);
    let mut raw = Raw::connect(&daemon.socket);
    raw.send(Kind::SHOW_SA, &[]);
    assert_eq!(raw.receive().payload, b"iked_sas: 0x0\n\0");
    let end = raw.receive();
    assert_eq!((end.kind, end.payload.len()), (Kind::SHOW_SA, 0));
    daemon.stop();
}

#[test]
fn a_command_counts_even_if_its_client_hangs_up_at_once() {
    let daemon = Daemon::start(2, |_, _| vec![Reply::Done { count: 1 }]);
    let mut raw = Raw::connect(&daemon.socket);
    raw.send(Kind::RESET, &Reset::All.number().to_ne_bytes());
    drop(raw);
    wait_for(|| daemon.seen.lock().unwrap().len() == 2);
    assert_eq!(daemon.take_seen(), ["ResetAll", "ResetAll"]);
    daemon.stop();
}

#[test]
fn requests_of_one_client_are_answered_in_their_order() {
    let daemon = Daemon::start(1, |_, command| match command {
        Command::ShowSa { .. } => vec![text(&["iked_sas: 1".to_owned()], false)],
        _ => vec![Reply::Done { count: 1 }],
    });
    let mut raw = Raw::connect(&daemon.socket);
    for kind in [
        Kind::SHOW_SA,
        Kind(777),
        Kind::COUPLE,
        Kind::VERBOSE,
        Kind::SHOW_SA,
    ] {
        raw.send(kind, &[]);
    }
    raw.stream.shutdown(std::net::Shutdown::Write).unwrap();
    let kinds: Vec<Kind> = (0..6).map(|_| raw.receive().kind).collect();
    // The unknown one is passed over; the malformed VERBOSE is refused.
    let expected = [
        Kind::SHOW_SA,
        Kind::SHOW_SA,
        Kind::OK,
        Kind::FAIL,
        Kind::SHOW_SA,
        Kind::SHOW_SA,
    ];
    assert_eq!(kinds, expected);
    assert!(raw.is_closed(), "the server hangs up after the last answer");
    daemon.stop();
}

#[test]
fn a_flood_of_requests_is_answered_to_the_last() {
    let daemon = Daemon::start(1, |_, _| vec![]);
    let mut raw = Raw::connect(&daemon.socket);
    for _ in 0..500 {
        raw.send(Kind::VERBOSE, &1i32.to_ne_bytes());
    }
    for _ in 0..500 {
        assert_eq!(raw.receive().kind, Kind::OK);
    }
    daemon.stop();
}

#[test]
fn a_monitor_sees_what_others_ask_and_a_second_notify_is_refused() {
    let daemon = Daemon::start(1, |_, _| vec![Reply::Done { count: 0 }]);
    let mut monitor = Raw::connect(&daemon.socket);
    monitor.send(Kind::NOTIFY, &[]);
    monitor.send(Kind::NOTIFY, &[]);
    assert_eq!(monitor.receive().kind, Kind::FAIL);
    daemon.ask(&Request::ResetId("FQDN/x".to_owned())).unwrap();
    let copy = monitor.receive();
    assert_eq!(
        (copy.kind, copy.text()),
        (Kind::RESET_ID, "FQDN/x".to_owned())
    );
    daemon.stop();
}

#[test]
fn a_client_that_does_not_read_delays_nobody() {
    let daemon = Daemon::start(1, |_, command| match command {
        Command::ShowSa { .. } => {
            let lines: Vec<String> = (0..20_000)
                .map(|at| format!("iked_sas: {at:0200}"))
                .collect();
            vec![text(&lines, false)]
        }
        _ => vec![Reply::Done { count: 0 }],
    });
    let mut slow = Raw::connect(&daemon.socket);
    slow.send(Kind::SHOW_SA, &[]);
    wait_for(|| !daemon.seen.lock().unwrap().is_empty());
    for _ in 0..20 {
        daemon.ask(&Request::Couple).unwrap();
    }
    let mut count = 0;
    while !slow.receive().payload.is_empty() {
        count += 1;
    }
    assert_eq!(count, 20_000, "nothing is lost for who reads late");
    daemon.stop();
}

#[test]
fn bytes_that_are_no_frame_cost_only_their_own_connection() {
    let daemon = Daemon::start(1, |_, _| vec![Reply::Done { count: 0 }]);
    for bytes in [&[0xff; 64][..], &[0; 16], b"GET / HTTP/1.0\r\n\r\n"] {
        let mut raw = Raw::connect(&daemon.socket);
        raw.stream.write_all(bytes).unwrap();
        assert!(raw.is_closed());
    }
    // Idle and half-said requests stay open and disturb nobody.
    let _idle: Vec<Raw> = (0..10).map(|_| Raw::connect(&daemon.socket)).collect();
    let mut half = Raw::connect(&daemon.socket);
    half.stream.write_all(&[5, 0, 0]).unwrap();
    daemon.ask(&Request::Couple).unwrap();
    daemon.stop();
}

#[test]
fn more_clients_than_served_are_turned_away_and_places_become_free() {
    let daemon = Daemon::start(1, |_, _| vec![Reply::Done { count: 0 }]);
    let crowd: Vec<Raw> = (0..64).map(|_| Raw::connect(&daemon.socket)).collect();
    assert!(Raw::connect(&daemon.socket).is_closed());
    drop(crowd);
    wait_for(|| {
        daemon.take_seen();
        let _ = daemon.ask(&Request::Couple);
        !daemon.take_seen().is_empty()
    });
    daemon.stop();
}

#[test]
fn hangup_reloads_and_user_signal_does_nothing() {
    let daemon = Daemon::start(1, |_, _| vec![]);
    raise(SIGUSR1).unwrap();
    raise(SIGHUP).unwrap();
    wait_for(|| daemon.seen.lock().unwrap().len() == 4);
    let news = ["config 1", "credentials", "credentials read", "reload None"];
    assert_eq!(daemon.take_seen(), news);
    daemon.stop();
}

#[test]
fn terminate_stops_shards_then_kernel_and_removes_the_socket() {
    let daemon = Daemon::start(3, |_, _| vec![]);
    let seen = Arc::clone(&daemon.seen);
    let socket = daemon.socket.clone();
    assert_eq!(daemon.stop(), Ending::Stopped);
    let seen = seen.lock().unwrap();
    let order = ["stopping", "Shutdown", "Shutdown", "Shutdown", "kernel"];
    assert_eq!(*seen, order);
    assert!(!socket.exists());
}

#[test]
fn a_shard_that_ends_by_itself_takes_the_daemon_down() {
    let mut daemon = Daemon::start(3, |shard, command| {
        assert!(
            shard != 2 || *command == Command::Shutdown,
            "a fault of shard 2"
        );
        vec![Reply::Done { count: 0 }]
    });
    let _ = daemon.ask(&Request::Couple);
    let ending = daemon.server.take().unwrap().join().unwrap();
    assert_eq!(ending, Ending::ShardLost(ShardId(2)));
    wait_for(|| daemon.seen.lock().unwrap().contains(&"kernel".to_owned()));
    daemon.ended.store(true, Ordering::Relaxed);
}

#[test]
fn the_program_speaks_like_ikectl() {
    let daemon = Daemon::start(1, |_, command| match command {
        Command::ShowSa { .. } => vec![text(&["iked_sas: 1".to_owned()], false)],
        _ => vec![Reply::Done { count: 0 }],
    });
    let socket = daemon.socket.to_str().unwrap().to_owned();
    let shown = ikectl(&["-s", &socket, "show", "sa"]);
    assert_eq!(
        (stdout(&shown), shown.status.code()),
        ("iked_sas: 1\n".to_owned(), Some(0))
    );
    let shown = ikectl(&[&format!("-qs{socket}"), "res", "sa"]);
    assert_eq!(stdout(&shown), "reset request sent.\n");
    let refused = ikectl(&["-s", &socket, "load", "/faulty"]);
    let expected = "ikectl: /faulty: 1: syntax error\n/faulty: 2: no such word\n";
    assert_eq!(
        (stderr(&refused), refused.status.code()),
        (expected.to_owned(), Some(1))
    );
    daemon.stop();
    let absent = ikectl(&["-s", &socket, "show", "sa"]);
    let expected = format!("ikectl: connect: {socket}: No such file or directory\n");
    assert_eq!((stderr(&absent), absent.status.code()), (expected, Some(1)));
    let unknown = ikectl(&["log", "x"]);
    let expected = "unknown argument: x\nvalid commands/args:\n  verbose\n  brief\n";
    assert_eq!(
        (stderr(&unknown), unknown.status.code()),
        (expected.to_owned(), Some(1))
    );
    let usage = ikectl(&["-x"]);
    let expected = "usage: ikectl [-q] [--json] [-s socket] [--ssl-dir dir] command [arg ...]\n";
    assert_eq!(
        (stderr(&usage), usage.status.code()),
        (expected.to_owned(), Some(1))
    );
}

fn ikectl(arguments: &[&str]) -> Output {
    Process::new(env!("CARGO_BIN_EXE_ikectl"))
        .args(arguments)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn text(lines: &[String], more: bool) -> Reply {
    Reply::Text {
        lines: lines.to_vec(),
        more,
    }
}

fn wait_for(mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < until, "waited in vain");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A client that speaks frames by hand.
struct Raw {
    stream: UnixStream,
    input: Vec<u8>,
}

impl Raw {
    fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        Self {
            stream,
            input: Vec::new(),
        }
    }

    fn send(&mut self, kind: Kind, payload: &[u8]) {
        let mut bytes = Vec::new();
        Frame::new(kind, 0, payload.to_vec()).encode(&mut bytes);
        self.stream.write_all(&bytes).unwrap();
    }

    fn receive(&mut self) -> Frame {
        loop {
            if let Some((frame, length)) = Frame::decode(&self.input).unwrap() {
                self.input.drain(..length);
                return frame;
            }
            let mut buffer = [0; 4096];
            let count = self.stream.read(&mut buffer).unwrap();
            assert_ne!(count, 0, "closed");
            self.input.extend(&buffer[..count]);
        }
    }

    fn is_closed(&mut self) -> bool {
        match self.stream.read(&mut [0; 16]) {
            Ok(count) => count == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

/// A server with shards whose answers the test chooses. One at a time in this process, because
/// they all hear its signals.
struct Daemon {
    socket: PathBuf,
    server: Option<JoinHandle<Ending>>,
    /// What shards, hooks and kernel thread were told.
    seen: Arc<Mutex<Vec<String>>>,
    ended: Arc<AtomicBool>,
    _dir: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

impl Daemon {
    fn start(shards: u8, answers: fn(u8, &Command) -> Vec<Reply>) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("iked.sock");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let ended = Arc::new(AtomicBool::new(false));
        let (link, control) = Link::open().unwrap();
        let mailboxes = (0..shards).map(|shard| {
            let (mailbox, inbox) = open();
            let (control, seen, ended) = (control.clone(), Arc::clone(&seen), Arc::clone(&ended));
            thread::spawn(move || run_shard(shard, &inbox, &control, &seen, &ended, answers));
            mailbox
        });
        let mailboxes = mailboxes.collect();
        let (kernel, kernel_inbox) = open();
        let (kernel_seen, kernel_ended) = (Arc::clone(&seen), Arc::clone(&ended));
        thread::spawn(move || run_kernel(&kernel_inbox, &kernel_seen, &kernel_ended));
        let parts = ServerParts {
            link,
            listener: Listener::bind(&socket).unwrap(),
            signals: Signals::take().unwrap(),
            shards: mailboxes,
            kernel,
            hooks: Box::new(TestHooks {
                seen: Arc::clone(&seen),
                loads: 0,
            }),
        };
        let server = Server::new(parts).unwrap();
        let server = thread::spawn(move || server.run().unwrap());
        Self {
            socket,
            server: Some(server),
            seen,
            ended,
            _dir: dir,
            _alone: alone,
        }
    }

    fn ask(&self, request: &Request) -> Result<String, String> {
        self.run(false, request)
    }

    fn ask_quietly(&self, request: &Request) -> Result<String, String> {
        self.run(true, request)
    }

    fn run(&self, quiet: bool, request: &Request) -> Result<String, String> {
        let mut out = Vec::new();
        match client::run(&self.socket, quiet, request, &mut out) {
            Ok(()) => Ok(String::from_utf8(out).unwrap()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// What was told since last asked, sorted, once nothing more comes.
    fn take_seen(&self) -> Vec<String> {
        let mut count = usize::MAX;
        wait_for(|| {
            thread::sleep(Duration::from_millis(10));
            let now = self.seen.lock().unwrap().len();
            std::mem::replace(&mut count, now) == now
        });
        let mut seen = std::mem::take(&mut *self.seen.lock().unwrap());
        seen.sort();
        seen
    }

    fn stop(mut self) -> Ending {
        let asked = Instant::now();
        raise(SIGTERM).unwrap();
        let ending = self.server.take().unwrap().join().unwrap();
        wait_for(|| self.seen.lock().unwrap().contains(&"kernel".to_owned()));
        self.ended.store(true, Ordering::Relaxed);
        assert!(asked.elapsed() < Duration::from_secs(2), "a ring got lost");
        ending
    }
}

fn open<T>() -> (Mailbox<T>, Inbox<T>) {
    // Nobody polls: the stand-ins look again and again.
    let poll = Poll::new().unwrap();
    mailbox(
        1024,
        Arc::new(Waker::new(poll.registry(), Token(0)).unwrap()),
    )
}

fn run_shard(
    shard: u8,
    inbox: &Inbox<ShardMail>,
    control: &Mailbox<ControlMail>,
    seen: &Mutex<Vec<String>>,
    ended: &AtomicBool,
    answers: fn(u8, &Command) -> Vec<Reply>,
) {
    let id = ShardId(shard);
    let mut stop = false;
    while !stop && !ended.load(Ordering::Relaxed) {
        inbox.drain(64, |mail| match mail {
            ShardMail::Command {
                command: Command::Shutdown,
                ..
            } => {
                seen.lock().unwrap().push("Shutdown".to_owned());
                stop = true;
            }
            ShardMail::Command {
                id: request,
                command,
            } => {
                seen.lock().unwrap().push(format!("{command:?}"));
                match std::panic::catch_unwind(|| answers(shard, &command)) {
                    Ok(replies) => {
                        for reply in replies {
                            let mail = ControlMail::Reply {
                                shard: id,
                                id: request,
                                reply,
                            };
                            control.try_send(mail).unwrap();
                        }
                    }
                    Err(_) => stop = true,
                }
            }
            ShardMail::Config(config) => {
                seen.lock()
                    .unwrap()
                    .push(format!("config {}", config.generation.0));
            }
            ShardMail::Credentials(_) => seen.lock().unwrap().push("credentials".to_owned()),
            other => panic!("the server does not send {other:?}"),
        });
        thread::sleep(Duration::from_millis(1));
    }
    let _ = control.try_send(ControlMail::Ended(id));
}

fn run_kernel(inbox: &Inbox<KernelMail>, seen: &Mutex<Vec<String>>, ended: &AtomicBool) {
    while !ended.load(Ordering::Relaxed) {
        inbox.drain(64, |mail| {
            assert!(matches!(mail, KernelMail::Shutdown));
            seen.lock().unwrap().push("kernel".to_owned());
        });
        thread::sleep(Duration::from_millis(1));
    }
}

struct TestHooks {
    seen: Arc<Mutex<Vec<String>>>,
    loads: u64,
}

impl TestHooks {
    fn note(&self, what: String) {
        self.seen.lock().unwrap().push(what);
    }
}

impl Hooks for TestHooks {
    fn stopping(&mut self) {
        self.note("stopping".to_owned());
    }

    fn show(&self, query: &Query, leased: &BTreeMap<IpNet, u64>) -> Result<Vec<String>, String> {
        match query.what {
            What::Pool => Ok(leased
                .iter()
                .map(|(net, count)| format!("{net} {count}"))
                .collect()),
            _ => Err("not here".to_owned()),
        }
    }

    fn reload(&mut self, path: Option<&Path>) -> Result<Arc<Config>, Vec<String>> {
        self.note(format!("reload {path:?}"));
        if path == Some(Path::new("/faulty")) {
            let faults = ["/faulty: 1: syntax error", "/faulty: 2: no such word"];
            return Err(faults.map(str::to_owned).to_vec());
        }
        self.loads += 1;
        Ok(Arc::new(Config {
            generation: Generation(self.loads),
            ..Config::default()
        }))
    }

    fn verbose(&mut self, verbose: bool) {
        self.note(format!("verbose {verbose}"));
    }

    fn credentials(&mut self) -> Arc<CredentialStore> {
        self.note("credentials read".to_owned());
        Arc::default()
    }

    fn forget(&mut self, what: Reset) -> Arc<Config> {
        self.note(format!("forget {what:?}"));
        Arc::new(Config {
            generation: Generation(100),
            ..Config::default()
        })
    }

    fn certificates(&self) -> Vec<String> {
        vec!["CA: /CN=x".to_owned()]
    }

    fn set_lists(&mut self, lines: Vec<String>) {
        self.note(format!("lists {lines:?}"));
    }
}
