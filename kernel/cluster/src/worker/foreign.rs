//! A task in a process of another system's: Dask's worker, say, which loads this library.
//!
//! What such a worker knows of a task is bytes: [`Request`], the library that has the function, and the bytes of the inputs in
//! the order of [`Task::outputs`]. It gives the bytes of the result, or of a [`TaskError`].

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, OnceLock, PoisonError, atomic::AtomicBool},
};

use serde::{Deserialize, Serialize};

use crate::{
    call::{
        code, context,
        thunk::{self, Inputs, Thunk},
    },
    data::value::Stored,
    hooks::{self, hooks},
    model::{
        error::{TaskError, TaskErrorKind},
        ids::Key,
        task::{Function, Task},
    },
};

/// A task and its function, as they travel.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    pub task: Task,
    pub function: Function,
}

/// Where this process is, in errors.
static PLACE: OnceLock<String> = OnceLock::new();

/// The flags of tasks that run now.
static RUNNING: Mutex<Vec<(Key, &'static AtomicBool)>> = Mutex::new(Vec::new());

thread_local! {
    /// Leaked once for each thread, of which there are few.
    static STOP: &'static AtomicBool = {
        let stop: &'static AtomicBool = Box::leak(Box::default());
        (hooks().adopt)(stop);
        stop
    };
}

fn running() -> std::sync::MutexGuard<'static, Vec<(Key, &'static AtomicBool)>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Nobody hears how far a task is, and nobody takes its place while it waits.
struct Alone;

impl context::Host for Alone {
    fn on_progress(&self, _: Key, _: u64, _: u64) {}

    fn on_wait(self: Arc<Self>, _: Key) {}
}

/// Names this process in the errors of its tasks.
pub fn prepare(place: &str) {
    let _ = PLACE.set(place.to_string());
}

/// Tells a task that runs here to stop; it hears that where it waits, and where it looks.
pub fn stop(key: Key) {
    let flags: Vec<&'static AtomicBool> = running()
        .iter()
        .filter(|(running, _)| *running == key)
        .map(|(_, flag)| *flag)
        .collect();
    if !flags.is_empty() {
        flags.into_iter().for_each(|flag| (hooks().raise)(flag));
        hooks::wake_waits();
    }
}

/// Calls a task's function on this thread.
///
/// # Errors
/// What the task failed of, in the form in which it travels.
///
/// # Safety
/// `request` is of a program whose code this process has, and `library` is the library that it named.
pub unsafe fn run(
    request: &[u8],
    library: &str,
    inputs: impl Iterator<Item = Vec<u8>>,
) -> Result<Vec<u8>, Vec<u8>> {
    let told = |error: TaskError| postcard::to_stdvec(&error).unwrap_or_default();
    let request: Request = match postcard::from_bytes(request) {
        Ok(request) => request,
        Err(error) => {
            let text = format!("its request could not be read: {error}");
            return Err(told(TaskError::new(TaskErrorKind::Serialisation, text)));
        }
    };
    let keys = request.task.outputs().into_iter().map(|(output, _)| output.key());
    let values: HashMap<Key, Stored> = keys
        .zip(inputs.map(|bytes| Stored::Bytes(bytes.into())))
        .collect();
    let key = request.task.key;
    let flag = STOP.with(|stop| *stop);
    running().push((key, flag));
    context::enter(Arc::new(Alone), key, request.task.origin);
    // SAFETY: the caller's promise.
    let result = unsafe { called(&request, library, values) };
    context::leave();
    {
        let mut running = running();
        let at = running
            .iter()
            .position(|one| one.0 == key && std::ptr::eq(one.1, flag));
        at.map(|at| running.swap_remove(at));
    }
    (hooks().lower)(flag);
    result.map_err(|error| {
        told(TaskError {
            function: request.function.name.clone(),
            worker: PLACE.get().cloned(),
            ..error
        })
    })
}

/// # Safety
/// As of [`run`].
unsafe fn called(
    request: &Request,
    library: &str,
    values: HashMap<Key, Stored>,
) -> Result<Vec<u8>, TaskError> {
    let address =
        address_of(library, &request.function).map_err(|why| TaskError::new(TaskErrorKind::Code, why))?;
    // SAFETY: the caller's promise: it is a thunk of exactly this type.
    let thunk = unsafe { std::mem::transmute::<usize, Thunk>(address) };
    let call = || {
        let value = thunk(&mut Inputs::new(&request.task.args, values))?;
        if let Some(text) = value.error_text() {
            return Err(thunk::failed(text));
        }
        value.encode().map_err(thunk::unreadable)
    };
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| Err(thunk::panicked(payload)))
}

/// Each function is looked for once.
fn address_of(library: &str, function: &Function) -> Result<usize, String> {
    type Addresses = HashMap<(String, crate::model::task::CodePlace), usize>;
    static KNOWN: Mutex<Option<Addresses>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    let at = (library.to_string(), function.place.clone());
    if let Some(address) = known.get(&at) {
        return Ok(*address);
    }
    let address = code::resolve(library, &function.place)? as usize;
    known.insert(at, address);
    Ok(address)
}
