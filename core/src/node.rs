//! The node's side: orders in, one mutating operation per actor and per worker, and answers that stay
//! the same however often a question is repeated.
//!
//! The node remembers, on disk, the highest fence it has seen of each actor and each worker, and how
//! the last operation on each worker ended. Its memory wins over the store's (design section 4): an
//! order below a known fence is refused with the highest that is known; an order that names a known
//! operation joins it while it runs and gets its recorded result afterwards.

use crate::catalog::Workload;
use crate::effect::{Fenced, NodeFailure, NodeFailureKind, NodeReply, NodeRow, Place, Verb};
use crate::failure::Code;
use crate::id::{
    ActorKey, EffectId, Fence, Incarnation, Name, NodeName, OpId, PodUid, ReplicaId, RequestId, WorkerKey,
};
use crate::machine::Machine;
use crate::pull::{self, Attempt, PullFailure, Pulls, Waiter};
use crate::registry::{Hosting, Report, Sighting};
use crate::settings::Settings;
use crate::time::{Duration, Instant, backoff};
use crate::timers::Timers;
use crate::worker::Duty;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// How often a snapshot that is safe on this node is tried to be saved before it is called lost.
const SAVES_MAX: u32 = 8;
/// How often ateom is asked before it is called unreachable.
const ASKS_MAX: u32 = 4;

/// What a control plane wants of this node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Order {
    /// The worker.
    pub worker: PodUid,
    /// The worker's fence; zero from a control plane that knows no fences.
    pub worker_fence: Fence,
    /// The actor.
    pub actor: ActorKey,
    /// Which life of it; zero from a control plane that knows none.
    pub incarnation: Incarnation,
    /// The actor's fence; zero from a control plane that knows no fences.
    pub fence: Fence,
    /// The operation; none from a control plane that names none.
    pub op: Option<OpId>,
    /// The template's namespace and name, which name the actor's directory.
    pub template: (Name, Name),
    /// The containers.
    pub workload: Arc<Workload>,
    /// What is wanted.
    pub verb: Verb,
}

/// What the node keeps on disk about one worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The highest fence seen of the worker.
    pub highest: Fence,
    /// The actor it hosts.
    pub hosted: Option<Hosted>,
    /// The operation under way, without its workload (which may hold secrets).
    pub current: Option<Pending>,
    /// How the last operation ended, if it succeeded or crashed the actor.
    pub last: Option<Done>,
}

/// An actor on a worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hosted {
    /// The actor.
    pub actor: ActorKey,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// The operation that brought it.
    pub op: OpId,
    /// What is known of its sandbox.
    pub sandbox: Sandbox,
}

/// What is known of an actor's sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sandbox {
    /// Something is being done to it.
    Busy,
    /// It serves.
    Running,
    /// It does not run, and the worker is kept for the actor until the control plane decides.
    Stopped,
}

/// An operation under way, as kept on disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pending {
    /// The operation.
    pub op: OpId,
    /// The actor.
    pub actor: ActorKey,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// The template's namespace and name.
    pub template: (Name, Name),
    /// What is wanted.
    pub verb: Verb,
    /// The files of the checkpoint, once it is taken: from then on the sandbox is gone and these
    /// files are the actor.
    pub captured: Option<Vec<Name>>,
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Done {
    /// The operation.
    pub op: OpId,
    /// Its result.
    pub result: NodeReply,
}

/// A step of an operation, performed by the adapters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    /// Empty the actor's directories.
    Clear,
    /// Bring the snapshot's files, verified.
    Fetch,
    /// Lay out the containers' bundles; the images are here.
    Assemble,
    /// Have ateom boot or restore the actor.
    Boot,
    /// Have ateom checkpoint the actor.
    Capture,
    /// Store the checkpoint's files where the order says, manifest last, and read it back.
    Save(Vec<Name>),
    /// Copy a local snapshot to the object store.
    Upload,
    /// Have ateom end whatever runs for the actor.
    Stop,
}

/// How a step ended: for [`Work::Capture`], with the names of the checkpoint's files.
pub type WorkResult = Result<Vec<Name>, WorkFailure>;

/// Why a step failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WorkFailure {
    /// What kind of failure, for the caller.
    pub code: Code,
    /// What happened, and what to do.
    pub message: String,
    /// What it means.
    pub kind: WorkFailureKind,
}

/// What a failed step means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WorkFailureKind {
    /// The snapshot is missing or corrupt, or the sandbox could not do it.
    Fatal,
    /// The sandbox is not there.
    Gone,
    /// Whoever should do it could not be reached.
    Unreachable,
    /// It did not work this time: network, disk, credentials.
    Transient,
}

