//! Expressions as they stand in explanations.

use polars::prelude::Expr;
use polars_plan::plans::IR;

/// Columns by their names alone. Longer ones are cut: a stage is a line.
pub(super) fn short(expr: &Expr) -> String {
    let text = expr.to_string();
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find("col(\"") {
        plain.push_str(&rest[..at]);
        let after = &rest[at + 5..];
        match after.find("\")") {
            Some(end) => {
                plain.push_str(&after[..end]);
                rest = &after[end + 2..];
            }
            None => {
                rest = &rest[at..];
                break;
            }
        }
    }
    plain.push_str(rest);
    skep_render::text::cut(&plain, 60)
}

pub(super) fn short_list(exprs: &[Expr]) -> String {
    const MOST: usize = 4;
    let mut texts: Vec<String> = exprs.iter().take(MOST).map(short).collect();
    if exprs.len() > MOST {
        texts.push(format!("and {} more", exprs.len() - MOST));
    }
    texts.join(", ")
}

/// The name under which an expression comes.
pub(super) fn name_of_result(expr: &Expr) -> String {
    match expr {
        Expr::Alias(_, name) => name.to_string(),
        other => short(other),
    }
}

pub(super) fn name_of(node: &IR) -> String {
    let text = format!("{node:?}");
    let end = text.find(|c: char| !c.is_alphanumeric()).unwrap_or(text.len());
    format!("`{}`", &text[..end])
}
