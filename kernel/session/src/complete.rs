//! What can be typed next, and what a name is. Jupyter's Tab and Shift-Tab and the terminal's menu ask here.
//!
//! The analyser knows types and docs where it is there; names in scope and commands are known without it.

use skep_assist::wire::Candidate;
use skep_cell::Completeness;

use crate::{
    commands::{self, COMMANDS, Step},
    state::Handle,
    view::{Scope, View},
};

/// Ways to go on at a place. Positions count characters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Completion {
    pub start: usize,
    pub end: usize,
    pub candidates: Vec<Candidate>,
}

impl Handle {
    /// What can stand at `cursor`, a position in characters.
    pub fn complete(&self, code: &str, cursor: usize) -> Completion {
        let at = byte_of(code, cursor);
        if let Some(completion) = complete_command(code, at) {
            return completion;
        }
        let scope = self.scope();
        let known = self.members().complete(code, at, &scope);
        let program = scope.program(code, at);
        if let Some((start, end, candidates)) = self.assist().complete(program.text, program.offset)
            && !candidates.is_empty()
            && start >= program.code_start
            && end <= program.code_start + code.len()
        {
            let back = |byte: usize| char_of(code, byte - program.code_start);
            let mut all: Vec<Candidate> = known
                .filter(|(word, _)| *word + program.code_start == start)
                .map(|(_, found)| found)
                .unwrap_or_default();
            let more = candidates
                .into_iter()
                .filter(|candidate| !candidate.insert.starts_with("__skep"));
            // What is known anyway comes in the order in which people want it, in the analyser's words.
            for candidate in more {
                match all.iter_mut().find(|known| known.insert == candidate.insert) {
                    Some(known) => *known = candidate,
                    None => all.push(candidate),
                }
            }
            return Completion {
                start: back(start),
                end: back(end),
                candidates: all,
            };
        }
        match known {
            Some((start, candidates)) => Completion {
                start: char_of(code, start),
                end: char_of(code, at),
                candidates,
            },
            None => complete_name(code, at, &scope),
        }
    }

    /// What stands at `cursor`, as Markdown.
    pub fn inspect(&self, code: &str, cursor: usize) -> Option<String> {
        let at = byte_of(code, cursor);
        let (start, end) = word_around(code, at)?;
        let word = &code[start..end];
        let line_start = code[..start].rfind('\n').map_or(0, |at| at + 1);
        if code[line_start..start].trim() == ":"
            && let Some(command) = COMMANDS.iter().find(|command| command.name == word)
        {
            return Some(commands::describe(command));
        }
        let program = self.scope().program(&without_command(code, start), start);
        let hover = self
            .assist()
            .hover(program.text, program.offset)
            .map(|text| text.trim().to_string());
        let scope = self.scope();
        let path = &code[path_start(code, start)..end];
        hover
            .or_else(|| scope.describe(word))
            .or_else(|| path.contains("::").then(|| self.members().page(path))?)
            .or_else(|| self.members().of_receiver(code, end, &scope))
            .or_else(|| self.members().page(path))
    }

    /// Whether a cell can run as it stands, or wants more lines.
    pub fn completeness(&self, code: &str) -> Completeness {
        completeness(code)
    }

    /// What a name or path is, as `?name` asks.
    pub fn describe(&self, name: &str) -> Option<String> {
        if let Some(command) = COMMANDS
            .iter()
            .find(|command| name.strip_prefix(':') == Some(command.name))
        {
            return Some(commands::describe(command));
        }
        let name = name.trim_end_matches(['(', ')', ':', '.', '!', '?', ' ']);
        self.inspect(name, name.chars().count())
    }
}

/// As [`Handle::completeness`], without a session.
pub fn completeness(code: &str) -> Completeness {
    match commands::steps(code, &|_| false) {
        // Every command line is whole; a command with a text is as whole as its text.
        Ok(steps) => match steps.last() {
            Some(Step::Rust(text)) => skep_cell::completeness(text),
            Some(Step::Command { command, text, .. }) if !text.trim().is_empty() && command.takes_rust() => {
                skep_cell::completeness(text)
            }
            // A query ends with a semicolon or an empty line; above it stands only the command.
            Some(Step::Command { text, .. })
                if !text.is_empty() && !code.trim_end_matches([' ', '\t']).ends_with([';', '\n']) =>
            {
                Completeness::Incomplete {
                    indent: String::new(),
                }
            }
            Some(Step::Command { command, text, .. })
                if !text.is_empty() && text.trim().is_empty() && !command.takes_rust() =>
            {
                Completeness::Incomplete {
                    indent: String::new(),
                }
            }
            _ => Completeness::Complete,
        },
        Err(_) => Completeness::Complete,
    }
}

