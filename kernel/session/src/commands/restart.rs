//! `:restart`, `:interrupt`.

use skep_cell::CellError;
use skep_render::{Bundle, Message};

use super::{Call, failed};
use crate::state::{Handle, Session};

pub(super) fn restart(session: &mut Session, _: &Call<'_>) -> Result<Option<Bundle>, CellError> {
    session.restart().map_err(|error| failed(&error))?;
    let mut text =
        "begun anew: variables, functions, types and the cluster are gone; history stays".to_string();
    // Frames come with a new process only.
    if let Some(why) = session.home.no_frames() {
        text += &format!("\n{why}");
    }
    Ok(Some(Bundle::text(text)))
}

pub(super) fn interrupt(handle: &Handle, _: &str) -> Result<Bundle, Message> {
    if handle.is_idle() {
        return Err(Message::new("nothing is running")
            .hint("`:interrupt` is for another window, or a second client, while a cell runs"));
    }
    handle.interrupt();
    Ok(Bundle::text("interrupted"))
}
