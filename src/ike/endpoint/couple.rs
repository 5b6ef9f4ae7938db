//! Coupled and decoupled: whether what is negotiated goes into the kernel, and what becomes of the Child
//! SAs that there are when the operator changes that.

use super::super::agenda::Task;
use super::super::child_sa::{self, Fate};
use super::super::event::Reply;
use super::super::exchange::create_child_initiator;
use super::super::ike_sa::{self, IkeSa};
use super::super::own;
use super::super::state::State;
use super::super::trap;
use super::Endpoint;
use crate::kernel::{KernelError, KernelRequest, RequestId};
use crate::steer::ShardId;
use crate::time::Now;
use crate::wire::spi::EspSpi;

impl Endpoint {
    /// Asks whether there is a way into the kernel; nothing is loaded before the answer. `asker` is the
    /// operator's command that hears it, if there is one.
    pub(super) fn ask_to_couple(&mut self, asker: Option<u64>) {
        let id = self.cx.next_request();
        self.couplings.push((id, asker));
        self.cx.out.kernel.push_back(KernelRequest::Couple { id });
    }

    /// The answer: from now on what is negotiated is loaded, and first of all what was negotiated until now.
    pub(super) fn coupled(&mut self, now: Now, id: RequestId, result: Result<(), String>) {
        let Some(at) = self.couplings.iter().position(|(asked, _)| *asked == id) else {
            return;
        };
        let (_, asker) = self.couplings.remove(at);
        let reply = match result {
            Ok(()) => {
                self.cx.coupled = true;
                trap::refresh(&mut self.cx);
                let count = self.load_all(now);
                Reply::Done { count }
            }
            Err(why) => {
                // All shards hear the same; one is enough to say so.
                if self.cx.shard == ShardId(0) {
                    self.cx.warn(format_args!("not coupled: {why}"));
                }
                Reply::Failed(why)
            }
        };
        if let Some(asker) = asker {
            self.reply(asker, reply);
        }
    }

    /// Takes everything out of the kernel, and loads nothing from now on. Keys that were in it are not
    /// kept: were they loaded again, nonces would be used twice.
    pub(super) fn decouple(&mut self, now: Now) -> usize {
        self.cx.coupled = false;
        for (_, asker) in std::mem::take(&mut self.couplings) {
            if let Some(asker) = asker {
                self.reply(asker, Reply::Failed("decoupled meanwhile".to_owned()));
            }
        }
        trap::refresh(&mut self.cx);
        self.each_where(
            now,
            |sa| sa.children.iter().any(|child| child.loaded),
            |endpoint, sa| endpoint.unload_children(sa),
        )
    }

    /// Takes the Child SAs of an IKE SA out of the kernel; the IKE SA keeps them.
    pub(super) fn unload_children(&mut self, sa: &mut IkeSa) {
        for child in &mut sa.children {
            child.outbound_waits = None;
            ike_sa::unload_from_kernel(&mut self.cx, child);
        }
    }

    fn load_all(&mut self, now: Now) -> usize {
        self.each_where(
            now,
            |sa| {
                let up = matches!(sa.state, State::Established(_));
                up && sa.children.iter().any(|child| !child.loaded)
            },
            |endpoint, sa| {
                endpoint.load_children(sa, now);
                own::advance(&mut endpoint.cx, sa, now);
            },
        )
    }

    /// Has the kernel take up the Child SAs that are in use: those that it has never had as they are, the
    /// others by a rekey.
    fn load_children(&mut self, sa: &mut IkeSa, now: Now) {
        let grant = sa.grant;
        for child in &mut sa.children {
            if child.loaded || child.fate != Fate::Living {
                continue;
            }
            let spi = child.names.inbound_spi;
            let install = child_sa::install_kept(&mut self.cx, &sa.policy, child, grant, now.mono);
            let Some(install) = install else {
                sa.agenda.plan(now.mono, Task::RekeyChild(spi));
                continue;
            };
            let id = child_sa::request_install(&mut self.cx, install);
            self.loading.insert(id, spi);
            // If it goes before the answer comes, its removal follows the addition.
            child.loaded = true;
        }
    }

    /// The kernel has taken up, or refused, a Child SA that was there before; false if `id` is of none.
    pub(super) fn loaded(
        &mut self,
        now: Now,
        id: RequestId,
        result: &Result<(), KernelError>,
    ) -> bool {
        let Some(spi) = self.loading.remove(&id) else {
            return false;
        };
        if let Err(error) = result {
            self.not_loaded(now, spi, error);
        }
        true
    }

    /// A rekey may fare better: its keys were not kept for another try.
    fn not_loaded(&mut self, now: Now, spi: EspSpi, error: &KernelError) {
        self.cx.stats.kernel_failures += 1;
        let owner = self.cx.children.get(&spi).copied();
        let Some(key) = owner.and_then(|owner| self.table.by_spi(owner)) else {
            return;
        };
        let Some(mut sa) = self.table.take(key) else {
            return;
        };
        let tag = sa.tag();
        self.cx
            .warn(format_args!("{tag}: Child SA {spi} not loaded: {error}"));
        if let Some(child) = sa.child_by_inbound(spi) {
            child.loaded = false;
            create_child_initiator::retry(&mut self.cx, &mut sa, now, spi);
        }
        self.give_back(now, key, sa);
    }
}
