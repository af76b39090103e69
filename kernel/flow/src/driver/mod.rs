//! What runs the tasks of flows: one thread, which feeds the state machine and does what it says.
//!
//! A turn takes all that has come, lets the machine decide, writes what is to be noted as one transaction, and only then
//! lets others see it and launches what is next: what anybody has seen is in the journal. A store that cannot be written
//! holds up no run: what is to be written waits, is tried again, and the run says so.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Condvar, LazyLock, Mutex, PoisonError},
    task::Wake,
    thread,
    time::{Duration, Instant},
};

use skep_cluster::{Cluster, Error, Event, Key, Listening};

mod calls;

use crate::{
    live::{Drive, Entry, Live, Now},
    machine::{Action, Machine, TaskId},
    state::State,
    store::{Record, now_us},
};

/// How long the end of a run waits for what its tasks printed.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// A store that could not be written is tried again after this time.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// What the driver is told.
pub(crate) enum Message {
    /// A task was called. `record` makes it known; `restored` is its state if its value is there from before.
    Submit {
        entry: Arc<Entry>,
        record: Option<Record>,
        restored: Option<State>,
    },
    /// Its call may have ended.
    Woken {
        id: TaskId,
        attempt: u32,
    },
    /// Its call could not be begun.
    NotBegun {
        id: TaskId,
        attempt: u32,
        error: Error,
    },
    Happened(Vec<Event>),
    /// Nobody can ask for its value any more.
    Dropped(TaskId),
    Cancel {
        run: u32,
        reason: String,
    },
    /// The function of a run has returned, and it ends so. Says when everything about its tasks is written.
    Over {
        run: Arc<Live>,
        end: Record,
        done: Arc<Done>,
    },
}

/// Somebody waits for the driver.
#[derive(Default)]
pub(crate) struct Done {
    is_so: Mutex<bool>,
    changed: Condvar,
}

