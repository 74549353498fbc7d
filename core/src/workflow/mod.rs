//! One workflow: from a request, or a wish of the reconciler, to its verdict.
//!
//! A workflow takes the actor's lease, asks [`plan::next`] what to do about the record, does it, and
//! asks again, until the goal is reached or cannot be. At most one effect of it is in flight, besides
//! renewals of its lease. When the lease is lost nothing further leaves the machine.

mod acts;
mod answers;

use crate::actor::{Actor, Assignment, Setback, State};
use crate::catalog::Catalog;
use crate::effect::{NodeCall, NodeFailureKind, NodeReply, StoreError, StoreOp, StoreReply, Verb};
use crate::failure::Failure;
use crate::id::{ActorKey, Fence, LeaseToken, OpId, Version, WorkerKey};
use crate::lease::{self, Keeper};
use crate::machine::Machine;
use crate::plan::{CallOf, Goal, Then};
use crate::registry::{Fact, Going, Registry};
use crate::settings::Settings;
use crate::table::Moved;
use crate::time::{Instant, backoff};
use crate::worker::{Edition, Worker};
use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};

/// How often the store is asked again before a caller that waits for the lease is told.
const TRIES_WITHOUT_LEASE: u32 = 4;
/// How often a workflow moves past a node's fence before it gives up.
const CLAIMS_MAX: u32 = 5;
/// How often a workflow points the actor at a worker before its caller is told to come back: each of them has
/// failed, and each takes two operations.
const PLACES_MAX: u32 = 32;
/// How many operations one workflow may name: far more than any path through the plan, where the world stands
/// still.
const OPS_MAX: u64 = 256;

/// What a workflow may look at, and never changes.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// Nodes and workers.
    pub registry: &'a Registry,
    /// Templates and pools.
    pub catalog: &'a Catalog,
    /// Durations.
    pub settings: &'a Settings,
}

/// One workflow.
///
/// Thousands of them wait in the middle of a node call, and do nothing but renew their leases. What that touches
/// comes first, so that it lies on as few lines of memory as possible.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Workflow {
    step: Step,
    /// When the current step is tried again.
    wake: Option<Instant>,
    deadline: Instant,
    verdict: Option<Box<Result<(), Failure>>>,
    promised: Option<Box<Worker>>,
    key: ActorKey,
    token: LeaseToken,
    outputs: VecDeque<Output>,
    lease: Keeper,
    goal: Goal,
    /// How often the current store operation failed.
    failures: u32,
    /// How often in a row the node could not be asked, or was busy.
    call_failures: u32,
    actor: Option<Box<Actor>>,
    leaving: Option<Box<Assignment>>,
    /// The promise that the reconciler found, as it was before the lease was taken.
    stray: Option<Fence>,
    outcome: Option<Box<(CallOf, NodeReply)>>,
    avoid: BTreeSet<WorkerKey>,
    ops: u64,
    /// The recorded operation that was called for last, and how often.
    called: Option<(OpId, u32)>,
    /// The call that the record does not name, and its operation: while the record stands as it is, each try is the
    /// same one.
    errand: Option<(CallOf, OpId)>,
    claims: u32,
    places: u32,
    /// A worker is avoided whose node has begun another session than is known here.
    is_behind: bool,
    is_undoing: bool,
    /// The verdict has been given, and is given once.
    is_told: bool,
}

/// The effect that a workflow waits for. Each can be repeated as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    /// Reading the actor without a lease: most Resumes find it running.
    Load,
    Acquire {
        steal: Option<LeaseToken>,
    },
    /// Asking whether the replica that holds the lease is alive.
    AskHolder(LeaseToken),
    Write {
        actor: Box<Actor>,
        then: Then,
        is_release: bool,
    },
    /// Noting what the actor leaves behind before it is deleted.
    Bury,
    Delete,
    Promise(Box<Worker>),
    /// Reading the row of a worker that is to be freed.
    ReadRow(Box<Assignment>),
    Free {
        from: Edition,
        to: Box<Worker>,
    },
    Call(Box<NodeCall>, CallOf),
    /// Pausing before the node is called again.
    Rest,
    Release,
    Over,
}