/// A text for the analyser, and where the cursor and the cell are in it.
pub(crate) struct Program {
    pub text: String,
    pub offset: usize,
    pub code_start: usize,
}

impl Scope {
    /// The notebook's program with `code` as the cell that is being typed.
    pub(crate) fn program(&self, code: &str, at: usize) -> Program {
        let code = without_command(code, at);
        let mut text = format!("#![allow(warnings)]\n{}\n", crate::scope::PRELUDE);
        for item in &self.items {
            text.push_str(item);
            text.push('\n');
        }
        text.push_str("async fn cell() -> Result<(), Box<dyn std::error::Error>> {\n");
        for view in &self.variables {
            text.push_str(&declaration(view));
        }
        let code_start = text.len();
        text.push_str(&code);
        text.push_str("\n;Ok(()) }\n");
        Program {
            offset: code_start + at,
            code_start,
            text,
        }
    }

    fn describe(&self, word: &str) -> Option<String> {
        if let Some(view) = self.variables.iter().find(|view| view.name == word) {
            let type_name = skep_render::short_type(&view.type_name);
            return Some(format!(
                "```rust\nlet {word}: {type_name}\n```\n\nA variable of {}, {}.",
                view.from,
                skep_render::bytes(view.size)
            ));
        }
        let item = self.items.iter().find(|item| is_definition_of(item, word))?;
        let head: String = item
            .split_inclusive(['{', ';'])
            .next()
            .unwrap_or(item)
            .trim_end_matches('{')
            .trim_end()
            .to_string();
        Some(format!("```rust\n{head}\n```"))
    }
}

fn declaration(view: &View) -> String {
    let mutable = if view.is_mutable { "mut " } else { "" };
    match (&view.path, &view.body) {
        (Some(path), _) => format!("let {mutable}{}: {path} = todo!();\n", view.name),
        // A type that cannot be written down is inferred from the statements that made it.
        (None, Some(body)) => format!("let {mutable}{0} = {{ {body}\n; {0} }};\n", view.name),
        (None, None) => String::new(),
    }
}

fn is_definition_of(item: &str, word: &str) -> bool {
    let mut words = item
        .split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .filter(|word| !word.is_empty());
    let keywords = [
        "fn",
        "struct",
        "enum",
        "trait",
        "const",
        "static",
        "type",
        "mod",
        "union",
        "macro_rules",
    ];
    words.any(|w| keywords.contains(&w)) && words.next() == Some(word)
}

/// Blanks the command in front of what is completed: `:type x.le` is about `x.le`. Offsets stay.
fn without_command(code: &str, at: usize) -> String {
    let line_start = code[..at].rfind('\n').map_or(0, |at| at + 1);
    let line_end = code[at..].find('\n').map_or(code.len(), |end| at + end);
    let line = &code[line_start..line_end];
    let n_command = if line.trim_start().starts_with(':') && !line.trim_start().starts_with("::") {
        line.find(' ').map_or(0, |at| at + 1)
    } else if line.trim_start().starts_with(['?', '%']) {
        line.find(|c: char| c != '?' && c != '%' && !c.is_whitespace())
            .unwrap_or(0)
    } else {
        0
    };
    let blank = " ".repeat(n_command.min(at - line_start));
    // Other command lines of the cell are no Rust either.
    let before = commands::blank_commands(&code[..line_start]);
    format!("{before}{blank}{}", &code[line_start + blank.len()..])
}