/// What ateom says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Described {
    /// The worker.
    pub key: WorkerKey,
    /// The pod's address.
    pub ip: Name,
    /// The run of ateom.
    pub incarnation: Name,
    /// Whether it takes new actors.
    pub duty: Duty,
    /// Whether a sandbox is alive in it, and which operation brought it.
    pub sandbox: Option<Alive>,
    /// The last operation that was begun there, if it was named.
    pub last_op: Option<OpId>,
}

/// A sandbox that ateom says is alive.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Alive {
    /// The actor's name.
    pub actor: Name,
    /// The operation that brought it, if it was named.
    pub op: Option<OpId>,
    /// Whether it serves, or something is being done to it.
    pub sandbox: Sandbox,
}

/// What happens to a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// It begins, with what it kept on disk.
    Start {
        /// Per worker.
        entries: BTreeMap<PodUid, Entry>,
        /// The highest fence seen of each actor.
        fences: BTreeMap<(ActorKey, Incarnation), Fence>,
    },
    /// A control plane orders.
    Order(RequestId, Box<Order>),
    /// Whoever ordered has left.
    CallerGone(RequestId),
    /// A worker is there, or has changed.
    Worker(PodUid, Described),
    /// A worker is not there any more.
    WorkerLost(PodUid),
    /// A step has ended.
    Worked(EffectId, WorkResult),
    /// The disk has it.
    Kept(EffectId, Result<(), String>),
    /// A pull has moved, or ended.
    Pull(pull::Input),
    /// The control plane has answered a report, or could not be reached.
    Reported(Result<Duration, String>),
}

/// What a node asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Perform a step.
    Work(EffectId, Work, Arc<Order>),
    /// End a step; no answer is waited for.
    Cancel(EffectId),
    /// Keep this on disk, durably.
    Keep(EffectId, Box<Kept>),
    /// Begin a pull.
    Pull(Name, Attempt),
    /// End a pull.
    CancelPull(Attempt),
    /// Answer an order.
    Reply(RequestId, NodeReply),
    /// Report to the control plane.
    Report(Report),
    /// Something worth a line in the log.
    Note(String),
}

/// What is kept on disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kept {
    /// The worker.
    pub worker: PodUid,
    /// What is known of it.
    pub entry: Entry,
    /// The actor of the last order, and the highest fence seen of it.
    pub fence: Option<(ActorKey, Incarnation, Fence)>,
}

/// Why a node wants to be woken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// A pull's deadline.
    Pulls,
    /// The next report is due.
    Report,
    /// A step is tried again.
    Retry(PodUid),
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    settings: Settings,
    row: NodeRow,
    slots: BTreeMap<PodUid, Slot>,
    fences: BTreeMap<(ActorKey, Incarnation), Fence>,
    pulls: Pulls,
    effects: BTreeMap<EffectId, PodUid>,
    timers: Timers<Timer>,
    next: u64,
    is_reporting: bool,
    is_changed: bool,
    outputs: VecDeque<Output>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Slot {
    described: Option<Described>,
    entry: Entry,
    running: Option<Running>,
}

/// An operation under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Running {
    op: OpId,
    order: Arc<Order>,
    callers: BTreeSet<RequestId>,
    stage: Stage,
    /// Steps that have been asked for and have not ended.
    pending: BTreeMap<EffectId, Step>,
    /// Images that are still being pulled, by waiter.
    images: BTreeSet<Name>,
    waiter: Waiter,
    failures: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    Keep,
    Work(Work),
}

/// Where an operation stands. Within a stage, steps run side by side.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Stage {
    /// The order is kept on disk, what was there before is cleared, images are pulled.
    Preparing { is_cleared: bool },
    /// Bundles are laid out while the snapshot is fetched.
    Assembling { is_assembled: bool, is_fetched: bool },
    /// ateom boots or restores.
    Booting,
    /// ateom checkpoints.
    Capturing,
    /// The files of the checkpoint are stored.
    Saving(Vec<Name>),
    /// A local snapshot is uploaded.
    Uploading,
    /// ateom ends what runs.
    Stopping,
    /// The result is kept on disk.
    Ending(NodeReply),
}

impl Node {
    /// A node that has not started. `row.incarnation` must be drawn afresh for every process.
    pub fn new(row: NodeRow, settings: Settings) -> Node {
        Node {
            row,
            slots: BTreeMap::new(),
            fences: BTreeMap::new(),
            pulls: Pulls::new(settings.pull),
            settings,
            effects: BTreeMap::new(),
            timers: Timers::default(),
            next: 1,
            is_reporting: false,
            is_changed: true,
            outputs: VecDeque::new(),
        }
    }

    /// The pulls under way: image and bytes so far.
    pub fn pulls(&self) -> impl Iterator<Item = (&Name, u64)> {
        self.pulls.under_way()
    }

    /// The node's name.
    pub fn name(&self) -> &NodeName {
        &self.row.name
    }

