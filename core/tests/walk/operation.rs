//! The operation on a worker.

use super::{Walk, Walked};
use holdfast_core::catalog::{SandboxAssets, Scope, Workload};
use holdfast_core::effect::{NodeRow, Place, Verb};
use holdfast_core::failure::Code;
use holdfast_core::id::{
    ActorKey, EffectId, Fence, Incarnation, Name, OpId, PodUid, ReplicaId, RequestId, WorkerKey,
};
use holdfast_core::machine::Machine;
use holdfast_core::node::operation::{Event, Phase, TABLE};
use holdfast_core::node::{
    Alive, Described, Entry, Input, Memory, Node, Order, Output, Sandbox, Timer, WorkFailure, WorkFailureKind,
};
use holdfast_core::pull::{self, Attempt, PullFailure, Retry};
use holdfast_core::session::{Answered, Grant, Term};
use holdfast_core::settings::Settings;
use holdfast_core::table::{ABSENT, Kind, Moved};
use holdfast_core::time::{Duration, Instant};
use holdfast_core::worker::Duty;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Along every way through an operation, and astray from each place on it.
pub fn walk() -> Walk {
    let mut walk = Walk::default();
    for path in paths() {
        super::stray(&mut walk, &Operating::new(), &path);
    }
    let saving = [Deed::Again, Deed::Done, Deed::Kept];
    super::stray(&mut walk, &Operating::restarted_while_saving(), &saving);
    walk
}

/// Does whatever these numbers say to a node that has just heard of its worker; panics where its table does
/// not have what becomes of its operation.
pub fn wander(numbers: &[usize]) {
    let deeds = Operating::deeds();
    let mut operating = Operating::new();
    let mut walk = Walk::default();
    for number in numbers {
        walk.take(&mut operating, deeds[number % deeds.len()]);
    }
}

/// Every way through: what is done in turn, from a node that has just heard of its worker.
fn paths() -> Vec<Vec<Deed>> {
    use Deed::*;
    use WorkFailureKind::{Fatal, Transient, Unreachable};
    let licence = [Wake, Granted];
    let boot = [Kept, Done, Pulled, Done, Done, Done, Kept];
    let tries = |failure, times| [Fail(failure), Wake].repeat(times);
    let running = [&licence[..], &[Restore], &boot[..], &[SaysRunning, Kept]].concat();
    let freezing = [&running[..], &[Wake, Over, SaysFrozen, Kept, Wake, Granted, Thaw]].concat();
    vec![
        [&running[..], &[Checkpoint, Kept, Done, Kept, Done, Kept]].concat(),
        // A restore that fails is cleaned up after; one that cannot be asked for is tried again.
        [
            &licence[..],
            &[Restore],
            &boot[..5],
            &tries(Fatal, 3),
            &[Done, Kept],
        ]
        .concat(),
        [&licence[..], &[Restore], &boot[..5], &tries(Unreachable, 4)].concat(),
        // A boot from images.
        [&licence[..], &[Run], &boot[..4], &[Fail(Fatal)]].concat(),
        [&licence[..], &[Run, Kept, Done, Unpulled, Kept]].concat(),
        // The session ends on the way.
        [&licence[..], &[Wake, Restore], &boot[..4], &[Over]].concat(),
        [
            &licence[..],
            &[Wake, Restore, Done, Pulled, Done, Done, Over, Kept],
        ]
        .concat(),
        [
            &licence[..],
            &[Wake, Restore],
            &boot[..5],
            &[Fail(Unreachable), Over, Wake],
        ]
        .concat(),
        // A checkpoint that cannot be asked for, or cannot be stored.
        [&running[..], &[Checkpoint, Kept], &tries(Unreachable, 4)].concat(),
        [&running[..], &[Checkpoint, Kept, Lost]].concat(),
        [
            &running[..],
            &[Checkpoint, Kept, Done, Kept],
            &tries(Transient, 8),
        ]
        .concat(),
        // What runs is stopped, if that can be asked for.
        [&running[..], &[Stop, Kept, Done, Kept]].concat(),
        [&running[..], &[Stop, Kept], &tries(Unreachable, 4)].concat(),
        // What is frozen goes on, unless the session has ended again.
        [&freezing[..], &[Kept, Done, Kept]].concat(),
        [&freezing[..], &[Wake, Over, Kept]].concat(),
        [&freezing[..], &[Kept, Wake, Fail(Unreachable), Over, Wake]].concat(),
        [&freezing[..], &[Kept], &tries(Unreachable, 4)].concat(),
        // A snapshot on the node's disk.
        vec![Upload, Done, Kept],
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Run,
    Restore,
    Checkpoint,
    Upload,
    Stop,
    Thaw,
    /// The last order once more.
    Again,
    /// The longest pending step succeeds.
    Done,
    /// It fails.
    Fail(WorkFailureKind),
    Kept,
    Unkept,
    Pulled,
    Unpulled,
    /// The next deadline.
    Wake,
    Granted,
    Over,
    Appears,
    SaysRunning,
    SaysFrozen,
    Lost,
}

/// A node with one worker, and what it waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Operating {
    node: Node,
    now: Instant,
    last: Option<Order>,
    seq: u64,
    steps: Vec<EffectId>,
    keeps: Vec<(EffectId, Entry)>,
    pulls: Vec<Attempt>,
    disk: Entry,
}

