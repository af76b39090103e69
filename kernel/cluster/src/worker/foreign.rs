//! A task in a process of another system's: Dask's worker, say, which loads this library.
//!
//! What such a worker knows of a task is bytes: [`Request`], the library that has the function, and the bytes of the inputs in
//! the order of [`Task::outputs`]. It gives the bytes of the result, or of a [`TaskError`].

use std::{
    collections::HashMap,
    fs::File,
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
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
    wire::protocol::ToScheduler,
    worker::capture::Capture,
};

/// A task and its function, as they travel.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    pub task: Task,
    pub function: Function,
}

/// What a task says while it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Said {
    /// It, or something beside it, printed.
    Printed { is_stderr: bool, text: String },
    /// How far it is.
    Progressed { n_done: u64, n_total: u64 },
}

/// Hears what tasks say; `None` where it is not known which.
pub type Hear = Box<dyn Fn(Option<Key>, Said) + Send + Sync>;

struct Process {
    /// Where it is, in errors.
    place: String,
    hear: Hear,
    capture: Option<Arc<Capture>>,
    /// Standard output and error as they were: what tasks print still goes there too.
    before: Option<[File; 2]>,
}

static PROCESS: OnceLock<Process> = OnceLock::new();

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

/// Nobody takes the place of a task while it waits.
struct Alone;

impl context::Host for Alone {
    fn on_progress(&self, key: Key, n_done: u64, n_total: u64) {
        if let Some(process) = PROCESS.get() {
            (process.hear)(Some(key), Said::Progressed { n_done, n_total });
        }
    }

    fn on_wait(self: Arc<Self>, _: Key) {}
}

impl Process {
    fn say(&self, message: ToScheduler) {
        let ToScheduler::Printed { key, is_stderr, text } = message else {
            return;
        };
        if let Some(before) = &self.before {
            let _ = (&before[usize::from(is_stderr)]).write_all(text.as_bytes());
        }
        (self.hear)(key, Said::Printed { is_stderr, text });
    }
}

/// Makes this process one that runs tasks: `place` names it in their errors, and `hear` is told what they say.
pub fn prepare(place: &str, hear: Hear) {
    let (capture, before) = Capture::begin().ok().unzip();
    let process = PROCESS.get_or_init(|| Process {
        place: place.to_string(),
        hear,
        capture: capture.map(Arc::new),
        before,
    });
    if let Some(capture) = &process.capture {
        let newest = || running().last().map(|(key, _)| *key);
        // Without the thread, tasks' prints are told when they end.
        let _ = capture.watch(newest, |message| process.say(message));
    }
}

/// Whether this process runs tasks for another system, and so has no cluster to ask.
pub(crate) fn is_here() -> bool {
    PROCESS.get().is_some()
}

/// Tells a task that runs here to stop; it hears that where it waits, and where it looks.
pub fn stop(key: Key) {
    {
        // Held until the flags are up: a task that ends now lowers its flag afterwards.
        let running = running();
        let of_key = running.iter().filter(|(running, _)| *running == key);
        of_key.for_each(|(_, flag)| (hooks().raise)(flag));
    }
    hooks::wake_waits();
}

/// Stops a task that takes longer than it may.
struct Limit {
    is_over: Arc<AtomicBool>,
    /// Dropped, it ends the watch.
    _ended: mpsc::Sender<()>,
}

impl Limit {
    fn begin(key: Key, timeout_us: u64) -> Option<Limit> {
        if timeout_us == 0 {
            return None;
        }
        let (ended, ends) = mpsc::channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let watch = move || {
            if ends.recv_timeout(Duration::from_micros(timeout_us)) == Err(mpsc::RecvTimeoutError::Timeout) {
                over.store(true, Ordering::SeqCst);
                stop(key);
            }
        };
        thread::Builder::new().name("limit".into()).spawn(watch).ok()?;
        Some(Limit {
            is_over,
            _ended: ended,
        })
    }
}

/// An error as it travels: its words, for who knows nothing of Rust, behind their length; and all of it.
fn told(error: &TaskError) -> Vec<u8> {
    let words = match error.message.as_str() {
        "" => error.to_string(),
        message => message.to_string(),
    };
    let mut told = (words.len() as u32).to_le_bytes().to_vec();
    told.extend(words.bytes());
    told.extend(postcard::to_stdvec(error).unwrap_or_default());
    told
}

/// What [`run`] failed of.
///
/// # Errors
/// When these are no bytes of an error.
pub fn read_told(told: &[u8]) -> Result<TaskError, String> {
    let (n, rest) = told.split_first_chunk().ok_or("it says nothing")?;
    let of_error = rest
        .get(u32::from_le_bytes(*n) as usize..)
        .ok_or("it is cut off")?;
    postcard::from_bytes(of_error).map_err(|error| error.to_string())
}

/// Calls a task's function on this thread.
///
/// # Errors
/// What the task failed of, for [`read_told`].
///
/// # Safety
/// `request` is of a program whose code this process has, and `library` is the library that it named.
pub unsafe fn run(
    request: &[u8],
    library: &str,
    inputs: impl Iterator<Item = Vec<u8>>,
) -> Result<Vec<u8>, Vec<u8>> {
    let request: Request = match postcard::from_bytes(request) {
        Ok(request) => request,
        Err(error) => {
            let text = format!("its request could not be read: {error}");
            return Err(told(&TaskError::new(TaskErrorKind::Serialisation, text)));
        }
    };
    let key = request.task.key;
    let flag = STOP.with(|stop| *stop);
    running().push((key, flag));
    let options = request.task.options.as_deref();
    let limit = Limit::begin(key, options.map_or(0, |options| options.timeout_us));
    let keys = request.task.outputs().into_iter().map(|(output, _)| output.key());
    let values: HashMap<Key, Stored> = keys
        .zip(inputs.map(|bytes| Stored::Bytes(bytes.into())))
        .collect();
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
    let process = PROCESS.get();
    if let Some(process) = process
        && let Some(capture) = &process.capture
    {
        capture.drain(Some(key), &|message| process.say(message));
    }
    let is_over = limit.is_some_and(|limit| limit.is_over.load(Ordering::SeqCst));
    result.map_err(|error| {
        let error = if is_over {
            let text = format!(
                "it was stopped after {}, its timeout",
                skep_render::duration(Duration::from_micros(
                    options.map_or(0, |options| options.timeout_us)
                ))
            );
            TaskError::new(TaskErrorKind::TimedOut, text)
        } else {
            error
        };
        told(&TaskError {
            function: request.function.name.clone(),
            worker: process.map(|process| process.place.clone()),
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
