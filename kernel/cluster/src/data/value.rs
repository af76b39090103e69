//! Values of tasks: typed where they were made, bytes where they travel.

use std::{
    any::{Any, TypeId, type_name},
    cell::Cell,
    collections::HashMap,
    io::{self, Write},
    marker::PhantomData,
    mem,
    path::Path,
    sync::{Arc, OnceLock, PoisonError, RwLock},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::data::{
    parts,
    segment::{Bytes, Segment},
    size,
    type_names::names_of_cells,
};

/// What tasks take and return: anything that serde can turn into bytes and back, and that threads may share.
///
/// A type of your own needs `#[derive(Clone, Serialize, Deserialize)]`.
pub trait TaskValue: Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> TaskValue for T {}

/// Results this small, and without heap memory, travel with the message that says they are done.
const MOST_INLINE: usize = 64;

/// How a type becomes bytes, where serde's way is not the best: frames as Arrow IPC.
pub struct Codec<T> {
    pub write: fn(&T, &mut dyn Write) -> Result<(), String>,
    /// May map the file behind the bytes rather than copy them.
    pub read: fn(&Bytes) -> Result<T, String>,
    /// Bytes in memory.
    pub size: fn(&T) -> u64,
    /// Rows, of a type that has any.
    pub rows: Option<fn(&T) -> u64>,
}

type Codecs = RwLock<HashMap<TypeId, &'static (dyn Any + Send + Sync)>>;

fn codecs() -> &'static Codecs {
    static CODECS: OnceLock<Codecs> = OnceLock::new();
    CODECS.get_or_init(|| {
        let mut codecs = HashMap::new();
        add_numbers(&mut codecs);
        RwLock::new(codecs)
    })
}

/// Vectors of numbers go as they are in memory, rather than item by item.
macro_rules! numbers {
    ($($number:ty)*) => {
        fn add_numbers(codecs: &mut HashMap<TypeId, &'static (dyn Any + Send + Sync)>) { $(
            let codec: Codec<Vec<$number>> = Codec {
                write: |values, out| {
                    const SIZE: usize = size_of::<$number>();
                    // As large as the writer's own buffer, which then stays out of the way.
                    const AT_ONCE: usize = (1 << 20) / SIZE;
                    let mut buffer = vec![0; values.len().min(AT_ONCE) * SIZE];
                    for some in values.chunks(AT_ONCE) {
                        let bytes = &mut buffer[..some.len() * SIZE];
                        bytes.chunks_exact_mut(SIZE).zip(some).for_each(|(bytes, value)| bytes.copy_from_slice(&value.to_le_bytes()));
                        out.write_all(bytes).map_err(|error| error.to_string())?;
                    }
                    Ok(())
                },
                read: |bytes| {
                    let (numbers, rest) = bytes.as_slice().as_chunks();
                    if !rest.is_empty() {
                        return Err(format!("{} bytes are no whole number of `{}`", bytes.as_slice().len(), stringify!($number)));
                    }
                    Ok(numbers.iter().map(|bytes| <$number>::from_le_bytes(*bytes)).collect())
                },
                size: |values| (size_of::<Vec<$number>>() + size_of_val(values.as_slice())) as u64,
                rows: None,
            };
            codecs.insert(TypeId::of::<Vec<$number>>(), Box::leak(Box::new(codec)));
        )* }
    };
}

/// Calls a macro with the types of numbers.
macro_rules! with_numbers {
    ($what:ident) => {
        $what!(u8 i8 u16 i16 u32 i32 u64 i64 usize isize f32 f64);
    };
}
pub(crate) use with_numbers;

with_numbers!(numbers);

/// Makes `codec` the way for all values of type `T`, for the life of the process.
pub fn register_codec<T: TaskValue>(codec: Codec<T>) {
    codecs()
        .write()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(TypeId::of::<T>(), Box::leak(Box::new(codec)));
}

#[inline(never)]
fn codec_of(id: TypeId) -> Option<&'static (dyn Any + Send + Sync)> {
    codecs()
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&id)
        .copied()
}

/// The codec that was registered for a type.
///
/// Where the type is known as it is written, this is enough, and no code for serde's way is made: for a frame that is a
/// thousand functions.
pub fn registered<T: 'static>() -> Option<&'static Codec<T>> {
    codec_of(TypeId::of::<T>())?.downcast_ref()
}

/// Serde's way.
struct Plain<T>(PhantomData<T>);

