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

/// The name that the result gets, if any, and the query.
fn parts<'t>(args: &'t str, text: &'t str) -> (Option<&'t str>, &'t str) {
    // The rest of the command's line, if it is a name.
    let below = text.trim_start();
    let below = below.strip_prefix(args).unwrap_or(below);
    let is_name = !below.trim().is_empty()
        && !args.is_empty()
        && args.chars().all(|c| c.is_alphanumeric() || c == '_')
        && !args.starts_with(|c: char| c.is_numeric());
    if is_name {
        (Some(args), below.trim())
    } else {
        (None, text.trim())
    }
}

fn words(query: &str) -> Vec<&str> {
    query
        .split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .filter(|word| !word.is_empty())
        .collect()
}

/// What runs the query over tables that are variables of these names.
fn over(query: &str, tables: &[&str]) -> String {
    let registered: Vec<String> = tables
        .iter()
        .map(|name| format!("({name:?}, ::skep::Table::from(&{name}))"))
        .collect();
    format!("::skep::sql({query:?}, &[{}])?", registered.join(", "))
}

/// A `%%sql` as Rust, for a program in which no types are known: what stands behind `from`, `join` or a comma is a table if it is a
/// variable.
pub(super) fn as_rust(args: &str, text: &str, is_variable: &dyn Fn(&str) -> bool) -> Option<String> {
    let (name, query) = parts(args, text);
    if query.is_empty() {
        return None;
    }
    let spaced = query.replace(',', " , ");
    let all: Vec<&str> = spaced.split_whitespace().collect();
    let mut tables: Vec<&str> = all
        .windows(2)
        .filter(|pair| matches!(pair[0].to_lowercase().as_str(), "from" | "join" | ","))
        .filter_map(|pair| words(pair[1]).first().copied())
        .filter(|word| is_variable(word))
        .collect();
    tables.sort_unstable();
    tables.dedup();
    let run = over(query, &tables);
    Some(match name {
        Some(name) => format!("let {name} = {run};\n{name}"),
        None => run,
    })
}

pub(super) fn sql(session: &mut Session, call: &Call<'_>) -> Result<Option<Bundle>, CellError> {
    let (name, query) = parts(call.args, call.text);
    if query.is_empty() {
        return Err(failed(
            "`%%sql` needs a query below it\nhint: for example `select Origin, count(*) from flights group by Origin`",
        ));
    }
    if let Some(why) = session.home.no_frames() {
        return Err(failed(why));
    }
    let scope = session.handle().scope();
    let words = words(query);
    let tables: Vec<&str> = scope
        .variables
        .iter()
        .filter(|view| TABLES.contains(&view.type_name.as_str()) && words.contains(&view.name.as_str()))
        .map(|view| view.name.as_str())
        .collect();
    let run = over(query, &tables);
    let code = match name {
        Some(name) => format!("let {name} = {run}; {name}.clone()"),
        None => run,
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
        .hint()
        .unwrap_or("hint: tables are variables of the notebook; `:vars` lists them");
    session_error("SQL", format!("{}\n{hint}", error.message))
}

#[test]
fn a_query_becomes_rust() {
    let is_variable = |name: &str| ["flights", "planes"].contains(&name);
    assert_eq!(
        as_rust(
            "",
            "\nselect planes from flights f, other join planes using (id)",
            &is_variable
        )
        .unwrap(),
        "::skep::sql(\"select planes from flights f, other join planes using (id)\", &[(\"flights\", ::skep::Table::from(&flights)), (\"planes\", ::skep::Table::from(&planes))])?"
    );
    assert_eq!(
        as_rust("out", " out\nselect 1", &is_variable).unwrap(),
        "let out = ::skep::sql(\"select 1\", &[])?;\nout"
    );
    assert_eq!(as_rust("", " \n", &is_variable), None);
}
