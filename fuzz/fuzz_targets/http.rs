//! See `iked::fuzzing::http`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| iked::fuzzing::http(bytes));
