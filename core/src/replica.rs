//! One replica of the control plane: requests in, verdicts out, and the reconciler in between.
//!
//! It routes. Each request becomes an errand or a workflow; each answer of the store or a node goes
//! back to whoever asked; the registry's wishes and the sweep become workflows that nobody waits for.

mod collect;
mod reconcile;

use self::collect::Leftovers;
use crate::catalog::Catalog;
use crate::collection::Collection;
use crate::digits::{Digits, Filed};
use crate::effect::{Discard, NodeCall, NodeFailure, NodeReply, StoreError, StoreEvent, StoreOp, StoreReply};
use crate::failure::Failure;
use crate::id::{
    ActorKey, EffectId, Incarnation, LeaseToken, Name, NodeName, ReplicaId, RequestId, WorkerKey,
};
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
    /// The workflow of this replica that has, or asks for, an actor's lease.
    exclusive: Trie<Filed<ActorKey>, u64>,
    sweep: Sweep,
    leftovers: Leftovers,
    /// Workers that were stray at the last sweep.
    suspects: BTreeSet<WorkerKey>,
    effects: Trie<EffectId, Origin>,
    /// When workflows are to be woken ([`Flow::due`]).
    wakes: Deadlines<u64>,
    /// When anything else is due, except what the registry wants to be woken for.
    timers: Timers<Timer>,
    next_flow: u64,
    next_effect: u64,
    phase: Phase,
    outputs: VecDeque<Output>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Starting { has_session: bool, has_nodes: bool },
    Serving,
    Leaving,
    Left,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Flow {
    workflow: Workflow,
    wanted_by: WantedBy,
    call: Option<EffectId>,
    reserved: Option<WorkerKey>,
    /// When it is to be woken.
    due: Option<Instant>,
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

/// Whom an effect's answer is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Origin {
    Flow(u64, Lane, Note),
    Call(u64),
    Errand(RequestId, Errand, Box<StoreOp>),
    Repair(WorkerKey, Note),
    Lapse(NodeName, Name, u64),
    Stray(WorkerKey),
    Collection(Box<Collection>),
    ListGraves,
    Session,
    ListWorkers,
    ListNodes,
    DropSession,
}

