// The questions of TPC-H as expressions. `Table`, `join` and `sorted` are given: the same text is read for frames and for
// lazy frames of Polars. What the benchmark writes as subqueries stands here as joins.

pub struct Tables {
    region: Table,
    nation: Table,
    supplier: Table,
    part: Table,
    customer: Table,
    partsupp: Table,
    orders: Table,
    lineitem: Table,
}

fn day(text: &'static str) -> Expr {
    lit(text).cast(DataType::Date)
}

fn revenue() -> Expr {
    col("l_extendedprice") * (lit(1) - col("l_discount"))
}

fn text_is(column: &'static str, text: &'static str) -> Expr {
    col(column).eq(lit(text))
}

/// From the first day on, before the second.
fn between(column: &'static str, from: &'static str, before: &'static str) -> Expr {
    col(column).gt_eq(day(from)).and(col(column).lt(day(before)))
}

fn one_of(column: &'static str, values: &[&'static str]) -> Expr {
    values.iter().map(|value| text_is(column, value)).reduce(Expr::or).unwrap()
}

fn nation_of(t: &Tables, name: &'static str) -> Table {
    t.nation.clone().filter(text_is("n_name", name))
}

fn nations_of_region(t: &Tables, name: &'static str) -> Table {
    let region = t.region.clone().filter(text_is("r_name", name));
    join(t.nation.clone(), region, &["n_regionkey"], &["r_regionkey"], JoinType::Inner)
}

fn q01(t: &Tables) -> Table {
    let groups = t.lineitem.clone().filter(col("l_shipdate").lt_eq(day("1998-09-02"))).group_by([col("l_returnflag"), col("l_linestatus")]).agg([
        col("l_quantity").sum().alias("sum_qty"),
        col("l_extendedprice").sum().alias("sum_base_price"),
        revenue().sum().alias("sum_disc_price"),
        (revenue() * (lit(1) + col("l_tax"))).sum().alias("sum_charge"),
        col("l_quantity").mean().alias("avg_qty"),
        col("l_extendedprice").mean().alias("avg_price"),
        col("l_discount").mean().alias("avg_disc"),
        len().alias("count_order"),
    ]);
    sorted(groups, &["l_returnflag", "l_linestatus"], &[false, false])
}

fn q02(t: &Tables) -> Table {
    let supplier = join(t.supplier.clone(), nations_of_region(t, "EUROPE"), &["s_nationkey"], &["n_nationkey"], JoinType::Inner);
    let part = t.part.clone().filter(col("p_size").eq(lit(15)).and(col("p_type").str().ends_with(lit("BRASS"))));
    let offers = join(join(part, t.partsupp.clone(), &["p_partkey"], &["ps_partkey"], JoinType::Inner), supplier, &["ps_suppkey"], &["s_suppkey"], JoinType::Inner);
    let least = offers.clone().group_by([col("p_partkey")]).agg([col("ps_supplycost").min()]);
    let found = join(offers, least, &["p_partkey", "ps_supplycost"], &["p_partkey", "ps_supplycost"], JoinType::Inner);
    let columns: Vec<Expr> = ["s_acctbal", "s_name", "n_name", "p_partkey", "p_mfgr", "s_address", "s_phone", "s_comment"].map(col).into();
    sorted(found.select(columns), &["s_acctbal", "n_name", "s_name", "p_partkey"], &[true, false, false, false]).limit(100)
}

fn q03(t: &Tables) -> Table {
    let customer = t.customer.clone().filter(text_is("c_mktsegment", "BUILDING"));
    let orders = t.orders.clone().filter(col("o_orderdate").lt(day("1995-03-15")));
    let lines = t.lineitem.clone().filter(col("l_shipdate").gt(day("1995-03-15")));
    let orders = join(orders, customer, &["o_custkey"], &["c_custkey"], JoinType::Semi);
    let groups = join(lines, orders, &["l_orderkey"], &["o_orderkey"], JoinType::Inner)
        .group_by([col("l_orderkey"), col("o_orderdate"), col("o_shippriority")])
        .agg([revenue().sum().alias("revenue")])
        .select(["l_orderkey", "revenue", "o_orderdate", "o_shippriority"].map(col));
    sorted(groups, &["revenue", "o_orderdate"], &[true, false]).limit(10)
}

