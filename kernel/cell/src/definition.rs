//! What an item is to the rest of the notebook: what it defines, what it mentions, which statics it holds.

use std::{collections::BTreeSet, ops::Range};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::{ForeignItem, ImplItem, Item, TraitItem, UseTree, parse::Parser, visit::Visit};

use crate::{
    body::{Body, range_of},
    mentions::{idents, is_symbol, mentions},
    signature::{Takes, signature},
    statics::{self, Static},
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

    /// The name that a path would have for it.
    pub fn name(&self) -> Option<&str> {
        match self {
            Key::Value(name) | Key::Type(name) | Key::Macro(name) => Some(name),
            Key::Use(name) => (!name.contains(['*', ' '])).then_some(name),
            _ => None,
        }
    }
}

/// How a definition comes to be part of a program that mentions it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A function, a type, a module: by its name.
    Named,
    /// Only those that hold a constant or a type decide a layout.
    Impl { decides_layout: bool },
    /// A leaf of a `use`.
    Use,
    /// Written `name! { … }`: what it defines is not known before it is expanded.
    Expansion,
    /// `macro_rules!`: visible below its definition only.
    Macro,
    /// `const _: () = …`, `asm!`: nothing can name it.
    Nameless,
}

#[derive(Clone, Debug)]
pub struct Definition {
    /// One for most items; one for each function of an `extern` block.
    pub keys: Vec<Key>,
    pub range: Range<usize>,
    /// Normalised tokens: equal text means nothing changed.
    pub tokens: String,
    pub mentions: BTreeSet<String>,
    pub(crate) kind: Kind,
    /// Names that bring it into a program: its own, and of a trait those of its methods. Of an `impl` or an
    /// expansion, names in its header or its tokens, any of which may.
    pub(crate) provides: BTreeSet<String>,
    /// Whether its text can decide the layout of a type: not so for functions, unless constants call them.
    pub(crate) decides_layout: bool,
    /// Whether a pattern of its name compares rather than binds: constants, statics, structs that are values
    /// as well.
    pub(crate) is_constant: bool,
    /// Whether it is a macro whose calls are items.
    pub(crate) makes_items: bool,
    pub(crate) statics: Vec<Static>,
    /// Names of the types and constants that an `impl` defines: a type's layout can stand on it only if one
    /// of them is mentioned.
    pub(crate) associated: BTreeSet<String>,
    /// Of a `use`: where its path begins, and with what.
    pub(crate) path: Option<(usize, String)>,
    /// Of a `use`: a line for this leaf alone.
    pub(crate) leaf: Option<String>,
    pub(crate) polls: Vec<usize>,
    /// Of a function that workers could call: how it takes its arguments.
    pub(crate) takes: Option<Vec<Takes>>,
    /// Reasons why it cannot be part of a notebook, with a hint.
    pub(crate) refusal: Option<(String, String)>,
}

