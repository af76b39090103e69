//! Several actors of one kind that share the work.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::{
    api::{
        actor::{Actor, Reply},
        cluster::Cluster,
    },
    data::value::TaskValue,
    graph::method::{Method, NewActor},
    model::error::Result,
};

/// Actors that were made alike and share the calls: for what is costly to set up, such as a model or a connection. Each has a
/// state of its own, so a pool is for methods to which that does not matter.
///
/// ```no_run
/// struct Model { weights: Vec<f64> }
/// impl Model {
///     fn load(n: usize) -> Model { Model { weights: vec![0.5; n] } }
///     fn score(&mut self, x: f64) -> f64 { self.weights.iter().map(|w| w * x).sum() }
/// }
/// # fn main() -> skep_cluster::Result<()> {
/// # let cluster = skep_cluster::Cluster::local().start()?;
/// let pool = cluster.actor_pool(Model::load, 1_000, 2)?;
/// let scores: Vec<f64> = pool.map(Model::score, (0..100).map(f64::from))?;
/// # Ok(())
/// # }
/// ```
pub struct ActorPool<S> {
    actors: Vec<Actor<S>>,
    n_sent: Vec<AtomicUsize>,
    next: AtomicUsize,
}

impl Cluster {
    /// Makes `n` actors alike, spread over the workers; see [`ActorPool`].
    ///
    /// # Errors
    /// As [`Cluster::actor`], for the first that cannot be made.
    pub fn actor_pool<F, Kind, In>(&self, new: F, args: In, n: usize) -> Result<ActorPool<F::State>>
    where
        F: NewActor<Kind, In>,
        In: Clone,
    {
        let mut workers: Vec<u32> = self.info()?.workers.iter().map(|worker| worker.id.0).collect();
        workers.sort_unstable();
        let mut actors = Vec::new();
        for at in 0..n.max(1) {
            let place = match workers.as_slice() {
                [] => self.clone(),
                workers => self.on_workers([workers[at % workers.len()]]),
            };
            actors.push(place.actor(new, args.clone())?);
        }
        Ok(ActorPool {
            n_sent: actors.iter().map(|_| AtomicUsize::new(0)).collect(),
            actors,
            next: AtomicUsize::new(0),
        })
    }
}

impl<S> ActorPool<S> {
    /// The actors themselves.
    pub fn actors(&self) -> &[Actor<S>] {
        &self.actors
    }

    /// Calls a method of the next actor, round and round, without waiting for it.
    pub fn send<F, Kind, In>(&self, method: F, args: In) -> Reply<F::Output>
    where
        F: Method<S, Kind, In>,
        F::Output: TaskValue,
    {
        let at = self.next.fetch_add(1, Ordering::Relaxed) % self.actors.len();
        self.n_sent[at].fetch_add(1, Ordering::Relaxed);
        self.actors[at].send(method, args)
    }

    /// Calls a method once for each item, of whichever actor is free, and gives what each call returned, in order.
    ///
    /// # Errors
    /// The first call that failed, in the order of the items. An interrupt ends the waiting.
    pub fn map<F, Kind, In>(&self, method: F, items: impl IntoIterator<Item = In>) -> Result<Vec<F::Output>>
    where
        F: Method<S, Kind, In>,
        F::Output: TaskValue,
    {
        // Two calls under way with each actor: it has the next one when it is done, and none waits behind a slow one for
        // long.
        const AHEAD: usize = 2;
        let mut under_way: Vec<Vec<usize>> = self.actors.iter().map(|_| Vec::new()).collect();
        let mut replies: Vec<Reply<F::Output>> = Vec::new();
        for item in items {
            let at = loop {
                for calls in &mut under_way {
                    calls.retain(|call| !replies[*call].is_done());
                }
                let (at, calls) = under_way
                    .iter()
                    .enumerate()
                    .min_by_key(|(_, calls)| calls.len())
                    .expect("invariant: a pool has an actor");
                match calls.first() {
                    Some(first) if calls.len() >= AHEAD => drop(replies[*first].gather()?),
                    _ => break at,
                }
            };
            under_way[at].push(replies.len());
            self.n_sent[at].fetch_add(1, Ordering::Relaxed);
            replies.push(self.actors[at].send(method, item));
        }
        replies.iter().map(Reply::gather).collect()
    }
}

impl<S> std::fmt::Debug for ActorPool<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = skep_render::short_type(std::any::type_name::<S>());
        let sent: Vec<usize> = self.n_sent.iter().map(|n| n.load(Ordering::Relaxed)).collect();
        write!(
            f,
            "ActorPool<{name}>({}, calls of each: {sent:?})",
            skep_render::plural(self.actors.len(), "actor")
        )
    }
}
