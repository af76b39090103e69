//! Task graphs as SVG and as drawn text.
//!
//! Layered from top to bottom by `dagre` (SVG) and `ascii-dag` (text), without Graphviz. Above [`MOST_NODES`]
//! nodes, calls of the same function in the same layer are drawn as one; then runs of them one after the other; then
//! layers that are near.

use std::collections::BTreeMap;

use crate::{Bundle, colours, count, escape, plural, text};

/// Larger graphs are grouped.
pub const MOST_NODES: usize = 60;

/// Nodes of smaller graphs name their arguments.
const MOST_WITH_ARGUMENTS: usize = 20;

/// Nodes with a name and a state (`pending`, `running`, `done`, `cached`, `failed`), and edges from input to consumer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    nodes: Vec<Node>,
    edges: Vec<(usize, usize)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    label: String,
    /// The arguments of one call.
    detail: String,
    states: BTreeMap<String, usize>,
}

impl Node {
    fn n(&self) -> usize {
        self.states.values().sum()
    }

    /// What stands in the node. In a small graph it names the arguments too, where they are short.
    fn text(&self, is_small: bool) -> String {
        if is_small && !self.detail.is_empty() && self.detail.chars().count() <= 20 {
            return format!("{}({})", self.label, self.detail);
        }
        let mut label: String = self.label.chars().take(28).collect();
        if label.len() < self.label.len() {
            label.push('…');
        }
        if self.n() > 1 {
            format!("{label} ×{}", count(self.n() as u64))
        } else {
            label
        }
    }

    fn title(&self) -> String {
        if self.detail.is_empty() {
            self.label.clone()
        } else {
            format!("{}({})", self.label, self.detail)
        }
    }

    /// The state that says most about a group: a failure, else work under way, else what is left.
    fn state(&self) -> &str {
        ["failed", "running", "pending", "cached", "done"]
            .into_iter()
            .find(|state| self.states.contains_key(*state))
            .unwrap_or("pending")
    }
}

impl Graph {
    /// Returns the node's index for [`Graph::add_edge`].
    pub fn add_node(&mut self, label: &str, state: &str) -> usize {
        self.nodes.push(Node {
            label: label.to_string(),
            detail: String::new(),
            states: BTreeMap::from([(state.to_string(), 1)]),
        });
        self.nodes.len() - 1
    }

    /// The arguments of the call that a node stands for: shown in small graphs, and on hover.
    ///
    /// # Panics
    /// When the node does not exist.
    pub fn set_detail(&mut self, node: usize, detail: String) {
        self.nodes[node].detail = detail;
    }

    /// # Panics
    /// When a node does not exist.
    pub fn add_edge(&mut self, from: usize, to: usize) {
        assert!(
            from < self.nodes.len() && to < self.nodes.len(),
            "an edge needs two nodes"
        );
        self.edges.push((from, to));
    }

    fn is_small(&self) -> bool {
        self.nodes.len() <= MOST_WITH_ARGUMENTS
    }

    pub fn n_nodes(&self) -> usize {
        self.nodes.len()
    }

    pub fn bundle(&self) -> Bundle {
        Bundle::text(self.to_text()).with_svg(self.to_svg())
    }

    /// With more than `most` nodes, calls of the same function in the same layer as one.
    #[must_use]
    pub fn compact(&self, most: usize) -> Graph {
        if self.nodes.len() <= most {
            self.clone()
        } else {
            self.by_function()
        }
    }

    /// A graph that is small enough to be read: what is alike is drawn as one.
    fn grouped(&self) -> Graph {
        if self.nodes.len() <= MOST_NODES {
            return self.clone();
        }
        let mut graph = self.by_function();
        if graph.nodes.len() > MOST_NODES {
            graph = graph.by_run();
        }
        let mut n_bands = MOST_NODES / 2;
        while graph.nodes.len() > MOST_NODES && n_bands > 0 {
            graph = graph.by_band(n_bands);
            n_bands /= 2;
        }
        graph
    }

    /// One node for all calls of a function in a layer.
    fn by_function(&self) -> Graph {
        self.merged(&self.layers())
    }

