//! What is counted of peers that a RADIUS server let in, for the accounting servers (RFC 2866): an
//! account is opened with the IKE SA, goes with it through its rekeys, and is closed when the
//! kernel has counted the last of its Child SAs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::agenda::Task;
use super::context::Context;
use super::exchange::relay::Admission;
use super::ike_sa::{IkeSa, KERNEL_WAIT_MAX};
use crate::kernel::{Count, KernelRequest, Volume};
use crate::lookup::port::Record;
use crate::radius::dae::Rights;
use crate::radius::request::Cause;
use crate::radius::{Facts, Figures, Moment};
use crate::time::Now;
use crate::wire::spi::EspSpi;

/// All accounts of a shard.
#[derive(Debug, Default)]
pub struct Accounts {
    open: BTreeMap<u64, Account>,
    next: u64,
    /// The account of each Child SA, by inbound SPI.
    owners: BTreeMap<EspSpi, u64>,
    /// What must be told, as soon as the time is known.
    due: Vec<(u64, Moment)>,
    /// Accounts whose peers are gone while the kernel counts; `None`: not looked at yet.
    ended: BTreeMap<u64, Option<Instant>>,
}

#[derive(Debug)]
struct Account {
    facts: Facts,
    class: Vec<Vec<u8>>,
    addresses: Vec<IpAddr>,
    begun_at: Instant,
    /// When the server wants the peer gone.
    ends_at: Option<Instant>,
    interval: Duration,
    /// What the Child SAs that there are have had, from the peer and to it.
    children: BTreeMap<EspSpi, [Volume; 2]>,
    /// Those of them that the kernel counts for the last time.
    going: BTreeSet<EspSpi>,
    /// What those had that are gone.
    past: [Volume; 2],
    /// The next count is to be told.
    reports: bool,
    cause: Option<Cause>,
}

impl Accounts {
    /// When the kernel's last counts are waited for no longer, if there are any to wait for.
    pub fn until(&self) -> Option<Instant> {
        self.ended.values().copied().flatten().min()
    }

    fn of(&mut self, sa: &IkeSa) -> Option<(u64, &mut Account)> {
        let number = sa.admission.as_ref()?.account?;
        Some((number, self.open.get_mut(&number)?))
    }

    fn of_child(&mut self, spi: EspSpi) -> Option<(u64, &mut Account)> {
        let number = *self.owners.get(&spi)?;
        Some((number, self.open.get_mut(&number)?))
    }
}

impl Account {
    fn figures(&self, now: Now) -> Figures {
        let at = now.wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        let stay = now.mono.saturating_duration_since(self.begun_at);
        let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let children = self.children.values().copied();
        let sum = children.fold(self.past, add);
        Figures {
            at: seconds(at),
            seconds: seconds(stay),
            octets: sum.map(|volume| volume.octets),
            packets: sum.map(|volume| volume.packets),
            class: self.class.clone(),
            addresses: self.addresses.clone(),
        }
    }

    /// A Child SA is gone for good.
    fn close_child(&mut self, spi: EspSpi) {
        self.going.remove(&spi);
        if let Some(had) = self.children.remove(&spi) {
            self.past = add(self.past, had);
        }
    }
}

fn add(a: [Volume; 2], b: [Volume; 2]) -> [Volume; 2] {
    let ([from, to], [more_from, more_to]) = (a, b);
    let sum = |one: Volume, other: Volume| Volume {
        packets: one.packets.saturating_add(other.packets),
        octets: one.octets.saturating_add(other.octets),
    };
    [sum(from, more_from), sum(to, more_to)]
}

/// The IKE SA is up: if a RADIUS server let its peer in and another one keeps accounts, it has one.
pub fn open(cx: &mut Context, sa: &mut IkeSa, now: Now) {
    if cx.config.radius.accounting.list.is_empty() {
        return;
    }
    let held = [sa.lease.v4, sa.lease.v6].into_iter().flatten();
    let addresses = held.map(|(address, _)| address).collect();
    let Some(admission) = &mut sa.admission else {
        return;
    };
    let Some(facts) = &admission.facts else {
        return;
    };
    let interval = admission
        .interim
        .map_or(INTERVAL, |wanted| wanted.max(INTERVAL_MIN));
    let stay = admission.session_timeout;
    let account = Account {
        facts: Facts::clone(facts),
        class: admission.class.clone(),
        addresses,
        begun_at: now.mono,
        ends_at: stay.and_then(|stay| now.mono.checked_add(stay)),
        interval,
        children: BTreeMap::new(),
        going: BTreeSet::new(),
        past: Default::default(),
        reports: false,
        cause: None,
    };
    let accounts = &mut cx.accounts;
    let number = accounts.next;
    accounts.next += 1;
    admission.account = Some(number);
    accounts.open.insert(number, account);
    accounts.due.push((number, Moment::Start));
    sa.agenda.plan(now.mono + interval, Task::Report);
}

/// A Child SA has come, by inbound SPI.
pub fn watch(cx: &mut Context, sa: &IkeSa, spi: EspSpi) {
    let Some((number, account)) = cx.accounts.of(sa) else {
        return;
    };
    account.children.insert(spi, Default::default());
    cx.accounts.owners.insert(spi, number);
}