fn q04(t: &Tables) -> Table {
    let late = t.lineitem.clone().filter(col("l_commitdate").lt(col("l_receiptdate")));
    let orders = t.orders.clone().filter(between("o_orderdate", "1993-07-01", "1993-10-01"));
    let groups = join(orders, late, &["o_orderkey"], &["l_orderkey"], JoinType::Semi).group_by([col("o_orderpriority")]).agg([len().alias("order_count")]);
    sorted(groups, &["o_orderpriority"], &[false])
}

fn q05(t: &Tables) -> Table {
    let supplier = join(t.supplier.clone(), nations_of_region(t, "ASIA"), &["s_nationkey"], &["n_nationkey"], JoinType::Inner);
    let orders = join(t.orders.clone().filter(between("o_orderdate", "1994-01-01", "1995-01-01")), t.customer.clone(), &["o_custkey"], &["c_custkey"], JoinType::Inner);
    let lines = join(t.lineitem.clone(), orders, &["l_orderkey"], &["o_orderkey"], JoinType::Inner);
    let groups = join(lines, supplier, &["l_suppkey", "c_nationkey"], &["s_suppkey", "s_nationkey"], JoinType::Inner).group_by([col("n_name")]).agg([revenue().sum().alias("revenue")]);
    sorted(groups, &["revenue"], &[true])
}

fn q06(t: &Tables) -> Table {
    t.lineitem
        .clone()
        .filter(between("l_shipdate", "1994-01-01", "1995-01-01"))
        .filter(col("l_discount").gt_eq(lit(0.05)).and(col("l_discount").lt_eq(lit(0.07))).and(col("l_quantity").lt(lit(24))))
        .select([(col("l_extendedprice") * col("l_discount")).sum().alias("revenue")])
}

fn q07(t: &Tables) -> Table {
    let two = t.nation.clone().filter(one_of("n_name", &["FRANCE", "GERMANY"]));
    let named = |name: &'static str, key: &'static str| two.clone().select([col("n_nationkey").alias(key), col("n_name").alias(name)]);
    let supplier = join(t.supplier.clone(), named("supp_nation", "k1"), &["s_nationkey"], &["k1"], JoinType::Inner);
    let customer = join(t.customer.clone(), named("cust_nation", "k2"), &["c_nationkey"], &["k2"], JoinType::Inner);
    let lines = t.lineitem.clone().filter(between("l_shipdate", "1995-01-01", "1997-01-01"));
    let lines = join(lines, supplier, &["l_suppkey"], &["s_suppkey"], JoinType::Inner);
    let orders = join(t.orders.clone(), customer, &["o_custkey"], &["c_custkey"], JoinType::Inner);
    let groups = join(lines, orders, &["l_orderkey"], &["o_orderkey"], JoinType::Inner)
        .filter(col("supp_nation").neq(col("cust_nation")))
        .with_columns([col("l_shipdate").dt().year().alias("l_year")])
        .group_by([col("supp_nation"), col("cust_nation"), col("l_year")])
        .agg([revenue().sum().alias("revenue")]);
    sorted(groups, &["supp_nation", "cust_nation", "l_year"], &[false, false, false])
}

fn q08(t: &Tables) -> Table {
    let part = t.part.clone().filter(text_is("p_type", "ECONOMY ANODIZED STEEL"));
    let lines = join(t.lineitem.clone(), part, &["l_partkey"], &["p_partkey"], JoinType::Semi);
    let customer = join(t.customer.clone(), nations_of_region(t, "AMERICA"), &["c_nationkey"], &["n_nationkey"], JoinType::Semi);
    let orders = join(t.orders.clone().filter(between("o_orderdate", "1995-01-01", "1997-01-01")), customer, &["o_custkey"], &["c_custkey"], JoinType::Semi);
    let supplier = join(t.supplier.clone(), t.nation.clone(), &["s_nationkey"], &["n_nationkey"], JoinType::Inner);
    let sales = join(join(lines, orders, &["l_orderkey"], &["o_orderkey"], JoinType::Inner), supplier, &["l_suppkey"], &["s_suppkey"], JoinType::Inner);
    let groups = sales
        .with_columns([col("o_orderdate").dt().year().alias("o_year"), revenue().alias("volume")])
        .group_by([col("o_year")])
        .agg([(col("volume").filter(text_is("n_name", "BRAZIL")).sum() / col("volume").sum()).alias("mkt_share")]);
    sorted(groups, &["o_year"], &[false])
}

