//! The tasks of a worker that are ready, most urgent first, and the threads that run them.

use std::{
    collections::{BinaryHeap, HashMap},
    io, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use mio::Waker;
use rustix::time::{ClockId, clock_gettime};

use crate::{
    call::{
        code, context,
        thunk::{self, Inputs, MethodThunk, Thunk},
    },
    data::value::Stored,
    hooks,
    model::{
        error::{TaskError, TaskErrorKind},
        ids::{FunctionId, Key},
        task::{Function, Task},
    },
    wire::protocol::ToScheduler,
    worker::capture::Capture,
};

/// A task that was told to stop has this long, before another thread takes its place.
const STOP_PATIENCE: Duration = Duration::from_millis(300);

/// Code that was sent is here within this time.
const CODE_WITHIN: Duration = Duration::from_secs(10);

pub(crate) struct Pool {
    queue: Mutex<Queue>,
    ready: Condvar,
    /// Somebody asks how long processors work on tasks.
    are_timed: AtomicBool,
    functions: Mutex<HashMap<FunctionId, Loaded>>,
    function_came: Condvar,
    /// What the threads have for the one that talks to others.
    out: Mutex<Out>,
    waker: Arc<Waker>,
    capture: Arc<Capture>,
}

/// What tasks said, and how they ended.
#[derive(Default)]
pub(crate) struct Out {
    pub said: Vec<ToScheduler>,
    pub ended: Vec<Ended>,
}

/// A task that ran.
pub(crate) struct Ended {
    pub key: Key,
    pub attempt: u32,
    pub result: Result<(Stored, u64), TaskError>,
    pub start_us: u64,
    pub duration_us: u64,
    pub cpu_us: u64,
}

#[derive(Default)]
struct Queue {
    jobs: BinaryHeap<Job>,
    /// By task and attempt: a cancelled one may still be here when it comes again.
    running: HashMap<(Key, u32), Running>,
    /// Memory is short: nothing is begun.
    is_paused: bool,
}

/// A task on a thread.
struct Running {
    function: FunctionId,
    /// The thread's flag; raised, it tells the task to stop.
    stop: &'static AtomicBool,
    cancelled_at: Option<Instant>,
    /// Another thread does this one's work now; it ends with its task.
    is_replaced: bool,
}

struct Loaded {
    function: Function,
    library: String,
    address: Option<Result<usize, String>>,
}

struct Job {
    task: Arc<Task>,
    attempt: u32,
    inputs: HashMap<Key, Stored>,
}

impl PartialEq for Job {
    fn eq(&self, other: &Self) -> bool {
        self.task.priority == other.task.priority
    }
}

impl Eq for Job {}

impl PartialOrd for Job {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Job {
    /// The heap gives the greatest first; a lower priority number is more urgent.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.task.priority.cmp(&self.task.priority)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// `waker` is woken when there is something to take out.
    pub fn new(waker: Arc<Waker>, capture: Arc<Capture>) -> Pool {
        Pool {
            queue: Mutex::default(),
            ready: Condvar::new(),
            are_timed: AtomicBool::new(false),
            functions: Mutex::default(),
            function_came: Condvar::new(),
            out: Mutex::default(),
            waker,
            capture,
        }
    }

    pub fn push(&self, task: Arc<Task>, attempt: u32, inputs: HashMap<Key, Stored>) {
        lock(&self.queue).jobs.push(Job {
            task,
            attempt,
            inputs,
        });
        self.ready.notify_one();
    }

    /// Drops an attempt that has not begun; tells one that has to stop.
    pub fn forget(&self, key: Key, attempt: u32) {
        let mut queue = lock(&self.queue);
        let before = queue.jobs.len();
        queue
            .jobs
            .retain(|job| (job.task.key, job.attempt) != (key, attempt));
        if queue.jobs.len() == before
            && let Some(running) = queue.running.get_mut(&(key, attempt))
        {
            running.cancelled_at = Some(Instant::now());
            (hooks::hooks().raise)(running.stop);
            drop(queue);
            hooks::wake_waits();
        }
    }

    /// Drops up to `most` of these tasks that have not begun.
    pub fn take_back(&self, keys: &[Key], most: usize) -> Vec<Key> {
        let mut given = Vec::new();
        lock(&self.queue).jobs.retain(|job| {
            let is_given = given.len() < most && keys.contains(&job.task.key);
            given.extend(is_given.then_some(job.task.key));
            !is_given
        });
        given
    }

    pub fn pause(&self, is_paused: bool) {
        let was_paused = mem::replace(&mut lock(&self.queue).is_paused, is_paused);
        if was_paused && !is_paused {
            self.ready.notify_all();
        }
    }

    /// A task that was told to stop and does not listen gives its place to a new thread.
    pub fn replace_stuck(self: &Arc<Pool>) {
        let mut queue = lock(&self.queue);
        for running in queue.running.values_mut() {
            let is_stuck = running
                .cancelled_at
                .is_some_and(|at| at.elapsed() >= STOP_PATIENCE);
            if is_stuck && !running.is_replaced {
                running.is_replaced = self.clone().start("task-again".into()).is_ok();
            }
        }
    }

    /// Functions that were told to stop so long ago, and go on; the longest first.
    pub fn deaf(&self, patience: Duration) -> Vec<(String, Duration)> {
        let mut deaf: Vec<(FunctionId, Duration)> = lock(&self.queue)
            .running
            .values()
            .filter_map(|running| Some((running.function, running.cancelled_at?.elapsed())))
            .filter(|(_, since)| *since >= patience)
            .collect();
        deaf.sort_by_key(|(_, since)| std::cmp::Reverse(*since));
        let functions = lock(&self.functions);
        deaf.into_iter()
            .filter_map(|(id, since)| Some((functions.get(&id)?.function.name.clone(), since)))
            .collect()
    }

    /// Starts a thread that runs tasks.
    pub fn start(self: Arc<Pool>, name: String) -> io::Result<()> {
        thread::Builder::new()
            .name(name)
            .stack_size(16 << 20)
            .spawn(move || self.work())
            .map(drop)
    }

    pub fn take_out(&self) -> Out {
        mem::take(&mut *lock(&self.out))
    }

    /// Tells the scheduler something, from any thread.
    pub fn say(&self, message: ToScheduler) {
        lock(&self.out).said.push(message);
        let _ = self.waker.wake();
    }

    /// Passes on what was printed just now.
    pub fn drain_printed(&self, key: Option<Key>) {
        self.capture.drain(key, &|message| self.say(message));
    }

    /// Tasks that are at work: not those that wait for others.
    pub fn n_running(&self) -> usize {
        lock(&self.queue)
            .running
            .values()
            .filter(|running| !running.is_replaced)
            .count()
    }

    /// The tasks that run now, and the names of their functions.
    pub fn running(&self) -> Vec<(Key, String)> {
        let running: Vec<(Key, FunctionId)> = lock(&self.queue)
            .running
            .iter()
            .map(|((key, _), running)| (*key, running.function))
            .collect();
        let functions = lock(&self.functions);
        running
            .into_iter()
            .filter_map(|(key, id)| Some((key, functions.get(&id)?.function.name.clone())))
            .collect()
    }

    pub fn add_function(&self, function: Function, library: String) {
        lock(&self.functions).insert(
            function.id,
            Loaded {
                function,
                library,
                address: None,
            },
        );
        self.function_came.notify_all();
    }

    fn address_of(&self, id: FunctionId) -> (String, Result<usize, String>) {
        let mut functions = lock(&self.functions);
        let Some(loaded) = functions.get_mut(&id) else {
            return (String::new(), Err("its function was never sent".into()));
        };
        let resolve = || code::resolve(&loaded.library, &loaded.function.place).map(|at| at as usize);
        let address = loaded.address.get_or_insert_with(resolve).clone();
        (loaded.function.name.clone(), address)
    }

    fn thunk(&self, id: FunctionId) -> (String, Result<Thunk, TaskError>) {
        let (name, address) = self.address_of(id);
        // SAFETY: the client named a thunk of exactly this type, in a library whose content it named too.
        (
            name,
            address
                .map(|at| unsafe { mem::transmute::<usize, Thunk>(at) })
                .map_err(code_error),
        )
    }

    /// The code of an actor's method. The scheduler has sent it before it let anybody call, but calls come another way and
    /// may be here first.
    pub fn method(&self, id: FunctionId) -> (String, Result<MethodThunk, TaskError>) {
        let is_late = |functions: &mut HashMap<FunctionId, Loaded>| !functions.contains_key(&id);
        drop(
            self.function_came
                .wait_timeout_while(lock(&self.functions), CODE_WITHIN, is_late),
        );
        let (name, address) = self.address_of(id);
        // SAFETY: as in `thunk`; only methods are named in calls of actors.
        (
            name,
            address
                .map(|at| unsafe { mem::transmute::<usize, MethodThunk>(at) })
                .map_err(code_error),
        )
    }

    fn work(self: Arc<Pool>) {
        // Leaked once for each thread, of which there are few.
        let stop: &'static AtomicBool = Box::leak(Box::default());
        (hooks::hooks().adopt)(stop);
        let mut queue = lock(&self.queue);
        loop {
            let job = if queue.is_paused { None } else { queue.jobs.pop() };
            let Some(job) = job else {
                queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let (key, attempt) = (job.task.key, job.attempt);
            queue.running.insert(
                (key, attempt),
                Running {
                    function: job.task.function,
                    stop,
                    cancelled_at: None,
                    is_replaced: false,
                },
            );
            drop(queue);
            context::enter(self.clone(), key, job.task.origin);
            let ended = self.run(job);
            context::leave();
            self.capture.drain(Some(key), &|message| self.say(message));
            let was_empty = {
                let mut out = lock(&self.out);
                out.ended.push(ended);
                out.ended.len() == 1
            };
            // One wake serves all that ends until it is heard.
            if was_empty {
                let _ = self.waker.wake();
            }
            queue = lock(&self.queue);
            (hooks::hooks().lower)(stop);
            if queue
                .running
                .remove(&(key, attempt))
                .is_some_and(|running| running.is_replaced)
            {
                return;
            }
        }
    }

    fn run(&self, job: Job) -> Ended {
        let start_us = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_micros() as u64);
        let begun = self.are_timed.load(Ordering::Relaxed).then(cpu_times);
        let start = Instant::now();
        let (name, thunk) = self.thunk(job.task.function);
        // Arguments are read and sizes told by the types' own code, which may panic as a function may.
        let guarded = |run: &mut dyn FnMut() -> Result<(Stored, u64), TaskError>| {
            catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|payload| Err(thunk::panicked(payload)))
        };
        let mut inputs = Some(job.inputs);
        let mut duration_us = 0;
        let result = thunk.and_then(|thunk| {
            guarded(&mut || {
                let value = thunk(&mut Inputs::new(
                    &job.task.args,
                    inputs.take().unwrap_or_default(),
                ));
                duration_us = start.elapsed().as_micros() as u64;
                // The size is told here, since for some types it takes a look at every item.
                let value = value?;
                if let Some(text) = value.error_text() {
                    return Err(thunk::failed(text));
                }
                let n_bytes = value.size();
                Ok((value, n_bytes))
            })
        });
        let result = result.map_err(|error| TaskError {
            function: name,
            ..error
        });
        Ended {
            key: job.task.key,
            attempt: job.attempt,
            result,
            start_us,
            duration_us,
            cpu_us: begun.map_or(0, |begun| self.cpu_us(begun, duration_us)),
        }
    }

    /// Whether it is told how long processors work on each task.
    pub fn time_tasks(&self, are_timed: bool) {
        self.are_timed.store(are_timed, Ordering::Relaxed);
    }

    /// What processors worked since `begun`, about: also in threads that the task did not make, such as those of a library,
    /// as long as nothing else runs here.
    fn cpu_us(&self, begun: [Duration; 2], duration_us: u64) -> u64 {
        let now = cpu_times();
        let [thread, process] = [0, 1].map(|i| now[i].saturating_sub(begun[i]).as_micros() as u64);
        let n_running = lock(&self.queue).running.len().max(1) as u64;
        thread.max(process / n_running).min(duration_us)
    }
}

/// What processors worked for this thread, and for this process.
fn cpu_times() -> [Duration; 2] {
    [ClockId::ThreadCPUTime, ClockId::ProcessCPUTime].map(|clock| {
        let time = clock_gettime(clock);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    })
}

impl context::Host for Pool {
    fn on_progress(&self, key: Key, n_done: u64, n_total: u64) {
        self.say(ToScheduler::Progressed { key, n_done, n_total });
    }

    /// The task on this thread is about to wait for others: another thread takes its place.
    fn on_wait(self: Arc<Pool>, key: Key) {
        let mut queue = lock(&self.queue);
        let running = queue.running.iter_mut().find(|((running, _), _)| *running == key);
        if let Some((_, running)) = running
            && !running.is_replaced
        {
            running.is_replaced = self.clone().start("task-instead".into()).is_ok();
            drop(queue);
            self.say(ToScheduler::Seceded { key });
        }
    }
}

fn code_error(message: String) -> TaskError {
    TaskError::new(TaskErrorKind::Code, message)
}
