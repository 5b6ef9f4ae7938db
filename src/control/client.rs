//! The `ikectl` end of the control socket: sends one request and writes what comes back, in the
//! words of OpenIKED. Arguments are not read here (`grammar`).

use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::answer::STATS_COUNT;
use super::grammar::Request;
use super::imsg::{Frame, Kind, OURS};
use super::query::{Query, What};
use super::top;

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The daemon does not listen there.
    #[error("connect: {0}: {1}")]
    Connect(String, io::Error),
    /// The daemon does not answer.
    #[error("no answer")]
    Silent,
    /// The daemon hung up in the middle.
    #[error("pipe closed")]
    Closed,
    /// The daemon says no, and why.
    #[error("{0}")]
    Refused(String),
    /// The socket, or the output.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Asks the daemon behind `socket`; the answers become one array, or one object where there is only
/// one.
pub fn run_json(socket: &Path, query: &Query, out: &mut dyn Write) -> Result<(), ClientError> {
    let mut link = Link::connect(socket, false)?;
    link.send(Kind::SHOW, query.to_string().into_bytes())?;
    let mut text = Vec::new();
    link.copy_answer(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    if query.what == What::Stats {
        out.write_all(text.as_bytes())?;
    } else {
        let objects: Vec<&str> = text.lines().collect();
        writeln!(out, "[{}]", objects.join(",\n "))?;
    }
    Ok(out.flush()?)
}

/// Puts one request to the daemon behind `socket`; the answer goes to `out`. `quiet` leaves
/// counters out that are zero.
pub fn run(
    socket: &Path,
    quiet: bool,
    request: &Request,
    out: &mut dyn Write,
) -> Result<(), ClientError> {
    let mut link = Link::connect(socket, matches!(request, Request::Monitor))?;
    link.send(request.kind(), request.payload())?;
    match request {
        Request::Show(_) => link.copy_answer(out),
        Request::ShowSa => link.copy_lines(request.kind(), out),
        Request::ShowCertstore => link.show_certstore(out),
        Request::ShowStats => link.show_stats(quiet, out),
        Request::Monitor => link.monitor(out),
        Request::Top => link.top(out),
        Request::Reset(_) => {
            writeln!(out, "reset request sent.")?;
            link.await_result()
        }
        Request::Log { .. } => {
            writeln!(out, "logging request sent.")?;
            link.await_result()
        }
        Request::Active
        | Request::Passive
        | Request::Couple
        | Request::Decouple
        | Request::Load(_)
        | Request::Reload
        | Request::Redirect(_)
        | Request::ResetId(_) => link.await_result(),
    }
}

struct Link {
    stream: UnixStream,
    input: Vec<u8>,
}

impl Link {
    #[expect(
        clippy::disallowed_methods,
        reason = "ikectl may wait: it has nothing else to do"
    )]
    fn connect(path: &Path, patient: bool) -> Result<Self, ClientError> {
        loop {
            match UnixStream::connect(path) {
                Ok(stream) => {
                    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
                    return Ok(Self {
                        stream,
                        input: Vec::new(),
                    });
                }
                // A monitor may be started before the daemon.
                Err(error) if patient && is_absent(&error) => std::thread::sleep(CONNECT_AGAIN),
                Err(error) => {
                    return Err(ClientError::Connect(path.display().to_string(), error));
                }
            }
        }
    }

    fn send(&mut self, kind: Kind, payload: Vec<u8>) -> Result<(), ClientError> {
        let mut bytes = Vec::new();
        Frame::new(kind, 0, payload).encode(&mut bytes);
        match self.stream.write_all(&bytes) {
            // Not to be taken for an output that nobody reads.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(ClientError::Closed),
            result => Ok(result?),
        }
    }

    /// The next frame, waiting at most `within`.
    fn receive(&mut self, within: Option<Duration>) -> Result<Frame, ClientError> {
        self.stream.set_read_timeout(within)?;
        loop {
            if let Some((frame, length)) = Frame::decode(&self.input).map_err(io::Error::other)? {
                self.input.drain(..length);
                return Ok(frame);
            }
            let mut buffer = [0; 16_384];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(ClientError::Closed),
                Ok(count) => self.input.extend(buffer.iter().take(count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(ClientError::Silent);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The next frame of one of these kinds.
    fn receive_any(&mut self, kinds: &[Kind]) -> Result<Frame, ClientError> {
        self.receive_within(ANSWER_WITHIN, kinds)
    }

    fn receive_within(&mut self, time: Duration, kinds: &[Kind]) -> Result<Frame, ClientError> {
        loop {
            let frame = self.receive(Some(time))?;
            if kinds.contains(&frame.kind) {
                return Ok(frame);
            }
        }
    }

    fn copy_lines(&mut self, kind: Kind, out: &mut dyn Write) -> Result<(), ClientError> {
        let first = self.receive_any(&[kind])?;
        self.copy_from(first, out)
    }

    /// Writes the lines from this frame on.
    fn copy_from(&mut self, mut frame: Frame, out: &mut dyn Write) -> Result<(), ClientError> {
        let kind = frame.kind;
        while !frame.payload.is_empty() {
            out.write_all(until_nul(&frame.payload))?;
            frame = self.receive_any(&[kind])?;
        }
        Ok(out.flush()?)
    }

    /// The lines of our own server, or why there are none.
    fn copy_answer(&mut self, out: &mut dyn Write) -> Result<(), ClientError> {
        let first = self.receive_any(&[Kind::SHOW, Kind::FAIL])?;
        if first.kind == Kind::FAIL {
            let text = String::from_utf8_lossy(&first.payload).into_owned();
            return Err(ClientError::Refused(text));
        }
        self.copy_from(first, out)
    }

    /// OpenIKED 7.2 is silent about the number that was asked for, and takes the next for the same.
    fn show_certstore(&mut self, out: &mut dyn Write) -> Result<(), ClientError> {
        let first = match self.receive_within(OLDER_AFTER, &[Kind::SHOW_CERTSTORE]) {
            Err(ClientError::Silent) => {
                self.send(Kind::SHOW_STATS, Vec::new())?;
                self.receive_any(&[Kind::SHOW_CERTSTORE, Kind::SHOW_STATS])
            }
            result => result,
        };
        self.copy_from(first?, out)
    }

    fn show_stats(&mut self, quiet: bool, out: &mut dyn Write) -> Result<(), ClientError> {
        let mut frame = self.receive_any(&[Kind::SHOW_STATS])?;
        if frame.payload.len() != STATS_COUNT * 8 && frame.peer_id != OURS {
            // Those were the certificates of 7.2, which also copies a second request back to us.
            self.send(Kind::SHOW_STATS_7_2, Vec::new())?;
            while frame.kind != Kind::SHOW_STATS_7_2 || frame.payload.is_empty() {
                frame = self.receive_any(&[Kind::SHOW_STATS_7_2])?;
            }
        }
        let Some(counters) = counters(&frame.payload) else {
            let size = frame.payload.len();
            return Err(ClientError::Refused(format!(
                "statistics of another version: {size} bytes"
            )));
        };
        writeln!(out, "ike:")?;
        for (at, before, after) in TEXTS {
            let Some(&count) = counters.get(at) else {
                continue;
            };
            if count != 0 || !quiet {
                let plural = if count == 1 { "" } else { "s" };
                writeln!(out, "\t{count} {before}{plural}{after}")?;
            }
        }
        if frame.peer_id == OURS {
            self.show_more(quiet, out)?;
        }
        Ok(out.flush()?)
    }

    /// The counters that OpenIKED does not have.
    fn show_more(&mut self, quiet: bool, out: &mut dyn Write) -> Result<(), ClientError> {
        self.send(Kind::SHOW_COUNTERS, Vec::new())?;
        let mut text = Vec::new();
        self.copy_lines(Kind::SHOW_COUNTERS, &mut text)?;
        for line in String::from_utf8_lossy(&text).lines().skip(STATS_COUNT) {
            if !quiet || !line.starts_with("0 ") {
                writeln!(out, "\t{line}")?;
            }
        }
        Ok(())
    }

    /// A page for each second, on a terminal in the place of the one before.
    #[expect(
        clippy::disallowed_methods,
        reason = "ikectl may wait, and shows how much a second has brought"
    )]
    fn top(&mut self, out: &mut dyn Write) -> Result<(), ClientError> {
        let clear = if io::stdout().is_terminal() {
            "\x1b[H\x1b[2J"
        } else {
            ""
        };
        let mut before: Option<(top::Counters, Instant)> = None;
        loop {
            let mut text = Vec::new();
            self.copy_lines(Kind::SHOW_COUNTERS, &mut text)?;
            let now = (top::read(&String::from_utf8_lossy(&text)), Instant::now());
            if let Some((counters, at)) = &before {
                let seconds = now.1.duration_since(*at).as_secs_f64();
                let page = top::page(&date(unix_time()), counters, &now.0, seconds);
                writeln!(out, "{clear}{page}")?;
                out.flush()?;
            }
            before = Some(now);
            std::thread::sleep(TOP_EACH);
            self.send(Kind::SHOW_COUNTERS, Vec::new())?;
        }
    }

    /// Waits for our server's result. OpenIKED's sends none; its silence means yes.
    fn await_result(&mut self) -> Result<(), ClientError> {
        let mut within = RESULT_WITHIN;
        loop {
            match self.receive(Some(within)) {
                Ok(frame) if frame.kind == Kind::OK => return Ok(()),
                Ok(frame) if frame.kind == Kind::WAIT => within = LONG_RESULT_WITHIN,
                Ok(frame) if frame.kind == Kind::FAIL => {
                    let text = String::from_utf8_lossy(&frame.payload).into_owned();
                    return Err(ClientError::Refused(text));
                }
                Ok(_) => {}
                Err(ClientError::Silent | ClientError::Closed) if within == RESULT_WITHIN => {
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn monitor(&mut self, out: &mut dyn Write) -> Result<(), ClientError> {
        loop {
            let frame = self.receive(None)?;
            if frame.kind == Kind::EVENT {
                let line = String::from_utf8_lossy(&frame.payload);
                writeln!(out, "{} {line}", date(unix_time()))?;
                out.flush()?;
                continue;
            }
            let length = super::imsg::HEADER_LEN + frame.payload.len();
            let name = frame.kind.name().unwrap_or("<unknown>");
            let Frame {
                kind: Kind(kind),
                peer_id,
                pid,
                ..
            } = frame;
            writeln!(
                out,
                "{name}: imsg type {kind} len {length} peerid {peer_id} pid {pid}"
            )?;
            let seconds = unix_time();
            writeln!(out, "\ttimestamp: {seconds}, {}", date(seconds))?;
            out.flush()?;
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

fn until_nul(payload: &[u8]) -> &[u8] {
    payload.split(|&byte| byte == 0).next().unwrap_or_default()
}

fn counters(payload: &[u8]) -> Option<Vec<u64>> {
    if payload.len() != STATS_COUNT * 8 {
        return None;
    }
    let chunks = payload.chunks_exact(8);
    chunks
        .map(|bytes| bytes.try_into().ok().map(u64::from_ne_bytes))
        .collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a program of its own, which shows the time"
)]
fn unix_time() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// The form of `ctime(3)`, in UTC.
fn date(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Counts from 1 March of year 0, so that a leap day is the last of its year.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year_of_era + u64::from(month >= 10);
    let pick = |names: [&'static str; 12], at: u64| names.get(at as usize).copied().unwrap_or("?");
    let weekday = [
        "Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed", "", "", "", "", "",
    ];
    format!(
        "{} {} {day:2} {:02}:{:02}:{:02} {year}",
        pick(weekday, days % 7),
        pick(MONTHS, (month + 2) % 12),
        rest / 3600,
        rest / 60 % 60,
        rest % 60,
    )
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// What `show stats` says of each counter: its place in the frame, the words before the plural's
/// `s`, and those after it. The order is OpenIKED's, which is not the order in the frame.
const TEXTS: [(usize, &str, &str); STATS_COUNT] = [
    (0, "IKE SA", " created"),
    (1, "IKE SA", " established"),
    (2, "IKE SA", " currently established"),
    (3, "IKE SA", " failed to establish"),
    (4, "failed proposal negotiation", ""),
    (5, "IKE SA", " rekeyed"),
    (6, "IKE SA", " removed"),
    (7, "Child SA", " created"),
    (8, "Child SA", " removed"),
    (9, "message", " sent"),
    (10, "message", " could not be sent"),
    (11, "message", " received"),
    (13, "message", " dropped"),
    (12, "request", " dropped, response being worked on"),
    (15, "response", " retransmitted"),
    (14, "request", " retransmitted"),
    (16, "request", " timed out"),
    (17, "fragment", " sent"),
    (18, "fragment", " could not be sent"),
    (19, "fragment", " received"),
    (20, "fragment", " dropped"),
    (21, "fragment", " reassembled"),
    (22, "fragment", " could not be reassembled"),
    (23, "update addresses request", " sent"),
    (24, "dpd request", " sent"),
    (25, "keepalive message", " sent"),
];

/// How long the daemon may take between two frames: its own deadline is 2 s.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long a server may be silent before it is taken for OpenIKED 7.2.
const OLDER_AFTER: Duration = Duration::from_secs(2);
/// How long to wait for a result that OpenIKED's server does not send.
const RESULT_WITHIN: Duration = Duration::from_secs(4);
/// How long to wait for a result that our server has announced: names are asked for ten seconds.
const LONG_RESULT_WITHIN: Duration = Duration::from_secs(40);
/// How often `top` looks.
const TOP_EACH: Duration = Duration::from_secs(1);
/// How soon a monitor tries to connect again.
const CONNECT_AGAIN: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "Thu Jan  1 00:00:00 1970");
        assert_eq!(date(951_782_399), "Mon Feb 28 23:59:59 2000");
        assert_eq!(date(951_782_400), "Tue Feb 29 00:00:00 2000");
        assert_eq!(date(1_704_067_199), "Sun Dec 31 23:59:59 2023");
        assert_eq!(date(1_795_486_236), "Tue Nov 24 02:10:36 2026");
    }

    #[test]
    fn every_counter_of_the_frame_has_a_text() {
        let mut places: Vec<usize> = TEXTS.iter().map(|(at, ..)| *at).collect();
        places.sort_unstable();
        assert_eq!(places, (0..STATS_COUNT).collect::<Vec<_>>());
    }

    #[test]
    fn a_frame_of_another_size_is_no_statistics() {
        assert!(counters(&[0; 207]).is_none());
        assert_eq!(counters(&[0; 208]), Some(vec![0; 26]));
    }
}
