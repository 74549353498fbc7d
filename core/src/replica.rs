//! One replica of the control plane: requests in, verdicts out, and the reconciler in between.
//!
//! It routes. Each request becomes an errand or a workflow; each answer of the store or a node goes
//! back to whoever asked; the registry's wishes and the sweep become workflows that nobody waits for.

mod asked;
mod collect;
mod reconcile;

use self::asked::{Asked, Note, Origin, note_of};
use self::collect::Leftovers;
use crate::actor::Setback;
use crate::catalog::Catalog;
use crate::digits::{Digits, Filed};
use crate::effect::{Discard, NodeCall, NodeFailure, NodeReply, StoreError, StoreEvent, StoreOp, StoreReply};
use crate::failure::Failure;
use crate::id::{ActorKey, EffectId, Incarnation, LeaseToken, Name, ReplicaId, RequestId, WorkerKey};
use crate::lease;
use crate::machine::Machine;
use crate::plan::{Goal, Unfinished};
use crate::registry::{Registry, Reservation};
use crate::request::{Answer, Errand, Request, Step, Verdict};
use crate::settings::Settings;
use crate::sweep::Sweep;
use crate::table::{Kind, Moved};
use crate::time::{Instant, jittered, mix};
use crate::timers::{Deadlines, Timers};
use crate::trie::Trie;
use crate::workflow::{self, Lane, Workflow, World};
use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// One replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Replica {
    id: ReplicaId,
    settings: Settings,
    catalog: Catalog,
    registry: Registry,
    flows: Trie<u64, Box<Flow>>,
    /// The workflow that a caller waits for.
    callers: Trie<RequestId, u64>,
    sweep: Sweep,
    leftovers: Leftovers,
    /// Workers that were stray at the last sweep.
    suspects: BTreeSet<WorkerKey>,
    asked: Asked,
    /// When workflows are to be woken ([`Flow::due`]).
    wakes: Deadlines<u64>,
    /// When anything else is due, except what the registry wants to be woken for.
    timers: Timers<Timer>,
    next_flow: u64,
    phase: Phase,
    outputs: VecDeque<Output>,
    /// An empty queue that is lent to the workflow that is at work.
    queue: VecDeque<workflow::Output>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Starting { has_session: bool, has_nodes: bool },
    Serving,
    Leaving,
}

/// What a renewal touches comes first: see [`Workflow`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
struct Flow {
    /// When it is to be woken.
    due: Option<Instant>,
    reserved: Option<Box<WorkerKey>>,
    workflow: Workflow,
    wanted_by: WantedBy,
    call: Option<EffectId>,
}

/// For whom a workflow runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum WantedBy {
    /// A caller who waits.
    Caller(RequestId),
    /// A caller who has left; what was begun is carried on all the same.
    Nobody,
    /// The system itself.
    Reconciler,
}

/// What a workflow is told.
enum News {
    /// That it may begin.
    Begun,
    /// The store's answer.
    Stored(Lane, Result<StoreReply, StoreError>),
    /// The node's answer.
    Called(NodeReply),
    /// That it is time.
    Woken,
    /// That what is known of workers has changed.
    Nudged,
    /// That the replica is going away.
    Abandoned,
}

/// Why a replica wants to be woken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// A workflow's lease, deadline or retry.
    Flow(u64),
    /// The replica's own session is due for renewal.
    Session,
    /// A node falls silent.
    Registry,
    /// Every promised worker's actor is looked at.
    Sweep,
    /// A transition that failed has stood still for long enough.
    Settle(Box<(ActorKey, WorkerKey)>),
    /// The lists could not be read; they are asked for again.
    Relist,
    /// What an actor has let go of may be deleted.
    Collect,
    /// What deleted actors have left behind is looked at.
    Graves,
}

impl Digits for Timer {
    fn digits(&self) -> u64 {
        match self {
            Timer::Session => 0,
            Timer::Registry => 1,
            Timer::Sweep => 2,
            Timer::Relist => 3,
            Timer::Collect => 4,
            Timer::Graves => 5,
            Timer::Flow(number) => *number,
            Timer::Settle(of) => of.0.digits(),
        }
    }
}

