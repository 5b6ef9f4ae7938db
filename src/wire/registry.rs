//! The numbers IANA keeps for IKEv2. Every number is a type of its own over the wire integer with
//! named constants: an unknown number survives decoding and prints as a number.

use std::fmt;

/// Rows read like IANA's tables: constant, number, and the name that logs print.
macro_rules! registry {
    ($(#[$doc:meta])* $name:ident($int:ty) { $($(#[$row_doc:meta])* $constant:ident = $value:literal => $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $name(pub $int);

        impl $name {
            $(#[doc = concat!("`", $text, "`, number ", stringify!($value), ".")] $(#[$row_doc])* pub const $constant: Self = Self($value);)*

            /// The registered name, or `None` where this number is not known here.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some($text),)*
                    _ => None,
                }
            }

            /// Every number known here, in the order of the table.
            pub const KNOWN: &'static [Self] = &[$(Self($value)),*];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.name() {
                    Some(name) => f.pad(name),
                    None => write!(f, "{}", self.0),
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

registry! {
    /// Exchange type, RFC 7296, 3.1.
    ExchangeType(u8) {
        IKE_SA_INIT = 34 => "IKE_SA_INIT",
        IKE_AUTH = 35 => "IKE_AUTH",
        CREATE_CHILD_SA = 36 => "CREATE_CHILD_SA",
        INFORMATIONAL = 37 => "INFORMATIONAL",
        IKE_SESSION_RESUME = 38 => "IKE_SESSION_RESUME",
        IKE_INTERMEDIATE = 43 => "IKE_INTERMEDIATE",
        IKE_FOLLOWUP_KE = 44 => "IKE_FOLLOWUP_KE",
    }
}

registry! {
    /// Payload type, the "Next Payload" of RFC 7296, 3.2.
    PayloadType(u8) {
        NONE = 0 => "NONE",
        SA = 33 => "SA",
        KE = 34 => "KE",
        ID_I = 35 => "IDi",
        ID_R = 36 => "IDr",
        CERT = 37 => "CERT",
        CERTREQ = 38 => "CERTREQ",
        AUTH = 39 => "AUTH",
        NONCE = 40 => "NONCE",
        NOTIFY = 41 => "N",
        DELETE = 42 => "D",
        VENDOR_ID = 43 => "V",
        TS_I = 44 => "TSi",
        TS_R = 45 => "TSr",
        SK = 46 => "SK",
        CP = 47 => "CP",
        EAP = 48 => "EAP",
        SKF = 53 => "SKF",
    }
}

registry! {
    /// Security protocol identifier, RFC 7296, 3.3.1.
    ProtocolId(u8) {
        NONE = 0 => "NONE",
        IKE = 1 => "IKE",
        AH = 2 => "AH",
        ESP = 3 => "ESP",
    }
}

registry! {
    /// Transform type, RFC 7296, 3.3.2.
    TransformType(u8) {
        ENCR = 1 => "ENCR",
        PRF = 2 => "PRF",
        INTEG = 3 => "INTEG",
        KE = 4 => "DH",
        ESN = 5 => "ESN",
    }
}

registry! {
    /// Encryption algorithm (transform type 1).
    EncrId(u16) {
        DES3 = 3 => "3DES",
        CAST = 6 => "CAST",
        BLOWFISH = 7 => "BLOWFISH",
        NULL = 11 => "NULL",
        AES_CBC = 12 => "AES_CBC",
        AES_CTR = 13 => "AES_CTR",
        AES_GCM_8 = 18 => "AES_GCM_8",
        AES_GCM_12 = 19 => "AES_GCM_12",
        AES_GCM_16 = 20 => "AES_GCM_16",
        AES_GMAC = 21 => "AES_GMAC",
        CHACHA20_POLY1305 = 28 => "CHACHA20_POLY1305",
    }
}

registry! {
    /// Pseudorandom function (transform type 2).
    PrfId(u16) {
        HMAC_MD5 = 1 => "HMAC_MD5",
        HMAC_SHA1 = 2 => "HMAC_SHA1",
        HMAC_SHA2_256 = 5 => "HMAC_SHA2_256",
        HMAC_SHA2_384 = 6 => "HMAC_SHA2_384",
        HMAC_SHA2_512 = 7 => "HMAC_SHA2_512",
    }
}

registry! {
    /// Integrity algorithm (transform type 3).
    IntegId(u16) {
        NONE = 0 => "NONE",
        HMAC_MD5_96 = 1 => "HMAC_MD5_96",
        HMAC_SHA1_96 = 2 => "HMAC_SHA1_96",
        HMAC_SHA2_256_128 = 12 => "HMAC_SHA2_256_128",
        HMAC_SHA2_384_192 = 13 => "HMAC_SHA2_384_192",
        HMAC_SHA2_512_256 = 14 => "HMAC_SHA2_512_256",
    }
}

registry! {
    /// Key exchange method (transform type 4), once called Diffie-Hellman group.
    KeId(u16) {
        NONE = 0 => "NONE",
        MODP_768 = 1 => "MODP_768",
        MODP_1024 = 2 => "MODP_1024",
        MODP_1536 = 5 => "MODP_1536",
        MODP_2048 = 14 => "MODP_2048",
        MODP_3072 = 15 => "MODP_3072",
        MODP_4096 = 16 => "MODP_4096",
        MODP_6144 = 17 => "MODP_6144",
        MODP_8192 = 18 => "MODP_8192",
        ECP_256 = 19 => "ECP_256",
        ECP_384 = 20 => "ECP_384",
        ECP_521 = 21 => "ECP_521",
        ECP_192 = 25 => "ECP_192",
        ECP_224 = 26 => "ECP_224",
        BRAINPOOL_224 = 27 => "BRAINPOOL_P224R1",
        BRAINPOOL_256 = 28 => "BRAINPOOL_P256R1",
        BRAINPOOL_384 = 29 => "BRAINPOOL_P384R1",
        BRAINPOOL_512 = 30 => "BRAINPOOL_P512R1",
        CURVE25519 = 31 => "CURVE25519",
        CURVE448 = 32 => "CURVE448",
        ML_KEM_512 = 35 => "ML_KEM_512",
        ML_KEM_768 = 36 => "ML_KEM_768",
        ML_KEM_1024 = 37 => "ML_KEM_1024",
        SNTRUP761X25519 = 1035 => "X_SNTRUP761X25519",
    }
}

registry! {
    /// Extended sequence numbers (transform type 5).
    EsnId(u16) {
        NO_ESN = 0 => "NO_ESN",
        ESN = 1 => "ESN",
    }
}

registry! {
    /// Notify message type, RFC 7296, 3.10.1: below 16384 an error, else a status.
    NotifyType(u16) {
        UNSUPPORTED_CRITICAL_PAYLOAD = 1 => "UNSUPPORTED_CRITICAL_PAYLOAD",
        INVALID_IKE_SPI = 4 => "INVALID_IKE_SPI",
        INVALID_MAJOR_VERSION = 5 => "INVALID_MAJOR_VERSION",
        INVALID_SYNTAX = 7 => "INVALID_SYNTAX",
        INVALID_MESSAGE_ID = 9 => "INVALID_MESSAGE_ID",
        INVALID_SPI = 11 => "INVALID_SPI",
        NO_PROPOSAL_CHOSEN = 14 => "NO_PROPOSAL_CHOSEN",
        INVALID_KE_PAYLOAD = 17 => "INVALID_KE_PAYLOAD",
        AUTHENTICATION_FAILED = 24 => "AUTHENTICATION_FAILED",
        SINGLE_PAIR_REQUIRED = 34 => "SINGLE_PAIR_REQUIRED",
        NO_ADDITIONAL_SAS = 35 => "NO_ADDITIONAL_SAS",
        INTERNAL_ADDRESS_FAILURE = 36 => "INTERNAL_ADDRESS_FAILURE",
        FAILED_CP_REQUIRED = 37 => "FAILED_CP_REQUIRED",
        TS_UNACCEPTABLE = 38 => "TS_UNACCEPTABLE",
        INVALID_SELECTORS = 39 => "INVALID_SELECTORS",
        UNACCEPTABLE_ADDRESSES = 40 => "UNACCEPTABLE_ADDRESSES",
        UNEXPECTED_NAT_DETECTED = 41 => "UNEXPECTED_NAT_DETECTED",
        TEMPORARY_FAILURE = 43 => "TEMPORARY_FAILURE",
        CHILD_SA_NOT_FOUND = 44 => "CHILD_SA_NOT_FOUND",
        INITIAL_CONTACT = 16384 => "INITIAL_CONTACT",
        SET_WINDOW_SIZE = 16385 => "SET_WINDOW_SIZE",
        ADDITIONAL_TS_POSSIBLE = 16386 => "ADDITIONAL_TS_POSSIBLE",
        IPCOMP_SUPPORTED = 16387 => "IPCOMP_SUPPORTED",
        NAT_DETECTION_SOURCE_IP = 16388 => "NAT_DETECTION_SOURCE_IP",
        NAT_DETECTION_DESTINATION_IP = 16389 => "NAT_DETECTION_DESTINATION_IP",
        COOKIE = 16390 => "COOKIE",
        USE_TRANSPORT_MODE = 16391 => "USE_TRANSPORT_MODE",
        HTTP_CERT_LOOKUP_SUPPORTED = 16392 => "HTTP_CERT_LOOKUP_SUPPORTED",
        REKEY_SA = 16393 => "REKEY_SA",
        ESP_TFC_PADDING_NOT_SUPPORTED = 16394 => "ESP_TFC_PADDING_NOT_SUPPORTED",
        NON_FIRST_FRAGMENTS_ALSO = 16395 => "NON_FIRST_FRAGMENTS_ALSO",
        MOBIKE_SUPPORTED = 16396 => "MOBIKE_SUPPORTED",
        ADDITIONAL_IP4_ADDRESS = 16397 => "ADDITIONAL_IP4_ADDRESS",
        ADDITIONAL_IP6_ADDRESS = 16398 => "ADDITIONAL_IP6_ADDRESS",
        NO_ADDITIONAL_ADDRESSES = 16399 => "NO_ADDITIONAL_ADDRESSES",
        UPDATE_SA_ADDRESSES = 16400 => "UPDATE_SA_ADDRESSES",
        COOKIE2 = 16401 => "COOKIE2",
        NO_NATS_ALLOWED = 16402 => "NO_NATS_ALLOWED",
        AUTH_LIFETIME = 16403 => "AUTH_LIFETIME",
        MULTIPLE_AUTH_SUPPORTED = 16404 => "MULTIPLE_AUTH_SUPPORTED",
        ANOTHER_AUTH_FOLLOWS = 16405 => "ANOTHER_AUTH_FOLLOWS",
        REDIRECT_SUPPORTED = 16406 => "REDIRECT_SUPPORTED",
        REDIRECT = 16407 => "REDIRECT",
        REDIRECTED_FROM = 16408 => "REDIRECTED_FROM",
        EAP_ONLY_AUTHENTICATION = 16417 => "EAP_ONLY_AUTHENTICATION",
        CHILDLESS_IKEV2_SUPPORTED = 16418 => "CHILDLESS_IKEV2_SUPPORTED",
        IKEV2_MESSAGE_ID_SYNC_SUPPORTED = 16420 => "IKEV2_MESSAGE_ID_SYNC_SUPPORTED",
        FRAGMENTATION_SUPPORTED = 16430 => "FRAGMENTATION_SUPPORTED",
        SIGNATURE_HASH_ALGORITHMS = 16431 => "SIGNATURE_HASH_ALGORITHMS",
        USE_PPK = 16435 => "USE_PPK",
        PPK_IDENTITY = 16436 => "PPK_IDENTITY",
        NO_PPK_AUTH = 16437 => "NO_PPK_AUTH",
        INTERMEDIATE_EXCHANGE_SUPPORTED = 16438 => "INTERMEDIATE_EXCHANGE_SUPPORTED",
        ADDITIONAL_KEY_EXCHANGE = 16441 => "ADDITIONAL_KEY_EXCHANGE",
        SUPPORTED_AUTH_METHODS = 16443 => "SUPPORTED_AUTH_METHODS",
    }
}

impl NotifyType {
    /// Whether this reports an error (below 16384) and not a status (RFC 7296, 3.10.1).
    pub const fn is_error(self) -> bool {
        self.0 < 16384
    }
}

registry! {
    /// Authentication method, RFC 7296, 3.8 and RFC 7427.
    AuthMethod(u8) {
        RSA = 1 => "RSA_SIG",
        SHARED_KEY = 2 => "SHARED_KEY_MIC",
        ECDSA_256 = 9 => "ECDSA_256",
        ECDSA_384 = 10 => "ECDSA_384",
        ECDSA_521 = 11 => "ECDSA_521",
        NULL = 13 => "NULL",
        SIGNATURE = 14 => "SIG",
    }
}

registry! {
    /// Certificate encoding, RFC 7296, 3.6; 201 is OpenIKED's raw ECDSA key.
    CertEncoding(u8) {
        X509 = 4 => "X509_CERT",
        CRL = 7 => "CRL",
        RAW_RSA = 11 => "RSA_KEY",
        HASH_URL = 12 => "X509_HASHANDURL",
        HASH_URL_BUNDLE = 13 => "X509_HASHANDURLBUNDLE",
        OCSP = 14 => "OCSP_CONTENT",
        RAW_PUBLIC_KEY = 15 => "RAW_PUBLIC_KEY",
        OPENIKED_ECDSA = 201 => "ECDSA",
    }
}

registry! {
    /// Identification type, RFC 7296, 3.5.
    IdType(u8) {
        IPV4_ADDR = 1 => "IPV4",
        FQDN = 2 => "FQDN",
        RFC822_ADDR = 3 => "UFQDN",
        IPV6_ADDR = 5 => "IPV6",
        DER_ASN1_DN = 9 => "ASN1_DN",
        DER_ASN1_GN = 10 => "ASN1_GN",
        KEY_ID = 11 => "KEY_ID",
        NULL = 13 => "NULL",
    }
}

registry! {
    /// Traffic selector type, RFC 7296, 3.13.1.
    TsType(u8) {
        IPV4_ADDR_RANGE = 7 => "IPV4_ADDR_RANGE",
        IPV6_ADDR_RANGE = 8 => "IPV6_ADDR_RANGE",
    }
}

registry! {
    /// Configuration payload type, RFC 7296, 3.15.
    CfgType(u8) {
        REQUEST = 1 => "REQUEST",
        REPLY = 2 => "REPLY",
        SET = 3 => "SET",
        ACK = 4 => "ACK",
    }
}

registry! {
    /// Configuration attribute type, RFC 7296, 3.15.1.
    CfgAttrType(u16) {
        INTERNAL_IP4_ADDRESS = 1 => "INTERNAL_IP4_ADDRESS",
        INTERNAL_IP4_NETMASK = 2 => "INTERNAL_IP4_NETMASK",
        INTERNAL_IP4_DNS = 3 => "INTERNAL_IP4_DNS",
        INTERNAL_IP4_NBNS = 4 => "INTERNAL_IP4_NBNS",
        INTERNAL_IP4_DHCP = 6 => "INTERNAL_IP4_DHCP",
        APPLICATION_VERSION = 7 => "APPLICATION_VERSION",
        INTERNAL_IP6_ADDRESS = 8 => "INTERNAL_IP6_ADDRESS",
        INTERNAL_IP6_DNS = 10 => "INTERNAL_IP6_DNS",
        INTERNAL_IP6_NBNS = 11 => "INTERNAL_IP6_NBNS",
        INTERNAL_IP6_DHCP = 12 => "INTERNAL_IP6_DHCP",
        INTERNAL_IP4_SUBNET = 13 => "INTERNAL_IP4_SUBNET",
        SUPPORTED_ATTRIBUTES = 14 => "SUPPORTED_ATTRIBUTES",
        INTERNAL_IP6_SUBNET = 15 => "INTERNAL_IP6_SUBNET",
        INTERNAL_DNS_DOMAIN = 25 => "INTERNAL_DNS_DOMAIN",
        INTERNAL_DNSSEC_TA = 26 => "INTERNAL_DNSSEC_TA",
        INTERNAL_IP4_SERVER = 23456 => "INTERNAL_IP4_SERVER",
        INTERNAL_IP6_SERVER = 23457 => "INTERNAL_IP6_SERVER",
    }
}

registry! {
    /// Hash algorithm of SIGNATURE_HASH_ALGORITHMS, RFC 7427, 7.
    HashAlgorithm(u16) {
        SHA1 = 1 => "SHA1",
        SHA2_256 = 2 => "SHA2_256",
        SHA2_384 = 3 => "SHA2_384",
        SHA2_512 = 4 => "SHA2_512",
        IDENTITY = 5 => "IDENTITY",
    }
}
