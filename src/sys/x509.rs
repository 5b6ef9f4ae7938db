//! X.509 where the `boring` crate has no safe call: revocation lists, times as numbers, key usage.

use std::ptr::{self, NonNull};

use boring::asn1::Asn1TimeRef;
use boring::nid::Nid;
use boring::pkey::{PKeyRef, Public};
use boring::x509::X509Ref;
use boring::x509::store::X509StoreBuilder;
use boring_sys as ffi;
use foreign_types::{ForeignType, ForeignTypeRef};

/// A certificate revocation list (RFC 5280, 5).
#[derive(Debug)]
pub struct Crl(NonNull<ffi::X509_CRL>);

// SAFETY: never changed after it was read; BoringSSL counts references atomically.
unsafe impl Send for Crl {}
// SAFETY: as above.
unsafe impl Sync for Crl {}

impl Crl {
    /// Every list in a PEM file; other blocks are passed over.
    pub fn all_from_pem(pem: &[u8]) -> Vec<Self> {
        let Ok(length) = ffi::ossl_ssize_t::try_from(pem.len()) else {
            return Vec::new();
        };
        // SAFETY: pointer and length are those of a slice that outlives the BIO, which only reads.
        let bio = unsafe { ffi::BIO_new_mem_buf(pem.as_ptr().cast(), length) };
        if bio.is_null() {
            return Vec::new();
        }
        let mut lists = Vec::new();
        loop {
            // SAFETY: the BIO is live; no old object, no password callback.
            let crl =
                unsafe { ffi::PEM_read_bio_X509_CRL(bio, ptr::null_mut(), None, ptr::null_mut()) };
            match NonNull::new(crl) {
                Some(crl) => lists.push(Self(crl)),
                None => break,
            }
        }
        // SAFETY: made above, freed once; then this thread's error queue, which has "no start line".
        unsafe {
            ffi::BIO_free(bio);
            ffi::ERR_clear_error();
        }
        lists
    }

    /// Reads one list from DER, nothing but it.
    pub fn from_der(der: &[u8]) -> Option<Self> {
        let length = std::os::raw::c_long::try_from(der.len()).ok()?;
        let mut at = der.as_ptr();
        // SAFETY: pointer and length are those of a slice, which is only read; no old object. Then
        // this thread's error queue, which says why there is none.
        let crl = unsafe {
            let crl = ffi::d2i_X509_CRL(ptr::null_mut(), &raw mut at, length);
            ffi::ERR_clear_error();
            crl
        };
        let crl = Self(NonNull::new(crl)?);
        (at == der.as_ptr_range().end).then_some(crl)
    }

    /// When it was made, in seconds since 1970.
    pub fn this_update(&self) -> Option<i64> {
        // SAFETY: the list is live; the time belongs to it.
        unsafe {
            let time = ffi::X509_CRL_get0_lastUpdate(self.0.as_ptr());
            if time.is_null() {
                return None;
            }
            seconds(Asn1TimeRef::from_ptr(time.cast_mut()))
        }
    }

    /// Whether it names the subject of this certificate as its issuer.
    pub fn names(&self, issuer: &X509Ref) -> bool {
        // SAFETY: both are live, and so are their names.
        unsafe {
            let theirs = ffi::X509_CRL_get_issuer(self.0.as_ptr());
            let subject = ffi::X509_get_subject_name(issuer.as_ptr());
            !theirs.is_null() && ffi::X509_NAME_cmp(theirs, subject) == 0
        }
    }

    /// Whether this key signed it.
    pub fn is_signed_by(&self, key: &PKeyRef<Public>) -> bool {
        // SAFETY: both are live. Then this thread's error queue, which says why not.
        unsafe {
            let verified = ffi::X509_CRL_verify(self.0.as_ptr(), key.as_ptr());
            ffi::ERR_clear_error();
            verified == 1
        }
    }

    /// How it is signed.
    pub fn signature_algorithm(&self) -> Nid {
        // SAFETY: the list is live.
        Nid::from_raw(unsafe { ffi::X509_CRL_get_signature_nid(self.0.as_ptr()) })
    }

