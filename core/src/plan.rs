//! What a workflow does next, as one pure function of what is recorded and what it has learned.
//!
//! There is no hidden progress: a workflow that takes over from a dead one calls the same function on
//! the same record and goes on from there. That is how every effect may be cut anywhere and the
//! workflow still converges (design section 5).

use crate::actor::{
    self, Actor, Assignment, Boot, Change, Crash, Event, Loss, Snapshot, Source, State, Transition,
};
use crate::catalog::Template;
use crate::effect::{Fenced, NodeFailure, NodeFailureKind, NodeReply, Place, Target, Verb};
use crate::failure::{Code, Failure};
use crate::id::{Fence, LeaseToken, Name, NodeName, OpId, WorkerKey};
use crate::registry::{Fact, Going};
use crate::worker::Worker;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

/// What a workflow is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Goal {
    /// The actor serves.
    Resume(Boot),
    /// The actor sleeps in the object store.
    Suspend,
    /// The actor sleeps on its node's disk.
    Pause,
    /// The actor is no more.
    Delete,
    /// A crashed or paused actor sleeps at its last external snapshot.
    Revert,
    /// Whatever was begun is finished or undone, and this worker is free unless the actor is on it.
    /// Nobody waits for it: this is the reconciler's goal.
    Settle {
        /// The worker that is promised to the actor.
        worker: WorkerKey,
        /// What becomes of an unfinished Resume.
        resume: Unfinished,
    },
}

/// What becomes of an unfinished Resume that nobody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unfinished {
    /// Its replica died: it is finished.
    Finish,
    /// It failed and its caller was told so: it is undone.
    Undo,
}

/// What a workflow knows besides the record.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The lease it works under.
    pub token: LeaseToken,
    /// The actor's template: as pinned, or as declared.
    pub template: Option<&'a Template>,
    /// The golden snapshot that its template has now.
    pub golden: Option<&'a Name>,
    /// What is known of the worker that the record points at.
    pub worker: Fact,
    /// The row of a worker that has promised itself to the actor.
    pub promised: Option<&'a Worker>,
    /// The worker that the actor has left and that is not free yet.
    pub leaving: Option<&'a Assignment>,
    /// How the last node call of this workflow ended, and which it was.
    pub outcome: Option<(&'a CallOf, &'a NodeReply)>,
    /// Whether a Stop has been sent to undo the Resume that is recorded. It may arrive late, so there is
    /// no way back from it under the same fence.
    pub is_undoing: bool,
    /// Whether this workflow began the operation that is recorded and has called for it once: no other order
    /// for it can be on its way.
    pub is_sole: bool,
}

/// Which call an outcome belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallOf {
    /// The operation that the record names.
    Recorded(OpId),
    /// A Stop.
    Stop,
    /// An upload of a local snapshot; it may be repeated.
    Upload,
    /// A Thaw, under this session of the node.
    Thaw(u64),
}

/// What a workflow does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is over.
    Finish(Result<(), Failure>),
    /// Find a worker, on one of these nodes if any are named.
    Place {
        /// The nodes that hold the local snapshot.
        nodes: Option<Vec<NodeName>>,
    },
    /// Write the actor. The last write of a workflow ends its lease.
    Write {
        /// What becomes of it.
        change: WishedChange,
        /// Whether the workflow is over with it.
        then: Then,
    },
    /// Delete the actor.
    Delete,
    /// Call the node.
    Call {
        /// Which call this is.
        call: CallOf,
        /// The node.
        node: NodeName,
        /// The worker, if it concerns one.
        worker: Option<Target>,
        /// What is wanted.
        verb: CallVerb,
    },
    /// Free a worker, if its promise is still this one.
    Free(Box<Assignment>),
    /// Pause, then look at the call again.
    CallAgain,
}

