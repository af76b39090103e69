//! JupyterLab's private Python environment: made once, and again, beside the one that is there, when what it needs has changed.

use std::{
    fs::{self, File, TryLockError},
    hash::{DefaultHasher, Hash, Hasher},
    io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::Context;
use skep_session::{Home, Message, cache_folder};

/// In the cache's folder: a link to the environment that is used now.
pub const LINK: &str = "python";
/// How the names of environments begin there; scripts in one hold its path, so that none can be moved.
pub const FOLDERS: &str = "jupyter-";
/// What is in an environment, written when it is whole.
pub const STAMP: &str = "skep-requirements.txt";
const LOCK: &str = "python.lock";

/// The Python of the environment that this home needs, ready to run.
pub fn ready(home: &Home) -> anyhow::Result<PathBuf> {
    let cache = cache_folder();
    let link = cache.join(LINK);
    let requirements = home.root().join("share/requirements.txt");
    let wanted = fs::read_to_string(&requirements).with_context(|| {
        Message::new(format!("{} is missing", requirements.display())).hint("run ./install/start again")
    })?;
    let _lock = alone(&cache)?;
    if !is_ready(&link, &wanted) {
        let folder = cache.join(name(&wanted));
        if !is_ready(&folder, &wanted) {
            make(home, &folder, &requirements)?;
            fs::write(folder.join(STAMP), &wanted)?;
        }
        use_from_now(&link, &folder)?;
    }
    // By its own name: what runs goes on with it when the link is another's.
    Ok(link.canonicalize()?.join("bin/python"))
}

/// One start at a time; on a file system without locks nobody waits.
fn alone(cache: &Path) -> anyhow::Result<File> {
    let lock = fs::create_dir_all(cache).and_then(|()| File::create(cache.join(LOCK)));
    let lock = lock.with_context(|| {
        Message::new(format!("the cache folder {} cannot be written", cache.display()))
            .hint("make it writable, or set SKEP_CACHE to another folder")
    })?;
    if let Err(TryLockError::WouldBlock) = lock.try_lock() {
        println!("JupyterLab: another start makes its Python environment; this one waits for it …");
        let _ = lock.lock();
    }
    Ok(lock)
}

fn name(wanted: &str) -> String {
    let mut hasher = DefaultHasher::new();
    wanted.hash(&mut hasher);
    format!("{FOLDERS}{:016x}", hasher.finish())
}

/// Whether all of it is there, for the Python that it runs by: the system's may have become another version.
fn is_ready(folder: &Path, wanted: &str) -> bool {
    let has = fs::read_to_string(folder.join(STAMP)).ok();
    let finds = "import importlib.util as of, sys; sys.exit(of.find_spec('jupyterlab') is None)";
    has.as_deref() == Some(wanted)
        && Command::new(folder.join("bin/python"))
            .args(["-c", finds])
            .stdin(Stdio::null())
            .output()
            .is_ok_and(|done| done.status.success())
}

fn make(home: &Home, folder: &Path, requirements: &Path) -> anyhow::Result<()> {
    let began = Instant::now();
    println!("JupyterLab: making a private Python environment (about a minute, once) …");
    // What a bundle was set up with is one that it has wheels for.
    let python3 = std::env::var_os("SKEP_BASE_PYTHON").unwrap_or_else(|| "python3".into());
    run_quietly(
        Command::new(python3).args(["-m", "venv", "--clear"]).arg(folder),
        Message::new("python3 with its `venv` module is needed")
            .hint("install Python 3.11 or newer (Debian: python3 and python3-venv)"),
    )?;
    let mut install = Command::new(folder.join("bin/python"));
    // The file names all of them, and leaves out what Dask's own page alone would need.
    install
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
        ])
        .arg("-r")
        .arg(requirements);
    // A bundle brings them along.
    let wheels = home.root().join("share/wheels");
    let hint = if wheels.is_dir() {
        install
            .args(["--no-index", "--no-compile", "--find-links"])
            .arg(&wheels);
        "is the disk full? Was Python another version when the bundle was set up? Set it up again from its file"
    } else {
        "is the network there? Is the disk full? Run it again when it is mended"
    };
    run_quietly(
        &mut install,
        Message::new("JupyterLab could not be installed").hint(hint),
    )?;
    println!("JupyterLab: ready after {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}

/// Earlier ones stay for what runs of them, and are left over.
fn use_from_now(link: &Path, folder: &Path) -> io::Result<()> {
    if link.is_dir() && !link.is_symlink() {
        // Earlier versions made it under this very name.
        fs::rename(
            link,
            link.with_file_name(format!("{FOLDERS}before-{}", std::process::id())),
        )?;
    }
    let fresh = link.with_file_name(format!("{LINK}.new"));
    let _ = fs::remove_file(&fresh);
    symlink(folder.file_name().unwrap_or_default(), &fresh)?;
    fs::rename(&fresh, link)
}

fn run_quietly(command: &mut Command, failed: Message) -> anyhow::Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| failed.clone())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = said.lines().rev().take(3).collect();
        let last = last.into_iter().rev().collect::<Vec<_>>().join("\n");
        return Err(anyhow::anyhow!(last).context(failed));
    }
    Ok(())
}
