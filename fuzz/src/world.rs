//! Whatever the machines of the core may be told: records, reports and failures over few names, so that
//! they meet, in any combination that the types allow.

use std::sync::Arc;

use holdfast_core::actor::{
    Actor, Assignment, Boot, Claim, Crash, Garbage, Loss, Snapshot, Source, State, Transition,
};
use holdfast_core::catalog::{
    Catalog, ConfigRole, Container, LabelSelector, Pool, SandboxAssets, SandboxConfig, Scope, Selector,
    Template, Workload,
};
use holdfast_core::effect::{Fenced, Grave, NodeFailure, NodeFailureKind, NodeRow};
use holdfast_core::failure::Code;
use holdfast_core::id::{
    ActorKey, Incarnation, LeaseToken, Name, NodeName, OpId, PodUid, ReplicaId, WorkerKey,
};
use holdfast_core::registry::{Hosting, Report, Sighting};
use holdfast_core::worker::{Duty, Hosted, Worker};

use crate::feed::Feed;

/// Every status code.
pub const CODES: [Code; 16] = [
    Code::Cancelled,
    Code::Unknown,
    Code::InvalidArgument,
    Code::DeadlineExceeded,
    Code::NotFound,
    Code::AlreadyExists,
    Code::PermissionDenied,
    Code::ResourceExhausted,
    Code::FailedPrecondition,
    Code::Aborted,
    Code::OutOfRange,
    Code::Unimplemented,
    Code::Internal,
    Code::Unavailable,
    Code::DataLoss,
    Code::Unauthenticated,
];

/// One of these names, with a number at its end.
fn numbered(stem: &str, feed: &mut Feed<'_>, count: usize) -> Name {
    format!("{stem}{}", feed.below(count)).into()
}

/// A name of a snapshot, or of something else that is only a name.
pub fn name(feed: &mut Feed<'_>) -> Name {
    numbered("x", feed, 4)
}

/// An actor's key.
pub fn actor_key(feed: &mut Feed<'_>) -> ActorKey {
    ActorKey::new(numbered("s", feed, 2), numbered("a", feed, 3))
}

/// A worker's key.
pub fn worker_key(feed: &mut Feed<'_>) -> WorkerKey {
    WorkerKey::new("ns", "pool", numbered("w", feed, 4))
}

/// A pod.
pub fn pod_uid(feed: &mut Feed<'_>) -> PodUid {
    numbered("u", feed, 4)
}

/// A node.
pub fn node_name(feed: &mut Feed<'_>) -> NodeName {
    numbered("n", feed, 2)
}

/// An operation.
pub fn op(feed: &mut Feed<'_>) -> OpId {
    OpId {
        replica: ReplicaId(feed.number()),
        seq: feed.number(),
    }
}

/// An acquisition of a lease.
pub fn token(feed: &mut Feed<'_>) -> LeaseToken {
    LeaseToken {
        replica: ReplicaId(feed.number()),
        seq: feed.number(),
    }
}

/// `None` half of the time.
pub fn maybe<T>(feed: &mut Feed<'_>, make: impl FnOnce(&mut Feed<'_>) -> T) -> Option<T> {
    feed.flip().then(|| make(feed))
}

/// Fewer than `end` of them.
pub fn some<T>(feed: &mut Feed<'_>, end: usize, mut make: impl FnMut(&mut Feed<'_>) -> T) -> Vec<T> {
    (0..feed.below(end)).map(|_| make(feed)).collect()
}

/// What a snapshot holds.
pub fn scope(feed: &mut Feed<'_>) -> Scope {
    feed.pick(&[Scope::Full, Scope::Data])
}

/// From what a first boot starts.
pub fn boot(feed: &mut Feed<'_>) -> Boot {
    feed.pick(&[Boot::Golden, Boot::Fresh])
}

/// A worker's duty.
pub fn duty(feed: &mut Feed<'_>) -> Duty {
    feed.pick(&[Duty::Serving, Duty::Draining])
}