/// What becomes of the record; operation ids and snapshot names are the workflow's to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WishedChange {
    /// As it stands.
    Exactly(Change),
    /// A claim at a version above this fence.
    ClaimAbove(Fence),
    /// A Resume on this worker, under a new operation.
    Resume(Box<Assignment>, Boot),
    /// A Suspend under a new operation.
    Suspend,
    /// A Pause under a new operation.
    Pause,
    /// A place for a copy of the local snapshot.
    Reserve,
}

/// What follows a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Then {
    /// More.
    GoOn,
    /// Success: the lease ends with the write.
    Finish,
    /// The caller is told what the node said: the lease ends with the write.
    FinishRefused,
}

/// What is wanted of a node; the files of the sandbox are looked up when the call is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallVerb {
    /// Boot from the images, in a sandbox of the worker's pool.
    Boot(WorkerKey),
    /// As it stands.
    Exactly(Verb),
}

/// What comes next for a workflow with `goal` that holds the lease of `actor`.
pub fn next(goal: &Goal, actor: &Actor, facts: &Facts<'_>) -> Next {
    // A worker that the actor has left is freed before anything else begins.
    if let Some(on) = facts.leaving {
        return Next::Free(Box::new(on.clone()));
    }
    // What this workflow itself has found and written: its caller is told so, not that it came too late.
    if let (State::Crashed(_), Some((CallOf::Recorded(_), Err(failure)))) = (&actor.state, facts.outcome)
        && failure.kind == NodeFailureKind::Crash
    {
        return refuse(Failure::crashed(&actor.key.name));
    }
    match goal {
        Goal::Resume(boot) => resume(*boot, actor, facts),
        Goal::Suspend => suspend(actor, facts),
        Goal::Pause => pause(actor, facts),
        Goal::Delete if actor::TABLE.allows(Some(actor.status()), Event::Delete) => Next::Delete,
        Goal::Delete => refuse(Failure::not_suspended(&actor.key.name, actor.status())),
        Goal::Revert => match &actor.state {
            State::Crashed(_) => write(Change::Revert, Then::Finish),
            State::Paused if actor.last_external.is_some() => write(Change::Revert, Then::Finish),
            State::Paused => refuse(Failure::nothing_to_revert_to(&actor.key.name)),
            _ => refuse(Failure::not_revertible(&actor.key.name, actor.status())),
        },
        Goal::Settle { worker, resume } => settle(worker, *resume, actor, facts),
    }
}

fn resume(boot: Boot, actor: &Actor, facts: &Facts<'_>) -> Next {
    match &actor.state {
        State::Running { on } => match facts.worker {
            Fact::Present => Next::Finish(Ok(())),
            Fact::Frozen(session) => thaw(on, session, actor, facts).unwrap_or(Next::Finish(Ok(()))),
            Fact::Gone(Going::Worker | Going::Restarted) => begin(WishedChange::Suspend),
            // Somebody wants it now: what it did since its last snapshot is given up.
            Fact::Gone(going) => reset(Some(loss(on, going.describe()))),
        },
        State::Crashed(_) => refuse(Failure::is_crashed("resume", &actor.key.name)),
        State::Suspended | State::Paused => match facts.promised.and_then(Assignment::of) {
            Some(on) => Next::Write {
                change: WishedChange::Resume(Box::new(on), boot),
                then: Then::GoOn,
            },
            None => Next::Place {
                nodes: match &actor.latest {
                    Some(Snapshot::Local { nodes, .. }) => Some(nodes.clone()),
                    Some(Snapshot::External(_)) | None => None,
                },
            },
        },
        State::Resuming { op, on, boot } => go_on_resuming(*op, on, *boot, actor, facts, Then::Finish),
        State::Suspending { .. } | State::Pausing { .. } => go_on_sleeping(actor, facts, Silence::GivesUp),
    }
}

