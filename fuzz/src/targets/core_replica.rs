//! A replica, told anything in any order.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_core::actor::Actor;
use holdfast_core::effect::{Discard, Grave, NodeCall, NodeRow, StoreError, StoreEvent, StoreOp, StoreReply};
use holdfast_core::id::{ActorKey, EffectId, NodeName, ReplicaId, RequestId, WorkerKey};
use holdfast_core::machine::Machine;
use holdfast_core::replica::{Input, Output, Replica};
use holdfast_core::request::Request;
use holdfast_core::settings::Settings;
use holdfast_core::time::{Duration, Instant};
use holdfast_core::worker::Worker;

use crate::feed::Feed;
use crate::world;

const STEPS_MAX: usize = 400;
/// What one input may lead to, besides one verdict for each caller who waits: in a world of so few names.
const OUTPUTS_PER_INPUT_MAX: usize = 128;
/// Within so many answers and wake-ups after its end has begun, a replica has gone.
const ROUNDS_TO_LEAVE_MAX: usize = 10_000;

/// Whatever it is told, a replica does not panic, asks for a bounded number of things at a time, honours
/// its own deadlines, gives each caller one verdict, and goes when it is told to go.
pub fn run(data: &[u8]) {
    let mut feed = Feed::new(data);
    let mut scene = Scene::new(&mut feed);
    for _ in 0..STEPS_MAX {
        if feed.is_empty() {
            break;
        }
        scene.step(&mut feed);
    }
    scene.leave();
}

struct Scene {
    replica: Replica,
    now: Instant,
    /// Callers who wait.
    waiting: BTreeSet<RequestId>,
    /// Callers who left without a verdict: one may still come.
    gone: BTreeSet<RequestId>,
    requests: u64,
    asked: BTreeMap<EffectId, StoreOp>,
    called: BTreeMap<EffectId, Box<NodeCall>>,
    discarding: BTreeMap<EffectId, Discard>,
    /// What a store that did as it was told would have.
    actors: BTreeMap<ActorKey, Actor>,
    workers: BTreeMap<WorkerKey, Worker>,
    nodes: BTreeMap<NodeName, NodeRow>,
    graves: Vec<Grave>,
    has_left: bool,
}

impl Scene {
    fn new(feed: &mut Feed<'_>) -> Scene {
        let catalog = world::catalog(feed);
        let mut scene = Scene {
            replica: Replica::new(ReplicaId(1), Settings::DEFAULT, catalog),
            now: Instant::from_micros(1_000_000),
            waiting: BTreeSet::new(),
            gone: BTreeSet::new(),
            requests: 0,
            asked: BTreeMap::new(),
            called: BTreeMap::new(),
            discarding: BTreeMap::new(),
            actors: BTreeMap::new(),
            workers: BTreeMap::new(),
            nodes: BTreeMap::new(),
            graves: Vec::new(),
            has_left: false,
        };
        scene.tell(Input::Start);
        scene
    }

    fn step(&mut self, feed: &mut Feed<'_>) {
        match feed.below(16) {
            0..=2 => self.request(feed),
            3..=7 => self.answer_honestly(feed),
            8 => self.answer_anything(feed),
            9 | 10 => self.answer_call(feed),
            11 => self.pass_time(feed),
            12 => self.wake_too_early(),
            13 => {
                let event = match feed.below(4) {
                    0 => {
                        let key = world::worker_key(feed);
                        StoreEvent::Worker(Box::new(world::worker(feed, key)))
                    }
                    1 => StoreEvent::WorkerGone(world::worker_key(feed)),
                    2 => StoreEvent::Node(world::node_row(feed)),
                    _ => StoreEvent::Resync,
                };
                self.tell(Input::Watched(event));
            }
            14 => {
                let Some(id) = pick_key(feed, &self.waiting) else {
                    return;
                };
                self.waiting.remove(&id);
                self.gone.insert(id);
                self.tell(Input::CallerGone(id));
            }
            _ => match feed.below(8) {
                0 => self.tell(Input::Shutdown),
                1 => {
                    // Nobody asked for this.
                    let effect = EffectId(feed.number());
                    let is_asked = self.asked.contains_key(&effect) || self.called.contains_key(&effect);
                    if !is_asked && !self.discarding.contains_key(&effect) {
                        self.tell(Input::Stored(effect, Ok(StoreReply::Done)));
                        self.tell(Input::Called(effect, Ok(())));
                        self.tell(Input::Discarded(effect, Ok(())));
                    }
                }
                2..=4 => {
                    let Some(effect) = pick_key(feed, self.discarding.keys()) else {
                        return;
                    };
                    self.discarding.remove(&effect);
                    let result = match feed.below(4) {
                        3 => Err("as the bytes have it".into()),
                        _ => Ok(()),
                    };
                    self.tell(Input::Discarded(effect, result));
                }
                _ => {
                    let catalog = world::catalog(feed);
                    self.tell(Input::Declared(catalog));
                }
            },
        }
    }

