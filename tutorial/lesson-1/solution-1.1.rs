let worst = flights.group_by([col("Origin")]).agg([col("DepDelay").mean()]).sort_descending(["DepDelay"]).head(1)?;
let answer = worst.column("Origin")?.str()?.get(0).unwrap_or("?").to_string();
course::worst_airport(answer)