fn suspend(actor: &Actor, facts: &Facts<'_>) -> Next {
    match &actor.state {
        State::Suspended => at_rest(actor),
        State::Running { on } => match facts.worker {
            Fact::Present | Fact::Gone(Going::Worker | Going::Restarted) => begin(WishedChange::Suspend),
            Fact::Frozen(session) => {
                thaw(on, session, actor, facts).unwrap_or_else(|| begin(WishedChange::Suspend))
            }
            Fact::Gone(Going::Session) => refuse(Failure::node_silent(&actor.key.name, &on.node)),
            Fact::Gone(Going::Sandbox) => reset(Some(loss(on, Going::Sandbox.describe()))),
        },
        State::Paused => upload(actor, facts),
        State::Crashed(_) => refuse(Failure::is_crashed("suspend", &actor.key.name)),
        State::Resuming { op, on, boot } => go_on_resuming(*op, on, *boot, actor, facts, Then::GoOn),
        State::Suspending { .. } | State::Pausing { .. } => go_on_sleeping(actor, facts, Silence::IsTold),
    }
}

/// Uploads the snapshot of a paused actor, which stays PAUSED until that is done: an upload that is cut,
/// or fails, leaves nothing to repair.
fn upload(actor: &Actor, facts: &Facts<'_>) -> Next {
    let Some(Snapshot::Local { name, nodes }) = &actor.latest else {
        return refuse(Failure::local_snapshot_unreachable(&actor.key.name, "none"));
    };
    let Some(node) = nodes.first() else {
        return refuse(Failure::local_snapshot_unreachable(&actor.key.name, "none"));
    };
    // Another place each time that one is reserved: what was let go of is never pointed at again.
    let Some(to) = &actor.in_progress else {
        return begin(WishedChange::Reserve);
    };
    if !actor.is_claimed_by(facts.token) {
        return write(Change::Claim, Then::GoOn);
    }
    match facts.outcome {
        Some((CallOf::Upload, Ok(()))) => write(Change::Uploaded, Then::GoOn),
        Some((CallOf::Upload, Err(failure))) => match failure.kind {
            NodeFailureKind::StaleFence {
                of: Fenced::Actor,
                highest,
            } => claim_above(highest),
            NodeFailureKind::Busy | NodeFailureKind::Unreachable => Next::CallAgain,
            NodeFailureKind::Crash
            | NodeFailureKind::SandboxGone
            | NodeFailureKind::SessionOver
            | NodeFailureKind::Occupied
            | NodeFailureKind::StaleFence { .. }
            | NodeFailureKind::NotBegun
            | NodeFailureKind::Failed => refuse(Failure::node(failure)),
        },
        Some((CallOf::Recorded(_) | CallOf::Stop | CallOf::Thaw(_), _)) | None => Next::Call {
            call: CallOf::Upload,
            node: node.clone(),
            worker: None,
            verb: CallVerb::Exactly(Verb::Upload {
                name: name.clone(),
                to: to.clone(),
            }),
        },
    }
}

fn pause(actor: &Actor, facts: &Facts<'_>) -> Next {
    match &actor.state {
        State::Paused => at_rest(actor),
        State::Running { on } => match facts.worker {
            Fact::Present | Fact::Gone(Going::Worker | Going::Restarted) => begin(WishedChange::Pause),
            Fact::Frozen(session) => {
                thaw(on, session, actor, facts).unwrap_or_else(|| begin(WishedChange::Pause))
            }
            Fact::Gone(Going::Session) => refuse(Failure::node_silent(&actor.key.name, &on.node)),
            Fact::Gone(Going::Sandbox) => reset(Some(loss(on, Going::Sandbox.describe()))),
        },
        State::Suspended if actor.loss.is_some() => at_rest(actor),
        State::Suspended => refuse(Failure::not_running(&actor.key.name, actor.status())),
        State::Crashed(_) => refuse(Failure::is_crashed("pause", &actor.key.name)),
        State::Resuming { op, on, boot } => go_on_resuming(*op, on, *boot, actor, facts, Then::GoOn),
        State::Suspending { .. } | State::Pausing { .. } => go_on_sleeping(actor, facts, Silence::IsTold),
    }
}

