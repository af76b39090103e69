//! The virtual clock, the links, and workers whose tasks take as long as they took.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
    sync::Arc,
};

use serde_bytes::ByteBuf;

use super::{Outcome, Played, Scenario};
use crate::{
    model::{
        cluster::Memory,
        event::Event,
        ids::{ClientId, CodeId, FunctionId, Key, KeyMap, KeySet, WorkerId},
        recording::{Recorded, Recording},
        task::{Arg, CodePlace, Function, Output, Task},
    },
    scheduler::{Comm, NewWorker, Scheduler},
    wire::protocol::{Finished, Ran, ToClient, ToScheduler, ToWorker},
    worker::{machine, memory::TARGET},
};

const CLIENT: ClientId = ClientId(1);
const CODE: CodeId = CodeId(1);

/// A message on its way: measured on one machine, over a socket that is awake.
const LINK_US: u64 = 60;
/// What the scheduler does for a task, from its submission to its end: 150,000 tasks a second were measured.
const SCHEDULER_US: u64 = 6;
/// What a fetch takes beside its bytes.
const FETCH_US: u64 = 250;
/// Workers say that they are alive.
const BEAT_US: u64 = 500_000;
/// A run that takes more steps than this, and so many for each task, is given up.
const MOST_STEPS: u64 = 50_000;
const MOST_STEPS_A_TASK: u64 = 200;
/// Tasks that were submitted within such a time of each other were submitted together.
const TOGETHER_US: u64 = 2_000;

enum Happening {
    /// A wave of submissions.
    Submit(usize),
    ToWorker(WorkerId, ToWorker),
    ToScheduler(WorkerId, ToScheduler),
    Fetched(WorkerId, Output),
    /// The running task that ends next does so, unless this is not the newest of its kind.
    Ends(u64),
    Timer,
}

/// Tasks that were submitted together.
struct Wave {
    tasks: std::ops::Range<usize>,
    /// The task after whose end this came, if it came after one.
    after: Option<Key>,
    /// How long after that, or after the wave before.
    gap_us: u64,
}

fn waves(tasks: &[Recorded]) -> Vec<Wave> {
    let mut ends: Vec<(u64, Key)> = tasks
        .iter()
        .filter(|task| task.ended_us > 0)
        .map(|task| (task.ended_us, task.key))
        .collect();
    ends.sort_unstable();
    let mut waves: Vec<Wave> = Vec::new();
    for (at, task) in tasks.iter().enumerate() {
        let last = at.checked_sub(1).map(|before| tasks[before].submitted_us);
        match (waves.last_mut(), last) {
            (Some(wave), Some(last)) if task.submitted_us <= last + TOGETHER_US => wave.tasks.end = at + 1,
            (_, last) => {
                let last = last.unwrap_or(0);
                let n_before = ends.partition_point(|(end, _)| *end <= task.submitted_us);
                let before = n_before
                    .checked_sub(1)
                    .map(|i| ends[i])
                    .filter(|(end, _)| *end > last);
                waves.push(Wave {
                    tasks: at..at + 1,
                    after: before.map(|(_, key)| key),
                    gap_us: task.submitted_us - before.map_or(last, |(end, _)| end),
                });
            }
        }
    }
    waves
}

#[derive(Default)]
struct Hears {
    to_workers: Vec<(WorkerId, ToWorker)>,
    ended: Vec<Key>,
}

impl Comm for Hears {
    fn to_worker(&mut self, worker: WorkerId, message: ToWorker) {
        self.to_workers.push((worker, message));
    }

    fn to_client(&mut self, _: ClientId, message: ToClient) {
        if let ToClient::Finished {
            key,
            how: Finished::Done { .. } | Finished::Failed(_),
        } = message
        {
            self.ended.push(key);
        }
    }

    fn event(&mut self, _: Event) {}
}

/// A worker's machine, and what is around it.
#[derive(Default)]
struct Worker {
    machine: machine::Worker<()>,
    hands: Hands,
    n_running: u32,
    /// Until when its link is taken, and for how long it was.
    link_free_us: u64,
    moving_us: u64,
    peak_bytes: u64,
}

#[derive(Default)]
struct Hands {
    queue: BinaryHeap<Reverse<(u64, Key)>>,
    waiting: KeyMap<u32>,
    fetches: Vec<(String, Output)>,
    reports: Vec<ToScheduler>,
}

