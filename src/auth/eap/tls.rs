//! EAP-TLS on both sides (RFC 5216; with TLS 1.3 RFC 9190): TLS in fragments, certificates of both
//! ends judged by our own rules, the MSK from TLS's exporter. Nothing is ever resumed.

use super::{Means, Refusal};
use crate::auth::chain::{self, Vouched};
use crate::auth::own;
use crate::crypto::tls::{Progress, Shown, Side, Tls};
use crate::crypto::x509::Certificate;
use crate::crypto::{CryptoError, SecretBytes};
use crate::policy::PublicKeyAuth;
use crate::wire::registry::CertEncoding;

/// One run, on either side.
#[derive(Debug)]
pub(super) struct Run {
    tls: Option<Tls>,
    side: Side,
    stage: Stage,
    /// Of a message that has not come whole: what has, and how long it must become.
    inbound: Vec<u8>,
    expected: Option<usize>,
    /// What is still to be sent of a message.
    outbound: Vec<u8>,
    /// The peer's certificate, once it is judged.
    vouched: Option<Vouched>,
}

#[derive(Debug)]
enum Stage {
    Handshake,
    /// A client with TLS 1.3 waits for the protected indication of success.
    Indication,
    /// Nothing is to come but the peer's consent, as a server; as a client, Success.
    Passed(Option<SecretBytes>),
    /// Our alert is out, or the peer's has come.
    Failed(Refusal),
}

/// What follows a packet.
#[derive(Debug)]
pub(super) enum Next {
    /// Send this.
    Send(Vec<u8>),
    /// Send this, which says that it has failed.
    Alert(Vec<u8>, Refusal),
    /// As a client: send this, and let Success come.
    Ready(Vec<u8>, SecretBytes),
    /// As a server: the peer has passed.
    Pass(SecretBytes),
    Refuse(Refusal),
}

impl Run {
    /// A server's; the data of its first request is [`START`].
    pub(super) const fn server() -> Self {
        Self::new(Side::Server)
    }

    /// A client's, for whom [`START`] has come.
    pub(super) const fn client() -> Self {
        Self::new(Side::Client)
    }

    const fn new(side: Side) -> Self {
        Self {
            tls: None,
            side,
            stage: Stage::Handshake,
            inbound: Vec::new(),
            expected: None,
            outbound: Vec::new(),
            vouched: None,
        }
    }

    /// The certificate that the peer has shown, for whoever asks whether it is revoked.
    pub(super) const fn vouched(&mut self) -> Option<Vouched> {
        self.vouched.take()
    }

    /// Takes the data of a packet.
    pub(super) fn take(&mut self, means: &mut Means<'_>, data: &[u8]) -> Next {
        let Some((&flags, data)) = data.split_first() else {
            return Next::Refuse(Refusal::Packet);
        };
        if flags & START != 0 {
            let first = self.side == Side::Client && self.tls.is_none() && data.is_empty();
            return if first {
                self.go(means, &[])
            } else {
                Next::Refuse(Refusal::Packet)
            };
        }
        if !self.outbound.is_empty() {
            // RFC 5216, 2.1.5: each fragment but the last is acknowledged by an empty packet.
            return if data.is_empty() && flags == 0 {
                Next::Send(self.fragment(false))
            } else {
                Next::Refuse(Refusal::Packet)
            };
        }
        match self.gather(flags, data) {
            Err(why) => Next::Refuse(why),
            Ok(None) => Next::Send(vec![0]),
            Ok(Some(message)) => self.go(means, &message),
        }
    }

    /// Adds a fragment; the message, once it is whole.
    fn gather(&mut self, flags: u8, data: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
        let mut data = data;
        if flags & LENGTH != 0 {
            let (length, rest) = data.split_first_chunk::<4>().ok_or(Refusal::Packet)?;
            let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
            let first = self.inbound.is_empty();
            if length > MESSAGE_MAX || (!first && self.expected.is_some_and(|e| e != length)) {
                return Err(Refusal::Packet);
            }
            self.expected = Some(length);
            data = rest;
        }
        let room = self.expected.unwrap_or(MESSAGE_MAX);
        if self.inbound.len() + data.len() > room || (flags & MORE != 0 && data.is_empty()) {
            return Err(Refusal::Packet);
        }
        self.inbound.extend_from_slice(data);
        if flags & MORE != 0 {
            return Ok(None);
        }
        let whole = std::mem::take(&mut self.inbound);
        match self.expected.take() {
            Some(expected) if expected != whole.len() => Err(Refusal::Packet),
            Some(_) | None => Ok(Some(whole)),
        }
    }

