//! `skep serve-bundle`: hands a bundle out in a room, shows who has it, and takes what laptops report.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, File},
    io::{Read, SeekFrom, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, ensure};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, DefaultBodyLimit, Path as Named, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use skep_session::Message;
use tokio::{
    io::{AsyncReadExt, AsyncSeekExt},
    time::timeout,
};

/// What laptops run: it fetches, checks and unpacks.
pub const TAKES: &str = include_str!("../../install/bundle.py");
/// Of the file, sent at a time.
const CHUNK: usize = 256 << 10;
/// How long a laptop may take nothing.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of one report; `skep doctor --json` writes two thousand.
const LONGEST_REPORT: usize = 256 << 10;
/// Reports and laptops that are kept: rooms are smaller, and a disk is not filled by whoever is in one.
const MOST: usize = 500;

/// What `skep serve-bundle` was asked for.
#[derive(clap::Args)]
pub struct Options {
    /// What `./install/bundle` made.
    file: PathBuf,
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// Where reports of laptops go.
    #[arg(long, value_name = "FOLDER", default_value = "skep-reports")]
    reports: PathBuf,
}

/// A laptop of the room.
#[derive(Clone, Debug, Default)]
struct Laptop {
    name: String,
    /// How far into the file it is.
    reached: u64,
    /// What it said last.
    said: Option<String>,
}

struct Room {
    file: PathBuf,
    size: u64,
    reports: PathBuf,
    laptops: Mutex<BTreeMap<IpAddr, Laptop>>,
}

impl Room {
    /// Notes something of a laptop; says so when it is worth a line.
    fn note(&self, of: SocketAddr, headers: &HeaderMap, what: impl FnOnce(&mut Laptop) -> Option<String>) {
        let mut laptops = self.laptops.lock().unwrap_or_else(PoisonError::into_inner);
        if laptops.len() >= MOST && !laptops.contains_key(&of.ip()) {
            return;
        }
        let laptop = laptops.entry(of.ip()).or_default();
        if let Some(name) = headers.get("Skep-Host").and_then(|name| name.to_str().ok()) {
            laptop.name = plain(name);
        }
        let line = what(laptop).map(|line| format!("{} ({}): {line}", of.ip(), laptop.name));
        let n_set_up = laptops.values().filter(|laptop| laptop.said.is_some()).count();
        let n_whole = laptops
            .values()
            .filter(|laptop| laptop.reached >= self.size)
            .count();
        if let Some(line) = line {
            println!(
                "{line}   [{n_whole} have it, {n_set_up} set up, of {}]",
                laptops.len()
            );
        }
    }

    /// How far a laptop is; a line for each quarter.
    fn advance(&self, of: SocketAddr, headers: &HeaderMap, reached: u64) {
        let quarter = |at: u64| at * 4 / self.size.max(1);
        self.note(of, headers, |laptop| {
            let before = laptop.reached;
            laptop.reached = before.max(reached);
            (quarter(before) < quarter(laptop.reached)).then(|| match quarter(laptop.reached) {
                4 => "has it all".to_string(),
                quarter => format!("has {} %", quarter * 25),
            })
        });
    }

    fn table(&self) -> String {
        let laptops = self.laptops.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for (address, laptop) in laptops.iter() {
            let percent = laptop.reached * 100 / self.size.max(1);
            let said = laptop.said.as_deref().unwrap_or("");
            let _ = writeln!(text, "{address:<16} {:<24} {percent:>3} %  {said}", laptop.name);
        }
        text
    }
}

/// A name that may be shown, and be a file's.
fn plain(name: &str) -> String {
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ');
    let name: String = name.chars().filter(is_plain).take(64).collect();
    name.trim_matches([' ', '.']).to_string()
}