impl machine::Comm<()> for Hands {
    fn execute(&mut self, task: Arc<Task>, attempt: u32, _: HashMap<Key, ()>) {
        self.queue.push(Reverse((task.priority, task.key)));
        self.waiting.insert(task.key, attempt);
    }

    fn fetch(&mut self, address: &str, output: Output) {
        self.fetches.push((address.to_string(), output));
    }

    fn report(&mut self, message: ToScheduler) {
        self.reports.push(message);
    }

    fn forget(&mut self, key: Key, attempt: u32) {
        if self.waiting.get(&key) == Some(&attempt) {
            self.waiting.remove(&key);
        }
    }

    fn take_back(&mut self, keys: &[Key], most: usize) -> Vec<Key> {
        let waiting = &mut self.waiting;
        let given = keys.iter().filter(|key| waiting.remove(key).is_some());
        given.take(most).copied().collect()
    }

    fn decode_inline(&mut self, _: &[u8]) {}
}

/// A task on a thread.
struct Running {
    worker: WorkerId,
    key: Key,
    attempt: u32,
    place: u32,
    start_us: f64,
    /// Of its time, without others that want the same processor.
    rest_us: f64,
    /// What part of that the processor works.
    cpu: f64,
}

struct World<'r> {
    recording: &'r Recording,
    scenario: Scenario,
    clock: u64,
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    what: HashMap<u64, Happening>,
    n_sent: u64,
    links: HashMap<(bool, WorkerId), u64>,
    scheduler: Scheduler,
    scheduler_free_us: u64,
    timer: Option<u64>,
    hears: Hears,
    workers: BTreeMap<WorkerId, Worker>,
    places: KeyMap<u32>,
    /// Of what can be fetched.
    sizes: KeyMap<u64>,
    running: Vec<Running>,
    /// When what runs was last looked at.
    looked_us: f64,
    n_looks: u64,
    outcome: Outcome,
}

