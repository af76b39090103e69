//! Notebooks that come and go, and the one thread that knows the answers.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use skep_assist::wire::{Answer, Question, QuestionKind, SOCKET, idle_limit};

use crate::analyser::Analyser;

/// Without a notebook it waits for the next one a little: kernels are restarted.
const LINGER: Duration = Duration::from_secs(10);
/// How long reading the sources took the last time, in milliseconds.
const TOOK: &str = "took";

/// What is known of its state, for whoever comes.
struct Shared {
    clients: HashMap<u64, UnixStream>,
    n_greeted: u64,
    /// Ready, or why it never will be.
    state: Option<Answer>,
    began: Instant,
    expected: Option<Duration>,
    left_at: Instant,
}

/// Serves until nobody needs it. Returns at once where another process does so already.
pub fn serve(folder: &Path, checkout: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let lock = File::create(folder.join("lock"))?;
    // Held until this process ends, however it does.
    if lock.try_lock().is_err() {
        return Ok(());
    }
    let socket = folder.join(SOCKET);
    let _ = fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket)
        .with_context(|| format!("no socket could be made at {}", socket.display()))?;
    let took = fs::read_to_string(folder.join(TOOK))
        .ok()
        .and_then(|text| text.trim().parse().ok());
    let began = Instant::now();
    let shared = Arc::new(Mutex::new(Shared {
        clients: HashMap::new(),
        n_greeted: 0,
        state: None,
        began,
        expected: took.map(Duration::from_millis),
        left_at: began,
    }));
    let (asked, questions) = mpsc::channel::<(Question, UnixStream)>();
    let known = shared.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = greet(&known, &asked, stream);
        }
    });
    let loaded = Analyser::load(folder, checkout);
    let mut analyser = match loaded {
        Ok(analyser) => {
            let _ = fs::write(folder.join(TOOK), began.elapsed().as_millis().to_string());
            tell_all(&shared, Answer::Ready);
            analyser
        }
        Err(error) => {
            tell_all(
                &shared,
                Answer::Failed {
                    message: format!("{error:#}"),
                },
            );
            // Those that come meanwhile hear it too; later ones make another try.
            thread::sleep(Duration::from_secs(2));
            let _ = fs::remove_file(&socket);
            return Err(error);
        }
    };
    let mut asked_at = Instant::now();
    loop {
        match questions.recv_timeout(Duration::from_secs(1)) {
            Ok((question, stream)) => {
                answer(&mut analyser, question, &stream);
                asked_at = Instant::now();
            }
            Err(RecvTimeoutError::Timeout) => {
                let is_left = {
                    let shared = lock_shared(&shared);
                    shared.clients.is_empty() && shared.left_at.elapsed() > LINGER
                };
                if is_left || asked_at.elapsed() > idle_limit() {
                    let _ = fs::remove_file(&socket);
                    return Ok(());
                }
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

fn lock_shared(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(analyser: &mut Analyser, question: Question, stream: &UnixStream) {
    let Question {
        id,
        source,
        offset,
        kind,
    } = question;
    let answer = match kind {
        QuestionKind::Complete => {
            let (start, end, candidates) = analyser.complete(&source, offset);
            Answer::Completions {
                id,
                start,
                end,
                candidates,
            }
        }
        QuestionKind::Hover => Answer::Hover {
            id,
            markdown: analyser.hover(&source, offset),
        },
    };
    let _ = say(stream, &answer);
}

fn say(mut stream: &UnixStream, answer: &Answer) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    stream.write_all(&line)
}

fn tell_all(shared: &Mutex<Shared>, answer: Answer) {
    let mut shared = lock_shared(shared);
    for client in shared.clients.values() {
        let _ = say(client, &answer);
    }
    shared.state = Some(answer);
}

/// Tells a notebook how things stand, and passes its questions on.
fn greet(
    shared: &Arc<Mutex<Shared>>,
    asked: &mpsc::Sender<(Question, UnixStream)>,
    stream: UnixStream,
) -> std::io::Result<()> {
    // A notebook that does not read must not hold up the others.
    stream.set_write_timeout(Some(Duration::from_secs(2)))?;
    let reader = stream.try_clone()?;
    let number = {
        let mut shared = lock_shared(shared);
        let left = shared
            .expected
            .map(|expected| expected.saturating_sub(shared.began.elapsed()).as_millis() as u64);
        say(
            &stream,
            &Answer::Here {
                pid: std::process::id(),
                left_ms: left,
            },
        )?;
        if let Some(state) = &shared.state {
            say(&stream, state)?;
        }
        shared.n_greeted += 1;
        let number = shared.n_greeted;
        shared.clients.insert(number, stream.try_clone()?);
        number
    };
    let (shared, asked) = (shared.clone(), asked.clone());
    thread::spawn(move || {
        for line in BufReader::new(reader).lines().map_while(Result::ok) {
            let (Ok(question), Ok(stream)) = (serde_json::from_str(&line), stream.try_clone()) else {
                break;
            };
            if asked.send((question, stream)).is_err() {
                break;
            }
        }
        let mut shared = lock_shared(&shared);
        shared.clients.remove(&number);
        shared.left_at = Instant::now();
    });
    Ok(())
}
