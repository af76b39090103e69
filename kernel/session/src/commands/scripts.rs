//! `:history`, `:save`, `:load`, `:edit`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command as Process,
};

use skep_cell::CellError;
use skep_render::{Bundle, Message, card::Card, plural};

use super::project;
use super::{Call, failed};
use crate::{
    script,
    state::{Handle, Session},
};

pub(super) fn history(handle: &Handle, args: &str) -> Result<Bundle, Message> {
    let history = handle.history();
    let entries = match args.parse::<usize>() {
        Ok(n) => history.tail(n),
        Err(_) if args.is_empty() => history.tail(20),
        Err(_) => history.search(&format!("*{args}*"), 40, true),
    };
    if entries.is_empty() {
        let is_search = !args.is_empty() && args.parse::<usize>().is_err();
        return Ok(Bundle::text(if is_search {
            format!("nothing in the history contains `{args}`")
        } else {
            "nothing was executed yet".to_string()
        }));
    }
    let rows = entries.iter().map(|entry| {
        [
            format!("{}/{}", entry.session, entry.line),
            entry.input.trim().to_string(),
        ]
    });
    Ok(Card::new(format!(
        "History: {}",
        match entries.len() {
            1 => "1 entry".to_string(),
            n => format!("{n} entries"),
        }
    ))
    .table(["session/cell", "code"], rows)
    .bundle())
}

pub(super) fn save(session: &mut Session, call: &Call<'_>) -> Result<Option<Bundle>, CellError> {
    let path = path_of(call, "save", "session.rs")?;
    let own = session.handle().history().own();
    let cells: Vec<&str> = own
        .iter()
        .filter(|entry| !entry.has_failed && super::changes_something(&entry.input))
        .map(|entry| entry.input.as_str())
        .collect();
    let explain = |error: std::io::Error| {
        failed(
            Message::new(format!("{} cannot be written: {error}", path.display()))
                .hint("name a folder that exists and is yours"),
        )
    };
    // Beside it first: a full disk leaves the old file as it was.
    let fresh = path.with_extension("rs.new");
    fs::write(&fresh, script::join(&cells))
        .and_then(|()| fs::rename(&fresh, &path))
        .map_err(explain)?;
    Ok(Some(Bundle::text(format!(
        "wrote {} to {}",
        plural(cells.len(), "cell"),
        path.display()
    ))))
}

/// `:new hive 1 3-5`
pub(super) fn new(session: &mut Session, call: &Call<'_>) -> Result<Option<Bundle>, CellError> {
    let quoted = call.args.strip_prefix('"').and_then(|rest| rest.split_once('"'));
    let (name, wanted) = quoted.unwrap_or_else(|| call.args.split_once(' ').unwrap_or((call.args, "")));
    if name.is_empty() {
        return Err(failed(
            Message::new("`:new` needs a name")
                .hint("for example `:new hive`, or `:new hive 1 3-5` for some cells"),
        ));
    }
    let wanted = project::numbers(wanted).map_err(failed)?;
    let ran = &session.executed;
    if let Some(missing) = wanted
        .iter()
        .find(|number| ran.iter().all(|cell| cell.number != **number))
    {
        return Err(failed(
            Message::new(format!("there is no cell {missing} that ran to its end"))
                .hint("`:history` lists cells with their numbers"),
        ));
    }
    let chosen: Vec<project::Chosen> = ran
        .iter()
        .filter(|cell| {
            wanted.contains(&cell.number) || (wanted.is_empty() && super::changes_something(&cell.text))
        })
        .map(|cell| project::Chosen {
            title: format!("cell {}", cell.number),
            text: cell.text.clone(),
        })
        .collect();
    if chosen.is_empty() {
        return Err(failed(
            Message::new("no cell has run yet that a project could be made of").hint("run some first"),
        ));
    }
    session.begin_compiling();
    let folder = home_folder(name);
    let made = project::create(&session.home, &folder, &chosen).map_err(failed)?;
    Ok(Some(Bundle::text(made.plain(&session.home))))
}

pub(super) fn load(session: &mut Session, call: &Call<'_>) -> Result<Option<Bundle>, CellError> {
    let path = path_of(call, "load", "session.rs")?;
    let cells = script::read(&path).map_err(|error| failed(&error))?;
    let n = cells.len();
    for cell in cells {
        session.execute_script_cell(&cell)?;
    }
    Ok(Some(Bundle::text(format!(
        "ran {} of {}",
        plural(n, "cell"),
        path.display()
    ))))
}

fn path_of(call: &Call<'_>, name: &str, example: &str) -> Result<PathBuf, CellError> {
    let path = call.args.trim_matches('"');
    if path.is_empty() {
        return Err(failed(
            Message::new(format!("`:{name}` needs a file")).hint(format!("for example `:{name} {example}`")),
        ));
    }
    Ok(home_folder(path))
}

/// As a shell reads a path.
fn home_folder(path: &str) -> PathBuf {
    match path.strip_prefix("~/") {
        Some(rest) => PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(rest),
        None => PathBuf::from(path),
    }
}

/// Opens a cell's text in the person's editor and runs what comes back.
pub(super) fn edit(session: &mut Session, call: &Call<'_>) -> Result<Option<Bundle>, CellError> {
    if !session.has_terminal {
        return Err(failed(
            Message::new("`:edit` needs a terminal").hint("here, edit the cell itself and run it again"),
        ));
    }
    let own = session.handle().history().own();
    let text = match call.args.parse::<u32>() {
        Ok(line) => own
            .iter()
            .find(|entry| entry.line == line)
            .map(|entry| entry.input.clone())
            .ok_or_else(|| {
                failed(Message::new(format!("there is no cell {line}")).hint("`:history` lists them"))
            })?,
        Err(_) if call.args.is_empty() => own
            .iter()
            .rev()
            .find(|entry| !entry.input.trim_start().starts_with(':'))
            .map(|entry| entry.input.clone())
            .unwrap_or_default(),
        Err(_) => {
            return Err(failed(
                Message::new(format!("`{}` is no cell's number", call.args))
                    .hint("`:edit 3`, or `:edit` for the last one"),
            ));
        }
    };
    let path = session.folder().join("edit.rs");
    let broken = |error: std::io::Error| {
        failed(
            Message::new(format!("the cell could not be edited: {error}"))
                .hint("set $EDITOR to an editor that is installed"),
        )
    };
    fs::write(&path, &text).map_err(broken)?;
    open_editor(&path).map_err(broken)?;
    let edited = fs::read_to_string(&path).map_err(broken)?;
    if edited.trim().is_empty() || edited == text {
        return Ok(Some(Bundle::text("nothing to run: the text was not changed")));
    }
    session.say(call.cell, edited.trim_end());
    session.execute_script_cell(&script::Cell {
        title: None,
        text: edited,
        index: None,
        may_fail: false,
    })?;
    Ok(None)
}

fn open_editor(path: &Path) -> std::io::Result<()> {
    let named = ["VISUAL", "EDITOR"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok())
        .find(|editor| !editor.trim().is_empty());
    let editor = named.unwrap_or_else(|| "vi".to_string());
    let mut words = editor.split_whitespace();
    let program = words.next().unwrap_or("vi");
    let status = Process::new(program)
        .args(words)
        .arg(path)
        .status()
        .map_err(|error| std::io::Error::new(error.kind(), format!("`{program}`: {error}")))?;
    if status.success() {
        Ok(())
    } else {
        Err(std::io::Error::other(format!("`{program}` ended with {status}")))
    }
}
