//! Pods with real networks, of workers that do nothing. Needs root.

use super::*;

use std::fs;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use holdfast_core::id::Name;
use tempfile::TempDir;

/// Ends when it is asked to, which the first process of a namespace must do itself.
const WORKER: &str = "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done";
const PATIENCE: Duration = Duration::from_secs(60);

/// Addresses set aside for tests of networks (RFC 2544), apart from those of other crates' tests.
const NETWORK: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 0);

struct Cluster {
    base: TempDir,
    pods: Pods,
}

impl Cluster {
    fn open(base: TempDir) -> Cluster {
        let pods = Pods::open(Config {
            base: base.path().to_owned(),
            network: NETWORK,
            program: "/bin/sh".into(),
            arguments: ["-c", WORKER, "worker"].map(str::to_owned).into(),
        });
        Cluster {
            base,
            pods: pods.unwrap(),
        }
    }

    fn new() -> Cluster {
        Cluster::open(tempfile::tempdir().unwrap())
    }

    fn want(&mut self, replicas: u32) -> Vec<String> {
        let surplus = self.pods.want(&[pool(replicas)]).unwrap();
        surplus.into_iter().map(|key| key.pod).collect()
    }

    fn lines(&self) -> Vec<Line> {
        ledger::read(self.base.path()).unwrap()
    }

    /// The lines, once so many workers run.
    fn wait_for_workers(&self, count: usize) -> Vec<Line> {
        wait_until(|| self.lines().iter().filter(|line| line.pid.is_some()).count() == count);
        self.lines()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.pods.stop();
    }
}

fn wait_until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain");
        thread::yield_now();
    }
}

fn pool(replicas: u32) -> PoolSpec {
    PoolSpec {
        namespace: Name::from("ns"),
        name: Name::from("p"),
        replicas,
    }
}

fn key(pod: &str) -> PodKey {
    PodKey {
        namespace: "ns".into(),
        pool: "p".into(),
        pod: pod.into(),
    }
}

/// The subnets that are reserved in the tests' network.
fn reserved() -> String {
    let routes = Command::new("ip")
        .args([
            "-4",
            "route",
            "show",
            "type",
            "unreachable",
            "root",
            "198.19.0.0/16",
        ])
        .output()
        .unwrap();
    String::from_utf8(routes.stdout).unwrap()
}

fn subnet(line: &Line) -> String {
    holdfast_sandbox::network::Subnet::nth(NETWORK, line.index)
        .unwrap()
        .to_string()
}

/// A process as an earlier supervisor would have left it, in the ledger of `base`.
fn left_behind(base: &Path, pod: &str) -> Child {
    let child = Command::new("sleep").arg("3600").spawn().unwrap();
    let mut ledger = Ledger::open(base).unwrap();
    let line = ledger.line(&key(pod));
    let started = pod::start_time(child.id()).unwrap();
    let note = |line: &mut Line| (line.pid, line.pid_started) = (Some(child.id()), Some(started));
    ledger.change(&line.key, note).unwrap();
    fs::create_dir_all(base.join("ateoms").join(&line.uid)).unwrap();
    child
}

#[test]
fn a_pool_that_shrinks_names_its_surplus_which_is_then_ended_for_good() {
    let mut cluster = Cluster::new();
    assert_eq!(cluster.want(2), [""; 0]);
    let lines = cluster.wait_for_workers(2);
    assert_eq!(cluster.want(1), ["p-1"]);
    assert!(
        pod::start_time(lines[1].pid.unwrap()).is_ok(),
        "it runs until it is ended"
    );

    cluster.pods.end(&[key("p-1")]);
    assert!(pod::start_time(lines[1].pid.unwrap()).is_err());
    assert!(!reserved().contains(&subnet(&lines[1])));
    assert!(!cluster.base.path().join("ateoms").join(&lines[1].uid).exists());
    assert_eq!(cluster.lines(), [lines[0].clone()], "the other one is as it was");

    assert_eq!(cluster.want(2), [""; 0]);
    let again = cluster.wait_for_workers(2);
    assert_ne!(again[1].uid, lines[1].uid, "it is another pod of the same name");
}

#[test]
fn what_an_earlier_process_left_and_nobody_wants_is_found_and_removed() {
    let base = tempfile::tempdir().unwrap();
    let mut alive = left_behind(base.path(), "p-1");
    let mut dead = left_behind(base.path(), "p-2");
    dead.kill().unwrap();
    dead.wait().unwrap();

    let mut cluster = Cluster::open(base);
    assert_eq!(cluster.want(0), ["p-1"]);
    let [line] = &cluster.lines()[..] else {
        panic!("{:?}", cluster.lines())
    };
    assert_eq!((line.key.clone(), line.pid), (key("p-1"), Some(alive.id())));
    assert_eq!(
        alive.try_wait().unwrap(),
        None,
        "its actor may be suspended first"
    );

    cluster.pods.end(&[key("p-1")]);
    assert!(alive.try_wait().unwrap().is_some());
    assert!(cluster.lines().is_empty());
    assert_eq!(
        fs::read_dir(cluster.base.path().join("ateoms")).unwrap().count(),
        0
    );
}

#[test]
fn two_clusters_on_one_network_leave_each_others_subnets_alone() {
    let (mut one, mut two) = (Cluster::new(), Cluster::new());
    one.want(2);
    let ours = one.wait_for_workers(2);
    two.want(2);
    let theirs = two.wait_for_workers(2);
    for line in ours.iter().chain(&theirs) {
        assert!(
            reserved().contains(&subnet(line)),
            "{} in\n{}",
            subnet(line),
            reserved()
        );
    }
    let indices: BTreeSet<u16> = ours.iter().chain(&theirs).map(|line| line.index).collect();
    assert_eq!(indices.len(), 4);
    two.pods.stop();
    for line in &ours {
        assert!(
            reserved().contains(&subnet(line)),
            "{} in\n{}",
            subnet(line),
            reserved()
        );
    }
    assert!(theirs.iter().all(|line| !reserved().contains(&subnet(line))));
}

#[test]
fn a_directory_that_another_cluster_has_is_refused_and_left_as_it_is() {
    let mut cluster = Cluster::new();
    cluster.want(1);
    let lines = cluster.wait_for_workers(1);
    let refused = Pods::open(cluster.pods.config.clone()).unwrap_err();
    assert!(matches!(refused, Error::InUse { .. }), "{refused}");
    assert_eq!(cluster.lines(), lines);
    assert!(pod::start_time(lines[0].pid.unwrap()).is_ok());
}

#[test]
fn more_workers_than_one_machine_runs_are_refused_before_anything_is_written() {
    let mut cluster = Cluster::new();
    for pools in [vec![pool(MOST + 1)], vec![pool(u32::MAX), pool(u32::MAX)]] {
        let refused = cluster.pods.want(&pools).unwrap_err();
        assert!(matches!(refused, Error::TooMany { .. }), "{refused}");
    }
    assert!(check(&[pool(MOST)]).is_ok());
    assert!(cluster.lines().is_empty());
}
