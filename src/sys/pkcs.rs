//! PKCS #8 and PKCS #12 as BoringSSL writes them, where the `boring` crate lets nobody choose: the
//! rounds of the key derivation, and archives without a key.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::ptr;

use boring::pkey::{PKeyRef, Private};
use boring::stack::StackRef;
use boring::x509::{X509, X509Ref};
use boring_sys as ffi;
use foreign_types::ForeignTypeRef;

use super::bssl::{Failure, check};

/// An EncryptedPrivateKeyInfo (RFC 5958, 3) in DER: PBES2 (RFC 8018, 6.2) with AES-256-CBC and this
/// many rounds of PBKDF2.
pub fn seal_key(
    key: &PKeyRef<Private>,
    password: &[u8],
    salt: &[u8],
    rounds: i32,
) -> Result<Vec<u8>, Failure> {
    let mut cbb = MaybeUninit::uninit();
    // SAFETY: CBB_init fills the structure, and leaves nothing to free if it fails.
    check(unsafe { ffi::CBB_init(cbb.as_mut_ptr(), 512) })?;
    // SAFETY: filled above; the lengths are those of live slices, the key is live.
    let sealed = unsafe {
        ffi::PKCS8_marshal_encrypted_private_key(
            cbb.as_mut_ptr(),
            -1,
            ffi::EVP_aes_256_cbc(),
            password.as_ptr().cast(),
            password.len(),
            salt.as_ptr(),
            salt.len(),
            rounds,
            key.as_ptr(),
        )
    };
    let (mut out, mut length) = (ptr::null_mut(), 0);
    // SAFETY: the structure is live; finishing hands its bytes to us and empties it.
    let finished = sealed == 1
        && unsafe { ffi::CBB_finish(cbb.as_mut_ptr(), &raw mut out, &raw mut length) == 1 };
    if !finished {
        // SAFETY: not finished, so it still owns its bytes; freed once.
        unsafe { ffi::CBB_cleanup(cbb.as_mut_ptr()) };
        return check(0).map(|()| Vec::new());
    }
    // SAFETY: `out` has `length` bytes that are ours, freed once after they were copied.
    Ok(unsafe { taken(out, length) })
}

/// A PKCS #12 archive (RFC 7292) in DER: a key with its certificate, if there is one, and further
/// certificates. All is encrypted with 3DES, which every importer knows.
pub fn archive(
    password: &CStr,
    own: Option<(&CStr, &PKeyRef<Private>, &X509Ref)>,
    others: &StackRef<X509>,
    rounds: i32,
) -> Result<Vec<u8>, Failure> {
    let (name, key, certificate) = match own {
        Some((name, key, certificate)) => (name.as_ptr(), key.as_ptr(), certificate.as_ptr()),
        None => (ptr::null(), ptr::null_mut(), ptr::null_mut()),
    };
    let cipher = ffi::NID_pbe_WithSHA1And3_Key_TripleDES_CBC;
    // SAFETY: strings end in NUL; key and certificates are live or null; nothing is kept.
    let archive = unsafe {
        ffi::PKCS12_create(
            password.as_ptr(),
            name,
            key,
            certificate,
            others.as_ptr(),
            cipher,
            cipher,
            rounds,
            rounds,
            0,
        )
    };
    if archive.is_null() {
        return check(0).map(|()| Vec::new());
    }
    let mut out = ptr::null_mut();
    // SAFETY: the archive is live and freed once; with a null pointer, i2d allocates for us.
    let length = unsafe {
        let length = ffi::i2d_PKCS12(archive, &raw mut out);
        ffi::PKCS12_free(archive);
        length
    };
    match usize::try_from(length) {
        // SAFETY: `out` has `length` bytes that are ours.
        Ok(length) if length > 0 => Ok(unsafe { taken(out, length) }),
        _ => check(0).map(|()| Vec::new()),
    }
}

/// Copies bytes that the library allocated for us, and frees them.
unsafe fn taken(bytes: *mut u8, length: usize) -> Vec<u8> {
    // SAFETY: the caller says so.
    unsafe {
        let copy = std::slice::from_raw_parts(bytes, length).to_vec();
        ffi::OPENSSL_free(bytes.cast());
        copy
    }
}
