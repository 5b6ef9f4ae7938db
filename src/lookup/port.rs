//! The port to the lookup thread as plain data: what an IKE SA asks of the outside, and what it is
//! told. Whoever asks goes on with other work and is found again by its name.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::crypto::crl::CrlError;
use crate::crypto::ocsp::{OcspError, Status};
use crate::crypto::x509::Certificate;
use crate::policy::radius::Radius;
use crate::radius::{Facts, Figures, Moment, Reply};
use crate::wire::spi::IkeSpi;

/// Who waits for an answer: an IKE SA by its own SPI, and which of its questions. An answer for one
/// that is gone, or that has asked another question since, is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupId {
    /// Our SPI.
    pub spi: IkeSpi,
    /// Counts the questions of a shard.
    pub serial: u64,
}

/// A question and who asks it.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// Who.
    pub id: LookupId,
    /// When it has no use for an answer any more; it is told then that there is none.
    pub until: Instant,
    /// What.
    pub question: Question,
}

/// What can be asked.
#[derive(Clone, Debug)]
pub enum Question {
    /// Whether a certificate is revoked, for a responder.
    Ocsp(Box<OcspQuestion>),
    /// Whether a certificate is revoked, by a list.
    Crl(Box<CrlQuestion>),
    /// What the responder says of a certificate of our own, to be shown to a peer (RFC 4806).
    Own(Box<OcspQuestion>),
    /// Whether a peer may come in.
    Radius(Box<RadiusQuestion>),
}

/// Whether a peer may come in, for the RADIUS servers.
#[derive(Clone, Debug)]
pub struct RadiusQuestion {
    /// The servers, and what their attributes mean.
    pub radius: Arc<Radius>,
    /// What is known of the peer.
    pub facts: Facts,
    /// Its EAP packet.
    pub eap: Vec<u8>,
    /// What the server wants back.
    pub state: Option<Vec<u8>>,
    /// The server that has begun, by its place in the list: no other knows of it.
    pub server: Option<usize>,
}

/// What the accounting servers are to be told of a peer. Nobody waits for their answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who the peer is.
    pub facts: Facts,
    /// What happened.
    pub moment: Moment,
    /// What was counted.
    pub figures: Figures,
}

/// What a server says, and which it was.
pub type RadiusAnswer = Result<(usize, Box<Reply>), Failure>;

/// Whether a certificate is revoked, for a responder of OCSP. Only for one whose chain has been
/// verified and whose key has signed: nobody else has us speak to anybody.
#[derive(Clone, Debug)]
pub struct OcspQuestion {
    /// Whom to ask.
    pub url: String,
    /// The certificate.
    pub leaf: Certificate,
    /// Who issued it.
    pub issuer: Certificate,
    /// Responders that the administrator trusts beside the issuer and whom it names.
    pub responders: Arc<Vec<Certificate>>,
    /// How far the responder's clock may be off.
    pub tolerate: Duration,
    /// Greatest age of a response.
    pub max_age: Option<Duration>,
}

/// Whether a certificate is revoked, by the list that it names. Only for one whose chain has been
/// verified and whose key has signed, and for those above it.
#[derive(Clone, Debug)]
pub struct CrlQuestion {
    /// Where the list is: each place is tried where the one before it has none that counts.
    pub urls: Vec<String>,
    /// The certificate.
    pub certificate: Certificate,
    /// Who issued it.
    pub issuer: Certificate,
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// What the responder says.
    Ocsp(Result<Status, Failure>),
    /// What the list says.
    Crl(Result<Status, Failure>),
    /// A response that says that our certificate is good, whole; `None` where there is none.
    Own(Option<Arc<[u8]>>),
    /// What a RADIUS server says.
    Radius(RadiusAnswer),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No `http` URL.
    #[error("not a URL that can be asked")]
    Url,
    /// The name of the server has no address.
    #[error("server not found")]
    Name,
    /// The server cannot be reached, or hung up.
    #[error("server not reached: {0}")]
    Unreachable(String),
    /// It did not answer in time.
    #[error("no answer in time")]
    Late,
    /// It speaks no HTTP, or refuses.
    #[error("HTTP: {0}")]
    Http(String),
    /// There are too many questions already.
    #[error("too many questions")]
    Busy,
    /// What a RADIUS server says makes no sense.
    #[error("RADIUS: {0}")]
    Radius(&'static str),
    /// The OCSP response does not count.
    #[error("{0}")]
    Ocsp(#[from] OcspError),
    /// The list does not count.
    #[error("{0}")]
    Crl(#[from] CrlError),
}
