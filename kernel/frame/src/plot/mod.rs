//! Charts of frames and tables, as SVG.

use std::fmt;

use plotters::{
    chart::{ChartContext, SeriesLabelPosition},
    coord::{Shift, types::RangedCoordf64},
    prelude::{
        Cartesian2d, ChartBuilder, Circle, Color, DrawingArea, IntoDrawingArea, IntoFont, IntoSegmentedCoord,
        LineSeries, PathElement, RGBColor, Rectangle, SVGBackend, SegmentValue, ShapeStyle,
    },
};
use polars::prelude::{
    DataFrame, DataType, Expr, IntoVec, NULL, PlSmallStr, QuantileMethod, SortMultipleOptions, col, len, lit,
    when,
};
use skep_render::{Bundle, Rich, colours, count};

use self::{
    axis::{Axis, label_of, range, short_number},
    data::{Data, nothing, numbers, wrong},
};
use crate::{Error, Frame, Result};

mod axis;
mod data;

const MOST_BARS: usize = 60;
const BINS: usize = 30;

/// Axes and words: to be read on white and on black.
const INK: RGBColor = color(colours::INK);

/// Of a line of a chart, in their order.
fn color_of(at: usize) -> RGBColor {
    color(colours::SERIES[at % colours::SERIES.len()])
}

/// `#7a808a` as plotters has it.
const fn color(hex: &str) -> RGBColor {
    const fn digit(byte: u8) -> u8 {
        match byte {
            b'0'..=b'9' => byte - b'0',
            _ => byte - b'a' + 10,
        }
    }
    let hex = hex.as_bytes();
    RGBColor(
        16 * digit(hex[1]) + digit(hex[2]),
        16 * digit(hex[3]) + digit(hex[4]),
        16 * digit(hex[5]) + digit(hex[6]),
    )
}

/// The axes of every chart.
macro_rules! styled {
    ($chart:ident) => {
        $chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(INK.mix(0.25))
            .light_line_style(INK.mix(0.0))
            .axis_style(INK.mix(0.6))
            .label_style(("sans-serif", 12).into_font().color(&INK))
            .y_labels(6)
            .y_label_formatter(&|value| short_number(*value))
    };
}

/// What can be drawn: a [`Frame`], or a DataFrame.
pub trait Plottable {
    /// Begins a chart: `df.plot().line("day", ["delay"])?`.
    fn plot(&self) -> Plot;
}

impl Plottable for DataFrame {
    fn plot(&self) -> Plot {
        Plot::new(Data::Table(self.clone()))
    }
}

impl Frame {
    /// Begins a chart: `frame.plot().histogram("delay")?`. What it needs of the rows is computed on the cluster.
    pub fn plot(&self) -> Plot {
        Plot::new(Data::Frame(Box::new(self.clone())))
    }
}

/// A chart to be drawn: choose a kind.
///
/// ```
/// # use skep_frame::{Plottable, polars::prelude::*};
/// let days = df!("day" => [1, 2, 3], "delay" => [4.5, 3.0, 8.25])?;
/// let chart = days.plot().title("Delays").line("day", ["delay"])?;
/// assert!(chart.svg().contains("<svg"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
#[derive(Clone)]
pub struct Plot {
    data: Data,
    title: Option<String>,
    size: (u32, u32),
}

/// A chart, drawn.
#[derive(Clone)]
pub struct Chart {
    svg: String,
    what: String,
}

impl Chart {
    pub fn svg(&self) -> &str {
        &self.svg
    }
}

impl fmt::Debug for Plot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a plot of no kind yet: `.line(\"x\", [\"y\"])?`, `.scatter(\"x\", [\"y\"])?`, `.bar(\"x\", \"y\")?`, `.histogram(\"x\")?` or `.boxes([\"x\"])?`")
    }
}

impl fmt::Debug for Chart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Rich for Chart {
    fn bundle(&self) -> Bundle {
        Bundle::text(&self.what).with_svg(&self.svg)
    }
}

impl Plot {
    fn new(data: Data) -> Plot {
        Plot {
            data,
            title: None,
            size: (640, 360),
        }
    }

