//! Frames against Polars itself, on workers that are this program.

use std::{fs, path::PathBuf};

use polars::prelude::*;
use skep_cluster::Cluster;
use skep_frame::{Frame, ToFrame, polars, table};

skep_cluster::workers_are_this_program!(skep_frame::init);

fn start() -> Cluster {
    skep_frame::init();
    Cluster::local()
        .workers(2)
        .threads(1)
        .start()
        .expect("a cluster of two workers")
}

/// A folder of this test's own, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("skep-frames-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder for temporary files");
        Scratch(path)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).expect("room for a small file");
    }

    fn pattern(&self) -> String {
        format!("{}/*.csv", self.0.display())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn rows(n: i64) -> DataFrame {
    df!(
        "key" => (0..n).map(|i| format!("k{}", i * 7 % 13)).collect::<Vec<_>>(),
        "n" => (0..n).map(|i| i * 37 % 101).collect::<Vec<_>>(),
        "x" => (0..n).map(|i| if i % 11 == 0 { None } else { Some(i as f64 / 3.0) }).collect::<Vec<_>>(),
    )
    .unwrap()
}

/// What a frame gives is what Polars gives for the whole, however it is cut.
#[test]
fn frames_answer_as_polars_does() {
    let _cluster = start();
    let whole = rows(1_000);
    for n_partitions in [1, 3, 8] {
        let frame = Frame::from_dataframe(whole.clone(), n_partitions);
        assert_eq!(frame.n_partitions(), n_partitions);
        let filtered = frame
            .filter(col("n").gt(lit(50)))
            .select([col("key"), col("x") * lit(2.0)])
            .collect()
            .unwrap();
        let expect = whole
            .clone()
            .lazy()
            .filter(col("n").gt(lit(50)))
            .select([col("key"), col("x") * lit(2.0)]);
        assert!(
            filtered.equals_missing(&expect.collect().unwrap()),
            "{n_partitions}"
        );
        let aggs = || {
            [
                col("x").sum().alias("sum"),
                col("x").mean().alias("mean"),
                col("n").max().alias("max"),
                len().alias("len"),
            ]
        };
        let grouped = frame
            .group_by([col("key")])
            .agg(aggs())
            .sort(["key"])
            .collect()
            .unwrap();
        let expect = whole
            .clone()
            .lazy()
            .group_by([col("key")])
            .agg(aggs())
            .sort(["key"], Default::default())
            .collect()
            .unwrap();
        assert_eq!(grouped.shape(), expect.shape());
        for name in ["key", "max", "len"] {
            assert!(
                grouped.column(name).unwrap().equals(expect.column(name).unwrap()),
                "{n_partitions}: {name}"
            );
        }
        for name in ["sum", "mean"] {
            let near = (grouped.column(name).unwrap() - expect.column(name).unwrap()).unwrap();
            let near = near.as_materialized_series();
            let least = near.min::<f64>().unwrap().unwrap_or(0.0);
            let most = near.max::<f64>().unwrap().unwrap_or(0.0).max(-least);
            assert!(most < 1e-9 * 1e6, "{n_partitions}: {name} differs by {most}");
        }
        assert_eq!(frame.len().unwrap(), 1_000);
        assert_eq!(frame.limit(5).collect().unwrap().height(), 5);
    }
}

#[test]
fn csv_files_become_one_table_with_types_from_all() {
    let _cluster = start();
    let scratch = Scratch::new("csv");
    scratch.write("a.csv", "id,delay\n1,\n2,\n");
    scratch.write("b.csv", "id,delay\n3,1.5\n4,2.5\n");
    let frame = Frame::read_csv(&scratch.pattern()).unwrap();
    assert_eq!(
        frame.schema().unwrap().get("delay"),
        Some(&DataType::Float64),
        "the first file alone would not tell"
    );
    let all = frame.collect().unwrap();
    assert_eq!(all.shape(), (4, 2));
    assert_eq!(all.column("delay").unwrap().null_count(), 2);
    scratch.write("c.csv", "id,delai\n5,1\n");
    let error = Frame::read_csv(&scratch.pattern()).unwrap_err().to_string();
    assert!(
        error.contains("c.csv has other columns") && error.contains("`delay` is missing, and `delai` is new"),
        "{error}"
    );
    let error = Frame::read_csv("/nowhere/*.csv").unwrap_err();
    assert_eq!(
        format!("{error:?}"),
        error.to_string(),
        "as a value that nobody took apart"
    );
    let error = error.to_string();
    assert!(
        error.contains("no file matches") && error.contains("hint:"),
        "{error}"
    );
    scratch.write("c.csv", "id,delay\n5,1,2\n");
    let error = Frame::read_csv(&scratch.pattern())
        .and_then(|frame| frame.collect())
        .unwrap_err()
        .to_string();
    assert!(error.contains("c.csv"), "the file is named: {error}");
}

#[test]
fn a_series_of_times_is_the_same_for_the_same_seed() {
    let _cluster = start();
    let day = |seed| Frame::timeseries().days(2).seed(seed).build().head(50).unwrap();
    assert!(day(7).equals(&day(7)));
    assert!(!day(7).equals(&day(8)));
}

#[test]
fn the_text_of_a_table_fits_and_says_what_it_left_out() {
    let wide = DataFrame::new(
        2,
        (0..30)
            .map(|i| Column::new(format!("column_{i}").into(), vec![i, 2]))
            .collect(),
    )
    .unwrap();
    for columns in [60, 80] {
        skep_render::text::set_columns(columns);
        let shown = table(&wide);
        let text = shown.plain();
        assert!(
            text.lines().all(|line| skep_render::text::width(line) <= columns),
            "{text}"
        );
        assert!(
            text.starts_with("shape: (2, 30)") && text.contains("of 30 columns; not shown: column_"),
            "{text}"
        );
    }
    let html = table(&wide).get("text/html").unwrap().to_string();
    assert!(
        (0..30).all(|i| html.contains(&format!("column_{i}<"))),
        "the page has room for all: {html}"
    );
}

#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Visit {
    page: String,
    seconds: Option<f64>,
}

