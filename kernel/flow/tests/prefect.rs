//! Against a real Prefect server, if `SKEP_PREFECT` names its API; `tests/e2e/test_flows.py` starts one.

use skep_cluster::{Cluster, Result};
use skep_flow::{Flow, task};

skep_cluster::workers_are_this_program!(|| {});

fn half(x: i64) -> std::result::Result<i64, std::io::Error> {
    println!("half of {x}");
    if x % 2 == 1 {
        return Err(std::io::Error::other(format!("{x} is odd")));
    }
    Ok(x / 2)
}

fn halves(n: i64) -> Result<i64> {
    let halves = task(half).retries(1).map((0..n).map(|i| 2 * i));
    halves.iter().map(skep_cluster::TaskRun::result).sum()
}

#[test]
fn a_server_sees_it() {
    let Ok(server) = std::env::var("SKEP_PREFECT") else {
        return;
    };
    let _cluster = Cluster::local().workers(2).start().unwrap();
    Flow::report_to(&server).unwrap();
    let run = Flow::new("halves", halves).run(4).unwrap();
    println!("{} {}", run.id(), run.result().unwrap());
    std::thread::sleep(std::time::Duration::from_secs(3));
}