    /// Words above the chart.
    pub fn title(mut self, title: &str) -> Plot {
        self.title = Some(title.to_string());
        self
    }

    /// Width and height in pixels: 640 × 360 if nothing is said.
    pub fn size(mut self, width: u32, height: u32) -> Plot {
        self.size = (width.clamp(120, 4_000), height.clamp(80, 4_000));
        self
    }

    /// A line for each column of `ys` over `x`, in the order of `x`.
    ///
    /// # Errors
    /// When a column is missing or holds no numbers (of `x`, also dates and times), when there are no rows; as
    /// [`Frame::collect`].
    pub fn line(&self, x: &str, ys: impl IntoVec<PlSmallStr>) -> Result<Chart> {
        self.points("line", x, &ys.into_vec(), |chart, points, color| {
            let series = LineSeries::new(points.iter().copied(), color.stroke_width(2));
            chart.draw_series(series)?;
            Ok(())
        })
    }

    /// A point for each row.
    ///
    /// # Errors
    /// As [`Plot::line`].
    pub fn scatter(&self, x: &str, ys: impl IntoVec<PlSmallStr>) -> Result<Chart> {
        self.points("scatter", x, &ys.into_vec(), |chart, points, color| {
            let series = points
                .iter()
                .map(|point| Circle::new(*point, 3, color.mix(0.6).filled()));
            chart.draw_series(series)?;
            Ok(())
        })
    }

