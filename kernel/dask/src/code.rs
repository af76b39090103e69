//! Libraries of a notebook's cells: the notebook tells its own scheduler where each is as soon as it is made, and others that ask
//! for it in the same words. Here one asks that is no scheduler.

use std::{
    ffi::CStr,
    fs, io,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    thread,
};

use skep_cluster::{
    CodeId, Token, code_id,
    wire::{protocol::ToScheduler, transport::read_blocking},
};
use tempfile::TempDir;

/// What cells stand on: the standard library and this one, in the order in which they are loaded.
pub(crate) fn base() -> Result<Vec<(CodeId, String)>, String> {
    // SAFETY: all zeros is a valid `Dl_info`, and `dladdr` only reads the address as a number.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    let here = base as *const libc::c_void;
    if unsafe { libc::dladdr(here, &mut info) } == 0 || info.dli_fname.is_null() {
        return Err("it is not known in which library this is".into());
    }
    // SAFETY: `dladdr` succeeded, so this is the C string of a library that is never unloaded.
    let own = unsafe { CStr::from_ptr(info.dli_fname) }
        .to_string_lossy()
        .into_owned();
    let own = fs::canonicalize(own).map_err(|error| error.to_string())?;
    let folder = own.parent().unwrap_or(Path::new("/"));
    let is_std = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        name.is_some_and(|name| name.starts_with("libstd-") && !name.ends_with(".rlib"))
    };
    let beside = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let std = beside.flatten().map(|entry| entry.path()).find(is_std);
    std.into_iter()
        .chain([own])
        .map(|path| {
            let path = path.to_string_lossy().into_owned();
            let id = code_id(&path).map_err(|error| format!("{path}: {error}"))?;
            Ok((id, path))
        })
        .collect()
}

/// A socket to be told at, for as long as this is there.
pub(crate) struct Told {
    folder: TempDir,
}

impl Told {
    /// Calls `told` with each library and where it is.
    pub fn listen(told: impl Fn(CodeId, String) + Send + Sync + 'static) -> io::Result<Told> {
        let folder = crate::folder("code-")?;
        let token = Token::create(folder.path())?;
        let listener = UnixListener::bind(socket_in(folder.path()))?;
        thread::Builder::new().name("dask code".into()).spawn(move || {
            // Who tells is one: the notebook.
            let Ok((mut stream, _)) = listener.accept() else {
                return;
            };
            let mut is_let_in = false;
            while let Ok(messages) = read_blocking::<Vec<ToScheduler>>(&mut stream) {
                for message in messages {
                    match message {
                        ToScheduler::Hello { token: theirs } => is_let_in = token.admits(theirs),
                        ToScheduler::Code { id, path: Some(path) } if is_let_in => told(id, path),
                        _ => {}
                    }
                }
                if !is_let_in {
                    return;
                }
            }
        })?;
        Ok(Told { folder })
    }

    pub fn socket(&self) -> PathBuf {
        socket_in(self.folder.path())
    }
}

fn socket_in(folder: &Path) -> PathBuf {
    folder.join("scheduler.sock")
}
