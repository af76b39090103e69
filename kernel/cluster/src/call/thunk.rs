//! How a worker calls a function: its arguments read back, its panics caught.

use std::{
    any::{Any, type_name},
    cell::RefCell,
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
};

use crate::{
    data::{
        lists::makers,
        value::{AnyValue, Codec, Shared, Stored, TaskValue, as_argument, codec},
    },
    hooks::hooks,
    model::{
        error::{TaskError, TaskErrorKind},
        ids::Key,
        task::{Arg, Output},
    },
};

/// What a worker calls.
pub(crate) type Thunk = fn(&mut Inputs) -> std::result::Result<Stored, TaskError>;

/// A task's arguments on their worker.
#[doc(hidden)]
pub struct Inputs<'t> {
    args: std::slice::Iter<'t, Arg>,
    values: HashMap<Key, Stored>,
}

impl<'t> Inputs<'t> {
    pub(crate) fn new(args: &'t [Arg], values: HashMap<Key, Stored>) -> Inputs<'t> {
        Inputs {
            args: args.iter(),
            values,
        }
    }

    pub(crate) fn next<A: TaskValue + Clone>(&mut self) -> std::result::Result<A, TaskError> {
        self.next_with(codec())
    }

    pub(crate) fn next_shared<A: TaskValue + Clone>(&mut self) -> std::result::Result<Shared<A>, TaskError> {
        self.next_shared_with(codec())
    }

    #[inline(never)]
    fn next_arg(&mut self) -> std::result::Result<&'t Arg, TaskError> {
        self.args
            .next()
            .ok_or_else(|| unreadable("an argument is missing".into()))
    }

    /// The bytes of the next argument, which is a value.
    pub(crate) fn next_bytes(&mut self) -> std::result::Result<Vec<u8>, TaskError> {
        match self.next_arg()? {
            Arg::Value(bytes) => Ok(bytes.to_vec()),
            _ => Err(unreadable("an argument is no value".into())),
        }
    }

    /// The next argument, by the codec of its type.
    pub fn next_with<A>(&mut self, codec: &'static Codec<A>) -> std::result::Result<A, TaskError>
    where
        A: Clone + Send + Sync + 'static,
    {
        let arg = self.next_arg()?;
        of_arg(arg, &self.values, codec).map_err(unreadable)
    }

    /// An argument that is only looked at: where it is already, or made of its bytes.
    pub fn next_shared_with<A>(
        &mut self,
        codec: &'static Codec<A>,
    ) -> std::result::Result<Shared<A>, TaskError>
    where
        A: Clone + Send + Sync + 'static,
    {
        let arg = self.next_arg()?;
        if matches!(arg, Arg::Task(_) | Arg::Part { .. }) {
            return stored_of(arg, &self.values)
                .and_then(|stored| stored.share_typed(codec))
                .map_err(unreadable);
        }
        of_arg(arg, &self.values, codec)
            .map(Shared::Own)
            .map_err(unreadable)
    }
}

pub(crate) fn unreadable(message: String) -> TaskError {
    TaskError::new(TaskErrorKind::Serialisation, message)
}

pub(crate) fn failed(message: String) -> TaskError {
    TaskError::new(TaskErrorKind::Failed, message)
}

/// What a worker calls for a method of an actor: the state is behind the mutex.
pub(crate) type MethodThunk = fn(&mut Inputs, Arc<dyn AnyValue>) -> std::result::Result<Vec<u8>, TaskError>;

fn of_arg<T: Clone + Send + Sync + 'static>(
    arg: &Arg,
    values: &HashMap<Key, Stored>,
    codec: &'static Codec<T>,
) -> std::result::Result<T, String> {
    match whole(arg, values, std::any::TypeId::of::<T>())? {
        Whole::Bytes(bytes) => as_argument(|| (codec.read)(&bytes.into())),
        Whole::Stored(stored) => stored.take_with(codec),
        Whole::Made(made) => made
            .downcast::<T>()
            .map(|value| *value)
            .map_err(|_| another_list()),
    }
}

/// An argument before its type is known again.
enum Whole {
    Bytes(Vec<u8>),
    Stored(Stored),
    Made(Box<dyn Any>),
}

fn another_list() -> String {
    "a list of another type".to_string()
}

