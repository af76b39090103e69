//! A cell's text as items, statements and a tail, with their places.

use std::{collections::BTreeSet, ops::Range};

use syn::{
    Block, Expr, Item, Local, Stmt,
    parse::Parser,
    spanned::Spanned,
    visit::{self, Visit},
};

use crate::{
    body::{Body, range_of},
    definition::{Definition, begins_item, definitions, definitions_of_macro, makes_items},
    mentions::{idents, is_symbol, mentions, values},
    outputs::makes_value,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    pub name: String,
    pub is_mutable: bool,
    pub is_closure: bool,
    /// Whether the pattern is nothing but this name.
    pub is_whole: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Parsed {
    /// What is compiled: the cell without what only a file may have on top.
    pub source: String,
    pub items: Vec<Definition>,
    pub statements: Vec<Range<usize>>,
    pub tail: Option<Range<usize>>,
    /// Whether the tail makes a value that is not a variable's already.
    pub tail_makes_value: bool,
    pub bindings: Vec<Binding>,
    /// Every identifier of the statements, also those inside macros and format strings.
    pub mentions: BTreeSet<String>,
    /// Of these, the ones that may stand for variables.
    pub values: BTreeSet<String>,
    pub has_await: bool,
    /// Whether the statements may spawn tasks of a runtime without awaiting them.
    pub needs_runtime: bool,
    /// Where to look for an interrupt: after the brace of each loop.
    pub polls: Vec<usize>,
    /// Behind each `return` that has no value and leaves the cell.
    pub returns: Vec<usize>,
    /// Macro calls that were taken for items, though only expanding them could tell.
    pub guessed: Vec<Range<usize>>,
    /// Functions with `#[test]`, which only test builds have.
    pub tests: Vec<String>,
    /// Macro calls among the statements: the macro's name, and identifiers in its arguments.
    pub calls: Vec<(String, BTreeSet<String>)>,
    /// Whether there is a `fn main` and nothing that runs; and whether that is `async`.
    pub main: Option<bool>,
}

/// Parses a cell. An `Err` means that `syn` found it broken; rustc then has the better words for it.
pub fn parse(source: &str) -> Result<Parsed, syn::Error> {
    parse_with(source, &Guess::default())
}

/// What is known of macros: names of the notebook's that make items, and calls that turned out to be
/// statements.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guess {
    pub make_items: BTreeSet<String>,
    pub are_statements: Vec<Range<usize>>,
}

pub(crate) fn parse_with(source: &str, guess: &Guess) -> Result<Parsed, syn::Error> {
    let source = &blank_file_header(source);
    let statements = Block::parse_within.parse_str(source)?;
    let mut make_items = guess.make_items.clone();
    for statement in &statements {
        if let Stmt::Item(Item::Macro(item)) = statement
            && let Some(name) = &item.ident
        {
            if makes_items(item) {
                make_items.insert(name.to_string())
            } else {
                make_items.remove(&name.to_string())
            };
        }
    }
    let mut parsed = Parsed {
        source: source.to_string(),
        ..Parsed::default()
    };
    let n_statements = statements.len();
    for (i, statement) in statements.into_iter().enumerate() {
        let range = range_of(source, statement.span());
        match statement {
            Stmt::Item(item) => {
                if let Item::Fn(f) = &item
                    && f.sig.ident == "main"
                    && f.sig.inputs.is_empty()
                {
                    parsed.main = Some(
                        f.sig.asyncness.is_some()
                            && !f.attrs.iter().any(|attr| is_symbol(attr.path(), "main")),
                    );
                }
                if let Item::Fn(f) = &item
                    && f.attrs.iter().any(|attr| attr.path().is_ident("test"))
                {
                    parsed.tests.push(f.sig.ident.to_string());
                }
                parsed.items.extend(definitions(source, &item, range));
            }
            Stmt::Macro(m)
                if is_item_macro(&m.mac, &make_items) && !guess.are_statements.contains(&range) =>
            {
                if !m.mac.path.is_ident("thread_local") {
                    parsed.guessed.push(range);
                }
                parsed.items.extend(definitions_of_macro(source, &m));
            }
            // Without a semicolon, at the end of the cell, it was parsed as an expression.
            Stmt::Expr(Expr::Macro(m), None)
                if is_item_macro(&m.mac, &make_items) && !guess.are_statements.contains(&range) =>
            {
                parsed.guessed.push(range);
                let item = syn::StmtMacro {
                    attrs: m.attrs,
                    mac: m.mac,
                    semi_token: None,
                };
                parsed.items.extend(definitions_of_macro(source, &item));
            }
            statement => {
                let is_last = i + 1 == n_statements;
                parsed.add_statement(&statement, range, is_last);
            }
        }
    }
    if !parsed.statements.is_empty() {
        parsed.main = None;
    }
    Ok(parsed)
}

