//! `skep disk`: what is in the cache, and what of it nothing needs any more.

use std::{
    collections::HashSet,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use serde_json::json;
use skep_session::{Message, cache_folder, crates_of_earlier_builds};

use crate::environment;

/// What is below the cache's folder, by the beginnings of names.
const PARTS: [(&str, &[&str]); 7] = [
    ("Skep, and what cells are compiled against", &["home"]),
    ("crates of `:dep`", &["deps"]),
    ("JupyterLab's Python", &[environment::LINK, environment::FOLDERS]),
    ("Python for tests and benchmarks", &["python-"]),
    ("compiled crates, for the next build", &["target"]),
    ("bundles, made or downloaded", &["bundle"]),
    ("all else: logs, sessions", &[""]),
];
/// Downloads and builds that stopped longer ago than this are not gone on with.
const LONG: Duration = Duration::from_secs(24 * 3600);

/// Prints what there is; with `clean` removes what nothing needs, and with `all` also what only speeds up the next build.
pub fn run(clean: bool, all: bool, is_json: bool) -> anyhow::Result<u8> {
    let cache = cache_folder();
    if clean {
        let before = size_of([&*cache]);
        for path in left_over(&cache)
            .into_iter()
            .chain(if all { rebuilt(&cache) } else { Vec::new() })
        {
            remove(&path).with_context(|| {
                Message::new(format!("{} could not be removed", path.display()))
                    .hint("is a build running? Wait for it, and run this again")
            })?;
        }
        let freed = before.saturating_sub(size_of([&*cache]));
        if !is_json {
            println!("Freed {}.\n", gigabytes(freed));
        }
    }
    let old = size_of(left_over(&cache).iter().map(PathBuf::as_path));
    let parts = parts(&cache);
    let total: u64 = parts.iter().map(|(_, bytes)| bytes).sum();
    let free = free_at(&cache);
    if is_json {
        let parts: Vec<_> = parts
            .iter()
            .map(|(name, bytes)| json!({ "name": name, "bytes": bytes }))
            .collect();
        let report =
            json!({ "folder": cache, "bytes": total, "free": free, "left_over": old, "parts": parts });
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(0);
    }
    println!("{}", cache.display());
    for (name, bytes) in &parts {
        println!("{:>9}  {name}", gigabytes(*bytes));
    }
    println!(
        "{:>9}  in all; {} are free there",
        gigabytes(total),
        gigabytes(free)
    );
    if old > 0 {
        println!(
            "\nOf this {} are left over from earlier versions: `skep disk --clean` removes them.",
            gigabytes(old)
        );
    }
    Ok(0)
}

/// Each part with its bytes; a file that is in two is counted in the first.
fn parts(cache: &Path) -> Vec<(&'static str, u64)> {
    let mut seen = HashSet::new();
    let mut left: Vec<PathBuf> = children(cache);
    PARTS
        .iter()
        .map(|(name, beginnings)| {
            let is_of = |path: &PathBuf| {
                let file = path.file_name().unwrap_or_default().to_string_lossy();
                // `python-test` is not JupyterLab's.
                beginnings.iter().any(|start| match *start {
                    environment::LINK => file == environment::LINK,
                    start => file.starts_with(start),
                })
            };
            let (of_this, others) = std::mem::take(&mut left).into_iter().partition(is_of);
            left = others;
            (*name, add_up(of_this, &mut seen))
        })
        .filter(|(_, bytes)| *bytes > 0)
        .collect()
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Bytes on disk of files and folders; a file with several names counts once.
pub fn size_of<'a>(paths: impl IntoIterator<Item = &'a Path>) -> u64 {
    add_up(
        paths.into_iter().map(Path::to_path_buf).collect(),
        &mut HashSet::new(),
    )
}

fn add_up(mut left: Vec<PathBuf>, seen: &mut HashSet<(u64, u64)>) -> u64 {
    let mut total = 0;
    while let Some(path) = left.pop() {
        let Ok(data) = fs::symlink_metadata(&path) else {
            continue;
        };
        if data.is_dir() {
            left.extend(children(&path));
        }
        if data.is_dir() || seen.insert((data.dev(), data.ino())) {
            total += data.blocks() * 512;
        }
    }
    total
}

/// What nothing needs any more.
fn left_over(cache: &Path) -> Vec<PathBuf> {
    let is_old = |path: &Path| {
        let age = fs::symlink_metadata(path)
            .and_then(|data| data.modified())
            .map(|modified| modified.elapsed().unwrap_or_default());
        age.is_ok_and(|age| age > LONG)
    };
    let name = |path: &Path| {
        path.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let stopped = children(cache).into_iter().filter(|path| {
        let name = name(path);
        ["home.new-", "home.old-", "check-"]
            .iter()
            .any(|start| name.starts_with(start))
            && is_old(path)
    });
    let downloads = children(&cache.join("bundles"))
        .into_iter()
        .filter(|path| is_old(path));
    let used = cache.join(environment::LINK).canonicalize().ok();
    let environments = children(cache)
        .into_iter()
        .filter(|path| name(path).starts_with(environment::FOLDERS) && is_old(path))
        .filter(|path| path.canonicalize().ok() != used);
    // What a first start opened with, when all is there and no session is left that began with it.
    let is_there = cache.join("home/toolchain.json").exists() && !cache.join("home").is_symlink();
    // The analyser's folder stays.
    let is_in_use = children(&cache.join("run"))
        .iter()
        .any(|path| !name(path).starts_with("assist-"));
    let first = Some(cache.join("home-first")).filter(|first| is_there && !is_in_use && first.exists());
    crates_of_earlier_builds(&cache.join("deps"))
        .into_iter()
        .chain(stopped)
        .chain(downloads)
        .chain(environments)
        .chain(first)
        .collect()
}

/// What is made again when it is needed.
fn rebuilt(cache: &Path) -> Vec<PathBuf> {
    let names = [
        "target",
        "target-assist",
        "deps",
        "bundle",
        "bundle-python",
        "bundles",
    ];
    let tests = children(cache).into_iter().filter(|path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("python-"))
    });
    names
        .iter()
        .map(|name| cache.join(name))
        .filter(|path| path.exists())
        .chain(tests)
        .collect()
}