    /// One node for calls of a function in layers that are near.
    fn by_band(&self, n_bands: usize) -> Graph {
        let layers = self.layers();
        let n_layers = layers.iter().max().map_or(1, |last| last + 1);
        let bands: Vec<usize> = layers.iter().map(|layer| layer * n_bands / n_layers).collect();
        self.merged(&bands)
    }

    /// One node for calls of a function that follow each other, with nothing beside them.
    fn by_run(&self) -> Graph {
        let (mut n_in, mut n_out) = (vec![0usize; self.nodes.len()], vec![0usize; self.nodes.len()]);
        for (from, to) in &self.edges {
            n_out[*from] += 1;
            n_in[*to] += 1;
        }
        let mut edges = self.edges.clone();
        edges.sort_unstable_by_key(|(_, to)| *to);
        let mut run: Vec<usize> = (0..self.nodes.len()).collect();
        for (from, to) in edges {
            if n_out[from] == 1 && n_in[to] == 1 && self.nodes[from].label == self.nodes[to].label {
                run[to] = run[from];
            }
        }
        self.merged(&run)
    }

    /// One node for those of one label that have the same number.
    fn merged(&self, numbers: &[usize]) -> Graph {
        let mut by_group: BTreeMap<(usize, &str), usize> = BTreeMap::new();
        let mut graph = Graph::default();
        let mut group_of = Vec::with_capacity(self.nodes.len());
        for (i, node) in self.nodes.iter().enumerate() {
            let group = *by_group.entry((numbers[i], &node.label)).or_insert_with(|| {
                graph.nodes.push(Node {
                    label: node.label.clone(),
                    detail: String::new(),
                    states: BTreeMap::new(),
                });
                graph.nodes.len() - 1
            });
            for (state, n) in &node.states {
                *graph.nodes[group].states.entry(state.clone()).or_default() += n;
            }
            group_of.push(group);
        }
        graph.edges = self
            .edges
            .iter()
            .map(|(a, b)| (group_of[*a], group_of[*b]))
            .filter(|(a, b)| a != b)
            .collect();
        graph.edges.sort_unstable();
        graph.edges.dedup();
        graph
    }

    /// The longest way from a source, for each node. Nodes come after their inputs, as they are added.
    fn layers(&self) -> Vec<usize> {
        let mut layers = vec![0; self.nodes.len()];
        let mut edges = self.edges.clone();
        edges.sort_unstable_by_key(|(_, to)| *to);
        for (from, to) in edges {
            layers[to] = layers[to].max(layers[from] + 1);
        }
        layers
    }

    fn summary(&self) -> String {
        let mut by_state: BTreeMap<&str, usize> = BTreeMap::new();
        for node in &self.nodes {
            for (state, n) in &node.states {
                *by_state.entry(state).or_default() += n;
            }
        }
        let states: Vec<String> = by_state
            .iter()
            .map(|(state, n)| format!("{} {state}", count(*n as u64)))
            .collect();
        format!("{}: {}", plural(self.nodes.len(), "task"), states.join(", "))
    }

    /// Box characters, for terminals.
    pub fn to_text(&self) -> String {
        if self.nodes.is_empty() {
            return "an empty graph".to_string();
        }
        let fits = |drawn: &String| drawn.lines().all(|line| text::width(line) <= text::columns());
        let drawn = Some(self.grouped().drawing()).filter(fits).or_else(|| {
            let grouped = self.by_function();
            (grouped.nodes.len() <= MOST_NODES)
                .then(|| grouped.drawing())
                .filter(fits)
        });
        format!("{}\n{}", self.summary(), drawn.unwrap_or_else(|| self.list()))
    }

    /// A line for each layer, for graphs that are wider than the terminal.
    fn list(&self) -> String {
        let mut layers: BTreeMap<usize, BTreeMap<&str, usize>> = BTreeMap::new();
        for (node, layer) in self.nodes.iter().zip(self.layers()) {
            *layers.entry(layer).or_default().entry(&node.label).or_default() += node.n();
        }
        let mut lines = text::wrapped(
            "too wide to be drawn here; each line is a layer that needs those above it:",
            text::columns(),
        );
        let n_more = layers.len().saturating_sub(MOST_NODES);
        for (layer, nodes) in layers.into_iter().take(MOST_NODES) {
            let nodes: Vec<String> = nodes
                .iter()
                .map(|(label, n)| {
                    if *n > 1 {
                        format!("{label} ×{}", count(*n as u64))
                    } else {
                        (*label).to_string()
                    }
                })
                .collect();
            let indent = text::columns().saturating_sub(5);
            lines.push(format!(
                "{:>3}  {}",
                layer + 1,
                text::wrapped(&nodes.join(", "), indent).join("\n     ")
            ));
        }
        if n_more > 0 {
            lines.push(format!("     … and {} more layers", count(n_more as u64)));
        }
        lines.join("\n")
    }