/// Which of its effects an answer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// The step it is at.
    Step,
    /// The renewal of its lease.
    Renewal,
}

/// What a workflow asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// A store operation.
    Store(Lane, StoreOp),
    /// A node call.
    Node(Box<NodeCall>),
    /// The answer to the node call no longer matters.
    CancelNode,
    /// Its lease has come into another state.
    Moved(Moved),
    /// It has written down that the actor has lost something, or cannot go on.
    Setback(Box<Setback>),
    /// It is over.
    Verdict(Result<(), Failure>),
}

impl Workflow {
    /// A workflow that begins at `now`. Resumes and the reconciler look before they take the lease.
    pub fn start(
        goal: Goal,
        key: ActorKey,
        token: LeaseToken,
        now: Instant,
        settings: &Settings,
    ) -> Workflow {
        let step = match goal {
            Goal::Resume(_) | Goal::Settle { .. } => Step::Load,
            Goal::Suspend | Goal::Pause | Goal::Delete | Goal::Revert => Step::Acquire { steal: None },
        };
        let mut workflow = Workflow {
            goal,
            key,
            token,
            lease: Keeper::new(settings.lease, token.replica.0 ^ token.seq),
            deadline: now.plus(settings.workflow.deadline),
            step: Step::Load,
            failures: 0,
            call_failures: 0,
            wake: None,
            actor: None,
            promised: None,
            leaving: None,
            stray: None,
            outcome: None,
            is_undoing: false,
            avoid: BTreeSet::new(),
            claims: 0,
            places: 0,
            is_behind: false,
            ops: 0,
            called: None,
            errand: None,
            verdict: None,
            is_told: false,
            outputs: VecDeque::new(),
        };
        workflow.enter(now, step);
        workflow
    }

    /// The actor.
    pub fn key(&self) -> &ActorKey {
        &self.key
    }

    /// What it is for.
    pub fn goal(&self) -> &Goal {
        &self.goal
    }

    /// The record as this workflow last read or wrote it.
    pub fn actor(&self) -> Option<&Actor> {
        self.actor.as_deref()
    }

    /// The acquisition that it works under, or wants to.
    pub fn token(&self) -> LeaseToken {
        self.token
    }

