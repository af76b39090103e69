//! One object with a state, on a worker, and calls of its methods: what tasks, which have no memory, cannot
//! do.
//!
//! An actor is made by a task, so that the scheduler places it and knows of it. Its methods are called over a
//! connection straight to its worker, one after the other, in the order in which a program calls them. With
//! its worker the state is gone: an actor is not made again behind its owner's back.

use std::{
    marker::PhantomData,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Sender},
    },
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use skep_render::Message;

use crate::{
    api::{cluster::Cluster, connect::current_client, remote::Handle},
    call::locate::{self, FnRef},
    data::value::{self, TaskValue, is_argument},
    engine::{client::Status, watched::Watched},
    graph::{
        method::{Method, NewActor},
        node::Graph,
        task_fn::IntoArg,
    },
    model::{
        error::{Error, Result},
        ids::Key,
        task::Arg,
    },
};

fn give(answer: &Watched<Answer>, result: Result<Vec<u8>>) {
    let wakers = answer.change(|answer| {
        answer.result = Some(result);
        std::mem::take(&mut answer.wakers)
    });
    wakers.into_iter().for_each(Waker::wake);
}

/// Its thread ends with the last handle, when the last letter is answered.
fn start_postman() -> std::io::Result<Sender<Letter>> {
    let (sender, letters) = mpsc::channel::<Letter>();
    thread::Builder::new().name("letters".into()).spawn(move || {
        for letter in letters {
            give(&letter.answer, letter.to.call(letter.method, letter.args));
        }
    })?;
    Ok(sender)
}

/// The handle of an object that lives on a worker. Clones name the same object; it is dropped with the last
/// of them.
///
/// ```no_run
/// struct Counter { n: i64 }
/// impl Counter {
///     fn new(n: i64) -> Counter { Counter { n } }
///     fn add(&mut self, by: i64) -> i64 { self.n += by; self.n }
/// }
/// # fn main() -> skep_cluster::Result<()> {
/// # let cluster = skep_cluster::Cluster::local().start()?;
/// let counter = cluster.actor(Counter::new, 10)?;
/// assert_eq!(counter.call(Counter::add, 5)?, 15);
/// # Ok(())
/// # }
/// ```
pub struct Actor<S> {
    inner: Arc<Inner>,
    state: PhantomData<fn() -> S>,
}

struct Inner {
    handle: Handle,
    /// Takes calls that nobody waits for, in order; made by the first of them.
    letters: Mutex<Option<Sender<Letter>>>,
}

impl Inner {
    fn new(handle: Handle) -> Arc<Inner> {
        let letters = Mutex::default();
        Arc::new(Inner { handle, letters })
    }
}

/// A call on its way. It keeps the actor until it is answered.
struct Letter {
    to: Arc<Inner>,
    method: FnRef,
    args: Result<Vec<Arg>>,
    answer: Arc<Watched<Answer>>,
}

#[derive(Default)]
struct Answer {
    result: Option<Result<Vec<u8>>>,
    wakers: Vec<Waker>,
}

/// What a method will have returned; see [`Actor::send`].
#[must_use = "what the method returns, also its error, is in here"]
pub struct Reply<R> {
    answer: Arc<Watched<Answer>>,
    value: PhantomData<fn() -> R>,
}

impl<S> Clone for Actor<S> {
    fn clone(&self) -> Self {
        Actor {
            inner: self.inner.clone(),
            state: PhantomData,
        }
    }
}

impl Cluster {
    /// Makes an object on a worker, which stays there with its state; see [`Actor`].
    ///
    /// # Errors
    /// When `new` fails, or the cluster is gone.
    pub fn actor<F, Kind, In>(&self, new: F, args: In) -> Result<Actor<F::State>>
    where
        F: NewActor<Kind, In>,
    {
        let _ = new;
        let mut graph = Graph::default();
        let args = F::args(args, &mut graph);
        let handle = self.make_actor(
            locate::checked::<F>(F::make as *const () as usize, "actor"),
            args,
            graph,
        )?;
        Ok(Actor {
            inner: Inner::new(handle),
            state: PhantomData,
        })
    }

