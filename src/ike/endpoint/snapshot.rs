//! The state of an endpoint as text, so that a test can compare what was before with what is after:
//! every IKE SA with its state, window, path, agenda, Child SAs and times. Left out is what noise
//! may change: counters and the budgets of hints and log lines. And a way to make an IKE SA old in no time.
//! Compiled for tests and with `sim` only.

use super::super::ike_sa::IkeSa;
use super::super::own::{Own, Rival};
use super::super::state::{Established, Keying, State};
use super::Endpoint;

impl Endpoint {
    /// The state, one paragraph for each IKE SA.
    pub fn snapshot(&self) -> String {
        let cx = &self.cx;
        let mut text = format!(
            "half-open {} deadline {:?} starts {:?} shows {} coupled {} active {} greeted {:?} \
             leases {} children {} queued {:?}\n",
            self.table.half_open_len(),
            self.table.next_deadline(),
            self.starts_at,
            self.shows.len(),
            cx.coupled,
            cx.active,
            cx.greeted,
            cx.pools.in_use(),
            cx.children.len(),
            (cx.out.transmits.len(), cx.out.kernel.len()),
        );
        for sa in self.ike_sas() {
            text.push_str(&ike_sa(sa));
        }
        text
    }

    /// Moves the Message IDs of every IKE SA on, as if so many requests had gone in each direction.
    pub fn age(&mut self, id: u32) {
        for key in self.table.keys_by_spi() {
            if let Some(mut sa) = self.table.take(key) {
                sa.window.age(id);
                self.table.put(&mut self.cx, key, sa);
            }
        }
    }
}

fn ike_sa(sa: &IkeSa) -> String {
    format!("{sa:?}\n  {:?} {}\n", sa.state, state(&sa.state))
}

fn state(state: &State) -> String {
    match state {
        State::AwaitSaInitResponse(sent) => format!(
            "{:?}",
            (
                sent.method,
                &sent.nonce,
                &sent.request,
                &sent.cookie,
                sent.rounds
            )
        ),
        State::AwaitAuthRequest(half_open) => {
            // Keys are computed when the first IKE_AUTH comes, whoever sent it; that shows nowhere.
            let failed = matches!(half_open.keying, Keying::Failed);
            let nonces = (&half_open.nonce_i, &half_open.nonce_r);
            let messages = (&half_open.request, &half_open.response);
            let hashes = &half_open.peer_hashes;
            format!("{:?}", (failed, nonces, messages, hashes, &half_open.eap))
        }
        State::AwaitAuthResponse(sent) => {
            let nonces = (&sent.nonce_i, &sent.nonce_r);
            let messages = (&sent.request, &sent.response);
            let child = (sent.inbound_spi, &sent.offered);
            format!(
                "{:?}",
                (nonces, messages, &sent.peer_hashes, child, &sent.eap)
            )
        }
        State::AwaitKernel(wait) => format!(
            "{:?}",
            (wait.request, &wait.child, wait.message_id, wait.digest)
        ),
        State::Established(up) => established(up),
        State::Deleting(deleting) => format!("until {:?}", deleting.until),
        State::Closed => String::new(),
    }
}

fn established(up: &Established) -> String {
    let answering = up.answering.as_ref().map(|a| {
        let answer = (a.request, a.until, &a.child, a.rekeys, &a.grant, &a.nonce);
        format!("{:?}", (answer, &a.ke, a.message_id, a.digest))
    });
    format!(
        "own {} answering {answering:?} successor {:?}",
        own(&up.own),
        up.successor
    )
}

fn own(own: &Own) -> String {
    let nonce = |rival: &Option<Rival>| rival.as_ref().map(|rival| rival.nonce.clone());
    match own {
        Own::Idle => "idle".to_owned(),
        Own::Probe => "probe".to_owned(),
        Own::Delete(spis) => format!("delete {spis:?}"),
        Own::Child(sent) => {
            let child = (sent.inbound_spi, sent.rekeys, sent.reqid, &sent.offered);
            let rest = (sent.transport, sent.rounds, nonce(&sent.rival));
            format!("child {:?}", (&sent.nonce, child, rest))
        }
        Own::Rekey(sent) => {
            let rest = (sent.own_spi, sent.method, sent.rounds, &sent.rival);
            format!("rekey {:?}", (&sent.nonce, rest))
        }
        Own::Mobike(sent) => format!("mobike {sent:?}"),
        Own::Install(installing) => {
            let rest = (installing.rekeys, nonce(&installing.rival));
            let kernel = (installing.request, installing.until, &installing.child);
            format!("install {:?}", (kernel, &installing.lowest, rest))
        }
    }
}
