//! Addresses that change under an IKE SA: where the peer is followed to, and how the Child SAs come
//! along. What peers say to each other about it is in `exchange/mobike.rs`.
//!
//! Nobody is followed but by a message, or an ESP packet, whose integrity is proven and that never
//! came before; who can answer from anywhere has an encrypted channel to say so.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::Role;
use super::child_sa;
use super::context::Context;
use super::event::Path;
use super::ike_sa::IkeSa;
use super::state::State;
use crate::kernel::KernelRequest;

/// How an IKE SA moves.
#[derive(Clone, Debug)]
pub struct Mobility {
    /// We began the first of the IKE SAs that led to this one, whoever rekeyed it since: RFC 4555's
    /// "initiator", who alone decides about addresses.
    pub leads: bool,
    /// Both sides do MOBIKE.
    pub agreed: bool,
    /// Where else the peer says that it can be reached.
    pub others: Vec<IpAddr>,
    /// Where the Child SAs still are while the IKE SA is elsewhere already.
    pub left: Option<Box<Path>>,
    /// The peer has not shown yet that it receives where it says it is.
    pub doubtful: bool,
    /// Where the peer's last request came from, if the IKE SA is elsewhere.
    pub seen: Option<Box<Seen>>,
    /// How the peer saw us last: its NAT_DETECTION_DESTINATION_IP.
    pub seen_as: Option<Box<[u8]>>,
}

/// A place where the peer is, other than where its IKE SA is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// From there to here.
    pub path: Path,
    /// How often our request that is out had been sent again before.
    pub retries: u32,
}

impl Mobility {
    /// The IKE SA goes elsewhere; the Child SAs stay where they are.
    pub fn leave(&mut self, path: Path) {
        self.left.get_or_insert_with(|| Box::new(path));
    }

    /// Of a new IKE SA in this role.
    pub const fn new(role: Role) -> Self {
        Self {
            leads: matches!(role, Role::OriginalInitiator),
            agreed: false,
            others: Vec::new(),
            left: None,
            doubtful: false,
            seen: None,
            seen_as: None,
        }
    }

    /// Of the IKE SA that takes the place of this one.
    pub fn inherited(&self) -> Self {
        Self {
            // It is made of the SPIs, too.
            seen_as: None,
            ..self.clone()
        }
    }
}

/// Follows the peer to the address that its authenticated message came from: into UDP
/// encapsulation during the handshake, and when its NAT moves it (RFC 7296, 2.23). Not where
/// MOBIKE is agreed, which has a message for it (RFC 4555, 3.8).
pub fn follow(cx: &mut Context, sa: &mut IkeSa, now: Instant, path: Path) {
    if matches!(sa.state, State::AwaitAuthRequest(_)) {
        // Who repeats a request that it caught, before the peer's own arrives, must not get the
        // ESP of a peer that no NAT moves.
        let hosts = |path: Path| (path.local.ip(), path.remote.ip());
        if hosts(path) == hosts(sa.path) || sa.nat.remote {
            sa.relocate(path);
        }
    } else if path != sa.path && path.marker == sa.path.marker && !sa.mobility.agreed && moves(sa) {
        relocate(cx, sa, now, path);
    }
}

/// ESP of this IKE SA came from another address. The kernel tells it only of packets that were
/// authentic and no replays, so the peer is there: waiting for it to say so over IKE would only
/// lose its traffic until then, and RFC 4555, 3.8 allows it also with MOBIKE. A peer that is about
/// to move (RFC 4555, 3.5) has said better where it is.
pub fn mapped(cx: &mut Context, sa: &mut IkeSa, now: Instant, remote: SocketAddr) {
    let encapsulated = sa.path.marker && remote.port() != 0;
    let fits = encapsulated && sa.path.remote.is_ipv4() == remote.is_ipv4();
    let up = matches!(sa.state, State::Established(_));
    if up && fits && remote != sa.path.remote && sa.mobility.left.is_none() && moves(sa) {
        let path = Path { remote, ..sa.path };
        relocate(cx, sa, now, path);
    }
}

/// Whether a NAT may move this peer. One packet of an attacker within the NAT must not lead a host
/// behind it astray (RFC 7296, 2.23); but a host that others connect to is behind none that forgets.
const fn moves(sa: &IkeSa) -> bool {
    sa.nat.remote && (!sa.nat.local || !sa.mobility.leads)
}

/// A request of the peer came from this path. With MOBIKE that moves nothing (RFC 4555, 3.8), but a
/// request of ours that is out must not go into a dead mapping until an update comes: it is sent to
/// both places in turn, and to the new one now.
pub fn see(sa: &mut IkeSa, now: Instant, path: Path) {
    let elsewhere = path.remote != sa.path.remote && path.marker == sa.path.marker;
    let up = matches!(sa.state, State::Established(_) | State::Deleting(_));
    if !(up && elsewhere && moves(sa)) {
        sa.mobility.seen = None;
    } else if sa
        .mobility
        .seen
        .as_ref()
        .is_none_or(|seen| seen.path != path)
    {
        sa.window.hurry(now);
        let retries = sa.window.outstanding().map_or(0, |o| o.retries);
        sa.mobility.seen = Some(Box::new(Seen { path, retries }));
    }
}

fn relocate(cx: &mut Context, sa: &mut IkeSa, now: Instant, path: Path) {
    cx.info(format_args!(
        "{}: moved by its NAT: old {} new {}",
        sa.tag(),
        sa.path.remote,
        path.remote
    ));
    sa.relocate(path);
    sa.mobility.seen = None;
    sa.window.hurry(now);
    move_children(cx, sa);
}

/// Moves the Child SAs to where their IKE SA is, in the kernel too. One that the kernel has not
/// confirmed yet moves as well: its addition is before it in the same queue.
pub fn move_children(cx: &mut Context, sa: &mut IkeSa) {
    let to = child_sa::outer(sa);
    let State::Established(up) = &mut sa.state else {
        return;
    };
    let here = sa.children.iter_mut().map(|child| (child.loaded, child));
    let coming = up.on_the_way_mut().map(|child| (true, child));
    for (in_kernel, child) in here.chain(coming) {
        if child.outer() == to {
            continue;
        }
        let before = Box::new(child.names.clone());
        child.shift(to);
        if in_kernel {
            let request = KernelRequest::MoveChild { child: before, to };
            cx.out.kernel.push_back(request);
        }
    }
}