fn settle(worker: &WorkerKey, unfinished: Unfinished, actor: &Actor, facts: &Facts<'_>) -> Next {
    match &actor.state {
        State::Running { on } => match facts.worker {
            // It is asleep there, in a way, and nothing is lost while nobody wants it.
            Fact::Gone(Going::Session) if on.worker == *worker => Next::Finish(Ok(())),
            Fact::Gone(Going::Session) => free_stray(worker, facts),
            Fact::Gone(Going::Worker | Going::Restarted) => begin(WishedChange::Suspend),
            Fact::Gone(Going::Sandbox) => reset(Some(loss(on, Going::Sandbox.describe()))),
            Fact::Frozen(session) => {
                thaw(on, session, actor, facts).unwrap_or_else(|| settled_at(on, worker, facts))
            }
            Fact::Present => settled_at(on, worker, facts),
        },
        // Whoever has promised the worker may be about to point the actor at it. After a claim he cannot.
        State::Suspended | State::Paused
            if is_promised(worker, facts) && !actor.is_claimed_by(facts.token) =>
        {
            write(Change::Claim, Then::GoOn)
        }
        State::Suspended | State::Paused | State::Crashed(_) => free_stray(worker, facts),
        State::Resuming { op, on, boot } => {
            let has_failed = matches!(
                facts.outcome,
                Some((CallOf::Recorded(called), Err(failure)))
                    if called == op && failure.kind == NodeFailureKind::Failed
            );
            if facts.worker == Fact::Present && (unfinished == Unfinished::Undo || has_failed) {
                return undo_resume(on, actor, facts);
            }
            go_on_resuming(*op, on, *boot, actor, facts, Then::Finish)
        }
        State::Suspending { .. } | State::Pausing { .. } => go_on_sleeping(actor, facts, Silence::GivesUp),
    }
}

fn is_promised(worker: &WorkerKey, facts: &Facts<'_>) -> bool {
    facts.promised.is_some_and(|row| row.key == *worker)
}

/// The actor serves where it should; a worker that is promised to it besides is freed.
fn settled_at(on: &Assignment, worker: &WorkerKey, facts: &Facts<'_>) -> Next {
    if on.worker == *worker {
        Next::Finish(Ok(()))
    } else {
        free_stray(worker, facts)
    }
}

/// Lets a frozen actor go on; nothing once that has been done. The claim comes first: whoever decided to
/// move the actor while its node was silent can do so no more.
fn thaw(on: &Assignment, session: u64, actor: &Actor, facts: &Facts<'_>) -> Option<Next> {
    if on.session != session || !actor.is_claimed_by(facts.token) {
        return Some(write(Change::Thaw { session }, Then::GoOn));
    }
    let failure = match facts.outcome {
        Some((CallOf::Thaw(under), Ok(()))) if *under == session => return None,
        Some((CallOf::Thaw(under), Err(failure))) if *under == session => failure,
        Some(_) | None => {
            return Some(Next::Call {
                call: CallOf::Thaw(session),
                node: on.node.clone(),
                worker: Some(target(on)),
                verb: CallVerb::Exactly(Verb::Thaw),
            });
        }
    };
    Some(match failure.kind {
        NodeFailureKind::StaleFence {
            of: Fenced::Actor,
            highest,
        } => claim_above(highest),
        NodeFailureKind::SandboxGone
        | NodeFailureKind::Occupied
        | NodeFailureKind::StaleFence {
            of: Fenced::Worker, ..
        } => reset(Some(loss(on, &failure.message))),
        // The node has begun another session, and will say so in its next report.
        NodeFailureKind::SessionOver | NodeFailureKind::Busy | NodeFailureKind::Unreachable => {
            Next::CallAgain
        }
        NodeFailureKind::Crash | NodeFailureKind::NotBegun | NodeFailureKind::Failed => {
            refuse(Failure::node(failure))
        }
    })
}

