//! Tasks of flows: functions with a policy.

use std::{sync::Arc, time::Duration};

use skep_cluster::{Call, Error, Result, TaskFn, TaskRun, TaskValue};
use skep_render::Message;

use crate::{
    live::{Handle, Live, Refused},
    policy::{Caching, Policy},
};

/// A function, and how it shall run when a flow calls it: [`task`] makes one.
///
/// Each call is a task run with a state of its own. It starts when its inputs are there, on any worker; its value is an
/// argument of other tasks, and of the flow's own code where it is asked for.
///
/// ```no_run
/// use std::time::Duration;
/// # use skep_flow::{Flow, task};
/// fn fetch(page: u32) -> Result<String, std::io::Error> { std::fs::read_to_string(format!("{page}.txt")) }
/// fn count(pages: Vec<String>) -> usize { pages.iter().map(String::len).sum() }
///
/// fn letters(n: u32) -> skep_cluster::Result<usize> {
///     let pages = task(fetch).retries(3).retry_delay(Duration::from_secs(1)).map(0..n);
///     task(count).submit(&pages).result()
/// }
/// let run = Flow::new("letters", letters).run(3)?;
/// # Ok::<(), skep_cluster::Error>(())
/// ```
#[derive(Clone)]
pub struct Task<F> {
    function: F,
    policy: Arc<Policy>,
    name: Option<Arc<str>>,
}

/// A function as a task of a flow: see [`Task`].
pub fn task<F: Copy>(function: F) -> Task<F> {
    Task {
        function,
        policy: Arc::default(),
        name: None,
    }
}

impl<F: Copy> Task<F> {
    #[inline(never)]
    fn with(mut self, change: impl FnOnce(&mut Policy)) -> Task<F> {
        change(Arc::make_mut(&mut self.policy));
        self
    }

    /// Another name than the function's.
    #[must_use]
    pub fn name(mut self, name: &str) -> Task<F> {
        self.name = Some(name.into());
        self
    }

    /// A call that fails runs again, up to `n` times.
    #[must_use]
    pub fn retries(self, n: u32) -> Task<F> {
        self.with(|policy| policy.retries = n)
    }

    /// How long a call that failed waits before it runs again.
    #[must_use]
    pub fn retry_delay(self, delay: Duration) -> Task<F> {
        self.retry_delays([delay])
    }

    /// The waits before the first retry, the second, and so on; the last one holds for those after it.
    #[must_use]
    pub fn retry_delays(self, delays: impl IntoIterator<Item = Duration>) -> Task<F> {
        let delays: Vec<Duration> = delays.into_iter().collect();
        self.with(|policy| policy.delays = delays)
    }

    /// Each wait is longer than the one before by this factor: 2 doubles them.
    #[must_use]
    pub fn backoff(self, factor: f64) -> Task<F> {
        self.with(|policy| match factor {
            _ if factor >= 1.0 => policy.backoff = factor,
            _ => {
                policy.wrong = Some(format!(
                    "a backoff of {factor}: each wait is longer than the one before by a factor of 1 or more"
                ))
            }
        })
    }

    /// Each wait is longer by up to this part of it, by chance, so that many that failed together do not come back together.
    #[must_use]
    pub fn jitter(self, part: f64) -> Task<F> {
        self.with(|policy| match part {
            _ if (0.0..=100.0).contains(&part) => policy.jitter = part,
            _ => {
                policy.wrong = Some(format!(
                    "a jitter of {part}: it is a part of the wait, as 0.5 is half of it"
                ))
            }
        })
    }

    /// A call that takes longer is stopped, and has failed.
    #[must_use]
    pub fn timeout(self, limit: Duration) -> Task<F> {
        self.with(|policy| policy.timeout = Some(limit))
    }

    /// A call does not run if there is a value from an earlier run, of any flow, of the same code with the same inputs. Its
    /// state is then `Cached`. Without this every run calls it.
    #[must_use]
    pub fn cache(self) -> Task<F> {
        self.with(|policy| policy.cache = Some(Caching { expires: None }))
    }

    /// As [`Task::cache`], with values that are no older than this.
    #[must_use]
    pub fn cache_for(self, expires: Duration) -> Task<F> {
        self.with(|policy| {
            policy.cache = Some(Caching {
                expires: Some(expires),
            });
        })
    }

    /// A word that the task carries, on the cluster too.
    #[must_use]
    pub fn tag(self, tag: &str) -> Task<F> {
        self.with(|policy| {
            if !policy.tags.iter().any(|known| known == tag) {
                policy.tags.push(tag.to_string());
            }
        })
    }

