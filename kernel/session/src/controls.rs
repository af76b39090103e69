//! The controls of an evaluation process, and what the cell that runs has begun with them.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use skep_render::control::Control;

use crate::{
    evaluator::ControlReport,
    frontend::{Frontend, Output},
    output::serial::Serial,
};

#[derive(Default)]
pub(crate) struct Controls(Mutex<State>);

#[derive(Default)]
struct State {
    known: BTreeMap<u64, Control>,
    begun: Begun,
}

#[derive(Default)]
pub(crate) struct Begun {
    pub interactions: Vec<Interaction>,
    /// Controls that stand alone.
    pub shown: Vec<u64>,
}

/// A closure that runs when one of these is set, and the place for what it shows.
pub(crate) struct Interaction {
    pub controls: Vec<u64>,
    pub area: String,
}

impl Controls {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a control stands at from now on.
    pub fn put(&self, id: u64, control: Control) {
        self.lock().known.insert(id, control);
    }

    /// Forgets them; whether there were any.
    pub fn forget(&self) -> bool {
        let mut state = self.lock();
        state.begun = Begun::default();
        !std::mem::take(&mut state.known).is_empty()
    }

    pub fn on_report(&self, report: ControlReport, frontend: &Serial) {
        match report {
            ControlReport::Control { id, control } => {
                self.put(id, control.clone());
                frontend.output(0, Output::Control { id, control });
            }
            ControlReport::Shown(id) => self.lock().begun.shown.push(id),
            ControlReport::Interact { controls, area } => {
                let begun = &mut self.lock().begun;
                begun.shown.retain(|id| !controls.contains(id));
                begun.interactions.push(Interaction { controls, area });
            }
            ControlReport::Area(place) => frontend.show_at(&place),
        }
    }

    pub fn take_begun(&self) -> Begun {
        std::mem::take(&mut self.lock().begun)
    }

    pub fn get(&self, id: u64) -> Option<Control> {
        self.lock().known.get(&id).cloned()
    }
}