/// A selector that matches the pool, or does not.
pub fn selector(feed: &mut Feed<'_>) -> Selector {
    let labels = maybe(feed, |feed| ("tier".into(), name(feed)));
    Selector {
        match_labels: labels.into_iter().collect(),
    }
}

/// An actor's containers.
pub fn workload(feed: &mut Feed<'_>) -> Workload {
    let images = some(feed, 3, |feed| numbered("image", feed, 3));
    let container = |image| Container {
        name: "main".into(),
        image,
        command: Vec::new(),
        env: Vec::new(),
        readyz: None,
        mounts: Vec::new(),
    };
    Workload {
        pause_image: "image0".into(),
        containers: images.into_iter().map(container).collect(),
        durable_volumes: Vec::new(),
    }
}

/// A template.
pub fn template(feed: &mut Feed<'_>) -> Template {
    Template {
        namespace: "ns".into(),
        name: numbered("t", feed, 2),
        workload: workload(feed),
        snapshot_location: "gs://bucket/here".into(),
        on_pause: scope(feed),
        on_commit: scope(feed),
        sandbox_class: "gvisor".into(),
        worker_selector: LabelSelector {
            equal: selector(feed),
            requirements: Vec::new(),
        },
        golden_snapshot: maybe(feed, name),
    }
}

/// What operators have declared.
pub fn catalog(feed: &mut Feed<'_>) -> Catalog {
    let mut catalog = Catalog::new();
    for _ in 0..feed.below(3) {
        catalog.add_template(template(feed));
    }
    catalog.add_template(Template {
        name: "t0".into(),
        ..template(&mut Feed::new(&[]))
    });
    if !feed.flip() {
        catalog.add_pool(Pool {
            namespace: "ns".into(),
            name: "pool".into(),
            labels: [("tier".into(), name(feed))].into(),
            sandbox_class: "gvisor".into(),
            sandbox_config: maybe(feed, |_| "config".into()),
        });
    }
    if !feed.flip() {
        catalog.add_sandbox_config(SandboxConfig {
            name: "config".into(),
            sandbox_class: feed.pick(&["gvisor".into(), "other".into()]),
            role: feed.pick(&[ConfigRole::Default, ConfigRole::Named]),
            assets: [].into(),
        });
    }
    catalog
}

/// The files of a sandbox.
pub fn assets() -> SandboxAssets {
    SandboxAssets {
        sandbox_class: "gvisor".into(),
        assets: [].into(),
    }
}

/// What a worker promised.
pub fn assignment(feed: &mut Feed<'_>) -> Assignment {
    Assignment {
        worker: worker_key(feed),
        pod_uid: pod_uid(feed),
        incarnation: name(feed),
        ip: name(feed),
        node: node_name(feed),
        fence: feed.count(),
        session: session(feed),
    }
}

/// A session of a node: few enough that some are over and some are not.
pub fn session(feed: &mut Feed<'_>) -> u64 {
    feed.below(4) as u64
}

/// A record of `key`, in any state.
pub fn actor(feed: &mut Feed<'_>, key: ActorKey) -> Actor {
    let state = match feed.below(7) {
        0 => State::Suspended,
        1 => State::Running { on: assignment(feed) },
        2 => State::Resuming {
            op: op(feed),
            on: assignment(feed),
            boot: boot(feed),
        },
        3 => State::Suspending {
            op: op(feed),
            from: match feed.flip() {
                true => Source::Local(node_name(feed)),
                false => Source::Worker(assignment(feed)),
            },
            snapshot: name(feed),
        },
        4 => State::Pausing {
            op: op(feed),
            on: assignment(feed),
            snapshot: name(feed),
        },
        5 => State::Paused,
        _ => State::Crashed(Crash {
            during: feed.pick(&[Transition::Resume, Transition::Suspend, Transition::Pause]),
            reason: name(feed),
            node: node_name(feed),
        }),
    };
    Actor {
        key,
        version: feed.count(),
        incarnation: Incarnation(feed.number()),
        template_namespace: "ns".into(),
        template_name: "t0".into(),
        pinned: maybe(feed, |feed| Arc::new(template(feed))),
        selector: selector(feed),
        state,
        claim: maybe(feed, |feed| Claim {
            token: token(feed),
            fence: feed.count(),
        }),
        latest: maybe(feed, snapshot),
        last_external: maybe(feed, name),
        fallback: maybe(feed, name),
        in_progress: maybe(feed, name),
        loss: maybe(feed, |feed| Loss {
            worker: worker_key(feed),
            reason: name(feed),
        }),
        garbage: some(feed, 4, |feed| Garbage {
            snapshot: snapshot(feed),
            since: feed.count(),
            by: maybe(feed, token),
        }),
    }
}

