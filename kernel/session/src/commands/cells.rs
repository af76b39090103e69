//! `:vars`, `:clear`.

use skep_cell::CellError;
use skep_render::{Bundle, bytes, card::Card, plural, short_type};

use super::{Call, failed};
use crate::session::{Handle, Session, View};

pub(super) fn vars(handle: &Handle, _: &str) -> Result<Bundle, String> {
    let scope = handle.scope();
    if scope.variables.is_empty() {
        return Ok(Bundle::text("no variables yet"));
    }
    let rows = scope.variables.iter().map(|view| [view.name.clone(), short_type(&view.type_name), bytes(view.size), view.from.clone(), place(view)]);
    Ok(Card::new(format!("Variables: {}", scope.variables.len())).table(["name", "type", "size", "from", "lives"], rows).bundle())
}

/// Handles are here, what they stand for is not.
fn place(view: &View) -> String {
    let is_of = |name: &str| view.type_name.starts_with(name);
    if is_of("skep_cluster::cluster::Remote<") {
        "on a worker; the handle here".to_string()
    } else if is_of("skep_frame::frame::Frame") {
        "partitions on workers or in files; the plan here".to_string()
    } else {
        "here".to_string()
    }
}

pub(super) fn clear(session: &mut Session, call: &Call<'_>) -> Result<Option<Bundle>, CellError> {
    let names: Vec<&str> = call.args.split([' ', ',']).filter(|name| !name.is_empty()).collect();
    let scope = session.handle().scope();
    if let Some(unknown) = names.iter().find(|name| !scope.variables.iter().any(|view| view.name == **name)) {
        return Err(failed(&format!("there is no variable `{unknown}`\nhint: `:vars` lists them; `:clear` alone forgets all")));
    }
    let n = session.clear_variables(&names);
    Ok(Some(Bundle::text(format!("forgot {}", plural(n, "variable")))))
}
