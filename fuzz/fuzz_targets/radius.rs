//! See `iked::fuzzing::radius`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| iked::fuzzing::radius(bytes));