impl<T: TaskValue> Plain<T> {
    const CODEC: &'static Codec<T> = &Codec {
        write: |value, out| {
            postcard::to_io(value, out)
                .map(drop)
                .map_err(|error| cannot_encode(type_name::<T>(), &error))
        },
        read: |bytes| {
            postcard::from_bytes(bytes.as_slice()).map_err(|error| cannot_decode(type_name::<T>(), &error))
        },
        size: |value| {
            let itself = size_of::<T>() as u64;
            if mem::needs_drop::<T>() {
                itself + size::heap_bytes(value)
            } else {
                itself
            }
        },
        rows: None,
    };
}

pub(crate) fn codec<T: TaskValue>() -> &'static Codec<T> {
    registered().unwrap_or(Plain::<T>::CODEC)
}

#[inline(never)]
fn cannot_encode(name: &str, error: &postcard::Error) -> String {
    format!("a `{name}` cannot be turned into bytes: {error}")
}

#[inline(never)]
fn cannot_decode(name: &str, error: &postcard::Error) -> String {
    format!("these bytes are no `{name}`: {error}")
}

#[inline(never)]
fn not_a(held: &str, wanted: &str) -> String {
    format!("the value is a `{held}`, not a `{wanted}`")
}

thread_local! {
    static IS_ARGUMENT: Cell<bool> = const { Cell::new(false) };
}

/// Whether an argument of a task is written or read now.
pub(crate) fn is_argument() -> bool {
    IS_ARGUMENT.get()
}

/// Writes or reads an argument: the function that takes it was compiled beside what gives it, so that both mean the same type.
pub(crate) fn as_argument<R>(work: impl FnOnce() -> R) -> R {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            IS_ARGUMENT.set(self.0);
        }
    }
    let _before = Before(IS_ARGUMENT.replace(true));
    work()
}

pub(crate) fn encode<T: TaskValue>(value: &T) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    (codec::<T>().write)(value, &mut bytes)?;
    Ok(bytes)
}

pub(crate) fn decode<T: TaskValue>(bytes: &Bytes) -> Result<T, String> {
    (codec::<T>().read)(bytes)
}

/// What a program computed, as bytes; where it is the `Err` of a `Result`, what that says is the error.
///
/// # Errors
/// That, or that it cannot be turned into bytes.
#[doc(hidden)]
pub fn finished<T: TaskValue>(value: &T) -> Result<Vec<u8>, String> {
    let bytes = encode(value)?;
    match text_of_err(type_name::<T>(), || bytes.first().copied(), || bytes.clone()) {
        Some(text) => Err(text),
        None => Ok(bytes),
    }
}

/// A value from bytes that [`finished`] gave.
///
/// # Errors
/// When they are of another type.
#[doc(hidden)]
pub fn decoded<T: TaskValue>(bytes: &[u8]) -> Result<T, String> {
    decode(&bytes.to_vec().into())
}

/// What an `Err` of a type of this name says, if these bytes are one. Postcard writes the variant first, as one byte.
fn text_of_err(
    name: &str,
    first: impl FnOnce() -> Option<u8>,
    bytes: impl FnOnce() -> Vec<u8>,
) -> Option<String> {
    if !name.starts_with("core::result::Result<") || first() != Some(1) {
        return None;
    }
    if name.ends_with(", alloc::string::String>") || name.ends_with(", alloc::boxed::Box<str>>") {
        return postcard::from_bytes::<String>(&bytes()[1..]).ok();
    }
    Some(format!(
        "it returned the `Err` of a `{}`",
        skep_render::short_type(name)
    ))
}

/// A value on its worker, with its type forgotten.
pub(crate) trait AnyValue: Any + Send + Sync {
    fn write(&self, out: &mut dyn Write) -> Result<(), String>;
    /// Bytes in memory, about.
    fn size(&self) -> u64;
    /// Of a table.
    fn rows(&self) -> Option<u64> {
        None
    }
    /// Small values as bytes.
    fn inline(&self) -> Option<Vec<u8>>;
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
    fn type_name(&self) -> &'static str;
    /// An actor stays where it is.
    fn is_movable(&self) -> bool {
        true
    }
}

impl dyn AnyValue {
    /// `None` if it is a `T` as it is. If it is one by name, of a cell that was compiled before some other
    /// type was defined anew, it goes by way of its bytes.
    fn as_it_is<T: 'static>(&self, codec: &Codec<T>) -> Result<Option<T>, String> {
        if (self as &dyn Any).is::<Holder<T>>() {
            Ok(None)
        } else {
            (codec.read)(&self.bytes_for(type_name::<T>())?.into()).map(Some)
        }
    }

    #[inline(never)]
    fn bytes_for(&self, wanted: &str) -> Result<Vec<u8>, String> {
        if self.type_name() != wanted || names_of_cells(wanted).next().is_none() {
            return Err(not_a(self.type_name(), wanted));
        }
        let mut bytes = Vec::new();
        self.write(&mut bytes)?;
        Ok(bytes)
    }
}

