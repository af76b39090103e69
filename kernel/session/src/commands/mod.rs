//! Commands: lines that begin with a colon, `?name`, and `%%name` above a cell.
//!
//! One table defines each command's name, help, completion and dispatch, for Jupyter and the terminal alike.
//! Commands stand at the top of a cell, one a line; Rust may follow.

use skep_cell::CellError;
use skep_render::{Bundle, Message};

use crate::{
    errors::session_error,
    run::RustCell,
    state::{Handle, Session},
};

mod cells;
mod cluster;
mod course;
mod dep;
mod evcxr;
mod flows;
mod help;
mod measure;
pub mod project;
mod restart;
mod scripts;
pub(crate) mod shell;
mod sql;

pub(crate) use self::help::describe;

/// One command.
pub struct Command {
    pub name: &'static str,
    /// As it is typed, with its arguments.
    pub usage: &'static str,
    /// One line, for lists.
    pub help: &'static str,
    /// The rest of what a learner wants to know; `?:name` shows it.
    pub more: &'static str,
    run: Run,
}

enum Run {
    /// Answered at once, also while a cell runs.
    Anytime(fn(&Handle, &str) -> Result<Bundle, Message>),
    /// In its turn, as a cell; while another runs, what can be said at once.
    InTurnOrNow(
        fn(&mut Session, &Call) -> Result<Option<Bundle>, CellError>,
        fn(&Handle, &str) -> Result<Bundle, Message>,
    ),
    /// In its turn, as a cell.
    InTurn(fn(&mut Session, &Call) -> Result<Option<Bundle>, CellError>),
    /// As `InTurn`, with what follows it in the cell as its text.
    WithText(fn(&mut Session, &Call) -> Result<Option<Bundle>, CellError>),
}

/// A command as it was typed.
pub(crate) struct Call<'c> {
    pub cell: u32,
    pub cell_id: Option<&'c str>,
    pub title: Option<&'c str>,
    pub args: &'c str,
    /// The arguments and, for commands with a text, the rest of the cell; all at their own lines and columns.
    pub text: &'c str,
}