/// Blanks what a whole file may begin with: `#!/usr/bin/env …`, `#![allow(…)]`, `//! …`. Every offset stays.
fn blank_file_header(source: &str) -> String {
    let mut end = 0;
    if source.starts_with("#!") && !source[2..].trim_start().starts_with('[') {
        end = source.find('\n').unwrap_or(source.len());
    }
    loop {
        let rest = &source[end..];
        let at = end + rest.len() - rest.trim_start().len();
        let rest = &source[at..];
        if rest.starts_with("//!") {
            end = at + rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("/*!") {
            let Some(close) = rest.find("*/") else { break };
            end = at + close + 2;
        } else if rest.starts_with("#!") && rest[2..].trim_start().starts_with('[') {
            let Some(close) = end_of_brackets(&rest[2..]) else {
                break;
            };
            end = at + 2 + close;
        } else {
            break;
        }
    }
    let blank = |c: char| {
        if c == '\n' {
            "\n".to_string()
        } else {
            " ".repeat(c.len_utf8())
        }
    };
    source[..end].chars().map(blank).collect::<String>() + &source[end..]
}

/// Behind the bracket that closes the first one.
fn end_of_brackets(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ => continue,
        }
        if depth == 0 {
            return Some(at + 1);
        }
    }
    None
}

/// Whether a macro call that stands among statements is an item: by the notebook's own macro, or by what it
/// begins with.
fn is_item_macro(mac: &syn::Macro, make_items: &BTreeSet<String>) -> bool {
    let Some(last) = mac.path.segments.last() else {
        return false;
    };
    let is_own = mac.path.segments.len() == 1 && make_items.contains(&last.ident.to_string());
    is_own
        || ["thread_local", "lazy_static"]
            .iter()
            .any(|name| last.ident == name)
        || (last.ident != "quote" && begins_item(mac.tokens.clone()))
}

impl Parsed {
    fn add_statement(&mut self, statement: &Stmt, range: Range<usize>, is_last: bool) {
        let mut body = Body::new(&self.source);
        body.visit_stmt(statement);
        self.polls.append(&mut body.polls);
        self.returns.append(&mut body.returns);
        self.has_await |= body.has_await;
        mentions(quote::ToTokens::to_token_stream(statement), &mut self.mentions);
        values(quote::ToTokens::to_token_stream(statement), &mut self.values);
        self.needs_runtime |= ["tokio", "spawn", "spawn_blocking"]
            .iter()
            .any(|name| self.mentions.contains(*name));
        match statement {
            Stmt::Local(local) => self.add_bindings(local),
            Stmt::Expr(expr, None) if is_last => {
                self.tail = Some(range.clone());
                self.tail_makes_value = makes_value(expr);
            }
            Stmt::Macro(m) => {
                if m.semi_token.is_none() && is_last {
                    self.tail = Some(range.clone());
                }
                let mut names = BTreeSet::new();
                idents(m.mac.tokens.clone(), &mut names);
                self.calls
                    .extend(m.mac.path.get_ident().map(|name| (name.to_string(), names)));
            }
            _ => {}
        }
        self.statements.push(range);
    }