/// An item as definitions: one, or for `use` one a leaf.
pub(crate) fn definitions(source: &str, item: &Item, range: Range<usize>) -> Vec<Definition> {
    let tokens = quote::ToTokens::to_token_stream(item);
    let text = tokens.to_string();
    if let Item::Use(u) = item {
        return leaves(source, u, &range, &text);
    }
    let mut body = Body::new(source);
    body.visit_item(item);
    let mut found = BTreeSet::new();
    mentions(tokens.clone(), &mut found);
    let keys = keys(item, &text);
    let mut provides: BTreeSet<String> = keys.iter().filter_map(Key::name).map(str::to_string).collect();
    let kind = kind(item);
    match item {
        Item::Trait(t) => provides.extend(t.items.iter().filter_map(|item| match item {
            TraitItem::Fn(f) => Some(f.sig.ident.to_string()),
            TraitItem::Const(c) => Some(c.ident.to_string()),
            TraitItem::Type(t) => Some(t.ident.to_string()),
            _ => None,
        })),
        Item::Impl(i) => idents(header(i), &mut provides),
        Item::Macro(_) | Item::Const(_) | Item::Verbatim(_) if !matches!(kind, Kind::Macro | Kind::Named) => {
            provides.extend(found.iter().cloned())
        }
        _ => {}
    }
    let decides_layout = match item {
        Item::Fn(f) => f.sig.constness.is_some(),
        Item::Static(_) => false,
        Item::Impl(_) => kind == (Kind::Impl { decides_layout: true }),
        _ => true,
    };
    let is_constant = matches!(item, Item::Const(_) | Item::Static(_))
        || matches!(item, Item::Struct(s) if !matches!(s.fields, syn::Fields::Named(_)))
        || matches!(item, Item::Macro(m) if m.ident.is_none() && is_symbol(&m.mac.path, "thread_local"));
    let associated = match item {
        Item::Impl(i) => i.items.iter().filter_map(associated).collect(),
        _ => BTreeSet::new(),
    };
    let statics = statics::of_item(source, item, &found);
    let refusal = refusal(item);
    let makes_items = matches!(item, Item::Macro(item) if item.ident.is_some() && makes_items(item));
    vec![Definition {
        keys,
        range,
        tokens: text,
        mentions: found,
        kind,
        provides,
        decides_layout,
        is_constant,
        makes_items,
        statics,
        associated,
        path: None,
        leaf: None,
        polls: body.polls,
        takes: signature(item),
        refusal,
    }]
}

fn associated(item: &ImplItem) -> Option<String> {
    match item {
        ImplItem::Type(t) => Some(t.ident.to_string()),
        ImplItem::Const(c) => Some(c.ident.to_string()),
        _ => None,
    }
}

fn kind(item: &Item) -> Kind {
    match item {
        Item::Const(c) if c.ident == "_" => Kind::Nameless,
        Item::Impl(i) => Kind::Impl {
            decides_layout: i
                .items
                .iter()
                .any(|item| matches!(item, ImplItem::Type(_) | ImplItem::Const(_))),
        },
        Item::Macro(m) if m.ident.is_some() => Kind::Macro,
        Item::Macro(m) if statics::thread_locals(&m.mac).is_some() => Kind::Named,
        Item::Macro(_) => Kind::Expansion,
        Item::Verbatim(_) => Kind::Nameless,
        _ => Kind::Named,
    }
}

fn keys(item: &Item, text: &str) -> Vec<Key> {
    let name = |ident: &syn::Ident| ident.to_string();
    match item {
        Item::Fn(f) => vec![Key::Value(name(&f.sig.ident))],
        Item::Const(c) if c.ident == "_" => vec![Key::Other(text.to_string())],
        Item::Const(c) => vec![Key::Value(name(&c.ident))],
        Item::Static(s) => vec![Key::Value(name(&s.ident))],
        Item::Struct(s) => vec![Key::Type(name(&s.ident))],
        Item::Enum(e) => vec![Key::Type(name(&e.ident))],
        Item::Union(u) => vec![Key::Type(name(&u.ident))],
        Item::Trait(t) => vec![Key::Type(name(&t.ident))],
        Item::TraitAlias(t) => vec![Key::Type(name(&t.ident))],
        Item::Type(t) => vec![Key::Type(name(&t.ident))],
        Item::Mod(m) => vec![Key::Type(name(&m.ident))],
        Item::ExternCrate(c) => vec![Key::Type(
            c.rename
                .as_ref()
                .map_or_else(|| name(&c.ident), |(_, new)| name(new)),
        )],
        Item::Macro(m) => match &m.ident {
            Some(ident) => vec![Key::Macro(name(ident))],
            None => statics::thread_locals(&m.mac).map_or_else(
                || vec![Key::Other(text.to_string())],
                |names| names.into_iter().map(Key::Value).collect(),
            ),
        },
        Item::Impl(i) => vec![impl_key(i)],
        Item::ForeignMod(f) => f.items.iter().map(|item| foreign_key(item, text)).collect(),
        _ => vec![Key::Other(text.to_string())],
    }
}

