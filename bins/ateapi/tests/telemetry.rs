//! What a replica tells Prometheus and kubelets.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use holdfast_tests::http::{self, Response};
use holdfast_tests::open_metrics::Exposition;
use holdfast_tests::process::{Process, binary};
use holdfast_tests::redis::{Persistence, Server};
use holdfast_tests::wait;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);
const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/bench");

struct Replica {
    process: Process,
    metrics: SocketAddr,
    dir: TempDir,
}

impl Replica {
    fn start(store: &str) -> Replica {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ateapi"));
        command
            .env_clear()
            .current_dir(dir.path())
            .args(["--manifests", MANIFESTS, "--store", store]);
        command.args([
            "--grpc-listen-addr",
            "unix:api.sock",
            "--metrics-listen-addr",
            "127.0.0.1:0",
        ]);
        let mut process = Process::spawn("ateapi", dir.path(), &mut command).unwrap();
        let told = |process: &Process| {
            let log = process.log();
            let line = log.lines().find(|line| line.contains("/readyz"));
            Ok(line.and_then(|line| {
                line.split_once("\"address\":\"")?
                    .1
                    .split_once('"')?
                    .0
                    .parse()
                    .ok()
            }))
        };
        let metrics = process
            .wait_until("metrics to be served", PATIENCE, told)
            .unwrap();
        Replica {
            process,
            metrics,
            dir,
        }
    }

    fn get(&self, path: &str) -> Response {
        http::get(self.metrics, "localhost", path, PATIENCE).unwrap()
    }

    fn until(&self, what: &str, status: u16, text: &str) {
        wait::until(what, PATIENCE, || {
            let answer = self.get("/readyz");
            Ok((answer.status == status && answer.text() == text).then_some(()))
        })
        .unwrap();
    }

    fn ate(&self, line: &str) -> Command {
        let mut command = Command::new(binary("ate").unwrap());
        command
            .current_dir(self.dir.path())
            .env("ATE_ENDPOINT", "unix:api.sock");
        command.args(line.split_whitespace());
        command
    }
}

#[test]
fn a_load_is_seen_in_the_metrics_by_method_workflow_step_and_state() {
    let replica = Replica::start("embedded:store");
    replica.until("the replica to be ready", 200, "ok");
    let mut command = replica.ate("bench node --pool bench/pool --workers 4 --listen 127.0.0.1:0");
    let _node = Process::spawn("node", replica.dir.path(), &mut command).unwrap();
    wait::until("four workers to be known", PATIENCE, || {
        let listed = replica.ate("get workers").output()?;
        Ok((listed.stdout.iter().filter(|byte| **byte == b'\n').count() == 5).then_some(()))
    })
    .unwrap();
    let line = "bench run --template bench/actor --clients 2 --count 40 --warm-up 0s --for 10m --mix resume=1,suspend=1";
    let ran = replica.ate(line).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));

    let answer = replica.get("/metrics");
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .header("content-type")
            .unwrap()
            .starts_with("application/openmetrics-text; version=1.0.0")
    );
    let read = Exposition::parse(&answer.text()).unwrap();
    let calls = |method| {
        let labels = [("rpc_method", method), ("rpc_response_status_code", "OK")];
        read.sum("rpc_server_call_duration_seconds_count", &labels)
    };
    let resumed = calls("ateapi.Control/ResumeActor");
    assert!(
        resumed >= 10.0 && calls("ateapi.Control/SuspendActor") >= 10.0,
        "{}",
        answer.text()
    );
    let workflows = read.sum(
        "holdfast_workflow_duration_seconds_count",
        &[("workflow", "resume"), ("verdict", "OK")],
    );
    assert_eq!(workflows, resumed);
    let boots = read.sum("holdfast_node_call_duration_seconds_count", &[("call", "run")])
        + read.sum(
            "holdfast_node_call_duration_seconds_count",
            &[("call", "restore")],
        );
    assert_eq!(boots, resumed);
    assert_eq!(
        read.value("holdfast_placements_total", &[("outcome", "placed")]),
        Some(resumed)
    );
    assert_eq!(read.value("holdfast_leases_held", &[]), Some(0.0));
    assert!(read.sum("holdfast_lease_acquisitions_total", &[("outcome", "granted")]) >= 2.0 * resumed - 2.0);
    assert_eq!(
        read.value("holdfast_worker_events_total", &[("event", "registered")]),
        Some(4.0)
    );
    assert_eq!(replica.get("/healthz").status, 200);
    assert_eq!(replica.get("/").status, 404);
}

#[test]
fn while_the_store_is_away_a_replica_is_alive_and_not_ready() {
    let mut redis = Server::start(Persistence::EveryWrite).unwrap();
    let mut replica = Replica::start(&redis.url());
    replica.until("the replica to be ready", 200, "ok");
    redis.kill().unwrap();
    replica.until(
        "it to say that the store is away",
        503,
        "the store does not answer",
    );
    assert_eq!(replica.get("/healthz").status, 200);
    redis.restart().unwrap();
    replica.until("it to be ready again", 200, "ok");
    assert_eq!(replica.process.exit().unwrap(), None);
}
