//! SQL that Polars takes and answers as if it were another query.

use skep_render::Message;
use sqlparser::{
    ast::{
        BinaryOperator, Expr, GroupByExpr, JoinConstraint, JoinOperator, Query, Select, SetExpr, Statement,
        TableFactor,
    },
    dialect::GenericDialect,
    parser::Parser,
};

/// Why a query, or one within it, would not be answered as SQL.
pub(super) fn why(query: &str) -> Option<Message> {
    let statements = Parser::parse_sql(&GenericDialect {}, query).unwrap_or_default();
    statements.iter().find_map(|statement| match statement {
        Statement::Query(query) => in_query(query),
        _ => None,
    })
}

fn in_query(query: &Query) -> Option<Message> {
    let mut within = query.with.iter().flat_map(|with| &with.cte_tables);
    within
        .find_map(|cte| in_query(&cte.query))
        .or_else(|| in_set(&query.body))
}

fn in_set(body: &SetExpr) -> Option<Message> {
    match body {
        SetExpr::Select(select) => in_select(select),
        SetExpr::Query(query) => in_query(query),
        SetExpr::SetOperation { left, right, .. } => in_set(left).or_else(|| in_set(right)),
        _ => None,
    }
}

fn in_select(select: &Select) -> Option<Message> {
    let has_groups = match &select.group_by {
        GroupByExpr::All(_) => true,
        GroupByExpr::Expressions(exprs, _) => !exprs.is_empty(),
    };
    let items: Vec<String> = select
        .projection
        .iter()
        .map(|item| item.to_string().to_uppercase())
        .collect();
    // Polars gives windows whole groups, where SQL gives them the groups' rows.
    if has_groups && items.iter().any(|item| item.contains(OVER)) {
        return Some(
            Message::new("a window (`over`) cannot look at the groups of its own query").hint(
                "group in a query within: `select *, rank() over (order by n) from (select city, count(*) as n from t group by city)`",
            ),
        );
    }
    if let Some(function) = items.iter().find_map(|item| not_running(item)) {
        return Some(
            Message::new(format!(
                "`{function}` over an order is one value for all rows here, not a running one"
            ))
            .hint("`sum` and `count` are: `sum(v) over (order by o) / count(v) over (order by o)` is a running mean"),
        );
    }
    let joins = || select.from.iter().flat_map(|from| &from.joins);
    if joins().any(|join| is_lossy(&join.join_operator)) {
        return Some(
            Message::new("an outer join keeps its rows here only if it joins by equal columns alone").hint(
                "a condition on one table goes into a query of its own: `left join (select * from b where y > 5) as b on a.k = b.k`",
            ),
        );
    }
    let tables = select.from.iter().map(|from| &from.relation);
    let mut tables = tables.chain(joins().map(|join| &join.relation));
    tables.find_map(|table| match table {
        TableFactor::Derived { subquery, .. } => in_query(subquery),
        _ => None,
    })
}

const OVER: &str = " OVER (";

/// The function of a window with an order that Polars does not follow, if there is one in this text in capitals.
fn not_running(item: &str) -> Option<String> {
    const NAMES: [&str; 10] = [
        "AVG",
        "MEAN",
        "MEDIAN",
        "STDDEV",
        "STDEV",
        "STDDEV_SAMP",
        "STDEV_SAMP",
        "VAR",
        "VARIANCE",
        "VAR_SAMP",
    ];
    item.match_indices(OVER).find_map(|(at, _)| {
        let window = within(item[at + OVER.len()..].chars(), '(', ')');
        // Backwards from the bracket that ends the call.
        let arguments = within(item[..at].chars().rev().skip(1), ')', '(');
        let call = item[..at]
            .char_indices()
            .rev()
            .nth(arguments.chars().count() + 1)?
            .0;
        let name = item[..call]
            .rsplit(|c: char| !(c.is_alphanumeric() || c == '_'))
            .next()?;
        (window.contains("ORDER BY") && NAMES.contains(&name)).then(|| name.to_lowercase())
    })
}

/// What stands before the bracket that closes.
fn within(text: impl Iterator<Item = char>, open: char, close: char) -> String {
    let mut depth = 0;
    text.take_while(|c| {
        depth += i32::from(*c == open) - i32::from(*c == close);
        depth >= 0
    })
    .collect()
}

/// Polars filters after an outer join by what is more than equal columns, and so loses the rows that have no other.
fn is_lossy(join: &JoinOperator) -> bool {
    let constraint = match join {
        JoinOperator::Left(on)
        | JoinOperator::LeftOuter(on)
        | JoinOperator::Right(on)
        | JoinOperator::RightOuter(on)
        | JoinOperator::FullOuter(on) => on,
        _ => return false,
    };
    matches!(constraint, JoinConstraint::On(on) if !is_of_equal_columns(on))
}

fn is_of_equal_columns(on: &Expr) -> bool {
    let is_column = |expr: &Expr| matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
    match on {
        Expr::Nested(on) => is_of_equal_columns(on),
        Expr::BinaryOp {
            left,
            op: BinaryOperator::And,
            right,
        } => is_of_equal_columns(left) && is_of_equal_columns(right),
        Expr::BinaryOp {
            left,
            op: BinaryOperator::Eq,
            right,
        } => is_column(left) && is_column(right),
        _ => false,
    }
}

#[test]
fn what_would_be_another_query_is_found() {
    for (query, words) in [
        (
            "select city, row_number() over (order by city) as rn from s group by city",
            "groups of its own",
        ),
        (
            "select * from (select a, rank() OVER (partition by a) from t group by a) as x",
            "groups of its own",
        ),
        (
            "with g as (select a, sum(b) over () from t group by a) select * from g",
            "groups of its own",
        ),
        (
            "select o, 1 + avg(abs(v)) over (partition by k order by o) as m from t",
            "`avg` over an order",
        ),
        (
            "select a.k from a left join b on a.k = b.k and a.x > b.y",
            "outer join",
        ),
        (
            "select a.k from a full join b on a.k = b.k and (b.y = 5)",
            "outer join",
        ),
    ] {
        let why = why(query).map(|why| why.to_string()).unwrap_or_default();
        assert!(why.contains(words), "{query}: {why}");
    }
    for query in [
        "select id, row_number() over (partition by city) from s",
        "select *, rank() over (order by n) from (select city, count(*) as n from t group by city) as g",
        "select avg(v) over (partition by (k)), sum(v) over (order by o) from t",
        "select a.k from a left join b on a.k = b.k and (a.x = b.y)",
        "select a.k from a join b on a.k = b.k and a.x > b.y left join c using (k)",
        "not sql",
    ] {
        assert!(why(query).is_none(), "{query}");
    }
}