impl<'c> Call<'c> {
    pub fn rust(&self, source: &'c str) -> RustCell<'c> {
        RustCell {
            cell: self.cell,
            cell_id: self.cell_id,
            title: self.title,
            source,
            keeps_value: false,
        }
    }
}

pub const COMMANDS: &[Command] = &[
    Command {
        name: "help",
        usage: ":help",
        help: "what can be typed here",
        more: "`?name` says what a name is, `?:time` what a command does.",
        run: Run::Anytime(help::help),
    },
    Command {
        name: "vars",
        usage: ":vars",
        help: "the variables: type, length or shape, memory, value",
        more: "`size` counts what a value's vectors and strings hold; `≥` where its type does not tell. A `Remote` is a handle: its value is on a worker. While a cell runs, types alone.",
        run: Run::InTurnOrNow(cells::vars, cells::vars_now),
    },
    Command {
        name: "type",
        usage: ":type EXPRESSION",
        help: "the type of an expression, without running it",
        more: "`:type flights.group_by([col(\"Origin\")])` compiles the expression and runs nothing; variables stay where they are.",
        run: Run::WithText(measure::type_of),
    },
    Command {
        name: "time",
        usage: ":time CODE",
        help: "run code, and say how long it took to compile and to run",
        more: "The code may go on over the rest of the cell; `%%time` above a cell does the same.",
        run: Run::WithText(measure::time),
    },
    Command {
        name: "bench",
        usage: ":bench EXPRESSION",
        help: "run an expression many times at release speed, and say how long one takes",
        more: "Compiled with `-O3`. It runs for about two seconds; the median of the runs is what counts, the fastest and slowest tell how steady it is.",
        run: Run::WithText(measure::bench),
    },
    Command {
        name: "opt",
        usage: ":opt [0|1|2|3]",
        help: "how much the compiler optimises the cells from now on",
        more: "0 compiles fastest, and is the default: Polars and Skep are optimised anyway, and functions that run on workers always are. Use 2 or 3 for loops of your own in a cell.",
        run: Run::InTurn(measure::opt),
    },
    Command {
        name: "dep",
        usage: ":dep NAME [= \"VERSION\" | { … }]",
        help: "add a crate, as in the [dependencies] of a Cargo.toml",
        more: "`:dep regex`, `:dep rand = \"0.9\"`, `:dep mine = { path = \"../mine\" }`. It is built once and kept for this user; an interrupt cancels. `:dep` alone lists what was added. Crates that are part of Skep (serde, tokio, polars …) are used as they are, so types agree.",
        run: Run::InTurn(dep::dep),
    },
    Command {
        name: "sql",
        usage: "%%sql",
        help: "a query over the frames and DataFrames in scope; the cell below is SQL",
        more: "Tables are variables: `Frame`, `DataFrame` or `LazyFrame`. The result is shown as a table. `%%sql busy` keeps it as the variable `busy`.",
        run: Run::WithText(sql::sql),
    },
    Command {
        name: "clear",
        usage: ":clear [NAMES]",
        help: "forget variables, all or these; functions, types and the cluster stay",
        more: "`:clear` forgets all, `:clear df flights` those two.",
        run: Run::InTurn(cells::clear),
    },
    Command {
        name: "restart",
        usage: ":restart",
        help: "begin anew: variables, functions, types and the cluster go",
        more: "History stays. In Jupyter the menu Kernel > Restart does the same.",
        run: Run::InTurn(restart::restart),
    },
    Command {
        name: "interrupt",
        usage: ":interrupt",
        help: "stop the cell that runs; variables stay",
        more: "Works while a cell runs. A cell that does not stop is given up after a second, and goes on in the background; variables stay.",
        run: Run::Anytime(restart::interrupt),
    },
    Command {
        name: "history",
        usage: ":history [N | TEXT]",
        help: "what was executed, newest last; also of earlier sessions",
        more: "A number gives that many entries, a text those that contain it.",
        run: Run::Anytime(scripts::history),
    },
    Command {
        name: "save",
        usage: ":save FILE.rs",
        help: "write this session's cells to a script",
        more: "Cells are separated by `// %%` lines. `skep run FILE.rs` and `:load FILE.rs` run it.",
        run: Run::InTurn(scripts::save),
    },
    Command {
        name: "new",
        usage: ":new NAME [CELLS]",
        help: "make a Cargo project of this session's cells",
        more: "`:new hive` takes all cells that ran, `:new hive 1 3-5` those. The program starts its own cluster, takes the crates of `:dep` along, and is built by cargo in seconds. In a shell, `skep new hive --from FILE` does it for a notebook or a script.",
        run: Run::InTurn(scripts::new),
    },
    Command {
        name: "load",
        usage: ":load FILE",
        help: "run the cells of a script or a notebook here",
        more: "A `.rs` script with cells separated by `// %%`, or an `.ipynb`. Stops at the first error.",
        run: Run::InTurn(scripts::load),
    },
    Command {
        name: "edit",
        usage: ":edit [CELL]",
        help: "open a cell in your editor, and run it when the editor closes",
        more: "The last cell, or the one with the number given. The editor is $VISUAL or $EDITOR. In Jupyter, edit the cell itself.",
        run: Run::InTurn(scripts::edit),
    },
    Command {
        name: "cluster",
        usage: ":cluster",
        help: "the cluster at a glance",
        more: "Start one with `let cluster = Cluster::local().workers(4).start()?;`.",
        run: Run::Anytime(cluster::cluster),
    },
    Command {
        name: "workers",
        usage: ":workers",
        help: "each worker: process, memory, tasks, values; and the ones that were lost, with the reason",
        more: "",
        run: Run::Anytime(cluster::workers),
    },
    Command {
        name: "dashboard",
        usage: ":dashboard",
        help: "a page that shows the cluster while it works: task stream, progress, workers, logs",
        more: "`cluster.dashboard()?` is the same. The page is served on this machine only, to who has the link; it ends with the notebook.",
        run: Run::Anytime(cluster::dashboard),
    },
    Command {
        name: "tasks",
        usage: ":tasks",
        help: "the task stream: what each worker ran, and when",
        more: "A row for each worker thread and a bar for each task, coloured by function; gaps are time in which a worker had nothing to do.",
        run: Run::Anytime(cluster::tasks),
    },
    Command {
        name: "journey",
        usage: ":journey VARIABLE",
        help: "what happened to a task, stage by stage, and why it ran where it ran",
        more: "`:journey c` for a variable `c` that is a `Remote`; the same as `c.journey()`.",
        run: Run::InTurn(cluster::journey),
    },
    Command {
        name: "explain",
        usage: ":explain VARIABLE",
        help: "why a task has not run yet, or how a frame would run",
        more: "For a `Remote`: the inputs it waits for, the workers that are busy or paused, the code that is being compiled. For a `Frame`: its stages. The same as `.explain()?`.",
        run: Run::InTurn(cluster::explain),
    },
    Command {
        name: "graph",
        usage: ":graph VARIABLE",
        help: "the task graph of a delayed value or a frame",
        more: "The same as `.graph()`.",
        run: Run::InTurn(cluster::graph),
    },
    Command {
        name: "flows",
        usage: ":flows [RUN]",
        help: "the runs of flows, of all notebooks; or one of them, with its tasks",
        more: "`:flows 3f2a` shows the run whose id begins so, also while it runs. The same as `Flow::runs()?` and `Flow::run_of(\"3f2a\")?`.",
        run: Run::Anytime(flows::flows),
    },
    Command {
        name: "hint",
        usage: ":hint EXERCISE",
        help: "help with an exercise of the course: a nudge, then a name, then a skeleton",
        more: "`:hint 2.1` for the first exercise of lesson 2; again for more.",
        run: Run::Anytime(course::hint),
    },
    Command {
        name: "solution",
        usage: ":solution EXERCISE",
        help: "a solution of an exercise, in a new cell",
        more: "Once the exercise is solved, or after two hints.",
        run: Run::InTurn(course::solution),
    },
    Command {
        name: "assist",
        usage: ":assist [on|off]",
        help: "completion and docs by rust-analyzer: on, off, and what it costs",
        more: "One process serves all notebooks. It starts at the first Tab, reads the sources of std, Polars and Skep, never holds up a cell, and gives its memory back when nobody asks. Off, names in scope and commands still complete.",
        run: Run::Anytime(help::assist),
    },
];

impl Command {
    /// Whether what follows it in the cell is Rust.
    pub(crate) fn takes_rust(&self) -> bool {
        matches!(self.run, Run::WithText(_)) && self.name != "sql"
    }
}

/// A part of a cell.
pub(crate) enum Step {
    Command {
        command: &'static Command,
        args: String,
        text: String,
    },
    /// `?name`
    Describe(String),
    /// A command of evcxr's that is not there, and what to do instead.
    Instead(String),
    /// `!command`
    Shell(String),
    Rust(String),
}

/// What a cell consists of: commands first, then Rust.
///
/// # Errors
/// A command that does not exist, with the nearest one that does.
///
/// `is_known` tells names of the notebook, since `!name` is Rust too.
pub(crate) fn steps(code: &str, is_known: &dyn Fn(&str) -> bool) -> Result<Vec<Step>, Message> {
    let mut steps = Vec::new();
    let mut at = 0;
    while let Some(line) = command_line(code, at) {
        let (start, end) = line;
        let text = code[start..end].trim_end();
        if text.starts_with('!') {
            let Some(command) = shell::shell_line(text, is_known) else {
                break;
            };
            steps.push(Step::Shell(command.to_string()));
            at = end;
            continue;
        }
        if let Some(name) = text.strip_prefix('?') {
            steps.push(Step::Describe(
                name.trim_start_matches('?')
                    .trim_end_matches(';')
                    .trim()
                    .to_string(),
            ));
            at = end;
            continue;
        }
        let is_cell_magic = text.starts_with("%%");
        let body = text.trim_start_matches([':', '%']);
        let name = body.split_whitespace().next().unwrap_or("help");
        if let Some(instead) = evcxr::replacement(name)
            .filter(|_| !is_cell_magic && COMMANDS.iter().all(|command| command.name != name))
        {
            steps.push(Step::Instead(format!("`:{name}`: {instead}")));
            at = end;
            continue;
        }
        let command = find(name, is_cell_magic)?;
        let args = body.trim_start()[name.len().min(body.trim_start().len())..]
            .trim()
            .to_string();
        if matches!(command.run, Run::WithText(_)) {
            // At its own place: of what is in front only the line breaks stay.
            let args_at = start + code[start..end].find(name).map_or(0, |at| at + name.len());
            let text_end = if is_cell_magic || args.is_empty() || !command.takes_rust() {
                code.len()
            } else {
                end_of_rust(code, args_at, end)
            };
            let text = blank(&code[..args_at]) + &code[args_at..text_end];
            steps.push(Step::Command { command, args, text });
            at = text_end;
            continue;
        }
        steps.push(Step::Command {
            command,
            args,
            text: String::new(),
        });
        at = end;
    }
    let rest = blank(&code[..at]) + &code[at..];
    if !rest.trim().is_empty() {
        steps.push(Step::Rust(rest));
    }
    Ok(steps)
}

/// Where Rust that begins on a command's line ends: on that line, or on the one that completes it.
fn end_of_rust(code: &str, start: usize, line_end: usize) -> usize {
    let mut end = line_end;
    while end < code.len() && skep_cell::completeness(&code[start..end]) != skep_cell::Completeness::Complete
    {
        end = code[end + 1..]
            .find('\n')
            .map_or(code.len(), |next| end + 1 + next);
    }
    end
}

/// Blanks the command lines at the top of a cell; every offset stays.
pub(crate) fn blank_commands(code: &str) -> String {
    let mut at = 0;
    while let Some((start, end)) = command_line(code, at) {
        if code[start..].starts_with('!')
            && shell::shell_line(code[start..end].trim_end(), &|_| true).is_none()
        {
            break;
        }
        at = end;
    }
    blank(&code[..at]) + &code[at..]
}

fn blank(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            std::iter::repeat_n(
                if c == '\n' { '\n' } else { ' ' },
                if c == '\n' { 1 } else { c.len_utf8() },
            )
        })
        .collect()
}

