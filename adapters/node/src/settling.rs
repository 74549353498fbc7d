//! The node machine, and beside it the knowledge whether anything is under way, which is what a process that is asked
//! to stop waits for; and what operators are told of it.

use std::collections::BTreeSet;

use holdfast_core::id::EffectId;
use holdfast_core::machine::Machine;
use holdfast_core::node::{Input, Node, Output, Timer};
use holdfast_core::pull::{self, Attempt};
use holdfast_core::time::Instant;
use holdfast_runtime::tokio::sync::watch;
use holdfast_telemetry::node::Watching;

/// The node machine, watched for what it waits for.
pub(crate) struct Settling {
    node: Node,
    watching: Watching,
    /// When the machine was last told the time.
    now: Instant,
    effects: BTreeSet<EffectId>,
    pulls: BTreeSet<Attempt>,
    is_reporting: bool,
    is_settled: watch::Sender<bool>,
}

impl Settling {
    /// `node`, and whether nothing of it is under way.
    pub fn new(node: Node, watching: Watching) -> (Self, watch::Receiver<bool>) {
        let (is_settled, receiver) = watch::channel(false);
        let settling = Self {
            node,
            watching,
            now: Instant::from_micros(0),
            effects: BTreeSet::new(),
            pulls: BTreeSet::new(),
            is_reporting: false,
            is_settled,
        };
        (settling, receiver)
    }

    fn asked(&mut self, output: &Output) {
        match output {
            Output::Work(effect, ..) | Output::Look(effect, _) | Output::Keep(effect, _) => {
                self.effects.insert(*effect);
            }
            Output::Cancel(effect) => {
                self.effects.remove(effect);
            }
            Output::Pull(_, attempt) => {
                self.pulls.insert(*attempt);
            }
            Output::CancelPull(attempt) => {
                self.pulls.remove(attempt);
            }
            Output::Report(_) => self.is_reporting = true,
            Output::Reply(..) | Output::Tend { .. } | Output::Note(_) | Output::Moved(..) => {}
        }
    }

    fn answered(&mut self, input: &Input) {
        match input {
            Input::Worked(effect, _) | Input::Looked(effect, _) | Input::Kept(effect, _) => {
                self.effects.remove(effect);
            }
            Input::Pull(pull::Input::Ended(attempt, _)) => {
                self.pulls.remove(attempt);
            }
            Input::Reported(_) => self.is_reporting = false,
            _ => {}
        }
    }
}

impl Machine for Settling {
    type Input = Input;
    type Output = Output;
    type Timer = Timer;

    fn handle(&mut self, now: Instant, input: Input) {
        self.now = now;
        self.watching.heard(now, &input);
        self.answered(&input);
        self.node.handle(now, input);
    }

    fn poll_output(&mut self) -> Option<Output> {
        let output = self.node.poll_output();
        match &output {
            Some(output) => {
                self.watching.asked(self.now, output);
                self.asked(output);
            }
            // Only here is it known what an input has led to.
            None => {
                let is_settled = self.effects.is_empty() && self.pulls.is_empty() && !self.is_reporting;
                self.is_settled.send_if_modified(|current| {
                    let is_new = *current != is_settled;
                    *current = is_settled;
                    is_new
                });
            }
        }
        output
    }

    fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        self.node.poll_timeout()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        self.watching.moved(now);
        self.node.handle_timeout(now);
    }
}
