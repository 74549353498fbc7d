//! Replicas driven by hand: a store that does what the contract says, a clock that the test turns, and
//! node calls that the test answers.
#![allow(dead_code, reason = "each test file uses its part")]

use holdfast_core::actor::{Actor, Boot, Change, Snapshot};
use holdfast_core::catalog::*;
use holdfast_core::effect::*;
use holdfast_core::failure::Code;
use holdfast_core::id::*;
use holdfast_core::machine::Machine;
use holdfast_core::registry::{Hosting, Report, Sighting};
use holdfast_core::replica::{Event, Input, Output, Replica};
use holdfast_core::request::{Request, Verdict};
use holdfast_core::settings::Settings;
use holdfast_core::time::{Duration, Instant};
use holdfast_core::worker::{Duty, Worker};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Replicas, and the store that they share.
pub struct Cluster {
    pub now: Instant,
    pub store: Store,
    pub replicas: Vec<Seat>,
    next_request: u64,
    sequence: u64,
    /// The session that the node believes in.
    pub session: u64,
}

/// One replica and what it has asked for.
pub struct Seat {
    pub machine: Replica,
    /// Store operations that have not been performed.
    pub store: VecDeque<(EffectId, StoreOp)>,
    /// Node calls that have not been answered.
    pub calls: VecDeque<(EffectId, NodeCall)>,
    /// What nodes have been told to delete.
    pub discards: VecDeque<(EffectId, Discard)>,
    /// The store operations that have been performed, without those of its own session and of nodes.
    pub performed: Vec<StoreOp>,
    pub verdicts: BTreeMap<RequestId, Verdict>,
    /// What it has told those who watch.
    pub events: Vec<Event>,
    /// How often it has said that it serves.
    pub ready: u32,
}

#[derive(Default)]
pub struct Store {
    pub actors: BTreeMap<ActorKey, Actor>,
    pub workers: BTreeMap<WorkerKey, Worker>,
    pub nodes: BTreeMap<NodeName, NodeRow>,
    pub leases: BTreeMap<ActorKey, LeaseToken>,
    pub sessions: Vec<ReplicaId>,
    pub graves: Vec<Grave>,
}

pub fn actor_key(name: &str) -> ActorKey {
    ActorKey::new("space", name)
}

pub fn worker_key(name: &str) -> WorkerKey {
    WorkerKey::new("ns", "pool", name)
}

pub fn template() -> Arc<Template> {
    Arc::new(Template {
        namespace: "ns".into(),
        name: "counter".into(),
        workload: Workload {
            pause_image: "pause".into(),
            containers: Vec::new(),
            durable_volumes: Vec::new(),
        },
        snapshot_location: "mem://snapshots".into(),
        on_pause: Scope::Full,
        on_commit: Scope::Full,
        sandbox_class: "gvisor".into(),
        worker_selector: LabelSelector::default(),
        golden_snapshot: None,
    })
}

/// One pool, and the template unless it has been deleted.
pub fn catalog(template: Option<Arc<Template>>) -> Catalog {
    let mut catalog = Catalog::new();
    if let Some(template) = template {
        catalog.add_template((*template).clone());
    }
    catalog.add_pool(Pool {
        namespace: "ns".into(),
        name: "pool".into(),
        labels: Labels::new(),
        sandbox_class: "gvisor".into(),
        sandbox_config: None,
    });
    catalog.add_sandbox_config(SandboxConfig {
        name: "default".into(),
        sandbox_class: "gvisor".into(),
        role: ConfigRole::Default,
        assets: Assets::new(),
    });
    catalog
}

pub fn failure(code: Code, kind: NodeFailureKind) -> NodeReply {
    Err(NodeFailure {
        code,
        message: format!("{kind:?}"),
        kind,
    })
}

/// What a store operation is called.
pub fn name_of(op: &StoreOp) -> &'static str {
    match op {
        StoreOp::GetActor(_) => "GetActor",
        StoreOp::PutActor { release: Some(_), .. } => "PutActor+release",
        StoreOp::PutActor { .. } => "PutActor",
        StoreOp::DeleteActor { .. } => "DeleteActor",
        StoreOp::AcquireLease { steal: Some(_), .. } => "StealLease",
        StoreOp::AcquireLease { .. } => "AcquireLease",
        StoreOp::RenewLease { .. } => "RenewLease",
        StoreOp::ReleaseLease { .. } => "ReleaseLease",
        StoreOp::GetWorker(_) => "GetWorker",
        StoreOp::PutWorker { .. } => "PutWorker",
        StoreOp::GetSession(_) => "GetSession",
        StoreOp::LapseNode { .. } => "LapseNode",
        _ => "other",
    }
}

