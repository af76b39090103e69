//! Values of tasks: typed where they were made, bytes where they travel.

use std::{
    any::{Any, TypeId, type_name},
    collections::HashMap,
    mem,
    sync::{Arc, OnceLock, PoisonError, RwLock},
};

use serde::{Serialize, de::DeserializeOwned};

/// What tasks take and return: anything that serde can turn into bytes and back, and that threads may share.
///
/// A type of your own needs `#[derive(Clone, Serialize, Deserialize)]`.
pub trait TaskValue: Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> TaskValue for T {}

/// Results this small, and without heap memory, travel with the message that says they are done.
const MOST_INLINE: usize = 64;

/// How a type becomes bytes, where serde's way is not the best: frames as Arrow IPC.
pub struct Codec<T> {
    pub encode: fn(&T) -> Result<Vec<u8>, String>,
    pub decode: fn(&[u8]) -> Result<T, String>,
    /// Bytes in memory.
    pub size: fn(&T) -> u64,
}

type Codecs = RwLock<HashMap<TypeId, &'static (dyn Any + Send + Sync)>>;

fn codecs() -> &'static Codecs {
    static CODECS: OnceLock<Codecs> = OnceLock::new();
    CODECS.get_or_init(Codecs::default)
}

/// Makes `codec` the way for all values of type `T`, for the life of the process.
pub fn register_codec<T: TaskValue>(codec: Codec<T>) {
    codecs().write().unwrap_or_else(PoisonError::into_inner).insert(TypeId::of::<T>(), Box::leak(Box::new(codec)));
}

#[inline(never)]
fn codec_of(id: TypeId) -> Option<&'static (dyn Any + Send + Sync)> {
    codecs().read().unwrap_or_else(PoisonError::into_inner).get(&id).copied()
}

fn codec<T: TaskValue>() -> Option<&'static Codec<T>> {
    codec_of(TypeId::of::<T>())?.downcast_ref()
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

pub(crate) fn encode<T: TaskValue>(value: &T) -> Result<Vec<u8>, String> {
    match codec::<T>() {
        Some(codec) => (codec.encode)(value),
        None => postcard::to_stdvec(value).map_err(|error| cannot_encode(type_name::<T>(), &error)),
    }
}

pub(crate) fn decode<T: TaskValue>(bytes: &[u8]) -> Result<T, String> {
    match codec::<T>() {
        Some(codec) => (codec.decode)(bytes),
        None => postcard::from_bytes(bytes).map_err(|error| cannot_decode(type_name::<T>(), &error)),
    }
}

/// A value on its worker, with its type forgotten.
pub(crate) trait AnyValue: Any + Send + Sync {
    fn encode(&self) -> Result<Vec<u8>, String>;
    /// Bytes in memory, about.
    fn size(&self) -> u64;
    fn is_plain(&self) -> bool;
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
    fn type_name(&self) -> &'static str;
}

struct Holder<T>(T);

impl<T: TaskValue> AnyValue for Holder<T> {
    fn encode(&self) -> Result<Vec<u8>, String> {
        encode(&self.0)
    }

    fn size(&self) -> u64 {
        if let Some(codec) = codec::<T>() {
            return (codec.size)(&self.0);
        }
        if !mem::needs_drop::<T>() {
            return size_of::<T>() as u64;
        }
        let counted = postcard::serialize_with_flavor::<T, _, usize>(&self.0, postcard::ser_flavors::Size::default());
        counted.map_or(size_of::<T>(), |n| n.max(size_of::<T>())) as u64
    }

    fn is_plain(&self) -> bool {
        !mem::needs_drop::<T>() && size_of::<T>() <= MOST_INLINE
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn type_name(&self) -> &'static str {
        type_name::<T>()
    }
}

/// A value that a worker holds.
#[derive(Clone)]
pub(crate) enum Stored {
    Typed(Arc<dyn AnyValue>),
    Bytes(Arc<[u8]>),
}

impl Stored {
    pub fn new<T: TaskValue>(value: T) -> Stored {
        Stored::Typed(Arc::new(Holder(value)))
    }

    pub fn size(&self) -> u64 {
        match self {
            Stored::Typed(value) => value.size(),
            Stored::Bytes(bytes) => bytes.len() as u64,
        }
    }

    pub fn encode(&self) -> Result<Vec<u8>, String> {
        match self {
            Stored::Typed(value) => value.encode(),
            Stored::Bytes(bytes) => Ok(bytes.to_vec()),
        }
    }

    /// Small plain values as bytes.
    pub fn inline(&self) -> Option<Vec<u8>> {
        match self {
            Stored::Typed(value) if value.is_plain() => value.encode().ok(),
            _ => None,
        }
    }

    /// The value itself: moved out if this is the last holder, else cloned.
    ///
    /// A value and its reader share a type's layout although they may come from two compilations: handles of a redefined
    /// type are dropped with their variables, so that no later function can name an old value.
    pub fn take<T: TaskValue + Clone>(self) -> Result<T, String> {
        let value = match self {
            Stored::Bytes(bytes) => return decode(&bytes),
            Stored::Typed(value) => value,
        };
        let held = value.type_name();
        let value = value.into_any().downcast::<Holder<T>>().map_err(|_| not_a(held, type_name::<T>()))?;
        Ok(Arc::try_unwrap(value).map_or_else(|shared| shared.0.clone(), |holder| holder.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_typed_at_home_and_bytes_abroad() {
        let home = Stored::new(vec![1.5f64; 3]);
        let abroad = Stored::Bytes(home.encode().unwrap().into());
        assert_eq!(home.clone().take::<Vec<f64>>().unwrap(), [1.5; 3]);
        assert_eq!(abroad.take::<Vec<f64>>().unwrap(), [1.5; 3]);
        assert!(home.clone().take::<Vec<i64>>().unwrap_err().contains("Vec<f64>"));
        assert_eq!(home.inline(), None);
        assert_eq!(home.size(), 25);
        assert_eq!(Stored::new(7i64).inline().map(|bytes| decode::<i64>(&bytes).unwrap()), Some(7));
    }
}
