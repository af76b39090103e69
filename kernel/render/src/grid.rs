//! The chunks of an array, drawn to scale.

use crate::{Bundle, card::Card, colours, text};

/// Lengths of the chunks down the rows and along the columns; a vector is one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grid {
    rows: Vec<usize>,
    columns: Vec<usize>,
}

/// The longer side in pixels.
const LONG: f64 = 160.0;
/// The shorter side is never drawn shorter, whatever the scale would say.
const SHORT: f64 = 24.0;
/// Finer than this, lines would be all that is seen.
const FINEST: f64 = 3.0;

impl Grid {
    pub fn new(rows: Vec<usize>, columns: Vec<usize>) -> Grid {
        Grid { rows, columns }
    }

    /// A card with the grid to its right.
    pub fn beside(&self, card: &Card) -> Bundle {
        let bundle = card.bundle();
        let html = bundle.get("text/html").unwrap_or_default().to_string();
        let both = format!(
            "<div style=\"display:flex;flex-wrap:wrap;gap:16px;align-items:center\"><div>{html}</div><div>{}</div></div>",
            self.to_svg()
        );
        let mut plain = bundle.plain().to_string();
        plain.push('\n');
        plain.push_str(&self.to_text());
        Bundle::text(plain).with_html(both)
    }

    fn size(&self) -> (f64, f64) {
        let (height, width): (usize, usize) = (self.rows.iter().sum(), self.columns.iter().sum());
        let longest = height.max(width).max(1) as f64;
        let scaled = |n: usize| (LONG * n as f64 / longest).max(SHORT);
        (scaled(width), scaled(height))
    }

    /// Grey lines hold on light and dark.
    fn to_svg(&self) -> String {
        let (width, height) = self.size();
        let (fill, grey) = (colours::RUNNING, colours::WAITING);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{:.0}\" height=\"{:.0}\" viewBox=\"-1 -1 {:.0} {:.0}\" role=\"img\" aria-label=\"{} × {} chunks\"><rect width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{fill}\" fill-opacity=\"0.35\" stroke=\"{grey}\" stroke-width=\"1.5\"/>",
            width + 2.0,
            height + 2.0,
            width + 2.0,
            height + 2.0,
            self.rows.len(),
            self.columns.len(),
        );
        for x in cuts(&self.columns, width) {
            svg.push_str(&format!(
                "<line x1=\"{x:.1}\" y1=\"0\" x2=\"{x:.1}\" y2=\"{height:.1}\" stroke=\"{grey}\"/>"
            ));
        }
        for y in cuts(&self.rows, height) {
            svg.push_str(&format!(
                "<line x1=\"0\" y1=\"{y:.1}\" x2=\"{width:.1}\" y2=\"{y:.1}\" stroke=\"{grey}\"/>"
            ));
        }
        svg.push_str("</svg>");
        svg
    }

    /// Boxes, where they are few enough for a terminal.
    fn to_text(&self) -> String {
        let (n_rows, n_columns) = (self.rows.len(), self.columns.len());
        let most = (text::columns().saturating_sub(3) / 4).min(16);
        if n_rows == 0 || n_columns == 0 || n_rows > 8 || n_columns > most {
            return format!("  ({n_rows} × {n_columns} chunks)");
        }
        let line = |left: &str, middle: &str, right: &str| {
            format!("  {left}{}{right}", vec!["───"; n_columns].join(middle))
        };
        let mut lines = vec![line("┌", "┬", "┐")];
        for row in 0..n_rows {
            if row > 0 {
                lines.push(line("├", "┼", "┤"));
            }
            lines.push(format!("  │{}", "   │".repeat(n_columns)));
        }
        lines.push(line("└", "┴", "┘"));
        lines.join("\n")
    }
}

/// Where lines are between chunks; of many only as many as can be told apart.
fn cuts(lengths: &[usize], size: f64) -> Vec<f64> {
    let total = lengths.iter().sum::<usize>().max(1) as f64;
    let (mut cuts, mut so_far): (Vec<f64>, usize) = (Vec::new(), 0);
    for length in lengths.iter().take(lengths.len().saturating_sub(1)) {
        so_far += length;
        let at = size * so_far as f64 / total;
        if at - cuts.last().copied().unwrap_or(0.0) >= FINEST {
            cuts.push(at);
        }
    }
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_is_drawn_to_scale() {
        let grid = Grid::new(vec![50, 50], vec![100, 100, 100]);
        let svg = grid.to_svg();
        assert_eq!(svg.matches("<line").count(), 3, "{svg}");
        assert!(svg.contains("width=\"162\" height=\"55\""), "{svg}");
        assert_eq!(grid.to_text().lines().count(), 5);
        assert!(grid.beside(&Card::new("A")).plain().contains("┼"));
    }

    #[test]
    fn many_chunks_and_none_are_drawn_too() {
        let fine = Grid::new(vec![1; 10_000], vec![1; 10_000]);
        assert!(fine.to_svg().len() < 20_000);
        assert_eq!(fine.to_text(), "  (10000 × 10000 chunks)");
        assert!(Grid::new(vec![], vec![]).to_svg().contains("svg"));
    }
}
