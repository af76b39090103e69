//! The first cells of the course, pasted into `main`: a cluster, tasks, a graph.
//!
//! `cargo run --release -p skep --example hello_cluster`

use skep::prelude::*;

fn inc(x: i64) -> i64 {
    sleep(Duration::from_millis(100));
    println!("a worker adds one to {x}");
    x + 1
}

fn add(a: i64, b: i64) -> i64 {
    a + b
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cluster = Cluster::local().workers(2).start()?;

    // Remote values are arguments; data moves from worker to worker.
    let a = cluster.submit(inc, 1);
    let b = cluster.submit(inc, 2);
    let c = cluster.submit(add, (&a, &b));
    println!("{}", c.gather()?);
    println!("{}", c.journey()?.bundle().plain());

    // Nothing runs before `compute`; what is shared runs once.
    let shared = delayed!(inc(10));
    let total = delayed!(add(inc(20), &shared) + shared * 2);
    println!("{} tasks", total.n_tasks());
    println!("{}", total.compute()?);
    Ok(())
}
