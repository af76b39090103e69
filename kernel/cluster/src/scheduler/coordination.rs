//! Locks, queues and their like: what is asked of them goes in, the answers that are due come out.
//!
//! Whoever waits is served in the order of asking. What a program holds or waits for ends with its connection; tasks use
//! their worker's, so that the death of a worker frees what its tasks held.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde_bytes::ByteBuf;
use skep_render::Message;

use super::{Comm, Scheduler};
use crate::{
    model::{
        coordination::{Kind, ObjectName, Op, Reply, Shape},
        ids::ClientId,
    },
    wire::protocol::{Answer, Asker},
};

/// A topic remembers so many messages, and so many bytes of them, for subscribers that are slow.
const MOST_MESSAGES: usize = 10_000;
const MOST_MESSAGE_BYTES: usize = 64 << 20;

type Answers = Vec<(Asker, Reply)>;

/// All objects of a cluster.
#[derive(Debug, Default)]
pub(super) struct Objects {
    objects: BTreeMap<ObjectName, (Shape, Object)>,
    /// Where each question that has no answer yet stands.
    waiting: HashMap<Asker, ObjectName>,
}

#[derive(Debug)]
enum Object {
    Semaphore {
        free: u32,
        held: BTreeMap<ClientId, u32>,
        waiting: VecDeque<Asker>,
    },
    Event {
        is_set: bool,
        waiting: VecDeque<Asker>,
    },
    Queue {
        most: usize,
        items: VecDeque<ByteBuf>,
        getting: VecDeque<Asker>,
        putting: VecDeque<(Asker, ByteBuf)>,
    },
    Variable {
        value: Option<ByteBuf>,
        waiting: VecDeque<Asker>,
    },
    Topic {
        /// The number of the next message.
        next: u64,
        messages: VecDeque<ByteBuf>,
        n_bytes: usize,
        waiting: VecDeque<(Asker, u64)>,
    },
    Barrier {
        parties: usize,
        waiting: VecDeque<Asker>,
    },
}

impl Object {
    fn new(kind: Kind, size: u32) -> Object {
        let waiting = VecDeque::new();
        match kind {
            Kind::Lock | Kind::Semaphore => Object::Semaphore {
                free: size,
                held: BTreeMap::new(),
                waiting,
            },
            Kind::Event => Object::Event {
                is_set: false,
                waiting,
            },
            Kind::Queue => Object::Queue {
                most: if size == 0 { usize::MAX } else { size as usize },
                items: VecDeque::new(),
                getting: waiting,
                putting: VecDeque::new(),
            },
            Kind::Variable => Object::Variable { value: None, waiting },
            Kind::Topic => Object::Topic {
                next: 0,
                messages: VecDeque::new(),
                n_bytes: 0,
                waiting: VecDeque::new(),
            },
            Kind::Barrier => Object::Barrier {
                parties: size as usize,
                waiting,
            },
        }
    }

    /// Takes in what is asked. The answer, if it is known already; else it is waited for. `None` if such an object does
    /// not do that.
    fn take_in(&mut self, asker: Asker, op: Op) -> Option<Option<Reply>> {
        let known = match (self, op) {
            (Object::Semaphore { free, .. }, Op::Look) => Some(Reply::Number(u64::from(*free))),
            (Object::Semaphore { waiting, .. }, Op::Acquire) => {
                waiting.push_back(asker);
                None
            }
            (Object::Semaphore { free, held, .. }, Op::Release) => {
                // Nobody gives back what they do not have: after a restart of the cluster, for one.
                if let Some(n) = held.get_mut(&asker.client) {
                    (*n, *free) = (*n - 1, *free + 1);
                    if *n == 0 {
                        held.remove(&asker.client);
                    }
                }
                None
            }
            (Object::Event { is_set, .. }, Op::Look) => Some(Reply::Number(u64::from(*is_set))),
            (Object::Event { is_set, .. }, Op::Set) => {
                *is_set = true;
                Some(Reply::Done)
            }
            (Object::Event { is_set, .. }, Op::Clear) => {
                *is_set = false;
                Some(Reply::Done)
            }
            (Object::Event { waiting, .. }, Op::Wait) => {
                waiting.push_back(asker);
                None
            }
            (Object::Queue { items, .. }, Op::Look) => Some(Reply::Number(items.len() as u64)),
            (Object::Queue { putting, .. }, Op::Put(bytes)) => {
                putting.push_back((asker, bytes));
                None
            }
            (Object::Queue { getting, .. }, Op::Get) => {
                getting.push_back(asker);
                None
            }
            (Object::Variable { value, .. }, Op::Look) => Some(Reply::Number(u64::from(value.is_some()))),
            (Object::Variable { value, .. }, Op::Put(bytes)) => {
                *value = Some(bytes);
                Some(Reply::Done)
            }
            (Object::Variable { value, .. }, Op::Clear) => {
                *value = None;
                Some(Reply::Done)
            }
            (Object::Variable { waiting, .. }, Op::Get) => {
                waiting.push_back(asker);
                None
            }
            (Object::Topic { next, .. }, Op::Look) => Some(Reply::Number(*next)),
            (
                Object::Topic {
                    next,
                    messages,
                    n_bytes,
                    ..
                },
                Op::Put(bytes),
            ) => {
                *next += 1;
                *n_bytes += bytes.len();
                messages.push_back(bytes);
                while messages.len() > MOST_MESSAGES || (*n_bytes > MOST_MESSAGE_BYTES && messages.len() > 1)
                {
                    *n_bytes -= messages.pop_front().map_or(0, |bytes| bytes.len());
                }
                Some(Reply::Done)
            }
            (Object::Topic { waiting, .. }, Op::Next(from)) => {
                waiting.push_back((asker, from));
                None
            }
            (Object::Barrier { waiting, .. }, Op::Look) => Some(Reply::Number(waiting.len() as u64)),
            (Object::Barrier { waiting, .. }, Op::Arrive) => {
                waiting.push_back(asker);
                None
            }
            _ => return None,
        };
        Some(known)
    }

