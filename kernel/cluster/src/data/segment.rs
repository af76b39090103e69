//! Bytes that processes of one machine share without copying: memory files, and values that were written to
//! disk.
//!
//! On Linux a segment is an anonymous memory file that others open by way of `/proc`; when its last holder
//! ends, however it ends, the system frees it. Elsewhere it is a file in the cluster's folder.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufWriter, Write},
    ops::Range,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use memmap2::Mmap;

/// Values of this size travel as segments, smaller ones through the socket.
pub(crate) const LEAST: u64 = 64 << 10;

/// Bytes in a file that is mapped here.
pub struct Segment {
    map: Mmap,
    file: File,
    /// How other processes open it.
    path: PathBuf,
    /// Removed when this is dropped.
    is_owner: bool,
    is_on_disk: bool,
}

impl Segment {
    /// Writes a segment in memory. `folder` is used where the system has no memory files.
    ///
    /// # Errors
    /// When there is no memory, or `write` fails.
    pub fn in_memory(
        folder: &Path,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<Segment> {
        let (file, path, is_owner) = memory_file(folder)?;
        let mut segment = Segment::written(file, path, is_owner, write)?;
        segment.is_on_disk = false;
        Ok(segment)
    }

    /// Writes a segment to a file on disk, which is removed when the segment is dropped.
    ///
    /// # Errors
    /// When the disk is full or `write` fails; nothing is left behind.
    pub fn on_disk(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<Segment> {
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)?;
        let written = Segment::written(file, path.to_path_buf(), true, write);
        if written.is_err() {
            let _ = std::fs::remove_file(path);
        }
        written
    }

    fn written(
        file: File,
        path: PathBuf,
        is_owner: bool,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<Segment> {
        let mut writer = BufWriter::with_capacity(1 << 20, &file);
        write(&mut writer)?;
        writer.flush()?;
        drop(writer);
        // SAFETY: the file is this cluster's own: it was made above, is written once, and never again.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Segment {
            map,
            file,
            path,
            is_owner,
            is_on_disk: true,
        })
    }

    /// Opens a segment that another process wrote.
    ///
    /// # Errors
    /// When it is gone, or shorter than it should be.
    pub fn open(path: &Path, n_bytes: u64) -> io::Result<Segment> {
        let file = File::open(path)?;
        // SAFETY: its writer is done with it, as above.
        let map = unsafe { Mmap::map(&file)? };
        if map.len() as u64 != n_bytes {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a segment of {n_bytes} bytes has {}", map.len()),
            ));
        }
        let is_on_disk = !path.starts_with("/proc");
        // Passed on under a name of our own: its writer may be gone by then, and its descriptor be another
        // file.
        let path = own_name(&file, path);
        Ok(Segment {
            map,
            file,
            path,
            is_owner: false,
            is_on_disk,
        })
    }

    /// As [`Segment::open`], but one that is open here already is not opened again: many parts are in one segment.
    ///
    /// # Errors
    /// As [`Segment::open`].
    pub fn open_shared(path: &Path, n_bytes: u64) -> io::Result<Arc<Segment>> {
        static OPEN: Mutex<BTreeMap<(u64, u64), Weak<Segment>>> = Mutex::new(BTreeMap::new());
        // By what the file is, not by its name: a name may come to stand for another file.
        let file = std::fs::metadata(path)?;
        let id = (file.dev(), file.ino());
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(segment) = open.get(&id).and_then(Weak::upgrade)
            && segment.bytes().len() as u64 == n_bytes
        {
            return Ok(segment);
        }
        let segment = Arc::new(Segment::open(path, n_bytes)?);
        open.retain(|_, segment| segment.strong_count() > 0);
        open.insert(id, Arc::downgrade(&segment));
        Ok(segment)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Another handle of the file, for readers that map it themselves.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// It takes no memory that the system could not take back.
    pub fn is_on_disk(&self) -> bool {
        self.is_on_disk
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if self.is_owner {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// How others open a file that is open here.
#[cfg(target_os = "linux")]
fn own_name(file: &File, _: &Path) -> PathBuf {
    use std::os::fd::AsRawFd;

    PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()))
}

#[cfg(not(target_os = "linux"))]
fn own_name(_: &File, path: &Path) -> PathBuf {
    path.to_path_buf()
}

#[cfg(target_os = "linux")]
fn memory_file(_: &Path) -> io::Result<(File, PathBuf, bool)> {
    let file = File::from(rustix::fs::memfd_create(
        "skep-value",
        rustix::fs::MemfdFlags::CLOEXEC,
    )?);
    let path = own_name(&file, Path::new(""));
    Ok((file, path, false))
}

#[cfg(not(target_os = "linux"))]
fn memory_file(folder: &Path) -> io::Result<(File, PathBuf, bool)> {
    use std::sync::atomic::{AtomicU64, Ordering};

    static NEXT: AtomicU64 = AtomicU64::new(0);
    let path = folder.join(format!(
        "segment-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    ));
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    Ok((file, path, true))
}

/// Bytes of a value, wherever they are.
#[derive(Clone)]
pub enum Bytes {
    Heap(Arc<[u8]>),
    Segment(Arc<Segment>),
    /// Some of the bytes of a segment, from a first to before a last.
    Slice(Arc<Segment>, usize, usize),
}

impl Bytes {
    /// Some of the bytes of a segment; `None` if it does not have these.
    pub fn slice(segment: Arc<Segment>, range: Range<usize>) -> Option<Bytes> {
        segment.bytes().get(range.clone())?;
        Some(Bytes::Slice(segment, range.start, range.end))
    }

    pub fn as_slice(&self) -> &[u8] {
        match self {
            Bytes::Heap(bytes) => bytes,
            Bytes::Segment(segment) => segment.bytes(),
            Bytes::Slice(segment, start, end) => &segment.bytes()[*start..*end],
        }
    }

    /// The file that is these bytes, if there is one.
    pub fn segment(&self) -> Option<&Segment> {
        match self {
            Bytes::Heap(_) | Bytes::Slice(..) => None,
            Bytes::Segment(segment) => Some(segment),
        }
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Bytes {
        Bytes::Heap(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_read_by_its_name_and_leaves_nothing_behind() {
        let folder = std::env::temp_dir().join(format!("skep-segment-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let write = |out: &mut dyn Write| out.write_all(&[7; 100_000]);
        let here = Segment::in_memory(&folder, write).unwrap();
        let there = Segment::open(here.path(), 100_000).unwrap();
        assert!(
            Segment::open(here.path(), 5).is_err(),
            "another length than was told"
        );
        drop(here);
        assert_eq!(there.bytes(), [7; 100_000], "a reader keeps it");
        let third = Segment::open(there.path(), 100_000).unwrap();
        assert_eq!(
            third.bytes(),
            there.bytes(),
            "and can pass it on when its writer is gone"
        );
        let path = folder.join("value");
        let spilled = Segment::on_disk(&path, write).unwrap();
        assert!(spilled.is_on_disk() && !there.is_on_disk());
        drop(spilled);
        assert!(Segment::on_disk(&path, |_| Err(io::ErrorKind::StorageFull.into())).is_err());
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        std::fs::remove_dir(&folder).unwrap();
    }
}