/// Frees a worker that is promised to the actor while the actor is not on it.
fn free_stray(worker: &WorkerKey, facts: &Facts<'_>) -> Next {
    match facts
        .promised
        .filter(|row| row.key == *worker)
        .and_then(Assignment::of)
    {
        Some(on) => Next::Free(Box::new(on)),
        None => Next::Finish(Ok(())),
    }
}

fn undo_resume(on: &Assignment, actor: &Actor, facts: &Facts<'_>) -> Next {
    // Nobody can be told to stop, and nothing runs: what has booted is frozen, what is on its way is refused.
    if facts.worker == Fact::Gone(Going::Session) {
        return reset(None);
    }
    if !actor.is_claimed_by(facts.token) {
        return write(Change::Claim, Then::GoOn);
    }
    match facts.outcome {
        Some((CallOf::Stop, Ok(()))) => reset(None),
        Some((CallOf::Stop, Err(failure))) => match failure.kind {
            NodeFailureKind::StaleFence {
                of: Fenced::Actor,
                highest,
            } => claim_above(highest),
            NodeFailureKind::Unreachable | NodeFailureKind::Busy => Next::CallAgain,
            // The promise is used up, or whatever stands in the way there is not this actor.
            NodeFailureKind::StaleFence {
                of: Fenced::Worker, ..
            }
            | NodeFailureKind::Occupied
            | NodeFailureKind::SessionOver
            | NodeFailureKind::SandboxGone => reset(None),
            // The original's atelet knows no promises, and none can be taken back there.
            NodeFailureKind::Failed if failure.code == Code::Unimplemented => reset(None),
            NodeFailureKind::Crash | NodeFailureKind::NotBegun | NodeFailureKind::Failed => {
                refuse(Failure::node(failure))
            }
        },
        Some((CallOf::Recorded(_) | CallOf::Upload | CallOf::Thaw(_), _)) | None => Next::Call {
            call: CallOf::Stop,
            node: on.node.clone(),
            worker: Some(target(on)),
            verb: CallVerb::Exactly(Verb::Stop),
        },
    }
}

/// Carries a Resume that was begun to its end; `then` says whether that is what the caller came for.
fn go_on_resuming(
    op: OpId,
    on: &Assignment,
    boot: Boot,
    actor: &Actor,
    facts: &Facts<'_>,
    then: Then,
) -> Next {
    // Booted under a session that is over, it has not served: it is begun anew rather than thawed.
    let is_replaced = matches!(
        facts.worker,
        Fact::Gone(Going::Worker | Going::Restarted | Going::Session) | Fact::Frozen(_)
    );
    let reply = match facts.outcome {
        _ if facts.is_undoing => return undo_resume(on, actor, facts),
        Some((CallOf::Recorded(called), reply)) if *called == op => reply,
        // An order that is still on its way would boot the actor in whatever has taken the worker's place.
        Some(_) | None if is_replaced => return undo_resume(on, actor, facts),
        Some(_) | None if !actor.is_claimed_by(facts.token) => return write(Change::Claim, Then::GoOn),
        Some(_) | None => {
            let Some(template) = facts.template else {
                return refuse(Failure::template_missing(
                    "LoadActorForResume",
                    &actor.template_name,
                ));
            };
            return Next::Call {
                call: CallOf::Recorded(op),
                node: on.node.clone(),
                worker: Some(target(on)),
                verb: resume_verb(actor, template, facts.golden, boot, on),
            };
        }
    };
    let failure = match reply {
        // Nothing that was acknowledged can be lost: the actor has not served yet.
        Ok(()) if facts.worker != Fact::Present => return undo_resume(on, actor, facts),
        Ok(()) => return write(Change::Ran, then),
        Err(failure) => failure,
    };
    match failure.kind {
        NodeFailureKind::Crash => crash(Transition::Resume, on, &failure.message),
        NodeFailureKind::StaleFence {
            of: Fenced::Actor,
            highest,
        } => claim_above(highest),
        // The worker has moved on without the store knowing: leave it to whoever has it. No earlier try is let in
        // under a fence that is over.
        NodeFailureKind::StaleFence {
            of: Fenced::Worker, ..
        } => reset(None),
        // What stands in the way there may be gone before an earlier try arrives, if there was one.
        NodeFailureKind::Occupied if facts.is_sole => reset(None),
        // An earlier try of the same order may still be on its way to it, or have booted: the promise is taken
        // back.
        NodeFailureKind::Occupied | NodeFailureKind::SandboxGone | NodeFailureKind::SessionOver => {
            undo_resume(on, actor, facts)
        }
        NodeFailureKind::Busy | NodeFailureKind::Unreachable => Next::CallAgain,
        NodeFailureKind::NotBegun | NodeFailureKind::Failed => refuse(Failure::node(failure)),
    }
}

