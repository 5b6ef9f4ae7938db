//! MD5 and HMAC-MD5 (RFC 1321, 2104) for RADIUS, which has nothing else, and for CHAP.

pub use super::boring::hmac_md5;
pub use crate::sys::md5::md5;

/// Whether two digests are the same, in constant time.
pub fn same(one: &[u8; 16], other: &[u8; 16]) -> bool {
    boring::memcmp::eq(one, other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_2202_come_out() {
        let mac = |key: &[u8], data: &[u8]| hex::encode(hmac_md5(key, &[data]));
        assert_eq!(
            mac(&[0x0b; 16], b"Hi There"),
            "9294727a3638bb1c13f48ef8158bfc9d"
        );
        assert_eq!(
            mac(b"Jefe", b"what do ya want for nothing?"),
            "750c783e6ab0b503eaa86e310a5db738"
        );
        assert_eq!(
            mac(
                &[0xaa; 80],
                b"Test Using Larger Than Block-Size Key - Hash Key First"
            ),
            "6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd"
        );
        assert_eq!(
            hmac_md5(b"Jefe", &[b"what do ya ", b"want for nothing?"]),
            hmac_md5(b"Jefe", &[b"what do ya want for nothing?"])
        );
    }
}
