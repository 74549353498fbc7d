//! Two actors on two workers of one node.
//!
//! Uploads are left out: a node makes them one after the other, whosever they are.

use super::{HASTY, Shared, Sharing};
use crate::history::{Recorder, Subject};
use crate::node::{Act, Kind, Surroundings, Wish, fault};
use holdfast_core::id::EffectId;
use holdfast_core::node::{Entry, Node, Output, WorkFailureKind};
use holdfast_core::pull::Attempt;
use holdfast_core::time::Duration;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Where the second party's numbers begin.
const SECOND: u64 = 1_000_000;

pub struct Workers {
    r: Recorder<Node>,
    sharing: Sharing,
    around: [Surroundings; 2],
    effects: BTreeMap<EffectId, usize>,
    attempts: BTreeMap<Attempt, usize>,
    seen: [Vec<String>; 2],
}

#[derive(Clone, Debug)]
pub enum Deed {
    Order(Kind, bool, bool),
    Again,
    Work(Option<WorkFailureKind>),
    Keep(bool),
    Pulled,
    Empty,
    Lost,
    Look(Option<bool>),
    CallersLeave,
}

impl Workers {
    fn note(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            let (party, line) = match &output {
                Output::Work(effect, work, order) => {
                    let party = party_of(order.worker.as_str());
                    self.effects.insert(*effect, party);
                    (party, format!("{work:?} for {}", order.actor))
                }
                Output::Look(effect, worker) => {
                    let party = party_of(worker.as_str());
                    self.effects.insert(*effect, party);
                    (party, "look".into())
                }
                Output::Keep(effect, kept) => {
                    let party = party_of(kept.worker.as_str());
                    self.effects.insert(*effect, party);
                    (party, format!("keep {}", gist(&kept.entry)))
                }
                Output::Pull(image, attempt) => {
                    let party = party_of(image.as_str());
                    self.attempts.insert(*attempt, party);
                    (party, "pull".into())
                }
                Output::Cancel(effect) => (self.effects[effect], "cancel".into()),
                Output::CancelPull(attempt) => (self.attempts[attempt], "cancel pull".into()),
                Output::Reply(id, reply) => (usize::from(id.0 >= SECOND), format!("{reply:?}")),
                Output::Tend { worker, tend, .. } => (party_of(worker.as_str()), format!("{tend:?}")),
                // What concerns the whole node.
                Output::Report(_) | Output::Note(_) | Output::Moved(..) => continue,
            };
            self.seen[party].push(line);
            self.around[party].note(&[output]);
        }
    }
}

fn gist(entry: &Entry) -> String {
    let current = entry
        .current
        .as_ref()
        .map(|pending| (&pending.verb, &pending.captured));
    let last = entry.last.as_ref().map(|done| &done.result);
    let hosted = entry
        .hosted
        .as_ref()
        .map(|hosted| (&hosted.actor, hosted.sandbox));
    format!("{} {hosted:?} {current:?} {last:?}", entry.highest)
}

fn party_of(name: &str) -> usize {
    usize::from(name.ends_with('1'))
}

impl Shared for Workers {
    type Deed = Deed;

    fn deeds() -> BoxedStrategy<Deed> {
        let kind = prop_oneof![
            1 => Just(Kind::Run),
            2 => Just(Kind::Restore),
            2 => Just(Kind::Checkpoint),
            1 => Just(Kind::Stop),
        ];
        let often = || prop::bool::weighted(0.9);
        prop_oneof![
            4 => (kind, prop::bool::weighted(0.1), any::<bool>()).prop_map(|(k, old, new)| Deed::Order(k, old, new)),
            1 => Just(Deed::Again),
            8 => prop_oneof![5 => Just(None), 1 => fault().prop_map(Some)].prop_map(Deed::Work),
            6 => often().prop_map(Deed::Keep),
            3 => Just(Deed::Pulled),
            1 => Just(Deed::Empty),
            1 => Just(Deed::Lost),
            1 => any::<Option<bool>>().prop_map(Deed::Look),
            1 => Just(Deed::CallersLeave),
        ]
        .boxed()
    }

    fn new(sharing: Sharing) -> Workers {
        let mut r = Recorder::new(crate::node::Subject::fresh(&HASTY));
        for input in Surroundings::start() {
            r.input(input);
        }
        let mut second = Surroundings::default();
        second.base = SECOND;
        Workers {
            r,
            sharing,
            around: [Surroundings::default(), second],
            effects: BTreeMap::new(),
            attempts: BTreeMap::new(),
            seen: [Vec::new(), Vec::new()],
        }
    }

    fn act(&mut self, party: u8, deed: &Deed) {
        let own = if self.sharing == Sharing::Nothing {
            party
        } else {
            0
        };
        let act = match deed {
            Deed::Order(verb, is_stale, is_new_promise) => Act::Order(Wish {
                verb: *verb,
                actor: own,
                worker: own,
                is_stale: *is_stale,
                is_new_promise: *is_new_promise,
            }),
            Deed::Again => Act::Again,
            Deed::Work(outcome) => Act::Work(0, *outcome),
            Deed::Keep(is_ok) => Act::Keep(0, *is_ok),
            Deed::Pulled => Act::End(0, true),
            Deed::Empty => Act::Empty(own),
            Deed::Lost => Act::Lost(own),
            Deed::Look(is_empty) => Act::Look(0, *is_empty),
            Deed::CallersLeave => Act::CallersLeave,
        };
        if let Some(input) = self.around[usize::from(party)].input(&act) {
            let outputs = self.r.input(input);
            self.note(outputs);
        }
    }

    fn pass(&mut self, time: Duration) {
        let outputs = self.r.pass(time);
        self.note(outputs);
    }

    fn seen(&self) -> &[Vec<String>; 2] {
        &self.seen
    }
}
