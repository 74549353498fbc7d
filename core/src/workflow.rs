//! One workflow: from a request, or a wish of the reconciler, to its verdict.
//!
//! A workflow takes the actor's lease, asks [`plan::next`] what to do about the record, does it, and
//! asks again, until the goal is reached or cannot be. At most one effect of it is in flight, besides
//! renewals of its lease. When the lease is lost nothing further leaves the machine.

use crate::actor::{Actor, Assignment, Change, State};
use crate::catalog::{Catalog, Template};
use crate::effect::{Fenced, NodeCall, NodeFailureKind, NodeReply, StoreError, StoreOp, StoreReply, Verb};
use crate::failure::Failure;
use crate::id::{ActorKey, LeaseToken, Name, NodeName, OpId, Version, WorkerKey};
use crate::lease::{self, Keeper};
use crate::machine::Machine;
use crate::plan::{self, CallOf, CallVerb, Facts, Goal, Next, Then, WishedChange};
use crate::registry::{Fact, Going, Registry};
use crate::settings::Settings;
use crate::time::{Instant, backoff};
use crate::worker::Worker;
use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// How often the store is asked again before a caller that waits for the lease is told.
const TRIES_WITHOUT_LEASE: u32 = 4;
/// How often a workflow moves past a node's fence before it gives up.
const CLAIMS_MAX: u32 = 5;
/// How many operations one workflow may name: far more than any path through the plan.
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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Workflow {
    goal: Goal,
    key: ActorKey,
    token: LeaseToken,
    lease: Keeper,
    deadline: Instant,
    step: Step,
    /// How often the current store operation failed.
    failures: u32,
    /// How often in a row the node could not be asked, or was busy.
    call_failures: u32,
    /// When the current step is tried again.
    wake: Option<Instant>,
    actor: Option<Box<Actor>>,
    promised: Option<Box<Worker>>,
    leaving: Option<Assignment>,
    outcome: Option<(CallOf, NodeReply)>,
    is_undoing: bool,
    is_freed: bool,
    avoid: BTreeSet<WorkerKey>,
    claims: u32,
    ops: u64,
    verdict: Option<Result<(), Failure>>,
    /// The verdict has been given, and is given once.
    is_told: bool,
    outputs: VecDeque<Output>,
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
    Delete,
    Promise(Box<Worker>),
    /// Reading the row of a worker that is to be freed.
    ReadRow(Box<Assignment>),
    Free {
        from: Version,
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
            outcome: None,
            is_undoing: false,
            is_freed: false,
            avoid: BTreeSet::new(),
            claims: 0,
            ops: 0,
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

    /// Whether it has asked for the lease.
    pub fn is_exclusive(&self) -> bool {
        !matches!(self.step, Step::Load | Step::Over)
    }

    /// What it is doing, for those who ask.
    pub fn step(&self) -> &'static str {
        match self.step {
            Step::Load => "Load",
            Step::Acquire { .. } => "Acquire",
            Step::AskHolder(_) => "AskHolder",
            Step::Write { .. } => "Write",
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
                Ok(reply) => {
                    self.failures = 0;
                    self.replied(now, reply, world);
                }
                Err(error) => self.store_failed(now, &error, world),
            },
        }
        self.heed_lease(now, world);
    }

    /// The node answered.
    pub fn called(&mut self, now: Instant, reply: NodeReply, world: World<'_>) {
        let Step::Call(_, call) = &self.step else { return };
        let call = *call;
        match &reply {
            Err(failure)
                if matches!(
                    failure.kind,
                    NodeFailureKind::Occupied | NodeFailureKind::SandboxGone
                ) =>
            {
                if let Some(on) = self.actor.as_ref().and_then(|a| a.assignment()) {
                    self.avoid.insert(on.worker.clone());
                }
            }
            Err(failure) if matches!(failure.kind, NodeFailureKind::Busy | NodeFailureKind::Unreachable) => {}
            _ => self.call_failures = 0,
        }
        self.outcome = Some((call, reply));
        self.decide(now, world);
        self.heed_lease(now, world);
    }

    /// What is known of workers has changed: a boot on one that is gone is not waited for. (A checkpoint
    /// is: its node knows whether it was taken.)
    pub fn nudge(&mut self, now: Instant, world: World<'_>) {
        let is_booting = match &self.step {
            Step::Call(_, call) => matches!(call, CallOf::Recorded(_)),
            step => *step == Step::Rest,
        };
        let is_gone = match self.actor.as_deref().map(|a| &a.state) {
            Some(State::Resuming { on, .. }) => matches!(
                world.registry.fact(on),
                Fact::Gone(Going::Worker | Going::Restarted)
            ),
            _ => false,
        };
        if is_booting && is_gone {
            self.cancel_call();
            self.outcome = None;
            self.decide(now, world);
            self.heed_lease(now, world);
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to wake it.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.step == Step::Over {
            return None;
        }
        let lease = self.lease.poll_timeout().map(|(at, _)| at);
        let deadline = self.verdict.is_none().then_some(self.deadline);
        [self.wake, lease, deadline].into_iter().flatten().min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant, world: World<'_>) {
        if self.step == Step::Over {
            return;
        }
        self.lease.handle_timeout(now);
        self.heed_lease(now, world);
        if self.verdict.is_none() && now >= self.deadline {
            self.cancel_call();
            let failure = Failure::deadline(world.settings.workflow.deadline.as_secs());
            self.finish(now, Err(failure));
        } else if self.wake.is_some_and(|at| now >= at) {
            self.wake = None;
            if self.step == Step::Rest {
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

    fn replied(&mut self, now: Instant, reply: StoreReply, world: World<'_>) {
        match (core::mem::replace(&mut self.step, Step::Over), reply) {
            (Step::Load, StoreReply::Actor(actor)) => self.loaded(now, actor, world),
            (Step::Acquire { .. }, StoreReply::Acquired(actor)) => {
                self.lease.handle(now, lease::Input::Granted);
                self.actor = actor;
                // Decided when the keeper confirms that the grant came in time.
                self.step = Step::Rest;
            }
            (Step::Acquire { .. }, StoreReply::Held(holder)) => self.held(now, holder),
            (Step::AskHolder(holder), StoreReply::Missing) => {
                self.enter(now, Step::Acquire { steal: Some(holder) });
            }
            (Step::AskHolder(_), _) => self.end(Err(Failure::lease_held())),
            (
                Step::Write {
                    actor,
                    then,
                    is_release,
                },
                StoreReply::Done,
            ) => {
                self.written(now, actor, then, is_release, world);
            }
            (
                Step::Write {
                    actor,
                    then,
                    is_release,
                },
                StoreReply::ActorConflict(stored),
            ) => {
                // Our own write, whose first acknowledgement was lost?
                if stored.as_deref() == Some(&*actor) {
                    self.written(now, actor, then, is_release, world);
                } else {
                    self.reload(now, stored, world);
                }
            }
            (Step::Delete, StoreReply::Done | StoreReply::ActorConflict(None)) => {
                self.lease.handle(now, lease::Input::Release);
                self.end(Ok(()));
            }
            (Step::Delete, StoreReply::ActorConflict(stored)) => self.reload(now, stored, world),
            (Step::Promise(worker), StoreReply::Done) => {
                self.promised = Some(worker);
                self.decide(now, world);
            }
            (Step::Promise(worker), StoreReply::WorkerConflict(stored)) => {
                if stored.as_deref() == Some(&*worker) {
                    self.promised = Some(worker);
                }
                self.decide(now, world);
            }
            (Step::ReadRow(on), StoreReply::Worker(row)) => self.free(now, &on, row.as_deref(), world),
            (Step::Free { .. }, StoreReply::Done) => self.freed(now, world),
            (Step::Free { to, .. }, StoreReply::WorkerConflict(stored)) => {
                let promise = self.leaving_or_current();
                match (stored, promise) {
                    (Some(row), Some(on)) if *row != *to => self.free(now, &on, Some(&row), world),
                    _ => self.freed(now, world),
                }
            }
            (Step::Release, _) => self.over(),
            (Step::Over, _) => {}
            // An answer that does not fit its question is a defect of the store; ask again.
            (step, _) => {
                self.step = step;
                self.store_failed(
                    now,
                    &StoreError::Unavailable("the answer does not fit".into()),
                    world,
                );
            }
        }
    }

    fn loaded(&mut self, now: Instant, actor: Option<Box<Actor>>, world: World<'_>) {
        self.actor = actor;
        let next = match (&self.goal, &self.actor) {
            (Goal::Resume(_), None) => Next::Finish(Err(Failure::actor_not_found(&self.key.name))),
            // A worker may be promised to an actor that is no more.
            (_, None) => Next::CallAgain,
            (_, Some(actor)) => plan::next(&self.goal, actor, &self.facts(world)),
        };
        match next {
            Next::Finish(result) => self.end(result),
            _ => self.enter(now, Step::Acquire { steal: None }),
        }
    }

    fn held(&mut self, now: Instant, holder: LeaseToken) {
        if holder.replica == self.token.replica {
            self.end(Err(Failure::lease_held()));
        } else {
            self.enter(now, Step::AskHolder(holder));
        }
    }

    fn written(&mut self, now: Instant, actor: Box<Actor>, then: Then, is_release: bool, world: World<'_>) {
        let left = self
            .actor
            .as_ref()
            .and_then(|before| before.assignment())
            .filter(|_| actor.assignment().is_none());
        if !self.is_freed {
            self.leaving = left.cloned();
        }
        self.is_freed = false;
        self.promised = None;
        self.actor = Some(actor);
        if is_release {
            self.lease.handle(now, lease::Input::Release);
        }
        match then {
            Then::GoOn => self.decide(now, world),
            Then::Finish => self.finish(now, Ok(())),
            Then::FinishCrashed => {
                let failure = Failure::crashed(&self.key.name);
                self.finish(now, Err(failure));
            }
        }
    }

    /// Somebody else wrote. Under our claim that is nobody's business of ours: go on from what is
    /// stored. Under another claim, our time is over.
    fn reload(&mut self, now: Instant, stored: Option<Box<Actor>>, world: World<'_>) {
        let Some(stored) = stored else {
            self.actor = None;
            let failure = Failure::actor_not_found(&self.key.name);
            return self.finish(now, Err(failure));
        };
        let known = self.actor.as_ref().and_then(|a| a.claim);
        let is_overtaken = stored.claim != known && !stored.is_claimed_by(self.token);
        self.actor = Some(stored);
        if is_overtaken {
            self.finish(now, Err(Failure::conflict()));
        } else {
            self.decide(now, world);
        }
    }

    fn decide(&mut self, now: Instant, world: World<'_>) {
        self.step = Step::Rest;
        self.wake = None;
        let Some(actor) = self.actor.clone() else {
            return self.decide_on_nothing(now, world);
        };
        let next = plan::next(&self.goal, &actor, &self.facts(world));
        match next {
            Next::Finish(result) => self.finish(now, result),
            Next::Place { nodes } => self.place(now, &actor, nodes.as_deref(), world),
            Next::Write { change, then } => self.write(now, &actor, change, then, world),
            Next::Delete => self.enter(now, Step::Delete),
            Next::Call {
                call,
                node,
                worker,
                verb,
            } => self.call(now, &actor, call, node, worker, verb, world),
            Next::Free(on) => match world.registry.row(&on.worker) {
                Some(row) if is_promise(row, &self.key, &on) => self.free(now, &on, Some(row), world),
                _ => self.enter(now, Step::ReadRow(on)),
            },
            Next::CallAgain => self.rest(now, world),
        }
    }

    /// There is no such actor; a worker may still be promised to it.
    fn decide_on_nothing(&mut self, now: Instant, world: World<'_>) {
        if let Goal::Settle { worker, .. } = &self.goal
            && let Some(row) = world.registry.row(worker)
            && let Some(on) = Assignment::of(row)
            && is_promise(row, &self.key, &on)
        {
            return self.free(now, &on, Some(row), world);
        }
        let result = match self.goal {
            Goal::Settle { .. } => Ok(()),
            _ => Err(Failure::actor_not_found(&self.key.name)),
        };
        self.finish(now, result);
    }

    fn facts<'a>(&'a self, world: World<'a>) -> Facts<'a> {
        let actor = self.actor.as_deref();
        let declared = actor.and_then(|a| world.catalog.template(&a.template_namespace, &a.template_name));
        let promised = match &self.goal {
            Goal::Settle { worker, .. } => world
                .registry
                .row(worker)
                .filter(|row| row.hosts.as_ref().is_some_and(|hosted| hosted.actor == self.key)),
            _ => self.promised.as_deref(),
        };
        Facts {
            token: self.token,
            template: template_of(actor, declared),
            golden: declared.and_then(|t| t.golden_snapshot.as_ref()),
            worker: actor
                .and_then(|a| a.assignment())
                .map_or(Fact::Present, |on| world.registry.fact(on)),
            promised,
            leaving: self.leaving.as_ref(),
            outcome: self.outcome.as_ref().map(|(call, reply)| (call, reply)),
            is_undoing: self.is_undoing,
            is_freed: self.is_freed,
        }
    }

    fn place(&mut self, now: Instant, actor: &Actor, nodes: Option<&[NodeName]>, world: World<'_>) {
        let facts = self.facts(world);
        let Some(template) = facts.template else {
            let failure = Failure::template_missing("LoadActorForResume", &actor.template_name);
            return self.finish(now, Err(failure));
        };
        let pools = world.catalog.eligible(template, &actor.selector);
        if pools.is_empty() {
            return self.finish(now, Err(Failure::no_pool()));
        }
        let seed = self.token.replica.0 ^ self.token.seq.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let Some(worker) = world.registry.place(&pools, nodes, &self.avoid, seed) else {
            let failure = match nodes {
                Some(nodes) => {
                    let names: Vec<&str> = nodes.iter().map(Name::as_str).collect();
                    Failure::local_snapshot_unreachable(&self.key.name, &names.join(", "))
                }
                None => Failure::no_free_worker(),
            };
            return self.finish(now, Err(failure));
        };
        let template = (actor.template_namespace.clone(), actor.template_name.clone());
        let promised = worker.promised(actor.key.clone(), actor.incarnation, template);
        self.enter(now, Step::Promise(Box::new(promised)));
    }

    fn write(&mut self, now: Instant, actor: &Actor, change: WishedChange, then: Then, world: World<'_>) {
        let mut at_least = Version::FIRST;
        if matches!(
            change,
            WishedChange::Resume(..) | WishedChange::Suspend | WishedChange::Pause
        ) {
            // How an earlier operation of this workflow ended says nothing about the one that begins.
            self.outcome = None;
            self.is_undoing = false;
        }
        let change = match change {
            WishedChange::Exactly(change) => change,
            WishedChange::ClaimAbove(highest) => {
                self.claims += 1;
                if self.claims > CLAIMS_MAX {
                    let failure = Failure::fences_ran_away(&self.key.name, actor.version);
                    return self.finish(now, Err(failure));
                }
                self.outcome = None;
                at_least = Version(highest.0).next();
                Change::Claim
            }
            WishedChange::Resume(on, boot) => Change::Resume {
                op: self.next_op(),
                on: *on,
                boot,
            },
            WishedChange::Suspend => {
                let Some(template) = self.template(actor, world) else {
                    let failure = Failure::template_missing("LoadActorForSuspend", &actor.template_name);
                    return self.finish(now, Err(failure));
                };
                let op = self.next_op();
                Change::Suspend {
                    op,
                    snapshot: snapshot_uri(actor, &template, &snapshot_name(actor, op)),
                }
            }
            WishedChange::Pause => {
                let op = self.next_op();
                Change::Pause {
                    op,
                    snapshot: snapshot_name(actor, op),
                }
            }
            WishedChange::Uploaded(name) => {
                let Some(template) = self.template(actor, world) else {
                    let failure = Failure::template_missing("LoadActorForSuspend", &actor.template_name);
                    return self.finish(now, Err(failure));
                };
                Change::Uploaded {
                    snapshot: snapshot_uri(actor, &template, &name),
                }
            }
        };
        // A claim that moves past a node's fence must raise ours although the lease is the same.
        let mut before = actor.clone();
        if at_least > Version::FIRST {
            before.claim = None;
        }
        match before.after(&change, Some(self.token), at_least) {
            Ok(next) => {
                let is_release = then != Then::GoOn;
                self.enter(
                    now,
                    Step::Write {
                        actor: Box::new(next),
                        then,
                        is_release,
                    },
                );
            }
            // The plan never wishes for it; if it did, nothing is written and the caller may retry.
            Err(illegal) => {
                let failure = Failure::new(crate::failure::Code::Internal, format!("{illegal}"));
                self.finish(now, Err(failure));
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn call(
        &mut self,
        now: Instant,
        actor: &Actor,
        call: CallOf,
        node: NodeName,
        worker: Option<crate::effect::Target>,
        verb: CallVerb,
        world: World<'_>,
    ) {
        let Some(template) = self.template(actor, world) else {
            let failure = Failure::template_missing("LoadActorForResume", &actor.template_name);
            return self.finish(now, Err(failure));
        };
        let verb = match verb {
            CallVerb::Exactly(verb) => verb,
            CallVerb::Upload(name) => Verb::Upload {
                to: snapshot_uri(actor, &template, &name),
                name,
            },
            CallVerb::Boot(worker) => match world.catalog.assets(&(worker.namespace, worker.pool)) {
                Ok(assets) => Verb::Run { assets },
                Err(error) => return self.finish(now, Err(Failure::assets(&error))),
            },
        };
        let op = match call {
            CallOf::Recorded(op) => op,
            CallOf::Stop | CallOf::Upload => self.next_op(),
        };
        self.is_undoing |= call == CallOf::Stop;
        let fence = actor.claim.map(|claim| claim.fence).unwrap_or_default();
        let call_data = NodeCall {
            node,
            worker,
            actor: self.key.clone(),
            incarnation: actor.incarnation,
            template,
            fence,
            op,
            verb,
        };
        self.enter(now, Step::Call(Box::new(call_data), call));
    }

    fn template(&self, actor: &Actor, world: World<'_>) -> Option<Arc<Template>> {
        let declared = || {
            world
                .catalog
                .template(&actor.template_namespace, &actor.template_name)
                .cloned()
        };
        actor.pinned.clone().or_else(declared)
    }

    /// Writes the row of a worker as free, if its promise is still the one that the actor left.
    fn free(&mut self, now: Instant, on: &Assignment, row: Option<&Worker>, world: World<'_>) {
        match row {
            Some(row) if is_promise(row, &self.key, on) => {
                let above = match &self.outcome {
                    Some((_, Err(failure))) => match failure.kind {
                        NodeFailureKind::StaleFence {
                            of: Fenced::Worker,
                            highest,
                        } => Version(highest.0).next(),
                        _ => Version::FIRST,
                    },
                    _ => Version::FIRST,
                };
                let to = Box::new(row.freed(above));
                self.enter(
                    now,
                    Step::Free {
                        from: row.version,
                        to,
                    },
                );
            }
            _ => self.freed(now, world),
        }
    }

    fn freed(&mut self, now: Instant, world: World<'_>) {
        if self.leaving.take().is_none() {
            let is_current = self.actor.as_ref().is_some_and(|a| a.assignment().is_some());
            self.is_freed = is_current;
            if !is_current {
                return self.finish(now, Ok(()));
            }
        }
        self.decide(now, world);
    }

    fn leaving_or_current(&self) -> Option<Assignment> {
        self.leaving
            .clone()
            .or_else(|| self.actor.as_ref().and_then(|a| a.assignment()).cloned())
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
        if self.step == Step::Release || self.step == Step::Over {
            // Best effort: the lease runs out by itself.
            return self.over();
        }
        if is_final {
            return self.finish(now, Err(Failure::store(error)));
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
                lease::Output::Lost(cause) => {
                    if self.verdict.is_none() {
                        self.cancel_call();
                        self.verdict = Some(Err(Failure::lost_lease(cause.describe())));
                    }
                    self.over();
                }
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
        self.verdict = Some(result);
        let is_held = self.lease.is_valid(now);
        self.lease.handle(now, lease::Input::Release);
        if is_held {
            self.enter(now, Step::Release)
        } else {
            self.over()
        }
    }

    /// The verdict stands, and there is no lease to give back.
    fn end(&mut self, result: Result<(), Failure>) {
        self.verdict = Some(result);
        self.over();
    }

    fn over(&mut self) {
        self.step = Step::Over;
        self.wake = None;
        if !core::mem::replace(&mut self.is_told, true) {
            let verdict = self.verdict.clone().unwrap_or(Ok(()));
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
                self.lease.handle(now, lease::Input::Acquire);
                // The keeper's own request is this very operation.
                let _ = self.lease.poll_output();
                StoreOp::AcquireLease {
                    key,
                    token: self.token,
                    ttl: self.lease.ttl(),
                    steal: *steal,
                }
            }
            Step::AskHolder(holder) => StoreOp::GetSession(holder.replica),
            Step::Write {
                actor, is_release, ..
            } => StoreOp::PutActor {
                expect: self.actor.as_ref().map(|a| a.version),
                actor: actor.clone(),
                release: is_release.then_some(self.token),
            },
            Step::Delete => StoreOp::DeleteActor {
                key,
                expect: self.actor.as_ref().map(|a| a.version).unwrap_or_default(),
                release: self.token,
            },
            Step::Promise(worker) => StoreOp::PutWorker {
                expect: Some(Version(worker.version.0 - 1)),
                worker: worker.clone(),
            },
            Step::ReadRow(on) => StoreOp::GetWorker(on.worker.clone()),
            Step::Free { from, to } => StoreOp::PutWorker {
                expect: Some(*from),
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

    fn next_op(&mut self) -> OpId {
        self.ops += 1;
        assert!(self.ops < OPS_MAX, "a workflow that names ever more operations");
        OpId {
            replica: self.token.replica,
            seq: self.token.seq * OPS_MAX + self.ops,
        }
    }
}

/// Sorts by version within an actor's name, and is unique by its operation.
fn snapshot_name(actor: &Actor, op: OpId) -> Name {
    format!("{}-{:010}-{op}", actor.key.name, actor.version.0).into()
}

/// Where a snapshot of that name goes in the object store.
fn snapshot_uri(actor: &Actor, template: &Template, name: &Name) -> Name {
    format!("{}/{}/{name}", template.snapshot_location, actor.key.atespace).into()
}

fn is_promise(row: &Worker, actor: &ActorKey, on: &Assignment) -> bool {
    row.hosts
        .as_ref()
        .is_some_and(|h| h.actor == *actor && (h.fence == on.fence || on.fence.0 == 0))
}

fn template_of<'a>(actor: Option<&'a Actor>, declared: Option<&'a Arc<Template>>) -> Option<&'a Template> {
    actor
        .and_then(|a| a.pinned.as_deref())
        .or_else(|| declared.map(|t| &**t))
}
