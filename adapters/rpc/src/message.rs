//! Records as messages.

use holdfast_core::actor::{Actor, Snapshot, State, Status};
use holdfast_core::catalog::{Labels, Selector};
use holdfast_core::id::Name;
use holdfast_core::worker::Worker;

use crate::ateapi;
use crate::holdfast_v1::ExplainActorResponse;

/// An actor as callers see it.
pub fn actor(actor: &Actor) -> ateapi::Actor {
    let on = actor.assignment();
    let text = |name: Option<&Name>| name.map(Name::to_string).unwrap_or_default();
    ateapi::Actor {
        actor_id: actor.key.name.to_string(),
        version: i64::try_from(actor.version.0).unwrap_or(i64::MAX),
        actor_template_namespace: actor.template_namespace.to_string(),
        actor_template_name: actor.template_name.to_string(),
        status: status(actor.status()) as i32,
        ateom_pod_namespace: text(on.map(|on| &on.worker.namespace)),
        ateom_pod_name: text(on.map(|on| &on.worker.pod)),
        ateom_pod_ip: text(on.map(|on| &on.ip)),
        in_progress_snapshot: text(actor.in_progress.as_ref()),
        ateom_pod_uid: text(on.map(|on| &on.pod_uid)),
        latest_snapshot_info: actor.latest.as_ref().map(snapshot),
        worker_selector: selector(&actor.selector),
        worker_pool_name: text(on.map(|on| &on.worker.pool)),
        atespace: actor.key.atespace.to_string(),
    }
}

/// An actor with all that its record says.
pub fn explained(actor: &Actor) -> ExplainActorResponse {
    let crash = match &actor.state {
        State::Crashed(crash) => Some(crash),
        _ => None,
    };
    let node = crash
        .map(|crash| &crash.node)
        .or_else(|| actor.assignment().map(|on| &on.node));
    let loss = actor
        .loss
        .as_ref()
        .map(|loss| format!("worker {}: {}", loss.worker, loss.reason));
    ExplainActorResponse {
        actor: Some(self::actor(actor)),
        operation_id: actor.operation().map(|op| op.to_string()).unwrap_or_default(),
        claimed_by: actor
            .claim
            .map(|claim| format!("{:016x}", claim.token.replica.0))
            .unwrap_or_default(),
        fence: actor.claim.map(|claim| claim.fence.0).unwrap_or_default(),
        node_name: node.map(Name::to_string).unwrap_or_default(),
        crashed_during: crash.map(|crash| crash.during.to_string()).unwrap_or_default(),
        crash_cause: crash.map(|crash| crash.reason.to_string()).unwrap_or_default(),
        loss: loss.unwrap_or_default(),
        last_good_snapshot: actor.last_good().map(Name::to_string).unwrap_or_default(),
    }
}

/// A worker as callers see it.
pub fn worker(worker: &Worker) -> ateapi::Worker {
    let hosts = worker.hosts.as_ref();
    let text = |name: Option<&Name>| name.map(Name::to_string).unwrap_or_default();
    ateapi::Worker {
        worker_namespace: worker.key.namespace.to_string(),
        worker_pool: worker.key.pool.to_string(),
        worker_pod: worker.key.pod.to_string(),
        actor_namespace: text(hosts.map(|h| &h.template_namespace)),
        actor_template: text(hosts.map(|h| &h.template_name)),
        actor_id: text(hosts.map(|h| &h.actor.name)),
        ip: worker.ip.to_string(),
        version: i64::try_from(worker.version.0).unwrap_or(i64::MAX),
        worker_pod_uid: worker.pod_uid.to_string(),
        node_name: worker.node.to_string(),
        actor_atespace: text(hosts.map(|h| &h.actor.atespace)),
    }
}

/// A selector as it came; an absent one matches everything.
pub fn to_selector(message: Option<&ateapi::Selector>) -> Selector {
    let pair = |(key, value): (&String, &String)| (Name::from(key.as_str()), Name::from(value.as_str()));
    let match_labels: Labels = message
        .map(|m| m.match_labels.iter().map(pair).collect())
        .unwrap_or_default();
    Selector { match_labels }
}

fn selector(selector: &Selector) -> Option<ateapi::Selector> {
    let pair = |(key, value): (&Name, &Name)| (key.to_string(), value.to_string());
    (!selector.match_labels.is_empty()).then(|| ateapi::Selector {
        match_labels: selector.match_labels.iter().map(pair).collect(),
    })
}

fn snapshot(snapshot: &Snapshot) -> ateapi::SnapshotInfo {
    use ateapi::snapshot_info::Data;
    let (kind, data) = match snapshot {
        Snapshot::External(prefix) => (
            ateapi::SnapshotType::External,
            Data::External(ateapi::ExternalSnapshotInfo {
                snapshot_uri_prefix: prefix.to_string(),
            }),
        ),
        Snapshot::Local { name, nodes } => (
            ateapi::SnapshotType::Local,
            Data::Local(ateapi::LocalSnapshotInfo {
                snapshot_prefix: name.to_string(),
                node_vms_with_local_snapshots: nodes.iter().map(Name::to_string).collect(),
            }),
        ),
    };
    ateapi::SnapshotInfo {
        r#type: kind as i32,
        data: Some(data),
    }
}

fn status(status: Status) -> ateapi::actor::Status {
    match status {
        Status::Resuming => ateapi::actor::Status::Resuming,
        Status::Running => ateapi::actor::Status::Running,
        Status::Suspending => ateapi::actor::Status::Suspending,
        Status::Suspended => ateapi::actor::Status::Suspended,
        Status::Pausing => ateapi::actor::Status::Pausing,
        Status::Paused => ateapi::actor::Status::Paused,
        Status::Crashed => ateapi::actor::Status::Crashed,
    }
}