pub(crate) struct Holder<T: 'static> {
    value: T,
    codec: &'static Codec<T>,
}

/// A value that a task looks at.
#[doc(hidden)]
pub enum Shared<T: 'static> {
    Own(T),
    #[allow(private_interfaces)]
    Held(Arc<Holder<T>>),
}

impl<T> std::ops::Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self {
            Shared::Own(value) => value,
            Shared::Held(holder) => &holder.value,
        }
    }
}

impl<T: Send + Sync + 'static> AnyValue for Holder<T> {
    fn write(&self, out: &mut dyn Write) -> Result<(), String> {
        (self.codec.write)(&self.value, out)
    }

    fn size(&self) -> u64 {
        (self.codec.size)(&self.value)
    }

    fn rows(&self) -> Option<u64> {
        self.codec.rows.map(|rows| rows(&self.value))
    }

    fn inline(&self) -> Option<Vec<u8>> {
        if mem::needs_drop::<T>() || size_of::<T>() > MOST_INLINE {
            return None;
        }
        let mut bytes = Vec::new();
        (self.codec.write)(&self.value, &mut bytes).ok()?;
        Some(bytes)
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn type_name(&self) -> &'static str {
        type_name::<T>()
    }
}

/// Takes one byte, and no more.
struct First(Option<u8>);

impl Write for First {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match (self.0, bytes.first()) {
            (None, Some(first)) => {
                self.0 = Some(*first);
                Ok(1)
            }
            (_, None) => Ok(0),
            (Some(_), _) => Err(io::ErrorKind::StorageFull.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A value that a worker holds.
#[doc(hidden)]
#[derive(Clone)]
pub enum Stored {
    #[allow(private_interfaces)]
    Typed(Arc<dyn AnyValue>),
    Bytes(Bytes),
    Parts(Arc<[Stored]>),
}

impl Stored {
    pub fn new<T: TaskValue>(value: T) -> Stored {
        Stored::with(value, codec())
    }

    pub fn with<T: Send + Sync + 'static>(value: T, codec: &'static Codec<T>) -> Stored {
        Stored::Typed(Arc::new(Holder { value, codec }))
    }

    /// The items of a list, each by itself.
    pub fn parts<T: TaskValue>(items: Vec<T>) -> Stored {
        Stored::Parts(items.into_iter().map(Stored::new).collect())
    }

    pub fn size(&self) -> u64 {
        match self {
            Stored::Parts(parts) => parts.iter().map(Stored::size).sum(),
            Stored::Typed(value) => value.size(),
            Stored::Bytes(bytes) => bytes.as_slice().len() as u64,
        }
    }

    /// Of a table, or of a list of tables together.
    pub fn rows(&self) -> Option<u64> {
        match self {
            Stored::Parts(parts) => parts.iter().map(Stored::rows).sum(),
            Stored::Typed(value) => value.rows(),
            Stored::Bytes(_) => None,
        }
    }

    pub fn encode(&self) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        self.write(&mut bytes)?;
        Ok(bytes)
    }

    fn write(&self, out: &mut dyn Write) -> Result<(), String> {
        match self {
            Stored::Typed(value) => value.write(out),
            Stored::Parts(parts) => parts::write(out, parts.len(), |i, out| parts[i].write(out)),
            Stored::Bytes(bytes) => out.write_all(bytes.as_slice()).map_err(|error| error.to_string()),
        }
    }

    /// The value in memory that other processes can map.
    pub fn share(&self, folder: &Path) -> Result<Arc<Segment>, String> {
        if let Stored::Bytes(Bytes::Segment(segment)) = self {
            return Ok(segment.clone());
        }
        Segment::in_memory(folder, |out| self.write(out).map_err(io::Error::other))
            .map(Arc::new)
            .map_err(|error| error.to_string())
    }

    /// The value in a file of its own, which goes when the value does.
    pub fn spill(&self, path: &Path) -> Result<Stored, String> {
        let segment = Segment::on_disk(path, |out| self.write(out).map_err(io::Error::other))
            .map_err(|error| error.to_string())?;
        Ok(Stored::Bytes(Bytes::Segment(Arc::new(segment))))
    }

    /// Whether it could be elsewhere, or on disk, as well.
    pub fn is_movable(&self) -> bool {
        match self {
            Stored::Typed(value) => value.is_movable(),
            Stored::Parts(_) => true,
            Stored::Bytes(Bytes::Heap(_)) => true,
            Stored::Bytes(Bytes::Segment(segment) | Bytes::Slice(segment, ..)) => !segment.is_on_disk(),
        }
    }

    /// Not so the state of an actor, which calls have changed.
    pub fn can_be_made_again(&self) -> bool {
        match self {
            Stored::Typed(value) => value.is_movable(),
            Stored::Bytes(_) | Stored::Parts(_) => true,
        }
    }