fn remove(path: &Path) -> io::Result<()> {
    if path.is_dir() && !path.is_symlink() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
}

/// Bytes that a user may still write there.
pub fn free_at(folder: &Path) -> u64 {
    rustix::fs::statvfs(folder).map_or(0, |stat| stat.f_bavail * stat.f_frsize)
}

pub fn gigabytes(bytes: u64) -> String {
    if bytes < 100_000_000 {
        return format!("{:.0} MB", bytes as f64 / 1e6);
    }
    format!("{:.1} GB", bytes as f64 / 1e9)
}

#[test]
fn a_file_with_two_names_counts_once() {
    let folder = std::env::temp_dir().join(format!("skep-disk-{}", std::process::id()));
    fs::create_dir_all(folder.join("home")).unwrap();
    fs::create_dir_all(folder.join("target")).unwrap();
    fs::write(folder.join("home/a"), vec![1; 1_000_000]).unwrap();
    fs::hard_link(folder.join("home/a"), folder.join("target/a")).unwrap();
    fs::write(folder.join("target/b"), vec![1; 500_000]).unwrap();
    let parts = parts(&folder);
    fs::remove_dir_all(&folder).unwrap();
    let of = |part: &str| parts.iter().find(|(name, _)| name.contains(part)).unwrap().1;
    assert!((1_000_000..1_100_000).contains(&of("Skep")), "{parts:?}");
    assert!((500_000..600_000).contains(&of("compiled crates")), "{parts:?}");
}

#[test]
fn what_a_first_start_opened_with_goes_when_nothing_needs_it() {
    let folder = std::env::temp_dir().join(format!("skep-first-{}", std::process::id()));
    let cache = &*folder;
    let first = cache.join("home-first");
    fs::create_dir_all(&first).unwrap();
    fs::write(first.join("toolchain.json"), "{}").unwrap();
    std::os::unix::fs::symlink(&first, cache.join("home")).unwrap();
    assert!(left_over(cache).is_empty(), "it is all there is");
    fs::remove_file(cache.join("home")).unwrap();
    fs::create_dir_all(cache.join("home")).unwrap();
    fs::write(cache.join("home/toolchain.json"), "{}").unwrap();
    fs::create_dir_all(cache.join("run/17-abc")).unwrap();
    assert!(left_over(cache).is_empty(), "a session began with it");
    fs::remove_dir_all(cache.join("run/17-abc")).unwrap();
    fs::create_dir_all(cache.join("run/assist-0a")).unwrap();
    let found = left_over(cache);
    fs::remove_dir_all(cache).unwrap();
    assert_eq!(found, [first]);
}
