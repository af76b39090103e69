//! Bags: many items of one type, in partitions, in no order that anybody promises.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    sync::Arc,
};

use skep_cluster::{Cluster, Delayed, Error, Part, Remote, Result, TaskValue, function_of};
use skep_render::{Bundle, Message, Rich, bytes, card::Card, plural, short_type};

use crate::{
    piece::{Piece, submit, tree, with_piece},
    text,
};

/// Items in partitions, each a task of its own: for work on text and records before they are a table.
///
/// ```no_run
/// # use skep_collections::Bag;
/// let words = Bag::read_text("data/*.txt")
///     .flat_map(|line: String| line.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>());
/// let most: Vec<(String, u64)> = words.frequencies().top_by(10, |(_, n)| *n).collect()?;
/// # Ok::<(), skep_cluster::Error>(())
/// ```
///
/// Functions are plain ones, or closures that capture nothing; what they need beside the item goes into the items, or is
/// a constant. Nothing runs before [`Bag::collect`], [`Bag::take`], [`Bag::persist`] or the `compute` of a result.
pub struct Bag<T> {
    inner: Result<Arc<Inner<T>>>,
}

struct Inner<T> {
    /// Where the items come from.
    source: String,
    pieces: Vec<Piece<Vec<T>>>,
}

impl<T> Clone for Bag<T> {
    fn clone(&self) -> Self {
        Bag {
            inner: self.inner.clone(),
        }
    }
}

impl Bag<String> {
    /// The lines of text files by pattern, also of files that are packed by gzip (`.gz`). Files above 32 MB are cut where a
    /// line ends.
    ///
    /// That no file matches is an error of whatever runs the bag.
    pub fn read_text(pattern: &str) -> Bag<String> {
        Bag {
            inner: text::find(pattern).map(|lines| {
                let source = format!("{pattern}, {}", bytes(text::n_bytes(&lines)));
                let pieces = lines
                    .into_iter()
                    .map(|lines| Piece::Call(Delayed::call(text::read, lines)))
                    .collect();
                Arc::new(Inner { source, pieces })
            }),
        }
    }
}

impl<T: TaskValue + Clone> Bag<T> {
    /// Items of this program in so many partitions.
    ///
    /// ```
    /// # use skep_collections::Bag;
    /// let numbers = Bag::from_items(0..1_000i64, 8);
    /// assert_eq!(numbers.n_partitions(), 8);
    /// ```
    pub fn from_items(items: impl IntoIterator<Item = T>, n_partitions: usize) -> Bag<T> {
        let items: Vec<T> = items.into_iter().collect();
        let source = plural(items.len(), "item");
        let pieces = even_chunks(items, n_partitions)
            .into_iter()
            .map(|some| Piece::Call(Delayed::call(given::<T>, some)))
            .collect();
        Bag::of(source, pieces)
    }

    /// A partition for each of these arguments, which a function makes items of: files of one's own kind, days, seeds.
    pub fn from_fn<A, F>(arguments: impl IntoIterator<Item = A>, f: F) -> Bag<T>
    where
        A: TaskValue + Clone,
        F: Fn(A) -> Vec<T> + Copy,
    {
        let _ = f;
        let pieces: Vec<Piece<Vec<T>>> = arguments
            .into_iter()
            .map(|argument| {
                Piece::Call(Delayed::around::<F, _, _, _>(
                    one::<F, A, T>,
                    argument,
                    "bag made by",
                ))
            })
            .collect();
        Bag::of("a function".to_string(), pieces)
    }

    fn of(source: String, pieces: Vec<Piece<Vec<T>>>) -> Bag<T> {
        Bag {
            inner: Ok(Arc::new(Inner { source, pieces })),
        }
    }

    /// The same with a task added to each partition.
    fn each<B>(&self, call: impl Fn(&Piece<Vec<T>>) -> Delayed<Vec<B>>) -> Bag<B> {
        Bag {
            inner: self.inner.clone().map(|inner| {
                Arc::new(Inner {
                    source: inner.source.clone(),
                    pieces: inner
                        .pieces
                        .iter()
                        .map(|piece| Piece::Call(call(piece)))
                        .collect(),
                })
            }),
        }
    }

