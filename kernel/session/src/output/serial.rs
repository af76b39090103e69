//! One output after the other, whatever thread it comes from.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::frontend::{Frontend, Output};

/// One call of the frontend at a time, whoever speaks.
pub struct Serial {
    pub frontend: Arc<dyn Frontend>,
    pub lock: Mutex<()>,
    /// Where the text of the running cell's result goes, for the history.
    pub last_result: Mutex<Option<Arc<Mutex<Option<String>>>>>,
    /// How people call cells that have a name of their own.
    pub titles: Mutex<BTreeMap<u32, String>>,
}

impl Serial {
    pub fn new(frontend: Arc<dyn Frontend>) -> Serial {
        Serial {
            frontend,
            lock: Mutex::default(),
            last_result: Mutex::default(),
            titles: Mutex::default(),
        }
    }

    /// Says `cell 3, line 2` where an output names a generated file: what `dbg!` prints, and errors of tasks.
    fn in_cells(&self, output: Output) -> Output {
        let titles = self.titles.lock().unwrap_or_else(PoisonError::into_inner);
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
            && let Some(last) = &*self.last_result.lock().unwrap_or_else(PoisonError::into_inner)
        {
            *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(bundle.plain().to_string());
        }
        let _guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.frontend.output(cell, output);
    }

    fn ask(&self, cell: u32, prompt: &str, password: bool) -> Option<String> {
        self.frontend.ask(cell, prompt, password)
    }
}
