//! What the bridge says: answers, how tasks ended, and what happened.

use std::{
    collections::HashMap,
    io::BufReader,
    process::ChildStdout,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use serde_bytes::ByteBuf;
use skep_cluster::{
    Error, Event, Key, Reason, TaskError, TaskErrorKind, WorkerId,
    engine::{Ended, Sink, Told, watched::Watched},
    model::ids::KeyMap,
    worker::foreign::{Said, read_told},
};
use skep_render::Message;

use crate::{
    bridge::Bridge,
    words::{self, EndedWord, EventWord, Word, WorkerWord, key_of},
};

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the bridge has answered, by the number of the question.
#[derive(Default)]
pub(crate) struct Answers {
    pub is_ready: bool,
    pub refused: Option<Error>,
    /// Questions that somebody waits for; an answer to another is nobody's.
    pub open: HashMap<u64, Option<Answer>>,
    /// Tasks of this program whose end it was told.
    pub n_done: u64,
    pub n_failed: u64,
    pub losses: Vec<String>,
}

/// A task, as events have told it.
#[derive(Clone, Copy)]
pub(crate) enum Known {
    /// It has not ended; the worker that it was given to, or 0.
    Open(WorkerId),
    Done,
}

pub(crate) enum Answer {
    /// Of a value, or why there is none.
    Value(std::result::Result<Vec<u8>, String>),
    Workers(std::result::Result<Vec<WorkerWord>, String>),
}

/// Hears the bridge.
pub(crate) struct Reader {
    pub words: BufReader<ChildStdout>,
    pub sink: Weak<dyn Sink>,
    pub told: Arc<Watched<Answers>>,
    pub bridge: Weak<Bridge>,
    /// The functions of tasks, for errors that do not name them.
    pub names: Arc<Mutex<KeyMap<String>>>,
    pub known: Arc<Mutex<KeyMap<Known>>>,
}

impl Reader {
    pub fn run(mut self) {
        let reason = loop {
            match words::read(&mut self.words) {
                Ok(Word::Gone { reason }) => break reason,
                Ok(word) => self.on_word(word),
                Err(error) => {
                    let said = self
                        .bridge
                        .upgrade()
                        .map_or(String::new(), |bridge| bridge.said());
                    break match error.kind() {
                        std::io::ErrorKind::UnexpectedEof => format!("the bridge to Dask has ended{said}"),
                        _ => format!("the bridge to Dask: {error}{said}"),
                    };
                }
            }
        };
        self.told.end(reason.clone());
        if let Some(sink) = self.sink.upgrade() {
            sink.on_gone(reason);
        }
    }

    fn on_word(&self, word: Word) {
        match word {
            Word::Ready => self.told.change(|told| told.is_ready = true),
            Word::Refused { what, hint } => self.told.change(|told| {
                told.refused = Some(Error::Start(Message::new(what).hint(hint)));
            }),
            Word::Value { id, value, why } => {
                let value = value.map(ByteBuf::into_vec).ok_or(why.unwrap_or_default());
                self.answered(id, Answer::Value(value));
            }
            Word::Info { id, workers, why } => {
                self.answered(id, Answer::Workers(why.map_or(Ok(workers), Err)));
            }
            Word::Ended { ended } => {
                let n_failed = ended.iter().filter(|ended| ended.failed.is_some()).count() as u64;
                self.told.change(|told| {
                    told.n_failed += n_failed;
                    told.n_done += ended.len() as u64 - n_failed;
                });
                let told = ended.into_iter().filter_map(|ended| self.ended(ended)).collect();
                self.tell(told);
            }
            Word::Events { events } => {
                let events: Vec<Event> = events.into_iter().flat_map(|word| self.events(word)).collect();
                self.tell(vec![Told::Events(events)]);
            }
            Word::Trouble {
                what: message,
                hint,
                keys,
            } => {
                let failed = |key: &String| {
                    let key = key_of(key)?;
                    let kind = if hint.is_some() {
                        TaskErrorKind::Failed
                    } else {
                        TaskErrorKind::Code
                    };
                    let how = Ended::Failed(Arc::new(TaskError {
                        hint: hint.clone(),
                        ..self.error(key, kind, message.clone())
                    }));
                    Some(Told::Ended { key, how })
                };
                let mut told: Vec<Told> = keys.iter().filter_map(failed).collect();
                let keys = keys.iter().filter_map(|key| key_of(key));
                let mut known = lock(&self.known);
                let ended = keys.filter(|key| known.remove(key).is_some());
                let events: Vec<Event> = ended
                    .map(|key| Event::Failed {
                        key,
                        why: message.clone(),
                    })
                    .collect();
                drop(known);
                told.push(Told::Events(events));
                self.tell(told);
            }
            Word::Gone { .. } => {}
        }
    }

    fn answered(&self, id: u64, answer: Answer) {
        self.told.change(|told| {
            if let Some(open) = told.open.get_mut(&id) {
                *open = Some(answer);
            }
        });
    }

    fn tell(&self, told: Vec<Told>) {
        if let (Some(sink), false) = (self.sink.upgrade(), told.is_empty()) {
            sink.on_told(told);
        }
    }

    fn ended(&self, ended: EndedWord) -> Option<Told> {
        let key = key_of(&ended.key)?;
        let why = ended.why.map(ByteBuf::into_vec).unwrap_or_default();
        let words = || String::from_utf8_lossy(&why).into_owned();
        let how = match ended.failed.as_deref() {
            None => Ended::Done {
                n_bytes: ended.n_bytes,
                inline: ended.inline.map(ByteBuf::into_vec),
                worker: WorkerId(ended.worker),
                duration_us: 0,
            },
            Some("told") => Ended::Failed(Arc::new(match read_told(&why) {
                Ok(error) => error,
                Err(why) => self.error(key, TaskErrorKind::Failed, why),
            })),
            Some("cancelled") => {
                Ended::Failed(Arc::new(self.error(key, TaskErrorKind::Cancelled, String::new())))
            }
            Some("killed") => Ended::Failed(Arc::new(self.error(key, TaskErrorKind::KilledWorkers, words()))),
            Some("code") => Ended::Failed(Arc::new(self.error(key, TaskErrorKind::Code, words()))),
            Some(_) => Ended::Failed(Arc::new(self.error(key, TaskErrorKind::Failed, words()))),
        };
        Some(Told::Ended { key, how })
    }

    fn error(&self, key: Key, kind: TaskErrorKind, message: String) -> TaskError {
        TaskError {
            kind,
            message,
            hint: None,
            function: lock(&self.names).get(&key).cloned().unwrap_or_default(),
            at: None,
            worker: None,
            tags: Vec::new(),
        }
    }
}

impl Reader {
    /// What happened, in the words that notebooks know: a task that is let go before it has ended was cancelled.
    fn events(&self, word: EventWord) -> Vec<Event> {
        let worker = WorkerId(word.worker);
        match word.what.as_str() {
            "joined" => return vec![Event::WorkerJoined { worker, pid: 0 }],
            "lost" => {
                let cause = word.why;
                self.told
                    .change(|told| told.losses.push(format!("{worker}: {cause}")));
                return vec![Event::WorkerLost { worker, cause }];
            }
            _ => {}
        }
        let Some(key) = key_of(&word.key) else {
            return Vec::new();
        };
        let mut known = lock(&self.known);
        match word.what.as_str() {
            "assigned" => {
                known.insert(key, Known::Open(worker));
                vec![Event::Assigned {
                    key,
                    worker,
                    why: Reason::Elsewhere,
                    moved_bytes: 0,
                }]
            }
            "done" => {
                known.insert(key, Known::Done);
                vec![Event::Done {
                    key,
                    worker,
                    n_bytes: word.n_bytes,
                    start_us: word.start_us,
                    duration_us: word.duration_us,
                }]
            }
            "failed" => {
                known.remove(&key);
                vec![Event::Failed { key, why: word.why }]
            }
            "again" => vec![Event::Retried {
                key,
                has_failed: word.why == "failed",
            }],
            "stolen" => vec![Event::Stolen { key, from: worker }],
            "freed" => {
                let was_open = matches!(known.remove(&key), Some(Known::Open(_)));
                let cancelled = was_open.then_some(Event::Cancelled { key });
                cancelled.into_iter().chain([Event::Freed { key }]).collect()
            }
            "said" => {
                let worker = match known.get(&key) {
                    Some(Known::Open(worker)) => *worker,
                    _ => worker,
                };
                let said = word.said.unwrap_or_default();
                match postcard::from_bytes(&said) {
                    Ok(Said::Printed { is_stderr, text }) => vec![Event::Printed {
                        key: Some(key),
                        worker,
                        is_stderr,
                        text,
                    }],
                    Ok(Said::Progressed { n_done, n_total }) => {
                        vec![Event::Progressed { key, n_done, n_total }]
                    }
                    Err(_) => Vec::new(),
                }
            }
            _ => Vec::new(),
        }
    }
}