fn q09(t: &Tables) -> Table {
    let part = t.part.clone().filter(col("p_name").str().contains_literal(lit("green")));
    let lines = join(t.lineitem.clone(), part, &["l_partkey"], &["p_partkey"], JoinType::Semi);
    let lines = join(lines, t.partsupp.clone(), &["l_partkey", "l_suppkey"], &["ps_partkey", "ps_suppkey"], JoinType::Inner);
    let supplier = join(t.supplier.clone(), t.nation.clone(), &["s_nationkey"], &["n_nationkey"], JoinType::Inner);
    let lines = join(lines, supplier, &["l_suppkey"], &["s_suppkey"], JoinType::Inner);
    let groups = join(lines, t.orders.clone(), &["l_orderkey"], &["o_orderkey"], JoinType::Inner)
        .select([col("n_name").alias("nation"), col("o_orderdate").dt().year().alias("o_year"), (revenue() - col("ps_supplycost") * col("l_quantity")).alias("amount")])
        .group_by([col("nation"), col("o_year")])
        .agg([col("amount").sum().alias("sum_profit")]);
    sorted(groups, &["nation", "o_year"], &[false, true])
}

fn q10(t: &Tables) -> Table {
    let orders = t.orders.clone().filter(between("o_orderdate", "1993-10-01", "1994-01-01"));
    let lines = join(t.lineitem.clone().filter(text_is("l_returnflag", "R")), orders, &["l_orderkey"], &["o_orderkey"], JoinType::Inner);
    let customer = join(t.customer.clone(), t.nation.clone(), &["c_nationkey"], &["n_nationkey"], JoinType::Inner);
    let groups = join(lines, customer, &["o_custkey"], &["c_custkey"], JoinType::Inner)
        .with_columns([col("o_custkey").alias("c_custkey")])
        .group_by(["c_custkey", "c_name", "c_acctbal", "c_phone", "n_name", "c_address", "c_comment"].map(col))
        .agg([revenue().sum().alias("revenue")])
        .select(["c_custkey", "c_name", "revenue", "c_acctbal", "n_name", "c_address", "c_phone", "c_comment"].map(col));
    sorted(groups, &["revenue"], &[true]).limit(20)
}

fn q11(t: &Tables, scale: f64) -> Table {
    let supplier = join(t.supplier.clone(), nation_of(t, "GERMANY"), &["s_nationkey"], &["n_nationkey"], JoinType::Semi);
    let stock = join(t.partsupp.clone(), supplier, &["ps_suppkey"], &["s_suppkey"], JoinType::Semi).with_columns([(col("ps_supplycost") * col("ps_availqty")).alias("value")]);
    let all = stock.clone().select([(col("value").sum() * lit(0.0001 / scale)).alias("least"), lit(1).alias("one")]);
    let groups = stock.group_by([col("ps_partkey")]).agg([col("value").sum()]).with_columns([lit(1).alias("one")]);
    let found = join(groups, all, &["one"], &["one"], JoinType::Inner).filter(col("value").gt(col("least"))).select([col("ps_partkey"), col("value")]);
    sorted(found, &["value"], &[true])
}

fn q12(t: &Tables) -> Table {
    let lines = t
        .lineitem
        .clone()
        .filter(one_of("l_shipmode", &["MAIL", "SHIP"]).and(col("l_commitdate").lt(col("l_receiptdate"))).and(col("l_shipdate").lt(col("l_commitdate"))))
        .filter(between("l_receiptdate", "1994-01-01", "1995-01-01"));
    let is_high = || one_of("o_orderpriority", &["1-URGENT", "2-HIGH"]);
    let groups = join(lines, t.orders.clone(), &["l_orderkey"], &["o_orderkey"], JoinType::Inner).group_by([col("l_shipmode")]).agg([
        is_high().cast(DataType::Int64).sum().alias("high_line_count"),
        is_high().not().cast(DataType::Int64).sum().alias("low_line_count"),
    ]);
    sorted(groups, &["l_shipmode"], &[false])
}