    fn request(&mut self, feed: &mut Feed<'_>) {
        let request = match feed.below(16) {
            0 | 1 => Request::Resume(world::actor_key(feed), world::boot(feed)),
            2 => Request::Suspend(world::actor_key(feed)),
            3 => Request::Pause(world::actor_key(feed)),
            4 => Request::Delete(world::actor_key(feed)),
            5 => Request::Revert(world::actor_key(feed)),
            6 | 7 => Request::Heartbeat(world::report(feed)),
            8 | 9 => Request::CreateActor {
                key: world::actor_key(feed),
                template_namespace: "ns".into(),
                template_name: "t0".into(),
                selector: world::selector(feed),
            },
            10 => Request::UpdateActor {
                key: world::actor_key(feed),
                selector: world::selector(feed),
            },
            11 => Request::GetActor(world::actor_key(feed)),
            12 => Request::ListWorkers,
            13 => Request::ListActors {
                atespace: None,
                after: None,
                limit: 10,
            },
            14 => Request::CreateAtespace(world::name(feed)),
            _ => Request::DeleteAtespace(world::name(feed)),
        };
        self.requests += 1;
        let id = RequestId(self.requests);
        self.waiting.insert(id);
        self.tell(Input::Request(id, request));
    }

    /// The store did what was asked, and says so, or says why it did not.
    fn answer_honestly(&mut self, feed: &mut Feed<'_>) {
        let Some((effect, op)) = self.take_asked(feed) else {
            return;
        };
        let reply = match op {
            StoreOp::GetActor(key) => StoreReply::Actor(self.actor(feed, &key)),
            StoreOp::AcquireLease { key, .. } => StoreReply::Acquired(self.actor(feed, &key)),
            StoreOp::PutActor { expect, actor, .. } => {
                let stored = self.actors.get(&actor.key);
                if stored.map(Actor::edition) == expect {
                    self.actors.insert(actor.key.clone(), *actor);
                    StoreReply::Done
                } else {
                    StoreReply::ActorConflict(stored.cloned().map(Box::new))
                }
            }
            StoreOp::DeleteActor { key, .. } => {
                self.actors.remove(&key);
                StoreReply::Done
            }
            StoreOp::GetWorker(key) => StoreReply::Worker(self.workers.get(&key).cloned().map(Box::new)),
            StoreOp::PutWorker { expect, worker } => {
                let stored = self.workers.get(&worker.key);
                if stored.map(Worker::edition) == expect {
                    self.workers.insert(worker.key.clone(), *worker);
                    StoreReply::Done
                } else {
                    StoreReply::WorkerConflict(stored.cloned().map(Box::new))
                }
            }
            StoreOp::DeleteWorker { key, .. } => {
                self.workers.remove(&key);
                StoreReply::Done
            }
            StoreOp::ListWorkers => StoreReply::Workers(self.workers.values().cloned().collect()),
            StoreOp::ListNodes => StoreReply::Nodes(self.nodes.values().cloned().collect()),
            StoreOp::PutNode(heard) => {
                let row = NodeRow::after(self.nodes.get(&heard.name), &heard);
                self.replace_node(&heard.name, row, |row| StoreReply::NodeAt(row.version))
            }
            StoreOp::LapseNode(known) => {
                let row = NodeRow::lapse(self.nodes.get(&known.name), &known);
                self.replace_node(&known.name, row, |_| StoreReply::Done)
            }
            StoreOp::ListActors { .. } => StoreReply::Actors {
                actors: self.actors.values().cloned().collect(),
                next: None,
            },
            StoreOp::ListAtespaces => StoreReply::Atespaces(Vec::new()),
            StoreOp::GetAtespace(_) | StoreOp::GetSession(_) => StoreReply::Exists,
            StoreOp::PutGrave(grave) => {
                self.graves.push(*grave);
                StoreReply::Done
            }
            StoreOp::ListGraves { after, .. } => StoreReply::Graves {
                graves: self.graves.clone(),
                next: after.is_none().then(|| "more".into()),
            },
            StoreOp::DropGrave { key, .. } => {
                self.graves.retain(|grave| grave.actor != key);
                StoreReply::Done
            }
            _ => StoreReply::Done,
        };
        self.tell(Input::Stored(effect, Ok(reply)));
    }

