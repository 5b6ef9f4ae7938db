//! The numbers and names of `wire::registry` and `wire::spi`.

use iked::wire::registry::{KeId, NotifyType, PayloadType};
use iked::wire::spi::{EspSpi, IkeSpi};

#[test]
fn known_numbers_print_their_names_and_unknown_ones_as_numbers() {
    assert_eq!(PayloadType::SA.to_string(), "SA");
    assert_eq!(KeId(31).to_string(), "CURVE25519");
    assert_eq!(KeId(999).to_string(), "999");
}

#[test]
fn notify_types_below_16384_are_errors() {
    assert!(NotifyType::NO_PROPOSAL_CHOSEN.is_error());
    assert!(!NotifyType::COOKIE.is_error());
}

#[test]
fn an_spi_of_zero_is_no_spi() {
    assert_eq!(IkeSpi::new(0), None);
    assert_eq!(EspSpi::from_bytes([0; 4]), None);
    let spi = IkeSpi::from_bytes([1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
    assert_eq!(spi.to_string(), "0x0102030405060708");
    assert_eq!(spi.to_bytes(), [1, 2, 3, 4, 5, 6, 7, 8]);
}
