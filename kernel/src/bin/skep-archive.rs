//! Packs a folder into a `.tar.zst`, and unpacks one on machines that have no zstd: a bundle carries this program in front of what
//! it unpacks (`install/bundle.py`).

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Seek, SeekFrom, Write},
    path::Path,
};

use anyhow::{Context, bail};

/// A third smaller than level 3; higher ones take minutes for the next tenth.
const LEVEL: i32 = 12;
/// Metadata of crates repeats itself over hundreds of megabytes: 2^27 bytes are looked back, which any zstd allows to unpack.
const WINDOW_LOG: u32 = 27;

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["pack", folder] => pack(Path::new(folder)),
        ["unpack", file, start, folder] => unpack(Path::new(file), start, Path::new(folder)),
        _ => Err(anyhow::anyhow!(
            "usage: skep-archive pack FOLDER >FILE, or skep-archive unpack FILE START FOLDER"
        )),
    };
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn pack(folder: &Path) -> anyhow::Result<()> {
    let mut encoder = zstd::Encoder::new(BufWriter::new(io::stdout().lock()), LEVEL)?;
    encoder.long_distance_matching(true)?;
    encoder.window_log(WINDOW_LOG)?;
    encoder.include_checksum(true)?;
    encoder.multithread(std::thread::available_parallelism().map_or(1, |n| n.get() as u32))?;
    let mut archive = tar::Builder::new(encoder);
    archive.follow_symlinks(false);
    archive
        .append_dir_all(".", folder)
        .with_context(|| format!("{} could not be packed", folder.display()))?;
    archive.into_inner()?.finish()?.flush()?;
    Ok(())
}

fn unpack(file: &Path, start: &str, folder: &Path) -> anyhow::Result<()> {
    let mut content = File::open(file).with_context(|| file.display().to_string())?;
    content.seek(SeekFrom::Start(start.parse().context("the start is no number")?))?;
    let mut decoder = zstd::Decoder::new(BufReader::with_capacity(1 << 20, content))?;
    decoder.window_log_max(WINDOW_LOG)?;
    fs::create_dir_all(folder)?;
    if fs::read_dir(folder)?.next().is_some() {
        bail!("{} is not empty", folder.display());
    }
    let mut archive = tar::Archive::new(decoder);
    archive.set_preserve_permissions(true);
    archive.unpack(folder)?;
    Ok(())
}
