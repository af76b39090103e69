//! Showing values in the middle of a cell.

use std::sync::atomic::{AtomicU64, Ordering};

use skep_render::{Bundle, control::shown_in};

use crate::{
    link::{open_area, send_in_order},
    show::Shown,
    wire::FromEval,
};

/// What [`display`] returns: a place on the page, to be filled anew.
///
/// ```no_run
/// let shown = skep_eval::display("working");
/// shown.update("done");
/// ```
pub struct DisplayHandle {
    id: String,
}

impl DisplayHandle {
    /// Replaces what this handle shows.
    pub fn update<Kind, T: Shown<Kind>>(&self, value: T) {
        let bundle = value.shown();
        if !send_in_order(&FromEval::UpdateDisplay {
            id: self.id.clone(),
            bundle: bundle.clone(),
        }) {
            println!("{}", bundle.plain());
        }
    }
}

/// Shows a value now, in the middle of a cell. Outside a notebook its text is printed.
pub fn display<Kind, T: Shown<Kind>>(value: T) -> DisplayHandle {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = format!(
        "skep-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    );
    let bundle = value.shown();
    if !send_in_order(&FromEval::Display {
        id: Some(id.clone()),
        bundle: bundle.clone(),
    }) {
        println!("{}", bundle.plain());
    }
    if let Some(control) = shown_in(&bundle) {
        open_area(control);
    }
    DisplayHandle { id }
}

/// How the ids of pictures of work under way begin.
pub const MOVING: &str = "skep-progress-flow-";

/// A picture of work under way, drawn anew while a cell waits: in the terminal it stands where progress stands, and a script
/// leaves it out. Outside a notebook it is not shown.
#[derive(Default)]
pub struct Moving {
    id: Option<String>,
}

impl Moving {
    pub fn show(&mut self, bundle: Bundle) {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let message = match &self.id {
            Some(id) => FromEval::UpdateDisplay {
                id: id.clone(),
                bundle,
            },
            None => {
                let n = NEXT.fetch_add(1, Ordering::Relaxed);
                let id = format!("{MOVING}{}-{n}", std::process::id());
                self.id = Some(id.clone());
                FromEval::Display { id: Some(id), bundle }
            }
        };
        send_in_order(&message);
    }
}

/// Clears the cell's output; with `wait`, only when the next output arrives, so that nothing flickers.
pub fn clear_output(wait: bool) {
    send_in_order(&FromEval::ClearOutput { wait });
}

/// `show` knows the handle by this name: as the last line of a cell it is no result.
#[test]
fn the_name_of_a_handle_is_what_others_take_it_for() {
    assert_eq!(
        std::any::type_name::<DisplayHandle>(),
        "skep_eval::display::DisplayHandle"
    );
}
