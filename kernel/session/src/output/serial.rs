//! One output after the other, whatever thread it comes from.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use skep_eval::MOVING;
use skep_render::Bundle;

use crate::frontend::{Frontend, Output};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One call of the frontend at a time, whoever speaks.
pub struct Serial {
    pub frontend: Arc<dyn Frontend>,
    pub lock: Mutex<()>,
    /// Where the text of the running cell's result goes, for the history.
    pub last_result: Mutex<Option<Arc<Mutex<Option<String>>>>>,
    /// How people call cells that have a name of their own.
    pub titles: Mutex<BTreeMap<u32, String>>,
    /// What the turn of a control has shown, while one goes on.
    turn: Mutex<Option<Turn>>,
    /// The newest cell that shows a flow while it runs.
    flow_in: AtomicU32,
}

/// What reacts to a control shows its results in a place below it: all that a turn shows becomes one.
struct Turn {
    cell: u32,
    place: Option<String>,
    parts: Vec<Part>,
}

struct Part {
    id: Option<String>,
    is_text: bool,
    bundle: Bundle,
}

impl Turn {
    fn open(&mut self, place: &str) {
        (self.place, self.parts) = (Some(place.to_string()), Vec::new());
    }

    /// What is shown now; the output itself where it belongs elsewhere.
    fn add(&mut self, output: Output) -> Option<Output> {
        match output {
            Output::Text { text, .. } => match self.parts.last_mut() {
                Some(last) if last.is_text => {
                    last.bundle = Bundle::text(last.bundle.plain().to_string() + &text)
                }
                _ => self.push(None, true, Bundle::text(text)),
            },
            Output::Result(bundle) => self.push(None, false, bundle),
            Output::Display { id, bundle } => self.push(id, false, bundle),
            Output::UpdateDisplay { id, bundle } => {
                let is_it = |part: &&mut Part| part.id.as_ref() == Some(&id);
                match self.parts.iter_mut().find(is_it) {
                    Some(part) => part.bundle = bundle,
                    None => return Some(Output::UpdateDisplay { id, bundle }),
                }
            }
            Output::ClearOutput { .. } => self.parts.clear(),
            other => return Some(other),
        }
        let parts: Vec<Bundle> = self.parts.iter().map(|part| part.bundle.clone()).collect();
        Some(Output::UpdateDisplay {
            id: self.place.clone()?,
            bundle: Bundle::stacked(&parts),
        })
    }

    fn push(&mut self, id: Option<String>, is_text: bool, bundle: Bundle) {
        self.parts.push(Part { id, is_text, bundle });
    }
}

impl Serial {
    pub fn new(frontend: Arc<dyn Frontend>) -> Serial {
        Serial {
            frontend,
            lock: Mutex::default(),
            last_result: Mutex::default(),
            titles: Mutex::default(),
            turn: Mutex::default(),
            flow_in: AtomicU32::new(0),
        }
    }

    /// Whether this cell shows a flow while it runs.
    pub fn shows_flow(&self, cell: u32) -> bool {
        cell != 0 && self.flow_in.load(Ordering::Relaxed) == cell
    }

    /// From here on, what `cell` shows stands where [`Serial::show_at`] says.
    pub fn begin_turn(&self, cell: u32) {
        *lock(&self.turn) = Some(Turn {
            cell,
            place: None,
            parts: Vec::new(),
        });
    }

    pub fn show_at(&self, place: &str) {
        if let Some(turn) = &mut *lock(&self.turn) {
            turn.open(place);
        }
    }

    pub fn end_turn(&self) {
        *lock(&self.turn) = None;
    }

    /// Says `cell 3, line 2` where an output names a generated file: what `dbg!` prints, and errors of tasks.
    fn in_cells(&self, output: Output) -> Output {
        let titles = lock(&self.titles);
        let map = |text: &str| skep_cell::in_cells(text, &titles);
        match output {
            Output::Text { is_stderr, text } if text.contains("cell-") => Output::Text {
                is_stderr,
                text: map(&text),
            },
            Output::Result(bundle) if bundle.plain().contains("cell-") => Output::Result(bundle.map(map)),
            Output::Display { id, bundle } if bundle.plain().contains("cell-") => Output::Display {
                id,
                bundle: bundle.map(map),
            },
            Output::UpdateDisplay { id, bundle } if bundle.plain().contains("cell-") => {
                Output::UpdateDisplay {
                    id,
                    bundle: bundle.map(map),
                }
            }
            other => other,
        }
    }
}

impl Frontend for Serial {
    fn output(&self, cell: u32, output: Output) {
        let output = self.in_cells(output);
        if let Output::Result(bundle) = &output
            && let Some(last) = &*lock(&self.last_result)
        {
            *lock(last) = Some(bundle.plain().to_string());
        }
        if let Output::Display { id: Some(id), .. } = &output
            && id.starts_with(MOVING)
        {
            self.flow_in.store(cell, Ordering::Relaxed);
        }
        let _guard = lock(&self.lock);
        let output = match &mut *lock(&self.turn) {
            Some(turn) if turn.cell == cell => turn.add(output),
            _ => Some(output),
        };
        match output {
            // A place below a control, where nothing will ever stand.
            Some(Output::Display { id: Some(_), bundle })
                if bundle == Bundle::default() && !self.frontend.has_live_controls() => {}
            Some(output) => self.frontend.output(cell, output),
            None => {}
        }
    }

    fn ask(&self, cell: u32, prompt: &str, password: bool) -> Option<String> {
        self.frontend.ask(cell, prompt, password)
    }

    fn has_live_controls(&self) -> bool {
        self.frontend.has_live_controls()
    }
}

#[test]
fn what_a_turn_shows_stands_in_its_place() {
    let mut turn = Turn {
        cell: 1,
        place: None,
        parts: Vec::new(),
    };
    let text = |text: &str| Output::Text {
        is_stderr: false,
        text: text.to_string(),
    };
    assert_eq!(turn.add(text("nowhere")), None);
    turn.open("below");
    let mut shown = |output| match turn.add(output) {
        Some(Output::UpdateDisplay { id, bundle }) => format!("{id}: {}", bundle.plain()),
        other => format!("{other:?}"),
    };
    let bar = |id: &str, text: &str| Output::UpdateDisplay {
        id: id.to_string(),
        bundle: Bundle::text(text),
    };
    assert_eq!(shown(text("a")), "below: a");
    assert_eq!(shown(text("b")), "below: ab");
    let begun = Output::Display {
        id: Some("bar".into()),
        bundle: Bundle::text("0 of 2"),
    };
    assert_eq!(shown(begun), "below: ab\n0 of 2");
    assert_eq!(shown(bar("bar", "2 of 2")), "below: ab\n2 of 2");
    assert_eq!(
        shown(bar("elsewhere", "x")),
        "elsewhere: x",
        "a handle of another cell"
    );
    assert_eq!(shown(Output::Result(Bundle::text("4"))), "below: ab\n2 of 2\n4");
    assert_eq!(shown(Output::ClearOutput { wait: true }), "below: ");
}
