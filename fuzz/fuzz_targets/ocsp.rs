//! See `iked::fuzzing::ocsp`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| iked::fuzzing::ocsp(bytes));
