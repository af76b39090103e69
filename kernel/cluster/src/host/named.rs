//! Clusters by name: several in one process, and those of other processes of this user.
//!
//! A name is a link in a folder that only this user can enter; it leads to the folder of the cluster's sockets. Functions are
//! compiled by the process that defines them: it tells every scheduler that runs them where their libraries are.

use std::{
    fs, io,
    os::unix::{fs::symlink, net::UnixStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::process::getuid;
use skep_render::Message;

use super::{Host, Server};
use crate::{
    model::ids::{CodeId, Token},
    wire::{protocol::ToScheduler, transport::write_blocking},
};

/// Names are parts of the paths of sockets, which have about a hundred bytes.
const LONGEST_NAME: usize = 24;

/// Another scheduler that takes nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(1);

impl Server {
    /// The socket of the cluster of this name, which is made if it is not there.
    pub(super) fn open(&mut self, name: &str) -> Result<String, Message> {
        let socket = match self.named.iter().find(|(known, _)| known == name) {
            Some((_, host)) => {
                let socket = host.socket().to_path_buf();
                // It may have been shut down since.
                link(name, socket.parent().unwrap_or(Path::new("/"))).map_err(|error| {
                    Message::new(format!("the cluster `{name}` could not be named: {error}"))
                })?;
                socket
            }
            None => self.make(name)?,
        };
        self.share_with(&socket)?;
        Ok(socket.to_string_lossy().into_owned())
    }

    fn make(&mut self, name: &str) -> Result<PathBuf, Message> {
        check(name)?;
        let failed =
            |error: io::Error| Message::new(format!("the cluster `{name}` could not be made: {error}"));
        if find(name).is_some() {
            return Err(Message::new(format!(
                "another notebook or program has a cluster `{name}` running"
            ))
            .hint(format!(
                "`Cluster::connect(\"{name}\")?` uses that one; or take another name"
            )));
        }
        let folder = self.socket.with_file_name(name);
        make_private(&folder).map_err(failed)?;
        let host = Host::start(&folder, self.command.clone(), self.subscriber.clone()).map_err(failed)?;
        link(name, &folder).map_err(failed)?;
        let host = Arc::new(host);
        if let Some(of) = &self.offer_dashboard {
            host.offer_dashboards(of.clone());
        }
        let socket = host.socket().to_path_buf();
        self.named.push((name.to_string(), host));
        Ok(socket)
    }

    /// Tells that scheduler the code that there is, and from now on what comes.
    pub(super) fn share_with(&mut self, socket: &Path) -> Result<(), Message> {
        if socket == self.socket || self.sharing.contains_key(socket) {
            return Ok(());
        }
        let connect = || -> io::Result<UnixStream> {
            let token = Token::beside(socket)?;
            let mut stream = UnixStream::connect(socket)?;
            stream.set_write_timeout(Some(PATIENCE))?;
            write_blocking(&mut stream, &vec![ToScheduler::Hello { token }])?;
            for (id, path) in self.scheduler.code() {
                tell(&mut stream, id, path)?;
            }
            Ok(stream)
        };
        let stream = connect().map_err(|error| {
            Message::new(format!(
                "the cluster at {} does not answer: {error}",
                socket.display()
            ))
        })?;
        self.sharing.insert(socket.to_path_buf(), stream);
        Ok(())
    }

    pub(super) fn share(&mut self, code: CodeId, path: &str) {
        self.sharing.retain(|_, stream| tell(stream, code, path).is_ok());
    }

    pub(super) fn end_named(&mut self) {
        self.sharing.clear();
        for (name, host) in self.named.drain(..) {
            unlink(&name, host.socket());
            host.stop();
            if let Some(folder) = host.socket().parent() {
                let _ = fs::remove_dir_all(folder);
            }
        }
    }
}

/// A cluster that was shut down is not found any more.
pub(crate) fn forget(name: &str) {
    if check(name).is_ok() {
        let _ = fs::remove_file(registry().join(name));
    }
}

fn tell(stream: &mut UnixStream, id: CodeId, path: &str) -> io::Result<()> {
    let path = Some(path.to_string());
    write_blocking(stream, &vec![ToScheduler::Code { id, path }])
}

fn check(name: &str) -> Result<(), Message> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(is_plain) {
        return Ok(());
    }
    Err(
        Message::new(format!("`{name}` is no name of a cluster")).hint(format!(
            "a word of letters, digits, `-` and `_`, of {LONGEST_NAME} at most"
        )),
    )
}

/// Where this user's clusters are known by name.
fn registry() -> PathBuf {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| Path::new(folder).is_dir());
    runtime.map_or_else(
        || std::env::temp_dir().join(format!("skep-clusters-{}", getuid().as_raw())),
        |folder| Path::new(&folder).join("skep-clusters"),
    )
}

fn make_private(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made,
    }
    // In a folder that everyone may write, another user may have been first.
    if fs::symlink_metadata(folder)?.uid() == getuid().as_raw() {
        Ok(())
    } else {
        let text = format!("{} belongs to somebody else", folder.display());
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
    }
}

fn link(name: &str, folder: &Path) -> io::Result<()> {
    let registry = registry();
    make_private(&registry)?;
    let at = registry.join(name);
    // Nobody listens there: see `find`.
    let _ = fs::remove_file(&at);
    symlink(folder, at)
}

fn unlink(name: &str, socket: &Path) {
    let at = registry().join(name);
    if fs::read_link(&at).is_ok_and(|folder| Some(folder.as_path()) == socket.parent()) {
        let _ = fs::remove_file(at);
    }
}

/// The socket of the cluster of this name, if one listens there.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    check(name).ok()?;
    let registry = registry();
    make_private(&registry).ok()?;
    let socket = fs::read_link(registry.join(name)).ok()?.join("scheduler.sock");
    UnixStream::connect(&socket).is_ok().then_some(socket)
}

/// The names of this user's clusters that are there.
pub(crate) fn names() -> Vec<String> {
    let Ok(entries) = fs::read_dir(registry()) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| find(name).is_some())
        .collect();
    names.sort();
    names
}
