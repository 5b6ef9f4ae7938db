//! The daemon's main thread: serves the control socket, passes commands to the shards, listens to
//! signals, and stops everything in order. It waits only in poll.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token, Waker};

use super::answer::{self, Form};
use super::connection::Connection;
use super::gather::Gather;
use super::imsg::{EVENTS, Frame, Kind, Reset};
use super::listener::Listener;
use super::query::{Query, What};
use super::signals::{self, Signal, Signals};
use crate::auth::store::CredentialStore;
use crate::ike::{Command, Level};
use crate::log;
use crate::mail::{self, ControlMail, Inbox, KernelMail, Mailbox, Outlet, ShardMail};
use crate::policy::{Config, IpNet};
use crate::steer::ShardId;

/// What only the daemon can do, because it knows the command line and the files.
pub trait Hooks: Send {
    /// Reads the configuration again, or the file at `path`. The error has one line per fault, and
    /// the configuration in use stays.
    fn reload(&mut self, path: Option<&Path>) -> Result<Arc<Config>, Vec<String>>;

    /// `ikectl log verbose|brief`.
    fn verbose(&mut self, verbose: bool);

    /// Reads keys and certificates again: after a reload, and for `ikectl reset ca`.
    fn credentials(&mut self) -> Arc<CredentialStore>;

    /// `ikectl reset policy|user|radius`: the configuration without them.
    fn forget(&mut self, what: Reset) -> Arc<Config>;

    /// `ikectl show certstore`: a line per certificate, and per list that was fetched.
    fn certificates(&self) -> Vec<String>;

    /// The revocation lists that were fetched are these from now on, a line for each.
    fn set_lists(&mut self, lines: Vec<String>);

    /// The daemon is about to end.
    fn stopping(&mut self);

    /// The lines for what the configuration answers; `leased` has the leased addresses of each pool,
    /// where those are asked for.
    fn show(&self, query: &Query, leased: &BTreeMap<IpNet, u64>) -> Result<Vec<String>, String>;
}

/// The server's end of its mailbox, made before the threads that write to it.
#[derive(Debug)]
pub struct Link {
    poll: Poll,
    inbox: Inbox<ControlMail>,
    waker: Arc<Waker>,
}

impl Link {
    /// The server's end, and the end for everybody else.
    pub fn open() -> io::Result<(Self, Mailbox<ControlMail>)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let (mailbox, inbox) = mail::mailbox(MAILBOX, Arc::clone(&waker));
        Ok((Self { poll, inbox, waker }, mailbox))
    }
}

/// What a server is made of.
pub struct ServerParts {
    /// Its mailbox.
    pub link: Link,
    /// The control socket.
    pub listener: Listener,
    /// The signals.
    pub signals: Signals,
    /// The mailboxes of all shards, in order.
    pub shards: Vec<Mailbox<ShardMail>>,
    /// The kernel thread's mailbox.
    pub kernel: Mailbox<KernelMail>,
    /// What only the daemon can do.
    pub hooks: Box<dyn Hooks>,
}

/// Why the server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// SIGTERM or SIGINT; all shards have ended, or had their time to.
    Stopped,
    /// This shard ended by itself; the others were stopped. Its share of the peers would get no
    /// answer, so the daemon must not go on as if nothing were.
    ShardLost(ShardId),
}

/// The control server.
pub struct Server {
    poll: Poll,
    inbox: Inbox<ControlMail>,
    /// Kept because a waker that is dropped takes its last ring with it, and the last shard to end
    /// drops its own right after.
    _waker: Arc<Waker>,
    listener: Option<Listener>,
    signals: Signals,
    shards: Vec<Outlet<ShardMail>>,
    alive: Vec<bool>,
    kernel: Outlet<KernelMail>,
    hooks: Box<dyn Hooks>,
    clients: BTreeMap<u64, Connection>,
    next_client: u64,
    gather: Gather<Asker>,
    accepting: bool,
    mail_left: bool,
    /// Clients who said more than one turn takes.
    unfinished: Vec<u64>,
    ending: Option<Ending>,
}

/// Who waits for an answer, and in which form.
#[derive(Debug)]
struct Asker {
    client: u64,
    form: Form,
}

