//! Every picture as text, in narrow, usual and wide terminals: no line is wider than the terminal is.

use std::time::Duration;

use skep_render::{
    card::Card,
    control::{Control, Kind, Value},
    graph::Graph,
    progress::{self, Row},
    stream::{self, Bar},
    text,
};

fn pictures() -> Vec<(&'static str, String)> {
    let card = Card::new(
        "Cluster: 12 workers of a name that is as long as names are in practice, and then some",
    )
    .fact(
        "memory",
        "23.5 GiB for each worker, of which a part is set aside for what tasks need beside their values",
    )
    .table(
        ["worker", "pid", "threads", "resident", "tasks", "holds"],
        (1..13).map(|n| {
            [
                format!("worker-{n}"),
                (4000 + n).to_string(),
                "2".into(),
                "512.0 MiB".into(),
                "3".into(),
                "1,024 (800.0 MiB)".into(),
            ]
        }),
    )
    .note(
        "`:dashboard` shows what they do, and `:journey` what happened to one of their tasks, stage by stage",
    );
    let rows: Vec<Row> = (0..9)
        .map(|n| Row {
            name: format!("a_function_with_quite_a_name_{n}"),
            n_done: 1_000 * n,
            n_running: n,
            n_waiting: 100,
            n_failed: n % 2,
            ..Row::default()
        })
        .collect();
    let bars: Vec<Bar> = (0..200)
        .map(|n| Bar {
            worker: format!("worker-{}", n % 6),
            name: format!("a_function_with_quite_a_name_{}", n % 9),
            start_us: 1_000 * n,
            duration_us: 4_000,
        })
        .collect();
    let mut graph = Graph::default();
    let reads: Vec<usize> = (0..40)
        .map(|n| graph.add_node(&format!("read_part_{}", n % 11), "done"))
        .collect();
    let total = graph.add_node("total", "running");
    for read in reads {
        graph.add_edge(read, total);
    }
    let select = Control {
        label: "how".into(),
        kind: Kind::Select((0..40).map(|n| format!("choice-{n}")).collect()),
        value: Value::Choice(3),
    };
    let note = vec![
        "worker-2 died: it used more memory than its limit of 2.0 GiB, and its tasks run again elsewhere"
            .to_string(),
    ];
    vec![
        ("card", card.bundle().plain().to_string()),
        (
            "progress",
            progress::bundle(&rows, Duration::from_secs(75), &note)
                .plain()
                .to_string(),
        ),
        ("stream", stream::bundle(&bars).plain().to_string()),
        ("graph", graph.bundle().plain().to_string()),
        ("control", select.bundle().plain().to_string()),
    ]
}

#[test]
fn texts_fit_terminals_of_any_width() {
    for columns in [60, 80, 160] {
        text::set_columns(columns);
        for (name, shown) in pictures() {
            for line in shown.lines() {
                assert!(
                    text::width(line) <= columns,
                    "{name} in {columns} columns is {} wide: {line}",
                    text::width(line)
                );
            }
            assert!(shown.lines().count() > 1 || name == "control", "{name}: {shown}");
        }
    }
}
