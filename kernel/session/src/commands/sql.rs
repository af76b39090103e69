//! `%%sql`: a query whose tables are the notebook's variables.

use skep_cell::{CellError, Purpose};
use skep_render::Bundle;

use super::{Call, failed};
use crate::{errors::session_error, state::Session};

/// Types that can be a table, as `type_name` prints them.
const TABLES: [&str; 3] = [
    "skep_frame::frame::Frame",
    "polars_core::frame::dataframe::DataFrame",
    "polars_lazy::frame::LazyFrame",
];

pub(super) fn sql(session: &mut Session, call: &Call<'_>) -> Result<Option<Bundle>, CellError> {
    // The rest of the command's line, if it is a name, is where the result goes.
    let text = call.text.trim_start();
    let name = call.args;
    let below = text.strip_prefix(name).unwrap_or(text);
    let is_name = !below.trim().is_empty()
        && !name.is_empty()
        && name.chars().all(|c| c.is_alphanumeric() || c == '_')
        && !name.starts_with(|c: char| c.is_numeric());
    let query = if is_name { below } else { call.text }.trim();
    if query.is_empty() {
        return Err(failed(
            "`%%sql` needs a query below it\nhint: for example `select Origin, count(*) from flights group by Origin`",
        ));
    }
    let scope = session.handle().scope();
    let words: Vec<&str> = query
        .split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .collect();
    let tables: Vec<&str> = scope
        .variables
        .iter()
        .filter(|view| TABLES.contains(&view.type_name.as_str()) && words.contains(&view.name.as_str()))
        .map(|view| view.name.as_str())
        .collect();
    let registered: Vec<String> = tables
        .iter()
        .map(|name| format!("({name:?}, ::skep::Table::from(&{name}))"))
        .collect();
    let run = format!("::skep::sql({query:?}, &[{}])?", registered.join(", "));
    let code = if is_name {
        format!("let {name} = {run}; {name}.clone()")
    } else {
        run
    };
    let level = session.level;
    session
        .run_rust(call.rust(&code), Purpose::Run, level)
        .0
        .map(|()| None)
        .map_err(|error| of_query(&error))
}

/// The place is one in code that nobody wrote.
fn of_query(error: &CellError) -> CellError {
    if error.place.is_none() {
        return error.clone();
    }
    let hint = error
        .plain
        .lines()
        .rfind(|line| line.starts_with("hint: "))
        .unwrap_or("hint: tables are variables of the notebook; `:vars` lists them");
    session_error("SQL", format!("{}\n{hint}", error.message))
}
