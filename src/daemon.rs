//! Start-up order, threads and shutdown: the only file that knows all of them.
//!
//! Everything that can fail fails before the first thread starts: configuration, credentials, the
//! kernel's abilities, sockets, the control socket. Then the kernel thread, the lookup thread, the
//! shards in order, and the control loop in the main thread.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use mio::{Poll, Waker};
use sd_notify::NotifyState;

use crate::auth::store::CredentialStore;
use crate::config::{self, Environment, SystemFiles, SystemResolver};
use crate::control::imsg::Reset;
use crate::control::listener::Listener;
use crate::control::query::Query;
use crate::control::server::{Ending, Hooks, Link, Server, ServerParts};
use crate::control::signals::Signals;
use crate::crypto::{Rng, boring};
use crate::ike::{Endpoint, EndpointParts, Level};
use crate::kernel::Backend;
use crate::log;
use crate::lookup::{self, LookupParts};
use crate::mail::{self, ControlMail, Inbox, KernelMail, LookupMail, Mailbox, ShardMail};
use crate::pfkey::PfKey;
use crate::policy::{Config, Generation, IfId, IpNet, KernelWay, Options};
use crate::route::{self, Watch};
use crate::sadb::host::{Host, Interfaces};
use crate::sadb::{self, SadbParts, Ways};
use crate::shard::socket::{self, Ports, ShardSocket, WILDCARDS};
use crate::shard::{self, ShardParts, spawn};
use crate::steer::{SHARDS_MAX, ShardId, Steering};
use crate::sys::process;
use crate::time::Now;
use crate::xfrm::{self, Xfrm};

pub mod args;
mod inherited;
mod report;

use args::Args;

/// Runs the daemon to its end. The error is what to print before exiting with 1.
pub fn run(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Result<(), String> {
    let args = Args::read(arguments)?;
    if args.version {
        note(&format!(
            "iked {} (OpenIKED compatible)",
            env!("CARGO_PKG_VERSION")
        ));
        return Ok(());
    }
    if args.six {
        note("iked: the -6 option is ignored and will be removed in the future");
    }
    let mut loader = Loader::new(&args);
    let config = loader.load(None).map_err(|lines| lines.join("\n"))?;
    for warning in &loader.warnings {
        note(warning);
    }
    if args.verbose > 0 {
        // Keys and passwords are for root's eyes, and only if it asks for them.
        let secrets = args.verbose > 1 && args.check && process::effective_user() == 0;
        note(config::print(&config, secrets).trim_end());
    }
    if args.check {
        note("configuration OK");
        return Ok(());
    }
    start(args, loader, config).map_err(|message| format!("iked: {message}"))
}

#[expect(
    clippy::print_stderr,
    reason = "before the log is open, iked(8) speaks on stderr"
)]
fn note(text: &str) {
    eprintln!("{text}");
}

/// Reads the configuration, at start and again.
struct Loader {
    file: PathBuf,
    macros: Vec<(String, String)>,
    passive: bool,
    hostname: String,
    generation: u64,
    warnings: Vec<String>,
    config_dir: PathBuf,
    /// What the shards have.
    config: Arc<Config>,
    store: Arc<CredentialStore>,
    /// What the lookup thread has fetched, a line for each.
    lists: Vec<String>,
}

impl Loader {
    fn new(args: &Args) -> Self {
        Self {
            file: args.file.clone(),
            macros: args.define.clone(),
            passive: args.passive,
            hostname: process::hostname().unwrap_or_else(|| "localhost".to_owned()),
            generation: 0,
            warnings: Vec::new(),
            config_dir: args.config_dir.clone(),
            config: Arc::default(),
            store: Arc::default(),
            lists: Vec::new(),
        }
    }