    fn points(
        &self,
        kind: &str,
        x: &str,
        ys: &[PlSmallStr],
        draw: impl Fn(&mut Axes<'_, '_>, &[(f64, f64)], RGBColor) -> Drawn,
    ) -> Result<Chart> {
        if ys.is_empty() {
            return Err(wrong("a chart needs a column to draw", "name one: `[\"delay\"]`"));
        }
        // One of them may be drawn over itself, or twice.
        let mut columns: Vec<PlSmallStr> = vec![x.into()];
        for y in ys {
            if !columns.contains(y) {
                columns.push(y.clone());
            }
        }
        let (table, n_rows) = self.data.rows(&columns)?;
        let table = table
            .sort([x], SortMultipleOptions::default())
            .map_err(|error| Error::schema(kind, &error))?;
        let is_time = table.column(x).is_ok_and(|column| {
            matches!(
                column.dtype(),
                DataType::Date | DataType::Datetime(..) | DataType::Time
            )
        });
        let xs = numbers(&table, x, kind)?;
        let mut series = Vec::new();
        for y in ys {
            let ys = numbers(&table, y, kind)?;
            let points = xs.iter().zip(ys).filter_map(|(x, y)| Some(((*x)?, y?)));
            series.push(points.collect::<Vec<(f64, f64)>>());
        }
        let all = || series.iter().flatten();
        let (Some(x_range), Some(y_range)) = (
            range(all().map(|point| point.0)),
            range(all().map(|point| point.1)),
        ) else {
            return Err(nothing());
        };
        let x_of = Axis::new(is_time, &x_range);
        let svg = self.drawn(|area| {
            let mut chart = self
                .builder(area)
                .build_cartesian_2d(x_range.clone(), y_range.clone())?;
            styled!(chart)
                .x_labels(6)
                .x_desc(x)
                .y_desc(if ys.len() == 1 { ys[0].as_str() } else { "" })
                .x_label_formatter(&|value| x_of.label(*value))
                .draw()?;
            for (at, points) in series.iter().enumerate() {
                let color = color_of(at);
                draw(&mut chart, points, color)?;
                if ys.len() > 1 {
                    // An empty series carries the legend.
                    chart
                        .draw_series(std::iter::empty::<Circle<(f64, f64), i32>>())?
                        .label(ys[at].as_str())
                        .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], color.stroke_width(3)));
                }
            }
            if ys.len() > 1 {
                chart
                    .configure_series_labels()
                    .position(SeriesLabelPosition::UpperRight)
                    .label_font(("sans-serif", 12).into_font().color(&INK))
                    .draw()?;
            }
            Ok(())
        })?;
        let drawn = table.height();
        let what = format!("{kind} of {} over {x}", ys.join(", "));
        Ok(self.chart(svg, what, drawn, n_rows))
    }

    /// A bar for each row: `y` by `x`. Rows are drawn as they come: aggregate and sort them first.
    ///
    /// # Errors
    /// As [`Plot::line`], and for more than 60 rows.
    pub fn bar(&self, x: &str, y: &str) -> Result<Chart> {
        let n_rows = self.data.n_rows()?;
        if n_rows > MOST_BARS {
            return Err(wrong(
                &format!("{} bars would not be readable", count(n_rows as u64)),
                "aggregate first (`.group_by([…]).agg([…])`), keep the largest (`.top_k(…)`), or draw a histogram",
            ));
        }
        let (table, _) = self.data.rows(&[x.into(), y.into()])?;
        let labels: Vec<String> = table
            .column(x)
            .map_err(|error| Error::schema("bar", &error))?
            .as_materialized_series()
            .iter()
            .map(|value| label_of(&value))
            .collect();
        let values = numbers(&table, y, "bar")?;
        let heights: Vec<f64> = values.iter().map(|value| value.unwrap_or(0.0)).collect();
        self.bars(&labels, &heights, x, y, format!("bar of {y} by {x}"), n_rows)
    }

    /// How many values there are in each of 30 equal ranges, of all rows.
    ///
    /// # Errors
    /// As [`Plot::line`].
    pub fn histogram(&self, x: &str) -> Result<Chart> {
        let of = |name: &str, expr: Expr| expr.cast(DataType::Float64).alias(name);
        let value = || col(x).cast(DataType::Float64);
        let bounds = [
            of("least", value().min()),
            of("most", value().max()),
            of("n", value().count()),
        ];
        let bounds = self
            .data
            .query(|rows| rows.filter(value().is_finite()).select(bounds))?;
        let at = |name: &str| {
            bounds
                .column(name)
                .ok()
                .and_then(|column| column.get(0).ok()?.extract::<f64>())
        };
        let (Some(least), Some(most), Some(n)) = (at("least"), at("most"), at("n")) else {
            return Err(nothing());
        };
        let width = if most > least {
            (most - least) / BINS as f64
        } else {
            1.0
        };
        let bin = ((value() - lit(least)) / lit(width))
            .floor()
            .cast(DataType::Int64)
            .clip(lit(0), lit(BINS as i64 - 1));
        let counted = self.data.query(|rows| {
            rows.filter(value().is_finite())
                .select([bin.alias("bin")])
                .group_by([col("bin")])
                .agg([len().alias("n")])
        })?;
        let mut heights = vec![0.0; BINS];
        let (bins, ns) = (
            numbers(&counted, "bin", "histogram")?,
            numbers(&counted, "n", "histogram")?,
        );
        for (bin, n) in bins.into_iter().zip(ns) {
            if let (Some(bin), Some(n)) = (bin, n) {
                heights[bin as usize] += n;
            }
        }
        let labels: Vec<String> = (0..BINS)
            .map(|bin| least + bin as f64 * width)
            // Sums of fractions that should be nothing.
            .map(|edge| short_number(if edge.abs() < width * 1e-6 { 0.0 } else { edge }))
            .collect();
        self.bars(
            &labels,
            &heights,
            x,
            "rows",
            format!("histogram of {x}"),
            n as usize,
        )
    }

    /// A box for each column: least and greatest value as lines, quartiles as the box, the median in it.
    ///
    /// # Errors
    /// As [`Plot::line`].
    pub fn boxes(&self, columns: impl IntoVec<PlSmallStr>) -> Result<Chart> {
        let columns = columns.into_vec();
        let mut exprs = Vec::new();
        for (at, column) in columns.iter().enumerate() {
            for (i, share) in [0.0, 0.25, 0.5, 0.75, 1.0].into_iter().enumerate() {
                let number = || col(column.clone()).cast(DataType::Float64);
                // What is no number is greater than all that are.
                let value = when(number().is_finite()).then(number()).otherwise(lit(NULL));
                exprs.push(
                    value
                        .quantile(lit(share), QuantileMethod::Linear)
                        .alias(format!("{at}_{i}")),
                );
            }
        }
        let found = self.data.query(|rows| rows.select(exprs))?;
        let mut boxes: Vec<[f64; 5]> = Vec::new();
        for at in 0..columns.len() {
            let mut five = [f64::NAN; 5];
            for (i, value) in five.iter_mut().enumerate() {
                *value = numbers(&found, &format!("{at}_{i}"), "boxes")?
                    .first()
                    .copied()
                    .flatten()
                    .ok_or_else(nothing)?;
            }
            boxes.push(five);
        }
        let Some(y_range) = range(boxes.iter().flatten().copied()) else {
            return Err(wrong("a chart needs a column to draw", "name one: `[\"delay\"]`"));
        };
        let n = boxes.len() as i32;
        let svg =
            self.drawn(|area| {
                let mut chart = self
                    .builder(area)
                    .build_cartesian_2d((0..n - 1).into_segmented(), y_range.clone())?;
                styled!(chart)
                    .x_labels(n as usize + 1)
                    .x_label_formatter(&|value| match value {
                        SegmentValue::CenterOf(at) => columns
                            .get(*at as usize)
                            .map_or_else(String::new, ToString::to_string),
                        _ => String::new(),
                    })
                    .draw()?;
                for (at, five) in boxes.iter().enumerate() {
                    let color = color_of(at);
                    let center = |value: f64| (SegmentValue::CenterOf(at as i32), value);
                    let whiskers = [[five[0], five[1]], [five[3], five[4]]];
                    chart.draw_series(whiskers.map(|[from, to]| {
                        PathElement::new([center(from), center(to)], color.stroke_width(2))
                    }))?;
                    let across = |low: f64, high: f64, style: ShapeStyle| {
                        let edges = [
                            (SegmentValue::Exact(at as i32), low),
                            (SegmentValue::Exact(at as i32 + 1), high),
                        ];
                        let mut bar = Rectangle::new(edges, style);
                        bar.set_margin(0, 0, 30, 30);
                        bar
                    };
                    // The median is a line that is as wide as the box.
                    let half = (y_range.end - y_range.start) * 0.004;
                    chart.draw_series([
                        across(five[1], five[3], color.mix(0.35).filled()),
                        across(five[2] - half, five[2] + half, color.filled()),
                    ])?;
                }
                Ok(())
            })?;
        let what = format!("boxes of {}", columns.join(", "));
        let n_rows = self.data.n_rows()?;
        Ok(self.chart(svg, what, n_rows, n_rows))
    }

    fn bars(
        &self,
        labels: &[String],
        heights: &[f64],
        x: &str,
        y: &str,
        what: String,
        n_rows: usize,
    ) -> Result<Chart> {
        if heights.is_empty() {
            return Err(nothing());
        }
        let y_range = range(heights.iter().copied().chain([0.0])).ok_or_else(nothing)?;
        let n = heights.len() as i32;
        // As many words as there is room for.
        let widest = labels
            .iter()
            .map(|label| label.chars().count())
            .max()
            .unwrap_or(1);
        let room = (self.size.0 as usize / (8 * (widest + 1))).max(2);
        let every = labels.len().div_ceil(room);
        let gap = if n < 20 { 5 } else { 1 };
        let svg = self.drawn(|area| {
            let mut chart = self
                .builder(area)
                .build_cartesian_2d((0..n - 1).into_segmented(), y_range.clone())?;
            styled!(chart)
                .x_labels(n as usize + 1)
                .x_desc(x)
                .y_desc(y)
                .x_label_formatter(&|value| match value {
                    SegmentValue::CenterOf(at) if (*at as usize).is_multiple_of(every) => {
                        labels.get(*at as usize).cloned().unwrap_or_default()
                    }
                    _ => String::new(),
                })
                .draw()?;
            chart.draw_series(heights.iter().enumerate().map(|(at, height)| {
                let at = at as i32;
                let mut bar = Rectangle::new(
                    [
                        (SegmentValue::Exact(at), 0.0),
                        (SegmentValue::Exact(at + 1), *height),
                    ],
                    color_of(0).filled(),
                );
                bar.set_margin(0, 0, gap, gap);
                bar
            }))?;
            Ok(())
        })?;
        Ok(self.chart(svg, what, n_rows, n_rows))
    }

    fn builder<'a, 'b>(
        &self,
        area: &'a DrawingArea<SVGBackend<'b>, Shift>,
    ) -> ChartBuilder<'a, 'b, SVGBackend<'b>> {
        let mut builder = ChartBuilder::on(area);
        builder
            .margin(8)
            .margin_right(16)
            .x_label_area_size(40)
            .y_label_area_size(56);
        if let Some(title) = &self.title {
            builder.caption(title, ("sans-serif", 15).into_font().color(&INK));
        }
        builder
    }

    fn drawn(&self, draw: impl FnOnce(&DrawingArea<SVGBackend<'_>, Shift>) -> Drawn) -> Result<String> {
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, self.size).into_drawing_area();
            draw(&area)
                .and_then(|()| Ok(area.present()?))
                .map_err(|error| Error::Source(format!("the chart could not be drawn: {error}").into()))?;
        }
        // It shrinks with a narrow page.
        Ok(svg.replacen("<svg ", "<svg style=\"max-width:100%;height:auto\" ", 1))
    }

    fn chart(&self, svg: String, what: String, drawn: usize, n_rows: usize) -> Chart {
        let rows = count(n_rows as u64);
        if drawn >= n_rows {
            let what = format!("{what}: {rows} rows");
            return Chart { svg, what };
        }
        let drawn = count(drawn as u64);
        let what = format!("{what}: {drawn} of {rows} rows, chosen at random");
        let (width, height) = self.size;
        let note = format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" font-family=\"sans-serif\" font-size=\"10\" fill=\"#7a808a\">{drawn} of {rows} rows</text></svg>",
            width - 16,
            height - 4
        );
        let svg = svg.trim_end().trim_end_matches("</svg>").to_string() + &note;
        Chart { svg, what }
    }
}

