//! Frames as cards, and Polars' DataFrames as tables.

use std::fmt;

use polars::prelude::{AnyValue, Column, DataFrame, DataType, Expr, LazyFrame, Series};
use serde::Serialize;
use skep_cluster::Remote;
use skep_eval::{
    Bundle, Rich, Shown,
    look::{Details, Look},
    show::Show,
};
use skep_render::{
    bytes,
    card::Card,
    count,
    table::{MOST_COLUMNS, MOST_ROWS, Table},
};

use crate::Frame;

/// Shows what ends a cell, before the ways of [`skep_eval::show`].
pub trait ShowFrame {
    fn __skep_show(&self);
}

impl<T: Framed> ShowFrame for &&&&&&Show<'_, T> {
    fn __skep_show(&self) {
        skep_eval::result(self.0.framed());
    }
}

/// Values of other crates that have more than their `Debug` to show.
pub trait Framed {
    fn framed(&self) -> Bundle;
}

impl<T: Framed + ?Sized> Framed for &T {
    fn framed(&self) -> Bundle {
        (**self).framed()
    }
}

impl Framed for DataFrame {
    fn framed(&self) -> Bundle {
        table(self)
    }
}

impl Framed for Series {
    fn framed(&self) -> Bundle {
        table(&self.clone().into_frame())
    }
}

impl Framed for Column {
    fn framed(&self) -> Bundle {
        self.as_materialized_series().framed()
    }
}

impl Framed for LazyFrame {
    fn framed(&self) -> Bundle {
        let mut frame = self.clone();
        let plan = self
            .describe_plan()
            .unwrap_or_else(|error| format!("it cannot run: {error}"));
        let schema = match frame.collect_schema() {
            Ok(schema) => schema,
            Err(error) => {
                return Card::new("LazyFrame that cannot run")
                    .state("failed")
                    .fact("why", error.to_string())
                    .bundle();
            }
        };
        let rows = schema
            .iter()
            .map(|(name, dtype)| [name.to_string(), dtype.to_string()]);
        let card = Card::new(format!(
            "LazyFrame: {}",
            skep_render::plural(schema.len(), "column")
        ))
        .fact("plan", plan.trim_end());
        card.table(["column", "type"], rows)
            .note("nothing has run: .collect()? runs it")
            .bundle()
    }
}

impl Framed for Expr {
    fn framed(&self) -> Bundle {
        Bundle::text(self.to_string())
    }
}

impl Framed for serde_json::Value {
    fn framed(&self) -> Bundle {
        let text = serde_json::to_string_pretty(self).unwrap_or_else(|_| self.to_string());
        Bundle::text(text.clone()).with("application/json", text)
    }
}

impl<T: Framed, E: fmt::Display> Framed for Result<T, E> {
    fn framed(&self) -> Bundle {
        match self {
            Ok(value) => value.framed(),
            Err(error) => Bundle::text(format!("error: {error}")),
        }
    }
}

impl<T> Framed for Vec<Remote<T>> {
    fn framed(&self) -> Bundle {
        skep_cluster::remotes_card(self).bundle()
    }
}

/// Tells `:vars` more than [`skep_eval::look`] does.
pub trait LookFrame {
    fn __skep_look(&self) -> Details;
}

impl<T: Detailed> LookFrame for &&&&&Look<'_, T> {
    fn __skep_look(&self) -> Details {
        self.0.details()
    }
}

/// What has a shape of rows and columns, or lives on workers.
pub trait Detailed {
    fn details(&self) -> Details;
}

impl Detailed for DataFrame {
    fn details(&self) -> Details {
        let columns: Vec<String> = self
            .columns()
            .iter()
            .map(|column| format!("{}: {}", column.name(), column.dtype()))
            .collect();
        let (rows, n_columns) = self.shape();
        Details::new(
            format!("({}, {n_columns})", count(rows as u64)),
            &columns.join(", "),
        )
    }
}