    fn add_bindings(&mut self, local: &Local) {
        let is_typed = matches!(local.pat, syn::Pat::Type(_));
        let is_closure = !is_typed
            && local
                .init
                .as_ref()
                .is_some_and(|init| matches!(strip_parens(&init.expr), Expr::Closure(_)));
        let can_fail = local.init.as_ref().is_some_and(|init| init.diverge.is_some());
        let pattern = if let syn::Pat::Type(typed) = &local.pat {
            &*typed.pat
        } else {
            &local.pat
        };
        let is_whole = matches!(pattern, syn::Pat::Ident(_));
        let mut names = Names {
            found: Vec::new(),
            can_fail,
        };
        names.visit_pat(&local.pat);
        for (name, is_mutable) in names.found {
            self.bindings.retain(|binding| binding.name != name);
            self.bindings.push(Binding {
                name,
                is_mutable,
                is_closure,
                is_whole,
            });
        }
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty() && self.statements.is_empty()
    }
}

fn strip_parens(expr: &Expr) -> &Expr {
    match expr {
        Expr::Paren(inner) => strip_parens(&inner.expr),
        other => other,
    }
}

/// The names a pattern binds.
struct Names {
    found: Vec<(String, bool)>,
    /// Behind `let … else`, where a name in camel case is most likely a variant.
    can_fail: bool,
}

impl<'ast> Visit<'ast> for Names {
    fn visit_pat_ident(&mut self, ident: &'ast syn::PatIdent) {
        let name = ident.ident.to_string();
        let is_sure = ident.by_ref.is_some()
            || ident.mutability.is_some()
            || ident.subpat.is_some()
            || !name.starts_with(char::is_uppercase);
        let looks_like_variant = name.len() > 1 && !name.contains('_');
        if name != "None" && (is_sure || !(self.can_fail && looks_like_variant)) {
            self.found.push((name, ident.mutability.is_some()));
        }
        visit::visit_pat_ident(self, ident);
    }

    fn visit_expr(&mut self, _: &'ast Expr) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(source: &str) -> Vec<String> {
        parse(source)
            .unwrap()
            .bindings
            .into_iter()
            .map(|b| b.name)
            .collect()
    }

    #[test]
    fn bindings_of_every_pattern() {
        for (source, expect) in [
            ("let x = 1;", vec!["x"]),
            ("let (a, mut b) = (1, 2);", vec!["a", "b"]),
            ("let Some(v) = o else { panic!() };", vec!["v"]),
            ("let None = o else { panic!() };", vec![]),
            ("let P { x, y: z, .. } = p;", vec!["x", "z"]),
            ("let [first, .., last] = a;", vec!["first", "last"]),
            ("let x = 1; let x = 2;", vec!["x"]),
            ("{ let inner = 1; }", vec![]),
            (
                "let X = 1; let N = 2; let X_train = 3;",
                vec!["X", "N", "X_train"],
            ),
            ("let Some(N) = o else { panic!() };", vec!["N"]),
            ("let Color::Red = c else { panic!() };", vec![]),
            ("let Red = c else { panic!() };", vec![]),
        ] {
            assert_eq!(names(source), expect, "{source}");
        }
        assert!(parse("let f = |x: i32| x;").unwrap().bindings[0].is_closure);
        assert!(!parse("let f: fn(i32) -> i32 = |x| x;").unwrap().bindings[0].is_closure);
    }

    #[test]
    fn a_tail_is_the_last_expression_without_semicolon() {
        for (source, expect) in [
            ("1 + 1", Some("1 + 1")),
            ("1 + 1;", None),
            ("let x = 2; x // see", Some("x")),
            ("fn f() {}", None),
            ("vec![1]", Some("vec![1]")),
        ] {
            let tail = parse(source).unwrap().tail;
            assert_eq!(tail.map(|range| &source[range]), expect, "{source}");
        }
    }