    fn load(&mut self, file: Option<&Path>) -> Result<Arc<Config>, Vec<String>> {
        let environment = Environment {
            hostname: &self.hostname,
            passive: self.passive,
            resolver: &SystemResolver {
                interface_addresses: process::interface_addresses,
                link,
                only_pfkey,
                host_addresses: lookup::names::ask_all,
            },
            files: &SystemFiles,
        };
        let file = file.unwrap_or(&self.file);
        let generation = Generation(self.generation);
        let loaded = config::load(file, &self.macros, generation, environment)
            .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        self.generation += 1;
        self.warnings = loaded.warnings;
        self.config = loaded.config.ready();
        Ok(Arc::clone(&self.config))
    }

    /// Reads keys and certificates; returns what is wrong with them.
    fn accredit(&mut self) -> Vec<String> {
        let partial = self.config.settings.cert_partial_chain;
        let (store, warnings) = CredentialStore::load(&self.config_dir, partial);
        self.store = Arc::new(store);
        warnings
    }
}

impl Hooks for Loader {
    fn reload(&mut self, path: Option<&Path>) -> Result<Arc<Config>, Vec<String>> {
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            tell_systemd(&[NotifyState::Reloading, now]);
        }
        let before = Arc::clone(&self.config);
        let loaded = self.load(path);
        // With the old configuration, if need be.
        tell_systemd(&[NotifyState::Ready]);
        let config = loaded?;
        if config.settings.kernel != before.settings.kernel {
            log::write(Level::Warning, "'set kernel' counts from the next start on");
        }
        for warning in &self.warnings {
            log::write(Level::Warning, warning);
        }
        Ok(config)
    }

    fn verbose(&mut self, verbose: bool) {
        log::set_level(if verbose { Level::Debug } else { Level::Info });
    }

    fn credentials(&mut self) -> Arc<CredentialStore> {
        for warning in self.accredit() {
            log::write(Level::Warning, &warning);
        }
        Arc::clone(&self.store)
    }

    fn forget(&mut self, what: Reset) -> Arc<Config> {
        let mut config = Config::clone(&self.config);
        match what {
            Reset::Policy => config.policies.clear(),
            Reset::User => config.users.clear(),
            Reset::Radius => config.radius = Arc::default(),
            Reset::All | Reset::Ca | Reset::Sa => {}
        }
        self.config = config.ready();
        Arc::clone(&self.config)
    }

    fn certificates(&self) -> Vec<String> {
        let mut lines = self.store.list();
        lines.extend_from_slice(&self.lists);
        lines
    }

    fn set_lists(&mut self, lines: Vec<String>) {
        self.lists = lines;
    }

    fn stopping(&mut self) {
        tell_systemd(&[NotifyState::Stopping]);
    }

    fn show(&self, query: &Query, leased: &BTreeMap<IpNet, u64>) -> Result<Vec<String>, String> {
        report::show(&self.config, &|| self.certificates(), query, leased)
    }
}

/// Where systemd started us and waits to hear; else nothing happens.
fn tell_systemd(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        log::write(Level::Warning, format!("systemd is not told: {error}"));
    }
}

fn options(args: &Args) -> Options {
    Options {
        natt_off: args.natt_off,
        natt_only: args.natt_only || args.port.is_some(),
        natt_port: args.port.unwrap_or(NATT_PORT),
        config_dir: args.config_dir.clone(),
    }
}

fn ports(options: &Options) -> Ports {
    Ports {
        ike: (!options.natt_only).then_some(IKE_PORT),
        natt: (!options.natt_off).then_some(options.natt_port),
    }
}

/// Binds all sockets. In a busy guest those of a daemon that was killed were seen to outlive it for a moment.
#[expect(clippy::disallowed_methods, reason = "nobody is served yet")]
fn bind(ports: Ports, steering: &Steering) -> io::Result<socket::Bound> {
    let until = Instant::now() + PREDECESSOR_MAX;
    loop {
        match socket::bind(&WILDCARDS, ports, steering) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => {
                thread::sleep(PREDECESSOR_MAX / 20);
            }
            done => return done,
        }
    }
}

