//! How much memory a value takes, about: told by serde, which visits all there is in it.
//!
//! Bytes on the wire are no measure: a `Vec<u64>` of small numbers is an eighth of its size there. Of long
//! sequences only the first items are looked into.

use std::fmt;

use serde::ser::{self, Serialize};

/// Of a sequence, so many items are looked into; the others count as much on average.
const MOST_SAMPLED: u64 = 1_000;

/// Bytes behind a value's own: what its vectors and strings hold.
pub fn heap_bytes<T: Serialize>(value: &T) -> u64 {
    let mut counter = Counter { bytes: 0 };
    match value.serialize(&mut counter) {
        Ok(()) => counter.bytes.saturating_sub(size_of::<T>() as u64),
        Err(_) => 0,
    }
}

struct Counter {
    bytes: u64,
}

#[derive(Debug)]
struct Never;

impl fmt::Display for Never {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("its size cannot be told")
    }
}

impl std::error::Error for Never {}

impl ser::Error for Never {
    fn custom<T: fmt::Display>(_: T) -> Never {
        Never
    }
}

/// A sequence, map or struct on its way through.
struct Items<'c> {
    counter: &'c mut Counter,
    n: u64,
    start: u64,
}

impl Items<'_> {
    fn add<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), Never> {
        self.n += 1;
        if self.n <= MOST_SAMPLED {
            item.serialize(&mut *self.counter)
        } else {
            Ok(())
        }
    }

    fn end(self) -> Result<(), Never> {
        if self.n > MOST_SAMPLED {
            let sampled = self.counter.bytes - self.start;
            self.counter.bytes +=
                (sampled as f64 / MOST_SAMPLED as f64 * (self.n - MOST_SAMPLED) as f64) as u64;
        }
        Ok(())
    }
}

macro_rules! numbers {
    ($($method:ident $type:ty),*) => { $(
        fn $method(self, _: $type) -> Result<(), Never> {
            self.bytes += size_of::<$type>() as u64;
            Ok(())
        }
    )* };
}

impl<'c> ser::Serializer for &'c mut Counter {
    type Ok = ();
    type Error = Never;
    type SerializeSeq = Items<'c>;
    type SerializeTuple = Items<'c>;
    type SerializeTupleStruct = Items<'c>;
    type SerializeTupleVariant = Items<'c>;
    type SerializeMap = Items<'c>;
    type SerializeStruct = Items<'c>;
    type SerializeStructVariant = Items<'c>;

    numbers!(
        serialize_bool bool, serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64, serialize_i128 i128,
        serialize_u8 u8, serialize_u16 u16, serialize_u32 u32, serialize_u64 u64, serialize_u128 u128, serialize_f32 f32,
        serialize_f64 f64, serialize_char char
    );

    fn serialize_str(self, text: &str) -> Result<(), Never> {
        self.bytes += (size_of::<String>() + text.len()) as u64;
        Ok(())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), Never> {
        self.bytes += (size_of::<Vec<u8>>() + bytes.len()) as u64;
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Never> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Never> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Never> {
        self.bytes += 8;
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Never> {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), Never> {
        self.serialize_unit()
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Never> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Never> {
        self.bytes += 8;
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Items<'c>, Never> {
        self.bytes += size_of::<Vec<u8>>() as u64;
        Ok(Items {
            start: self.bytes,
            counter: self,
            n: 0,
        })
    }

    fn serialize_tuple(self, _: usize) -> Result<Items<'c>, Never> {
        Ok(Items {
            start: self.bytes,
            counter: self,
            n: 0,
        })
    }

    fn serialize_tuple_struct(self, _: &'static str, n: usize) -> Result<Items<'c>, Never> {
        self.serialize_tuple(n)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        n: usize,
    ) -> Result<Items<'c>, Never> {
        self.bytes += 8;
        self.serialize_tuple(n)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Items<'c>, Never> {
        self.serialize_seq(None)
    }

    fn serialize_struct(self, _: &'static str, n: usize) -> Result<Items<'c>, Never> {
        self.serialize_tuple(n)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        n: usize,
    ) -> Result<Items<'c>, Never> {
        self.serialize_tuple_variant("", 0, "", n)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

macro_rules! sequences {
    ($($trait:ident $method:ident),*) => { $(
        impl ser::$trait for Items<'_> {
            type Ok = ();
            type Error = Never;

            fn $method<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), Never> {
                self.add(item)
            }

            fn end(self) -> Result<(), Never> {
                Items::end(self)
            }
        }
    )* };
}

sequences!(SerializeSeq serialize_element, SerializeTuple serialize_element, SerializeTupleStruct serialize_field, SerializeTupleVariant serialize_field);

macro_rules! structs {
    ($($trait:ident),*) => { $(
        impl ser::$trait for Items<'_> {
            type Ok = ();
            type Error = Never;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, field: &T) -> Result<(), Never> {
                self.add(field)
            }

            fn end(self) -> Result<(), Never> {
                Items::end(self)
            }
        }
    )* };
}

structs!(SerializeStruct, SerializeStructVariant);

impl ser::SerializeMap for Items<'_> {
    type Ok = ();
    type Error = Never;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Never> {
        self.add(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Never> {
        self.add(value)
    }

    fn end(self) -> Result<(), Never> {
        Items::end(self)
    }
}

#[test]
fn sizes_are_those_in_memory() {
    let close = |n: u64, expect: u64| n.abs_diff(expect) <= expect / 10;
    assert_eq!(heap_bytes(&7u64), 0);
    assert!(
        close(heap_bytes(&vec![1u64; 100_000]), 800_000),
        "small numbers are as large as others"
    );
    assert!(close(
        heap_bytes(&vec!["abcdefgh".to_string(); 5_000]),
        5_000 * 32
    ));
    assert!(close(heap_bytes(&vec![vec![1.5f64; 2_000]; 2_000]), 32_000_000));
    assert!(close(heap_bytes(&(1u8, vec![Some(3u32); 10_000])), 40_000));
}
