//! See `iked::fuzzing::exchange`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| iked::fuzzing::exchange(bytes));
