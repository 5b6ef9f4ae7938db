//! ikeload-sockets: a responder that knows nothing. It answers each datagram at the IKE port with the first
//! bytes of it, as many as an answer with a COOKIE has, by the sockets and the batches of the daemon: what
//! an answer to a stranger costs before anybody has looked at it. scripts/compare.sh floods it like the others.

use std::error::Error;
use std::net::IpAddr;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Parser;
use iked::shard::batch::{Drained, ReceiveBatch, SendBatch};
use iked::shard::socket::{self, Ports, ShardSocket};
use iked::steer::Steering;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

/// Answers each datagram at the IKE port with its first bytes, until it is killed.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// An address of this host.
    address: IpAddr,
}

#[expect(clippy::print_stderr, reason = "what the program has to say")]
fn main() -> ExitCode {
    let Err(error) = answer(Arguments::parse().address);
    eprintln!("ikeload-sockets: {error}");
    ExitCode::from(2)
}

#[expect(
    clippy::disallowed_methods,
    reason = "nobody waits for this program but for its answers"
)]
fn answer(address: IpAddr) -> Result<std::convert::Infallible, Box<dyn Error>> {
    let ports = Ports {
        ike: Some(500),
        natt: None,
    };
    let bound = socket::bind(&[address], ports, &Steering::new(1, 1))?;
    let sockets: Vec<ShardSocket> = bound.shards.into_iter().flatten().collect();
    let socket = sockets.first().ok_or("no socket")?;
    let mut poll = Poll::new()?;
    let fd = socket.raw_fd();
    poll.registry()
        .register(&mut SourceFd(&fd), Token(0), Interest::READABLE)?;
    let mut events = Events::with_capacity(1);
    let (mut incoming, mut outgoing) = (ReceiveBatch::new(), SendBatch::default());
    loop {
        poll.poll(&mut events, None)?;
        loop {
            let drained = incoming.receive(socket)?;
            for index in 0..incoming.len() {
                let Some((path, bytes)) = incoming.datagram(index, socket) else {
                    continue;
                };
                let mut buffer = outgoing.buffer();
                buffer.extend(bytes.iter().take(ANSWER));
                outgoing.push(path, buffer);
            }
            outgoing.flush(&sockets);
            if drained == Drained::Yes {
                break;
            }
        }
        thread::sleep(PAUSE);
    }
}

/// Bytes of an answer with a COOKIE.
const ANSWER: usize = 28 + 8 + 21;
/// So that the next batch is worth its calls.
const PAUSE: Duration = Duration::from_micros(50);