    #[test]
    fn captured_names_in_format_strings_are_mentions() {
        let parsed = parse(r#"println!("{alpha:>width$} {beta:?} {{gamma}}", width = n)"#).unwrap();
        for name in ["alpha", "beta", "width", "n"] {
            assert!(parsed.mentions.contains(name), "{name}");
        }
    }

    #[test]
    fn members_and_macros_stand_for_no_variables() {
        let parsed = parse("df!(a); x.len(); y != z; 0..n; p.x.y; println!(\"{w}\"); f(k)").unwrap();
        for (name, is_value) in [
            ("df", false),
            ("len", false),
            ("x", true),
            ("z", true),
            ("n", true),
            ("w", true),
            ("k", true),
            ("a", true),
        ] {
            assert_eq!(parsed.values.contains(name), is_value, "{name}");
        }
    }

    #[test]
    fn loops_are_polled_and_constants_are_not() {
        let source = "loop { break } const N: usize = { let mut i = 0; while i < 3 { i += 1; } i }; fn f() { for _ in 0..2 {} }";
        let parsed = parse(source).unwrap();
        let polls: usize =
            parsed.polls.len() + parsed.items.iter().map(|item| item.polls.len()).sum::<usize>();
        assert_eq!(polls, 2);
    }

    #[test]
    fn what_only_a_file_may_begin_with_is_blanked() {
        for source in [
            "#![allow(unused)]\n1",
            "#!/usr/bin/env skep\n//! doc\n#![cfg_attr(all(), allow(x))]\n\n1",
            "/*! doc\n*/ 1",
            "//! only",
        ] {
            let parsed = parse(source).unwrap();
            assert_eq!(parsed.source.len(), source.len());
            assert_eq!(
                parsed.source.trim(),
                if source.ends_with('1') { "1" } else { "" },
                "{source}"
            );
        }
        assert_eq!(parse("#[derive(Debug)] struct A;").unwrap().items.len(), 1);
    }

    #[test]
    fn bare_returns_of_the_cell_itself_are_found() {
        for (source, n) in [
            ("if a { return; }", 1),
            ("let f = || { return; };", 0),
            ("fn f() { return; }", 0),
            ("let Some(x) = y else { return };", 1),
            ("return Ok(());", 0),
        ] {
            assert_eq!(parse(source).unwrap().returns.len(), n, "{source}");
        }
    }

    #[test]
    fn awaits_are_seen_in_macros_too() {
        for (source, expect) in [
            ("tokio::join!(a, b)", true),
            ("println!(\"{}\", f().await)", true),
            ("async { f().await };", false),
            ("thread::spawn(f);", false),
        ] {
            assert_eq!(parse(source).unwrap().has_await, expect, "{source}");
        }
    }

    #[test]
    fn macro_calls_that_make_items_are_items() {
        for (source, n_items) in [
            (
                "macro_rules! make { ($n:ident) => { struct $n; } } make!(A); make! { B }",
                3,
            ),
            ("macro_rules! sq { ($n:expr) => { $n * $n } } sq!(3)", 1),
            ("bitflags! { pub struct Flags: u32 { const A = 1; } }", 1),
            ("thread_local! { static A: i32 = 1; }", 1),
            ("macro_rules! make { ($n:ident) => { struct $n; } } make!(A)", 2),
            ("vec![1]", 0),
            ("println!(\"struct\");", 0),
        ] {
            assert_eq!(parse(source).unwrap().items.len(), n_items, "{source}");
        }
    }

    #[test]
    fn a_program_pasted_is_seen() {
        for (source, expect) in [
            ("fn main() {}", Some(false)),
            ("async fn main() {}", Some(true)),
            ("fn main() {} 1", None),
            ("fn main(x: i32) {}", None),
        ] {
            assert_eq!(parse(source).unwrap().main, expect, "{source}");
        }
    }
}
