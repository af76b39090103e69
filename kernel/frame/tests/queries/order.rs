//! Sorts and limits of rows in several partitions.

use super::*;

/// Polars pushes limits into the inputs of a union, and counts what these have.
#[test]
fn a_limit_over_several_tables_is_that_of_all() {
    start();
    let limits: [(&str, fn(LazyFrame) -> LazyFrame); 5] = [
        ("limit(3)", |t| t.limit(3)),
        ("limit(70)", |t| t.limit(70)),
        ("slice(60, 20)", |t| t.slice(60, 20)),
        ("slice(-3, 2)", |t| t.slice(-3, 2)),
        ("slice(-50, 30)", |t| t.slice(-50, 30)),
    ];
    let steps: [(&str, fn(LazyFrame) -> LazyFrame, fn(LazyFrame) -> LazyFrame); 6] = [
        ("len", |t| t, |t| t.select([len()])),
        ("rows", |t| t, |t| t),
        (
            "literal and len",
            |t| t,
            |t| t.select([lit(1).alias("one"), len()]),
        ),
        ("row index", |t| t.with_row_index("i", None), |t| t),
        ("maximum", |t| t.with_columns([col("id").max().alias("m")]), |t| t),
        (
            "sum",
            |t| t.with_columns([col("id").cum_sum(false).alias("s")]),
            |t| t.select([len()]),
        ),
    ];
    let table = table(97, 5).select(["id", "word", "flag"]).unwrap();
    // Partitions of one row, of none, and of many.
    let cuts = [0, 1, 1, 2, 40, 97];
    let parts: Vec<DataFrame> = cuts
        .windows(2)
        .map(|cut| table.slice(cut[0] as i64, cut[1] - cut[0]))
        .collect();
    let uneven = Frame::concat(
        parts
            .iter()
            .map(|part| Frame::from_dataframe(part.clone(), 1))
            .collect::<Vec<_>>(),
    );
    for frame in [Frame::from_dataframe(table.clone(), 2), uneven] {
        for (limited, limit) in limits {
            for (name, before, after) in steps {
                let query = |t: LazyFrame| after(limit(before(t)));
                let frame = frame.of_both(&frame, |t, _| query(t));
                let name = format!("{name} of {limited} of {} partitions", frame.n_partitions());
                assert_same(&name, &frame, &query(table.clone().lazy()), true);
            }
        }
    }
}

/// Polars leaves out a sort by what is in order, and must not take a table for that which it has not seen.
#[test]
fn frames_are_sorted_by_their_first_column() {
    start();
    let steps: [(&str, fn(LazyFrame) -> LazyFrame); 4] = [
        ("as it is", |t| t),
        ("filter", |t| t.filter(col("id").gt(lit(3)))),
        ("with_columns", |t| {
            t.with_columns([(col("id") + lit(1)).alias("next")])
        }),
        ("window", |t| {
            let rank = col("id").rank(RankOptions::default(), None).over([col("flag")]);
            t.with_columns([rank.unwrap().alias("rank")])
        }),
    ];
    for first in ["word", "k", "x", "small", "day", "cat"] {
        let whole = table(97, 5).select([first, "id", "flag"]).unwrap();
        for (name, step) in steps {
            for (descending, nulls_last) in [(false, false), (false, true), (true, false), (true, true)] {
                let sort = |t: LazyFrame| {
                    let options = SortMultipleOptions::default()
                        .with_order_descending_multi([descending, false])
                        .with_nulls_last(nulls_last);
                    step(t).sort([first, "id"], options)
                };
                let frame = Frame::from_dataframe(whole.clone(), 3);
                let frame = frame.of_both(&frame, |t, _| sort(t));
                let name = format!("{name}, sorted by {first}, {descending}, {nulls_last}");
                assert_same(&name, &frame, &sort(whole.clone().lazy()), true);
            }
        }
    }
}
