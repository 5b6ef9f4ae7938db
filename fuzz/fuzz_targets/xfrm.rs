//! See `iked::fuzzing::xfrm`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| iked::fuzzing::xfrm(bytes));
