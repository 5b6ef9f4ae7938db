//! All `unsafe` code of the project: thin safe wrappers over system calls and over BoringSSL's C
//! interface. Nothing here decides anything.
#![allow(unsafe_code, reason = "this room exists to hold it")]

pub mod bssl;
#[cfg(feature = "sim")]
pub mod heap;
pub mod md5;
pub mod mschap;
pub mod net;
pub mod netlink;
pub mod pkcs;
pub mod process;
pub mod x509;
