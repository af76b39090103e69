//! Seeded runs: graphs, failures, limits and crashes from a number. `SKEP_SEED=n` plays one again.

use super::*;
use std::collections::HashSet;
use std::time::Duration;

/// A task of a made-up flow.
#[derive(Clone, Debug)]
struct Planned {
    inputs: Vec<u32>,
    policy: Arc<Policy>,
    /// How many of its attempts fail before one does not.
    n_failing: u32,
    is_cached: bool,
}

fn planned(random: &mut fastrand::Rng) -> Vec<Planned> {
    let n = random.u32(1..40);
    (0..n)
        .map(|no| {
            let inputs: Vec<u32> = (0..random.u32(0..4).min(no)).map(|_| random.u32(0..no)).collect();
            let inputs: BTreeSet<u32> = inputs.into_iter().collect();
            let policy = Policy {
                retries: random.u32(0..3),
                delays: vec![Duration::from_millis(random.u64(0..50))],
                jitter: 0.5,
                cache: random.bool().then_some(crate::policy::Caching { expires: None }),
                limits: ["a", "b"]
                    .iter()
                    .filter(|_| random.u8(0..3) == 0)
                    .map(|tag| ((*tag).to_string(), 2))
                    .collect(),
                ..Policy::default()
            };
            Planned {
                inputs: inputs.into_iter().collect(),
                policy: Arc::new(policy),
                n_failing: [0, 0, 0, 1, 2, 9][random.usize(0..6)],
                is_cached: random.u8(0..4) == 0,
            }
        })
        .collect()
}

/// The journal of a run: what a process that comes later finds.
#[derive(Default, Clone)]
struct Journal {
    states: HashMap<u32, (State, u32)>,
    n_records: usize,
}

struct World {
    plan: Vec<Planned>,
    machine: Machine,
    now: u64,
    running: Vec<(u32, u32, bool)>,
    /// Attempts of all processes, by task.
    launched: HashMap<u32, u32>,
}

const RUN: u32 = 7;

fn id(no: u32) -> TaskId {
    TaskId { run: RUN, no }
}

impl World {
    /// Plays a process until everything has ended, or until so many records were written. Returns whether it lived.
    fn play(&mut self, journal: &mut Journal, dies_after: usize, random: &mut fastrand::Rng) -> bool {
        let mut out = Vec::new();
        let mut dies_in = dies_after;
        let mut n_submitted = 0;
        loop {
            let mut todo: VecDeque<Action> = std::mem::take(&mut out).into();
            let mut next = Vec::new();
            while let Some(action) = todo.pop_front() {
                match action {
                    Action::Record {
                        id, state, attempt, ..
                    } => {
                        if dies_in == 0 {
                            return false;
                        }
                        dies_in -= 1;
                        journal.n_records += 1;
                        let before = journal.states.insert(id.no, (state, attempt));
                        if let Some((before, _)) = before {
                            assert!(
                                !before.is_good(),
                                "{before} of {id:?} was not the end, but {state} came"
                            );
                        }
                    }
                    Action::LookUp(id) => {
                        let is_there = self.plan[id.no as usize].is_cached;
                        self.machine.looked_up(id, is_there, &mut next);
                    }
                    Action::Launch { id, attempt } => {
                        *self.launched.entry(id.no).or_default() += 1;
                        for input in &self.plan[id.no as usize].inputs {
                            let state = self.machine.state(TaskId { no: *input, ..id }).unwrap();
                            assert!(state.is_good(), "{id:?} began although an input is {state}");
                        }
                        self.running.push((id.no, attempt, false));
                    }
                    Action::Stop(id) => self.running.retain(|(no, ..)| *no != id.no),
                }
            }
            for tag in ["a", "b"] {
                let n = self.running.iter().filter(|(no, ..)| {
                    let limits = &self.plan[*no as usize].policy.limits;
                    limits.iter().any(|(name, _)| name == tag)
                });
                assert!(n.count() <= 2, "more than two with the tag {tag}");
            }
            out = next;
            if !out.is_empty() {
                continue;
            }
            let can_submit = n_submitted < self.plan.len() as u32;
            if can_submit && (self.running.is_empty() || random.bool()) {
                let no = n_submitted;
                n_submitted += 1;
                let task = self.plan[no as usize].clone();
                let (state, _) = journal.states.get(&no).copied().unwrap_or((State::Pending, 0));
                let restored = state.is_good().then_some(state);
                let name: Arc<str> = format!("t{no}").into();
                self.machine
                    .submit(id(no), name, task.policy, &task.inputs, restored, &mut out);
            } else if !self.running.is_empty() {
                let at = random.usize(0..self.running.len());
                let (no, attempt, has_started) = self.running[at];
                self.now += random.u64(0..30_000);
                if !has_started && random.bool() {
                    self.running[at].2 = true;
                    self.machine.started(id(no), "worker-1", &mut out);
                    continue;
                }
                self.running.swap_remove(at);
                let task = &self.plan[no as usize];
                let outcome = match (self.launched[&no] > task.n_failing, random.bool()) {
                    (true, _) => Outcome::Done,
                    (false, true) => Outcome::Failed("no".into()),
                    (false, false) => Outcome::Crashed("gone".into()),
                };
                self.machine.ended(id(no), attempt, &outcome, self.now, &mut out);
                // What comes late changes nothing.
                let n = out.len();
                self.machine
                    .ended(id(no), attempt, &Outcome::Done, self.now, &mut out);
                assert_eq!(out.len(), n, "an attempt ended twice");
            } else if let Some(at) = self.machine.next_timer() {
                self.now = self.now.max(at);
                self.machine.tick(self.now, &mut out);
                assert!(!out.is_empty(), "a timer was for nothing");
            } else {
                return true;
            }
        }
    }
}