#[test]
fn a_bag_becomes_a_frame() {
    let _cluster = start();
    let visits = skep_collections::Bag::from_items(0..100i64, 7).map(|i: i64| Visit {
        page: format!("p{}", i % 3),
        // Whole partitions have none: the type comes from the others.
        seconds: (i >= 40).then_some(i as f64),
    });
    let frame = visits.to_frame().unwrap();
    assert_eq!(frame.n_partitions(), 7);
    let by_page = frame
        .group_by([col("page")])
        .agg([col("seconds").sum(), len()])
        .sort(["page"])
        .collect()
        .unwrap();
    let expected = df!(
        "page" => ["p0", "p1", "p2"],
        "seconds" => [0, 1, 2].map(|page| (40..100).filter(|i| i % 3 == page).sum::<i64>() as f64),
        "len" => [34u32, 33, 33],
    );
    assert_eq!(by_page, expected.unwrap());
    let pairs = skep_collections::Bag::from_items(["a", "b", "a"].map(String::from), 2).frequencies();
    assert_eq!(
        pairs.to_frame().unwrap().collect().unwrap(),
        df!("column_0" => ["a", "b"], "column_1" => [2i64, 1]).unwrap()
    );
    assert_eq!(
        skep_collections::Bag::<i64>::from_items([], 1)
            .to_frame()
            .unwrap()
            .collect()
            .unwrap()
            .height(),
        0
    );
}

fn doubled(part: DataFrame) -> PolarsResult<DataFrame> {
    part.lazy()
        .with_columns([(col("n") * lit(2)).alias("twice")])
        .collect()
}

fn panics_on_one_and_takes_long_over_others(part: DataFrame) -> DataFrame {
    let part = panics_on_one(part);
    std::thread::sleep(std::time::Duration::from_millis(100));
    part
}

fn panics_on_one(part: DataFrame) -> DataFrame {
    let has = part
        .column("n")
        .unwrap()
        .i64()
        .unwrap()
        .iter()
        .any(|n| n == Some(37));
    assert!(!has, "this partition has 37");
    part
}

fn month(n: i64) -> PolarsResult<DataFrame> {
    df!("month" => [n, n], "day" => [1i64, 2])
}