    /// `f` of each item.
    #[must_use]
    pub fn map<F, B>(&self, f: F) -> Bag<B>
    where
        F: Fn(T) -> B + Copy,
        B: TaskValue + Clone,
    {
        let _ = f;
        self.each(|piece| {
            with_piece!(piece, |items| Delayed::around::<F, _, _, _>(
                mapped::<F, T, B>,
                items,
                "bag map"
            ))
        })
    }

    /// `f` of each item, where it may fail: the first error fails the partition's task, and names the item's number in it.
    ///
    /// ```no_run
    /// # use skep_collections::Bag;
    /// let numbers = Bag::read_text("numbers.txt").try_map(|line: String| line.parse::<i64>());
    /// # Ok::<(), skep_cluster::Error>(())
    /// ```
    #[must_use]
    pub fn try_map<F, B, E>(&self, f: F) -> Bag<B>
    where
        F: Fn(T) -> std::result::Result<B, E> + Copy,
        B: TaskValue + Clone,
        E: fmt::Display,
    {
        let _ = f;
        self.each(|piece| {
            with_piece!(piece, |items| Delayed::around::<F, _, _, _>(
                tried::<F, T, B, E>,
                items,
                "bag try_map"
            ))
        })
    }

    /// Items of which `keep` is true.
    #[must_use]
    pub fn filter<F>(&self, keep: F) -> Bag<T>
    where
        F: Fn(&T) -> bool + Copy,
    {
        let _ = keep;
        self.each(|piece| {
            with_piece!(piece, |items| Delayed::around::<F, _, _, _>(
                filtered::<F, T>,
                items,
                "bag filter"
            ))
        })
    }

    /// All that `f` gives for each item, one after the other: a line as its words.
    #[must_use]
    pub fn flat_map<F, I>(&self, f: F) -> Bag<I::Item>
    where
        F: Fn(T) -> I + Copy,
        I: IntoIterator,
        I::Item: TaskValue + Clone,
    {
        let _ = f;
        self.each(|piece| {
            with_piece!(piece, |items| Delayed::around::<F, _, _, _>(
                flat_mapped::<F, T, I>,
                items,
                "bag flat_map"
            ))
        })
    }

    /// `f` of each partition as a whole, which may be empty.
    #[must_use]
    pub fn map_partitions<F, B>(&self, f: F) -> Bag<B>
    where
        F: Fn(Vec<T>) -> Vec<B> + Copy,
        B: TaskValue + Clone,
    {
        let _ = f;
        self.each(|piece| {
            with_piece!(piece, |items| Delayed::around::<F, _, _, _>(
                one::<F, Vec<T>, B>,
                items,
                "bag map_partitions"
            ))
        })
    }

    /// A value of each partition, and these merged in a tree.
    fn reduced<A: TaskValue + Clone>(
        &self,
        partial: impl Fn(&Piece<Vec<T>>) -> Delayed<A>,
        merge: impl Fn(&[Delayed<A>]) -> Delayed<A>,
    ) -> Delayed<A> {
        match &self.inner {
            Ok(inner) => tree(inner.pieces.iter().map(partial).collect(), merge),
            Err(error) => Delayed::refused(error.clone()),
        }
    }

    /// Folds each partition's items into `init`, and merges what comes out by `combine`: `init` is taken once for each
    /// partition, so it should change nothing (0 of a sum, an empty map).
    pub fn fold<A, F, G>(&self, init: A, fold: F, combine: G) -> Delayed<A>
    where
        A: TaskValue + Clone,
        F: Fn(A, T) -> A + Copy,
        G: Fn(A, A) -> A + Copy,
    {
        let _ = (fold, combine);
        self.reduced(
            |piece| {
                with_piece!(piece, |items| Delayed::around::<F, _, _, _>(
                    folded::<F, T, A>,
                    (items, init.clone()),
                    "bag fold"
                ))
            },
            |parts| Delayed::around::<G, _, _, _>(combined::<G, A>, (parts, init.clone()), "bag combine"),
        )
    }