    #[inline(never)]
    fn make_actor(&self, f: FnRef, args: Result<Vec<Arg>>, graph: Graph) -> Result<Handle> {
        let handle = self
            .impure()
            .with(|options| options.is_actor = true)
            .call(f, args, graph);
        let held = handle.held()?;
        held.client.wait(&[held.key])?;
        Ok(handle)
    }
}

impl<S> Actor<S> {
    /// Calls a method where the actor is, and brings its result here. Calls run one after the other.
    ///
    /// # Errors
    /// When the method panics, the actor is gone with its worker, or the cell is interrupted.
    pub fn call<F, Kind, In>(&self, method: F, args: In) -> Result<F::Output>
    where
        F: Method<S, Kind, In>,
        F::Output: TaskValue,
    {
        let _ = method;
        let mut graph = Graph::default();
        let args = F::args(args, &mut graph);
        decode(self.inner.call_in_turn(method_ref::<S, F, Kind, In>(), args)?)
    }

    /// Calls a method without waiting for it. Calls run in the order in which they were made, those of [`Actor::call`] among
    /// them.
    ///
    /// ```no_run
    /// # struct Counter { n: i64 }
    /// # impl Counter {
    /// #     fn new(n: i64) -> Counter { Counter { n } }
    /// #     fn add(&mut self, by: i64) -> i64 { self.n += by; self.n }
    /// # }
    /// # async fn cell() -> skep_cluster::Result<()> {
    /// # let cluster = skep_cluster::Cluster::local().start()?;
    /// let counter = cluster.actor(Counter::new, 0)?;
    /// let replies: Vec<_> = (0..10).map(|i| counter.send(Counter::add, i)).collect();
    /// for reply in replies {
    ///     println!("{}", reply.gather()?); // or `reply.await?`
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn send<F, Kind, In>(&self, method: F, args: In) -> Reply<F::Output>
    where
        F: Method<S, Kind, In>,
        F::Output: TaskValue,
    {
        let _ = method;
        let mut graph = Graph::default();
        let args = F::args(args, &mut graph);
        Reply {
            answer: self.inner.send(method_ref::<S, F, Kind, In>(), args),
            value: PhantomData,
        }
    }

    /// The worker on which it is.
    ///
    /// # Errors
    /// When it is gone.
    pub fn worker(&self) -> Result<String> {
        self.inner.worker()
    }
}

/// As an argument of a task an actor goes by its name: the task calls the same object. Whoever made it keeps a handle for as
/// long as tasks use it, or they find it gone.
///
/// Nowhere else: what reads the name must mean the very type that the actor was made with, as a function does that was compiled
/// beside the handle. In a queue or a text it could outlive a definition of its type.
impl<S> Serialize for Actor<S> {
    fn serialize<Out: Serializer>(&self, out: Out) -> std::result::Result<Out::Ok, Out::Error> {
        if !is_argument() {
            return Err(serde::ser::Error::custom(ARGUMENTS_ONLY));
        }
        let held = self.inner.handle.held().map_err(serde::ser::Error::custom)?;
        (held.key, &*held.name).serialize(out)
    }
}

impl<S: 'static> IntoArg<Actor<S>> for &Actor<S> {
    #[allow(private_interfaces)]
    fn into_arg(self, graph: &mut Graph) -> Result<Arg> {
        self.clone().into_arg(graph)
    }
}

impl<'de, S> Deserialize<'de> for Actor<S> {
    fn deserialize<From: Deserializer<'de>>(from: From) -> std::result::Result<Self, From::Error> {
        if !is_argument() {
            return Err(serde::de::Error::custom(ARGUMENTS_ONLY));
        }
        let (key, name) = <(Key, String)>::deserialize(from)?;
        let handle = adopt(key, &name).unwrap_or_else(Handle::Refused);
        Ok(Actor {
            inner: Inner::new(handle),
            state: PhantomData,
        })
    }
}

const ARGUMENTS_ONLY: &str = "an actor travels as an argument of a task, and in no other way";

#[inline(never)]
fn adopt(key: Key, name: &str) -> Result<Handle> {
    let client = current_client()?;
    client.submit(Vec::new(), &[key], &[])?;
    Ok(Handle::adopted(&client, key, name))
}

