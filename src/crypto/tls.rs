//! TLS 1.2 and 1.3 between two ends that hand each other bytes, for EAP: the handshake and the keys
//! that it exports. The library has its own randomness and clock for this; nothing here depends on
//! either, for there are no sessions to resume, and certificates are judged by whoever asks.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use boring::ssl::{
    ErrorCode, Ssl, SslAlert, SslContext, SslContextBuilder, SslMethod, SslOptions, SslRef,
    SslSessionCacheMode, SslStream, SslVerifyError, SslVerifyMode, SslVersion,
};
use boring::x509::X509;

use super::sign::PrivateKey;
use super::x509::Certificate;
use super::{CryptoError, SecretBytes};

/// Which end of TLS we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Speaks first.
    Client,
    /// Asks for a certificate.
    Server,
}

/// What we show of ourselves.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// Our key.
    pub key: &'a PrivateKey,
    /// Certificates in DER, that of the key first.
    pub chain: &'a [&'a [u8]],
    /// The authorities a server names to its clients.
    pub authorities: &'a [Certificate],
}

/// How far a handshake is.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// It waits for the peer.
    Waits,
    /// It waits for [`Tls::judge`]: the peer shows these certificates, in DER.
    Judge(Vec<Vec<u8>>),
    /// It is over, and both ends have the same keys.
    Done,
    /// It has failed; there may be an alert to send.
    Failed,
}

/// One end of a connection. What is to be sent has to be fetched after each step.
pub struct Tls {
    stream: SslStream<Pipe>,
    side: Side,
    court: Court,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Tls({:?}, {})",
            self.side,
            self.stream.ssl().state_string()
        )
    }
}

/// What the peer shows, and what was said of it.
#[derive(Debug, Default)]
struct Evidence {
    chain: Vec<Vec<u8>>,
    verdict: Option<bool>,
}

type Court = Arc<Mutex<Evidence>>;

fn lock(court: &Court) -> MutexGuard<'_, Evidence> {
    court.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tls {
    /// Ready for the handshake.
    pub fn new(side: Side, shown: &Shown<'_>) -> Result<Self, CryptoError> {
        let court = Court::default();
        let context = context(side, shown, Arc::clone(&court))?;
        let ssl = Ssl::new(&context)?;
        let stream = SslStream::new(ssl, Pipe::default())?;
        Ok(Self {
            stream,
            side,
            court,
        })
    }

    /// Takes bytes of the peer.
    pub fn feed(&mut self, bytes: &[u8]) {
        let pipe = self.stream.get_mut();
        pipe.inbound.drain(..pipe.read);
        pipe.read = 0;
        pipe.inbound.extend_from_slice(bytes);
    }

    /// Goes on with the handshake as far as it can.
    pub fn advance(&mut self) -> Progress {
        let stepped = match self.side {
            Side::Client => self.stream.connect(),
            Side::Server => self.stream.accept(),
        };
        match stepped.map_err(|error| error.code()) {
            Ok(()) => Progress::Done,
            Err(ErrorCode::WANT_READ) => Progress::Waits,
            Err(ErrorCode::WANT_CERTIFICATE_VERIFY) => {
                Progress::Judge(lock(&self.court).chain.clone())
            }
            Err(_) => Progress::Failed,
        }
    }

    /// Says whether the peer's certificates will do; [`Self::advance`] follows.
    pub fn judge(&mut self, good: bool) {
        lock(&self.court).verdict = Some(good);
    }

    /// What is to be sent.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.stream.get_mut().outbound)
    }

    /// Whether it is TLS 1.3 that both speak.
    pub fn is_1_3(&self) -> bool {
        self.stream.ssl().version2() == Some(SslVersion::TLS1_3)
    }

    /// Keying material (RFC 5705; RFC 8446, 7.5).
    pub fn export(
        &self,
        label: &str,
        context: Option<&[u8]>,
        len: usize,
    ) -> Result<SecretBytes, CryptoError> {
        let mut out = SecretBytes::new(vec![0; len]);
        let ssl = self.stream.ssl();
        ssl.export_keying_material(&mut out.0, label, context)?;
        Ok(out)
    }

    /// Sends data under the keys of the handshake.
    pub fn send(&mut self, data: &[u8]) -> Result<(), CryptoError> {
        match self.stream.ssl_write(data) {
            Ok(sent) if sent == data.len() => Ok(()),
            Ok(_) | Err(_) => Err(CryptoError::Library),
        }
    }

    /// The data that has come under the keys of the handshake, at most `max` bytes.
    pub fn receive(&mut self, max: usize) -> Result<Vec<u8>, CryptoError> {
        let mut out = vec![0; max];
        let mut filled = 0;
        while let Some(room) = out.get_mut(filled..).filter(|room| !room.is_empty()) {
            match self.stream.ssl_read(room) {
                Ok(0) => break,
                Ok(more) => filled += more,
                Err(error) if error.code() == ErrorCode::WANT_READ => break,
                Err(_) => return Err(CryptoError::Library),
            }
        }
        out.truncate(filled);
        Ok(out)
    }
}

