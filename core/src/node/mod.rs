//! The node's side: orders in, one mutating operation per actor and per worker, and answers that stay
//! the same however often a question is repeated.
//!
//! The node remembers, on disk, the highest fence it has seen of each actor and each worker, and how
//! the last operation on each worker ended. Its memory wins over the store's (design section 4): an
//! order below a known fence is refused with the highest that is known; an order that names a known
//! operation joins it while it runs and gets its recorded result afterwards.

mod admission;
mod fences;
pub mod journal;
mod looks;
pub mod operation;
pub mod order;
mod promises;
mod sessions;
mod sightings;
mod steps;
pub mod work;

use crate::digits::Digits;
use crate::effect::{NodeFailureKind, NodeReply, NodeRow, Verb};
use crate::failure::Code;
use crate::id::{ActorKey, EffectId, Fence, Name, OpId, PodUid, ReplicaId, RequestId};
use crate::machine::Machine;
use crate::pull::{self, Attempt, PullFailure, Pulls, Waiter};
use crate::registry::Report;
use crate::session::{Answered, Session};
use crate::settings::Settings;
use crate::table::Moved;
use crate::time::Instant;
use crate::timers::Timers;
use admission::failure;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use fences::Fences;
use looks::Age;
use operation::Event;
use order::is_place_of_uploads;
use promises::{Keep, Owed, Shown};

pub use journal::{Done, Entry, Forgotten, Hosted, Kept, Memory, Pending, Sandbox};
pub use order::{Alive, Described, Order, place_of};
pub use work::{Work, WorkFailure, WorkFailureKind, WorkResult};

/// How often a snapshot that is safe on this node is tried to be saved before it is called lost.
const SAVES_MAX: u32 = 8;
/// How many workers that are not there are remembered.
const ABSENT_MAX: usize = 1024;
/// How often ateom is asked before it is called unreachable.
const ASKS_MAX: u32 = 4;

/// What happens to a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// It begins, with what it kept on disk.
    Start(Memory),
    /// A control plane orders.
    Order(RequestId, Box<Order>),
    /// Whoever ordered has left.
    CallerGone(RequestId),
    /// A worker is there, or has changed.
    Worker(PodUid, Described),
    /// A worker does not answer. It may run all the same, and so may the sandbox in it. This is what is known
    /// of it without its own word: not its incarnation, and not what it hosts.
    WorkerSilent(PodUid, Described),
    /// A worker is not there any more.
    WorkerLost(PodUid),
    /// A worker has answered what it has, or could not be asked.
    Looked(EffectId, Result<Described, String>),
    /// A step has ended.
    Worked(EffectId, WorkResult),
    /// The disk has it.
    Kept(EffectId, Result<(), String>),
    /// A pull has moved, or ended.
    Pull(pull::Input),
    /// The control plane has answered a report, or could not be reached.
    Reported(Result<Answered, String>),
}

/// What a node asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Perform a step.
    Work(EffectId, Work, Arc<Order>),
    /// End a step or a look; no answer is waited for.
    Cancel(EffectId),
    /// Ask a worker what it has, now: what it said before does not count.
    Look(EffectId, PodUid),
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
    /// Tell a worker for how long its actor may run. Nobody waits for an answer: what the worker says of
    /// itself tells.
    Tend {
        /// The worker.
        worker: PodUid,
        /// The actor.
        actor: ActorKey,
        /// The template's namespace and name.
        template: (Name, Name),
        /// What it is told.
        tend: Tend,
    },
    /// Something that an operator is to be told.
    Note(String),
    /// The operation on this worker, the pull of this image, or this node's session has come into another state.
    Moved(Name, Moved),
}

/// What a worker is told about its actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tend {
    /// It may run until then.
    Extend(Instant),
    /// It shall be held still.
    Freeze,
    /// It may go on, until then.
    Thaw(Instant),
}

/// Why a node wants to be woken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// A pull's deadline.
    Pulls,
    /// The next report is due.
    Report,
    /// The session ends.
    Session,
    /// A step is tried again.
    Retry(PodUid),
    /// A worker is asked again what it has.
    Look(PodUid),
}

