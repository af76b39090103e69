//! The actors of a worker: each has a thread, so that calls come one after the other and hold up nothing
//! else.

use std::{
    collections::HashMap,
    io, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Sender},
    },
    thread,
};

use mio::Waker;

use crate::{
    call::thunk::{self, Inputs, MethodThunk},
    data::value::{AnyValue, Stored},
    model::{
        error::TaskError,
        ids::{FunctionId, Key},
        task::Arg,
    },
    wire::{protocol::FromPeer, transport::ConnId},
    worker::pool::Pool,
};

/// The actors of a worker: each has a thread, so that calls come one after the other and hold up nothing
/// else.
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
        Actors {
            pool,
            waker,
            threads: HashMap::new(),
            replies: Arc::default(),
        }
    }

    /// Calls a method of the actor that `value` is, if it is there.
    pub fn call(
        &mut self,
        from: ConnId,
        actor: Key,
        value: Option<Stored>,
        id: u64,
        function: FunctionId,
        args: Vec<Arg>,
    ) {
        let refused = |message: &str| FromPeer::Returned {
            id,
            result: Err(TaskError::actor_lost(message)),
        };
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
        let _ = thread.send(Call {
            from,
            id,
            function,
            args,
            state,
        });
    }

    fn start(&self) -> io::Result<Sender<Call>> {
        let (sender, calls) = mpsc::channel::<Call>();
        let (pool, waker, replies) = (self.pool.clone(), self.waker.clone(), self.replies.clone());
        thread::Builder::new()
            .name("actor".into())
            .stack_size(16 << 20)
            .spawn(move || {
                for Call {
                    from,
                    id,
                    function,
                    args,
                    state,
                } in calls
                {
                    let (name, thunk) = pool.method(function);
                    let call = |thunk: MethodThunk| {
                        let called = catch_unwind(AssertUnwindSafe(|| {
                            thunk(&mut Inputs::new(&args, HashMap::new()), state)
                        }));
                        called.unwrap_or_else(|payload| Err(thunk::panicked(payload)))
                    };
                    let result = thunk.and_then(call);
                    let result = result.map(Into::into).map_err(|error| TaskError {
                        function: name,
                        ..error
                    });
                    pool.drain_printed(None);
                    replies
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push((from, FromPeer::Returned { id, result }));
                    let _ = waker.wake();
                }
            })?;
        Ok(sender)
    }

    fn reply(&self, to: ConnId, reply: FromPeer) {
        self.replies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((to, reply));
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