    /// Answers whoever can be.
    fn settle(&mut self, answers: &mut Answers) {
        match self {
            Object::Semaphore { free, held, waiting } => {
                while *free > 0
                    && let Some(asker) = waiting.pop_front()
                {
                    *free -= 1;
                    *held.entry(asker.client).or_default() += 1;
                    answers.push((asker, Reply::Done));
                }
            }
            Object::Event { is_set, waiting } => {
                if *is_set {
                    answers.extend(waiting.drain(..).map(|asker| (asker, Reply::Done)));
                }
            }
            Object::Queue {
                most,
                items,
                getting,
                putting,
            } => loop {
                if items.len() < *most
                    && let Some((asker, bytes)) = putting.pop_front()
                {
                    items.push_back(bytes);
                    answers.push((asker, Reply::Done));
                } else if !getting.is_empty()
                    && let Some(bytes) = items.pop_front()
                {
                    let asker = getting.pop_front().expect("invariant: not empty");
                    answers.push((asker, Reply::Value(bytes)));
                } else {
                    break;
                }
            },
            Object::Variable { value, waiting } => {
                if let Some(value) = value {
                    answers.extend(
                        waiting
                            .drain(..)
                            .map(|asker| (asker, Reply::Value(value.clone()))),
                    );
                }
            }
            Object::Topic {
                next,
                messages,
                waiting,
                ..
            } => {
                let oldest = *next - messages.len() as u64;
                waiting.retain(|(asker, from)| {
                    let first = (*from).max(oldest);
                    if first >= *next {
                        return true;
                    }
                    let some = messages.iter().skip((first - oldest) as usize).cloned().collect();
                    answers.push((
                        *asker,
                        Reply::Messages {
                            first,
                            messages: some,
                        },
                    ));
                    false
                });
            }
            Object::Barrier { parties, waiting } => {
                while waiting.len() >= *parties {
                    let all = waiting.drain(..*parties).enumerate();
                    answers.extend(all.map(|(i, asker)| (asker, Reply::Number(i as u64))));
                }
            }
        }
    }

    /// Takes those that wait off their lists.
    fn withdraw(&mut self, is_gone: impl Fn(Asker) -> bool) {
        match self {
            Object::Semaphore { waiting, .. }
            | Object::Event { waiting, .. }
            | Object::Variable { waiting, .. }
            | Object::Barrier { waiting, .. } => waiting.retain(|asker| !is_gone(*asker)),
            Object::Queue { getting, putting, .. } => {
                getting.retain(|asker| !is_gone(*asker));
                putting.retain(|(asker, _)| !is_gone(*asker));
            }
            Object::Topic { waiting, .. } => waiting.retain(|(asker, _)| !is_gone(*asker)),
        }
    }
}

impl Objects {
    fn ask(&mut self, asker: Asker, name: ObjectName, op: Op) -> Answers {
        let mut answers = Vec::new();
        let refused = |message: Message| vec![(asker, Reply::Refused(message))];
        match op {
            Op::Open(shape) => {
                let (kind, size) = (name.kind, shape.size);
                let (known, _) = self
                    .objects
                    .entry(name.clone())
                    .or_insert_with(|| (shape.clone(), Object::new(kind, size)));
                if known.agrees_with(&shape) {
                    answers.push((asker, Reply::Done));
                } else {
                    return refused(other_shape(&name, known, &shape));
                }
            }
            Op::Delete => {
                self.objects.remove(&name);
                let gone = Message::new(format!("the {} `{}` was deleted", name.kind.name(), name.name));
                self.refuse(&gone, &mut answers, |waited_for| *waited_for == name);
                answers.push((asker, Reply::Done));
            }
            op => {
                let is_question = op != Op::Release;
                let Some((_, object)) = self.objects.get_mut(&name) else {
                    let message = Message::new(format!("there is no {} `{}`", name.kind.name(), name.name))
                        .hint("it was deleted, or its cluster was; make it again");
                    return if is_question { refused(message) } else { Vec::new() };
                };
                match object.take_in(asker, op) {
                    Some(Some(known)) => answers.push((asker, known)),
                    Some(None) if is_question => drop(self.waiting.insert(asker, name.clone())),
                    Some(None) => {}
                    None => {
                        let message = format!("a {} does not do that", name.kind.name());
                        return refused(Message::new(message));
                    }
                }
                object.settle(&mut answers);
            }
        }
        self.answered(answers)
    }