/// What happens to a replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// It begins: the first input.
    Start,
    /// A caller asks.
    Request(RequestId, Request),
    /// A caller has left; what it began goes on, and nobody is told.
    CallerGone(RequestId),
    /// The store answered.
    Stored(EffectId, Result<StoreReply, StoreError>),
    /// A node answered.
    Called(EffectId, NodeReply),
    /// A node has deleted what it was asked to, or not.
    Discarded(EffectId, Result<(), String>),
    /// The store's watch has news.
    Watched(StoreEvent),
    /// The operators have declared something else.
    Declared(Catalog),
    /// It is to go: leases are handed back.
    Shutdown,
}

/// What a replica asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// A store operation.
    Store(EffectId, StoreOp),
    /// A node call, to the atelet at this address.
    Node(EffectId, Name, Box<NodeCall>),
    /// Have the atelet at this address delete what nothing points at.
    Discard(EffectId, Name, Discard),
    /// The answer to an effect no longer matters; end it if that can be done.
    Cancel(EffectId),
    /// A caller's verdict.
    Reply(RequestId, Verdict),
    /// It can serve now.
    Ready,
    /// It has gone; nothing follows.
    Left,
    /// Something worth a line in the log.
    Event(Event),
}

/// What operators may want to read about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A workflow that nobody waits for has ended.
    Settled {
        /// The actor.
        actor: ActorKey,
        /// Why it could not, if it could not.
        failure: Option<Box<Failure>>,
    },
    /// An actor has lost something, or cannot go on.
    Setback {
        /// The actor.
        actor: ActorKey,
        /// What has befallen it.
        setback: Box<Setback>,
    },
    /// A lease was renewed.
    Renewed {
        /// The actor.
        actor: ActorKey,
        /// What its workflow is doing.
        step: &'static str,
    },
    /// A lease has come into another state.
    Moved {
        /// The actor.
        actor: ActorKey,
        /// From where to where.
        moved: Moved,
    },
}

impl Replica {
    /// A replica that has not started. `id` must be drawn afresh for every process.
    pub fn new(id: ReplicaId, settings: Settings, catalog: Catalog) -> Replica {
        Replica {
            id,
            registry: Registry::new(settings),
            settings,
            catalog,
            flows: Trie::default(),
            callers: Trie::default(),
            sweep: Sweep::default(),
            suspects: BTreeSet::new(),
            leftovers: Leftovers::default(),
            asked: Asked::default(),
            wakes: Deadlines::default(),
            timers: Timers::default(),
            next_flow: 1,
            phase: Phase::Starting {
                has_session: false,
                has_nodes: false,
            },
            outputs: VecDeque::new(),
            queue: VecDeque::new(),
        }
    }

    /// Who it is.
    pub fn id(&self) -> ReplicaId {
        self.id
    }

    /// What it knows of nodes and workers.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The workflows that it runs: the actor, and what is being done.
    pub fn workflows(&self) -> impl Iterator<Item = &Workflow> {
        self.flows.iter().map(|(_, flow)| &flow.workflow)
    }

    fn request(&mut self, now: Instant, id: RequestId, request: Request) {
        if self.phase == Phase::Leaving {
            return self.reply(id, Err(Failure::shutting_down()));
        }
        let (key, goal) = match request {
            Request::Resume(key, boot) => (key, Goal::Resume(boot)),
            Request::Suspend(key) => (key, Goal::Suspend),
            Request::Pause(key) => (key, Goal::Pause),
            Request::Delete(key) => (key, Goal::Delete),
            Request::Revert(key) => (key, Goal::Revert),
            Request::Heartbeat(report) => {
                let mut row = report.node.clone();
                self.registry.reported(now, report);
                // A store that loses writes may have lost that a session was declared over.
                row.lapsed = row.lapsed.max(self.registry.lapsed_of(&row.name));
                if row.session > 0 && !row.has_session() {
                    return self.reply(id, Ok(Errand::over(self.id, row.lapsed)));
                }
                let evict = self.registry.evictions(&row.name);
                let (errand, op) = Errand::heartbeat(row, self.id, &self.settings.node, evict);
                return self.errand(id, errand, op);
            }
            request => {
                let incarnation = Incarnation(mix(self.id.0 ^ mix(self.next_flow)));
                self.next_flow += 1;
                return match Errand::start(request, &self.catalog, incarnation) {
                    Step::Ask(errand, op) => self.errand(id, errand, op),
                    Step::Tell(verdict) => self.reply(id, verdict),
                };
            }
        };
        self.start(now, goal, key, WantedBy::Caller(id));
    }

