//! What drives the storm: two threads, each with sockets on several addresses, which send as fast as
//! the daemon takes it and no faster.

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::AddAssign;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use iked::sys::net::{self, BATCH_MAX, Outgoing, Room};
use indicatif::{ProgressBar, ProgressStyle};

use super::client::{IKE_PORT, NATT_PORT};
use super::weather::{Dice, Seeds};

/// What was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    pub(super) datagrams: u64,
    /// Those that the kernel must give to the daemon, because they cannot be ESP.
    pub(super) due: u64,
    /// Those that found the daemon's sockets full.
    pub(super) lost: u64,
}

impl AddAssign for Sent {
    fn add_assign(&mut self, other: Self) {
        self.datagrams += other.datagrams;
        self.due += other.due;
        self.lost += other.lost;
    }
}

/// The sources of a storm of some number of datagrams.
pub(super) struct Wind {
    seeds: Seeds,
    progress: ProgressBar,
    /// So that no part of a storm is like another.
    blown: AtomicU64,
    /// Tenths that were reported.
    told: AtomicU64,
}

impl Wind {
    pub(super) fn new(count: u64, seeds: Seeds) -> Self {
        let progress = ProgressBar::new(count);
        let style = "storm {bar:40} {human_pos}/{human_len} {per_sec} {elapsed}, {eta} left";
        progress.set_style(ProgressStyle::with_template(style).unwrap());
        Self {
            seeds,
            progress,
            blown: AtomicU64::new(0),
            told: AtomicU64::new(0),
        }
    }

    /// Sends this many datagrams and waits until the daemon has taken them all.
    pub(super) fn blow(&self, count: u64) -> Sent {
        let lost = Queues::read().lost;
        let mut sent = thread::scope(|scope| {
            let shares = [count / 2, count - count / 2];
            let threads = shares.map(|share| scope.spawn(move || self.gust(share)));
            let mut sum = Sent::default();
            for thread in threads {
                sum += thread.join().unwrap();
            }
            sum
        });
        while Queues::read().longest > 0 {
            thread::sleep(Duration::from_millis(5));
        }
        sent.lost = Queues::read().lost - lost;
        sent
    }

    fn gust(&self, count: u64) -> Sent {
        let mut dice = Dice::new(self.blown.fetch_add(1, Ordering::Relaxed) << 48);
        let sockets = sources(&mut dice);
        let mut buffers = vec![Vec::new(); BATCH_MAX];
        let mut sent = Sent::default();
        let mut batches = 0;
        while sent.datagrams < count {
            let socket = &sockets[dice.below(sockets.len())];
            let left = (count - sent.datagrams).min(BATCH_MAX as u64) as usize;
            let mut batch = Vec::with_capacity(left);
            for buffer in buffers.iter_mut().take(left) {
                self.seeds.draw(&mut dice, buffer);
                let natt = dice.one_in(2);
                // Now and then without marker, as ESP is.
                let marker = natt && !dice.one_in(40);
                sent.due += u64::from(marker || !natt);
                batch.push(socket.outgoing(buffer, natt, marker));
            }
            send(&socket.socket, &batch);
            sent.datagrams += left as u64;
            self.progress.inc(left as u64);
            batches += 1;
            if batches % BATCHES_UNSEEN == 0 {
                self.report();
                while Queues::read().longest > QUEUE_MAX {
                    thread::sleep(Duration::from_micros(500));
                }
            }
        }
        sent
    }

    /// Where nobody sees the bar, a line now and then.
    #[expect(clippy::print_stderr, reason = "progress")]
    fn report(&self) {
        let (at, all) = (self.progress.position(), self.progress.length());
        let tenth = at * 10 / all.unwrap_or(1).max(1);
        if self.progress.is_hidden() && self.told.fetch_max(tenth, Ordering::Relaxed) < tenth {
            eprintln!("storm: {at} datagrams in {:.0?}", self.progress.elapsed());
        }
    }
}

/// A socket and the daemon's address that it sends to.
struct Source {
    socket: UdpSocket,
    own: IpAddr,
    daemon: IpAddr,
}

impl Source {
    fn outgoing<'a>(&self, bytes: &'a [u8], natt: bool, marker: bool) -> Outgoing<'a> {
        let port = if natt { NATT_PORT } else { IKE_PORT };
        Outgoing {
            bytes,
            marker,
            remote: SocketAddr::new(self.daemon, port),
            local: self.own,
        }
    }
}

fn sources(dice: &mut Dice) -> Vec<Source> {
    let mut sources = Vec::new();
    for number in 0..8 {
        let (own, daemon) = if number < 6 {
            let own = [127, 9, dice.below(250) as u8, 1 + number];
            (IpAddr::from(own), IpAddr::from([127, 0, 0, 1]))
        } else {
            let loopback = "::1".parse().unwrap();
            (loopback, loopback)
        };
        sources.push(Source {
            socket: UdpSocket::bind((own, 0)).unwrap(),
            own,
            daemon,
        });
    }
    sources
}

fn send(socket: &UdpSocket, mut batch: &[Outgoing<'_>]) {
    let mut room = Room::default();
    while !batch.is_empty() {
        match net::send(socket.as_fd(), &mut room, batch.iter().copied()) {
            Ok(count) => batch = &batch[count..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// What waits in the daemon's sockets.
struct Queues {
    /// Bytes in the fullest one.
    longest: u64,
    /// Datagrams that found no room, ever.
    lost: u64,
}

impl Queues {
    fn read() -> Self {
        let mut queues = Self {
            longest: 0,
            lost: 0,
        };
        for file in ["/proc/self/net/udp", "/proc/self/net/udp6"] {
            for line in fs::read_to_string(file).unwrap().lines().skip(1) {
                let fields: Vec<&str> = line.split_whitespace().collect();
                let (address, port) = fields[1].rsplit_once(':').unwrap();
                let port = u16::from_str_radix(port, 16).unwrap();
                // The clients' sockets have addresses of their own.
                if (port == IKE_PORT || port == NATT_PORT) && address.bytes().all(|b| b == b'0') {
                    let (_, waiting) = fields[4].split_once(':').unwrap();
                    let waiting = u64::from_str_radix(waiting, 16).unwrap();
                    queues.longest = queues.longest.max(waiting);
                    queues.lost += fields.last().unwrap().parse::<u64>().unwrap();
                }
            }
        }
        queues
    }
}

/// Bytes that may wait in one of the daemon's sockets; each holds 16 MiB.
const QUEUE_MAX: u64 = 2 << 20;
/// Batches that a thread sends without looking.
const BATCHES_UNSEEN: u64 = 8;
