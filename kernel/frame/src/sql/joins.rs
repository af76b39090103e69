//! `from a, b, c where …` as joins.
//!
//! Polars takes tables that are listed with commas as a cross join, in the order in which they are listed, and makes joins of
//! it only where each table has a condition with those before it. Here the tables are put into an order in which it has,
//! and the conditions to the joins. What is not understood stays as it is.

use std::collections::{HashMap, HashSet};

use sqlparser::{
    ast::{
        BinaryOperator, Expr, Ident, Join, JoinConstraint, JoinOperator, Query, Select, SelectItem, SetExpr,
        Statement, TableFactor, TableWithJoins,
    },
    dialect::GenericDialect,
    parser::Parser,
};

/// Columns by table.
type Tables = HashMap<String, Vec<String>>;

/// The same query with joins in place of lists of tables.
pub(super) fn with_joins(query: &str, tables: Tables) -> String {
    if !query.contains(',') {
        return query.to_string();
    }
    let Ok(mut statements) = Parser::parse_sql(&GenericDialect {}, query) else {
        return query.to_string();
    };
    let mut is_changed = false;
    for statement in &mut statements {
        if let Statement::Query(query) = statement {
            in_query(query, &tables, &mut is_changed);
        }
    }
    if !is_changed {
        return query.to_string();
    }
    let texts: Vec<String> = statements.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

/// The names of its columns, as far as they are plain.
fn in_query(query: &mut Query, tables: &Tables, is_changed: &mut bool) -> Vec<String> {
    let mut tables = tables.clone();
    if let Some(with) = &mut query.with {
        for cte in &mut with.cte_tables {
            let mut columns = in_query(&mut cte.query, &tables, is_changed);
            for (column, given) in columns.iter_mut().zip(&cte.alias.columns) {
                *column = given.name.value.clone();
            }
            tables.insert(cte.alias.name.value.clone(), columns);
        }
    }
    in_set(&mut query.body, &tables, is_changed)
}

fn in_set(body: &mut SetExpr, tables: &Tables, is_changed: &mut bool) -> Vec<String> {
    match body {
        SetExpr::Select(select) => in_select(select, tables, is_changed),
        SetExpr::Query(query) => in_query(query, tables, is_changed),
        SetExpr::SetOperation { left, right, .. } => {
            in_set(right, tables, is_changed);
            in_set(left, tables, is_changed)
        }
        _ => Vec::new(),
    }
}

fn in_select(select: &mut Select, tables: &Tables, is_changed: &mut bool) -> Vec<String> {
    let mut items: Vec<Item> = Vec::new();
    for from in &mut select.from {
        let mut names = Vec::new();
        let mut factor = |factor: &mut TableFactor| names.extend(in_factor(factor, tables, is_changed));
        factor(&mut from.relation);
        for join in &mut from.joins {
            factor(&mut join.relation);
        }
        items.push(Item { names });
    }
    for expr in select.selection.iter_mut().chain(&mut select.having) {
        in_expr(expr, tables, is_changed);
    }
    let columns = projected(select, &items);
    if select.from.len() > 1 && joined(select, &items) {
        *is_changed = true;
    }
    columns
}

/// One entry of a list of tables: its tables by name, with their columns.
struct Item {
    names: Vec<(String, Vec<String>)>,
}

fn in_factor(
    factor: &mut TableFactor,
    tables: &Tables,
    is_changed: &mut bool,
) -> Option<(String, Vec<String>)> {
    match factor {
        TableFactor::Table { name, alias, .. } => {
            let name = name.0.last()?.as_ident()?.value.clone();
            let columns = tables.get(&name).cloned().unwrap_or_default();
            let shown = alias.as_ref().map_or(name, |alias| alias.name.value.clone());
            Some((shown, columns))
        }
        TableFactor::Derived { subquery, alias, .. } => {
            let columns = in_query(subquery, tables, is_changed);
            Some((alias.as_ref()?.name.value.clone(), columns))
        }
        _ => None,
    }
}

/// Queries inside an expression.
fn in_expr(expr: &mut Expr, tables: &Tables, is_changed: &mut bool) {
    match expr {
        Expr::BinaryOp { left, right, .. } => {
            in_expr(left, tables, is_changed);
            in_expr(right, tables, is_changed);
        }
        Expr::Nested(inner) | Expr::UnaryOp { expr: inner, .. } => in_expr(inner, tables, is_changed),
        Expr::Subquery(query) | Expr::Exists { subquery: query, .. } => {
            in_query(query, tables, is_changed);
        }
        Expr::InSubquery { expr, subquery, .. } => {
            in_expr(expr, tables, is_changed);
            in_query(subquery, tables, is_changed);
        }
        _ => {}
    }
}

fn projected(select: &Select, items: &[Item]) -> Vec<String> {
    let mut columns = Vec::new();
    for item in &select.projection {
        match item {
            SelectItem::UnnamedExpr(Expr::Identifier(name)) => columns.push(name.value.clone()),
            SelectItem::UnnamedExpr(Expr::CompoundIdentifier(names)) => {
                columns.extend(names.last().map(|name| name.value.clone()));
            }
            SelectItem::ExprWithAlias { alias, .. } => columns.push(alias.value.clone()),
            SelectItem::Wildcard(_) => {
                let all = items.iter().flat_map(|item| &item.names);
                columns.extend(all.flat_map(|(_, columns)| columns.clone()));
            }
            _ => columns.push(String::new()),
        }
    }
    columns
}

/// Makes joins of the list; `false` if there is nothing that joins.
fn joined(select: &mut Select, items: &[Item]) -> bool {
    let Some(selection) = select.selection.clone() else {
        return false;
    };
    let mut conditions = Vec::new();
    conjuncts(selection, &mut conditions);
    let mut rest: Vec<usize> = (1..items.len()).collect();
    let mut chosen = vec![0];
    let mut from = select.from[0].clone();
    let mut is_used = vec![false; conditions.len()];
    while !rest.is_empty() {
        let edges = |to: usize| -> Vec<usize> {
            (0..conditions.len())
                .filter(|at| !is_used[*at])
                .filter(|at| {
                    owners(&conditions[*at], items).is_some_and(|[left, right]| {
                        left == to && chosen.contains(&right) || right == to && chosen.contains(&left)
                    })
                })
                .collect()
        };
        let next = rest.iter().position(|to| !edges(*to).is_empty());
        let at = next.unwrap_or(0);
        let to = rest[at];
        let on: Vec<usize> = edges(to);
        let TableWithJoins { relation, joins } = select.from[to].clone();
        if !joins.is_empty() {
            // A list of joins: where its own conditions stand matters.
            return false;
        }
        let parts: Vec<Expr> = on
            .iter()
            .map(|at| qualified(conditions[*at].clone(), items))
            .collect();
        for at in on {
            is_used[at] = true;
        }
        let join_operator = match all(parts) {
            Some(on) => JoinOperator::Inner(JoinConstraint::On(on)),
            None => JoinOperator::CrossJoin(JoinConstraint::None),
        };
        from.joins.push(Join {
            relation,
            global: false,
            join_operator,
        });
        chosen.push(to);
        rest.remove(at);
    }
    if !is_used.contains(&true) || !chosen.is_sorted() && !keeps_columns(select, items) {
        return false;
    }
    select.from = vec![from];
    let left: Vec<Expr> = conditions
        .into_iter()
        .zip(is_used)
        .filter(|(_, is_used)| !is_used)
        .map(|(condition, _)| condition)
        .collect();
    select.selection = all(left);
    true
}

/// `*` gives the columns of the tables as they are listed, also when they are joined in another order: it is written out.
/// `false` where that cannot be said, because two columns have one name or a table's are not known.
fn keeps_columns(select: &mut Select, items: &[Item]) -> bool {
    let has_all = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_));
    if !select.projection.iter().any(has_all) {
        return true;
    }
    let tables = || items.iter().flat_map(|item| &item.names);
    let columns: Vec<&String> = tables().flat_map(|(_, columns)| columns).collect();
    let names: HashSet<&String> = columns.iter().copied().collect();
    if names.len() < columns.len() || tables().any(|(_, columns)| columns.is_empty()) {
        return false;
    }
    let written = |item: SelectItem| match item {
        SelectItem::Wildcard(_) => columns
            .iter()
            .map(|name| SelectItem::UnnamedExpr(Expr::Identifier(Ident::with_quote('"', name.as_str()))))
            .collect(),
        item => vec![item],
    };
    select.projection = std::mem::take(&mut select.projection)
        .into_iter()
        .flat_map(written)
        .collect();
    true
}

