//! MD5 (RFC 1321), which RADIUS is made of.

use boring_sys as ffi;

/// The digest of these bytes.
pub fn md5(data: &[u8]) -> [u8; 16] {
    let mut out = [0; 16];
    // SAFETY: pointer and length are those of a slice, `out` has the length of the digest.
    unsafe { ffi::MD5(data.as_ptr(), data.len(), out.as_mut_ptr()) };
    out
}
