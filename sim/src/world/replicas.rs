//! Replicas, the store behind them, and their calls to nodes.

use super::callers::AskedBy;
use super::knife::{Carrier, Message, Who, name_of, name_of_call};
use super::outside::OnItsWay;
use super::{Answered, Event, World};
use crate::fact::Fact;
use crate::latency::{CALL, REQUEST, STORE, STORE_LATE, STORE_PATIENCE, STORE_SILENT, WATCH};
use crate::plan::{MILLI, SECOND, Way};
use crate::story::line::Line;
use holdfast_core::effect::{
    NodeCall, NodeFailure, NodeReply, NodeRow, StoreError, StoreEvent, StoreOp, StoreReply,
};
use holdfast_core::id::{ActorKey, EffectId, LeaseToken, Name, ReplicaId, RequestId, WorkerKey};
use holdfast_core::lease;
use holdfast_core::machine::Machine;
use holdfast_core::node;
use holdfast_core::replica::{self, Input, Output, Replica};
use holdfast_core::table::{Kind, Moved};
use std::collections::BTreeMap;

/// A replica's process.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// The machine, while the process runs.
    pub machine: Option<Replica>,
    /// Counts the processes in this place.
    pub life: u32,
    /// When it is to be woken.
    pub wake: Option<u64>,
    /// Until when it is not scheduled.
    pub paused_until: u64,
    /// After how many more outputs it dies.
    pub fuse: Option<u32>,
    /// After how many more outputs it is not scheduled, and for how long.
    pub pause_after: Option<(u32, u64)>,
    /// When the last event that its watch has will arrive.
    pub watch_until: u64,
    /// Whether it can serve.
    pub is_ready: bool,
    /// The lease that it last asked for, of each actor.
    pub tokens: BTreeMap<ActorKey, LeaseToken>,
}

/// A call from a replica to a node.
#[derive(Clone, Debug)]
pub struct Call {
    replica: usize,
    life: u32,
    effect: EffectId,
    /// The node.
    pub node: usize,
    /// Whether the answer is lost on its way.
    is_deaf: bool,
    /// Whether the replica has been told something.
    pub is_over: bool,
    /// What the node was ordered, once the order has arrived.
    pub order: Option<Box<node::Order>>,
}

impl World {
    pub(super) fn start_replica(&mut self, index: usize) {
        if self.replicas[index].machine.is_some() || self.is_replica_lost(index) {
            return;
        }
        let id = ReplicaId(self.rng.any());
        let machine = Replica::new(id, self.settings_of_replicas(), self.catalog.clone());
        let life = self.replicas[index].life + 1;
        let watch_until = self.now;
        self.replicas[index] = Process {
            machine: Some(machine),
            life,
            watch_until,
            ..Process::default()
        };
        self.tell(Line::ReplicaStarts(index, id));
        self.deliver_to_replica(index, life, Input::Start);
    }

    /// The process ends at once; what it has sent is on its way.
    pub(super) fn kill_replica(&mut self, index: usize) {
        if self.replicas[index].machine.take().is_none() {
            return;
        }
        self.tell(Line::ReplicaDies(index));
        self.replicas[index].is_ready = false;
        self.fact(Fact::ReplicaDied(index));
        let life = self.replicas[index].life;
        let orphans: Vec<RequestId> = self
            .asks
            .iter()
            .filter(|(_, ask)| ask.is_open && ask.replica == index && ask.life == life)
            .map(|(id, _)| *id)
            .collect();
        for id in orphans {
            self.after(MILLI, 50 * MILLI, Event::Told(id, None));
        }
        let calls: Vec<(u64, usize)> = self
            .calls
            .iter()
            .filter(|(_, call)| !call.is_over && call.replica == index && call.life == life)
            .map(|(id, call)| (*id, call.node))
            .collect();
        for (id, node) in calls {
            self.hang_up(id, node);
        }
        self.after(10 * MILLI, 5 * SECOND, Event::ReplicaStarts(index));
    }

    fn hang_up(&mut self, call: u64, node: usize) {
        if let Some(call) = self.calls.get_mut(&call) {
            call.is_over = true;
        }
        let life = self.hosts[node].life;
        self.after(
            MILLI,
            20 * MILLI,
            Event::Node(node, life, node::Input::CallerGone(RequestId(call))),
        );
    }