    /// Drawn with box characters.
    fn drawing(&self) -> String {
        let mark = |state: &str| match state {
            "done" => "✓ ",
            "cached" => "= ",
            "running" => "▶ ",
            "failed" => "✗ ",
            _ => "",
        };
        let labels: Vec<String> = self
            .nodes
            .iter()
            .map(|node| format!("{}{}", mark(node.state()), node.text(self.is_small())))
            .collect();
        let mut drawing = ascii_dag::Graph::new();
        for (i, label) in labels.iter().enumerate() {
            drawing.add_node(i, ascii_dag::BoxedNode(label));
        }
        for (from, to) in &self.edges {
            drawing.add_edge(*from, *to, None);
        }
        let text = drawing
            .compute_layout()
            .render_string(&ascii_dag::RenderOptions::plain());
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        lines.join("\n").trim_end().to_string()
    }

    pub fn to_svg(&self) -> String {
        let grouped = self.grouped();
        let is_small = grouped.is_small();
        let sizes: Vec<(f64, f64)> = grouped
            .nodes
            .iter()
            .map(|node| (24.0 + 7.4 * node.text(is_small).chars().count() as f64, 30.0))
            .collect();
        let Layout {
            centres,
            routes,
            width,
            height,
        } = Layout::of(&sizes, &grouped.edges);
        let mut svg = format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="-1 -1 {:.0} {:.0}" width="{:.0}" height="{:.0}" style="max-width:100%;height:auto" font-family="var(--jp-code-font-family, ui-monospace, monospace)" font-size="12" role="img" aria-label="{}"><title>{}</title>"#,
            width + 1.0,
            height + 1.0,
            width + 1.0,
            height + 1.0,
            escape(&self.summary()),
            escape(&self.summary()),
        );
        for route in &routes {
            svg.push_str(&edge(route));
        }
        for (i, node) in grouped.nodes.iter().enumerate() {
            let ((w, h), (x, y)) = (sizes[i], centres[i]);
            // JupyterLab shows SVG as an image, where its own colours do not arrive: a node brings the ground of its text.
            let is_mixed = node.states.len() > 1;
            let fill = colours::ground_of_state(if is_mixed { "" } else { node.state() });
            let states: Vec<String> = node
                .states
                .iter()
                .map(|(state, n)| format!("{} {state}", count(*n as u64)))
                .collect();
            svg.push_str(&format!(
                r#"<g><title>{}: {}</title><rect x="{:.1}" y="{:.1}" width="{w:.1}" height="{h:.1}" rx="6" fill="{fill}"/><text x="{x:.1}" y="{:.1}" text-anchor="middle" fill="white">{}</text></g>"#,
                escape(&node.title()),
                states.join(", "),
                x - w / 2.0,
                y - h / 2.0,
                y + 4.0,
                escape(&node.text(is_small)),
            ));
            if is_mixed {
                svg.push_str(&node.strip(x - w / 2.0 + 6.0, y + h / 2.0 - 6.0, w - 12.0));
            }
        }
        svg.push_str("</svg>");
        svg
    }
}

impl Node {
    /// Which part of its tasks is in which state, as a bar.
    fn strip(&self, x: f64, y: f64, width: f64) -> String {
        /// One task of thousands is seen too.
        const LEAST: f64 = 3.0;
        let n = self.n().max(1) as f64;
        let mut left = x;
        let mut strip = String::new();
        for state in ["failed", "running", "cached", "done"] {
            let Some(part) = self.states.get(state).map(|n_of_it| *n_of_it as f64 / n) else {
                continue;
            };
            let w = (part * width).max(LEAST).min(x + width - left);
            let fill = colours::of_state(state);
            strip.push_str(&format!(
                r#"<rect x="{left:.1}" y="{y:.1}" width="{w:.1}" height="3" fill="{fill}"/>"#
            ));
            left += w;
        }
        strip
    }
}

