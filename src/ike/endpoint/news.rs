//! What the shards of one daemon tell each other about their peers: who has no other IKE SA, which
//! active policies have one, and that of two IKE SAs, begun by both ends at once, one must go.
//!
//! Of those two the one stays that the end with the lower identity began, which both ends can tell.
//! That end deletes the other, once the peer has answered on the one that stays: then it is up at
//! both ends, and nothing is lost.

use std::time::{Duration, Instant};

use super::super::agenda::Task;
use super::super::context::Context;
use super::super::event::{Event, News};
use super::super::exchange::{asking, informational};
use super::super::ike_sa::IkeSa;
use super::super::lease::Lease;
use super::super::own;
use super::super::state::State;
use super::Endpoint;

use crate::lookup::port::LookupId;
use crate::policy::{Identity, IpNet};
use crate::time::Now;
use crate::wire::spi::IkeSpi;

impl Endpoint {
    /// Takes what another shard has to tell.
    pub fn handle_news(&mut self, now: Now, news: News) {
        self.take_news(now, news);
        self.spread_news(now);
    }

    fn take_news(&mut self, now: Now, news: News) {
        match news {
            News::InitialContact {
                identity,
                except,
                since,
            } => self.drop_others(&identity, except, since),
            News::Served { policy, more } => self.cx.count_served(&policy, more),
            News::Wanted { policy, pair } => {
                let keys = self.table.by_policy(&policy);
                self.make_wanted(now, &keys, pair);
            }
            News::Claim {
                identity,
                pools,
                by,
            } => self.cede(now, &identity, &pools, by),
            News::Ceded { to, lease } => self.ceded(now, to, lease),
            News::Returned { address, net, .. } => {
                let piece = Some((address, Some(net)));
                let (v4, v6) = if address.is_ipv4() {
                    (piece, None)
                } else {
                    (None, piece)
                };
                self.cx.free(Lease { v4, v6 });
            }
            News::Doubled { policy, identity } => {
                self.each_of(now, &policy, &identity, |_, sa| confirm(sa, now.mono));
            }
            News::Renewed {
                policy,
                identity,
                by,
            } => self.each_of(now, &policy, &identity, |cx, sa| {
                if sa.own_spi != by && sa.mobility.leads {
                    cx.info(format_args!("{}: replaced by another IKE SA", sa.tag()));
                    sa.agenda.plan(now.mono, Task::Retire);
                }
            }),
            News::Single { policy, identity } => {
                self.each_of(now, &policy, &identity, |cx, sa| yield_to(cx, sa, now.mono));
            }
        }
    }

    /// Hands what exchanges had to tell to this shard and to the others.
    pub(super) fn spread_news(&mut self, now: Now) {
        while let Some(news) = self.next_news(now) {
            let (to, own) = (news.to(), self.cx.shard);
            // Own IKE SAs are counted where they come and go.
            if to.is_none_or(|to| to == own) && !matches!(news, News::Served { .. }) {
                self.take_news(now, news.clone());
            }
            if to != Some(own) {
                self.cx.out.events.push_back(Event::News(news));
            }
        }
    }

    fn next_news(&mut self, now: Now) -> Option<News> {
        for (identity, lease) in std::mem::take(&mut self.cx.out.left) {
            if let Some(before) = self.cx.held.hold(now.mono, identity, lease) {
                self.cx.free(before);
            }
        }
        self.cx.out.news.pop_front()
    }

    /// Hands over what this shard has for the peer of these pools: of an IKE SA that is up, which
    /// then goes, or of one that is gone. Answers in any case.
    fn cede(&mut self, now: Now, identity: &Identity, pools: &[IpNet], by: LookupId) {
        let mut lease = self.cx.held.take(identity, pools);
        for key in self.table.by_identity(identity) {
            if !lease.is_empty() {
                break;
            }
            let Some(mut sa) = self.table.take(key) else {
                continue;
            };
            if sa.own_spi != by.spi && matches!(sa.state, State::Established(_)) {
                lease = sa.lease.take_of(pools);
                self.cx.move_out(&lease);
            }
            if !lease.is_empty() {
                let why = "address re-use (identical dstid)";
                self.cx.info(format_args!("{}: {why}", sa.tag()));
                informational::delete(&mut self.cx, &mut sa, now.mono);
            }
            self.table.put(&mut self.cx, key, sa);
        }
        self.cx.out.news.push_back(News::Ceded { to: by, lease });
    }

