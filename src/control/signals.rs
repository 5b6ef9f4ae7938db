//! Signals as bytes on sockets that the control loop polls, so that no code of ours runs in a
//! signal handler.

use std::io::{self, Read};
use std::os::unix::net::UnixStream as StdStream;

use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::low_level;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGTERM or SIGINT: stop.
    Stop,
    /// SIGUSR1: nothing; written to the log.
    Ignored,
}

/// The signals of the process; handlers are taken off when this is dropped.
#[derive(Debug)]
pub struct Signals {
    sources: Vec<(Signal, SigId, UnixStream)>,
}

impl Signals {
    /// Takes the signals over. To be called before threads start, so that none is missed.
    pub fn take() -> io::Result<Self> {
        let wanted = [
            (SIGHUP, Signal::Reload),
            (SIGTERM, Signal::Stop),
            (SIGINT, Signal::Stop),
            (SIGUSR1, Signal::Ignored),
        ];
        let mut signals = Self {
            sources: Vec::with_capacity(wanted.len()),
        };
        for (number, meaning) in wanted {
            let (reader, writer) = StdStream::pair()?;
            reader.set_nonblocking(true)?;
            let id = low_level::pipe::register(number, writer)?;
            signals
                .sources
                .push((meaning, id, UnixStream::from_std(reader)));
        }
        Ok(signals)
    }

    /// Adds the sockets to a poll under `token` and those after it.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        for (offset, (_, _, reader)) in self.sources.iter_mut().enumerate() {
            registry.register(reader, Token(token.0 + offset), Interest::READABLE)?;
        }
        Ok(())
    }

    /// The signals that came since last asked; several of one kind count once.
    pub fn pending(&mut self) -> Vec<Signal> {
        let mut came = Vec::new();
        for (meaning, _, reader) in &mut self.sources {
            let mut bytes = [0; 64];
            let mut any = false;
            while reader.read(&mut bytes).is_ok_and(|count| count > 0) {
                any = true;
            }
            if any && !came.contains(meaning) {
                came.push(*meaning);
            }
        }
        came
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for (_, id, _) in &self.sources {
            low_level::unregister(*id);
        }
    }
}

/// Tokens that [`Signals::register`] uses.
pub const TOKENS: usize = 4;