    /// All items made one by `f`, two at a time, in any order; `None` of an empty bag.
    pub fn reduce<F>(&self, f: F) -> Delayed<Option<T>>
    where
        F: Fn(T, T) -> T + Copy,
    {
        let _ = f;
        self.reduced(
            |piece| {
                with_piece!(piece, |items| Delayed::around::<F, _, _, _>(
                    reduced::<F, T>,
                    items,
                    "bag reduce"
                ))
            },
            |parts| Delayed::around::<F, _, _, _>(reduced_again::<F, T>, parts, "bag reduce again"),
        )
    }

    /// Number of items.
    pub fn count(&self) -> Delayed<u64> {
        self.reduced(
            |piece| with_piece!(piece, |items| Delayed::call(counted::<T>, items)),
            |parts| Delayed::call(summed::<u64>, parts),
        )
    }

    /// Sum of the items; 0 of an empty bag.
    pub fn sum(&self) -> Delayed<T>
    where
        T: std::iter::Sum,
    {
        self.reduced(
            |piece| with_piece!(piece, |items| Delayed::call(summed::<T>, items)),
            |parts| Delayed::call(summed::<T>, parts),
        )
    }

    /// Arithmetic mean of numbers; NaN of an empty bag.
    pub fn mean(&self) -> Delayed<f64>
    where
        T: Into<f64>,
    {
        let (total, n) = (self.map(Into::into), self.count());
        Delayed::call(divided, (total.sum(), n))
    }

    /// The least item; `None` of an empty bag.
    pub fn min(&self) -> Delayed<Option<T>>
    where
        T: PartialOrd,
    {
        self.reduce(lesser::<T>)
    }

    /// The greatest item; `None` of an empty bag.
    pub fn max(&self) -> Delayed<Option<T>>
    where
        T: PartialOrd,
    {
        self.reduce(greater::<T>)
    }

    /// How often each item is there, in one partition, the most frequent first.
    #[must_use]
    pub fn frequencies(&self) -> Bag<(T, u64)>
    where
        T: Hash + Ord,
    {
        let counts = self.reduced(
            |piece| with_piece!(piece, |items| Delayed::call(frequencies::<T>, items)),
            |parts| Delayed::call(frequencies_merged::<T>, parts),
        );
        self.single(Delayed::call(most_frequent_first::<T>, counts))
    }

    /// The `n` greatest items, in one partition, the greatest first.
    #[must_use]
    pub fn top(&self, n: usize) -> Bag<T>
    where
        T: Ord,
    {
        self.top_by(n, itself::<T>)
    }

    /// The `n` items with the greatest `key`, in one partition, the greatest first.
    #[must_use]
    pub fn top_by<F, K>(&self, n: usize, key: F) -> Bag<T>
    where
        F: Fn(&T) -> K + Copy,
        K: PartialOrd,
    {
        let _ = key;
        let n = n as u64;
        let best = self.reduced(
            |piece| {
                with_piece!(piece, |items| Delayed::around::<F, _, _, _>(
                    top::<F, T, K>,
                    (items, n),
                    "bag top"
                ))
            },
            |parts| Delayed::around::<F, _, _, _>(top_again::<F, T, K>, (parts, n), "bag top again"),
        );
        self.single(best)
    }

    /// Each item once, in one partition.
    #[must_use]
    pub fn distinct(&self) -> Bag<T>
    where
        T: Hash + Eq,
    {
        let once = self.reduced(
            |piece| with_piece!(piece, |items| Delayed::call(distinct::<T>, items)),
            |parts| Delayed::call(distinct_again::<T>, parts),
        );
        self.single(once)
    }

