//! Ten years of flights from New York, made from a seed: the 23 columns that Dask's course made familiar.
//!
//! Two traps of real data are kept: `TailNum` and `CRSElapsedTime` are empty in the early years, so that
//! types guessed from the first file alone are wrong; and cancelled flights have no times.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::Path,
};

/// Rows of each yearly file; ten of them make 2.1 million.
pub const ROWS_A_YEAR: u32 = 210_000;

const HEADER: &str = "Year,Month,DayofMonth,DayOfWeek,DepTime,CRSDepTime,ArrTime,CRSArrTime,UniqueCarrier,FlightNum,TailNum,ActualElapsedTime,CRSElapsedTime,AirTime,ArrDelay,DepDelay,Origin,Dest,Distance,TaxiIn,TaxiOut,Cancelled,Diverted";
const CARRIERS: [&str; 8] = ["AA", "B6", "CO", "DL", "NW", "TW", "UA", "US"];
/// Airport, and how late flights leave on average, in minutes.
const ORIGINS: [(&str, f64); 3] = [("EWR", 11.0), ("JFK", 9.0), ("LGA", 7.0)];
const DESTINATIONS: [(&str, u32); 12] = [
    ("ATL", 746),
    ("BOS", 187),
    ("CLT", 529),
    ("DCA", 199),
    ("DEN", 1605),
    ("DFW", 1372),
    ("DTW", 483),
    ("LAX", 2454),
    ("MCO", 937),
    ("MIA", 1089),
    ("ORD", 719),
    ("SFO", 2565),
];
/// The first year in which aircraft and planned times were recorded.
const RECORDED_FROM: i32 = 1995;

/// Writes `data/flights/YEAR.csv` and returns its path; a file that is there already is left as it is.
///
/// Meant to be mapped over years: `cluster.map(course::flights_year, 1990..2000)`.
///
/// # Errors
/// When the folder cannot be written.
pub fn flights_year(year: i32) -> io::Result<String> {
    let folder = Path::new("data/flights");
    write_year(folder, year, ROWS_A_YEAR)
}

fn write_year(folder: &Path, year: i32, n_rows: u32) -> io::Result<String> {
    fs::create_dir_all(folder)?;
    let path = folder.join(format!("{year}.csv"));
    if !path.exists() {
        // Written aside and moved, so that nobody reads half a file.
        let unfinished = folder.join(format!("{year}.csv.{}", std::process::id()));
        let mut file = BufWriter::with_capacity(1 << 20, File::create(&unfinished)?);
        writeln!(file, "{HEADER}")?;
        let mut rng = fastrand::Rng::with_seed(0x5eed ^ year as u64);
        for i in 0..n_rows {
            write_row(&mut file, &mut rng, year, i, n_rows)?;
        }
        file.into_inner()
            .map_err(io::IntoInnerError::into_error)?
            .sync_all()?;
        fs::rename(&unfinished, &path)?;
    }
    Ok(path.to_string_lossy().into_owned())
}

fn write_row(
    out: &mut impl Write,
    rng: &mut fastrand::Rng,
    year: i32,
    i: u32,
    n_rows: u32,
) -> io::Result<()> {
    let day_of_year = (u64::from(i) * 365 / u64::from(n_rows)) as u32;
    let (month, day) = month_and_day(day_of_year);
    let weekday = (day_of_year + 7 - (year as u32 % 7)) % 7 + 1;
    let (origin, lateness) = ORIGINS[rng.usize(..3)];
    let (dest, distance) = DESTINATIONS[rng.usize(..DESTINATIONS.len())];
    let carrier = CARRIERS[rng.usize(..CARRIERS.len())];
    let planned_dep = 300 + rng.u32(..1080);
    let planned_elapsed = 30 + distance / 8 + rng.u32(..20);
    // Most flights leave about on time; a few leave very late.
    let delay =
        (-3.0 + lateness * -(1.0 - rng.f64()).ln() * if rng.u8(..10) == 0 { 4.0 } else { 0.75 }) as i64;
    let (taxi_in, taxi_out) = (3 + rng.i64(0..8), 8 + rng.i64(0..20));
    let elapsed = i64::from(planned_elapsed) + rng.i64(-15..20);
    let is_cancelled = rng.u32(..1000) < 18;
    let is_diverted = !is_cancelled && rng.u32(..1000) < 2;
    let clock = |minutes: i64| {
        let minutes = minutes.rem_euclid(1440);
        minutes / 60 * 100 + minutes % 60
    };
    let dep = i64::from(planned_dep);
    write!(out, "{year},{month},{day},{weekday},")?;
    let planned_arr = clock(dep + i64::from(planned_elapsed));
    if is_cancelled {
        write!(out, ",{},,{planned_arr},{carrier},{},", clock(dep), 1 + i % 2000)?;
    } else {
        write!(
            out,
            "{},{},{},{planned_arr},{carrier},{},",
            clock(dep + delay),
            clock(dep),
            clock(dep + delay + elapsed),
            1 + i % 2000
        )?;
    }
    let is_recorded = year >= RECORDED_FROM;
    if is_recorded {
        write!(out, "N{}{carrier},", 100 + rng.u32(..900))?;
    } else {
        write!(out, ",")?;
    }
    let ends = is_cancelled || is_diverted;
    if ends {
        write!(out, ",")?;
    } else {
        write!(out, "{elapsed},")?;
    }
    if is_recorded {
        write!(out, "{planned_elapsed},")?;
    } else {
        write!(out, ",")?;
    }
    if ends {
        write!(out, ",,")?;
    } else {
        write!(
            out,
            "{},{},",
            elapsed - taxi_in - taxi_out,
            delay + elapsed - i64::from(planned_elapsed)
        )?;
    }
    if is_cancelled {
        write!(out, ",{origin},{dest},{distance},,,1,0")?;
    } else {
        write!(
            out,
            "{delay},{origin},{dest},{distance},{taxi_in},{taxi_out},0,{}",
            u8::from(is_diverted)
        )?;
    }
    writeln!(out)
}

fn month_and_day(mut day_of_year: u32) -> (u32, u32) {
    for (i, days) in [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
        .into_iter()
        .enumerate()
    {
        if day_of_year < days {
            return (i as u32 + 1, day_of_year + 1);
        }
        day_of_year -= days;
    }
    (12, 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_file_with_its_traps() {
        let folder = std::env::temp_dir().join(format!("skep-flights-{}", std::process::id()));
        let read = |year| fs::read_to_string(write_year(&folder, year, 500).unwrap()).unwrap();
        let (early, late) = (read(1990), read(1999));
        fs::remove_file(folder.join("1990.csv")).unwrap();
        assert_eq!(read(1990), early, "made from a seed");
        fs::remove_dir_all(&folder).unwrap();
        let field = |text: &str, i: usize| {
            text.lines()
                .skip(1)
                .map(|row| row.split(',').nth(i).unwrap().to_string())
                .collect::<Vec<_>>()
        };
        for text in [&early, &late] {
            assert_eq!(text.lines().count(), 501);
            assert!(text.lines().all(|row| row.split(',').count() == 23));
        }
        assert!(
            field(&early, 10).iter().all(String::is_empty) && field(&early, 12).iter().all(String::is_empty),
            "the trap"
        );
        assert!(
            field(&late, 10).iter().all(|tail| tail.starts_with('N'))
                && field(&late, 12).iter().all(|time| time.parse::<u32>().is_ok())
        );
        assert!(field(&early, 21).contains(&"1".to_string()), "some are cancelled");
    }
}