impl Digits for Timer {
    fn digits(&self) -> u64 {
        match self {
            Timer::Pulls => 0,
            Timer::Report => 1,
            Timer::Session => 2,
            Timer::Retry(uid) => uid.digits(),
            Timer::Look(uid) => !uid.digits(),
        }
    }
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    settings: Settings,
    row: NodeRow,
    slots: BTreeMap<PodUid, Slot>,
    fences: Fences,
    /// Workers that are gone for long, and that the disk is still to forget.
    forgotten: Vec<PodUid>,
    pulls: Pulls,
    effects: BTreeMap<EffectId, PodUid>,
    /// What the disk has been given and has not answered.
    keeps: BTreeMap<EffectId, Keep>,
    /// Answers that wait for the disk.
    owed: Vec<Owed>,
    timers: Timers<Timer>,
    next: u64,
    session: Session,
    /// When the report was sent that has not been answered.
    reporting: Option<Instant>,
    is_changed: bool,
    outputs: VecDeque<Output>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Slot {
    described: Option<Described>,
    entry: Entry,
    running: Option<Running>,
    /// The journal knows it, and nobody has said yet whether it is still there.
    is_awaited: bool,
    /// It was there, and is not any more.
    is_lost: bool,
    /// Nobody knows of it, or nobody any more: the higher, the later that began.
    absent: Option<u64>,
    /// Its ateom does not answer.
    is_silent: bool,
    /// It has been asked what it has.
    look: Option<EffectId>,
    /// An operation has begun there since this node started.
    is_touched: bool,
    /// The highest fence of it that the disk has.
    kept: Fence,
    /// The highest promise of it that the disk knows to be void.
    kept_void: Fence,
    /// The checkpoint that was refused last, because it could not be noted.
    refused: Option<OpId>,
}

/// An operation under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Running {
    op: OpId,
    order: Arc<Order>,
    /// Who waits for it, and which fences each has shown.
    callers: BTreeMap<RequestId, Shown>,
    stage: Stage,
    /// Steps that have been asked for and have not ended.
    pending: BTreeMap<EffectId, Step>,
    /// Images that are still being pulled, by waiter.
    images: BTreeSet<Name>,
    waiter: Waiter,
    failures: u32,
    /// The journal had it when it was ordered: an earlier atelet may have begun it.
    is_resumed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    Keep,
    Work(Work),
}

/// Where an operation stands. Within a stage, steps run side by side.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Stage {
    /// The order is kept on disk, then what was there before is cleared; images are pulled meanwhile.
    Preparing { is_cleared: bool },
    /// Bundles are laid out while the snapshot is fetched.
    Assembling { is_assembled: bool, is_fetched: bool },
    /// ateom boots or restores.
    Booting,
    /// ateom lets a frozen sandbox go on.
    Thawing,
    /// ateom checkpoints.
    Capturing,
    /// The files of the checkpoint are stored.
    Saving(Vec<Name>),
    /// A local snapshot is uploaded.
    Uploading,
    /// ateom ends what runs; then the order is answered like this.
    Stopping(NodeReply),
    /// The result is kept on disk.
    Ending(NodeReply),
}

impl Node {
    /// A node that has not started. `row.incarnation` must be drawn afresh for every process.
    pub fn new(row: NodeRow, settings: Settings) -> Node {
        Node {
            row,
            slots: BTreeMap::new(),
            fences: Fences::default(),
            forgotten: Vec::new(),
            pulls: Pulls::new(settings.pull),
            session: Session::new(settings.node.on_lapse, 0),
            settings,
            effects: BTreeMap::new(),
            keeps: BTreeMap::new(),
            owed: Vec::new(),
            timers: Timers::default(),
            next: 1,
            reporting: None,
            is_changed: true,
            outputs: VecDeque::new(),
        }
    }

    fn start(&mut self, now: Instant, memory: Memory) {
        let Memory {
            entries,
            fences,
            floor,
        } = memory;
        self.fences = Fences::kept(fences, floor);
        let sessions = entries.values().filter_map(|entry| entry.hosted.as_ref());
        let remembered = sessions.map(|hosted| hosted.session).max().unwrap_or(0);
        self.session = Session::new(self.settings.node.on_lapse, remembered);
        for (uid, entry) in entries {
            // An upload that was under way is begun anew when it is ordered again.
            if is_place_of_uploads(&uid) {
                continue;
            }
            let is_awaited = !uid.is_empty();
            self.slots.insert(
                uid,
                Slot {
                    kept: entry.highest,
                    kept_void: entry.voided,
                    entry,
                    // Orders that concern no worker are remembered, too.
                    is_awaited,
                    ..Slot::default()
                },
            );
        }
        self.timers.set(Timer::Report, Some(now));
    }

