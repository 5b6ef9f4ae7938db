//! The control program.

fn main() {}
