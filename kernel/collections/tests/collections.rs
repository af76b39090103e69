//! Bags and blocked arrays against plain vectors and `ndarray`, on workers that are this program.

use ndarray::{Array1, Array2, Axis, s};
use skep_cluster::Cluster;
use skep_collections::{Bag, Blocked, Dot, ndarray};

skep_cluster::workers_are_this_program!(skep_collections::init);

fn start() -> Cluster {
    skep_collections::init();
    Cluster::local()
        .workers(2)
        .threads(1)
        .start()
        .expect("a cluster of two workers")
}

fn sorted<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort();
    items
}

/// The same, however the items are cut.
#[test]
fn a_bag_does_what_an_iterator_does() {
    let _cluster = start();
    for (n, n_partitions) in [(0i64, 1), (1, 4), (10, 3), (100, 7), (40, 40)] {
        let items: Vec<i64> = (0..n).map(|i| i * 37 % 23).collect();
        let bag = Bag::from_items(items.clone(), n_partitions);
        assert_eq!(bag.n_partitions(), n_partitions.min(items.len().max(1)));
        assert_eq!(bag.collect().unwrap(), items);
        assert_eq!(
            bag.map(|x: i64| x + 1).filter(|x| x % 2 == 0).collect().unwrap(),
            items
                .iter()
                .map(|x| x + 1)
                .filter(|x| x % 2 == 0)
                .collect::<Vec<_>>()
        );
        assert_eq!(
            bag.flat_map(|x: i64| 0..x % 3).count().compute().unwrap(),
            items.iter().map(|x| x % 3).sum::<i64>() as u64
        );
        assert_eq!(bag.sum().compute().unwrap(), items.iter().sum::<i64>());
        assert_eq!(bag.min().compute().unwrap(), items.iter().min().copied());
        assert_eq!(bag.max().compute().unwrap(), items.iter().max().copied());
        assert_eq!(
            bag.reduce(|a, b| a.max(b)).compute().unwrap(),
            items.iter().max().copied()
        );
        assert_eq!(
            bag.fold(0, |sum, x| sum + x, |a, b| a + b).compute().unwrap(),
            items.iter().sum::<i64>()
        );
        let mean = bag.map(|x: i64| x as f64).mean().compute().unwrap();
        let expected = items.iter().sum::<i64>() as f64 / n as f64;
        assert!(mean == expected || (n == 0 && mean.is_nan()), "{mean} {expected}");
        assert_eq!(
            bag.top(3).collect().unwrap(),
            sorted(items.clone())
                .into_iter()
                .rev()
                .take(3)
                .collect::<Vec<_>>()
        );
        let mut once = sorted(items.clone());
        once.dedup();
        assert_eq!(sorted(bag.distinct().collect().unwrap()), once);
        assert_eq!(
            bag.take(4).unwrap(),
            items.iter().take(4).copied().collect::<Vec<_>>()
        );
        assert_eq!(
            sorted(bag.repartition(5).collect().unwrap()),
            sorted(items.clone())
        );
        let by_parity = bag
            .fold_by(|x| x % 2, 0, |sum, x| sum + x, |a, b| a + b)
            .collect()
            .unwrap();
        for (parity, sum) in &by_parity {
            assert_eq!(*sum, items.iter().filter(|x| *x % 2 == *parity).sum::<i64>());
        }
        let groups = bag.group_by(|x| x % 3).collect().unwrap();
        assert_eq!(
            groups.iter().map(|(_, items)| items.len()).sum::<usize>(),
            items.len()
        );
        for (key, members) in groups {
            assert_eq!(
                sorted(members),
                sorted(items.iter().copied().filter(|x| x % 3 == key).collect())
            );
        }
    }
}