    /// Of each group of items, by `key`, a fold: as [`Bag::fold`], without bringing a group's items together. In one
    /// partition, by key.
    #[must_use]
    pub fn fold_by<K, A, FK, F, G>(&self, key: FK, init: A, fold: F, combine: G) -> Bag<(K, A)>
    where
        K: TaskValue + Clone + Ord,
        A: TaskValue + Clone,
        FK: Fn(&T) -> K + Copy,
        F: Fn(A, T) -> A + Copy,
        G: Fn(A, A) -> A + Copy,
    {
        let _ = (key, fold, combine);
        let groups = self.reduced(
            |piece| {
                with_piece!(piece, |items| Delayed::call(
                    folded_by::<FK, F, T, K, A>,
                    (items, init.clone())
                ))
            },
            |parts| Delayed::around::<G, _, _, _>(folded_again::<G, K, A>, parts, "bag fold_by again"),
        );
        self.single(groups)
    }

    /// The items of each group, by `key`: every item moves to its group's partition (a shuffle). Where a fold is enough,
    /// [`Bag::fold_by`] moves one value a group and partition instead.
    #[must_use]
    pub fn group_by<K, F>(&self, key: F) -> Bag<(K, Vec<T>)>
    where
        K: TaskValue + Clone + Hash + Ord,
        F: Fn(&T) -> K + Copy,
    {
        let _ = key;
        Bag {
            inner: self.inner.clone().map(|inner| {
                let n = inner.pieces.len();
                let cut: Vec<Vec<Part<Vec<T>>>> = inner
                    .pieces
                    .iter()
                    .map(|piece| {
                        with_piece!(piece, |items| Part::delayed(
                            split_by::<F, T, K>,
                            (items, n as u64),
                            n
                        ))
                    })
                    .collect();
                let pieces = (0..n)
                    .map(|at| {
                        let group: Vec<Part<Vec<T>>> = cut.iter().map(|parts| parts[at].clone()).collect();
                        Piece::Call(Delayed::around::<F, _, _, _>(
                            grouped::<F, T, K>,
                            group,
                            "bag group_by",
                        ))
                    })
                    .collect();
                Arc::new(Inner {
                    source: inner.source.clone(),
                    pieces,
                })
            }),
        }
    }

    /// The same items in so many partitions of about the same size.
    #[must_use]
    pub fn repartition(&self, n_partitions: usize) -> Bag<T> {
        let n = n_partitions.max(1);
        Bag {
            inner: self.inner.clone().map(|inner| {
                let cut: Vec<Vec<Part<Vec<T>>>> = inner
                    .pieces
                    .iter()
                    .enumerate()
                    .map(|(at, piece)| {
                        with_piece!(piece, |items| Part::delayed(
                            split_evenly::<T>,
                            (items, n as u64, at as u64),
                            n
                        ))
                    })
                    .collect();
                let pieces = (0..n)
                    .map(|at| {
                        let some: Vec<Part<Vec<T>>> = cut.iter().map(|parts| parts[at].clone()).collect();
                        Piece::Call(Delayed::call(concatenated::<T>, some))
                    })
                    .collect();
                Arc::new(Inner {
                    source: inner.source.clone(),
                    pieces,
                })
            }),
        }
    }

    fn single<B>(&self, piece: Delayed<Vec<B>>) -> Bag<B> {
        Bag {
            inner: self.inner.clone().map(|inner| {
                Arc::new(Inner {
                    source: inner.source.clone(),
                    pieces: vec![Piece::Call(piece)],
                })
            }),
        }
    }

    /// All items, partition by partition, here.
    ///
    /// # Errors
    /// When the bag was built wrongly, there is no cluster, or a task fails.
    pub fn collect(&self) -> Result<Vec<T>> {
        let cluster = Cluster::current()?;
        let remotes = submit(&cluster, &self.inner()?.pieces)?;
        Ok(cluster.gather(&remotes)?.into_iter().flatten().collect())
    }

    /// The first `n` items: of no more partitions than it takes.
    ///
    /// # Errors
    /// As [`Bag::collect`].
    pub fn take(&self, n: usize) -> Result<Vec<T>> {
        let cluster = Cluster::current()?;
        let mut items = Vec::new();
        for piece in &self.inner()?.pieces {
            if items.len() >= n {
                break;
            }
            let n_left = (n - items.len()) as u64;
            let first = with_piece!(piece, |items| Delayed::call(first::<T>, (items, n_left)));
            items.extend(cluster.compute(&first).gather()?);
        }
        Ok(items)
    }