    /// A shard has answered a claim of ours. Who asked may be gone or have been served.
    fn ceded(&mut self, now: Now, to: LookupId, lease: Lease) {
        let key = self.table.by_spi(to.spi);
        let Some((key, mut sa)) = key.and_then(|key| Some((key, self.table.take(key)?))) else {
            return self.cx.free(lease);
        };
        if asking::ceded(&mut self.cx, &mut sa, now, to.serial, lease) {
            own::advance(&mut self.cx, &mut sa, now);
        } else {
            self.cx.free(lease);
        }
        self.table.put(&mut self.cx, key, sa);
    }

    /// The peer with this identity has no IKE SA of before but `except`: drops what is left of
    /// others, silently, since the peer does not know them (RFC 7296, 2.4). Not those on which it
    /// has spoken `since` it began that one: it knows them.
    fn drop_others(&mut self, identity: &Identity, except: IkeSpi, since: Instant) {
        for key in self.table.by_identity(identity) {
            let Some(mut sa) = self.table.take(key) else {
                continue;
            };
            if sa.own_spi != except && sa.heard_at <= since {
                self.close(&mut sa, "initial contact");
            }
            self.table.put(&mut self.cx, key, sa);
        }
    }

    /// Every IKE SA of this policy and peer that is up and not replaced.
    fn each_of(
        &mut self,
        now: Now,
        policy: &str,
        identity: &Identity,
        act: impl Fn(&mut Context, &mut IkeSa),
    ) {
        for key in self.table.by_identity(identity) {
            let Some(mut sa) = self.table.take(key) else {
                continue;
            };
            let lasting = matches!(&sa.state, State::Established(up) if up.successor.is_none());
            if lasting && sa.policy.name == policy {
                act(&mut self.cx, &mut sa);
                own::advance(&mut self.cx, &mut sa, now);
            }
            self.table.put(&mut self.cx, key, sa);
        }
    }
}

/// An IKE SA of an active policy is up: there may be another, begun by the other end.
pub fn announce(cx: &mut Context, sa: &mut IkeSa) {
    if std::mem::take(&mut sa.renews)
        && let Some(identity) = sa.peer_id.clone()
    {
        let (policy, by) = (sa.policy.name.clone(), sa.own_spi);
        cx.out.news.push_back(News::Renewed {
            policy,
            identity,
            by,
        });
    }
    let decides = sa.peer_id.as_ref().is_some_and(|id| sa.policy.srcid < *id);
    if !sa.policy.active || !decides {
        return;
    }
    let Some(identity) = sa.peer_id.clone() else {
        return;
    };
    let policy = sa.policy.name.clone();
    cx.out.news.push_back(if sa.mobility.leads {
        News::Single { policy, identity }
    } else {
        News::Doubled { policy, identity }
    });
}

/// The peer has begun an IKE SA as well. If this is the one that stays, is it up at the peer, too?
fn confirm(sa: &mut IkeSa, now: Instant) {
    if sa.policy.active && sa.mobility.leads {
        sa.wants_single = true;
        sa.agenda.plan(now, Task::Confirm);
    }
}

/// The IKE SA that we began is up at both ends: this one, if the peer began it, goes.
fn yield_to(cx: &mut Context, sa: &mut IkeSa, now: Instant) {
    if sa.mobility.leads || !sa.policy.active {
        return;
    }
    let name = sa.policy.name.as_str();
    let last = cx.singled.get(name).copied();
    // A peer that begins again at once, each time, must not keep us busy with deleting.
    let (not_before, pause) = last.unwrap_or((now, PAUSE_MIN));
    if now < not_before {
        return sa.agenda.plan(not_before, Task::ReportDouble);
    }
    let again = last.is_some() && now < not_before + pause;
    let pause = if again {
        (pause * 2).min(PAUSE_MAX)
    } else {
        PAUSE_MIN
    };
    cx.singled.insert(name.to_owned(), (now + pause, pause));
    cx.info(format_args!(
        "{}: another IKE SA serves policy '{name}'",
        sa.tag()
    ));
    sa.agenda.plan(now, Task::Retire);
}

/// Between two deletions of an IKE SA that is one too many, by the same policy.
const PAUSE_MIN: Duration = Duration::from_secs(60);
const PAUSE_MAX: Duration = Duration::from_secs(3600);
