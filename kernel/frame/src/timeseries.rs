//! A seeded table like Dask's `timeseries`: the same rows for the same seed, on any machine, partition by
//! partition.

use std::sync::Arc;

use polars::prelude::{
    Column, DataFrame, DataType, Field, IntoColumn, NamedFrom, PolarsResult, Schema, SchemaRef, Series,
    TimeUnit,
};
use serde::{Deserialize, Serialize};

const NAMES: [&str; 26] = [
    "Alice", "Bob", "Charlie", "Dan", "Edith", "Frank", "George", "Hannah", "Ingrid", "Jerry", "Kevin",
    "Laura", "Michael", "Norbert", "Oliver", "Patricia", "Quinn", "Ray", "Sarah", "Tim", "Ursula", "Victor",
    "Wendy", "Xavier", "Yvonne", "Zelda",
];
/// 2000-01-01 in milliseconds.
const START_MS: i64 = 946_684_800_000;

/// What to generate: days of one row a second by default, 30 partitions of 86,400 rows.
///
/// ```
/// let frame = skep_frame::Frame::timeseries().days(2).seed(7).build();
/// assert_eq!(frame.n_partitions(), 2);
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Timeseries {
    days: u32,
    step_ms: i64,
    seed: u64,
}

impl Default for Timeseries {
    fn default() -> Self {
        Timeseries {
            days: 30,
            step_ms: 1000,
            seed: 42,
        }
    }
}

impl Timeseries {
    /// Partitions; each is a day.
    pub fn days(mut self, days: u32) -> Self {
        self.days = days.max(1);
        self
    }

    /// Seconds between rows.
    pub fn every(mut self, seconds: f64) -> Self {
        self.step_ms = ((seconds * 1000.0) as i64).max(1);
        self
    }

    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    pub(crate) fn n_partitions(&self) -> u32 {
        self.days
    }

    pub(crate) fn n_rows(&self) -> u64 {
        u64::from(self.days) * (86_400_000 / self.step_ms) as u64
    }

    pub(crate) fn seed_of(&self) -> u64 {
        self.seed
    }

    pub(crate) fn schema(&self) -> SchemaRef {
        let columns = [
            ("timestamp", DataType::Datetime(TimeUnit::Milliseconds, None)),
            ("id", DataType::Int64),
            ("name", DataType::String),
            ("x", DataType::Float64),
            ("y", DataType::Float64),
        ];
        Arc::new(
            columns
                .into_iter()
                .map(|(name, dtype)| Field::new(name.into(), dtype))
                .collect::<Schema>(),
        )
    }

    pub(crate) fn partition(&self, index: u32) -> PolarsResult<DataFrame> {
        let n = (86_400_000 / self.step_ms) as usize;
        let start = START_MS + i64::from(index) * 86_400_000;
        // One generator a column, so that values do not change when a column is left out.
        let generator =
            |column: u64| fastrand::Rng::with_seed(self.seed ^ (u64::from(index) << 20) ^ (column << 60));
        let (mut ids, mut names, mut xs, mut ys) = (generator(1), generator(2), generator(3), generator(4));
        let times: Vec<i64> = (0..n as i64).map(|i| start + i * self.step_ms).collect();
        let uniform = |rng: &mut fastrand::Rng| rng.f64() * 2.0 - 1.0;
        let columns: Vec<Column> = vec![
            Series::new("timestamp".into(), times)
                .cast(&DataType::Datetime(TimeUnit::Milliseconds, None))?
                .into_column(),
            Series::new(
                "id".into(),
                (0..n).map(|_| poisson_1000(&mut ids)).collect::<Vec<i64>>(),
            )
            .into_column(),
            Series::new(
                "name".into(),
                (0..n)
                    .map(|_| NAMES[names.usize(..NAMES.len())])
                    .collect::<Vec<&str>>(),
            )
            .into_column(),
            Series::new("x".into(), (0..n).map(|_| uniform(&mut xs)).collect::<Vec<f64>>()).into_column(),
            Series::new("y".into(), (0..n).map(|_| uniform(&mut ys)).collect::<Vec<f64>>()).into_column(),
        ];
        DataFrame::new(n, columns)
    }
}

/// At a mean of 1000 the normal approximation is within the noise.
fn poisson_1000(rng: &mut fastrand::Rng) -> i64 {
    let radius = (-2.0 * (1.0 - rng.f64()).ln()).sqrt();
    (1000.0 + 1000f64.sqrt() * radius * (std::f64::consts::TAU * rng.f64()).cos()).round() as i64
}