    fn start(
        &mut self,
        now: Instant,
        entries: BTreeMap<PodUid, Entry>,
        fences: BTreeMap<(ActorKey, Incarnation), Fence>,
    ) {
        self.fences = fences;
        for (uid, entry) in entries {
            self.slots.insert(
                uid,
                Slot {
                    entry,
                    ..Slot::default()
                },
            );
        }
        self.timers.set(Timer::Report, Some(now));
    }

    fn order(&mut self, now: Instant, id: RequestId, order: Order) {
        if let Err(failure) = self.admit(&order) {
            return self.reply(id, Err(failure));
        }
        let uid = order.worker.clone();
        let op = order.op.unwrap_or(OpId {
            replica: ReplicaId(0),
            seq: self.next,
        });
        self.next += 1;
        if order.fence > Fence(0) {
            self.fences
                .insert((order.actor.clone(), order.incarnation), order.fence);
        }
        let slot = self.slots.entry(uid.clone()).or_default();
        slot.entry.highest = slot.entry.highest.max(order.worker_fence);

        if let Some(done) = &slot.entry.last
            && done.op == op
        {
            let result = done.result.clone();
            return self.reply(id, result);
        }
        if let Some(running) = &mut slot.running {
            let is_same_wish = running.order.actor == order.actor && running.order.verb == order.verb;
            if running.op == op || (is_same_wish && order.op.is_none()) {
                running.callers.insert(id);
                return;
            }
            let is_stoppable = matches!(running.order.verb, Verb::Run { .. } | Verb::Restore { .. });
            if order.verb == Verb::Stop && running.order.actor == order.actor && is_stoppable {
                self.supersede(now, &uid);
            } else {
                let message = format!("operation {} is under way on worker {uid}", running.op);
                return self.reply(id, Err(failure(Code::Aborted, message, NodeFailureKind::Busy)));
            }
        }
        self.begin(now, id, op, Arc::new(order));
    }

    /// Refuses what is stale, misdirected or in the way of something else.
    fn admit(&self, order: &Order) -> Result<(), NodeFailure> {
        let known = self
            .fences
            .get(&(order.actor.clone(), order.incarnation))
            .copied()
            .unwrap_or_default();
        if order.fence > Fence(0) && order.fence < known {
            return Err(stale(Fenced::Actor, known, &order.actor));
        }
        let is_worker_order = !matches!(order.verb, Verb::Upload { .. });
        let Some(slot) = self.slots.get(&order.worker) else {
            return if is_worker_order {
                Err(no_worker(&order.worker))
            } else {
                Ok(())
            };
        };
        if order.worker_fence > Fence(0) && order.worker_fence < slot.entry.highest {
            return Err(stale(Fenced::Worker, slot.entry.highest, &order.worker));
        }
        let is_elsewhere = self.slots.iter().any(|(uid, other)| {
            *uid != order.worker
                && other
                    .running
                    .as_ref()
                    .is_some_and(|r| r.order.actor == order.actor)
        });
        if is_elsewhere {
            let message = format!(
                "another operation on actor {} is under way on this node",
                order.actor
            );
            return Err(failure(Code::Aborted, message, NodeFailureKind::Busy));
        }
        let is_repetition = order.op.is_some()
            && (slot.entry.last.as_ref().map(|d| d.op) == order.op
                || slot.running.as_ref().map(|r| r.op) == order.op);
        if is_repetition {
            return Ok(());
        }
        match &order.verb {
            Verb::Run { .. } | Verb::Restore { .. } => {
                if slot.described.is_none() {
                    return Err(no_worker(&order.worker));
                }
                match &slot.entry.hosted {
                    Some(hosted) if !is_hosted(hosted, order) && hosted.sandbox != Sandbox::Stopped => {
                        let message = format!("worker {} hosts actor {}", order.worker, hosted.actor);
                        Err(failure(
                            Code::FailedPrecondition,
                            message,
                            NodeFailureKind::Occupied,
                        ))
                    }
                    _ => Ok(()),
                }
            }
            Verb::Checkpoint { .. } => {
                let is_captured = slot
                    .entry
                    .current
                    .as_ref()
                    .is_some_and(|p| Some(p.op) == order.op && p.captured.is_some());
                let is_here = slot
                    .entry
                    .hosted
                    .as_ref()
                    .is_some_and(|h| is_hosted(h, order) && h.sandbox != Sandbox::Stopped);
                if is_captured || is_here {
                    Ok(())
                } else {
                    let message = format!("worker {} has no sandbox of actor {}", order.worker, order.actor);
                    Err(failure(Code::DataLoss, message, NodeFailureKind::SandboxGone))
                }
            }
            Verb::Upload { .. } | Verb::Stop => Ok(()),
        }
    }