impl Cluster {
    /// `replicas` replicas that serve, and these free workers on one node, known to all of them.
    pub fn new(replicas: usize, workers: &[&str]) -> Cluster {
        let mut cluster = Cluster {
            now: Instant::from_micros(1_000_000),
            store: Store::default(),
            replicas: Vec::new(),
            next_request: 1,
            sequence: 0,
            session: 1,
        };
        for index in 0..replicas {
            cluster.add_replica(index as u64 + 1);
        }
        cluster.report(0, workers.iter().map(|name| sighting(name, 0, None)).collect());
        cluster.watch();
        for seat in &mut cluster.replicas {
            seat.performed.clear();
        }
        cluster
    }

    pub fn add_replica(&mut self, id: u64) {
        let machine = Replica::new(ReplicaId(id), Settings::DEFAULT, catalog(Some(template())));
        self.replicas.push(Seat {
            machine,
            store: VecDeque::new(),
            calls: VecDeque::new(),
            discards: VecDeque::new(),
            performed: Vec::new(),
            verdicts: BTreeMap::new(),
            events: Vec::new(),
            ready: 0,
        });
        let index = self.replicas.len() - 1;
        self.input(index, Input::Start);
        self.run(index);
    }

    /// An actor that sleeps, at this snapshot if any.
    pub fn asleep(&mut self, name: &str, latest: Option<&str>) -> ActorKey {
        let key = actor_key(name);
        let mut actor = Actor::create(key.clone(), Incarnation(7), template(), Selector::default());
        actor.latest = latest.map(|name| Snapshot::External(name.into()));
        actor.last_external = latest.map(Name::from);
        self.store.actors.insert(key.clone(), actor);
        key
    }

    /// An actor that has been resumed through replica 0.
    pub fn running(&mut self, name: &str, latest: Option<&str>) -> ActorKey {
        let key = self.asleep(name, latest);
        let request = self.ask(0, Request::Resume(key.clone(), Boot::Golden));
        self.run(0);
        self.answer(0, Ok(()));
        assert!(self.verdict(0, request).is_ok());
        self.replicas[0].performed.clear();
        key
    }

    pub fn input(&mut self, index: usize, input: Input) {
        let now = self.now;
        let seat = &mut self.replicas[index];
        seat.machine.handle(now, input);
        self.collect(index);
    }

    /// Takes note of what a replica asks for.
    pub fn collect(&mut self, index: usize) {
        let seat = &mut self.replicas[index];
        while let Some(output) = seat.machine.poll_output() {
            match output {
                Output::Store(effect, op) => seat.store.push_back((effect, op)),
                Output::Node(effect, _, call) => seat.calls.push_back((effect, *call)),
                Output::Discard(effect, _, discard) => seat.discards.push_back((effect, discard)),
                Output::Cancel(effect) => seat.calls.retain(|(e, _)| *e != effect),
                Output::Reply(id, verdict) => {
                    assert!(
                        seat.verdicts.insert(id, verdict).is_none(),
                        "{id} was answered twice"
                    );
                }
                Output::Event(event) => seat.events.push(event),
                Output::Ready => seat.ready += 1,
                Output::Left => {}
            }
        }
    }

    pub fn ask(&mut self, index: usize, request: Request) -> RequestId {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        self.input(index, Input::Request(id, request));
        id
    }

    /// The number of the request that was asked last.
    pub fn last_request(&self) -> u64 {
        self.next_request - 1
    }

    /// What the caller was told; panics if nothing.
    pub fn verdict(&self, index: usize, id: RequestId) -> &Verdict {
        self.replicas[index].verdicts.get(&id).expect("no verdict yet")
    }

    pub fn is_told(&self, index: usize, id: RequestId) -> bool {
        self.replicas[index].verdicts.contains_key(&id)
    }

    /// Performs one store operation and says which.
    pub fn step(&mut self, index: usize) -> Option<StoreOp> {
        let (effect, op) = self.replicas[index].store.pop_front()?;
        let reply = self.store.perform(&op);
        self.note(index, &op);
        self.input(index, Input::Stored(effect, Ok(reply)));
        Some(op)
    }

    /// Performs one store operation, or not, and loses the answer.
    pub fn step_and_lose_the_answer(&mut self, index: usize) -> StoreOp {
        let (effect, op) = self.replicas[index]
            .store
            .pop_front()
            .expect("an operation to lose");
        let _ = self.store.perform(&op);
        self.note(index, &op);
        self.input(
            index,
            Input::Stored(effect, Err(StoreError::Unavailable("lost".into()))),
        );
        op
    }