    fn start(&mut self, now: Instant, goal: Goal, key: ActorKey, wanted_by: WantedBy) {
        let number = self.next_flow;
        self.next_flow += 1;
        let token = LeaseToken {
            replica: self.id,
            seq: number,
        };
        let workflow = Workflow::start(goal, key, token, now, &self.settings);
        if let WantedBy::Caller(id) = wanted_by {
            self.callers.insert(id, number);
        }
        let flow = Flow {
            workflow,
            wanted_by,
            call: None,
            reserved: None,
            due: None,
        };
        self.flows.insert(number, Box::new(flow));
        self.tell(now, number, News::Begun);
    }

    /// Tells a workflow something, performs what it asks for, and keeps what depends on its state.
    fn tell(&mut self, now: Instant, number: u64, news: News) {
        let Some(flow) = self.flows.get_mut(&number) else {
            return;
        };
        if let News::Called(reply) = &news {
            flow.call = None;
            if reply.is_ok()
                && let Some(on) = flow.workflow.vacating()
            {
                self.registry.vacated(on);
            }
        }
        let world = World {
            registry: &self.registry,
            catalog: &self.catalog,
            settings: &self.settings,
        };
        flow.workflow.lend(core::mem::take(&mut self.queue));
        match news {
            News::Begun => {}
            News::Stored(lane, answer) => flow.workflow.stored(now, lane, answer, world),
            News::Called(reply) => flow.workflow.called(now, reply, world),
            News::Woken => {
                flow.due = None;
                flow.workflow.handle_timeout(now, world);
            }
            News::Nudged => flow.workflow.nudge(now, world),
            News::Abandoned => flow.workflow.abandon(now),
        }
        let mut is_waiting = false;
        loop {
            flow.keep_reservation(&mut self.registry);
            let Some(output) = flow.workflow.poll_output() else {
                self.queue = flow.workflow.give_back_queue();
                let before = core::mem::replace(&mut flow.due, flow.workflow.poll_timeout());
                self.wakes.change(number, before, flow.due);
                // Others have their turn meanwhile.
                if is_waiting {
                    self.sweep_on(now);
                }
                return;
            };
            match output {
                workflow::Output::Store(lane, op) => {
                    if let StoreOp::AcquireLease { key, .. } = &op
                        && !self.registry.attention_mut().attend(key, number)
                    {
                        flow.workflow.excluded();
                        continue;
                    }
                    let effect = self.asked.ask(Origin::Flow(number, lane, note_of(&op)));
                    self.outputs.push_back(Output::Store(effect, op));
                }
                workflow::Output::Node(mut call) => {
                    if let Some((address, run)) = self.registry.reach(&call.node) {
                        call.run = run.clone();
                        let effect = self.asked.ask(Origin::Call(number));
                        flow.call = Some(effect);
                        if matches!(flow.wanted_by, WantedBy::Reconciler) {
                            self.sweep.waits(&Filed::new(call.actor.clone()));
                            is_waiting = true;
                        }
                        self.outputs
                            .push_back(Output::Node(effect, address.clone(), call));
                        continue;
                    }
                    let message = format!("node {} has not reported yet", call.node);
                    let world = World {
                        registry: &self.registry,
                        catalog: &self.catalog,
                        settings: &self.settings,
                    };
                    let unreachable = NodeFailure::unreachable(message);
                    flow.workflow.called(now, Err(unreachable), world);
                }
                workflow::Output::CancelNode => {
                    if let Some(effect) = flow.call.take() {
                        self.asked.answered(effect);
                        self.outputs.push_back(Output::Cancel(effect));
                    }
                }
                workflow::Output::Moved(moved) => {
                    let actor = flow.workflow.key().clone();
                    if moved.event == lease::Event::Renewed.name() {
                        let (actor, step) = (actor.clone(), flow.workflow.step());
                        self.outputs
                            .push_back(Output::Event(Event::Renewed { actor, step }));
                    }
                    self.outputs
                        .push_back(Output::Event(Event::Moved { actor, moved }));
                }
                workflow::Output::Setback(setback) => {
                    let actor = flow.workflow.key().clone();
                    let event = Event::Setback { actor, setback };
                    self.outputs.push_back(Output::Event(event));
                }
                workflow::Output::Verdict(result) => {
                    self.queue = flow.workflow.give_back_queue();
                    return self.over(now, number, result);
                }
            }
        }
    }