    fn begin(&mut self, now: Instant, id: RequestId, op: OpId, order: Arc<Order>) {
        let uid = order.worker.clone();
        let waiter = Waiter(self.next);
        let Some(slot) = self.slots.get_mut(&uid) else {
            return;
        };
        let captured = match &slot.entry.current {
            Some(pending) if pending.op == op => pending.captured.clone(),
            _ => None,
        };
        if order.verb == Verb::Stop && slot.entry.hosted.as_ref().is_none_or(|h| !is_hosted(h, &order)) {
            return self.reply(id, Ok(()));
        }
        // A boot whose sandbox is alive has happened; only its answer was lost (S04).
        let is_booted = matches!(order.verb, Verb::Run { .. } | Verb::Restore { .. })
            && slot
                .entry
                .hosted
                .as_ref()
                .is_some_and(|h| h.op == op && h.sandbox == Sandbox::Running);
        if is_booted {
            return self.reply(id, Ok(()));
        }
        if matches!(order.verb, Verb::Run { .. } | Verb::Restore { .. }) {
            slot.entry.hosted = Some(Hosted {
                actor: order.actor.clone(),
                incarnation: order.incarnation,
                op,
                sandbox: Sandbox::Busy,
            });
        } else if let Some(hosted) = &mut slot.entry.hosted
            && is_hosted(hosted, &order)
        {
            hosted.sandbox = Sandbox::Busy;
        }
        let is_durable_verb = !matches!(order.verb, Verb::Upload { .. });
        if is_durable_verb {
            slot.entry.current = Some(Pending {
                op,
                actor: order.actor.clone(),
                incarnation: order.incarnation,
                template: order.template.clone(),
                verb: order.verb.clone(),
                captured: captured.clone(),
            });
        }
        let stage = match (&order.verb, captured) {
            (Verb::Run { .. } | Verb::Restore { .. }, _) => Stage::Preparing { is_cleared: false },
            (Verb::Checkpoint { .. }, Some(files)) => Stage::Saving(files),
            (Verb::Checkpoint { .. }, None) => Stage::Capturing,
            (Verb::Upload { .. }, _) => Stage::Uploading,
            (Verb::Stop, _) => Stage::Stopping,
        };
        slot.running = Some(Running {
            op,
            order: order.clone(),
            callers: [id].into(),
            stage: stage.clone(),
            pending: BTreeMap::new(),
            images: BTreeSet::new(),
            waiter,
            failures: 0,
        });
        if is_durable_verb {
            self.keep(&uid);
        }
        self.enter(now, &uid, stage);
        self.changed(now);
    }

    /// Begins a stage. Steps that must not happen before the order is on disk wait for that.
    fn enter(&mut self, now: Instant, uid: &PodUid, stage: Stage) {
        let Some(running) = self.slots.get_mut(uid).and_then(|slot| slot.running.as_mut()) else {
            return;
        };
        running.stage = stage.clone();
        match stage {
            Stage::Preparing { .. } => {
                let workload = running.order.workload.clone();
                let waiter = running.waiter;
                let containers = workload.containers.iter().map(|c| c.image.clone());
                running.images = containers.chain([workload.pause_image.clone()]).collect();
                let images = running.images.clone();
                self.work(uid, Work::Clear);
                for image in images {
                    self.pulls.handle(now, pull::Input::Want(image, waiter));
                }
                self.heed_pulls(now);
            }
            Stage::Assembling { is_fetched, .. } => {
                self.work(uid, Work::Assemble);
                if !is_fetched {
                    self.work(uid, Work::Fetch);
                }
            }
            Stage::Booting => self.work_when_kept(uid, Work::Boot),
            Stage::Capturing => self.work_when_kept(uid, Work::Capture),
            Stage::Saving(files) => self.work(uid, Work::Save(files)),
            Stage::Uploading => self.work(uid, Work::Upload),
            Stage::Stopping => self.work_when_kept(uid, Work::Stop),
            Stage::Ending(_) => self.keep(uid),
        }
    }

    fn work_when_kept(&mut self, uid: &PodUid, work: Work) {
        let is_kept = self
            .running(uid)
            .is_some_and(|r| !r.pending.values().any(|step| *step == Step::Keep));
        if is_kept {
            self.work(uid, work);
        }
    }

    fn work(&mut self, uid: &PodUid, work: Work) {
        let effect = self.effect(uid);
        let Some(running) = self.slots.get_mut(uid).and_then(|slot| slot.running.as_mut()) else {
            return;
        };
        running.pending.insert(effect, Step::Work(work.clone()));
        self.outputs
            .push_back(Output::Work(effect, work, running.order.clone()));
    }

    fn keep(&mut self, uid: &PodUid) {
        let effect = self.effect(uid);
        let Some(slot) = self.slots.get_mut(uid) else {
            return;
        };
        let actor = slot
            .running
            .as_ref()
            .map(|r| (r.order.actor.clone(), r.order.incarnation));
        if let Some(running) = &mut slot.running {
            running.pending.insert(effect, Step::Keep);
        }
        let fence = actor.and_then(|key| self.fences.get(&key).map(|fence| (key.0, key.1, *fence)));
        let kept = Kept {
            worker: uid.clone(),
            entry: slot.entry.clone(),
            fence,
        };
        self.outputs.push_back(Output::Keep(effect, Box::new(kept)));
    }

