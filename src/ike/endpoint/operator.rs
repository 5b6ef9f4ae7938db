//! What the operator asks for: commands, `show sa`, a new configuration.

use super::{Endpoint, SHOW_CHUNK, Show};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::super::account;
use super::super::event::{Command, Level, Reply};
use super::super::exchange::redirect::{self, Start};
use super::super::exchange::relay;
use super::super::exchange::{announce, informational, mobike, reauth, sa_init_initiator};
use super::super::ike_sa::IkeSa;
use super::super::own;
use super::super::record;
use super::super::show;
use super::super::state::State;
use super::super::table::Key;
use super::super::trap;

use crate::auth::store::CredentialStore;
use crate::policy::Config;
use crate::radius::dae::{Order, Target};
use crate::radius::request::Cause;
use crate::time::Now;
use crate::wire::spi::IkeSpi;

impl Endpoint {
    /// Takes an operator's command; `id` comes back with each reply.
    pub fn handle_command(&mut self, now: Now, id: u64, command: Command) {
        let count = match command {
            Command::ShowSa { json } => {
                let left = self.table.keys_by_spi().into();
                return self.shows.push_back(Show { id, left, json });
            }
            Command::ShowPools => return self.reply(id, Reply::Pools(self.cx.pools.leased())),
            Command::ShowStats => {
                return self.reply(id, Reply::Stats(Box::new(self.cx.stats.clone())));
            }
            Command::ResetAll => self.each(now, |endpoint, sa| {
                account::because(&mut endpoint.cx, sa, Cause::AdminReset);
                endpoint.close(sa, "reset");
            }),
            Command::ResetSa => self.each(now, |endpoint, sa| {
                endpoint.delete(sa, now.mono, Cause::AdminReset);
            }),
            Command::ResetId(wanted) => self.each_where(
                now,
                |sa| {
                    let peer = sa.peer_id.as_ref();
                    peer.is_some_and(|id| id.to_string() == wanted)
                },
                |endpoint, sa| endpoint.delete(sa, now.mono, Cause::AdminReset),
            ),
            Command::Active(active) => {
                self.cx.active = active;
                self.plan_starts(now.mono);
                trap::refresh(&mut self.cx);
                0
            }
            Command::Couple(true) => return self.ask_to_couple(Some(id)),
            Command::Couple(false) => self.decouple(now),
            Command::Redirect(to) => self.each(now, |endpoint, sa| {
                redirect::send(&mut endpoint.cx, sa, now, to);
            }),
            Command::Initiate(index) => {
                let policy = self.cx.config.policies.get(index as usize).cloned();
                // An active policy has its IKE SA or will have it: a second one helps nobody.
                let wanted = policy.filter(|policy| self.cx.served(policy) <= 0);
                wanted.map_or(0, |policy| self.initiate(now, Start::of(policy)))
            }
            Command::LocalAddress { old, new, towards } => self.each_where(
                now,
                |sa| {
                    let remote = sa.path.remote.ip();
                    sa.path.local.ip() == old && towards.is_none_or(|peer| peer == remote)
                },
                |endpoint, sa| {
                    if mobike::change_address(&mut endpoint.cx, sa, now.mono, old, new) {
                        own::advance(&mut endpoint.cx, sa, now);
                    }
                },
            ),
            Command::Shutdown => {
                trap::clear(&mut self.cx);
                self.each(now, |endpoint, sa| {
                    endpoint.delete(sa, now.mono, Cause::AdminReboot);
                    sa.state = State::Closed;
                })
            }
        };
        self.reply(id, Reply::Done { count });
    }

    /// Our address of one IKE SA, named by our SPI, is another from now on; whether it says so to its
    /// peer, which takes one that is up and MOBIKE.
    pub fn move_ike_sa(&mut self, now: Now, own_spi: IkeSpi, new: IpAddr) -> bool {
        self.one(own_spi, now, |endpoint, sa| {
            let old = sa.path.local.ip();
            let moves = mobike::change_address(&mut endpoint.cx, sa, now.mono, old, new);
            if moves {
                own::advance(&mut endpoint.cx, sa, now);
            }
            moves
        })
    }

    /// Ends one IKE SA, named by our SPI, with a Delete or without a word; whether there was one.
    pub fn end_ike_sa(&mut self, now: Now, own_spi: IkeSpi, tell: bool) -> bool {
        self.one(own_spi, now, |endpoint, sa| {
            if tell {
                endpoint.delete(sa, now.mono, Cause::UserRequest);
            } else {
                endpoint.close(sa, "given up");
            }
            true
        })
    }

    fn one(
        &mut self,
        own_spi: IkeSpi,
        now: Now,
        act: impl FnOnce(&mut Self, &mut IkeSa) -> bool,
    ) -> bool {
        let Some(key) = self.table.by_spi(own_spi) else {
            return false;
        };
        let Some(mut sa) = self.table.take(key) else {
            return false;
        };
        let acted = act(self, &mut sa);
        self.give_back(now, key, sa);
        acted
    }

