//! Key derivation: SKEYSEED, the keys of an IKE SA and of its Child SAs (RFC 7296, 2.14, 2.17, 2.18).

use iked::crypto::keymat::{ChildKeys, IkeKeys, IkeSuite, skeyseed, skeyseed_rekey};
use iked::crypto::{MessageKey, Prf, Rng};
use iked::wire::registry::KeId;
use iked::wire::spi::IkeSpi;

use super::provider;
use super::reader::{Vector, read};

#[test]
fn skeyseed_is_as_published_at_first_and_after_rekeying() {
    let mut rekeyed = 0;
    for vector in read("kdf.txt") {
        let prf = prf(&vector);
        let (ni, nr) = (vector.bytes("ni"), vector.bytes("nr"));
        let seed = skeyseed(prf, &ni, &nr, &vector.bytes("g_ir"));
        assert_eq!(seed.expose(), vector.bytes("skeyseed"), "{}", vector.place);
        if vector.find("skeyseed_rekey").is_some() {
            let seed = skeyseed_rekey(prf, &sk_d(&vector), &vector.bytes("g_ir_new"), &ni, &nr);
            let published = vector.bytes("skeyseed_rekey");
            assert_eq!(seed.expose(), published, "{}", vector.place);
            rekeyed += 1;
        }
    }
    assert_eq!(rekeyed, 4);
}

#[test]
fn prf_plus_gives_the_published_key_material() {
    for vector in read("kdf.txt") {
        let published = vector.bytes("dkm");
        let mut material = vec![0; published.len()];
        ike_material(&vector, &mut material);
        assert_eq!(material, published, "{}", vector.place);
    }
}

#[test]
fn child_keys_are_as_published_with_and_without_an_exchange() {
    let mut tried = 0;
    for vector in read("kdf.txt") {
        for (name, exchanges) in [("dkm_child", false), ("dkm_child_dh", true)] {
            if vector.find(name).is_none() {
                continue;
            }
            let g_ir = exchanges.then(|| vector.bytes("g_ir_new"));
            for (encr, integ) in [(16, 20), (36, 0), (32, 32), (24, 16), (0, 20)] {
                child_keys_match(&vector, name, g_ir.as_deref(), encr, integ);
                tried += 1;
            }
        }
    }
    assert_eq!(tried, 10);
}

#[test]
fn an_ike_sa_takes_its_keys_in_the_order_of_the_rfc() {
    let provider = provider();
    for vector in read("kdf.txt") {
        for (cipher, key_length, with_integ) in provider.ciphers.iter().flat_map(|cipher| {
            let lengths = [None, Some(128), Some(192), Some(256)];
            let known = lengths
                .into_iter()
                .filter(|&bits| cipher.key_material_len(bits).is_some());
            known.map(move |bits| (*cipher, bits, !cipher.is_aead()))
        }) {
            for integ in provider.integs {
                let suite = IkeSuite {
                    encr: cipher,
                    key_length,
                    integ: with_integ.then_some(*integ),
                    prf: prf(&vector),
                    ke: KeId::CURVE25519,
                };
                keys_are_in_order(&vector, &suite);
            }
        }
    }
}

/// Published: what the initiator sends comes first, and of that the encryption key.
fn child_keys_match(
    vector: &Vector,
    name: &str,
    g_ir: Option<&[u8]>,
    encr_len: usize,
    integ_len: usize,
) {
    let published = vector.bytes(name);
    let (initiator, rest) = published.split_at(encr_len + integ_len);
    let responder = &rest[..encr_len + integ_len];
    for initiates in [true, false] {
        let keys = ChildKeys::derive(
            prf(vector),
            &sk_d(vector),
            g_ir,
            &vector.bytes("ni"),
            &vector.bytes("nr"),
            encr_len,
            integ_len,
            initiates,
        )
        .unwrap();
        let (outbound, inbound) = if initiates {
            (initiator, responder)
        } else {
            (responder, initiator)
        };
        let place = format!("{} {name} {encr_len} {integ_len}", vector.place);
        assert_eq!(
            keys.outbound_encr.expose(),
            &outbound[..encr_len],
            "{place}"
        );
        assert_eq!(
            keys.outbound_integ.expose(),
            &outbound[encr_len..],
            "{place}"
        );
        assert_eq!(keys.inbound_encr.expose(), &inbound[..encr_len], "{place}");
        assert_eq!(keys.inbound_integ.expose(), &inbound[encr_len..], "{place}");
    }
}

