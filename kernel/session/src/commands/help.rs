//! `:help`, `?name`, `:assist`.

use skep_render::{Bundle, Message, card::Card};

use super::{COMMANDS, Command};
use crate::state::Handle;

pub(super) fn help(_: &Handle, args: &str) -> Result<Bundle, Message> {
    if !args.is_empty() {
        let name = args.trim_start_matches([':', '%']);
        return Ok(Bundle::markdown(describe(super::find(name, false)?)));
    }
    let rows = COMMANDS
        .iter()
        .map(|command| [command.usage.to_string(), command.help.to_string()]);
    let scope = "Cluster::local(), cluster.submit(f, args), cluster.map(f, items), cluster.gather(&handles), delayed!(f(x)), Frame::read_csv(glob), Frame::read_parquet(glob), display(x), input(prompt), df!, col, lit, when, slider, select, interact(f, control), cluster.performance(f), .what_if(), Flow::new(name, f), task(f), Flow::runs()";
    Ok(
        Card::new("A cell is Rust: items, statements, and a last expression that is shown")
            .table(["command", "what it does"], rows)
            .note(format!(
                "in scope without imports: {scope}\n?name says what a name is, ?:name what a command does"
            ))
            .bundle(),
    )
}

/// A command's own page, as Markdown.
pub(crate) fn describe(command: &Command) -> String {
    let more = if command.more.is_empty() {
        String::new()
    } else {
        format!("\n\n{}", command.more)
    };
    format!("**`{}`**: {}{more}", command.usage, command.help)
}

/// `?name`
pub(super) fn page(handle: &Handle, name: &str) -> Result<Bundle, Message> {
    if name.is_empty() {
        return help(handle, "");
    }
    if let Some(text) = handle.describe(name) {
        return Ok(Bundle::markdown(text));
    }
    if let Some(why) = handle.missing_of_frames(name) {
        return Err(why);
    }
    let is_ready = handle.assist().is_ready();
    let hint = match handle.assist().is_coming() {
        _ if is_ready => "names of this notebook, of std, Polars and Skep can be asked for: `?Frame`, `?Vec::push`, `?my_function`".to_string(),
        Some(reading) => format!("the analyser, which knows std, Polars and Skep, is {reading}; ask again then"),
        None => format!("the analyser, which knows std, Polars and Skep, is {}", handle.assist().describe()),
    };
    Err(Message::new(format!("nothing is known about `{name}`")).hint(hint))
}

pub(super) fn assist(handle: &Handle, args: &str) -> Result<Bundle, Message> {
    match args {
        "" => {}
        "on" => handle.assist().set_on(true),
        "off" => handle.assist().set_on(false),
        other => {
            return Err(Message::new(format!("`:assist {other}` is not a thing"))
                .hint("`:assist on`, `:assist off`, or `:assist` alone"));
        }
    }
    Ok(Bundle::text(format!("assist is {}", handle.assist().describe())))
}
