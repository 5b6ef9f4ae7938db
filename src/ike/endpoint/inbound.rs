//! The way of a datagram from its header to its exchange. Until its integrity is proven it can have
//! a cached answer or a hint, and nothing of the IKE SA changes.

use std::fmt;

use super::super::context::Context;
use super::super::error::{Answer, Error, Trust};
use super::super::event::Path;
use super::super::exchange::{
    auth, auth_eap, auth_initiator, create_child, create_child_initiator, informational, mobike,
    rekey_ike, sa_init, sa_init_initiator,
};
use super::super::ike_sa::{IkeSa, Tag};
use super::super::message::{self, Opened};
use super::super::own::{self, Own};
use super::super::path_mtu;
use super::super::state::{Keying, State};
use super::super::table::Key;
use super::super::window::Arrival;
use super::super::{Role, mobility};
use super::{Endpoint, news, refuse};

use crate::time::Now;
use crate::wire::registry::{ExchangeType, NotifyType, ProtocolId};
use crate::wire::{DecodeErrorKind, Flags, Header, Payload, decode_payloads, encode_message};

impl Endpoint {
    pub(super) fn undecodable(&mut self, now: Now, path: Path, bytes: &[u8], error: Error) {
        self.cx.stats.msg_rcvd_dropped += 1;
        let kind = if let Error::Decode(error) = &error {
            Some(error.kind)
        } else {
            None
        };
        match kind {
            Some(DecodeErrorKind::Version(_)) => self.cx.stats.version_errors += 1,
            _ => self.cx.stats.decode_errors += 1,
        }
        let (local, remote) = (path.local, path.remote);
        self.cx.dropped(format_args!(
            "datagram from {remote} to {local} dropped: {error}"
        ));
        if let (Answer::Notify(kind, _), Ok(header)) =
            (error.answer(Trust::Clear), Header::peek(bytes))
        {
            self.hint(now, path, &header, bytes.len(), kind);
        }
    }

    /// An unprotected answer to a request: never longer than it, never many (RFC 7296, 2.21.4).
    pub(super) fn hint(
        &mut self,
        now: Now,
        path: Path,
        request: &Header,
        request_len: usize,
        kind: NotifyType,
    ) {
        let answer_len = Header::LEN + 8;
        if request.flags.response || request_len < answer_len || !self.cx.hints.take(now.mono) {
            return;
        }
        let flags = Flags {
            initiator: !request.flags.initiator,
            version: false,
            response: true,
        };
        let header = Header {
            major: 2,
            minor: 0,
            flags,
            ..*request
        };
        let mut out = Vec::with_capacity(answer_len);
        encode_message(&header, &[sa_init::status(kind, &[])], &mut out);
        self.cx.stats.notifies_sent += 1;
        self.cx.transmit(path, out);
    }

    pub(super) fn sa_init_request(&mut self, now: Now, path: Path, header: &Header, bytes: &[u8]) {
        let first = header.exchange == ExchangeType::IKE_SA_INIT
            && header.flags.initiator
            && !header.flags.response
            && header.initiator_spi.is_some()
            && header.message_id == 0;
        if !first {
            let tag = Tag(header.initiator_spi);
            return self.drop_unexpected(tag, path, header, "no first request");
        }
        let digest = self.table.digest((path.remote.ip(), bytes));
        if let Some(key) = self.table.by_init(digest) {
            return self.repeat_sa_init(path, key);
        }
        let half_open = self.table.half_open_len();
        let made = sa_init::respond(&mut self.cx, now, path, header, bytes, half_open);
        let Some(mut sa) = made else { return };
        if self.table.has_spi(sa.own_spi) {
            // 56 random bits met twice: the initiator will ask again.
            return;
        }
        sa.init_digest = Some(digest);
        sa.window.answer(0, digest, Vec::new());
        self.table.insert(&mut self.cx, sa);
    }

