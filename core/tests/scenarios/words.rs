//! How records, effects and answers read in a story: the field's names, and no more than the rule needs.

use holdfast_core::actor::{Actor, Assignment, Snapshot, Source, State};
use holdfast_core::effect::*;
use holdfast_core::failure::Failure;
use holdfast_core::id::{ActorKey, Fence, LeaseToken, Name, NodeName, OpId, PodUid, ReplicaId};
use holdfast_core::node::{Entry, Sandbox, Work};
use holdfast_core::registry::Sighting;
use holdfast_core::request::{Answer, Verdict};
use holdfast_core::time::{Duration, Instant};
use holdfast_core::worker::{Duty, Worker};

/// The story's time 0.000 on every clock.
pub const START: Instant = Instant::from_micros(1_000_000_000);

pub fn time(at: Instant) -> String {
    let millis = at.since(START).as_millis();
    format!("{:>4}.{:03}", millis / 1000, millis % 1000)
}

pub fn duration(d: Duration) -> String {
    match (d.as_millis() / 1000, d.as_millis() % 1000) {
        (secs, 0) => format!("{secs}s"),
        (0, millis) => format!("{millis}ms"),
        (secs, millis) => format!("{secs}.{millis:03}s"),
    }
}

/// Replicas are letters.
pub fn replica(id: ReplicaId) -> char {
    u8::try_from(id.0).map_or('?', char::from)
}

pub fn token(token: LeaseToken) -> String {
    format!("{}{}", replica(token.replica), token.seq)
}

/// The operation `B3.1` is the first that workflow 3 of replica B named; `7` was ordered by hand.
pub fn op(op: OpId) -> String {
    match op.replica.0 {
        0 => op.seq.to_string(),
        _ => format!("{}{}.{}", replica(op.replica), op.seq / 256, op.seq % 256),
    }
}

/// `mem:demo/a-0000000004-<op>` is `mem:a@4`: actor a's snapshot of version 4.
pub fn snapshot(name: &Name) -> String {
    let text = name.as_str();
    let (place, file) = text.rsplit_once('/').unwrap_or(("", text));
    let mut parts = file.splitn(3, '-');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(actor), Some(version), Some(_)) if version.len() == 10 => {
            let scheme = if place.starts_with("mem:") { "mem:" } else { "" };
            format!("{scheme}{actor}@{}", version.trim_start_matches('0'))
        }
        _ => text.to_owned(),
    }
}

pub fn place(place: &Place) -> String {
    match place {
        Place::External(name) => snapshot(name),
        Place::Local(name) => format!("local {}", snapshot(name)),
    }
}

pub fn latest(latest: Option<&Snapshot>) -> String {
    match latest {
        None => "no snapshot".into(),
        Some(Snapshot::External(name)) => snapshot(name),
        Some(Snapshot::Local { name, nodes }) => {
            let nodes: Vec<&str> = nodes.iter().map(Name::as_str).collect();
            format!("local {} on {}", snapshot(name), nodes.join(","))
        }
    }
}

fn on(on: &Assignment) -> String {
    format!("on {}", pod(&on.pod_uid))
}

/// The first pod of worker `w1` is `w1`, the second `w1#2`.
pub fn pod(uid: &PodUid) -> String {
    uid.as_str().trim_end_matches("#1").to_owned()
}

pub fn status(actor: &Actor) -> String {
    actor.status().to_string().trim_start_matches("STATUS_").into()
}

/// What a record says, besides who wrote it.
pub fn actor(actor: &Actor) -> String {
    let rest = match &actor.state {
        State::Suspended | State::Paused => format!("at {}", latest(actor.latest.as_ref())),
        State::Resuming { op: id, on: at, .. } => format!("{}, op {}", on(at), op(*id)),
        State::Running { on: at } => on(at),
        State::Suspending {
            op: id,
            from: Source::Worker(at),
            snapshot: to,
        } => {
            format!("{} to {}, op {}", on(at), snapshot(to), op(*id))
        }
        State::Suspending {
            from: Source::Local(node),
            snapshot: to,
            ..
        } => {
            format!("from {node} to {}", snapshot(to))
        }
        State::Pausing {
            op: id,
            on: at,
            snapshot: to,
        } => {
            format!("{} to local {}, op {}", on(at), snapshot(to), op(*id))
        }
        State::Crashed(crash) => {
            let debris = actor
                .in_progress
                .as_ref()
                .map_or(String::new(), |name| format!(", debris of {}", snapshot(name)));
            format!(
                "during {} on {}: {}{debris}",
                crash.during, crash.node, crash.reason
            )
        }
    };
    let loss = actor
        .loss
        .as_ref()
        .map_or(String::new(), |loss| format!(", lost: {}", loss.reason));
    format!("{} v{} {rest}{loss}", status(actor), actor.version)
}

pub fn worker(worker: &Worker) -> String {
    let duty = if worker.duty == Duty::Draining {
        ", draining"
    } else {
        ""
    };
    let hosts = match &worker.hosts {
        Some(hosted) => format!("promised to {}, fence {}", hosted.actor, hosted.fence),
        None => "free".into(),
    };
    format!("{} v{} {hosts}{duty}", pod(&worker.pod_uid), worker.version)
}