fn complete_command(code: &str, at: usize) -> Option<Completion> {
    let line_start = code[..at].rfind('\n').map_or(0, |at| at + 1);
    let typed = code[line_start..at].trim_start();
    let name = typed
        .strip_prefix(':')
        .filter(|rest| !rest.contains([' ', ':', '\n']))?;
    let start = char_of(code, at - typed.len());
    let candidates: Vec<Candidate> = COMMANDS
        .iter()
        .filter(|command| command.name.starts_with(name))
        .map(|command| Candidate {
            insert: format!(":{}", command.name),
            kind: "command".to_string(),
            signature: command.usage.to_string(),
            summary: command.help.to_string(),
        })
        .collect();
    Some(Completion {
        start,
        end: char_of(code, at),
        candidates,
    })
}

/// Without the analyser: names in scope, but no fields and no paths.
fn complete_name(code: &str, at: usize, scope: &Scope) -> Completion {
    let start = code[..at]
        .rfind(|c: char| !(c.is_alphanumeric() || c == '_'))
        .map_or(0, |i| i + code[i..].chars().next().map_or(1, char::len_utf8));
    let (word, before) = (&code[start..at], code[..start].trim_end());
    let (start_char, end_char) = (char_of(code, start), char_of(code, at));
    if word.is_empty() || before.ends_with('.') || before.ends_with("::") {
        return Completion {
            start: start_char,
            end: end_char,
            candidates: Vec::new(),
        };
    }
    let variables = scope.variables.iter().map(|view| {
        (
            view.name.as_str(),
            "variable",
            skep_render::short_type(&view.type_name),
        )
    });
    let items = scope
        .names
        .iter()
        .map(|name| (name.as_str(), "item", String::new()));
    let fixed = IN_SCOPE.iter().map(|name| {
        (
            *name,
            if name.ends_with('!') { "macro" } else { "name" },
            String::new(),
        )
    });
    let mut candidates: Vec<Candidate> = variables
        .chain(items)
        .chain(fixed)
        .filter(|(name, _, _)| name.starts_with(word))
        .map(|(name, kind, signature)| Candidate {
            insert: name.to_string(),
            kind: kind.to_string(),
            signature,
            summary: String::new(),
        })
        .collect();
    candidates.sort_by(|a, b| a.insert.cmp(&b.insert));
    candidates.dedup_by(|a, b| a.insert == b.insert);
    Completion {
        start: start_char,
        end: end_char,
        candidates,
    }
}

/// Where a path begins that ends in the word at `start`; a dot is one of its steps, as in `Cluster.map`.
fn path_start(code: &str, start: usize) -> usize {
    let Some(before) = code[..start]
        .strip_suffix("::")
        .or_else(|| code[..start].strip_suffix('.'))
    else {
        return start;
    };
    let word = before.rfind(|c: char| !(c.is_alphanumeric() || c == '_'));
    let at = word.map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
    if at == before.len() {
        start
    } else {
        path_start(code, at)
    }
}

/// The name at or just before a place: also when the cursor is behind an opening bracket, as in `f(|`.
fn word_around(code: &str, at: usize) -> Option<(usize, usize)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let before = code[..at].trim_end_matches(['(', '!', ' ']);
    let at = if code[at..].starts_with(is_word) || code[..at].ends_with(is_word) {
        at
    } else {
        before.len()
    };
    let start = code[..at]
        .char_indices()
        .rev()
        .take_while(|(_, c)| is_word(*c))
        .last()
        .map_or(at, |(i, _)| i);
    let end = at + code[at..].find(|c: char| !is_word(c)).unwrap_or(code.len() - at);
    (start < end).then_some((start, end))
}

fn byte_of(code: &str, cursor: usize) -> usize {
    code.char_indices().nth(cursor).map_or(code.len(), |(at, _)| at)
}

fn char_of(code: &str, byte: usize) -> usize {
    code[..byte.min(code.len())].chars().count()
}

