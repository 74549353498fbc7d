//! One step of the world, while it is being made: machines are told what happens and what they ask for
//! is put on its way. What nobody could get in between of is done at once.

mod disk;

use crate::defect::Defect;
use crate::fact::Fact;
use crate::flight::{Flight, Message};
use crate::history::History;
use crate::host::{Host, Luck, op_of};
use crate::invariant;
use crate::model::Model;
use crate::part::{Draft, Part};
use crate::state::{Atelet, NODES, Outside, SEATS, Seat, State};
use crate::store::Store;
use holdfast_core::actor::{self, Actor};
use holdfast_core::effect::{NodeCall, NodeFailure, NodeRow, StoreError, StoreEvent, StoreOp, StoreReply};
use holdfast_core::id::{EffectId, Fence, OpId, PodUid, ReplicaId, RequestId};
use holdfast_core::licence::Hold;
use holdfast_core::node::{self, Order, Work};
use holdfast_core::pull;
use holdfast_core::replica;
use holdfast_core::request::{Answer, Request, Verdict};
use holdfast_core::time::Instant;
use std::collections::VecDeque;
use std::sync::Arc;

/// A node's report is a request to a replica, under an id of this kind.
const REPORTS: u64 = 1 << 32;
/// What the check after the calm asks for has ids of this kind.
pub(crate) const PROBES: u64 = 1 << 33;
/// A call whose answer nobody waits for.
const UNHEARD: RequestId = RequestId(0);

/// A state that is being changed.
pub(crate) struct Scene<'m> {
    pub model: &'m mut Model,
    pub seats: [Part<Seat>; SEATS],
    pub atelets: [Part<Atelet>; NODES],
    pub hosts: [Draft<Host>; NODES],
    pub store: Draft<Store>,
    pub flight: Draft<Flight>,
    pub outside: Draft<Outside>,
    pub history: Draft<History>,
    /// The verdict on the last probe.
    pub probed: Option<Verdict>,
    todo: VecDeque<Todo>,
    wrong: Option<String>,
}

/// What a machine hears at once.
enum Todo {
    Replica(usize, replica::Input),
    Node(usize, node::Input),
}