impl Operating {
    fn new() -> Operating {
        let mut operating = Operating {
            node: node(),
            now: Instant::from_micros(1_000_000),
            last: None,
            seq: 0,
            steps: Vec::new(),
            keeps: Vec::new(),
            pulls: Vec::new(),
            disk: Entry::default(),
        };
        operating.start(BTreeMap::new());
        operating.suffer(Deed::Appears);
        assert_eq!(operating.moves(), []);
        operating
    }

    /// A daemon that died when the files of a checkpoint were being saved, and starts again with its disk.
    fn restarted_while_saving() -> Operating {
        use Deed::*;
        let mut before = Operating::new();
        let boot = [
            Restore,
            Kept,
            Done,
            Pulled,
            Done,
            Done,
            Done,
            Kept,
            SaysRunning,
            Kept,
        ];
        for deed in boot.into_iter().chain([Checkpoint, Kept, Done, Kept]) {
            before.suffer(deed);
            before.moves();
        }
        assert_eq!(before.phase(), Phase::Saving.name());
        let mut after = Operating {
            node: node(),
            steps: Vec::new(),
            keeps: Vec::new(),
            pulls: Vec::new(),
            ..before
        };
        after.start([(uid(), after.disk.clone())].into());
        after.says(None);
        after.moves();
        after
    }

    fn start(&mut self, entries: BTreeMap<PodUid, Entry>) {
        self.input(Input::Start(Memory {
            entries,
            ..Memory::default()
        }));
    }

    fn input(&mut self, input: Input) {
        self.node.handle(self.now, input);
    }

    fn order(&mut self, verb: Verb) {
        self.seq += 1;
        let session = match self.node.session().term() {
            Term::Until(_) => self.node.session().number(),
            Term::Ungranted | Term::Lapsed => 0,
        };
        let order = Order {
            worker: uid(),
            worker_fence: Fence(self.seq * 10),
            actor: ActorKey::new("space", "a"),
            incarnation: Incarnation(7),
            fence: Fence(1),
            op: Some(self.op()),
            template: ("ns".into(), "counter".into()),
            workload: Arc::new(Workload {
                pause_image: "pause".into(),
                ..Workload::default()
            }),
            session,
            run: Name::default(),
            verb,
        };
        self.last = Some(order.clone());
        self.input(Input::Order(RequestId(self.seq), Box::new(order)));
    }

    fn op(&self) -> OpId {
        OpId {
            replica: ReplicaId(1),
            seq: self.seq,
        }
    }