    /// A whole message has come.
    fn go(&mut self, means: &mut Means<'_>, message: &[u8]) -> Next {
        match &mut self.stage {
            Stage::Failed(why) => return Next::Refuse(why.clone()),
            Stage::Passed(msk) => {
                return match msk.take() {
                    Some(msk) if message.is_empty() && self.side == Side::Server => Next::Pass(msk),
                    Some(_) | None => Next::Refuse(Refusal::Packet),
                };
            }
            Stage::Handshake | Stage::Indication => {}
        }
        let mut tls = match self.tls.take().map_or_else(|| open(self.side, means), Ok) {
            Ok(tls) => tls,
            Err(why) => return Next::Refuse(why),
        };
        tls.feed(message);
        let done = self.step(means, &mut tls);
        self.outbound = tls.take();
        self.tls = Some(tls);
        match done {
            Ok(Some(msk)) if self.side == Side::Client => {
                self.stage = Stage::Passed(None);
                Next::Ready(self.fragment(true), msk)
            }
            Ok(Some(msk)) => {
                self.stage = Stage::Passed(Some(msk));
                Next::Send(self.fragment(true))
            }
            Ok(None) => Next::Send(self.fragment(true)),
            Err(why) => {
                self.stage = Stage::Failed(why.clone());
                Next::Alert(self.fragment(true), why)
            }
        }
    }

    /// As far as the handshake goes; the MSK at its end.
    fn step(
        &mut self,
        means: &mut Means<'_>,
        tls: &mut Tls,
    ) -> Result<Option<SecretBytes>, Refusal> {
        if matches!(self.stage, Stage::Handshake) {
            let mut why = Refusal::Tls("handshake failed");
            loop {
                match tls.advance() {
                    Progress::Waits => return Ok(None),
                    Progress::Done => break,
                    Progress::Failed => return Err(why),
                    Progress::Judge(chain) => {
                        let verdict = judge(means, &chain);
                        tls.judge(verdict.is_ok());
                        match verdict {
                            Ok(vouched) => self.vouched = Some(vouched),
                            Err(reason) => why = reason,
                        }
                    }
                }
            }
            if !tls.is_1_3() {
                return export(tls).map(Some);
            }
            if self.side == Side::Server {
                // RFC 9190, 2.5.
                tls.send(&[0])?;
                return export(tls).map(Some);
            }
            self.stage = Stage::Indication;
        }
        match tls.receive(2)?.as_slice() {
            [] => Ok(None),
            [0] => export(tls).map(Some),
            _ => Err(Refusal::Tls("no indication of success")),
        }
    }

    /// The next fragment of what is to be sent; an empty packet where nothing is.
    fn fragment(&mut self, first: bool) -> Vec<u8> {
        let total = self.outbound.len();
        let len = total.min(FRAGMENT_MAX);
        let rest = self.outbound.split_off(len);
        let part = std::mem::replace(&mut self.outbound, rest);
        let mut flags = 0;
        let mut length = Vec::new();
        if !self.outbound.is_empty() {
            flags |= MORE;
            if first {
                flags |= LENGTH;
                let total = u32::try_from(total).unwrap_or(u32::MAX);
                length = total.to_be_bytes().to_vec();
            }
        }
        [&[flags][..], &length, &part].concat()
    }
}

impl From<CryptoError> for Refusal {
    fn from(_: CryptoError) -> Self {
        Self::Tls("library failure")
    }
}

/// Our end, with the certificate that names us.
fn open(side: Side, means: &Means<'_>) -> Result<Tls, Refusal> {
    let none = Refusal::Tls("no certificate of ours");
    let shown = own::show(means.store, PublicKeyAuth::Any, means.ours, &[]);
    let shown = shown.map_err(|_| none.clone())?;
    let chain = shown.certs.iter();
    let chain = chain.filter(|(encoding, _)| *encoding == CertEncoding::X509);
    let chain: Vec<&[u8]> = chain.map(|(_, der)| *der).collect();
    if chain.is_empty() {
        return Err(none);
    }
    let shown = Shown {
        key: &shown.key.private,
        chain: &chain,
        authorities: means.store.authorities(),
    };
    Ok(Tls::new(side, &shown)?)
}

/// Whether these certificates name the peer as IKE knows it, and lead to an authority of ours.
fn judge(means: &mut Means<'_>, certificates: &[Vec<u8>]) -> Result<Vouched, Refusal> {
    let (leaf, others) = certificates.split_first().ok_or(Refusal::Packet)?;
    let leaf = Certificate::from_der(leaf)?;
    let others: Vec<&[u8]> = others.iter().map(Vec::as_slice).collect();
    let (store, cache) = (means.store, &mut *means.chains);
    let verdict = chain::vouch(store, cache, means.wall, means.theirs, &leaf, &others);
    verdict.map_err(|error| Refusal::Certificate(error.to_string()))
}

/// RFC 5216, 2.3 and RFC 9190, 2.3; the second half would be the EMSK.
fn export(tls: &Tls) -> Result<SecretBytes, Refusal> {
    let both = if tls.is_1_3() {
        tls.export(
            "EXPORTER_EAP_TLS_Key_Material",
            Some(&[super::packet::TLS]),
            128,
        )?
    } else {
        tls.export("client EAP encryption", None, 128)?
    };
    let msk = both.expose().get(..64).unwrap_or_default();
    Ok(SecretBytes::new(msk.to_vec()))
}

/// Flags of a packet: a length follows, more fragments follow, the server begins.
const LENGTH: u8 = 0x80;
const MORE: u8 = 0x40;
pub(super) const START: u8 = 0x20;
/// Bytes of TLS in a packet: with IKE and IP around it below 1280.
const FRAGMENT_MAX: usize = 1024;
/// Bytes of a flight: eight certificates and room.
const MESSAGE_MAX: usize = 32 * 1024;

#[cfg(test)]
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever else comes fails the test"
)]
mod tests;
