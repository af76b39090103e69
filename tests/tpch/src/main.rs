//! `skep-tpch SCALE FOLDER`: tables of TPC-H as CSV files, large ones in several, and its queries, for tests and benchmarks.
//!
//! Dates in queries are written out, and the view of question 15 is a part of the query: all else is as the benchmark has it.

use std::{
    fmt::Display,
    fs::{File, create_dir_all, write},
    io::{BufWriter, Write},
    path::Path,
};

use anyhow::{Context, Result};
use tpchgen::{
    csv::{CustomerCsv, LineItemCsv, NationCsv, OrderCsv, PartCsv, PartSuppCsv, RegionCsv, SupplierCsv},
    generators::{
        CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator,
        PartSuppGenerator, RegionGenerator, SupplierGenerator,
    },
    q_and_a::queries,
};

/// Files of the large tables.
const PARTS: i32 = 8;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, scale, folder] = args.as_slice() else {
        anyhow::bail!("usage: skep-tpch SCALE FOLDER");
    };
    let scale: f64 = scale.parse().context("the scale is a number, as 0.1")?;
    let folder = Path::new(folder);
    create_dir_all(folder)?;
    for number in 1..=22 {
        let query = query(number, scale).context("TPC-H has 22 queries")?;
        write(folder.join(format!("q{number:02}.sql")), query)?;
    }
    macro_rules! table {
        ($name:literal, $generator:ident, $csv:ident, $parts:expr) => {
            for part in 1..=$parts {
                let rows = $generator::new(scale, part, $parts);
                rows_to(
                    &folder.join(format!("{}-{part}.csv", $name)),
                    $csv::header(),
                    rows.iter().map($csv::new),
                )?;
            }
        };
    }
    table!("region", RegionGenerator, RegionCsv, 1);
    table!("nation", NationGenerator, NationCsv, 1);
    table!("supplier", SupplierGenerator, SupplierCsv, 1);
    table!("part", PartGenerator, PartCsv, 1);
    table!("customer", CustomerGenerator, CustomerCsv, 2);
    table!("partsupp", PartSuppGenerator, PartSuppCsv, 2);
    table!("orders", OrderGenerator, OrderCsv, PARTS);
    table!("lineitem", LineItemGenerator, LineItemCsv, PARTS);
    Ok(())
}

fn rows_to(path: &Path, header: &str, rows: impl Iterator<Item = impl Display>) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(file, "{header}")?;
    for row in rows {
        writeln!(file, "{row}")?;
    }
    Ok(file.flush()?)
}

/// A query with the parameters that the benchmark validates with.
fn query(number: i32, scale: f64) -> Option<String> {
    let fraction = format!("{:.7}", 0.0001 / scale);
    let (dates, parameters): (&[(&str, &str)], Vec<&str>) = match number {
        1 => (
            &[("date '1998-12-01' - interval ':1' day (3)", "1998-09-02")],
            vec![],
        ),
        2 => (&[], vec!["15", "BRASS", "EUROPE"]),
        3 => (&[], vec!["BUILDING", "1995-03-15"]),
        4 => (
            &[("date ':1' + interval '3' month", "1993-10-01")],
            vec!["1993-07-01"],
        ),
        5 => (
            &[("date ':2' + interval '1' year", "1995-01-01")],
            vec!["ASIA", "1994-01-01"],
        ),
        6 => (
            &[("date ':1' + interval '1' year", "1995-01-01")],
            vec!["1994-01-01", "0.06", "24"],
        ),
        7 => (&[], vec!["FRANCE", "GERMANY"]),
        8 => (&[], vec!["BRAZIL", "AMERICA", "ECONOMY ANODIZED STEEL"]),
        9 => (&[], vec!["green"]),
        10 => (
            &[("date ':1' + interval '3' month", "1994-01-01")],
            vec!["1993-10-01"],
        ),
        11 => (&[], vec!["GERMANY", &fraction]),
        12 => (
            &[("date ':3' + interval '1' year", "1995-01-01")],
            vec!["MAIL", "SHIP", "1994-01-01"],
        ),
        13 => (&[], vec!["special", "requests"]),
        14 => (
            &[("date ':1' + interval '1' month", "1995-10-01")],
            vec!["1995-09-01"],
        ),
        15 => (
            &[("date ':1' + interval '3' month", "1996-04-01")],
            vec!["1996-01-01"],
        ),
        16 => (
            &[],
            vec![
                "Brand#45",
                "MEDIUM POLISHED",
                "49",
                "14",
                "23",
                "45",
                "19",
                "3",
                "36",
                "9",
            ],
        ),
        17 => (&[], vec!["Brand#23", "MED BOX"]),
        18 => (&[], vec!["300"]),
        19 => (&[], vec!["Brand#12", "Brand#23", "Brand#34", "1", "10", "20"]),
        20 => (
            &[("date ':2' + interval '1' year", "1995-01-01")],
            vec!["forest", "1994-01-01", "CANADA"],
        ),
        21 => (&[], vec!["SAUDI ARABIA"]),
        22 => (&[], vec!["13", "31", "23", "29", "30", "18", "17"]),
        _ => return None,
    };
    let mut text = queries::query(number)?.trim().trim_end_matches(';').to_string();
    for (sum, date) in dates {
        text = text.replace(sum, &format!("date '{date}'"));
    }
    for (at, parameter) in parameters.iter().enumerate().rev() {
        text = text.replace(&format!(":{}", at + 1), parameter);
    }
    match number {
        // Sums of binary fractions are not what is meant.
        6 => text = text.replace("0.06 - 0.01 and 0.06 + 0.01", "0.05 and 0.07"),
        13 => {
            text = text
                .replace("count(o_orderkey)", "count(o_orderkey) as c_count")
                .replace("as c_orders (c_custkey, c_count)", "as c_orders");
        }
        15 => {
            text = text
                .replace(
                    "create view revenue:s (supplier_no, total_revenue) as",
                    "with revenue as (",
                )
                .replace("\t\tl_suppkey,\n", "\t\tl_suppkey as supplier_no,\n")
                .replace(
                    "sum(l_extendedprice * (1 - l_discount))",
                    "sum(l_extendedprice * (1 - l_discount)) as total_revenue",
                )
                .replace("l_suppkey;", "l_suppkey)")
                .replace("revenue:s", "revenue");
            text.truncate(text.find(";")?);
        }
        18 => text = text.replace("\tsum(l_quantity)\nfrom", "\tsum(l_quantity) as quantity\nfrom"),
        _ => {}
    }
    let most = match number {
        2 | 18 | 21 => " limit 100",
        3 => " limit 10",
        10 => " limit 20",
        _ => "",
    };
    Some(text + most + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_have_their_parameters() {
        for number in 1..=22 {
            let query = query(number, 1.0).expect("there are 22");
            assert!(!query.contains(':') && !query.contains(';'), "{number}: {query}");
        }
        assert!(query(23, 1.0).is_none());
    }
}
