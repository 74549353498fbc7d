//! What a replica hears and asks for is counted, and its health is what it has heard of its store.

use std::time::Duration;

use holdfast_core::catalog::Catalog;
use holdfast_core::effect::{StoreError, StoreOp, StoreReply};
use holdfast_core::id::{ActorKey, EffectId, Fence, LeaseToken, ReplicaId, RequestId, WorkerKey};
use holdfast_core::machine::Machine;
use holdfast_core::replica::{Input, Output, Replica};
use holdfast_core::request::Request;
use holdfast_core::settings::Settings;
use holdfast_core::time::Instant;
use holdfast_core::worker::{Duty, Sight, Worker};
use holdfast_rpc::trailer::CallObserver;
use holdfast_telemetry::Telemetry;
use holdfast_telemetry::health::Readiness;
use holdfast_telemetry::node::Watching;
use holdfast_telemetry::replica::Watched;
use holdfast_tests::open_metrics::Exposition;
use tonic::Code;

/// A replica whose store is played by hand.
struct Stage {
    watched: Watched,
    telemetry: Telemetry,
    now: Instant,
}

impl Stage {
    fn new() -> Stage {
        let telemetry = Telemetry::new("ateapi");
        let replica = Replica::new(ReplicaId(1), Settings::DEFAULT, Catalog::new());
        let watched = Watched::new(replica, Settings::DEFAULT, &telemetry);
        let mut stage = Stage {
            watched,
            telemetry,
            now: Instant::from_micros(1_000_000),
        };
        stage.watched.handle(stage.now, Input::Start);
        stage
    }

    /// A replica that serves, with one worker.
    fn serving() -> Stage {
        let mut stage = Stage::new();
        stage.answer(|op| {
            Ok(match op {
                StoreOp::ListNodes => StoreReply::Nodes(Vec::new()),
                StoreOp::ListWorkers => StoreReply::Workers(vec![worker()]),
                _ => StoreReply::Done,
            })
        });
        stage
    }

    /// Answers what is asked of the store, each a millisecond later, until nothing more is.
    fn answer(&mut self, mut answer: impl FnMut(&StoreOp) -> Result<StoreReply, StoreError>) {
        const ROUNDS_MAX: usize = 10;
        for _ in 0..ROUNDS_MAX {
            let mut asked: Vec<(EffectId, StoreOp)> = Vec::new();
            while let Some(output) = self.watched.poll_output() {
                if let Output::Store(effect, op) = output {
                    asked.push((effect, op));
                }
            }
            if asked.is_empty() {
                return;
            }
            self.now = self.now.plus(Duration::from_millis(1));
            for (effect, op) in asked {
                self.watched.handle(self.now, Input::Stored(effect, answer(&op)));
            }
        }
        panic!("it asks on and on");
    }

    fn read(&self) -> Exposition {
        Exposition::parse(&self.telemetry.exposition()).unwrap()
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.plus(time);
        self.watched.handle_timeout(self.now);
    }
}

fn worker() -> Worker {
    let sight = Sight {
        pod_uid: "uid".into(),
        incarnation: "run".into(),
        ip: "10.0.0.1".into(),
        node: "node".into(),
        duty: Duty::Serving,
    };
    Worker::appear(WorkerKey::new("ns", "pool", "pod"), sight, Fence(0))
}

fn unavailable() -> Result<StoreReply, StoreError> {
    Err(StoreError::Unavailable("it is away".to_owned()))
}

#[test]
fn a_replica_is_ready_when_it_has_read_the_store_and_not_while_that_is_away() {
    let health = |stage: &Stage| stage.telemetry.health().readiness();
    assert_eq!(health(&Stage::new()), Readiness::Starting);
    let mut stage = Stage::serving();
    assert_eq!(health(&stage), Readiness::Ready);
    stage.pass(Settings::DEFAULT.session.renew_every);
    stage.answer(|_| unavailable());
    assert_eq!(health(&stage), Readiness::StoreAway);
    stage.pass(Settings::DEFAULT.session.renew_every);
    stage.answer(|_| Ok(StoreReply::Done));
    assert_eq!(health(&stage), Readiness::Ready);
    stage.watched.handle(stage.now, Input::Shutdown);
    assert_eq!(health(&stage), Readiness::Leaving);
}

#[test]
fn a_machine_that_does_not_move_any_more_is_stuck() {
    let stage = Stage::serving();
    let health = stage.telemetry.health();
    assert_eq!(health.stuck(stage.now.plus(Settings::DEFAULT.session.ttl)), None);
    let long = stage.now.plus(Settings::DEFAULT.session.renew_every * 31);
    assert!(health.stuck(long).is_some());
}