/// What the registry learns from an answer, whoever asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Note {
    Nothing,
    Written(Box<crate::worker::Worker>),
    Deleted(WorkerKey),
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
            exclusive: Trie::default(),
            sweep: Sweep::default(),
            suspects: BTreeSet::new(),
            leftovers: Leftovers::default(),
            effects: Trie::default(),
            wakes: Deadlines::default(),
            timers: Timers::default(),
            next_flow: 1,
            next_effect: 1,
            phase: Phase::Starting {
                has_session: false,
                has_nodes: false,
            },
            outputs: VecDeque::new(),
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
        if matches!(self.phase, Phase::Leaving | Phase::Left) {
            return self.reply(id, Err(Failure::shutting_down()));
        }
        let (key, goal) = match request {
            Request::Resume(key, boot) => (key, Goal::Resume(boot)),
            Request::Suspend(key) => (key, Goal::Suspend),
            Request::Pause(key) => (key, Goal::Pause),
            Request::Delete(key) => (key, Goal::Delete),
            Request::Revert(key) => (key, Goal::Revert),
            Request::Heartbeat(report) => {
                let row = report.node.clone();
                self.registry.reported(now, report);
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
        self.drain(now, number);
    }

    /// Performs what a workflow asks for, and keeps what depends on its state.
    fn drain(&mut self, now: Instant, number: u64) {
        loop {
            let Some(flow) = self.flows.get_mut(&number) else {
                return;
            };
            let output = flow.workflow.poll_output();
            if flow.workflow.reserved() != flow.reserved.as_ref() {
                let reserved = flow.workflow.reserved().cloned();
                let before = core::mem::replace(&mut flow.reserved, reserved.clone());
                if let Some(worker) = before {
                    self.registry.reserve(&worker, Reservation::Lifted);
                }
                if let Some(worker) = reserved {
                    self.registry.reserve(&worker, Reservation::Made);
                }
            }
            match output {
                None => {
                    let before = core::mem::replace(&mut flow.due, flow.workflow.poll_timeout());
                    return self.wakes.change(number, before, flow.due);
                }
                Some(workflow::Output::Store(lane, op)) => {
                    self.store_for(now, number, lane, op);
                }
                Some(workflow::Output::Node(call)) => self.node_for(now, number, call),
                Some(workflow::Output::CancelNode) => {
                    if let Some(effect) = flow.call.take() {
                        self.effects.remove(&effect);
                        self.outputs.push_back(Output::Cancel(effect));
                    }
                }
                Some(workflow::Output::Moved(moved)) => {
                    let actor = flow.workflow.key().clone();
                    if moved.event == lease::Event::Renewed.name() {
                        let (actor, step) = (actor.clone(), flow.workflow.step());
                        self.outputs
                            .push_back(Output::Event(Event::Renewed { actor, step }));
                    }
                    self.outputs
                        .push_back(Output::Event(Event::Moved { actor, moved }));
                }
                Some(workflow::Output::Verdict(result)) => return self.over(now, number, result),
            }
        }
    }

    fn store_for(&mut self, now: Instant, number: u64, lane: Lane, op: StoreOp) {
        if let StoreOp::AcquireLease { key, .. } = &op {
            let actor = Filed::new(key.clone());
            let holder = match self.exclusive.get(&actor) {
                Some(holder) => *holder,
                None => {
                    self.exclusive.insert(actor, number);
                    number
                }
            };
            if holder != number {
                if let Some(flow) = self.flows.get_mut(&number) {
                    flow.workflow.excluded();
                }
                return self.drain(now, number);
            }
        }
        let note = note_of(&op);
        self.store(Origin::Flow(number, lane, note), op);
    }

    fn answer_flow(&mut self, now: Instant, number: u64, lane: Lane, answer: Result<StoreReply, StoreError>) {
        let Some(flow) = self.flows.get_mut(&number) else {
            return;
        };
        let world = World {
            registry: &self.registry,
            catalog: &self.catalog,
            settings: &self.settings,
        };
        flow.workflow.stored(now, lane, answer, world);
        self.drain(now, number);
    }

    fn node_for(&mut self, now: Instant, number: u64, call: Box<NodeCall>) {
        let Some(address) = self.registry.address(&call.node).cloned() else {
            let failure = NodeFailure::unreachable(format!("node {} has not reported yet", call.node));
            return self.answer_call(now, number, Err(failure));
        };
        let effect = self.effect(Origin::Call(number));
        if let Some(flow) = self.flows.get_mut(&number) {
            flow.call = Some(effect);
        }
        self.outputs.push_back(Output::Node(effect, address, call));
    }

    fn answer_call(&mut self, now: Instant, number: u64, reply: NodeReply) {
        let Some(flow) = self.flows.get_mut(&number) else {
            return;
        };
        flow.call = None;
        if reply.is_ok()
            && let Some(on) = flow.workflow.vacating()
        {
            self.registry.vacated(on);
        }
        let world = World {
            registry: &self.registry,
            catalog: &self.catalog,
            settings: &self.settings,
        };
        flow.workflow.called(now, reply, world);
        self.drain(now, number);
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
        if self.exclusive.get(&key) == Some(&number) {
            self.exclusive.remove(&key);
        }
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
        let effect = self.effect(origin);
        self.outputs.push_back(Output::Store(effect, op));
    }

    fn effect(&mut self, origin: Origin) -> EffectId {
        let effect = EffectId(self.next_effect);
        self.next_effect += 1;
        self.effects.insert(effect, origin);
        effect
    }

    fn stored(&mut self, now: Instant, effect: EffectId, answer: Result<StoreReply, StoreError>) {
        let Some(origin) = self.effects.remove(&effect) else {
            return;
        };
        match origin {
            Origin::Flow(number, lane, note) => {
                self.learn(note, &answer);
                self.answer_flow(now, number, lane, answer);
            }
            Origin::Errand(id, errand, op) => {
                if let Ok(StoreReply::NodeConflict(Some(stored))) = &answer {
                    self.registry.heard(now, stored.clone());
                }
                match errand.next(&op, answer) {
                    Step::Ask(errand, op) => self.errand(id, errand, op),
                    Step::Tell(verdict) => self.reply(id, verdict),
                }
            }
            Origin::Lapse(node, incarnation, sequence) => match answer {
                Ok(StoreReply::Done) => self.registry.lapsed(now, &node, &incarnation, sequence),
                Ok(StoreReply::NodeConflict(Some(stored))) => self.registry.heard(now, stored),
                // The registry wishes for it again.
                _ => {}
            },
            Origin::Stray(worker) => {
                if let Ok(StoreReply::Actor(actor)) = answer {
                    let on = actor.as_ref().and_then(|actor| actor.assignment());
                    if on.is_none_or(|on| on.worker != worker) {
                        self.registry.condemn(&worker);
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
            Origin::ListGraves => self.graves_listed(answer),
            Origin::DropSession => {
                self.phase = Phase::Left;
                self.outputs.push_back(Output::Left);
            }
            Origin::Call(_) => {}
        }
    }

    /// What a worker write's answer says about the worker, whoever wrote.
    fn learn(&mut self, note: Note, answer: &Result<StoreReply, StoreError>) {
        match (note, answer) {
            (Note::Written(worker), Ok(StoreReply::Done)) => self.registry.written(*worker),
            (Note::Deleted(key), Ok(StoreReply::Done)) => self.registry.deleted(&key),
            (Note::Written(_) | Note::Deleted(_), Ok(StoreReply::WorkerConflict(Some(stored)))) => {
                self.registry.written((**stored).clone());
            }
            (Note::Written(worker), Ok(StoreReply::WorkerConflict(None))) => {
                self.registry.deleted(&worker.key)
            }
            (Note::Deleted(key), Ok(StoreReply::WorkerConflict(None))) => self.registry.deleted(&key),
            (_, Ok(StoreReply::Worker(Some(stored)))) => self.registry.written((**stored).clone()),
            _ => {}
        }
    }

    fn session_renewed(&mut self, now: Instant, is_done: bool) {
        if matches!(self.phase, Phase::Leaving | Phase::Left) {
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
        self.store(Origin::ListWorkers, StoreOp::ListWorkers);
    }

    fn relist_later(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Leaving | Phase::Left) {
            return;
        }
        let pause = jittered(self.settings.workflow.retry_to / 5, self.id.0 ^ self.next_effect);
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
        if matches!(self.phase, Phase::Leaving | Phase::Left) {
            return;
        }
        self.phase = Phase::Leaving;
        self.timers = Timers::default();
        let is_errand = |(id, origin): (&EffectId, &Origin)| match origin {
            Origin::Errand(request, ..) => Some((*id, *request)),
            _ => None,
        };
        let errands: Vec<(EffectId, RequestId)> = self.effects.iter().filter_map(is_errand).collect();
        for (effect, request) in errands {
            self.effects.remove(&effect);
            self.reply(request, Err(Failure::shutting_down()));
        }
        let numbers: Vec<u64> = self.flows.iter().map(|(number, _)| *number).collect();
        if numbers.is_empty() {
            self.store(Origin::DropSession, StoreOp::DropSession(self.id));
        }
        for number in numbers {
            if let Some(flow) = self.flows.get_mut(&number) {
                flow.workflow.abandon(now);
            }
            self.drain(now, number);
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
                if let Some(Origin::Call(number)) = self.effects.remove(&effect) {
                    self.answer_call(now, number, reply);
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
        [wake, silence, other].into_iter().flatten().min()
    }

    fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.expired(now) {
            match timer {
                Timer::Flow(number) => {
                    if let Some(flow) = self.flows.get_mut(&number) {
                        flow.due = None;
                        let world = World {
                            registry: &self.registry,
                            catalog: &self.catalog,
                            settings: &self.settings,
                        };
                        flow.workflow.handle_timeout(now, world);
                        self.drain(now, number);
                    }
                }
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

fn note_of(op: &StoreOp) -> Note {
    match op {
        StoreOp::PutWorker { worker, .. } => Note::Written(worker.clone()),
        StoreOp::DeleteWorker { key, .. } => Note::Deleted(key.clone()),
        _ => Note::Nothing,
    }
}
