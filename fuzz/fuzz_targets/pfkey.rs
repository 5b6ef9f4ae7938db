//! See `iked::fuzzing::pfkey`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| iked::fuzzing::pfkey(bytes));
