//! A cell's text as items, statements and a tail, with their places.

use std::{collections::BTreeSet, ops::Range};

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::{
    Block, Expr, ForeignItem, Item, Local, Stmt, UseTree,
    parse::Parser,
    spanned::Spanned,
    visit::{self, Visit},
};

/// What a definition replaces when it comes again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// Functions, constants and statics share a namespace.
    Value(String),
    /// Structs, enums, unions, traits, aliases and modules share another.
    Type(String),
    Macro(String),
    Use(String),
    /// An `impl`, by its header and the names it defines.
    Impl(String, BTreeSet<String>),
    /// Anything else, by its text.
    Other(String),
}

impl Key {
    pub fn is_replaced_by(&self, new: &Key) -> bool {
        match (self, new) {
            (Key::Impl(a, old), Key::Impl(b, new)) => a == b && (old.is_empty() || !old.is_disjoint(new)),
            _ => self == new,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Definition {
    /// One for most items, one a leaf for `use`.
    pub keys: Vec<Key>,
    pub range: Range<usize>,
    /// Normalised tokens: equal text means nothing changed.
    pub tokens: String,
    pub mentions: BTreeSet<String>,
    pub is_type: bool,
    /// For `static`: `(name, type, is mutable)`.
    pub global: Option<(String, String, bool)>,
    /// For `use`: one line a leaf, in the order of `keys`.
    pub leaves: Vec<String>,
    pub polls: Vec<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    pub name: String,
    pub is_mutable: bool,
    pub is_closure: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Parsed {
    pub source: String,
    pub items: Vec<Definition>,
    pub statements: Vec<Range<usize>>,
    pub tail: Option<Range<usize>>,
    pub bindings: Vec<Binding>,
    /// Every identifier of the statements, also those inside macros and format strings.
    pub mentions: BTreeSet<String>,
    pub has_await: bool,
    /// Where to look for an interrupt: after the brace of each loop.
    pub polls: Vec<usize>,
}

/// Parses a cell. An `Err` means that `syn` found it broken; rustc then has the better words for it.
pub fn parse(source: &str) -> Result<Parsed, syn::Error> {
    let statements = Block::parse_within.parse_str(source)?;
    let mut parsed = Parsed { source: source.to_string(), ..Parsed::default() };
    let n_statements = statements.len();
    for (i, statement) in statements.into_iter().enumerate() {
        let range = range_of(source, statement.span());
        match statement {
            Stmt::Item(item) => parsed.items.push(definition(source, &item, range)),
            Stmt::Macro(m) if is_item_macro(&m.mac.path) => {
                let item = Item::Macro(syn::ItemMacro { attrs: m.attrs, ident: None, mac: m.mac, semi_token: m.semi_token });
                parsed.items.push(definition(source, &item, range));
            }
            statement => {
                let is_last = i + 1 == n_statements;
                parsed.add_statement(&statement, range, is_last);
            }
        }
    }
    Ok(parsed)
}

/// Macros that define statics for the whole program rather than run.
fn is_item_macro(path: &syn::Path) -> bool {
    path.segments.last().is_some_and(|segment| segment.ident == "thread_local" || segment.ident == "lazy_static")
}

impl Parsed {
    fn add_statement(&mut self, statement: &Stmt, range: Range<usize>, is_last: bool) {
        let mut body = Body::new(&self.source);
        body.visit_stmt(statement);
        self.polls.append(&mut body.polls);
        self.has_await |= body.has_await;
        mentions(quote_tokens(statement), &mut self.mentions);
        match statement {
            Stmt::Local(local) => self.add_bindings(local),
            Stmt::Expr(_, None) if is_last => self.tail = Some(range.clone()),
            Stmt::Macro(m) if m.semi_token.is_none() && is_last => self.tail = Some(range.clone()),
            _ => {}
        }
        self.statements.push(range);
    }

    fn add_bindings(&mut self, local: &Local) {
        let is_closure = local.init.as_ref().is_some_and(|init| matches!(strip_parens(&init.expr), Expr::Closure(_)));
        let mut names = Names::default();
        names.visit_pat(&local.pat);
        for (name, is_mutable) in names.0 {
            self.bindings.retain(|binding| binding.name != name);
            self.bindings.push(Binding { name, is_mutable, is_closure });
        }
    }

    /// Positions of all polls, of statements and items, in order.
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

/// The names a pattern binds. `None` and other constants look like bindings; those start in upper case.
#[derive(Default)]
struct Names(Vec<(String, bool)>);

impl<'ast> Visit<'ast> for Names {
    fn visit_pat_ident(&mut self, ident: &'ast syn::PatIdent) {
        let name = ident.ident.to_string();
        if !name.starts_with(char::is_uppercase) {
            self.0.push((name, ident.mutability.is_some()));
        }
        visit::visit_pat_ident(self, ident);
    }

    fn visit_expr(&mut self, _: &'ast Expr) {}
}

/// Finds loops to interrupt and awaits to drive; does not look into nested items, closures' awaits or constants.
struct Body<'s> {
    source: &'s str,
    polls: Vec<usize>,
    has_await: bool,
    in_async: usize,
}

impl<'s> Body<'s> {
    fn new(source: &'s str) -> Self {
        Body { source, polls: Vec::new(), has_await: false, in_async: 0 }
    }

    fn poll_in(&mut self, block: &Block) {
        self.polls.push(range_of(self.source, block.brace_token.span.open()).end);
    }
}

impl<'ast> Visit<'ast> for Body<'_> {
    fn visit_expr_loop(&mut self, e: &'ast syn::ExprLoop) {
        self.poll_in(&e.body);
        visit::visit_expr_loop(self, e);
    }

    fn visit_expr_while(&mut self, e: &'ast syn::ExprWhile) {
        self.poll_in(&e.body);
        visit::visit_expr_while(self, e);
    }

    fn visit_expr_for_loop(&mut self, e: &'ast syn::ExprForLoop) {
        self.poll_in(&e.body);
        visit::visit_expr_for_loop(self, e);
    }

    fn visit_expr_await(&mut self, e: &'ast syn::ExprAwait) {
        self.has_await |= self.in_async == 0;
        visit::visit_expr_await(self, e);
    }

    fn visit_expr_async(&mut self, e: &'ast syn::ExprAsync) {
        self.in_async += 1;
        visit::visit_expr_async(self, e);
        self.in_async -= 1;
    }

    fn visit_expr_closure(&mut self, e: &'ast syn::ExprClosure) {
        self.in_async += 1;
        visit::visit_expr_closure(self, e);
        self.in_async -= 1;
    }

    fn visit_item_fn(&mut self, f: &'ast syn::ItemFn) {
        if f.sig.constness.is_none() {
            self.in_async += 1;
            visit::visit_item_fn(self, f);
            self.in_async -= 1;
        }
    }

    fn visit_impl_item_fn(&mut self, f: &'ast syn::ImplItemFn) {
        if f.sig.constness.is_none() {
            visit::visit_impl_item_fn(self, f);
        }
    }

    // Constant expressions cannot call a function that is not `const`.
    fn visit_item_const(&mut self, _: &'ast syn::ItemConst) {}
    fn visit_item_static(&mut self, _: &'ast syn::ItemStatic) {}
    fn visit_expr_const(&mut self, _: &'ast syn::ExprConst) {}
    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}
}

fn definition(source: &str, item: &Item, range: Range<usize>) -> Definition {
    let tokens = quote_tokens(item);
    let text = tokens.to_string();
    let mut body = Body::new(source);
    body.visit_item(item);
    let mut found = BTreeSet::new();
    mentions(tokens, &mut found);
    let mut leaves = Vec::new();
    let name = |ident: &syn::Ident| ident.to_string();
    let mut global = None;
    let keys = match item {
        Item::Fn(f) => vec![Key::Value(name(&f.sig.ident))],
        Item::Const(c) if c.ident == "_" => vec![Key::Other(text.clone())],
        Item::Const(c) => vec![Key::Value(name(&c.ident))],
        Item::Static(s) => {
            global = Some((name(&s.ident), quote_tokens(&*s.ty).to_string(), matches!(s.mutability, syn::StaticMutability::Mut(_))));
            vec![Key::Value(name(&s.ident))]
        }
        Item::Struct(s) => vec![Key::Type(name(&s.ident))],
        Item::Enum(e) => vec![Key::Type(name(&e.ident))],
        Item::Union(u) => vec![Key::Type(name(&u.ident))],
        Item::Trait(t) => vec![Key::Type(name(&t.ident))],
        Item::Type(t) => vec![Key::Type(name(&t.ident))],
        Item::Mod(m) => vec![Key::Type(name(&m.ident))],
        Item::ExternCrate(c) => vec![Key::Type(c.rename.as_ref().map_or_else(|| name(&c.ident), |(_, new)| name(new)))],
        Item::Macro(m) => vec![m.ident.as_ref().map_or_else(|| Key::Other(text.clone()), |ident| Key::Macro(name(ident)))],
        Item::Use(u) => {
            let mut prefix = if u.leading_colon.is_some() { "::".to_string() } else { String::new() };
            flatten(&u.tree, &mut prefix, &mut leaves);
            leaves.iter().map(|(key, _)| Key::Use(key.clone())).collect()
        }
        Item::Impl(i) => vec![impl_key(i)],
        Item::ForeignMod(f) => f.items.iter().map(|item| foreign_key(item, &text)).collect(),
        _ => vec![Key::Other(text.clone())],
    };
    let is_type = matches!(item, Item::Struct(_) | Item::Enum(_) | Item::Union(_) | Item::Type(_) | Item::Const(_) | Item::Trait(_) | Item::Mod(_));
    let leaves = leaves.into_iter().map(|(_, line)| line).collect();
    Definition { keys, range, tokens: text, mentions: found, is_type, global, leaves, polls: body.polls }
}

fn foreign_key(item: &ForeignItem, text: &str) -> Key {
    match item {
        ForeignItem::Fn(f) => Key::Value(f.sig.ident.to_string()),
        ForeignItem::Static(s) => Key::Value(s.ident.to_string()),
        _ => Key::Other(text.to_string()),
    }
}

fn impl_key(item: &syn::ItemImpl) -> Key {
    let mut header = item.clone();
    header.items.clear();
    header.attrs.clear();
    let is_inherent = item.trait_.is_none();
    let defines = item.items.iter().filter(|_| is_inherent).filter_map(|item| match item {
        syn::ImplItem::Fn(f) => Some(f.sig.ident.to_string()),
        syn::ImplItem::Const(c) => Some(c.ident.to_string()),
        _ => None,
    });
    Key::Impl(quote_tokens(&header).to_string(), defines.collect())
}

/// One `use` line for each leaf, with the name it binds.
fn flatten(tree: &UseTree, prefix: &mut String, leaves: &mut Vec<(String, String)>) {
    let before = prefix.len();
    match tree {
        UseTree::Path(path) => {
            prefix.push_str(&format!("{}::", path.ident));
            flatten(&path.tree, prefix, leaves);
        }
        UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, prefix, leaves)),
        UseTree::Glob(_) => leaves.push((format!("{prefix}*"), format!("use {prefix}*;"))),
        UseTree::Rename(rename) => {
            let bound = if rename.rename == "_" { format!("{prefix}{} as _", rename.ident) } else { rename.rename.to_string() };
            leaves.push((bound, format!("use {prefix}{} as {};", rename.ident, rename.rename)));
        }
        UseTree::Name(leaf) if leaf.ident == "self" => {
            let path = prefix.trim_end_matches("::").to_string();
            let bound = path.rsplit("::").next().unwrap_or_default().to_string();
            leaves.push((bound, format!("use {path};")));
        }
        UseTree::Name(leaf) => leaves.push((leaf.ident.to_string(), format!("use {prefix}{};", leaf.ident))),
    }
    prefix.truncate(before);
}

fn quote_tokens(node: &impl quote::ToTokens) -> TokenStream {
    node.to_token_stream()
}

/// Every identifier, also the captured ones of format strings: `"{name}"` uses `name`.
fn mentions(tokens: TokenStream, found: &mut BTreeSet<String>) {
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => drop(found.insert(ident.to_string())),
            TokenTree::Group(group) => mentions(group.stream(), found),
            TokenTree::Literal(literal) => {
                let text = literal.to_string();
                if !text.ends_with('"') && !text.ends_with('#') {
                    continue;
                }
                for part in text.split('{').skip(1) {
                    let name: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                    if !name.is_empty() {
                        found.insert(name);
                    }
                    // `{value:width$}` names an argument as well.
                    for name in part.split('}').next().unwrap_or_default().split(|c: char| !(c.is_alphanumeric() || c == '_')) {
                        found.insert(name.to_string());
                    }
                }
            }
            TokenTree::Punct(_) => {}
        }
    }
}

/// `byte_range` counts characters' bytes of the parsed text; syn strips a byte-order mark and a shebang is not expected.
fn range_of(source: &str, span: Span) -> Range<usize> {
    let (start, end) = (span.start(), span.end());
    let at = |place: proc_macro2::LineColumn| crate::splice::offset_of(source, place.line, place.column);
    at(start)..at(end)
}

/// Whether a text can be run as it stands, for `is_complete` and the terminal's Enter key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completeness {
    Complete,
    /// More lines are needed; the next one is indented by this.
    Incomplete {
        indent: String,
    },
    Invalid,
}

/// Judges by real parsing: text is incomplete when what is wrong with it is that it ends.
pub fn completeness(source: &str) -> Completeness {
    let incomplete = |depth: usize| Completeness::Incomplete { indent: " ".repeat(4 * depth) };
    match open_delimiters(source) {
        Delimiters::Open(depth) => return incomplete(depth),
        Delimiters::InLiteral => return incomplete(0),
        Delimiters::Unbalanced => return Completeness::Invalid,
        Delimiters::Closed => {}
    }
    if source.trim().is_empty() {
        return Completeness::Complete;
    }
    match parse(source) {
        Ok(_) => Completeness::Complete,
        Err(error) => {
            let needs_more = error.to_string().contains("unexpected end of input") || parse(&format!("{source};")).is_ok();
            if needs_more { incomplete(usize::from(source.trim_end().ends_with(['=', '+', '.', ',', '|', '&']))) } else { Completeness::Invalid }
        }
    }
}

enum Delimiters {
    Closed,
    Open(usize),
    InLiteral,
    Unbalanced,
}

/// rustc's own lexer would be the better judge of literals, but proc-macro2 gives up on an open one without saying where.
fn open_delimiters(source: &str) -> Delimiters {
    let bytes = source.as_bytes();
    let mut stack = Vec::new();
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b'/' if bytes.get(i + 1) == Some(&b'/') => i += source[i..].find('\n').unwrap_or(source.len() - i),
            b'/' if bytes.get(i + 1) == Some(&b'*') => {
                let Some(end) = end_of_comment(bytes, i) else { return Delimiters::InLiteral };
                i = end;
                continue;
            }
            b'"' => {
                let Some(end) = end_of_string(bytes, i) else { return Delimiters::InLiteral };
                i = end;
                continue;
            }
            b'\'' => {
                i = end_of_char_or_lifetime(source, i);
                continue;
            }
            c @ (b'(' | b'[' | b'{') => stack.push(c),
            c @ (b')' | b']' | b'}') => {
                let open = match c {
                    b')' => b'(',
                    b']' => b'[',
                    _ => b'{',
                };
                if stack.pop() != Some(open) {
                    return Delimiters::Unbalanced;
                }
            }
            _ => {}
        }
        i += 1;
    }
    if stack.is_empty() { Delimiters::Closed } else { Delimiters::Open(stack.len()) }
}

