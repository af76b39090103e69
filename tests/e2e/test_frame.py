"""Frames over real files, against Polars on the same rows."""

import pytest

from test_cells import fails, ok


@pytest.fixture(scope="module")
def frames(kernel):
    ok(kernel, "let cluster = Cluster::local().workers(2).start()?;")
    ok(kernel, 'std::fs::create_dir_all("csv")?; for i in 0..5i64 { let rows: String = (0..50).map(|r| format!("{},{},{}\\n", (r * 7 + i) % 4, if i < 2 { String::new() } else { r.to_string() }, r as f64 / 3.0 + i as f64)).collect(); std::fs::write(format!("csv/{i}.csv"), format!("k,late,x\\n{rows}"))?; }')
    ok(kernel, 'let f = Frame::read_csv("csv/*.csv")?; let whole = f.collect()?;')
    return kernel


def test_types_come_from_all_files(frames):
    assert "late" in ok(frames, "f").text and "i64" in ok(frames, 'f.schema()?.get("late").unwrap().to_string()').text
    ok(frames, "(f.len()?, f.n_partitions(), whole.shape())", "(250, 5, (250, 3))")


def test_aggregations_agree_with_polars(frames):
    aggs = '[col("x").sum().alias("s"), col("x").mean().alias("m"), col("x").min().alias("lo"), col("x").max().alias("hi"), col("late").count().alias("n"), col("x").std(1).alias("sd"), col("x").var(1).alias("v"), col("late").mean().alias("lm")]'
    ok(frames, f'let ours = f.group_by([col("k")]).agg({aggs}).sort(["k"]).collect()?; let theirs = whole.clone().lazy().group_by([col("k")]).agg({aggs}).sort(["k"], Default::default()).collect()?;')
    ok(frames, "ours.schema() == theirs.schema()", "true")
    ok(frames, 'let close = |name: &str| { let (a, b) = (ours.column(name).unwrap().cast(&DataType::Float64).unwrap(), theirs.column(name).unwrap().cast(&DataType::Float64).unwrap()); a.f64().unwrap().iter().zip(b.f64().unwrap().iter()).all(|(a, b)| match (a, b) { (Some(a), Some(b)) => (a - b).abs() < 1e-9, (a, b) => a == b }) };\n["s", "m", "lo", "hi", "n", "sd", "v", "lm"].iter().filter(|n| !close(n)).count()', "0")


def test_row_wise_steps_sort_and_head(frames):
    ok(frames, 'let got = f.filter(col("k").eq(lit(1))).with_columns([(col("x") * lit(2.0)).alias("x2")]).select([col("x2"), col("k")]).sort(["x2"]).collect()?;')
    ok(frames, 'let want = whole.clone().lazy().filter(col("k").eq(lit(1))).select([(col("x") * lit(2.0)).alias("x2"), col("k")]).sort(["x2"], Default::default()).collect()?; got.equals_missing(&want)', "true")
    ok(frames, "f.head(7)?.equals_missing(&whole.head(Some(7)))", "true")
    ok(frames, 'f.sort_descending(["x"]).head(1)?.column("x")?.f64()?.get(0) == whole.column("x")?.f64()?.iter().flatten().reduce(f64::max)', "true")


def test_the_first_column_of_files_is_sorted_by(frames):
    ok(frames, 'f.sort(["k"]).collect()?.column("k")?.i64()?.into_no_null_iter().collect::<Vec<_>>().is_sorted()', "true")
    ok(frames, 'f.with_columns([col("x").rank(RankOptions::default(), None).over([col("late")])?.alias("r")]).sort(["k"]).collect()?.column("k")?.i64()?.into_no_null_iter().collect::<Vec<_>>().is_sorted()', "true")
    ok(frames, 'let ordered = Frame::sql("select k, x from f order by k, x", &[("f", (&f).into())])?.collect()?; ordered.column("k")?.i64()?.into_no_null_iter().collect::<Vec<_>>().is_sorted()', "true")


