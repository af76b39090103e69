//! Processes that run inside `libskep.so`: this binary stays small and loads the library only for them.

use std::{ffi::CString, os::unix::ffi::OsStrExt, path::Path};

use anyhow::{Context, bail};
use skep_session::Home;
use skep_session::Message;

type Entry = unsafe extern "C" fn(*const libc::c_char) -> !;

pub fn eval(socket: &Path) -> anyhow::Result<u8> {
    enter(c"skep_eval_main", socket)
}

pub fn worker(scheduler: &Path) -> anyhow::Result<u8> {
    enter(c"skep_worker_main", scheduler)
}

/// Calls an entry point of `libskep.so` with a socket's path. The entry never returns.
fn enter(entry: &std::ffi::CStr, socket: &Path) -> anyhow::Result<u8> {
    let home = Home::locate()?;
    let dylib = CString::new(home.toolchain().dylib.as_os_str().as_bytes())?;
    let socket = CString::new(socket.as_os_str().as_bytes())?;
    // SAFETY: the library is of this build; its constructors register types, and look whether this is to be a worker of a program.
    let handle = unsafe { libc::dlopen(dylib.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if handle.is_null() {
        bail!("libskep.so could not be loaded: {}", last_error());
    }
    // SAFETY: `handle` is live.
    let symbol = unsafe { libc::dlsym(handle, entry.as_ptr()) };
    (!symbol.is_null())
        .then_some(())
        .context(Message::new("libskep.so is of another version").hint("run ./install/start again"))?;
    if entry == c"skep_eval_main" {
        // SAFETY: `handle` is live; a null symbol leaves standard input as it is.
        crate::stdin::redirect(unsafe { libc::dlsym(handle, c"skep_read_stdin".as_ptr()) });
    }
    // SAFETY: both entry points have this type, and the argument is a C string.
    unsafe { std::mem::transmute::<*mut libc::c_void, Entry>(symbol)(socket.as_ptr()) }
}

fn last_error() -> String {
    // SAFETY: `dlerror` returns null or a C string that lives until the next call on this thread.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        "no reason given".into()
    } else {
        unsafe { std::ffi::CStr::from_ptr(text) }
            .to_string_lossy()
            .into_owned()
    }
}
