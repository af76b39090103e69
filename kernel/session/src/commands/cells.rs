//! `:vars`, `:clear`.

use skep_cell::{CellError, Purpose};
use skep_cluster::Remote;
use skep_render::{Bundle, Message, bytes, plural, short_type};

use super::{Call, failed};
use crate::{
    scope::is_a,
    state::{Handle, Session},
    view::View,
};

/// More rows than this nobody reads; the newest are shown.
const MOST_ROWS: usize = 40;

/// Compiles a look at each variable: what its type can say of it is known to the compiler alone.
pub(super) fn vars(session: &mut Session, call: &Call<'_>) -> Result<Option<Bundle>, CellError> {
    let scope = session.handle().scope();
    let shown = &scope.variables[scope.variables.len().saturating_sub(MOST_ROWS)..];
    if shown.is_empty() {
        return Ok(Some(Bundle::text("no variables yet")));
    }
    let look = |View {
                    name,
                    from,
                    type_name,
                    ..
                }: &View| {
        format!(
            "{{ let look = ::skep::cell::Look(&{name}); ::skep::cell::row({name:?}, {from:?}, {:?}, &{name}, (&&&&&look).__skep_look(), (&&&look).__skep_heap()) }}",
            place(type_name)
        )
    };
    let rows: Vec<String> = shown.iter().map(look).collect();
    let source = format!(
        "{{ use ::skep::cell::looks::*; ::skep::cell::show_rows({}, vec![{}]) }}",
        scope.variables.len(),
        rows.join(", ")
    );
    match session.run_rust(call.rust(&source), Purpose::Run, 0).0 {
        Ok(()) => Ok(None),
        Err(error) if error.name == "Interrupted" => Err(error),
        Err(error) => {
            let why = if error.name == "Panic" {
                format!("a value panicked when it was looked at: {}", error.message)
            } else {
                "a closer look at the values did not compile".to_string()
            };
            Ok(Some(types_alone(&scope.variables, &why)))
        }
    }
}

/// While a cell has the variables.
pub(super) fn vars_now(handle: &Handle, _: &str) -> Result<Bundle, Message> {
    Ok(types_alone(
        &handle.scope().variables,
        "as they were before the cell that runs; when it has ended, their values are shown too",
    ))
}

fn types_alone(variables: &[View], why: &str) -> Bundle {
    if variables.is_empty() {
        return Bundle::text("no variables yet");
    }
    let rows = variables.iter().map(|view| {
        [
            view.name.clone(),
            short_type(&view.type_name),
            bytes(view.size),
            view.from.clone(),
        ]
    });
    skep_eval::look::plain_rows(rows, why)
}

/// Handles are here, what they stand for is not.
fn place(type_name: &str) -> &'static str {
    if is_a::<Remote<()>>(type_name) {
        "on a worker"
    } else {
        ""
    }
}

pub(super) fn clear(session: &mut Session, call: &Call<'_>) -> Result<Option<Bundle>, CellError> {
    let names: Vec<&str> = call
        .args
        .split([' ', ','])
        .filter(|name| !name.is_empty())
        .collect();
    let scope = session.handle().scope();
    if let Some(unknown) = names
        .iter()
        .find(|name| !scope.variables.iter().any(|view| view.name == **name))
    {
        return Err(failed(
            Message::new(format!("there is no variable `{unknown}`"))
                .hint("`:vars` lists them; `:clear` alone forgets all"),
        ));
    }
    let n = session.clear_variables(&names);
    Ok(Some(Bundle::text(format!("forgot {}", plural(n, "variable")))))
}
