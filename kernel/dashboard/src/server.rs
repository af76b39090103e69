//! The threads: one follows the cluster, one answers browsers.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use skep_cluster::host::Host;

use crate::{
    pages,
    picture::Picture,
    shared::{EVERY, Shared, now_us},
    updates::Updates,
};

/// Where Dask's page is looked for, and so this one, if nobody is there.
const PORT: u16 = 8787;

/// A page that shows a cluster. Dropping it closes the page.
///
/// ```no_run
/// # fn of(host: std::sync::Arc<skep_cluster::host::Host>) -> std::io::Result<()> {
/// let dashboard = skep_dashboard::Dashboard::start(&host)?;
/// println!("{}", dashboard.url());
/// # Ok(())
/// # }
/// ```
pub struct Dashboard {
    address: SocketAddr,
    token: String,
    shared: Arc<Shared>,
}

impl Dashboard {
    /// Begins to follow the cluster, and to answer on this machine's own address: at the port of `SKEP_DASHBOARD_PORT`, or
    /// 8787, if that is free.
    ///
    /// # Errors
    /// When the scheduler has ended, or no port is free.
    pub fn start(host: &Arc<Host>) -> io::Result<Dashboard> {
        let subscription = host
            .subscribe()
            .ok_or_else(|| io::Error::other("the scheduler has ended"))?;
        let port = std::env::var("SKEP_DASHBOARD_PORT")
            .ok()
            .and_then(|port| port.parse().ok());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.unwrap_or(PORT)))
            .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let token = given_token().unwrap_or_else(|| uuid::Uuid::new_v4().simple().to_string());
        let shared = Arc::new(Shared {
            host: Arc::downgrade(host),
            token: token.clone(),
            updates: Updates::new(),
            picture: Mutex::new(Picture::new(&subscription.snapshot, now_us())),
            info: Mutex::new(subscription.snapshot.info.clone()),
            has_ended: AtomicBool::new(false),
            run: Mutex::default(),
        });
        let followed = shared.clone();
        thread::Builder::new()
            .name("dashboard".into())
            .spawn(move || followed.follow(subscription))?;
        let served = shared.clone();
        thread::Builder::new()
            .name("dashboard-http".into())
            .spawn(move || serve(listener, served))?;
        Ok(Dashboard {
            address,
            token,
            shared,
        })
    }

    /// The page, with what lets in who has it.
    pub fn url(&self) -> String {
        format!("http://{}/?token={}", self.address, self.token)
    }
}

/// What lets in, where somebody has to know it before the page is opened: `skep lab` tells JupyterLab's sidebar.
fn given_token() -> Option<String> {
    let token = std::env::var("SKEP_DASHBOARD_TOKEN").ok()?;
    let is_safe = token.len() >= 32 && token.chars().all(|c| c.is_ascii_alphanumeric());
    is_safe.then_some(token)
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        self.shared.has_ended.store(true, Ordering::Relaxed);
    }
}

fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return;
    };
    runtime.block_on(async move {
        let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
            return;
        };
        let watched = shared.clone();
        let ended = async move {
            while !watched.has_ended() {
                tokio::time::sleep(EVERY).await;
            }
        };
        // What is under way, as a stream of updates, ends with it.
        tokio::select! {
            _ = axum::serve(listener, pages::routes(shared)) => {}
            () = ended => tokio::time::sleep(EVERY).await,
        }
    });
}