@pytest.mark.parametrize("code, words", [
    ("f.head(5).collect()?", ["this is a table already", "`.limit(5)`"]),
    ('f.filter(col("x") > 1)', ["columns are compared by methods", "`.gt(100)`"]),
    ('f.filter(col("k") == lit(1))', ["columns are compared by methods"]),
    ('f.filter(col("k").gt(1) && col("x").lt(2))', ["`.and(…)`, `.or(…)` and `.not()`"]),
    ('f.filter(!col("k").gt(2))', ["`.and(…)`, `.or(…)` and `.not()`"]),
    ('col("k") % 2', ["`lit(2)`"]),
    ('f.select(["k"])', ["this takes a list of expressions", '`[col("a"), col("b")]`']),
    ('f.group_by([col("k")]).agg(col("x").mean())', ["this takes a list of expressions"]),
    ('f.plot().line("k", "x")?', ["this takes a list of names"]),
    ('f.filter(col("k").eq("one")).len()?', ['text to compare with is `lit("…")`']),
    ("f.shape()", ["`.len()?` counts rows"]),
    ("f.columns()", ["`.schema()?`"]),
    ("f.compute()?", ["`.collect()?`"]),
    ("fn inc(x: i64) -> i64 { x + 1 }\nlet y = cluster.submit(inc, 1)?;", ["`.gather()?`"]),
    ("cluster.gather(&cluster.map(|x| x + 1, 0..3))?", ["`|x: i64| …`"]),
    ("%%sql\nselect k, avg(x) over (order by k) as m from f", ["`avg` over an order is one value for all rows here"]),
    ("%%sql\nselect a.k from f as a left join f as b on a.k = b.k and a.x > b.x", ["an outer join keeps its rows here only if"]),
    ("never_made = f.collect()?", ["`let never_made = …` makes a variable"]),
    ("%%sql\nselect k, row_number() over (order by k) as rn from f group by k", ["cannot look at the groups of its own query"]),
    ('f.write_csv("csv-of-f")?; let g = Frame::read_csv("csv-of-f")?; g.filter(col("k").eq(lit(1))).write_csv("csv-of-f")?;', ["part-00000.csv is a file that this frame reads"]),
])
def test_what_others_would_type_is_answered_in_words(frames, code, words):
    fails(frames, code, *words)


def test_a_limit_is_counted_over_all_files(frames):
    ok(frames, "(f.limit(3).len()?, f.limit(70).select([len()]).collect()?.column(\"len\")?.u32()?.get(0), f.slice(240, 20).len()?)", "(3, Some(70), 10)")


def test_a_plot_of_no_kind_says_what_kinds_there_are(frames):
    assert "`.histogram(" in ok(frames, "f.plot()").text


def test_persist_write_and_read_parquet(frames):
    ok(frames, 'let held = f.persist()?; held.write_parquet("out")?', "250")
    ok(frames, 'let back = Frame::read_parquet("out/*.parquet")?; (back.n_partitions(), back.collect()?.equals_missing(&whole))', "(5, true)")
    ok(frames, "Frame::from_dataframe(whole.clone(), 3).collect()?.equals_missing(&whole)", "true")
    ok(frames, 'let t = Frame::timeseries().days(2).every(60.0).seed(1).build(); (t.len()?, t.select([col("x")]).collect()?.equals(&t.collect()?.select(["x"])?))', "(2880, true)")


def test_explain_and_graph(frames):
    text = ok(frames, 'f.group_by([col("k")]).agg([col("x").sum()]).explain()?').text
    assert "partial" in text and "5 partitions" in text and "[2 tasks" in text and "because partial results must meet" in text
    assert ok(frames, 'f.group_by([col("k")]).agg([col("x").sum()]).graph()?').text.startswith("3 tasks")


def test_errors_come_before_anything_runs(frames):
    fails(frames, 'f.filter(col("nope").eq(lit(1))).collect()?', "`filter`", "nope", "hint:")
    fails(frames, 'f.group_by([col("k")]).agg([col("y").median()]).collect()?', "`group_by().agg()`", "y")
    fails(frames, "f.lazy(|lf| lf.map(|df| Ok(df), Default::default(), None, None)).collect()?", "cannot travel to workers", "hint:")
    fails(frames, 'Frame::read_csv("missing/*.csv")?', "no file matches `missing/*.csv`", "hint:")
    ok(frames, 'std::fs::create_dir_all("mixed")?; std::fs::write("mixed/a.csv", "a,b\\n1,2\\n")?; std::fs::write("mixed/b.csv", "a,c\\n1,2\\n")?;')
    fails(frames, 'Frame::read_csv("mixed/*.csv")?', "b.csv has other columns", "`b` is missing, and `c` is new", "hint:")
    ok(frames, 'std::fs::create_dir_all("broken")?; let mut t = String::from("a,b\\n"); for i in 0..3000 { t += &format!("{i},{i}\\n"); } t += "oops,1\\n"; std::fs::write("broken/a.csv", t)?; let broken = Frame::read_csv("broken/*.csv")?;')
    fails(frames, "broken.collect()?", "broken/a.csv", "oops", "hint:")
    ok(frames, 'std::fs::write("broken/empty.csv", "")?;')
    fails(frames, 'Frame::read_csv("broken/empty.csv")?', "the file is empty")


