//! No code: by depending on it, libskep.so and the `skep` binary agree on the features of the crates that both are made of, and cargo
//! compiles each of these once.