    fn says(&mut self, sandbox: Option<Sandbox>) {
        let alive = |sandbox| Alive {
            actor: "a".into(),
            op: Some(self.op()),
            sandbox,
        };
        let described = Described {
            key: WorkerKey::new("ns", "pool", "pod"),
            ip: "ip".into(),
            incarnation: "run".into(),
            duty: Duty::Serving,
            sandbox: sandbox.map(alive),
        };
        self.input(Input::Worker(uid(), described));
    }

    /// The end of the longest pending step, or of one that is not pending.
    fn worked(&mut self, result: Result<Vec<Name>, WorkFailureKind>) -> Event {
        let effect = if self.steps.is_empty() {
            EffectId(0)
        } else {
            self.steps.remove(0)
        };
        let event = match result {
            Ok(_) => Event::Done,
            Err(WorkFailureKind::Fatal) => Event::Fatal,
            Err(WorkFailureKind::Gone) => Event::Gone,
            Err(WorkFailureKind::Unreachable) => Event::Unreachable,
            Err(WorkFailureKind::Transient) => Event::Transient,
        };
        let result = result.map_err(|kind| WorkFailure {
            code: Code::Unavailable,
            message: "?".into(),
            kind,
        });
        self.input(Input::Worked(effect, result));
        event
    }

    fn kept(&mut self, result: Result<(), String>) -> Event {
        let event = if result.is_ok() {
            Event::Kept
        } else {
            Event::Unkept
        };
        let effect = if self.keeps.is_empty() {
            EffectId(0)
        } else {
            let (effect, entry) = self.keeps.remove(0);
            self.disk = entry;
            effect
        };
        self.input(Input::Kept(effect, result));
        event
    }

    fn pulled(&mut self, result: Result<(), PullFailure>) -> Event {
        let event = if result.is_ok() {
            Event::Pulled
        } else {
            Event::Unpulled
        };
        let attempt = if self.pulls.is_empty() {
            Attempt(u64::MAX)
        } else {
            self.pulls.remove(0)
        };
        self.input(Input::Pull(pull::Input::Ended(attempt, result)));
        event
    }

    fn wake(&mut self) -> Option<Event> {
        let (at, timer) = self.node.poll_timeout()?;
        self.now = self.now.max(at);
        self.node.handle_timeout(self.now);
        matches!(timer, Timer::Retry(_)).then_some(Event::Retry)
    }

    fn grant(&mut self) {
        let grant = Grant {
            ttl: Duration::from_secs(90),
            heartbeat_every: Duration::from_secs(30),
            evict: Vec::new(),
        };
        self.input(Input::Reported(Ok(Answered::Granted(grant))));
    }
}

impl Walked for Operating {
    type Deed = Deed;
    type Event = Event;

    fn deeds() -> Vec<Deed> {
        use Deed::*;
        use WorkFailureKind::{Fatal, Gone, Transient, Unreachable};
        let orders = [Run, Restore, Checkpoint, Upload, Stop, Thaw, Again];
        let steps = [Done, Fail(Fatal), Fail(Gone), Fail(Unreachable), Fail(Transient)];
        let others = [
            Kept,
            Unkept,
            Pulled,
            Unpulled,
            Wake,
            Granted,
            Over,
            Lost,
            Appears,
            SaysRunning,
            SaysFrozen,
        ];
        orders.into_iter().chain(steps).chain(others).collect()
    }

