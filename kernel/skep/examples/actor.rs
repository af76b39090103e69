//! An object with a state on a worker, and tasks that run beside it.
//!
//! `cargo run --release -p skep --example actor`

use skep::prelude::*;

struct Best {
    n_seen: u64,
    best: f64,
}

impl Best {
    fn new() -> Best {
        Best {
            n_seen: 0,
            best: f64::INFINITY,
        }
    }

    fn tell(&mut self, value: f64) -> f64 {
        self.n_seen += 1;
        self.best = self.best.min(value);
        self.best
    }

    fn n_seen(&self) -> u64 {
        self.n_seen
    }
}

fn try_at(x: f64) -> f64 {
    (x - 3.0).powi(2) + 1.0
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cluster = Cluster::local().workers(2).start()?;
    let best = cluster.actor(Best::new, ())?;
    let tries = cluster.map(try_at, (0..100).map(|i| f64::from(i) / 10.0));
    for done in cluster.as_completed(&tries) {
        best.call(Best::tell, done.gather()?)?;
    }
    println!(
        "the best of {} tries: {}",
        best.call(Best::n_seen, ())?,
        best.call(Best::tell, f64::INFINITY)?
    );
    Ok(())
}
