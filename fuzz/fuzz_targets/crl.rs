//! See `iked::fuzzing::crl`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| iked::fuzzing::crl(bytes));
