//! See `iked::fuzzing::certs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| iked::fuzzing::certs(bytes));