    fn repeat_sa_init(&mut self, path: Path, key: Key) {
        let Some(sa) = self.table.get(key) else {
            return;
        };
        if let State::AwaitAuthRequest(half_open) = &sa.state {
            let response = half_open.response.clone();
            self.cx.stats.retransmit_response += 1;
            self.cx.transmit(path, response);
        }
    }

    /// A datagram with one of our SPIs in it.
    pub(super) fn message(
        &mut self,
        sa: &mut IkeSa,
        now: Now,
        path: Path,
        header: &Header,
        bytes: &mut [u8],
    ) {
        let from_initiator = sa.role == Role::OriginalResponder;
        let theirs = if from_initiator {
            header.initiator_spi
        } else {
            header.responder_spi
        };
        let first_answer = matches!(sa.state, State::AwaitSaInitResponse(_));
        if header.flags.initiator != from_initiator || (theirs != sa.peer_spi && !first_answer) {
            let why = "another role or SPI than the peer's";
            return self.drop_unexpected(sa.tag(), path, header, why);
        }
        if header.flags.response {
            self.response(sa, now, path, header, bytes);
        } else {
            self.request(sa, now, path, header, bytes);
        }
    }

    fn drop_unexpected(&mut self, tag: Tag, path: Path, header: &Header, why: &str) {
        self.cx.stats.unexpected += 1;
        self.cx.stats.msg_rcvd_dropped += 1;
        self.say_dropped(tag, path, header, &why);
    }

    /// The line about a message that was not taken.
    pub(super) fn say_dropped(
        &mut self,
        tag: Tag,
        path: Path,
        header: &Header,
        why: &dyn fmt::Display,
    ) {
        let (exchange, id, remote) = (header.exchange, header.message_id, path.remote);
        let kind = if header.flags.response {
            "response"
        } else {
            "request"
        };
        self.cx.dropped(format_args!(
            "{tag}: {exchange} {kind} {id} from {remote} dropped: {why}"
        ));
    }

    fn request(&mut self, sa: &mut IkeSa, now: Now, path: Path, header: &Header, bytes: &mut [u8]) {
        let digest = self.table.digest(&*bytes);
        let id = header.message_id;
        match sa.window.arrival(id) {
            Arrival::Next => {}
            Arrival::Repeated => return self.repeat_response(sa, path, header, digest, bytes),
            Arrival::Outside => {
                let why = "Message ID outside of the window";
                return self.drop_unexpected(sa.tag(), path, header, why);
            }
        }
        match &sa.state {
            State::AwaitKernel(_) => {
                self.cx.stats.msg_rcvd_busy += 1;
                return;
            }
            State::Established(up) if up.answering.is_some() => {
                self.cx.stats.msg_rcvd_busy += 1;
                return;
            }
            State::AwaitAuthRequest(half_open) if half_open.asking.is_some() => {
                self.cx.stats.msg_rcvd_busy += 1;
                return;
            }
            State::AwaitAuthRequest(half_open)
                if header.exchange != ExchangeType::IKE_AUTH
                    && (!half_open.is_answered()
                        || header.exchange != ExchangeType::INFORMATIONAL) =>
            {
                return self.drop_unexpected(sa.tag(), path, header, "IKE_AUTH comes first");
            }
            State::AwaitAuthRequest(_) | State::Established(_) | State::Deleting(_) => {}
            State::AwaitSaInitResponse(_) | State::AwaitAuthResponse(_) | State::Closed => {
                return self.drop_unexpected(sa.tag(), path, header, "no requests in this state");
            }
        }
        if !ready_keys(sa) {
            return self.drop_unexpected(sa.tag(), path, header, "no keys");
        }
        let Some((first, plaintext)) = self.open(sa, now, path, header, bytes) else {
            return;
        };
        sa.asked(path);
        mobility::see(sa, now.mono, path);
        let payloads = match decode_payloads(first, &plaintext) {
            Ok(payloads) => payloads,
            Err(error) => {
                self.cx.stats.decode_errors += 1;
                let exchange = header.exchange;
                return refuse(&mut self.cx, sa, now, exchange, id, digest, &error.into());
            }
        };
        self.dispatch(sa, now, header, digest, &payloads);
    }

