//! Frames as files: a folder with one file for each partition.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use polars::prelude::{
    CsvWriter, DataFrame, IpcWriter, JsonFormat, JsonWriter, ParquetWriter, PolarsError, PolarsResult,
    SerWriter,
};
use skep_cluster::Delayed;
use skep_render::Message;

use crate::{Error, Frame, Result, source::Kind};

/// What files can be, by their ending.
const PARQUET: &str = "parquet";
const CSV: &str = "csv";
const IPC: &str = "arrow";
const NDJSON: &str = "ndjson";

/// What files of partitions are called, with a number of five digits.
const PART: &str = "part-";

impl Frame {
    /// Writes one Parquet file for each partition into `folder`, and returns the number of rows. Files of an earlier write are
    /// replaced once all new ones are whole; until then, and when a task fails, the folder is as it was. These are files with names
    /// such as `part-00003.parquet`; all others stay.
    ///
    /// # Errors
    /// As [`Frame::collect`], when a file cannot be written, and when the frame reads files that it would replace.
    pub fn write_parquet(&self, folder: impl AsRef<Path>) -> Result<usize> {
        self.write(folder.as_ref(), PARQUET, &[])
    }

    /// As [`Frame::write_parquet`], in a folder for each value of the keys: `year=2024/part-00000.parquet`.
    ///
    /// # Errors
    /// As [`Frame::write_parquet`].
    pub fn write_parquet_by<'a>(
        &self,
        folder: impl AsRef<Path>,
        keys: impl IntoIterator<Item = &'a str>,
    ) -> Result<usize> {
        let keys: Vec<String> = keys.into_iter().map(ToString::to_string).collect();
        let schema = self.schema()?;
        if let Some(unknown) = keys.iter().find(|key| !schema.contains(key)) {
            return Err(Error::Schema(
                Message::new(format!("there is no column `{unknown}` to write by")).hint(format!(
                    "there is {}",
                    schema
                        .iter_names()
                        .map(ToString::to_string)
                        .collect::<Vec<_>>()
                        .join(", ")
                )),
            ));
        }
        self.write(folder.as_ref(), PARQUET, &keys)
    }

    /// As [`Frame::write_parquet`], as CSV with a header each.
    ///
    /// # Errors
    /// As [`Frame::write_parquet`].
    pub fn write_csv(&self, folder: impl AsRef<Path>) -> Result<usize> {
        self.write(folder.as_ref(), CSV, &[])
    }

    /// As [`Frame::write_parquet`], as Arrow IPC.
    ///
    /// # Errors
    /// As [`Frame::write_parquet`].
    pub fn write_ipc(&self, folder: impl AsRef<Path>) -> Result<usize> {
        self.write(folder.as_ref(), IPC, &[])
    }

    /// As [`Frame::write_parquet`], as one JSON object a line.
    ///
    /// # Errors
    /// As [`Frame::write_parquet`].
    pub fn write_ndjson(&self, folder: impl AsRef<Path>) -> Result<usize> {
        self.write(folder.as_ref(), NDJSON, &[])
    }

    fn write(&self, folder: &Path, ending: &str, keys: &[String]) -> Result<usize> {
        let cannot = |path: &Path, error: io::Error| {
            Error::Source(
                Message::new(format!("{}: {error}", path.display()))
                    .hint("choose a folder that can be written, and has room"),
            )
        };
        let folder = std::path::absolute(folder).map_err(|error| cannot(folder, error))?;
        fs::create_dir_all(&folder).map_err(|error| cannot(&folder, error))?;
        let parts_there = || parts_in(&folder, ending).map_err(|error| cannot(&folder, error));
        self.replaces_none_of_its_own(&parts_there()?)?;
        let unfinished = Unfinished::new(&folder).map_err(|error| cannot(&folder, error))?;
        let writes: Vec<Delayed<u64>> = self
            .delayed()?
            .iter()
            .enumerate()
            .map(|(i, part)| {
                let to = unfinished.0.to_string_lossy().into_owned();
                let name = format!("{PART}{i:05}.{ending}");
                Delayed::impure(write, (part, to, name, ending.to_string(), keys.to_vec()))
            })
            .collect();
        let cluster = self.cluster()?;
        let written = cluster.compute_all(&writes)?;
        let n_rows: u64 = cluster.gather(&written)?.into_iter().sum();
        let before = parts_there()?;
        let new = parts_in(&unfinished.0, ending).map_err(|error| cannot(&folder, error))?;
        for old in before {
            fs::remove_file(&old).map_err(|error| cannot(&old, error))?;
        }
        for file in new {
            let below = file.strip_prefix(&unfinished.0).unwrap_or(&file);
            let to = folder.join(below);
            let moved = to
                .parent()
                .map_or(Ok(()), fs::create_dir_all)
                .and_then(|()| fs::rename(&file, &to));
            moved.map_err(|error| cannot(&to, error))?;
        }
        Ok(n_rows as usize)
    }

    /// What is read when it is needed must be there until then.
    fn replaces_none_of_its_own(&self, files: &[PathBuf]) -> Result<()> {
        let files: BTreeSet<PathBuf> = files.iter().filter_map(|file| file.canonicalize().ok()).collect();
        let query = self.query()?;
        let mut parts = query.leaves.iter().flat_map(|leaf| match &leaf.source.kind {
            Kind::Parts(parts) => parts.as_slice(),
            _ => &[],
        });
        let read = parts.find_map(|part| {
            let file = part.file()?.canonicalize().ok()?;
            files.contains(&file).then_some(file)
        });
        match read {
            None => Ok(()),
            Some(file) => Err(Error::Source(
                Message::new(format!(
                    "{} is a file that this frame reads, and writing here would replace it",
                    file.display()
                ))
                .hint("write into another folder"),
            )),
        }
    }
}

