//! Which task goes next, and to which worker.
//!
//! Tasks wait here rather than on workers, which hold a few milliseconds of work each: so that the most
//! urgent one goes first, that reductions run before more is loaded, and that memory stays flat.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    sync::Arc,
};

use skep_render::Message;

use super::{Comm, MOST_AHEAD, Record, Scheduler, State, Timer, UNKNOWN_DURATION_US, Worker};
use crate::{
    model::{
        error::{TaskError, TaskErrorKind},
        event::{Event, Reason},
        ids::{Key, WorkerId},
        task::{Resource, Task, TaskOptions},
    },
    wire::protocol::{Assignment, Input, ToWorker},
};

/// What moving an input costs beside its bytes: a round trip to its holder.
const FETCH_US: u64 = 200;
/// What moving a byte costs, for choosing a worker: 1 GB/s.
const BYTES_PER_US: u64 = 1_000;
/// A task waits for the worker that holds its inputs if that is sooner by this much.
const WORTH_WAITING_US: u64 = 1_000;
/// Of an input's many holders, so many are looked at.
const MOST_HOLDERS: usize = 16;

/// Where a task may run. Those of a kind wait in a queue of their own, so that what cannot go holds up
/// nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Demand {
    /// A worker died under it: it gets an idle one to itself.
    is_alone: bool,
    workers: Vec<WorkerId>,
    resources: Vec<Resource>,
}

type Entry = (u64, Key);

/// Tasks by urgency. Most come in the order in which they are to go, and those never see the heap, whose
/// levels are as many cache misses: a million tasks cost 4.6 µs each with a heap alone, 4.2 with this.
#[derive(Default)]
struct Line {
    in_order: VecDeque<Entry>,
    others: BinaryHeap<Reverse<Entry>>,
}

impl Line {
    fn push(&mut self, entry: Entry) {
        if self.in_order.back().is_none_or(|last| *last <= entry) {
            self.in_order.push_back(entry);
        } else {
            self.others.push(Reverse(entry));
        }
    }

    fn pop(&mut self) -> Option<Entry> {
        match (self.in_order.front(), self.others.peek()) {
            (Some(first), Some(Reverse(other))) if other < first => {
                self.others.pop().map(|Reverse(entry)| entry)
            }
            (Some(_), _) => self.in_order.pop_front(),
            (None, _) => self.others.pop().map(|Reverse(entry)| entry),
        }
    }

    /// Puts the first one back.
    fn unpop(&mut self, entry: Entry) {
        if self.in_order.front().is_none_or(|first| entry <= *first) {
            self.in_order.push_front(entry);
        } else {
            self.others.push(Reverse(entry));
        }
    }

    fn len(&self) -> usize {
        self.in_order.len() + self.others.len()
    }
}

/// Tasks that are ready, the most urgent first.
#[derive(Default)]
pub(super) struct Queue {
    plain: Line,
    others: HashMap<Demand, Line>,
}

impl Demand {
    fn of(task: &Task, is_alone: bool) -> Option<Demand> {
        let none = TaskOptions::default();
        let options = task.options.as_deref().unwrap_or(&none);
        (is_alone || !options.workers.is_empty() || !options.resources.is_empty()).then(|| Demand {
            is_alone,
            workers: options.workers.clone(),
            resources: options.resources.clone(),
        })
    }
}

impl Queue {
    pub fn push(&mut self, task: &Task, is_alone: bool) {
        let entry = (task.priority, task.key);
        match Demand::of(task, is_alone) {
            None => self.plain.push(entry),
            Some(demand) => self.others.entry(demand).or_default().push(entry),
        }
    }

    pub fn shrink(&mut self) {
        self.plain.in_order.shrink_to_fit();
        self.plain.others.shrink_to_fit();
    }

    pub fn len(&self) -> usize {
        self.plain.len() + self.others.values().map(Line::len).sum::<usize>()
    }

    /// Nothing waits that any worker could take.
    pub fn is_plain_empty(&self) -> bool {
        self.plain.len() == 0
    }
}

