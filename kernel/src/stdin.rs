//! `std::io::stdin()` in a cell: the person is asked when the cell reads, not before.
//!
//! Whether somebody waits for a pipe cannot be seen from its other end. So this executable has a `read` of
//! its own, which the dynamic linker prefers to the C library's for all that is loaded below: descriptor 0 of
//! an evaluation process goes to the notebook, everything else to the system. On systems whose linker does
//! not do that, a cell's standard input is empty.

use std::sync::atomic::{AtomicPtr, Ordering};

type ReadStdin = unsafe extern "C" fn(*mut u8, usize) -> isize;

static READ_STDIN: AtomicPtr<libc::c_void> = AtomicPtr::new(std::ptr::null_mut());

/// From now on descriptor 0 is read by the function at `symbol`, `skep_read_stdin` of `libskep.so`.
pub fn redirect(symbol: *mut libc::c_void) {
    READ_STDIN.store(symbol, Ordering::Release);
}

/// # Safety
/// As `read(2)`: `buffer` points to `n` bytes that may be written.
#[cfg(target_os = "linux")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn read(fd: libc::c_int, buffer: *mut libc::c_void, n: libc::size_t) -> libc::ssize_t {
    let symbol = READ_STDIN.load(Ordering::Acquire);
    if fd == 0 && !symbol.is_null() {
        // SAFETY: only `redirect` stores here, and it is given a function of this type; the buffer is the
        // caller's promise.
        return unsafe { std::mem::transmute::<*mut libc::c_void, ReadStdin>(symbol)(buffer.cast(), n) };
    }
    // SAFETY: the caller's promise. `syscall` sets errno as `read` does.
    unsafe { libc::syscall(libc::SYS_read, fd, buffer, n) as libc::ssize_t }
}
