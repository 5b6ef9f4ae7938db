//! A kernel that says yes to everything and lets lifetimes pass: what the endpoints ask is answered
//! here, so that their peers rekey and probe as with a real one. It claims to send packets all the
//! time and to get none, and that is when a peer is asked whether it lives.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use iked::kernel::{Count, KernelEvent, KernelRequest, Volume};
use iked::wire::spi::EspSpi;

/// The Child SAs that will have to be replaced, by when.
#[derive(Debug, Default)]
pub struct Kernel {
    soft: BTreeSet<(Instant, EspSpi)>,
    /// What every Child SA has sent.
    sent: u64,
    /// Child SAs that were made.
    pub made: u64,
    /// Those of them that go in UDP, because of a NAT.
    pub encapsulated: u64,
}

impl Kernel {
    /// Does what is asked; the answer, where there is one.
    pub fn ask(&mut self, now: Instant, request: KernelRequest) -> Option<KernelEvent> {
        match request {
            KernelRequest::AddChild { id, child } => {
                self.made += 1;
                self.encapsulated += u64::from(child.encap.is_some());
                if child.lifetime_soft > Duration::ZERO {
                    let spi = child.names.inbound_spi;
                    self.soft.insert((now + child.lifetime_soft, spi));
                }
                Some(KernelEvent::Done { id })
            }
            KernelRequest::Count { asker, children } => {
                self.sent += 1;
                let outbound = Volume {
                    packets: self.sent,
                    octets: 0,
                };
                let counts = children.into_iter().map(|spi| Count {
                    spi,
                    inbound: Volume::default(),
                    outbound,
                });
                let counts = counts.collect();
                Some(KernelEvent::Counts { asker, counts })
            }
            KernelRequest::LastCount { account, child } => Some(KernelEvent::LastCount {
                account,
                child,
                count: None,
            }),
            KernelRequest::Couple { id } => Some(KernelEvent::Coupled { id, result: Ok(()) }),
            KernelRequest::AddOutbound { .. }
            | KernelRequest::MoveChild { .. }
            | KernelRequest::DeleteChild { .. }
            | KernelRequest::SetTraps { .. }
            | KernelRequest::Grant { .. }
            | KernelRequest::Return { .. } => None,
        }
    }

    /// When the next lifetime is over.
    pub fn next(&self) -> Option<Instant> {
        self.soft.first().map(|(at, _)| *at)
    }

    /// A lifetime that is over. Of a Child SA that is gone it concerns nobody.
    pub fn due(&mut self, now: Instant) -> Option<KernelEvent> {
        self.soft.first().filter(|(at, _)| *at <= now)?;
        let (_, spi) = self.soft.pop_first()?;
        Some(KernelEvent::Expire { spi, hard: false })
    }
}