def test_what_needs_all_rows_is_not_computed_by_partition(kernel):
    kernel.execute('let cluster = Cluster::local().workers(2).start()?; let two = Frame::from_dataframe(df!("a" => [1.0, 2.0, 3.0, 5.0], "b" => [2.0, 4.0, 6.0, 9.0])?, 2);')
    whole = kernel.execute('skep::sql("select covar_pop(a, b) as c from t", &[("t", (&df!("a" => [1.0, 2.0, 3.0, 5.0], "b" => [2.0, 4.0, 6.0, 9.0])?).into())])?').text
    assert kernel.execute("%%sql\nselect covar_pop(a, b) as c from two").text == whole
    ranks = kernel.execute('two.select([col("a").rank(Default::default(), None)])')
    assert "look at all rows" in ranks.text
    assert [row.strip("│ ") for row in kernel.execute("two.select([col(\"a\").rank(Default::default(), None)]).collect()?").text.splitlines()[6:10]] == ["1", "2", "3", "4"]
    assert kernel.execute('two.select([(col("a") + col("b")).alias("s")]).collect()?.height()').text == "4"


def test_a_data_person_asks_what_polars_can(frames):
    ok(frames, 'let names = df!("k" => [0i64, 1, 2, 3], "name" => ["zero", "one", "two", "three"])?;')
    joined = ok(frames, "%%sql\nselect n.name, count(*) as c, median(f.x) as m from f join names n on f.k = n.k group by n.name order by n.name").text
    assert [row.split("┆")[0].strip("│ ") for row in joined.splitlines()[6:10]] == ["one", "three", "two", "zero"]
    ok(frames, 'f.with_columns([col("x").rank(Default::default(), None).over([col("k")])?.alias("r")]).filter(col("r").eq(lit(1))).len()? >= 4', "true")
    ok(frames, 'f.left_join(&Frame::from(names.clone()), col("k"), col("k")).select([col("name").n_unique()]).collect()?.column("name")?.u32()?.get(0)', "Some(4)")
    text = ok(frames, 'f.group_by([col("k")]).agg([col("x").median()]).explain()?').text
    assert "shuffle into 2 by hash" in text and "needs all rows of a group" in text
    ok(frames, "fn halves(part: DataFrame) -> DataFrame { part.head(Some(part.height() / 2)) }")
    ok(frames, "f.map_partitions(halves).len()?", "125")
    ok(frames, 'f.describe()?.height()', "9")
    ok(frames, 'f.repartition(2).write_csv("two")?; std::fs::read_dir("two")?.count()', "2")
    # What the program cannot send is said, and nothing is lost.
    fails(frames, 'f.select([col("x").map(|c| Ok(c), |_, f| Ok(f.clone()))]).collect()?', "cannot travel to workers", "map_partitions")
    ok(frames, "f.len()?", "250")