    fn effect(&mut self, uid: &PodUid) -> EffectId {
        let effect = EffectId(self.next);
        self.next += 1;
        self.effects.insert(effect, uid.clone());
        effect
    }

    fn running(&self, uid: &PodUid) -> Option<&Running> {
        self.slots.get(uid)?.running.as_ref()
    }

    fn worked(&mut self, now: Instant, effect: EffectId, result: WorkResult) {
        let Some(uid) = self.effects.remove(&effect) else {
            return;
        };
        let Some(running) = self.slots.get_mut(&uid).and_then(|slot| slot.running.as_mut()) else {
            return;
        };
        let Some(Step::Work(work)) = running.pending.remove(&effect) else {
            return;
        };
        match result {
            Ok(files) => self.succeeded(now, &uid, &work, files),
            Err(failure) => self.failed(now, &uid, &work, failure),
        }
    }

    fn succeeded(&mut self, now: Instant, uid: &PodUid, work: &Work, files: Vec<Name>) {
        let Some(running) = self.slots.get_mut(uid).and_then(|slot| slot.running.as_mut()) else {
            return;
        };
        running.failures = 0;
        match (&mut running.stage, work) {
            (Stage::Preparing { is_cleared }, Work::Clear) => {
                *is_cleared = true;
                self.maybe_assemble(now, uid);
            }
            (
                Stage::Assembling {
                    is_assembled,
                    is_fetched,
                },
                work @ (Work::Assemble | Work::Fetch),
            ) => {
                *is_assembled |= *work == Work::Assemble;
                *is_fetched |= *work == Work::Fetch;
                if *is_assembled && *is_fetched {
                    self.enter(now, uid, Stage::Booting);
                }
            }
            (Stage::Booting, Work::Boot) => self.end(now, uid, Ok(())),
            (Stage::Capturing, Work::Capture) => {
                if let Some(slot) = self.slots.get_mut(uid)
                    && let Some(pending) = &mut slot.entry.current
                {
                    pending.captured = Some(files.clone());
                }
                self.keep(uid);
                self.enter(now, uid, Stage::Saving(files));
            }
            (Stage::Saving(_), Work::Save(_))
            | (Stage::Uploading, Work::Upload)
            | (Stage::Stopping, Work::Stop) => {
                self.end(now, uid, Ok(()));
            }
            _ => {}
        }
    }

    fn failed(&mut self, now: Instant, uid: &PodUid, work: &Work, cause: WorkFailure) {
        let Some(running) = self.slots.get_mut(uid).and_then(|slot| slot.running.as_mut()) else {
            return;
        };
        running.failures += 1;
        let tries = running.failures;
        let can_retry = match (work, cause.kind) {
            (Work::Save(_), WorkFailureKind::Transient) => tries < SAVES_MAX,
            (Work::Boot | Work::Capture | Work::Stop, WorkFailureKind::Unreachable) => tries < ASKS_MAX,
            _ => false,
        };
        if can_retry {
            let pauses = self.settings.workflow;
            let pause = backoff(pauses.retry_from, pauses.retry_to, tries - 1, running.waiter.0);
            self.timers.set(Timer::Retry(uid.clone()), Some(now.plus(pause)));
            self.outputs
                .push_back(Output::Note(format!("{}; trying again ({tries})", cause.message)));
            return;
        }
        let is_restore = matches!(running.order.verb, Verb::Restore { .. });
        let kind = match (work, cause.kind) {
            (Work::Boot | Work::Capture | Work::Stop, WorkFailureKind::Gone) => NodeFailureKind::SandboxGone,
            (Work::Fetch, WorkFailureKind::Fatal) => NodeFailureKind::Crash,
            (Work::Boot, WorkFailureKind::Fatal) if is_restore => NodeFailureKind::Crash,
            (Work::Capture | Work::Save(_), _) => NodeFailureKind::Crash,
            _ => NodeFailureKind::Failed,
        };
        let code = if kind == NodeFailureKind::Crash {
            Code::DataLoss
        } else {
            cause.code
        };
        self.end(
            now,
            uid,
            Err(NodeFailure {
                code,
                message: cause.message,
                kind,
            }),
        );
    }