/// Serves until it is stopped.
pub fn run(options: &Options) -> anyhow::Result<u8> {
    let mut head = [0; 4];
    let mut file = File::open(&options.file).with_context(|| {
        Message::new(format!("{} cannot be read", options.file.display()))
            .hint("`./install/bundle` makes a bundle, and says where it is")
    })?;
    let n = file.read(&mut head)?;
    ensure!(
        n == 4 && head == 0x184D_2A50_u32.to_le_bytes(),
        Message::new(format!("{} is no bundle of Skep's", options.file.display()))
            .hint("a bundle is made by ./install/bundle, and its name ends in .tar.zst")
    );
    let room = Arc::new(Room {
        size: file.metadata()?.len(),
        file: options.file.clone(),
        reports: options.reports.clone(),
        laptops: Mutex::default(),
    });
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, options.port))
            .await
            .with_context(|| {
                Message::new(format!("port {} is taken", options.port)).hint("name another one with --port")
            })?;
        let at = SocketAddr::new(own_address(), listener.local_addr()?.port());
        println!(
            "On every laptop of this network:\n\n  curl -fsS http://{at} | sh\n\nThey go on where they stopped when the network was gone. Who has it: http://{at}/who\nReports (`skep doctor --json | curl -fsST - http://{at}/report/doctor`) go to {}.\nCtrl-C ends it.",
            options.reports.display()
        );
        let app = Router::new()
            .route("/", get(script))
            .route("/skep.tar.zst", get(bundle))
            .route("/who", get(|State(room): State<Arc<Room>>| async move { room.table() }))
            .route("/told/{what}", post(told))
            .route("/report/{what}", post(report).put(report))
            .layer(DefaultBodyLimit::max(LONGEST_REPORT))
            .with_state(room)
            .into_make_service_with_connect_info::<SocketAddr>();
        // A laptop may be in the middle of it, or asleep: nobody waits for that one.
        tokio::select! {
            served = async { axum::serve(listener, app).await } => served?,
            _ = tokio::signal::ctrl_c() => {}
        }
        Ok(0)
    })
}

/// The address that others of the network see: nothing is sent for that.
fn own_address() -> IpAddr {
    let asked = || -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        // An address of the documentation's: the way to it is the way out.
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        Ok(socket.local_addr()?.ip())
    };
    asked().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// The line's other end: a script for any shell.
async fn script(headers: HeaderMap) -> Response {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .filter(|host| {
            host.chars()
                .all(|c| c.is_ascii_alphanumeric() || ".:-[]".contains(c))
        })
        .unwrap_or("127.0.0.1");
    format!(
        "# Sets Skep up from this machine of the room: http://{host}\nset -eu\n\
         command -v python3 >/dev/null || {{ echo 'error: python3 is not there' >&2; echo 'hint: install Python 3.11 or newer (Debian: apt-get install python3 python3-venv)' >&2; exit 1; }}\n\
         folder=$(mktemp -d)\ntrap 'rm -rf \"$folder\"' EXIT\n\
         cat >\"$folder/bundle.py\" <<'END_OF_BUNDLE_PY'\n{TAKES}END_OF_BUNDLE_PY\n\
         if [ -t 1 ] && [ -r /dev/tty ]; then python3 \"$folder/bundle.py\" take http://{host}/skep.tar.zst \"$@\" </dev/tty; else python3 \"$folder/bundle.py\" take http://{host}/skep.tar.zst \"$@\"; fi\n"
    )
    .into_response()
}

/// Where a request begins and ends in a file of this size; `None` for what lies outside.
fn range(headers: &HeaderMap, size: u64) -> Option<(u64, u64)> {
    let Some(asked) = headers.get(header::RANGE).and_then(|range| range.to_str().ok()) else {
        return Some((0, size));
    };
    let (from, to) = asked.strip_prefix("bytes=")?.split_once('-')?;
    let from: u64 = from.parse().ok()?;
    let to = if to.is_empty() {
        size
    } else {
        to.parse::<u64>().ok()?.saturating_add(1).min(size)
    };
    (from < to).then_some((from, to))
}

