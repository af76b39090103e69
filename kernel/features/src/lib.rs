//! No code: by depending on it, libskep.so and the `skep` binary agree on the features of the crates that both are made of. What runs
//! in the compiler (`syn` below macros) is not named yet: crates below which a macro differs are still compiled twice.