    /// The operation is over: what became of the sandbox is noted, kept on disk, then told.
    fn end(&mut self, now: Instant, uid: &PodUid, result: NodeReply) {
        let Some(slot) = self.slots.get_mut(uid) else {
            return;
        };
        let Some(running) = &mut slot.running else { return };
        let others: Vec<EffectId> = running.pending.keys().copied().collect();
        running.pending.clear();
        let waiter = running.waiter;
        let is_boot = matches!(running.order.verb, Verb::Run { .. } | Verb::Restore { .. });
        let is_final = match &result {
            Ok(()) => true,
            Err(failure) => matches!(
                failure.kind,
                NodeFailureKind::Crash | NodeFailureKind::SandboxGone
            ),
        };
        let sandbox = match (&result, is_boot) {
            (Ok(()), true) => Some(Sandbox::Running),
            (Err(failure), true) if failure.kind == NodeFailureKind::Failed => Some(Sandbox::Stopped),
            (Err(failure), false) if failure.kind == NodeFailureKind::Failed => Some(Sandbox::Running),
            _ => None,
        };
        match (sandbox, &mut slot.entry.hosted) {
            (Some(sandbox), Some(hosted)) => hosted.sandbox = sandbox,
            (None, hosted) if !matches!(running.order.verb, Verb::Upload { .. }) => *hosted = None,
            _ => {}
        }
        if is_final {
            slot.entry.current = None;
            // An upload is repeated safely; what concerns the sandbox must not be.
            if !matches!(running.order.verb, Verb::Upload { .. } | Verb::Stop) {
                slot.entry.last = Some(Done {
                    op: running.op,
                    result: result.clone(),
                });
            }
        }
        running.stage = Stage::Ending(result);
        self.timers.set(Timer::Retry(uid.clone()), None);
        for effect in others {
            self.effects.remove(&effect);
            self.outputs.push_back(Output::Cancel(effect));
        }
        self.pulls.handle(now, pull::Input::Unwant(waiter));
        self.heed_pulls(now);
        self.keep(uid);
        self.changed(now);
    }

    /// A boot that a Stop overtakes: its callers are told, its steps are ended.
    fn supersede(&mut self, now: Instant, uid: &PodUid) {
        let Some(slot) = self.slots.get_mut(uid) else {
            return;
        };
        let Some(running) = slot.running.take() else {
            return;
        };
        for effect in running.pending.keys() {
            self.effects.remove(effect);
            self.outputs.push_back(Output::Cancel(*effect));
        }
        for caller in running.callers {
            let message = format!("operation {} was stopped by a newer order", running.op);
            self.outputs.push_back(Output::Reply(
                caller,
                Err(failure(Code::Aborted, message, NodeFailureKind::Failed)),
            ));
        }
        self.timers.set(Timer::Retry(uid.clone()), None);
        self.pulls.handle(now, pull::Input::Unwant(running.waiter));
        self.heed_pulls(now);
    }

    fn kept(&mut self, now: Instant, effect: EffectId, result: Result<(), String>) {
        let Some(uid) = self.effects.remove(&effect) else {
            return;
        };
        let Some(running) = self.slots.get_mut(&uid).and_then(|slot| slot.running.as_mut()) else {
            return;
        };
        if running.pending.remove(&effect).is_none() {
            return;
        }
        if let (Err(why), false) = (&result, matches!(running.stage, Stage::Ending(_))) {
            // What cannot be remembered must not be begun.
            let message = format!("the node cannot keep its journal: {why}");
            return self.end(
                now,
                &uid,
                Err(failure(Code::Unavailable, message, NodeFailureKind::Failed)),
            );
        }
        match running.stage.clone() {
            Stage::Ending(reply) => {
                let callers = core::mem::take(&mut running.callers);
                if let Some(slot) = self.slots.get_mut(&uid) {
                    slot.running = None;
                }
                for caller in callers {
                    self.reply(caller, reply.clone());
                }
            }
            Stage::Preparing { .. } => self.maybe_assemble(now, &uid),
            Stage::Booting => self.resume_stage(&uid, Work::Boot),
            Stage::Capturing => self.resume_stage(&uid, Work::Capture),
            Stage::Stopping => self.resume_stage(&uid, Work::Stop),
            Stage::Assembling { .. } | Stage::Saving(_) | Stage::Uploading => {}
        }
    }

    fn resume_stage(&mut self, uid: &PodUid, work: Work) {
        if self.running(uid).is_some_and(|r| r.pending.is_empty()) {
            self.work(uid, work);
        }
    }

    /// Bundles are laid out when the directories are clear and every image is here.
    fn maybe_assemble(&mut self, now: Instant, uid: &PodUid) {
        let Some(running) = self.running(uid) else { return };
        let is_ready = running.stage == (Stage::Preparing { is_cleared: true }) && running.images.is_empty();
        if is_ready {
            let is_fetched = !matches!(running.order.verb, Verb::Restore { .. });
            self.enter(
                now,
                uid,
                Stage::Assembling {
                    is_assembled: false,
                    is_fetched,
                },
            );
        }
    }

