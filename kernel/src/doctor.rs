//! `skep doctor`: everything that Skep stands on, looked at and tried, each with what mends it.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{disk, environment};
use serde_json::{Value, json};
use skep_session::{Frontend, Home, Message, Output, Session, cache_folder};

/// What is tried in cells: its name, the cell, and a text that its result holds.
const CELLS: [(&str, &str, &str); 4] = [
    ("a cell", "20 + 22", "42"),
    (
        "two workers",
        "fn doctor_pid(_: u8) -> u32 { sleep(Duration::from_millis(50)); std::process::id() }\nlet doctor = Cluster::local().workers(2).start()?;\ndoctor.gather(doctor.map(doctor_pid, [0, 1]))?.into_iter().collect::<std::collections::BTreeSet<_>>().len()",
        "2",
    ),
    (
        "a frame",
        "Frame::from(df!(\"k\" => [1, 2, 1], \"x\" => [1, 2, 3])?).group_by([\"k\"]).agg([col(\"x\").sum()]).collect()?.height()",
        "2",
    ),
    (
        "the dashboard",
        "doctor.dashboard()?.url().to_string()",
        "http://127.0.0.1:",
    ),
];

/// Less than this is not enough to work with.
const LEAST_FREE: u64 = 1 << 30;
const LEAST_MEMORY: u64 = 2 << 30;

/// One thing that was looked at.
struct Check {
    name: &'static str,
    is_ok: bool,
    /// What there is, or what is wrong.
    found: String,
    took: Option<Duration>,
    hint: Option<String>,
}

impl Check {
    fn of(name: &'static str, found: Result<String, Message>) -> Check {
        let (is_ok, found, hint) = match found {
            Ok(found) => (true, found, None),
            Err(message) => (false, message.what, message.hint),
        };
        Check {
            name,
            is_ok,
            found,
            took: None,
            hint,
        }
    }

    fn timed(name: &'static str, check: impl FnOnce() -> Result<String, Message>) -> Check {
        let began = Instant::now();
        let checked = Check::of(name, check());
        Check {
            took: Some(began.elapsed()),
            ..checked
        }
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "ok": self.is_ok,
            "found": self.found,
            "ms": self.took.map(|took| took.as_millis() as u64),
            "hint": self.hint,
        })
    }

    fn print(&self) {
        let took = self
            .took
            .map_or_else(String::new, |took| format!(", {:.1} s", took.as_secs_f64()));
        let mark = if self.is_ok { '✓' } else { '✗' };
        println!("{mark} {}: {}{took}", self.name, self.found);
        if let Some(hint) = &self.hint {
            println!("  hint: {hint}");
        }
        let _ = std::io::stdout().flush();
    }
}

/// Looks at everything; 1 if something is wrong.
pub fn run(is_json: bool) -> anyhow::Result<u8> {
    let mut checks = Vec::new();
    let mut add = |check: Check| {
        if !is_json {
            check.print();
        }
        checks.push(check);
    };
    let home = Home::locate();
    add(Check::of("Rust", rust(&home)));
    add(Check::of("a C linker", linker()));
    add(Check::of("Python", python()));
    add(Check::of("JupyterLab", jupyterlab(&home)));
    add(Check::of("memory", memory()));
    add(Check::of("the cache", cache()));
    // Without a home there are no cells.
    if let Ok(home) = home {
        try_cells(home, &mut add);
    }
    let n_wrong = checks.iter().filter(|check| !check.is_ok).count();
    if is_json {
        let all: Vec<Value> = checks.iter().map(Check::json).collect();
        let report = json!({ "version": env!("CARGO_PKG_VERSION"), "host": host(), "ok": n_wrong == 0, "checks": all });
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else if n_wrong == 0 {
        println!("Everything is in order.");
    } else {
        println!("Not in order: {n_wrong} of {}.", checks.len());
    }
    Ok(u8::from(n_wrong > 0))
}

/// What this machine calls itself.
pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The first line that a program says, or why it could not be run.
fn said(command: &mut Command) -> Result<String, String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let first = text.lines().next().unwrap_or_default().to_string();
    if output.status.success() {
        Ok(first)
    } else {
        Err(first)
    }
}

fn rust(home: &std::io::Result<Home>) -> Result<String, Message> {
    match home {
        Err(error) => Err(Message::from(error)),
        Ok(home) => said(Command::new(&home.toolchain().rustc).arg("--version")).map_err(|why| {
            Message::new(format!(
                "{} does not run: {why}",
                home.toolchain().rustc.display()
            ))
            .hint("install Rust with rustup (https://rustup.rs) and run ./install/start again")
        }),
    }
}

fn linker() -> Result<String, Message> {
    said(Command::new("cc").arg("--version")).map_err(|why| {
        Message::new(format!("`cc` does not run: {why}")).hint(
            "install gcc or clang (Debian: apt-get install gcc; macOS: xcode-select --install): cells are linked by it",
        )
    })
}

fn python() -> Result<String, Message> {
    let needed =
        "import sys, venv, ensurepip; print(sys.version.split()[0]); sys.exit(sys.version_info < (3, 11))";
    said(Command::new("python3").args(["-c", needed])).map_err(|why| {
        Message::new(format!(
            "python3 is not there, is older than 3.11, or lacks its venv module: {why}"
        ))
        .hint("install Python 3.11 or newer (Debian: apt-get install python3 python3-venv)")
    })
}