/// Files on their way, beside where they go; gone with this, also when a write fails.
struct Unfinished(PathBuf);

impl Unfinished {
    fn new(folder: &Path) -> io::Result<Unfinished> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Of writes that were killed.
        for entry in fs::read_dir(folder)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let pid = name
                .strip_prefix(".unfinished-")
                .and_then(|rest| rest.split('-').next());
            if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!(".unfinished-{}-{n}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Unfinished(path))
    }
}

impl Drop for Unfinished {
    /// A task of a write that failed may still be at it on another worker. It finds no folder under the name that it
    /// knows, so nothing comes back behind what is removed here.
    fn drop(&mut self) {
        let mut name = self.0.file_name().unwrap_or_default().to_owned();
        name.push("-removed");
        let removed = self.0.with_file_name(name);
        let path = match fs::rename(&self.0, &removed) {
            Ok(()) => &removed,
            Err(_) => &self.0,
        };
        // A file that was being made while the folder changed its name is there by the second time.
        for _ in 0..3 {
            if fs::remove_dir_all(path).is_ok() || !path.exists() {
                break;
            }
        }
    }
}

/// What a write has left in a folder: its files, and those in folders of keys.
fn parts_in(folder: &Path, ending: &str) -> io::Result<Vec<PathBuf>> {
    let mut parts = Vec::new();
    for entry in fs::read_dir(folder)?.flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() && name.contains('=') && !name.starts_with('.') {
            parts.extend(parts_in(&path, ending)?);
        } else if is_part(&name, ending) {
            parts.push(path);
        }
    }
    Ok(parts)
}

fn is_part(name: &str, ending: &str) -> bool {
    name.strip_prefix(PART)
        .and_then(|rest| rest.strip_suffix(ending)?.strip_suffix('.'))
        .is_some_and(|number| number.len() >= 5 && number.bytes().all(|c| c.is_ascii_digit()))
}

/// A task: one partition as a file, or as one for each value of the keys.
fn write(
    frame: DataFrame,
    folder: String,
    name: String,
    ending: String,
    keys: Vec<String>,
) -> PolarsResult<u64> {
    let n_rows = frame.height() as u64;
    if keys.is_empty() {
        one(frame, &Path::new(&folder).join(&name), &ending)?;
        return Ok(n_rows);
    }
    for group in frame.partition_by_stable(keys.iter().map(String::as_str), true)? {
        let mut path = PathBuf::from(&folder);
        for key in &keys {
            let value = group.column(key)?.get(0)?;
            path.push(format!("{key}={}", folder_name(&value)));
            // One level at a time: the first is removed when another partition fails, and is not to come back.
            match fs::create_dir(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(failed(&path, &error));
                }
                _ => {}
            }
        }
        one(
            group.drop_many(keys.iter().map(String::as_str)),
            &path.join(&name),
            &ending,
        )?;
    }
    Ok(n_rows)
}

/// As Hive writes values into paths.
fn folder_name(value: &polars::prelude::AnyValue<'_>) -> String {
    let text = match value {
        polars::prelude::AnyValue::Null => return "__HIVE_DEFAULT_PARTITION__".to_string(),
        value => value.str_value().into_owned(),
    };
    let mut name = String::new();
    for c in text.chars() {
        if c.is_control() || "\"#%'*/:=?\\{[]^".contains(c) {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                name.push_str(&format!("%{byte:02X}"));
            }
        } else {
            name.push(c);
        }
    }
    name
}

fn failed(path: &Path, error: &dyn std::fmt::Display) -> PolarsError {
    PolarsError::ComputeError(format!("{}: {error}", path.display()).into())
}

fn one(mut frame: DataFrame, path: &Path, ending: &str) -> PolarsResult<()> {
    let file = fs::File::create(path).map_err(|error| failed(path, &error))?;
    let written = match ending {
        PARQUET => ParquetWriter::new(&file).finish(&mut frame).map(drop),
        CSV => CsvWriter::new(io::BufWriter::new(&file)).finish(&mut frame),
        IPC => IpcWriter::new(io::BufWriter::new(&file)).finish(&mut frame),
        _ => JsonWriter::new(io::BufWriter::new(&file))
            .with_json_format(JsonFormat::JsonLines)
            .finish(&mut frame),
    };
    written
        .and_then(|()| file.sync_all().map_err(|error| failed(path, &error)))
        .map_err(|error| failed(path, &error))
}