/// Their names, without what all of them begin with.
fn snapshots(all: &[Snapshot]) -> String {
    let names = all.iter().map(|snapshot| match snapshot {
        Snapshot::External(name) | Snapshot::Local { name, .. } => name.as_str(),
    });
    names.collect::<Vec<_>>().join(", ")
}

/// What a node is to delete.
pub fn places(all: &[Place]) -> String {
    let names = all.iter().map(|place| match place {
        Place::External(name) | Place::Local(name) => name.as_str(),
    });
    names.collect::<Vec<_>>().join(", ")
}

pub fn store_op(op: &StoreOp) -> String {
    match op {
        StoreOp::GetActor(key) => format!("GetActor {key}"),
        StoreOp::PutActor {
            actor: record,
            release,
            ..
        } => {
            let release = if release.is_some() { " +release" } else { "" };
            format!("PutActor {} {}{release}", record.key, actor(record))
        }
        StoreOp::DeleteActor { key, .. } => format!("DeleteActor {key} +release"),
        StoreOp::AcquireLease {
            key,
            token: by,
            steal: None,
            ..
        } => {
            format!("AcquireLease {key} as {}", token(*by))
        }
        StoreOp::AcquireLease {
            key,
            token: by,
            steal: Some(holder),
            ..
        } => {
            format!("AcquireLease {key} as {} from {}", token(*by), token(*holder))
        }
        StoreOp::RenewLease { key, .. } => format!("RenewLease {key}"),
        StoreOp::ReleaseLease { key, .. } => format!("ReleaseLease {key}"),
        StoreOp::GetWorker(key) => format!("GetWorker {}", key.pod),
        StoreOp::PutWorker { worker: row, .. } => format!("PutWorker {}", worker(row)),
        StoreOp::DeleteWorker { key, .. } => format!("DeleteWorker {}", key.pod),
        StoreOp::GetSession(id) => format!("GetSession {}", replica(*id)),
        StoreOp::PutSession { replica: id, .. } => format!("PutSession {}", replica(*id)),
        StoreOp::DropSession(id) => format!("DropSession {}", replica(*id)),
        StoreOp::PutNode(row) => format!("PutNode {}", row.name),
        StoreOp::LapseNode(row) => format!("LapseNode {}", row.name),
        StoreOp::ListActors { .. } => "ListActors".into(),
        StoreOp::ListWorkers => "ListWorkers".into(),
        StoreOp::ListNodes => "ListNodes".into(),
        StoreOp::CreateAtespace(name) => format!("CreateAtespace {name}"),
        StoreOp::GetAtespace(name) => format!("GetAtespace {name}"),
        StoreOp::ListAtespaces => "ListAtespaces".into(),
        StoreOp::DeleteAtespace(name) => format!("DeleteAtespace {name}"),
        StoreOp::PutGrave(grave) => format!("PutGrave {} {}", grave.actor, snapshots(&grave.snapshots)),
        StoreOp::ListGraves { .. } => "ListGraves".into(),
        StoreOp::DropGrave { key, .. } => format!("DropGrave {key}"),
    }
}

pub fn store_reply(op: &StoreOp, reply: &StoreReply) -> String {
    match (op, reply) {
        (StoreOp::AcquireLease { .. }, StoreReply::Acquired(record)) => {
            format!(
                "granted; {}",
                record.as_ref().map_or("no such actor".into(), |a| actor(a))
            )
        }
        (StoreOp::RenewLease { .. }, StoreReply::Done) => "renewed".into(),
        (StoreOp::GetSession(_), StoreReply::Exists) => "alive".into(),
        (StoreOp::GetSession(_), StoreReply::Missing) => "dead".into(),
        (_, StoreReply::Graves { graves, .. }) => {
            let notes = graves
                .iter()
                .map(|grave| format!("{} {}", grave.actor, snapshots(&grave.snapshots)));
            notes.collect::<Vec<_>>().join("; ")
        }
        (_, StoreReply::Done) => "ok".into(),
        (_, StoreReply::Actor(record)) => record.as_ref().map_or("no such actor".into(), |a| actor(a)),
        (_, StoreReply::ActorConflict(record)) => {
            format!(
                "conflict: {}",
                record.as_ref().map_or("no such actor".into(), |a| actor(a))
            )
        }
        (_, StoreReply::Held(holder)) => format!("held as {}", token(*holder)),
        (_, StoreReply::NotOwner) => "not owner".into(),
        (_, StoreReply::Worker(row)) => row.as_ref().map_or("no such worker".into(), |w| worker(w)),
        (_, StoreReply::WorkerConflict(row)) => {
            format!(
                "conflict: {}",
                row.as_ref().map_or("no such worker".into(), |w| worker(w))
            )
        }
        (_, StoreReply::Workers(rows)) => rows.iter().map(worker).collect::<Vec<_>>().join("; "),
        (_, StoreReply::Nodes(rows)) => rows
            .iter()
            .map(|row| row.name.as_str())
            .collect::<Vec<_>>()
            .join(" "),
        (_, other) => format!("{other:?}"),
    }
}