def test_trades_meet_the_quotes_before_them(frames):
    ok(frames, 'let trades = df!("time" => [3i64, 7, 9, 30], "ticker" => ["A", "B", "A", "B"])?; let quotes = df!("time" => [8i64, 1, 4], "ticker" => ["A", "A", "B"], "bid" => [10.5, 9.5, 19.0])?;')
    ok(frames, 'let how = AsOf::on("time").by(["ticker"]).within(5); trades.join_asof(&quotes, how.clone())?.column("bid")?.f64()?.to_vec()', "[Some(9.5), Some(19.0), Some(10.5), None]")
    ok(frames, 'trades.clone().lazy().join_asof(quotes.clone().lazy(), how.clone())?.collect()?.equals_missing(&trades.join_asof(&quotes, how.clone())?)', "true")
    ok(frames, 'let many = Frame::from_dataframe(trades.clone(), 3).join_asof(&Frame::from_dataframe(quotes.clone(), 2), how.clone()); many.collect()?.equals_missing(&trades.join_asof(&quotes, how)?)', "true")
    fails(frames, 'Frame::from(trades.clone()).join_asof(&Frame::from(quotes.clone()), AsOf::on("when")).collect()?', "`join_asof`", "`when` is no column of the left table; it has time, ticker")
    fails(frames, "%%sql\nselect * from trades asof join quotes match_condition (trades.time >= quotes.time)", "SQL has no as-of join here", 'AsOf::on("time")')
    ok(frames, "fn rows(f: &Frame) -> Result<usize, skep::Error> { Ok(f.collect()?.height()) }\nrows(&Frame::from(trades.clone()))?", str(4))
    fails(frames, "fn rows_of(f: &DataFrame) -> Result<usize, skep::Error> { Ok(f.clone().lazy().collect()?.height()) }", "`?` cannot make a `skep::Error` of this one", "Box<dyn std::error::Error>")
    for code in ('trades.join_asof(&quotes, "time", "time", AsofStrategy::Backward, None, true, true)?', 'trades.join(&quotes, ["time"], ["time"], JoinType::AsOf, None)?', 'trades.clone().lazy().join_builder().with(quotes.clone().lazy()).how(JoinType::AsOf(Box::new(AsOfOptions::default()))).finish().collect()?'):
        fails(frames, code, "as-of joins are a method of their own here", 'AsOf::on("time")')


def test_bad_files_are_named_with_their_line_and_nothing_is_lost(kernel, tmp_path):
    def file(name, text):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path / name

    kernel.execute("let cluster = Cluster::local().workers(2).start()?; let kept = 41;")
    file("columns-1.csv", "x,y\n1,2\n"), file("columns-2.csv", "x,z\n1,2\n")
    numbers = "".join(f"{i},{i}\n" for i in range(5_000))
    for code, parts in [
        (f'Frame::read_csv("{tmp_path}/columns-*.csv")?', ["columns-2.csv", "`y` is missing, and `z` is new"]),
        (f'Frame::read_csv("{file("empty.csv", "")}")?', ["empty.csv", "the file is empty"]),
        (f'Frame::read_csv("{file("late.csv", "x,y" + chr(10) + numbers + "oops,1" + chr(10))}")?.select([col("x").sum()]).collect()?', ["late.csv, line 5002", "`oops`", "read_csv_typed"]),
        (f'Frame::read_csv("{file("fields.csv", "x,y" + chr(10) + numbers + "1,2,3" + chr(10))}")?.collect()?', ["fields.csv, line 5002", "more fields", "as many fields as the header"]),
        (f'Frame::read_csv("{file("latin.csv", b"x,y" + bytes([10]) + b"1," + bytes([255, 254, 10]))}")?', ["latin.csv", "utf-8", "iconv"]),
        (f'Frame::read_csv("{file("german.csv", "x;y" + chr(10) + "1;2" + chr(10))}")?', ["one column", "separated by ';'", "with_separator(b';')"]),
        ('Frame::read_csv("s3://bees/x.csv")?', ["s3 addresses", "aws s3 cp"]),
        (f'Frame::read_parquet("{tmp_path}/empty.csv")?', ["empty.csv", "is it a Parquet file, and whole?"]),
        ('let large = Frame::from_dataframe(df!("a" => (0..200_000i64).collect::<Vec<_>>())?, 4); large.cross_join(&large, None).collect()?', ["a cross join of about 200000 and 200000 rows", "4.0e10", "join on a column"]),
    ]:
        result = kernel.execute(code)
        text = result.error
        for part in parts:
            assert part in text, f"{code}\n{part!r} is not in\n{text}"
    assert kernel.execute("kept + 1").text == "42"