/// The next line from `at`, if it is a command: its start without indent, and its end. Empty lines are passed
/// over.
fn command_line(code: &str, at: usize) -> Option<(usize, usize)> {
    let mut start = at;
    loop {
        let end = code[start..].find('\n').map_or(code.len(), |end| start + end);
        let line = &code[start..end];
        let text = line.trim_start();
        if text.trim().is_empty() {
            if end == code.len() {
                return None;
            }
            start = end + 1;
            continue;
        }
        let is_command = (text.starts_with(':') && !text.starts_with("::"))
            || is_magic(text)
            || text.starts_with(['?', '!']);
        return is_command.then(|| (start + line.len() - text.len(), end));
    }
}

/// `%%time` above a cell, and `%time` as IPython has it. Rust has no line that begins so.
fn is_magic(text: &str) -> bool {
    text.starts_with("%%")
        || text.starts_with('%') && text[1..].starts_with(|c: char| c.is_ascii_alphabetic())
}

fn find(name: &str, is_cell_magic: bool) -> Result<&'static Command, Message> {
    if let Some(command) = COMMANDS.iter().find(|command| command.name == name) {
        if is_cell_magic && !matches!(command.run, Run::WithText(_)) {
            return Err(
                Message::new(format!("`%%{name}` does not take a cell")).hint(format!("type `:{name}`"))
            );
        }
        return Ok(command);
    }
    let is_other = |command: &Command| command.name.chars().next() != name.chars().next();
    let nearest = COMMANDS
        .iter()
        .map(|command| (distance(command.name, name), is_other(command), command.name))
        .min();
    let hint = match nearest {
        Some((d, _, nearest)) if d <= 2 && d < nearest.len() => format!("did you mean `:{nearest}`?"),
        _ => "`:help` lists the commands".to_string(),
    };
    Err(Message::new(format!("there is no command `:{name}`")).hint(hint))
}

