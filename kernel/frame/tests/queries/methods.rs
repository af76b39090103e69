//! Every method of Polars' lazy frames, and how a frame plans it: row by row, by partial results, by a shuffle, or whole.

use super::*;

/// How the rows of several partitions become what a method gives, when they are too many for one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// Each partition by itself.
    Rows,
    /// Partial results of partitions, merged in a tree.
    Partial,
    /// Partial results, merged by their keys in several tasks.
    PartialByKey,
    /// Rows with the same keys meet.
    ByKey,
    /// Rows of the same range of an order meet.
    ByRange,
    /// The smaller side goes to each partition of the other.
    Broadcast,
    /// Each partition of one side meets each of the other.
    Pairs,
    /// The rows meet in one task, for this step.
    Together,
    /// The whole query is one task.
    Whole,
}

use How::*;

fn how(frame: &Frame) -> How {
    let explained = frame.explain().unwrap();
    let text = explained.to_string();
    let last = explained.lines().last().cloned().unwrap_or_default();
    let has = |word: &str| text.contains(word);
    if has("run the whole query in one task") {
        Whole
    } else if has("partial") && has("by hash") {
        PartialByKey
    } else if has("partial") {
        Partial
    } else if has("by hash") {
        ByKey
    } else if has("ranges") {
        ByRange
    } else if has("goes to each partition") {
        Broadcast
    } else if has("each partition of one side with each of the other") {
        Pairs
    } else if last.contains("[1 task") {
        Together
    } else {
        Rows
    }
}

type Step = fn(LazyFrame, LazyFrame) -> LazyFrame;

fn k() -> Option<Selector> {
    Some(by_name(["k"], true, false))
}

fn options() -> SortMultipleOptions {
    SortMultipleOptions::default()
}

fn windows() -> DynamicGroupOptions {
    DynamicGroupOptions {
        every: Duration::parse("5s"),
        period: Duration::parse("5s"),
        offset: Duration::parse("0s"),
        ..Default::default()
    }
}

