//! Expressions that look beyond their row, but not beyond the rows with the same keys.

use polars::prelude::Expr;
use polars_plan::{
    plans::{AExpr, expr_ir::ExprIR, is_elementwise, node_to_expr},
    prelude::{Arena, Node},
};

/// The keys of all windows, if these are all that keeps the expressions from looking at one row at a time, and all have the
/// same.
pub(super) fn keys_of_windows(exprs: &[ExprIR], arena: &Arena<AExpr>) -> Option<Vec<Expr>> {
    let mut keys: Option<Vec<Expr>> = None;
    for expr in exprs {
        collect(expr.node(), arena, &mut keys)?;
    }
    keys.filter(|keys| !keys.is_empty())
}

fn collect(node: Node, arena: &Arena<AExpr>, keys: &mut Option<Vec<Expr>>) -> Option<()> {
    let expr = arena.get(node);
    if let AExpr::Over { partition_by, .. } = expr {
        let these: Vec<Expr> = partition_by
            .iter()
            .map(|node| node_to_expr(*node, arena))
            .collect();
        // Keys that are columns: the planner shuffles by them as they are.
        if !these.iter().all(|key| matches!(key, Expr::Column(_))) {
            return None;
        }
        return match keys {
            Some(known) if *known != these => None,
            _ => {
                *keys = Some(these);
                Some(())
            }
        };
    }
    let mut children = Default::default();
    if !is_elementwise(&mut children, expr, arena) {
        return None;
    }
    children
        .into_iter()
        .try_for_each(|child| collect(child, arena, keys))
}