fn q13(t: &Tables) -> Table {
    let orders = t.orders.clone().filter(col("o_comment").str().contains(lit("special.*requests"), false).not());
    let counts = join(t.customer.clone(), orders, &["c_custkey"], &["o_custkey"], JoinType::Left).group_by([col("c_custkey")]).agg([col("o_orderkey").count().alias("c_count")]);
    let groups = counts.group_by([col("c_count")]).agg([len().alias("custdist")]);
    sorted(groups, &["custdist", "c_count"], &[true, true])
}

fn q14(t: &Tables) -> Table {
    let lines = t.lineitem.clone().filter(between("l_shipdate", "1995-09-01", "1995-10-01"));
    let promoted = col("p_type").str().starts_with(lit("PROMO"));
    join(lines, t.part.clone(), &["l_partkey"], &["p_partkey"], JoinType::Inner)
        .select([(lit(100.0) * revenue().filter(promoted).sum() / revenue().sum()).alias("promo_revenue")])
}

fn q15(t: &Tables) -> Table {
    let lines = t.lineitem.clone().filter(between("l_shipdate", "1996-01-01", "1996-04-01"));
    let totals = lines.group_by([col("l_suppkey")]).agg([revenue().sum().alias("total_revenue")]);
    let most = totals.clone().select([col("total_revenue").max()]);
    let best = join(totals, most, &["total_revenue"], &["total_revenue"], JoinType::Semi);
    let found = join(t.supplier.clone(), best, &["s_suppkey"], &["l_suppkey"], JoinType::Inner).select(["s_suppkey", "s_name", "s_address", "s_phone", "total_revenue"].map(col));
    sorted(found, &["s_suppkey"], &[false])
}

fn q16(t: &Tables) -> Table {
    let sizes = [49, 14, 23, 45, 19, 3, 36, 9].map(|size| col("p_size").eq(lit(size))).into_iter().reduce(Expr::or).unwrap();
    let part = t.part.clone().filter(text_is("p_brand", "Brand#45").not().and(col("p_type").str().starts_with(lit("MEDIUM POLISHED")).not()).and(sizes));
    let complaints = t.supplier.clone().filter(col("s_comment").str().contains(lit("Customer.*Complaints"), false));
    let offers = join(t.partsupp.clone(), complaints, &["ps_suppkey"], &["s_suppkey"], JoinType::Anti);
    let groups = join(offers, part, &["ps_partkey"], &["p_partkey"], JoinType::Inner).group_by(["p_brand", "p_type", "p_size"].map(col)).agg([col("ps_suppkey").n_unique().alias("supplier_cnt")]);
    sorted(groups, &["supplier_cnt", "p_brand", "p_type", "p_size"], &[true, false, false, false])
}

fn q17(t: &Tables) -> Table {
    let part = t.part.clone().filter(text_is("p_brand", "Brand#23").and(text_is("p_container", "MED BOX")));
    let lines = join(t.lineitem.clone(), part, &["l_partkey"], &["p_partkey"], JoinType::Semi);
    let means = lines.clone().group_by([col("l_partkey")]).agg([(lit(0.2) * col("l_quantity").mean()).alias("few")]);
    join(lines, means, &["l_partkey"], &["l_partkey"], JoinType::Inner)
        .filter(col("l_quantity").lt(col("few")))
        .select([(col("l_extendedprice").sum() / lit(7.0)).alias("avg_yearly")])
}

fn q18(t: &Tables) -> Table {
    let large = t.lineitem.clone().group_by([col("l_orderkey")]).agg([col("l_quantity").sum().alias("quantity")]).filter(col("quantity").gt(lit(300)));
    let orders = join(t.orders.clone(), large, &["o_orderkey"], &["l_orderkey"], JoinType::Inner);
    let found = join(orders, t.customer.clone(), &["o_custkey"], &["c_custkey"], JoinType::Inner)
        .select([col("c_name"), col("o_custkey").alias("c_custkey"), col("o_orderkey"), col("o_orderdate"), col("o_totalprice"), col("quantity")]);
    sorted(found, &["o_totalprice", "o_orderdate"], &[true, false]).limit(100)
}