    fn order(&mut self, now: Instant, id: RequestId, order: Order) {
        let order = order.in_its_place();
        if let Err(failure) = self.admit(now, &order) {
            return self.turn_away(Some(id), &order, failure);
        }
        let uid = order.worker.clone();
        let op = order.op.unwrap_or_else(|| self.nameless());
        self.raise_fences(&order);
        let Some(slot) = self.slots.get(&uid) else {
            return;
        };

        // While something else is under way, what was done before it may be about to be undone.
        if let Some(done) = &slot.entry.last
            && order.op == Some(done.op)
            && slot.running.as_ref().is_none_or(|running| running.op == op)
        {
            let result = done.result.clone();
            return self.recall(Some(id), &order, Shown::by(&order), result);
        }
        // Whoever was told that a checkpoint was not begun has the actor serve on: it is not taken later, because
        // its order comes twice.
        let is_refused = slot.refused == Some(op) && slot.running.is_none();
        if is_refused && matches!(order.verb, Verb::Checkpoint { .. }) {
            let message = format!("operation {op} was not begun, and is not any more");
            let refusal = failure(Code::Unavailable, message, NodeFailureKind::NotBegun);
            return self.reply(Some(id), Err(refusal));
        }
        if let Some(running) = &slot.running {
            let is_same_wish = running.order.actor == order.actor && running.order.verb == order.verb;
            if running.op == op || (is_same_wish && order.op.is_none()) {
                let shown = Shown::by(&order);
                return self.befall(&uid, Event::Join, |node| node.join(&uid, id, shown));
            }
            let is_boot = matches!(running.order.verb, Verb::Run { .. } | Verb::Restore { .. });
            if order.verb != Verb::Stop || !running.order.is_of_life_of(&order) || !is_boot {
                let message = format!("operation {} is under way on worker {uid}", running.op);
                return self.reply(
                    Some(id),
                    Err(failure(Code::Aborted, message, NodeFailureKind::Busy)),
                );
            }
        }
        self.answer_or_begin(now, Some(id), op, Arc::new(order));
    }

    /// One more waits for the operation under way.
    fn join(&mut self, uid: &PodUid, caller: RequestId, shown: Shown) {
        if let Some(running) = self.slots.get_mut(uid).and_then(|slot| slot.running.as_mut()) {
            running.callers.insert(caller, shown);
        }
    }

    /// Answers what has happened already or cannot be begun, and begins what can. A boot that is under way
    /// is overtaken.
    fn answer_or_begin(&mut self, now: Instant, caller: Option<RequestId>, op: OpId, order: Arc<Order>) {
        let uid = order.worker.clone();
        let Some(slot) = self.slots.get_mut(&uid) else {
            return;
        };
        let hosts_other = slot.entry.hosted.as_ref().is_some_and(|h| !h.is_of(&order));
        if order.verb == Verb::Stop && hosts_other {
            // It is not there; what was promised to it here is taken back all the same.
            slot.entry.void(order.worker_fence);
            let shown = Shown::voiding(&order);
            return self.recall(caller, &order, shown, Ok(()));
        }
        // A boot whose sandbox is alive has happened; only its answer was lost (S04). Whoever names no operation asks
        // for nothing else than that the actor runs here.
        let is_booted = matches!(order.verb, Verb::Run { .. } | Verb::Restore { .. })
            && slot.entry.hosted.as_ref().is_some_and(|h| {
                let is_meant = h.op == op || (order.op.is_none() && h.is_of(&order));
                is_meant && matches!(h.sandbox, Sandbox::Running | Sandbox::Frozen)
            });
        if is_booted {
            return self.recall(caller, &order, Shown::by(&order), Ok(()));
        }
        // Nothing is cleared under the feet of what is alive there: begun before this atelet was, or not
        // yet ended by what was to end it.
        let alive = slot.described.as_ref().and_then(|d| d.sandbox.as_ref());
        let shown = Shown::by(&order);
        if let (Verb::Run { .. } | Verb::Restore { .. }, Some(alive)) = (&order.verb, alive) {
            if alive.op == Some(op) && matches!(alive.sandbox, Sandbox::Running | Sandbox::Frozen) {
                return self.recall(caller, &order, shown, Ok(()));
            }
            // What the journal has there too will not go away by itself: the order is from before it, as a store
            // that has lost writes gives it. The worker is not the actor's by that order.
            let is_here_to_stay = slot.entry.hosted.as_ref().is_some_and(|h| h.is_settled_in(alive));
            let message = format!("worker {uid} is busy with actor {}", alive.actor);
            let refusal = if is_here_to_stay {
                failure(Code::FailedPrecondition, message, NodeFailureKind::Occupied)
            } else {
                failure(Code::Aborted, message, NodeFailureKind::Busy)
            };
            return self.turn_away(caller, &order, refusal);
        }
        self.befall(&uid, Event::order(&order.verb), |node| {
            node.supersede(now, &uid);
            node.begin(now, caller, op, order);
        });
    }