impl World<'_> {
    fn at(&mut self, time: u64, what: Happening) {
        self.n_sent += 1;
        self.what.insert(self.n_sent, what);
        self.heap.push(Reverse((time.max(self.clock), self.n_sent)));
    }

    fn carry(&mut self, is_up: bool, worker: WorkerId, from_us: u64, what: Happening) {
        let free = self.links.entry((is_up, worker)).or_default();
        let time = (from_us + LINK_US).max(*free);
        *free = time;
        self.at(time, what);
    }

    /// What the scheduler has said goes onto the links, and its timer is set.
    fn send(&mut self, n_tasks: u64) {
        self.scheduler_free_us = self.scheduler_free_us.max(self.clock) + n_tasks * SCHEDULER_US;
        for (worker, message) in std::mem::take(&mut self.hears.to_workers) {
            self.carry(
                false,
                worker,
                self.scheduler_free_us,
                Happening::ToWorker(worker, message),
            );
        }
        if let Some(due) = self.scheduler.next_timer()
            && self.timer.is_none_or(|timer| due < timer || timer < self.clock)
        {
            self.timer = Some(due);
            self.at(due, Happening::Timer);
        }
    }

    /// How much slower the part of tasks goes in which processors work.
    fn slowness(&self) -> f64 {
        let wanted: f64 = self.running.iter().map(|running| running.cpu).sum();
        self.scenario
            .n_cores
            .map_or(1.0, |n| (wanted / f64::from(n.max(1))).max(1.0))
    }

    /// What runs goes on until now.
    fn go_on(&mut self) {
        let passed = self.clock as f64 - self.looked_us;
        let slowness = self.slowness();
        for running in &mut self.running {
            running.rest_us -= passed / (1.0 - running.cpu + running.cpu * slowness);
        }
        self.looked_us = self.clock as f64;
    }

    /// The next end of a task.
    fn look_ahead(&mut self) {
        let slowness = self.slowness();
        let left =
            |running: &Running| running.rest_us.max(0.0) * (1.0 - running.cpu + running.cpu * slowness);
        let Some(next) = self.running.iter().map(left).min_by(f64::total_cmp) else {
            return;
        };
        self.n_looks += 1;
        let (time, look) = (self.clock + next.ceil() as u64, self.n_looks);
        self.at(time, Happening::Ends(look));
    }

    /// What the worker does about what it was told.
    fn act(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        worker.peak_bytes = worker.peak_bytes.max(worker.machine.bytes().0);
        let reports = std::mem::take(&mut worker.hands.reports);
        let fetches = std::mem::take(&mut worker.hands.fetches);
        for message in reports {
            self.carry(true, id, self.clock, Happening::ToScheduler(id, message));
        }
        for (address, output) in fetches {
            let from: Option<WorkerId> = address.parse().ok().map(WorkerId);
            let n_bytes = self.sizes.get(&output.key()).copied().unwrap_or(0);
            self.outcome.moved_bytes += n_bytes;
            let takes = (n_bytes as f64 / self.scenario.bandwidth * 1e6) as u64;
            let busy = |world: &World<'_>, id: WorkerId| {
                world.workers.get(&id).map_or(0, |worker| worker.link_free_us)
            };
            let begins = self
                .clock
                .max(busy(self, id))
                .max(from.map_or(0, |from| busy(self, from)));
            for end in [Some(id), from].into_iter().flatten() {
                if let Some(worker) = self.workers.get_mut(&end) {
                    worker.link_free_us = begins + takes;
                    worker.moving_us += takes;
                }
            }
            self.at(begins + takes + FETCH_US, Happening::Fetched(id, output));
        }
        self.begin_tasks(id);
    }

    fn begin_tasks(&mut self, id: WorkerId) {
        let mut begun = Vec::new();
        if let Some(worker) = self.workers.get_mut(&id) {
            while worker.n_running < self.scenario.n_threads
                && let Some(Reverse((_, key))) = worker.hands.queue.pop()
            {
                if let Some(attempt) = worker.hands.waiting.remove(&key) {
                    worker.n_running += 1;
                    begun.push((key, attempt));
                }
            }
        }
        if begun.is_empty() {
            return;
        }
        self.go_on();
        for (key, attempt) in begun {
            let place = self.places[&key];
            let task = &self.recording.tasks[place as usize];
            self.running.push(Running {
                worker: id,
                key,
                attempt,
                place,
                start_us: self.clock as f64,
                rest_us: task.duration_us as f64,
                cpu: task.cpu_us as f64 / task.duration_us.max(1) as f64,
            });
        }
        self.look_ahead();
    }

    fn end_tasks(&mut self) {
        self.go_on();
        let mut touched = Vec::new();
        let mut at = 0;
        while at < self.running.len() {
            if self.running[at].rest_us > 0.5 {
                at += 1;
                continue;
            }
            let ran = self.running.swap_remove(at);
            let task = &self.recording.tasks[ran.place as usize];
            let start_us = ran.start_us as u64;
            let duration_us = self.clock - start_us;
            self.outcome.bars.push(Played {
                worker: ran.worker.0,
                task: ran.place,
                start_us,
                duration_us,
            });
            let Some(worker) = self.workers.get_mut(&ran.worker) else {
                continue;
            };
            worker.n_running -= 1;
            if worker
                .machine
                .on_finished(ran.key, ran.attempt, Some(((), task.n_bytes)))
            {
                worker.hands.reports.push(ToScheduler::Done(Ran {
                    key: ran.key,
                    attempt: ran.attempt,
                    n_bytes: task.n_bytes,
                    n_rows: None,
                    inline: task.is_inline.then(ByteBuf::new),
                    start_us,
                    duration_us,
                    cpu_us: task.cpu_us,
                }));
            }
            touched.push(ran.worker);
        }
        for id in touched {
            self.act(id);
        }
        self.look_ahead();
    }
}