/// A smooth line through the bends, with a drawn arrow head: markers need ids, which clash between outputs.
fn edge(route: &[(f64, f64)]) -> String {
    let [start, .., end] = route else {
        return String::new();
    };
    let mut path = format!("M{:.1},{:.1}", start.0, start.1);
    for pair in route.windows(2).skip(1) {
        let middle = ((pair[0].0 + pair[1].0) / 2.0, (pair[0].1 + pair[1].1) / 2.0);
        path.push_str(&format!(
            " Q{:.1},{:.1} {:.1},{:.1}",
            pair[0].0, pair[0].1, middle.0, middle.1
        ));
    }
    path.push_str(&format!(" L{:.1},{:.1}", end.0, end.1));
    let before = route[route.len() - 2];
    let (dx, dy) = (end.0 - before.0, end.1 - before.1);
    let length = dx.hypot(dy).max(1e-6);
    let (ux, uy) = (dx / length, dy / length);
    let corner = |side: f64| {
        (
            end.0 - 7.0 * ux - side * 3.5 * uy,
            end.1 - 7.0 * uy + side * 3.5 * ux,
        )
    };
    let (a, b) = (corner(1.0), corner(-1.0));
    format!(
        r#"<path d="{path}" fill="none" stroke="{grey}" stroke-width="1.3"/><path d="M{:.1},{:.1} L{:.1},{:.1} L{:.1},{:.1} Z" fill="{grey}"/>"#,
        end.0,
        end.1,
        a.0,
        a.1,
        b.0,
        b.1,
        grey = colours::WAITING
    )
}

type Points = Vec<(f64, f64)>;

/// A graph that would be wider is drawn from left to right, where that is narrower: shrunk to the page its words could not be
/// read.
const WIDEST: f64 = 900.0;

struct Layout {
    centres: Points,
    /// The way of each edge from border to border.
    routes: Vec<Points>,
    width: f64,
    height: f64,
}

impl Layout {
    fn of(sizes: &[(f64, f64)], edges: &[(usize, usize)]) -> Layout {
        let down = Layout::in_direction(sizes, edges, false);
        if down.width <= WIDEST {
            return down;
        }
        let across = Layout::in_direction(sizes, edges, true);
        if across.width < down.width { across } else { down }
    }

    fn in_direction(sizes: &[(f64, f64)], edges: &[(usize, usize)], is_across: bool) -> Layout {
        let (mut centres, mut routes) = layout(sizes, edges, is_across);
        if is_against_the_order(&centres, edges, is_across) {
            let mirrored = |(x, y): (f64, f64)| if is_across { (x, -y) } else { (-x, y) };
            let points = || centres.iter().zip(sizes);
            // Where the other end was, the beginning is now.
            let end = points().map(|((x, y), (w, h))| if is_across { y + h / 2.0 } else { x + w / 2.0 });
            let bends = routes
                .iter()
                .flatten()
                .map(|(x, y)| if is_across { *y } else { *x });
            let end = end.chain(bends).fold(0.0, f64::max);
            let shifted = |(x, y): (f64, f64)| if is_across { (x, y + end) } else { (x + end, y) };
            let turn = |point: &mut (f64, f64)| *point = shifted(mirrored(*point));
            centres.iter_mut().for_each(turn);
            routes.iter_mut().flatten().for_each(turn);
        }
        in_the_order(sizes, edges, is_across, &mut centres, &mut routes);
        let bends = || routes.iter().flatten();
        let ends = || centres.iter().zip(sizes);
        let right = ends()
            .map(|((x, _), (w, _))| x + w / 2.0)
            .chain(bends().map(|p| p.0));
        let bottom = ends()
            .map(|((_, y), (_, h))| y + h / 2.0)
            .chain(bends().map(|p| p.1));
        Layout {
            width: right.fold(0.0, f64::max) + 2.0,
            height: bottom.fold(0.0, f64::max) + 2.0,
            centres,
            routes,
        }
    }
}

