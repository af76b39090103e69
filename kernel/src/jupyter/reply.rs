//! Requests that are answered at once, whatever the running cell does.

use std::sync::PoisonError;

use jupyter_protocol::{
    CodeMirrorMode, CommInfoReply, CompleteReply, HelpLink, HistoryEntry, HistoryReply, HistoryRequest, InspectReply, InterruptReply, IsCompleteReply,
    JupyterMessageContent as Content, KernelInfoReply, LanguageInfo, ReplyStatus,
};
use skep_session::{COMMANDS, Completeness, completeness};

use super::Kernel;

/// What was executed in this session, in order.
#[derive(Default)]
pub struct History(Vec<(usize, String)>);

impl History {
    pub fn add(&mut self, count: usize, code: &str) {
        self.0.push((count, code.to_string()));
    }

    fn find(&self, request: &HistoryRequest) -> Vec<HistoryEntry> {
        let entry = |(count, code): &(usize, String)| HistoryEntry::Input(0, *count, code.clone());
        match request {
            HistoryRequest::Tail { n, .. } => self.0.iter().skip(self.0.len().saturating_sub(*n as usize)).map(entry).collect(),
            HistoryRequest::Range { session, start, stop, .. } => {
                let in_range = |(count, _): &&(usize, String)| (*start..*stop).contains(&(*count as i32));
                if session.unwrap_or(0) != 0 { Vec::new() } else { self.0.iter().filter(in_range).map(entry).collect() }
            }
            HistoryRequest::Search { pattern, unique, n, .. } => {
                let mut found: Vec<&(usize, String)> = self.0.iter().filter(|(_, code)| matches_glob(pattern, code)).collect();
                if *unique {
                    let mut seen = std::collections::HashSet::new();
                    found.reverse();
                    found.retain(|(_, code)| seen.insert(code));
                    found.reverse();
                }
                found[found.len().saturating_sub((*n).max(0) as usize)..].iter().map(|found| entry(found)).collect()
            }
        }
    }
}

/// `*` is any text and `?` any character, as IPython has it.
fn matches_glob(pattern: &str, text: &str) -> bool {
    let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut i, mut j, mut star) = (0, 0, None);
    while j < t.len() {
        if i < p.len() && p[i] == '*' {
            star = Some((i, j));
            i += 1;
        } else if i < p.len() && (p[i] == '?' || p[i] == t[j]) {
            (i, j) = (i + 1, j + 1);
        } else if let Some((si, sj)) = star {
            (i, j) = (si + 1, sj + 1);
            star = Some((si, sj + 1));
        } else {
            return false;
        }
    }
    p[i..].iter().all(|c| *c == '*')
}

/// `None` for messages that get no reply.
pub fn reply(kernel: &Kernel, request: &Content) -> Option<Content> {
    Some(match request {
        Content::KernelInfoRequest(_) => Content::KernelInfoReply(Box::new(kernel_info())),
        Content::InterruptRequest(_) => {
            kernel.session.interrupt();
            InterruptReply::new().into()
        }
        Content::IsCompleteRequest(request) => match completeness(&request.code) {
            Completeness::Complete => IsCompleteReply::complete(),
            Completeness::Incomplete { indent } => IsCompleteReply::incomplete(indent),
            Completeness::Invalid => IsCompleteReply::invalid(),
        }
        .into(),
        Content::CompleteRequest(request) => complete(&request.code, request.cursor_pos, &kernel.session.names()).into(),
        Content::InspectRequest(_) => InspectReply { status: ReplyStatus::Ok, ..InspectReply::default() }.into(),
        Content::HistoryRequest(request) => HistoryReply::new(kernel.history.lock().unwrap_or_else(PoisonError::into_inner).find(request)).into(),
        Content::CommInfoRequest(_) => CommInfoReply { status: ReplyStatus::Ok, ..CommInfoReply::default() }.into(),
        Content::CommOpen(open) => {
            // No target is known here, and a comm that nobody takes is closed.
            let close = jupyter_protocol::CommClose { comm_id: open.comm_id.clone(), data: Default::default() };
            kernel.iopub.publish_alone(close);
            return None;
        }
        _ => return None,
    })
}

