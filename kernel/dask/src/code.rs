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

/// The libraries of `:dep` that a cell's library stands on, in the order in which they are loaded: what it needs by name, and names
/// the folder of. The standard library and this one, which all need, are in none of these.
pub(crate) fn below(library: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    add_below(Path::new(library), &mut found);
    found
}

fn add_below(library: &Path, found: &mut Vec<PathBuf>) {
    // What cannot be read is said by who loads it.
    let (needed, folders) = fs::read(library)
        .ok()
        .and_then(|content| needs(&content).ok())
        .unwrap_or_default();
    for name in needed {
        let at = folders.iter().map(|folder| Path::new(folder).join(&name));
        let Some(path) = at.into_iter().find(|path| path.is_file()) else {
            continue;
        };
        if !found.contains(&path) {
            add_below(&path, found);
            found.push(path);
        }
    }
}

/// The names of what a library needs, and the folders where it looks for that.
fn needs(content: &[u8]) -> object::Result<(Vec<String>, Vec<String>)> {
    use object::{
        Endianness, elf,
        read::elf::{Dyn, FileHeader},
    };
    let header = elf::FileHeader64::<Endianness>::parse(content)?;
    let endian = header.endian()?;
    let table = header.sections(endian, content)?.dynamic_table(endian, content)?;
    let (mut needed, mut folders) = (Vec::new(), Vec::new());
    for entry in table.dynamics() {
        let text = || -> object::Result<String> {
            Ok(String::from_utf8_lossy(entry.string(endian, *table.strings())?).into_owned())
        };
        match entry.d_tag(endian) {
            elf::DT_NULL => break,
            elf::DT_NEEDED => needed.push(text()?),
            elf::DT_RUNPATH | elf::DT_RPATH => folders.extend(text()?.split(':').map(String::from)),
            _ => {}
        }
    }
    Ok((needed, folders))
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

#[test]
fn what_a_library_needs_is_read_from_it() {
    let own = fs::read(std::env::current_exe().unwrap()).unwrap();
    let (needed, _) = needs(&own).unwrap();
    assert!(
        needed.iter().any(|name| name.starts_with("libc.so")),
        "{needed:?}"
    );
    assert!(needs(&own[..100]).is_err());
    assert_eq!(below("/nowhere"), Vec::<PathBuf>::new());
}