fn foreign_key(item: &ForeignItem, text: &str) -> Key {
    match item {
        ForeignItem::Fn(f) => Key::Value(f.sig.ident.to_string()),
        ForeignItem::Static(s) => Key::Value(s.ident.to_string()),
        _ => Key::Other(text.to_string()),
    }
}

fn header(item: &syn::ItemImpl) -> TokenStream {
    let mut header = item.clone();
    header.items.clear();
    header.attrs.clear();
    quote::ToTokens::to_token_stream(&header)
}

fn impl_key(item: &syn::ItemImpl) -> Key {
    let is_inherent = item.trait_.is_none();
    let defines = item
        .items
        .iter()
        .filter(|_| is_inherent)
        .filter_map(|item| match item {
            ImplItem::Fn(f) => Some(f.sig.ident.to_string()),
            ImplItem::Const(c) => Some(c.ident.to_string()),
            _ => None,
        });
    Key::Impl(header(item).to_string(), defines.collect())
}

/// What would be another thing in each cell than it is in a program.
fn refusal(item: &Item) -> Option<(String, String)> {
    match item {
        Item::Macro(m) if m.ident.is_some() && makes_static(m.mac.tokens.clone()) => Some((
            format!(
                "the macro `{}!` makes a static, and every cell would have its own",
                m.ident.as_ref().expect("just seen")
            ),
            "write the static outside of the macro, or keep its value in a variable".to_string(),
        )),
        Item::Macro(m) if is_symbol(&m.mac.path, "lazy_static") => Some((
            "`lazy_static!` would make its values anew in every cell".to_string(),
            "write `static NAME: LazyLock<TYPE> = LazyLock::new(|| …);` with `use std::sync::LazyLock;`"
                .to_string(),
        )),
        _ => None,
    }
}

/// `static NAME :` or `static $name :`, also behind `mut` and `ref`; `&'static` is none.
fn makes_static(tokens: TokenStream) -> bool {
    let trees: Vec<TokenTree> = tokens.into_iter().collect();
    let is_ident =
        |at: usize, name: &str| matches!(trees.get(at), Some(TokenTree::Ident(ident)) if ident == name);
    let is_punct =
        |at: usize, c: char| matches!(trees.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == c);
    trees.iter().enumerate().any(|(at, tree)| match tree {
        TokenTree::Group(group) => makes_static(group.stream()),
        TokenTree::Ident(ident) if ident == "static" && !(at > 0 && is_punct(at - 1, '\'')) => {
            let mut name = at + 1;
            if is_ident(name, "mut") || is_ident(name, "ref") {
                name += 1;
            }
            if is_punct(name, '$') {
                name += 1;
            }
            is_punct(name + 1, ':')
        }
        _ => false,
    })
}

/// Whether a macro of the notebook makes items: each of its arms begins like one.
pub(crate) fn makes_items(item: &syn::ItemMacro) -> bool {
    let trees: Vec<TokenTree> = item.mac.tokens.clone().into_iter().collect();
    let mut arms = trees.iter().filter_map(|tree| match tree {
        TokenTree::Group(group) => Some(group),
        _ => None,
    });
    let mut n_arms = 0;
    while let (Some(_), Some(expands_to)) = (arms.next(), arms.next()) {
        if !begins_item(expands_to.stream()) {
            return false;
        }
        n_arms += 1;
    }
    n_arms > 0
}

