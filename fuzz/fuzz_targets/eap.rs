//! See `iked::fuzzing::eap`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| iked::fuzzing::eap(bytes));