    /// Of all calls with this tag, in all runs of this program, so many run at once: for a database that takes few
    /// connections.
    #[must_use]
    pub fn limit(self, tag: &str, most: usize) -> Task<F> {
        self.tag(tag).with(|policy| {
            if most == 0 {
                policy.wrong = Some(format!(
                    "a limit of 0 for the tag `{tag}`: nothing with it would ever run"
                ));
            }
            policy.limits.retain(|(known, _)| known != tag);
            policy.limits.push((tag.to_string(), most.max(1)));
        })
    }

    /// Whether values are written to the store, so that a run that goes on later, or a cached call, need not make them again.
    /// By itself those of up to 64 MiB are.
    #[must_use]
    pub fn keep(self, is_kept: bool) -> Task<F> {
        self.with(|policy| policy.keep = Some(is_kept))
    }

    /// Calls it, and goes on at once. `args` is a tuple of values and of what other calls gave; one argument stands alone.
    pub fn submit<Kind, In>(&self, args: In) -> TaskRun<F::Output>
    where
        F: TaskFn<Kind, In>,
    {
        let id = match begin() {
            Ok(id) => id,
            Err(error) => return self.refused(error),
        };
        self.called(Call::new(self.function, args, &id))
    }

    /// Calls it, waits, and gives the value, as the function itself would.
    ///
    /// # Errors
    /// What it failed with when its retries were used up; an interrupt.
    pub fn call<Kind, In>(&self, args: In) -> Result<F::Output>
    where
        F: TaskFn<Kind, In>,
        F::Output: TaskValue,
    {
        self.submit(args).result()
    }

    /// Calls it once for each item.
    pub fn map<Kind, In>(&self, items: impl IntoIterator<Item = In>) -> Vec<TaskRun<F::Output>>
    where
        F: TaskFn<Kind, In>,
    {
        let mut runs = Vec::new();
        for item in items {
            runs.push(self.submit(item));
        }
        runs
    }

    #[inline(never)]
    fn called<T>(&self, call: Result<Call>) -> TaskRun<T> {
        let entry = call.and_then(|call| {
            if let Some(wrong) = &self.policy.wrong {
                return Err(Error::Argument(Message::new(format!(
                    "`{}` has {wrong}",
                    call.name()
                ))));
            }
            let name = self.name.clone().unwrap_or_else(|| call.name());
            Live::current()?.call(call, name, self.policy.clone())
        });
        match entry {
            Ok(entry) => TaskRun::of(Arc::new(Handle(entry))),
            Err(error) => self.refused(error),
        }
    }

    fn refused<T>(&self, error: Error) -> TaskRun<T> {
        let name = self.name.as_deref().unwrap_or("a task").to_string();
        TaskRun::of(Arc::new(Refused { name, error }))
    }
}

fn begin() -> Result<String> {
    Ok(Live::current()?.next_call_id())
}

/// Celery's `chain`: what one call gives goes to the next.
pub trait Chain<T> {
    /// `a.then(&task(f))` is `task(f).submit(&a)`, and reads in the order in which it runs.
    fn then<F, Kind>(&self, next: &Task<F>) -> TaskRun<F::Output>
    where
        F: TaskFn<Kind, TaskRun<T>>;
}

impl<T> Chain<T> for TaskRun<T> {
    fn then<F, Kind>(&self, next: &Task<F>) -> TaskRun<F::Output>
    where
        F: TaskFn<Kind, TaskRun<T>>,
    {
        next.submit(self.clone())
    }
}

/// Celery's `group`, and the head of its `chord`: many calls together.
pub trait Group<T> {
    /// All values as one list, in order; it is there when all of them are.
    fn group(&self) -> TaskRun<Vec<T>>
    where
        T: TaskValue + Clone;

    /// A call on all values at once, when all of them are there.
    fn chord<F, Kind>(&self, body: &Task<F>) -> TaskRun<F::Output>
    where
        F: TaskFn<Kind, Vec<TaskRun<T>>>;
}

impl<T> Group<T> for [TaskRun<T>] {
    fn group(&self) -> TaskRun<Vec<T>>
    where
        T: TaskValue + Clone,
    {
        task(list::<T>).name("group").submit(self)
    }

    fn chord<F, Kind>(&self, body: &Task<F>) -> TaskRun<F::Output>
    where
        F: TaskFn<Kind, Vec<TaskRun<T>>>,
    {
        body.submit(self.to_vec())
    }
}

fn list<T>(values: Vec<T>) -> Vec<T> {
    values
}