fn jupyterlab(home: &std::io::Result<Home>) -> Result<String, Message> {
    let folder = cache_folder().join(environment::LINK);
    let folder = folder.canonicalize().unwrap_or(folder);
    let wanted = home
        .as_ref()
        .ok()
        .and_then(|home| fs::read_to_string(home.root().join("share/requirements.txt")).ok());
    let has = fs::read_to_string(folder.join(environment::STAMP)).ok();
    let why = match (wanted, has) {
        (_, None) => "its private Python environment is not there",
        (Some(wanted), Some(has)) if wanted != has => {
            "its private Python environment is of an earlier version"
        }
        _ => {
            return said(Command::new(folder.join("bin/python")).args([
                "-c",
                "import importlib.metadata as of; print(of.version('jupyterlab'))",
            ]))
            .map_err(|why| {
                Message::new(format!("its private Python environment is broken: {why}"))
                    .hint(format!("remove {} and run `skep lab`", folder.display()))
            });
        }
    };
    Err(Message::new(why).hint("`skep lab` makes it, for which it needs the network once"))
}

fn memory() -> Result<String, Message> {
    // SAFETY: plain questions to the system.
    let (pages, size) = unsafe {
        (
            libc::sysconf(libc::_SC_PHYS_PAGES),
            libc::sysconf(libc::_SC_PAGESIZE),
        )
    };
    let bytes = u64::try_from(pages).unwrap_or(0) * u64::try_from(size).unwrap_or(0);
    let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
    let found = format!("{}, {n_cores} cores", disk::gigabytes(bytes));
    if bytes < LEAST_MEMORY {
        return Err(
            Message::new(format!("{found}: compiling cells beside a cluster wants 2 GB"))
                .hint("close other programs, and begin with `Cluster::local().workers(1)`"),
        );
    }
    Ok(found)
}

/// Where the cache is, what it takes, and what is free there.
fn cache() -> Result<String, Message> {
    let folder = cache_folder();
    let hint = "free some space, or set SKEP_CACHE to a folder on another disk";
    let probe = folder.join(format!("doctor-{}", std::process::id()));
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(&probe, "writable"))
        .and_then(|()| fs::remove_file(&probe))
        .map_err(|error| {
            Message::new(format!("{} cannot be written: {error}", folder.display()))
                .hint("make it writable, or set SKEP_CACHE to another folder")
        })?;
    let free = disk::free_at(&folder);
    let found = format!(
        "{} takes {}, and {} are free there",
        folder.display(),
        disk::gigabytes(disk::size_of([&*folder])),
        disk::gigabytes(free)
    );
    if free < LEAST_FREE {
        return Err(Message::new(found).hint(hint));
    }
    Ok(found)
}

/// Keeps the result of the cell that ran last.
#[derive(Default)]
struct Last(Mutex<String>);

impl Frontend for Last {
    fn output(&self, _: u32, output: Output) {
        if let Output::Result(bundle) = output {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = bundle.plain().to_string();
        }
    }

    fn ask(&self, _: u32, _: &str, _: bool) -> Option<String> {
        None
    }
}

/// A session, and in it what people do first.
fn try_cells(home: Home, add: &mut impl FnMut(Check)) {
    let last = Arc::new(Last::default());
    let no_frames = home.no_frames();
    let began = Instant::now();
    let mut session = match Session::start(home, last.clone()) {
        Ok(session) => session,
        Err(error) => return add(Check::of("a session", Err(Message::from(&error)))),
    };
    add(Check {
        took: Some(began.elapsed()),
        ..Check::of("a session", Ok("begun".into()))
    });
    for (name, code, expected) in CELLS {
        if let (Some(why), "a frame") = (&no_frames, name) {
            add(Check::of(name, Err(why.clone())));
            continue;
        }
        add(Check::timed(name, || {
            last.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
            let reply = session.execute(code);
            if let Err(error) = reply.result {
                let first = error.plain.lines().next().unwrap_or_default().to_string();
                return Err(Message::new(first).hint(format!("the cell was:\n{code}")));
            }
            let shown = last.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let shown = shown.trim_matches('"');
            if !shown.starts_with(expected) {
                return Err(Message::new(format!("the result is {shown:?}, not {expected:?}"))
                    .hint(format!("the cell was:\n{code}")));
            }
            if shown.starts_with("http") {
                return answers(shown);
            }
            Ok("works".into())
        }));
    }
    add(Check::timed("completion", || {
        let completion = session.handle().complete("let v: Vec<u8> = Vec::wi", 24);
        if completion
            .candidates
            .iter()
            .any(|candidate| candidate.insert.contains("with_capacity"))
        {
            Ok("works".into())
        } else {
            Err(Message::new("it does not know `Vec::with_capacity`")
                .hint("`rustup component add rust-src` brings the standard library's sources; `:assist` says how it stands"))
        }
    }));
}

/// Whether a page is there.
fn answers(url: &str) -> Result<String, Message> {
    let hint = "does a firewall keep programs of this machine from each other?";
    let none = |why: String| Message::new(format!("the page does not answer: {why}")).hint(hint);
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let asked = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(host)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(
            stream,
            "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        )?;
        let mut head = [0; 64];
        let n = stream.read(&mut head)?;
        Ok(String::from_utf8_lossy(&head[..n]).into_owned())
    };
    let head = asked().map_err(|error| none(error.to_string()))?;
    match head.split(' ').nth(1) {
        Some(status) if status.starts_with(['2', '3']) => Ok("answers".into()),
        status => Err(none(format!("status {}", status.unwrap_or("none")))),
    }
}