    fn phase(&self) -> &'static str {
        under_way(&self.node).map_or(ABSENT, Phase::name)
    }

    fn suffer(&mut self, deed: Deed) -> Vec<Event> {
        let from = under_way(&self.node);
        let event = match deed {
            Deed::Run => {
                self.order(Verb::Run {
                    assets: SandboxAssets {
                        sandbox_class: "gvisor".into(),
                        assets: BTreeMap::new(),
                    },
                });
                Some(Event::Run)
            }
            Deed::Restore => {
                let from = Place::External("mem://snapshots/space/s".into());
                let scope = Scope::Full;
                self.order(Verb::Restore { from, scope });
                Some(Event::Restore)
            }
            Deed::Checkpoint => {
                let to = Place::External("mem://snapshots/space/t".into());
                let scope = Scope::Full;
                self.order(Verb::Checkpoint { to, scope });
                Some(Event::Checkpoint)
            }
            Deed::Upload => {
                let (name, to) = ("s".into(), "mem://snapshots/space/s".into());
                self.order(Verb::Upload { name, to });
                Some(Event::Upload)
            }
            Deed::Stop => {
                self.order(Verb::Stop);
                Some(Event::Stop)
            }
            Deed::Thaw => {
                self.order(Verb::Thaw);
                Some(Event::Thaw)
            }
            Deed::Again => {
                if let Some(order) = self.last.clone() {
                    self.input(Input::Order(RequestId(0), Box::new(order)));
                }
                Some(Event::Join)
            }
            Deed::Done => Some(self.worked(Ok(vec!["pages.img".into()]))),
            Deed::Fail(kind) => Some(self.worked(Err(kind))),
            Deed::Kept => Some(self.kept(Ok(()))),
            Deed::Unkept => Some(self.kept(Err("disk full".into()))),
            Deed::Pulled => Some(self.pulled(Ok(()))),
            Deed::Unpulled => Some(self.pulled(Err(PullFailure {
                code: Code::NotFound,
                message: "no such image".into(),
                retry: Retry::Useless,
            }))),
            Deed::Wake => self.wake(),
            Deed::Granted => {
                self.grant();
                None
            }
            Deed::Over => {
                let lapsed = self.node.session().number();
                self.input(Input::Reported(Ok(Answered::Over { lapsed })));
                None
            }
            Deed::Appears => {
                self.says(None);
                None
            }
            Deed::SaysRunning => {
                self.says(Some(Sandbox::Running));
                None
            }
            Deed::SaysFrozen => {
                self.says(Some(Sandbox::Frozen));
                None
            }
            Deed::Lost => {
                self.input(Input::WorkerLost(uid()));
                None
            }
        };
        // What the table has may still be refused: an order by the rules of admission, the end of a step
        // that is not pending because it is none.
        event
            .into_iter()
            .filter(|event| !TABLE.allows(from, *event))
            .collect()
    }

    fn moves(&mut self) -> Vec<Moved> {
        let mut moves = Vec::new();
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Moved(_, moved) if moved.record == TABLE.record() => moves.push(moved),
                Output::Work(effect, ..) => self.steps.push(effect),
                Output::Keep(effect, kept) => self.keeps.push((effect, kept.entry)),
                Output::Pull(_, attempt) => self.pulls.push(attempt),
                Output::Cancel(effect) => {
                    self.steps.retain(|step| *step != effect);
                    self.keeps.retain(|(keep, _)| *keep != effect);
                }
                Output::CancelPull(attempt) => self.pulls.retain(|pull| *pull != attempt),
                _ => {}
            }
        }
        moves
    }

    /// Orders are counted and reports are sent whatever becomes of the operation.
    fn is_same(&self, other: &Operating) -> bool {
        under_way(&self.node) == under_way(&other.node)
    }
}

/// Of one actor there is one operation at a time, on the worker or beside it.
fn under_way(node: &Node) -> Option<Phase> {
    let places = [uid(), "upload of space/a".into()];
    let mut found = places.iter().filter_map(|place| node.operation(place));
    let phase = found.next();
    assert_eq!(found.next(), None, "two at a time");
    phase
}

fn uid() -> PodUid {
    "uid".into()
}

fn node() -> Node {
    let row = NodeRow {
        name: "node".into(),
        address: "address".into(),
        incarnation: "atelet".into(),
        sequence: 0,
        session: 0,
        lapsed: 0,
        version: 0,
    };
    Node::new(row, Settings::DEFAULT)
}
