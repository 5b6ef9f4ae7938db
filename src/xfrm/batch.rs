//! One chunk of a batch: several whole requests as messages of one send, and the way back from the
//! kernel's errors to the request they belong to. A Child SA that fails half-way is undone here.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Xfrm;
use super::algorithm::Algorithms;
use super::copy::{Copy, Way};
use super::message::{Requests, SaEntry};
use crate::kernel::entry::{self, Direction, IpProtocol, Offload};
use crate::kernel::{ChildInstall, ChildRemove, KernelError, KernelRequest, SelectorPair, Trap};
use crate::sys::net::interface_index;
use crate::wire::spi::EspSpi;

/// Requests that go out together.
pub(super) struct Chunk {
    requests: Requests,
    steps: Vec<Step>,
    outcomes: Vec<Outcome>,
}

/// What is known of one request before the kernel has seen it.
enum Outcome {
    /// Its messages are in the chunk.
    Sent,
    /// Refused here.
    Refused(KernelError),
}

/// One message of a request.
#[derive(Clone, Copy)]
struct Step {
    seq: u32,
    request: usize,
    action: Action,
}

/// What a message does, and so how to undo it.
#[derive(Clone, Copy)]
enum Action {
    AddSa {
        destination: IpAddr,
        spi: EspSpi,
        protocol: IpProtocol,
    },
    AddPolicy {
        direction: Direction,
        pair: SelectorPair,
    },
    /// Puts an SA in the place of another; there is no way back.
    Replace,
    /// Missing pieces are no error.
    Delete,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::AddSa { .. } => "add SA",
            Self::AddPolicy { .. } => "add policy",
            Self::Replace => "move SA",
            Self::Delete => "delete",
        }
    }

    /// Deleting what is not there is no error.
    fn forgives(self, errno: i32) -> bool {
        matches!(self, Self::Delete) && (errno == libc::ESRCH || errno == libc::ENOENT)
    }
}

impl Chunk {
    pub(super) fn new() -> Self {
        let requests = Requests::with_capacity(CHUNK_LEN_MAX + CHUNK_LEN_MAX / 2);
        Self {
            requests,
            steps: Vec::new(),
            outcomes: Vec::new(),
        }
    }

    /// Whether the next request should go into another chunk.
    pub(super) fn is_full(&self) -> bool {
        self.requests.bytes().len() >= CHUNK_LEN_MAX || self.steps.len() >= CHUNK_STEPS_MAX
    }

    /// Adds the messages of one request.
    pub(super) fn push(&mut self, xfrm: &mut Xfrm, request: &KernelRequest) {
        match request {
            KernelRequest::AddChild { child, .. } => self.push_add(xfrm, child),
            KernelRequest::AddOutbound { child } => self.push_outbound(xfrm, child),
            KernelRequest::DeleteChild { child } => self.push_delete(xfrm, child),
            // `relocate` does those: it must read before it writes.
            KernelRequest::MoveChild { .. } => self.refuse(libc::EOPNOTSUPP, "move SA"),
            // `sadb` has methods for those.
            KernelRequest::Count { .. }
            | KernelRequest::LastCount { .. }
            | KernelRequest::Couple { .. }
            | KernelRequest::SetTraps { .. }
            | KernelRequest::Grant { .. }
            | KernelRequest::Return { .. } => {
                self.refuse(libc::EOPNOTSUPP, "policies");
            }
        }
    }

    /// Adds a request that is refused here.
    pub(super) fn refuse(&mut self, errno: i32, action: &'static str) {
        let error = KernelError { errno, action };
        self.outcomes.push(Outcome::Refused(error));
    }

    /// Begins a request whose messages follow.
    pub(super) fn begin(&mut self) {
        self.outcomes.push(Outcome::Sent);
    }

    /// Adds only the policies of a Child SA whose SAs stand.
    pub(super) fn push_policies(&mut self, xfrm: &mut Xfrm, child: &ChildRemove) {
        self.begin();
        self.add_policies(xfrm, child);
    }