impl Scheduler {
    /// Hands queued tasks to workers with room.
    pub(super) fn dispatch(&mut self, comm: &mut impl Comm) {
        if self.is_closed && self.workers.is_empty() {
            return self.fail_all(comm);
        }
        if !self.queue.others.is_empty() {
            self.dispatch_others(comm);
        }
        while !self.room.is_empty() {
            let Some((priority, key)) = self.queue.plain.pop() else {
                break;
            };
            let Some(record) = self.tasks.get(&key).filter(|record| record.state == State::Ready) else {
                continue;
            };
            let Some((worker, why)) = self.choose(record) else {
                self.queue.plain.unpop((priority, key));
                break;
            };
            self.assign(key, worker, why, comm);
        }
        self.steal(comm);
    }

    /// No worker will come: whatever waits for one hears so.
    pub fn close(&mut self, comm: &mut impl Comm) {
        self.is_closed = true;
        self.end_coordination(comm);
        self.dispatch(comm);
    }

    /// Workers are coming.
    pub fn open(&mut self) {
        self.is_closed = false;
    }

    fn fail_all(&mut self, comm: &mut impl Comm) {
        self.without_code.clear();
        self.queue = Queue::default();
        let of = |state: &dyn Fn(&State) -> bool| -> Vec<Key> {
            let open = self.tasks.iter().filter(|(_, record)| state(&record.state));
            open.map(|(key, _)| *key).collect()
        };
        // Those that could run first: what needs them then names them.
        let mut open = of(&|state| *state == State::Ready);
        open.extend(of(&|state| matches!(state, State::Waiting { .. })));
        for key in open {
            let message = Message::new("the cluster was shut down")
                .hint("`Cluster::local().start()?` starts one; submit it again then");
            let error = TaskError {
                function: self.name_of(key),
                ..TaskError::new(TaskErrorKind::Cancelled, message)
            };
            self.fail(key, Arc::new(error), comm);
        }
    }

    /// Those with demands first, each kind until one of it does not fit: they have fewer places to go.
    fn dispatch_others(&mut self, comm: &mut impl Comm) {
        for (demand, mut line) in std::mem::take(&mut self.queue.others) {
            while let Some((priority, key)) = line.pop() {
                if self
                    .tasks
                    .get(&key)
                    .is_none_or(|record| record.state != State::Ready)
                {
                    continue;
                }
                if let Some(why) = self.why_never(&demand) {
                    let error = TaskError {
                        function: self.name_of(key),
                        ..TaskError::new(TaskErrorKind::Code, why)
                    };
                    self.fail(key, Arc::new(error), comm);
                    continue;
                }
                let Some((worker, why)) = self.choose_for(&self.tasks[&key], &demand) else {
                    line.unpop((priority, key));
                    break;
                };
                self.assign(key, worker, why, comm);
            }
            // A failure may have made more of this kind ready meanwhile.
            if line.len() > 0 {
                let now = self.queue.others.entry(demand).or_default();
                let new = std::mem::replace(now, line);
                new.in_order
                    .into_iter()
                    .chain(new.others.into_iter().map(|Reverse(entry)| entry))
                    .for_each(|entry| now.push(entry));
            }
        }
    }

    /// Why no worker that is here can ever take a task with this demand.
    fn why_never(&self, demand: &Demand) -> Option<Message> {
        if self.workers.is_empty() {
            return None;
        }
        if !demand.workers.is_empty() && !demand.workers.iter().any(|id| self.workers.contains_key(id)) {
            return Some(
                Message::new("none of the workers that it may run on is there")
                    .hint("`:workers` lists those that are"),
            );
        }
        let has_all = |worker: &Worker| {
            demand
                .resources
                .iter()
                .all(|wanted| amount(&worker.new.resources, &wanted.name) >= wanted.amount)
        };
        if self.workers.values().any(has_all) {
            return None;
        }
        let wanted: Vec<String> = demand
            .resources
            .iter()
            .map(|wanted| format!("{} = {}", wanted.name, wanted.amount))
            .collect();
        let example = demand.resources.first()?;
        Some(
            Message::new(format!("no worker has {}", wanted.join(" and "))).hint(format!(
                "workers get resources when the cluster starts: `Cluster::local().resource(\"{}\", {})`",
                example.name, example.amount
            )),
        )
    }