    /// Runs all partitions and leaves their items on the workers: what is built on the result begins there.
    ///
    /// # Errors
    /// As [`Bag::collect`].
    pub fn persist(&self) -> Result<Bag<T>> {
        let cluster = Cluster::current()?;
        let remotes: Vec<Remote<Vec<T>>> = submit(&cluster, &self.inner()?.pieces)?;
        cluster.wait(&remotes)?;
        for remote in &remotes {
            remote.wait()?;
        }
        Ok(Bag::of(
            "persisted".to_string(),
            remotes.into_iter().map(Piece::Held).collect(),
        ))
    }

    /// The partitions, as delayed values.
    ///
    /// # Errors
    /// When the bag was built wrongly.
    pub fn to_delayed(&self) -> Result<Vec<Delayed<Vec<T>>>> {
        Ok(self.inner()?.pieces.iter().map(Piece::to_call).collect())
    }

    /// The tasks that will run.
    ///
    /// # Errors
    /// When the bag was built wrongly.
    pub fn graph(&self) -> Result<skep_render::graph::Graph> {
        Ok(Delayed::graph_of_all(&self.to_delayed()?))
    }

    /// Writes a text file for each partition into `folder`, a line for each item, and returns their paths.
    ///
    /// # Errors
    /// As [`Bag::collect`], and when a file cannot be written.
    pub fn write_text(&self, folder: impl AsRef<Path>) -> Result<Vec<PathBuf>>
    where
        T: fmt::Display,
    {
        let folder = folder.as_ref();
        let unwritable = |error: std::io::Error| {
            Error::File(
                Message::new(format!("{}: {error}", folder.display()))
                    .hint("choose a folder that can be written"),
            )
        };
        let folder = std::path::absolute(folder).map_err(unwritable)?;
        std::fs::create_dir_all(&folder).map_err(unwritable)?;
        let cluster = Cluster::current()?.impure();
        let (mut paths, mut written) = (Vec::new(), Vec::new());
        for (at, piece) in self.map(as_line::<T>).inner()?.pieces.iter().enumerate() {
            let path = folder.join(format!("part-{at:05}.txt"));
            let name = path.to_string_lossy().into_owned();
            written.push(cluster.compute(&with_piece!(piece, |lines| Delayed::call(
                text::write,
                (lines, name)
            ))));
            paths.push(path);
        }
        cluster.gather(&written)?;
        Ok(paths)
    }
}

impl<T> Bag<T> {
    fn inner(&self) -> Result<&Arc<Inner<T>>> {
        self.inner.as_ref().map_err(Clone::clone)
    }

    /// Number of partitions; 0 of a bag that was built wrongly.
    pub fn n_partitions(&self) -> usize {
        self.inner.as_ref().map_or(0, |inner| inner.pieces.len())
    }

    fn card(&self) -> Card {
        let of = short_type(std::any::type_name::<T>());
        match &self.inner {
            Ok(inner) => {
                let is_held = inner.pieces.iter().all(|piece| matches!(piece, Piece::Held(_)));
                let card = Card::new(format!(
                    "Bag of {of}: {}",
                    plural(inner.pieces.len(), "partition")
                ));
                if is_held {
                    card.fact("from", &*inner.source)
                        .note("its items are on the workers: `.take(5)?` shows the first, `.collect()?` brings all here")
                } else {
                    card.fact("from", &*inner.source)
                        .note("nothing has run: `.take(5)?` shows the first items, `.collect()?` brings all here, `.graph()?` draws the tasks")
                }
            }
            Err(error) => Card::new(format!("Bag of {of} that cannot run"))
                .state("failed")
                .fact("why", error.to_string()),
        }
    }
}

impl<T> Rich for Bag<T> {
    fn bundle(&self) -> Bundle {
        self.card().bundle()
    }
}

