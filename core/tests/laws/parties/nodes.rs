//! Two nodes that one registry knows.

use super::{Shared, Sharing};
use crate::history::{EXACT, Recorder, Subject};
use crate::placing::offered;
use crate::registry::{News, Rows, freed, node_row, report, row};
use holdfast_core::id::WorkerKey;
use holdfast_core::registry::Wish;
use holdfast_core::time::Duration;
use holdfast_core::worker::Duty;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::VecDeque;

pub struct Nodes {
    r: Recorder<Rows>,
    sharing: Sharing,
    wishes: [VecDeque<Wish>; 2],
    sequences: [u64; 2],
    seen: [Vec<String>; 2],
}

#[derive(Clone, Debug)]
pub enum Deed {
    /// What the node says of its workers.
    Report(Vec<(u8, u64, bool, Duty)>),
    Heard,
    Row(u8, u64, bool),
    Gone(u8),
    Grant,
}

fn party_of(key: &WorkerKey) -> usize {
    usize::from(key.pod.as_str().as_bytes()[1] % 2)
}

impl Nodes {
    fn note(&mut self, outputs: Vec<Wish>) {
        for wish in outputs {
            let party = match &wish {
                Wish::Write { worker, .. } => party_of(&worker.key),
                Wish::Drop { key, .. } => party_of(key),
                Wish::Release { worker, .. } | Wish::Thaw { worker, .. } => party_of(worker),
                Wish::Lapse(row) => usize::from(row.name.as_str() == "n1"),
                // Whom of the two it is about cannot be told from the actor, which both have.
                Wish::Drain { .. } => continue,
            };
            self.seen[party].push(format!("{wish:?}"));
            self.wishes[party].push_back(wish);
        }
    }
}

impl Shared for Nodes {
    type Deed = Deed;

    fn deeds() -> BoxedStrategy<Deed> {
        let duty = prop_oneof![3 => Just(Duty::Serving), 1 => Just(Duty::Draining)];
        prop_oneof![
            3 => vec((0..2u8, 0..9u64, any::<bool>(), duty), 0..3).prop_map(Deed::Report),
            1 => Just(Deed::Heard),
            2 => (0..2u8, 1..9u64, any::<bool>()).prop_map(|(worker, version, hosts)| Deed::Row(worker, version, hosts)),
            1 => (0..2u8).prop_map(Deed::Gone),
            4 => Just(Deed::Grant),
        ]
        .boxed()
    }

    fn new(sharing: Sharing) -> Nodes {
        let mut r = Recorder::new(crate::registry::Subject::fresh(&EXACT));
        r.input(News::Listed(Vec::new()));
        Nodes {
            r,
            sharing,
            wishes: [VecDeque::new(), VecDeque::new()],
            sequences: [0; 2],
            seen: [Vec::new(), Vec::new()],
        }
    }

    fn act(&mut self, party: u8, deed: &Deed) {
        // Strangers have workers 0, 2 and 1, 3; those who share have the first two.
        let node = if self.sharing == Sharing::Nothing {
            party
        } else {
            0
        };
        let name = |worker: u8| worker * 2 + node;
        let news = match deed {
            Deed::Report(workers) => {
                self.sequences[usize::from(node)] += 1;
                let workers = workers
                    .iter()
                    .map(|(w, fence, hosts, duty)| (name(*w), *fence, *hosts, *duty));
                News::Reported(report(node, self.sequences[usize::from(node)], workers.collect()))
            }
            Deed::Heard => {
                self.sequences[usize::from(node)] += 1;
                News::Heard(node_row(node, self.sequences[usize::from(node)]))
            }
            Deed::Row(worker, version, hosts) => News::Written(row(name(*worker), *version, *hosts)),
            Deed::Gone(worker) => News::Deleted(row(name(*worker), 1, false).key),
            Deed::Grant => match self.wishes[usize::from(node)].pop_front() {
                Some(Wish::Write { worker, .. }) => News::Written(*worker),
                Some(Wish::Drop { key, .. }) => News::Deleted(key),
                Some(Wish::Release { worker, .. }) => match self.r.machine.0.row(&worker) {
                    Some(row) => News::Written(freed(row)),
                    None => return,
                },
                Some(Wish::Drain { .. } | Wish::Thaw { .. } | Wish::Lapse { .. }) | None => return,
            },
        };
        let outputs = self.r.input(news);
        self.note(outputs);
        let offered = offered(&self.r.machine.0, Some(&[format!("n{node}").into()]));
        self.seen[usize::from(node)].push(format!("offers {offered:?}"));
    }

    fn pass(&mut self, time: Duration) {
        let outputs = self.r.pass(time);
        self.note(outputs);
    }

    fn seen(&self) -> &[Vec<String>; 2] {
        &self.seen
    }
}