/// SK_d | SK_ai | SK_ar | SK_ei | SK_er | SK_pi | SK_pr.
fn keys_are_in_order(vector: &Vector, suite: &IkeSuite) {
    let prf_len = suite.prf.output_len();
    let encr_len = suite.encr.key_material_len(suite.key_length).unwrap();
    let integ_len = suite.integ.map_or(0, |integ| integ.key_len());
    let mut material = vec![0; 3 * prf_len + 2 * integ_len + 2 * encr_len];
    ike_material(vector, &mut material);
    let mut rest = material.as_slice();
    let mut take = |len| {
        let (taken, left) = rest.split_at(len);
        rest = left;
        taken
    };
    let sk_d = take(prf_len);
    let sk_a = [take(integ_len), take(integ_len)];
    let sk_e = [take(encr_len), take(encr_len)];
    let (sk_pi, sk_pr) = (take(prf_len), take(prf_len));
    let keys = IkeKeys::derive(
        suite,
        &vector.bytes("skeyseed"),
        &vector.bytes("ni"),
        &vector.bytes("nr"),
        spi(vector, "spi_i"),
        spi(vector, "spi_r"),
    )
    .unwrap();
    assert_eq!(keys.sk_d.expose(), sk_d, "{} {suite:?}", vector.place);
    assert_eq!(keys.sk_pi.expose(), sk_pi, "{} {suite:?}", vector.place);
    assert_eq!(keys.sk_pr.expose(), sk_pr, "{} {suite:?}", vector.place);
    let own = [0, 1].map(|side: usize| {
        let integ = suite.integ.map(|integ| (integ, sk_a[side]));
        suite.encr.key(sk_e[side], integ).unwrap()
    });
    let theirs = [&keys.initiator, &keys.responder];
    for sealer in [0, 1] {
        for opener in [0, 1] {
            let opens = passes(own[sealer].as_ref(), theirs[opener].as_ref());
            let place = format!("{} {suite:?} {sealer} {opener}", vector.place);
            assert_eq!(opens, sealer == opener, "{place}");
        }
    }
}

fn passes(sealer: &dyn MessageKey, opener: &dyn MessageKey) -> bool {
    let iv_at = 32;
    let plain = vec![9; 3 * sealer.block_len().max(16)];
    let mut message = [vec![5; iv_at + sealer.iv_len()], plain.clone()].concat();
    let mut rng = Rng::from_seed([3; 32]);
    sealer.seal(&mut message, iv_at, 1, &mut rng).unwrap();
    let opened = opener.open(&mut message, iv_at);
    opened.is_ok_and(|range| message[range] == plain)
}

fn ike_material(vector: &Vector, out: &mut [u8]) {
    let parts = ["ni", "nr", "spi_i", "spi_r"].map(|name| vector.bytes(name));
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    prf(vector)
        .plus(&vector.bytes("skeyseed"), &parts, out)
        .unwrap();
}

fn sk_d(vector: &Vector) -> Vec<u8> {
    vector.bytes("dkm")[..prf(vector).output_len()].to_vec()
}

fn spi(vector: &Vector, name: &str) -> IkeSpi {
    IkeSpi::from_bytes(vector.array(name)).unwrap()
}

fn prf(vector: &Vector) -> &'static dyn Prf {
    let name = vector.text("algorithm");
    let mut prfs = provider().prfs.iter().copied();
    prfs.find(|prf| prf.id().to_string() == name)
        .unwrap_or_else(|| panic!("{}: no PRF {name}", vector.place))
}