    /// When the next list is due, in seconds since 1970.
    pub fn next_update(&self) -> Option<i64> {
        // SAFETY: the list is live; the time belongs to it and is null where there is none.
        unsafe {
            let time = ffi::X509_CRL_get0_nextUpdate(self.0.as_ptr());
            if time.is_null() {
                return None;
            }
            seconds(Asn1TimeRef::from_ptr(time.cast_mut()))
        }
    }

    /// Adds it to a store, which keeps a reference.
    pub fn add_to(&self, store: &mut X509StoreBuilder) -> bool {
        // SAFETY: both are live.
        unsafe { ffi::X509_STORE_add_crl(store.as_ptr(), self.0.as_ptr()) == 1 }
    }
}

impl Drop for Crl {
    fn drop(&mut self) {
        // SAFETY: made by a d2i function, this reference freed once.
        unsafe { ffi::X509_CRL_free(self.0.as_ptr()) };
    }
}

/// A time in seconds since 1970.
pub fn seconds(time: &Asn1TimeRef) -> Option<i64> {
    let mut out = 0;
    // SAFETY: the time is live, `out` is ours.
    let read = unsafe { ffi::ASN1_TIME_to_posix(time.as_ptr(), &raw mut out) };
    (read == 1).then_some(out)
}

/// Whether a certificate's key may sign: key usage is absent, or has digitalSignature or
/// nonRepudiation (RFC 4945, 5.1.3.2).
pub fn may_sign(certificate: &X509Ref) -> bool {
    // SAFETY: the certificate is live; all ones where there is no such extension.
    let usage = unsafe { ffi::X509_get_key_usage(certificate.as_ptr()) };
    usage & (KU_DIGITAL_SIGNATURE | KU_NON_REPUDIATION) != 0
}

/// Whether a certificate's extended key usage has OCSPSigning (RFC 6960, 4.2.2.2).
pub fn may_sign_ocsp(certificate: &X509Ref) -> bool {
    // SAFETY: the certificate is live; all ones where there is no such extension.
    let usage = unsafe { ffi::X509_get_extended_key_usage(certificate.as_ptr()) };
    usage != u32::MAX && usage & XKU_OCSP_SIGN != 0
}

/// The value of a certificate's extension; `None` where there is none.
pub fn extension(certificate: &X509Ref, kind: Nid) -> Option<&[u8]> {
    // SAFETY: the certificate is live; the extension and its value belong to it, and live as long.
    unsafe {
        let place = ffi::X509_get_ext_by_NID(certificate.as_ptr(), kind.as_raw(), -1);
        let extension = ffi::X509_get_ext(certificate.as_ptr(), place);
        if extension.is_null() {
            return None;
        }
        let value = ffi::X509_EXTENSION_get_data(extension);
        let data = ffi::ASN1_STRING_get0_data(value);
        let length = usize::try_from(ffi::ASN1_STRING_length(value)).ok()?;
        (!data.is_null()).then(|| std::slice::from_raw_parts(data, length))
    }
}

/// A certificate for people to read, as `openssl x509 -text` prints it.
pub fn text(certificate: &X509Ref) -> Option<Vec<u8>> {
    // SAFETY: a BIO in memory, or null.
    let bio = NonNull::new(unsafe { ffi::BIO_new(ffi::BIO_s_mem()) })?;
    let (mut bytes, mut length) = (ptr::null(), 0);
    // SAFETY: BIO and certificate are live; the bytes are the BIO's, copied before it is freed, once.
    unsafe {
        let printed = ffi::X509_print(bio.as_ptr(), certificate.as_ptr()) == 1
            && ffi::BIO_mem_contents(bio.as_ptr(), &raw mut bytes, &raw mut length) == 1;
        let text = printed.then(|| std::slice::from_raw_parts(bytes, length).to_vec());
        ffi::BIO_free(bio.as_ptr());
        text
    }
}

const XKU_OCSP_SIGN: u32 = 0x20;
const KU_DIGITAL_SIGNATURE: u32 = 0x80;
const KU_NON_REPUDIATION: u32 = 0x40;