impl Detailed for Series {
    fn details(&self) -> Details {
        let head: Vec<String> = (0..self.len().min(10))
            .filter_map(|i| self.get(i).ok())
            .map(|value| value.to_string())
            .collect();
        let more = if self.len() > head.len() { ", …" } else { "" };
        Details::new(
            format!("{} long", count(self.len() as u64)),
            &format!("{}: {}, [{}{more}]", self.name(), self.dtype(), head.join(", ")),
        )
    }
}

impl Detailed for Column {
    fn details(&self) -> Details {
        self.as_materialized_series().details()
    }
}

impl Detailed for LazyFrame {
    fn details(&self) -> Details {
        Details::new("a plan", "")
    }
}

impl Detailed for Expr {
    fn details(&self) -> Details {
        Details::new("", &self.to_string())
    }
}

impl Detailed for Frame {
    fn details(&self) -> Details {
        match self.query() {
            Ok(plan) => {
                let columns: Vec<String> = plan
                    .schema
                    .iter()
                    .map(|(name, dtype)| format!("{name}: {dtype}"))
                    .collect();
                Details::new(
                    skep_render::plural(self.n_partitions(), "partition"),
                    &columns.join(", "),
                )
            }
            Err(error) => Details::new("", &error.to_string()),
        }
    }
}

impl<T> Detailed for Vec<Remote<T>> {
    fn details(&self) -> Details {
        Details::new(
            format!("{} long", count(self.len() as u64)),
            skep_cluster::remotes_card(self).title(),
        )
    }
}

/// Memory of Polars' values, which say it themselves.
pub trait HeapOfFrame {
    fn __skep_heap(&self) -> Option<u64>;
}

impl<T: Estimated> HeapOfFrame for &&&Look<'_, T> {
    fn __skep_heap(&self) -> Option<u64> {
        Some(self.0.estimate())
    }
}

pub trait Estimated {
    fn estimate(&self) -> u64;
}

impl Estimated for DataFrame {
    fn estimate(&self) -> u64 {
        self.estimated_size() as u64
    }
}

impl Estimated for Series {
    fn estimate(&self) -> u64 {
        self.estimated_size() as u64
    }
}

/// Memory of what serde can walk through.
pub trait HeapOfSerde {
    fn __skep_heap(&self) -> Option<u64>;
}

impl<T: Serialize> HeapOfSerde for &&Look<'_, T> {
    fn __skep_heap(&self) -> Option<u64> {
        Some(skep_cluster::heap_bytes(self.0))
    }
}

/// Tells DataFrames from other values that can be displayed.
pub struct ByFrame;

impl Shown<ByFrame> for DataFrame {
    fn shown(&self) -> Bundle {
        table(self)
    }
}

impl Shown<ByFrame> for &DataFrame {
    fn shown(&self) -> Bundle {
        table(self)
    }
}

/// A DataFrame as text and as an HTML table: the first and last rows and columns where it is large.
pub fn table(frame: &DataFrame) -> Bundle {
    let (n_rows, n_columns) = frame.shape();
    let (rows, rows_cut_at) = shown(n_rows, MOST_ROWS);
    let (columns, columns_cut_at) = shown(n_columns, MOST_COLUMNS);
    let chosen: Vec<_> = columns.iter().map(|i| &frame.columns()[*i]).collect();
    let text = |value: AnyValue<'_>| match value {
        AnyValue::Null => None,
        AnyValue::String(text) => Some(text.to_string()),
        AnyValue::StringOwned(text) => Some(text.to_string()),
        AnyValue::Float32(x) => Some(float(f64::from(x))),
        AnyValue::Float64(x) => Some(float(x)),
        other => Some(other.to_string()),
    };
    let row = |r: &usize| {
        chosen
            .iter()
            .map(|column| column.get(*r).ok().and_then(text))
            .collect()
    };
    let model = Table {
        n_rows,
        n_columns,
        columns: chosen
            .iter()
            .map(|column| (column.name().to_string(), column.dtype().to_string()))
            .collect(),
        rows: rows.iter().map(row).collect(),
        rows_cut_at,
        columns_cut_at,
        is_number: chosen
            .iter()
            .map(|column| column.dtype().is_numeric() || matches!(column.dtype(), DataType::Decimal(..)))
            .collect(),
    };
    model.bundle(text_of(frame))
}