    pub(super) fn deliver_to_replica(&mut self, index: usize, life: u32, mut input: Input) {
        if self.replicas[index].life != life || self.replicas[index].machine.is_none() {
            return;
        }
        if self.replicas[index].paused_until > self.now {
            let until = self.replicas[index].paused_until;
            return self.at(until, Event::Replica(index, life, input));
        }
        if let Input::Stored(effect, _) | Input::Called(effect, _) = &input
            && self.is_felled(Who::Replica(index), life, *effect)
        {
            return self.deliver_to_replica(index, life, input);
        }
        if !self.replica_may_hear(index, &mut input) {
            return;
        }
        self.tell(Line::ReplicaHears(index, &input));
        let now = self.replica_clock(index).shows(self.now);
        if let Some(machine) = &mut self.replicas[index].machine {
            machine.handle(now, input);
        }
        self.drain_replica(index);
    }

    pub(super) fn wake_replica(&mut self, index: usize, life: u32) {
        if self.replicas[index].life != life {
            return;
        }
        // One that was meant for later has been told again, or is not wanted any more.
        if self.replicas[index].wake.is_none_or(|wake| wake > self.now) {
            return;
        }
        self.replicas[index].wake = None;
        if self.replicas[index].paused_until > self.now {
            return self.wake_replica_at(index, self.replicas[index].paused_until);
        }
        let machine = self.replicas[index].machine.as_ref().filter(|_| self.is_told());
        if let Some((_, timer)) = machine.and_then(Machine::poll_timeout) {
            self.tell(Line::ReplicaWakes(index, &timer));
        }
        let now = self.replica_clock(index).shows(self.now);
        if let Some(machine) = &mut self.replicas[index].machine {
            machine.handle_timeout(now);
        }
        self.drain_replica(index);
    }

    fn drain_replica(&mut self, index: usize) {
        let mut outputs = 0;
        while self.replicas[index].paused_until <= self.now
            && let Some(output) = self.replicas[index]
                .machine
                .as_mut()
                .and_then(Machine::poll_output)
        {
            outputs += 1;
            self.perform(index, output);
            if let Some(fuse) = &mut self.replicas[index].fuse {
                *fuse = fuse.saturating_sub(1);
                if *fuse == 0 {
                    return self.kill_replica(index);
                }
            }
            if let Some((outputs, pause)) = self.replicas[index].pause_after.take() {
                match outputs.checked_sub(1) {
                    Some(outputs) => self.replicas[index].pause_after = Some((outputs, pause)),
                    None => return self.pause_replica(index, pause),
                }
            }
        }
        self.did("a replica", outputs);
        let clock = self.replica_clock(index);
        let process = &self.replicas[index];
        if process.paused_until > self.now {
            return self.wake_replica_at(index, process.paused_until);
        }
        let next = process.machine.as_ref().and_then(Machine::poll_timeout);
        if let Some((at, _)) = next {
            self.wake_replica_at(index, clock.moment(at));
        }
    }

    /// The process is woken then at the latest.
    fn wake_replica_at(&mut self, index: usize, at: u64) {
        let at = at.max(self.now);
        let process = &mut self.replicas[index];
        if process.wake.is_none_or(|wake| at < wake) {
            process.wake = Some(at);
            let life = process.life;
            self.at(at, Event::ReplicaWake(index, life));
        }
    }

    /// Whatever else it wants to send, it sends afterwards.
    fn pause_replica(&mut self, index: usize, pause: u64) {
        let until = self.now + pause;
        self.replicas[index].paused_until = until;
        self.fact(Fact::Slept {
            replica: index,
            until,
        });
        self.wake_replica_at(index, until);
    }

