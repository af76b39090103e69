//! Runs as they were looked at.

use super::*;

/// A task whose times are milliseconds after the run began.
fn task(no: u32, name: &str, arguments: &str, state: State, ran: Option<(u64, u64)>) -> TaskView {
    TaskView {
        no,
        name: name.into(),
        arguments: arguments.into(),
        inputs: Vec::new(),
        state,
        reason: String::new(),
        attempt: u32::from(ran.is_some()),
        started_us: ran.map(|(from, _)| from * 1000),
        ended_us: ran.map(|(_, to)| to * 1000),
        worker: ran.map(|_| format!("worker-{}", 1 + no % 2)),
        is_restored: false,
    }
}

/// A run in which something of everything happened.
fn night() -> View {
    let mut tasks = vec![
        task(1, "extract", "1", State::Completed, Some((0, 120))),
        task(2, "extract", "2", State::Completed, Some((5, 430))),
        task(3, "extract", "3", State::Cached, None),
        task(4, "clean", "…", State::Completed, Some((125, 300))),
        task(5, "clean", "…", State::Failed, Some((435, 520))),
        task(6, "clean", "…", State::Completed, None),
        task(7, "load", "…, \"flights.db\"", State::Cancelled, None),
    ];
    for (of, inputs) in [(3, vec![1]), (4, vec![2]), (5, vec![3]), (6, vec![4, 5, 6])] {
        tasks[of].inputs = inputs;
    }
    tasks[1].attempt = 3;
    tasks[4].reason = "column `delay` is text".into();
    tasks[5].is_restored = true;
    tasks[6].reason = "clean failed".into();
    View {
        id: "0123456789abcdef".into(),
        flow: "night".into(),
        state: State::Failed,
        reason: "clean: column `delay` is text".into(),
        parameters: "[1,2,3]".into(),
        begun_us: Some(0),
        ended_us: Some(600_000),
        tasks,
        trouble: None,
        called: vec![("weather".into(), "fedcba9876543210".into(), State::Completed)],
    }
}

#[test]
fn runs_look_as_they_were_looked_at() {
    let bundle = night().bundle();
    insta::assert_snapshot!("flow_text", bundle.plain());
    insta::assert_snapshot!("flow_html", bundle.get("text/html").unwrap());
}

#[test]
fn many_tasks_are_a_line_for_each_function() {
    let mut many = night();
    let state = |no| match no % 10 {
        0 => State::Failed,
        1 => State::AwaitingRetry,
        _ => State::Completed,
    };
    many.tasks = (1..=1000)
        .map(|no| {
            task(
                no,
                "step",
                "…",
                state(no),
                Some((u64::from(no), u64::from(no) + 20)),
            )
        })
        .collect();
    let text = many.bundle().plain().to_string();
    assert!(text.lines().count() < 20, "{text}");
    let line = text.lines().find(|line| line.contains("step")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(
        words,
        ["step", "×1,000", "800", "100", "100", "0", "20.0", "s"],
        "{text}"
    );
}
