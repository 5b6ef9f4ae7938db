//! Every error has one row here: silence, a notification, or a notification and the end of the
//! IKE SA (RFC 7296, 2.21 and 3.10.1). [`Error::answer`] is the whole table.

use crate::auth::AuthError;
use crate::crypto::CryptoError;
use crate::kernel::KernelError;
use crate::policy::{Identity, Policy};
use crate::wire::registry::{ExchangeType, KeId, NotifyType, ProtocolId};
use crate::wire::{DecodeError, DecodeErrorKind};

/// Who is at fault, and how.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes are wrong.
    #[error("{0}")]
    Decode(#[from] DecodeError),
    /// A payload that this exchange cannot do without is missing.
    #[error("{0} payload missing")]
    Missing(&'static str),
    /// A message of this exchange has no business in this state.
    #[error("unexpected {0}")]
    Unexpected(ExchangeType),
    /// No proposal of the peer fits.
    #[error("no proposal chosen")]
    NoProposal,
    /// None fits any policy for this peer; for the log, why not.
    #[error("no proposal chosen{0}")]
    NoCommonProposal(String),
    /// The KE payload is not of the method chosen.
    #[error("want dh {0}")]
    InvalidKe(KeId),
    /// No policy matches; for the log, why not.
    #[error("no compatible policy found{0}")]
    NoPolicy(String),
    /// One of the others: whom it hit.
    #[error("{0}")]
    Denied(Box<Denied>),
    /// The peer did not prove its identity.
    #[error("authentication failed: {0}")]
    Authentication(#[from] AuthError),
    /// No common traffic selector.
    #[error("traffic selectors unacceptable")]
    TrafficSelectors,
    /// The pools are empty.
    #[error("address pool exhausted")]
    AddressFailure,
    /// The policy has a pool but the peer asked for no address.
    #[error("pool configured, but IKEV2_CP_REQUEST missing")]
    ConfigurationRequired,
    /// The kernel refused the Child SA.
    #[error("kernel: {0}")]
    Kernel(KernelError),
    /// A primitive failed; for received data this means it was not from the peer.
    #[error("{0}")]
    Crypto(#[from] CryptoError),
    /// The peer reported an error.
    #[error("{0} notification from peer")]
    Reported(NotifyType),
    /// The peer's answer does not follow from our request.
    #[error("peer answered outside of our offer: {0}")]
    Answer(&'static str),
    /// The peer has as many Child SAs as it may.
    #[error("no additional SAs")]
    NoAdditionalSas,
    /// What is asked collides with an exchange of our own (RFC 7296, 2.25).
    #[error("temporary failure")]
    Temporary,
    /// The Child SA to be replaced is not there: its protocol and SPI as the peer wrote them.
    #[error("Child SA not found")]
    ChildNotFound(ProtocolId, Vec<u8>),
    /// The peer wants no NAT between us, and there is one (RFC 4555, 3.9).
    #[error("unexpected NAT detected")]
    UnexpectedNat,
    /// The key exchange value is none of its method.
    #[error("key exchange value: {0}")]
    BadKe(CryptoError),
}

/// A peer that was refused: who it says it is, and the policy that it was held against.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("peer {peer} policy '{policy}': {why}")]
pub struct Denied {
    /// The identity that it claims.
    pub peer: Identity,
    /// The policy's name.
    pub policy: String,
    /// Why.
    pub why: Error,
}

/// What goes to the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing.
    Silent,
    /// An error notification; the IKE SA (if there is one) lives on.
    Notify(NotifyType, Vec<u8>),
    /// An error notification, then the IKE SA is gone.
    NotifyAndClose(NotifyType, Vec<u8>),
}

/// How much is known of the sender of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Nothing: it came in the clear. An answer is only a hint, and most errors get none.
    Clear,
    /// It was encrypted and its integrity proven, but by nobody known (IKE_AUTH).
    Protected,
    /// The peer proved its identity before.
    Authenticated,
}

impl Error {
    /// The same, naming the peer and the policy.
    pub fn of(self, peer: &Identity, policy: &Policy) -> Self {
        Self::Denied(Box::new(Denied {
            peer: peer.clone(),
            policy: policy.name.clone(),
            why: self,
        }))
    }

    /// The row of this error.
    pub fn answer(&self, trust: Trust) -> Answer {
        match trust {
            Trust::Clear => self.answer_in_the_clear(),
            Trust::Protected | Trust::Authenticated => self.answer_protected(trust),
        }
    }

    fn answer_in_the_clear(&self) -> Answer {
        match self {
            Self::Decode(error) => match error.kind {
                // RFC 7296, 2.5: this MUST be answered, protected or not.
                DecodeErrorKind::UnknownCritical(kind) => {
                    Answer::Notify(NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD, vec![kind.0])
                }
                DecodeErrorKind::Version(major) if major > 2 => {
                    notify(NotifyType::INVALID_MAJOR_VERSION)
                }
                // RFC 7296, 3.10.1: INVALID_SYNTAX only where the checksum was valid.
                DecodeErrorKind::Version(_)
                | DecodeErrorKind::Truncated
                | DecodeErrorKind::Length
                | DecodeErrorKind::Value
                | DecodeErrorKind::Duplicate
                | DecodeErrorKind::TooMany => Answer::Silent,
            },
            Self::NoProposal | Self::NoCommonProposal(_) => notify(NotifyType::NO_PROPOSAL_CHOSEN),
            Self::InvalidKe(wanted) => invalid_ke(*wanted),
            Self::Denied(denied) => denied.why.answer_in_the_clear(),
            Self::Missing(_)
            | Self::Unexpected(_)
            | Self::NoPolicy(_)
            | Self::Authentication(_)
            | Self::TrafficSelectors
            | Self::AddressFailure
            | Self::ConfigurationRequired
            | Self::Kernel(_)
            | Self::NoAdditionalSas
            | Self::Temporary
            | Self::ChildNotFound(..)
            | Self::UnexpectedNat
            | Self::BadKe(_)
            | Self::Crypto(_)
            | Self::Reported(_)
            | Self::Answer(_) => Answer::Silent,
        }
    }

    fn answer_protected(&self, trust: Trust) -> Answer {
        match self {
            Self::Decode(error) => match error.kind {
                DecodeErrorKind::UnknownCritical(kind) => {
                    let (kind, data) = (NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD, vec![kind.0]);
                    // RFC 7296, 2.21.2 and 2.21.3: it ends an SA in the making, not one that is up.
                    match trust {
                        Trust::Authenticated => Answer::Notify(kind, data),
                        Trust::Clear | Trust::Protected => Answer::NotifyAndClose(kind, data),
                    }
                }
                DecodeErrorKind::Version(_)
                | DecodeErrorKind::Truncated
                | DecodeErrorKind::Length
                | DecodeErrorKind::Value
                | DecodeErrorKind::Duplicate
                | DecodeErrorKind::TooMany => close(NotifyType::INVALID_SYNTAX),
            },
            Self::Denied(denied) => denied.why.answer_protected(trust),
            Self::Missing(_) | Self::BadKe(_) => close(NotifyType::INVALID_SYNTAX),
            // RFC 7296, 2.21.3: every request of a known peer that is in error gets an answer.
            Self::Unexpected(_) => match trust {
                Trust::Authenticated => close(NotifyType::INVALID_SYNTAX),
                Trust::Clear | Trust::Protected => Answer::Silent,
            },
            Self::NoProposal | Self::NoCommonProposal(_) => notify(NotifyType::NO_PROPOSAL_CHOSEN),
            Self::InvalidKe(wanted) => invalid_ke(*wanted),
            Self::NoPolicy(_) | Self::Authentication(_) => close(NotifyType::AUTHENTICATION_FAILED),
            Self::TrafficSelectors => notify(NotifyType::TS_UNACCEPTABLE),
            Self::AddressFailure => notify(NotifyType::INTERNAL_ADDRESS_FAILURE),
            Self::ConfigurationRequired => notify(NotifyType::FAILED_CP_REQUIRED),
            Self::Kernel(_) => notify(NotifyType::TEMPORARY_FAILURE),
            Self::NoAdditionalSas => notify(NotifyType::NO_ADDITIONAL_SAS),
            Self::Temporary => notify(NotifyType::TEMPORARY_FAILURE),
            Self::ChildNotFound(..) => notify(NotifyType::CHILD_SA_NOT_FOUND),
            Self::UnexpectedNat => close(NotifyType::UNEXPECTED_NAT_DETECTED),
            Self::Crypto(_) | Self::Reported(_) | Self::Answer(_) => Answer::Silent,
        }
    }
}

fn notify(kind: NotifyType) -> Answer {
    Answer::Notify(kind, Vec::new())
}

fn close(kind: NotifyType) -> Answer {
    Answer::NotifyAndClose(kind, Vec::new())
}

fn invalid_ke(wanted: KeId) -> Answer {
    let data = wanted.0.to_be_bytes().to_vec();
    Answer::Notify(NotifyType::INVALID_KE_PAYLOAD, data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::AuthError;
    use crate::wire::registry::{IdType, PayloadType};

    /// Every error, and its answer to a request in the clear, in IKE_AUTH, and of a known peer:
    /// the number of the notification, `+` and its data, `!` where the IKE SA ends.
    #[test]
    fn every_error_has_its_answer() {
        for (error, expected) in table() {
            let trusts = [Trust::Clear, Trust::Protected, Trust::Authenticated];
            assert_eq!(trusts.map(|trust| text(&error, trust)), expected, "{error}");
        }
    }

    fn table() -> Vec<(Error, [&'static str; 3])> {
        let decode = |kind| Error::Decode(DecodeError { what: "x", kind });
        let kernel = KernelError {
            errno: 12,
            action: "add SA",
        };
        use DecodeErrorKind as Kind;
        vec![
            (Error::UnexpectedNat, ["-", "41!", "41!"]),
            (decode(Kind::Truncated), ["-", "7!", "7!"]),
            (decode(Kind::Length), ["-", "7!", "7!"]),
            (decode(Kind::Value), ["-", "7!", "7!"]),
            (decode(Kind::Duplicate), ["-", "7!", "7!"]),
            (decode(Kind::TooMany), ["-", "7!", "7!"]),
            (decode(Kind::Version(1)), ["-", "7!", "7!"]),
            (decode(Kind::Version(3)), ["5", "7!", "7!"]),
            (
                decode(Kind::UnknownCritical(PayloadType(99))),
                ["1+63", "1+63!", "1+63"],
            ),
            (Error::Missing("SA"), ["-", "7!", "7!"]),
            (Error::Unexpected(ExchangeType::IKE_AUTH), ["-", "-", "7!"]),
            (Error::NoProposal, ["14", "14", "14"]),
            (Error::NoCommonProposal(String::new()), ["14", "14", "14"]),
            (
                Error::InvalidKe(KeId::ECP_256),
                ["17+0013", "17+0013", "17+0013"],
            ),
            (Error::NoPolicy(String::new()), ["-", "24!", "24!"]),
            (Error::Authentication(AuthError::Mac), ["-", "24!", "24!"]),
            (denied(AuthError::Mac), ["-", "24!", "24!"]),
            (Error::TrafficSelectors, ["-", "38", "38"]),
            (Error::AddressFailure, ["-", "36", "36"]),
            (Error::ConfigurationRequired, ["-", "37", "37"]),
            (Error::Kernel(kernel), ["-", "43", "43"]),
            (Error::NoAdditionalSas, ["-", "35", "35"]),
            (Error::Temporary, ["-", "43", "43"]),
            (
                Error::ChildNotFound(ProtocolId::ESP, vec![1]),
                ["-", "44", "44"],
            ),
            (Error::BadKe(CryptoError::Integrity), ["-", "7!", "7!"]),
            (Error::Crypto(CryptoError::Integrity), ["-", "-", "-"]),
            (Error::Reported(NotifyType::INVALID_SYNTAX), ["-", "-", "-"]),
            (Error::Answer("SPI"), ["-", "-", "-"]),
        ]
    }

    /// Every error type of RFC 7296, 3.10.1, and whether a row of the table sends it; if not, why.
    #[test]
    fn every_error_type_is_sent_by_a_row_or_has_a_reason() {
        type Type = NotifyType;
        let sent = [
            Type::UNSUPPORTED_CRITICAL_PAYLOAD,
            Type::INVALID_MAJOR_VERSION,
            Type::INVALID_SYNTAX,
            Type::NO_PROPOSAL_CHOSEN,
            Type::INVALID_KE_PAYLOAD,
            Type::AUTHENTICATION_FAILED,
            Type::NO_ADDITIONAL_SAS,
            Type::INTERNAL_ADDRESS_FAILURE,
            Type::FAILED_CP_REQUIRED,
            Type::TS_UNACCEPTABLE,
            Type::TEMPORARY_FAILURE,
            Type::CHILD_SA_NOT_FOUND,
        ];
        let never = [
            (
                Type::INVALID_IKE_SPI,
                "a hint outside of any IKE SA, by Endpoint::hint",
            ),
            (
                Type::INVALID_MESSAGE_ID,
                "optional (2.3), and of no use to a peer that has its window from us",
            ),
            (
                Type::INVALID_SPI,
                "the kernel drops ESP of nobody and does not tell us",
            ),
            (
                Type::SINGLE_PAIR_REQUIRED,
                "our selectors may be as many as one message holds",
            ),
            (
                Type::INVALID_SELECTORS,
                "optional (3.10.1); the kernel drops and counts such packets",
            ),
        ];
        let kinds = |text: &str| text.split(['+', '!']).next().and_then(|n| n.parse().ok());
        let rows = table().into_iter().flat_map(|(_, answers)| answers);
        let by_rows: std::collections::BTreeSet<u16> = rows.filter_map(kinds).collect();
        for kind in sent {
            assert!(by_rows.contains(&kind.0), "{kind}");
        }
        for (kind, why) in never {
            assert!(!by_rows.contains(&kind.0), "{kind}: {why}");
        }
        // And none that is not of RFC 7296 but MOBIKE's.
        let all = sent.into_iter().chain(never.map(|(kind, _)| kind));
        let mut all: Vec<u16> = all.map(|kind| kind.0).collect();
        all.push(Type::UNEXPECTED_NAT_DETECTED.0);
        assert!(by_rows.iter().all(|kind| all.contains(kind)), "{by_rows:?}");
        assert_eq!(all.len(), 18);
    }

    fn denied(why: AuthError) -> Error {
        let peer = Identity {
            kind: IdType::FQDN,
            data: b"mallory".to_vec(),
        };
        Error::Denied(Box::new(Denied {
            peer,
            policy: "gate".to_owned(),
            why: why.into(),
        }))
    }

    #[test]
    fn who_was_denied_is_named() {
        let said = denied(AuthError::Mac).to_string();
        let expected =
            "peer FQDN/mallory policy 'gate': authentication failed: pre-shared key mismatch";
        assert_eq!(said, expected);
    }

    fn text(error: &Error, trust: Trust) -> String {
        let (kind, data, end) = match error.answer(trust) {
            Answer::Silent => return "-".to_owned(),
            Answer::Notify(kind, data) => (kind, data, ""),
            Answer::NotifyAndClose(kind, data) => (kind, data, "!"),
        };
        let data: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
        let plus = if data.is_empty() { "" } else { "+" };
        format!("{}{plus}{data}{end}", kind.0)
    }
}
