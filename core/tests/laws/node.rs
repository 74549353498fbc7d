//! A node: its surroundings, and what holds of it alone.

use crate::history::{EXACT, Happening, History, Recorder, gaps, holds, play_one};
use crate::stage::{catalog, template, worker_key};
use holdfast_core::catalog::{Scope, Workload};
use holdfast_core::effect::{NodeFailureKind, NodeReply, NodeRow, Place, Verb};
use holdfast_core::failure::Code;
use holdfast_core::id::*;
use holdfast_core::machine::Machine;
use holdfast_core::node::{
    Alive, Described, Input, Memory, Node, Order, Output, Sandbox, Work, WorkFailure, WorkFailureKind,
    WorkResult,
};
use holdfast_core::pull;
use holdfast_core::session::{Answered, Grant};
use holdfast_core::settings::Settings;
use holdfast_core::time::Duration;
use holdfast_core::worker::Duty;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub struct Subject;

impl crate::history::Subject for Subject {
    type Input = Input;
    type Output = Output;
    type Machine = Node;

    fn fresh(settings: &Settings) -> Node {
        let row = NodeRow {
            name: "node".into(),
            address: "address".into(),
            incarnation: "atelet".into(),
            sequence: 0,
            session: 0,
            lapsed: 0,
            version: 0,
        };
        Node::new(row, *settings)
    }

    fn histories(settings: Settings) -> BoxedStrategy<History<Input>> {
        vec(act(), 1..60)
            .prop_map(move |acts| record(&settings, acts))
            .boxed()
    }

    fn is_idempotent(input: &Input) -> bool {
        !matches!(input, Input::Start(_) | Input::Order(..))
    }

    /// What happened to a pull is told to those who watch.
    fn is_reminder(output: &Output) -> bool {
        matches!(output, Output::Moved(..))
    }

    fn stretched(input: Input, times: u32) -> Input {
        match input {
            Input::Reported(Ok(Answered::Granted(grant))) => Input::Reported(Ok(Answered::Granted(Grant {
                ttl: grant.ttl * times,
                heartbeat_every: grant.heartbeat_every * times,
                ..grant
            }))),
            other => other,
        }
    }

    fn stretched_gist(output: Output, _: u32) -> Output {
        match output {
            Output::Note(_) => Output::Note(String::new()),
            Output::Reply(id, reply) => Output::Reply(id, untold(reply)),
            Output::Keep(id, mut kept) => {
                if let Some(done) = &mut kept.entry.last {
                    done.result = untold(done.result.clone());
                }
                Output::Keep(id, kept)
            }
            other => other,
        }
    }
}

/// A reply without its text, which may quote how long a pull has hung.
fn untold(reply: NodeReply) -> NodeReply {
    reply.map_err(|mut failure| {
        failure.message = String::new();
        failure
    })
}

#[derive(Clone, Debug)]
pub enum Act {
    Order(Wish),
    /// The order before, once more.
    Again,
    /// One of the steps under way ends.
    Work(usize, Option<WorkFailureKind>),
    /// A write of the journal ends.
    Keep(usize, bool),
    /// A pull moves, or ends.
    Move(usize, u64),
    End(usize, bool),
    /// An ateom says that its sandbox is gone, or that it runs what was ordered last, or is gone itself.
    Empty(u8),
    Alive(u8, u8),
    Lost(u8),
    /// It answers what it has: nothing, or what was ordered last; or it does not.
    Look(usize, Option<bool>),
    CallersLeave,
    Reported(bool),
    Pass(Duration),
    Wild(u64, WorkFailureKind),
}

/// An order, before it has numbers.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    pub verb: Kind,
    pub actor: u8,
    pub worker: u8,
    /// Whether it carries the newest fences, or older ones.
    pub is_stale: bool,
    /// Whether it is a new promise of the worker.
    pub is_new_promise: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Run,
    Restore,
    Checkpoint,
    Upload,
    Stop,
}

fn wish() -> impl Strategy<Value = Wish> {
    let verb = prop_oneof![
        2 => Just(Kind::Run),
        3 => Just(Kind::Restore),
        3 => Just(Kind::Checkpoint),
        1 => Just(Kind::Upload),
        2 => Just(Kind::Stop),
    ];
    (
        verb,
        0..2u8,
        0..2u8,
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.4),
    )
        .prop_map(|(verb, actor, worker, is_stale, is_new_promise)| Wish {
            verb,
            actor,
            worker,
            is_stale,
            is_new_promise,
        })
}