    /// The same bytes again get the same answer, without crypto. A peer may also ask again in other
    /// fragments than before, or in fragments for the first time (RFC 7383, 2.5 and 2.6): of those
    /// only number 1 is answered, once it is known to be the peer's.
    fn repeat_response(
        &mut self,
        sa: &mut IkeSa,
        path: Path,
        header: &Header,
        digest: u64,
        bytes: &mut [u8],
    ) {
        let (id, len) = (header.message_id, bytes.len());
        let number = message::fragment_number(bytes);
        let repeated = match number {
            None => sa.window.is_same(id, digest),
            Some(1) => message::is_from_peer(&mut self.cx, sa, bytes),
            Some(_) => false,
        };
        if repeated && number.is_some() {
            self.shrink_response(sa, id, len);
        }
        let Some(datagrams) = sa.window.answer_to(id).filter(|_| repeated) else {
            let why = "answered before, and no repetition";
            return self.drop_unexpected(sa.tag(), path, header, why);
        };
        self.cx.stats.retransmit_response += 1;
        for datagram in datagrams {
            self.cx.transmit_copy(path, datagram);
        }
    }

    /// A peer that asks again in smaller pieces may have missed an answer in larger ones.
    fn shrink_response(&mut self, sa: &mut IkeSa, id: u32, fragment_len: usize) {
        path_mtu::learn(&self.cx, sa, fragment_len);
        let datagram_max = path_mtu::message_max(&self.cx, sa, true);
        let datagrams: Vec<_> = sa.window.answer_to(id).into_iter().flatten().collect();
        if datagrams.iter().any(|piece| piece.len() > datagram_max) {
            let datagrams: Vec<_> = datagrams.into_iter().map(<[u8]>::to_vec).collect();
            if let Some(smaller) = message::cut_anew(&mut self.cx, sa, &datagrams) {
                sa.window.recut_answer(smaller);
            }
        }
    }

    /// Decrypts; only past this point the sender is known to be the peer.
    fn open(
        &mut self,
        sa: &mut IkeSa,
        now: Now,
        path: Path,
        header: &Header,
        bytes: &mut [u8],
    ) -> Option<(crate::wire::registry::PayloadType, Vec<u8>)> {
        match message::open(&mut self.cx, sa, now.mono, bytes) {
            Opened::Whole(first, plaintext) => {
                sa.heard_at = now.mono;
                mobility::follow(&mut self.cx, sa, now.mono, path);
                Some((first, plaintext))
            }
            // The same fragment may come again, from anywhere, until all are there.
            Opened::Partial => None,
            Opened::Dropped(fault) => {
                self.cx.stats.msg_rcvd_dropped += 1;
                self.say_dropped(sa.tag(), path, header, &fault);
                None
            }
        }
    }

