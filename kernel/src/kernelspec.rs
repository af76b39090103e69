//! `skep install` and `skep uninstall`: the kernel in a Jupyter that is there already, and so in VS Code.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use skep_session::{Home, Message, cache_folder};

/// Where a kernel is registered.
#[derive(clap::Args)]
pub struct Place {
    /// For this user, wherever their Jupyter is; this is what happens without an option.
    #[arg(long)]
    user: bool,
    /// For the Python environment in this folder.
    #[arg(long, conflicts_with = "user", value_name = "FOLDER")]
    prefix: Option<PathBuf>,
}

impl Place {
    fn folder(&self) -> PathBuf {
        let data = match &self.prefix {
            Some(prefix) => prefix.join("share/jupyter"),
            None => of_user(),
        };
        data.join("kernels/skep")
    }
}

/// Where Jupyter looks for what a user has installed.
fn of_user() -> PathBuf {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let home = || set("HOME").unwrap_or_default();
    if let Some(data) = set("JUPYTER_DATA_DIR") {
        return data;
    }
    if cfg!(target_os = "macos") {
        return home().join("Library/Jupyter");
    }
    set("XDG_DATA_HOME")
        .unwrap_or_else(|| home().join(".local/share"))
        .join("jupyter")
}

const PREFIX: &str =
    "name the folder of a Python environment: `python3 -c 'import sys; print(sys.prefix)'` prints it";

fn is_python_in(prefix: &Path) -> bool {
    ["bin/python", "bin/python3", "share/jupyter"]
        .iter()
        .any(|part| prefix.join(part).exists())
}

/// Registers the kernel.
pub fn install(place: &Place) -> anyhow::Result<u8> {
    let home = Home::locate()?;
    if let Some(prefix) = &place.prefix {
        ensure!(
            prefix.is_dir(),
            Message::new(format!("there is no folder {}", prefix.display())).hint(PREFIX)
        );
        if !is_python_in(prefix) {
            let note = format!(
                "there is no Python in {}: no Jupyter may look there",
                prefix.display()
            );
            println!("note: {}", Message::new(note).hint(PREFIX));
        }
    }
    let folder = place.folder();
    write(&home, &folder).with_context(|| {
        Message::new(format!(
            "the kernel could not be registered in {}",
            folder.display()
        ))
        .hint("is the folder yours? `skep install --prefix FOLDER` takes another place")
    })?;
    if place.prefix.is_none()
        && let Some(link) = link()
        && link_to(&link, &home.program())
    {
        println!("`skep` is in your path: {}.", link.display());
    }
    println!(
        "The kernel `Rust (Skep)` is in {}.\nJupyter and VS Code offer it when they are started next; `skep uninstall` takes it away.",
        folder.display()
    );
    Ok(0)
}

/// Takes the kernel away, and on request what was built.
pub fn uninstall(place: &Place, with_cache: bool) -> anyhow::Result<u8> {
    let folder = place.folder();
    if is_ours(&folder) {
        fs::remove_dir_all(&folder).with_context(|| {
            Message::new(format!("{} could not be removed", folder.display())).hint("is the folder yours?")
        })?;
        println!("The kernel was taken out of {}.", folder.display());
    } else {
        println!("No kernel of Skep's is in {}.", folder.display());
    }
    if place.prefix.is_none()
        && let Some(link) = link().filter(|link| is_link_of_ours(link))
    {
        let _ = fs::remove_file(&link);
        println!("{} was removed.", link.display());
    }
    let cache = cache_folder();
    if !with_cache {
        println!(
            "What was built stays in {}; --cache removes it too.",
            cache.display()
        );
        return Ok(0);
    }
    ensure!(
        cache.join("home/toolchain.json").is_file(),
        Message::new(format!("{} is no cache of Skep's", cache.display()))
            .hint("nothing was removed there; is SKEP_CACHE another folder?")
    );
    fs::remove_dir_all(&cache).with_context(|| {
        Message::new(format!("{} could not be removed", cache.display()))
            .hint("does a notebook still run? End it, and run this again")
    })?;
    println!(
        "{} was removed. The notebooks of the course, the history and the store of flows are not in it, and stay.",
        cache.display()
    );
    Ok(0)
}

/// Where a user's own programs are, if a shell looks there.
fn link() -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os("HOME").filter(|home| !home.is_empty())?).join(".local/bin");
    let path = std::env::var_os("PATH")?;
    let is_looked_in = std::env::split_paths(&path).any(|looked| looked == folder);
    is_looked_in.then(|| folder.join("skep"))
}

/// A program of that name may be somebody else's.
fn is_link_of_ours(link: &Path) -> bool {
    fs::read_link(link).is_ok_and(|to| to.ends_with("home/bin/skep"))
}

/// Makes a link, unless something else is there.
fn link_to(link: &Path, program: &Path) -> bool {
    if is_link_of_ours(link) {
        let _ = fs::remove_file(link);
    }
    let folder = link.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).is_ok() && std::os::unix::fs::symlink(program, link).is_ok()
}

/// A kernel of that name may be somebody else's.
fn is_ours(folder: &Path) -> bool {
    let spec = fs::read(folder.join("kernel.json")).unwrap_or_default();
    let spec: Value = serde_json::from_slice(&spec).unwrap_or_default();
    spec["env"]["SKEP_HOME"].is_string()
}

/// The kernel of this home, in a folder of kernels.
pub fn write(home: &Home, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let spec = json!({
        "argv": [home.program(), "kernel", "--connection-file", "{connection_file}"],
        "display_name": "Rust (Skep)",
        "language": "rust",
        "interrupt_mode": "message",
        "env": { "SKEP_HOME": home.named(), "SKEP_CACHE": cache_folder() },
        "metadata": { "debugger": false },
    });
    fs::write(folder.join("kernel.json"), serde_json::to_string_pretty(&spec)?)?;
    let logo = home.root().join("share/logo.svg");
    if logo.exists() {
        fs::copy(logo, folder.join("logo-svg.svg"))?;
    }
    Ok(())
}
