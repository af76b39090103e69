//! Panics: what they say, where they were, and who reports them.

use std::{any::Any, cell::RefCell, sync::OnceLock};

use crate::{link, wire::Location};

/// The text of a panic's payload.
pub fn panic_message(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        return (*text).to_string();
    }
    payload
        .downcast_ref::<String>()
        .cloned()
        .unwrap_or_else(|| "a panic without a message".to_string())
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
pub(crate) const ABORTS: [&str; 5] = [
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
                link::aborting(message, at);
            } else if std::env::var("RUST_BACKTRACE").is_ok_and(|wanted| wanted == "full") {
                before(info);
            } else if !QUIET.with_borrow(|quiet| *quiet) {
                // A thread of the user's. The frames of the standard library say nothing about it.
                let thread = std::thread::current();
                let at = info.location().map_or_else(String::new, |at| format!(" at {at}"));
                let who = thread.name().map_or_else(
                    || "a thread without a name".to_string(),
                    |name| format!("thread `{name}`"),
                );
                eprintln!("{who} panicked{at}: {message}");
            }
        }));
    });
}