    fn dispatch(
        &mut self,
        sa: &mut IkeSa,
        now: Now,
        header: &Header,
        digest: u64,
        payloads: &[Payload<'_>],
    ) {
        if let Some(old) = sa.rival_for.take() {
            let closes = |payload: &Payload<'_>| matches!(payload, Payload::Delete(delete) if delete.protocol == ProtocolId::IKE);
            if !payloads.iter().any(closes) {
                self.decide(now, old, sa);
            }
        }
        let (cx, id) = (&mut self.cx, header.message_id);
        match (&sa.state, header.exchange) {
            (State::AwaitAuthRequest(_), ExchangeType::IKE_AUTH) => {
                auth::respond(cx, sa, now, id, digest, payloads);
            }
            (State::AwaitAuthRequest(_), ExchangeType::INFORMATIONAL) => {
                auth_eap::abandon(cx, sa, now, (id, digest));
            }
            (State::Established(_) | State::Deleting(_), ExchangeType::INFORMATIONAL) => {
                informational::respond(cx, sa, now, id, digest, payloads);
            }
            (State::Established(_) | State::Deleting(_), ExchangeType::CREATE_CHILD_SA) => {
                create_child::respond(cx, sa, now, id, digest, payloads);
            }
            (_, exchange) => {
                let error = Error::Unexpected(exchange);
                refuse(cx, sa, now, exchange, id, digest, &error);
            }
        }
        own::advance(cx, sa, now);
    }

    fn response(
        &mut self,
        sa: &mut IkeSa,
        now: Now,
        path: Path,
        header: &Header,
        bytes: &mut [u8],
    ) {
        if sa.window.is_past(header.message_id) {
            // Ordinary where answers are slow, and so not worth a line.
            self.cx.stats.unexpected += 1;
            self.cx.stats.msg_rcvd_dropped += 1;
            return;
        }
        if !sa.window.expects(header.message_id, header.exchange) {
            return self.drop_unexpected(sa.tag(), path, header, "no request of ours is out");
        }
        if matches!(sa.state, State::AwaitSaInitResponse(_)) {
            return sa_init_initiator::conclude(&mut self.cx, sa, now, path, bytes);
        }
        let Some((first, plaintext)) = self.open(sa, now, path, header, bytes) else {
            return;
        };
        let payloads = match decode_payloads(first, &plaintext) {
            Ok(payloads) => payloads,
            Err(error) => {
                self.cx.stats.decode_errors += 1;
                return self.say_dropped(sa.tag(), path, header, &error);
            }
        };
        match header.exchange {
            ExchangeType::IKE_AUTH => {
                auth_initiator::conclude(&mut self.cx, sa, now, &payloads);
            }
            ExchangeType::INFORMATIONAL | ExchangeType::CREATE_CHILD_SA => {
                mobike::answered_from(sa, now.mono, path);
                conclude(&mut self.cx, sa, now, &payloads);
            }
            _ => self.drop_unexpected(sa.tag(), path, header, "no exchange of ours"),
        }
    }
}

/// Takes the response to a request of ours on an IKE SA that is up or going.
fn conclude(cx: &mut Context, sa: &mut IkeSa, now: Now, payloads: &[Payload<'_>]) {
    if matches!(sa.state, State::Established(_)) && informational::ended(cx, sa, now.mono, payloads)
    {
        return;
    }
    let State::Established(up) = &mut sa.state else {
        return informational::closed(cx, sa);
    };
    let own = std::mem::take(&mut up.own);
    sa.window.settle();
    match own {
        Own::Child(sent) => create_child_initiator::conclude(cx, sa, now, *sent, payloads),
        Own::Rekey(sent) => rekey_ike::conclude(cx, sa, now, *sent, payloads),
        Own::Mobike(sent) => mobike::conclude(cx, sa, now.mono, &sent, payloads),
        own @ (Own::Delete(_) | Own::Probe | Own::Idle | Own::Install(_)) => {
            informational::conclude(cx, sa, now, own, payloads);
        }
    }
    if std::mem::take(&mut sa.wants_single) {
        // It is up at both ends.
        news::announce(cx, sa);
    }
    own::advance(cx, sa, now);
}

/// Does the key exchange computation that was put off until IKE_AUTH arrived. False: this SA will
/// never have keys.
fn ready_keys(sa: &mut IkeSa) -> bool {
    let (own_spi, peer_spi) = (sa.own_spi, sa.peer_spi);
    let State::AwaitAuthRequest(half_open) = &mut sa.state else {
        return true;
    };
    if matches!(half_open.keying, Keying::Pending(..))
        && let Keying::Pending(kex, public) =
            std::mem::replace(&mut half_open.keying, Keying::Failed)
        && let Some(keys) = half_open.derive(kex, &public, peer_spi, own_spi)
    {
        half_open.keying = Keying::Ready(keys);
    }
    matches!(half_open.keying, Keying::Ready(_))
}