fn start(args: Args, mut loader: Loader, config: Arc<Config>) -> Result<(), String> {
    let passed = inherited::take()?;
    let options = Arc::new(options(&args));
    let warnings = loader.accredit();
    let mut rng = system_rng()?;
    let cpus = spawn::allowed_cpus();
    let default = u8::try_from(cpus.len().clamp(1, usize::from(SHARDS_MAX)));
    let shards = args.shards.or_else(|| default.ok()).unwrap_or(1);
    let steering = Steering::new(shards, rng.u32());
    let ways = if config.settings.couple {
        let ways = open_ways(config.settings.kernel);
        Some(ways.map_err(|error| format!("{error}; `set decouple` runs without it"))?)
    } else {
        None
    };
    let bound = bind(ports(&options), &steering).map_err(|error| format!("cannot bind {error}"))?;
    // Before going into the background: whoever starts it must learn why it cannot be.
    let (listener, unused) = inherited::control_socket(passed, &args.socket)?;
    if !args.debug {
        process::daemonize().map_err(|error| format!("cannot become a daemon: {error}"))?;
    }
    let level = if args.verbose > 1 {
        Level::Debug
    } else {
        Level::Info
    };
    let signals = Signals::take().map_err(|error| format!("signals: {error}"))?;
    let _log = log::open(args.debug, level).map_err(|error| format!("log: {error}"))?;
    for warning in warnings.iter().chain(&bound.warnings).chain(&unused) {
        log::write(Level::Warning, warning);
    }
    let plan = Plan {
        config,
        options,
        store: Arc::clone(&loader.store),
        steering,
        cookie_seed: rng.bytes(),
        rng,
    };
    let house = House::raise(plan, bound.shards, ways, &cpus)
        .map_err(|error| format!("threads: {error}"))?;
    house.serve(listener, signals, Box::new(loader))
}

/// Opens the kernel, having made sure that it can do ESP.
fn open_kernel(way: KernelWay) -> Result<Box<dyn Backend>, String> {
    let uncleaned = |error: io::Error| format!("cannot clean up after an earlier run: {error}");
    let pfkey = match way {
        KernelWay::Auto => only_pfkey(),
        KernelWay::Xfrm => false,
        KernelWay::PfKey => true,
    };
    if pfkey {
        let mut pfkey = PfKey::open().map_err(|error| format!("PF_KEY: {error}"))?;
        pfkey.sweep().map_err(uncleaned)?;
        return Ok(Box::new(pfkey));
    }
    xfrm::probe().map_err(|missing| format!("{missing}"))?;
    let mut xfrm = Xfrm::open().map_err(|error| format!("NETLINK_XFRM: {error}"))?;
    xfrm.sweep().map_err(uncleaned)?;
    // Without it many Child SAs cost more, and nothing else.
    if let Err(error) = xfrm.hash_hosts() {
        log::write(Level::Warning, format!("policies are not hashed: {error}"));
    }
    Ok(Box::new(xfrm))
}

/// What `set kernel auto` means here. Who may open neither will be told so of the first.
fn only_pfkey() -> bool {
    Xfrm::open().is_err() && PfKey::open().is_ok()
}

/// What `iface` names.
fn link(name: &str) -> config::Link {
    match route::link::xfrm_interface(name) {
        Ok(Some(number)) => config::Link::Xfrm(IfId::new(number)),
        Ok(None) => config::Link::Plain,
        Err(_) => config::Link::Absent,
    }
}

/// Without it peers are not told when an address of this host changes; nothing else is lost.
fn watch_addresses() -> Option<Watch> {
    match Watch::open() {
        Ok(watch) => Some(watch),
        Err(error) => {
            let line = format!("changes of addresses go unnoticed: NETLINK_ROUTE: {error}");
            log::write(Level::Warning, &line);
            None
        }
    }
}

/// Decoupled nothing of this is touched.
fn open_ways(way: KernelWay) -> Result<Ways, String> {
    Ok(Ways {
        backend: open_kernel(way)?,
        interfaces: open_interfaces(),
    })
}

