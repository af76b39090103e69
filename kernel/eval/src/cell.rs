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
pub use crate::{interrupt::poll, local::Local, show::Show};

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

/// The same for errors that `Error` does not take: those that borrow, and those that have `Debug` alone.
pub struct DebugError {
    message: String,
    at: Location,
}

impl<E: std::fmt::Debug> From<E> for DebugError {
    #[track_caller]
    fn from(error: E) -> Self {
        DebugError { message: format!("{error:?}"), at: Caller::caller().into() }
    }
}

/// What a cell's body fails with.
pub trait Failure {
    fn into_parts(self) -> (String, Location);
}

impl Failure for Error {
    fn into_parts(self) -> (String, Location) {
        (self.message, self.at)
    }
}

impl Failure for DebugError {
    fn into_parts(self) -> (String, Location) {
        (self.message, self.at)
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
pub fn infer<T, B: Future<Output = Result<T, DebugError>>>(_bodies: impl FnOnce() -> B, taken: impl FnOnce() -> T) -> T {
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

/// Finds out whether a value may cross threads: `(&Probe(&x)).is_send()`.
pub struct Probe<'a, T>(pub &'a T);

pub trait IsSend {
    fn is_send(&self) -> bool {
        true
    }
}

impl<T: Send> IsSend for Probe<'_, T> {}

pub trait IsNotSend {
    fn is_send(&self) -> bool {
        false
    }
}

impl<T> IsNotSend for &Probe<'_, T> {}

/// Keeps a variable that this cell defined.
pub fn put<T: 'static>(name: &str, is_send: bool, value: T) {
    // A cell that was given up comes too late: the name may stand for something newer.
    if process::is_abandoned() {
        return;
    }
    match store::put(name, is_send, value) {
        store::Put::Kept => {}
        store::Put::Unnameable => say_not_kept(name),
        store::Put::DropPanicked(message) => say_drop_panicked(name, &message),
    }
}

#[inline(never)]
fn say_not_kept(name: &str) {
    // The value of a last expression, which nobody asked to keep.
    if name.strip_prefix('_').is_some_and(|rest| rest.parse::<u32>().is_ok()) {
        return;
    }
    process::notice(format!(
        "`{name}` was not kept: its type has no name that a later cell could write (a closure, or a future); collect an iterator, `.await` a future, box a closure: `Box<dyn Fn(…) -> …>`"
    ));
}

#[inline(never)]
fn say_drop_panicked(name: &str, message: &str) {
    process::notice(format!("the old value of `{name}` panicked while it was dropped: {message}; the new one is there"));
}

/// Puts a carried variable back.
pub fn restore<T: 'static>(name: &str, value: T) {
    // The store belongs to another thread by now; what may not go there ends here, on its own.
    if process::is_abandoned() && (store::has(name) || !store::is_send(std::any::type_name::<T>())) {
        return;
    }
    store::restore(name, value);
}

/// Drops a variable whose name the cell has given to another value.
pub fn discard<T: 'static>(name: &str, value: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        say_drop_panicked(name, &panic_message(&*payload));
    }
}

struct Refusal(String);

/// Runs the body of a cell. Variables it borrows live in the caller's frame, so that they outlast a panic.
pub fn run<E: Failure>(body: impl FnOnce() -> Result<(), E>) -> Outcome {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => Outcome::Done,
        Ok(Err(error)) => {
            let (message, at) = error.into_parts();
            Outcome::Failed { message, at: Some(at) }
        }
        Err(payload) => outcome_of_panic(payload),
    }
}

/// How a `fn main` that was pasted into a cell ended.
pub trait MainEnd {
    fn end(self) -> Result<(), String>;
}

impl MainEnd for () {
    fn end(self) -> Result<(), String> {
        Ok(())
    }
}

impl<T: MainEnd, E: std::fmt::Debug> MainEnd for Result<T, E> {
    fn end(self) -> Result<(), String> {
        self.map_err(|error| format!("{error:?}")).and_then(MainEnd::end)
    }
}

impl MainEnd for std::process::ExitCode {
    fn end(self) -> Result<(), String> {
        if self == std::process::ExitCode::SUCCESS { Ok(()) } else { Err(format!("`main` returned {self:?}")) }
    }
}

pub fn of_main(end: impl MainEnd) -> Result<(), String> {
    end.end()
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

/// How messages of panics begin that end the process: std has no other way to tell them.
const ABORTS: [&str; 5] = [
    "null pointer dereference",
    "misaligned pointer dereference",
    "unsafe precondition(s) violated",
    "panic in a function that cannot unwind",
    "panic in a destructor during cleanup",
];

/// Panics of this thread are reported by whoever catches them, not printed.
pub fn quiet_panics() {
    static HOOK: OnceLock<()> = OnceLock::new();
    QUIET.set(true);
    HOOK.get_or_init(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            LAST_PANIC.with_borrow_mut(|last| *last = info.location().map(Location::from));
            let message = panic_message(info.payload());
            let place = info.location().map(Location::from);
            if let Some(at) = place.filter(|_| ABORTS.iter().any(|start| message.starts_with(start))) {
                process::aborting(message, at);
            } else if std::env::var("RUST_BACKTRACE").is_ok_and(|wanted| wanted == "full") {
                before(info);
            } else if !QUIET.with_borrow(|quiet| *quiet) {
                // A thread of the user's. The frames of the standard library say nothing about it.
                let thread = std::thread::current();
                let at = info.location().map_or_else(String::new, |at| format!(" at {at}"));
                eprintln!("thread `{}` panicked{at}: {message}", thread.name().unwrap_or("without a name"));
            }
        }));
    });
}

/// The runtime is started by the first cell that needs it and serves all later ones.
fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let built = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().thread_name("cell-await").build();
        built.expect("invariant: a runtime of two threads can be started")
    })
}

/// For cells that spawn without awaiting: `tokio::spawn` finds the runtime while the guard lives.
pub fn enter_runtime() -> tokio::runtime::EnterGuard<'static> {
    runtime().enter()
}

/// Drives a cell that awaits.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut value = None;
    drive(std::pin::pin!(async { value = Some(future.await) }));
    value.expect("invariant: `drive` returns when the future is done")
}

#[inline(never)]
fn drive(mut future: std::pin::Pin<&mut dyn Future<Output = ()>>) {
    runtime().block_on(async {
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(50));
        loop {
            tokio::select! {
                biased;
                () = &mut future => return,
                _ = tick.tick() => poll(),
            }
        }
    });
}
