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
fn a_task_that_does_not_know_the_version_of_a_type_is_not_refused() {
    let of = |layout: u64| Op::Open(Shape { layout, ..shape(0) });
    let mut objects = Objects::default();
    assert_eq!(
        objects.ask(asker(1, 1), name(Kind::Queue), of(7)),
        [(asker(1, 1), Reply::Done)]
    );
    assert_eq!(
        objects.ask(asker(1, 2), name(Kind::Queue), of(0)),
        [(asker(1, 2), Reply::Done)]
    );
    let told = objects.ask(asker(1, 3), name(Kind::Queue), of(8));
    assert!(
        matches!(&told[0].1, Reply::Refused(message) if message.what.contains("before `i64` was defined anew")),
        "{told:?}"
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

fn check(objects: &Objects, held: &HashMap<u32, u32>, open: &BTreeSet<(u32, u64)>, n_put: i32, n_got: i32) {
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
