//! MD4, MD5 and DES, which only MS-CHAPv2 (RFC 2759) and CHAP (RFC 1994) still need.

use boring_sys as ffi;

/// MD4 (RFC 1320).
pub fn md4(data: &[u8]) -> [u8; 16] {
    let mut out = [0; 16];
    // SAFETY: pointer and length are those of a slice, `out` has the length of the digest.
    unsafe { ffi::MD4(data.as_ptr(), data.len(), out.as_mut_ptr()) };
    out
}

/// MD5 (RFC 1321) of the parts.
pub fn md5(parts: &[&[u8]]) -> [u8; 16] {
    let mut context = ffi::MD5_CTX::default();
    let mut out = [0; 16];
    // SAFETY: the context is live and initialised first; pointers and lengths are those of slices,
    // `out` has the length of the digest.
    unsafe {
        ffi::MD5_Init(&raw mut context);
        for part in parts {
            ffi::MD5_Update(&raw mut context, part.as_ptr().cast(), part.len());
        }
        ffi::MD5_Final(out.as_mut_ptr(), &raw mut context);
    }
    zeroize::Zeroize::zeroize(&mut context.data);
    out
}

/// One block under DES with a key whose parity bits do not count.
pub fn des(key: [u8; 8], block: [u8; 8]) -> [u8; 8] {
    let key = ffi::DES_cblock { bytes: key };
    let block = ffi::DES_cblock { bytes: block };
    let mut out = ffi::DES_cblock { bytes: [0; 8] };
    let mut schedule = ffi::DES_ks::default();
    // SAFETY: all pointers are to live values of these types; 1 encrypts.
    unsafe {
        ffi::DES_set_key_unchecked(&raw const key, &raw mut schedule);
        ffi::DES_ecb_encrypt(&raw const block, &raw mut out, &raw const schedule, 1);
    }
    for pair in &mut schedule.subkeys {
        zeroize::Zeroize::zeroize(pair);
    }
    out.bytes
}