impl Server {
    /// A server that has not begun yet; clients may connect and wait.
    pub fn new(parts: ServerParts) -> io::Result<Self> {
        let ServerParts {
            link: Link { poll, inbox, waker },
            mut listener,
            mut signals,
            ..
        } = parts;
        listener.register(poll.registry(), LISTEN)?;
        signals.register(poll.registry(), SIGNALS)?;
        let count = u8::try_from(parts.shards.len()).map_err(io::Error::other)?;
        Ok(Self {
            poll,
            inbox,
            _waker: waker,
            listener: Some(listener),
            signals,
            alive: vec![true; parts.shards.len()],
            shards: parts.shards.into_iter().map(Outlet::new).collect(),
            kernel: Outlet::new(parts.kernel),
            hooks: parts.hooks,
            clients: BTreeMap::new(),
            next_client: FIRST_CLIENT,
            gather: Gather::new(count),
            accepting: true,
            mail_left: false,
            unfinished: Vec::new(),
            ending: None,
        })
    }

    /// Serves until a signal or a lost shard ends it, then stops shards and kernel thread.
    pub fn run(mut self) -> io::Result<Ending> {
        let mut events = Events::with_capacity(64);
        loop {
            let ready = self.wait(&mut events, None)?;
            for signal in self.signals.pending() {
                self.signal(signal);
            }
            self.read_mail();
            if let Some(ending) = self.ending {
                self.stop(&mut events)?;
                return Ok(ending);
            }
            self.accept();
            for client in ready {
                self.serve(client);
            }
            self.flush_shards();
            self.answer();
            self.drop_stalled();
        }
    }