fn all(conditions: Vec<Expr>) -> Option<Expr> {
    conditions.into_iter().reduce(|left, right| Expr::BinaryOp {
        left: Box::new(left),
        op: BinaryOperator::And,
        right: Box::new(right),
    })
}

fn conjuncts(expr: Expr, out: &mut Vec<Expr>) {
    match expr {
        Expr::BinaryOp {
            left,
            op: BinaryOperator::And,
            right,
        } => {
            conjuncts(*left, out);
            conjuncts(*right, out);
        }
        Expr::BinaryOp {
            op: BinaryOperator::Or,
            ..
        } => {
            out.extend(common(&expr));
            out.push(Expr::Nested(Box::new(expr)));
        }
        Expr::Nested(inner)
            if matches!(
                *inner,
                Expr::BinaryOp {
                    op: BinaryOperator::And | BinaryOperator::Or,
                    ..
                }
            ) =>
        {
            conjuncts(*inner, out);
        }
        other => out.push(other),
    }
}

/// What all sides of an `or` have in common: `a = b and x or a = b and y`.
fn common(expr: &Expr) -> Vec<Expr> {
    match expr {
        Expr::BinaryOp {
            left,
            op: BinaryOperator::Or,
            right,
        } => {
            let right = common(right);
            common(left)
                .into_iter()
                .filter(|side| right.contains(side))
                .collect()
        }
        Expr::Nested(inner) => common(inner),
        other => {
            let mut out = Vec::new();
            conjuncts(other.clone(), &mut out);
            out
        }
    }
}

