//! `:dep`.

use build::Build;
use skep_cell::CellError;
use skep_render::Bundle;

use crate::{
    commands::{Call, failed},
    deps::{inside_skep, of_folder, parse},
    state::Session,
};

pub(super) mod build;

/// The command.
pub(crate) fn dep(session: &mut Session, call: &Call<'_>) -> Result<Option<Bundle>, CellError> {
    if call.args.is_empty() {
        return Ok(Some(session.dependencies.list()));
    }
    let args = of_folder(call.args).map_err(failed)?;
    let (name, value) = parse(&args).map_err(failed)?;
    if session.dependencies.wanted.get(&name) == Some(&value) {
        return Ok(Some(Bundle::text(format!("`{name}` is there already"))));
    }
    if name.starts_with("polars")
        && let Some(why) = session.home.no_frames()
    {
        return Err(failed(why));
    }
    if let Some(text) = inside_skep(&session.home, &name, &value) {
        return Ok(Some(Bundle::text(text)));
    }
    let built = Build::new(session, &name, &value).run(session, call.cell)?;
    // Of the rest nobody sees the types.
    let known = session
        .home
        .toolchain()
        .externs
        .iter()
        .map(|(name, _)| name.as_str())
        .chain(["chrono", "serde_core", "rayon"]);
    let apart: Vec<&str> = known
        .filter(|name| built.apart.iter().any(|apart| apart == name))
        .collect();
    if !apart.is_empty() {
        let text = format!(
            "note: built anew, with features or a version that Skep's own copy lacks: {}; types of these are not those that Skep and Polars use",
            apart.join(", ")
        );
        session.say(call.cell, &text);
    }
    session.dependencies.wanted.insert(name, value);
    session.dependencies.built.push(built);
    session.compiler.set_extra(session.dependencies.extra());
    Ok(None)
}
