//! See `iked::fuzzing::sk_payload`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| iked::fuzzing::sk_payload(bytes));
