//! The analyser's process: rust-analyzer over the notebook's program, for all notebooks of a user.
//!
//! `skep-assist FOLDER CHECKOUT` listens at a socket in `FOLDER`, reads the sources of the crate that cells
//! see, and answers one question at a time. It ends when nobody has asked for a while, which gives its memory
//! back.

mod analyser;
mod package;
mod serve;

use std::path::PathBuf;

fn main() {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let result = match arguments.as_slice() {
        [folder, checkout] => serve::serve(folder, checkout),
        _ => Err(anyhow::anyhow!(
            "usage: skep-assist FOLDER CHECKOUT\nhint: Skep starts this itself, at the first Tab"
        )),
    };
    if let Err(error) = result {
        eprintln!("error: {error:#}");
        std::process::exit(1);
    }
}