    fn begin(&mut self, now: Instant, caller: Option<RequestId>, op: OpId, order: Arc<Order>) {
        let uid = order.worker.clone();
        self.look_away(&uid);
        let waiter = Waiter(self.next);
        let Some(slot) = self.slots.get_mut(&uid) else {
            return;
        };
        slot.is_touched = true;
        let is_resumed = slot
            .entry
            .current
            .as_ref()
            .is_some_and(|pending| pending.op == op);
        let captured = match &slot.entry.current {
            Some(pending) if pending.op == op || pending.is_meant_by(&order) => pending.captured.clone(),
            _ => None,
        };
        if matches!(order.verb, Verb::Run { .. } | Verb::Restore { .. }) {
            slot.entry.hosted = Some(Hosted {
                actor: order.actor.clone(),
                incarnation: order.incarnation,
                template: order.template.clone(),
                op,
                session: order.session,
                sandbox: Sandbox::Busy,
            });
        } else if let Some(hosted) = &mut slot.entry.hosted
            && hosted.is_of(&order)
        {
            hosted.sandbox = Sandbox::Busy;
            if order.verb == Verb::Thaw {
                hosted.session = order.session;
            }
            if order.verb == Verb::Stop {
                // The boot that is undone by this has no success to tell of any more, from now on: an atelet that dies
                // finds the sandbox gone, and not that it has stopped it.
                slot.entry.last.take_if(|done| done.op == hosted.op);
            }
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
            (Verb::Stop, _) => Stage::Stopping(Ok(())),
            (Verb::Thaw, _) => Stage::Thawing,
        };
        slot.running = Some(Running {
            op,
            order: order.clone(),
            callers: caller
                .map(|caller| (caller, Shown::by(&order)))
                .into_iter()
                .collect(),
            stage: stage.clone(),
            pending: BTreeMap::new(),
            images: BTreeSet::new(),
            waiter,
            failures: 0,
            is_resumed,
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
                self.work_when_kept(uid, Work::Clear);
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
            Stage::Booting | Stage::Thawing => self.set_running(now, uid),
            Stage::Capturing => self.work_when_kept(uid, Work::Capture),
            Stage::Saving(files) => self.work(uid, Work::Save(files)),
            Stage::Uploading => self.work(uid, Work::Upload),
            Stage::Stopping(_) => self.work_when_kept(uid, Work::Stop),
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
        self.pass_to_last_owner(uid);
        let effect = self.effect();
        let Some(running) = self.slots.get_mut(uid).and_then(|slot| slot.running.as_mut()) else {
            return;
        };
        self.effects.insert(effect, uid.clone());
        running.pending.insert(effect, Step::Work(work.clone()));
        self.outputs
            .push_back(Output::Work(effect, work, running.order.clone()));
    }

    /// Has the disk take what is known of a worker, and what the operation there goes on by.
    fn keep(&mut self, uid: &PodUid) {
        let life = self.running(uid).map(|running| running.order.life());
        let effect = self.keep_with(uid, life);
        if let Some(running) = self.slots.get_mut(uid).and_then(|slot| slot.running.as_mut()) {
            running.pending.extend(effect.map(|effect| (effect, Step::Keep)));
        }
    }

    fn effect(&mut self) -> EffectId {
        let effect = EffectId(self.next);
        self.next += 1;
        effect
    }

    /// An operation that no control plane has named. No other run of any atelet has it: ateom, which remembers
    /// what it has done, does not take it for one that is over.
    fn nameless(&mut self) -> OpId {
        let run = self.row.incarnation.digits() << 32;
        let seq = run.wrapping_add(self.next);
        self.next += 1;
        OpId {
            replica: ReplicaId(0),
            seq,
        }
    }

    fn running(&self, uid: &PodUid) -> Option<&Running> {
        self.slots.get(uid)?.running.as_ref()
    }

    fn heed_pulls(&mut self, now: Instant) {
        while let Some(output) = self.pulls.poll_output() {
            match output {
                pull::Output::Start(image, attempt) => self.outputs.push_back(Output::Pull(image, attempt)),
                pull::Output::Cancel(attempt) => self.outputs.push_back(Output::CancelPull(attempt)),
                pull::Output::Retrying(_, why) => self.outputs.push_back(Output::Note(why)),
                pull::Output::Moved(image, moved) => self.outputs.push_back(Output::Moved(image, moved)),
                pull::Output::Ready(waiter, image) => {
                    if let Some(uid) = self.waiting(waiter) {
                        self.befall(&uid, Event::Pulled, |node| node.pulled(now, &uid, &image));
                    }
                }
                pull::Output::Failed(waiter, _, PullFailure { code, message, .. }) => {
                    if let Some(uid) = self.waiting(waiter) {
                        let failed = Err(failure(code, message, NodeFailureKind::Failed));
                        self.befall(&uid, Event::Unpulled, |node| node.end(now, &uid, failed));
                    }
                }
            }
        }
        self.timers
            .set(Timer::Pulls, self.pulls.poll_timeout().map(|(at, _)| at));
    }

    fn pulled(&mut self, now: Instant, uid: &PodUid, image: &Name) {
        if let Some(running) = self.slots.get_mut(uid).and_then(|slot| slot.running.as_mut()) {
            running.images.remove(image);
        }
        self.maybe_assemble(now, uid);
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

    fn retry(&mut self, now: Instant, uid: &PodUid) {
        let Some(stage) = self.running(uid).map(|r| r.stage.clone()) else {
            return;
        };
        self.befall(uid, Event::Retry, |node| node.enter(now, uid, stage));
    }

    fn reply(&mut self, caller: Option<RequestId>, reply: NodeReply) {
        self.outputs.extend(caller.map(|id| Output::Reply(id, reply)));
    }
}

impl Machine for Node {
    type Input = Input;
    type Output = Output;
    type Timer = Timer;

    fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Start(memory) => self.start(now, memory),
            Input::Order(id, order) => self.order(now, id, *order),
            Input::CallerGone(id) => {
                // The operation goes on: whoever asks next joins it, or gets its result.
                self.forgive(id);
                for slot in self.slots.values_mut() {
                    if let Some(running) = &mut slot.running {
                        running.callers.remove(&id);
                    }
                }
            }
            Input::Worker(uid, described) => self.worker(now, uid, described),
            Input::WorkerSilent(uid, known) => self.worker_silent(now, &uid, known),
            Input::WorkerLost(uid) => self.worker_lost(now, &uid),
            Input::Looked(effect, answer) => self.looked(now, effect, answer),
            Input::Worked(effect, result) => self.worked(now, effect, result),
            Input::Kept(effect, result) => self.kept(now, effect, result),
            Input::Pull(input) => {
                self.pulls.handle(now, input);
                self.heed_pulls(now);
            }
            Input::Reported(answer) => self.reported(now, answer),
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
                    if self.reporting.is_none() {
                        self.report(now);
                    }
                }
                Timer::Session => self.session_ends(now),
                Timer::Retry(uid) => self.retry(now, &uid),
                Timer::Look(uid) => self.weigh(&uid, Age::Unknown),
            }
        }
    }
}
