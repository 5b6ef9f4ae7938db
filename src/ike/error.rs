//! Every error has one row here: silence, a notification, or a notification and the end of the
//! IKE SA (RFC 7296, 2.21 and 3.10.1). [`Error::answer`] is the whole table.

use crate::auth::AuthError;
use crate::crypto::CryptoError;
use crate::kernel::KernelError;
use crate::wire::registry::{ExchangeType, KeId, NotifyType};
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
    /// The KE payload is not of the method chosen.
    #[error("want dh {0}")]
    InvalidKe(KeId),
    /// No policy matches.
    #[error("no compatible policy found")]
    NoPolicy,
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
    /// What is asked is not done here: Child SAs after the first.
    #[error("no additional SAs")]
    NoAdditionalSas,
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

impl Error {
    /// The row of this error. `protected` says that the request was encrypted and its integrity
    /// proven; without that an answer is only a hint, and most errors get none.
    pub fn answer(&self, protected: bool) -> Answer {
        let notify = |kind: NotifyType| Answer::Notify(kind, Vec::new());
        let close = |kind: NotifyType| Answer::NotifyAndClose(kind, Vec::new());
        match self {
            Self::Decode(error) => decode_answer(error, protected),
            // RFC 7296, 3.10.1: INVALID_SYNTAX only where the checksum was valid.
            Self::Missing(_) if protected => close(NotifyType::INVALID_SYNTAX),
            Self::Missing(_) | Self::Unexpected(_) => Answer::Silent,
            Self::NoProposal => notify(NotifyType::NO_PROPOSAL_CHOSEN),
            Self::InvalidKe(wanted) => Answer::Notify(
                NotifyType::INVALID_KE_PAYLOAD,
                wanted.0.to_be_bytes().to_vec(),
            ),
            Self::NoPolicy if protected => close(NotifyType::AUTHENTICATION_FAILED),
            Self::NoPolicy => Answer::Silent,
            Self::Authentication(_) => close(NotifyType::AUTHENTICATION_FAILED),
            Self::TrafficSelectors => notify(NotifyType::TS_UNACCEPTABLE),
            Self::AddressFailure => notify(NotifyType::INTERNAL_ADDRESS_FAILURE),
            Self::ConfigurationRequired => notify(NotifyType::FAILED_CP_REQUIRED),
            Self::Kernel(_) => notify(NotifyType::TEMPORARY_FAILURE),
            Self::NoAdditionalSas => notify(NotifyType::NO_ADDITIONAL_SAS),
            Self::Crypto(_) | Self::Reported(_) | Self::Answer(_) => Answer::Silent,
        }
    }
}

fn decode_answer(error: &DecodeError, protected: bool) -> Answer {
    match error.kind {
        // RFC 7296, 2.5: the one error that MUST be answered, protected or not.
        DecodeErrorKind::UnknownCritical(kind) => {
            let data = vec![kind.0];
            if protected {
                Answer::NotifyAndClose(NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD, data)
            } else {
                Answer::Notify(NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD, data)
            }
        }
        DecodeErrorKind::Version(major) if major > 2 => {
            Answer::Notify(NotifyType::INVALID_MAJOR_VERSION, Vec::new())
        }
        DecodeErrorKind::Version(_) => Answer::Silent,
        DecodeErrorKind::Truncated
        | DecodeErrorKind::Length
        | DecodeErrorKind::Value
        | DecodeErrorKind::Duplicate
        | DecodeErrorKind::TooMany => {
            if protected {
                Answer::NotifyAndClose(NotifyType::INVALID_SYNTAX, Vec::new())
            } else {
                Answer::Silent
            }
        }
    }
}
