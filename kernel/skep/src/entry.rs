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
    skep_cluster::join_host();
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
    know_types();
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

/// A plain program calls nothing first, and its frames travel as a notebook's do.
extern "C" fn know_types() {
    #[cfg(feature = "frames")]
    skep_frame::init();
}

#[used]
#[cfg_attr(target_os = "linux", unsafe(link_section = ".init_array"))]
#[cfg_attr(target_os = "macos", unsafe(link_section = "__DATA,__mod_init_func"))]
static KNOW_TYPES: extern "C" fn() = know_types;

/// Cells' waits end when the cell is interrupted, and their functions are built anew for speed.
fn join_notebook() {
    skep_cluster::join_host();
    know_types();
    skep_dask::init();
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

/// Hears what a task says: its key in hexadecimal, empty where it is not known which; and what, as bytes of
/// [`skep_cluster::worker::foreign::Said`].
type Hear = extern "C" fn(key: *const libc::c_char, data: *const u8, n: usize);

/// Makes this library ready to run tasks in a process of another system's, which is called `place` in errors. From then on that
/// process's standard output and error are what tasks print.
///
/// # Safety
/// `place` points to a NUL-terminated string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skep_task_prepare(place: *const libc::c_char, hear: Hear) {
    // SAFETY: the caller passes a C string.
    let place = unsafe { std::ffi::CStr::from_ptr(place) }.to_string_lossy();
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        prepare_worker();
        skep_cluster::worker::foreign::prepare(
            &place,
            Box::new(move |key, said| {
                let key = key.map_or(String::new(), |key| format!("{:032x}", key.0));
                let (Ok(key), Ok(said)) = (std::ffi::CString::new(key), postcard::to_stdvec(&said)) else {
                    return;
                };
                hear(key.as_ptr(), said.as_ptr(), said.len());
            }),
        );
    });
}

/// Bytes of somebody else's.
#[repr(C)]
pub struct ForeignBytes {
    data: *const u8,
    n: usize,
}

/// Bytes of ours, for [`skep_task_free`].
#[repr(C)]
pub struct OwnBytes {
    data: *mut u8,
    n: usize,
    capacity: usize,
}

/// Runs a task: 0 with the bytes of its value, 1 with those of its error.
///
/// # Safety
/// `request` points to `n` bytes that were made for this very library, `library` to a C string, `inputs` to so many, and `out`
/// may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skep_task_run(
    request: *const u8,
    n: usize,
    library: *const libc::c_char,
    inputs: *const ForeignBytes,
    n_inputs: usize,
    out: *mut OwnBytes,
) -> i32 {
    // SAFETY: the caller's promise; what is empty may have no address.
    let bytes_at = |data: *const u8, n: usize| match n {
        0 => &[][..],
        n => unsafe { std::slice::from_raw_parts(data, n) },
    };
    // SAFETY: the caller passes a C string, and so many inputs.
    let library = unsafe { std::ffi::CStr::from_ptr(library) }.to_string_lossy();
    let inputs: &[ForeignBytes] = match n_inputs {
        0 => &[],
        n => unsafe { std::slice::from_raw_parts(inputs, n) },
    };
    let inputs = inputs.iter().map(|input| bytes_at(input.data, input.n).to_vec());
    // SAFETY: the caller's promise.
    let result = unsafe { skep_cluster::worker::foreign::run(bytes_at(request, n), &library, inputs) };
    let (status, bytes) = match result {
        Ok(bytes) => (0, bytes),
        Err(bytes) => (1, bytes),
    };
    let mut bytes = std::mem::ManuallyDrop::new(bytes);
    // SAFETY: the caller's promise.
    unsafe {
        out.write(OwnBytes {
            data: bytes.as_mut_ptr(),
            n: bytes.len(),
            capacity: bytes.capacity(),
        });
    }
    status
}

/// Frees what [`skep_task_run`] gave.
///
/// # Safety
/// They are its bytes, and nobody looks at them any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skep_task_free(data: *mut u8, n: usize, capacity: usize) {
    if !data.is_null() {
        // SAFETY: the caller's promise.
        drop(unsafe { Vec::from_raw_parts(data, n, capacity) });
    }
}

/// Tells a task that runs in this process to stop. `key` is its key in hexadecimal.
///
/// # Safety
/// `key` points to a NUL-terminated string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skep_task_stop(key: *const libc::c_char) {
    // SAFETY: the caller passes a C string.
    let key = unsafe { std::ffi::CStr::from_ptr(key) }.to_string_lossy();
    if let Ok(key) = u128::from_str_radix(&key, 16) {
        skep_cluster::worker::foreign::stop(skep_cluster::Key(key));
    }
}