    fn over(&mut self, now: Instant, number: u64, result: Result<(), Failure>) {
        let Some(flow) = self.flows.remove(&number) else {
            return;
        };
        self.wakes.change(number, flow.due, None);
        if let Some(worker) = &flow.reserved {
            self.registry.reserve(worker, Reservation::Lifted);
        }
        let workflow = flow.workflow;
        let key = Filed::new(workflow.key().clone());
        self.registry.attention_mut().leave(&key, number);
        let written = workflow.actor();
        if let Some(actor) = written.filter(|actor| actor.is_claimed_by(workflow.token())) {
            self.collect_garbage_of(now, actor);
        }
        if let (Err(_), Some(actor)) = (&result, workflow.actor()) {
            self.leave_unfinished(now, actor, &workflow);
        }
        match flow.wanted_by {
            WantedBy::Caller(id) => {
                self.callers.remove(&id);
                let verdict = result.map(|()| match (workflow.goal(), workflow.actor()) {
                    (Goal::Delete, _) | (_, None) => Answer::Done,
                    (_, Some(actor)) => Answer::Actor(Box::new(actor.clone())),
                });
                self.reply(id, verdict);
            }
            WantedBy::Nobody => {}
            WantedBy::Reconciler => {
                self.sweep.settled(&key);
                let event = Event::Settled {
                    actor: workflow.key().clone(),
                    failure: result.err().map(Box::new),
                };
                self.outputs.push_back(Output::Event(event));
                self.sweep_on(now);
            }
        }
        if self.phase == Phase::Leaving && self.flows.is_empty() {
            self.store(Origin::DropSession, StoreOp::DropSession(self.id));
        }
    }

    fn errand(&mut self, id: RequestId, errand: Errand, op: StoreOp) {
        self.store(Origin::Errand(id, errand, Box::new(op.clone())), op);
    }

    fn reply(&mut self, id: RequestId, verdict: Verdict) {
        self.outputs.push_back(Output::Reply(id, verdict));
    }

    fn store(&mut self, origin: Origin, op: StoreOp) {
        let effect = self.asked.ask(origin);
        self.outputs.push_back(Output::Store(effect, op));
    }

    fn stored(&mut self, now: Instant, effect: EffectId, answer: Result<StoreReply, StoreError>) {
        let Some(origin) = self.asked.answered(effect) else {
            return;
        };
        match origin {
            Origin::Flow(number, lane, note) => {
                self.learn(note, &answer);
                self.tell(now, number, News::Stored(lane, answer));
            }
            Origin::Errand(id, errand, op) => {
                match (&*op, &answer) {
                    (_, Ok(StoreReply::NodeConflict(Some(stored)))) => {
                        self.registry.heard(now, stored.clone());
                    }
                    (StoreOp::PutNode(heard), Ok(StoreReply::NodeAt(version))) => {
                        self.registry.noted(now, heard, *version);
                    }
                    _ => {}
                }
                match errand.next(&op, answer) {
                    Step::Ask(errand, op) => self.errand(id, errand, op),
                    Step::Tell(verdict) => self.reply(id, verdict),
                }
            }
            Origin::Lapse(row) => match answer {
                Ok(StoreReply::Done) => self.registry.lapsed(now, &row),
                Ok(StoreReply::NodeConflict(Some(stored))) => self.registry.not_lapsed(now, &row, stored),
                // The registry wishes for it again.
                _ => {}
            },
            Origin::Stray(worker, guest) => {
                if let Ok(StoreReply::Actor(actor)) = answer {
                    let on = actor.as_ref().and_then(|actor| actor.assignment());
                    if on.is_none_or(|on| on.worker != worker) {
                        self.registry.condemn(&worker, &guest);
                    }
                }
            }
            Origin::Repair(key, note) => {
                self.learn(note, &answer);
                self.registry.repair_failed(&key);
            }
            Origin::Session => self.session_renewed(now, answer.is_ok()),
            Origin::ListWorkers => match answer {
                Ok(StoreReply::Workers(rows)) => {
                    self.registry.listed(rows);
                    self.maybe_ready(now);
                }
                _ => self.relist_later(now),
            },
            Origin::ListNodes => match answer {
                Ok(StoreReply::Nodes(rows)) => {
                    for row in rows {
                        self.registry.heard(now, row);
                    }
                    if let Phase::Starting { has_nodes, .. } = &mut self.phase {
                        *has_nodes = true;
                    }
                    self.maybe_ready(now);
                }
                _ => self.relist_later(now),
            },
            Origin::Collection(collection) => self.collection_stored(now, *collection, answer),
            Origin::ListGraves => self.graves_listed(now, answer),
            Origin::DropSession => self.outputs.push_back(Output::Left),
            Origin::Call(_) => {}
        }
    }

