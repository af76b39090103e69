//! One object with a state, on a worker, and calls of its methods: what tasks, which have no memory, cannot do.
//!
//! An actor is made by a task, so that the scheduler places it and knows of it. Its methods are called over a connection
//! straight to its worker, one after the other, in the order in which a program calls them. With its worker the state is
//! gone: an actor is not made again behind its owner's back.

use std::{
    any::Any,
    collections::HashMap,
    io,
    marker::PhantomData,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Sender},
    },
    thread,
    time::Duration,
};

use mio::Waker;

use crate::{
    Cluster, Error, FunctionId, IntoArg, Key, Result, TaskError, TaskErrorKind, TaskValue, WorkerId,
    client::Status,
    cluster::Handle,
    delayed::Graph,
    function::{self, FnRef, Inputs, takes},
    hub::ConnId,
    message::{Arg, FromPeer},
    pool::Pool,
    value::{AnyValue, Stored},
};

/// What a worker calls for a method: the state is behind the mutex.
pub(crate) type MethodThunk = fn(&mut Inputs, Arc<dyn AnyValue>) -> std::result::Result<Vec<u8>, TaskError>;

/// The state of an actor on its worker.
struct State<S>(Mutex<S>);

impl<S: Send + 'static> State<S> {
    /// The state behind a value. A method of a later cell may know the type under another `TypeId`, by the same name.
    fn of(state: Arc<dyn AnyValue>) -> std::result::Result<Arc<State<S>>, TaskError> {
        let wanted = std::any::type_name::<S>();
        if (&*state as &dyn Any).is::<State<S>>() {
            return state.into_any().downcast().map_err(|_| another_type(wanted));
        }
        if state.type_name() != wanted || function::names_of_cells(wanted).next().is_none() {
            return Err(another_type(wanted));
        }
        // SAFETY: it is the state of an actor, which nothing but `State` is, of a type of this name. A handle of an actor goes with its
        // variable when the notebook defines the type anew, so whoever calls has the layout that the actor was made with.
        Ok(unsafe { Arc::from_raw(Arc::into_raw(state).cast::<State<S>>()) })
    }
}

impl<S: Send + 'static> AnyValue for State<S> {
    fn write(&self, _: &mut dyn io::Write) -> std::result::Result<(), String> {
        Err("an actor stays on its worker: call its methods".into())
    }

    fn size(&self) -> u64 {
        size_of::<S>() as u64
    }

    fn inline(&self) -> Option<Vec<u8>> {
        None
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn type_name(&self) -> &'static str {
        std::any::type_name::<S>()
    }

    fn is_movable(&self) -> bool {
        false
    }
}

/// A function that makes an actor's state of arguments `In`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot make an actor of these arguments",
    note = "hint: pass the arguments as a tuple; argument types derive `Clone, Serialize, Deserialize`, the actor's own type is `Send`"
)]
pub trait NewActor<Kind, In>: Copy {
    type State: Send + 'static;
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn args(input: In, graph: &mut Graph) -> Result<Vec<Arg>>;
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn make(inputs: &mut Inputs) -> std::result::Result<Stored, TaskError>;
}

/// A method of an actor `S`: a function that takes `&mut S` first, or `&S`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no method of this actor for these arguments",
    note = "hint: a method takes `&mut` the actor first, then values; `actor.call(Counter::add, 5)`, `actor.call(Counter::get, ())`"
)]
pub trait Method<S, Kind, In>: Copy {
    type Output;
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn args(input: In, graph: &mut Graph) -> Result<Vec<Arg>>;
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn call(inputs: &mut Inputs, state: Arc<dyn AnyValue>) -> std::result::Result<Vec<u8>, TaskError>;
}

/// Marks methods that take `&S`.
pub struct Shared<Kind>(PhantomData<Kind>);

