//! `ate bench` against a real control plane, with nodes that do nothing.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use holdfast_tests::process::{Process, binary};
use holdfast_tests::wait;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);
const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/bench");

/// A control plane on an embedded store, and eight workers that do nothing.
struct Cluster {
    dir: TempDir,
    endpoint: String,
    // Ended before the directory goes.
    _control_plane: Process,
    _node: Process,
}

impl Cluster {
    fn start() -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(binary("ateapi").unwrap());
        command.current_dir(dir.path()).args(["--manifests", MANIFESTS]);
        command.args([
            "--store",
            "embedded:store",
            "--grpc-listen-addr",
            "unix:ateapi.sock",
        ]);
        let mut control_plane = Process::spawn("ateapi", dir.path(), &mut command).unwrap();
        let serves = |process: &Process| Ok(process.log().contains("\"msg\":\"serving\"").then_some(()));
        control_plane
            .wait_until("the control plane to serve", PATIENCE, serves)
            .unwrap();
        let mut command = ate(dir.path(), &["bench", "node", "--pool", "bench/pool"]);
        command.args(["--workers", "8", "--nodes", "2", "--listen", "127.0.0.1:0"]);
        let node = Process::spawn("node", dir.path(), &mut command).unwrap();
        let cluster = Cluster {
            endpoint: "unix:ateapi.sock".to_owned(),
            dir,
            _control_plane: control_plane,
            _node: node,
        };
        let known = || Ok((cluster.list("workers").lines().count() == 9).then_some(()));
        wait::until("eight workers to be known", PATIENCE, known).unwrap();
        cluster
    }

    fn bench(&self, arguments: &[&str]) -> Command {
        let mut command = ate(self.dir.path(), &["bench", "run", "--template", "bench/actor"]);
        command.args(arguments);
        command
    }

    /// What a run came to that ends well.
    fn measured(&self, arguments: &[&str]) -> Value {
        let output = self.bench(arguments).args(["--output", "json"]).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn list(&self, what: &str) -> String {
        let mut command = ate(self.dir.path(), &["get", what]);
        if what == "actors" {
            command.arg("-A");
        }
        let output = command.env("ATE_ENDPOINT", &self.endpoint).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }
}

fn ate(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ate"));
    command.args(arguments).current_dir(directory);
    command.env("ATE_ENDPOINT", "unix:ateapi.sock");
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_closed_loop_of_every_call_is_measured_without_an_error_and_leaves_nothing() {
    let cluster = Cluster::start();
    let mix = "create=1,delete=1,resume=3,suspend=2,pause=1,resume-running=1,get=2,update=1,list-actors=1,\
               list-workers=1,list-atespaces=1";
    let report = cluster.measured(&[
        "--mix",
        mix,
        "--clients",
        "4",
        "--count",
        "300",
        "--for",
        "10m",
        "--warm-up",
        "0s",
    ]);
    let calls = report["calls"].as_object().unwrap();
    assert_eq!(calls.len(), 11, "{report:#}");
    assert_eq!(report["total"]["failed"], 0, "{report:#}");
    let counts = calls.values().map(|figures| figures["count"].as_u64().unwrap());
    assert_eq!(report["total"]["count"].as_u64().unwrap(), counts.sum::<u64>());
    // Those that were under way when the last was counted are counted too.
    assert!(
        (300..304).contains(&report["total"]["count"].as_u64().unwrap()),
        "{report:#}"
    );
    for figures in calls.values() {
        let times =
            ["p50", "p90", "p95", "p99", "p999", "max"].map(|at| figures["latency_us"][at].as_u64().unwrap());
        assert!(times.is_sorted() && times[0] > 0, "{figures:#}");
    }
    assert_eq!(cluster.list("actors").lines().count(), 1);
    assert_eq!(cluster.list("atespaces").lines().count(), 1);
}

#[test]
fn what_is_due_at_a_rate_that_nobody_keeps_up_with_is_counted_and_waits_longer_than_it_is_served() {
    let cluster = Cluster::start();
    // One client, and far more than one can ask for.
    let report = cluster.measured(&[
        "--mix",
        "get=1",
        "--rate",
        "1000000",
        "--clients",
        "1",
        "--for",
        "1s",
        "--warm-up",
        "0s",
    ]);
    assert!(report["overdue"].as_u64().unwrap() > 0, "{report:#}");
    let total = &report["total"];
    assert!(
        total["latency_us"]["p50"].as_u64() > total["service_us"]["p99"].as_u64(),
        "{report:#}"
    );
    assert_eq!(total["failed"], 0, "{report:#}");
}

#[test]
fn what_is_kept_is_used_again_or_removed_and_not_mistaken_for_one_s_own() {
    let cluster = Cluster::start();
    let few = [
        "--count",
        "20",
        "--clients",
        "2",
        "--warm-up",
        "0s",
        "--for",
        "10m",
    ];
    cluster.measured(&[&few[..], &["--keep"]].concat());
    assert_eq!(cluster.list("actors").lines().count(), 5);
    let refused = cluster.bench(&[]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        said(&refused).contains("4 actors bench-... are in atespace bench already"),
        "{}",
        said(&refused)
    );
    assert_eq!(
        cluster.list("actors").lines().count(),
        5,
        "what is somebody else's is let alone"
    );
    let again = cluster.measured(&[&few[..], &["--keep", "--reuse", "--actors", "6"]].concat());
    assert_eq!(again["total"]["failed"], 0, "{again:#}");
    assert_eq!(cluster.list("actors").lines().count(), 7);
    let cleaned = ate(cluster.dir.path(), &["bench", "clean"]).output().unwrap();
    assert!(cleaned.status.success(), "{}", said(&cleaned));
    assert_eq!(said(&cleaned).trim(), "removed 6 actors");
    assert_eq!(cluster.list("atespaces").lines().count(), 1);
}

#[test]
fn interrupted_it_tells_what_was_measured_and_cleans_up() {
    let cluster = Cluster::start();
    let mut command = cluster.bench(&["--for", "1h", "--warm-up", "0s", "--clients", "2"]);
    let mut run = Process::spawn("run", cluster.dir.path(), &mut command).unwrap();
    wait::until("actors to be asked for", PATIENCE, || {
        Ok(cluster.list("actors").contains("STATUS_RUNNING").then_some(()))
    })
    .unwrap();
    run.signal(Signal::INT).unwrap();
    assert_eq!(
        run.wait_exit(PATIENCE).unwrap().code(),
        Some(130),
        "{}",
        run.log()
    );
    assert!(
        run.log().contains("resume ") && run.log().contains("interrupted"),
        "{}",
        run.log()
    );
    assert_eq!(cluster.list("actors").lines().count(), 1);
}
