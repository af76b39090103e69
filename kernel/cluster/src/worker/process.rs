//! Memory of this process, as the system counts it.

use std::fs;

/// Memory of this process that nobody could take back: not the pages of files. 0 where the system does not
/// tell.
pub(crate) fn resident_bytes() -> u64 {
    let Ok(text) = fs::read_to_string("/proc/self/status") else {
        return 0;
    };
    let kilobytes = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| {
            line.trim_start_matches(':')
                .trim()
                .split(' ')
                .next()?
                .parse()
                .ok()
        })
        .unwrap_or(0)
    };
    (kilobytes("RssAnon") + kilobytes("RssShmem")) * 1024
}

/// The allocator keeps what is freed; the system shall have it back.
pub(crate) fn give_memory_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: gives unused memory back; may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