#[test]
fn words_are_counted() {
    let cluster = start();
    let folder = std::env::temp_dir().join(format!("skep-words-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("a.txt"), "the bee and the skep\n").unwrap();
    std::fs::write(folder.join("b.txt"), "The bee\r\nis busy").unwrap();
    let words = Bag::read_text(&folder.join("*.txt").to_string_lossy())
        .flat_map(|line: String| line.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>());
    let most = words.frequencies().take(2).unwrap();
    assert_eq!(most, [("the".to_string(), 3), ("bee".to_string(), 2)]);
    let held = words.persist().unwrap();
    let n_tasks = cluster.info().unwrap().n_done;
    assert_eq!(held.count().compute().unwrap(), 9);
    assert!(
        cluster.info().unwrap().n_done - n_tasks <= 4,
        "what was persisted does not run again"
    );
    let paths = held
        .filter(|word| word.len() > 2)
        .write_text(folder.join("out"))
        .unwrap();
    let written: Vec<String> = paths
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    assert_eq!(written, ["the\nbee\nand\nthe\nskep\n", "the\nbee\nbusy\n"]);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_fails_says_where() {
    let _cluster = start();
    let missing = Bag::read_text("no-such-folder/*.txt").map(|line: String| line.len() as i64);
    assert!(
        missing
            .collect()
            .unwrap_err()
            .to_string()
            .contains("no file matches")
    );
    assert!(
        missing
            .sum()
            .compute()
            .unwrap_err()
            .to_string()
            .contains("no file matches")
    );
    let numbers =
        Bag::from_items(["1", "2", "x"].map(String::from), 1).try_map(|text: String| text.parse::<i64>());
    let error = numbers.collect().unwrap_err().to_string();
    assert!(
        error.contains("item 2 of its partition") && error.contains("invalid digit"),
        "{error}"
    );
    let (a, b) = (Blocked::ones((3, 4), (2, 2)), Blocked::ones((3, 5), (2, 2)));
    let error = (&a + &b).compute().unwrap_err().to_string();
    assert!(error.contains("3 × 4") && error.contains("3 × 5"), "{error}");
    assert!(
        a.dot(&b)
            .sum()
            .compute()
            .unwrap_err()
            .to_string()
            .contains("no product")
    );
    assert!(
        Blocked::ones((1_000_000, 1_000_000), (1, 1))
            .compute()
            .unwrap_err()
            .to_string()
            .contains("tasks")
    );
    assert!(
        Blocked::ones((3, 3), (0, 1))
            .compute()
            .unwrap_err()
            .to_string()
            .contains("length 0")
    );
    assert!(
        a.slice(0..9, 0..1)
            .compute()
            .unwrap_err()
            .to_string()
            .contains("no range")
    );
    assert!(
        a.sum_axis(2)
            .compute()
            .unwrap_err()
            .to_string()
            .contains("no axis 2")
    );
    let error = a
        .map_blocks(|chunk| chunk.slice_move(s![..1, ..]))
        .compute()
        .unwrap_err()
        .to_string();
    assert!(error.contains("keeps its shape"), "{error}");
}

fn wave((row, column): (usize, usize)) -> f64 {
    ((row * 31 + column * 17) % 101) as f64 - 50.0
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * b.abs().max(1.0)
}

fn all_close<D: ndarray::Dimension>(a: &ndarray::Array<f64, D>, b: &ndarray::Array<f64, D>) -> bool {
    a.shape() == b.shape() && a.iter().zip(b).all(|(a, b)| close(*a, *b))
}

#[test]
fn a_blocked_array_does_what_ndarray_does() {
    let _cluster = start();
    for (shape, chunk) in [
        ((1, 1), (1, 1)),
        ((7, 5), (3, 2)),
        ((12, 9), (12, 4)),
        ((6, 20), (1, 20)),
        ((4, 4), (9, 9)),
    ] {
        let plain = Array2::from_shape_fn(shape, wave);
        let x = Blocked::from_fn(shape, chunk, wave);
        assert_eq!(x.compute().unwrap(), plain);
        assert_eq!(Blocked::from_array(&plain, chunk).compute().unwrap(), plain);
        assert_eq!(x.t().compute().unwrap(), plain.t());
        assert_eq!(x.map(|x| x * x).compute().unwrap(), plain.mapv(|x| x * x));
        assert_eq!(x.map_blocks(|chunk| chunk + 1.0).compute().unwrap(), &plain + 1.0);
        assert_eq!((2.0 - &x / 4.0).compute().unwrap(), 2.0 - &plain / 4.0);
        assert_eq!((-(&x * &x)).compute().unwrap(), -(&plain * &plain));
        for other in [(1, 1), (2, 3), (100, 1)] {
            let again = x.rechunk(other);
            assert_eq!(again.compute().unwrap(), plain, "{shape:?} {chunk:?} {other:?}");
            assert_eq!((&x + &again).compute().unwrap(), &plain + &plain);
        }
        let (rows, columns) = (shape.0 / 2..shape.0, 0..shape.1.div_ceil(2));
        assert_eq!(
            x.slice(rows.clone(), columns.clone()).compute().unwrap(),
            plain.slice(s![rows, columns])
        );
        assert!(close(x.sum().compute().unwrap(), plain.sum()));
        assert!(close(x.mean().compute().unwrap(), plain.mean().unwrap()));
        assert!(close(x.std().compute().unwrap(), plain.std(0.0)));
        assert_eq!(
            x.min().compute().unwrap(),
            plain.iter().copied().fold(f64::INFINITY, f64::min)
        );
        assert_eq!(
            x.max().compute().unwrap(),
            plain.iter().copied().fold(f64::NEG_INFINITY, f64::max)
        );
        for axis in [0, 1] {
            assert!(all_close(
                &x.sum_axis(axis).compute().unwrap(),
                &plain.sum_axis(Axis(axis))
            ));
            assert!(all_close(
                &x.mean_axis(axis).compute().unwrap(),
                &plain.mean_axis(Axis(axis)).unwrap()
            ));
            assert!(all_close(
                &x.std_axis(axis).compute().unwrap(),
                &plain.std_axis(Axis(axis), 0.0)
            ));
        }
        let centred = &x - x.mean_axis(0);
        assert!(all_close(
            &centred.compute().unwrap(),
            &(&plain - &plain.mean_axis(Axis(0)).unwrap())
        ));
        assert!(all_close(
            &x.dot(&x.t()).compute().unwrap(),
            &plain.dot(&plain.t())
        ));
        let vector = Array1::from_shape_fn(shape.1, |i| i as f64);
        let v = Blocked::from_fn(shape.1, 2, |i: usize| i as f64);
        assert!(all_close(&x.dot(&v).compute().unwrap(), &plain.dot(&vector)));
        assert!(close(v.dot(&v).compute().unwrap(), vector.dot(&vector)));
        let held = x.persist().unwrap();
        assert_eq!(held.t().compute().unwrap(), plain.t());
    }
}

#[test]
fn random_numbers_are_the_same_again() {
    let _cluster = start();
    let x = Blocked::random_normal((300, 300), (100, 100), 7);
    assert_eq!(
        x.compute().unwrap(),
        Blocked::random_normal((300, 300), (100, 100), 7)
            .compute()
            .unwrap()
    );
    assert!(x.mean().compute().unwrap().abs() < 0.02 && (x.std().compute().unwrap() - 1.0).abs() < 0.02);
    let evenly = Blocked::random(100_000, 30_000, 1);
    let (least, most) = (evenly.min().compute().unwrap(), evenly.max().compute().unwrap());
    assert!(
        (0.0..0.001).contains(&least) && (0.999..1.0).contains(&most),
        "{least} {most}"
    );
    let chunks = evenly.to_delayed().unwrap();
    assert_ne!(chunks[0].compute().unwrap()[0], chunks[1].compute().unwrap()[0]);
}