#[test]
fn a_workflow_is_timed_from_its_request_to_its_verdict_and_its_lease_is_counted() {
    let mut stage = Stage::serving();
    let other = LeaseToken {
        replica: ReplicaId(2),
        seq: 1,
    };
    let suspend = |id| Input::Request(RequestId(id), Request::Suspend(ActorKey::new("space", "a")));
    stage.watched.handle(stage.now, suspend(1));
    stage.answer(|op| match op {
        StoreOp::AcquireLease { .. } => Ok(StoreReply::Acquired(None)),
        _ => Ok(StoreReply::Done),
    });
    let read = stage.read();
    let count = |workflow, verdict| {
        read.value(
            "holdfast_workflow_duration_seconds_count",
            &[("workflow", workflow), ("verdict", verdict)],
        )
    };
    assert_eq!(
        count("suspend", "NOT_FOUND"),
        Some(1.0),
        "{}",
        stage.telemetry.exposition()
    );
    assert_eq!(count("resume", "OK"), None);
    let taken = |outcome| read.value("holdfast_lease_acquisitions_total", &[("outcome", outcome)]);
    assert_eq!((taken("granted"), taken("held")), (Some(1.0), Some(0.0)));
    let took = read.value(
        "holdfast_store_operation_duration_seconds_sum",
        &[("operation", "acquire_lease"), ("outcome", "ok")],
    );
    assert_eq!(took, Some(0.001));

    // Somebody who is alive holds it.
    stage.watched.handle(
        stage.now,
        Input::Request(RequestId(2), Request::Suspend(ActorKey::new("space", "b"))),
    );
    let mut asked = Vec::new();
    while let Some(output) = stage.watched.poll_output() {
        if let Output::Store(effect, StoreOp::AcquireLease { .. }) = output {
            asked.push(effect);
        }
    }
    for effect in asked {
        stage
            .watched
            .handle(stage.now, Input::Stored(effect, Ok(StoreReply::Held(other))));
    }
    let held = stage
        .read()
        .value("holdfast_lease_acquisitions_total", &[("outcome", "held")]);
    assert_eq!(held, Some(1.0));
}

#[test]
fn workers_are_counted_by_what_their_rows_say() {
    let mut stage = Stage::serving();
    stage.pass(Duration::from_secs(5));
    let read = stage.read();
    let workers = |state| read.value("holdfast_workers", &[("state", state)]);
    assert_eq!((workers("free"), workers("assigned")), (Some(1.0), Some(0.0)));
    // Nobody has heard of its node.
    assert_eq!(read.value("holdfast_workers_stale", &[]), Some(1.0));
}

#[test]
fn calls_are_counted_under_the_original_s_names_and_unknown_methods_are_one() {
    let telemetry = Telemetry::new("ateapi");
    let calls = telemetry.calls();
    calls.ended("/ateapi.Control/GetActor", Code::Ok, Duration::from_millis(3));
    calls.ended("/no.such/Method\"", Code::Unimplemented, Duration::from_millis(1));
    calls.ended("/no.other/Method", Code::Unimplemented, Duration::from_millis(1));
    let read = Exposition::parse(&telemetry.exposition()).unwrap();
    let labels = |method, code| {
        [
            ("rpc_system_name", "grpc"),
            ("rpc_method", method),
            ("rpc_response_status_code", code),
        ]
    };
    let name = "rpc_server_call_duration_seconds_count";
    assert_eq!(
        read.value(name, &labels("ateapi.Control/GetActor", "OK")),
        Some(1.0)
    );
    assert_eq!(read.value(name, &labels("unknown", "UNIMPLEMENTED")), Some(2.0));
    assert_eq!(read.sum("target_info", &[("service_name", "ateapi")]), 1.0);
}

#[test]
fn alerts_ask_for_nothing_that_nobody_tells() {
    const RULES: &str = include_str!("../../../deploy/prometheus-rules.yaml");
    let mut stage = Stage::serving();
    stage.pass(Duration::from_secs(5));
    let request = Request::Suspend(ActorKey::new("space", "a"));
    stage
        .watched
        .handle(stage.now, Input::Request(RequestId(1), request));
    stage.answer(|_| unavailable());
    stage.watched.handle(stage.now, Input::CallerGone(RequestId(1)));
    stage
        .telemetry
        .calls()
        .ended("/ateapi.Control/GetActor", Code::Ok, Duration::ZERO);
    // What nodes tell is there from the beginning.
    drop(Watching::new(&stage.telemetry, Duration::from_secs(30)));
    let kinds = stage.read().kinds;
    let words = RULES.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let names: Vec<&str> = words
        .filter(|word| {
            word.starts_with("holdfast_") || word.starts_with("rpc_server") || *word == "target_info"
        })
        .collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        let family = ["_total", "_count", "_bucket", "_sum", "_info"]
            .into_iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .unwrap_or(name);
        let is_told = kinds.contains_key(family) || family == "holdfast_node_call_duration_seconds";
        assert!(is_told, "{name} is none of {kinds:?}");
    }
}
