//! Which names a text mentions.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};

/// Every identifier, also the captured ones of format strings: `"{name}"` uses `name`. Lifetimes are none.
pub(crate) fn mentions(tokens: TokenStream, found: &mut BTreeSet<String>) {
    let mut is_lifetime = false;
    for token in tokens {
        match token {
            TokenTree::Ident(ident) if !is_lifetime => drop(found.insert(ident.to_string())),
            TokenTree::Group(group) => mentions(group.stream(), found),
            TokenTree::Literal(literal) => in_format_string(&literal.to_string(), found),
            TokenTree::Punct(punct) => {
                is_lifetime = punct.as_char() == '\'';
                continue;
            }
            TokenTree::Ident(_) => {}
        }
        is_lifetime = false;
    }
}

fn in_format_string(text: &str, found: &mut BTreeSet<String>) {
    if !text.ends_with(['"', '#']) {
        return;
    }
    for part in text.split('{').skip(1) {
        // `{value:width$}` names an argument as well.
        for name in part
            .split('}')
            .next()
            .unwrap_or_default()
            .split(|c: char| !(c.is_alphanumeric() || c == '_'))
        {
            if !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) {
                found.insert(name.to_string());
            }
        }
    }
}

/// Identifiers that may stand for values: no fields, no methods, no macros.
pub(crate) fn values(tokens: TokenStream, found: &mut BTreeSet<String>) {
    let trees: Vec<TokenTree> = tokens.into_iter().collect();
    let is_punct = |at: Option<usize>, c: char| {
        at.and_then(|at| trees.get(at))
            .is_some_and(|tree| matches!(tree, TokenTree::Punct(punct) if punct.as_char() == c))
    };
    for (at, tree) in trees.iter().enumerate() {
        match tree {
            TokenTree::Ident(ident) => {
                let is_member = is_punct(at.checked_sub(1), '.') && !is_punct(at.checked_sub(2), '.');
                let is_lifetime = is_punct(at.checked_sub(1), '\'');
                let is_macro =
                    is_punct(Some(at + 1), '!') && matches!(trees.get(at + 2), Some(TokenTree::Group(_)));
                if !is_member && !is_lifetime && !is_macro {
                    found.insert(ident.to_string());
                }
            }
            TokenTree::Group(group) => values(group.stream(), found),
            TokenTree::Literal(literal) => in_format_string(&literal.to_string(), found),
            TokenTree::Punct(_) => {}
        }
    }
}

/// Identifiers alone, without what stands in strings.
pub(crate) fn idents(tokens: TokenStream, found: &mut BTreeSet<String>) {
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => drop(found.insert(ident.to_string())),
            TokenTree::Group(group) => idents(group.stream(), found),
            _ => {}
        }
    }
}

/// Whether a macro's path ends with this name.
pub(crate) fn is_symbol(path: &syn::Path, name: &str) -> bool {
    path.segments.last().is_some_and(|segment| segment.ident == name)
}
