//! Exports the executable's `read`, so that a cell's standard input can be the notebook's.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo:rustc-link-arg-bins=-Wl,--export-dynamic-symbol=read");
    }
}
