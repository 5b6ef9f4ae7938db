//! AUTH_LIFETIME (RFC 4478): a responder says how long an authentication counts. As the one who
//! began we authenticate again before that by a new IKE SA; once it is up the old one goes, so that
//! no packet is without a Child SA. As the responder we say it, and end the IKE SA, or what has
//! replaced it, of a peer that does not come again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::agenda::Task;
use super::super::context::Context;
use super::super::ike_sa::IkeSa;
use super::super::{Role, timer};
use super::redirect::Start;
use super::sa_init::find_notify;
use crate::radius::dae::Rights;
use crate::wire::Payload;
use crate::wire::registry::NotifyType;

/// Heeds the notification of an authenticated peer, in the IKE_AUTH response or later; the last one
/// counts.
pub fn heed(cx: &mut Context, sa: &mut IkeSa, now: Instant, payloads: &[Payload<'_>]) {
    let data = find_notify(payloads, NotifyType::AUTH_LIFETIME);
    let Some(seconds) = data.and_then(|data| <[u8; 4]>::try_from(data).ok()) else {
        return;
    };
    if !sa.mobility.leads {
        return;
    }
    let lifetime = Duration::from_secs(u32::from_be_bytes(seconds).into());
    let early = timer::soft_lifetime(lifetime, &mut cx.rng);
    cx.info(format_args!(
        "{}: authentication ends in {} s",
        sa.tag(),
        lifetime.as_secs()
    ));
    sa.agenda.strike(&Task::Reauthenticate);
    sa.agenda.plan(now + early.max(PAUSE), Task::Reauthenticate);
}

/// How long the authentication of a peer that began counts: as the configuration has it, or the
/// server that knows the peer, whichever is less. `None`: for ever.
pub fn limit(cx: &Context, sa: &IkeSa) -> Option<Duration> {
    if sa.role != Role::OriginalResponder {
        return None;
    }
    let set = cx.config.settings.auth_lifetime;
    let set = (!set.is_zero()).then_some(set);
    let admission = sa.admission.as_ref();
    let session = admission.and_then(|said| said.session_timeout);
    set.into_iter().chain(session).min()
}

/// The server that knows the peer changes how long it may stay, from now; no longer than the
/// configuration lets it.
pub fn change(cx: &Context, sa: &mut IkeSa, now: Instant, rights: &Rights) {
    let (Some(stay), Some(admission)) = (rights.session_timeout, &mut sa.admission) else {
        return;
    };
    let set = cx.config.settings.auth_lifetime;
    let since = admission.since.filter(|_| !set.is_zero());
    let end = since.and_then(|since| since.checked_add(set));
    let wanted = now.checked_add(stay);
    sa.agenda.strike(&Task::Retire);
    if let Some(at) = end.into_iter().chain(wanted).min() {
        sa.agenda.plan(at, Task::Retire);
    }
}

/// The data of the notification: seconds.
pub fn data(lifetime: Duration) -> [u8; 4] {
    let seconds = u32::try_from(lifetime.as_secs());
    seconds.unwrap_or(u32::MAX).to_be_bytes()
}

/// Begins the IKE SA that takes the place of this one, and again should nothing come of it.
pub fn again(cx: &mut Context, sa: &mut IkeSa, now: Instant) {
    cx.info(format_args!("{}: authenticating again", sa.tag()));
    cx.out.starts.push(Start {
        // Where a redirect led, if one did.
        to: super::redirect::came_from(sa).map(|_| sa.path.remote.ip()),
        trail: sa.trail.clone(),
        renews: true,
        ..Start::of(Arc::clone(&sa.policy))
    });
    sa.agenda.plan(now + RETRY_AFTER, Task::Reauthenticate);
}

/// However short a lifetime, no peer has us begin more often.
const PAUSE: Duration = Duration::from_secs(10);
/// Between two tries; as often as an active policy without an IKE SA.
const RETRY_AFTER: Duration = Duration::from_secs(60);
