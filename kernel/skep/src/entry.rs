//! The two ways in for the `skep` binary, which loads this library: an evaluation process and a worker.

use std::os::fd::IntoRawFd;

/// Serves the session that listens at the socket `path`, a C string. Never returns.
///
/// # Safety
/// `path` points to a NUL-terminated string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skep_eval_main(path: *const libc::c_char) -> ! {
    // SAFETY: the caller passes a C string.
    let path = unsafe { std::ffi::CStr::from_ptr(path) }.to_string_lossy().into_owned();
    match std::os::unix::net::UnixStream::connect(&path) {
        Ok(stream) => skep_eval::serve(stream.into_raw_fd()),
        Err(error) => {
            eprintln!("error: the session at {path} could not be reached: {error}");
            std::process::exit(1)
        }
    }
}