const METHODS: &[(&str, How, Step)] = &[
    ("filter", Rows, |t, _| t.filter(col("k").gt(lit(3)))),
    ("remove", Rows, |t, _| t.remove(col("k").gt(lit(3)))),
    ("select", Rows, |t, _| t.select([col("k") + lit(1)])),
    ("select_seq", Rows, |t, _| t.select_seq([col("k") + lit(1)])),
    ("with_column", Rows, |t, _| {
        t.with_column((col("k") + lit(1)).alias("more"))
    }),
    ("with_columns", Rows, |t, _| {
        t.with_columns([(col("k") + lit(1)).alias("more")])
    }),
    ("with_columns_seq", Rows, |t, _| {
        t.with_columns_seq([(col("k") + lit(1)).alias("more")])
    }),
    ("drop", Rows, |t, _| t.drop(by_name(["k"], true, false))),
    ("rename", Rows, |t, _| t.rename(["k"], ["key"], true)),
    ("cast", Rows, |t, _| {
        t.cast(PlHashMap::from_iter([("k", DataType::Int64)]), true)
    }),
    ("cast_all", Rows, |t, _| {
        t.select([col("k")]).cast_all(DataType::Int64, true)
    }),
    ("fill_null", Rows, |t, _| t.select([col("k")]).fill_null(lit(0))),
    ("fill_nan", Rows, |t, _| t.select([col("x")]).fill_nan(lit(0.0))),
    ("drop_nulls", Rows, |t, _| t.drop_nulls(k())),
    ("drop_nans", Rows, |t, _| {
        t.drop_nans(Some(by_name(["x"], true, false)))
    }),
    ("explode", Rows, |t, _| {
        t.explode(
            by_name(["list"], true, false),
            ExplodeOptions {
                empty_as_null: true,
                keep_nulls: true,
            },
        )
    }),
    ("unnest", Rows, |t, _| {
        t.select([col("pair")])
            .unnest(by_name(["pair"], true, false), None)
    }),
    ("unpivot", Rows, |t, _| {
        t.unpivot(UnpivotArgsDSL {
            on: Some(by_name(["k", "small"], true, false)),
            index: by_name(["id"], true, false),
            variable_name: None,
            value_name: None,
        })
    }),
    ("match_to_schema", Rows, |t, _| {
        let schema = Schema::from_iter([Field::new("k".into(), DataType::Int32)]);
        let column = MatchToSchemaPerColumn {
            missing_columns: MissingColumnsPolicyOrExpr::Raise,
            missing_struct_fields: MissingColumnsPolicy::Raise,
            extra_struct_fields: ExtraColumnsPolicy::Raise,
            integer_cast: UpcastOrForbid::Upcast,
            float_cast: UpcastOrForbid::Upcast,
        };
        t.match_to_schema(schema.into(), [column].into(), ExtraColumnsPolicy::Ignore)
    }),
    ("cache", Rows, |t, _| t.cache()),
    ("hint", Rows, |t, _| {
        let sorted = polars_plan::plans::Sorted {
            column: "id".into(),
            descending: Some(false),
            nulls_last: Some(true),
        };
        t.hint(polars_plan::plans::HintIR::Sorted([sorted].into()))
            .unwrap()
    }),
    ("max", Partial, |t, _| t.select([col("k")]).max()),
    ("min", Partial, |t, _| t.select([col("k")]).min()),
    ("sum", Partial, |t, _| t.select([col("k")]).sum()),
    ("mean", Partial, |t, _| t.select([col("k")]).mean()),
    ("std", Partial, |t, _| t.select([col("k")]).std(1)),
    ("var", Partial, |t, _| t.select([col("k")]).var(1)),
    ("count", Partial, |t, _| t.select([col("k")]).count()),
    ("null_count", Partial, |t, _| t.select([col("k")]).null_count()),
    ("median", Together, |t, _| t.select([col("k")]).median()),
    ("quantile", Together, |t, _| {
        t.select([col("k")]).quantile(lit(0.3), QuantileMethod::Nearest)
    }),
    ("first", Together, |t, _| t.first()),
    ("last", Together, |t, _| t.last()),
    ("tail", Together, |t, _| t.tail(3)),
    ("limit", Together, |t, _| t.limit(3)),
    ("slice", Together, |t, _| t.slice(2, 3)),
    ("clear", Together, |t, _| t.clear()),
    ("reverse", Together, |t, _| t.reverse()),
    ("shift", Together, |t, _| t.select([col("k")]).shift(lit(1))),
    ("shift_and_fill", Together, |t, _| {
        t.select([col("k")]).shift_and_fill(lit(1), lit(0))
    }),
    ("with_row_index", Together, |t, _| t.with_row_index("row", None)),
    ("sort", ByRange, |t, _| t.sort(["id"], options())),
    ("sort_by_exprs", ByRange, |t, _| {
        t.sort_by_exprs([col("id")], options())
    }),
    ("top_k", Together, |t, _| t.top_k(3, [col("id")], options())),
    ("bottom_k", Together, |t, _| t.bottom_k(3, [col("id")], options())),
    ("unique", ByKey, |t, _| t.unique(k(), UniqueKeepStrategy::Any)),
    ("unique_generic", ByKey, |t, _| {
        t.unique_generic(Some(vec![col("k")]), UniqueKeepStrategy::Any)
    }),
    ("unique_stable", Together, |t, _| {
        t.unique_stable(k(), UniqueKeepStrategy::First)
    }),
    ("unique_stable_generic", Together, |t, _| {
        t.unique_stable_generic(Some(vec![col("k")]), UniqueKeepStrategy::First)
    }),
    ("group_by", PartialByKey, |t, _| {
        t.group_by([col("k")]).agg([col("x").sum()])
    }),
    ("group_by_stable", Partial, |t, _| {
        t.group_by_stable([col("k")]).agg([col("x").sum()])
    }),
    ("group_by_dynamic", Together, |t, _| {
        t.group_by_dynamic(col("at"), [], windows()).agg([col("k").sum()])
    }),
    ("rolling", Together, |t, _| {
        let options = RollingGroupOptions {
            period: Duration::parse("5s"),
            offset: Duration::parse("-5s"),
            ..Default::default()
        };
        t.rolling(col("at"), [], options).agg([col("k").sum()])
    }),
    ("pivot", PartialByKey, |t, _| {
        let on = df!("flag" => [false, true]).unwrap();
        t.pivot(
            by_name(["flag"], true, false),
            std::sync::Arc::new(on),
            by_name(["k"], true, false),
            by_name(["small"], true, false),
            element().sum(),
            false,
            "_".into(),
            Default::default(),
        )
    }),
    ("join", ByKey, |t, o| {
        t.join(o, [col("k")], [col("k")], JoinArgs::new(JoinType::Inner))
    }),
    ("join_builder", ByKey, |t, o| {
        t.join_builder().with(o).on([col("k")]).finish()
    }),
    ("inner_join", ByKey, |t, o| t.inner_join(o, col("k"), col("k"))),
    ("left_join", ByKey, |t, o| t.left_join(o, col("k"), col("k"))),
    ("full_join", ByKey, |t, o| t.full_join(o, col("k"), col("k"))),
    ("semi_join", ByKey, |t, o| t.semi_join(o, col("k"), col("k"))),
    ("anti_join", ByKey, |t, o| t.anti_join(o, col("k"), col("k"))),
    ("cross_join", Pairs, |t, o| t.cross_join(o, None)),
    ("merge_sorted", Together, |t, o| {
        t.select([col("k")])
            .merge_sorted(o.select([col("k")]), ["k"], false)
            .unwrap()
    }),
    ("gather", Together, |t, o| {
        t.gather(
            o.select([col("k").fill_null(lit(0)).cast(DataType::UInt32)]),
            true,
        )
    }),
];

