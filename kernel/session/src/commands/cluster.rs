//! `:cluster`, `:workers`, `:tasks`, `:journey`, `:explain`, `:graph`.

use skep_cell::{CellError, Purpose};
use skep_cluster::{Dashboard, Delayed, Remote, model::cluster::ClusterInfo};
use skep_render::{Bundle, Message, Rich};

use super::{Call, failed};
use crate::{
    scope,
    state::{Handle, Session},
};

fn info(handle: &Handle) -> Result<ClusterInfo, Message> {
    let info = handle
        .host()
        .info()
        .ok_or(Message::new("the scheduler does not answer").hint("`:restart` begins anew"))?;
    if info.workers.is_empty() && info.losses.is_empty() {
        let names = skep_cluster::Cluster::names();
        let hint = match names.as_slice() {
            [] => "run `let cluster = Cluster::local().start()?;`".to_string(),
            [first, ..] => format!(
                "run `let cluster = Cluster::local().start()?;`. This looks at the notebook's own; clusters with a name show \
                 themselves: `Cluster::connect({first:?})?`. There is: {}",
                names.join(", ")
            ),
        };
        return Err(Message::new("there is no cluster yet").hint(hint));
    }
    Ok(info)
}

pub(super) fn cluster(handle: &Handle, _: &str) -> Result<Bundle, Message> {
    Ok(skep_cluster::card(&info(handle)?).bundle())
}

pub(super) fn workers(handle: &Handle, _: &str) -> Result<Bundle, Message> {
    Ok(skep_cluster::workers_card(&info(handle)?).bundle())
}

pub(super) fn dashboard(handle: &Handle, _: &str) -> Result<Bundle, Message> {
    Ok(Dashboard::at(handle.page().url()?).bundle())
}

pub(super) fn tasks(handle: &Handle, _: &str) -> Result<Bundle, Message> {
    info(handle)?;
    handle
        .stream()
        .ok_or_else(|| Message::new("no task has run yet").hint("`cluster.submit(f, x)` runs one"))
}

pub(super) fn journey(session: &mut Session, call: &Call<'_>) -> Result<Option<Bundle>, CellError> {
    of_variable(session, call, "journey", "()?", &[scope::path_of::<Remote<()>>()])
}

pub(super) fn explain(session: &mut Session, call: &Call<'_>) -> Result<Option<Bundle>, CellError> {
    of_variable(
        session,
        call,
        "explain",
        "()?",
        &[scope::path_of::<Remote<()>>(), scope::FRAME],
    )
}

pub(super) fn graph(session: &mut Session, call: &Call<'_>) -> Result<Option<Bundle>, CellError> {
    let is_frame = session
        .handle()
        .scope()
        .variables
        .iter()
        .any(|view| view.name == call.args && view.type_name == scope::FRAME);
    of_variable(
        session,
        call,
        "graph",
        if is_frame { "()?" } else { "()" },
        &[scope::path_of::<Delayed<()>>(), scope::FRAME],
    )
}

/// `:journey c` is `c.journey()`.
fn of_variable(
    session: &mut Session,
    call: &Call<'_>,
    method: &str,
    tail: &str,
    kinds: &[&str],
) -> Result<Option<Bundle>, CellError> {
    if call.args.is_empty() {
        return Err(failed(
            Message::new(format!("`:{method}` needs a variable"))
                .hint(format!("for example `:{method} total`; `:vars` lists them")),
        ));
    }
    let scope = session.handle().scope();
    let is_name = call.args.chars().all(|c| c.is_alphanumeric() || c == '_');
    match scope.variables.iter().find(|view| view.name == call.args) {
        None if is_name => {
            return Err(failed(
                Message::new(format!("there is no variable `{}`", call.args)).hint("`:vars` lists them"),
            ));
        }
        Some(view) if !kinds.iter().any(|kind| view.type_name.starts_with(kind)) => {
            let held = skep_render::short_type(&view.type_name);
            let hint = match method {
                "journey" => "handles that `submit` and `map` return have a journey",
                "explain" => {
                    "handles that `submit` and `map` return say what they wait for; a frame says how it would run"
                }
                _ => "`delayed!` calls and frames have a graph",
            };
            return Err(failed(
                Message::new(format!(
                    "`{}` is a `{held}`, which has nothing for `:{method}`",
                    call.args
                ))
                .hint(hint),
            ));
        }
        _ => {}
    }
    let level = session.level;
    session
        .run_rust(
            call.rust(&format!("{}.{method}{tail}", call.args)),
            Purpose::Run,
            level,
        )
        .0
        .map(|()| None)
}
