//! Where clusters are: the one of this notebook or program, those beside it, and those of others.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use skep_render::Message;

use crate::{
    api::{cluster::Cluster, scope},
    engine::{
        self,
        client::{self, Client},
        local::Local,
    },
    hooks::{hooks, is_hosted},
    host::{named, program},
    model::{
        cluster::ClusterSpec,
        error::{Error, Result},
    },
    worker::foreign,
};

impl Cluster {
    /// The cluster that was started last in this program; in a notebook also one that an earlier evaluation
    /// process started.
    ///
    /// # Errors
    /// When there is none.
    pub fn current() -> Result<Cluster> {
        if let Some(cluster) = scope::innermost() {
            return Ok(cluster);
        }
        of_client(current_client()?, "")
    }

    /// A cluster that another notebook or program of the same user has started with a
    /// [name](crate::ClusterBuilder::name): its tasks, and the values that are
    /// [published](Cluster::publish) there, are then everybody's. Functions of this notebook run there too.
    ///
    /// ```no_run
    /// # use skep_cluster::Cluster;
    /// let shared = Cluster::connect("shared")?;
    /// let model = shared.lookup::<f64>("model")?;
    /// # Ok::<(), skep_cluster::Error>(())
    /// ```
    ///
    /// An address is a cluster of another engine's. In a notebook, of Dask's:
    ///
    /// | address | is |
    /// |---|---|
    /// | `tcp://host:8786` | a Dask scheduler, as `dask scheduler` prints it |
    /// | `tls://host:8786?ca=ca.pem&cert=cert.pem&key=key.pem` | the same, encrypted; without files, as Dask is configured |
    /// | `python://module:function` | what a Python function gives: a Dask client, a cluster (Coiled, Kubernetes, Slurm, SSH), or an address |
    ///
    /// # Errors
    /// When no cluster of that name is running, or there is none at the address.
    pub fn connect(name: &str) -> Result<Cluster> {
        if let Some((scheme, _)) = name.split_once("://") {
            return elsewhere(scheme, name);
        }
        let socket = named::find(name).ok_or_else(|| not_found(name))?;
        let client = client_at(&socket)?;
        let own = scheduler_socket()?;
        if own != socket {
            let address = socket.to_string_lossy();
            client_at(&own)?.neighbours()?.share(&address)?;
        }
        client::set_current(client.clone());
        of_client(client, name)
    }

    /// The names of this user's clusters that are running, for [`Cluster::connect`].
    pub fn names() -> Vec<String> {
        named::names()
    }
}

/// A cluster of another system's, at an address.
fn elsewhere(scheme: &str, address: &str) -> Result<Cluster> {
    let connector = engine::connector(scheme).map_err(|known| {
        let known: Vec<String> = known.iter().map(|scheme| format!("`{scheme}://`")).collect();
        let of_others = if known.is_empty() {
            String::new()
        } else {
            format!(" there is one for {};", known.join(", "))
        };
        Error::Unsupported(
            Message::new(format!("this build has no engine for addresses of `{scheme}://`")).hint(format!(
                "{of_others} `Cluster::local().start()?` starts a cluster on this machine, and `Cluster::connect(\"name\")?` takes \
                 the name of one that runs here"
            ).trim_start())
        )
    })?;
    let at = address.to_string();
    let client = Client::with_engine(Box::new(move |sink| {
        connector(&at, sink).map_err(io::Error::other)
    }))
    .map_err(of_engine)?;
    // Only a notebook makes code, and shows things.
    if hooks().code_needed.is_some() {
        let own = client_at(&scheduler_socket()?)?;
        if let Some(socket) = client.code_socket() {
            own.neighbours()?.share(&socket.to_string_lossy())?;
        }
        client.mirror_to(own)?;
    }
    client::set_current(client.clone());
    of_client(client, "")
}

/// What the engine itself said, if it was that.
fn of_engine(error: io::Error) -> Error {
    let text = error.to_string();
    match error
        .into_inner()
        .and_then(|inner| inner.downcast::<Error>().ok())
    {
        Some(error) => *error,
        None => Error::start(text),
    }
}

fn not_found(name: &str) -> Error {
    let names = named::names();
    let hint = if name.contains(':') {
        format!("an address has a scheme: `Cluster::connect(\"tcp://{name}\")?`")
    } else if names.is_empty() {
        format!(
            "none is: `Cluster::local().name(\"{name}\").start()?` starts it, in another notebook or in this one"
        )
    } else {
        format!("there is: {}", names.join(", "))
    };
    Error::start(Message::new(format!("no cluster `{name}` is running on this machine")).hint(hint))
}

/// A cluster as it is found.
fn of_client(client: Arc<Client>, name: &str) -> Result<Cluster> {
    let info = client.workers()?.info()?;
    let first = info.workers.first();
    let spec = ClusterSpec {
        name: name.to_string(),
        workers: info.workers.len() as u32,
        threads: first.map_or(1, |w| w.threads),
        memory_limit: first.map_or(0, |w| w.memory_limit),
        ..ClusterSpec::default()
    };
    Ok(Cluster::of(client, spec))
}

/// The connection to the cluster of this name; to this notebook's or program's own without one.
pub(crate) fn client_of(name: &str) -> Result<Arc<Client>> {
    let own = client_at(&scheduler_socket()?)?;
    if name.is_empty() {
        return Ok(own);
    }
    client_at(Path::new(&own.neighbours()?.open(name)?))
}

/// The connection to the cluster that was started last. Tasks of one worker share one, also when many ask for it at once:
/// what one of them holds is then known to be held by that worker.
pub(crate) fn current_client() -> Result<Arc<Client>> {
    if let Some(client) = client::current() {
        return Ok(client);
    }
    let none = |error| match error {
        Error::Unsupported(_) => error,
        _ => Error::NoCluster,
    };
    let client = client_at(&scheduler_socket().map_err(none)?).map_err(none)?;
    if client.workers()?.info()?.workers.is_empty() {
        return Err(Error::NoCluster);
    }
    client::set_current(client.clone());
    Ok(client)
}

/// The connection to the scheduler at a socket: one for all that use it, for as long as anybody does.
fn client_at(socket: &Path) -> Result<Arc<Client>> {
    static CLIENTS: Mutex<Option<HashMap<PathBuf, Weak<Client>>>> = Mutex::new(None);
    let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
    let clients = clients.get_or_insert_default();
    let known = clients.get(socket).and_then(Weak::upgrade);
    if let Some(client) = known.filter(|client| !client.is_gone()) {
        return Ok(client);
    }
    let at = socket.to_path_buf();
    let client = Client::with_engine(Box::new(move |sink| Local::connect(&at, sink)))
        .map_err(|error| Error::Disconnected(error.to_string()))?;
    clients.insert(socket.to_path_buf(), Arc::downgrade(&client));
    Ok(client)
}

/// The hosting notebook says where its scheduler is; a worker's tasks are told by their host; a plain program
/// has its own.
pub(crate) fn scheduler_socket() -> Result<PathBuf> {
    if foreign::is_here() {
        return Err(Error::Unsupported(
            Message::new("a task on a cluster of another system cannot submit tasks of its own").hint(
                "give them to the cluster together, as a graph: `delayed!` calls, or `map` over what this task would have made",
            ),
        ));
    }
    match std::env::var_os("SKEP_RUN").filter(|_| is_hosted()) {
        Some(folder) => Ok(Path::new(&folder).join("scheduler.sock")),
        None => program::scheduler_socket().map_err(|error| Error::start(error.to_string())),
    }
}
