//! A cluster inside a plain Cargo program: the program hosts the scheduler, and its workers are the program
//! again.
//!
//! A worker is started as the same executable with `SKEP_WORKER_OF` in its environment, and becomes a worker before
//! `main` is reached. So a cell that is pasted into `main` runs, and nothing has to be called first.
//! Functions are named by their place in the executable, which is the same file on both sides.

use std::{
    env, fs,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{
    hooks::join_host,
    host::Host,
    model::{cluster::ClusterSpec, event::Event},
    worker::{
        options::WorkerOptions,
        server::{Leave, run_worker},
    },
};

/// In a worker's environment: the socket of its scheduler.
const WORKER: &str = "SKEP_WORKER_OF";

static HOST: Mutex<Option<Own>> = Mutex::new(None);

struct Own {
    host: Host,
    folder: PathBuf,
    /// A forked child inherits this value, but not the cluster.
    pid: u32,
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Where this program's own scheduler listens; started by the first call.
pub(crate) fn scheduler_socket() -> io::Result<PathBuf> {
    let mut own = HOST.lock().unwrap_or_else(PoisonError::into_inner);
    if own.as_ref().is_none_or(|own| own.pid != std::process::id()) {
        *own = Some(start()?);
    }
    Ok(own
        .as_ref()
        .expect("invariant: started above")
        .host
        .socket()
        .to_path_buf())
}

fn start() -> io::Result<Own> {
    let pid = std::process::id();
    // Short: the path of a socket has about a hundred bytes.
    let folder = env::temp_dir().join(format!("skep-{pid}-{:08x}", std::process::id() ^ now()));
    {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new().mode(0o700).create(&folder)?;
    }
    let executable = env::current_exe()?;
    let command = Arc::new(move |spec: &ClusterSpec, socket: &Path| {
        let mut command = Command::new(&executable);
        command.env(WORKER, socket);
        crate::host::set_worker_env(&mut command, spec, socket);
        command
    });
    let host = Host::start(&folder, command, Arc::new(show))?;
    // SAFETY: registers a plain function; it is run once, when `main` has returned or `exit` is called.
    unsafe {
        libc::atexit(at_exit);
    }
    Ok(Own { host, folder, pid })
}

fn now() -> u32 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.subsec_nanos())
}

/// Workers end with their sockets; the folder is ours to remove.
extern "C" fn at_exit() {
    if let Ok(mut own) = HOST.try_lock()
        && let Some(own) = own.take_if(|own| own.pid == std::process::id())
    {
        own.host.stop();
        drop(own);
    }
}

/// A program's terminal is where its tasks print.
fn show(events: &[Event]) {
    for event in events {
        match event {
            Event::Printed {
                is_stderr: true,
                text,
                ..
            } => drop(io::stderr().write_all(text.as_bytes())),
            Event::Printed { text, .. } => {
                let mut out = io::stdout();
                let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
            }
            Event::WorkerLost { worker, cause } => eprintln!("skep: {worker} died: {cause}"),
            _ => {}
        }
    }
}

/// Called before `main`: in a worker it does not return. `prepare` is what the program's types need first.
pub fn become_worker_if_asked(prepare: fn()) {
    let Some(socket) = env::var_os(WORKER) else { return };
    // What a task starts is no worker of ours.
    // SAFETY: nothing else runs yet: this is before `main`, in a process that has one thread.
    unsafe { env::remove_var(WORKER) };
    prepare();
    join_host();
    let socket = PathBuf::from(socket);
    let ended = run_worker(&WorkerOptions::from_env(socket.clone()));
    let code = i32::from(ended.is_err());
    if !matches!(ended, Ok(Leave::Dismissed)) && is_dead(&socket) {
        clear_after_dead_host(&socket);
    }
    // SAFETY: tasks may still run in other threads; nothing of theirs is wanted.
    unsafe { libc::_exit(code) }
}

/// Whether nobody listens there any more. A process that is just being killed closes one connection after the other, so that
/// one may still be taken by a socket that is closed a moment later: one that lives on keeps it.
fn is_dead(socket: &Path) -> bool {
    let Ok(mut stream) = UnixStream::connect(socket) else {
        return true;
    };
    let _ = stream.set_read_timeout(Some(Duration::from_millis(500)));
    match stream.read(&mut [0]) {
        Ok(n) => n == 0,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

/// A program that was killed could not remove its folder; its workers outlive it by a moment, and do it. Each
/// of them tries, since one may still write its own files while another removes all; the socket may then be
/// gone already.
fn clear_after_dead_host(socket: &Path) {
    let folder = socket.parent().filter(|folder| {
        folder
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("skep-"))
    });
    if let Some(folder) = folder {
        // Two workers that remove the same folder can each find an entry that the other has just removed.
        for _ in 0..20 {
            let _ = fs::remove_dir_all(folder);
            if !folder.exists() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Makes a program one whose workers are the program itself: `skep` does it for everyone who uses it.
#[macro_export]
macro_rules! workers_are_this_program {
    ($prepare:expr) => {
        extern "C" fn become_worker() {
            $crate::host::program::become_worker_if_asked($prepare);
        }

        #[used]
        #[cfg_attr(target_os = "linux", unsafe(link_section = ".init_array"))]
        #[cfg_attr(target_os = "macos", unsafe(link_section = "__DATA,__mod_init_func"))]
        static BECOME_WORKER: extern "C" fn() = become_worker;
    };
}
