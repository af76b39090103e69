//! Statics that are one and the same in every cell.
//!
//! Each cell compiles the items that it needs again, statics among them, exactly as the user wrote them. What
//! makes them one is the dynamic linker: a static is exported under a name of its own, each library goes
//! through its table of symbols to reach it, and all tables lead to the library that was loaded first. So a
//! static may have any type that Rust lets it have, a process that begins anew makes it anew, and a constant
//! may look at it.
//!
//! The exported name says which text it is (the cell and the place in it) and what its type's layout stands
//! on. A type that is defined anew gives the static another name, and it begins anew; nothing is ever read
//! through an old layout.
//!
//! `thread_local!` becomes a static [`Local`](../../eval/src/local.rs) that leads to the key of the first
//! library.

use std::{collections::BTreeSet, ops::Range};

use syn::{
    Attribute, Expr, Ident, Item, Token, Type, Visibility,
    parse::{Parse, ParseStream},
    spanned::Spanned,
    visit::{self, Visit},
};

use crate::{
    body::range_of,
    mentions::{is_symbol, mentions},
};

/// A static at any depth of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Static {
    pub range: Range<usize>,
    /// What the layout of its type may stand on.
    pub mentions: BTreeSet<String>,
    /// Of a `thread_local!`: visibility, name and type of each.
    pub locals: Vec<(String, String, String)>,
    /// And its text on one line.
    pub text: String,
}

/// The exported name.
pub(crate) fn symbol(cell: u32, offset: usize, layout: u64) -> String {
    format!("skep_static_{cell}_{offset}_{layout:016x}")
}

/// All statics of an item; those inside functions and modules may be of types that only stand there.
pub(crate) fn of_item(source: &str, item: &Item, all_mentions: &BTreeSet<String>) -> Vec<Static> {
    let mut finder = Finder {
        source,
        found: Vec::new(),
    };
    finder.visit_item(item);
    if !matches!(item, Item::Static(_) | Item::Macro(_)) {
        finder
            .found
            .iter_mut()
            .for_each(|found| found.mentions.clone_from(all_mentions));
    }
    finder.found
}

struct Finder<'s> {
    source: &'s str,
    found: Vec<Static>,
}

impl Finder<'_> {
    fn add_thread_local(&mut self, mac: &syn::Macro, span: proc_macro2::Span) {
        if !is_symbol(&mac.path, "thread_local") {
            return;
        }
        let Ok(Locals(locals)) = syn::parse2(mac.tokens.clone()) else {
            return;
        };
        let mut names = BTreeSet::new();
        mentions(mac.tokens.clone(), &mut names);
        self.found.push(Static {
            range: range_of(self.source, span),
            mentions: names,
            locals,
            text: format!("{} ;", quote::ToTokens::to_token_stream(mac)),
        });
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_static(&mut self, item: &'ast syn::ItemStatic) {
        let mut names = BTreeSet::new();
        mentions(quote::ToTokens::to_token_stream(&*item.ty), &mut names);
        self.found.push(Static {
            range: range_of(self.source, item.span()),
            mentions: names,
            locals: Vec::new(),
            text: String::new(),
        });
        visit::visit_item_static(self, item);
    }

    fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
        if item.ident.is_none() {
            self.add_thread_local(&item.mac, item.span());
        }
    }

    fn visit_stmt_macro(&mut self, item: &'ast syn::StmtMacro) {
        self.add_thread_local(&item.mac, item.span());
    }
}

/// The names that a `thread_local!` defines; `None` for any other macro.
pub(crate) fn thread_locals(mac: &syn::Macro) -> Option<Vec<String>> {
    if !is_symbol(&mac.path, "thread_local") {
        return None;
    }
    let Locals(locals) = syn::parse2(mac.tokens.clone()).ok()?;
    Some(locals.into_iter().map(|(_, name, _)| name).collect())
}

struct Locals(Vec<(String, String, String)>);

impl Parse for Locals {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let mut locals = Vec::new();
        while !input.is_empty() {
            input.call(Attribute::parse_outer)?;
            let visibility: Visibility = input.parse()?;
            input.parse::<Token![static]>()?;
            let name: Ident = input.parse()?;
            input.parse::<Token![:]>()?;
            let ty: Type = input.parse()?;
            input.parse::<Token![=]>()?;
            input.parse::<Expr>()?;
            if !input.is_empty() {
                input.parse::<Token![;]>()?;
            }
            let text = |node: &dyn quote::ToTokens| node.to_token_stream().to_string();
            locals.push((text(&visibility), name.to_string(), text(&ty)));
        }
        Ok(Locals(locals))
    }
}

impl Static {
    /// What goes in front of it and behind it, so that it is the one of `symbol`.
    pub fn inserts(&self, symbol: &str) -> Vec<(usize, String)> {
        let exported =
            |symbol: &str| format!("#[cfg_attr(not(skep_release), unsafe(export_name = \"{symbol}\"))] ");
        if self.locals.is_empty() {
            return vec![(self.range.start, exported(symbol))];
        }
        let open = |n: usize| {
            let (visibility, name, ty) = &self.locals[n];
            format!(
                "{}{visibility} static {name}: ::skep::cell::Local<{ty}> = {{ ",
                exported(&format!("{symbol}_{n}"))
            )
        };
        let close = |n: usize| format!(" ; ::skep::cell::Local::new({}) }};", self.locals[n].1);
        // The user's own text is the first one's; the others come from copies of it on the last line.
        let others: String = (1..self.locals.len())
            .map(|n| format!(" {}{}{}", open(n), self.text, close(n)))
            .collect();
        vec![(self.range.start, open(0)), (self.range.end, close(0) + &others)]
    }
}