impl<T> fmt::Debug for Bag<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = short_type(std::any::type_name::<T>());
        write!(f, "Bag<{of}>({})", plural(self.n_partitions(), "partition"))
    }
}

/// Of these items so many lists, none longer than another by more than one; never none.
fn even_chunks<T>(items: Vec<T>, n: usize) -> Vec<Vec<T>> {
    let n = n.clamp(1, items.len().max(1));
    let (size, n_longer) = (items.len() / n, items.len() % n);
    let mut items = items.into_iter();
    (0..n)
        .map(|at| items.by_ref().take(size + usize::from(at < n_longer)).collect())
        .collect()
}

// What runs as tasks. A function of the user's is a type here, so that it is part of the task's code; its only value is
// made where it is called.

fn given<T>(items: Vec<T>) -> Vec<T> {
    items
}

fn one<F: Fn(A) -> Vec<T> + Copy, A, T>(argument: A) -> Vec<T> {
    function::<F>()(argument)
}

fn mapped<F: Fn(T) -> B + Copy, T, B>(items: Vec<T>) -> Vec<B> {
    items.into_iter().map(function::<F>()).collect()
}

fn tried<F: Fn(T) -> std::result::Result<B, E> + Copy, T, B, E: fmt::Display>(
    items: Vec<T>,
) -> std::result::Result<Vec<B>, Box<dyn std::error::Error>> {
    let f = function::<F>();
    let each = items.into_iter().enumerate();
    each.map(|(at, item)| f(item).map_err(|error| format!("item {at} of its partition: {error}").into()))
        .collect()
}

fn filtered<F: Fn(&T) -> bool + Copy, T>(mut items: Vec<T>) -> Vec<T> {
    items.retain(function::<F>());
    items
}

fn flat_mapped<F: Fn(T) -> I + Copy, T, I: IntoIterator>(items: Vec<T>) -> Vec<I::Item> {
    items.into_iter().flat_map(function::<F>()).collect()
}

fn folded<F: Fn(A, T) -> A + Copy, T, A>(items: Vec<T>, init: A) -> A {
    items.into_iter().fold(init, function::<F>())
}

fn combined<G: Fn(A, A) -> A + Copy, A>(parts: Vec<A>, init: A) -> A {
    parts.into_iter().reduce(function::<G>()).unwrap_or(init)
}

fn reduced<F: Fn(T, T) -> T + Copy, T>(items: Vec<T>) -> Option<T> {
    items.into_iter().reduce(function::<F>())
}

fn reduced_again<F: Fn(T, T) -> T + Copy, T>(parts: Vec<Option<T>>) -> Option<T> {
    parts.into_iter().flatten().reduce(function::<F>())
}

fn counted<T>(items: &[T]) -> u64 {
    items.len() as u64
}

fn summed<T: std::iter::Sum>(items: Vec<T>) -> T {
    items.into_iter().sum()
}

fn divided(total: f64, n: u64) -> f64 {
    total / n as f64
}

fn lesser<T: PartialOrd>(a: T, b: T) -> T {
    if b < a { b } else { a }
}

fn greater<T: PartialOrd>(a: T, b: T) -> T {
    if b > a { b } else { a }
}

fn frequencies<T: Hash + Eq>(items: Vec<T>) -> Vec<(T, u64)> {
    let mut counts: HashMap<T, u64> = HashMap::new();
    for item in items {
        *counts.entry(item).or_default() += 1;
    }
    counts.into_iter().collect()
}

fn frequencies_merged<T: Hash + Eq>(parts: Vec<Vec<(T, u64)>>) -> Vec<(T, u64)> {
    let mut counts: HashMap<T, u64> = HashMap::new();
    for (item, n) in parts.into_iter().flatten() {
        *counts.entry(item).or_default() += n;
    }
    counts.into_iter().collect()
}

fn most_frequent_first<T: Ord>(mut counts: Vec<(T, u64)>) -> Vec<(T, u64)> {
    counts.sort_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.cmp(b)));
    counts
}