/// Polars' own text, of as many columns as fit the width.
fn text_of(frame: &DataFrame) -> String {
    let most = skep_render::text::columns();
    let fits = |text: &str| text.lines().all(|line| skep_render::text::width(line) <= most);
    let whole = frame.to_string();
    if fits(&whole) {
        return whole;
    }
    let n = frame.width();
    for n_shown in (1..n.min(8)).rev() {
        let tail = n_shown / 2;
        let indices = || (0..n_shown - tail).chain(n - tail..n);
        let columns = indices().map(|i| frame.columns()[i].clone()).collect();
        let Ok(part) = DataFrame::new(frame.height(), columns) else {
            break;
        };
        let text = part.to_string();
        if fits(&text) || n_shown == 1 {
            let drawn = text.split_once('\n').map_or("", |(_, drawn)| drawn);
            let shape = whole.lines().next().unwrap_or_default();
            let names: Vec<&str> = (n_shown - tail..n - tail)
                .map(|i| frame.columns()[i].name().as_str())
                .collect();
            let left_out = skep_render::text::wrapped(
                &format!("{n_shown} of {n} columns; not shown: {}", names.join(", ")),
                most,
            );
            let left_out = if left_out.len() > 3 {
                format!("{} …", left_out[..3].join("\n"))
            } else {
                left_out.join("\n")
            };
            return format!("{shape}\n{drawn}\n{left_out}");
        }
    }
    whole
}

/// Indices to show, and after how many of them something is left out.
fn shown(n: usize, most: usize) -> (Vec<usize>, Option<usize>) {
    if n <= most {
        return ((0..n).collect(), None);
    }
    let half = most / 2;
    ((0..half).chain(n - (most - half)..n).collect(), Some(half))
}

/// As Polars prints them: six decimals, exponents for the very large and small.
fn float(x: f64) -> String {
    if !x.is_finite() || x == 0.0 {
        return x.to_string();
    }
    if !(1e-5..1e10).contains(&x.abs()) {
        return format!("{x:e}");
    }
    let text = format!("{x:.6}");
    let text = text.trim_end_matches('0');
    if text.ends_with('.') {
        format!("{text}0")
    } else {
        text.to_string()
    }
}

impl Rich for Frame {
    fn bundle(&self) -> Bundle {
        let plan = match self.query() {
            Ok(plan) => plan,
            Err(error) => {
                return Card::new("Frame that cannot run")
                    .state("failed")
                    .fact("why", error.to_string())
                    .bundle();
            }
        };
        let mut card = Card::new(format!(
            "Frame: {}, {}",
            skep_render::plural(plan.schema.len(), "column"),
            skep_render::plural(self.n_partitions(), "partition")
        ));
        if let Some(source) = plan.bare() {
            let size = if source.n_bytes > 0 {
                format!("{}, ", bytes(source.n_bytes))
            } else {
                String::new()
            };
            card = card
                .fact("source", source.name.clone())
                .fact("data", format!("{size}{}", source.where_it_is()));
        } else if let Ok(explained) = self.explain() {
            card = card.fact("stages", explained.lines().join("\n"));
        }
        let rows = plan
            .schema
            .iter()
            .map(|(name, dtype)| [name.to_string(), dtype.to_string()]);
        card.table(["column", "type"], rows)
            .note(
                "nothing has run: .collect()? runs it, .head(5)? looks at the first rows, .graph()? draws it",
            )
            .bundle()
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.query() {
            Ok(plan) => write!(
                f,
                "Frame({}, {})",
                skep_render::plural(plan.schema.len(), "column"),
                skep_render::plural(self.n_partitions(), "partition")
            ),
            Err(error) => write!(f, "Frame(error: {error})"),
        }
    }
}