fn resume_verb(
    actor: &Actor,
    template: &Template,
    golden: Option<&Name>,
    boot: Boot,
    on: &Assignment,
) -> CallVerb {
    let restore = |from, scope| CallVerb::Exactly(Verb::Restore { from, scope });
    match (&actor.latest, golden, boot) {
        (Some(Snapshot::Local { name, .. }), _, _) => restore(Place::Local(name.clone()), template.on_pause),
        (Some(Snapshot::External(prefix)), _, _) => {
            restore(Place::External(prefix.clone()), template.on_commit)
        }
        (None, Some(prefix), Boot::Golden) => restore(Place::External(prefix.clone()), template.on_commit),
        (None, _, _) => CallVerb::Boot(on.worker.clone()),
    }
}

/// What follows when the node of a checkpoint is silent and its session over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Silence {
    /// What the actor did since its last snapshot is given up.
    GivesUp,
    /// The caller is told, and may wait for the node.
    IsTold,
}

/// Carries a Suspend or Pause that was begun to its end.
fn go_on_sleeping(actor: &Actor, facts: &Facts<'_>, silence: Silence) -> Next {
    let (op, on, snapshot, done, during, step) = match &actor.state {
        State::Suspending {
            op,
            from: Source::Worker(on),
            snapshot,
        } => (
            *op,
            on,
            snapshot,
            Change::Suspended,
            Transition::Suspend,
            "LoadActorForSuspend",
        ),
        State::Pausing { op, on, snapshot } => (
            *op,
            on,
            snapshot,
            Change::Paused,
            Transition::Pause,
            "LoadActorForPause",
        ),
        // Left behind by a control plane that writes SUSPENDING for an upload: the local snapshot stands.
        State::Suspending {
            from: Source::Local(_),
            ..
        } => return reset(None),
        State::Suspended
        | State::Resuming { .. }
        | State::Running { .. }
        | State::Paused
        | State::Crashed(_) => return Next::Finish(Ok(())),
    };
    // That the sandbox, or its worker, is gone proves nothing here: a checkpoint that succeeded leaves it
    // so. The node knows, and says which (S23).
    let is_silent = facts.worker == Fact::Gone(Going::Session);
    let is_answered = matches!(facts.outcome, Some((CallOf::Recorded(called), Ok(()))) if *called == op);
    if is_silent && !is_answered {
        return match silence {
            Silence::GivesUp => reset(Some(loss(on, Going::Session.describe()))),
            Silence::IsTold => refuse(Failure::node_silent(&actor.key.name, &on.node)),
        };
    }
    if !actor.is_claimed_by(facts.token) {
        return write(Change::Claim, Then::GoOn);
    }
    let reply = match facts.outcome {
        Some((CallOf::Recorded(called), reply)) if *called == op => reply,
        Some(_) | None => {
            let Some(template) = facts.template else {
                return refuse(Failure::template_missing(step, &actor.template_name));
            };
            let (to, scope) = match during {
                Transition::Pause => (Place::Local(snapshot.clone()), template.on_pause),
                Transition::Suspend | Transition::Resume => {
                    (Place::External(snapshot.clone()), template.on_commit)
                }
            };
            return Next::Call {
                call: CallOf::Recorded(op),
                node: on.node.clone(),
                worker: Some(target(on)),
                verb: CallVerb::Exactly(Verb::Checkpoint { to, scope }),
            };
        }
    };
    let failure = match reply {
        Ok(()) => return write(done, Then::GoOn),
        Err(failure) => failure,
    };
    match failure.kind {
        NodeFailureKind::Crash => crash(during, on, &failure.message),
        NodeFailureKind::StaleFence {
            of: Fenced::Actor,
            highest,
        } => claim_above(highest),
        // The node knows that this actor's sandbox is not there.
        NodeFailureKind::SandboxGone
        | NodeFailureKind::Occupied
        | NodeFailureKind::StaleFence {
            of: Fenced::Worker, ..
        } => {
            let how = match facts.worker {
                Fact::Gone(going) => going.describe(),
                Fact::Present | Fact::Frozen(_) => &failure.message,
            };
            reset(Some(loss(on, how)))
        }
        // No checkpoint needs a session; one that is refused for it is asked for again.
        NodeFailureKind::SessionOver | NodeFailureKind::Busy | NodeFailureKind::Unreachable => {
            Next::CallAgain
        }
        NodeFailureKind::NotBegun => write(Change::WakeUnbegun, Then::FinishRefused),
        NodeFailureKind::Failed if is_left_alone(failure, facts) => write(Change::Wake, Then::FinishRefused),
        NodeFailureKind::Failed => refuse(Failure::node(failure)),
    }
}

