use super::*;
use crate::model::{ids::Key, recording::Recorded};

const MS: u64 = 1_000;

fn task(key: u128, inputs: &[u128], duration_us: u64) -> Recorded {
    Recorded {
        key: Key(key),
        function: 0,
        priority: key as u64,
        submitted_us: 0,
        ended_us: 1,
        inputs: inputs.iter().map(|key| (Key(*key), 1.0)).collect(),
        n_bytes: 100,
        is_inline: false,
        duration_us,
        cpu_us: 0,
        has_demands: false,
    }
}

fn recording(tasks: Vec<Recorded>) -> Recording {
    Recording {
        tasks,
        functions: vec!["work".into()],
        workers: vec![(1, 0), (1, 0)],
        n_left_out: 0,
    }
}

fn on(n_workers: u32) -> Scenario {
    Scenario {
        n_workers,
        n_threads: 1,
        memory: 0,
        bandwidth: 1e9,
        n_cores: None,
    }
}

fn took_ms(recording: &Recording, scenario: Scenario) -> u64 {
    forecast(recording, scenario).took_us / MS
}

#[test]
fn tasks_that_need_nothing_of_each_other_take_less_on_more_workers_and_chains_do_not() {
    let apart = recording((1..=8).map(|key| task(key, &[], 100 * MS)).collect());
    let took: Vec<u64> = [1, 2, 4, 8, 64].map(|n| took_ms(&apart, on(n))).to_vec();
    assert_eq!(took, [800, 400, 200, 100, 100]);
    let few = forecast(&apart, on(64));
    assert!(
        few.limits
            .iter()
            .any(|limit| limit.contains("too few tasks: 8 tasks for 64")),
        "{few:?}"
    );

    let chain = recording(
        (1..=8)
            .map(|key| {
                if key == 1 {
                    task(1, &[], 100 * MS)
                } else {
                    task(key, &[key - 1], 100 * MS)
                }
            })
            .collect(),
    );
    let (one, many) = (forecast(&chain, on(1)), forecast(&chain, on(8)));
    assert_eq!((one.took_us / MS, many.took_us / MS), (800, 800));
    assert_eq!((many.critical_us, many.critical.len()), (800 * MS, 8));
    assert!(many.limits[0].contains("a chain of 8 tasks"), "{:?}", many.limits);
    assert_eq!(many.moved_bytes, 0, "each goes where its input is");
    assert_eq!(
        curve(&apart, on(1))
            .into_iter()
            .map(|(n, us)| (n, us / MS))
            .collect::<Vec<_>>()[..4],
        [(1, 800), (2, 400), (4, 200), (8, 100)]
    );
}

#[test]
fn inputs_take_the_time_that_a_link_has_for_their_bytes() {
    let mut large = task(1, &[], 10 * MS);
    large.n_bytes = 500_000_000;
    let mut also = task(2, &[], 10 * MS);
    also.n_bytes = 500_000_000;
    let both = recording(vec![large, also, task(3, &[1, 2], 10 * MS)]);
    assert_eq!(took_ms(&both, on(1)), 30, "all of it is here");
    let outcome = forecast(&both, on(2));
    assert_eq!(outcome.took_us / MS, 520, "half a second for one of them");
    assert_eq!(outcome.moved_bytes, 500_000_000);
    assert!(
        outcome
            .limits
            .iter()
            .any(|limit| limit.contains("transfers: 476.8 MiB")),
        "{outcome:?}"
    );
    let faster = Scenario {
        bandwidth: 1e10,
        ..on(2)
    };
    assert_eq!(took_ms(&both, faster), 70);
    // Many that need it wait for the one that has it.
    let mut looks = vec![both.tasks[0].clone()];
    looks[0].n_bytes = 50_000_000;
    looks.extend((3..=10).map(|key| task(key, &[1], 200 * MS)));
    let slow = Scenario {
        bandwidth: 1e8,
        ..on(8)
    };
    let outcome = forecast(&recording(looks), slow);
    assert!(
        outcome
            .limits
            .iter()
            .any(|limit| limit.starts_with("transfers: ")),
        "{outcome:?}"
    );
    // A part of it takes a part of that.
    let mut parts = both.clone();
    parts.tasks[2].inputs = vec![(Key(1), 0.1), (Key(2), 0.1)];
    assert_eq!(took_ms(&parts, on(2)), 70);
    let small = Scenario {
        memory: 600_000_000,
        ..on(1)
    };
    let outcome = forecast(&both, small);
    assert!(outcome.spilled_bytes > 600_000_000, "{outcome:?}");
    assert!(
        outcome.limits.iter().any(|limit| limit.starts_with("memory: ")),
        "{outcome:?}"
    );
}