macro_rules! actor_fn {
    ($input:ty; $($a:ident $x:ident $v:ident),*) => {
        #[allow(unused_parens)]
        impl<F, S, $($a, $x),*> NewActor<($($a,)*), $input> for F
        where F: Fn($($a),*) -> S + Copy, S: Send + 'static, $($a: TaskValue + Clone, $x: IntoArg<$a>),*
        {
            type State = S;
            takes!($input; $($v),*);
            #[allow(private_interfaces, unused_variables)]
            #[inline(never)]
            fn make(inputs: &mut Inputs) -> std::result::Result<Stored, TaskError> {
                let f = function::conjure::<F>();
                $(let $v = inputs.next::<$a>()?;)*
                function::run::<F, _>(move || f($($v),*)).map(|state| Stored::Typed(Arc::new(State(Mutex::new(state)))))
            }
        }
        actor_fn!(method [&mut S] [Exclusive] $input; $($a $x $v),*);
        actor_fn!(method [&S] [Shared] $input; $($a $x $v),*);
    };
    (method [$state:ty] [$mark:ident] $input:ty; $($a:ident $x:ident $v:ident),*) => {
        #[allow(unused_parens)]
        impl<F, S, R, $($a, $x),*> Method<S, $mark<($($a,)*)>, $input> for F
        where F: Fn($state, $($a),*) -> R + Copy, S: Send + 'static, R: TaskValue, $($a: TaskValue + Clone, $x: IntoArg<$a>),*
        {
            type Output = R;
            takes!($input; $($v),*);
            #[allow(private_interfaces, unused_variables)]
            #[inline(never)]
            fn call(inputs: &mut Inputs, state: Arc<dyn AnyValue>) -> std::result::Result<Vec<u8>, TaskError> {
                let f = function::conjure::<F>();
                $(let $v = inputs.next::<$a>()?;)*
                let state = State::<S>::of(state)?;
                // A method that panicked may have left anything behind; the next call sees it, as in any other program.
                let result = function::run::<F, _>(move || f(&mut *state.0.lock().unwrap_or_else(PoisonError::into_inner), $($v),*))?;
                crate::value::encode(&result).map_err(function::unreadable)
            }
        }
    };
}

/// Marks methods that take `&mut S`.
pub struct Exclusive<Kind>(PhantomData<Kind>);

actor_fn!((););
actor_fn!(X1; A1 X1 a1);
actor_fn!((X1, X2); A1 X1 a1, A2 X2 a2);
actor_fn!((X1, X2, X3); A1 X1 a1, A2 X2 a2, A3 X3 a3);

fn another_type(wanted: &str) -> TaskError {
    function::unreadable(format!("the actor is not a `{}`", skep_render::short_type(wanted)))
}

/// The handle of an object that lives on a worker. Clones name the same object; it is dropped with the last of them.
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
    /// Methods whose code is on the actor's worker.
    prepared: Mutex<HashMap<FunctionId, String>>,
}

impl<S> Clone for Actor<S> {
    fn clone(&self) -> Self {
        Actor { inner: self.inner.clone(), state: PhantomData }
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
        let handle = self.make_actor(function::checked::<F>(F::make as *const () as usize, "actor"), args, graph)?;
        Ok(Actor { inner: Arc::new(Inner { handle, prepared: Mutex::default() }), state: PhantomData })
    }

    #[inline(never)]
    fn make_actor(&self, f: FnRef, args: Result<Vec<Arg>>, graph: Graph) -> Result<Handle> {
        let handle = self.impure().with(|options| options.is_actor = true).call(f, args, graph);
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
        let bytes = self.inner.call(function::checked::<F>(F::call as *const () as usize, "method"), args)?;
        crate::value::decode(&bytes.into()).map_err(Error::Serialisation)
    }

    /// The worker on which it is.
    ///
    /// # Errors
    /// When it is gone.
    pub fn worker(&self) -> Result<String> {
        self.inner.place().map(|(worker, _)| worker)
    }
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

impl Inner {
    fn place(&self) -> Result<(String, String)> {
        let held = self.handle.held()?;
        match held.client.status(held.key) {
            Some(Status::Done { worker, address, .. }) => Ok((worker, address)),
            Some(Status::Failed(error)) => Err(error),
            _ => Err(Error::Disconnected("the actor's worker is gone".into())),
        }
    }

