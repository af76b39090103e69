use std::{
    fmt, fs,
    hash::{BuildHasherDefault, Hasher},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use serde::{Deserialize, Serialize};

/// Names a task and its result. Derived from function, code and inputs: the same work has the same key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key(pub u128);

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", (self.0 >> 96) as u32)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }
    };
}

id!(/** A worker process; never reused, so that a restarted worker is a new one. */ WorkerId(u32), "worker-");

id!(/** A program that holds handles. */ ClientId(u32), "client-");

id!(/** A library of compiled functions, by content. */ CodeId(u64), "code-");

id!(/** A function in a library. */ FunctionId(u64), "function-");

/// What a program or a worker shows to be let in. It is in the cluster's private folder.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token(pub u128);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    const FILE: &str = "token";

    /// Makes a new one, for the cluster whose sockets are in `folder`.
    ///
    /// # Errors
    /// When the folder cannot be written, or the system has no random numbers.
    pub fn create(folder: &Path) -> io::Result<Token> {
        let mut bytes = [0; 16];
        fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        let path = folder.join(Token::FILE);
        let _ = fs::remove_file(&path);
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?
            .write_all(&bytes)?;
        Ok(Token(u128::from_le_bytes(bytes)))
    }

    /// Reads the token of the cluster that a socket belongs to.
    ///
    /// # Errors
    /// When there is none, or it may not be read.
    pub fn beside(socket: &Path) -> io::Result<Token> {
        let bytes = fs::read(socket.with_file_name(Token::FILE))?;
        let bytes = bytes
            .try_into()
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the cluster's token is damaged"))?;
        Ok(Token(u128::from_le_bytes(bytes)))
    }

    /// Compares in constant time.
    pub fn admits(self, other: Token) -> bool {
        std::hint::black_box(self.0 ^ other.0) == 0
    }
}

/// Keys are hashes already.
#[derive(Default)]
pub struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = (self.0.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
    }

    fn write_u64(&mut self, n: u64) {
        self.0 ^= n;
    }

    fn write_u128(&mut self, n: u128) {
        self.0 ^= (n >> 64) as u64 ^ n as u64;
    }
}

/// Maps by ids that are hashes themselves, such as [`FunctionId`].
pub type IdMap<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<KeyHasher>>;

pub type IdSet<K> = std::collections::HashSet<K, BuildHasherDefault<KeyHasher>>;

pub type KeyMap<V> = std::collections::HashMap<Key, V, BuildHasherDefault<KeyHasher>>;

pub type KeySet = std::collections::HashSet<Key, BuildHasherDefault<KeyHasher>>;

/// In a report of missing inputs: the worker that reports should have had it itself.
pub const HERE: WorkerId = WorkerId(u32::MAX);