    /// What it takes to bring a task's inputs to a worker, in microseconds.
    pub(super) fn to_move(&self, record: &Record, id: WorkerId) -> u64 {
        let cost = |(i, input): (usize, &Key)| {
            let input = self.tasks.get(input)?;
            let is_elsewhere = input.inline.is_none()
                && !matches!(&input.state, State::Done { holders } if holders.contains(&id));
            is_elsewhere.then(|| record.share(i, input.n_bytes) / BYTES_PER_US + FETCH_US)
        };
        record.inputs.iter().enumerate().filter_map(cost).sum()
    }

    /// Near the inputs, then least loaded: the least busy of all workers, and those that hold inputs, are
    /// compared.
    fn choose(&self, record: &Record) -> Option<(WorkerId, Reason)> {
        let (load_us, _, free) = *self.room.first()?;
        let is_only = self.room.len() == 1;
        let why = if is_only {
            Reason::OnlyOne
        } else {
            Reason::LeastBusy
        };
        if record.inputs.is_empty() {
            return Some((free, why));
        }
        let moving = self.to_move(record, free);
        if moving == 0 {
            return Some((
                free,
                if self.room.len() > 1 && self.holds_inputs(record) {
                    Reason::Inputs
                } else {
                    why
                },
            ));
        }
        let mut best = (load_us + moving, free, why);
        for input in &record.inputs {
            let Some(State::Done { holders }) = self.tasks.get(input).map(|input| &input.state) else {
                continue;
            };
            for id in holders.iter().take(MOST_HOLDERS).filter(|id| **id != free) {
                let Some(worker) = self.workers.get(id).filter(|worker| worker.may_begin()) else {
                    continue;
                };
                let cost = worker.load_us / worker.threads() as u64 + self.to_move(record, *id);
                // To wait for a worker that is full must be worth it; what was taken from it does not go
                // back.
                let full = if record.is_stolen || worker.assigned.len() >= MOST_AHEAD {
                    continue;
                } else {
                    WORTH_WAITING_US
                };
                let cost = if worker.has_room() { cost } else { cost + full };
                if cost < best.0 {
                    best = (cost, *id, Reason::Inputs);
                }
            }
        }
        Some((best.1, best.2))
    }

    fn holds_inputs(&self, record: &Record) -> bool {
        record
            .inputs
            .iter()
            .any(|input| self.tasks.get(input).is_some_and(|input| input.inline.is_none()))
    }

    fn choose_for(&self, record: &Record, demand: &Demand) -> Option<(WorkerId, Reason)> {
        let fits = |id: &WorkerId, worker: &Worker| {
            let sets_it_up = worker.set_up == Some((record.task.key, true));
            let has_room = if sets_it_up {
                true
            } else if demand.is_alone {
                worker.has_only_seceded() && worker.may_begin()
            } else {
                worker.has_room()
            };
            let has_all = demand
                .resources
                .iter()
                .all(|wanted| amount(&worker.free, &wanted.name) >= wanted.amount);
            has_room && has_all && (demand.workers.is_empty() || demand.workers.contains(id))
        };
        let candidates = self.workers.iter().filter(|(id, worker)| fits(id, worker));
        let best = candidates.min_by_key(|(id, worker)| {
            (
                worker.load_us / worker.threads() as u64 + self.to_move(record, **id),
                worker.assigned.len(),
            )
        })?;
        let why = match demand {
            Demand { is_alone: true, .. } => Reason::Alone,
            Demand { workers, .. } if !workers.is_empty() => Reason::Pinned,
            _ => Reason::Resources,
        };
        Some((*best.0, why))
    }

