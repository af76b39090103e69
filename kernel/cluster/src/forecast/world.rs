//! The virtual clock, the links, and workers whose tasks take as long as they took.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
};

use serde_bytes::ByteBuf;

use super::{
    Outcome, Played, Scenario,
    waves::{Wave, wanted, waves},
};
use crate::{
    model::{
        cluster::Memory,
        event::Event,
        ids::{ClientId, CodeId, FunctionId, Key, KeyMap, KeySet, WorkerId},
        recording::Recording,
        task::{Arg, CodePlace, Function, Output, Task},
    },
    scheduler::{Comm, NewWorker, Scheduler},
    wire::protocol::{Finished, Ran, ToClient, ToScheduler, ToWorker},
    worker::{memory::TARGET, simulated::Simulated},
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

enum Happening {
    /// The next wave of submissions.
    Submit,
    ToWorker(WorkerId, ToWorker),
    ToScheduler(WorkerId, ToScheduler),
    Fetched(WorkerId, Output),
    /// The running task that ends next does so, unless this is not the newest of its kind.
    Ends(u64),
    Timer,
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

/// A worker, and what is around it.
#[derive(Default)]
struct Worker {
    simulated: Simulated,
    n_running: u32,
    /// Until when its link is taken, and for how long it was.
    link_free_us: u64,
    moving_us: u64,
    peak_bytes: u64,
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
    /// When workers were last said to be alive.
    beat_us: u64,
    timer: Option<u64>,
    hears: Hears,
    workers: BTreeMap<WorkerId, Worker>,
    places: KeyMap<u32>,
    /// Of what can be fetched.
    sizes: KeyMap<u64>,
    /// Those that are still to be submitted, by their places.
    tasks: Vec<Option<Task>>,
    waves: Vec<Wave>,
    next_wave: usize,
    submitted_us: u64,
    is_wave_coming: bool,
    /// What the program holds, and when it ended.
    wanted: KeySet,
    ended: KeyMap<u64>,
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
            && self.timer.is_none_or(|timer| due < timer)
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
        worker.peak_bytes = worker.peak_bytes.max(worker.simulated.machine.bytes().0);
        let reports = worker.simulated.take_reports();
        let fetches = worker.simulated.take_fetches();
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
                && let Some(next) = worker.simulated.next_task()
            {
                worker.n_running += 1;
                begun.push(next);
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
            worker.simulated.ran(Ran {
                key: ran.key,
                attempt: ran.attempt,
                n_bytes: task.n_bytes,
                n_rows: None,
                inline: task.is_inline.then(ByteBuf::new),
                start_us,
                duration_us,
                cpu_us: task.cpu_us,
            });
            touched.push(ran.worker);
        }
        for id in touched {
            self.act(id);
        }
        self.look_ahead();
    }
}

impl<'r> World<'r> {
    /// Before anything was submitted.
    fn new(recording: &'r Recording, scenario: Scenario) -> World<'r> {
        let tasks = recording.tasks.iter().zip(0..);
        let places = tasks
            .filter(|(task, _)| task.ended_us > 0)
            .map(|(task, place)| (task.key, place))
            .collect();
        let waves = waves(&recording.tasks);
        let mut world = World {
            scenario,
            clock: 0,
            heap: BinaryHeap::new(),
            what: HashMap::new(),
            n_sent: 0,
            links: HashMap::new(),
            scheduler: Scheduler::default(),
            scheduler_free_us: 0,
            beat_us: 0,
            timer: None,
            hears: Hears::default(),
            workers: BTreeMap::new(),
            sizes: KeyMap::default(),
            places,
            tasks: Vec::new(),
            wanted: wanted(&recording.tasks, &waves),
            waves,
            ended: KeyMap::default(),
            next_wave: 0,
            submitted_us: 0,
            is_wave_coming: false,
            running: Vec::new(),
            looked_us: 0.0,
            n_looks: 0,
            outcome: Outcome::default(),
            recording,
        };
        world.tasks = tasks_of(recording, &world.places, &mut world.sizes);
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
        world.send(0);
        world
    }

    /// The next wave comes when it is due: in the order in which they came, since a later one may need what an earlier one
    /// makes.
    fn call_next_wave(&mut self) {
        let Some(wave) = self.waves.get(self.next_wave).filter(|_| !self.is_wave_coming) else {
            return;
        };
        let due = match wave.after.filter(|key| self.places.contains_key(key)) {
            None => Some(self.submitted_us + wave.gap_us),
            Some(key) => self.ended.get(&key).map(|at| at + wave.gap_us),
        };
        if let Some(due) = due {
            self.is_wave_coming = true;
            self.at(due, Happening::Submit);
        }
    }

    /// Does what comes next; `false` if nothing does.
    fn step(&mut self) -> bool {
        self.call_next_wave();
        let Some(Reverse((time, number))) = self.heap.pop() else {
            return false;
        };
        let Some(what) = self.what.remove(&number) else {
            return true;
        };
        self.clock = time;
        self.scheduler.set_now(time, &mut self.hears);
        if time >= self.beat_us + BEAT_US {
            self.beat_us = time;
            for id in self.scheduler.worker_ids() {
                self.scheduler
                    .on_heartbeat(id, Memory::default(), &mut self.hears);
            }
        }
        match what {
            Happening::Submit => self.submit(),
            Happening::ToWorker(id, message) => {
                if let Some(worker) = self.workers.get_mut(&id) {
                    worker.simulated.deliver(message);
                    self.act(id);
                }
            }
            Happening::ToScheduler(id, message) => self.hear(id, message),
            Happening::Fetched(id, output) => {
                let n_bytes = self.sizes.get(&output.key()).copied().unwrap_or(0);
                if let Some(worker) = self.workers.get_mut(&id) {
                    worker.simulated.fetched(output, Some(n_bytes));
                    self.act(id);
                }
            }
            Happening::Ends(look) if look == self.n_looks => self.end_tasks(),
            // What was due is done.
            Happening::Timer if self.timer == Some(time) => {
                self.timer = None;
                self.send(0);
            }
            // A newer one has taken its place.
            Happening::Ends(_) | Happening::Timer => {}
        }
        for key in std::mem::take(&mut self.hears.ended) {
            self.ended.entry(key).or_insert(time);
        }
        true
    }

    fn submit(&mut self) {
        let range = self.waves[self.next_wave].tasks.clone();
        let new: Vec<Task> = range.filter_map(|place| self.tasks[place].take()).collect();
        let keys = new.iter().map(|task| task.key);
        let keys: Vec<Key> = keys.filter(|key| self.wanted.contains(key)).collect();
        let n = new.len() as u64;
        self.scheduler.submit(CLIENT, new, &keys, &mut self.hears);
        self.next_wave += 1;
        self.submitted_us = self.clock;
        self.is_wave_coming = false;
        self.send(n / 2);
    }

    fn hear(&mut self, id: WorkerId, message: ToScheduler) {
        let (scheduler, hears) = (&mut self.scheduler, &mut self.hears);
        match message {
            ToScheduler::Done(ran) => scheduler.on_done(id, ran, hears),
            ToScheduler::Missing { key, inputs } => scheduler.on_missing(id, key, &inputs, hears),
            ToScheduler::GivenBack { keys } => scheduler.on_given_back(id, &keys, hears),
            ToScheduler::Acquired { key, is_here } => scheduler.on_acquired(id, key, is_here, hears),
            _ => {}
        }
        self.send(1);
    }

    /// What it came to, with so many tasks that were not played.
    fn outcome(self, n_unplayed: u64) -> Outcome {
        let mut outcome = self.outcome;
        outcome.took_us = self.clock;
        outcome.n_unplayed = n_unplayed;
        let tasks = outcome
            .bars
            .iter()
            .map(|bar| &self.recording.tasks[bar.task as usize]);
        outcome.work_us = tasks.map(|task| task.duration_us).sum();
        for worker in self.workers.values() {
            outcome.moving_us = outcome.moving_us.max(worker.moving_us);
            outcome.peak_bytes = outcome.peak_bytes.max(worker.peak_bytes);
            if self.scenario.memory > 0 {
                let kept = (self.scenario.memory as f64 * TARGET) as u64;
                outcome.spilled_bytes += worker.peak_bytes.saturating_sub(kept);
            }
        }
        outcome
    }
}

pub(super) fn play(recording: &Recording, scenario: Scenario) -> Outcome {
    let mut world = World::new(recording, scenario);
    let n_tasks = world.places.len();
    let most_steps = MOST_STEPS + MOST_STEPS_A_TASK * n_tasks as u64;
    // Each task ends once: no worker dies here, and no value is lost.
    let n_left = |world: &World<'_>| n_tasks.saturating_sub(world.outcome.bars.len()) as u64;
    for _ in 0..most_steps {
        if n_left(&world) == 0 || !world.step() {
            break;
        }
    }
    let n_unplayed = n_left(&world);
    world.outcome(n_unplayed)
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