/// What every cell has in scope, and the words of the language.
const IN_SCOPE: &[&str] = &[
    "Cluster",
    "DataFrame",
    "Delayed",
    "Duration",
    "Expr",
    "Frame",
    "HashMap",
    "LazyFrame",
    "Option",
    "Remote",
    "Result",
    "Series",
    "String",
    "Vec",
    "as",
    "async",
    "await",
    "break",
    "clear_output",
    "col",
    "const",
    "continue",
    "delayed!",
    "df!",
    "display",
    "else",
    "enum",
    "eprintln!",
    "false",
    "fn",
    "for",
    "format!",
    "if",
    "impl",
    "in",
    "input",
    "let",
    "lit",
    "loop",
    "match",
    "mod",
    "move",
    "mut",
    "password",
    "println!",
    "pub",
    "ref",
    "return",
    "self",
    "skep",
    "sleep",
    "static",
    "struct",
    "super",
    "trait",
    "true",
    "type",
    "use",
    "vec!",
    "when",
    "where",
    "while",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Scope {
        let view = |name: &str, path: Option<&str>| View {
            name: name.to_string(),
            type_name: "alloc::vec::Vec<i32>".to_string(),
            size: 24,
            cell: 3,
            from: "cell 3".to_string(),
            is_mutable: true,
            path: path.map(str::to_string),
            body: Some("let odd = strange();".to_string()),
        };
        Scope {
            items: vec!["fn inc(x: i64) -> i64 { x + 1 }".to_string()],
            names: vec!["inc".to_string()],
            variables: vec![view("flights", Some("::std::vec::Vec<i32>")), view("été", None)],
        }
    }

    fn inserts(completion: &Completion) -> Vec<&str> {
        completion
            .candidates
            .iter()
            .map(|candidate| candidate.insert.as_str())
            .collect()
    }

    #[test]
    fn names_complete_without_the_analyser_and_positions_count_characters() {
        let code = "let é = fli";
        let completion = complete_name(code, code.len(), &scope());
        assert_eq!(
            (inserts(&completion), completion.start, completion.end),
            (vec!["flights"], 8, 11)
        );
        assert_eq!(completion.candidates[0].signature, "Vec<i32>");
        assert!(
            complete_name("x.fli", 5, &scope()).candidates.is_empty(),
            "fields are not known here"
        );
        assert!(
            complete_name("x::fli", 6, &scope()).candidates.is_empty(),
            "nor paths"
        );
        assert_eq!(inserts(&complete_name("in", 2, &scope())), ["in", "inc", "input"]);
    }

    #[test]
    fn commands_complete_at_the_start_of_a_line() {
        let completion = complete_command("é\n:va", 6).unwrap();
        assert_eq!(
            (inserts(&completion), completion.start, completion.end),
            (vec![":vars"], 2, 5)
        );
        assert_eq!(complete_command("a::b", 4), None);
        assert_eq!(
            complete_command(":type x", 7),
            None,
            "behind a command comes Rust"
        );
    }

    #[test]
    fn the_analyser_sees_the_whole_program_with_the_cursor_in_the_cell() {
        let code = ":type flights.l";
        let program = scope().program(code, code.len());
        assert!(
            program.text[..program.offset].ends_with("      flights.l"),
            "{}",
            program.text
        );
        assert!(
            program
                .text
                .contains("let mut flights: ::std::vec::Vec<i32> = todo!();")
        );
        assert!(
            program
                .text
                .contains("let mut été = { let odd = strange();\n; été };")
        );
        assert!(syn::parse_file(&scope().program("", 0).text).is_ok());
    }

    #[test]
    fn commands_are_whole_and_what_follows_them_is_judged() {
        for (code, is_whole) in [
            (":vars", true),
            ("1 +", false),
            (":dep x\nfn f() {", false),
            (":time f(", false),
            (":time f()", true),
            ("%%sql", false),
        ] {
            assert_eq!(completeness(code) == Completeness::Complete, is_whole, "{code}");
        }
        assert_eq!(completeness("%%sql\nselect 1;"), Completeness::Complete);
        assert_eq!(completeness("%%sql\nselect 1\n"), Completeness::Complete);
        assert_ne!(completeness("%%sql\nselect 1"), Completeness::Complete);
    }

    #[test]
    fn the_word_at_the_cursor() {
        for (code, at, expect) in [
            ("foo.bar", 7, Some("bar")),
            ("foo(", 4, Some("foo")),
            ("foo.bar", 2, Some("foo")),
            ("println!(", 9, Some("println")),
            ("  ", 1, None),
        ] {
            assert_eq!(
                word_around(code, at).map(|(start, end)| &code[start..end]),
                expect,
                "{code} {at}"
            );
        }
    }
}
