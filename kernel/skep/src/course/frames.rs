//! Checks of exercises with frames.

use skep_course::Verdict;
use skep_flow::Backfilled;
use skep_frame::{
    Frame,
    polars::prelude::{DataFrame, col, len, lit},
};

use super::{first_line, said};

/// Exercise 5.1: delays by airport.
pub fn check_5_1(answer: &DataFrame) -> Verdict {
    Verdict::of("5.1", |verdict| {
        if answer.width() < 2 {
            return verdict.not_begun("`answer` is a table with the columns `Origin`, `DepDelay` and `late`");
        }
        let right = Frame::read_csv("data/flights/*.csv")
            .and_then(|flights| {
                flights
                    .filter(col("Cancelled").eq(lit(0)))
                    .group_by(["Origin"])
                    .agg([
                        col("DepDelay").mean(),
                        col("DepDelay").gt(lit(60)).sum().alias("late"),
                        len(),
                    ])
                    .sort_descending(["DepDelay"])
                    .collect()
            })
            .map_err(said)?;
        for name in ["Origin", "DepDelay", "late"] {
            if let Err(error) = answer.column(name) {
                return Err(first_line(&error.to_string()).to_string());
            }
        }
        let text = |table: &DataFrame, name: &str| -> Vec<String> {
            table
                .column(name)
                .map(|column| {
                    column
                        .as_materialized_series()
                        .iter()
                        .map(|value| value.to_string())
                        .collect()
                })
                .unwrap_or_default()
        };
        let numbers = |table: &DataFrame, name: &str| -> Vec<f64> {
            text(table, name)
                .iter()
                .map(|text| text.parse().unwrap_or(f64::NAN))
                .collect()
        };
        let mut airports = text(answer, "Origin");
        let in_order = airports == text(&right, "Origin");
        airports.sort();
        let mut all = text(&right, "Origin");
        all.sort();
        verdict.holds(
            airports == all,
            "all airports of departure are there".to_string(),
            format!("the airports are {airports:?}; group by `Origin`"),
        );
        let close = |name: &str| {
            let pairs = |table: &DataFrame| {
                let mut pairs: Vec<(String, f64)> = text(table, "Origin")
                    .into_iter()
                    .zip(numbers(table, name))
                    .collect();
                pairs.sort_by(|a, b| a.0.cmp(&b.0));
                pairs
            };
            let (a, b) = (pairs(answer), pairs(&right));
            a.len() == b.len()
                && a.iter()
                    .zip(&b)
                    .all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() <= 1e-6 * b.1.abs())
        };
        verdict.holds(
            close("DepDelay"),
            "the means are right".to_string(),
            "the means are not right: are the cancelled flights left out?".to_string(),
        );
        verdict.holds(
            close("late"),
            "so are the late flights".to_string(),
            "the late flights are not: more than 60 minutes, of those that were not cancelled".to_string(),
        );
        verdict.holds(
            in_order,
            "the latest airport comes first".to_string(),
            "the latest airport should come first".to_string(),
        );
        Ok(())
    })
}

/// Exercise 5.2: a persisted frame.
pub fn check_5_2(held: &Frame) -> Verdict {
    Verdict::of("5.2", |verdict| {
        let plan = held.explain().map_err(said)?.to_string();
        verdict.holds(
            plan.contains("on the workers"),
            "its partitions are on the workers".to_string(),
            "it is not on the workers: its plan still reads the files".to_string(),
        );
        let schema = held.schema().map_err(said)?;
        let mut names: Vec<&str> = schema.iter_names().map(|name| name.as_str()).collect();
        names.sort_unstable();
        verdict.holds(
            names == ["DepDelay", "Dest", "Origin"],
            "it has the three columns".to_string(),
            format!(
                "it has {} columns; `Origin`, `Dest` and `DepDelay` are asked for",
                names.len()
            ),
        );
        if plan.contains("on the workers") {
            let n = held.len().map_err(said)?;
            let right = Frame::read_csv("data/flights/*.csv")
                .and_then(|flights| flights.filter(col("Cancelled").eq(lit(0))).len())
                .map_err(said)?;
            verdict.holds(
                n == right,
                format!("and {n} flights"),
                format!("it has {n} flights; {right} were not cancelled"),
            );
        }
        Ok(())
    })
}

/// Exercise 9.3: a load that can be done twice.
pub fn check_9_3(loaded: &Backfilled) -> Verdict {
    Verdict::of("9.3", |verdict| {
        let n = loaded.n_runs();
        verdict.holds(
            n == 1,
            "1990 was loaded again".to_string(),
            match n {
                0 => "nothing was loaded: it had completed before".to_string(),
                n => format!("{n} runs were made, and one is asked for"),
            },
        );
        let counted = Frame::read_sqlite(
            "data/delays.db",
            "select count(*) as rows, count(distinct Year || Origin) as keys from delays",
        )
        .and_then(|frame| frame.collect())
        .map_err(said)?;
        let at = |name: &str| -> Result<i64, String> {
            let column = counted.column(name).map_err(said)?;
            column.get(0).map_err(said)?.try_extract().map_err(said)
        };
        let (rows, keys) = (at("rows")?, at("keys")?);
        verdict.holds(
            rows == keys,
            format!("{rows} rows, and none twice"),
            format!("{rows} rows for {keys} airports and years: some are there twice"),
        );
        Ok(())
    })
}