/// It is time to tell what was counted: asks the kernel for it.
pub fn report(cx: &mut Context, sa: &mut IkeSa, now: Instant) {
    let Some((number, account)) = cx.accounts.of(sa) else {
        return;
    };
    sa.agenda.plan(now + account.interval, Task::Report);
    let loaded = sa.children.iter().filter(|child| child.loaded);
    let children: Vec<EspSpi> = loaded.map(|child| child.names.inbound_spi).collect();
    if children.is_empty() {
        return cx.accounts.due.push((number, Moment::Interim));
    }
    account.reports = true;
    let asker = sa.own_spi;
    cx.out
        .kernel
        .push_back(KernelRequest::Count { asker, children });
}

/// The kernel has counted for this IKE SA, whoever asked.
pub fn counted(cx: &mut Context, sa: &IkeSa, counts: &[Count]) {
    for count in counts {
        if let Some((_, account)) = cx.accounts.of_child(count.spi)
            && let Some(had) = account.children.get_mut(&count.spi)
        {
            *had = [count.inbound, count.outbound];
        }
    }
    if let Some((number, account)) = cx.accounts.of(sa)
        && std::mem::take(&mut account.reports)
    {
        cx.accounts.due.push((number, Moment::Interim));
    }
}

/// A Child SA is about to be removed from the kernel: asks for its last count first.
pub fn part(cx: &mut Context, child: EspSpi) {
    let Some((account, open)) = cx.accounts.of_child(child) else {
        return;
    };
    open.going.insert(child);
    cx.out
        .kernel
        .push_back(KernelRequest::LastCount { account, child });
}

/// A Child SA is gone; unless the kernel still counts, what is known of it is all.
pub fn forget(cx: &mut Context, spi: EspSpi) {
    if let Some((_, account)) = cx.accounts.of_child(spi)
        && !account.going.contains(&spi)
    {
        account.close_child(spi);
    }
    cx.accounts.owners.remove(&spi);
}

/// The kernel's last count of a Child SA; none where it was gone already.
pub fn last(cx: &mut Context, account: u64, spi: EspSpi, count: Option<Count>) {
    let Some(account) = cx.accounts.open.get_mut(&account) else {
        return;
    };
    if let (Some(count), Some(had)) = (count, account.children.get_mut(&spi)) {
        *had = [count.inbound, count.outbound];
    }
    account.close_child(spi);
}

/// Notes why an IKE SA will end; what is said first counts.
pub fn because(cx: &mut Context, sa: &IkeSa, cause: Cause) {
    if let Some((_, account)) = cx.accounts.of(sa) {
        account.cause.get_or_insert(cause);
    }
}

/// The server that knows the peer changes how long it may stay, from now, or how often that is told.
pub fn change(cx: &mut Context, sa: &mut IkeSa, now: Instant, rights: &Rights) {
    let Some((_, account)) = cx.accounts.of(sa) else {
        return;
    };
    if let Some(stay) = rights.session_timeout {
        account.ends_at = now.checked_add(stay);
    }
    if let Some(interval) = rights.interim {
        account.interval = interval.max(INTERVAL_MIN);
        sa.agenda.strike(&Task::Report);
        sa.agenda.plan(now + account.interval, Task::Report);
    }
}

/// An IKE SA ends by itself: because its peer may stay no longer, if that is so.
pub fn out_of_time(cx: &mut Context, sa: &IkeSa, now: Instant) {
    let account = cx.accounts.of(sa);
    if account.is_some_and(|(_, account)| account.ends_at.is_some_and(|at| at <= now)) {
        because(cx, sa, Cause::SessionTimeout);
    }
}

/// The IKE SA of this account is gone.
pub fn end(cx: &mut Context, admission: Option<&Admission>) {
    let number = admission.and_then(|admission| admission.account);
    let accounts = &mut cx.accounts;
    if let Some(number) = number.filter(|number| accounts.open.contains_key(number)) {
        accounts.ended.entry(number).or_insert(None);
    }
}

/// Writes the records that are due. An account is closed once the kernel has counted, or will not.
pub fn settle(cx: &mut Context, now: Now) {
    let accounts = &mut cx.accounts;
    let mut due = std::mem::take(&mut accounts.due);
    accounts.ended.retain(|&number, until| {
        let Some(account) = accounts.open.get(&number) else {
            return false;
        };
        let until = *until.get_or_insert(now.mono + KERNEL_WAIT_MAX);
        if !account.going.is_empty() && now.mono < until {
            return true;
        }
        let cause = account.cause.unwrap_or(Cause::NasRequest);
        due.push((number, Moment::Stop(cause)));
        false
    });
    for (number, moment) in due {
        let Some(account) = accounts.open.get(&number) else {
            continue;
        };
        cx.out.records.push_back(Record {
            facts: account.facts.clone(),
            moment,
            figures: account.figures(now),
        });
        if matches!(moment, Moment::Stop(_)) {
            accounts.open.remove(&number);
        }
    }
}

/// Between two reports where the server does not say; what RFC 2869, 5.16 calls reasonable.
const INTERVAL: Duration = Duration::from_secs(600);
/// The least that a server may want (RFC 2869, 5.16).
const INTERVAL_MIN: Duration = Duration::from_secs(60);