fn open_interfaces() -> Option<Box<dyn Interfaces>> {
    match Host::open() {
        Ok(host) => Some(Box::new(host)),
        Err(error) => {
            let line = format!("granted addresses and routes are not set: NETLINK_ROUTE: {error}");
            log::write(Level::Warning, &line);
            None
        }
    }
}

fn system_rng() -> Result<Rng, String> {
    let mut seed = zeroize::Zeroizing::new([0; 32]);
    process::random(&mut *seed).map_err(|error| format!("no randomness: {error}"))?;
    Ok(Rng::from_seed(*seed))
}

/// What all shards are made from.
struct Plan {
    config: Arc<Config>,
    options: Arc<Options>,
    store: Arc<CredentialStore>,
    steering: Steering,
    cookie_seed: [u8; 32],
    rng: Rng,
}

/// The running threads and the ways to them.
struct House {
    link: Link,
    shards: Vec<Mailbox<ShardMail>>,
    kernel: Mailbox<KernelMail>,
    kernel_thread: JoinHandle<()>,
    lookup: Mailbox<LookupMail>,
    lookup_thread: JoinHandle<()>,
    shard_threads: Vec<JoinHandle<()>>,
}

impl House {
    fn raise(
        mut plan: Plan,
        sockets: Vec<Vec<ShardSocket>>,
        ways: Option<Ways>,
        cpus: &[core_affinity::CoreId],
    ) -> io::Result<Self> {
        let (link, control) = Link::open()?;
        let listener = control.clone();
        log::listen(Box::new(move |line| {
            // Whoever cannot take it now does without.
            let _ = listener.try_send(ControlMail::Line(line.to_owned()));
        }));
        let way = plan.config.settings.kernel;
        let kernel_poll = Poll::new()?;
        let waker = Arc::new(Waker::new(kernel_poll.registry(), sadb::WAKER)?);
        let (kernel, kernel_inbox) = mail::mailbox(KERNEL_MAILBOX, waker);
        let mut boxes = Vec::new();
        let mut shards = Vec::new();
        for _ in &sockets {
            let poll = Poll::new()?;
            let waker = Arc::new(Waker::new(poll.registry(), shard::WAKE)?);
            let (mailbox, inbox) = mail::mailbox(SHARD_MAILBOX, waker);
            shards.push(mailbox);
            boxes.push((poll, inbox));
        }
        let kernel_parts = SadbParts {
            ways,
            open: Box::new(move || open_ways(way)),
            watch: watch_addresses(),
            poll: kernel_poll,
            inbox: kernel_inbox,
            shards: shards.clone(),
        };
        let kernel_thread = thread::Builder::new()
            .name("kernel".to_owned())
            .spawn(move || {
                if let Err(error) = sadb::run(kernel_parts) {
                    log::write(Level::Warning, format!("kernel thread: {error}"));
                }
            })?;
        let (lookup, lookup_thread) = raise_lookup(&mut plan, &shards, &control)?;
        let mut shard_threads = Vec::new();
        for ((id, sockets), (poll, inbox)) in (0..).zip(sockets).zip(boxes) {
            let mail = Mail {
                poll,
                inbox,
                peers: &shards,
                kernel: &kernel,
                lookup: &lookup,
                control: &control,
            };
            let parts = plan.shard(ShardId(id), sockets, mail);
            let cpu = cpus.get(usize::from(id) % cpus.len().max(1)).copied();
            shard_threads.push(spawn::spawn(parts, cpu)?);
        }
        Ok(Self {
            link,
            shards,
            kernel,
            kernel_thread,
            lookup,
            lookup_thread,
            shard_threads,
        })
    }

