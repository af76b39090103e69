//! What a closure captures, where rustc says only that it must not: what runs on workers is a function without a value.

use std::{collections::BTreeSet, ops::Range};

use quote::ToTokens;
use syn::{
    Block, ExprClosure, PatIdent,
    parse::Parser,
    visit::{self, Visit},
};

use crate::{body::range_of, mentions::values};

/// The variables that the closure which begins at `at` takes from around it; names are told by `is_variable`.
pub(crate) fn captured(
    source: &str,
    statement: &Range<usize>,
    at: usize,
    is_variable: &dyn Fn(&str) -> bool,
) -> Vec<String> {
    let text = source.get(statement.clone()).unwrap_or_default();
    let Ok(statements) = Block::parse_within.parse_str(text) else {
        return Vec::new();
    };
    let mut closure = Closure {
        source: text,
        at: at - statement.start,
        is_inside: false,
        used: BTreeSet::new(),
        own: BTreeSet::new(),
    };
    for statement in &statements {
        closure.visit_stmt(statement);
    }
    let names = closure.used.difference(&closure.own);
    names.filter(|name| is_variable(name)).cloned().collect()
}

struct Closure<'s> {
    source: &'s str,
    at: usize,
    is_inside: bool,
    used: BTreeSet<String>,
    /// Its arguments, and what it defines.
    own: BTreeSet<String>,
}

impl<'ast> Visit<'ast> for Closure<'_> {
    fn visit_expr_closure(&mut self, closure: &'ast ExprClosure) {
        let first = closure
            .capture
            .map_or(closure.or1_token.span, |keyword| keyword.span);
        let is_it = range_of(self.source, first).start == self.at;
        if is_it {
            values(closure.body.to_token_stream(), &mut self.used);
        }
        self.is_inside |= is_it;
        visit::visit_expr_closure(self, closure);
        self.is_inside &= !is_it;
    }

    fn visit_pat_ident(&mut self, pattern: &'ast PatIdent) {
        if self.is_inside {
            self.own.insert(pattern.ident.to_string());
        }
        visit::visit_pat_ident(self, pattern);
    }
}

#[test]
fn names_from_around_are_captured() {
    let check = |closure: &str, expected: &[&str]| {
        let source = format!("let é = 1;\nlet r = cluster.map({closure}, 0..n)?;");
        let at = source.find(closure).unwrap();
        let statement = source.find("let r").unwrap()..source.len();
        let found = captured(&source, &statement, at, &|name| name.len() == 1);
        assert_eq!(found, expected, "{closure}");
    };
    check("|x: i64| x * k", &["k"]);
    check("move |x: i64| { let y = x + a; y * b.len() as i64 }", &["a", "b"]);
    check("|(x, y): (i64, i64)| (x..y).map(|z| z * k).sum::<i64>()", &["k"]);
    check("|x: i64| x", &[]);
}
