//! A node, told anything in any order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use holdfast_core::effect::{NodeRow, Place, Verb};
use holdfast_core::id::{EffectId, Fence, Incarnation, Name, OpId, PodUid, RequestId};
use holdfast_core::machine::Machine;
use holdfast_core::node::{
    Alive, Described, Done, Entry, Hosted, Input, Kept, Memory, Node, Order, Output, Pending, Sandbox, Tend,
    Work, WorkFailure, WorkFailureKind,
};
use holdfast_core::pull::{self, Attempt, PullFailure, Retry};
use holdfast_core::session::{Answered, Eviction, Grant};
use holdfast_core::settings::Settings;
use holdfast_core::time::{Duration, Instant};

use crate::feed::Feed;
use crate::world;

const STEPS_MAX: usize = 400;
/// What one input may lead to, besides one answer for each caller who waits.
const OUTPUTS_PER_INPUT_MAX: usize = 64;
/// Within so many answers and wake-ups, nobody waits any more.
const ROUNDS_TO_REST_MAX: usize = 10_000;

/// Whatever it is told, a node does not panic, asks for a bounded number of things at a time, honours its
/// own deadlines, does the work of one operation at a time on each worker, and answers each order once.
pub fn run(data: &[u8]) {
    let mut feed = Feed::new(data);
    let mut scene = Scene::new(&mut feed);
    for _ in 0..STEPS_MAX {
        if feed.is_empty() {
            break;
        }
        scene.step(&mut feed);
    }
    scene.rest();
}

struct Scene {
    node: Node,
    now: Instant,
    /// Callers who wait.
    waiting: BTreeSet<RequestId>,
    requests: u64,
    works: BTreeMap<EffectId, (Work, Arc<Order>)>,
    /// Workers that have been asked what they have.
    looks: BTreeMap<EffectId, PodUid>,
    keeps: BTreeMap<EffectId, Box<Kept>>,
    pulls: BTreeMap<Attempt, Name>,
    is_reporting: bool,
}

impl Scene {
    fn new(feed: &mut Feed<'_>) -> Scene {
        let row = NodeRow {
            name: "n0".into(),
            address: "10.0.0.1:8085".into(),
            incarnation: "1".into(),
            sequence: 0,
            session: 0,
            lapsed: 0,
            version: 0,
        };
        let mut scene = Scene {
            node: Node::new(row, forgetful()),
            now: Instant::from_micros(1_000_000),
            waiting: BTreeSet::new(),
            requests: 0,
            works: BTreeMap::new(),
            looks: BTreeMap::new(),
            keeps: BTreeMap::new(),
            pulls: BTreeMap::new(),
            is_reporting: false,
        };
        let entries = world::some(feed, 4, |feed| (world::pod_uid(feed), entry(feed)));
        let fences = world::some(feed, 4, |feed| {
            let life = (world::actor_key(feed), Incarnation(feed.number()));
            (life, feed.count())
        });
        scene.tell(Input::Start(Memory {
            entries: entries.into_iter().collect(),
            fences: fences.into_iter().collect(),
            floor: Fence(0),
        }));
        scene
    }