/// What takes no part in a query's rows, and why there is no step of it.
const OTHERS: &[(&str, &[&str])] = &[
    (
        "they run a query, and frames do that on a cluster",
        &[
            "_collect_post_opt",
            "_profile_post_opt",
            "collect",
            "collect_all_with_engine",
            "collect_batches",
            "collect_concurrently",
            "collect_with_engine",
            "profile",
            "sink",
            "sink_batches",
        ],
    ),
    (
        "they say how Polars shall optimise, which the planner decides",
        &[
            "_with_eager",
            "from_logical_plan",
            "get_current_optimizations",
            "optimize",
            "to_alp",
            "to_alp_optimized",
            "with_check_order",
            "with_cluster_with_columns",
            "with_comm_subexpr_elim",
            "with_comm_subplan_elim",
            "with_gpu",
            "with_optimizations",
            "with_predicate_pushdown",
            "with_projection_pushdown",
            "with_row_estimate",
            "with_simplify_expr",
            "with_slice_pushdown",
            "with_streaming",
            "with_type_check",
            "with_type_coercion",
            "without_optimizations",
        ],
    ),
    (
        "they describe a query: `Frame` has them, or `explain` in their place",
        &[
            "collect_schema",
            "describe_optimized_plan",
            "describe_optimized_plan_tree",
            "describe_plan",
            "describe_plan_tree",
            "explain",
            "explain_all",
        ],
    ),
    (
        "their functions are of this program, and cannot travel: `map_partitions` takes their place",
        &["map", "map_python", "pipe_with_schema", "pipe_with_schemas"],
    ),
    (
        "it is how Polars' SQL brings in other tables, and deprecated",
        &["with_context"],
    ),
];

#[test]
fn every_method_is_planned_as_it_is_said() {
    start();
    plan_as_if(AsIf::Large);
    let (whole, right) = (table(203, 7), other());
    let mut wrong = Vec::new();
    for (name, expected, step) in METHODS {
        let (left, right) = (
            Frame::from_dataframe(whole.clone(), 5),
            Frame::from_dataframe(right.clone(), 2),
        );
        let frame = left.of_both(&right, *step);
        let found = how(&frame);
        if found != *expected {
            wrong.push(format!(
                "{name}: {found:?}, not {expected:?}\n{}",
                frame.explain().unwrap()
            ));
        }
    }
    plan_as_if(AsIf::Measured);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A new Polars may have new methods.
#[test]
fn no_method_is_left_out() {
    let said: Vec<&str> = METHODS
        .iter()
        .map(|(name, _, _)| *name)
        .chain(OTHERS.iter().flat_map(|(_, names)| names.iter().copied()))
        .collect();
    // Sources of other platforms' crates were never fetched.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        .args(["--filter-platform", &platform])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let said_by_cargo = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said_by_cargo}");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let lazy = packages
        .iter()
        .find(|package| package["name"] == "polars-lazy")
        .unwrap();
    let folder = std::path::Path::new(lazy["manifest_path"].as_str().unwrap()).with_file_name("src");
    let source = std::fs::read_to_string(folder.join("frame/mod.rs")).unwrap();
    let whole = source.split("pub struct LazyGroupBy").next().unwrap();
    let mut missing = Vec::new();
    let mut n = 0;
    for line in whole.lines() {
        let Some(rest) = line.strip_prefix("    pub fn ") else {
            continue;
        };
        let name: String = rest
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        n += 1;
        if !said.contains(&name.as_str()) {
            missing.push(name);
        }
    }
    assert!(n > 80, "methods are found: {n}");
    assert!(
        missing.is_empty(),
        "nobody says how these are planned: {missing:?}"
    );
}