    /// Waits for something to do; returns the clients that have become ready.
    fn wait(&mut self, events: &mut Events, until: Option<Instant>) -> io::Result<Vec<u64>> {
        let timeout = self.timeout(now(), until);
        match self.poll.poll(events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Vec::new()),
            Err(error) => return Err(error),
        }
        let mut ready = std::mem::take(&mut self.unfinished);
        for event in events.iter() {
            let token = event.token().0 as u64;
            if event.token() == LISTEN {
                self.accepting = true;
            } else if let Some(connection) = self.clients.get_mut(&token) {
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    connection.set_readable();
                }
                ready.push(token);
            }
        }
        Ok(ready)
    }

    fn timeout(&self, now: Instant, until: Option<Instant>) -> Option<Duration> {
        if self.mail_left || !self.unfinished.is_empty() {
            return Some(Duration::ZERO);
        }
        let stalled = self
            .clients
            .values()
            .filter_map(Connection::give_up_at)
            .min();
        let waiting =
            self.kernel.waiting() + self.shards.iter().map(Outlet::waiting).sum::<usize>();
        let backlog = (waiting > 0).then(|| now + BACKLOG_RETRY);
        let accept = (self.accepting && self.listener.is_some()).then(|| now + ACCEPT_RETRY);
        let next = [until, self.gather.deadline(), stalled, backlog, accept];
        let next = next.into_iter().flatten().min()?;
        // Rounded up: a poll that returns a little early would turn again and again.
        Some(next.saturating_duration_since(now) + Duration::from_millis(1))
    }

    fn signal(&mut self, signal: Signal) {
        match signal {
            Signal::Reload => {
                log::write(Level::Info, "reload requested with SIGHUP");
                // The faults are in the log.
                let _ = self.reload(None);
            }
            Signal::Stop => {
                log::write(Level::Info, "terminating");
                self.ending.get_or_insert(Ending::Stopped);
            }
            Signal::Ignored => log::write(Level::Info, "SIGUSR1 ignored"),
        }
    }

    fn read_mail(&mut self) {
        let now = now();
        let (gather, alive, hooks) = (&mut self.gather, &mut self.alive, &mut self.hooks);
        let (mut lost, mut lines) = (None, Vec::new());
        self.mail_left = self.inbox.drain(MAIL_MAX, |mail| match mail {
            ControlMail::Reply { shard, id, reply } => gather.reply(now, shard, id, reply),
            ControlMail::Line(line) => lines.push(line),
            ControlMail::Ended(shard) => {
                gather.ended(shard);
                if let Some(alive) = alive.get_mut(usize::from(shard.0)) {
                    *alive = false;
                }
                lost = Some(shard);
            }
            ControlMail::Lists(lines) => hooks.set_lists(lines),
        });
        self.tell(&lines);
        if let (Some(shard), None) = (lost, self.ending) {
            log::write(
                Level::Warning,
                format!("lost shard {}, terminating", shard.0),
            );
            self.ending = Some(Ending::ShardLost(shard));
        }
    }

    fn accept(&mut self) {
        while let (true, Some(listener)) = (self.accepting, &self.listener) {
            match listener.accept() {
                // Too many: the new one sees its connection closed.
                Ok(_) if self.clients.len() >= CLIENTS_MAX => {}
                Ok(stream) => {
                    let id = self.next_client;
                    self.next_client += 1;
                    let mut connection = Connection::new(stream);
                    if connection
                        .register(self.poll.registry(), Token(id as usize))
                        .is_ok()
                    {
                        self.clients.insert(id, connection);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.accepting = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // Out of descriptors, most likely: tried again a little later.
                    log::write_noise(Level::Warning, format!("control socket: accept: {error}"));
                    return;
                }
            }
        }
    }

    /// Takes the client's requests and gives it what it waits for.
    fn serve(&mut self, client: u64) {
        for _ in 0..REQUESTS_MAX {
            let Some(connection) = self.clients.get_mut(&client) else {
                return;
            };
            let flushed = connection.flush(now());
            match flushed.and_then(|()| connection.next_request()) {
                Ok(Some(frame)) => self.request(client, &frame),
                Ok(None) if connection.is_finished() => return self.hang_up(client),
                Ok(None) => return,
                Err(error) => {
                    log::write(Level::Debug, format!("control client: {error}"));
                    return self.hang_up(client);
                }
            }
        }
        self.unfinished.push(client);
    }

    fn hang_up(&mut self, client: u64) {
        if let Some(mut connection) = self.clients.remove(&client) {
            // The descriptor is closed right after, which ends the registration in any case.
            let _ = connection.deregister(self.poll.registry());
            log::set_heard(self.clients.values().any(|connection| connection.listens));
        }
    }

    fn request(&mut self, client: u64, frame: &Frame) {
        self.copy_to_monitors(client, frame);
        match frame.kind {
            Kind::SHOW_SA => {
                let command = Command::ShowSa { json: false };
                self.ask(client, Form::Lines(frame.kind), &command);
            }
            Kind::SHOW_STATS | Kind::SHOW_STATS_7_2 | Kind::SHOW_STATS_OPENBSD => {
                self.ask(client, Form::Stats(frame.kind), &Command::ShowStats);
            }
            Kind::SHOW_COUNTERS => {
                self.ask(client, Form::Counters(frame.kind), &Command::ShowStats);
            }
            Kind::SHOW_CERTSTORE => {
                let lines = self.hooks.certificates();
                if let Some(connection) = self.clients.get_mut(&client) {
                    connection.send_lines(frame.kind, lines);
                }
            }
            Kind::SHOW => match Query::parse(&frame.text()) {
                Ok(query) => self.show(client, query),
                Err(reason) => self.done(client, Err(reason)),
            },
            Kind::NOTIFY => self.monitor(client, frame.text() == EVENTS),
            Kind::VERBOSE => match frame.number() {
                Some(verbose) => {
                    self.hooks.verbose(verbose != 0);
                    self.done(client, Ok(()));
                }
                None => self.done(client, Err("malformed request".to_owned())),
            },
            Kind::RELOAD => {
                let path = frame.text();
                let path = (!path.is_empty()).then(|| Path::new(&path));
                self.announce(client);
                let result = self.reload(path).map_err(|faults| faults.join("\n"));
                self.done(client, result);
            }
            Kind::RESET => self.reset(client, frame.number().and_then(Reset::from_number)),
            Kind::RESET_ID => {
                self.ask(client, Form::Done, &Command::ResetId(frame.text()));
            }
            Kind::REDIRECT => match frame.text().parse() {
                Ok(address) => self.ask(client, Form::Done, &Command::Redirect(address)),
                Err(_) => self.done(client, Err("redirect: not an address".to_owned())),
            },
            Kind::COUPLE => self.ask(client, Form::Done, &Command::Couple(true)),
            Kind::DECOUPLE => self.ask(client, Form::Done, &Command::Couple(false)),
            Kind::ACTIVE => self.ask(client, Form::Done, &Command::Active(true)),
            Kind::PASSIVE => self.ask(client, Form::Done, &Command::Active(false)),
            unknown => {
                log::write(
                    Level::Debug,
                    format!("control request {unknown:?} is unknown"),
                );
            }
        }
    }

    /// Answers what OpenIKED's client cannot ask.
    fn show(&mut self, client: u64, query: Query) {
        let json = query.json;
        match query.what {
            What::Sa => self.ask(client, Form::Lines(Kind::SHOW), &Command::ShowSa { json }),
            What::Stats if json => self.ask(client, Form::CountersJson, &Command::ShowStats),
            What::Stats => self.ask(client, Form::Counters(Kind::SHOW), &Command::ShowStats),
            What::Pool => self.ask(client, Form::Pools { json }, &Command::ShowPools),
            What::Certstore | What::Policy | What::Explain { .. } => {
                let lines = self.hooks.show(&query, &BTreeMap::new());
                if let Some(connection) = self.clients.get_mut(&client) {
                    answer::send_shown(connection, lines);
                }
            }
        }
    }

    fn copy_to_monitors(&mut self, client: u64, frame: &Frame) {
        let mut gone = Vec::new();
        for (&id, connection) in &mut self.clients {
            if !connection.monitor || id == client {
                continue;
            }
            let sent = connection
                .send_copy(frame)
                .and_then(|()| connection.flush(now()));
            if sent.is_err() {
                gone.push(id);
            }
        }
        for id in gone {
            self.hang_up(id);
        }
    }

    /// Passes lines of the log to whoever listens.
    fn tell(&mut self, lines: &[String]) {
        if lines.is_empty() {
            return;
        }
        let mut gone = Vec::new();
        for (&id, connection) in self.clients.iter_mut().filter(|(_, c)| c.listens) {
            for line in lines {
                connection.tell(line);
            }
            if connection.flush(now()).is_err() {
                gone.push(id);
            }
        }
        for id in gone {
            self.hang_up(id);
        }
    }

    fn monitor(&mut self, client: u64, events: bool) {
        let Some(connection) = self.clients.get_mut(&client) else {
            return;
        };
        if connection.monitor {
            connection.send(Kind::FAIL, Vec::new());
        }
        connection.monitor = true;
        if events {
            connection.listens = true;
            log::set_heard(true);
        }
    }

    fn reset(&mut self, client: u64, what: Option<Reset>) {
        match what {
            Some(Reset::All) => self.ask(client, Form::Done, &Command::ResetAll),
            Some(Reset::Sa) => self.ask(client, Form::Done, &Command::ResetSa),
            Some(Reset::Ca) => {
                self.accredit();
                self.done(client, Ok(()));
            }
            Some(what @ (Reset::Policy | Reset::User | Reset::Radius)) => {
                let config = self.hooks.forget(what);
                self.configure(&config);
                self.done(client, Ok(()));
            }
            None => self.done(client, Err("malformed request".to_owned())),
        }
    }

    /// Tells a client at once that its answer may take some seconds.
    fn announce(&mut self, client: u64) {
        if let Some(connection) = self.clients.get_mut(&client) {
            connection.send(Kind::WAIT, Vec::new());
            // One that is gone is found out when its answer is written.
            let _ = connection.flush(now());
        }
    }

    fn reload(&mut self, path: Option<&Path>) -> Result<(), Vec<String>> {
        match self.hooks.reload(path) {
            Ok(config) => {
                self.configure(&config);
                self.accredit();
                log::write(Level::Info, "configuration reloaded");
                Ok(())
            }
            Err(faults) => {
                for fault in &faults {
                    log::write(Level::Warning, fault);
                }
                log::write(Level::Warning, "reload failed, the old configuration stays");
                Err(faults)
            }
        }
    }

    fn configure(&mut self, config: &Arc<Config>) {
        for shard in &mut self.shards {
            shard.send(ShardMail::Config(Arc::clone(config)));
        }
    }

    fn accredit(&mut self) {
        let store = self.hooks.credentials();
        for shard in &mut self.shards {
            shard.send(ShardMail::Credentials(Arc::clone(&store)));
        }
    }

    /// Puts a command to all shards on behalf of a client.
    fn ask(&mut self, client: u64, form: Form, command: &Command) {
        let waiting = self.shards.iter().map(Outlet::waiting).max();
        if waiting > Some(BACKLOG_MAX) {
            return self.done(client, Err("the shards are busy".to_owned()));
        }
        let Some(connection) = self.clients.get_mut(&client) else {
            return;
        };
        connection.asking = true;
        let id = self.gather.ask(now(), Asker { client, form });
        for shard in &mut self.shards {
            shard.send(ShardMail::Command {
                id,
                command: command.clone(),
            });
        }
    }

    fn flush_shards(&mut self) {
        for shard in &mut self.shards {
            shard.flush();
        }
    }

    /// Passes on the answers that are whole.
    fn answer(&mut self) {
        while let Some((asker, answer)) = self.gather.take(now()) {
            if let Some(complaint) = answer.complaint() {
                log::write(Level::Warning, &complaint);
            }
            let Some(connection) = self.clients.get_mut(&asker.client) else {
                continue;
            };
            connection.asking = false;
            if let Form::Pools { json } = asker.form {
                let what = What::Pool;
                let lines = self.hooks.show(&Query { json, what }, &answer.pools);
                answer::send_shown(connection, lines);
            }
            answer::give(connection, asker.form, answer);
            if let Form::Stats(Kind::SHOW_STATS) = asker.form {
                connection.send_lines(Kind::SHOW_STATS, self.hooks.certificates());
            }
            self.serve(asker.client);
        }
    }

    fn done(&mut self, client: u64, result: Result<(), String>) {
        if let Some(connection) = self.clients.get_mut(&client) {
            answer::send_result(connection, result);
        }
    }

    fn drop_stalled(&mut self) {
        let now = now();
        let stalled = |connection: &Connection| connection.give_up_at().is_some_and(|at| at <= now);
        let gone: Vec<u64> = self
            .clients
            .iter()
            .filter(|(_, connection)| stalled(connection))
            .map(|(&id, _)| id)
            .collect();
        for id in gone {
            log::write(Level::Warning, "control client takes nothing, dropped");
            self.hang_up(id);
        }
    }

    /// Tells the shards to end and waits for them, then tells the kernel thread to clean up.
    fn stop(&mut self, events: &mut Events) -> io::Result<()> {
        self.hooks.stopping();
        self.listener = None;
        self.clients.clear();
        let until = now() + STOP_WITHIN;
        for shard in &mut self.shards {
            // Nobody takes the answer to this id: that the shard ended is the answer.
            shard.send(ShardMail::Command {
                id: 0,
                command: Command::Shutdown,
            });
        }
        while self.alive.contains(&true) && now() < until {
            self.wait(events, Some(until))?;
            self.read_mail();
            self.flush_shards();
            while self.gather.take(now()).is_some() {}
        }
        for (shard, _) in self.alive.iter().enumerate().filter(|(_, alive)| **alive) {
            log::write(Level::Warning, format!("shard {shard} did not end in time"));
        }
        self.kernel.send(KernelMail::Shutdown);
        let until = now() + STOP_WITHIN;
        while self.kernel.flush() && now() < until {
            self.wait(events, Some(until))?;
        }
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "the shell owns the clock")]
fn now() -> Instant {
    Instant::now()
}

const WAKE: Token = Token(0);
const LISTEN: Token = Token(1);
const SIGNALS: Token = Token(2);
/// Tokens of clients are their ids, which are never used again.
const FIRST_CLIENT: u64 = (SIGNALS.0 + signals::TOKENS) as u64;

/// Clients at a time; operators and a monitoring system need a handful.
const CLIENTS_MAX: usize = 64;
/// Mail that may wait for this thread: a few chunks of text of every shard.
const MAILBOX: usize = 4096;
/// Mail taken in one turn, so that clients and signals get theirs.
const MAIL_MAX: usize = 1024;
/// Requests of one client taken in one turn, for the same reason.
const REQUESTS_MAX: usize = 64;
/// Commands that may wait in front of a shard's full mailbox.
const BACKLOG_MAX: usize = 64;
/// How soon a full mailbox is tried again.
const BACKLOG_RETRY: Duration = Duration::from_millis(5);
/// How soon a failed accept is tried again.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// How long shards and kernel thread may take to end.
const STOP_WITHIN: Duration = Duration::from_secs(3);