    /// Small plain values as bytes.
    pub fn inline(&self) -> Option<Vec<u8>> {
        match self {
            Stored::Typed(value) => value.inline(),
            Stored::Bytes(_) | Stored::Parts(_) => None,
        }
    }

    /// What the value says, if it is the `Err` of a `Result`: a task that returns one has failed, whatever the types.
    ///
    /// Only errors that can travel come here; those that cannot are told by [`crate::graph::task_fn::Fails`].
    pub fn error_text(&self) -> Option<String> {
        let Stored::Typed(value) = self else { return None };
        text_of_err(
            value.type_name(),
            || {
                let mut first = First(None);
                let _ = value.write(&mut first);
                first.0
            },
            || {
                let mut bytes = Vec::new();
                // What cannot be written has no text.
                let _ = value.write(&mut bytes);
                bytes
            },
        )
    }

    /// One of the parts of a result that has such.
    pub fn part(&self, part: u32) -> Result<Stored, String> {
        match self {
            Stored::Parts(parts) => parts
                .get(part as usize)
                .cloned()
                .ok_or_else(|| parts::missing(part, parts.len())),
            Stored::Typed(value) => Err(not_a(value.type_name(), "result in parts")),
            Stored::Bytes(bytes) => {
                let range = parts::range(bytes.as_slice(), part)?;
                Ok(Stored::Bytes(match bytes {
                    Bytes::Heap(bytes) => bytes[range].to_vec().into(),
                    Bytes::Segment(segment) => Bytes::Slice(segment.clone(), range.start, range.end),
                    Bytes::Slice(segment, start, _) => {
                        Bytes::Slice(segment.clone(), start + range.start, start + range.end)
                    }
                }))
            }
        }
    }

    /// The value to look at: the one that is held here, not a copy.
    pub fn share_typed<T: Send + Sync + 'static>(self, codec: &Codec<T>) -> Result<Shared<T>, String> {
        let value = match self {
            Stored::Bytes(bytes) => return (codec.read)(&bytes).map(Shared::Own),
            Stored::Parts(_) => return Err(not_a("result in parts", type_name::<T>())),
            Stored::Typed(value) => value,
        };
        match value.as_it_is(codec)? {
            Some(again) => Ok(Shared::Own(again)),
            None => value
                .into_any()
                .downcast::<Holder<T>>()
                .map(Shared::Held)
                .map_err(|_| not_a("value", type_name::<T>())),
        }
    }

    /// The value itself: moved out if this is the last holder, else cloned.
    ///
    /// A value and its reader share a type's layout although they may come from two compilations: handles of
    /// a redefined type are dropped with their variables, so that no later function can name an old value.
    pub fn take<T: TaskValue + Clone>(self) -> Result<T, String> {
        self.take_with(codec())
    }

    pub fn take_with<T: Clone + Send + Sync + 'static>(self, codec: &Codec<T>) -> Result<T, String> {
        let value = match self {
            Stored::Bytes(bytes) => return (codec.read)(&bytes),
            Stored::Parts(_) => return Err(not_a("result in parts", type_name::<T>())),
            Stored::Typed(value) => value,
        };
        if let Some(again) = value.as_it_is(codec)? {
            return Ok(again);
        }
        let value = value
            .into_any()
            .downcast::<Holder<T>>()
            .map_err(|_| not_a("value", type_name::<T>()))?;
        Ok(Arc::try_unwrap(value).map_or_else(|shared| shared.value.clone(), |holder| holder.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_typed_at_home_and_bytes_abroad() {
        let home = Stored::new(vec![1.5f64; 3]);
        let abroad = Stored::Bytes(home.encode().unwrap().into());
        let shared = Stored::Bytes(Bytes::Segment(home.share(&std::env::temp_dir()).unwrap()));
        assert_eq!(shared.take::<Vec<f64>>().unwrap(), [1.5; 3]);
        assert_eq!(home.clone().take::<Vec<f64>>().unwrap(), [1.5; 3]);
        assert_eq!(abroad.take::<Vec<f64>>().unwrap(), [1.5; 3]);
        assert!(home.clone().take::<Vec<i64>>().unwrap_err().contains("Vec<f64>"));
        assert_eq!(home.inline(), None);
        assert_eq!(home.size(), 48);
        assert!(
            Stored::Bytes(vec![1, 2, 3].into())
                .take::<Vec<f64>>()
                .unwrap_err()
                .contains("no whole number")
        );
        assert_eq!(
            Stored::new(7i64)
                .inline()
                .map(|bytes| decode::<i64>(&bytes.into()).unwrap()),
            Some(7)
        );
    }
}