    fn step(&mut self, feed: &mut Feed<'_>) {
        match feed.below(16) {
            0..=3 => {
                self.requests += 1;
                let id = RequestId(self.requests);
                self.waiting.insert(id);
                let order = order(feed);
                self.tell(Input::Order(id, Box::new(order)));
            }
            4..=7 => self.answer_work(feed),
            8 | 9 => {
                if let Some((effect, _)) = self.keeps.pop_first() {
                    let result = match feed.below(8) {
                        7 => Err("the disk is full".into()),
                        _ => Ok(()),
                    };
                    self.tell(Input::Kept(effect, result));
                }
            }
            10 => self.answer_pull(feed),
            11 | 12 => {
                let uid = world::pod_uid(feed);
                let input = match feed.below(6) {
                    5 => return self.answer_look(feed),
                    4 => Input::WorkerSilent(uid, described(feed)),
                    3 => Input::WorkerLost(uid),
                    _ => Input::Worker(uid, described(feed)),
                };
                self.tell(input);
            }
            13 => match feed.below(4) {
                0 => self.wake_too_early(),
                1 => {
                    let id = RequestId(feed.number());
                    self.waiting.remove(&id);
                    self.tell(Input::CallerGone(id));
                }
                _ => self.answer_report(feed),
            },
            14 => {
                // Answers to what nobody asked, and to what was cancelled.
                let effect = EffectId(feed.number());
                if !self.works.contains_key(&effect)
                    && !self.keeps.contains_key(&effect)
                    && !self.looks.contains_key(&effect)
                {
                    self.tell(Input::Looked(effect, Ok(described(feed))));
                    self.tell(Input::Worked(effect, Ok(Vec::new())));
                    self.tell(Input::Kept(effect, Ok(())));
                }
                let attempt = Attempt(feed.number());
                if !self.pulls.contains_key(&attempt) {
                    self.tell(Input::Pull(pull::Input::Ended(attempt, Ok(()))));
                }
            }
            _ => self.pass_time(feed),
        }
    }

    fn answer_work(&mut self, feed: &mut Feed<'_>) {
        let at = feed.below(self.works.len());
        let Some(effect) = self.works.keys().nth(at).copied() else {
            return;
        };
        self.works.remove(&effect);
        let result = match feed.below(4) {
            3 => Err(WorkFailure {
                code: feed.pick(&world::CODES),
                message: "as the bytes have it".into(),
                kind: feed.pick(&[
                    WorkFailureKind::Fatal,
                    WorkFailureKind::Gone,
                    WorkFailureKind::Unreachable,
                    WorkFailureKind::Transient,
                ]),
            }),
            _ => Ok(world::some(feed, 3, world::name)),
        };
        self.tell(Input::Worked(effect, result));
    }

    fn answer_look(&mut self, feed: &mut Feed<'_>) {
        if let Some((effect, _)) = self.looks.pop_first() {
            let answer = match feed.below(4) {
                3 => Err("nobody listens".into()),
                _ => Ok(described(feed)),
            };
            self.tell(Input::Looked(effect, answer));
        }
    }

    fn answer_pull(&mut self, feed: &mut Feed<'_>) {
        let at = feed.below(self.pulls.len());
        let Some(attempt) = self.pulls.keys().nth(at).copied() else {
            return;
        };
        let failure = PullFailure {
            code: feed.pick(&world::CODES),
            message: "as the bytes have it".into(),
            retry: feed.pick(&[Retry::Helps, Retry::Useless]),
        };
        let input = match feed.below(4) {
            0 => pull::Input::Progress(attempt, feed.number()),
            1 => pull::Input::Ended(attempt, Err(failure)),
            _ => pull::Input::Ended(attempt, Ok(())),
        };
        if matches!(input, pull::Input::Ended(..)) {
            self.pulls.remove(&attempt);
        }
        self.tell(Input::Pull(input));
    }

    fn answer_report(&mut self, feed: &mut Feed<'_>) {
        if std::mem::take(&mut self.is_reporting) {
            let answer = match feed.below(4) {
                3 => Err("nobody is there".into()),
                2 => Ok(Answered::Over {
                    lapsed: feed.number(),
                }),
                _ => Ok(granted(world::some(feed, 2, |feed| Eviction {
                    pod_uid: world::pod_uid(feed),
                    fence: feed.count(),
                }))),
            };
            self.tell(Input::Reported(answer));
        }
    }