fn q19(t: &Tables) -> Table {
    let lines = t.lineitem.clone().filter(one_of("l_shipmode", &["AIR", "AIR REG"]).and(text_is("l_shipinstruct", "DELIVER IN PERSON")));
    let kind = |brand: &'static str, containers: [&'static str; 4], least: i64, most_size: i64| {
        text_is("p_brand", brand)
            .and(one_of("p_container", &containers))
            .and(col("l_quantity").gt_eq(lit(least)).and(col("l_quantity").lt_eq(lit(least + 10))))
            .and(col("p_size").gt_eq(lit(1)).and(col("p_size").lt_eq(lit(most_size))))
    };
    join(lines, t.part.clone(), &["l_partkey"], &["p_partkey"], JoinType::Inner)
        .filter(
            kind("Brand#12", ["SM CASE", "SM BOX", "SM PACK", "SM PKG"], 1, 5)
                .or(kind("Brand#23", ["MED BAG", "MED BOX", "MED PKG", "MED PACK"], 10, 10))
                .or(kind("Brand#34", ["LG CASE", "LG BOX", "LG PACK", "LG PKG"], 20, 15)),
        )
        .select([revenue().sum().alias("revenue")])
}

fn q20(t: &Tables) -> Table {
    let part = t.part.clone().filter(col("p_name").str().starts_with(lit("forest")));
    let shipped = t.lineitem.clone().filter(between("l_shipdate", "1994-01-01", "1995-01-01")).group_by([col("l_partkey"), col("l_suppkey")]).agg([(lit(0.5) * col("l_quantity").sum()).alias("half")]);
    let offers = join(t.partsupp.clone(), part, &["ps_partkey"], &["p_partkey"], JoinType::Semi);
    let offers = join(offers, shipped, &["ps_partkey", "ps_suppkey"], &["l_partkey", "l_suppkey"], JoinType::Inner).filter(col("ps_availqty").gt(col("half")));
    let supplier = join(t.supplier.clone(), nation_of(t, "CANADA"), &["s_nationkey"], &["n_nationkey"], JoinType::Semi);
    let found = join(supplier, offers, &["s_suppkey"], &["ps_suppkey"], JoinType::Semi).select([col("s_name"), col("s_address")]);
    sorted(found, &["s_name"], &[false])
}

fn q21(t: &Tables) -> Table {
    let suppliers_of = |lines: Table, name: &'static str| lines.group_by([col("l_orderkey")]).agg([col("l_suppkey").n_unique().alias(name)]);
    let late = t.lineitem.clone().filter(col("l_receiptdate").gt(col("l_commitdate")));
    let orders = t.orders.clone().filter(text_is("o_orderstatus", "F"));
    let supplier = join(t.supplier.clone(), nation_of(t, "SAUDI ARABIA"), &["s_nationkey"], &["n_nationkey"], JoinType::Semi);
    let lines = join(join(late.clone(), supplier, &["l_suppkey"], &["s_suppkey"], JoinType::Inner), orders, &["l_orderkey"], &["o_orderkey"], JoinType::Semi);
    let lines = join(lines, suppliers_of(t.lineitem.clone(), "all"), &["l_orderkey"], &["l_orderkey"], JoinType::Inner);
    let lines = join(lines, suppliers_of(late, "late"), &["l_orderkey"], &["l_orderkey"], JoinType::Inner).filter(col("all").gt(lit(1)).and(col("late").eq(lit(1))));
    sorted(lines.group_by([col("s_name")]).agg([len().alias("numwait")]), &["numwait", "s_name"], &[true, false]).limit(100)
}

fn q22(t: &Tables) -> Table {
    let codes = one_of("cntrycode", &["13", "31", "23", "29", "30", "18", "17"]);
    let customer = t.customer.clone().with_columns([col("c_phone").str().slice(lit(0), lit(2)).alias("cntrycode"), lit(1).alias("one")]).filter(codes);
    let mean = customer.clone().filter(col("c_acctbal").gt(lit(0.0))).select([col("c_acctbal").mean().alias("mean"), lit(1).alias("one")]);
    let rich = join(customer, mean, &["one"], &["one"], JoinType::Inner).filter(col("c_acctbal").gt(col("mean")));
    let groups = join(rich, t.orders.clone(), &["c_custkey"], &["o_custkey"], JoinType::Anti).group_by([col("cntrycode")]).agg([len().alias("numcust"), col("c_acctbal").sum().alias("totacctbal")]);
    sorted(groups, &["cntrycode"], &[false])
}
