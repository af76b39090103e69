//! No work: with it, cargo counts `[build-dependencies]`.

fn main() {}
