//! Commands that begin with a colon. One table defines each one's name, help, completion and dispatch.

use skep_render::{Bundle, bytes, card::Card};

use crate::Session;

/// One command.
pub struct Command {
    pub name: &'static str,
    pub help: &'static str,
    run: fn(&mut Session) -> Result<Bundle, String>,
}

pub const COMMANDS: &[Command] = &[
    Command { name: "help", help: "what can be typed here", run: help },
    Command { name: "vars", help: "the variables of this notebook, with their types and sizes", run: vars },
    Command { name: "cluster", help: "the cluster's workers, and what they hold", run: cluster },
    Command { name: "clear", help: "forget all variables; functions, types and the cluster stay", run: clear },
];

/// The command line in a cell, if the cell is one.
pub(crate) fn command_of(code: &str) -> Option<&str> {
    code.trim().strip_prefix(':').filter(|rest| !rest.starts_with(':') && !rest.contains('\n'))
}

pub(crate) fn run(session: &mut Session, line: &str) -> Result<Bundle, String> {
    let name = line.split_whitespace().next().unwrap_or("help");
    match COMMANDS.iter().find(|command| command.name == name) {
        Some(command) => (command.run)(session),
        None => {
            let nearest = COMMANDS.iter().map(|command| (distance(command.name, name), command.name)).min();
            let hint = match nearest {
                Some((d, nearest)) if d <= 2 => format!("did you mean `:{nearest}`?"),
                _ => "`:help` lists the commands".to_string(),
            };
            Err(format!("there is no command `:{name}`\nhint: {hint}"))
        }
    }
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

fn help(_: &mut Session) -> Result<Bundle, String> {
    let rows = COMMANDS.iter().map(|command| [format!(":{}", command.name), command.help.to_string()]);
    let scope = "Cluster::local(), cluster.submit(f, args), cluster.map(f, items), cluster.gather(&handles), delayed!(f(x)), Frame::read_csv(glob), Frame::read_parquet(glob), display(x), input(prompt), df!, col, lit, when";
    let card = Card::new("A cell is Rust: items, statements, and a last expression that is shown")
        .table(["command", "what it does"], rows)
        .note(format!("in scope without imports: {scope}"));
    Ok(card.bundle())
}

fn vars(session: &mut Session) -> Result<Bundle, String> {
    let variables = session.variables();
    if variables.is_empty() {
        return Ok(Bundle::text("no variables yet"));
    }
    let rows = variables.iter().map(|(name, variable)| [name.clone(), short(&variable.type_name), bytes(variable.size), format!("cell {}", variable.cell)]);
    Ok(Card::new(format!("Variables: {}", variables.len())).table(["name", "type", "size", "from"], rows).bundle())
}

/// Type names without their modules.
fn short(name: &str) -> String {
    name.split_inclusive(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).map(|part| &part[part.rfind("::").map_or(0, |at| at + 2)..]).collect()
}

fn cluster(session: &mut Session) -> Result<Bundle, String> {
    session.cluster_card()
}

fn clear(session: &mut Session) -> Result<Bundle, String> {
    let n = session.clear_variables();
    Ok(Bundle::text(format!("forgot {}", skep_render::plural(n, "variable"))))
}

#[test]
fn a_typo_suggests_the_nearest() {
    assert_eq!((distance("vars", "var"), distance("cluster", "clsuter"), distance("help", "help")), (1, 2, 0));
}

#[test]
fn a_path_is_no_command() {
    assert_eq!(command_of(":vars"), Some("vars"));
    assert_eq!(command_of("::std::mem::drop(1)"), None);
    assert_eq!(command_of(":vars\n1"), None);
}
