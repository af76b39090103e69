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
                if *known == shape {
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
    if known.layout != wanted.layout {
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
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use super::*;
    use crate::wire::protocol::AskId;

    fn name(kind: Kind) -> ObjectName {
        ObjectName {
            kind,
            name: "x".into(),
        }
    }

    fn shape(size: u32) -> Shape {
        Shape {
            size,
            type_name: "i64".into(),
            layout: 0,
        }
    }

    fn asker(client: u32, id: u64) -> Asker {
        Asker {
            client: ClientId(client),
            id: AskId(id),
        }
    }

    fn opened(kind: Kind, size: u32) -> Objects {
        let mut objects = Objects::default();
        let answers = objects.ask(asker(0, 0), name(kind), Op::Open(shape(size)));
        assert_eq!(answers, [(asker(0, 0), Reply::Done)]);
        objects
    }

    fn number(bytes: u8) -> ByteBuf {
        ByteBuf::from(vec![bytes])
    }

    #[test]
    fn permits_go_in_the_order_of_asking_and_come_back_from_the_dead() {
        let mut objects = opened(Kind::Lock, 1);
        let lock = || name(Kind::Lock);
        assert_eq!(
            objects.ask(asker(1, 1), lock(), Op::Acquire),
            [(asker(1, 1), Reply::Done)]
        );
        assert_eq!(objects.ask(asker(2, 1), lock(), Op::Acquire), []);
        assert_eq!(objects.ask(asker(3, 1), lock(), Op::Acquire), []);
        assert_eq!(objects.ask(asker(3, 2), lock(), Op::Release), [], "it has none");
        assert_eq!(objects.end_of(ClientId(2)), [], "it only waited");
        assert_eq!(objects.end_of(ClientId(1)), [(asker(3, 1), Reply::Done)]);
        assert_eq!(objects.withdraw(asker(3, 1)), [], "it has its answer");
        assert_eq!(objects.ask(asker(4, 1), lock(), Op::Acquire), []);
        assert_eq!(objects.withdraw(asker(4, 1)), [(asker(4, 1), Reply::NotYet)]);
        assert_eq!(objects.ask(asker(3, 3), lock(), Op::Release), []);
        assert_eq!(
            objects.ask(asker(4, 2), lock(), Op::Look),
            [(asker(4, 2), Reply::Number(1))]
        );
    }

    #[test]
    fn a_queue_holds_no_more_than_it_may() {
        let mut objects = opened(Kind::Queue, 1);
        let queue = || name(Kind::Queue);
        assert_eq!(
            objects.ask(asker(1, 1), queue(), Op::Put(number(1))),
            [(asker(1, 1), Reply::Done)]
        );
        assert_eq!(objects.ask(asker(1, 2), queue(), Op::Put(number(2))), []);
        let got = objects.ask(asker(2, 1), queue(), Op::Get);
        assert_eq!(
            got,
            [(asker(2, 1), Reply::Value(number(1))), (asker(1, 2), Reply::Done)]
        );
        assert_eq!(
            objects.ask(asker(2, 2), queue(), Op::Get),
            [(asker(2, 2), Reply::Value(number(2)))]
        );
        assert_eq!(objects.ask(asker(2, 3), queue(), Op::Get), []);
        let told = objects.ask(asker(1, 3), queue(), Op::Delete);
        assert!(
            matches!(&told[0], (a, Reply::Refused(_)) if *a == asker(2, 3)),
            "{told:?}"
        );
    }

    #[test]
    fn a_slow_subscriber_is_told_what_it_missed() {
        let mut objects = opened(Kind::Topic, 0);
        let topic = || name(Kind::Topic);
        assert_eq!(objects.ask(asker(1, 1), topic(), Op::Next(0)), []);
        for i in 0..MOST_MESSAGES as u64 + 5 {
            objects.ask(asker(2, i), topic(), Op::Put(number(0)));
        }
        let told = objects.ask(asker(1, 2), topic(), Op::Next(1));
        let [(_, Reply::Messages { first: 5, messages })] = told.as_slice() else {
            panic!("the oldest that is left is number 5");
        };
        assert_eq!(messages.len(), MOST_MESSAGES);
    }

    #[test]
    fn a_barrier_lets_as_many_go_as_it_has_parties() {
        let mut objects = opened(Kind::Barrier, 2);
        let barrier = || name(Kind::Barrier);
        assert_eq!(objects.ask(asker(1, 1), barrier(), Op::Arrive), []);
        assert_eq!(objects.end_of(ClientId(1)), []);
        assert_eq!(
            objects.ask(asker(2, 1), barrier(), Op::Arrive),
            [],
            "the first one died"
        );
        let gone = objects.ask(asker(3, 1), barrier(), Op::Arrive);
        assert_eq!(
            gone,
            [(asker(2, 1), Reply::Number(0)), (asker(3, 1), Reply::Number(1))]
        );
    }

    #[test]
    fn one_name_means_one_thing() {
        let mut objects = opened(Kind::Queue, 3);
        let words = |objects: &mut Objects, shape: Shape| match objects
            .ask(asker(1, 1), name(Kind::Queue), Op::Open(shape))
            .pop()
        {
            Some((_, Reply::Refused(message))) => message.what,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            words(&mut objects, shape(0)),
            "the queue `x` has 3 items at most, not any number of items"
        );
        let of_text = Shape {
            type_name: "alloc::string::String".into(),
            ..shape(3)
        };
        assert_eq!(
            words(&mut objects, of_text),
            "the queue `x` holds `i64`, not `String`"
        );
        let told = objects.ask(asker(1, 2), name(Kind::Lock), Op::Acquire);
        assert!(matches!(&told[0].1, Reply::Refused(message) if message.what == "there is no lock `x`"));
        let told = objects.ask(asker(1, 3), name(Kind::Queue), Op::Arrive);
        assert!(matches!(&told[0].1, Reply::Refused(message) if message.what == "a queue does not do that"));
    }

    /// Programs ask, give up, hold and die at random. No permit is lost or given twice, nobody waits for what is there, each
    /// question gets one answer at most, and when all are gone everything is free.
    #[test]
    fn no_permit_is_lost_and_nobody_waits_for_what_is_there() {
        for seed in 1..400_u64 {
            let mut random = seed;
            let mut roll = |n: u64| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random % n
            };
            let mut objects = Objects::default();
            let kinds = [
                Kind::Semaphore,
                Kind::Queue,
                Kind::Event,
                Kind::Variable,
                Kind::Barrier,
                Kind::Topic,
            ];
            for kind in kinds {
                objects.ask(asker(0, 0), name(kind), Op::Open(shape(2)));
            }
            let mut open: BTreeSet<(u32, u64)> = BTreeSet::new();
            let mut ops: HashMap<(u32, u64), Op> = HashMap::new();
            let mut held: HashMap<u32, u32> = HashMap::new();
            let (mut n_put, mut n_got) = (0, 0);
            for id in 1..300 {
                let client = 1 + roll(4) as u32;
                let (kind, op) = match roll(13) {
                    0..=2 => (Kind::Semaphore, Op::Acquire),
                    3 => (Kind::Semaphore, Op::Release),
                    4 | 5 => (Kind::Queue, Op::Put(number(1))),
                    6 | 7 => (Kind::Queue, Op::Get),
                    8 => (
                        Kind::Event,
                        [Op::Wait, Op::Set, Op::Clear][roll(3) as usize].clone(),
                    ),
                    9 => (
                        Kind::Variable,
                        [Op::Get, Op::Put(number(7)), Op::Clear][roll(3) as usize].clone(),
                    ),
                    10 => (Kind::Barrier, Op::Arrive),
                    11 => (
                        Kind::Topic,
                        [Op::Next(roll(20)), Op::Put(number(9))][roll(2) as usize].clone(),
                    ),
                    _ => {
                        let answers = if roll(2) == 0 {
                            held.remove(&client);
                            open.retain(|(other, _)| *other != client);
                            objects.end_of(ClientId(client))
                        } else if let Some((client, id)) = open.first().copied() {
                            objects.withdraw(asker(client, id))
                        } else {
                            Vec::new()
                        };
                        take(answers, &mut open, &ops, &mut held, &mut n_put, &mut n_got);
                        check(&objects, &held, &open, n_put, n_got);
                        continue;
                    }
                };
                if op == Op::Release {
                    match held.get_mut(&client) {
                        Some(n) if *n > 0 => *n -= 1,
                        _ => continue,
                    }
                } else {
                    open.insert((client, id));
                    ops.insert((client, id), op.clone());
                }
                let answers = objects.ask(asker(client, id), name(kind), op);
                take(answers, &mut open, &ops, &mut held, &mut n_put, &mut n_got);
                check(&objects, &held, &open, n_put, n_got);
            }
            for client in 1..=4 {
                let answers = objects.end_of(ClientId(client));
                open.retain(|(other, _)| *other != client);
                held.remove(&client);
                take(answers, &mut open, &ops, &mut held, &mut n_put, &mut n_got);
            }
            assert!(open.is_empty() && objects.waiting.is_empty(), "seed {seed}");
            let left = objects.ask(asker(9, 1), name(Kind::Semaphore), Op::Look);
            assert_eq!(left, [(asker(9, 1), Reply::Number(2))], "seed {seed}");
        }
    }

    fn take(
        answers: Answers,
        open: &mut BTreeSet<(u32, u64)>,
        ops: &HashMap<(u32, u64), Op>,
        held: &mut HashMap<u32, u32>,
        n_put: &mut i32,
        n_got: &mut i32,
    ) {
        for (asker, reply) in answers {
            let id = (asker.client.0, asker.id.0);
            assert!(open.remove(&id), "{asker:?} is told twice, or after its end");
            match (&ops[&id], reply) {
                (_, Reply::NotYet) => {}
                (Op::Acquire, _) => *held.entry(asker.client.0).or_default() += 1,
                (Op::Put(bytes), _) if *bytes == number(1) => *n_put += 1,
                (Op::Get, Reply::Value(bytes)) if bytes == number(1) => *n_got += 1,
                _ => {}
            }
        }
    }

    fn check(
        objects: &Objects,
        held: &HashMap<u32, u32>,
        open: &BTreeSet<(u32, u64)>,
        n_put: i32,
        n_got: i32,
    ) {
        assert_eq!(
            objects.waiting.len(),
            open.len(),
            "each open question stands somewhere"
        );
        for (_, object) in objects.objects.values() {
            match object {
                Object::Semaphore { free, waiting, .. } => {
                    assert_eq!(held.values().sum::<u32>() + free, 2);
                    assert!(*free == 0 || waiting.is_empty());
                }
                Object::Event { is_set, waiting } => assert!(!is_set || waiting.is_empty()),
                Object::Queue {
                    items,
                    getting,
                    putting,
                    ..
                } => {
                    assert_eq!(items.len() as i32, n_put - n_got, "nothing is lost or got twice");
                    assert!(getting.is_empty() || items.is_empty() && putting.is_empty());
                    assert!(putting.is_empty() || items.len() == 2);
                }
                Object::Variable { value, waiting } => assert!(value.is_none() || waiting.is_empty()),
                Object::Topic { next, waiting, .. } => assert!(waiting.iter().all(|(_, from)| from >= next)),
                Object::Barrier { waiting, .. } => assert!(waiting.len() < 2),
            }
        }
    }
}
