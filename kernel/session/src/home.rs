//! Where the installed parts are, and a private folder for sockets.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use skep_cell::Toolchain;
use skep_render::Message;

/// The folder that `./install/start` assembles: `bin/skep`, `lib/libskep.so` and what cells are compiled
/// against.
#[derive(Clone, Debug)]
pub struct Home {
    /// As it was given: after a first start another folder takes its place.
    named: PathBuf,
    root: PathBuf,
    toolchain: Toolchain,
}

impl Home {
    /// Finds the home of this executable: `SKEP_HOME`, else the folder above `bin/`.
    ///
    /// # Errors
    /// When it is not there or not whole, with what to run.
    pub fn locate() -> io::Result<Home> {
        let named = match std::env::var_os("SKEP_HOME") {
            // Compilers run elsewhere than this process.
            Some(root) => std::path::absolute(root)?,
            None => {
                let exe = std::env::current_exe()?.canonicalize()?;
                let root = exe.parent().and_then(Path::parent).unwrap_or(Path::new(""));
                let link = root.with_file_name("home");
                if link.canonicalize().is_ok_and(|there| there == root) {
                    link
                } else {
                    root.to_path_buf()
                }
            }
        };
        let root = named.canonicalize().unwrap_or_else(|_| named.clone());
        let file = root.join("toolchain.json");
        let missing = |error: &dyn std::fmt::Display| {
            io::Error::other(
                Message::new(format!(
                    "Skep is not set up at {}: {}: {error}",
                    root.display(),
                    file.display()
                ))
                .hint("run ./install/start in the checkout, or set SKEP_HOME"),
            )
        };
        let text = fs::read(&file).map_err(|error| missing(&error))?;
        let toolchain: Toolchain = serde_json::from_slice(&text).map_err(|error| missing(&error))?;
        let toolchain = toolchain.below(&root);
        for part in [&toolchain.rustc, &toolchain.dylib, &toolchain.deps] {
            if !part.exists() {
                return Err(missing(&format_args!("{} is gone", part.display())));
            }
        }
        Ok(Home {
            named,
            root,
            toolchain,
        })
    }

    /// The folder as it was given, for what is there when another has taken its place.
    pub fn named(&self) -> &Path {
        &self.named
    }

    /// What users and front ends start.
    pub fn program(&self) -> PathBuf {
        self.named.join("bin/skep")
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn toolchain(&self) -> &Toolchain {
        &self.toolchain
    }

    /// The sources that this home was built from; empty if they were never recorded.
    pub fn checkout(&self) -> PathBuf {
        fs::read_to_string(self.root.join("checkout"))
            .map(|path| PathBuf::from(path.trim()))
            .unwrap_or_default()
    }

    /// The standard library's sources, where they are installed.
    pub fn standard_library(&self) -> Option<PathBuf> {
        let of_toolchain = self
            .toolchain
            .rustc
            .parent()
            .and_then(Path::parent)
            .map(|sysroot| sysroot.join("lib/rustlib/src/rust/library"));
        let given = std::env::var_os("RUST_SRC_PATH").map(PathBuf::from);
        let debian = Some(PathBuf::from("/usr/lib/rustlib/src/rust/library"));
        [given, of_toolchain, debian]
            .into_iter()
            .flatten()
            .find(|path| path.join("std/src/lib.rs").exists())
            .and_then(|path| path.canonicalize().ok())
    }

    /// The versions that the crates inside `libskep.so` are locked to.
    pub fn lock_file(&self) -> PathBuf {
        self.root.join("share/Cargo.lock")
    }

    /// Cargo, wherever it is: beside the compiler, or in the path.
    pub fn cargo(&self) -> PathBuf {
        let beside = self.toolchain.rustc.with_file_name("cargo");
        if beside.exists() {
            beside
        } else {
            PathBuf::from("cargo")
        }
    }

    /// What each crate inside `libskep.so` is, for building others against the same ones.
    pub fn prebuilt(&self) -> PathBuf {
        self.root.join("prebuilt.json")
    }

    /// What a session starts its own processes with.
    pub fn executable(&self) -> PathBuf {
        self.root.join("bin/skep")
    }

    pub fn library_folder(&self) -> PathBuf {
        self.root.join("lib")
    }
}

/// A folder that only this user can enter, removed when the session ends. Sockets and compiled cells live
/// here.
#[derive(Debug)]
pub struct Private {
    path: PathBuf,
}

impl Private {
    /// Makes one below `SKEP_CACHE` (default: the user's cache folder), and clears those of sessions that
    /// were killed.
    ///
    /// # Errors
    /// When the cache cannot be written.
    pub fn new() -> io::Result<Private> {
        let parent = cache_folder().join("run");
        let explain = |error: io::Error| {
            io::Error::new(
                error.kind(),
                Message::new(format!(
                    "the cache folder {} cannot be written: {error}",
                    parent.display()
                ))
                .hint("make it writable and free some space, or set SKEP_CACHE to another folder"),
            )
        };
        fs::create_dir_all(&parent).map_err(explain)?;
        clear_abandoned(&parent);
        let nanos = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.subsec_nanos());
        let path = parent.join(format!("{}-{nanos:08x}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&path).map_err(explain)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).map_err(explain)?;
        Ok(Private { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// `SKEP_CACHE`, else the folder that this Skep was set up in, where this user may write there, else `skep` below the user's cache folder.
pub fn cache_folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("SKEP_CACHE").filter(|folder| !folder.is_empty()) {
        // What is started elsewhere finds it too.
        return std::path::absolute(&folder).unwrap_or_else(|_| folder.into());
    }
    if let Some(folder) = set_up_in() {
        return folder;
    }
    let xdg = std::env::var_os("XDG_CACHE_HOME")
        .filter(|folder| !folder.is_empty())
        .map(PathBuf::from);
    xdg.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"))
        .join("skep")
}

/// Where `SKEP_CACHE` was once another disk's, a terminal that does not know of it must not begin anew in the default place.
fn set_up_in() -> Option<PathBuf> {
    let exe = std::env::current_exe().ok()?.canonicalize().ok()?;
    let home = exe.parent()?.parent()?;
    let folder = home.parent()?;
    let is_home = home.file_name()?.to_str()?.starts_with("home") && home.join("toolchain.json").exists();
    let may_write = || rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok();
    (is_home && may_write()).then(|| folder.to_path_buf())
}

/// Folders are named after the process that made them.
fn clear_abandoned(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name
            .to_str()
            .and_then(|name| name.split('-').next())
            .and_then(|pid| pid.parse().ok());
        let is_alive = pid
            .and_then(rustix::process::Pid::from_raw)
            .is_none_or(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH));
        if !is_alive {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