    fn note(&mut self, index: usize, op: &StoreOp) {
        if name_of(op) != "other" {
            self.replicas[index].performed.push(op.clone());
        }
    }

    /// Performs store operations until there are none.
    pub fn run(&mut self, index: usize) {
        for _ in 0..10_000 {
            if self.step(index).is_none() {
                return;
            }
        }
        panic!("it never ends: {:?}", self.names(index));
    }

    /// The names of the operations that have been performed.
    pub fn names(&self, index: usize) -> Vec<&'static str> {
        self.replicas[index].performed.iter().map(name_of).collect()
    }

    /// The node call that waits.
    pub fn call(&self, index: usize) -> &NodeCall {
        &self.replicas[index].calls.front().expect("no node call waits").1
    }

    /// Answers the node call that waits, and runs on.
    pub fn answer(&mut self, index: usize, reply: NodeReply) {
        let (effect, _) = self.replicas[index]
            .calls
            .pop_front()
            .expect("no node call waits");
        self.input(index, Input::Called(effect, reply));
        self.run(index);
    }

    /// Answers the node call that waits, and performs nothing that is asked for then.
    pub fn answer_unheard(&mut self, index: usize, reply: NodeReply) {
        let (effect, _) = self.replicas[index]
            .calls
            .pop_front()
            .expect("no node call waits");
        self.input(index, Input::Called(effect, reply));
    }

    /// Turns the clock to the replica's next timer, and fires it; what it asks for then waits.
    pub fn wake(&mut self, index: usize) {
        let next = self.replicas[index].machine.poll_timeout();
        let (at, _) = next.expect("a timer is set");
        self.now = self.now.max(at);
        let now = self.now;
        self.replicas[index].machine.handle_timeout(now);
        self.collect(index);
    }

    /// Turns the clock, waking the replica whenever it wants to be woken, and runs on.
    pub fn pass(&mut self, index: usize, time: Duration) {
        let end = self.now.plus(time);
        while let Some((at, _)) = self.replicas[index].machine.poll_timeout() {
            if at > end {
                break;
            }
            self.now = self.now.max(at);
            let now = self.now;
            self.replicas[index].machine.handle_timeout(now);
            self.collect(index);
            self.run(index);
        }
        self.now = end;
    }

    /// The node reports to one replica.
    pub fn report(&mut self, index: usize, workers: Vec<Sighting>) {
        self.sequence += 1;
        let node = NodeRow {
            name: "node".into(),
            address: "address".into(),
            incarnation: "atelet".into(),
            sequence: self.sequence,
            session: self.session,
            lapsed: self.session.saturating_sub(1),
            version: 0,
        };
        self.ask(index, Request::Heartbeat(Report { node, workers }));
        self.run(index);
    }

    /// Every replica hears how workers and nodes stand.
    pub fn watch(&mut self) {
        for index in 0..self.replicas.len() {
            self.watch_by(index);
        }
    }

    /// One replica hears how workers and nodes stand.
    pub fn watch_by(&mut self, index: usize) {
        for node in self.store.nodes.values().cloned().collect::<Vec<_>>() {
            self.input(index, Input::Watched(StoreEvent::Node(node)));
        }
        for worker in self.store.workers.values().cloned().collect::<Vec<_>>() {
            self.input(index, Input::Watched(StoreEvent::Worker(Box::new(worker))));
        }
        self.run(index);
    }

    /// Writes a change to an actor, as another workflow would.
    pub fn change(&mut self, key: &ActorKey, change: &Change) {
        let actor = &self.store.actors[key];
        let next = actor.after(change, None, Version::FIRST).expect("a legal change");
        self.store.actors.insert(key.clone(), next);
    }
}

/// A worker as the node sees it.
pub fn sighting(name: &str, highest: u64, hosting: Option<&ActorKey>) -> Sighting {
    Sighting {
        key: worker_key(name),
        pod_uid: format!("uid-{name}").into(),
        incarnation: "run-1".into(),
        ip: "ip".into(),
        node: "node".into(),
        duty: Duty::Serving,
        is_silent: false,
        highest_fence: Fence(highest),
        hosting: hosting.map(|actor| Hosting {
            actor: actor.clone(),
            incarnation: Incarnation(7),
            session: 1,
        }),
    }
}