/// Whether tokens begin with an attribute, a visibility or a keyword that only items have.
pub(crate) fn begins_item(tokens: TokenStream) -> bool {
    const KEYWORDS: [&str; 14] = [
        "struct",
        "enum",
        "union",
        "impl",
        "fn",
        "trait",
        "mod",
        "const",
        "static",
        "type",
        "extern",
        "macro_rules",
        "pub",
        "async",
    ];
    let trees: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    loop {
        match (trees.get(at), trees.get(at + 1)) {
            // `#[…]`, `$(#[$m])*`, `$vis`
            (Some(TokenTree::Punct(hash)), Some(TokenTree::Group(group)))
                if hash.as_char() == '#' && group.delimiter() == Delimiter::Bracket =>
            {
                at += 2
            }
            (Some(TokenTree::Punct(dollar)), Some(TokenTree::Group(group))) if dollar.as_char() == '$' => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                let is_attribute =
                    matches!(inner.first(), Some(TokenTree::Punct(hash)) if hash.as_char() == '#');
                if !is_attribute {
                    return begins_item(group.stream());
                }
                at += 3;
            }
            (Some(TokenTree::Punct(dollar)), Some(TokenTree::Ident(name)))
                if dollar.as_char() == '$' && (name == "vis" || name == "v") =>
            {
                at += 2
            }
            (Some(TokenTree::Ident(word)), next) => {
                let is_block = matches!(next, Some(TokenTree::Group(_)));
                let starts = word == "unsafe"
                    && matches!(next, Some(TokenTree::Ident(next)) if next == "impl" || next == "fn" || next == "trait");
                return starts
                    || KEYWORDS.iter().any(|keyword| word == keyword) && (!is_block || word == "pub");
            }
            _ => return false,
        }
    }
}

/// One definition for each leaf of a `use`.
fn leaves(source: &str, item: &syn::ItemUse, range: &Range<usize>, text: &str) -> Vec<Definition> {
    let attributes: String = item
        .attrs
        .iter()
        .filter(|attr| !attr.path().is_ident("doc"))
        .map(|attr| format!("{} ", quote::ToTokens::to_token_stream(attr)))
        .collect();
    let mut prefix = if item.leading_colon.is_some() {
        "::".to_string()
    } else {
        String::new()
    };
    let mut found = Vec::new();
    flatten(&item.tree, &mut prefix, &mut found);
    let mut starts = Vec::new();
    if item.leading_colon.is_none() {
        path_starts(&item.tree, &mut starts);
    }
    let start_of = |path: &str| {
        let first = path
            .split(|c: char| !(c.is_alphanumeric() || c == '_'))
            .next()
            .unwrap_or_default();
        let ident = starts.iter().find(|ident| **ident == first)?;
        Some((range_of(source, ident.span()).start, first.to_string()))
    };
    found
        .into_iter()
        .map(|(key, path)| {
            let line = format!("{attributes}use {path};");
            let mut names = BTreeSet::new();
            mentions(TokenStream::parse_or_empty(&path), &mut names);
            Definition {
                provides: Key::Use(key.clone())
                    .name()
                    .map(str::to_string)
                    .into_iter()
                    .collect(),
                keys: vec![Key::Use(key)],
                range: range.clone(),
                tokens: if line.len() > text.len() {
                    line.clone()
                } else {
                    text.to_string() + &line
                },
                mentions: names,
                kind: Kind::Use,
                decides_layout: true,
                is_constant: false,
                makes_items: false,
                statics: Vec::new(),
                associated: BTreeSet::new(),
                path: start_of(&path),
                leaf: Some(line),
                polls: Vec::new(),
                takes: None,
                refusal: None,
            }
        })
        .collect()
}

/// The first segments of the paths of a `use`.
fn path_starts<'t>(tree: &'t UseTree, starts: &mut Vec<&'t syn::Ident>) {
    match tree {
        UseTree::Path(path) => starts.push(&path.ident),
        UseTree::Group(group) => group.items.iter().for_each(|tree| path_starts(tree, starts)),
        _ => {}
    }
}

trait ParseOrEmpty {
    fn parse_or_empty(text: &str) -> TokenStream;
}

impl ParseOrEmpty for TokenStream {
    fn parse_or_empty(text: &str) -> TokenStream {
        (|input: syn::parse::ParseStream| input.parse::<TokenStream>())
            .parse_str(text)
            .unwrap_or_default()
    }
}

