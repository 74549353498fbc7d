//! A node with one worker, driven by hand.

use crate::hand::{actor_key, catalog, template, worker_key};
use holdfast_core::catalog::Scope;
use holdfast_core::effect::*;
use holdfast_core::failure::Code;
use holdfast_core::id::*;
use holdfast_core::machine::Machine;
use holdfast_core::node::*;
use holdfast_core::pull::{self, Attempt};
use holdfast_core::registry::Hosting;
use holdfast_core::session::{Answered, Grant};
use holdfast_core::settings::Settings;
use holdfast_core::time::{Duration, Instant};
use holdfast_core::worker::Duty;
use std::sync::Arc;

pub const SETTINGS: Settings = Settings::DEFAULT;

/// A node with one worker, which does what it is told and no more.
pub struct Seat {
    pub node: Node,
    pub now: Instant,
    /// Steps, journal writes and pulls that have been asked for and have not ended.
    pub work: Vec<(EffectId, Work)>,
    /// Under which fences of the actor and of the worker the last step was asked for.
    pub under: (Fence, Fence),
    pub keeps: Vec<(EffectId, Kept)>,
    pub pulls: Vec<(Name, Attempt)>,
    /// The question to its worker that has not been answered.
    pub look: Option<EffectId>,
    /// Everything else that it has said.
    pub said: Vec<Output>,
    pub next: u64,
}

impl Seat {
    /// It starts with this in its journal.
    pub fn started(entry: Option<Entry>, fences: &[(&str, u64)]) -> Seat {
        Seat::restarted("atelet", entry, fences)
    }

    /// The same, as this run of atelet.
    pub fn restarted(run: &str, entry: Option<Entry>, fences: &[(&str, u64)]) -> Seat {
        let fences = fences
            .iter()
            .map(|(actor, fence)| ((actor_key(actor), Incarnation(7)), Fence(*fence)));
        let entries = entry.into_iter().map(|entry| (Name::from("uid"), entry));
        let disk = Memory {
            entries: entries.collect(),
            fences: fences.collect(),
            floor: Fence(0),
        };
        Seat::on(run, SETTINGS, disk)
    }

    /// The same, with this on its disk.
    pub fn on(run: &str, settings: Settings, disk: Memory) -> Seat {
        let row = NodeRow {
            name: "node".into(),
            address: "address".into(),
            incarnation: run.into(),
            sequence: 0,
            session: 0,
            lapsed: 0,
            version: 0,
        };
        let mut seat = Seat {
            node: Node::new(row, settings),
            now: Instant::from_micros(1_000_000),
            work: Vec::new(),
            under: (Fence(0), Fence(0)),
            keeps: Vec::new(),
            pulls: Vec::new(),
            look: None,
            said: Vec::new(),
            next: 1,
        };
        seat.input(Input::Start(disk));
        seat
    }

    /// Its worker is there, with nothing in it.
    pub fn idle() -> Seat {
        let mut seat = Seat::started(None, &[]);
        seat.describe(None);
        seat.answered(grant());
        seat
    }

    /// Its worker runs actor a, which came with operation 1 under session 1.
    pub fn running() -> Seat {
        let mut seat = Seat::idle();
        let id = seat.order(|order| order.session = 1);
        seat.finish();
        assert_eq!(seat.reply(id), Some(Ok(())));
        seat.describe(Some(("a", 1, Sandbox::Running)));
        seat.said.clear();
        seat
    }

    pub fn input(&mut self, input: Input) {
        self.node.handle(self.now, input);
        self.collect();
    }

    pub fn pass(&mut self, time: Duration) {
        self.now = self.now.plus(time);
        self.node.handle_timeout(self.now);
        self.collect();
    }

