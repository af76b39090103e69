//! What the generated code of a cell calls. Not for users: a cell's text never needs it.

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::OnceLock,
};

use skep_render::Message;

use crate::{interrupt::Interrupted, link, store, wire::Outcome};

pub use crate::{
    errors::{DebugError, Error, Failure},
    interrupt::poll,
    local::Local,
    panics::{panic_message, quiet_panics, take_panic_location},
    show::Show,
};

/// The entry point of a compiled cell.
pub type Entry = fn() -> Outcome;

/// Gives the carried variables the types that `_bodies` infers for them. The bodies are only type-checked:
/// nothing calls the closure, so no code is generated for it.
pub fn infer<T, B: Future<Output = Result<T, DebugError>>>(
    _bodies: impl FnOnce() -> B,
    taken: impl FnOnce() -> T,
) -> T {
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
        link::result(skep_render::Bundle::text(skep_render::short_type(
            std::any::type_name::<T>(),
        )));
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
fn refuse(message: Message) -> ! {
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
    if link::is_abandoned() {
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
    if name
        .strip_prefix('_')
        .is_some_and(|rest| rest.parse::<u32>().is_ok())
    {
        return;
    }
    link::notice(format!(
        "`{name}` was not kept: its type has no name that a later cell could write (a closure, or a future); collect an iterator, `.await` a future, box a closure: `Box<dyn Fn(…) -> …>`"
    ));
}

#[inline(never)]
fn say_drop_panicked(name: &str, message: &str) {
    link::notice(format!(
        "the old value of `{name}` panicked while it was dropped: {message}; the new one is there"
    ));
}

/// Puts a carried variable back.
pub fn restore<T: 'static>(name: &str, value: T) {
    // The store belongs to another thread by now; what may not go there ends here, on its own.
    if link::is_abandoned() && (store::has(name) || !store::is_send(std::any::type_name::<T>())) {
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

struct Refusal(Message);

/// Runs the body of a cell. Variables it borrows live in the caller's frame, so that they outlast a panic.
pub fn run<E: Failure>(body: impl FnOnce() -> Result<(), E>) -> Outcome {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => Outcome::Done,
        Ok(Err(error)) => {
            let (message, at) = error.into_parts();
            Outcome::Failed {
                message,
                at: Some(at),
            }
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
        if self == std::process::ExitCode::SUCCESS {
            Ok(())
        } else {
            Err(format!("`main` returned {self:?}"))
        }
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
    let at = take_panic_location();
    Outcome::Panicked {
        message: panic_message(&*payload),
        at,
    }
}

/// The runtime is started by the first cell that needs it and serves all later ones.
fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let built = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .thread_name("cell-await")
            .build();
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