/// Each leaf's path with the name that it binds. A leaf of a group stays one: `use a::{self}` takes in the
/// module alone, while `use a` takes in whatever has the name.
fn flatten(tree: &UseTree, prefix: &mut String, leaves: &mut Vec<(String, String)>) {
    let before = prefix.len();
    match tree {
        UseTree::Path(path) => {
            prefix.push_str(&format!("{}::", path.ident));
            flatten(&path.tree, prefix, leaves);
        }
        UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, prefix, leaves)),
        UseTree::Glob(_) => leaves.push((format!("{prefix}*"), format!("{prefix}*"))),
        UseTree::Rename(rename) => {
            let bound = if rename.rename == "_" {
                format!("{prefix}{} as _", rename.ident)
            } else {
                rename.rename.to_string()
            };
            let leaf = format!("{} as {}", rename.ident, rename.rename);
            leaves.push((
                bound,
                if rename.ident == "self" {
                    format!("{prefix}{{{leaf}}}")
                } else {
                    format!("{prefix}{leaf}")
                },
            ));
        }
        UseTree::Name(leaf) if leaf.ident == "self" => {
            let bound = prefix
                .trim_end_matches("::")
                .rsplit("::")
                .next()
                .unwrap_or_default()
                .to_string();
            leaves.push((bound, format!("{prefix}{{self}}")));
        }
        UseTree::Name(leaf) => leaves.push((leaf.ident.to_string(), format!("{prefix}{}", leaf.ident))),
    }
    prefix.truncate(before);
}

/// What `range_of` needs of an item that stands in a block.
pub(crate) fn definitions_of_macro(source: &str, item: &syn::StmtMacro) -> Vec<Definition> {
    let range = range_of(source, syn::spanned::Spanned::span(item));
    let item = Item::Macro(syn::ItemMacro {
        attrs: item.attrs.clone(),
        ident: None,
        mac: item.mac.clone(),
        semi_token: item.semi_token,
    });
    definitions(source, &item, range)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::parse;

    #[test]
    fn a_use_is_flattened_to_its_leaves() {
        let parsed = parse("#[cfg(unix)] use std::{collections::{HashMap, BTreeMap as Tree}, fmt::{self, *}, io::{self as sio, Read as _}};").unwrap();
        let leaves: Vec<&str> = parsed
            .items
            .iter()
            .map(|item| item.leaf.as_deref().unwrap())
            .collect();
        assert_eq!(
            leaves,
            [
                "# [cfg (unix)] use std::collections::HashMap;",
                "# [cfg (unix)] use std::collections::BTreeMap as Tree;",
                "# [cfg (unix)] use std::fmt::{self};",
                "# [cfg (unix)] use std::fmt::*;",
                "# [cfg (unix)] use std::io::{self as sio};",
                "# [cfg (unix)] use std::io::Read as _;"
            ]
        );
    }

    #[test]
    fn macros_that_make_statics_are_refused_and_references_are_not() {
        for (source, expect) in [
            ("macro_rules! m { () => { static A: i32 = 1; } }", true),
            ("macro_rules! m { ($n:ident) => { static $n: i32 = 1; } }", true),
            (
                "macro_rules! m { ($n:ident) => { struct $n { a: &'static str } } }",
                false,
            ),
            ("lazy_static! { static ref A: i32 = 1; }", true),
        ] {
            assert_eq!(
                parse(source).unwrap().items[0].refusal.is_some(),
                expect,
                "{source}"
            );
        }
    }

    #[test]
    fn what_a_macro_makes_is_seen_in_its_arms() {
        for (source, expect) in [
            (
                "macro_rules! m { ($n:ident) => { struct $n; impl $n {} }; }",
                true,
            ),
            (
                "macro_rules! m { ($(#[$m:meta])* $n:ident) => { $(#[$m])* pub struct $n; } }",
                true,
            ),
            ("macro_rules! m { ($($n:ident),*) => { $(struct $n;)* } }", true),
            ("macro_rules! m { ($e:expr) => { $e + 1 } }", false),
            (
                "macro_rules! m { () => { println!() }; (x) => { struct A; } }",
                false,
            ),
            ("macro_rules! m { () => { const { 1 } } }", false),
            ("macro_rules! m { () => { unsafe { f() } } }", false),
        ] {
            let Item::Macro(item) = syn::parse_str::<Item>(source).unwrap() else {
                panic!("{source}")
            };
            assert_eq!(makes_items(&item), expect, "{source}");
        }
    }
}
