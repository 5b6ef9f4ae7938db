//! What an IKE SA means to do and when: a handful of entries, each at most once, ordered by nobody.

use std::net::IpAddr;
use std::time::Instant;

use crate::kernel::SelectorPair;
use crate::wire::spi::EspSpi;

/// One thing to do. What is seldom and large is in a box: an IKE SA keeps several of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Is the peer alive?
    CheckPeer,
    /// Is this IKE SA, of two that do the same, up at the peer?
    Confirm,
    /// Tell the other shards that this IKE SA may be one too many.
    ReportDouble,
    /// Keep the mapping of the NAT before us (RFC 3948, 4).
    Keepalive,
    /// Is there a Child SA, where the policy is active?
    CheckChildren,
    /// Make a Child SA with these selectors: a packet waits for it.
    MakeChild(Box<SelectorPair>),
    /// Replace the Child SA with this inbound SPI.
    RekeyChild(EspSpi),
    /// Tell the peer of the Child SAs that are to go.
    DeleteChildren,
    /// Send through the Child SA with this inbound SPI, whatever became of the one before it.
    Activate(EspSpi),
    /// Send the peer to another gateway.
    Redirect(Box<IpAddr>),
    /// Replace the IKE SA.
    RekeyIke,
    /// End the IKE SA.
    DeleteIke,
    /// End the IKE SA, and if it is being replaced, what replaces it.
    Retire,
    /// Is the peer where it says it is now?
    VerifyPath,
    /// Tell the peer of our new address.
    UpdateAddresses,
    /// Begin the IKE SA that takes the place of this one (RFC 4478).
    Reauthenticate,
    /// Tell the accounting server what was counted so far.
    Report,
}

impl Task {
    /// Whether it is an exchange of our own, of which one may be under way.
    pub const fn is_exchange(&self) -> bool {
        match self {
            Self::CheckChildren
            | Self::MakeChild(_)
            | Self::Confirm
            | Self::RekeyChild(_)
            | Self::DeleteChildren
            | Self::Redirect(_)
            | Self::RekeyIke
            | Self::DeleteIke
            | Self::Retire
            | Self::VerifyPath
            | Self::UpdateAddresses => true,
            Self::CheckPeer
            | Self::ReportDouble
            | Self::Keepalive
            | Self::Activate(_)
            | Self::Reauthenticate
            | Self::Report => false,
        }
    }
}

/// The entries of one IKE SA.
#[derive(Debug, Default)]
pub struct Agenda(Vec<(Instant, Task)>);

impl Agenda {
    /// Enters a task; one that is there already keeps the earlier time.
    pub fn plan(&mut self, at: Instant, task: Task) {
        match self.0.iter_mut().find(|(_, other)| *other == task) {
            Some((planned, _)) => *planned = at.min(*planned),
            None => {
                // A few at most, for as long as the IKE SA lives.
                self.0.reserve_exact(1);
                self.0.push((at, task));
            }
        }
    }

    /// Strikes a task.
    pub fn strike(&mut self, task: &Task) {
        self.0.retain(|(_, other)| other != task);
    }

    /// Strikes everything; returns what the successor of the IKE SA must do.
    pub fn bequeath(&mut self) -> Vec<(Instant, Task)> {
        let mut tasks = std::mem::take(&mut self.0);
        tasks.retain(|(_, task)| match task {
            // A rekey is no authentication (RFC 4478, 3), and makes two IKE SAs no fewer.
            Task::RekeyChild(_)
            | Task::Activate(_)
            | Task::DeleteChildren
            | Task::ReportDouble
            | Task::Redirect(_)
            | Task::Retire
            | Task::Reauthenticate
            | Task::Report => true,
            Task::CheckPeer
            | Task::Confirm
            | Task::Keepalive
            | Task::CheckChildren
            | Task::MakeChild(_)
            | Task::RekeyIke
            | Task::DeleteIke
            | Task::VerifyPath
            | Task::UpdateAddresses => false,
        });
        tasks
    }

    /// When the next task is due; `exchanges`: may we begin one?
    pub fn next(&self, exchanges: bool) -> Option<Instant> {
        self.possible(exchanges).map(|(_, at)| at).min()
    }

    /// Takes the task that has been due longest.
    pub fn take_due(&mut self, now: Instant, exchanges: bool) -> Option<Task> {
        let due = self.possible(exchanges).filter(|(_, at)| *at <= now);
        let (place, _) = due.min_by_key(|(_, at)| *at)?;
        let (_, task) = self.0.remove(place);
        Some(task)
    }

    /// Places of the tasks that may be done, and when.
    fn possible(&self, exchanges: bool) -> impl Iterator<Item = (usize, Instant)> {
        let all = self.0.iter().enumerate();
        all.filter(move |(_, (_, task))| exchanges || !task.is_exchange())
            .map(|(place, (at, _))| (place, *at))
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests count from one reading of the clock"
)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn tasks_come_by_time_and_exchanges_only_when_there_may_be_one() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut agenda = Agenda::default();
        agenda.plan(at(3), Task::Keepalive);
        agenda.plan(at(9), Task::RekeyIke);
        agenda.plan(at(1), Task::RekeyIke);
        agenda.plan(at(5), Task::RekeyIke);
        assert_eq!(
            (agenda.next(true), agenda.next(false)),
            (Some(at(1)), Some(at(3)))
        );
        assert_eq!(agenda.take_due(at(2), false), None);
        assert_eq!(agenda.take_due(at(4), true), Some(Task::RekeyIke));
        assert_eq!(agenda.take_due(at(4), true), Some(Task::Keepalive));
        assert_eq!(agenda.take_due(at(99), true), None);
        agenda.plan(at(7), Task::DeleteIke);
        agenda.strike(&Task::DeleteIke);
        assert_eq!(agenda.next(true), None);
    }

    #[test]
    fn what_a_rekey_does_not_settle_is_left_to_the_successor() {
        let at = Instant::now();
        let mut agenda = Agenda::default();
        for task in [
            Task::RekeyIke,
            Task::ReportDouble,
            Task::Retire,
            Task::DeleteIke,
            Task::Reauthenticate,
            Task::CheckPeer,
        ] {
            agenda.plan(at, task);
        }
        let left = [Task::ReportDouble, Task::Retire, Task::Reauthenticate].map(|task| (at, task));
        assert_eq!(agenda.bequeath(), left);
        assert_eq!(agenda.next(true), None);
    }
}