impl Step {
    /// The answer, if this needs no turn; else `None`.
    pub fn answer_now(&self, handle: &Handle) -> Option<Result<Bundle, Message>> {
        match self {
            Step::Command {
                command:
                    Command {
                        run: Run::Anytime(run),
                        ..
                    },
                args,
                ..
            } => Some(run(handle, args)),
            Step::Command {
                command:
                    Command {
                        run: Run::InTurnOrNow(_, run),
                        ..
                    },
                args,
                ..
            } => Some(run(handle, args)),
            Step::Describe(name) => Some(help::page(handle, name)),
            Step::Instead(text) => Some(Ok(Bundle::text(text.clone()))),
            _ => None,
        }
    }
}

/// Whether a cell does more than ask: what a saved script should hold.
pub(crate) fn changes_something(code: &str) -> bool {
    const ONLY_HERE: [&str; 6] = ["new", "save", "load", "edit", "restart", "type"];
    steps(code, &|_| false).is_ok_and(|steps| {
        steps.iter().any(|step| match step {
            Step::Describe(_) | Step::Instead(_) => false,
            Step::Command { command, args, .. } => {
                let only_asks = matches!(command.run, Run::Anytime(_) | Run::InTurnOrNow(..))
                    || ONLY_HERE.contains(&command.name)
                    || (command.name == "dep" && args.is_empty());
                !only_asks
            }
            Step::Rust(_) | Step::Shell(_) => true,
        })
    })
}