    pub(super) fn perform(&mut self, index: usize, mut output: Output) {
        let life = self.replicas[index].life;
        if !self.replica_may_say(index, &mut output) {
            return;
        }
        self.tell(Line::ReplicaDoes(index, &output));
        match output {
            Output::Store(effect, op) => {
                match &op {
                    StoreOp::AcquireLease { key, token, .. } => {
                        self.replicas[index].tokens.insert(key.clone(), *token);
                    }
                    StoreOp::RenewLease { token, .. } => self.fact(Fact::Renews(*token)),
                    // From here on it is given back, whatever becomes of the write.
                    StoreOp::ReleaseLease { key, .. } | StoreOp::DeleteActor { key, .. } => {
                        self.fact(Fact::Doubts {
                            actor: key.clone(),
                            replica: index,
                        });
                    }
                    StoreOp::PutActor {
                        actor,
                        release: Some(_),
                        ..
                    } => self.fact(Fact::Doubts {
                        actor: actor.key.clone(),
                        replica: index,
                    }),
                    _ => {}
                }
                self.ask_store(index, life, effect, op);
            }
            Output::Node(effect, address, call) => self.call_node(index, life, effect, &address, call),
            Output::Discard(effect, address, discard) => {
                self.after(
                    MILLI,
                    20 * MILLI,
                    Event::DiscardArrives(index, life, effect, address, discard),
                );
            }
            Output::Cancel(effect) => {
                let found = self
                    .calls
                    .iter()
                    .find(|(_, c)| !c.is_over && c.replica == index && c.life == life && c.effect == effect)
                    .map(|(id, c)| (*id, c.node));
                if let Some((id, node)) = found {
                    self.hang_up(id, node);
                }
            }
            Output::Reply(id, verdict) => {
                if self
                    .asks
                    .get(&id)
                    .is_some_and(|ask| matches!(ask.by, AskedBy::Caller(_) | AskedBy::Script))
                {
                    let result = verdict.as_ref().map(|_| ()).map_err(Clone::clone);
                    self.fact(Fact::Told(id, result));
                }
                self.within(REQUEST, Event::Told(id, Some(Box::new(verdict))));
            }
            Output::Ready => {
                self.replicas[index].is_ready = true;
                self.fact(Fact::ReplicaReady(index));
            }
            Output::Left => self.kill_replica(index),
            Output::Event(replica::Event::Moved { actor, moved }) => {
                self.lease_moved(index, actor, &moved);
                self.fact(Fact::Moved(moved));
            }
            Output::Event(_) => {}
        }
    }

    /// What a workflow has come to believe of its lease.
    fn lease_moved(&mut self, replica: usize, actor: ActorKey, moved: &Moved) {
        let is_belief = |state| [lease::Phase::Held.name(), lease::Phase::Renewing.name()].contains(&state);
        match (is_belief(moved.from), is_belief(moved.to)) {
            (false, true) => {
                if let Some(token) = self.replicas[replica].tokens.get(&actor).copied() {
                    self.fact(Fact::Believes {
                        actor,
                        replica,
                        token,
                    });
                }
            }
            (true, false) => {
                let token = self.replicas[replica].tokens.get(&actor).copied();
                if moved.event == lease::Event::NotOwner.name() {
                    token
                        .into_iter()
                        .for_each(|token| self.fact(Fact::GivenUp(token)));
                }
                if moved.event == lease::Event::Expiry.name() {
                    self.fact(Fact::Expired {
                        actor: actor.clone(),
                        replica,
                    });
                }
                self.fact(Fact::Doubts { actor, replica });
            }
            _ => {}
        }
    }

    fn ask_store(&mut self, index: usize, life: u32, effect: EffectId, op: StoreOp) {
        let away = StoreError::Unavailable("the store does not answer".into());
        if self.now < self.store_away_until {
            let answer = Input::Stored(effect, Err(away));
            return self.within(STORE_SILENT, Event::Replica(index, life, answer));
        }
        if self.rng.permille(self.plan.noise.store_deaf) && !self.calm {
            let answer = Input::Stored(effect, Err(away));
            self.wrong_for(STORE_LATE[1].most);
            self.within(STORE_SILENT, Event::Replica(index, life, answer));
            // Before its sender gives up, or, rarely, long after.
            let late = STORE_LATE[usize::from(self.rng.permille(200))];
            return self.within(late, Event::AtStore(index, life, effect, op, Answered::Lost));
        }
        let longer = match self.on_its_way(index, &op) {
            OnItsWay::Goes(longer) => longer,
            OnItsWay::Unheard => return self.unheard(index, life, effect, op),
            OnItsWay::Refused(error, span) => {
                let answer = Input::Stored(effect, Err(error));
                return self.within(span, Event::Replica(index, life, answer));
            }
        };
        let takes = self.drawn(STORE) + longer;
        if takes + STORE.most > STORE_PATIENCE && !is_list(&op) {
            let answer = Input::Stored(effect, Err(away));
            self.at(self.now + STORE_PATIENCE, Event::Replica(index, life, answer));
            let performed = Event::AtStore(index, life, effect, op, Answered::Lost);
            return self.at(self.now + takes, performed);
        }
        let arrives = self.now + takes;
        let what = name_of(&op);
        let event = Event::AtStore(index, life, effect, op, Answered::Heard);
        match what {
            Some(what) => self.send(Message {
                who: Who::Replica(index),
                life,
                effect,
                carrier: Carrier::Store,
                what,
                arrives,
                event,
            }),
            None => self.at(arrives, event),
        }
    }

