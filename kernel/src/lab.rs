//! `skep lab`: a private Python environment with JupyterLab, the kernelspec, and one link that logs in by
//! itself.

use std::{
    fs,
    io::Write,
    net::TcpListener,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, ensure};
use serde_json::json;
use skep_session::Message;
use skep_session::{Home, cache_folder};

use crate::{doctor, environment, kernelspec, shelf};

/// What `skep lab` was asked for.
#[derive(clap::Args)]
pub struct Options {
    /// Print the link, but open no browser.
    #[arg(long)]
    no_browser: bool,
    /// Set everything up, run lesson 1 without a browser, look at everything as `skep doctor` does, and exit with the result.
    #[arg(long)]
    check: bool,
    /// Set everything up, and open nothing.
    #[arg(long, conflicts_with = "check")]
    only: bool,
    /// The port; by default the first free one from 8888.
    #[arg(long)]
    port: Option<u16>,
    /// The folder to open; by default `~/skep-course`, filled with the course once.
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// What opens first.
const OVERVIEW: &str = "overview.ipynb";
/// What `--check` runs.
const LESSON: &str = "01-what-a-cluster-is/what-a-cluster-is.ipynb";

pub fn run(options: &Options) -> anyhow::Result<u8> {
    let home = Home::locate()?;
    let python = ready_python(&home)?;
    if options.only {
        println!(
            "Skep is ready: `{} lab` opens JupyterLab.",
            home.program().display()
        );
        return Ok(0);
    }
    if options.check {
        return check(&python);
    }
    serve(&python, options, OVERVIEW)
}

/// JupyterLab on one page of the course.
pub fn open(folder: Option<PathBuf>, page: &str) -> anyhow::Result<u8> {
    let python = ready_python(&Home::locate()?)?;
    let options = Options {
        only: false,
        no_browser: false,
        check: false,
        port: None,
        folder,
    };
    serve(&python, &options, page)
}

fn serve(python: &Path, options: &Options, page: &str) -> anyhow::Result<u8> {
    let folder = course_folder(options.folder.as_deref())?;
    let port = free_port(options.port)?;
    let token = token()?;
    let link = format!("http://127.0.0.1:{port}/lab/tree/{page}?token={token}");
    println!(
        "\nSkep is ready. The course is in {}.\n\n    {link}\n\nCtrl-C here ends it.",
        folder.display()
    );
    std::io::stdout().flush()?;
    let mut lab = Command::new(python);
    lab.args([
        "-m",
        "jupyterlab",
        "--ServerApp.ip=127.0.0.1",
        "--ServerApp.port_retries=0",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]);
    lab.arg(format!("--ServerApp.port={port}"))
        .arg(format!("--ServerApp.root_dir={}", folder.display()));
    // Not on the command line, which every user of the machine can read.
    lab.env("JUPYTER_TOKEN", &token);
    // A port that nobody has now, in place of one that others listen on: the sidebar asks there with Jupyter's own token.
    let (dashboard_port, dashboard_token) = (any_port()?, self::token()?);
    let settings = cache_folder().join("lab").join(port.to_string());
    write_settings(&settings, dashboard_port, &dashboard_token)?;
    lab.arg(format!("--LabApp.app_settings_dir={}", settings.display()));
    lab.env("SKEP_DASHBOARD_PORT", dashboard_port.to_string())
        .env("SKEP_DASHBOARD_TOKEN", &dashboard_token)
        .env("SKEP_PORTS_AT", "/proxy/{port}");
    lab.arg(format!("--LabApp.default_url=/lab/tree/{page}"))
        .arg("--ServerApp.log_level=WARN");
    if options.no_browser {
        lab.arg("--no-browser");
    }
    if is_root() {
        lab.arg("--allow-root");
    }
    // Jupyter takes this process's place, so that Ctrl-C and signals reach it as they would.
    Err(lab.exec()).context(Message::new("JupyterLab could not be started").hint(format!(
        "remove {} and run ./install/start again",
        python.ancestors().nth(2).unwrap_or(python).display()
    )))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The Python of JupyterLab's environment, which knows the kernel of this home.
pub fn ready_python(home: &Home) -> anyhow::Result<PathBuf> {
    let python = environment::ready(home)?;
    let folder = python.ancestors().nth(2).unwrap_or(&python);
    kernelspec::write(home, &folder.join("share/jupyter/kernels/skep"))?;
    Ok(python)
}

/// JupyterLab's settings for one start, where nobody else reads them: with the address at which the sidebar finds the page of
/// a cluster.
fn write_settings(folder: &Path, dashboard_port: u16, dashboard_token: &str) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let settings = json!({
        // A workshop's forty laptops need no question about news.
        "@jupyterlab/apputils-extension:notification": { "fetchNews": "false", "checkForUpdates": false },
        // The sidebar of Dask's extension docks the panes of Skep's page beside a notebook.
        "dask-labextension:plugin": {
            "defaultURL": format!("proxy/{dashboard_port}/with/{dashboard_token}"),
            "hideClusterManager": true,
        },
    });
    write_private(&folder.join("overrides.json"), &settings.to_string())
}

fn write_private(file: &Path, text: &str) -> anyhow::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let mut open = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(file)?;
    open.set_permissions(fs::Permissions::from_mode(0o600))?;
    open.write_all(text.as_bytes())?;
    Ok(())
}

/// A copy of the course to work in; what a learner wrote is never overwritten.
fn course_folder(chosen: Option<&Path>) -> anyhow::Result<PathBuf> {
    let folder = shelf::default_folder(chosen);
    shelf::lay_out(&folder).with_context(|| {
        Message::new(format!("the course could not be written to {}", folder.display()))
            .hint("choose another place with --folder")
    })?;
    Ok(folder)
}

fn free_port(wanted: Option<u16>) -> anyhow::Result<u16> {
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    match wanted {
        Some(port) => {
            ensure!(
                is_free(port),
                Message::new(format!("port {port} is taken")).hint("leave --port out, or name another one")
            );
            Ok(port)
        }
        None => (8888..8988).find(|port| is_free(*port)).context(
            Message::new("no port from 8888 to 8987 is free")
                .hint("end another Jupyter, or name one with --port"),
        ),
    }
}

fn any_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn token() -> anyhow::Result<String> {
    Ok(uuid::Uuid::new_v4().simple().to_string())
}

/// Runs lesson 1 by `nbclient` in a fresh folder.
fn check(python: &Path) -> anyhow::Result<u8> {
    let folder = cache_folder().join(format!("check-{}", std::process::id()));
    shelf::lay_out(&folder)?;
    println!("Lesson 1: running it without a browser (about half a minute) …");
    let began = Instant::now();
    let status = Command::new(python)
        .args([
            "-m",
            "nbconvert",
            "--to",
            "notebook",
            "--execute",
            "--inplace",
            "--log-level=WARN",
        ])
        .arg(folder.join(LESSON))
        .status()?;
    let _ = fs::remove_dir_all(&folder);
    println!(
        "Lesson 1: {} after {:.0} s",
        if status.success() { "passed" } else { "failed" },
        began.elapsed().as_secs_f64()
    );
    let is_well = doctor::run(false)?;
    Ok(u8::from(!status.success()).max(is_well))
}