fn end_of_comment(bytes: &[u8], start: usize) -> Option<usize> {
    let mut depth = 0;
    let mut i = start;
    while i + 1 < bytes.len() {
        match &bytes[i..i + 2] {
            b"/*" => (depth, i) = (depth + 1, i + 2),
            b"*/" => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return Some(i);
        }
    }
    None
}

fn end_of_string(bytes: &[u8], quote: usize) -> Option<usize> {
    let n_hashes = bytes[..quote].iter().rev().take_while(|b| **b == b'#').count();
    let is_raw = quote > n_hashes && bytes[quote - n_hashes - 1] == b'r';
    let mut i = quote + 1;
    while i < bytes.len() {
        match bytes[i] {
            b'\\' if !is_raw => i += 1,
            b'"' if !is_raw => return Some(i + 1),
            b'"' if bytes[i + 1..].iter().take(n_hashes).filter(|b| **b == b'#').count() == n_hashes => return Some(i + 1 + n_hashes),
            _ => {}
        }
        i += 1;
    }
    None
}

fn end_of_char_or_lifetime(source: &str, quote: usize) -> usize {
    let mut rest = source[quote + 1..].char_indices();
    match rest.next() {
        Some((_, '\\')) => source[quote + 2..].char_indices().skip(1).find(|(_, c)| *c == '\'').map_or(source.len(), |(at, _)| quote + 3 + at),
        Some((_, c)) if matches!(rest.next(), Some((_, '\''))) => quote + 2 + c.len_utf8(),
        _ => quote + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(source: &str) -> Vec<String> {
        parse(source).unwrap().bindings.into_iter().map(|b| b.name).collect()
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
        ] {
            assert_eq!(names(source), expect, "{source}");
        }
        assert!(parse("let f = |x: i32| x;").unwrap().bindings[0].is_closure);
    }

    #[test]
    fn a_tail_is_the_last_expression_without_semicolon() {
        for (source, expect) in
            [("1 + 1", Some("1 + 1")), ("1 + 1;", None), ("let x = 2; x // see", Some("x")), ("fn f() {}", None), ("vec![1]", Some("vec![1]"))]
        {
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
    fn a_use_is_flattened_to_its_leaves() {
        let parsed = parse("use std::{collections::{HashMap, BTreeMap as Tree}, fmt::{self, *}, io::Read as _};").unwrap();
        assert_eq!(
            parsed.items[0].leaves,
            ["use std::collections::HashMap;", "use std::collections::BTreeMap as Tree;", "use std::fmt;", "use std::fmt::*;", "use std::io::Read as _;"]
        );
    }

    #[test]
    fn completeness_is_judged_by_parsing() {
        use Completeness::*;
        let indent = |n| Incomplete { indent: " ".repeat(n) };
        for (source, expect) in [
            ("", Complete),
            ("1 + 1", Complete),
            ("fn f() {", indent(4)),
            ("foo(bar(", indent(8)),
            ("let x =", indent(4)),
            ("let s = \"abc", indent(0)),
            ("/* open", indent(0)),
            ("let c = '{'; c", Complete),
            ("fn f<'a>(x: &'a str) {}", Complete),
            ("r#\"quote \" inside\"#", Complete),
            ("let x = 1", indent(0)),
            ("x + ", indent(4)),
            (")", Invalid),
            ("let 1x = ;", Invalid),
        ] {
            assert_eq!(completeness(source), expect, "{source}");
        }
    }

    #[test]
    fn loops_are_polled_and_constants_are_not() {
        let source = "loop { break } const N: usize = { let mut i = 0; while i < 3 { i += 1; } i }; fn f() { for _ in 0..2 {} }";
        let parsed = parse(source).unwrap();
        let polls: usize = parsed.polls.len() + parsed.items.iter().map(|item| item.polls.len()).sum::<usize>();
        assert_eq!(polls, 2);
    }
}