/// Whether the sandbox is surely as it was before the order: otherwise the actor would stand there until
/// somebody mends what the node does not like. What is refused for what it asks is refused as often as it
/// comes. The original says `Internal` of whatever went wrong, after the checkpoint as well as before it.
fn is_left_alone(failure: &NodeFailure, facts: &Facts<'_>) -> bool {
    match failure.code {
        Code::InvalidArgument => true,
        Code::Internal => false,
        _ => facts.is_sole,
    }
}

/// A crash is committed like every other way out, and then the worker is freed: the other way round, a cut
/// in between leaves a transition that no worker is promised to, and that nobody would find.
fn crash(during: Transition, on: &Assignment, reason: &str) -> Next {
    let crash = Crash {
        during,
        reason: reason.to_string().into(),
        node: on.node.clone(),
    };
    write(Change::Crash(crash), Then::GoOn)
}

/// A caller that finds its actor at rest is told if state was lost on the way there (S22).
fn at_rest(actor: &Actor) -> Next {
    match &actor.loss {
        Some(loss) => refuse(Failure::lost(&actor.key.name, actor.latest.as_ref(), loss)),
        None => Next::Finish(Ok(())),
    }
}

fn loss(on: &Assignment, how: &str) -> Loss {
    Loss {
        worker: on.worker.clone(),
        reason: format!("{how} (node {})", on.node).into(),
    }
}

fn target(on: &Assignment) -> Target {
    Target {
        pod_uid: on.pod_uid.clone(),
        fence: on.fence,
        session: on.session,
    }
}

fn write(change: Change, then: Then) -> Next {
    Next::Write {
        change: WishedChange::Exactly(change),
        then,
    }
}

/// Begins a sleep. That is also how a report that a worker is gone is checked, because the report may be
/// older than the promise: the node says so again, or there is nothing to be lost. (That a sandbox is gone
/// from a worker that is there is told with the fence of the promise, so it needs no second word.)
fn begin(sleep: WishedChange) -> Next {
    Next::Write {
        change: sleep,
        then: Then::GoOn,
    }
}

fn reset(loss: Option<Loss>) -> Next {
    write(Change::Reset { loss }, Then::GoOn)
}

fn claim_above(highest: Fence) -> Next {
    Next::Write {
        change: WishedChange::ClaimAbove(highest),
        then: Then::GoOn,
    }
}

fn refuse(failure: Failure) -> Next {
    Next::Finish(Err(failure))
}