    pub(super) fn at_store(
        &mut self,
        index: usize,
        life: u32,
        effect: EffectId,
        op: &StoreOp,
        answered: Answered,
    ) {
        let is_dead = self.replicas[index].life != life || self.replicas[index].machine.is_none();
        if is_dead && answered != Answered::Cut && self.rng.permille(500) {
            return;
        }
        let asked = op;
        let instead = self.done_instead(asked);
        let op = instead.as_ref().unwrap_or(asked);
        let key = actor_written(op);
        let before = key.and_then(|key| self.store.actors.get(key)).cloned();
        let worker = worker_written(op);
        let row_before = worker.and_then(|key| self.store.workers.get(key)).cloned();
        let holder = match op {
            StoreOp::AcquireLease { key, .. } => self.store.holder(self.store_now(), key),
            _ => None,
        };
        let (mut reply, event) = self.store.perform(self.store_now(), op);
        match (op, &reply) {
            (
                StoreOp::AcquireLease {
                    key, token, steal, ..
                },
                StoreReply::Acquired(_),
            ) if holder != Some(*token) => {
                self.fact(Fact::Granted {
                    actor: key.clone(),
                    replica: index,
                    token: *token,
                    from: holder,
                    is_named: holder.is_some() && *steal == holder,
                    is_orphan: is_dead,
                });
            }
            (StoreOp::GetSession(replica), StoreReply::Missing) => self.fact(Fact::SessionOver(*replica)),
            _ => {}
        }
        self.note_lease(asked, &reply);
        if let Some(key) = key {
            let after = self.store.actors.get(key).cloned();
            if before != after {
                self.fact(Fact::Recorded {
                    before: before.map(Box::new),
                    after: after.map(Box::new),
                });
            }
        }
        if let Some(key) = worker {
            let row_after = self.store.workers.get(key).cloned();
            if row_before != row_after {
                self.fact(Fact::WorkerRecorded {
                    before: row_before.map(Box::new),
                    after: row_after.map(Box::new),
                });
            }
        }
        if let (StoreOp::LapseNode(NodeRow { name, .. }), Some(StoreEvent::Node(row))) = (op, &event) {
            let number = row.session;
            let index = self.hosts.iter().position(|h| h.name == *name);
            let is_believed = index.is_some_and(|index| {
                let now = self.node_clock(index).shows(self.now);
                let atelet = self.hosts[index].atelet.as_ref();
                atelet.is_some_and(|a| a.session().covers(number, now).is_some())
            });
            self.fact(Fact::Lapsed {
                node: name.clone(),
                session: number,
                is_believed,
            });
        }
        // An older report changes nothing.
        if let (StoreOp::PutNode(heard), Some(StoreEvent::Node(row))) = (op, &event)
            && row.has_session()
            && (&heard.incarnation, heard.sequence) == (&row.incarnation, row.sequence)
        {
            self.fact(Fact::Heard(row.name.clone()));
        }
        if let Some(event) = event {
            self.publish(&event);
        }
        self.flaw_of_answer(asked, &mut reply);
        if answered == Answered::Heard {
            let answer = Input::Stored(effect, Ok(reply));
            self.within(STORE, Event::Replica(index, life, answer));
        }
    }

    /// What the store has said of a lease.
    fn note_lease(&mut self, asked: &StoreOp, reply: &StoreReply) {
        match (asked, reply) {
            (StoreOp::AcquireLease { key, .. }, StoreReply::Held(token)) => self.fact(Fact::TurnedAway {
                actor: key.clone(),
                token: *token,
            }),
            (StoreOp::RenewLease { token, .. }, StoreReply::NotOwner) => self.fact(Fact::Disowned(*token)),
            _ => {}
        }
    }

    /// Watchers hear of it, each in order, each after a while; now and then a watcher misses it and
    /// is told that it may have.
    pub(super) fn publish(&mut self, event: &StoreEvent) {
        for index in 0..self.replicas.len() {
            if self.replicas[index].machine.is_none() {
                continue;
            }
            let event = if !self.calm && self.rng.permille(5) {
                StoreEvent::Resync
            } else {
                event.clone()
            };
            let at = (self.now + self.drawn(WATCH)).max(self.replicas[index].watch_until);
            let Some(event) = self.watched_by(index, event, at) else {
                continue;
            };
            let at = at.max(self.replicas[index].watch_until);
            self.replicas[index].watch_until = at;
            let life = self.replicas[index].life;
            self.at(at, Event::Replica(index, life, Input::Watched(event)));
        }
    }