    /// What a worker write's answer says about the worker, whoever wrote.
    fn learn(&mut self, note: Note, answer: &Result<StoreReply, StoreError>) {
        match (note, answer) {
            (Note::Written(_, worker), Ok(StoreReply::Done)) => self.registry.written(*worker),
            (Note::Deleted(_, key), Ok(StoreReply::Done)) => self.registry.deleted(&key),
            (Note::Written(expected, _), Ok(StoreReply::WorkerConflict(Some(stored)))) => {
                self.registry.conflicted(expected, (**stored).clone());
            }
            (Note::Deleted(expected, _), Ok(StoreReply::WorkerConflict(Some(stored)))) => {
                self.registry.conflicted(Some(expected), (**stored).clone());
            }
            (Note::Written(_, worker), Ok(StoreReply::WorkerConflict(None))) => {
                self.registry.deleted(&worker.key)
            }
            (Note::Deleted(_, key), Ok(StoreReply::WorkerConflict(None))) => self.registry.deleted(&key),
            (_, Ok(StoreReply::Worker(Some(stored)))) => self.registry.written((**stored).clone()),
            _ => {}
        }
    }

    fn session_renewed(&mut self, now: Instant, is_done: bool) {
        if self.phase == Phase::Leaving {
            return;
        }
        let every = self.settings.session.renew_every;
        // A session that could not be renewed is tried again well before peers give it up.
        let pause = if is_done { every } else { every / 4 };
        self.timers.set(Timer::Session, Some(now.plus(pause)));
        if is_done {
            if let Phase::Starting { has_session, .. } = &mut self.phase {
                *has_session = true;
            }
            self.maybe_ready(now);
        }
    }

    fn maybe_ready(&mut self, now: Instant) {
        if self.phase
            == (Phase::Starting {
                has_session: true,
                has_nodes: true,
            })
            && self.registry.is_synced()
        {
            self.phase = Phase::Serving;
            self.timers
                .set(Timer::Sweep, Some(now.plus(self.settings.workflow.retry_from)));
            self.look_at_graves_later(now);
            self.outputs.push_back(Output::Ready);
        }
    }

    fn relist(&mut self) {
        self.timers.set(Timer::Relist, None);
        self.store(Origin::ListNodes, StoreOp::ListNodes);
        self.registry.listing();
        self.store(Origin::ListWorkers, StoreOp::ListWorkers);
    }

    fn relist_later(&mut self, now: Instant) {
        if self.phase == Phase::Leaving {
            return;
        }
        let pause = jittered(self.settings.workflow.retry_to / 5, self.id.0 ^ self.asked.next());
        self.timers.set(Timer::Relist, Some(now.plus(pause)));
    }

    fn watched(&mut self, now: Instant, event: StoreEvent) {
        match event {
            StoreEvent::Worker(worker) => self.registry.written(*worker),
            StoreEvent::WorkerGone(key) => self.registry.deleted(&key),
            StoreEvent::Node(row) => self.registry.heard(now, row),
            StoreEvent::Resync => self.relist(),
        }
    }

    /// Takes the earliest deadline that is not after `now`.
    fn expired(&mut self, now: Instant) -> Option<Timer> {
        let (_, timer) = self.poll_timeout().filter(|(at, _)| *at <= now)?;
        match timer {
            Timer::Flow(_) => self.wakes.expired(now).map(Timer::Flow),
            // It goes by its own.
            Timer::Registry => Some(timer),
            _ => self.timers.expired(now),
        }
    }

