//! Which transition of its table a stored record has made, told from how it was and how it is.
//!
//! Whoever writes a record goes through its table; here a write is looked at from outside, and only one
//! that some row of the table explains to the last field is taken for one.

use holdfast_core::actor::{self, Actor, Change, Snapshot, State};
use holdfast_core::id::Fence;
use holdfast_core::table::Moved;
use holdfast_core::worker::{self, Sight, Worker};

/// What became of an actor's record; none if no row of the table leads from `before` to `after`.
pub fn actor(before: Option<&Actor>, after: Option<&Actor>) -> Option<Moved> {
    match (before, after) {
        (None, None) => None,
        (None, Some(after)) => {
            let selector = after.selector.clone();
            let template = after.pinned.clone()?;
            let created = Actor::create(after.key.clone(), after.incarnation, template, selector);
            let moved = || actor::TABLE.made(None, actor::Event::Create, Some(after.status()));
            (created == *after).then(moved)
        }
        (Some(before), None) => {
            let (from, event) = (Some(before.status()), actor::Event::Delete);
            let is_legal = actor::TABLE.allows(from, event);
            is_legal.then(|| actor::TABLE.made(from, event, None))
        }
        (Some(before), Some(after)) => {
            let mut known = before.clone();
            let mut by = None;
            if known.claim != after.claim {
                known.claim = None;
                by = after.claim.map(|claim| claim.token);
            }
            let explains = |change: &Change| known.after(change, by, after.version).as_ref() == Ok(after);
            let mut changes = changes(before, after);
            let session = |actor: &Actor| actor.assignment().map(|on| on.session);
            if session(before) == session(after) {
                changes.retain(|change| !matches!(change, Change::Thaw { .. }));
            }
            // A write by a new owner is at least a claim; one by nobody's lease is none.
            if before.claim == after.claim {
                changes.retain(|change| *change != Change::Claim);
            }
            let change = changes.into_iter().find(explains)?;
            Some(actor::TABLE.made(Some(before.status()), change.event(), Some(after.status())))
        }
    }
}

/// What became of a worker's record; none if no row of the table leads from `before` to `after`.
pub fn worker(before: Option<&Worker>, after: Option<&Worker>) -> Option<Moved> {
    match (before, after) {
        (None, None) => None,
        (None, Some(after)) => {
            // Its version is a matter of what its node has seen.
            let appeared = Worker {
                version: after.version,
                ..Worker::appear(after.key.clone(), sight(after), Fence(0))
            };
            let moved = || worker::TABLE.made(None, worker::Event::Appear, Some(after.phase()));
            (appeared == *after).then(moved)
        }
        (Some(before), None) => {
            let (from, event) = (Some(before.phase()), worker::Event::Drop);
            let is_legal = worker::TABLE.allows(from, event);
            is_legal.then(|| worker::TABLE.made(from, event, None))
        }
        (Some(before), Some(after)) => {
            let promise = after.hosts.clone().map(|hosted| worker::Change::Promise {
                actor: hosted.actor,
                incarnation: hosted.incarnation,
                template: (hosted.template_namespace, hosted.template_name),
                session: hosted.session,
            });
            let others = [worker::Change::Free, worker::Change::Sight(sight(after))];
            let mut changes = promise.into_iter().chain(others);
            let change =
                changes.find(|change| before.after(change.clone(), after.version).as_ref() == Ok(after))?;
            Some(worker::TABLE.made(Some(before.phase()), change.event(), Some(after.phase())))
        }
    }
}

/// Every change that may have led to this record.
fn changes(before: &Actor, after: &Actor) -> Vec<Change> {
    let mut changes = Vec::new();
    match &after.state {
        State::Suspended => {
            changes.push(Change::Uploaded);
            changes.push(Change::Suspended);
            changes.push(Change::Revert);
        }
        State::Paused => {
            changes.push(Change::Paused);
            if let Some(snapshot) = after.in_progress.clone() {
                changes.push(Change::Reserve { snapshot });
            }
        }
        State::Resuming { op, on, boot } => changes.push(Change::Resume {
            op: *op,
            on: on.clone(),
            boot: *boot,
        }),
        State::Running { on } => changes.extend([
            Change::Ran,
            Change::Thaw { session: on.session },
            Change::Wake,
            Change::WakeUnbegun,
        ]),
        State::Suspending { op, snapshot, .. } => changes.push(Change::Suspend {
            op: *op,
            snapshot: snapshot.clone(),
        }),
        State::Pausing { op, snapshot, .. } => changes.push(Change::Pause {
            op: *op,
            snapshot: snapshot.clone(),
        }),
        State::Crashed(crash) => changes.push(Change::Crash(crash.clone())),
    }
    changes.push(Change::Reset { loss: None });
    changes.push(Change::Reset {
        loss: after.loss.clone(),
    });
    changes.push(Change::Claim);
    changes.push(Change::Select(after.selector.clone()));
    let is_gone = |snapshot: &&Snapshot| !after.let_go().any(|left| left == *snapshot);
    let gone = before.let_go().filter(is_gone).cloned().collect();
    changes.push(Change::Collected(gone));
    changes
}

fn sight(worker: &Worker) -> Sight {
    Sight {
        pod_uid: worker.pod_uid.clone(),
        incarnation: worker.incarnation.clone(),
        ip: worker.ip.clone(),
        node: worker.node.clone(),
        duty: worker.duty,
    }
}
