//! MD4 and DES, which only MS-CHAPv2 (RFC 2759) still needs.

use boring_sys as ffi;

/// MD4 (RFC 1320).
pub fn md4(data: &[u8]) -> [u8; 16] {
    let mut out = [0; 16];
    // SAFETY: pointer and length are those of a slice, `out` has the length of the digest.
    unsafe { ffi::MD4(data.as_ptr(), data.len(), out.as_mut_ptr()) };
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
