//! What the generated code of a cell calls. Not for users: a cell's text never needs it.

use std::{
    any::Any,
    cell::RefCell,
    future::Future,
    panic::{AssertUnwindSafe, Location as Caller, catch_unwind},
    sync::OnceLock,
};

use crate::{
    interrupt::Interrupted,
    process, store,
    wire::{Location, Outcome},
};
pub use crate::{
    interrupt::poll,
    show::{Show, ShowDebug, ShowNothing, ShowRich},
};

/// The error type of a cell's body: whatever `?` meets, with the place of the `?`.
pub struct Error {
    message: String,
    at: Location,
}

impl<E: Into<Box<dyn std::error::Error>>> From<E> for Error {
    #[track_caller]
    fn from(error: E) -> Self {
        let error = error.into();
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if !message.contains(&text) {
                message = format!("{message}\ncaused by: {text}");
            }
            source = cause.source();
        }
        Error { message, at: Caller::caller().into() }
    }
}

impl From<&Caller<'_>> for Location {
    fn from(at: &Caller<'_>) -> Self {
        Location { file: at.file().to_string(), line: at.line(), column: at.column() }
    }
}

/// The entry point of a compiled cell.
pub type Entry = fn() -> Outcome;

/// Gives the carried variables the types that `_bodies` infers for them. The bodies are only type-checked: nothing calls
/// the closure, so no code is generated for it.
pub fn infer<T, B: Future<Output = Result<T, Error>>>(_bodies: impl FnOnce() -> B, taken: impl FnOnce() -> T) -> T {
    taken()
}

/// Stands for a value whose type is asked for: it is inferred from a branch that never runs.
pub struct TypeSlot<T>(std::marker::PhantomData<T>);

impl<T> TypeSlot<T> {
    #[expect(clippy::new_without_default, reason = "only generated code makes one")]
    pub fn new() -> TypeSlot<T> {
        TypeSlot(std::marker::PhantomData)
    }

    pub fn is(&self, _: &T) {}

    pub fn show(&self) {
        process::result(skep_render::Bundle::text(skep_render::short_type(std::any::type_name::<T>())));
    }
}

/// False, though the compiler does not know it.
pub fn never() -> bool {
    std::hint::black_box(false)
}

/// Runs `body` many times and shows how long one run takes.
pub fn bench<T>(mut body: impl FnMut() -> Result<T, Error>) -> Result<(), Error> {
    crate::measure::measure(&mut || {
        std::hint::black_box(body()?);
        Ok(())
    })
}

/// Takes a variable out of the store; a mismatch ends the cell before any of its statements ran.
pub fn take<T: 'static>(name: &str) -> T {
    match store::take(name) {
        Ok(value) => value,
        Err(message) => refuse(message),
    }
}

#[inline(never)]
fn refuse(message: String) -> ! {
    std::panic::resume_unwind(Box::new(Refusal(message)))
}

/// Keeps a variable that this cell defined.
pub fn put<T: 'static>(name: &str, value: T) {
    // A cell that was given up comes too late: the name may stand for something newer.
    if process::is_abandoned() {
        return;
    }
    if !store::put(name, value) {
        say_not_kept(name);
    }
}

#[inline(never)]
fn say_not_kept(name: &str) {
    process::notice(format!(
        "`{name}` was not kept: its type holds a closure, which no later cell could name\nhint: collect the iterator, or make the closure a `fn`"
    ));
}

/// Puts a carried variable back.
pub fn restore<T: 'static>(name: &str, value: T) {
    if process::is_abandoned() && store::has(name) {
        return;
    }
    store::put(name, value);
}

struct Refusal(String);

/// Runs the body of a cell. Variables it borrows live in the caller's frame, so that they outlast a panic.
pub fn run(body: impl FnOnce() -> Result<(), Error>) -> Outcome {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => Outcome::Done,
        Ok(Err(error)) => Outcome::Failed { message: error.message, at: Some(error.at) },
        Err(payload) => outcome_of_panic(payload),
    }
}

/// Whether a variable that the body shadowed goes back to the store: only when the new one did not get there.
pub fn keeps_old(outcome: &Outcome) -> bool {
    *outcome != Outcome::Done
}

pub(crate) fn outcome_of_panic(payload: Box<dyn Any + Send>) -> Outcome {
    if payload.is::<Interrupted>() {
        return Outcome::Interrupted;
    }
    let payload = match payload.downcast::<Refusal>() {
        Ok(refusal) => return Outcome::Refused { message: refusal.0 },
        Err(payload) => payload,
    };
    let at = LAST_PANIC.with_borrow_mut(Option::take);
    Outcome::Panicked { message: panic_message(&*payload), at }
}

/// The text of a panic's payload.
pub fn panic_message(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        return (*text).to_string();
    }
    payload.downcast_ref::<String>().cloned().unwrap_or_else(|| "a panic without a message".to_string())
}

thread_local! {
    static LAST_PANIC: RefCell<Option<Location>> = const { RefCell::new(None) };
    static QUIET: RefCell<bool> = const { RefCell::new(false) };
}

/// Where this thread last panicked; taken, so that an old place is never reported for a new panic.
pub fn take_panic_location() -> Option<Location> {
    LAST_PANIC.with_borrow_mut(Option::take)
}

/// Panics of this thread are reported by whoever catches them, not printed.
pub fn quiet_panics() {
    static HOOK: OnceLock<()> = OnceLock::new();
    QUIET.set(true);
    HOOK.get_or_init(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            LAST_PANIC.with_borrow_mut(|last| *last = info.location().map(Location::from));
            if !QUIET.with_borrow(|quiet| *quiet) {
                before(info);
            }
        }));
    });
}

/// Drives a cell that awaits. The runtime is started by the first such cell and serves all later ones.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        let built = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().thread_name("cell-await").build();
        built.expect("invariant: a runtime of two threads can be started")
    });
    runtime.block_on(async {
        tokio::pin!(future);
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(50));
        loop {
            tokio::select! {
                biased;
                value = &mut future => return value,
                _ = tick.tick() => poll(),
            }
        }
    })
}
