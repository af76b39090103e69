//! `:flows`.

use skep_flow::Flow;
use skep_render::{Bundle, Message, Rich};

use crate::state::Handle;

pub(super) fn flows(_: &Handle, run: &str) -> Result<Bundle, Message> {
    let shown = match run.trim() {
        "" => Flow::runs().map(|runs| runs.bundle()),
        id => Flow::run_of(id).map(|run| run.bundle()),
    };
    shown.map_err(|error| error.message())
}
