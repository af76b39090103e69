//! The two ways in for the `skep` binary, which loads this library: an evaluation process and a worker.

use std::os::fd::IntoRawFd;

/// Serves the session that listens at the socket `path`, a C string. Never returns.
///
/// # Safety
/// `path` points to a NUL-terminated string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skep_eval_main(path: *const libc::c_char) -> ! {
    // SAFETY: the caller passes a C string.
    let path = unsafe { std::ffi::CStr::from_ptr(path) }
        .to_string_lossy()
        .into_owned();
    match std::os::unix::net::UnixStream::connect(&path) {
        Ok(stream) => {
            join_notebook();
            skep_eval::serve(stream.into_raw_fd())
        }
        Err(error) => {
            eprintln!("error: the session at {path} could not be reached: {error}");
            std::process::exit(1)
        }
    }
}

/// Reads from a cell's standard input; see [`skep_eval::read_stdin`].
///
/// # Safety
/// `buffer` points to `n` bytes that may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skep_read_stdin(buffer: *mut u8, n: usize) -> isize {
    if n == 0 {
        return 0;
    }
    // SAFETY: the caller's promise.
    skep_eval::read_stdin(unsafe { std::slice::from_raw_parts_mut(buffer, n) }) as isize
}

/// Runs a worker for the scheduler at the socket `path`; threads and memory limit are in the environment.
/// Never returns.
///
/// # Safety
/// `path` points to a NUL-terminated string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skep_worker_main(path: *const libc::c_char) -> ! {
    // SAFETY: the caller passes a C string.
    let path = unsafe { std::ffi::CStr::from_ptr(path) }
        .to_string_lossy()
        .into_owned();
    prepare_worker();
    let code = match skep_cluster::worker::server::run_worker(
        &skep_cluster::worker::options::WorkerOptions::from_env(path.into()),
    ) {
        Ok(_) => 0,
        Err(_) => 1,
    };
    // SAFETY: tasks may still run in other threads; nothing of theirs is wanted.
    unsafe { libc::_exit(code) }
}

/// Tasks stop when they are cancelled, and may wait for tasks of their own.
fn prepare_worker() {
    skep_frame::init();
    skep_cluster::set_hooks(skep_cluster::Hooks {
        interrupted: Some(skep_eval::interrupted),
        stop: Some(skep_eval::poll),
        adopt: skep_eval::adopt_flag,
        raise: |flag| skep_eval::raise_flag(flag),
        lower: |flag| skep_eval::lower_flag(flag),
        is_stop: |payload| payload.is::<skep_eval::Interrupted>(),
        ..skep_cluster::Hooks::NONE
    });
}

skep_cluster::workers_are_this_program!(prepare_worker);

/// Cells' waits end when the cell is interrupted, and their functions are built anew for speed.
fn join_notebook() {
    skep_frame::init();
    skep_cluster::set_hooks(skep_cluster::Hooks {
        interrupted: Some(skep_eval::interrupted),
        stop: Some(skep_eval::poll),
        origin: Some(skep_eval::current_cell),
        note: Some(skep_eval::note),
        code_needed: Some(|library| {
            let is_cell = std::path::Path::new(library)
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("libcell-"));
            is_cell && skep_eval::code_needed(library)
        }),
        ..skep_cluster::Hooks::NONE
    });
    skep_eval::on_interrupt(skep_cluster::wake_waits);
}