impl<'m> Scene<'m> {
    pub fn open(model: &'m mut Model, state: &State) -> Scene<'m> {
        Scene {
            model,
            seats: state.seats.clone(),
            atelets: state.atelets.clone(),
            hosts: state.hosts.each_ref().map(Draft::open),
            store: Draft::open(&state.store),
            flight: Draft::open(&state.flight),
            outside: Draft::open(&state.outside),
            history: Draft::open(&state.history),
            probed: None,
            todo: VecDeque::new(),
            wrong: None,
        }
    }

    pub fn close(self) -> Result<State, String> {
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        let pools = &mut self.model.pools;
        Ok(State {
            seats: self.seats,
            atelets: self.atelets,
            hosts: self.hosts.map(|host| host.close(&mut pools.hosts)),
            store: self.store.close(&mut pools.stores),
            flight: self.flight.close(&mut pools.flights),
            outside: self.outside.close(&mut pools.outsides),
            history: self.history.close(&mut pools.histories),
        })
    }

    /// Shows a fact to the invariants, and remembers it.
    pub fn fact(&mut self, fact: Fact) {
        if let (None, Err(what)) = (&self.wrong, invariant::check(&self.history, &fact)) {
            self.wrong = Some(what);
        }
        self.history.absorb(fact);
    }

    pub fn facts(&mut self, facts: Vec<Fact>) {
        for fact in facts {
            self.fact(fact);
        }
    }

    pub fn send(&mut self, message: Message) {
        let message = self.model.pools.messages.part(message);
        self.flight.add(message);
    }

    /// A replica hears something, and everything that follows at once.
    pub fn tell_replica(&mut self, seat: usize, input: replica::Input) {
        self.todo.push_back(Todo::Replica(seat, input));
        self.run();
    }

    /// A node hears something, and everything that follows at once.
    pub fn tell_node(&mut self, node: usize, input: node::Input) {
        self.todo.push_back(Todo::Node(node, input));
        self.run();
    }

    /// Everything that follows at once happens.
    pub fn run(&mut self) {
        while let Some(todo) = self.todo.pop_front() {
            match todo {
                Todo::Replica(seat, input) => {
                    let (after, outputs) = self.model.replica_hears(&self.seats[seat], input);
                    self.seats[seat] = after;
                    for output in outputs.iter() {
                        self.replica_asks(seat, output);
                    }
                }
                Todo::Node(node, input) => {
                    let (after, outputs) = self.model.node_hears(&self.atelets[node], input);
                    self.atelets[node] = after;
                    for output in outputs.iter() {
                        self.node_asks(node, output);
                    }
                }
            }
        }
    }

    /// A replica's clock goes to `now`, and what is due fires.
    pub fn wake_replica(&mut self, seat: usize, now: Instant) {
        let (after, outputs) = self.model.replica_wakes(&self.seats[seat], now);
        self.seats[seat] = after;
        for output in outputs {
            self.replica_asks(seat, &output);
        }
        self.run();
    }

    /// A node's clock goes to `now`, and what is due fires.
    pub fn wake_node(&mut self, node: usize, now: Instant) {
        let (after, outputs) = self.model.node_wakes(&self.atelets[node], now);
        self.atelets[node] = after;
        for output in outputs {
            self.node_asks(node, &output);
        }
        self.run();
    }

    fn replica_asks(&mut self, seat: usize, output: &replica::Output) {
        match output {
            replica::Output::Store(effect, op) => self.ask_store(seat, *effect, op),
            replica::Output::Node(effect, address, call) => {
                let node = self.hosts.iter().position(|host| host.name == *address);
                self.send(Message::ToNode {
                    from: Some(seat),
                    effect: *effect,
                    node: node.expect("a replica calls nodes that have reported"),
                    call: call.clone(),
                });
            }
            replica::Output::Cancel(effect) => self.cancel_call(seat, *effect),
            replica::Output::Reply(id, verdict) => self.told(seat, *id, verdict),
            replica::Output::Left => self.remove_replica(seat),
            replica::Output::Discard(effect, address, discard) => {
                let node = self.hosts.iter().position(|host| host.name == *address);
                self.send(Message::Discard {
                    from: Some(seat),
                    effect: *effect,
                    node: node.expect("a replica calls nodes that have reported"),
                    discard: discard.clone(),
                });
            }
            replica::Output::Ready | replica::Output::Event(_) => {}
        }
    }

    /// What concerns nobody else's decisions is done at once.
    fn ask_store(&mut self, seat: usize, effect: EffectId, op: &StoreOp) {
        match op {
            StoreOp::PutSession { .. }
            | StoreOp::DropSession(_)
            | StoreOp::PutNode(_)
            | StoreOp::ListNodes
            | StoreOp::ListWorkers => {
                let reply = self.perform(op);
                self.answer_store(seat, effect, Ok(reply));
            }
            _ => self.send(Message::ToStore {
                from: Some(seat),
                effect,
                op: op.clone(),
            }),
        }
    }

    /// The replica hears what the store has answered, when the scene runs on.
    pub fn answer_store(&mut self, seat: usize, effect: EffectId, answer: Result<StoreReply, StoreError>) {
        self.todo
            .push_back(Todo::Replica(seat, replica::Input::Stored(effect, answer)));
    }

    /// The store performs an operation, and its watchers hear of it.
    pub fn perform(&mut self, op: &StoreOp) -> StoreReply {
        let before = match op {
            StoreOp::PutActor { actor, .. } => self.store.actors.get(&actor.key).cloned(),
            _ => None,
        };
        let (reply, event) = self.store.perform(op, self.model.scope.defect);
        if let (StoreOp::PutActor { actor, .. }, StoreReply::Done, Some(before)) = (op, &reply, before) {
            self.fact(Fact::Recorded {
                before: Box::new(before),
                after: actor.clone(),
            });
        }
        if let (StoreOp::LapseNode(NodeRow { name, .. }), StoreReply::Done) = (op, &reply) {
            let host = self.hosts.iter().find(|host| host.name == *name);
            let workers = host.map(|host| host.ateoms.keys().cloned().collect());
            let is_there = |actor: &&Actor| actor.assignment().is_some_and(|on| on.node == *name);
            let actors = self.store.actors.values().filter(is_there);
            let over = Fact::DeclaredOver {
                node: name.clone(),
                workers: workers.unwrap_or_default(),
                actors: actors.map(|actor| actor.key.clone()).collect(),
            };
            self.fact(over);
        }
        if let Some(event) = event {
            self.publish(&event);
        }
        reply
    }

    fn publish(&mut self, event: &StoreEvent) {
        for seat in 0..SEATS {
            if self.seats[seat].machine.is_none() {
                continue;
            }
            if self.seats[seat].is_lagging || self.outside.budget.lags > 0 {
                let mut behind = Seat::clone(&self.seats[seat]);
                behind.watch.push_back(event.clone());
                self.seats[seat] = self.model.pools.seats.part(behind);
            } else {
                self.todo
                    .push_back(Todo::Replica(seat, replica::Input::Watched(event.clone())));
            }
        }
    }

    /// The replica does not wait for this call any more; the order may arrive all the same.
    fn cancel_call(&mut self, seat: usize, effect: EffectId) {
        if self.model.scope.defect == Some(Defect::StaleAnswersAccepted) {
            return;
        }
        let mut unheard = Vec::new();
        self.flight.retain(|message| match &**message {
            Message::ToNode {
                from: Some(from),
                effect: called,
                node,
                call,
            } if (*from, *called) == (seat, effect) => {
                unheard.push(Message::ToNode {
                    from: None,
                    effect,
                    node: *node,
                    call: call.clone(),
                });
                false
            }
            Message::FromNode {
                to, effect: called, ..
            } => (*to, *called) != (seat, effect),
            _ => true,
        });
        for message in unheard {
            self.send(message);
        }
        self.hang_up(call_id(seat, effect));
    }

    fn hang_up(&mut self, id: RequestId) {
        for node in 0..NODES {
            if self.hosts[node].calls.contains(&id) {
                self.hosts[node].calls.remove(&id);
                self.todo.push_back(Todo::Node(node, node::Input::CallerGone(id)));
            }
        }
    }

    fn told(&mut self, seat: usize, id: RequestId, verdict: &Verdict) {
        if id.0 >= PROBES {
            self.probed = Some(verdict.clone());
            return;
        }
        if id.0 >= REPORTS {
            let answer = match verdict {
                Ok(Answer::Reported(_, answered)) => Ok(answered.clone()),
                Ok(other) => unreachable!("a report was answered with {other:?}"),
                Err(failure) => Err(failure.message.clone()),
            };
            let node = (id.0 - REPORTS) as usize;
            if node < NODES {
                self.todo
                    .push_back(Todo::Node(node, node::Input::Reported(answer)));
            }
            return;
        }
        self.fact(Fact::Told(id, verdict.as_ref().map(|_| ()).map_err(Clone::clone)));
        if self.model.scope.defect == Some(Defect::VerdictsRepeated) {
            self.fact(Fact::Told(id, verdict.as_ref().map(|_| ()).map_err(Clone::clone)));
        }
        for caller in &mut self.outside.callers {
            if caller.waits == Some((id, seat)) {
                caller.waits = None;
            }
        }
        if let Ok(Answer::Actor(actor)) = verdict
            && let actor::State::Running { on } = &actor.state
        {
            self.count(actor, &on.pod_uid);
        }
    }

    /// A caller that was told where its actor serves sends it one request.
    fn count(&mut self, actor: &actor::Actor, uid: &PodUid) {
        for host in &mut self.hosts {
            if host
                .ateoms
                .get(uid)
                .is_some_and(|ateom| ateom.licence.hold() != Hold::Frozen)
                && let Some(live) = host.serving(uid, &actor.key)
            {
                live.count = live.count.saturating_add(1);
                let count = live.count;
                return self.fact(Fact::Counted(actor.key.clone(), count));
            }
        }
    }

    /// A call reaches its node.
    pub fn order(&mut self, node: usize, from: Option<usize>, effect: EffectId, call: &NodeCall) {
        let id = from.map_or(UNHEARD, |seat| call_id(seat, effect));
        if from.is_some() {
            self.hosts[node].calls.insert(id);
        }
        let (worker, worker_fence, session) = match &call.worker {
            Some(target) => (target.pod_uid.clone(), target.fence, target.session),
            None => (PodUid::default(), Fence(0), 0),
        };
        let mut order = Order {
            worker,
            worker_fence,
            actor: call.actor.clone(),
            incarnation: call.incarnation,
            fence: call.fence,
            op: Some(call.op),
            template: (call.template.namespace.clone(), call.template.name.clone()),
            workload: self.model.workload.clone(),
            session,
            run: call.run.clone(),
            verb: call.verb.clone(),
        };
        match self.model.scope.defect {
            Some(Defect::NodesIgnoreFences) => {
                order.worker_fence = Fence(0);
                order.fence = Fence(0);
            }
            Some(Defect::NodesIgnoreOperations) => {
                self.hosts[node].strangers += 1;
                order.op = Some(OpId {
                    replica: ReplicaId(0),
                    seq: self.hosts[node].strangers,
                });
            }
            _ => {}
        }
        self.todo
            .push_back(Todo::Node(node, node::Input::Order(id, Box::new(order))));
        self.run();
    }

    /// A replica hears how its call ended.
    pub fn answer_call(&mut self, seat: usize, effect: EffectId, reply: holdfast_core::effect::NodeReply) {
        self.tell_replica(seat, replica::Input::Called(effect, reply));
    }

    fn node_asks(&mut self, node: usize, output: &node::Output) {
        match output {
            node::Output::Work(effect, work, order) => self.begin(node, *effect, work, order),
            node::Output::Cancel(effect) => {
                let run = self.hosts[node].run;
                // What ateom has been asked for it does; what the atelet does itself it stops doing.
                self.flight.retain(|message| {
                    !matches!(
                        &**message,
                        Message::Step { node: n, run: r, effect: e, work: Work::Save(_) | Work::Upload, .. }
                            if (*n, *r, *e) == (node, run, *effect)
                    )
                });
            }
            node::Output::Keep(effect, kept) => {
                let is_waiting = |message: &Part<Message>| matches!(&**message, Message::Keep { node: n, .. } if *n == node);
                // What is given to a disk that takes its time waits behind what it was given before.
                let is_held = self.flight.messages().iter().any(is_waiting);
                if is_held || self.outside.budget.journals > 0 {
                    let run = self.hosts[node].run;
                    self.send(Message::Keep {
                        node,
                        run,
                        effect: *effect,
                        is_held,
                        kept: kept.clone(),
                    });
                } else {
                    self.kept(node, *effect, kept, Luck::Good);
                }
            }
            node::Output::Pull(_, attempt) => {
                let ended = pull::Input::Ended(*attempt, Ok(()));
                self.todo.push_back(Todo::Node(node, node::Input::Pull(ended)));
            }
            node::Output::Reply(id, reply) => {
                if self.hosts[node].calls.contains(id) {
                    self.hosts[node].calls.remove(id);
                    let (to, effect) = caller_of(*id);
                    self.send(Message::FromNode {
                        to,
                        effect,
                        reply: reply.clone(),
                    });
                }
            }
            node::Output::Report(report) => {
                let run = self.hosts[node].run;
                let message = Message::Report {
                    node,
                    run,
                    is_awaited: true,
                    is_held: false,
                    report: report.clone(),
                };
                if self.outside.silent == Some(node) {
                    let lost = node::Input::Reported(Err("no replica answers".into()));
                    return self.todo.push_back(Todo::Node(node, lost));
                }
                let budget = &self.outside.budget;
                match self.home_of(node) {
                    Some(seat) if budget.reports + budget.messages == 0 => self.report(seat, &message),
                    _ => self.send(message),
                }
            }
            node::Output::Look(effect, uid) => {
                let answer = Ok(self.hosts[node].describe(uid));
                self.todo
                    .push_back(Todo::Node(node, node::Input::Looked(*effect, answer)));
            }
            node::Output::Tend {
                worker, actor, tend, ..
            } => self.tend(node, worker, actor, *tend),
            node::Output::CancelPull(_) | node::Output::Moved(..) | node::Output::Note(_) => {}
        }
    }

    fn begin(&mut self, node: usize, effect: EffectId, work: &Work, order: &Arc<Order>) {
        self.fact(Fact::Begun {
            node: self.hosts[node].name.clone(),
            worker: order.worker.clone(),
            actor: order.actor.clone(),
            op: op_of(order),
            fence: order.fence,
            worker_fence: order.worker_fence,
        });
        match work {
            Work::Clear | Work::Fetch | Work::Assemble => {
                if *work == Work::Clear {
                    self.fact(Fact::Cleared(order.worker.clone(), order.actor.clone()));
                }
                let result = self.hosts[node].prepare(work, order, &self.outside.objects);
                self.todo
                    .push_back(Todo::Node(node, node::Input::Worked(effect, result)));
            }
            Work::Boot { .. }
            | Work::Thaw { .. }
            | Work::Capture
            | Work::Stop
            | Work::Save(_)
            | Work::Upload => {
                let run = self.hosts[node].run;
                self.send(Message::Step {
                    node,
                    run,
                    effect,
                    work: work.clone(),
                    order: order.clone(),
                });
            }
        }
    }

    /// The atelet sees how its worker is.
    pub fn describe(&mut self, node: usize, uid: &PodUid) {
        let described = self.hosts[node].describe(uid);
        self.todo
            .push_back(Todo::Node(node, node::Input::Worker(uid.clone(), described)));
    }

    /// A report reaches a replica, which notes it and answers.
    pub fn report(&mut self, seat: usize, message: &Message) {
        let Message::Report {
            node,
            run,
            is_awaited,
            report,
            ..
        } = message
        else {
            unreachable!("only reports are reported");
        };
        let is_heard = *is_awaited && self.hosts[*node].run == *run;
        let id = RequestId(REPORTS + if is_heard { *node as u64 } else { NODES as u64 });
        let request = Request::Heartbeat(report.clone());
        self.todo
            .push_back(Todo::Replica(seat, replica::Input::Request(id, request)));
    }

    /// The replica that a node reports to: each has its own, until that one is dead.
    pub fn home_of(&self, node: usize) -> Option<usize> {
        home_of(&self.seats, node)
    }

    /// The process is no more: nothing that it was asked will be answered, and nothing that comes for it is
    /// heard.
    pub fn remove_replica(&mut self, seat: usize) {
        let gone = Seat {
            machine: None,
            now: Instant::ORIGIN,
            watch: VecDeque::new(),
            is_lagging: false,
        };
        self.seats[seat] = self.model.pools.seats.part(gone);
        let mut unheard = Vec::new();
        self.flight.retain(|message| match &**message {
            Message::FromStore { to, .. } | Message::FromNode { to, .. } => *to != seat,
            Message::ToStore { from, op, effect } if *from == Some(seat) => {
                if is_write(op) {
                    unheard.push(Message::ToStore {
                        from: None,
                        effect: *effect,
                        op: op.clone(),
                    });
                }
                false
            }
            Message::ToNode {
                from,
                effect,
                node,
                call,
            } if *from == Some(seat) => {
                unheard.push(Message::ToNode {
                    from: None,
                    effect: *effect,
                    node: *node,
                    call: call.clone(),
                });
                false
            }
            Message::Discard {
                from,
                effect,
                node,
                discard,
            } if *from == Some(seat) => {
                unheard.push(Message::Discard {
                    from: None,
                    effect: *effect,
                    node: *node,
                    discard: discard.clone(),
                });
                false
            }
            _ => true,
        });
        for message in unheard {
            self.send(message);
        }
        let calls: Vec<RequestId> = self
            .hosts
            .iter()
            .flat_map(|host| host.calls.iter().copied())
            .filter(|id| caller_of(*id).0 == seat)
            .collect();
        for id in calls {
            self.hang_up(id);
        }
        for caller in 0..self.outside.callers.len() {
            if let Some((id, asked)) = self.outside.callers[caller].waits
                && asked == seat
            {
                self.outside.callers[caller].waits = None;
                self.fact(Fact::Unheard(id));
            }
        }
        self.run();
    }
}

/// The caller cannot tell what became of its call.
pub(crate) fn unreachable() -> holdfast_core::effect::NodeReply {
    Err(NodeFailure::unreachable("the node does not answer"))
}

/// The store did not answer.
pub(crate) fn unavailable() -> Result<StoreReply, StoreError> {
    Err(StoreError::Unavailable("the store does not answer".into()))
}

/// The replica that a node reports to.
pub(crate) fn home_of(seats: &[Part<Seat>; SEATS], node: usize) -> Option<usize> {
    let is_alive = |seat: &usize| seats[*seat].machine.is_some();
    (0..SEATS).map(|offset| (node + offset) % SEATS).find(is_alive)
}

/// Whether an operation changes what is stored.
pub(crate) fn is_write(op: &StoreOp) -> bool {
    !matches!(
        op,
        StoreOp::GetActor(_) | StoreOp::GetWorker(_) | StoreOp::GetSession(_) | StoreOp::ListGraves { .. }
    )
}

/// The id of the replica in a seat.
pub(crate) fn replica_id(seat: usize) -> ReplicaId {
    ReplicaId(seat as u64 + 1)
}

/// A node's name for a replica's call.
fn call_id(seat: usize, effect: EffectId) -> RequestId {
    RequestId(((seat as u64 + 1) << 32) + effect.0)
}

/// Whose call that is.
pub(crate) fn caller_of(id: RequestId) -> (usize, EffectId) {
    (((id.0 >> 32) - 1) as usize, EffectId(id.0 & 0xffff_ffff))
}
