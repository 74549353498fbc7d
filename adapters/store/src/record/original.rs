//! Actors of the original: what they say, completed to what the core knows of every actor.

use holdfast_core::actor::{Actor, Assignment, Boot, Crash, Snapshot, Source, State, Status, Transition};
use holdfast_core::id::{ActorKey, Incarnation, Name, OpId, ReplicaId, Version};

use super::actor::{ActorJson, SelectorJson, SnapshotJson};
use super::{RecordFault, missing};

/// The actor that a record of the original describes.
///
/// A transition gets an operation that nobody else can have started: replica 0, counted by the record's
/// version. The node of a worker is not in the record, except where the actor came from its disk; the
/// registry knows it. What the original can write and the core cannot becomes the nearest state that
/// exists: a transition or a RUNNING without a pod is asleep, and asleep is PAUSED or SUSPENDED by where
/// the latest snapshot is, whatever the record calls it.
pub(super) fn adopt(record: ActorJson) -> Result<Actor, RecordFault> {
    let status = record.status.ok_or_else(|| missing("status"))?.0;
    let version = record.version.0;
    let pod = record.pod();
    let in_progress = record.in_progress_snapshot.some();
    let latest = record
        .latest_snapshot_info
        .map(SnapshotJson::into_snapshot)
        .transpose()?
        .flatten();
    let state = state(status, version, pod, in_progress.as_ref(), latest.as_ref());
    // What nobody is writing any more is not in progress: ours would upload to it, or take it for its own.
    let is_written = matches!(
        state,
        State::Suspending { .. } | State::Pausing { .. } | State::Crashed(_)
    );
    let in_progress = in_progress.filter(|_| is_written);
    let last_external = match &latest {
        Some(Snapshot::External(prefix)) => Some(prefix.clone()),
        Some(Snapshot::Local { .. }) | None => None,
    };
    Ok(Actor {
        key: ActorKey {
            atespace: record.atespace.0,
            name: record.actor_id.0,
        },
        version,
        incarnation: Incarnation(0),
        template_namespace: record.actor_template_namespace.0,
        template_name: record.actor_template_name.0,
        pinned: None,
        selector: record
            .worker_selector
            .map(SelectorJson::into_selector)
            .unwrap_or_default(),
        state,
        claim: None,
        latest,
        last_external,
        fallback: None,
        in_progress,
        loss: None,
        garbage: Vec::new(),
    })
}

fn state(
    status: Status,
    version: Version,
    pod: Assignment,
    in_progress: Option<&Name>,
    latest: Option<&Snapshot>,
) -> State {
    let op = OpId {
        replica: ReplicaId(0),
        seq: version.0,
    };
    let disk = match latest {
        Some(Snapshot::Local { nodes, .. }) => nodes.first().cloned(),
        Some(Snapshot::External(_)) | None => None,
    };
    let on = (!pod.worker.pod.is_empty()).then(|| Assignment {
        node: disk.unwrap_or_default(),
        ..pod
    });
    let asleep = match latest {
        Some(Snapshot::Local { .. }) => State::Paused,
        Some(Snapshot::External(_)) | None => State::Suspended,
    };
    match (status, on, in_progress) {
        (Status::Crashed, _, _) => State::Crashed(crash(in_progress)),
        (Status::Suspended | Status::Paused, _, _) | (_, None, _) => asleep,
        (Status::Resuming, Some(on), _) => State::Resuming {
            op,
            on,
            boot: Boot::Golden,
        },
        (Status::Suspending, Some(on), Some(snapshot)) => State::Suspending {
            op,
            from: Source::Worker(on),
            snapshot: snapshot.clone(),
        },
        (Status::Pausing, Some(on), Some(snapshot)) => State::Pausing {
            op,
            on,
            snapshot: snapshot.clone(),
        },
        // A checkpoint that was not told where to write has not begun.
        (Status::Running | Status::Suspending | Status::Pausing, Some(on), _) => State::Running { on },
    }
}

/// The original keeps no cause. What the actor was doing shows in the snapshot it had begun: a URI when it
/// was being suspended, a name when it was being paused.
fn crash(in_progress: Option<&Name>) -> Crash {
    let during = match in_progress {
        Some(snapshot) if snapshot.as_str().contains("://") => Transition::Suspend,
        Some(_) => Transition::Pause,
        None => Transition::Resume,
    };
    Crash {
        during,
        reason: "not recorded: it crashed before Holdfast took over".into(),
        node: Name::default(),
    }
}
