//! What arguments look like, for drawing: their bytes alone do not say.

use std::any::TypeId;

use crate::model::{ids::Key, task::Arg};

/// The types of a call's first values, in the order of its arguments; those that are drawn, as numbers.
#[derive(Clone, Copy, Default)]
pub(crate) struct Kinds {
    of: [u8; Kinds::MOST],
    n: u8,
}

/// Longer text is cut.
const LONGEST: usize = 24;

macro_rules! kinds {
    ($($type:ty),*) => {
        fn number(of: TypeId) -> u8 {
            let known = [$(TypeId::of::<$type>()),*];
            known.iter().position(|known| *known == of).map_or(0, |at| at as u8 + 1)
        }

        fn text(kind: u8, bytes: &[u8]) -> Option<String> {
            let read: &[fn(&[u8]) -> Option<String>] = &[$(|bytes| {
                Some(format!("{:?}", postcard::from_bytes::<$type>(bytes).ok()?))
            }),*];
            read.get(usize::from(kind).checked_sub(1)?)?(bytes)
        }
    };
}

kinds!(
    i64,
    u64,
    f64,
    usize,
    i32,
    u32,
    f32,
    bool,
    String,
    char,
    u8,
    i8,
    u16,
    i16,
    isize,
    i128,
    u128,
    (i64, i64),
    (u64, u64),
    (usize, usize),
    (f64, f64),
    (i32, i32),
    (String, i64),
    (String, String),
    Option<i64>,
    Vec<String>
);

impl Kinds {
    const MOST: usize = 6;

    pub fn push(&mut self, of: TypeId) {
        if let Some(kind) = self.of.get_mut(usize::from(self.n)) {
            *kind = number(of);
            self.n += 1;
        }
    }

    pub fn describe(&self, args: &[Arg], name_of: &dyn Fn(Key) -> Option<String>) -> String {
        let mut kinds = self.of[..usize::from(self.n)].iter();
        let each: Vec<String> = args
            .iter()
            .map(|arg| match arg {
                Arg::Value(bytes) => cut(kinds
                    .next()
                    .and_then(|kind| text(*kind, bytes))
                    .unwrap_or_else(|| skep_render::bytes(bytes.len() as u64))),
                Arg::Task(key) | Arg::Part { task: key, .. } => {
                    name_of(*key).unwrap_or_else(|| "…".to_string())
                }
                Arg::List(items) => format!("[{}]", items.len()),
            })
            .collect();
        each.join(", ")
    }
}

fn cut(text: String) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[test]
fn arguments_are_written_as_they_were_given() {
    let mut kinds = Kinds::default();
    kinds.push(TypeId::of::<i64>());
    kinds.push(TypeId::of::<String>());
    kinds.push(TypeId::of::<Vec<f64>>());
    let value = |bytes: Vec<u8>| Arg::Value(bytes.into());
    let args = [
        value(postcard::to_stdvec(&-7i64).unwrap()),
        Arg::Task(Key(1)),
        value(postcard::to_stdvec("a long text that is cut somewhere").unwrap()),
        value(vec![0; 800]),
        Arg::List(vec![Arg::Task(Key(1)), Arg::Task(Key(2))]),
    ];
    let name_of = |key: Key| (key == Key(1)).then(|| "load".to_string());
    assert_eq!(
        kinds.describe(&args, &name_of),
        "-7, load, \"a long text that is cut…, 800 B, [2]"
    );
}