    /// Time passes as the node wishes it to, or less.
    fn pass_time(&mut self, feed: &mut Feed<'_>) {
        let until = self.now.plus(Duration::from_millis(1 << feed.below(20)));
        for _ in 0..64 {
            match self.node.poll_timeout() {
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
        self.node.handle_timeout(self.now);
        self.perform();
        if let Some((deadline, timer)) = self.node.poll_timeout() {
            assert!(
                deadline > self.now,
                "woken for {timer:?}, it wants to be woken again at once"
            );
        }
    }

    fn wake_too_early(&mut self) {
        if self
            .node
            .poll_timeout()
            .is_some_and(|(deadline, _)| deadline <= self.now)
        {
            return;
        }
        let before = self.node.clone();
        self.node.handle_timeout(self.now);
        assert!(self.node == before, "a wake-up too many changed something");
    }

    fn tell(&mut self, input: Input) {
        self.node.handle(self.now, input);
        self.perform();
    }

    fn perform(&mut self) {
        let bound = OUTPUTS_PER_INPUT_MAX + self.waiting.len();
        for _ in 0..bound {
            let Some(output) = self.node.poll_output() else {
                return self.check_one_operation_per_worker();
            };
            match output {
                Output::Work(effect, work, order) => {
                    let before = self.works.insert(effect, (work, order));
                    assert!(before.is_none(), "two effects of one id");
                }
                Output::Keep(effect, kept) => {
                    let before = self.keeps.insert(effect, kept);
                    assert!(before.is_none(), "two effects of one id");
                }
                Output::Look(effect, uid) => {
                    assert!(
                        self.looks.values().all(|asked| *asked != uid),
                        "worker {uid} is asked twice at a time"
                    );
                    assert!(
                        self.node.operation(&uid).is_none(),
                        "it asks in the middle of an operation"
                    );
                    let before = self.looks.insert(effect, uid);
                    assert!(before.is_none(), "two effects of one id");
                }
                Output::Cancel(effect) => {
                    self.looks.remove(&effect);
                    // What is on its way to the disk may arrive there all the same.
                    self.works.remove(&effect);
                    self.keeps.remove(&effect);
                }
                Output::Pull(image, attempt) => {
                    assert!(
                        self.pulls.values().all(|other| *other != image),
                        "{image} is pulled twice"
                    );
                    self.pulls.insert(attempt, image);
                }
                Output::CancelPull(attempt) => {
                    self.pulls.remove(&attempt);
                }
                Output::Reply(id, reply) => {
                    assert!(self.waiting.remove(&id), "a second answer for {id}: {reply:?}");
                }
                Output::Report(_) => {
                    assert!(!self.is_reporting, "two reports at a time");
                    self.is_reporting = true;
                }
                Output::Tend { tend, .. } => {
                    let is_over =
                        matches!(tend, Tend::Extend(until) | Tend::Thaw(until) if until <= self.now);
                    assert!(!is_over, "a worker is told of a time that has passed: {tend:?}");
                }
                Output::Note(_) | Output::Moved(..) => {}
            }
        }
        panic!("more than {bound} outputs for one input");
    }

    fn check_one_operation_per_worker(&self) {
        let mut orders: BTreeMap<&PodUid, &Arc<Order>> = BTreeMap::new();
        for (_, order) in self.works.values() {
            let first = orders.entry(&order.worker).or_insert(order);
            assert!(
                Arc::ptr_eq(first, order),
                "two operations at work on worker {}",
                order.worker
            );
        }
    }

    /// Everything is answered, and then nobody waits.
    fn rest(&mut self) {
        for _ in 0..ROUNDS_TO_REST_MAX {
            if self.waiting.is_empty() {
                return;
            }
            if let Some((effect, _)) = self.keeps.pop_first() {
                self.tell(Input::Kept(effect, Ok(())));
            } else if let Some((effect, _)) = self.works.pop_first() {
                self.tell(Input::Worked(effect, Ok(Vec::new())));
            } else if let Some((attempt, _)) = self.pulls.pop_first() {
                self.tell(Input::Pull(pull::Input::Ended(attempt, Ok(()))));
            } else if std::mem::take(&mut self.is_reporting) {
                self.tell(Input::Reported(Ok(granted(Vec::new()))));
            } else if let Some((deadline, _)) = self.node.poll_timeout() {
                self.now = self.now.max(deadline);
                self.wake();
            } else {
                break;
            }
        }
        assert!(self.waiting.is_empty(), "no answer for {:?}", self.waiting);
    }
}

/// Settings by which a node forgets fences now and then.
fn forgetful() -> Settings {
    let mut settings = Settings::DEFAULT;
    settings.node.fences_max = 4;
    settings
}

/// A session that goes on.
fn granted(evict: Vec<Eviction>) -> Answered {
    Answered::Granted(Grant {
        ttl: Duration::from_secs(90),
        heartbeat_every: Duration::from_secs(30),
        evict,
    })
}

fn verb(feed: &mut Feed<'_>) -> Verb {
    let place = |feed: &mut Feed<'_>| match feed.flip() {
        true => Place::Local(world::name(feed)),
        false => Place::External(world::name(feed)),
    };
    match feed.below(6) {
        0 => Verb::Run {
            assets: world::assets(),
        },
        1 => Verb::Restore {
            from: place(feed),
            scope: world::scope(feed),
        },
        2 => Verb::Checkpoint {
            to: place(feed),
            scope: world::scope(feed),
        },
        3 => Verb::Upload {
            name: world::name(feed),
            to: world::name(feed),
        },
        4 => Verb::Thaw,
        _ => Verb::Stop,
    }
}

fn order(feed: &mut Feed<'_>) -> Order {
    Order {
        worker: match feed.below(8) {
            7 => PodUid::default(),
            _ => world::pod_uid(feed),
        },
        worker_fence: feed.count(),
        actor: world::actor_key(feed),
        incarnation: Incarnation(feed.number() % 2),
        fence: feed.count(),
        op: world::maybe(feed, few_ops),
        template: ("ns".into(), "t0".into()),
        workload: Arc::new(world::workload(feed)),
        session: world::session(feed),
        run: Name::default(),
        verb: verb(feed),
    }
}

/// Few enough that repetitions happen.
fn few_ops(feed: &mut Feed<'_>) -> OpId {
    OpId {
        seq: feed.below(4) as u64,
        ..world::op(&mut Feed::new(&[]))
    }
}

fn sandbox(feed: &mut Feed<'_>) -> Sandbox {
    feed.pick(&[Sandbox::Running, Sandbox::Frozen, Sandbox::Busy, Sandbox::Stopped])
}

fn described(feed: &mut Feed<'_>) -> Described {
    Described {
        key: world::worker_key(feed),
        ip: world::name(feed),
        incarnation: world::name(feed),
        duty: world::duty(feed),
        sandbox: world::maybe(feed, |feed| Alive {
            actor: world::actor_key(feed).name,
            op: world::maybe(feed, few_ops),
            sandbox: sandbox(feed),
        }),
    }
}

fn entry(feed: &mut Feed<'_>) -> Entry {
    Entry {
        highest: feed.count(),
        voided: feed.count(),
        hosted: world::maybe(feed, |feed| Hosted {
            actor: world::actor_key(feed),
            incarnation: Incarnation(feed.number() % 2),
            template: ("ns".into(), "t0".into()),
            op: few_ops(feed),
            session: world::session(feed),
            sandbox: sandbox(feed),
        }),
        current: world::maybe(feed, |feed| Pending {
            op: few_ops(feed),
            actor: world::actor_key(feed),
            incarnation: Incarnation(feed.number() % 2),
            template: ("ns".into(), "t0".into()),
            verb: verb(feed),
            captured: world::maybe(feed, |feed| world::some(feed, 3, world::name)),
        }),
        last: world::maybe(feed, |feed| Done {
            op: few_ops(feed),
            result: match feed.flip() {
                true => Err(world::node_failure(feed)),
                false => Ok(()),
            },
        }),
    }
}