    /// Puts a trap in the place of the policies of its selectors.
    pub(super) fn push_trap(&mut self, xfrm: &mut Xfrm, trap: &Trap, reqid: u32) {
        self.begin();
        let (direction, pair) = (Direction::Out, trap.pair);
        let seq = self.step(xfrm, Action::AddPolicy { direction, pair });
        let template = entry::trap(trap, reqid);
        self.requests
            .update_policy(seq, direction, &pair, pair.trap_priority(), &template);
        self.delete_policies(xfrm, &pair, &[Direction::Forward, Direction::In]);
    }

    /// Removes all policies of these selectors.
    pub(super) fn push_no_policies(&mut self, xfrm: &mut Xfrm, pair: &SelectorPair) {
        self.begin();
        self.delete_policies(xfrm, pair, &ALL_DIRECTIONS);
    }

    fn delete_policies(&mut self, xfrm: &mut Xfrm, pair: &SelectorPair, which: &[Direction]) {
        for direction in which {
            let seq = self.step(xfrm, Action::Delete);
            self.requests.del_policy(seq, *direction, pair);
        }
    }

    fn push_add(&mut self, xfrm: &mut Xfrm, child: &ChildInstall) {
        let Some((algorithms, device)) = self.begin_add(child) else {
            return;
        };
        let mut comp = entry::compression(child, Algorithms::NONE);
        // The inbound SAs first: nothing may go out before an answer could come in.
        for sa in comp.by_ref().take(1) {
            self.add_sa(xfrm, &sa);
        }
        self.add_sa(xfrm, &with(entry::inbound(child, algorithms), device, true));
        if !child.receive_only {
            for sa in comp {
                self.add_sa(xfrm, &sa);
            }
            let sa = entry::outbound(child, algorithms);
            self.add_sa(xfrm, &with(sa, device, false));
        }
        self.add_policies(xfrm, &child.names);
    }

    fn push_outbound(&mut self, xfrm: &mut Xfrm, child: &ChildInstall) {
        if let Some((algorithms, device)) = self.begin_add(child) {
            for sa in entry::compression(child, Algorithms::NONE).skip(1) {
                self.add_sa(xfrm, &sa);
            }
            let sa = entry::outbound(child, algorithms);
            self.add_sa(xfrm, &with(sa, device, false));
        }
    }

    /// The algorithms of a request that adds SAs, and the device that is to do them; `None`: it was
    /// refused here.
    fn begin_add(&mut self, child: &ChildInstall) -> Option<(Algorithms, Option<u32>)> {
        let algorithms = Algorithms::of(child.names.protocol, &child.transforms);
        let Some(algorithms) = algorithms else {
            self.refuse(libc::EOPNOTSUPP, "add SA");
            return None;
        };
        let Ok(device) = offload(child).map(interface_index).transpose() else {
            self.refuse(libc::ENODEV, "offload");
            return None;
        };
        self.begin();
        Some((algorithms, device))
    }

    fn add_sa(&mut self, xfrm: &mut Xfrm, sa: &SaEntry<'_>) {
        let action = Action::AddSa {
            destination: sa.destination,
            spi: sa.spi,
            protocol: sa.protocol,
        };
        let seq = self.step(xfrm, action);
        self.requests.new_sa(seq, sa);
    }

    fn push_delete(&mut self, xfrm: &mut Xfrm, child: &ChildRemove) {
        self.begin();
        for pair in &child.selectors {
            // All three: a policy of the other mode with this selector has no owner then, either.
            self.delete_policies(xfrm, pair, &ALL_DIRECTIONS);
        }
        for (destination, spi) in [
            (child.remote, child.outbound_spi),
            (child.local, child.inbound_spi),
        ] {
            self.delete_sa(xfrm, destination, spi, child.protocol.into());
        }
        for (destination, cpi) in child.comps() {
            self.delete_sa(xfrm, destination, cpi.as_spi(), IpProtocol::Comp);
        }
    }

    /// Deletes an SA, if it is there.
    pub(super) fn delete_sa(
        &mut self,
        xfrm: &mut Xfrm,
        destination: IpAddr,
        spi: EspSpi,
        protocol: IpProtocol,
    ) {
        let seq = self.step(xfrm, Action::Delete);
        self.requests.del_sa(seq, destination, spi, protocol);
    }

