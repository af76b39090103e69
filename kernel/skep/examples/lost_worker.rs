//! A worker dies in the middle, and the result is right all the same.
//!
//! `cargo run --release -p skep --example lost_worker`

use skep::prelude::*;

fn slow_square(x: u64) -> u64 {
    sleep(Duration::from_millis(30));
    x * x
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cluster = Cluster::local().workers(2).start()?;
    let squares = cluster.map(slow_square, 0..40u64);
    squares[3].wait()?;
    let victim = cluster.info()?.workers[0].id;
    cluster.kill_worker(victim.0)?;
    println!("{}", cluster.gather(&squares)?.iter().sum::<u64>());
    println!("lost: {}", cluster.info()?.losses.len());
    Ok(())
}