    /// What it is doing, for those who ask.
    pub fn step(&self) -> &'static str {
        match self.step {
            Step::Load => "Load",
            Step::Acquire { .. } => "Acquire",
            Step::AskHolder(_) => "AskHolder",
            Step::Write { .. } => "Write",
            Step::Bury => "Bury",
            Step::Delete => "Delete",
            Step::Promise(_) => "Promise",
            Step::ReadRow(_) => "ReadRow",
            Step::Free { .. } => "Free",
            Step::Call(..) => "Call",
            Step::Rest => "Rest",
            Step::Release => "Release",
            Step::Over => "Over",
        }
    }

    /// The worker that is being vacated by the call that is under way.
    pub fn vacating(&self) -> Option<&Assignment> {
        let actor = self.actor.as_deref()?;
        match &self.step {
            Step::Call(call, _) if matches!(call.verb, Verb::Checkpoint { .. } | Verb::Stop) => {
                actor.assignment()
            }
            _ => None,
        }
    }

    /// The worker that is about to be claimed and must not be given to another workflow.
    pub fn reserved(&self) -> Option<&WorkerKey> {
        match &self.step {
            Step::Promise(worker) => Some(&worker.key),
            _ => self.promised.as_ref().map(|w| &w.key),
        }
    }

    /// The store answered.
    pub fn stored(
        &mut self,
        now: Instant,
        lane: Lane,
        answer: Result<StoreReply, StoreError>,
        world: World<'_>,
    ) {
        self.expire_lease(now, world);
        if matches!(self.step, Step::Over) {
            return;
        }
        match lane {
            Lane::Renewal => self.lease.handle(
                now,
                match answer {
                    Ok(StoreReply::Done) => lease::Input::Renewed,
                    Ok(_) => lease::Input::NotOwner,
                    Err(_) => lease::Input::Failed,
                },
            ),
            Lane::Step => match answer {
                Ok(reply) => self.replied(now, reply, world),
                Err(error) => self.store_failed(now, &error, world),
            },
        }
        self.heed_lease(now, world);
    }

    /// A process that has slept may hear of an answer before it hears of the time: nothing comes of the one under a lease
    /// that the other has ended.
    fn expire_lease(&mut self, now: Instant, world: World<'_>) {
        self.lease.handle_timeout(now);
        self.heed_lease(now, world);
    }

    /// Another workflow of this replica has the lease, or has asked for it.
    pub fn excluded(&mut self) {
        self.end(Err(Failure::lease_held()));
    }

    /// The node answered.
    pub fn called(&mut self, now: Instant, reply: NodeReply, world: World<'_>) {
        self.expire_lease(now, world);
        let Step::Call(_, call) = &self.step else { return };
        let call = *call;
        if let Err(failure) = &reply {
            self.learn_to_avoid(call, failure.kind);
        }
        match &reply {
            Err(failure)
                if matches!(
                    failure.kind,
                    NodeFailureKind::Busy | NodeFailureKind::SessionOver | NodeFailureKind::Unreachable
                ) => {}
            _ => self.call_failures = 0,
        }
        self.outcome = Some(Box::new((call, reply)));
        self.decide(now, world);
        self.heed_lease(now, world);
    }

    /// A worker that could not take the actor is not asked again by this workflow.
    fn learn_to_avoid(&mut self, call: CallOf, why: NodeFailureKind) {
        let is_avoided = match (call, why) {
            (CallOf::Thaw(_), _) => false,
            (_, NodeFailureKind::Occupied | NodeFailureKind::SandboxGone) => true,
            (CallOf::Recorded(_), NodeFailureKind::SessionOver) => {
                self.is_behind = true;
                true
            }
            _ => false,
        };
        let on = self.actor.as_ref().and_then(|actor| actor.assignment());
        if let (true, Some(on)) = (is_avoided, on) {
            self.avoid.insert(on.worker.clone());
        }
    }

    /// What is known of workers has changed: a boot on one that is gone is not waited for, and nothing is of
    /// a node whose session is over. (A checkpoint is waited for otherwise: its node knows whether it was
    /// taken.)
    pub fn nudge(&mut self, now: Instant, world: World<'_>) {
        let is_booting = match &self.step {
            Step::Call(_, call) => matches!(call, CallOf::Recorded(_)),
            step => matches!(step, Step::Rest),
        };
        let is_gone = match self.actor.as_deref().map(|a| &a.state) {
            Some(State::Resuming { on, .. }) => matches!(
                world.registry.fact(on),
                Fact::Gone(Going::Worker | Going::Restarted | Going::Session)
            ),
            Some(State::Suspending { .. } | State::Pausing { .. }) => {
                let on = self.actor.as_ref().and_then(|actor| actor.assignment());
                on.is_some_and(|on| world.registry.fact(on) == Fact::Gone(Going::Session))
            }
            _ => false,
        };
        if is_booting && is_gone {
            self.cancel_call();
            self.outcome = None;
            self.decide(now, world);
            self.heed_lease(now, world);
        }
    }

    /// Lends it an empty queue for what there will be to do: a workflow that waits has none of its own, which would
    /// be far away when it is next needed.
    pub fn lend(&mut self, queue: VecDeque<Output>) {
        if self.outputs.is_empty() {
            self.outputs = queue;
        }
    }

    /// Takes the queue back, empty, when everything that mattered has been taken.
    pub fn give_back_queue(&mut self) -> VecDeque<Output> {
        let mut queue = core::mem::take(&mut self.outputs);
        queue.clear();
        queue
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to wake it.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if matches!(self.step, Step::Over) {
            return None;
        }
        let lease = self.lease.poll_timeout().map(|(at, _)| at);
        let deadline = self.verdict.is_none().then_some(self.deadline);
        [self.wake, lease, deadline].into_iter().flatten().min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant, world: World<'_>) {
        if matches!(self.step, Step::Over) {
            return;
        }
        self.expire_lease(now, world);
        if self.verdict.is_none() && now >= self.deadline {
            self.cancel_call();
            let failure = Failure::deadline(world.settings.workflow.deadline.as_secs());
            self.finish(now, Err(failure));
        } else if self.wake.is_some_and(|at| now >= at) {
            self.wake = None;
            if matches!(self.step, Step::Rest) {
                self.outcome = None;
                self.decide(now, world);
            } else {
                self.emit(now);
            }
        }
    }

    /// Ends it from outside: the replica is going away. What it began others finish.
    pub fn abandon(&mut self, now: Instant) {
        if self.verdict.is_none() {
            self.cancel_call();
            self.finish(now, Err(Failure::shutting_down()));
        }
    }

    fn rest(&mut self, now: Instant, world: World<'_>) {
        let pauses = world.settings.workflow;
        self.wake = Some(now.plus(backoff(
            pauses.retry_from,
            pauses.retry_to,
            self.call_failures,
            self.token.seq,
        )));
        self.call_failures = self.call_failures.saturating_add(1);
        self.step = Step::Rest;
    }

    fn store_failed(&mut self, now: Instant, error: &StoreError, world: World<'_>) {
        let has_lease = self.lease.is_valid(now);
        let is_final = match error {
            StoreError::Refused(_) => true,
            StoreError::Unavailable(_) => !has_lease && self.failures + 1 >= TRIES_WITHOUT_LEASE,
        };
        if matches!(self.step, Step::Release | Step::Over) {
            // Best effort: the lease runs out by itself.
            return self.over();
        }
        if is_final || self.verdict.is_some() {
            self.verdict
                .get_or_insert_with(|| Box::new(Err(Failure::store(error))));
            return self.give_back(now);
        }
        let pauses = world.settings.workflow;
        self.wake = Some(now.plus(backoff(
            pauses.retry_from,
            pauses.retry_to,
            self.failures,
            self.token.seq,
        )));
        self.failures = self.failures.saturating_add(1);
    }

    /// Passes on what the lease keeper has to say.
    fn heed_lease(&mut self, now: Instant, world: World<'_>) {
        while let Some(output) = self.lease.poll_output() {
            match output {
                lease::Output::Acquire => {}
                lease::Output::Renew => self.outputs.push_back(Output::Store(
                    Lane::Renewal,
                    StoreOp::RenewLease {
                        key: self.key.clone(),
                        token: self.token,
                        ttl: world.settings.lease.ttl,
                    },
                )),
                lease::Output::Granted => self.decide(now, world),
                lease::Output::Moved(moved) => self.outputs.push_back(Output::Moved(moved)),
                lease::Output::Lost(cause) => {
                    if self.verdict.is_none() {
                        self.cancel_call();
                        self.verdict = Some(Box::new(Err(Failure::lost_lease(cause.describe()))));
                    }
                    if cause == lease::Cause::GrantedTooLate {
                        // It was granted all the same, and is in everybody's way until it runs out.
                        self.enter(now, Step::Release);
                    } else {
                        self.over();
                    }
                }
            }
        }
    }

    /// Where the keeper has nothing to say besides, or nothing that still matters.
    fn pass_on_moves(&mut self) {
        while let Some(output) = self.lease.poll_output() {
            if let lease::Output::Moved(moved) = output {
                self.outputs.push_back(Output::Moved(moved));
            }
        }
    }

    fn cancel_call(&mut self) {
        if matches!(self.step, Step::Call(..)) {
            self.outputs.push_back(Output::CancelNode);
        }
    }

    /// The verdict stands; the lease is given back before the caller hears of it.
    fn finish(&mut self, now: Instant, result: Result<(), Failure>) {
        self.verdict = Some(Box::new(result));
        // A lease that has been asked for is given back when it is granted, not before.
        let is_asked_for = matches!(self.step, Step::Acquire { .. }) && self.wake.is_none();
        if !is_asked_for {
            self.give_back(now);
        }
    }

    fn give_back(&mut self, now: Instant) {
        // A lease that was asked for may have been granted, although the answer was lost.
        let may_hold = self.lease.is_valid(now) || matches!(self.step, Step::Acquire { .. });
        self.lease.handle(now, lease::Input::Release);
        if may_hold {
            self.enter(now, Step::Release)
        } else {
            self.over()
        }
    }

    /// The verdict stands, and there is no lease to give back.
    fn end(&mut self, result: Result<(), Failure>) {
        self.verdict = Some(Box::new(result));
        self.over();
    }

    fn over(&mut self) {
        self.step = Step::Over;
        self.pass_on_moves();
        if !core::mem::replace(&mut self.is_told, true) {
            let verdict = self.verdict.as_deref().cloned().unwrap_or(Ok(()));
            self.outputs.push_back(Output::Verdict(verdict));
        }
    }

    fn enter(&mut self, now: Instant, step: Step) {
        self.step = step;
        self.failures = 0;
        self.wake = None;
        self.emit(now);
    }

    /// Asks for the current step's effect, for the first time or again.
    fn emit(&mut self, now: Instant) {
        let key = self.key.clone();
        let op = match &self.step {
            Step::Load => StoreOp::GetActor(key),
            Step::Acquire { steal } => {
                let steal = *steal;
                self.lease.handle(now, lease::Input::Acquire);
                // The keeper's own request is this very operation.
                self.pass_on_moves();
                StoreOp::AcquireLease {
                    key,
                    token: self.token,
                    ttl: self.lease.ttl(),
                    steal,
                }
            }
            Step::AskHolder(holder) => StoreOp::GetSession(holder.replica),
            Step::Write {
                actor, is_release, ..
            } => StoreOp::PutActor {
                expect: self.actor.as_deref().map(Actor::edition),
                actor: actor.clone(),
                release: is_release.then_some(self.token),
            },
            Step::Bury => match self.actor.as_deref().and_then(Actor::grave) {
                Some(grave) => StoreOp::PutGrave(Box::new(grave)),
                None => return self.enter(now, Step::Delete),
            },
            Step::Delete => StoreOp::DeleteActor {
                key,
                expect: self.actor.as_deref().map(Actor::edition).unwrap_or_default(),
                release: self.token,
            },
            Step::Promise(worker) => StoreOp::PutWorker {
                expect: Some(Edition::free(Version(worker.version.0 - 1))),
                worker: worker.clone(),
            },
            Step::ReadRow(on) => StoreOp::GetWorker(on.worker.clone()),
            Step::Free { from, to } => StoreOp::PutWorker {
                expect: Some(from.clone()),
                worker: to.clone(),
            },
            Step::Release => StoreOp::ReleaseLease {
                key,
                token: self.token,
            },
            Step::Call(call, _) => {
                self.outputs.push_back(Output::Node(call.clone()));
                return;
            }
            Step::Rest | Step::Over => return,
        };
        self.outputs.push_back(Output::Store(Lane::Step, op));
    }

    /// Whether this workflow has given an operation its name.
    fn has_named(&self, op: OpId) -> bool {
        op.replica == self.token.replica && op.seq / OPS_MAX == self.token.seq
    }

    /// A name for another operation. They may be used up, as by a node that begins ever new sessions: then the
    /// record is left as it is, to whoever goes on with it under names of his own.
    fn next_op(&mut self) -> Result<OpId, Failure> {
        if self.ops + 1 >= OPS_MAX {
            return Err(Failure::operations_ran_out(&self.key.name));
        }
        self.ops += 1;
        Ok(OpId {
            replica: self.token.replica,
            seq: self.token.seq * OPS_MAX + self.ops,
        })
    }

    /// The operation of a call that the record does not name: the same for every try.
    fn op_of_errand(&mut self, call: CallOf) -> Result<OpId, Failure> {
        match self.errand {
            Some((before, op)) if before == call => Ok(op),
            Some(_) | None => {
                let op = self.next_op()?;
                self.errand = Some((call, op));
                Ok(op)
            }
        }
    }
}