#[test]
fn what_computes_shares_the_cores_and_what_sleeps_does_not() {
    let tasks = |cpu_us: u64| {
        let of = |key| Recorded {
            cpu_us,
            ..task(key, &[], 100 * MS)
        };
        recording((1..=4).map(of).collect())
    };
    let two_cores = Scenario {
        n_cores: Some(2),
        ..on(4)
    };
    assert_eq!(took_ms(&tasks(100 * MS), two_cores), 200);
    assert_eq!(took_ms(&tasks(0), two_cores), 100);
    assert_eq!(took_ms(&tasks(100 * MS), on(4)), 100);
    let half = took_ms(&tasks(50 * MS), two_cores);
    assert_eq!(half, 100, "four halves are two");
    let limits = forecast(&tasks(100 * MS), two_cores).limits;
    assert!(limits[0].contains("processors: 2 cores"), "{limits:?}");
}

#[test]
fn what_was_submitted_after_a_result_comes_after_it_again() {
    let mut later = task(3, &[], 50 * MS);
    // The program thought for 20 ms after the first two were there.
    later.submitted_us = 120 * MS;
    let mut tasks = vec![task(1, &[], 100 * MS), task(2, &[], 100 * MS), later];
    (tasks[0].ended_us, tasks[1].ended_us, tasks[2].ended_us) = (99 * MS, 100 * MS, 171 * MS);
    let waves = recording(tasks);
    assert_eq!(took_ms(&waves, on(2)), 170);
    assert_eq!(took_ms(&waves, on(1)), 270);
}

/// A task of a later wave.
fn later(key: u128, inputs: &[u128], ms: u64, submitted_ms: u64, ended_ms: u64) -> Recorded {
    Recorded {
        submitted_us: submitted_ms * MS,
        ended_us: ended_ms * MS,
        ..task(key, inputs, ms * MS)
    }
}

#[test]
fn what_an_earlier_wave_made_is_there_for_a_later_one() {
    // Two are made; of them the first is used, long after both were there.
    let waves = recording(vec![
        later(1, &[], 10, 0, 10),
        later(2, &[], 20, 0, 20),
        later(3, &[1], 30, 50, 80),
        later(4, &[1, 2], 30, 100, 130),
    ]);
    for n in [1, 2, 8] {
        let outcome = forecast(&waves, on(n));
        assert_eq!(
            (outcome.bars.len(), outcome.n_unplayed),
            (4, 0),
            "{n}: {outcome:?}"
        );
    }
    // On one worker the second ends first, and what came after it needs what came after the first.
    let mut crossed = recording(vec![
        later(1, &[], 10, 0, 10),
        later(2, &[], 20, 0, 20),
        later(3, &[], 50, 15, 65),
        later(4, &[3], 10, 25, 75),
    ]);
    crossed.tasks[1].priority = 0;
    for n in [1, 2, 8] {
        let outcome = forecast(&crossed, on(n));
        assert_eq!(
            (outcome.bars.len(), outcome.n_unplayed),
            (4, 0),
            "{n}: {outcome:?}"
        );
    }
}

