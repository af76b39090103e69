//! No code: by depending on it, libskep.so and the `skep` binary agree on the features of the crates that both are made of, and of what
//! runs in the compiler below them (`syn`): else cargo compiles fifty crates twice.