/// A list becomes a `Vec` typed where its type says how, and by way of its parts' bytes where it does not.
///
/// Not generic, like everything here that can be: what is generic is compiled again in every cell.
fn whole(
    arg: &Arg,
    values: &HashMap<Key, Stored>,
    wanted: std::any::TypeId,
) -> std::result::Result<Whole, String> {
    let items = match arg {
        Arg::Value(bytes) => return Ok(Whole::Bytes(bytes.to_vec())),
        Arg::Task(_) | Arg::Part { .. } => return stored_of(arg, values).map(Whole::Stored),
        Arg::List(items) => items,
    };
    let make = makers()
        .read()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .get(&wanted)
        .copied();
    if let Some(make) = make {
        let stored = items
            .iter()
            .map(|item| stored_of(item, values))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        return make(stored).map(Whole::Made);
    }
    // Postcard's list is a count and its items, one after the other.
    let mut bytes = postcard::to_stdvec(&items.len()).map_err(|error| error.to_string())?;
    for item in items {
        bytes.extend(stored_of(item, values)?.encode()?);
    }
    Ok(Whole::Bytes(bytes))
}

/// Two arguments may be the same task, so the value stays for the other.
fn stored_of(arg: &Arg, values: &HashMap<Key, Stored>) -> std::result::Result<Stored, String> {
    match arg {
        Arg::Value(bytes) => Ok(Stored::Bytes(bytes.to_vec().into())),
        Arg::Task(key) => values
            .get(key)
            .cloned()
            .ok_or_else(|| "an input is missing".to_string()),
        Arg::Part { task, part, .. } => {
            let output = Output {
                task: *task,
                part: Some(*part),
            };
            match (values.get(&output.key()), values.get(task)) {
                (Some(part), _) => Ok(part.clone()),
                (None, Some(whole)) => whole.part(*part),
                (None, None) => Err("an input is missing".to_string()),
            }
        }
        Arg::List(_) => Err("lists of lists are not supported".into()),
    }
}

/// The only value of a function without captures.
pub(crate) fn conjure<F: Copy>() -> F {
    const {
        assert!(
            size_of::<F>() == 0,
            "a function sent to workers must not capture anything: pass the values as arguments"
        );
    }
    // SAFETY: `F` has no size, so any aligned pointer holds one; and one exists, since the caller was given
    // it.
    unsafe { std::ptr::NonNull::<F>::dangling().read() }
}

/// As [`conjure`], for collections whose tasks work with a function of the program.
///
/// # Safety
/// A value of `F` exists: somebody was given one.
#[doc(hidden)]
pub unsafe fn function_of<F: Copy>() -> F {
    conjure::<F>()
}

thread_local! {
    static LAST_PANIC: RefCell<Option<(String, u32, u32)>> = const { RefCell::new(None) };
    static IN_TASK: RefCell<bool> = const { RefCell::new(false) };
}

/// Panics of tasks are reported with the task, not printed.
fn install_hook() {
    static HOOK: OnceLock<()> = OnceLock::new();
    HOOK.get_or_init(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !IN_TASK.with_borrow(|inside| *inside) {
                return before(info);
            }
            let at = info
                .location()
                .map(|at| (at.file().to_string(), at.line(), at.column()));
            LAST_PANIC.with_borrow_mut(|last| *last = at);
        }));
    });
}

pub(crate) fn run<F, R>(call: impl FnOnce() -> R) -> std::result::Result<R, TaskError> {
    // The name keeps the thunks of two functions apart even if their code is the same, so that each keeps its
    // symbol.
    begin(type_name::<F>());
    let result = catch_unwind(AssertUnwindSafe(call));
    end();
    result.map_err(panicked)
}

#[inline(never)]
fn begin(name: &'static str) {
    std::hint::black_box(name);
    install_hook();
    IN_TASK.set(true);
}

#[inline(never)]
fn end() {
    IN_TASK.set(false);
}

#[inline(never)]
pub(crate) fn panicked(payload: Box<dyn Any + Send>) -> TaskError {
    if (hooks().is_stop)(&*payload) {
        return TaskError::new(TaskErrorKind::Cancelled, "");
    }
    let text = payload
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_string()));
    let message = text.unwrap_or_else(|| "a panic without a message".into());
    TaskError {
        at: LAST_PANIC.with_borrow_mut(Option::take),
        ..TaskError::new(TaskErrorKind::Panicked, message)
    }
}