    pub fn collect(&mut self) {
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Work(effect, work, order) => {
                    self.under = (order.fence, order.worker_fence);
                    self.work.push((effect, work));
                }
                Output::Keep(effect, kept) => self.keeps.push((effect, *kept)),
                Output::Pull(image, attempt) => self.pulls.push((image, attempt)),
                Output::Look(effect, _) => assert_eq!(self.look.replace(effect), None, "it asks twice"),
                Output::Cancel(effect) if self.look == Some(effect) => self.look = None,
                output => self.said.push(output),
            }
        }
    }

    /// An order to boot actor a as operation 1, or something else.
    pub fn order(&mut self, change: impl Fn(&mut Order)) -> RequestId {
        let mut order = Order {
            worker: "uid".into(),
            worker_fence: Fence(5),
            actor: actor_key("a"),
            incarnation: Incarnation(7),
            fence: Fence(10),
            op: Some(op(1)),
            template: ("ns".into(), "counter".into()),
            workload: Arc::new(template().workload.clone()),
            session: 0,
            run: Name::default(),
            verb: run(),
        };
        change(&mut order);
        let id = RequestId(self.next);
        self.next += 1;
        self.input(Input::Order(id, Box::new(order)));
        id
    }

    /// What an order was answered, if it was.
    pub fn reply(&self, id: RequestId) -> Option<NodeReply> {
        self.said.iter().find_map(|output| match output {
            Output::Reply(to, reply) if *to == id => Some(reply.clone()),
            _ => None,
        })
    }

    pub fn refusal(&self, id: RequestId) -> Option<NodeFailureKind> {
        self.reply(id).map(|reply| reply.unwrap_err().kind)
    }

    /// The disk has everything that it was asked to keep.
    pub fn kept(&mut self) {
        for (effect, _) in std::mem::take(&mut self.keeps) {
            self.input(Input::Kept(effect, Ok(())));
        }
    }

    /// The disk takes nothing of what it was given.
    pub fn refuse(&mut self) {
        for (effect, _) in std::mem::take(&mut self.keeps) {
            self.input(Input::Kept(effect, Err("disk full".into())));
        }
    }

    pub fn pulled(&mut self) {
        for (_, attempt) in std::mem::take(&mut self.pulls) {
            self.input(Input::Pull(pull::Input::Ended(attempt, Ok(()))));
        }
    }

    /// The oldest step ends like this.
    pub fn worked(&mut self, result: WorkResult) -> Work {
        let (effect, work) = self.work.remove(0);
        self.input(Input::Worked(effect, result));
        work
    }

    pub fn fails(&mut self, kind: WorkFailureKind) -> Work {
        self.worked(Err(WorkFailure {
            code: Code::Unavailable,
            message: "it said so".into(),
            kind,
        }))
    }

    /// Everything succeeds until nothing is asked for.
    pub fn finish(&mut self) {
        while !(self.work.is_empty() && self.keeps.is_empty() && self.pulls.is_empty()) {
            self.pulled();
            self.kept();
            if !self.work.is_empty() {
                self.worked(Ok(Vec::new()));
            }
        }
    }

    pub fn working(&self) -> Vec<&Work> {
        self.work.iter().map(|(_, work)| work).collect()
    }

    /// What ateom has: which actor is alive there, by which operation. It says so, and answers so if it is asked.
    pub fn describe(&mut self, alive: Option<(&str, u64, Sandbox)>) {
        self.says(alive);
        self.answers(alive);
    }

    /// What ateom says by itself, at some time.
    pub fn says(&mut self, alive: Option<(&str, u64, Sandbox)>) {
        self.input(Input::Worker("uid".into(), described(alive)));
    }

    /// What ateom answers, if it has been asked.
    pub fn answers(&mut self, alive: Option<(&str, u64, Sandbox)>) {
        if let Some(look) = self.look.take() {
            self.input(Input::Looked(look, Ok(described(alive))));
        }
    }

    /// Lets the node report, and answers.
    pub fn answered(&mut self, answer: Answered) {
        self.report();
        self.input(Input::Reported(Ok(answer)));
    }

    /// The node's next report: what it says of its worker.
    pub fn report(&mut self) -> Option<(Fence, Option<Hosting>)> {
        self.said.retain(|output| !matches!(output, Output::Report(_)));
        self.pass(Duration::from_secs(30));
        let report = self.said.iter().find_map(|output| match output {
            Output::Report(report) => Some(report),
            _ => None,
        });
        let worker = report.expect("it reports").workers.first()?;
        Some((worker.highest_fence, worker.hosting.clone()))
    }

    /// What it would report that its worker hosts: the actor's name.
    pub fn hosts(&mut self) -> Option<String> {
        self.input(Input::Reported(Ok(grant())));
        let (_, hosting) = self.report()?;
        hosting.map(|hosting| hosting.actor.name.to_string())
    }

    pub fn tends(&self) -> Vec<Tend> {
        let tends = self.said.iter().filter_map(|output| match output {
            Output::Tend { tend, .. } => Some(*tend),
            _ => None,
        });
        tends.collect()
    }

    pub fn cancelled(&self) -> usize {
        self.said
            .iter()
            .filter(|output| matches!(output, Output::Cancel(_)))
            .count()
    }

    pub fn moves(&self) -> Vec<String> {
        let moves = self.said.iter().filter_map(|output| match output {
            Output::Moved(_, moved) => Some(moved.to_string()),
            _ => None,
        });
        moves.collect()
    }
}

pub fn described(alive: Option<(&str, u64, Sandbox)>) -> Described {
    Described {
        key: worker_key("w"),
        ip: "ip".into(),
        incarnation: "run".into(),
        duty: Duty::Serving,
        sandbox: alive.map(|(actor, seq, sandbox)| Alive {
            actor: actor.into(),
            op: Some(op(seq)),
            sandbox,
        }),
    }
}

/// What is known of the worker without its own word.
pub fn silent() -> Described {
    Described {
        incarnation: Name::default(),
        ..described(None)
    }
}

pub fn op(seq: u64) -> OpId {
    OpId {
        replica: ReplicaId(1),
        seq,
    }
}

pub fn run() -> Verb {
    let assets = catalog(None).assets(&("ns".into(), "pool".into())).unwrap();
    Verb::Run { assets }
}

pub fn checkpoint() -> Verb {
    Verb::Checkpoint {
        to: Place::External("mem://1".into()),
        scope: Scope::Full,
    }
}

pub fn grant() -> Answered {
    Answered::Granted(Grant {
        ttl: SETTINGS.node.session_ttl,
        heartbeat_every: SETTINGS.node.heartbeat_every,
        evict: Vec::new(),
    })
}

/// What the journal has of a worker that hosts actor a.
pub fn entry(sandbox: Sandbox) -> Entry {
    Entry {
        highest: Fence(5),
        voided: Fence(0),
        hosted: Some(Hosted {
            actor: actor_key("a"),
            incarnation: Incarnation(7),
            template: ("ns".into(), "counter".into()),
            op: op(1),
            session: 1,
            sandbox,
        }),
        current: None,
        last: None,
    }
}

/// A checkpoint of actor a, as the journal has it.
pub fn pending(seq: u64, captured: Option<Vec<Name>>) -> Pending {
    Pending {
        op: op(seq),
        actor: actor_key("a"),
        incarnation: Incarnation(7),
        template: ("ns".into(), "counter".into()),
        verb: checkpoint(),
        captured,
    }
}
