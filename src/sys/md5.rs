//! MD5 (RFC 1321), which RADIUS and CHAP are made of.

use boring_sys as ffi;

/// The digest of these parts, one after the other.
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