    /// A question is given up. If it has no answer yet, that is its answer; if it has one, that one holds.
    fn withdraw(&mut self, asker: Asker) -> Answers {
        let Some(name) = self.waiting.get(&asker).cloned() else {
            return Vec::new();
        };
        let mut answers = vec![(asker, Reply::NotYet)];
        if let Some((_, object)) = self.objects.get_mut(&name) {
            object.withdraw(|other| other == asker);
            object.settle(&mut answers);
        }
        self.answered(answers)
    }

    /// What a program held is free, and what it waited for is not waited for.
    fn end_of(&mut self, client: ClientId) -> Answers {
        let mut answers = Vec::new();
        for (_, object) in self.objects.values_mut() {
            object.withdraw(|asker| asker.client == client);
            if let Object::Semaphore { free, held, .. } = object {
                *free += held.remove(&client).unwrap_or(0);
            }
            object.settle(&mut answers);
        }
        self.waiting.retain(|asker, _| asker.client != client);
        self.answered(answers)
    }

    /// Ends all objects.
    fn close(&mut self) -> Answers {
        let mut answers = Vec::new();
        let message =
            Message::new("the cluster was shut down").hint("start it again: `Cluster::local().start()?`");
        self.refuse(&message, &mut answers, |_| true);
        self.objects.clear();
        answers
    }

    fn refuse(&mut self, message: &Message, answers: &mut Answers, is_it: impl Fn(&ObjectName) -> bool) {
        self.waiting.retain(|asker, name| {
            if is_it(name) {
                answers.push((*asker, Reply::Refused(message.clone())));
            }
            !is_it(name)
        });
    }

    fn answered(&mut self, answers: Answers) -> Answers {
        for (asker, _) in &answers {
            self.waiting.remove(asker);
        }
        answers
    }
}

/// Two programs that mean different things by one name.
fn other_shape(name: &ObjectName, known: &Shape, wanted: &Shape) -> Message {
    let (kind, text) = (name.kind.name(), &name.name);
    if known.type_name != wanted.type_name {
        let (is, asked) = (
            skep_render::short_type(&known.type_name),
            skep_render::short_type(&wanted.type_name),
        );
        return Message::new(format!("the {kind} `{text}` holds `{is}`, not `{asked}`"))
            .hint("use another name, or `delete` it first");
    }
    if known.size == wanted.size {
        let is = skep_render::short_type(&known.type_name);
        return Message::new(format!(
            "the {kind} `{text}` holds `{is}` as it was before `{is}` was defined anew"
        ))
        .hint("`delete` it first, or use another name");
    }
    let what = match name.kind {
        Kind::Barrier => "parties",
        Kind::Queue => "items at most",
        _ => "permits",
    };
    let words = |size: u32| match (name.kind, size) {
        (Kind::Queue, 0) => "any number of items".to_string(),
        (_, size) => format!("{size} {what}"),
    };
    Message::new(format!(
        "the {kind} `{text}` has {}, not {}",
        words(known.size),
        words(wanted.size)
    ))
    .hint("ask for it as it is, use another name, or `delete` it first")
}

impl Scheduler {
    pub fn coordinate(&mut self, asker: Asker, name: ObjectName, op: Op, comm: &mut impl Comm) {
        let answers = match op {
            _ if self.is_closed => {
                let message = Message::new("the cluster was shut down")
                    .hint("start it again: `Cluster::local().start()?`");
                vec![(asker, Reply::Refused(message))]
            }
            op => self.objects.ask(asker, name, op),
        };
        tell(answers, comm);
    }

    pub fn withdraw(&mut self, asker: Asker, comm: &mut impl Comm) {
        tell(self.objects.withdraw(asker), comm);
    }

    pub(super) fn end_coordination_of(&mut self, client: ClientId, comm: &mut impl Comm) {
        tell(self.objects.end_of(client), comm);
    }

    pub fn end_coordination(&mut self, comm: &mut impl Comm) {
        tell(self.objects.close(), comm);
    }
}

fn tell(answers: Answers, comm: &mut impl Comm) {
    for (asker, reply) in answers {
        comm.answer(asker, Answer::Coordinated(reply));
    }
}

#[cfg(test)]
mod tests;