/// Whether most of the nodes without inputs stand the other way round than they were added: people read them in that order.
fn is_against_the_order(centres: &Points, edges: &[(usize, usize)], is_across: bool) -> bool {
    let mut is_source = vec![true; centres.len()];
    edges.iter().for_each(|(_, to)| is_source[*to] = false);
    let places: Vec<f64> = (0..centres.len())
        .filter(|node| is_source[*node])
        .map(|node| {
            if is_across {
                centres[node].1
            } else {
                centres[node].0
            }
        })
        .collect();
    let steps = || places.windows(2);
    let n_back = steps().filter(|pair| pair[1] < pair[0]).count();
    2 * n_back > steps().count()
}

/// Nodes that could stand for each other, since they have the same neighbours, stand in the order in which they were added.
fn in_the_order(
    sizes: &[(f64, f64)],
    edges: &[(usize, usize)],
    is_across: bool,
    centres: &mut Points,
    routes: &mut Vec<Points>,
) {
    let mut neighbours: Vec<(Vec<usize>, Vec<usize>)> = vec![Default::default(); sizes.len()];
    let mut route_of: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for (i, (from, to)) in edges.iter().enumerate() {
        neighbours[*from].1.push(*to);
        neighbours[*to].0.push(*from);
        route_of.insert((*from, *to), i);
    }
    for (before, after) in &mut neighbours {
        before.sort_unstable();
        after.sort_unstable();
    }
    let mut alike: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (node, (before, after)) in neighbours.iter().enumerate() {
        let size = (sizes[node].0.to_bits(), sizes[node].1.to_bits());
        alike.entry((before, after, size)).or_default().push(node);
    }
    let mut place_of: Vec<usize> = (0..sizes.len()).collect();
    for nodes in alike.values() {
        let mut places = nodes.clone();
        let along = |node: &usize| {
            if is_across {
                centres[*node].1
            } else {
                centres[*node].0
            }
        };
        places.sort_by(|a, b| along(a).total_cmp(&along(b)));
        nodes
            .iter()
            .zip(places)
            .for_each(|(node, place)| place_of[*node] = place);
    }
    *centres = place_of.iter().map(|place| centres[*place]).collect();
    // The edge of those places is there, since they have the same neighbours.
    let route = |(from, to): &(usize, usize)| routes[route_of[&(place_of[*from], place_of[*to])]].clone();
    *routes = edges.iter().map(route).collect();
}