    fn shutdown(&mut self, now: Instant) {
        if self.phase == Phase::Leaving {
            return;
        }
        self.phase = Phase::Leaving;
        self.timers = Timers::default();
        for request in self.asked.give_up_errands() {
            self.reply(request, Err(Failure::shutting_down()));
        }
        let numbers: Vec<u64> = self.flows.iter().map(|(number, _)| *number).collect();
        if numbers.is_empty() {
            self.store(Origin::DropSession, StoreOp::DropSession(self.id));
        }
        for number in numbers {
            self.tell(now, number, News::Abandoned);
        }
    }
}

impl Machine for Replica {
    type Input = Input;
    type Output = Output;
    type Timer = Timer;

    fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Start => {
                let op = StoreOp::PutSession {
                    replica: self.id,
                    ttl: self.settings.session.ttl,
                };
                self.store(Origin::Session, op);
                self.relist();
            }
            Input::Request(id, request) => self.request(now, id, request),
            Input::CallerGone(id) => {
                if let Some(number) = self.callers.remove(&id)
                    && let Some(flow) = self.flows.get_mut(&number)
                {
                    flow.wanted_by = WantedBy::Nobody;
                }
            }
            Input::Stored(effect, answer) => self.stored(now, effect, answer),
            Input::Called(effect, reply) => {
                if let Some(Origin::Call(number)) = self.asked.answered(effect) {
                    self.tell(now, number, News::Called(reply));
                }
            }
            Input::Discarded(effect, result) => self.discarded(now, effect, &result),
            Input::Watched(event) => self.watched(now, event),
            Input::Declared(catalog) => self.catalog = catalog,
            Input::Shutdown => self.shutdown(now),
        }
        self.heed_registry(now);
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        let wake = self.wakes.next().map(|(at, number)| (at, Timer::Flow(*number)));
        let silence = self.registry.poll_timeout().map(|at| (at, Timer::Registry));
        let other = self.timers.next().map(|(at, timer)| (at, timer.clone()));
        earlier(earlier(wake, silence), other)
    }

    fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.expired(now) {
            match timer {
                Timer::Flow(number) => self.tell(now, number, News::Woken),
                Timer::Session => {
                    let op = StoreOp::PutSession {
                        replica: self.id,
                        ttl: self.settings.session.ttl,
                    };
                    self.store(Origin::Session, op);
                }
                Timer::Registry => self.registry.handle_timeout(now),
                Timer::Sweep => self.sweep(now),
                Timer::Settle(of) => {
                    let (actor, worker) = *of;
                    let resume = Unfinished::Undo;
                    self.settle(now, actor, Goal::Settle { worker, resume });
                }
                Timer::Relist => self.relist(),
                Timer::Collect => self.collect_on(now),
                Timer::Graves => self.look_at_graves(now),
            }
        }
        self.heed_registry(now);
    }
}

fn earlier(one: Option<(Instant, Timer)>, other: Option<(Instant, Timer)>) -> Option<(Instant, Timer)> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

impl Flow {
    /// Keeps the worker that the workflow is about to claim out of others' hands, and no other.
    fn keep_reservation(&mut self, registry: &mut Registry) {
        if self.workflow.reserved() == self.reserved.as_deref() {
            return;
        }
        let reserved = self.workflow.reserved().cloned().map(Box::new);
        if let Some(before) = core::mem::replace(&mut self.reserved, reserved) {
            registry.reserve(&before, Reservation::Lifted);
        }
        if let Some(worker) = &self.reserved {
            registry.reserve(worker, Reservation::Made);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_forgotten_when_they_have_been_told() {
        let mut replica = Replica::new(ReplicaId(1), Settings::DEFAULT, Catalog::new());
        let request = Request::Suspend(ActorKey::new("space", "a"));
        replica.handle(Instant::ORIGIN, Input::Request(RequestId(1), request));
        assert!(!replica.callers.is_empty());
        let mut told = 0;
        while let Some(output) = replica.poll_output() {
            match output {
                Output::Store(effect, _) => {
                    let refused = Err(StoreError::Refused(String::new()));
                    replica.handle(Instant::ORIGIN, Input::Stored(effect, refused));
                }
                Output::Reply(..) => told += 1,
                _ => {}
            }
        }
        assert_eq!(told, 1);
        assert!(replica.callers.is_empty() && replica.flows.is_empty());
    }
}