    #[inline(never)]
    fn call(&self, f: FnRef, args: Result<Vec<Arg>>) -> Result<Vec<u8>> {
        let args = args?;
        let mut has_handles = false;
        args.iter().for_each(|arg| arg.for_each_key(&mut |_| has_handles = true));
        if has_handles {
            return Err(Error::Serialisation("a method of an actor takes values, not handles\nhint: `.gather()?` the value first".into()));
        }
        let held = self.handle.held()?;
        let located = function::located(f)?;
        let id = located.function.id;
        let known = self.prepared.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        let address = match known {
            Some(address) => address,
            None => {
                let address = held.client.prepare(held.key, &located)?;
                self.prepared.lock().unwrap_or_else(PoisonError::into_inner).insert(id, address.clone());
                address
            }
        };
        match held.client.call(&address, held.key, id, args) {
            // The scheduler knows how its worker ended.
            Err(Error::Disconnected(why)) => Err(held.client.why_ended(held.key, Duration::from_secs(5))?.unwrap_or(Error::Disconnected(why))),
            other => other,
        }
    }
}

/// The actors of a worker: each has a thread, so that calls come one after the other and hold up nothing else.
pub(crate) struct Actors {
    pool: Arc<Pool>,
    waker: Arc<Waker>,
    threads: HashMap<Key, Sender<Call>>,
    replies: Arc<Mutex<Vec<(ConnId, FromPeer)>>>,
}

struct Call {
    from: ConnId,
    id: u64,
    function: FunctionId,
    args: Vec<Arg>,
    state: Arc<dyn AnyValue>,
}

impl Actors {
    pub fn new(pool: Arc<Pool>, waker: Arc<Waker>) -> Actors {
        Actors { pool, waker, threads: HashMap::new(), replies: Arc::default() }
    }

    /// Calls a method of the actor that `value` is, if it is there.
    pub fn call(&mut self, from: ConnId, actor: Key, value: Option<Stored>, id: u64, function: FunctionId, args: Vec<Arg>) {
        let refused = |message: &str| FromPeer::Returned { id, result: Err(lost(message)) };
        let state = match value {
            Some(Stored::Typed(value)) => value,
            _ => return self.reply(from, refused("it is not here")),
        };
        let thread = match self.threads.get(&actor) {
            Some(thread) => thread.clone(),
            None => match self.start() {
                Ok(thread) => {
                    self.threads.insert(actor, thread.clone());
                    thread
                }
                Err(error) => return self.reply(from, refused(&error.to_string())),
            },
        };
        let _ = thread.send(Call { from, id, function, args, state });
    }

    fn start(&self) -> io::Result<Sender<Call>> {
        let (sender, calls) = mpsc::channel::<Call>();
        let (pool, waker, replies) = (self.pool.clone(), self.waker.clone(), self.replies.clone());
        thread::Builder::new().name("actor".into()).stack_size(16 << 20).spawn(move || {
            for Call { from, id, function, args, state } in calls {
                let (name, thunk) = pool.method(function);
                let call = |thunk: MethodThunk| {
                    let called = catch_unwind(AssertUnwindSafe(|| thunk(&mut Inputs::new(&args, HashMap::new()), state)));
                    called.unwrap_or_else(|payload| Err(function::panicked(payload)))
                };
                let result = thunk.and_then(call);
                let result = result.map(Into::into).map_err(|error| TaskError { function: name, ..error });
                pool.drain_prints(None);
                replies.lock().unwrap_or_else(PoisonError::into_inner).push((from, FromPeer::Returned { id, result }));
                let _ = waker.wake();
            }
        })?;
        Ok(sender)
    }

    fn reply(&self, to: ConnId, reply: FromPeer) {
        self.replies.lock().unwrap_or_else(PoisonError::into_inner).push((to, reply));
        let _ = self.waker.wake();
    }

    pub fn take_replies(&self) -> Vec<(ConnId, FromPeer)> {
        mem::take(&mut *self.replies.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends the threads of actors that are gone.
    pub fn retain(&mut self, is_here: impl Fn(Key) -> bool) {
        self.threads.retain(|key, _| is_here(*key));
    }
}

/// The error of everything that needs an actor whose worker is gone.
pub(crate) fn lost(message: &str) -> TaskError {
    TaskError { kind: TaskErrorKind::ActorLost, message: message.to_string(), function: String::new(), at: None, worker: None }
}

/// As [`lost`], with the worker.
pub(crate) fn lost_with(function: String, worker: WorkerId, cause: &str) -> TaskError {
    let message = format!("its worker is gone: {cause}; what it knew is lost\nhint: make it again with `cluster.actor(…)`");
    TaskError { function, worker: Some(worker.to_string()), ..lost(&message) }
}