    fn call_node(
        &mut self,
        replica: usize,
        life: u32,
        effect: EffectId,
        address: &Name,
        order: Box<NodeCall>,
    ) {
        let Some(node) = self.hosts.iter().position(|host| host.name == *address) else {
            panic!("a call to an address that nobody has reported: {address}");
        };
        let call = self.id();
        let is_lossy = self.rng.permille(self.plan.noise.calls_lost) && !self.calm;
        let fate = if is_lossy { self.rng.below(3) } else { 3 };
        self.calls.insert(
            call,
            Call {
                replica,
                life,
                effect,
                node,
                is_deaf: fate == 1,
                is_over: false,
                order: None,
            },
        );
        self.repeat_call(call, &order);
        match fate {
            0 => self.after(100 * MILLI, 3 * SECOND, Event::CallEnds(call, unreachable())),
            2 => {
                self.after(100 * MILLI, SECOND, Event::CallEnds(call, unreachable()));
                self.after(500 * MILLI, 8 * SECOND, Event::OrderArrives(call, order));
            }
            _ => {
                let arrives = self.now + self.drawn(CALL);
                self.send(Message {
                    who: Who::Replica(replica),
                    life,
                    effect,
                    carrier: Carrier::Call,
                    what: name_of_call(&order.verb),
                    arrives,
                    event: Event::OrderArrives(call, order),
                });
            }
        }
    }

    /// Something between a replica and a node sends a call once more, while the storm lasts.
    fn repeat_call(&mut self, call: u64, order: &NodeCall) {
        let odds = self.plan.noise.calls_repeated;
        if odds == 0 || !self.rng.permille(odds) {
            return;
        }
        let most = [SECOND, 10 * SECOND, 90 * SECOND][self.rng.below(3) as usize];
        let at = self.now + self.rng.between(MILLI, most);
        if at < self.plan.storm_us {
            let again = self.deaf_call(call);
            self.at(at, Event::OrderArrives(again, Box::new(order.clone())));
        }
    }

    /// The same call once more, whose answer nobody hears.
    pub(super) fn deaf_call(&mut self, call: u64) -> u64 {
        let id = self.id();
        if let Some(known) = self.calls.get(&call) {
            let deaf = Call {
                is_over: true,
                order: None,
                ..known.clone()
            };
            self.calls.insert(id, deaf);
        }
        id
    }

    /// The node has answered; whether the replica hears it is another matter.
    pub(super) fn answer_call(&mut self, call: u64, reply: NodeReply) {
        let Some(known) = self.calls.get(&call) else {
            return;
        };
        let is_lost = known.is_deaf || self.is_cut(known.node, Way::Back);
        if is_lost {
            self.after(100 * MILLI, 3 * SECOND, Event::CallEnds(call, unreachable()));
        } else {
            self.within(CALL, Event::CallEnds(call, reply));
        }
    }

    pub(super) fn call_ends(&mut self, call: u64, reply: NodeReply) {
        let Some(known) = self.calls.get_mut(&call) else {
            return;
        };
        if std::mem::replace(&mut known.is_over, true) {
            return;
        }
        let (replica, life, effect) = (known.replica, known.life, known.effect);
        self.deliver_to_replica(replica, life, Input::Called(effect, reply));
    }
}

/// The caller cannot tell what became of its call.
pub(super) fn unreachable() -> NodeReply {
    Err(NodeFailure::unreachable("the node does not answer"))
}

/// Whether an operation walks everything that is stored, and is given more time for it.
fn is_list(op: &StoreOp) -> bool {
    matches!(
        op,
        StoreOp::ListActors { .. }
            | StoreOp::ListWorkers
            | StoreOp::ListNodes
            | StoreOp::ListAtespaces
            | StoreOp::DeleteAtespace(_)
    )
}

fn actor_written(op: &StoreOp) -> Option<&ActorKey> {
    match op {
        StoreOp::PutActor { actor, .. } => Some(&actor.key),
        StoreOp::DeleteActor { key, .. } => Some(key),
        _ => None,
    }
}

fn worker_written(op: &StoreOp) -> Option<&WorkerKey> {
    match op {
        StoreOp::PutWorker { worker, .. } => Some(&worker.key),
        StoreOp::DeleteWorker { key, .. } => Some(key),
        _ => None,
    }
}
