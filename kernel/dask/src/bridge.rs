//! The bridge: a Python process that is a client of Dask's, and speaks with this one over its standard input and output.

use std::{
    fs,
    io::{self, BufReader, BufWriter},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, PoisonError},
};

use skep_cluster::{Error, Result};
use skep_render::Message;
use tempfile::TempDir;

use crate::words::{self, Order};

const FILES: [(&str, &str); 2] = [
    ("bridge.py", include_str!("../python/bridge.py")),
    ("skep_worker.py", include_str!("../python/skep_worker.py")),
];

pub(crate) struct Bridge {
    process: Mutex<Child>,
    orders: Mutex<BufWriter<ChildStdin>>,
    /// Its program, and what it says on standard error.
    folder: TempDir,
}

/// A Python with Dask: `SKEP_PYTHON`, the private one of `skep lab`, or the one in the path.
fn python() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(python) = set("SKEP_PYTHON") {
        return python.into();
    }
    let home = || PathBuf::from(set("HOME").unwrap_or_default()).join(".cache/skep");
    let private = set("SKEP_CACHE")
        .map_or_else(home, PathBuf::from)
        .join("python/bin/python");
    if private.exists() {
        private
    } else {
        "python3".into()
    }
}

impl Bridge {
    pub fn start() -> Result<(Bridge, BufReader<ChildStdout>)> {
        let cannot = |error: io::Error| {
            Error::Start(Message::new(format!("the bridge to Dask could not be started: {error}")).hint(
                "it needs Python: `skep lab` makes a private one, and SKEP_PYTHON names another that has `distributed`",
            ))
        };
        let folder = crate::folder("dask-").map_err(cannot)?;
        for (name, text) in FILES {
            fs::write(folder.path().join(name), text).map_err(cannot)?;
        }
        let said = fs::File::create(folder.path().join("said")).map_err(cannot)?;
        let mut process = Command::new(python())
            .arg("-B")
            .arg(folder.path().join("bridge.py"))
            .env_remove("PYTHONPATH")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(said)
            .spawn()
            .map_err(cannot)?;
        let stdin = process.stdin.take().expect("invariant: it is piped");
        let stdout = process.stdout.take().expect("invariant: it is piped");
        let bridge = Bridge {
            process: Mutex::new(process),
            orders: Mutex::new(BufWriter::new(stdin)),
            folder,
        };
        Ok((bridge, BufReader::with_capacity(1 << 20, stdout)))
    }

    pub fn order(&self, order: &Order) -> Result<()> {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        words::write(&mut *orders, order).map_err(|error| {
            Error::Disconnected(match error.kind() {
                io::ErrorKind::BrokenPipe => {
                    format!(
                        "this program has left the Dask cluster; `Cluster::connect(…)?` brings it back{}",
                        self.said()
                    )
                }
                _ => format!("the bridge to Dask does not listen: {error}{}", self.said()),
            })
        })
    }

    /// The last line that it said on standard error, which is where Python says why it ends.
    pub fn said(&self) -> String {
        let said = fs::read_to_string(self.folder.path().join("said")).unwrap_or_default();
        // `KeyError: 'x'`; other lines are warnings, or where it was.
        let is_error = |line: &&str| {
            let name = line.split([':', ' ']).next().unwrap_or_default();
            name.ends_with("Error") || name.ends_with("Exception")
        };
        match said.lines().rev().find(is_error) {
            Some(last) if last.contains("ModuleNotFoundError") => {
                format!(
                    "; {last}: its Python needs `pip install distributed`, or SKEP_PYTHON names one that has it"
                )
            }
            Some(last) => format!("; it said: {last}"),
            None => String::new(),
        }
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.order(&Order::Close);
        let process = self.process.get_mut().unwrap_or_else(PoisonError::into_inner);
        let until = std::time::Instant::now() + std::time::Duration::from_secs(3);
        while matches!(process.try_wait(), Ok(None)) && std::time::Instant::now() < until {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let _ = process.kill();
        let _ = process.wait();
    }
}
