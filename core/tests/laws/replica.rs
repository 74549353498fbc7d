//! A replica: its surroundings, and what holds of it alone.

use crate::history::{EXACT, Happening, History, Recorder, gaps, holds, play_one, runner};
use crate::stage::store::Store;
use crate::stage::{actor_key, catalog, template, worker_key};
use holdfast_core::actor::{Actor, Boot, Change, State, Status};
use holdfast_core::catalog::Selector;
use holdfast_core::effect::*;
use holdfast_core::failure::{Code, Failure};
use holdfast_core::id::*;
use holdfast_core::registry::{Hosting, Report, Sighting};
use holdfast_core::replica::{Event, Input, Output, Replica};
use holdfast_core::request::{Answer, Request};
use holdfast_core::session::{Answered, Grant};
use holdfast_core::settings::Settings;
use holdfast_core::time::{Duration, Instant};
use holdfast_core::worker::{Duty, Worker};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const ACTORS: u8 = 3;
const WORKERS: u8 = 2;

pub struct Subject;

impl crate::history::Subject for Subject {
    type Input = Input;
    type Output = Output;
    type Machine = Replica;

    fn fresh(settings: &Settings) -> Replica {
        Replica::new(ReplicaId(1), *settings, catalog(Some(template())))
    }

    fn histories(settings: Settings) -> BoxedStrategy<History<Input>> {
        vec(act(), 1..80)
            .prop_map(move |acts| storm(&settings, acts).0.history)
            .boxed()
    }

    fn is_idempotent(input: &Input) -> bool {
        !matches!(
            input,
            Input::Start | Input::Request(..) | Input::Watched(StoreEvent::Resync)
        )
    }

    fn stretched_gist(output: Output, times: u32) -> Output {
        match output {
            Output::Store(id, op) => Output::Store(id, stretched(op, times)),
            Output::Reply(id, Ok(Answer::Reported(replica, Answered::Granted(grant)))) => {
                let grant = Grant {
                    ttl: grant.ttl * times,
                    heartbeat_every: grant.heartbeat_every * times,
                    ..grant
                };
                Output::Reply(id, Ok(Answer::Reported(replica, Answered::Granted(grant))))
            }
            Output::Reply(id, Err(failure)) => Output::Reply(id, Err(untold(failure))),
            Output::Event(Event::Settled { actor, failure }) => {
                let failure = failure.map(|failure| Box::new(untold(*failure)));
                Output::Event(Event::Settled { actor, failure })
            }
            other => other,
        }
    }
}

fn stretched(op: StoreOp, times: u32) -> StoreOp {
    match op {
        StoreOp::AcquireLease {
            key,
            token,
            ttl,
            steal,
        } => {
            let ttl = ttl * times;
            StoreOp::AcquireLease {
                key,
                token,
                ttl,
                steal,
            }
        }
        StoreOp::RenewLease { key, token, ttl } => StoreOp::RenewLease {
            key,
            token,
            ttl: ttl * times,
        },
        StoreOp::PutSession { replica, ttl } => StoreOp::PutSession {
            replica,
            ttl: ttl * times,
        },
        other => other,
    }
}

/// A failure without its text, which may quote a deadline.
fn untold(failure: Failure) -> Failure {
    Failure {
        message: String::new(),
        ..failure
    }
}

#[derive(Clone, Debug)]
enum Act {
    Ask(Verb, u8),
    CallerLeaves,
    /// One of the operations that the store was asked for.
    Store(usize, Outcome),
    /// One of the calls to the node.
    Call(usize, Reply),
    /// The node reports: which workers are there, whether they drain, and whether it has vacated them.
    Report(Vec<(bool, bool, bool)>),
    /// Another replica takes an actor over.
    Rob(u8),
    Resync,
    Shutdown,
    Pass(Duration),
    Wild(u64),
}

#[derive(Clone, Copy, Debug)]
pub enum Verb {
    Resume,
    Suspend,
    Pause,
    Delete,
    Revert,
    Get,
}