type Axes<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;

#[cfg(test)]
mod tests {
    use polars::prelude::df;

    use super::*;

    #[test]
    fn all_kinds_draw_and_refuse_what_cannot_be_drawn() {
        let table = df!(
            "day" => [1, 2, 3, 4],
            "delay" => [Some(4.5), None, Some(f64::NAN), Some(8.0)],
            "word" => ["a", "b<", "c", "d"],
        )
        .expect("columns of one length");
        let plot = table.plot().title("Delays");
        let charts = [
            plot.line("day", ["delay"]),
            plot.line("day", ["delay", "day"]),
            plot.scatter("day", ["delay"]),
            plot.bar("word", "day"),
            plot.histogram("day"),
            plot.boxes(["day", "delay"]),
        ];
        for chart in charts {
            let chart = chart.expect("it can be drawn");
            assert!(chart.svg().starts_with("<svg") && chart.svg().trim_end().ends_with("</svg>"));
            assert!(chart.svg().contains("Delays"), "{chart:?}");
        }
        for (chart, part) in [
            (plot.line("day", ["dlay"]), "dlay"),
            (
                plot.line("day", ["word"]),
                "`word` is str, and a line needs numbers",
            ),
            (plot.line("day", [] as [&str; 0]), "needs a column"),
            (
                table.head(Some(0)).plot().scatter("day", ["delay"]),
                "nothing to draw",
            ),
            (table.head(Some(0)).plot().histogram("day"), "nothing to draw"),
        ] {
            let error = chart.expect_err("it cannot be drawn").to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn of_many_rows_some_are_drawn_and_the_chart_says_so() {
        let table = df!("x" => (0..100_000).collect::<Vec<i32>>()).expect("one column");
        let chart = table.plot().scatter("x", ["x"]).expect("it can be drawn");
        assert!(
            format!("{chart:?}").contains("of 100,000 rows, chosen at random"),
            "{chart:?}"
        );
        assert!(chart.svg().len() < 2 << 20, "{}", chart.svg().len());
        let error = table.plot().bar("x", "x").expect_err("too many bars").to_string();
        assert!(error.contains("100,000 bars"), "{error}");
    }
}