    fn heed_pulls(&mut self, now: Instant) {
        while let Some(output) = self.pulls.poll_output() {
            match output {
                pull::Output::Start(image, attempt) => self.outputs.push_back(Output::Pull(image, attempt)),
                pull::Output::Cancel(attempt) => self.outputs.push_back(Output::CancelPull(attempt)),
                pull::Output::Retrying(_, why) => self.outputs.push_back(Output::Note(why)),
                pull::Output::Ready(waiter, image) => {
                    if let Some(uid) = self.waiting(waiter) {
                        if let Some(running) = self.slots.get_mut(&uid).and_then(|s| s.running.as_mut()) {
                            running.images.remove(&image);
                        }
                        self.maybe_assemble(now, &uid);
                    }
                }
                pull::Output::Failed(waiter, _, PullFailure { code, message, .. }) => {
                    if let Some(uid) = self.waiting(waiter) {
                        self.end(now, &uid, Err(failure(code, message, NodeFailureKind::Failed)));
                    }
                }
            }
        }
        self.timers
            .set(Timer::Pulls, self.pulls.poll_timeout().map(|(at, _)| at));
    }

    fn waiting(&self, waiter: Waiter) -> Option<PodUid> {
        let is_waiting = |slot: &Slot| {
            slot.running
                .as_ref()
                .is_some_and(|r| r.waiter == waiter && matches!(r.stage, Stage::Preparing { .. }))
        };
        self.slots
            .iter()
            .find(|(_, slot)| is_waiting(slot))
            .map(|(uid, _)| uid.clone())
    }

    fn worker(&mut self, now: Instant, uid: PodUid, described: Described) {
        let slot = self.slots.entry(uid.clone()).or_default();
        if slot.described.as_ref() == Some(&described) {
            return;
        }
        let is_restarted = slot
            .described
            .as_ref()
            .is_some_and(|before| before.incarnation != described.incarnation);
        let alive = described.sandbox.clone();
        let last_op = described.last_op;
        slot.described = Some(described);
        if let Some(running) = &slot.running {
            let is_lost =
                is_restarted && matches!(running.stage, Stage::Booting | Stage::Capturing | Stage::Stopping);
            if is_lost {
                let message = format!("worker {uid} was restarted");
                self.end(
                    now,
                    &uid,
                    Err(failure(Code::Unavailable, message, NodeFailureKind::SandboxGone)),
                );
            }
        } else {
            self.take_note_of(&uid, alive, last_op);
        }
        self.changed(now);
    }

    /// With no operation under way, what ateom says about the sandbox is the truth.
    fn take_note_of(&mut self, uid: &PodUid, alive: Option<Alive>, last_op: Option<OpId>) {
        let Some(slot) = self.slots.get_mut(uid) else {
            return;
        };
        let before = slot.entry.hosted.clone();
        // A checkpoint may have been taken although nobody heard of it: its files are the actor then,
        // and its sandbox is expected to be gone. The operation's repetition finds out.
        let is_sleeping = slot
            .entry
            .current
            .as_ref()
            .is_some_and(|p| matches!(p.verb, Verb::Checkpoint { .. }));
        // What ateom said before it heard of the operation that brought the actor is old news.
        let is_old = matches!((&slot.entry.hosted, last_op), (Some(h), Some(op)) if h.op != op);
        match (&mut slot.entry.hosted, alive) {
            _ if is_sleeping => {}
            (Some(_), None) if is_old => {}
            (Some(hosted), Some(alive)) if alive.actor == hosted.actor.name => {
                hosted.sandbox = alive.sandbox;
                hosted.op = alive.op.unwrap_or(hosted.op);
            }
            // Something that this node does not remember: the worker is not free.
            (hosted, Some(alive)) => {
                *hosted = Some(Hosted {
                    actor: ActorKey::new("", alive.actor),
                    incarnation: Incarnation(0),
                    op: alive.op.unwrap_or(OpId {
                        replica: ReplicaId(0),
                        seq: 0,
                    }),
                    sandbox: alive.sandbox,
                });
            }
            (Some(hosted), None) if hosted.sandbox == Sandbox::Stopped => {}
            (hosted, None) => *hosted = None,
        }
        if slot.entry.hosted != before {
            if slot.entry.hosted.is_none() {
                self.outputs
                    .push_back(Output::Note(format!("worker {uid} lost its sandbox")));
            }
            self.keep(uid);
        }
    }

    fn worker_lost(&mut self, now: Instant, uid: &PodUid) {
        let Some(slot) = self.slots.get_mut(uid) else {
            return;
        };
        if slot.described.take().is_none() {
            return;
        }
        if slot
            .running
            .as_ref()
            .is_some_and(|r| !matches!(r.stage, Stage::Ending(_) | Stage::Saving(_)))
        {
            let message = format!("worker {uid} is gone");
            self.end(
                now,
                uid,
                Err(failure(Code::Unavailable, message, NodeFailureKind::SandboxGone)),
            );
        } else if let Some(slot) = self.slots.get_mut(uid)
            && slot.running.is_none()
            && slot.entry.current.as_ref().is_none_or(|p| p.captured.is_none())
        {
            slot.entry.hosted = None;
            self.keep(uid);
        }
        self.changed(now);
    }