impl<S> std::fmt::Debug for Actor<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = skep_render::short_type(std::any::type_name::<S>());
        match self.worker() {
            Ok(worker) => write!(f, "Actor<{name}>(on {worker})"),
            Err(error) => write!(f, "Actor<{name}>(gone: {error})"),
        }
    }
}

fn method_ref<S, F: Method<S, Kind, In>, Kind, In>() -> FnRef {
    locate::checked::<F>(F::call as *const () as usize, "method")
}

fn decode<R: TaskValue>(bytes: Vec<u8>) -> Result<R> {
    value::decode(&bytes.into()).map_err(Error::serialisation)
}

impl<R> Reply<R> {
    /// Whether the method has returned, or failed.
    pub fn is_done(&self) -> bool {
        self.answer.lock().result.is_some()
    }
}

impl<R: TaskValue> Reply<R> {
    /// Waits for what the method returns.
    ///
    /// # Errors
    /// As [`Actor::call`]. An interrupt ends the waiting; the call goes on.
    pub fn gather(&self) -> Result<R> {
        decode(self.answer.wait_for(|answer| answer.result.clone())??)
    }
}

impl<R: TaskValue> Future for Reply<R> {
    type Output = Result<R>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<R>> {
        let mut answer = self.answer.lock();
        match answer.result.clone() {
            Some(result) => Poll::Ready(result.and_then(decode)),
            None => {
                if !answer.wakers.iter().any(|known| known.will_wake(cx.waker())) {
                    answer.wakers.push(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }
}

impl<R> std::fmt::Debug for Reply<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.answer.lock().result {
            None => write!(f, "a reply that has not come yet"),
            Some(Ok(_)) => write!(f, "a reply that is there"),
            Some(Err(error)) => write!(f, "a call that failed: {error}"),
        }
    }
}

impl Inner {
    #[inline(never)]
    fn send(self: &Arc<Self>, method: FnRef, args: Result<Vec<Arg>>) -> Arc<Watched<Answer>> {
        let answer: Arc<Watched<Answer>> = Watched::new();
        let letter = Letter {
            to: self.clone(),
            method,
            args,
            answer: answer.clone(),
        };
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = match letters.take() {
            Some(sender) => Ok(sender),
            None => start_postman(),
        };
        match sender {
            Ok(sender) => {
                let _ = sender.send(letter);
                *letters = Some(sender);
            }
            Err(error) => give(&answer, Err(Error::start(error.to_string()))),
        }
        answer
    }

    /// Behind the calls that were sent before it.
    #[inline(never)]
    fn call_in_turn(self: &Arc<Self>, method: FnRef, args: Result<Vec<Arg>>) -> Result<Vec<u8>> {
        let has_sent = self
            .letters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some();
        if has_sent {
            let answer = self.send(method, args);
            answer.wait_for(|answer| answer.result.clone())?
        } else {
            self.call(method, args)
        }
    }

    fn worker(&self) -> Result<String> {
        let held = self.handle.held()?;
        match held.client.status(held.key) {
            Some(Status::Done { worker, .. }) => Ok(worker.to_string()),
            Some(Status::Failed(error)) => Err(error),
            _ => Err(Error::Disconnected("the actor's worker is gone".into())),
        }
    }

    #[inline(never)]
    fn call(&self, f: FnRef, args: Result<Vec<Arg>>) -> Result<Vec<u8>> {
        let args = args?;
        let mut has_handles = false;
        args.iter()
            .for_each(|arg| arg.for_each_key(&mut |_| has_handles = true));
        if has_handles {
            return Err(Error::Serialisation(
                Message::new("a method of an actor takes values, not handles")
                    .hint("`.gather()?` the value first"),
            ));
        }
        let held = self.handle.held()?;
        match held.client.call(held.key, &*locate::located(f)?, args) {
            // The scheduler knows how its worker ended.
            Err(Error::Disconnected(why)) => Err(held
                .client
                .why_ended(held.key, Duration::from_secs(5))?
                .unwrap_or(Error::Disconnected(why))),
            other => other,
        }
    }
}