pub fn fault() -> impl Strategy<Value = WorkFailureKind> {
    prop_oneof![
        Just(WorkFailureKind::Fatal),
        Just(WorkFailureKind::Gone),
        Just(WorkFailureKind::Unreachable),
        Just(WorkFailureKind::Transient),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let outcome = prop_oneof![5 => Just(None), 1 => fault().prop_map(Some)];
    prop_oneof![
        6 => wish().prop_map(Act::Order),
        2 => Just(Act::Again),
        14 => (any::<usize>(), outcome).prop_map(|(n, outcome)| Act::Work(n, outcome)),
        12 => (any::<usize>(), prop::bool::weighted(0.95)).prop_map(|(n, is_ok)| Act::Keep(n, is_ok)),
        1 => (any::<usize>(), 0..100u64).prop_map(|(n, bytes)| Act::Move(n, bytes)),
        5 => (any::<usize>(), prop::bool::weighted(0.8)).prop_map(|(n, is_ok)| Act::End(n, is_ok)),
        1 => (0..2u8).prop_map(Act::Empty),
        1 => (0..2u8, 0..2u8).prop_map(|(worker, actor)| Act::Alive(worker, actor)),
        1 => (0..2u8).prop_map(Act::Lost),
        2 => (any::<usize>(), any::<Option<bool>>()).prop_map(|(n, is_empty)| Act::Look(n, is_empty)),
        1 => Just(Act::CallersLeave),
        3 => prop::bool::weighted(0.8).prop_map(Act::Reported),
        6 => gaps().prop_map(Act::Pass),
        // Effects that nobody asked for; an answer of another kind than its question cannot be written.
        1 => (1_000..1_040u64, fault()).prop_map(|(n, kind)| Act::Wild(n, kind)),
    ]
}

fn pod(worker: u8) -> PodUid {
    format!("w{worker}").into()
}

fn described(worker: u8) -> Described {
    Described {
        key: worker_key(&format!("w{worker}")),
        ip: "ip".into(),
        incarnation: "run".into(),
        duty: Duty::Serving,
        sandbox: None,
    }
}

/// Whoever orders, ateoms, disk and registry of a node, who answer when the history says so.
#[derive(Default)]
pub struct Surroundings {
    steps: Vec<(EffectId, Work)>,
    looks: Vec<(EffectId, u8)>,
    keeps: Vec<EffectId>,
    pulls: Vec<pull::Attempt>,
    bytes: u64,
    last: Option<Order>,
    orders: u64,
    fences: BTreeMap<u8, u64>,
    promises: BTreeMap<u8, u64>,
    /// Where its numbers begin.
    pub base: u64,
}

impl Surroundings {
    pub fn start() -> [Input; 3] {
        [
            Input::Start(Memory::default()),
            Input::Worker(pod(0), described(0)),
            Input::Worker(pod(1), described(1)),
        ]
    }

    pub fn note(&mut self, outputs: &[Output]) {
        for output in outputs {
            match output {
                Output::Work(effect, work, _) => self.steps.push((*effect, work.clone())),
                Output::Look(effect, uid) => self.looks.push((*effect, u8::from(*uid != pod(0)))),
                Output::Keep(effect, _) => self.keeps.push(*effect),
                Output::Pull(_, attempt) => self.pulls.push(*attempt),
                Output::Cancel(effect) => {
                    self.steps.retain(|(id, _)| id != effect);
                    self.looks.retain(|(id, _)| id != effect);
                }
                Output::CancelPull(attempt) => self.pulls.retain(|a| a != attempt),
                Output::Reply(..)
                | Output::Report(_)
                | Output::Tend { .. }
                | Output::Note(_)
                | Output::Moved(..) => {}
            }
        }
    }

    fn order(&mut self, wish: Wish) -> Order {
        let fence = self.fences.entry(wish.actor).or_insert(10);
        let promise = self.promises.entry(wish.worker).or_insert(10);
        *fence += 1;
        if wish.is_new_promise {
            *promise += 2;
        }
        let late = u64::from(wish.is_stale) * 3;
        self.orders += 1;
        let verb = match wish.verb {
            Kind::Run => Verb::Run {
                assets: catalog(Some(template()))
                    .assets(&("ns".into(), "pool".into()))
                    .expect("a pool"),
            },
            Kind::Restore => Verb::Restore {
                from: Place::External("mem:1".into()),
                scope: Scope::Full,
            },
            Kind::Checkpoint => Verb::Checkpoint {
                to: Place::External(format!("mem:{}", self.orders).into()),
                scope: Scope::Full,
            },
            Kind::Upload => Verb::Upload {
                name: "s".into(),
                to: "mem:s".into(),
            },
            Kind::Stop => Verb::Stop,
        };
        let is_upload = wish.verb == Kind::Upload;
        let order = Order {
            worker: if is_upload {
                PodUid::default()
            } else {
                pod(wish.worker)
            },
            worker_fence: Fence(if is_upload {
                0
            } else {
                promise.saturating_sub(late)
            }),
            actor: ActorKey::new("space", format!("a{}", wish.actor).as_str()),
            incarnation: Incarnation(7),
            fence: Fence(fence.saturating_sub(late)),
            op: Some(OpId {
                replica: ReplicaId(1),
                seq: self.base + self.orders,
            }),
            template: ("ns".into(), "counter".into()),
            workload: Arc::new(Workload {
                pause_image: format!("image-{}", wish.actor).into(),
                containers: Vec::new(),
                durable_volumes: Vec::new(),
            }),
            session: 0,
            run: Name::default(),
            verb,
        };
        self.last = Some(order.clone());
        order
    }

    /// What ateom says that runs what was ordered last.
    fn running(&self, worker: u8, actor: u8) -> Described {
        Described {
            sandbox: Some(Alive {
                actor: format!("a{actor}").into(),
                op: self.last.as_ref().and_then(|order| order.op),
                sandbox: Sandbox::Running,
            }),
            ..described(worker)
        }
    }

    /// What happens at an act, if anything can.
    pub fn input(&mut self, act: &Act) -> Option<Input> {
        Some(match act {
            Act::Order(wish) => {
                let order = self.order(*wish);
                Input::Order(RequestId(self.base + self.orders * 100), Box::new(order))
            }
            Act::Again => {
                let order = self.last.clone()?;
                self.bytes += 1;
                let id = RequestId(self.base + self.orders * 100 + self.bytes % 100);
                Input::Order(id, Box::new(order))
            }
            Act::Work(n, outcome) => {
                let n = n.checked_rem(self.steps.len())?;
                let (effect, work) = self.steps.remove(n);
                Input::Worked(effect, result(&work, *outcome))
            }
            Act::Keep(n, is_ok) => {
                let n = n.checked_rem(self.keeps.len())?;
                let result = if *is_ok { Ok(()) } else { Err("disk full".into()) };
                Input::Kept(self.keeps.remove(n), result)
            }
            Act::Move(n, bytes) => {
                let n = n.checked_rem(self.pulls.len())?;
                self.bytes += bytes;
                Input::Pull(pull::Input::Progress(self.pulls[n], self.bytes))
            }
            Act::End(n, is_ok) => {
                let n = n.checked_rem(self.pulls.len())?;
                let failure = pull::PullFailure {
                    code: Code::Unavailable,
                    message: "no".into(),
                    retry: pull::Retry::Helps,
                };
                let result = if *is_ok { Ok(()) } else { Err(failure) };
                Input::Pull(pull::Input::Ended(self.pulls.remove(n), result))
            }
            Act::Empty(worker) => Input::Worker(pod(*worker), described(*worker)),
            Act::Look(n, is_empty) => {
                let n = n.checked_rem(self.looks.len())?;
                let (effect, worker) = self.looks.remove(n);
                Input::Looked(
                    effect,
                    match is_empty {
                        Some(true) => Ok(described(worker)),
                        Some(false) => Ok(self.running(worker, worker)),
                        None => Err("it does not answer".into()),
                    },
                )
            }
            Act::Alive(worker, actor) => Input::Worker(pod(*worker), self.running(*worker, *actor)),
            Act::Lost(worker) => Input::WorkerLost(pod(*worker)),
            Act::CallersLeave => Input::CallerGone(RequestId(self.base + self.orders * 100)),
            Act::Reported(true) => Input::Reported(Ok(Answered::Granted(Grant {
                ttl: EXACT.node.session_ttl,
                heartbeat_every: EXACT.node.heartbeat_every,
                evict: Vec::new(),
            }))),
            Act::Reported(false) => Input::Reported(Err("no".into())),
            Act::Wild(n, kind) => {
                Input::Worked(EffectId(*n), result(&Work::Boot { until: None }, Some(*kind)))
            }
            Act::Pass(_) => return None,
        })
    }
}

fn result(work: &Work, outcome: Option<WorkFailureKind>) -> WorkResult {
    match outcome {
        None if *work == Work::Capture => Ok(vec!["checkpoint".into()]),
        None => Ok(Vec::new()),
        Some(kind) => Err(WorkFailure {
            code: Code::Unavailable,
            message: "no".into(),
            kind,
        }),
    }
}

fn record(settings: &Settings, acts: Vec<Act>) -> History<Input> {
    let mut r = Recorder::new(<Subject as crate::history::Subject>::fresh(settings));
    let mut around = Surroundings::default();
    for input in Surroundings::start() {
        around.note(&r.input(input));
    }
    for act in acts {
        let outputs = match (&act, around.input(&act)) {
            (Act::Pass(gap), _) => r.pass(*gap),
            (_, Some(input)) => r.input(input),
            (_, None) => continue,
        };
        around.note(&outputs);
    }
    r.history
}

/// What a node may be asked to do while something else is under way there.
#[derive(Default)]
struct Ledger {
    waiting: BTreeSet<RequestId>,
    /// Steps in ateom that are under way: worker and actor.
    in_ateom: BTreeMap<EffectId, (PodUid, ActorKey)>,
    /// Writes of the journal that are under way: worker, and the operation that it says is under way there.
    keeping: BTreeMap<EffectId, (PodUid, Option<OpId>)>,
    /// The operations that were on disk as under way.
    kept: BTreeSet<(PodUid, OpId)>,
    highest: BTreeMap<PodUid, Fence>,
}

/// Every order is answered at most once, and only whoever waits; ateom is asked about a worker by one
/// operation at a time, and never before the disk has the order; and no fence ever falls.
#[test]
fn one_operation_at_a_time_and_the_disk_first() {
    holds::<Subject>(|history| {
        let mut node = <Subject as crate::history::Subject>::fresh(&EXACT);
        let mut ledger = Ledger::default();
        for (now, happening) in history {
            match &happening {
                Happening::Input(Input::Order(id, _)) => {
                    ledger.waiting.insert(*id);
                }
                Happening::Input(Input::CallerGone(id)) => {
                    ledger.waiting.remove(id);
                }
                Happening::Input(Input::Worked(effect, _)) => {
                    ledger.in_ateom.remove(effect);
                }
                Happening::Input(Input::Kept(effect, result)) => {
                    if let (Some((worker, Some(op))), Ok(())) = (ledger.keeping.remove(effect), result) {
                        ledger.kept.insert((worker, op));
                    }
                }
                _ => {}
            }
            for output in play_one(&mut node, now, happening) {
                match output {
                    Output::Reply(id, _) => prop_assert!(ledger.waiting.remove(&id), "{id} was not waiting"),
                    Output::Work(
                        effect,
                        Work::Boot { .. } | Work::Thaw { .. } | Work::Capture | Work::Stop,
                        order,
                    ) => {
                        prop_assert!(
                            !ledger
                                .in_ateom
                                .values()
                                .any(|(worker, _)| *worker == order.worker),
                            "two at once on {}",
                            order.worker
                        );
                        let is_kept = order
                            .op
                            .is_some_and(|op| ledger.kept.contains(&(order.worker.clone(), op)));
                        prop_assert!(is_kept, "ateom of {} hears before the disk has it", order.worker);
                        ledger
                            .in_ateom
                            .insert(effect, (order.worker.clone(), order.actor.clone()));
                    }
                    Output::Cancel(effect) => {
                        ledger.in_ateom.remove(&effect);
                        ledger.keeping.remove(&effect);
                    }
                    Output::Keep(effect, kept) => {
                        let highest = ledger.highest.entry(kept.worker.clone()).or_default();
                        prop_assert!(
                            kept.entry.highest >= *highest,
                            "the fence of {} falls",
                            kept.worker
                        );
                        *highest = kept.entry.highest;
                        let current = kept.entry.current.as_ref().map(|pending| pending.op);
                        ledger.keeping.insert(effect, (kept.worker, current));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    });
}

/// When an order's outcome is on disk, its repetition gets the same answer and begins nothing: at once, or, if
/// somebody has shown a higher fence since, as soon as that is on disk too.
#[test]
fn an_order_that_has_ended_is_told_its_end_again() {
    holds::<Subject>(|history| {
        let mut node = <Subject as crate::history::Subject>::fresh(&EXACT);
        let mut asked: BTreeMap<RequestId, Order> = BTreeMap::new();
        for (now, happening) in history {
            if let Happening::Input(Input::Order(id, order)) = &happening {
                asked.insert(*id, (**order).clone());
            }
            for output in play_one(&mut node, now, happening) {
                let Output::Reply(id, reply) = output else {
                    continue;
                };
                let Some(order) = asked.get(&id) else { continue };
                let is_final = reply
                    .as_ref()
                    .err()
                    .is_none_or(|f| f.kind == NodeFailureKind::Crash);
                // An upload may be made again, a Stop has nothing to tell, and either begins anew.
                if !is_final || matches!(order.verb, Verb::Upload { .. } | Verb::Stop) {
                    continue;
                }
                let mut later = node.clone();
                let again = Input::Order(RequestId(u64::MAX), Box::new(order.clone()));
                let mut told = play_one(&mut later, now, Happening::Input(again));
                if let [Output::Keep(effect, _)] = told[..] {
                    told = play_one(&mut later, now, Happening::Input(Input::Kept(effect, Ok(()))));
                }
                let is_stale = |r: &NodeReply| matches!(r, Err(f) if matches!(f.kind, NodeFailureKind::StaleFence { .. }));
                match &told[..] {
                    [Output::Reply(_, same)] => {
                        prop_assert!(*same == reply || is_stale(same), "{:?}, then {:?}", reply, same)
                    }
                    other => prop_assert!(false, "{reply:?}, then {other:?}"),
                }
            }
        }
        Ok(())
    });
}

/// Whatever was begun comes to an end when everybody answers: nothing is left under way.
#[test]
fn with_answers_everything_ends() {
    holds::<Subject>(|history| {
        let mut r = Recorder::new(<Subject as crate::history::Subject>::fresh(&EXACT));
        let mut around = Surroundings::default();
        let mut waiting: BTreeSet<RequestId> = BTreeSet::new();
        for (now, happening) in history {
            r.now = now;
            if let Happening::Input(Input::Order(id, _)) = &happening {
                waiting.insert(*id);
            }
            match &happening {
                Happening::Input(Input::Worked(effect, _)) => around.steps.retain(|(id, _)| id != effect),
                Happening::Input(Input::Looked(effect, _)) => around.looks.retain(|(id, _)| id != effect),
                Happening::Input(Input::Kept(effect, _)) => around.keeps.retain(|id| id != effect),
                Happening::Input(Input::Pull(pull::Input::Ended(attempt, _))) => {
                    around.pulls.retain(|a| a != attempt);
                }
                Happening::Input(Input::CallerGone(id)) => {
                    waiting.remove(id);
                }
                _ => {}
            }
            let outputs = play_one(&mut r.machine, now, happening);
            waiting.retain(|id| {
                !outputs
                    .iter()
                    .any(|o| matches!(o, Output::Reply(told, _) if told == id))
            });
            around.note(&outputs);
        }
        for _ in 0..400 {
            let next = [
                Act::Keep(0, true),
                Act::Look(0, Some(true)),
                Act::Work(0, None),
                Act::End(0, true),
                Act::Reported(true),
            ];
            let outputs = match next.iter().find_map(|act| around.input(act)) {
                Some(Input::Reported(_)) | None => r.pass(EXACT.workflow.retry_to * 2),
                Some(input) => r.input(input),
            };
            waiting.retain(|id| {
                !outputs
                    .iter()
                    .any(|o| matches!(o, Output::Reply(told, _) if told == id))
            });
            around.note(&outputs);
        }
        prop_assert!(waiting.is_empty(), "{waiting:?} wait for ever: {:?}", r.machine);
        prop_assert_eq!(r.machine.poll_output(), None);
        Ok(())
    });
}
