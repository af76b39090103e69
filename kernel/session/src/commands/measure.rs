//! `:type`, `:time`, `:bench`, `:opt`.

use skep_cell::{CellError, Purpose};
use skep_render::{Bundle, Message, duration};

use super::{Call, failed};
use crate::state::Session;

pub(super) fn type_of(session: &mut Session, call: &Call<'_>) -> Result<Option<Bundle>, CellError> {
    needs_code(call, "type", "x")?;
    session
        .run_rust(call.rust(call.text), Purpose::Type, 0)
        .0
        .map(|()| None)
}

pub(super) fn time(session: &mut Session, call: &Call<'_>) -> Result<Option<Bundle>, CellError> {
    needs_code(call, "time", "flights.collect()?")?;
    let level = session.level;
    let (result, timing) = session.run_rust(call.rust(call.text), Purpose::Run, level);
    if let Some(ran) = timing.run {
        session.say(
            call.cell,
            &format!(
                "time: {} to compile, {} to run",
                duration(timing.compile),
                duration(ran)
            ),
        );
    }
    result.map(|()| None)
}

pub(super) fn bench(session: &mut Session, call: &Call<'_>) -> Result<Option<Bundle>, CellError> {
    needs_code(call, "bench", "(0..1000).sum::<i32>()")?;
    session
        .run_rust(call.rust(call.text), Purpose::Bench, 3)
        .0
        .map(|()| None)
}

fn needs_code(call: &Call<'_>, name: &str, example: &str) -> Result<(), CellError> {
    if call.text.trim().is_empty() {
        Err(failed(
            Message::new(format!("`:{name}` needs code")).hint(format!("for example `:{name} {example}`")),
        ))
    } else {
        Ok(())
    }
}

pub(super) fn opt(session: &mut Session, call: &Call<'_>) -> Result<Option<Bundle>, CellError> {
    if !call.args.is_empty() {
        let level = call.args.parse::<u8>().ok().filter(|level| *level <= 3);
        session.level = level.ok_or_else(|| {
            failed(
                Message::new(format!("`{}` is no optimisation level", call.args))
                    .hint("0, 1, 2 or 3; 0 compiles fastest"),
            )
        })?;
    }
    let what = match session.level {
        0 => "compiles fastest; functions on workers are optimised anyway",
        1 => "some optimisation; cells take several times as long to compile",
        _ => "release speed; cells take several times as long to compile",
    };
    Ok(Some(Bundle::text(format!(
        "cells are compiled with opt-level {}: {what}",
        session.level
    ))))
}
