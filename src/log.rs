//! Where log lines go: stderr in the foreground, syslog as a daemon. One sink for the process;
//! lines that unauthenticated bytes cause are limited in rate.

use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::ike::Level;

/// The sink.
struct Logger {
    output: Mutex<Output>,
    level: AtomicU8,
    noise: Mutex<Noise>,
}

enum Output {
    Stderr,
    Syslog(Box<syslog::Logger<syslog::LoggerBackend, syslog::Formatter3164>>),
}

struct Noise {
    since: Instant,
    written: u32,
    suppressed: u64,
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// Opens the sink. `foreground` writes to stderr, else syslog, facility daemon; where syslog
/// cannot be reached, stderr serves.
pub fn open(foreground: bool, level: Level) {
    let output = if foreground {
        Output::Stderr
    } else {
        syslog_output()
    };
    let noise = Noise {
        since: now(),
        written: 0,
        suppressed: 0,
    };
    let logger = Logger {
        output: Mutex::new(output),
        level: AtomicU8::new(number(level)),
        noise: Mutex::new(noise),
    };
    // Opened once, at start; a second call changes nothing.
    let _ = LOGGER.set(logger);
}

fn syslog_output() -> Output {
    let formatter = syslog::Formatter3164 {
        facility: syslog::Facility::LOG_DAEMON,
        hostname: None,
        process: "iked".to_owned(),
        pid: std::process::id(),
    };
    match syslog::unix(formatter) {
        Ok(logger) => Output::Syslog(Box::new(logger)),
        Err(_) => Output::Stderr,
    }
}

/// Sets the least important level that is written (`ikectl log verbose|brief`).
pub fn set_level(level: Level) {
    if let Some(logger) = LOGGER.get() {
        logger.level.store(number(level), Ordering::Relaxed);
    }
}

/// Whether lines of this level are written.
pub fn enabled(level: Level) -> bool {
    LOGGER
        .get()
        .is_some_and(|logger| number(level) <= logger.level.load(Ordering::Relaxed))
}

/// The least important level that somebody reads, be it here or through the listener; nobody reads
/// what is less important still.
pub fn read_level() -> Level {
    let levels = [Level::Debug, Level::Info, Level::Warning];
    let heard = HEARD.load(Ordering::Relaxed);
    let read = |level: &Level| enabled(*level) || heard && *level <= Level::Info;
    levels.into_iter().find(read).unwrap_or(Level::Warning)
}

/// Who hears the lines too, while [`set_heard`] says so; what is done there must not wait.
type Listener = Box<dyn Fn(&str) + Send + Sync>;

static LISTENER: OnceLock<Listener> = OnceLock::new();
static HEARD: AtomicBool = AtomicBool::new(false);

/// Has `listener` hear every line that an operator should see, [`Level::Info`] or more important,
/// whatever is written.
pub fn listen(listener: Listener) {
    // Opened once, at start; a second call changes nothing.
    let _ = LISTENER.set(listener);
}

/// Whether anybody wants to hear the lines.
pub fn set_heard(heard: bool) {
    HEARD.store(heard, Ordering::Relaxed);
}

/// Writes one line.
pub fn write(level: Level, line: &str) {
    if HEARD.load(Ordering::Relaxed)
        && level <= Level::Info
        && let Some(listener) = LISTENER.get()
    {
        listener(line);
    }
    let Some(logger) = LOGGER.get() else { return };
    if number(level) > logger.level.load(Ordering::Relaxed) {
        return;
    }
    let mut output = logger.output.lock();
    // There is nowhere to report that the log cannot be written.
    let _ = match &mut *output {
        Output::Stderr => writeln!(std::io::stderr().lock(), "{line}"),
        Output::Syslog(syslog) => {
            let written = match level {
                Level::Warning => syslog.warning(line),
                Level::Info => syslog.info(line),
                Level::Debug => syslog.debug(line),
            };
            written.map_err(std::io::Error::other)
        }
    };
}

/// Writes one line that bytes of nobody in particular caused, unless many were already.
pub fn write_noise(level: Level, line: &str) {
    let Some(logger) = LOGGER.get() else { return };
    if number(level) > logger.level.load(Ordering::Relaxed) {
        return;
    }
    let suppressed = {
        let mut noise = logger.noise.lock();
        let now = now();
        let mut suppressed = 0;
        if now.saturating_duration_since(noise.since) >= Duration::from_secs(1) {
            suppressed = std::mem::take(&mut noise.suppressed);
            noise.since = now;
            noise.written = 0;
        }
        if noise.written >= NOISE_PER_SECOND {
            noise.suppressed += 1;
            return;
        }
        noise.written += 1;
        suppressed
    };
    if suppressed > 0 {
        write(
            level,
            &format!("{suppressed} messages about unauthenticated datagrams suppressed"),
        );
    }
    write(level, line);
}

#[expect(
    clippy::disallowed_methods,
    reason = "the sink is part of the shell and owns its clock"
)]
fn now() -> Instant {
    Instant::now()
}

const fn number(level: Level) -> u8 {
    match level {
        Level::Warning => 0,
        Level::Info => 1,
        Level::Debug => 2,
    }
}

/// Lines in a second that unauthenticated bytes may cause.
const NOISE_PER_SECOND: u32 = 20;