pub fn verb(verb: &Verb) -> String {
    match verb {
        Verb::Run { .. } => "Run".into(),
        Verb::Restore { from, .. } => format!("Restore {}", place(from)),
        Verb::Checkpoint { to, .. } => format!("Checkpoint {}", place(to)),
        Verb::Upload { name, to } => format!("Upload {} to {}", snapshot(name), snapshot(to)),
        Verb::Stop => "Stop".into(),
        Verb::Thaw => "Thaw".into(),
    }
}

pub fn call(call: &NodeCall) -> String {
    let (worker, fence) = match &call.worker {
        Some(target) => (
            format!(" on {}", pod(&target.pod_uid)),
            format!("/{}", target.fence),
        ),
        None => (String::new(), String::new()),
    };
    format!(
        "{}: {}{worker}, op {}, fence {}{fence}",
        call.actor,
        verb(&call.verb),
        op(call.op),
        call.fence
    )
}

pub fn node_reply(reply: &NodeReply) -> String {
    match reply {
        Ok(()) => "ok".into(),
        Err(failure) => match failure.kind {
            NodeFailureKind::StaleFence { of, highest } => {
                format!("stale {of:?} fence, {} is known", worker_fence(highest)).to_lowercase()
            }
            kind => format!("{kind:?}: {}", failure.message),
        },
    }
}

/// A verdict, with what a caller can do about it.
pub fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Ok(Answer::Actor(record)) => format!("OK {}", actor(record)),
        Ok(Answer::Workers(rows)) => format!("OK {}", rows.iter().map(worker).collect::<Vec<_>>().join("; ")),
        Ok(Answer::Done | Answer::Reported(..)) => "OK".into(),
        Ok(other) => format!("OK {other:?}"),
        Err(failure) => refusal(failure),
    }
}

pub fn refusal(failure: &Failure) -> String {
    let again = failure.retry_after.map_or(String::new(), |after| {
        format!(", retry after {}", duration(after))
    });
    let crash = if failure.crashed { ", crashed" } else { "" };
    format!("{:?}{crash}{again}: {}", failure.code, failure.message)
}

/// A worker's fence. It goes up by 2^48 when a pod is lost.
fn worker_fence(fence: Fence) -> String {
    match (fence.0 >> 48, fence.0 % (1 << 48)) {
        (0, _) => fence.to_string(),
        (1, 0) => "2^48".into(),
        (1, rest) => format!("2^48+{rest}"),
        (lives, rest) => format!("{lives}*2^48+{rest}"),
    }
}

pub fn sighting(s: &Sighting) -> String {
    let duty = if s.duty == Duty::Draining { " draining" } else { "" };
    let silence = if s.is_silent { " silent" } else { "" };
    let hosting = s.hosting.as_ref().map_or("free".into(), |h| key(&h.actor));
    format!(
        "{} {hosting}{duty}{silence} fence {}",
        pod(&s.pod_uid),
        worker_fence(s.highest_fence)
    )
}

fn key(key: &ActorKey) -> String {
    if key.atespace.is_empty() {
        format!("?/{}", key.name)
    } else {
        key.to_string()
    }
}

pub fn work(work: &Work) -> &'static str {
    match work {
        Work::Clear => "clear",
        Work::Fetch => "fetch",
        Work::Assemble => "assemble",
        Work::Boot { .. } => "boot",
        Work::Thaw { .. } => "thaw",
        Work::Capture => "capture",
        Work::Save(_) => "save",
        Work::Upload => "upload",
        Work::Stop => "stop",
    }
}

/// A journal entry.
pub fn entry(uid: &PodUid, entry: &Entry) -> String {
    let hosted = match &entry.hosted {
        None => "free".into(),
        Some(h) => match h.sandbox {
            Sandbox::Busy => format!("{} busy", key(&h.actor)),
            Sandbox::Running => format!("{} running", key(&h.actor)),
            Sandbox::Frozen => format!("{} frozen", key(&h.actor)),
            Sandbox::Stopped => format!("{} stopped", key(&h.actor)),
        },
    };
    let current = match &entry.current {
        Some(p) if p.captured.is_some() => format!(", op {} captured", op(p.op)),
        Some(p) => format!(", op {} begun", op(p.op)),
        None => String::new(),
    };
    let last = entry.last.as_ref().map_or(String::new(), |done| {
        let how = match &done.result {
            Ok(()) => "ok".into(),
            Err(failure) => format!("{:?}", failure.kind),
        };
        format!(", op {} ended {how}", op(done.op))
    });
    format!(
        "{} {hosted}, fence {}{current}{last}",
        pod(uid),
        worker_fence(entry.highest)
    )
}

pub fn node_row(name: &NodeName, address: &str) -> NodeRow {
    NodeRow {
        name: name.clone(),
        address: address.into(),
        incarnation: "atelet-1".into(),
        sequence: 1,
        session: 0,
        lapsed: 0,
        version: 0,
    }
}
