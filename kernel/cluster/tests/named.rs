//! Several clusters at once, by name.

use skep_cluster::Cluster;

skep_cluster::workers_are_this_program!(|| {});

fn pid(_: u64) -> u32 {
    std::process::id()
}

fn pids_of(cluster: &Cluster) -> Vec<u32> {
    let info = cluster.info().unwrap();
    info.workers.iter().map(|worker| worker.pid).collect()
}

fn message(result: skep_cluster::Result<Cluster>) -> String {
    result.map(|_| ()).unwrap_err().to_string()
}

#[test]
fn clusters_stand_side_by_side() {
    let name = format!("side-{}", std::process::id());
    let own = Cluster::local().workers(1).start().unwrap();
    let named = Cluster::local().name(&name).workers(2).start().unwrap();
    let (of_own, of_named) = (own.submit(pid, 1), named.submit(pid, 1));
    // A handle of one that is gathered by way of the other brings the value of its own; waited for there, it is refused.
    let there = own.gather([&of_named, &of_own]).unwrap();
    assert!(pids_of(&named).contains(&there[0]) && pids_of(&own).contains(&there[1]));
    let only_there = named.submit(pid, 2);
    assert!(pids_of(&named).contains(&own.gather([&only_there]).unwrap()[0]));
    let why = own.gather_nested(&vec![only_there]).unwrap_err().to_string();
    assert!(why.contains("a handle of another cluster"), "{why}");
    assert!(pids_of(&own).contains(&of_own.gather().unwrap()));
    assert!(pids_of(&named).contains(&of_named.gather().unwrap()));
    // The one that was started last is the one that is meant without a word.
    assert_eq!(Cluster::current().unwrap().info().unwrap().workers.len(), 2);
    assert!(Cluster::names().contains(&name));

    // A task uses its own cluster.
    let inner = named.submit(
        |x: u64| Cluster::current().unwrap().submit(pid, x).gather().unwrap(),
        7u64,
    );
    assert!(pids_of(&named).contains(&inner.gather().unwrap()));

    // Started again with the same settings it is found; with others only it is replaced.
    let before = (pids_of(&own), pids_of(&named));
    let again = Cluster::local().name(&name).workers(2).start().unwrap();
    assert_eq!(pids_of(&again), before.1);
    let other = Cluster::local().name(&name).workers(1).start().unwrap();
    assert_ne!(pids_of(&other), before.1);
    assert_eq!(pids_of(&own), before.0);
    assert_eq!(of_own.gather().unwrap(), before.0[0]);

    let connected = Cluster::connect(&name).unwrap();
    other.publish("seven", &other.submit(|x: u64| x, 7u64)).unwrap();
    assert_eq!(connected.lookup::<u64>("seven").unwrap().gather().unwrap(), 7);
    own.shutdown().unwrap();
    assert_eq!(connected.submit(|x: u64| x + 1, 1u64).gather().unwrap(), 2);
    // Shut down it is not found; started again it is.
    named.shutdown().unwrap();
    assert!(!Cluster::names().contains(&name));
    assert!(named.scale(2).is_err());
    Cluster::local().name(&name).workers(1).start().unwrap();
    assert_eq!(
        Cluster::connect(&name)
            .unwrap()
            .submit(|x: u64| x, 4u64)
            .gather()
            .unwrap(),
        4
    );
}

#[test]
fn what_is_no_name_is_refused() {
    for name in [
        "",
        "a b",
        "../x",
        "a/b",
        "a-very-long-name-that-no-path-has-room-for",
        "käfer",
    ] {
        let text = message(Cluster::local().name(name).workers(1).start());
        assert!(text.contains("is no name of a cluster"), "{name}: {text}");
    }
    let text = message(Cluster::connect("nobody"));
    assert!(
        text.contains("no cluster `nobody` is running") && text.contains("hint:"),
        "{text}"
    );
    let text = message(Cluster::connect("tcp://127.0.0.1:8786"));
    assert!(text.contains("no engine for addresses of `tcp://`"), "{text}");
}