def test_files_that_change_between_plan_and_run(kernel, tmp_path):
    kernel.execute("let cluster = Cluster::local().workers(2).start()?;")
    kernel.execute(f'let rows = Frame::from_dataframe(df!("a" => (0..100_000i64).collect::<Vec<_>>())?, 2); rows.write_parquet("{tmp_path}/rows")?;')
    kernel.execute(f'let read = Frame::read_parquet("{tmp_path}/rows/*.parquet")?;')
    first = sorted((tmp_path / "rows").glob("*.parquet"))[0]
    whole = first.read_bytes()
    first.write_bytes(whole[: len(whole) // 2])
    result = kernel.execute("read.select([col(\"a\").sum()]).collect()?")
    assert first.name in result.error, result.error
    first.unlink()
    result = kernel.execute("read.select([col(\"a\").sum()]).collect()?")
    assert first.name in result.error and "No such file" in result.error, result.error
    first.write_bytes(whole)
    assert "4999950000" in kernel.execute("read.select([col(\"a\").sum()]).collect()?").text


def test_explain_says_what_a_run_took(kernel, tmp_path):
    kernel.execute("let cluster = Cluster::local().workers(2).start()?;")
    kernel.execute(f'Frame::from_dataframe(df!("a" => (0..400_000i64).map(|i| i % 7).collect::<Vec<_>>())?, 4).write_csv("{tmp_path}/rows")?;')
    kernel.execute(f'let groups = Frame::read_csv("{tmp_path}/rows/*.csv")?.group_by([col("a")]).agg([len()]);')
    assert "took" not in kernel.execute("groups.explain()?").text
    kernel.execute("groups.collect()?;")
    said = kernel.execute("groups.explain()?").text
    assert "group by a: partial len()" in said and said.count("took") == 2 and "gave" in said, said


def test_tables_in_a_list_are_joined_and_keep_their_columns(kernel):
    kernel.execute("let cluster = Cluster::local().workers(2).start()?;")
    kernel.execute('let part = df!("p" => [1, 2, 3], "size" => [10, 20, 30])?; let shop = df!("s" => [7, 8], "city" => ["A", "B"])?; let offer = Frame::from_dataframe(df!("op" => [1, 3, 3], "os" => [7, 7, 8], "cost" => [1.0, 2.0, 3.0])?, 2);')
    # No condition joins the second table with the first; the third stands between them.
    shown = ok(kernel, "%%sql\nselect * from part, shop, offer where p = op and s = os and size > 10 order by cost").text
    assert [name.strip() for name in shown.splitlines()[2].strip("│").split("┆")] == ["p", "size", "s", "city", "op", "os", "cost"], shown
    assert "shape: (2, 7)" in shown and "3.0" in shown
    assert "(2, 1)" in ok(kernel, "%%sql\nselect city from shop, part where (s = 7 and p = 1) or (s = 8 and p = 2)").text


def test_several_frames_are_one_graph(kernel, tmp_path):
    kernel.execute("let cluster = Cluster::local().workers(2).start()?;")
    kernel.execute(f'Frame::from_dataframe(df!("a" => (0..4_000i64).map(|i| i % 7).collect::<Vec<_>>())?, 4).write_csv("{tmp_path}/rows")?;')
    kernel.execute(f'let odd = Frame::read_csv("{tmp_path}/rows/*.csv")?.filter((col("a") % lit(2)).eq(lit(1)));')
    result = kernel.execute('let both = Frame::collect_all(&[odd.group_by(["a"]).agg([len()]), odd.select([len()])])?; (both[0].height(), both[1].get(0).unwrap().to_vec().len(), Frame::collect_all(&[])?.len())')
    assert result.text == "(3, 1, 0)", result.reply


def test_charts(kernel):
    kernel.execute("let cluster = Cluster::local().workers(2).start()?;")
    kernel.execute('let rows = Frame::from_dataframe(df!("x" => (0..50_000i64).collect::<Vec<_>>(), "y" => (0..50_000i64).map(|i| (i % 9 > 0).then(|| (i as f64 / 5e3).sin())).collect::<Vec<_>>())?, 4);')
    for code, said in [
        ('rows.plot().line("x", ["y"])?', "of 50,000 rows, chosen at random"),
        ('rows.plot().histogram("y")?', "histogram of y: 44,444 rows"),
        ('rows.plot().boxes(["x", "y"])?', "boxes of x, y"),
        ('df!("hive" => ["a", "b"], "bees" => [3, 5])?.plot().title("Bees").bar("hive", "bees")?', "bar of bees by hive"),
    ]:
        result = kernel.execute(code)
        assert result.status == "ok", result.reply
        shown = result.of("execute_result")[-1]["data"]
        assert said in shown["text/plain"] and shown["image/svg+xml"].startswith("<svg"), shown["text/plain"]
    result = kernel.execute('rows.plot().bar("x", "y")?')
    assert "50,000 bars would not be readable" in result.error


def test_polars_prelude_is_there_and_gives_way(kernel):
    ok(kernel, 'let s = Series::new("a".into(), [1, 2, 3]); s.sum::<i64>()?', "6")
    ok(kernel, "fn col(x: i64) -> i64 { x + 1 }\ncol(1)", "2")
    ok(kernel, "struct Expr; let first = 1; let len = 2; first + len", "3")