fn context(side: Side, shown: &Shown<'_>, court: Court) -> Result<SslContext, CryptoError> {
    let mut builder = SslContextBuilder::new(SslMethod::tls())?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    builder.set_max_proto_version(Some(SslVersion::TLS1_3))?;
    builder.set_options(SslOptions::NO_TICKET);
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    builder.set_cipher_list(CIPHERS)?;
    let (leaf, above) = shown.chain.split_first().ok_or(CryptoError::Certificate)?;
    let leaf = X509::from_der(leaf)?;
    builder.set_certificate(&leaf)?;
    for der in above {
        builder.add_extra_chain_cert(X509::from_der(der)?)?;
    }
    builder.set_private_key(shown.key.pkey())?;
    if side == Side::Server {
        for authority in shown.authorities.iter().take(AUTHORITIES_MAX) {
            builder.add_client_ca(authority.x509())?;
        }
    }
    let mode = SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT;
    builder.set_custom_verify_callback(mode, move |ssl| hear(ssl, &court));
    Ok(builder.build())
}

/// Keeps what the peer shows, until it is judged.
fn hear(ssl: &SslRef, court: &Court) -> Result<(), SslVerifyError> {
    let mut evidence = lock(court);
    match evidence.verdict {
        Some(true) => return Ok(()),
        Some(false) => return Err(SslVerifyError::Invalid(SslAlert::BAD_CERTIFICATE)),
        None => {}
    }
    let bad = |_| SslVerifyError::Invalid(SslAlert::BAD_CERTIFICATE);
    let leaf = ssl.peer_certificate();
    let leaf = leaf.ok_or(SslVerifyError::Invalid(SslAlert::BAD_CERTIFICATE))?;
    let leaf = leaf.to_der().map_err(bad)?;
    let mut chain = vec![leaf];
    for certificate in ssl.peer_cert_chain().into_iter().flatten() {
        let der = certificate.to_der().map_err(bad)?;
        // A client's chain begins with its own certificate, a server's behind it.
        if !chain.contains(&der) {
            chain.push(der);
        }
    }
    evidence.chain = chain;
    Err(SslVerifyError::Retry)
}

/// Both directions of a connection.
#[derive(Debug, Default)]
struct Pipe {
    inbound: Vec<u8>,
    /// So many bytes of it are read.
    read: usize,
    outbound: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let waiting = self.inbound.get(self.read..).unwrap_or_default();
        if waiting.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let len = waiting.len().min(out.len());
        for (out, byte) in out.iter_mut().zip(waiting) {
            *out = *byte;
        }
        self.read += len;
        Ok(len)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outbound.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Of TLS 1.2; those of 1.3 are all good.
const CIPHERS: &str = "ECDHE+AESGCM:ECDHE+CHACHA20";
/// Authorities named by a server; a few hundred bytes each.
const AUTHORITIES_MAX: usize = 20;