#[test]
fn what_would_take_for_ever_is_given_up_and_said() {
    let mut large = task(1, &[], 10 * MS);
    large.n_bytes = 2_000_000_000;
    let mut also = task(2, &[], 10 * MS);
    also.n_bytes = 2_000_000_000;
    let both = recording(vec![large, also, task(3, &[1, 2], 10 * MS)]);
    let began = std::time::Instant::now();
    let crawl = Scenario {
        bandwidth: 1e3,
        ..on(2)
    };
    let outcome = forecast(&both, crawl);
    let is_said = outcome
        .doubts
        .iter()
        .any(|doubt| doubt.contains("could not be played"));
    assert_eq!(outcome.n_unplayed > 0, is_said, "{outcome:?}");
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
    assert_eq!(
        curve(
            &both,
            Scenario {
                n_threads: 500,
                ..on(1)
            }
        )
        .len(),
        2
    );
}

#[test]
fn what_did_not_end_is_left_out_and_said() {
    let mut open = task(2, &[1], 0);
    open.ended_us = 0;
    let some = recording(vec![task(1, &[], 100 * MS), open, task(3, &[99], 10 * MS)]);
    let outcome = forecast(&some, on(1));
    assert_eq!(
        outcome.took_us / MS,
        110,
        "an input that was there before is there"
    );
    assert!(
        outcome
            .doubts
            .iter()
            .any(|doubt| doubt.contains("1 task had not ended")),
        "{outcome:?}"
    );
    assert_eq!(forecast(&recording(Vec::new()), on(1)), Outcome::default());
}

#[test]
fn many_tasks_are_played_in_a_moment() {
    let tasks: Vec<Recorded> = (1..=20_000)
        .map(|key| {
            if key % 3 == 0 {
                task(key, &[key - 1, key - 2], MS)
            } else {
                task(key, &[], MS)
            }
        })
        .collect();
    let many = recording(tasks);
    let began = std::time::Instant::now();
    let outcome = forecast(&many, on(64));
    assert_eq!(outcome.bars.len(), 20_000);
    assert!(outcome.took_us < 420 * MS, "{}", outcome.took_us);
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
}

#[test]
fn random_runs_are_played_to_their_end_wherever() {
    let mut n_waves = 0;
    for seed in 0..400 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (n, spread) = (rng.u128(2..50), [0, 100, 1_000, 5_000][rng.usize(0..4)]);
        let is_in_order = rng.bool();
        let mut at = 0;
        let tasks = (1..=n).map(|key| {
            let mut inputs: Vec<u128> = (0..rng.u128(0..3).min(key - 1))
                .map(|_| rng.u128(1..key))
                .collect();
            inputs.sort_unstable();
            inputs.dedup();
            let duration_us = [0, 10, MS, 20 * MS, 400 * MS][rng.usize(0..5)] + rng.u64(0..50);
            at += rng.u64(0..=spread);
            let n_bytes = [8, 1_000_000, 64_000_000][rng.usize(0..3)];
            Recorded {
                submitted_us: at,
                ended_us: at + rng.u64(1..50 * MS),
                priority: if is_in_order { key as u64 } else { rng.u64(0..9) },
                n_bytes,
                is_inline: n_bytes == 8 && rng.bool(),
                cpu_us: if rng.bool() { duration_us } else { 0 },
                ..task(key, &inputs, duration_us)
            }
        });
        let run = recording(tasks.collect());
        let scenario = Scenario {
            n_workers: 1 << rng.u32(0..7),
            n_threads: rng.u32(1..3),
            memory: 0,
            bandwidth: [1e10, 1e8, 5e6][rng.usize(0..3)],
            n_cores: rng.bool().then_some(2),
        };
        let outcome = forecast(&run, scenario);
        assert_eq!(
            (outcome.n_unplayed, outcome.bars.len()),
            (0, n as usize),
            "{seed}: {scenario:?}"
        );
        let least = outcome
            .critical_us
            .max(outcome.work_us / u64::from(scenario.n_workers * scenario.n_threads));
        assert!(
            outcome.took_us >= least,
            "{seed}: {} is less than {least}",
            outcome.took_us
        );
        n_waves += waves::waves(&run.tasks).len();
    }
    assert!(n_waves > 1_000, "many runs have several waves: {n_waves}");
}
