//! As-of joins against the plainest way to find them: for each row, a look at all of the other table.

use skep_frame::Tolerance;

use super::*;

/// Keys with nulls and many equal ones, in no order, and groups with nulls.
fn unsorted(n: usize, seed: u64) -> DataFrame {
    let mut rng = fastrand::Rng::with_seed(seed);
    let t: Vec<Option<i64>> = (0..n)
        .map(|_| (rng.u8(0..10) > 0).then(|| rng.i64(0..40)))
        .collect();
    let g: Vec<Option<&str>> = (0..n)
        .map(|_| rng.choice([None, Some("a"), Some("b"), Some("c")]).flatten())
        .collect();
    let v: Vec<Option<i64>> = (0..n as i64).map(|v| (rng.u8(0..5) > 0).then_some(v)).collect();
    df!("t" => t, "g" => g, "v" => v).unwrap()
}

/// Which values of the right side may stand beside each row of the left: all that are as near.
fn allowed(
    left: &DataFrame,
    right: &DataFrame,
    by: bool,
    takes: impl Fn(i64, i64) -> Option<i64>,
) -> Vec<Vec<Option<i64>>> {
    let column = |frame: &DataFrame, name: &str| frame.column(name).unwrap().i64().unwrap().to_vec();
    let group = |frame: &DataFrame| -> Vec<Option<String>> {
        let column = frame.column("g").unwrap().str().unwrap();
        column.iter().map(|text| text.map(str::to_owned)).collect()
    };
    let (left_t, right_t, right_v) = (column(left, "t"), column(right, "t"), column(right, "v"));
    let (left_g, right_g) = (group(left), group(right));
    (0..left.height())
        .map(|i| {
            let far = |j: &usize| {
                let meet = !by || left_g[i].is_some() && left_g[i] == right_g[*j];
                takes(left_t[i]?, right_t[*j]?).filter(|_| meet)
            };
            let nearest = (0..right.height()).filter_map(|j| far(&j)).min();
            let are: Vec<_> = (0..right.height())
                .filter(|j| nearest.is_some() && far(j) == nearest)
                .collect();
            if are.is_empty() {
                vec![None]
            } else {
                are.into_iter().map(|j| right_v[j]).collect()
            }
        })
        .collect()
}

#[test]
fn each_row_finds_the_next_of_the_other_table() {
    let (left, right) = (unsorted(300, 1), unsorted(120, 2));
    let on = || AsOf::on("t");
    type Takes = fn(i64, i64) -> Option<i64>;
    let hows: [(&str, AsOf, Takes); 7] = [
        ("before", on(), |l, r| (r <= l).then(|| l - r)),
        ("strictly before", on().strict(), |l, r| (r < l).then(|| l - r)),
        ("after", on().forward(), |l, r| (r >= l).then(|| r - l)),
        ("strictly after", on().forward().strict(), |l, r| {
            (r > l).then(|| r - l)
        }),
        ("nearest", on().nearest(), |l, r| Some((l - r).abs())),
        ("before, within", on().within(2), |l, r| {
            (r <= l && l - r <= 2).then(|| l - r)
        }),
        ("nearest, within", on().nearest().within(1), |l, r| {
            ((l - r).abs() <= 1).then(|| (l - r).abs())
        }),
    ];
    for (name, how, takes) in hows {
        for by in [false, true] {
            let how = if by { how.clone().by("g") } else { how.clone() };
            let found = left.join_asof(&right, how).unwrap();
            assert_eq!(found.height(), left.height());
            assert!(
                found
                    .column("t")
                    .unwrap()
                    .equals_missing(left.column("t").unwrap()),
                "{name}: rows stay in their order"
            );
            let values = found.column("v_right").unwrap().i64().unwrap().to_vec();
            for (row, (value, allowed)) in values.iter().zip(allowed(&left, &right, by, takes)).enumerate() {
                assert!(
                    allowed.contains(value),
                    "{name}, by {by}, row {row}: {value:?} of {allowed:?}\n{found}"
                );
            }
        }
    }
}

