//! Naming compiled functions across processes: a library by its content, a place in it by symbol or offset.

use std::{
    collections::HashMap,
    ffi::{CStr, CString, c_void},
    fs,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use object::{Object, ObjectSymbol};

use crate::model::{ids::CodeId, task::CodePlace};

/// Where a function of this process is.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub library: Arc<str>,
    pub code: CodeId,
    pub offset: u64,
}

/// The library's identity: a hash of its content.
pub fn code_id(library: &str) -> std::io::Result<CodeId> {
    let bytes = fs::read(library)?;
    // The large dylib is the same file for every process; its length and date would do, but its ends are
    // surer.
    let hash = if bytes.len() > 16 << 20 {
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(&bytes[..1 << 20])
            .update(&bytes[bytes.len() - (1 << 20)..])
            .update(&bytes.len().to_le_bytes());
        hasher.finalize()
    } else {
        blake3::hash(&bytes)
    };
    Ok(CodeId(u64::from_le_bytes(
        hash.as_bytes()[..8]
            .try_into()
            .expect("invariant: a hash has 32 bytes"),
    )))
}

type Libraries = HashMap<String, (Arc<str>, CodeId)>;

pub(crate) fn locate(function: *const c_void) -> Result<Found, String> {
    static LIBRARIES: Mutex<Option<Libraries>> = Mutex::new(None);
    // SAFETY: all zeros is a valid `Dl_info`, and `dladdr` only reads the address as a number.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    if unsafe { libc::dladdr(function, &mut info) } == 0 || info.dli_fname.is_null() {
        return Err("the function is in no library of this process".into());
    }
    // SAFETY: `dladdr` succeeded, so this is the C string of a library that is never unloaded.
    let name = unsafe { CStr::from_ptr(info.dli_fname) }
        .to_string_lossy()
        .into_owned();
    let offset = function as u64 - info.dli_fbase as u64;
    let mut libraries = LIBRARIES.lock().unwrap_or_else(PoisonError::into_inner);
    let libraries = libraries.get_or_insert_default();
    if let Some((library, code)) = libraries.get(&name) {
        return Ok(Found {
            library: library.clone(),
            code: *code,
            offset,
        });
    }
    let path = fs::canonicalize(&name)
        .or_else(|_| std::env::current_exe())
        .map_err(|error| error.to_string())?;
    let path: Arc<str> = path.to_string_lossy().into();
    let code = code_id(&path).map_err(|error| format!("{path}: {error}"))?;
    libraries.insert(name, (path.clone(), code));
    Ok(Found {
        library: path,
        code,
        offset,
    })
}

/// The symbol that starts at an offset; the optimised build of the same source has it too, elsewhere.
pub(crate) fn symbol_at(library: &str, offset: u64) -> Result<String, String> {
    type Symbols = HashMap<u64, String>;
    static TABLES: Mutex<Option<HashMap<String, Symbols>>> = Mutex::new(None);
    let mut tables = TABLES.lock().unwrap_or_else(PoisonError::into_inner);
    let tables = tables.get_or_insert_default();
    if !tables.contains_key(library) {
        let table = read_symbols(library, |name, address| (address, name.to_string()))?;
        tables.insert(library.to_string(), table);
    }
    let found = tables.get(library).and_then(|table| table.get(&offset));
    found
        .cloned()
        .ok_or_else(|| format!("{library} has no symbol at {offset:#x}"))
}

fn read_symbols<K: std::hash::Hash + Eq, V>(
    library: &str,
    entry: impl Fn(&str, u64) -> (K, V),
) -> Result<HashMap<K, V>, String> {
    let bytes = fs::read(library).map_err(|error| format!("{library}: {error}"))?;
    let file = object::File::parse(&*bytes).map_err(|error| format!("{library}: {error}"))?;
    let functions = file
        .symbols()
        .filter(|symbol| symbol.kind() == object::SymbolKind::Text && symbol.address() != 0);
    // A function that several parts of an optimised build share has `.llvm.…` behind its name.
    let plain = |name: &str| {
        name.split_once(".llvm.")
            .map_or(name, |(plain, _)| plain)
            .to_string()
    };
    Ok(functions
        .filter_map(|symbol| Some(entry(&plain(symbol.name().ok()?), symbol.address())))
        .collect())
}

/// Loads a library for good and finds a function in it.
pub(crate) fn resolve(library: &str, place: &CodePlace) -> Result<*const c_void, String> {
    let base = load(library)?;
    let offset = match place {
        CodePlace::Offset(offset) => *offset,
        CodePlace::Symbol(symbol) => {
            let table = read_symbols(library, |name, address| (name.to_string(), address))?;
            *table
                .get(symbol)
                .ok_or_else(|| format!("{library} does not have the function's code"))?
        }
    };
    Ok((base + offset) as *const c_void)
}

/// The address at which a library is loaded.
fn load(library: &str) -> Result<u64, String> {
    static LOADED: OnceLock<Mutex<HashMap<String, u64>>> = OnceLock::new();
    let mut loaded = LOADED
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if let Some(base) = loaded.get(library) {
        return Ok(*base);
    }
    if let Some(base) = own_base(library) {
        loaded.insert(library.to_string(), base);
        return Ok(base);
    }
    let path = CString::new(library).map_err(|error| error.to_string())?;
    // SAFETY: the library was compiled by this build's compiler against the dylib that is loaded here.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if handle.is_null() {
        // SAFETY: `dlerror` returns null or a C string that lives until the next call on this thread.
        let text = unsafe { libc::dlerror() };
        let reason = if text.is_null() {
            "no reason given".into()
        } else {
            unsafe { CStr::from_ptr(text) }.to_string_lossy()
        };
        return Err(format!("{library} could not be loaded: {reason}"));
    }
    // SAFETY: on Linux and macOS a handle of glibc is a `link_map`, whose first field is the load address;
    // `dlinfo` is the documented way to it, and is used where it exists.
    let base = unsafe { load_address(handle) };
    loaded.insert(library.to_string(), base);
    Ok(base)
}

/// Where this program itself is, if `library` is this program: it cannot be loaded a second time.
fn own_base(library: &str) -> Option<u64> {
    if std::env::current_exe().ok()?.as_path() != std::path::Path::new(library) {
        return None;
    }
    // SAFETY: without a name this gives a handle of the program itself, which is there as long as the process.
    let program = unsafe { libc::dlopen(std::ptr::null(), libc::RTLD_NOW) };
    // Not where this function is: a program may have this library linked in, or beside it.
    (!program.is_null()).then(|| unsafe { load_address(program) })
}

#[cfg(target_os = "linux")]
unsafe fn load_address(handle: *mut c_void) -> u64 {
    let mut map: *mut u64 = std::ptr::null_mut();
    // SAFETY: the caller's handle is live; `RTLD_DI_LINKMAP` writes one pointer.
    let found = unsafe { libc::dlinfo(handle, libc::RTLD_DI_LINKMAP, (&raw mut map).cast()) };
    if found != 0 || map.is_null() {
        0
    } else {
        unsafe { *map }
    }
}

#[cfg(not(target_os = "linux"))]
unsafe fn load_address(_: *mut c_void) -> u64 {
    0
}