/// The two entries that an equality of columns joins.
fn owners(condition: &Expr, items: &[Item]) -> Option<[usize; 2]> {
    let Expr::BinaryOp {
        left,
        op: BinaryOperator::Eq,
        right,
    } = condition
    else {
        return None;
    };
    let (left, _) = owner(left, items)?;
    let (right, _) = owner(right, items)?;
    (left != right).then_some([left, right])
}

/// The entry that has a column, and the name of the table there.
fn owner<'a>(column: &Expr, items: &'a [Item]) -> Option<(usize, &'a str)> {
    let (table, column) = match column {
        Expr::Identifier(column) => (None, column.value.clone()),
        Expr::CompoundIdentifier(names) => match names.as_slice() {
            [table, column] => (Some(table.value.clone()), column.value.clone()),
            _ => return None,
        },
        _ => return None,
    };
    let mut found = None;
    for (at, item) in items.iter().enumerate() {
        for (name, columns) in &item.names {
            let is_it = match &table {
                Some(table) => name == table,
                None => columns.contains(&column),
            };
            if is_it && found.replace((at, name.as_str())).is_some() {
                return None;
            }
        }
    }
    found
}

/// An equality whose columns say their table.
fn qualified(condition: Expr, items: &[Item]) -> Expr {
    let one = |side: Box<Expr>| match (&*side, owner(&side, items)) {
        (Expr::Identifier(column), Some((_, table))) => {
            Box::new(Expr::CompoundIdentifier(vec![Ident::new(table), column.clone()]))
        }
        _ => side,
    };
    match condition {
        Expr::BinaryOp { left, op, right } => Expr::BinaryOp {
            left: one(left),
            op,
            right: one(right),
        },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(query: &str) -> String {
        let table = |name: &str, columns: &[&str]| {
            (
                name.to_string(),
                columns.iter().map(ToString::to_string).collect(),
            )
        };
        let tables = HashMap::from([
            table("part", &["p_key", "p_size"]),
            table("supplier", &["s_key", "s_nation"]),
            table("offer", &["o_part", "o_supplier", "cost"]),
            table("nation", &["n_key", "n_name"]),
        ]);
        with_joins(query, tables)
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn tables_come_when_something_joins_them() {
        assert_eq!(
            rewritten(
                "select * from part, supplier, offer where p_key = o_part and s_key = o_supplier and cost > 3"
            ),
            "SELECT \"p_key\", \"p_size\", \"s_key\", \"s_nation\", \"o_part\", \"o_supplier\", \"cost\" FROM part INNER JOIN offer ON part.p_key = offer.o_part \
             INNER JOIN supplier ON supplier.s_key = offer.o_supplier WHERE cost > 3",
        );
    }

    #[test]
    fn a_condition_that_all_sides_of_an_or_have_joins() {
        let text = rewritten(
            "select count(*) from part, offer where (p_key = o_part and p_size = 1) or (p_key = o_part and cost = 2)",
        );
        assert!(
            text.contains("INNER JOIN offer ON part.p_key = offer.o_part WHERE ("),
            "{text}"
        );
    }

    #[test]
    fn queries_inside_queries_too_and_the_same_table_twice() {
        let text = rewritten(
            "with pairs as (select a.n_name as x, b.n_name as y from nation a, nation b, supplier where a.n_key = s_nation and b.n_key = a.n_key) select * from pairs, nation where x = n_name",
        );
        assert!(text.contains("FROM nation AS a INNER JOIN nation AS b ON b.n_key = a.n_key INNER JOIN supplier ON a.n_key = supplier.s_nation") || text.contains("FROM nation a INNER JOIN nation b ON b.n_key = a.n_key INNER JOIN supplier ON a.n_key = supplier.s_nation"), "{text}");
        assert!(
            text.contains("FROM pairs INNER JOIN nation ON pairs.x = nation.n_name"),
            "{text}"
        );
    }

    #[test]
    fn what_nothing_joins_stays() {
        for query in [
            "select * from part, supplier",
            "select * from part, supplier where p_size > s_key",
            "select p_key, p_size from part",
            "select this is, no sql from",
        ] {
            assert_eq!(rewritten(query), query);
        }
    }
}
