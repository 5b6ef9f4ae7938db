//! Where log lines go: stderr in the foreground, syslog as a daemon. Whoever writes one hands it to a
//! thread, which alone waits for a sink that is slow, and takes all lines of a moment at once; lines
//! that nobody takes are counted and lost. Those that unauthenticated bytes cause are limited in rate.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::ike::Level;

/// The way to the sink.
struct Logger {
    sender: Sender<Entry>,
    level: AtomicU8,
    lost: AtomicU64,
    noise: Noise,
}

/// What the log's thread is given.
enum Entry {
    Line(Level, String),
    /// All before it has been written as soon as this is answered.
    Flush(Sender<()>),
}

enum Output {
    Stderr,
    Syslog(Box<syslog::Logger<syslog::LoggerBackend, syslog::Formatter3164>>),
}

/// How many lines bytes of nobody in particular caused in the second that began last.
struct Noise {
    opened: Instant,
    second: AtomicU64,
    written: AtomicU32,
    suppressed: AtomicU64,
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// An open log; once dropped, what was written before is where it belongs, unless the sink takes
/// nothing for a second.
#[derive(Debug)]
#[must_use]
pub struct Open(());

impl Drop for Open {
    fn drop(&mut self) {
        let Some(logger) = LOGGER.get() else { return };
        let (done, written) = bounded(1);
        let until = now() + FLUSH_MAX;
        if logger
            .sender
            .send_deadline(Entry::Flush(done), until)
            .is_ok()
        {
            // Whether it was in time: there is nobody to tell.
            let _ = written.recv_deadline(until);
        }
    }
}

/// Opens the sink and starts its thread. `foreground` writes to stderr, else syslog, facility
/// daemon; where syslog cannot be reached, stderr serves.
pub fn open(foreground: bool, level: Level) -> io::Result<Open> {
    let output = if foreground {
        Output::Stderr
    } else {
        syslog_output()
    };
    let (sender, receiver) = bounded(LINES_MAX);
    let logger = Logger {
        sender,
        level: AtomicU8::new(number(level)),
        lost: AtomicU64::new(0),
        noise: Noise {
            opened: now(),
            second: AtomicU64::new(0),
            written: AtomicU32::new(0),
            suppressed: AtomicU64::new(0),
        },
    };
    // Opened once, at start; a second call changes nothing.
    let _ = LOGGER.set(logger);
    thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || serve(output, &receiver))?;
    Ok(Open(()))
}

/// The thread: takes what is there, writes it at once, and pauses, so that under load many lines
/// are one call.
#[expect(
    clippy::disallowed_methods,
    reason = "this thread is there so that others need not wait"
)]
fn serve(mut output: Output, entries: &Receiver<Entry>) {
    let mut text = Vec::new();
    while let Ok(first) = entries.recv() {
        let mut flushed = None;
        for entry in std::iter::once(first).chain(entries.try_iter().take(LINES_MAX)) {
            match entry {
                Entry::Line(level, line) => output.put(&mut text, level, &line),
                Entry::Flush(done) => {
                    flushed = Some(done);
                    break;
                }
            }
        }
        let lost = LOGGER
            .get()
            .map_or(0, |logger| logger.lost.swap(0, Ordering::Relaxed));
        if lost > 0 {
            let line = format!("{lost} lines lost, the log was too slow");
            output.put(&mut text, Level::Warning, &line);
        }
        if !text.is_empty() {
            // There is nowhere to report that it cannot be written.
            let _ = io::stderr().lock().write_all(&text);
            text.clear();
        }
        match flushed {
            // Who asked has waited long enough not to care what became of it.
            Some(done) => drop(done.send(())),
            None => thread::sleep(PAUSE),
        }
    }
}

impl Output {
    /// Adds a line to what will be written; syslog has it at once.
    fn put(&mut self, text: &mut Vec<u8>, level: Level, line: &str) {
        match self {
            Self::Stderr => {
                text.extend_from_slice(line.as_bytes());
                text.push(b'\n');
            }
            Self::Syslog(syslog) => {
                let _ = match level {
                    Level::Warning => syslog.warning(line),
                    Level::Info => syslog.info(line),
                    Level::Debug => syslog.debug(line),
                };
            }
        }
    }
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

/// Writes one line, which never waits.
pub fn write(level: Level, line: impl Into<String> + AsRef<str>) {
    if HEARD.load(Ordering::Relaxed)
        && level <= Level::Info
        && let Some(listener) = LISTENER.get()
    {
        listener(line.as_ref());
    }
    let Some(logger) = LOGGER.get() else { return };
    if number(level) > logger.level.load(Ordering::Relaxed) {
        return;
    }
    let entry = Entry::Line(level, line.into());
    if logger.sender.try_send(entry).is_err() {
        logger.lost.fetch_add(1, Ordering::Relaxed);
    }
}

/// Writes one line that bytes of nobody in particular caused, unless many were already.
pub fn write_noise(level: Level, line: impl Into<String> + AsRef<str>) {
    let Some(logger) = LOGGER.get() else { return };
    if number(level) > logger.level.load(Ordering::Relaxed) {
        return;
    }
    let noise = &logger.noise;
    let second = now().saturating_duration_since(noise.opened).as_secs();
    let mut suppressed = 0;
    if noise.second.swap(second, Ordering::Relaxed) != second {
        suppressed = noise.suppressed.swap(0, Ordering::Relaxed);
        noise.written.store(0, Ordering::Relaxed);
    }
    if noise.written.fetch_add(1, Ordering::Relaxed) >= NOISE_PER_SECOND {
        noise
            .suppressed
            .fetch_add(suppressed + 1, Ordering::Relaxed);
        return;
    }
    if suppressed > 0 {
        write(
            level,
            format!("{suppressed} messages about unauthenticated datagrams suppressed"),
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
/// Lines that wait for the sink.
const LINES_MAX: usize = 8192;
/// How long lines gather, while there are any.
const PAUSE: Duration = Duration::from_millis(5);
/// How long the end waits for the sink.
const FLUSH_MAX: Duration = Duration::from_secs(1);