    fn serve(
        self,
        listener: Listener,
        signals: Signals,
        hooks: Box<dyn Hooks>,
    ) -> Result<(), String> {
        let Self {
            link,
            shards,
            kernel,
            kernel_thread,
            lookup,
            lookup_thread,
            shard_threads,
        } = self;
        let server = Server::new(ServerParts {
            link,
            listener,
            signals,
            shards,
            kernel,
            hooks,
        })
        .map_err(|error| format!("control socket: {error}"))?;
        log::write(Level::Info, "startup");
        tell_systemd(&[NotifyState::Ready]);
        let ending = server.run().map_err(|error| format!("control: {error}"))?;
        // Full for a moment at most: those who write to it have ended.
        while lookup.try_send(LookupMail::Shutdown).is_err() && !lookup_thread.is_finished() {
            thread::yield_now();
        }
        let others = [kernel_thread, lookup_thread];
        for thread in shard_threads.into_iter().chain(others) {
            // A thread that panicked has said so on its way out.
            let _ = thread.join();
        }
        match ending {
            Ending::Stopped => Ok(()),
            Ending::ShardLost(shard) => Err(format!("shard {} ended", shard.0)),
        }
    }
}

/// Starts the lookup thread; its work is seldom and must not hold up a shard.
fn raise_lookup(
    plan: &mut Plan,
    shards: &[Mailbox<ShardMail>],
    control: &Mailbox<ControlMail>,
) -> io::Result<(Mailbox<LookupMail>, JoinHandle<()>)> {
    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), lookup::WAKER)?);
    let (mailbox, inbox) = mail::mailbox(LOOKUP_MAILBOX, Arc::clone(&waker));
    let parts = LookupParts {
        poll,
        waker,
        inbox,
        shards: shards.to_vec(),
        control: control.clone(),
        rng: plan.rng.fork(),
        radius: Arc::clone(&plan.config.radius),
    };
    let thread = thread::Builder::new()
        .name("lookup".to_owned())
        .spawn(move || {
            if let Err(error) = lookup::run(parts) {
                log::write(Level::Warning, format!("lookup thread: {error}"));
            }
        })?;
    Ok((mailbox, thread))
}

/// A shard's mail: its own end and the others'.
struct Mail<'a> {
    poll: Poll,
    inbox: Inbox<ShardMail>,
    peers: &'a [Mailbox<ShardMail>],
    kernel: &'a Mailbox<KernelMail>,
    lookup: &'a Mailbox<LookupMail>,
    control: &'a Mailbox<ControlMail>,
}

impl Plan {
    fn shard(&mut self, id: ShardId, sockets: Vec<ShardSocket>, mail: Mail<'_>) -> ShardParts {
        socket::keep_outside(&sockets, &self.config);
        let endpoint = Endpoint::new(EndpointParts {
            shard: id,
            shards: self.steering.shards(),
            config: Arc::clone(&self.config),
            options: Arc::clone(&self.options),
            store: Arc::clone(&self.store),
            provider: boring::provider(),
            rng: self.rng.fork(),
            cookie_seed: self.cookie_seed,
            now: now(),
        });
        ShardParts {
            id,
            endpoint,
            sockets,
            poll: mail.poll,
            inbox: mail.inbox,
            peers: mail.peers.to_vec(),
            kernel: mail.kernel.clone(),
            lookup: mail.lookup.clone(),
            control: mail.control.clone(),
            steering: self.steering,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the daemon is part of the shell")]
fn now() -> Now {
    Now {
        mono: Instant::now(),
        wall: SystemTime::now(),
    }
}

/// How long the sockets of a daemon that was killed are waited for.
const PREDECESSOR_MAX: Duration = Duration::from_secs(2);
const IKE_PORT: u16 = 500;
const NATT_PORT: u16 = 4500;
/// Mail that may wait for a shard: a burst of kernel answers and forwarded datagrams.
const SHARD_MAILBOX: usize = 4096;
/// Questions that may wait.
const LOOKUP_MAILBOX: usize = 1024;
/// Batches of kernel requests that may wait.
const KERNEL_MAILBOX: usize = 1024;
