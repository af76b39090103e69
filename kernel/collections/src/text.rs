//! Text files as pieces: a small file is one, a large one is cut where a line ends.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Seek, SeekFrom},
    path::Path,
    time::UNIX_EPOCH,
};

use serde::{Deserialize, Serialize};
use skep_cluster::{Error, Result};
use skep_render::Message;

/// Plain files are cut into pieces of about this size.
const PIECE_BYTES: u64 = 32 << 20;

/// Lines that begin within a range of a file. With the file's length and date, so that a file that changed is another
/// argument, and no old result is taken for its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Lines {
    path: String,
    start: u64,
    end: u64,
    is_gzip: bool,
    n_bytes: u64,
    modified_ns: u64,
}

/// The pieces of all files of a pattern, in order of their names.
pub(crate) fn find(pattern: &str) -> Result<Vec<Lines>> {
    let wrong = |what: String, hint: &str| Error::File(Message::new(what).hint(hint));
    let matches = glob::glob(pattern).map_err(|error| {
        wrong(
            format!("`{pattern}` is no pattern: {error}"),
            "`*` stands for any part of a name: \"data/*.txt\"",
        )
    })?;
    let mut paths: Vec<_> = matches.flatten().filter(|path| path.is_file()).collect();
    paths.sort();
    if paths.is_empty() {
        let here = std::env::current_dir().map_or_else(
            |_| String::new(),
            |here| format!(" (paths begin at {})", here.display()),
        );
        return Err(wrong(
            format!("no file matches `{pattern}`{here}"),
            "look at the path; `*` matches within one folder, `**` across folders",
        ));
    }
    let mut pieces = Vec::new();
    for path in paths {
        let unreadable =
            |error: io::Error| wrong(format!("{}: {error}", path.display()), "can the file be read?");
        let whole = path.canonicalize().map_err(unreadable)?;
        let meta = whole.metadata().map_err(unreadable)?;
        let modified = meta
            .modified()
            .ok()
            .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let is_gzip = whole.extension().is_some_and(|extension| extension == "gz");
        let n_pieces = if is_gzip {
            1
        } else {
            meta.len().div_ceil(PIECE_BYTES).max(1)
        };
        for at in 0..n_pieces {
            pieces.push(Lines {
                path: whole.to_string_lossy().into_owned(),
                start: at * PIECE_BYTES,
                end: if at + 1 == n_pieces {
                    u64::MAX
                } else {
                    (at + 1) * PIECE_BYTES
                },
                is_gzip,
                n_bytes: meta.len(),
                modified_ns: modified.map_or(0, |since| since.as_nanos() as u64),
            });
        }
    }
    Ok(pieces)
}

/// Bytes of all pieces, each file counted once.
pub(crate) fn n_bytes(pieces: &[Lines]) -> u64 {
    pieces
        .iter()
        .filter(|piece| piece.start == 0)
        .map(|piece| piece.n_bytes)
        .sum()
}

/// The lines, without their line ends.
pub(crate) fn read(lines: Lines) -> std::result::Result<Vec<String>, Box<dyn std::error::Error>> {
    let path = lines.path.clone();
    read_lines(&lines).map_err(|error| format!("{path}: {error}").into())
}

fn read_lines(lines: &Lines) -> io::Result<Vec<String>> {
    let mut file = File::open(&lines.path)?;
    if lines.is_gzip {
        return all_lines(BufReader::new(flate2::read::MultiGzDecoder::new(file)), u64::MAX);
    }
    let mut n_left = lines.end.saturating_sub(lines.start);
    if lines.start > 0 {
        // A line belongs to the piece in which it begins: what stands before the first line end is the piece before's,
        // unless that ends with the line.
        file.seek(SeekFrom::Start(lines.start - 1))?;
        let mut reader = BufReader::new(file);
        let mut skipped = Vec::new();
        let n = reader.read_until(b'\n', &mut skipped)? as u64;
        n_left = n_left.saturating_sub(n.saturating_sub(1));
        return all_lines(reader, n_left);
    }
    all_lines(BufReader::new(file), n_left)
}

/// Lines that begin within the next `n_left` bytes.
fn all_lines(mut reader: impl BufRead, mut n_left: u64) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    let mut line = Vec::new();
    while n_left > 0 {
        line.clear();
        let n = reader.read_until(b'\n', &mut line)? as u64;
        if n == 0 {
            break;
        }
        n_left = n_left.saturating_sub(n);
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        lines.push(String::from_utf8_lossy(text).into_owned());
    }
    Ok(lines)
}

/// Writes lines beside the file's final name and moves them there, so that no reader sees half a file.
pub(crate) fn write(
    lines: Vec<String>,
    path: String,
) -> std::result::Result<u64, Box<dyn std::error::Error>> {
    let attempt = || -> io::Result<u64> {
        let unfinished = format!("{path}.unfinished");
        let mut text = lines.join("\n");
        if !lines.is_empty() {
            text.push('\n');
        }
        std::fs::write(&unfinished, text)?;
        std::fs::rename(&unfinished, Path::new(&path))?;
        Ok(lines.len() as u64)
    };
    attempt().map_err(|error| format!("{path}: {error}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wherever a file is cut, each line comes once.
    #[test]
    fn lines_come_once() {
        let folder = std::env::temp_dir().join(format!("skep-lines-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for text in ["", "a", "a\nb", "a\nbb\n", "\n\n\na\r\nbbbb\n\nc", "é\nü\n"] {
            let path = folder.join("lines.txt");
            std::fs::write(&path, text).unwrap();
            let whole: Vec<String> = text.lines().map(str::to_string).collect();
            let piece = |start: u64, end: u64| Lines {
                path: path.to_string_lossy().into_owned(),
                start,
                end,
                is_gzip: false,
                n_bytes: 0,
                modified_ns: 0,
            };
            for cut in 1..=text.len().max(1) as u64 {
                let mut lines = read(piece(0, cut)).unwrap();
                lines.extend(read(piece(cut, u64::MAX)).unwrap());
                assert_eq!(lines, whole, "{text:?} cut at {cut}");
            }
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn gzip_is_read_and_nothing_found_is_said() {
        use std::io::Write;
        let folder = std::env::temp_dir().join(format!("skep-gzip-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("a.txt.gz");
        let mut out =
            flate2::write::GzEncoder::new(File::create(&path).unwrap(), flate2::Compression::fast());
        out.write_all(b"one\ntwo\n").unwrap();
        out.finish().unwrap();
        let found = find(&folder.join("*.gz").to_string_lossy()).unwrap();
        assert_eq!(read(found[0].clone()).unwrap(), ["one", "two"]);
        assert!(
            find(&folder.join("*.csv").to_string_lossy())
                .unwrap_err()
                .to_string()
                .contains("no file matches")
        );
        std::fs::remove_dir_all(folder).unwrap();
    }
}
