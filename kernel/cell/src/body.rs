//! What statements do: where they loop, return and await; and where in the text they are.

use std::ops::Range;

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::{
    Block,
    visit::{self, Visit},
};

use crate::mentions::is_symbol;

/// Finds loops to interrupt, awaits to drive and bare returns; those of nested items, closures and `async`
/// blocks are their own.
pub(crate) struct Body<'s> {
    source: &'s str,
    pub polls: Vec<usize>,
    pub returns: Vec<usize>,
    pub has_await: bool,
    in_async: usize,
}

impl<'s> Body<'s> {
    pub fn new(source: &'s str) -> Self {
        Body {
            source,
            polls: Vec::new(),
            returns: Vec::new(),
            has_await: false,
            in_async: 0,
        }
    }

    fn poll_in(&mut self, block: &Block) {
        self.polls
            .push(range_of(self.source, block.brace_token.span.open()).end);
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

    fn visit_expr_return(&mut self, e: &'ast syn::ExprReturn) {
        if e.expr.is_none() && self.in_async == 0 {
            self.returns.push(range_of(self.source, e.return_token.span).end);
        }
        visit::visit_expr_return(self, e);
    }

    /// `tokio::join!(a, b)` awaits, though no one can see it.
    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        let awaits = ["join", "try_join", "select"]
            .iter()
            .any(|name| is_symbol(&mac.path, name))
            || has_ident(mac.tokens.clone(), "await");
        self.has_await |= awaits && self.in_async == 0;
        visit::visit_macro(self, mac);
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
            self.in_async += 1;
            visit::visit_impl_item_fn(self, f);
            self.in_async -= 1;
        }
    }

    fn visit_trait_item_fn(&mut self, f: &'ast syn::TraitItemFn) {
        self.in_async += 1;
        visit::visit_trait_item_fn(self, f);
        self.in_async -= 1;
    }

    // Constant expressions cannot call a function that is not `const`.
    fn visit_item_const(&mut self, _: &'ast syn::ItemConst) {}
    fn visit_item_static(&mut self, _: &'ast syn::ItemStatic) {}
    fn visit_expr_const(&mut self, _: &'ast syn::ExprConst) {}
    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}
}

fn has_ident(tokens: TokenStream, name: &str) -> bool {
    tokens.into_iter().any(|tree| match tree {
        TokenTree::Ident(ident) => ident == name,
        TokenTree::Group(group) => has_ident(group.stream(), name),
        _ => false,
    })
}

/// Byte offsets of a span; its own count characters of the parsed text.
pub(crate) fn range_of(source: &str, span: Span) -> Range<usize> {
    let (start, end) = (span.start(), span.end());
    let at = |place: proc_macro2::LineColumn| crate::splice::offset_of(source, place.line, place.column);
    at(start)..at(end)
}