/// Centres of nodes, and the way of each edge from border to border.
fn layout(sizes: &[(f64, f64)], edges: &[(usize, usize)], is_across: bool) -> (Points, Vec<Points>) {
    use dagre::{
        EdgeLabel, LayoutOptions, NodeLabel, RankDir,
        graph::{Graph, GraphOptions},
        layout::types::LabelPos,
    };
    if sizes.is_empty() {
        return (Vec::new(), Vec::new());
    }
    let mut graph: Graph<NodeLabel, EdgeLabel> = Graph::with_options(GraphOptions {
        directed: true,
        multigraph: true,
        compound: true,
    });
    for (i, &(width, height)) in sizes.iter().enumerate() {
        graph.set_node(
            i.to_string(),
            Some(NodeLabel {
                width,
                height,
                ..NodeLabel::default()
            }),
        );
    }
    for (k, &(from, to)) in edges.iter().enumerate() {
        let label = EdgeLabel {
            labelpos: LabelPos::Center,
            ..EdgeLabel::default()
        };
        graph.set_edge(
            from.to_string(),
            to.to_string(),
            Some(label),
            Some(k.to_string().as_str()),
        );
    }
    let options = LayoutOptions {
        rankdir: if is_across { RankDir::LR } else { RankDir::TB },
        nodesep: if is_across { 8.0 } else { 22.0 },
        edgesep: 12.0,
        ranksep: 42.0,
        ..LayoutOptions::default()
    };
    dagre::layout(&mut graph, Some(options));
    let centre = |i: usize| {
        graph
            .node(&i.to_string())
            .and_then(|node| Some((node.x?, node.y?)))
            .unwrap_or_default()
    };
    let mut centres: Points = (0..sizes.len()).map(centre).collect();
    let route = |(k, (from, to)): (usize, &(usize, usize))| {
        let edge = graph.edge(&from.to_string(), &to.to_string(), Some(k.to_string().as_str()));
        edge.map(|edge| edge.points.iter().map(|point| (point.x, point.y)).collect())
            .unwrap_or_default()
    };
    let mut routes: Vec<Points> = edges.iter().enumerate().map(route).collect();
    // The layout's box leaves out the bends of long edges, which may be left of it, or above.
    let bends = || routes.iter().flatten();
    let left = bends().map(|point| point.0).fold(0.0, f64::min);
    let top = bends().map(|point| point.1).fold(0.0, f64::min);
    for point in centres.iter_mut().chain(routes.iter_mut().flatten()) {
        *point = (point.0 - left, point.1 - top);
    }
    (centres, routes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Graph {
        let mut graph = Graph::default();
        let a = graph.add_node("inc", "done");
        let b = graph.add_node("inc", "running");
        let c = graph.add_node("add", "pending");
        graph.add_edge(a, c);
        graph.add_edge(b, c);
        graph
    }

    #[test]
    fn calls_that_could_stand_for_each_other_stand_in_their_order() {
        let sizes = [(80.0, 30.0); 8];
        for shuffled in [[4, 2, 0, 1, 3], [0, 1, 2, 3, 4], [3, 4, 1, 0, 2]] {
            let mut edges: Vec<(usize, usize)> = shuffled.map(|node| (node, 5)).to_vec();
            edges.extend([(5, 6), (5, 7)]);
            for is_across in [false, true] {
                let layout = Layout::in_direction(&sizes, &edges, is_across);
                let along = |node: usize| match is_across {
                    true => layout.centres[node].1,
                    false => layout.centres[node].0,
                };
                let sources: Vec<f64> = (0..5).map(along).collect();
                assert!(sources.is_sorted(), "{shuffled:?}: {sources:?}");
                assert!(along(6) < along(7));
                for ((from, to), route) in edges.iter().zip(&layout.routes) {
                    let [first, .., last] = &route[..] else {
                        panic!("a route has two ends")
                    };
                    let near = |(x, y): &(f64, f64), node: usize| {
                        (x - layout.centres[node].0).abs() <= 41.0
                            && (y - layout.centres[node].1).abs() <= 16.0
                    };
                    assert!(near(first, *from) && near(last, *to), "{from} to {to}: {route:?}");
                }
            }
        }
    }

    #[test]
    fn a_small_graph_is_drawn_whole() {
        insta::assert_snapshot!("tree_text", tree().to_text());
        insta::assert_snapshot!("tree_svg", tree().to_svg());
    }

    #[test]
    fn a_large_graph_is_grouped_by_function_and_layer() {
        let mut graph = Graph::default();
        let sum = (0..1000)
            .map(|_| graph.add_node("load", "done"))
            .collect::<Vec<_>>();
        let total = graph.add_node("sum", "failed");
        sum.into_iter().for_each(|load| graph.add_edge(load, total));
        let text = graph.to_text();
        assert!(text.starts_with("1,001 tasks: 1,000 done, 1 failed"), "{text}");
        assert!(text.contains("load ×1,000"), "{text}");
        assert_eq!(graph.to_svg().matches("<rect").count(), 2);
        graph.nodes[2].states = BTreeMap::from([("failed".to_string(), 1)]);
        let mixed = graph.to_svg();
        assert_eq!(
            mixed.matches("<rect").count(),
            4,
            "a bar says which part has failed"
        );
        assert!(
            mixed.contains(&format!(r#"width="3.0" height="3" fill="{}""#, colours::FAILED)),
            "{mixed}"
        );
    }

    /// Reads that are added up in pairs, as far as `n` tasks and a bit; the first are done, one failed.
    fn reduction(n: usize) -> Graph {
        let mut graph = Graph::default();
        let n_reads = n / 2;
        let state = |i: usize| match i {
            3 => "failed",
            i if i < n_reads / 2 => "done",
            i if i < n_reads / 2 + 2 => "running",
            _ => "pending",
        };
        let mut layer: Vec<usize> = (0..n_reads).map(|i| graph.add_node("read", state(i))).collect();
        while layer.len() > 1 {
            let mut next = Vec::new();
            for pair in layer.chunks(2) {
                let sum = graph.add_node("add", "pending");
                for input in pair {
                    graph.add_edge(*input, sum);
                }
                next.push(sum);
            }
            layer = next;
        }
        graph
    }

    #[test]
    fn graphs_of_many_tasks_are_pictures_too() {
        insta::assert_snapshot!("sixty_svg", reduction(60).to_svg());
        insta::assert_snapshot!("ten_thousand_svg", reduction(10_000).to_svg());
    }

    #[test]
    fn chains_and_trees_of_any_size_are_small_pictures() {
        let mut chain = Graph::default();
        let mut last = chain.add_node("read", "done");
        for _ in 0..50_000 {
            let next = chain.add_node("inc", "pending");
            chain.add_edge(last, next);
            last = next;
        }
        let end = chain.add_node("write", "pending");
        chain.add_edge(last, end);
        let grouped = chain.grouped();
        let labels: Vec<String> = grouped.nodes.iter().map(|node| node.text(false)).collect();
        assert_eq!(
            (labels.join(" → ").as_str(), grouped.edges.len()),
            ("read → inc ×50,000 → write", 2)
        );
        // A chain of several functions has no runs.
        let mut mixed = Graph::default();
        let mut last = mixed.add_node("f0", "pending");
        for i in 1..30_000 {
            let next = mixed.add_node(["f0", "f1", "f2"][i % 3], "pending");
            mixed.add_edge(last, next);
            last = next;
        }
        assert!(mixed.grouped().nodes.len() <= MOST_NODES);
        let mut layer: Vec<usize> = Vec::new();
        let mut tree = Graph::default();
        layer.extend((0..4096).map(|_| tree.add_node("load", "done")));
        while layer.len() > 1 {
            let pairs: Vec<Vec<usize>> = layer.chunks(2).map(<[usize]>::to_vec).collect();
            layer = pairs
                .into_iter()
                .map(|pair| {
                    let sum = tree.add_node("add", "pending");
                    pair.into_iter().for_each(|input| tree.add_edge(input, sum));
                    sum
                })
                .collect();
        }
        assert_eq!(tree.grouped().nodes.len(), 13, "a reduction keeps its shape");
        // Many functions, each in a layer of its own: more than can be shown apart.
        let mut wide = Graph::default();
        for i in 0..500 {
            wide.add_node(&format!("f{i}"), "pending");
        }
        for graph in [chain, mixed, tree, wide] {
            assert!(graph.to_svg().starts_with("<svg") && graph.to_text().lines().count() < 300);
        }
    }

    #[test]
    fn a_graph_that_is_too_wide_is_grouped_and_then_listed() {
        let mut graph = Graph::default();
        for i in 0..20 {
            let read = graph.add_node("read", "done");
            let other = graph.add_node(&format!("step_{}", i % 12), "pending");
            graph.add_edge(read, other);
        }
        let shown = graph.to_text();
        assert!(shown.lines().all(|line| text::width(line) <= 80), "{shown}");
        assert!(
            shown.contains("  1  read ×20") && shown.contains("  2  step_0 ×2"),
            "{shown}"
        );
    }

    #[test]
    fn layouts_never_fail_and_nodes_do_not_overlap() {
        fastrand::seed(7);
        for n in [0, 1, 2, 7, 30, 60] {
            for density in [1, 3] {
                let edges: Vec<(usize, usize)> = (0..n * density)
                    .map(|_| (fastrand::usize(0..n), fastrand::usize(0..n)))
                    .filter(|(a, b)| a < b)
                    .collect();
                let sizes = vec![(60.0, 30.0); n];
                let (centres, routes) = layout(&sizes, &edges, sizes.len() % 2 == 0);
                assert_eq!(routes.len(), edges.len());
                for (i, a) in centres.iter().enumerate() {
                    for b in &centres[..i] {
                        assert!(
                            (a.0 - b.0).abs() >= 59.9 || (a.1 - b.1).abs() >= 29.9,
                            "{n} nodes: {a:?} {b:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn labels_are_escaped() {
        let mut graph = Graph::default();
        graph.add_node("<script>alert(1)</script>", "done");
        assert!(!graph.to_svg().contains("<script"));
    }
}