    fn changed(&mut self, now: Instant) {
        self.is_changed = true;
        if !self.is_reporting {
            self.timers.set(Timer::Report, Some(now));
        }
    }

    fn report(&mut self) {
        self.is_reporting = true;
        self.is_changed = false;
        self.row.sequence += 1;
        let workers = self.slots.iter().filter_map(|(uid, slot)| {
            let described = slot.described.as_ref()?;
            Some(Sighting {
                key: described.key.clone(),
                pod_uid: uid.clone(),
                incarnation: described.incarnation.clone(),
                ip: described.ip.clone(),
                node: self.row.name.clone(),
                duty: described.duty,
                highest_fence: slot.entry.highest,
                hosting: slot.entry.hosted.as_ref().map(|h| Hosting {
                    actor: h.actor.clone(),
                    incarnation: h.incarnation,
                }),
            })
        });
        let report = Report {
            node: self.row.clone(),
            workers: workers.collect(),
        };
        self.outputs.push_back(Output::Report(report));
    }

    fn reported(&mut self, now: Instant, answer: &Result<Duration, String>) {
        self.is_reporting = false;
        let pause = match answer {
            Ok(_) if self.is_changed => Duration::ZERO,
            Ok(every) => *every,
            Err(_) => self.settings.workflow.retry_to / 10,
        };
        self.timers.set(Timer::Report, Some(now.plus(pause)));
    }

    fn retry(&mut self, now: Instant, uid: &PodUid) {
        let Some(stage) = self.running(uid).map(|r| r.stage.clone()) else {
            return;
        };
        self.enter(now, uid, stage);
    }

    fn reply(&mut self, id: RequestId, reply: NodeReply) {
        self.outputs.push_back(Output::Reply(id, reply));
    }
}

impl Machine for Node {
    type Input = Input;
    type Output = Output;
    type Timer = Timer;

    fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Start { entries, fences } => self.start(now, entries, fences),
            Input::Order(id, order) => self.order(now, id, *order),
            Input::CallerGone(id) => {
                // The operation goes on: whoever asks next joins it, or gets its result.
                for slot in self.slots.values_mut() {
                    if let Some(running) = &mut slot.running {
                        running.callers.remove(&id);
                    }
                }
            }
            Input::Worker(uid, described) => self.worker(now, uid, described),
            Input::WorkerLost(uid) => self.worker_lost(now, &uid),
            Input::Worked(effect, result) => self.worked(now, effect, result),
            Input::Kept(effect, result) => self.kept(now, effect, result),
            Input::Pull(input) => {
                self.pulls.handle(now, input);
                self.heed_pulls(now);
            }
            Input::Reported(answer) => self.reported(now, &answer),
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        self.timers.next().map(|(at, timer)| (at, timer.clone()))
    }

    fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.expired(now) {
            match timer {
                Timer::Pulls => {
                    self.pulls.handle_timeout(now);
                    self.heed_pulls(now);
                }
                Timer::Report => {
                    if !self.is_reporting {
                        self.report();
                    }
                }
                Timer::Retry(uid) => self.retry(now, &uid),
            }
        }
    }
}

fn is_hosted(hosted: &Hosted, order: &Order) -> bool {
    let is_known_life = order.incarnation != Incarnation(0) && hosted.incarnation != Incarnation(0);
    hosted.actor.name == order.actor.name
        && (hosted.actor.atespace.is_empty() || hosted.actor.atespace == order.actor.atespace)
        && (!is_known_life || hosted.incarnation == order.incarnation)
}

fn failure(code: Code, message: impl Into<String>, kind: NodeFailureKind) -> NodeFailure {
    NodeFailure {
        code,
        message: message.into(),
        kind,
    }
}

fn no_worker(uid: &PodUid) -> NodeFailure {
    failure(
        Code::NotFound,
        format!("no worker {uid} on this node"),
        NodeFailureKind::SandboxGone,
    )
}

fn stale(of: Fenced, highest: Fence, what: &dyn core::fmt::Display) -> NodeFailure {
    let message = format!("a newer order for {what} is known: fence {highest}");
    failure(
        Code::FailedPrecondition,
        message,
        NodeFailureKind::StaleFence { of, highest },
    )
}

/// The place that an order's snapshot is at, or goes to.
pub fn place_of(verb: &Verb) -> Option<&Place> {
    match verb {
        Verb::Restore { from, .. } => Some(from),
        Verb::Checkpoint { to, .. } => Some(to),
        Verb::Run { .. } | Verb::Upload { .. } | Verb::Stop => None,
    }
}