    fn assign(&mut self, key: Key, id: WorkerId, why: Reason, comm: &mut impl Comm) {
        let record = &self.tasks[&key];
        let task = record.task.clone();
        let Some(function) = self.functions.get(&task.function) else {
            let message = "its function was never sent".to_string();
            let error = TaskError::new(TaskErrorKind::Code, message);
            return self.fail(key, Arc::new(error), comm);
        };
        let is_suspect = record.deaths > 0;
        let mut inputs = Vec::new();
        let (mut moved_bytes, mut moves) = (0, Vec::<(WorkerId, u64)>::new());
        for (i, input) in record.inputs.iter().enumerate() {
            let Some((source, n_bytes)) = self.source_of(*input, id) else {
                continue;
            };
            let n_bytes = record.share(i, n_bytes);
            moved_bytes += n_bytes;
            if let Input::At { worker: from, .. } = &source
                && n_bytes > 0
            {
                match moves.iter_mut().find(|(known, _)| known == from) {
                    Some((_, so_far)) => *so_far += n_bytes,
                    None => moves.push((*from, n_bytes)),
                }
            }
            inputs.push((*input, source));
        }
        let guess_us = self
            .durations
            .get(&task.function)
            .copied()
            .unwrap_or(UNKNOWN_DURATION_US);
        let library = self
            .code
            .get(&function.code)
            .cloned()
            .flatten()
            .unwrap_or_default();
        let worker = self
            .workers
            .get_mut(&id)
            .expect("invariant: chosen among the workers");
        if worker.functions.insert(task.function) {
            comm.to_worker(
                id,
                ToWorker::Function {
                    function: function.clone(),
                    library,
                },
            );
        }
        worker.assigned.insert(key, guess_us);
        worker.load_us += guess_us;
        worker.is_quarantined = is_suspect;
        worker.n_kept = 0;
        if let Some(options) = &task.options {
            take(&mut worker.free, &options.resources);
        }
        self.touch(id);
        let timeout_us = task.options.as_ref().map_or(0, |options| options.timeout_us);
        let mut attempt = 0;
        if let Some(record) = self.tasks.get_mut(&key) {
            record.state = State::Assigned(id);
            record.n_attempts += 1;
            attempt = record.n_attempts;
            if timeout_us > 0 {
                self.timers.insert((
                    self.now_us + timeout_us,
                    key,
                    Timer::Timeout {
                        attempt: record.n_attempts,
                    },
                ));
            }
        }
        comm.event(Event::Assigned {
            key,
            worker: id,
            why,
            moved_bytes,
        });
        for (from, n_bytes) in moves {
            comm.event(Event::Moved {
                key,
                from,
                to: id,
                n_bytes,
            });
        }
        comm.to_worker(
            id,
            ToWorker::Compute(Assignment {
                task,
                attempt,
                inputs,
            }),
        );
    }

    /// Where a worker gets an input from, and how many bytes have to move; `None` if it has it.
    pub(super) fn source_of(&self, input: Key, id: WorkerId) -> Option<(Input, u64)> {
        let from = self.tasks.get(&input)?;
        let State::Done { holders } = &from.state else {
            return None;
        };
        if holders.contains(&id) {
            return None;
        }
        if let Some(bytes) = &from.inline {
            return Some((Input::Inline(bytes.clone()), 0));
        }
        // Many fetch the same value: each asks another of its holders.
        let start = id.0 as usize % holders.len().max(1);
        let holder = holders[start..]
            .iter()
            .chain(&holders[..start])
            .find(|holder| self.workers.contains_key(holder))?;
        let address = self.workers[holder].new.address.clone();
        Some((
            Input::At {
                worker: *holder,
                address,
                n_bytes: from.n_bytes,
            },
            from.n_bytes,
        ))
    }
}

fn amount(resources: &[Resource], name: &str) -> u32 {
    resources
        .iter()
        .find(|resource| resource.name == name)
        .map_or(0, |resource| resource.amount)
}

fn take(free: &mut [Resource], wanted: &[Resource]) {
    for wanted in wanted {
        if let Some(free) = free.iter_mut().find(|free| free.name == wanted.name) {
            free.amount = free.amount.saturating_sub(wanted.amount);
        }
    }
}

pub(super) fn give_back(free: &mut [Resource], wanted: &[Resource]) {
    for wanted in wanted {
        if let Some(free) = free.iter_mut().find(|free| free.name == wanted.name) {
            free.amount += wanted.amount;
        }
    }
}