    fn replace_node(
        &mut self,
        name: &NodeName,
        row: Option<NodeRow>,
        reply: impl Fn(&NodeRow) -> StoreReply,
    ) -> StoreReply {
        match row {
            Some(row) => {
                let reply = reply(&row);
                self.nodes.insert(name.clone(), row);
                reply
            }
            None => StoreReply::NodeConflict(self.nodes.get(name).cloned()),
        }
    }

    /// What is stored of an actor; others write to the store too, so it may be anything.
    fn actor(&mut self, feed: &mut Feed<'_>, key: &ActorKey) -> Option<Box<Actor>> {
        if feed.below(4) == 3 {
            let version = self.actors.get(key).map(|stored| stored.version);
            let mut actor = world::actor(feed, key.clone());
            actor.version = actor.version.max(version.unwrap_or_default().next());
            self.actors.insert(key.clone(), actor);
        }
        self.actors.get(key).cloned().map(Box::new)
    }

    /// The store answers something that may not even fit.
    fn answer_anything(&mut self, feed: &mut Feed<'_>) {
        let Some((effect, op)) = self.take_asked(feed) else {
            return;
        };
        let key = match op {
            StoreOp::GetActor(key) | StoreOp::AcquireLease { key, .. } => key,
            StoreOp::PutActor { actor, .. } => actor.key,
            _ => world::actor_key(feed),
        };
        let actor = |feed: &mut Feed<'_>| {
            let key = key.clone();
            world::maybe(feed, |feed| Box::new(world::actor(feed, key)))
        };
        let worker = |feed: &mut Feed<'_>| {
            world::maybe(feed, |feed| {
                let key = world::worker_key(feed);
                Box::new(world::worker(feed, key))
            })
        };
        let answer = match feed.below(18) {
            0 | 1 => Err(StoreError::Unavailable("as the bytes have it".into())),
            2 => Err(StoreError::Refused("as the bytes have it".into())),
            3 => Ok(StoreReply::Done),
            4 => Ok(StoreReply::Actor(actor(feed))),
            5 => Ok(StoreReply::ActorConflict(actor(feed))),
            6 => Ok(StoreReply::Acquired(actor(feed))),
            7 => Ok(StoreReply::Held(world::token(feed))),
            8 => Ok(StoreReply::NotOwner),
            9 => Ok(StoreReply::Worker(worker(feed))),
            10 => Ok(StoreReply::WorkerConflict(worker(feed))),
            11 => Ok(StoreReply::Workers(world::some(feed, 5, |feed| {
                let key = world::worker_key(feed);
                world::worker(feed, key)
            }))),
            12 => Ok(StoreReply::Nodes(world::some(feed, 3, world::node_row))),
            13 => Ok(StoreReply::Exists),
            14 => Ok(StoreReply::Missing),
            15 => Ok(StoreReply::NodeConflict(world::maybe(feed, world::node_row))),
            16 => Ok(StoreReply::Graves {
                graves: world::some(feed, 4, world::grave),
                next: world::maybe(feed, world::name),
            }),
            _ => Ok(StoreReply::NotEmpty),
        };
        self.tell(Input::Stored(effect, answer));
    }

    fn answer_call(&mut self, feed: &mut Feed<'_>) {
        let Some(effect) = pick_key(feed, self.called.keys()) else {
            return;
        };
        self.called.remove(&effect);
        let reply = match feed.below(3) {
            0 => Err(world::node_failure(feed)),
            _ => Ok(()),
        };
        self.tell(Input::Called(effect, reply));
    }

    fn take_asked(&mut self, feed: &mut Feed<'_>) -> Option<(EffectId, StoreOp)> {
        let effect = pick_key(feed, self.asked.keys())?;
        self.asked.remove_entry(&effect)
    }

    /// Time passes as the replica wishes it to, or less.
    fn pass_time(&mut self, feed: &mut Feed<'_>) {
        let until = self.now.plus(Duration::from_millis(1 << feed.below(20)));
        for _ in 0..64 {
            match self.replica.poll_timeout() {
                Some((deadline, _)) if deadline <= until => {
                    self.now = self.now.max(deadline);
                    self.wake();
                }
                _ => break,
            }
        }
        self.now = self.now.max(until);
    }

    fn wake(&mut self) {
        self.replica.handle_timeout(self.now);
        self.perform();
        if let Some((deadline, timer)) = self.replica.poll_timeout() {
            assert!(
                deadline > self.now,
                "woken for {timer:?}, it wants to be woken again at once"
            );
        }
    }

    fn wake_too_early(&mut self) {
        if self
            .replica
            .poll_timeout()
            .is_some_and(|(deadline, _)| deadline <= self.now)
        {
            return;
        }
        let before = self.replica.clone();
        self.replica.handle_timeout(self.now);
        assert!(self.replica == before, "a wake-up too many changed something");
    }

    fn tell(&mut self, input: Input) {
        self.replica.handle(self.now, input);
        self.perform();
    }

    fn perform(&mut self) {
        let bound = OUTPUTS_PER_INPUT_MAX + self.waiting.len() + self.gone.len();
        for _ in 0..bound {
            let Some(output) = self.replica.poll_output() else {
                return;
            };
            assert!(
                !self.has_left || !takes_part(&output),
                "gone, it goes on: {output:?}"
            );
            match output {
                Output::Store(effect, op) => {
                    let before = self.asked.insert(effect, op);
                    assert!(before.is_none(), "two effects of one id");
                }
                Output::Node(effect, _, call) => {
                    let before = self.called.insert(effect, call);
                    assert!(before.is_none(), "two effects of one id");
                }
                Output::Discard(effect, _, discard) => {
                    assert!(!discard.snapshots.is_empty(), "nothing is to be deleted");
                    let before = self.discarding.insert(effect, discard);
                    assert!(before.is_none(), "two effects of one id");
                }
                Output::Cancel(effect) => {
                    self.called.remove(&effect);
                }
                Output::Reply(id, verdict) => {
                    assert!(
                        self.waiting.remove(&id) || self.gone.remove(&id),
                        "a second verdict for {id}: {verdict:?}"
                    );
                }
                Output::Left => self.has_left = true,
                Output::Ready | Output::Event(_) => {}
            }
        }
        panic!("more than {bound} outputs for one input");
    }

    /// It is told to go, and nothing answers any more.
    fn leave(&mut self) {
        self.tell(Input::Shutdown);
        for _ in 0..ROUNDS_TO_LEAVE_MAX {
            if let Some((effect, _)) = self.asked.pop_first() {
                let error = StoreError::Unavailable("it is over".into());
                self.tell(Input::Stored(effect, Err(error)));
            } else if let Some((effect, call)) = self.called.pop_first() {
                let failure = holdfast_core::effect::NodeFailure::unreachable(call.node.to_string());
                self.tell(Input::Called(effect, Err(failure)));
            } else if let Some((effect, _)) = self.discarding.pop_first() {
                self.tell(Input::Discarded(effect, Ok(())));
            } else if let Some((deadline, _)) = self.replica.poll_timeout() {
                self.now = self.now.max(deadline);
                self.wake();
            } else {
                break;
            }
            let is_quiet = self.asked.is_empty() && self.called.is_empty() && self.discarding.is_empty();
            if self.has_left && is_quiet {
                break;
            }
        }
        assert!(self.has_left, "it does not go");
        assert!(self.waiting.is_empty(), "no verdict for {:?}", self.waiting);
        assert_eq!(self.replica.workflows().count(), 0);
    }
}

/// Whether this is what only a replica in service may ask for; it may still read, refuse, and mend rows.
fn takes_part(output: &Output) -> bool {
    match output {
        Output::Node(..) | Output::Discard(..) | Output::Left | Output::Ready => true,
        Output::Store(_, op) => matches!(
            op,
            StoreOp::PutSession { .. }
                | StoreOp::AcquireLease { .. }
                | StoreOp::RenewLease { .. }
                | StoreOp::PutActor { .. }
                | StoreOp::DeleteActor { .. }
                | StoreOp::PutGrave(_)
                | StoreOp::DropGrave { .. }
        ),
        Output::Reply(_, verdict) => verdict.is_ok(),
        Output::Cancel(_) | Output::Event(_) => false,
    }
}

fn pick_key<'a, K: Copy + 'a>(
    feed: &mut Feed<'_>,
    keys: impl IntoIterator<Item = &'a K, IntoIter: ExactSizeIterator>,
) -> Option<K> {
    let mut keys = keys.into_iter();
    let at = feed.below(keys.len());
    keys.nth(at).copied()
}