    pub(super) fn reply(&mut self, id: u64, reply: Reply) {
        self.cx.out.replies.push_back((id, reply));
    }

    pub(super) fn initiate(&mut self, now: Now, start: Start) -> usize {
        let Some(sa) = sa_init_initiator::start(&mut self.cx, now, start) else {
            return 0;
        };
        self.table.insert(&mut self.cx, sa);
        self.spread_news(now);
        1
    }

    fn each(&mut self, now: Now, act: impl FnMut(&mut Self, &mut IkeSa)) -> usize {
        self.each_where(now, |_| true, act)
    }

    pub(super) fn each_where(
        &mut self,
        now: Now,
        wanted: impl Fn(&IkeSa) -> bool,
        mut act: impl FnMut(&mut Self, &mut IkeSa),
    ) -> usize {
        let mut count = 0;
        for key in self.table.keys_by_spi() {
            if !self.table.get(key).is_some_and(&wanted) {
                continue;
            }
            let Some(mut sa) = self.table.take(key) else {
                continue;
            };
            act(self, &mut sa);
            self.give_back(now, key, sa);
            count += 1;
        }
        count
    }

    /// Ends an IKE SA without a word to the peer.
    pub(super) fn close(&mut self, sa: &mut IkeSa, reason: &str) {
        // Anybody can make half-open IKE SAs, and so their ends.
        let unauthenticated = matches!(sa.state, State::AwaitAuthRequest(_));
        let line = format_args!("{}: sa_free: {reason}", sa.tag());
        self.cx.log(Level::Info, line, unauthenticated);
        if matches!(sa.state, State::Established(_)) {
            self.cx.stats.sa_established_current =
                self.cx.stats.sa_established_current.saturating_sub(1);
        }
        sa.release(&mut self.cx);
        sa.state = State::Closed;
    }

    /// Deletes an IKE SA: tells the peer where there is an established one.
    fn delete(&mut self, sa: &mut IkeSa, now: Instant, cause: Cause) {
        account::because(&mut self.cx, sa, cause);
        if matches!(sa.state, State::Established(_)) {
            informational::delete(&mut self.cx, sa, now);
        } else if !matches!(sa.state, State::Deleting(_)) {
            self.close(sa, "reset");
        }
    }

    /// Does what a RADIUS server wants; to how many IKE SAs.
    pub fn obey(&mut self, now: Now, order: &Order) -> usize {
        match order {
            Order::Disconnect(target) => self.disconnect(now, target),
            Order::Change(target, rights) => self.each_where(
                now,
                |sa| matches!(sa.state, State::Established(_)) && relay::is_meant(sa, target),
                |endpoint, sa| {
                    let line = format_args!("{}: {rights:?} by a RADIUS server", sa.tag());
                    endpoint.cx.info(line);
                    reauth::change(&endpoint.cx, sa, now.mono, rights);
                    account::change(&mut endpoint.cx, sa, now.mono, rights);
                },
            ),
            Order::Refuse(_) => 0,
        }
    }

    /// Deletes the IKE SAs that a RADIUS server means, telling the peers; how many there were.
    fn disconnect(&mut self, now: Now, target: &Target) -> usize {
        self.each_where(
            now,
            |sa| matches!(sa.state, State::Established(_)) && relay::is_meant(sa, target),
            |endpoint, sa| {
                let line = format_args!("{}: ended by a RADIUS server", sa.tag());
                endpoint.cx.info(line);
                endpoint.delete(sa, now.mono, Cause::AdminReset);
            },
        )
    }

    /// Takes a new configuration; IKE SAs keep the policy they were made by.
    pub fn handle_config(&mut self, now: Now, config: Arc<Config>) {
        let couple = config.settings.couple;
        self.cx.active = config.settings.active;
        let hashes = self.cx.provider.signature_hashes;
        self.cx.announced = announce::Ours::of(&config, hashes);
        self.cx.config = config;
        self.plan_starts(now.mono);
        match (couple, self.cx.coupled) {
            (true, true) | (false, false) => trap::refresh(&mut self.cx),
            (true, false) => self.ask_to_couple(None),
            (false, true) => {
                self.decouple(now);
            }
        }
    }

    /// Takes keys and certificates that were read again; IKE SAs that are up stay.
    pub fn handle_credentials(&mut self, store: Arc<CredentialStore>) {
        self.cx.store = store;
        self.cx.chains.clear();
    }

    pub(super) fn show_chunk(&mut self) {
        let Some(show) = self.shows.front_mut() else {
            return;
        };
        let (count, json) = (show.left.len().min(SHOW_CHUNK), show.json);
        let keys: Vec<Key> = show.left.drain(..count).collect();
        let lines = keys
            .iter()
            .filter_map(|&key| self.table.get(key))
            .flat_map(|sa| {
                if json {
                    vec![record::sa(sa)]
                } else {
                    show::sa(sa)
                }
            })
            .collect();
        let more = !show.left.is_empty();
        self.cx
            .out
            .replies
            .push_back((show.id, Reply::Text { lines, more }));
        if !more {
            self.shows.pop_front();
        }
    }
}