/// What becomes of a store operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// It is done, and the answer is lost.
    Lost,
    NotDone,
    Refused,
}

/// How a node answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    Ok,
    Fails(NodeFailureKind),
}

pub fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        20 => Just(Outcome::Done),
        2 => Just(Outcome::Lost),
        1 => Just(Outcome::NotDone),
        1 => Just(Outcome::Refused),
    ]
}

pub fn replies() -> impl Strategy<Value = Reply> {
    let stale = |of| NodeFailureKind::StaleFence {
        of,
        highest: Fence(12),
    };
    let kinds = vec![
        NodeFailureKind::Crash,
        NodeFailureKind::SandboxGone,
        NodeFailureKind::Busy,
        NodeFailureKind::SessionOver,
        NodeFailureKind::Occupied,
        NodeFailureKind::Unreachable,
        NodeFailureKind::Failed,
        stale(Fenced::Actor),
        stale(Fenced::Worker),
    ];
    prop_oneof![4 => Just(Reply::Ok), 3 => prop::sample::select(kinds).prop_map(Reply::Fails)]
}

pub fn verbs() -> impl Strategy<Value = Verb> {
    prop_oneof![
        4 => Just(Verb::Resume),
        3 => Just(Verb::Suspend),
        2 => Just(Verb::Pause),
        1 => Just(Verb::Delete),
        1 => Just(Verb::Revert),
        1 => Just(Verb::Get),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let usually = prop::bool::weighted(0.8);
    prop_oneof![
        10 => (verbs(), 0..ACTORS).prop_map(|(verb, actor)| Act::Ask(verb, actor)),
        1 => Just(Act::CallerLeaves),
        40 => (0..4usize, outcomes()).prop_map(|(n, outcome)| Act::Store(n, outcome)),
        12 => (0..4usize, replies()).prop_map(|(n, reply)| Act::Call(n, reply)),
        2 => vec((usually, any::<bool>(), any::<bool>()), usize::from(WORKERS)).prop_map(Act::Report),
        1 => (0..ACTORS).prop_map(Act::Rob),
        1 => Just(Act::Resync),
        1 => prop_oneof![9 => Just(Act::Resync), 1 => Just(Act::Shutdown)],
        10 => gaps().prop_map(Act::Pass),
        1 => (0..60u64).prop_map(Act::Wild),
    ]
}

/// The store, the nodes and the callers of a replica, who answer when the history says so.
pub struct Around {
    pub store: Store,
    pub asked: Vec<(EffectId, StoreOp)>,
    pub calls: Vec<(EffectId, NodeCall)>,
    /// Requests that have not been answered.
    pub waiting: BTreeSet<RequestId>,
    node: NodeName,
    requests: u64,
    sequence: u64,
}

impl Around {
    /// These workers, all on one node, and these actors. Its requests are counted from `first`.
    pub fn new(node: &str, workers: Vec<Worker>, actors: Vec<Actor>, first: u64) -> Around {
        let mut store = Store::default();
        let rows = workers.into_iter().map(|row| Worker {
            node: node.into(),
            ..row
        });
        store.workers = rows.map(|row| (row.key.clone(), row)).collect();
        store.actors = actors
            .into_iter()
            .map(|actor| (actor.key.clone(), actor))
            .collect();
        Around {
            store,
            asked: Vec::new(),
            calls: Vec::new(),
            waiting: BTreeSet::new(),
            node: node.into(),
            requests: first,
            sequence: 0,
        }
    }

    pub fn note(&mut self, outputs: &[Output]) {
        for output in outputs {
            match output {
                Output::Store(effect, op) => self.asked.push((*effect, op.clone())),
                Output::Node(effect, _, call) => self.calls.push((*effect, (**call).clone())),
                Output::Cancel(effect) => self.calls.retain(|(id, _)| id != effect),
                Output::Reply(id, _) => {
                    self.waiting.remove(id);
                }
                Output::Discard(..) | Output::Ready | Output::Left | Output::Event(_) => {}
            }
        }
    }

    /// The answer to one of the operations that were asked for.
    pub fn stored(&mut self, now: Instant, n: usize, outcome: Outcome) -> Option<Input> {
        let n = n.checked_rem(self.asked.len())?;
        let (effect, op) = self.asked.remove(n);
        let unavailable = || Err(StoreError::Unavailable("no answer".into()));
        let answer = match outcome {
            Outcome::Done => Ok(self.store.perform(now, &op, &mut Vec::new())),
            Outcome::Lost => {
                self.store.perform(now, &op, &mut Vec::new());
                unavailable()
            }
            Outcome::NotDone => unavailable(),
            Outcome::Refused => Err(StoreError::Refused("full".into())),
        };
        Some(Input::Stored(effect, answer))
    }

    pub fn called(&mut self, n: usize, reply: Reply) -> Option<Input> {
        let n = n.checked_rem(self.calls.len())?;
        Some(Input::Called(self.calls.remove(n).0, answer(reply)))
    }

    pub fn request(&mut self, request: Request) -> Input {
        self.requests += 1;
        self.waiting.insert(RequestId(self.requests));
        Input::Request(RequestId(self.requests), request)
    }

    pub fn ask(&mut self, verb: Verb, actor: u8) -> Input {
        let key = actor_key(&format!("demo/a{actor}"));
        self.request(match verb {
            Verb::Resume => Request::Resume(key, Boot::Golden),
            Verb::Suspend => Request::Suspend(key),
            Verb::Pause => Request::Pause(key),
            Verb::Delete => Request::Delete(key),
            Verb::Revert => Request::Revert(key),
            Verb::Get => Request::GetActor(key),
        })
    }

    /// The node reports what the store has promised, except for what it denies.
    pub fn report(&mut self, workers: &[(bool, bool, bool)]) -> Input {
        self.sequence += 1;
        let there = self
            .store
            .workers
            .values()
            .zip(workers)
            .filter(|(_, (is_there, ..))| *is_there);
        let seen = there.map(|(row, (_, is_serving, is_hosting))| Sighting {
            duty: if *is_serving {
                Duty::Serving
            } else {
                Duty::Draining
            },
            ..sighting(row, *is_hosting)
        });
        let workers = seen.collect();
        let node = self.node_row();
        self.request(Request::Heartbeat(Report { node, workers }))
    }

    fn node_row(&self) -> NodeRow {
        NodeRow {
            name: self.node.clone(),
            address: "address".into(),
            incarnation: "atelet".into(),
            sequence: self.sequence,
            session: 0,
            lapsed: 0,
            version: 0,
        }
    }

    /// Another replica has claimed an actor, and taken its lease.
    fn rob(&mut self, now: Instant, actor: u8) {
        let key = actor_key(&format!("demo/a{actor}"));
        let token = LeaseToken {
            replica: ReplicaId(2),
            seq: 1,
        };
        if let Some(record) = self.store.actors.get_mut(&key) {
            *record = record
                .after(
                    &Change::Select(record.selector.clone()),
                    Some(token),
                    Version::FIRST,
                )
                .expect("a claim is always legal");
            self.store.leases.insert(key, (token, now.plus(EXACT.lease.ttl)));
        }
    }

    fn input(&mut self, now: Instant, act: &Act) -> Option<Input> {
        Some(match act {
            Act::Ask(verb, actor) => self.ask(*verb, *actor),
            Act::CallerLeaves => {
                let id = RequestId(self.requests);
                self.waiting.remove(&id);
                Input::CallerGone(id)
            }
            Act::Store(n, outcome) => return self.stored(now, *n, *outcome),
            Act::Call(n, reply) => return self.called(*n, *reply),
            Act::Report(workers) => self.report(workers),
            Act::Rob(actor) => {
                self.rob(now, *actor);
                return None;
            }
            Act::Resync => Input::Watched(StoreEvent::Resync),
            Act::Shutdown => Input::Shutdown,
            Act::Pass(_) => return None,
            Act::Wild(n) => Input::Stored(EffectId(1_000_000 + n), Ok(StoreReply::Done)),
        })
    }
}

/// An actor that has never run.
pub fn asleep(name: &str, selector: Selector) -> Actor {
    Actor::create(actor_key(name), Incarnation(7), template(), selector)
}

/// A free worker.
pub fn row(name: &str, pool: &str) -> Worker {
    Worker {
        key: WorkerKey {
            pool: pool.into(),
            ..worker_key(name)
        },
        version: Version::FIRST,
        pod_uid: name.into(),
        incarnation: "run".into(),
        ip: "ip".into(),
        node: "node".into(),
        duty: Duty::Serving,
        hosts: None,
    }
}

/// What a node says of a worker that agrees with the store, or has vacated it behind the store's back.
pub fn sighting(row: &Worker, is_hosting: bool) -> Sighting {
    let promise = row.hosts.as_ref().filter(|_| is_hosting);
    Sighting {
        key: row.key.clone(),
        pod_uid: row.pod_uid.clone(),
        incarnation: row.incarnation.clone(),
        ip: row.ip.clone(),
        node: row.node.clone(),
        duty: Duty::Serving,
        is_silent: false,
        highest_fence: Fence(row.version.0),
        hosting: promise.map(|hosted| Hosting {
            actor: hosted.actor.clone(),
            incarnation: hosted.incarnation,
            session: hosted.session,
        }),
    }
}

pub fn answer(reply: Reply) -> NodeReply {
    match reply {
        Reply::Ok => Ok(()),
        Reply::Fails(kind) => Err(NodeFailure {
            code: Code::Unavailable,
            message: "no".into(),
            kind,
        }),
    }
}

/// Starts the replica, and lets it have everything it asks for.
fn begin(settings: &Settings) -> (Recorder<Replica>, Around) {
    let mut r = Recorder::new(<Subject as crate::history::Subject>::fresh(settings));
    let workers = (0..WORKERS).map(|n| row(&format!("w{n}"), "pool")).collect();
    let actors = (0..ACTORS)
        .map(|n| asleep(&format!("demo/a{n}"), Selector::default()))
        .collect();
    let mut around = Around::new("node", workers, actors, 0);
    around.note(&r.input(Input::Start));
    let report = around.report(&[(true, true, true); WORKERS as usize]);
    around.note(&r.input(report));
    while let Some(input) = around.stored(r.now, 0, Outcome::Done) {
        around.note(&r.input(input));
    }
    (r, around)
}

/// Everything that happens in a history, and what it leaves.
fn storm(settings: &Settings, acts: Vec<Act>) -> (Recorder<Replica>, Around) {
    let (mut r, mut around) = begin(settings);
    for act in acts {
        let outputs = match (&act, around.input(r.now, &act)) {
            (Act::Pass(gap), _) => r.pass(*gap),
            (_, Some(input)) => r.input(input),
            (_, None) => continue,
        };
        around.note(&outputs);
    }
    (r, around)
}

/// Every request is answered at most once, and nobody else is.
#[test]
fn nobody_is_told_twice() {
    holds::<Subject>(|history| {
        let mut replica = <Subject as crate::history::Subject>::fresh(&EXACT);
        let mut waiting = BTreeSet::new();
        for (now, happening) in history {
            if let Happening::Input(Input::Request(id, _)) = &happening {
                waiting.insert(*id);
            }
            for output in play_one(&mut replica, now, happening) {
                if let Output::Reply(id, _) = output {
                    prop_assert!(waiting.remove(&id), "{id} was not waiting");
                }
            }
        }
        Ok(())
    });
}

/// Nothing that a workflow does under a lease leaves the replica when the lease is believed in no more; and
/// of one actor at most one call is under way (S02).
#[test]
fn no_write_and_no_call_outlives_its_lease() {
    holds::<Subject>(|history| {
        let mut replica = <Subject as crate::history::Subject>::fresh(&EXACT);
        let mut sent: BTreeMap<EffectId, (LeaseToken, Instant)> = BTreeMap::new();
        let mut believed: BTreeMap<LeaseToken, Instant> = BTreeMap::new();
        let mut calls: BTreeMap<EffectId, ActorKey> = BTreeMap::new();
        for (now, happening) in history {
            match &happening {
                Happening::Input(Input::Stored(effect, Ok(StoreReply::Acquired(_) | StoreReply::Done))) => {
                    if let Some((token, at)) = sent.remove(effect) {
                        let until = at.plus(EXACT.lease.believed_for());
                        let known = believed.entry(token).or_insert(until);
                        *known = until.max(*known);
                    }
                }
                Happening::Input(Input::Called(effect, _)) => {
                    calls.remove(effect);
                }
                _ => {}
            }
            for output in play_one(&mut replica, now, happening) {
                match output {
                    Output::Store(
                        effect,
                        StoreOp::AcquireLease { token, .. } | StoreOp::RenewLease { token, .. },
                    ) => {
                        sent.insert(effect, (token, now));
                    }
                    Output::Store(_, StoreOp::PutActor { actor, .. }) => {
                        let token = actor.claim.expect("a workflow's write has its claim").token;
                        let until = believed.get(&token).copied();
                        prop_assert!(
                            until.is_some_and(|until| now < until),
                            "{token} wrote {:?} too late",
                            actor.key
                        );
                    }
                    Output::Node(effect, _, call) => {
                        prop_assert!(call.fence > Fence(0), "a call without a claim");
                        prop_assert!(
                            !calls.values().any(|key| *key == call.actor),
                            "two calls for {}",
                            call.actor
                        );
                        calls.insert(effect, call.actor);
                    }
                    Output::Cancel(effect) => {
                        calls.remove(&effect);
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    });
}

/// When everybody answers, everybody is told, every actor comes to rest, and no worker is kept for nobody.
#[test]
fn in_a_calm_everything_comes_to_rest() {
    let storms = vec(
        act().prop_filter("the replica stays", |act| !matches!(act, Act::Shutdown)),
        1..80,
    );
    let checked = runner(2_000).run(&storms, |acts| {
        let (mut r, mut around) = storm(&EXACT, acts);
        let mut rests = 0;
        loop {
            let input = around
                .stored(r.now, 0, Outcome::Done)
                .or_else(|| around.called(0, Reply::Ok));
            let outputs = match input {
                Some(input) => r.input(input),
                None if rests == 12 => break,
                None => {
                    rests += 1;
                    let report = around.honest_report();
                    around.note(&r.input(report));
                    // What it was not told while the store gave no answers, its watch tells it.
                    around.note(&r.input(Input::Watched(StoreEvent::Resync)));
                    r.pass(EXACT.workflow.sweep_every * 2)
                }
            };
            around.note(&outputs);
        }
        prop_assert_eq!(&around.waiting, &BTreeSet::new(), "they wait for ever");
        for actor in around.store.actors.values() {
            let is_stable = matches!(
                actor.status(),
                Status::Suspended | Status::Running | Status::Paused | Status::Crashed
            );
            prop_assert!(is_stable, "{} is {} for ever", actor.key, actor.status());
        }
        for row in around.store.workers.values() {
            let Some(hosted) = &row.hosts else { continue };
            let actor = around.store.actors.get(&hosted.actor);
            let is_there =
                actor.is_some_and(|a| matches!(&a.state, State::Running { on } if on.worker == row.key));
            prop_assert!(is_there, "{} is kept for {} for ever", row.key, hosted.actor);
        }
        Ok(())
    });
    if let Err(why) = checked {
        panic!("{why}");
    }
}

impl Around {
    /// A report of a node that agrees with the store in everything.
    fn honest_report(&mut self) -> Input {
        self.sequence += 1;
        let agrees = |row: &Worker| {
            let fence = row.hosts.as_ref().map_or(Fence(0), |hosted| hosted.fence);
            Sighting {
                highest_fence: fence,
                ..sighting(row, true)
            }
        };
        let workers = self.store.workers.values().map(agrees).collect();
        let node = self.node_row();
        self.request(Request::Heartbeat(Report { node, workers }))
    }
}
