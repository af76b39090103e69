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
        for name in part.split('}').next().unwrap_or_default().split(|c: char| !(c.is_alphanumeric() || c == '_')) {
            if !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) {
                found.insert(name.to_string());
            }
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