/// Runs one command in its turn.
pub(crate) fn run(
    session: &mut Session,
    command: &'static Command,
    call: &Call<'_>,
) -> Result<Option<Bundle>, CellError> {
    match command.run {
        Run::Anytime(run) => run(&session.handle(), call.args).map(Some).map_err(failed),
        Run::InTurn(run) | Run::WithText(run) | Run::InTurnOrNow(run, _) => run(session, call),
    }
}

pub(crate) fn failed(message: impl Into<Message>) -> CellError {
    session_error("Command", message)
}

/// Edits between two short words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let cost = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(code: &str) -> Vec<String> {
        match steps(code, &|name| name == "known") {
            Err(message) => vec![message.to_string()],
            Ok(steps) => steps
                .into_iter()
                .map(|step| match step {
                    Step::Command { command, args, text } if text.is_empty() => {
                        format!(":{} {args}", command.name)
                    }
                    Step::Command { command, text, .. } => format!("{} <{text}>", command.name),
                    Step::Describe(name) => format!("?{name}"),
                    Step::Instead(text) => text,
                    Step::Shell(command) => format!("!{command}"),
                    Step::Rust(text) => format!("<{text}>"),
                })
                .collect(),
        }
    }

    #[test]
    fn commands_stand_at_the_top_and_rust_keeps_its_lines() {
        for (code, expect) in [
            (":vars", vec![":vars "]),
            (":vars\n1", vec![":vars ", "<     \n1>"]),
            (
                ":dep regex = \"1\"\n:dep rand\nuse regex::Regex;",
                vec![
                    ":dep regex = \"1\"",
                    ":dep rand",
                    "<                \n         \nuse regex::Regex;>",
                ],
            ),
            ("::std::mem::drop(1)", vec!["<::std::mem::drop(1)>"]),
            ("1\n:vars", vec!["<1\n:vars>"]),
            ("?Frame", vec!["?Frame"]),
            ("!ls\n1", vec!["!ls", "<   \n1>"]),
            ("!known", vec!["<!known>"]),
            (" ? Vec::new ;", vec!["?Vec::new"]),
            (
                ":time let x = 1;\nx",
                vec!["time <      let x = 1;>", "<                \nx>"],
            ),
            (
                ":time for i in 0..3 {\n}\n1",
                vec!["time <      for i in 0..3 {\n}>", "<                     \n \n1>"],
            ),
            (":time\nlet x = 1;\nx", vec!["time <     \nlet x = 1;\nx>"]),
            ("%%time\nx", vec!["time <      \nx>"]),
            (":", vec![":help "]),
            (
                ":sccache 1\n1",
                vec![
                    "`:sccache`: what `:dep` builds is kept for all notebooks of this user",
                    "<          \n1>",
                ],
            ),
            ("", vec![]),
        ] {
            assert_eq!(shape(code), expect, "{code}");
        }
    }

    #[test]
    fn a_typo_suggests_the_nearest() {
        assert_eq!(
            (
                distance("vars", "var"),
                distance("cluster", "clsuter"),
                distance("help", "help")
            ),
            (1, 2, 0)
        );
        assert!(shape(":clsuter")[0].contains("did you mean `:cluster`?"));
        assert!(shape(":hlep")[0].contains("did you mean `:help`?"));
        assert_eq!(shape("%time 1 + 1"), ["time <      1 + 1>"]);
        assert!(shape(":xyzzy")[0].contains("`:help` lists"));
        assert!(shape("%%vars\n1")[0].contains("type `:vars`"));
    }

    #[test]
    fn blanking_keeps_every_offset() {
        let code = ":dep é\nlet x = 1;";
        assert_eq!(blank_commands(code).len(), code.len());
    }
}