pub(super) fn play(recording: &Recording, scenario: Scenario) -> Outcome {
    let is_played = |task: &Recorded| task.ended_us > 0;
    let tasks = &recording.tasks;
    let mut places: KeyMap<u32> = KeyMap::default();
    for (place, task) in tasks.iter().enumerate() {
        if is_played(task) {
            places.insert(task.key, place as u32);
        }
    }
    let mut world = World {
        recording,
        scenario,
        clock: 0,
        heap: BinaryHeap::new(),
        what: HashMap::new(),
        n_sent: 0,
        links: HashMap::new(),
        scheduler: Scheduler::default(),
        scheduler_free_us: 0,
        timer: None,
        hears: Hears::default(),
        workers: BTreeMap::new(),
        sizes: KeyMap::default(),
        places,
        running: Vec::new(),
        looked_us: 0.0,
        n_looks: 0,
        outcome: Outcome::default(),
    };
    for (place, name) in recording.functions.iter().enumerate() {
        let function = Function {
            id: FunctionId(place as u64),
            name: name.clone(),
            code: CODE,
            place: CodePlace::Offset(0),
        };
        world.scheduler.add_function(function, &mut world.hears);
    }
    world.scheduler.code_ready(CODE, String::new(), &mut world.hears);
    for id in 1..=scenario.n_workers {
        let new = NewWorker {
            pid: id,
            address: id.to_string(),
            threads: scenario.n_threads,
            memory_limit: scenario.memory,
            ..NewWorker::default()
        };
        world.workers.insert(WorkerId(id), Worker::default());
        world.scheduler.add_worker(WorkerId(id), new, &mut world.hears);
    }
    let mut played = tasks_of(recording, &world.places, &mut world.sizes);
    let waves = waves(tasks);
    let wanted = wanted(tasks, &waves);
    let mut n_left = world.places.len();
    // When those ended that waves come after.
    let mut ended: KeyMap<u64> = KeyMap::default();
    let (mut next_wave, mut submitted_us, mut is_coming) = (0, 0, false);
    let (mut beat_us, mut n_steps) = (0, 0);
    let most_steps = MOST_STEPS + MOST_STEPS_A_TASK * n_left as u64;
    world.send(0);
    while n_left > 0 && n_steps < most_steps {
        n_steps += 1;
        // In the order in which they came: a later one may need what an earlier one makes.
        if !is_coming && let Some(wave) = waves.get(next_wave) {
            let after = wave.after.filter(|key| world.places.contains_key(key));
            let due = match after {
                None => Some(submitted_us + wave.gap_us),
                Some(key) => ended.get(&key).map(|at| at + wave.gap_us),
            };
            if let Some(due) = due {
                is_coming = true;
                world.at(due, Happening::Submit(next_wave));
            }
        }
        let Some(Reverse((time, number))) = world.heap.pop() else {
            break;
        };
        let Some(what) = world.what.remove(&number) else {
            continue;
        };
        world.clock = time;
        world.scheduler.set_now(time, &mut world.hears);
        if time >= beat_us + BEAT_US {
            beat_us = time;
            for id in world.scheduler.worker_ids() {
                world
                    .scheduler
                    .on_heartbeat(id, Memory::default(), &mut world.hears);
            }
        }
        match what {
            Happening::Submit(wave) => {
                let range = waves[wave].tasks.clone();
                let new: Vec<Task> = range.filter_map(|place| played[place].take()).collect();
                let keys: Vec<Key> = new
                    .iter()
                    .map(|task| task.key)
                    .filter(|key| wanted.contains(key))
                    .collect();
                let n = new.len() as u64;
                world.scheduler.submit(CLIENT, new, &keys, &mut world.hears);
                (next_wave, submitted_us, is_coming) = (wave + 1, time, false);
                world.send(n / 2);
            }
            Happening::ToWorker(id, message) => {
                if let Some(Worker { machine, hands, .. }) = world.workers.get_mut(&id) {
                    deliver(machine, hands, message);
                    world.act(id);
                }
            }
            Happening::ToScheduler(id, message) => {
                match message {
                    ToScheduler::Done(ran) => world.scheduler.on_done(id, ran, &mut world.hears),
                    ToScheduler::Missing { key, inputs } => {
                        world.scheduler.on_missing(id, key, &inputs, &mut world.hears);
                    }
                    ToScheduler::GivenBack { keys } => {
                        world.scheduler.on_given_back(id, &keys, &mut world.hears);
                    }
                    ToScheduler::Acquired { key, is_here } => {
                        world.scheduler.on_acquired(id, key, is_here, &mut world.hears);
                    }
                    _ => {}
                }
                world.send(1);
            }
            Happening::Fetched(id, output) => {
                let n_bytes = world.sizes.get(&output.key()).copied().unwrap_or(0);
                if let Some(Worker { machine, hands, .. }) = world.workers.get_mut(&id) {
                    machine.on_fetched(output.key(), Some(((), n_bytes)), hands);
                    world.act(id);
                }
            }
            Happening::Ends(look) => {
                if look == world.n_looks {
                    let before = world.outcome.bars.len();
                    world.end_tasks();
                    n_left = n_left.saturating_sub(world.outcome.bars.len() - before);
                }
            }
            Happening::Timer => {
                world.timer = None;
                world.send(0);
            }
        }
        for key in std::mem::take(&mut world.hears.ended) {
            ended.entry(key).or_insert(time);
        }
    }
    let mut outcome = std::mem::take(&mut world.outcome);
    outcome.took_us = world.clock;
    outcome.n_unplayed = n_left as u64;
    let durations = outcome
        .bars
        .iter()
        .map(|bar| tasks[bar.task as usize].duration_us);
    outcome.work_us = durations.sum();
    for worker in world.workers.values() {
        outcome.moving_us = outcome.moving_us.max(worker.moving_us);
        outcome.peak_bytes = outcome.peak_bytes.max(worker.peak_bytes);
        if scenario.memory > 0 {
            let kept = (scenario.memory as f64 * TARGET) as u64;
            outcome.spilled_bytes += worker.peak_bytes.saturating_sub(kept);
        }
    }
    outcome
}

