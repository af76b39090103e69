//! Bytes from a socket are decoded before anybody has looked at them: whatever they are, that is an error or
//! a message, never a panic, and never more memory than there are bytes.
//!
//! Inputs are the corpus, real messages, and both with bytes changed, cut and put together, from a seed.
//! `SKEP_FUZZ_SECONDS` makes it run for longer.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde_bytes::ByteBuf;
use skep_cluster::{
    ClientId, Event, FunctionId, Key, TaskError, TaskErrorKind, Token, WorkerId,
    model::{
        cluster::{Memory, Published},
        task::{Arg, Output, Task, TaskOptions},
    },
    wire::protocol::{
        AskId, Assignment, Carried, Finished, FromPeer, Input, Ran, Request, ToClient, ToPeer, ToScheduler,
        ToWorker,
    },
};

fn real_messages() -> Vec<Vec<u8>> {
    let key = Key(0x1234_5678_9abc_def0 << 40);
    let args = vec![
        Arg::Value(ByteBuf::from(vec![7; 40])),
        Arg::Task(key),
        Arg::Part {
            task: key,
            part: 2,
            of: 3,
        },
        Arg::List(vec![Arg::Task(key), Arg::Value(ByteBuf::from(vec![1]))]),
    ];
    let options = TaskOptions {
        retries: 3,
        workers: vec![WorkerId(1)],
        ..TaskOptions::default()
    };
    let task = Task {
        key,
        function: FunctionId(9),
        args,
        priority: 1 << 63,
        origin: 7,
        options: Some(options.into()),
    };
    let error = TaskError {
        kind: TaskErrorKind::Panicked,
        message: "no".into(),
        hint: Some("x".into()),
        function: "f".into(),
        at: Some(("cell 3".into(), 1, 2)),
        worker: None,
        tags: vec!["one".into()],
    };
    let inputs = vec![
        (
            key,
            Input::At {
                worker: WorkerId(2),
                address: "/run/worker.sock".into(),
                n_bytes: 1 << 33,
            },
        ),
        (key, Input::Inline(ByteBuf::from(vec![3; 8]))),
    ];
    let ran = Ran {
        key,
        attempt: 1,
        n_bytes: 9,
        n_rows: None,
        inline: Some(ByteBuf::from(vec![1, 2])),
        start_us: 1 << 50,
        duration_us: 3,
        cpu_us: 1,
    };
    let to_scheduler = vec![
        ToScheduler::Hello {
            token: Token(1 << 100),
        },
        ToScheduler::Submit {
            tasks: vec![task.clone()],
            wanted: vec![key],
        },
        ToScheduler::Done(ran),
        ToScheduler::Failed {
            key,
            error: error.clone(),
        },
        ToScheduler::Heartbeat(Memory {
            resident: 1 << 30,
            ..Memory::default()
        }),
        ToScheduler::Printed {
            key: None,
            is_stderr: true,
            text: "🐝\n".into(),
        },
        ToScheduler::Ask {
            id: AskId(1),
            request: Request::Publish(Published {
                name: "x".into(),
                keys: vec![key; 3],
                type_name: "i64".into(),
                layout: 0,
                task: String::new(),
            }),
        },
    ];
    let to_worker = vec![
        ToWorker::Compute(Assignment {
            task: task.into(),
            attempt: 2,
            inputs,
        }),
        ToWorker::Free { keys: vec![key; 5] },
        ToWorker::GiveBack {
            keys: vec![key],
            most: 1,
        },
        ToWorker::Exit,
    ];
    let to_client = vec![
        ToClient::Welcome { id: ClientId(1) },
        ToClient::Finished {
            key,
            how: Finished::Failed(error.into()),
        },
        ToClient::Events(vec![Event::WorkerLost {
            worker: WorkerId(1),
            cause: "killed".into(),
        }]),
    ];
    let peers = [
        ToPeer::Hello { token: Token(3) },
        ToPeer::Get {
            output: Output {
                task: key,
                part: Some(4),
            },
        },
        ToPeer::Call {
            actor: key,
            id: 1,
            function: FunctionId(3),
            args: vec![Arg::Task(key)],
        },
    ];
    let answers = [
        FromPeer::Value {
            key,
            value: Some(Ok(Carried::Segment {
                path: "/proc/1/fd/3".into(),
                n_bytes: 9,
                range: Some((3, 5)),
            })),
        },
        FromPeer::Value {
            key,
            value: Some(Err("no".into())),
        },
        FromPeer::Returned {
            id: 1,
            result: Ok(ByteBuf::from(vec![1; 9])),
        },
    ];
    let mut all = vec![
        postcard::to_stdvec(&to_scheduler).unwrap(),
        postcard::to_stdvec(&to_worker).unwrap(),
        postcard::to_stdvec(&to_client).unwrap(),
    ];
    all.extend(peers.iter().map(|message| postcard::to_stdvec(message).unwrap()));
    all.extend(
        answers
            .iter()
            .map(|message| postcard::to_stdvec(message).unwrap()),
    );
    all
}

/// What each end of each socket does with a frame.
fn decode_all(bytes: &[u8]) -> u32 {
    u32::from(postcard::from_bytes::<Vec<ToScheduler>>(bytes).is_ok())
        + u32::from(postcard::from_bytes::<Vec<ToWorker>>(bytes).is_ok())
        + u32::from(postcard::from_bytes::<Vec<ToClient>>(bytes).is_ok())
        + u32::from(postcard::from_bytes::<ToPeer>(bytes).is_ok())
        + u32::from(postcard::from_bytes::<FromPeer>(bytes).is_ok())
}

fn mutate(bytes: &mut Vec<u8>, others: &[Vec<u8>], rng: &mut fastrand::Rng) {
    for _ in 0..rng.usize(1..6) {
        let at = rng.usize(0..bytes.len().max(1));
        match rng.u8(0..6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at.min(bytes.len()), rng.u8(..)),
            2 => bytes
                .splice(at.min(bytes.len())..at.min(bytes.len()), [0xff; 9])
                .for_each(drop),
            3 => bytes.extend_from_slice(&others[rng.usize(0..others.len())]),
            _ if !bytes.is_empty() => bytes[at] = rng.u8(..),
            _ => {}
        }
    }
}

#[test]
fn whatever_comes_is_an_error_or_a_message() {
    let seconds = std::env::var("SKEP_FUZZ_SECONDS")
        .ok()
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or(3);
    let seed = std::env::var("SKEP_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(1);
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut inputs = real_messages();
    assert!(
        inputs.iter().all(|bytes| decode_all(bytes) > 0),
        "real messages are understood"
    );
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    inputs.extend(
        std::fs::read_dir(corpus)
            .unwrap()
            .flatten()
            .map(|entry| std::fs::read(entry.path()).unwrap()),
    );
    let until = Instant::now() + Duration::from_secs(seconds);
    let (mut n, mut n_understood) = (0u64, 0u64);
    while Instant::now() < until {
        for _ in 0..1_000 {
            let mut bytes = inputs[rng.usize(0..inputs.len())].clone();
            mutate(&mut bytes, &inputs, &mut rng);
            n += 1;
            n_understood += u64::from(decode_all(&bytes) > 0);
        }
    }
    println!("{n} inputs, {n_understood} were messages");
    assert!(n_understood > 0 && n_understood < n);
}
