//! The stateless cookie of RFC 7296, 2.6: proof that the initiator receives what we send, before
//! anything is kept or computed for it. All shards of one process make and accept the same cookies,
//! because the secrets derive from one seed and the minute. A cookie is the hash that RFC 7296
//! suggests, with the secret at its end: under a flood each of them counts, and an HMAC hashes twice as much.

use std::net::IpAddr;
use std::time::UNIX_EPOCH;

use crate::crypto::Provider;
use crate::time::Now;
use crate::wire::spi::IkeSpi;

/// Makes and checks cookies.
#[derive(Debug)]
pub struct Cookies {
    seed: [u8; 32],
    /// The minute of the last cookie and its secret: few minutes are asked for in turns.
    last: Option<(u64, [u8; 32])>,
}

impl Cookies {
    /// `seed` is drawn once for the process.
    pub fn new(seed: [u8; 32]) -> Self {
        Self { seed, last: None }
    }

    /// The cookie for this initiator in this minute.
    pub fn make(
        &mut self,
        provider: &Provider,
        now: Now,
        peer: IpAddr,
        spi: IkeSpi,
        nonce: &[u8],
    ) -> [u8; COOKIE_LEN] {
        self.at(provider, minute(now), peer, spi, nonce)
    }

    /// Whether `cookie` was made for this initiator in this minute or the one before.
    pub fn check(
        &mut self,
        provider: &Provider,
        now: Now,
        peer: IpAddr,
        spi: IkeSpi,
        nonce: &[u8],
        cookie: &[u8],
    ) -> bool {
        let this = minute(now);
        [this, this.wrapping_sub(1)].into_iter().any(|minute| {
            let version = minute.to_be_bytes()[7];
            cookie.first() == Some(&version)
                && (provider.equal)(cookie, &self.at(provider, minute, peer, spi, nonce))
        })
    }

    fn secret(&mut self, provider: &Provider, minute: u64) -> [u8; 32] {
        match self.last {
            Some((last, secret)) if last == minute => secret,
            Some(_) | None => {
                let secret = (provider.sha256)(&[&minute.to_be_bytes(), &self.seed]);
                self.last = Some((minute, secret));
                secret
            }
        }
    }

    fn at(
        &mut self,
        provider: &Provider,
        minute: u64,
        peer: IpAddr,
        spi: IkeSpi,
        nonce: &[u8],
    ) -> [u8; COOKIE_LEN] {
        let secret = self.secret(provider, minute);
        let minute = minute.to_be_bytes();
        let address = match peer {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        };
        let hash = (provider.sha256)(&[nonce, &address, &spi.to_bytes(), &secret]);
        let mut cookie = [0; COOKIE_LEN];
        cookie[0] = minute[7];
        cookie[1..].copy_from_slice(&hash[..COOKIE_LEN - 1]);
        cookie
    }
}

fn minute(now: Now) -> u64 {
    now.wall
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs() / 60)
}

/// Bytes of a cookie: the secret's version and 160 bits of the hash; RFC 7296, 2.6 allows 1 to 64.
pub const COOKIE_LEN: usize = 21;

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests count from one reading of the clock"
)]
mod tests {
    use std::time::{Duration, Instant, SystemTime};

    use super::*;

    fn now(minutes: u64) -> Now {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(60 * (1000 + minutes));
        Now {
            mono: Instant::now(),
            wall,
        }
    }

    #[test]
    fn a_cookie_holds_for_its_initiator_and_two_minutes() {
        let provider = crate::crypto::boring::provider();
        let mut cookies = Cookies::new([7; 32]);
        let peer = IpAddr::from([192, 0, 2, 1]);
        let spi = IkeSpi::new(5).unwrap();
        let cookie = cookies.make(&provider, now(0), peer, spi, b"nonce");
        let mut check = |minutes, peer, spi, nonce: &[u8], cookie: &[u8]| {
            cookies.check(&provider, now(minutes), peer, spi, nonce, cookie)
        };
        assert!(check(0, peer, spi, b"nonce", &cookie));
        assert!(check(1, peer, spi, b"nonce", &cookie));
        assert!(!check(2, peer, spi, b"nonce", &cookie));
        assert!(!check(
            0,
            IpAddr::from([192, 0, 2, 2]),
            spi,
            b"nonce",
            &cookie
        ));
        assert!(!check(0, peer, IkeSpi::new(6).unwrap(), b"nonce", &cookie));
        assert!(!check(0, peer, spi, b"other", &cookie));
        assert!(!check(0, peer, spi, b"nonce", &cookie[..20]));
        assert!(!check(0, peer, spi, b"nonce", &[]));
    }
}