/// What a program holds: results that nothing needs, those that a later wave needs, and those that one came after.
fn wanted(tasks: &[Recorded], waves: &[Wave]) -> KeySet {
    let mut wave_of: KeyMap<usize> = KeyMap::default();
    for (number, wave) in waves.iter().enumerate() {
        wave_of.extend(tasks[wave.tasks.clone()].iter().map(|task| (task.key, number)));
    }
    let mut wanted: KeySet = tasks.iter().map(|task| task.key).collect();
    for task in tasks {
        for (input, _) in &task.inputs {
            if wave_of.get(input) == wave_of.get(&task.key) {
                wanted.remove(input);
            }
        }
    }
    for task in tasks {
        for (input, _) in &task.inputs {
            if wave_of.get(input) != wave_of.get(&task.key) {
                wanted.insert(*input);
            }
        }
    }
    wanted.extend(waves.iter().filter_map(|wave| wave.after));
    wanted
}

/// The tasks as they are submitted; what was there before the recording needs not be brought.
fn tasks_of(recording: &Recording, places: &KeyMap<u32>, sizes: &mut KeyMap<u64>) -> Vec<Option<Task>> {
    let mut n_parts: KeyMap<u32> = KeyMap::default();
    let mut tasks = Vec::with_capacity(recording.tasks.len());
    for task in &recording.tasks {
        if !places.contains_key(&task.key) {
            tasks.push(None);
            continue;
        }
        sizes.insert(task.key, task.n_bytes);
        let mut args = Vec::with_capacity(task.inputs.len());
        for (input, share) in &task.inputs {
            let Some(place) = places.get(input) else {
                continue;
            };
            if *share >= 1.0 {
                args.push(Arg::Task(*input));
                continue;
            }
            let part = n_parts.entry(*input).or_default();
            let output = Output {
                task: *input,
                part: Some(*part),
            };
            let n_bytes = recording.tasks[*place as usize].n_bytes as f64 * f64::from(*share);
            sizes.insert(output.key(), n_bytes as u64);
            args.push(Arg::Part {
                task: *input,
                part: *part,
                of: (1.0 / share).round().max(1.0) as u32,
            });
            *part += 1;
        }
        tasks.push(Some(Task {
            key: task.key,
            function: FunctionId(u64::from(task.function)),
            args,
            priority: task.priority,
            origin: 0,
            options: None,
        }));
    }
    tasks
}

fn deliver(machine: &mut machine::Worker<()>, hands: &mut Hands, message: ToWorker) {
    match message {
        ToWorker::Compute(assignment) => machine.compute(assignment, hands),
        ToWorker::Free { keys } => machine.free(&keys),
        ToWorker::Cancel { keys } => machine.cancel(&keys, hands),
        ToWorker::GiveBack { keys, most } => machine.give_back(&keys, most as usize, hands),
        ToWorker::Acquire { key, source } => machine.acquire(key, source, hands),
        ToWorker::Welcome { .. } | ToWorker::Function { .. } | ToWorker::Timed(_) | ToWorker::Exit => {}
    }
}