fn kernel_info() -> KernelInfoReply {
    let rust = env!("CARGO_PKG_RUST_VERSION").to_string();
    let version = env!("CARGO_PKG_VERSION").to_string();
    KernelInfoReply {
        status: ReplyStatus::Ok,
        protocol_version: "5.4".into(),
        implementation: "skep".into(),
        implementation_version: version.clone(),
        language_info: LanguageInfo {
            name: "rust".into(),
            version: rust,
            mimetype: Some("text/rust".into()),
            file_extension: Some(".rs".into()),
            pygments_lexer: Some("rust".into()),
            codemirror_mode: Some(CodeMirrorMode::Simple("rust".into())),
            nbconvert_exporter: None,
        },
        banner: format!("Skep {version}: a Rust notebook with a cluster inside. `:help` lists what can be typed."),
        help_links: vec![
            HelpLink { text: "Polars".into(), url: "https://docs.rs/polars".into() },
            HelpLink { text: "The Rust book".into(), url: "https://doc.rust-lang.org/book/".into() },
        ],
        debugger: false,
        error: None,
    }
}

/// Names in scope and commands. The cursor counts characters, not bytes.
fn complete(code: &str, cursor: usize, names: &[String]) -> CompleteReply {
    let before: Vec<char> = code.chars().take(cursor).collect();
    let n_word = before.iter().rev().take_while(|c| c.is_alphanumeric() || **c == '_').count();
    let start = before.len() - n_word;
    let word: String = before[start..].iter().collect();
    let line_start = before.iter().rposition(|c| *c == '\n').map_or(0, |at| at + 1);
    let line: String = before[line_start..start].iter().collect();
    let (start, mut matches): (usize, Vec<String>) = if line.trim() == ":" {
        (start - 1, COMMANDS.iter().filter(|command| command.name.starts_with(&word)).map(|command| format!(":{}", command.name)).collect())
    } else if line.ends_with(['.', ':']) || word.is_empty() {
        (start, Vec::new())
    } else {
        let scope = names.iter().map(String::as_str).chain(SCOPE.iter().copied());
        (start, scope.filter(|name| name.starts_with(&word)).map(str::to_string).collect())
    };
    matches.sort_unstable();
    matches.dedup();
    CompleteReply { matches, cursor_start: start, cursor_end: before.len(), status: ReplyStatus::Ok, ..CompleteReply::default() }
}

/// What every cell has in scope, and the words of the language.
const SCOPE: &[&str] = &[
    "Cluster",
    "DataFrame",
    "Delayed",
    "Duration",
    "Expr",
    "Frame",
    "HashMap",
    "LazyFrame",
    "Remote",
    "Series",
    "Vec",
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
    "for",
    "format!",
    "impl",
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
    "return",
    "skep",
    "sleep",
    "static",
    "struct",
    "trait",
    "true",
    "use",
    "vec!",
    "when",
    "where",
    "while",
];

#[test]
fn completion_counts_characters() {
    let names = ["flights".to_string(), "été".to_string()];
    let reply = complete("let é = fli", 11, &names);
    assert_eq!((reply.matches, reply.cursor_start, reply.cursor_end), (vec!["flights".to_string()], 8, 11));
    let reply = complete(":va", 3, &names);
    assert_eq!((reply.matches, reply.cursor_start), (vec![":vars".to_string()], 0));
    assert!(complete("x.fli", 5, &names).matches.is_empty(), "fields are not known here");
}

#[test]
fn history_is_searched_by_glob() {
    for (pattern, text, expect) in [("*", "", true), ("let*", "let x = 1", true), ("*x*1", "let x = 1", true), ("?et x", "let x", true), ("x", "let x", false)]
    {
        assert_eq!(matches_glob(pattern, text), expect, "{pattern} {text}");
    }
}
