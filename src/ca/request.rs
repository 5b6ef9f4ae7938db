//! What `ikectl ca` and `ikectl show ca` are asked for, as values.

use std::fmt;

use zeroize::Zeroizing;

/// A password. It is never shown, and wiped when it goes.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Keeps these words as a secret.
    pub fn new(words: String) -> Self {
        Self(Zeroizing::new(words))
    }

    /// The words.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The kind of a new key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA on P-256.
    #[default]
    EcdsaP256,
    /// RSA with 3072 bits: `rsa`.
    Rsa,
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Usage {
    /// Either end of a connection.
    #[default]
    Any,
    /// `server`
    Server,
    /// `client`
    Client,
    /// `ocsp`: signing OCSP responses.
    Ocsp,
}

/// What an archive is made with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Export {
    /// The gateway that a profile connects to: `peer`.
    pub peer: Option<String>,
    /// What the archive's PKCS #12 files are encrypted with; asked for if there is none.
    pub password: Option<Secret>,
    /// Whether the authority's own key and password go along: `private`.
    pub private: bool,
}

/// `ca NAME ...` and `show ca NAME ...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The name of the authority, and of its folder.
    pub ca: String,
    /// What to do with it.
    pub what: What,
}

/// What to do with an authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// `create [password P] [rsa]`
    Create {
        /// What the authority's key is encrypted with; asked for if there is none.
        password: Option<Secret>,
        /// The kind of its key.
        kind: KeyKind,
    },
    /// `delete`
    Delete,
    /// `install [PATH]`
    Install(Option<String>),
    /// `export [peer P] [password P] [private]`
    Export(Export),
    /// `renew`: sign the revocation list again.
    Renew,
    /// `certificate HOST ...`
    Certificate {
        /// The host's name or address.
        host: String,
        /// What to do with its certificate.
        what: OfCertificate,
    },
    /// `key HOST ...`
    Key {
        /// The host's name or address.
        host: String,
        /// What to do with its key.
        what: OfKey,
    },
    /// `show ca NAME certificates [HOST]`
    Show(Option<String>),
}

/// What to do with a host's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OfCertificate {
    /// `create [server|client|ocsp] [rsa]`
    Create {
        /// What it is for.
        usage: Usage,
        /// The kind of its key, if there is none yet.
        kind: KeyKind,
    },
    /// `delete`
    Delete,
    /// `install [PATH]`
    Install(Option<String>),
    /// `export [peer P] [password P]`
    Export(Export),
    /// `revoke`
    Revoke,
}

/// What to do with a host's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OfKey {
    /// `create [rsa]`
    Create(KeyKind),
    /// `delete`
    Delete,
    /// `install [PATH]`
    Install(Option<String>),
    /// `import FILE`
    Import(String),
}