#[test]
fn functions_make_and_change_partitions() {
    let _cluster = start();
    let frame = Frame::from_dataframe(rows(100), 4);
    let twice = frame.map_partitions(doubled);
    assert_eq!(twice.schema().unwrap().get("twice"), Some(&DataType::Int64));
    let sums = twice
        .select([col("twice").sum(), col("n").sum()])
        .collect()
        .unwrap();
    assert_eq!(
        sums.column("twice").unwrap().get(0).unwrap(),
        (sums.column("n").unwrap() * 2).get(0).unwrap()
    );
    let error = frame.map_partitions(panics_on_one).len().unwrap_err().to_string();
    assert!(
        error.contains("`panics_on_one` (partition 1 of 4)") && error.contains("this partition has 37"),
        "{error}"
    );
    let year = Frame::from_fn(1..=12i64, month).unwrap();
    assert_eq!((year.n_partitions(), year.len().unwrap()), (12, 24));
    let by = year
        .group_by([col("day")])
        .agg([col("month").sum()])
        .sort(["day"]);
    assert_eq!(
        by.collect().unwrap(),
        df!("day" => [1i64, 2], "month" => [78i64, 78]).unwrap()
    );
}

/// What is written is read again; a write that fails leaves what was there.
#[test]
fn files_are_written_whole_or_not_at_all() {
    let _cluster = start();
    let scratch = Scratch::new("sinks");
    let frame = Frame::from_dataframe(rows(100), 3);
    let total = |frame: &Frame| frame.select([col("n").sum()]).collect().unwrap();
    let expected = total(&frame);
    let folder = |name: &str| scratch.0.join(name);
    let pattern = |name: &str, ending: &str| format!("{}/{name}/*.{ending}", scratch.0.display());
    assert_eq!(frame.write_parquet(folder("p")).unwrap(), 100);
    frame.write_csv(folder("c")).unwrap();
    frame.write_ipc(folder("i")).unwrap();
    frame.write_ndjson(folder("j")).unwrap();
    assert_eq!(
        total(&Frame::read_parquet(&pattern("p", "parquet")).unwrap()),
        expected
    );
    assert_eq!(total(&Frame::read_csv(&pattern("c", "csv")).unwrap()), expected);
    assert_eq!(total(&Frame::read_ipc(&pattern("i", "arrow")).unwrap()), expected);
    assert_eq!(
        total(&Frame::read_ndjson(&pattern("j", "ndjson")).unwrap()),
        expected
    );
    // A scan that Polars describes is the same.
    let scanned =
        LazyFrame::scan_parquet(PlRefPath::new(pattern("p", "parquet")), Default::default()).unwrap();
    let scanned = Frame::from(scanned.filter(col("n").gt(lit(-1))));
    assert_eq!((scanned.n_partitions(), total(&scanned)), (3, expected.clone()));

    // Fewer partitions leave none of the old files; a failure leaves all of them.
    Frame::from_dataframe(rows(100), 2)
        .write_parquet(folder("p"))
        .unwrap();
    let files = || {
        let mut names: Vec<String> = fs::read_dir(folder("p"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(files(), ["part-00000.parquet", "part-00001.parquet"]);
    let error = frame.map_partitions(panics_on_one).write_parquet(folder("p"));
    assert!(error.is_err());
    assert_eq!(files(), ["part-00000.parquet", "part-00001.parquet"]);
    // Also while other partitions are still at it: what they write comes to nothing.
    let late = frame.map_partitions(panics_on_one_and_takes_long_over_others);
    assert!(late.write_parquet(folder("p")).is_err());
    assert!(late.write_parquet_by(folder("p"), ["key"]).is_err());
    for _ in 0..10 {
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert_eq!(files(), ["part-00000.parquet", "part-00001.parquet"]);
    }

    // Files of others stay, and what is read is not replaced.
    for name in [
        "part-2023.parquet",
        "sales.parquet",
        "part-00000-c1.snappy.parquet",
        "part-00009.csv",
    ] {
        fs::write(folder("p").join(name), "").unwrap();
    }
    frame.write_parquet(folder("p")).unwrap();
    assert_eq!(files().len(), 3 + 4);
    assert_eq!(
        total(&Frame::read_csv(folder("c").to_str().unwrap()).unwrap()),
        expected
    );
    let wrong = Frame::read_csv(&format!("{}/p/part-00000.parquet", scratch.0.display()))
        .err()
        .unwrap();
    assert!(wrong.to_string().contains("is a Parquet file"), "{wrong}");
    let several = Frame::read_parquet(folder("p").to_str().unwrap());
    assert!(
        several
            .err()
            .unwrap()
            .to_string()
            .contains("files of several kinds")
    );
    let own = Frame::read_csv(&pattern("c", "csv")).unwrap();
    let refused = own
        .filter(col("n").gt(lit(90)))
        .write_csv(folder("c"))
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("part-00000.csv is a file that this frame reads"),
        "{refused}"
    );
    assert_eq!(total(&own), expected);
    own.write_parquet(folder("c")).unwrap();

    frame.write_parquet_by(folder("k"), ["key"]).unwrap();
    assert!(folder("k").join("key=k7").join("part-00000.parquet").exists());
    let by_keys = Frame::read_parquet(folder("k").to_str().unwrap()).err().unwrap();
    assert!(by_keys.to_string().contains("written by keys"), "{by_keys}");
    let keyed = LazyFrame::scan_parquet(
        PlRefPath::new(folder("k").to_str().unwrap()),
        ScanArgsParquet::default(),
    );
    assert_eq!(
        keyed.unwrap().select([col("n").sum()]).collect().unwrap(),
        expected
    );
    let keyed = Frame::from(
        LazyFrame::scan_parquet(
            PlRefPath::new(folder("k").to_str().unwrap()),
            ScanArgsParquet::default(),
        )
        .unwrap(),
    );
    assert_eq!(
        keyed.group_by([col("key")]).agg([col("n").sum()]).len().unwrap(),
        13
    );
    assert!(
        frame
            .write_parquet_by(folder("x"), ["nope"])
            .unwrap_err()
            .to_string()
            .contains("there is key, n, x")
    );
}

fn its_keys(part: DataFrame) -> PolarsResult<DataFrame> {
    part.lazy()
        .select([col("key")])
        .unique(None, UniqueKeepStrategy::Any)
        .collect()
}

/// Of each format: years whose columns differ.
#[test]
fn files_with_other_columns_become_one_table_when_asked_for() {
    let _cluster = start();
    let scratch = Scratch::new("differ");
    let years = [
        df!("year" => [1i64, 1], "n" => [1i64, 2], "old" => ["a", "b"]).unwrap(),
        df!("n" => [3i64, 5], "year" => [2i64, 2], "new" => [0.25f64, 0.25]).unwrap(),
        df!("year" => [3i64], "n" => [4i64], "old" => ["c"], "new" => [1.5f64]).unwrap(),
    ];
    type Write = fn(fs::File, &mut DataFrame);
    type Read = fn(&str) -> skep_frame::Scan;
    let formats: [(&str, Write, Read); 4] = [
        (
            "csv",
            |file, table| CsvWriter::new(file).finish(table).unwrap(),
            Frame::scan_csv,
        ),
        (
            "parquet",
            |file, table| {
                ParquetWriter::new(file).finish(table).unwrap();
            },
            Frame::scan_parquet,
        ),
        (
            "arrow",
            |file, table| IpcWriter::new(file).finish(table).unwrap(),
            Frame::scan_ipc,
        ),
        (
            "ndjson",
            |file, table| {
                JsonWriter::new(file)
                    .with_json_format(JsonFormat::JsonLines)
                    .finish(table)
                    .unwrap();
            },
            Frame::scan_ndjson,
        ),
    ];
    for (format, write, scan) in formats {
        for (i, year) in years.iter().enumerate() {
            let path = scratch.0.join(format!("year{i}.{format}"));
            write(fs::File::create(path).unwrap(), &mut year.clone());
        }
        let pattern = scratch.0.join(format!("year*.{format}"));
        let of = scan;
        let scan = || of(pattern.to_str().unwrap());
        let error = |scan: skep_frame::Scan| scan.finish().unwrap_err().to_string();
        let missing = error(scan());
        assert!(
            missing.contains("year1")
                && missing.contains("`old`")
                && missing.contains("MissingColumnsPolicy::Insert"),
            "{format}: {missing}"
        );
        let filled = || scan().missing_columns(MissingColumnsPolicy::Insert);
        let extra = error(filled());
        assert!(
            extra.contains("`new`") && extra.contains("ExtraColumnsPolicy::Ignore"),
            "{format}: {extra}"
        );
        let first = filled()
            .extra_columns(ExtraColumnsPolicy::Ignore)
            .finish()
            .unwrap()
            .sort(["n"])
            .collect()
            .unwrap();
        assert!(
            first.equals_missing(
                &df!("year" => [1i64, 1, 2, 3, 2], "n" => [1i64, 2, 3, 4, 5], "old" => [Some("a"), Some("b"), None, Some("c"), None])
                    .unwrap()
            ),
            "{format}: {first}"
        );
        let all = filled()
            .schema_overrides([("new", DataType::Float32), ("n", DataType::Int16)])
            .finish()
            .unwrap();
        assert_eq!(all.schema().unwrap().get("n"), Some(&DataType::Int16), "{format}");
        let sums = all
            .select([col("new").sum(), col("n").sum(), len()])
            .collect()
            .unwrap();
        assert_eq!(
            (
                sums.column("new").unwrap().get(0).unwrap(),
                sums.column("len").unwrap().get(0).unwrap()
            ),
            (AnyValue::Float32(2.0), AnyValue::UInt32(5)),
            "{format}"
        );
        let alone = filled()
            .extra_columns(ExtraColumnsPolicy::Ignore)
            .finish()
            .unwrap();
        let old = alone.select([col("old")]).collect().unwrap();
        assert_eq!(
            (old.height(), old.column("old").unwrap().null_count()),
            (5, 2),
            "{format}: a column of nulls is as long as its file"
        );
        for (i, columns) in [["n", "year"], ["year", "n"]].iter().enumerate() {
            let path = scratch.0.join(format!("turned{i}.{format}"));
            write(
                fs::File::create(path).unwrap(),
                &mut years[0].select(*columns).unwrap(),
            );
        }
        let turned = of(scratch.0.join(format!("turned*.{format}")).to_str().unwrap())
            .finish()
            .unwrap();
        let sums = turned
            .select([col("n").sum(), col("year").sum()])
            .collect()
            .unwrap();
        assert_eq!(
            sums,
            df!("n" => [6i64], "year" => [4i64]).unwrap(),
            "{format}: columns in another order are the same columns"
        );
        let nowhere = error(filled().schema_overrides([("nowhere", DataType::Int8)]));
        assert!(
            nowhere.contains("`nowhere`") && nowhere.contains("year"),
            "{format}: {nowhere}"
        );
    }
}

#[test]
fn polars_own_plan_is_shown() {
    let frame = Frame::from_dataframe(rows(10), 2)
        .filter(col("n").gt(lit(3)))
        .select([col("n")]);
    let (plan, optimized) = (
        frame.describe_plan().unwrap(),
        frame.describe_optimized_plan().unwrap(),
    );
    assert!(
        plan.contains("FILTER") && optimized.contains("PROJECT"),
        "{plan}\n{optimized}"
    );
    assert!(frame.select([col("nn")]).describe_plan().is_err());
}

/// What a query has twice runs once.
#[test]
fn common_parts_of_a_query_run_once() {
    let _cluster = start();
    let frame = Frame::from_dataframe(rows(1_000), 4);
    let groups = frame.group_by([col("key")]).agg([col("n").sum()]);
    let both = groups.of_both(&groups, |a, b| {
        a.join(
            b.select([col("n").max().alias("most")]),
            [col("n")],
            [col("most")],
            JoinArgs::new(JoinType::Inner),
        )
    });
    let explained = both.explain().unwrap().to_string();
    assert_eq!(
        explained.matches("group by key: partial").count(),
        1,
        "{explained}"
    );
    let expect = rows(1_000)
        .lazy()
        .group_by([col("key")])
        .agg([col("n").sum()])
        .collect()
        .unwrap();
    let most = expect.column("n").unwrap().max_reduce().unwrap();
    let found = both.collect().unwrap();
    assert!(found.height() >= 1);
    let measured = both.explain().unwrap().to_string();
    assert!(
        measured.contains(&format!("{} rows, ", expect.height())),
        "{measured}"
    );
    assert_eq!(found.column("n").unwrap().get(0).unwrap(), *most.value());
}

#[test]
fn frames_are_cut_anew_sampled_described_and_turned() {
    let _cluster = start();
    let whole = rows(1_000);
    let frame = Frame::from_dataframe(whole.clone(), 5);
    for n in [1, 2, 5, 13] {
        let cut = frame.repartition(n);
        assert_eq!(cut.n_partitions(), n);
        assert!(cut.collect().unwrap().equals_missing(&whole), "{n}");
    }
    for n in [1, 3, 8] {
        let cut = frame.repartition_by([col("key")], n);
        assert_eq!((cut.n_partitions(), cut.len().unwrap()), (n, 1_000));
        let keys = cut
            .map_partitions(its_keys)
            .select([col("key")])
            .collect()
            .unwrap();
        let n_keys = whole.column("key").unwrap().n_unique().unwrap();
        assert_eq!(keys.height(), n_keys, "each key is in one partition of {n}");
    }
    let wrong = frame
        .repartition_by([col("kee")], 2)
        .collect()
        .unwrap_err()
        .to_string();
    assert!(wrong.contains("kee"), "{wrong}");
    let by_size = frame
        .repartition_by_size(whole.estimated_size() as u64 / 10)
        .unwrap();
    assert!(
        (9..=12).contains(&by_size.n_partitions()),
        "{}",
        by_size.n_partitions()
    );
    assert!(by_size.collect().unwrap().equals_missing(&whole));
    let n = frame.sample(0.3, 7).len().unwrap();
    assert!((200..400).contains(&n), "{n}");
    assert_eq!(frame.sample(0.3, 7).len().unwrap(), n);
    assert_eq!(
        (
            frame.sample(0.0, 1).len().unwrap(),
            frame.sample(1.0, 1).len().unwrap()
        ),
        (0, 1_000)
    );
    let described = frame.describe().unwrap();
    assert_eq!(described.shape(), (9, 4));
    let cell = |row: usize, name: &str| described.column(name).unwrap().get(row).unwrap().to_string();
    assert_eq!(
        (cell(0, "n"), cell(1, "x"), cell(8, "n")),
        ("1000.0".into(), "91.0".into(), "100.0".into())
    );
    assert_eq!((cell(4, "key"), cell(2, "key")), ("\"k0\"".into(), "null".into()));
    let small = Frame::from_dataframe(
        df!("who" => ["a", "b", "a", "b"], "what" => ["x", "x", "y", "y"], "n" => [1, 2, 3, 4]).unwrap(),
        3,
    );
    let turned = small
        .pivot("what", ["who"], "n", element().sum())
        .unwrap()
        .sort(["who"])
        .collect()
        .unwrap();
    assert_eq!(
        turned,
        df!("who" => ["a", "b"], "x" => [1, 2], "y" => [3, 4]).unwrap()
    );
}

#[test]
fn a_large_parquet_file_is_cut_by_its_rows() {
    let _cluster = start();
    let scratch = Scratch::new("large");
    let path = scratch.0.join("one.parquet");
    let mut rng = fastrand::Rng::with_seed(1);
    let n = 20_000_000usize;
    let numbers: Vec<u64> = (0..n).map(|_| rng.u64(..)).collect();
    let sum = numbers.iter().fold(0u64, |sum, n| sum.wrapping_add(n % 1000));
    let mut table = df!("n" => numbers).unwrap();
    ParquetWriter::new(fs::File::create(&path).unwrap())
        .with_row_group_size(Some(1 << 20))
        .finish(&mut table)
        .unwrap();
    let frame = Frame::read_parquet(path.to_str().unwrap()).unwrap();
    assert!(frame.n_partitions() >= 2, "{}", frame.n_partitions());
    let found = frame
        .select([(col("n") % lit(1000u64)).sum(), len()])
        .collect()
        .unwrap();
    assert_eq!(found, df!("n" => [sum], "len" => [n as u32]).unwrap());
}