    /// Adds an SA made of what the kernel told of another.
    pub(super) fn copy_sa(&mut self, xfrm: &mut Xfrm, copy: &Copy<'_>) {
        let action = match copy.way {
            Way::Beside => Action::AddSa {
                destination: copy.destination,
                spi: copy.spi,
                protocol: copy.protocol,
            },
            Way::Instead | Way::InPlace => Action::Replace,
        };
        let seq = self.step(xfrm, action);
        self.requests.copy_sa(seq, copy);
    }

    /// Writes the policies of a Child SA.
    pub(super) fn add_policies(&mut self, xfrm: &mut Xfrm, child: &ChildRemove) {
        for (direction, pair, template) in entry::policies(child) {
            let seq = self.step(xfrm, Action::AddPolicy { direction, pair });
            self.requests
                .update_policy(seq, direction, &pair, pair.priority(), &template);
        }
    }

    fn step(&mut self, xfrm: &mut Xfrm, action: Action) -> u32 {
        let seq = xfrm.next_seq();
        let request = self.outcomes.len().saturating_sub(1);
        self.steps.push(Step {
            seq,
            request,
            action,
        });
        seq
    }

    /// Sends the chunk, undoes what failed half-way, and tells one result for each request.
    pub(super) fn run(mut self, xfrm: &mut Xfrm) -> Vec<Result<(), KernelError>> {
        let answers = match self.steps.last() {
            Some(last) => xfrm.transact(&mut self.requests, last.seq),
            None => Ok(BTreeMap::new()),
        };
        let mut results = Vec::with_capacity(self.outcomes.len());
        for outcome in &self.outcomes {
            results.push(match outcome {
                Outcome::Sent => Ok(()),
                Outcome::Refused(error) => Err(error.clone()),
            });
        }
        for step in &self.steps {
            let Some(result) = results.get_mut(step.request) else {
                continue;
            };
            let errno = match &answers {
                Ok(errors) => errors.get(&step.seq).copied(),
                Err(errno) => Some(*errno),
            };
            let Some(errno) = errno else { continue };
            if step.action.forgives(errno) || result.is_err() {
                continue;
            }
            *result = Err(KernelError {
                errno,
                action: step.action.name(),
            });
        }
        self.undo(xfrm, &answers, &results);
        results
    }

    /// Takes back every message that succeeded of a request that failed. When all answers were
    /// lost everything is taken back that may have been done.
    fn undo(
        &self,
        xfrm: &mut Xfrm,
        answers: &Result<BTreeMap<u32, i32>, i32>,
        results: &[Result<(), KernelError>],
    ) {
        let mut requests = Requests::with_capacity(0);
        let mut last = 0;
        for step in &self.steps {
            if results.get(step.request).is_none_or(Result::is_ok) {
                continue;
            }
            if answers
                .as_ref()
                .is_ok_and(|errors| errors.contains_key(&step.seq))
            {
                continue;
            }
            match step.action {
                Action::AddSa {
                    destination,
                    spi,
                    protocol,
                } => {
                    last = xfrm.next_seq();
                    requests.del_sa(last, destination, spi, protocol);
                }
                Action::AddPolicy { direction, pair } => {
                    last = xfrm.next_seq();
                    requests.del_policy(last, direction, &pair);
                }
                Action::Replace | Action::Delete => {}
            }
        }
        if !requests.is_empty() {
            // What cannot be taken back either is not there or dies with its lifetime.
            let _ = xfrm.transact(&mut requests, last);
        }
    }
}

/// The device that is to do the cryptography. No kernel hands on what is encapsulated in UDP or
/// compressed: that stays with the processor.
fn offload(child: &ChildInstall) -> Option<&str> {
    let plain = child.encap.is_none() && child.names.ipcomp.is_none();
    child.offload.as_deref().filter(|_| plain)
}

fn with(sa: SaEntry<'_>, device: Option<u32>, inbound: bool) -> SaEntry<'_> {
    SaEntry {
        offload: device.map(|device| Offload { device, inbound }),
        ..sa
    }
}

const ALL_DIRECTIONS: [Direction; 3] = [Direction::Out, Direction::Forward, Direction::In];
/// Bytes after which a chunk is sent: about 50 Child SAs with one selector pair each.
const CHUNK_LEN_MAX: usize = 96 * 1024;
/// Messages after which a chunk is sent: should all fail, their answers fit our receive buffer.
const CHUNK_STEPS_MAX: usize = 512;
