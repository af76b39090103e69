//! Makes a home folder of what cargo built, apart from cargo's own: notebooks go on while a build runs.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use serde_json::Value;
use skep_cell::Toolchain;
use skep_session::Prebuilt;

/// Crates that a cell can name in paths, beside `skep`.
const EXTERNS: [&str; 5] = ["plotters", "polars", "serde", "serde_json", "tokio"];

/// `share` holds what `skep lab` copies: the requirements, the logo.
pub fn assemble(messages: &Path, checkout: &Path, home: &Path) -> anyhow::Result<()> {
    let messages = fs::read_to_string(messages).with_context(|| format!("reading {}", messages.display()))?;
    let (lib, deps, host) = (home.join("lib"), home.join("lib/deps"), home.join("lib/host"));
    // What was set up from a bundle is not any more.
    let _ = fs::remove_file(home.join("bundle.json"));
    for folder in ["toolchain", "share/wheels"] {
        let _ = fs::remove_dir_all(home.join(folder));
    }
    // Earlier versions kept metadata apart.
    let _ = fs::remove_dir_all(home.join("lib/rmeta"));
    for folder in [&deps, &host] {
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder)?;
    }
    fs::create_dir_all(home.join("bin"))?;
    let mut externs = Vec::new();
    let mut prebuilt = Vec::new();
    let (mut dylib, mut has_frames) = (None, false);
    for line in messages.lines() {
        let Ok(message) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        if message["reason"] != "compiler-artifact" {
            continue;
        }
        let name = message["target"]["name"].as_str().unwrap_or_default();
        let files: Vec<&Path> = message["filenames"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(Path::new)
            .collect();
        let of = |extension: &str| {
            let is_it = |file: &&&Path| file.extension() == Some(OsStr::new(extension));
            files.iter().find(is_it).copied()
        };
        // Macros, and what they are made of, run while others compile, so their code is needed; cargo does not optimise it. Of
        // what is inside the library, a cell's compiler reads the metadata alone.
        let is_of_host = message["profile"]["opt_level"] == "0";
        match (of("so"), of("rlib"), of("rmeta")) {
            (Some(so), ..) if name == "skep" => {
                dylib = Some(place(so, &lib)?);
                has_frames = message["features"]
                    .as_array()
                    .is_some_and(|all| all.contains(&"frames".into()));
            }
            (so, rlib, None) => {
                for file in so.into_iter().chain(rlib) {
                    place(file, &deps)?;
                }
            }
            (_, rlib, Some(rmeta)) => {
                let folder = if is_of_host { &host } else { &deps };
                let rmeta = place(rmeta, folder)?;
                let rlib = rlib
                    .filter(|_| is_of_host)
                    .map(|rlib| place(rlib, folder))
                    .transpose()?;
                if EXTERNS.contains(&name) && !is_of_host {
                    externs.push((name.to_string(), rmeta.clone()));
                }
                prebuilt.push(describe(&message, rlib, rmeta));
            }
        }
    }
    let dylib = dylib.context("cargo's messages name no libskep.so")?;
    // A first start goes without Polars while it compiles.
    let expected = EXTERNS.into_iter().filter(|name| has_frames || *name != "polars");
    ensure!(
        externs.len() == expected.count(),
        "cargo's messages lack one of {EXTERNS:?}: {externs:?}"
    );
    for entry in fs::read_dir(ask_rustc("target-libdir")?)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("libstd-") && !name.ends_with(".rlib") && !name.ends_with(".rmeta") {
            place(&entry.path(), &lib)?;
        }
    }
    place(&std::env::current_exe()?, &home.join("bin"))?;
    // Named from the home's folder on, so that it can be moved.
    let inside = |file: PathBuf| {
        file.strip_prefix(home)
            .map_or_else(|_| file.clone(), Path::to_path_buf)
    };
    for crate_ in &mut prebuilt {
        crate_.rlib = crate_.rlib.take().map(inside);
        crate_.rmeta = inside(std::mem::take(&mut crate_.rmeta));
    }
    fs::write(
        home.join("prebuilt.json"),
        serde_json::to_string_pretty(&prebuilt)?,
    )?;
    fs::write(
        home.join("checkout"),
        checkout.canonicalize()?.display().to_string(),
    )?;
    write_wrapper(&home.join("bin/skep-rustc"))?;
    let share = home.join("share");
    fs::create_dir_all(&share)?;
    fs::copy(
        checkout.join("install/requirements.txt"),
        share.join("requirements.txt"),
    )?;
    fs::copy(checkout.join("assets/logo.svg"), share.join("logo.svg"))?;
    fs::copy(checkout.join("Cargo.lock"), share.join("Cargo.lock"))?;
    crate::index::write(&messages, checkout, &share.join("members.json"))?;
    // Earlier versions kept notebooks there.
    let _ = fs::remove_dir_all(share.join("course"));
    let toolchain = Toolchain {
        rustc: ask_rustc("sysroot")?.join("bin/rustc"),
        dylib: inside(dylib),
        deps: inside(deps),
        externs: externs
            .into_iter()
            .map(|(name, file)| (name, inside(file)))
            .collect(),
    };
    fs::write(
        home.join("toolchain.json"),
        serde_json::to_string_pretty(&toolchain)?,
    )?;
    Ok(())
}

/// What `:dep` must know of a crate inside the library.
fn describe(message: &Value, rlib: Option<PathBuf>, rmeta: PathBuf) -> Prebuilt {
    let id = message["package_id"].as_str().unwrap_or_default();
    let version = id.rsplit(['#', '@']).next().unwrap_or_default().to_string();
    let features = message["features"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_string)
        .collect();
    let name = message["target"]["name"]
        .as_str()
        .unwrap_or_default()
        .replace('-', "_");
    Prebuilt {
        name,
        version,
        features,
        rlib,
        rmeta,
    }
}

/// Cargo wants one program as its wrapper, without arguments.
fn write_wrapper(path: &Path) -> anyhow::Result<()> {
    fs::write(
        path,
        "#!/bin/sh\nexec \"$(dirname \"$0\")/skep\" wrap-rustc \"$@\"\n",
    )?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn ask_rustc(what: &str) -> anyhow::Result<PathBuf> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(&rustc)
        .args(["--print", what])
        .output()
        .with_context(|| format!("running {}", rustc.to_string_lossy()))?;
    ensure!(
        output.status.success(),
        "`rustc --print {what}` failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

/// A hard link where the file system allows it: the crates take 2 GB. Never written in place, since processes
/// map the old.
fn place(file: &Path, folder: &Path) -> anyhow::Result<PathBuf> {
    let target = folder.join(file.file_name().context("invariant: artifacts are files")?);
    let fresh = target.with_extension("new");
    let _ = fs::remove_file(&fresh);
    let linked: io::Result<()> = fs::hard_link(file, &fresh).or_else(|_| fs::copy(file, &fresh).map(drop));
    linked.with_context(|| format!("placing {}", target.display()))?;
    // `rename` does nothing when both names are one file already.
    fs::rename(&fresh, &target)?;
    let _ = fs::remove_file(&fresh);
    Ok(target)
}
