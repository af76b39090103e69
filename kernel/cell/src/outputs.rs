//! Values of earlier cells by number, as terminals have them: `_` is the last one, `Out[3]` and `_3` that of
//! cell 3.

use std::ops::Range;

use proc_macro2::TokenStream;
use syn::{
    Block, Expr,
    parse::Parser,
    punctuated::Punctuated,
    spanned::Spanned,
    visit::{self, Visit},
};

use crate::body::range_of;

/// The variable that holds the value of a cell's last expression.
pub fn output_name(cell: u32) -> String {
    format!("_{cell}")
}

/// The cell that a variable is the output of.
pub fn cell_of_output(name: &str) -> Option<u32> {
    name.strip_prefix('_')?.parse().ok()
}

/// The code with `_` and `Out[n]` in the place of values replaced by the variables that hold them. `last` is
/// the newest cell that has an output.
///
/// ```
/// let with = |code| skep_cell::with_outputs(code, Some(7), &|cell| cell < 8);
/// assert_eq!(with("let _ = _ + Out[2];"), Ok("let _ = _7 + _2    ;".to_string()));
/// assert_eq!(with("x.iter().map(|_| 1)"), Ok("x.iter().map(|_| 1)".to_string()));
/// assert_eq!(with("Out[9]"), Err(9));
/// ```
///
/// # Errors
/// The number of a cell that has no output.
pub fn with_outputs(code: &str, last: Option<u32>, has_output: &dyn Fn(u32) -> bool) -> Result<String, u32> {
    if !code.contains("Out[") && !code.contains('_') || code.len() > 1 << 14 {
        return Ok(code.to_string());
    }
    let parsed = Block::parse_within
        .parse_str(code)
        .or_else(|_| Block::parse_within.parse_str(&format!("{code};")));
    let Ok(statements) = parsed else {
        return Ok(code.to_string());
    };
    let mut found = Found {
        source: code,
        last,
        replacements: Vec::new(),
    };
    statements
        .iter()
        .for_each(|statement| found.visit_stmt(statement));
    let mut replacements = found.replacements;
    if let Some((_, cell)) = replacements.iter().find(|(_, cell)| !has_output(*cell)) {
        return Err(*cell);
    }
    replacements.sort_by_key(|(range, _)| range.start);
    let mut out = String::new();
    let mut at = 0;
    for (range, cell) in replacements {
        let name = output_name(cell);
        out.push_str(&code[at..range.start]);
        // What stands behind it keeps its column.
        out.push_str(&format!("{name:<width$}", width = range.len()));
        at = range.end;
    }
    Ok(out + &code[at..])
}

struct Found<'s> {
    source: &'s str,
    last: Option<u32>,
    replacements: Vec<(Range<usize>, u32)>,
}

impl<'ast> Visit<'ast> for Found<'_> {
    fn visit_expr(&mut self, expr: &'ast Expr) {
        match expr {
            Expr::Infer(_) => {
                if let Some(last) = self.last {
                    self.replacements.push((range_of(self.source, expr.span()), last));
                }
            }
            Expr::Index(index) => match (&*index.expr, &*index.index) {
                (
                    Expr::Path(path),
                    Expr::Lit(syn::ExprLit {
                        lit: syn::Lit::Int(number),
                        ..
                    }),
                ) if path.path.is_ident("Out") => {
                    if let Ok(cell) = number.base10_parse() {
                        self.replacements.push((range_of(self.source, expr.span()), cell));
                    }
                }
                _ => visit::visit_expr(self, expr),
            },
            // `_ = f()` discards.
            Expr::Assign(assign) if matches!(*assign.left, Expr::Infer(_)) => self.visit_expr(&assign.right),
            _ => visit::visit_expr(self, expr),
        }
    }

    /// Macros whose arguments are plain expressions.
    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        const OF_VALUES: [&str; 11] = [
            "println",
            "print",
            "eprintln",
            "eprint",
            "format",
            "dbg",
            "vec",
            "assert",
            "assert_eq",
            "assert_ne",
            "write",
        ];
        let is_of_values = mac
            .path
            .get_ident()
            .is_some_and(|name| OF_VALUES.iter().any(|known| name == known));
        if let Some(arguments) = is_of_values.then(|| parsed_arguments(&mac.tokens)).flatten() {
            arguments.iter().for_each(|argument| self.visit_expr(argument));
        }
    }
}

fn parsed_arguments(tokens: &TokenStream) -> Option<Vec<Expr>> {
    let arguments = Punctuated::<Expr, syn::Token![,]>::parse_terminated
        .parse2(tokens.clone())
        .ok()?;
    Some(arguments.into_iter().collect())
}

/// Whether the value of this last expression is worth keeping: a place is one already, and what prints or
/// loops has none.
pub(crate) fn makes_value(expr: &Expr) -> bool {
    match expr {
        Expr::Path(_)
        | Expr::Field(_)
        | Expr::Assign(_)
        | Expr::ForLoop(_)
        | Expr::While(_)
        | Expr::Closure(_)
        | Expr::Async(_) => false,
        Expr::Index(_) | Expr::Reference(_) | Expr::Return(_) | Expr::Break(_) | Expr::Continue(_) => false,
        Expr::Unary(unary) => !matches!(unary.op, syn::UnOp::Deref(_)),
        Expr::Paren(inner) => makes_value(&inner.expr),
        Expr::Macro(mac) => !mac.mac.path.get_ident().is_some_and(|name| {
            ["println", "print", "eprintln", "eprint"]
                .iter()
                .any(|known| name == known)
        }),
        _ => true,
    }
}

#[test]
fn only_values_are_replaced() {
    for (code, expect) in [
        ("_", "_9"),
        ("_.len()", "_9.len()"),
        ("Out[3] + 1", "_3     + 1"),
        ("let _ = 1;", "let _ = 1;"),
        ("let v: Vec<_> = x.collect();", "let v: Vec<_> = x.collect();"),
        ("_ = f(_)", "_ = f(_9)"),
        ("match x { _ => 1 }", "match x { _ => 1 }"),
        ("println!(\"{}\", Out[12])", "println!(\"{}\", _12    )"),
        ("let s = \"_\";", "let s = \"_\";"),
        ("let x_y = 1", "let x_y = 1"),
    ] {
        assert_eq!(with_outputs(code, Some(9), &|_| true).unwrap(), expect, "{code}");
    }
    assert_eq!(with_outputs("_ + 1", None, &|_| true).unwrap(), "_ + 1");
    assert_eq!(
        (cell_of_output("_12"), cell_of_output("_x"), cell_of_output("x")),
        (Some(12), None, None)
    );
}