fn world(plan: &[Planned], seed: u64) -> World {
    World {
        plan: plan.to_vec(),
        machine: Machine::new(seed),
        now: seed,
        running: Vec::new(),
        launched: HashMap::new(),
    }
}

fn seeds() -> Vec<u64> {
    match std::env::var("SKEP_SEED") {
        Ok(seed) => vec![seed.parse().expect("SKEP_SEED is a number")],
        Err(_) => (0..300).collect(),
    }
}

/// Everything ends, and ends as it must: what could run ran, and what stands on a failure did not.
fn check_is_over(plan: &[Planned], machine: &Machine, seed: u64) {
    for (no, task) in plan.iter().enumerate() {
        let state = machine.state(id(no as u32)).unwrap();
        assert!(state.is_final(), "seed {seed}: t{no} is left {state}");
        let inputs_are_good = task
            .inputs
            .iter()
            .all(|no| machine.state(id(*no)).unwrap().is_good());
        let is_cached = task.is_cached && task.policy.cache.is_some();
        match (inputs_are_good, is_cached) {
            (false, _) => assert_eq!(state, State::Cancelled, "seed {seed}: t{no}"),
            (true, true) => assert_eq!(state, State::Cached, "seed {seed}: t{no}"),
            (true, false) => assert_ne!(state, State::Cancelled, "seed {seed}: t{no}"),
        }
    }
    assert!(
        machine.used.values().all(|used| *used == 0),
        "seed {seed}: room is held"
    );
    assert!(
        machine.queues.values().all(VecDeque::is_empty),
        "seed {seed}: somebody waits"
    );
}

#[test]
fn runs_end_as_they_must() {
    for seed in seeds() {
        let mut random = fastrand::Rng::with_seed(seed);
        let plan = planned(&mut random);
        let mut world = world(&plan, seed);
        assert!(world.play(&mut Journal::default(), usize::MAX, &mut random));
        check_is_over(&plan, &world.machine, seed);
        for (no, task) in plan.iter().enumerate() {
            let n = world.launched.get(&(no as u32)).copied().unwrap_or(0);
            let state = world.machine.state(id(no as u32)).unwrap();
            let expected = match state {
                State::Completed => task.n_failing + 1,
                State::Failed | State::Crashed => task.policy.retries + 1,
                _ => 0,
            };
            assert_eq!(n, expected, "seed {seed}: attempts of t{no}, which is {state}");
        }
    }
}

/// The process dies after each record in turn; the next one redoes what had not completed, and nothing else.
#[test]
fn after_a_crash_at_any_transition_only_what_had_not_completed_runs() {
    for seed in seeds().into_iter().take(60) {
        let plan = planned(&mut fastrand::Rng::with_seed(seed));
        let n_records = {
            let mut journal = Journal::default();
            world(&plan, seed).play(&mut journal, usize::MAX, &mut fastrand::Rng::with_seed(seed));
            journal.n_records
        };
        for dies_after in 0..n_records {
            let mut journal = Journal::default();
            let lived =
                world(&plan, seed).play(&mut journal, dies_after, &mut fastrand::Rng::with_seed(seed));
            assert!(!lived, "seed {seed}");
            let completed: HashSet<u32> = journal
                .states
                .iter()
                .filter(|(_, (state, _))| state.is_good())
                .map(|(no, _)| *no)
                .collect();
            let mut second = world(&plan, seed);
            assert!(second.play(&mut journal, usize::MAX, &mut fastrand::Rng::with_seed(seed + 1)));
            check_is_over(&plan, &second.machine, seed);
            for no in &completed {
                assert!(
                    !second.launched.contains_key(no),
                    "seed {seed}, died after {dies_after}: t{no} had completed and ran again"
                );
            }
            for (no, task) in plan.iter().enumerate() {
                let no = no as u32;
                let has_completed = second.machine.state(id(no)) == Some(State::Completed);
                if has_completed && !completed.contains(&no) {
                    assert_eq!(
                        second.launched.get(&no),
                        Some(&(task.n_failing + 1)),
                        "seed {seed}: t{no}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_chain_of_a_hundred_thousand_ends_at_once() {
    let mut machine = Machine::new(0);
    let mut out = Vec::new();
    let policy = Arc::new(Policy::default());
    for no in 0..100_000u32 {
        let inputs: Vec<u32> = no.checked_sub(1).into_iter().collect();
        machine.submit(id(no), "t".into(), policy.clone(), &inputs, None, &mut out);
    }
    machine.ended(id(0), 1, &Outcome::Failed("no".into()), 0, &mut out);
    assert_eq!(machine.state(id(99_999)), Some(State::Cancelled));
    assert_eq!(machine.state(id(0)), Some(State::Failed));
}

#[test]
fn a_cancelled_run_stops_what_runs_and_leaves_others_alone() {
    let mut machine = Machine::new(0);
    let mut out = Vec::new();
    let policy = Arc::new(Policy {
        limits: vec![("db".into(), 1)],
        ..Policy::default()
    });
    let other = TaskId { run: 8, no: 0 };
    machine.submit(id(0), "a".into(), policy.clone(), &[], None, &mut out);
    machine.submit(id(1), "b".into(), policy.clone(), &[0], None, &mut out);
    machine.submit(other, "c".into(), policy, &[], None, &mut out);
    out.clear();
    machine.cancel(RUN, "interrupted", &mut out);
    assert_eq!(
        out.iter()
            .filter(|action| matches!(action, Action::Stop(_)))
            .count(),
        1
    );
    assert!(
        out.iter()
            .any(|action| matches!(action, Action::Launch { id, .. } if *id == other)),
        "the room that the other one waits for is free"
    );
    assert_eq!(machine.state(id(1)), Some(State::Cancelled));
}
