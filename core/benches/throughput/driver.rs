//! One replica in virtual time, and the answers that are on their way to it.

use crate::world::{Node, PER_NODE, Store, catalog};
use holdfast_core::effect::{NodeCall, StoreEvent, StoreOp, Verb};
use holdfast_core::id::{EffectId, NodeName, ReplicaId, RequestId};
use holdfast_core::machine::Machine;
use holdfast_core::registry::Hosting;
use holdfast_core::replica::{Input, Output, Replica};
use holdfast_core::request::{Request, Verdict};
use holdfast_core::settings::Settings;
use holdfast_core::time::{Duration, Instant};
use std::collections::{HashMap, VecDeque};

/// How long the store and the nodes take.
const LATENCY: Duration = Duration::from_millis(1);

/// How node calls end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Calls {
    /// They do not: every workflow stays in the middle of one.
    Hang,
    /// Well, after a while.
    Succeed,
}

/// What a machine was given, and when: nothing is a wake-up.
pub type Tape = Vec<(Instant, Option<Input>)>;

pub struct Driver {
    pub machine: Replica,
    pub store: Store,
    pub nodes: Vec<Node>,
    pub calls: Calls,
    pub now: Instant,
    /// How many inputs the machine has had.
    pub inputs: u64,
    /// Verdicts nobody has looked at yet.
    pub verdicts: VecDeque<(RequestId, Verdict)>,
    /// Where inputs are recorded, if they are.
    pub tape: Option<Tape>,
    node_index: HashMap<NodeName, usize>,
    answers: VecDeque<(Instant, Input)>,
    next_request: u64,
}

impl Driver {
    /// A replica that serves, and that has heard of `workers` free workers.
    pub fn new(settings: Settings, workers: usize, calls: Calls) -> Driver {
        let nodes: Vec<Node> = (0..workers.div_ceil(PER_NODE))
            .map(|index| Node::new(index, PER_NODE.min(workers - index * PER_NODE)))
            .collect();
        let name_of = |node: &Node| node.report.node.name.clone();
        let mut driver = Driver {
            machine: Replica::new(ReplicaId(0x5eed), settings, catalog()),
            store: Store::default(),
            node_index: nodes.iter().enumerate().map(|(i, n)| (name_of(n), i)).collect(),
            nodes,
            calls,
            now: Instant::from_micros(1_000_000),
            inputs: 0,
            verdicts: VecDeque::new(),
            tape: None,
            answers: VecDeque::new(),
            next_request: 1,
        };
        driver.give(Input::Start);
        for index in 0..driver.nodes.len() {
            driver.report(index);
            driver.settle();
        }
        driver.verdicts.clear();
        driver
    }

    /// Asks for something at once.
    pub fn ask(&mut self, request: Request) -> RequestId {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        self.give(Input::Request(id, request));
        id
    }

    /// A node reports at once.
    pub fn report(&mut self, index: usize) {
        let report = self.nodes[index].report();
        self.ask(Request::Heartbeat(report));
    }

    /// Gives the answers that are on their way, and what follows from them.
    pub fn settle(&mut self) {
        while let Some((due, input)) = self.answers.pop_front() {
            self.now = self.now.max(due);
            self.give(input);
        }
    }

    /// Goes on until `until`, or to the next verdict.
    pub fn run(&mut self, until: Instant) {
        while self.verdicts.is_empty() && self.step(until) {}
        if self.verdicts.is_empty() {
            self.now = until;
        }
    }

    /// Whatever comes next, if it comes before `until`.
    fn step(&mut self, until: Instant) -> bool {
        let wake = self.machine.poll_timeout().map(|(at, _)| at);
        let answer = self.answers.front().map(|(due, _)| *due);
        let next = match (answer, wake) {
            (Some(answer), Some(wake)) => answer.min(wake),
            (Some(at), None) | (None, Some(at)) => at,
            (None, None) => return false,
        };
        if next >= until {
            return false;
        }
        self.now = self.now.max(next);
        match self.answers.pop_front_if(|(due, _)| *due == next) {
            Some((_, input)) => self.give(input),
            None => {
                if let Some(tape) = &mut self.tape {
                    tape.push((self.now, None));
                }
                self.machine.handle_timeout(self.now);
                self.inputs += 1;
                self.perform();
            }
        }
        true
    }

    fn give(&mut self, input: Input) {
        if let Some(tape) = &mut self.tape {
            tape.push((self.now, Some(input.clone())));
        }
        self.machine.handle(self.now, input);
        self.inputs += 1;
        self.perform();
    }

    fn perform(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Store(effect, op) => self.perform_op(effect, op),
                Output::Node(effect, _, call) => self.call(effect, &call),
                Output::Discard(effect, _, _) => self.answer(Input::Discarded(effect, Ok(()))),
                Output::Reply(id, verdict) => self.verdicts.push_back((id, verdict)),
                Output::Ready | Output::Event(_) => {}
                Output::Cancel(_) | Output::Left => panic!("nothing is given up here"),
            }
        }
    }

    fn perform_op(&mut self, effect: EffectId, op: StoreOp) {
        let news = match &op {
            StoreOp::PutWorker { worker, .. } => Some(StoreEvent::Worker(worker.clone())),
            _ => None,
        };
        let reply = self.store.perform(op);
        self.answer(Input::Stored(effect, Ok(reply)));
        if let Some(news) = news {
            self.answer(Input::Watched(news));
        }
    }

    fn call(&mut self, effect: EffectId, call: &NodeCall) {
        if self.calls == Calls::Hang {
            return;
        }
        let index = self.node_index[&call.node];
        let target = call.worker.as_ref().expect("every call here is about a worker");
        let hosting = match call.verb {
            Verb::Run { .. } | Verb::Restore { .. } => Some(Hosting {
                actor: call.actor.clone(),
                incarnation: call.incarnation,
                session: 0,
            }),
            Verb::Checkpoint { .. } | Verb::Stop | Verb::Upload { .. } => None,
            Verb::Thaw => panic!("nothing is frozen here"),
        };
        self.nodes[index].hosts(&target.pod_uid, target.fence, hosting);
        self.answer(Input::Called(effect, Ok(())));
        let id = RequestId(self.next_request);
        self.next_request += 1;
        let report = self.nodes[index].report();
        self.answer(Input::Request(id, Request::Heartbeat(report)));
    }

    fn answer(&mut self, input: Input) {
        self.answers.push_back((self.now.plus(LATENCY), input));
    }
}
