//! Where the output of a session goes.

use skep_render::{Bundle, control::Control};

/// Something a cell shows, in the order it happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    Text {
        is_stderr: bool,
        text: String,
    },
    Result(Bundle),
    Display {
        id: Option<String>,
        bundle: Bundle,
    },
    UpdateDisplay {
        id: String,
        bundle: Bundle,
    },
    ClearOutput {
        wait: bool,
    },
    /// A control as it stands now; the first time, it is new.
    Control {
        id: u64,
        control: Control,
    },
    /// No control that was shown can be set any more.
    ControlsGone,
}

/// Where a session's output goes. Calls come from one thread at a time, in order.
pub trait Frontend: Send + Sync {
    /// `cell` is the one that runs, or the last that ran: threads may print after their cell has ended.
    fn output(&self, cell: u32, output: Output);

    /// Asks the person for a line; `None` where nobody can answer.
    fn ask(&self, cell: u32, prompt: &str, password: bool) -> Option<String>;

    /// Whether people can set controls where they are shown. Then what reacts to one shows its results in a place below it.
    fn has_live_controls(&self) -> bool {
        false
    }
}