async fn bundle(
    State(room): State<Arc<Room>>,
    ConnectInfo(of): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    let size = room.size;
    let Some((from, to)) = range(&headers, size) else {
        return (
            StatusCode::RANGE_NOT_SATISFIABLE,
            [(header::CONTENT_RANGE, format!("bytes */{size}"))],
        )
            .into_response();
    };
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<std::io::Result<Bytes>>(2);
    let (of_laptop, said) = (room.clone(), headers.clone());
    tokio::spawn(async move {
        let send = async || -> std::io::Result<()> {
            let mut file = tokio::fs::File::open(&of_laptop.file).await?;
            file.seek(SeekFrom::Start(from)).await?;
            let mut at = from;
            while at < to {
                let mut chunk = vec![0; CHUNK.min((to - at) as usize)];
                file.read_exact(&mut chunk).await?;
                at += chunk.len() as u64;
                // Gone, or it takes nothing any more: its lid was closed. What is open for it ends, and it asks again.
                if !matches!(timeout(PATIENCE, sender.send(Ok(chunk.into()))).await, Ok(Ok(()))) {
                    return Err(std::io::ErrorKind::TimedOut.into());
                }
                of_laptop.advance(of, &said, at);
            }
            Ok(())
        };
        if let Err(error) = send().await {
            let _ = sender.try_send(Err(error));
        }
    });
    let chunks = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
    (
        StatusCode::PARTIAL_CONTENT,
        [
            (header::CONTENT_TYPE, "application/zstd".to_string()),
            (header::CONTENT_LENGTH, (to - from).to_string()),
            (header::CONTENT_RANGE, format!("bytes {from}-{}/{size}", to - 1)),
            (header::ACCEPT_RANGES, "bytes".to_string()),
        ],
        Body::from_stream(chunks),
    )
        .into_response()
}

async fn told(
    State(room): State<Arc<Room>>,
    ConnectInfo(of): ConnectInfo<SocketAddr>,
    Named(what): Named<String>,
    headers: HeaderMap,
) {
    let what = plain(&what);
    room.note(of, &headers, |laptop| {
        laptop.said = Some(what.clone());
        Some(what)
    });
}

/// Keeps what a laptop reports: a file for each laptop and kind.
async fn report(
    State(room): State<Arc<Room>>,
    ConnectInfo(of): ConnectInfo<SocketAddr>,
    Named(kind): Named<String>,
    headers: HeaderMap,
    content: Bytes,
) -> Result<&'static str, (StatusCode, String)> {
    let refused = |why: String| (StatusCode::BAD_REQUEST, format!("{why}\n"));
    let report: serde_json::Value =
        serde_json::from_slice(&content).map_err(|error| refused(format!("this is no JSON: {error}")))?;
    let name = report["host"].as_str().map(plain).filter(|name| !name.is_empty());
    let name = name.unwrap_or_else(|| of.ip().to_string().replace(':', "-"));
    let kind = plain(&kind);
    let write = || -> std::io::Result<()> {
        fs::create_dir_all(&room.reports)?;
        let file = room.reports.join(format!("{name}-{kind}.json"));
        if !file.exists() && fs::read_dir(&room.reports)?.count() >= MOST {
            return Err(std::io::Error::other("there are too many reports already"));
        }
        File::create(file)?.write_all(&content)
    };
    write().map_err(|error| refused(format!("the report could not be kept: {error}")))?;
    let how = match report["ok"].as_bool() {
        Some(true) => ": all in order",
        Some(false) => ": not in order",
        None => "",
    };
    room.note(of, &headers, |laptop| {
        laptop.name = name;
        Some(format!("reports {kind}{how}"))
    });
    Ok("thank you\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_a_file() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, text.parse().unwrap());
            range(&headers, 100)
        };
        assert_eq!(range(&HeaderMap::new(), 100), Some((0, 100)));
        assert_eq!(of("bytes=10-"), Some((10, 100)));
        assert_eq!(of("bytes=0-9"), Some((0, 10)));
        assert_eq!(of("bytes=90-900"), Some((90, 100)));
        for outside in ["bytes=100-", "bytes=9-3", "bytes=-5", "lines=1-2", "bytes=a-"] {
            assert_eq!(of(outside), None, "{outside}");
        }
    }

    #[test]
    fn names_stay_in_their_folder() {
        assert_eq!(plain("../../etc/passwd"), "etcpasswd");
        assert_eq!(plain(" bee's laptop\n"), "bees laptop");
    }
}
