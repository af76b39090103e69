//! Expressions that look beyond their row, but not beyond the rows with the same keys.

use polars::prelude::{Expr, PlSmallStr};
use polars_plan::{
    dsl::WindowMapping,
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

/// How columns are called that stand for windows.
pub(super) const OVER: &str = "__over";

/// Windows that give each row a value of its group.
pub(super) struct Windows {
    pub keys: Vec<Expr>,
    pub key_names: Vec<PlSmallStr>,
    /// What is made of each group.
    pub of_groups: Vec<ExprIR>,
    /// The expressions, with columns of their names in place of the windows.
    pub exprs: Vec<Expr>,
}

/// The expressions as windows over groups with the same keys, none of which looks at the order of rows.
pub(super) fn windows(exprs: &[ExprIR], arena: &Arena<AExpr>) -> Option<Windows> {
    let keys = keys_of_windows(exprs, arena)?;
    let key_names = keys
        .iter()
        .filter_map(|key| match key {
            Expr::Column(name) => Some(name.clone()),
            _ => None,
        })
        .collect();
    let mut of_groups = Vec::new();
    let mut replaced = arena.clone();
    let mut known = Vec::new();
    for expr in exprs {
        let mut nodes = vec![expr.node()];
        while let Some(node) = nodes.pop() {
            match arena.get(node) {
                AExpr::Over { .. } if known.contains(&node) => {}
                AExpr::Over {
                    function,
                    order_by: None,
                    mapping: WindowMapping::GroupsToRows,
                    ..
                } => {
                    let name = PlSmallStr::from(format!("{OVER}{}", of_groups.len()));
                    of_groups.push(ExprIR::from_node(*function, arena).with_alias(name.clone()));
                    replaced.replace(node, AExpr::Column(name));
                    known.push(node);
                }
                AExpr::Over { .. } => return None,
                other => {
                    let mut children = Default::default();
                    let _ = is_elementwise(&mut children, other, arena);
                    nodes.extend(children);
                }
            }
        }
    }
    let exprs = exprs
        .iter()
        .map(|expr| node_to_expr(expr.node(), &replaced).alias(expr.output_name().clone()))
        .collect();
    Some(Windows {
        keys,
        key_names,
        of_groups,
        exprs,
    })
}
