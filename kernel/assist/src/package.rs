//! The package that the analyser reads: one file that depends on the crate that cells see.
//!
//! Written as a `rust-project.json`, which names each crate: of the three hundred below Skep only those are
//! read whose types people complete. The others cost memory in proportion to their code, and their types stay
//! unknown.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

/// Besides Skep's own crates.
const READ: &[&str] = &[
    "plotters",
    "polars",
    "polars-buffer",
    "polars-core",
    "polars-dtype",
    "polars-error",
    "polars-io",
    "polars-lazy",
    "polars-ops",
    "polars-plan",
    "polars-schema",
    "polars-sql",
    "polars-time",
    "polars-utils",
    "serde",
    "serde_core",
    "serde_json",
    "tokio",
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    targets: Vec<Target>,
    manifest_path: PathBuf,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
    src_path: PathBuf,
    edition: String,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<NodeDep>,
    features: Vec<String>,
}

#[derive(Deserialize)]
struct NodeDep {
    name: String,
    pkg: String,
}

#[derive(Serialize)]
struct Project {
    #[serde(skip_serializing_if = "Option::is_none")]
    sysroot_src: Option<PathBuf>,
    crates: Vec<Crate>,
}

#[derive(Serialize)]
struct Crate {
    display_name: String,
    root_module: PathBuf,
    edition: String,
    version: String,
    deps: Vec<Dep>,
    cfg: Vec<String>,
    env: HashMap<&'static str, String>,
    is_workspace_member: bool,
}

#[derive(Serialize)]
struct Dep {
    #[serde(rename = "crate")]
    index: usize,
    name: String,
}

/// Writes the package to `folder`, with the versions that `libskep.so` was built from. Only sources that are
/// there already are read: cargo is told to stay offline. Returns the project's file.
pub fn write(folder: &Path, checkout: &Path) -> anyhow::Result<PathBuf> {
    let lock = checkout.join("Cargo.lock");
    ensure!(
        lock.exists(),
        "the sources that Skep was built from are not at {}\nhint: run ./install/start in the checkout again",
        checkout.display()
    );
    fs::create_dir_all(folder.join("src"))?;
    let skep = checkout.join("kernel/skep");
    let manifest = format!(
        "[package]\nname = \"notebook\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n[dependencies]\nskep = {{ path = {:?} }}\n",
        skep.display().to_string()
    );
    fs::write(folder.join("Cargo.toml"), manifest)?;
    fs::copy(&lock, folder.join("Cargo.lock"))?;
    fs::write(folder.join("src/lib.rs"), "")?;
    let project = Project {
        sysroot_src: standard_library(folder)?,
        crates: crates(&metadata(folder)?, checkout),
    };
    let file = folder.join("rust-project.json");
    fs::write(&file, serde_json::to_vec(&project)?)?;
    Ok(file)
}

fn metadata(folder: &Path) -> anyhow::Result<Metadata> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["metadata", "--offline", "--format-version", "1"])
        .current_dir(folder);
    // Sources of other platforms' crates were never fetched.
    if let Some(host) = host() {
        command.args(["--filter-platform", &host]);
    }
    let done = command.output().context("cargo could not be run")?;
    ensure!(
        done.status.success(),
        "the notebook's package could not be read: {}",
        String::from_utf8_lossy(&done.stderr).trim()
    );
    serde_json::from_slice(&done.stdout)
        .context("what cargo says of the notebook's package was not understood")
}

/// The platform that this machine's compiler builds for.
fn host() -> Option<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = String::from_utf8(Command::new(rustc).arg("-vV").output().ok()?.stdout).ok()?;
    said.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_string)
}

/// The notebook first, and of what it stands on what is to be read.
fn crates(metadata: &Metadata, checkout: &Path) -> Vec<Crate> {
    let is_read = |package: &Package| {
        package.name == "notebook"
            || package.manifest_path.starts_with(checkout)
            || READ.contains(&package.name.as_str())
    };
    let library = |package: &Package| {
        package.targets.iter().position(|target| {
            target
                .kind
                .iter()
                .any(|kind| matches!(kind.as_str(), "lib" | "rlib" | "dylib"))
        })
    };
    let chosen: Vec<(&Package, &Target)> = metadata
        .packages
        .iter()
        .filter(|package| is_read(package))
        .filter_map(|package| Some((package, &package.targets[library(package)?])))
        .collect();
    let index: HashMap<&str, usize> = chosen
        .iter()
        .enumerate()
        .map(|(at, (package, _))| (package.id.as_str(), at))
        .collect();
    let nodes: HashMap<&str, &Node> = metadata
        .resolve
        .nodes
        .iter()
        .map(|node| (node.id.as_str(), node))
        .collect();
    let to_crate = |(package, target): &(&Package, &Target)| {
        let node = nodes.get(package.id.as_str());
        let deps = node.iter().flat_map(|node| &node.deps).filter_map(|dep| {
            Some(Dep {
                index: *index.get(dep.pkg.as_str())?,
                name: dep.name.clone(),
            })
        });
        let features = node
            .iter()
            .flat_map(|node| &node.features)
            .map(|feature| format!("feature=\"{feature}\""));
        let folder = package
            .manifest_path
            .parent()
            .unwrap_or(Path::new("/"))
            .display()
            .to_string();
        Crate {
            display_name: package.name.replace('-', "_"),
            root_module: target.src_path.clone(),
            edition: target.edition.clone(),
            version: package.version.clone(),
            deps: deps.collect(),
            cfg: features.collect(),
            env: HashMap::from([
                ("CARGO_MANIFEST_DIR", folder),
                ("CARGO_PKG_VERSION", package.version.clone()),
            ]),
            is_workspace_member: package.name == "notebook",
        }
    };
    chosen.iter().map(to_crate).collect()
}

/// The standard library's sources without their own manifest: with it cargo would look for crates that are
/// not there offline, and without it rust-analyzer puts the library together by itself.
fn standard_library(folder: &Path) -> anyhow::Result<Option<PathBuf>> {
    let Some(sources) = std::env::var_os("RUST_SRC_PATH")
        .map(PathBuf::from)
        .filter(|path| path.join("std/src/lib.rs").exists())
    else {
        return Ok(None);
    };
    let library = folder.join("library");
    let _ = fs::remove_dir_all(&library);
    fs::create_dir_all(&library)?;
    for entry in fs::read_dir(&sources)?
        .flatten()
        .filter(|entry| entry.path().is_dir() && entry.file_name() != "vendor")
    {
        std::os::unix::fs::symlink(entry.path(), library.join(entry.file_name()))?;
    }
    Ok(Some(library))
}
