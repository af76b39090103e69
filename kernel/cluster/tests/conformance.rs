//! The local engine does what every engine must do: real processes, this program again.

use skep_cluster::{
    Cluster,
    conformance::{CHECKS, Control},
};

skep_cluster::workers_are_this_program!(|| {});

struct Local<'c>(&'c Cluster);

impl Control for Local<'_> {
    fn kill_a_worker(&self) {
        let worker = self.0.info().unwrap().workers[0].id;
        self.0.kill_worker(worker.0).unwrap();
    }

    fn add_a_worker(&self) {
        self.0.scale(self.0.info().unwrap().workers.len() + 1).unwrap();
    }
}

fn check(name: &str) {
    let cluster = Cluster::local().workers(2).threads(1).start().unwrap();
    assert_eq!(cluster.engine(), "local");
    let check = CHECKS
        .iter()
        .find(|check| check.name == name)
        .expect("a check of this name");
    (check.run)(&cluster, &Local(&cluster));
}

macro_rules! checks {
    ($($name:ident)*) => {
        $(#[test] fn $name() { check(stringify!($name)); })*

        #[test]
        fn all_are_here() {
            let names: Vec<&str> = CHECKS.iter().map(|check| check.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}
checks!(graphs values large_values parts origins errors panics same_call_same_task retries cancellation release events lost_workers late_joiners coordination actors awaiting whereabouts many_at_once);