#[test]
fn keys_of_other_types_and_names_meet() {
    let times = |step: i64| {
        let of: Vec<i64> = (0..4).map(|i| i * step).collect();
        Series::new("at".into(), of)
            .cast(&DataType::Datetime(TimeUnit::Milliseconds, None))
            .unwrap()
    };
    let left = df!("at" => times(60_000), "room" => ["x", "y", "x", "y"]).unwrap();
    let right =
        df!("seen" => times(50_000), "where" => ["x", "y", "y", "x"], "value" => [1u8, 2, 3, 4]).unwrap();
    let how = || AsOf::on("at").right_on("seen").by(["room"]).right_by(["where"]);
    let value = |how: AsOf| {
        let found = left.join_asof(&right, how).unwrap();
        assert_eq!(found.get_column_names(), ["at", "room", "seen", "value"]);
        found.column("value").unwrap().u8().unwrap().to_vec()
    };
    assert_eq!(value(how()), [Some(1), Some(2), Some(1), Some(3)]);
    assert_eq!(value(how().within("1m15s")), [Some(1), Some(2), None, None]);
    assert_eq!(
        value(how().within(std::time::Duration::from_secs(75)).forward()),
        [Some(1), Some(3), Some(4), None]
    );
    let unsigned = df!("n" => [3u32, 10]).unwrap();
    let found = unsigned
        .join_asof(
            &df!("n" => [5u32, 9], "v" => ["a", "b"]).unwrap(),
            AsOf::on("n").nearest().within(2),
        )
        .unwrap();
    assert_eq!(
        found
            .column("v")
            .unwrap()
            .str()
            .unwrap()
            .iter()
            .collect::<Vec<_>>(),
        [Some("a"), Some("b")]
    );
    let empty = left.join_asof(&right.head(Some(0)), how()).unwrap();
    assert_eq!(
        (empty.height(), empty.column("value").unwrap().null_count()),
        (4, 4)
    );
    assert_eq!(left.head(Some(0)).join_asof(&right, how()).unwrap().height(), 0);
}

#[test]
fn what_is_wrong_is_said() {
    let (left, right) = (unsorted(3, 1), unsorted(3, 2));
    let said = |how: AsOf| left.join_asof(&right, how).unwrap_err().to_string();
    let on = || AsOf::on("t");
    assert!(said(AsOf::on("when")).contains("`when` is no column of the left table; it has t, g, v"));
    assert!(said(AsOf::on("t").by(["g"]).right_by([])).contains("`by` names 1 columns"));
    assert!(said(AsOf::on("t").nearest().strict()).contains("`nearest` takes equal keys"));
    assert!(said(AsOf::on("t").suffix("")).contains("give another `suffix`"));
    let taken = left.clone().lazy().with_column(lit(1).alias("__asof_row"));
    let error = taken
        .collect()
        .unwrap()
        .join_asof(&right, AsOf::on("t"))
        .unwrap_err();
    assert!(
        error.to_string().contains("left table's column `__asof_row`"),
        "{error}"
    );
    for (how, words) in [
        (on().within("2s"), "`t` is i64, so `within` takes a number"),
        (on().within(-2), "a distance: zero or more"),
        (on().within(f64::NAN), "a distance: zero or more"),
        (
            AsOf::on("g").within(2),
            "`g` is str, and `within` is for numbers and times",
        ),
        (AsOf::on("g").within("2s"), "`g` is text: make times of it first"),
        (AsOf::on("g").nearest(), "`nearest` is for numbers and times"),
        (
            on().right_on("g"),
            "`t` of the left table is i64, and `g` of the right is str: cast one of them",
        ),
        (
            on().by("g").right_by("v"),
            "`g` of the left table is str, and `v` of the right is i64",
        ),
    ] {
        let text = said(how);
        assert!(text.contains(words), "{text}");
    }
    let at = |name: &str| {
        df!(name => [1i64, 2])
            .unwrap()
            .lazy()
            .select([col(name).cast(DataType::Datetime(TimeUnit::Milliseconds, None))])
    };
    for (within, words) in [
        (Tolerance::from(5), "takes a span of time"),
        (Tolerance::from("-2s"), "is no span of time"),
        (Tolerance::from(""), "is no span of time"),
        (
            Tolerance::from("soon"),
            "`soon` is no span of time, as `2m30s` is",
        ),
        (Tolerance::from("1mo"), "not the same span of time every month"),
    ] {
        let text = at("at")
            .join_asof(at("at"), AsOf::on("at").within(within))
            .err()
            .unwrap()
            .to_string();
        assert!(text.contains(words), "{text}");
    }
    let frame = Frame::from(left.clone()).join_asof(&Frame::from(right.clone()), AsOf::on("when"));
    let said = frame.collect().unwrap_err().to_string();
    assert!(said.contains("join_asof") && said.contains("when"), "{said}");
}