impl Done {
    pub fn set(&self) {
        *self.is_so.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Waits for so long; whether it is done.
    pub fn wait_for(&self, limit: Duration) -> bool {
        let is_so = self.is_so.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(is_so, limit, |is_so| !*is_so);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    pub fn wait(&self) {
        let mut is_so = self.is_so.lock().unwrap_or_else(PoisonError::into_inner);
        while !*is_so {
            is_so = self.changed.wait(is_so).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[derive(Default)]
struct Inbox {
    messages: Mutex<Vec<Message>>,
    changed: Condvar,
}

static INBOX: LazyLock<Arc<Inbox>> = LazyLock::new(|| {
    let inbox = Arc::new(Inbox::default());
    let own = inbox.clone();
    let started = thread::Builder::new()
        .name("flows".into())
        .spawn(move || Driver::new().run(&own));
    if let Err(error) = started {
        // Every wait of a flow would be for ever.
        panic!("the thread that runs flows could not be started: {error}");
    }
    inbox
});

pub(crate) fn send(message: Message) {
    let mut messages = INBOX.messages.lock().unwrap_or_else(PoisonError::into_inner);
    messages.push(message);
    if messages.len() == 1 {
        INBOX.changed.notify_one();
    }
}

/// The driver, as those know it who call tasks.
pub(crate) struct Driven;

impl Drive for Driven {
    fn submit(&self, entry: Arc<Entry>, record: Option<Record>, restored: Option<State>) {
        send(Message::Submit {
            entry,
            record,
            restored,
        });
    }

    fn cancel(&self, run: u32, reason: String) {
        send(Message::Cancel { run, reason });
    }

    fn let_go(&self, id: TaskId) {
        send(Message::Dropped(id));
    }
}

/// Wakes the driver when a call has ended.
struct Woken {
    id: TaskId,
    attempt: u32,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        send(Message::Woken {
            id: self.id,
            attempt: self.attempt,
        });
    }
}

struct Driver {
    machine: Machine,
    entries: HashMap<TaskId, Arc<Entry>>,
    /// Calls that run, by the keys that events name.
    by_key: HashMap<Key, TaskId>,
    /// Whose events are heard; one for each cluster, with the runs that use it.
    heard: Vec<Heard>,
    /// What could not be written yet, by run.
    unwritten: Vec<(Arc<Live>, Vec<Record>)>,
    try_again_at: Option<Instant>,
    over: Vec<Over>,
    /// The zero of the machine's clock.
    began: Instant,
}

struct Heard {
    cluster: Cluster,
    runs: Vec<u32>,
    _listening: Option<Listening>,
}

struct Over {
    run: Arc<Live>,
    end: Record,
    done: Arc<Done>,
    until: Instant,
}

/// What a turn comes to, in order.
#[derive(Default)]
struct Turn {
    actions: VecDeque<Action>,
    records: Vec<(Arc<Live>, Record)>,
    seen: Vec<(TaskId, State, String, u32)>,
    launches: Vec<(TaskId, u32)>,
    stops: Vec<TaskId>,
}

impl Driver {
    fn new() -> Driver {
        Driver {
            machine: Machine::new(now_us()),
            entries: HashMap::new(),
            by_key: HashMap::new(),
            heard: Vec::new(),
            unwritten: Vec::new(),
            try_again_at: None,
            over: Vec::new(),
            began: Instant::now(),
        }
    }

    fn run(mut self, inbox: &Inbox) {
        loop {
            let messages = self.next(inbox);
            let mut turn = Turn::default();
            for message in messages {
                self.on_message(message, &mut turn);
            }
            let now = self.now();
            self.step(&mut turn, |machine, out| machine.tick(now, out));
            self.finish(turn);
            self.end_runs();
        }
    }

    /// Microseconds of a clock that nobody sets.
    fn now(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    fn next(&self, inbox: &Inbox) -> Vec<Message> {
        let timer = self
            .machine
            .next_timer()
            .map(|at| self.began + Duration::from_micros(at));
        let over = self.over.iter().map(|over| over.until).min();
        let until = [timer, over, self.try_again_at].into_iter().flatten().min();
        let mut messages = inbox.messages.lock().unwrap_or_else(PoisonError::into_inner);
        while messages.is_empty() {
            messages = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => inbox
                    .changed
                    .wait(messages)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => break,
                Some(left) => {
                    let waited = inbox.changed.wait_timeout(messages, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        std::mem::take(&mut *messages)
    }

    fn on_message(&mut self, message: Message, turn: &mut Turn) {
        match message {
            Message::Submit {
                entry,
                record,
                restored,
            } => self.on_submit(&entry, record, restored, turn),
            Message::Woken { id, attempt } => self.on_woken(id, attempt, turn),
            Message::NotBegun { id, attempt, error } => self.on_failed(id, attempt, error, turn),
            Message::Happened(events) => events.iter().for_each(|event| self.on_event(event, turn)),
            Message::Dropped(id) => {
                if let Some(entry) = self.entries.get(&id) {
                    let mut now = entry.now();
                    now.is_dropped = true;
                    let value = let_go(&mut now);
                    drop(now);
                    drop(value);
                }
            }
            Message::Cancel { run, reason } => {
                self.step(turn, |machine, out| machine.cancel(run, &reason, out));
            }
            Message::Over { run, end, done } => self.over.push(Over {
                run,
                end,
                done,
                until: Instant::now() + LAST_WORDS,
            }),
        }
    }

    fn on_submit(
        &mut self,
        entry: &Arc<Entry>,
        record: Option<Record>,
        restored: Option<State>,
        turn: &mut Turn,
    ) {
        let id = entry.id;
        self.entries.insert(id, entry.clone());
        self.hear(&entry.run);
        turn.records
            .extend(record.map(|record| (entry.run.clone(), record)));
        self.step(turn, |machine, out| {
            let (name, policy) = (entry.name.clone(), entry.policy.clone());
            machine.submit(id, name, policy, &entry.inputs, restored, out);
        });
    }

    fn hear(&mut self, run: &Arc<Live>) {
        if self.heard.iter().any(|heard| heard.runs.contains(&run.no)) {
            return;
        }
        let Ok(cluster) = run.cluster() else { return };
        if let Some(heard) = self
            .heard
            .iter_mut()
            .find(|heard| heard.cluster.is_same(&cluster))
        {
            return heard.runs.push(run.no);
        }
        let listening = cluster.listen(|events| {
            let concerns_us = |event: &&Event| {
                matches!(
                    event,
                    Event::Assigned { .. }
                        | Event::Printed { key: Some(_), .. }
                        | Event::Done { .. }
                        | Event::Failed { .. }
                        | Event::Cancelled { .. }
                )
            };
            let ours: Vec<Event> = events.iter().filter(concerns_us).cloned().collect();
            if !ours.is_empty() {
                send(Message::Happened(ours));
            }
        });
        self.heard.push(Heard {
            cluster,
            runs: vec![run.no],
            // Without it, states and prints come late; everything else is as it is.
            _listening: listening.ok(),
        });
    }

    fn on_event(&mut self, event: &Event, turn: &mut Turn) {
        match event {
            Event::Assigned { key, worker, .. } => {
                let Some(id) = self.by_key.get(key).copied() else {
                    return;
                };
                let worker = worker.to_string();
                self.step(turn, |machine, out| machine.started(id, &worker, out));
            }
            Event::Printed {
                key: Some(key),
                worker,
                is_stderr,
                text,
            } => {
                let Some(entry) = self.by_key.get(key).and_then(|id| self.entries.get(id)) else {
                    return;
                };
                let log = Record::Log {
                    run: entry.run.id.clone(),
                    no: entry.id.no,
                    worker: worker.to_string(),
                    is_stderr: *is_stderr,
                    text: text.trim_end_matches('\n').to_string(),
                    at_us: now_us(),
                };
                turn.records.push((entry.run.clone(), log));
            }
            // The last that is told of a call: nothing that it printed comes after it.
            Event::Done { key, .. } | Event::Failed { key, .. } | Event::Cancelled { key } => {
                let Some(entry) = self.by_key.get(key).and_then(|id| self.entries.get(id)) else {
                    return;
                };
                entry.now().is_told = true;
                let state = self.machine.state(entry.id);
                if let Event::Done {
                    start_us,
                    duration_us,
                    ..
                } = event
                {
                    let ran = (*start_us, start_us + duration_us);
                    entry.now().ran = Some(ran);
                    if state == Some(State::Completed) {
                        note_ran(entry, ran, turn);
                    }
                }
                if state.is_none_or(State::is_final) {
                    self.by_key.remove(key);
                }
            }
            _ => {}
        }
    }

    /// Lets the machine decide, and does at once what it must know the answer of.
    fn step(&mut self, turn: &mut Turn, decide: impl FnOnce(&mut Machine, &mut Vec<Action>)) {
        let mut out = Vec::new();
        decide(&mut self.machine, &mut out);
        turn.actions.extend(out);
        while let Some(action) = turn.actions.pop_front() {
            match action {
                Action::Record {
                    id,
                    state,
                    reason,
                    attempt,
                } => {
                    let Some(entry) = self.entries.get(&id) else {
                        continue;
                    };
                    let record = Record::TaskState {
                        run: entry.run.id.clone(),
                        no: id.no,
                        state,
                        reason: reason.clone(),
                        attempt,
                        at_us: now_us(),
                    };
                    turn.records.push((entry.run.clone(), record));
                    // What the cluster tells of a call may come before its end is heard of.
                    if state.is_final() && entry.now().is_told {
                        self.by_key.remove(&entry.key);
                    }
                    turn.seen.push((id, state, reason, attempt));
                }
                Action::LookUp(id) => {
                    let is_there = self.look_up(id, turn);
                    let mut out = Vec::new();
                    self.machine.looked_up(id, is_there, &mut out);
                    for action in out.into_iter().rev() {
                        turn.actions.push_front(action);
                    }
                }
                Action::Launch { id, attempt } => turn.launches.push((id, attempt)),
                Action::Stop(id) => {
                    // Nobody waits for what it still has to say.
                    if let Some(entry) = self.entries.get(&id) {
                        self.by_key.remove(&entry.key);
                    }
                    turn.stops.push(id);
                }
            }
        }
    }

    /// Writes, shows, launches: in this order.
    fn finish(&mut self, turn: Turn) {
        for (run, record) in turn.records {
            self.add(run, record);
        }
        self.write();
        let mut changed: Vec<Arc<Live>> = Vec::new();
        for (id, state, reason, attempt) in turn.seen {
            let Some(entry) = self.entries.get(&id) else {
                continue;
            };
            show(entry, state, reason, attempt);
            if !changed.iter().any(|run| run.no == id.run) {
                changed.push(entry.run.clone());
            }
        }
        for id in turn.stops {
            let started = self
                .entries
                .get(&id)
                .and_then(|entry| entry.now().started.clone());
            if let Some(started) = started {
                // If nobody is there to stop it, it has ended.
                let _ = started.cancel();
            }
        }
        self.launch(turn.launches);
        changed.iter().for_each(|run| run.on_change());
    }

    fn add(&mut self, run: Arc<Live>, record: Record) {
        match self.unwritten.iter_mut().find(|(known, _)| known.no == run.no) {
            Some((_, records)) => records.push(record),
            None => self.unwritten.push((run, vec![record])),
        }
    }

    fn write(&mut self) {
        if self.try_again_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        self.try_again_at = None;
        for (run, mut records) in std::mem::take(&mut self.unwritten) {
            match run.store.write(&records) {
                Ok(()) => run.set_trouble(None),
                Err(error) => {
                    run.set_trouble(Some(error.message().what));
                    self.try_again_at = Some(Instant::now() + TRY_AGAIN);
                    records.shrink_to_fit();
                    self.unwritten.push((run, records));
                }
            }
        }
    }

    /// Runs whose functions have returned end when everything about their tasks is told and written.
    fn end_runs(&mut self) {
        if self.over.is_empty() {
            return;
        }
        let (now, mut ended) = (Instant::now(), Vec::new());
        for over in std::mem::take(&mut self.over) {
            let no = over.run.no;
            let has_more_to_say = self.by_key.values().any(|id| id.run == no);
            if has_more_to_say && now < over.until {
                self.over.push(over);
                continue;
            }
            self.machine.forget(no);
            over.run.store.note_end(&over.end);
            self.add(over.run.clone(), over.end);
            self.by_key.retain(|_, id| id.run != no);
            self.entries.retain(|id, _| id.run != no);
            for heard in &mut self.heard {
                heard.runs.retain(|run| *run != no);
            }
            self.heard.retain(|heard| !heard.runs.is_empty());
            ended.push(over.done);
        }
        self.write();
        ended.iter().for_each(|done| done.set());
    }
}

/// Its worker had it from then to then.
fn note_ran(entry: &Arc<Entry>, (from_us, to_us): (u64, u64), turn: &mut Turn) {
    entry.now().ran = Some((from_us, to_us));
    let (run, no) = (entry.run.id.clone(), entry.id.no);
    let ran = Record::Ran {
        run,
        no,
        from_us,
        to_us,
    };
    turn.records.push((entry.run.clone(), ran));
}

/// Lets others see the state of a task.
fn show(entry: &Entry, state: State, reason: String, attempt: u32) {
    let mut now = entry.now();
    let at = now_us();
    match state {
        State::Running => {
            now.started_us.get_or_insert(at);
            now.worker = Some(reason.clone());
        }
        State::AwaitingRetry => (now.error, now.started_us, now.ran) = (None, None, None),
        _ if state.is_final() => now.ended_us = Some(at),
        _ => {}
    }
    if state.is_good() {
        now.error = None;
    }
    (now.state, now.attempt) = (state, now.attempt.max(attempt));
    now.reason = if state == State::Running {
        String::new()
    } else {
        reason
    };
    let value = let_go(&mut now);
    drop(now);
    drop(value);
}

/// What nobody can ask for any more is let go. Given back, since what a call holds may lead here again when it goes.
#[must_use]
fn let_go(now: &mut Now) -> Option<(Option<skep_cluster::Call>, Option<skep_cluster::Started>)> {
    if !now.state.is_final() {
        return None;
    }
    let call = if now.is_dropped || !now.state.is_good() {
        now.call.take()
    } else {
        None
    };
    let started = if now.is_dropped { now.started.take() } else { None };
    Some((call, started))
}