/// Where an actor was saved.
pub fn snapshot(feed: &mut Feed<'_>) -> Snapshot {
    match feed.flip() {
        true => Snapshot::External(name(feed)),
        false => Snapshot::Local {
            name: name(feed),
            nodes: some(feed, 3, node_name),
        },
    }
}

/// What a deleted actor has left behind.
pub fn grave(feed: &mut Feed<'_>) -> Grave {
    Grave {
        actor: actor_key(feed),
        incarnation: Incarnation(feed.number()),
        version: feed.count(),
        template: ("ns".into(), "t0".into()),
        snapshots: some(feed, 4, snapshot),
    }
}

/// A record of `key`.
pub fn worker(feed: &mut Feed<'_>, key: WorkerKey) -> Worker {
    Worker {
        key,
        version: feed.count(),
        pod_uid: pod_uid(feed),
        incarnation: name(feed),
        ip: name(feed),
        node: node_name(feed),
        duty: duty(feed),
        hosts: maybe(feed, |feed| Hosted {
            actor: actor_key(feed),
            incarnation: Incarnation(feed.number()),
            template_namespace: "ns".into(),
            template_name: "t0".into(),
            fence: feed.count(),
            session: session(feed),
        }),
    }
}

/// What the store knows of a node.
pub fn node_row(feed: &mut Feed<'_>) -> NodeRow {
    NodeRow {
        name: node_name(feed),
        address: name(feed),
        incarnation: name(feed),
        sequence: feed.number(),
        session: session(feed),
        lapsed: session(feed),
        version: 0,
    }
}

/// What a node reports.
pub fn report(feed: &mut Feed<'_>) -> Report {
    let node = node_row(feed);
    let workers = some(feed, 5, |feed| Sighting {
        key: worker_key(feed),
        pod_uid: pod_uid(feed),
        incarnation: name(feed),
        ip: name(feed),
        node: node.name.clone(),
        duty: duty(feed),
        is_silent: feed.below(8) == 7,
        highest_fence: feed.count(),
        hosting: maybe(feed, |feed| Hosting {
            actor: actor_key(feed),
            incarnation: Incarnation(feed.number()),
            session: session(feed),
        }),
    });
    Report { node, workers }
}

/// Why a node call failed.
pub fn node_failure(feed: &mut Feed<'_>) -> NodeFailure {
    let highest = feed.count();
    NodeFailure {
        code: feed.pick(&CODES),
        message: "as the bytes have it".into(),
        kind: feed.pick(&[
            NodeFailureKind::Failed,
            NodeFailureKind::Crash,
            NodeFailureKind::SandboxGone,
            NodeFailureKind::Busy,
            NodeFailureKind::SessionOver,
            NodeFailureKind::NotBegun,
            NodeFailureKind::Occupied,
            NodeFailureKind::Unreachable,
            NodeFailureKind::StaleFence {
                of: Fenced::Actor,
                highest,
            },
            NodeFailureKind::StaleFence {
                of: Fenced::Worker,
                highest,
            },
        ]),
    }
}