fn top<F: Fn(&T) -> K + Copy, T, K: PartialOrd>(mut items: Vec<T>, n: u64) -> Vec<T> {
    let key = function::<F>();
    // Items without an order between them (NaN) stay as they are.
    items.sort_by(|a, b| key(b).partial_cmp(&key(a)).unwrap_or(std::cmp::Ordering::Equal));
    items.truncate(n as usize);
    items
}

fn top_again<F: Fn(&T) -> K + Copy, T, K: PartialOrd>(parts: Vec<Vec<T>>, n: u64) -> Vec<T> {
    top::<F, T, K>(parts.into_iter().flatten().collect(), n)
}

fn distinct<T: Hash + Eq>(items: Vec<T>) -> Vec<T> {
    items.into_iter().collect::<HashSet<T>>().into_iter().collect()
}

fn distinct_again<T: Hash + Eq>(parts: Vec<Vec<T>>) -> Vec<T> {
    distinct(parts.into_iter().flatten().collect())
}

fn folded_by<FK, F, T, K, A>(items: Vec<T>, init: A) -> Vec<(K, A)>
where
    FK: Fn(&T) -> K + Copy,
    F: Fn(A, T) -> A + Copy,
    K: Ord,
    A: Clone,
{
    let (key, fold) = (function::<FK>(), function::<F>());
    let mut groups: BTreeMap<K, A> = BTreeMap::new();
    for item in items {
        let key = key(&item);
        let so_far = groups.remove(&key).unwrap_or_else(|| init.clone());
        groups.insert(key, fold(so_far, item));
    }
    groups.into_iter().collect()
}

fn folded_again<G: Fn(A, A) -> A + Copy, K: Ord, A>(parts: Vec<Vec<(K, A)>>) -> Vec<(K, A)> {
    let combine = function::<G>();
    let mut groups: BTreeMap<K, A> = BTreeMap::new();
    for (key, value) in parts.into_iter().flatten() {
        let merged = match groups.remove(&key) {
            Some(so_far) => combine(so_far, value),
            None => value,
        };
        groups.insert(key, merged);
    }
    groups.into_iter().collect()
}

/// The same key has the same hash in every process.
fn split_by<F: Fn(&T) -> K + Copy, T, K: Hash>(items: Vec<T>, n: u64) -> Vec<Vec<T>> {
    let key = function::<F>();
    let mut parts: Vec<Vec<T>> = (0..n).map(|_| Vec::new()).collect();
    for item in items {
        let mut hasher = DefaultHasher::new();
        key(&item).hash(&mut hasher);
        parts[(hasher.finish() % n) as usize].push(item);
    }
    parts
}

fn grouped<F: Fn(&T) -> K + Copy, T, K: Ord>(parts: Vec<Vec<T>>) -> Vec<(K, Vec<T>)> {
    let key = function::<F>();
    let mut groups: BTreeMap<K, Vec<T>> = BTreeMap::new();
    for item in parts.into_iter().flatten() {
        groups.entry(key(&item)).or_default().push(item);
    }
    groups.into_iter().collect()
}

/// The longer lists begin elsewhere for each partition, so that the sums are even.
fn split_evenly<T>(items: Vec<T>, n: u64, at: u64) -> Vec<Vec<T>> {
    let mut parts: Vec<Vec<T>> = (0..n).map(|_| Vec::new()).collect();
    for (part, items) in even_chunks(items, n as usize).into_iter().enumerate() {
        parts[((part as u64 + at) % n) as usize] = items;
    }
    parts
}

fn concatenated<T>(parts: Vec<Vec<T>>) -> Vec<T> {
    parts.into_iter().flatten().collect()
}

fn first<T>(mut items: Vec<T>, n: u64) -> Vec<T> {
    items.truncate(n as usize);
    items
}

fn as_line<T: fmt::Display>(item: T) -> String {
    item.to_string()
}

fn itself<T: Clone>(item: &T) -> T {
    item.clone()
}

fn function<F: Copy>() -> F {
    // SAFETY: only called in functions above, which are generic over the type of a function that the bag's method was
    // given; so one exists.
    unsafe { function_of::<F>() }
}