impl Store {
    /// One operation, as the documentation of [`StoreOp`] has it; leases here never run out.
    pub fn perform(&mut self, op: &StoreOp) -> StoreReply {
        match op {
            StoreOp::GetActor(key) => StoreReply::Actor(self.actor(key)),
            StoreOp::PutActor {
                expect,
                actor,
                release,
            } => {
                if self.actors.get(&actor.key).map(Actor::edition) != *expect {
                    return StoreReply::ActorConflict(self.actor(&actor.key));
                }
                self.actors.insert(actor.key.clone(), (**actor).clone());
                if let Some(token) = release {
                    self.release(&actor.key, *token);
                }
                StoreReply::Done
            }
            StoreOp::DeleteActor { key, expect, release } => {
                if self.actors.get(key).map(Actor::edition) != Some(*expect) {
                    return StoreReply::ActorConflict(self.actor(key));
                }
                self.actors.remove(key);
                self.release(key, *release);
                StoreReply::Done
            }
            StoreOp::AcquireLease {
                key, token, steal, ..
            } => match self.leases.get(key) {
                Some(holder) if holder != token && Some(*holder) != *steal => StoreReply::Held(*holder),
                _ => {
                    self.leases.insert(key.clone(), *token);
                    StoreReply::Acquired(self.actor(key))
                }
            },
            StoreOp::RenewLease { key, token, .. } if self.leases.get(key) == Some(token) => StoreReply::Done,
            StoreOp::RenewLease { .. } => StoreReply::NotOwner,
            StoreOp::ReleaseLease { key, token } => {
                self.release(key, *token);
                StoreReply::Done
            }
            StoreOp::GetWorker(key) => StoreReply::Worker(self.workers.get(key).cloned().map(Box::new)),
            StoreOp::PutWorker { expect, worker } => {
                let stored = self.workers.get(&worker.key);
                if stored.map(Worker::edition) != *expect {
                    return StoreReply::WorkerConflict(stored.cloned().map(Box::new));
                }
                self.workers.insert(worker.key.clone(), (**worker).clone());
                StoreReply::Done
            }
            StoreOp::DeleteWorker { key, .. } => {
                self.workers.remove(key);
                StoreReply::Done
            }
            StoreOp::ListWorkers => StoreReply::Workers(self.workers.values().cloned().collect()),
            StoreOp::PutNode(heard) => match NodeRow::after(self.nodes.get(&heard.name), heard) {
                Some(row) => {
                    let version = row.version;
                    self.nodes.insert(row.name.clone(), row);
                    StoreReply::NodeAt(version)
                }
                None => StoreReply::NodeConflict(self.nodes.get(&heard.name).cloned()),
            },
            StoreOp::LapseNode(known) => {
                let stored = self.nodes.get(&known.name);
                match NodeRow::lapse(stored, known) {
                    Some(row) => {
                        self.nodes.insert(known.name.clone(), row);
                        StoreReply::Done
                    }
                    None => StoreReply::NodeConflict(stored.cloned()),
                }
            }
            StoreOp::ListNodes => StoreReply::Nodes(self.nodes.values().cloned().collect()),
            StoreOp::PutSession { replica, .. } => {
                self.sessions.retain(|r| r != replica);
                self.sessions.push(*replica);
                StoreReply::Done
            }
            StoreOp::GetSession(replica) if self.sessions.contains(replica) => StoreReply::Exists,
            StoreOp::GetSession(_) => StoreReply::Missing,
            StoreOp::DropSession(replica) => {
                self.sessions.retain(|r| r != replica);
                StoreReply::Done
            }
            StoreOp::PutGrave(grave) => {
                self.graves.retain(|g| {
                    (&g.actor, g.incarnation, g.version) != (&grave.actor, grave.incarnation, grave.version)
                });
                self.graves.push((**grave).clone());
                StoreReply::Done
            }
            StoreOp::ListGraves { .. } => StoreReply::Graves {
                graves: self.graves.clone(),
                next: None,
            },
            StoreOp::DropGrave {
                key,
                incarnation,
                version,
            } => {
                self.graves
                    .retain(|g| (&g.actor, &g.incarnation, &g.version) != (key, incarnation, version));
                StoreReply::Done
            }
            other => panic!("no test needs {other:?}"),
        }
    }

    fn actor(&self, key: &ActorKey) -> Option<Box<Actor>> {
        self.actors.get(key).cloned().map(Box::new)
    }

    fn release(&mut self, key: &ActorKey, token: LeaseToken) {
        if self.leases.get(key) == Some(&token) {
            self.leases.remove(key);
        }
    }
}
