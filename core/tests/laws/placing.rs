//! Which workers the registry offers, against a naive look at everything it was told.

use crate::history::{EXACT, Happening, holds, play_one};
use crate::registry::{News, Subject};
use holdfast_core::effect::NodeRow;
use holdfast_core::id::{Name, NodeName, WorkerKey};
use holdfast_core::registry::{Registry, Report, Sighting};
use holdfast_core::time::Instant;
use holdfast_core::worker::{Duty, Worker};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// The last word of a worker's node about it, as far as this replica knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    Free,
    Taken,
    Gone,
}

/// What a reader of everything that was told would remember.
#[derive(Default)]
struct Memory {
    heard: BTreeMap<NodeName, (Instant, u64)>,
    said: BTreeMap<WorkerKey, Said>,
    sightings: BTreeMap<WorkerKey, Sighting>,
    reserved: BTreeSet<WorkerKey>,
}

fn is_on(key: &WorkerKey, node: &NodeName) -> bool {
    key.pod.as_str().as_bytes()[1] % 2 == node.as_str().as_bytes()[1] % 2
}

impl Memory {
    fn note(&mut self, now: Instant, news: &News, registry: &Registry) {
        match news {
            News::Reported(Report { node, workers }) => {
                if self
                    .heard
                    .get(&node.name)
                    .is_some_and(|(_, known)| *known > node.sequence)
                {
                    return;
                }
                self.hear(now, node);
                // A report names every worker of its node, except that the first may come too soon for that.
                let unsaid = if node.sequence <= 1 {
                    Said::Nothing
                } else {
                    Said::Gone
                };
                let rows = registry
                    .rows()
                    .map(|row| &row.key)
                    .filter(|key| is_on(key, &node.name));
                self.said.extend(rows.map(|key| (key.clone(), unsaid)));
                for (_, said) in self.said.iter_mut().filter(|(key, _)| is_on(key, &node.name)) {
                    *said = unsaid;
                }
                for s in workers {
                    let is_taken = s.hosting.is_some() || s.duty == Duty::Draining;
                    let said = if is_taken { Said::Taken } else { Said::Free };
                    self.said.insert(s.key.clone(), said);
                    self.sightings.insert(s.key.clone(), s.clone());
                }
            }
            News::Vacated(key) => {
                let promise = registry
                    .row(key)
                    .and_then(|row| Some((row, row.hosts.as_ref()?.fence)));
                if let (Some((row, fence)), Some(s)) = (promise, self.sightings.get(key))
                    && self.said.get(key) == Some(&Said::Taken)
                    && (s.pod_uid == row.pod_uid && s.highest_fence <= fence && s.duty == Duty::Serving)
                {
                    self.said.insert(key.clone(), Said::Free);
                }
            }
            News::Heard(node) => {
                let known = self.heard.get(&node.name).map(|(_, sequence)| *sequence);
                self.hear(now, node);
                if known.is_some_and(|known| known < node.sequence) {
                    for (_, said) in self.said.iter_mut().filter(|(key, _)| is_on(key, &node.name)) {
                        *said = Said::Nothing;
                    }
                }
            }
            News::Reserved(key) if registry.row(key).is_some() || self.said.contains_key(key) => {
                self.reserved.insert(key.clone());
            }
            News::Lifted(key) => {
                self.reserved.remove(key);
            }
            _ => {}
        }
    }

    /// What is known already is no sign of life.
    fn hear(&mut self, now: Instant, node: &NodeRow) {
        let known = self.heard.get(&node.name).map(|(_, sequence)| *sequence);
        if known.is_none_or(|known| known < node.sequence) {
            self.heard.insert(node.name.clone(), (now, node.sequence));
        }
    }

    /// A worker that has no row, and that no node says it has, is no worker at all.
    fn forget(&mut self, registry: &Registry) {
        let is_row = |key: &WorkerKey| registry.row(key).is_some();
        self.said
            .retain(|key, said| is_row(key) || matches!(said, Said::Free | Said::Taken));
        self.reserved
            .retain(|key| is_row(key) || self.said.contains_key(key));
    }

    fn would_offer(&self, now: Instant, worker: &Worker) -> bool {
        let is_fresh = self
            .heard
            .get(&worker.node)
            .is_some_and(|(at, _)| now < at.plus(EXACT.node.stale_silence()));
        let is_denied = matches!(self.said.get(&worker.key), Some(Said::Gone | Said::Taken));
        worker.hosts.is_none()
            && worker.duty == Duty::Serving
            && is_fresh
            && !is_denied
            && !self.reserved.contains(&worker.key)
    }
}

/// What the registry offers, one after the other, each in spite of nothing but having been offered.
pub fn offered(registry: &Registry, nodes: Option<&[NodeName]>) -> BTreeSet<WorkerKey> {
    let pools = [("ns".into(), "pool".into())];
    let mut offered = BTreeSet::new();
    while let Some(worker) = registry.place(&pools, nodes, &offered, 11) {
        assert!(
            offered.insert(worker.key.clone()),
            "offered in spite of being avoided"
        );
    }
    offered
}

/// Whatever is heard in whatever order, the workers that are offered are those whose row promises them to
/// nobody and serves, that are not reserved, whose node has been heard lately, and of which the last word
/// of their node is not that they are gone, taken or draining.
#[test]
fn the_free_lists_agree_with_a_naive_look() {
    holds::<Subject>(|history| {
        let mut rows = <Subject as crate::history::Subject>::fresh(&EXACT);
        let mut memory = Memory::default();
        for (now, happening) in history {
            if let Happening::Input(news) = &happening {
                memory.note(now, news, &rows.0);
            }
            play_one(&mut rows, now, happening);
            // The list's staleness is as exact as its last wake-up, which comes when it is due.
            memory.forget(&rows.0);
            let expected: BTreeSet<WorkerKey> = rows
                .0
                .rows()
                .filter(|w| memory.would_offer(now, w))
                .map(|w| w.key.clone())
                .collect();
            let all = offered(&rows.0, None);
            prop_assert_eq!(&all, &expected);
            for node in ["n0", "n1"] {
                let node = Name::from(node);
                let on_node: BTreeSet<_> = all
                    .iter()
                    .filter(|key| rows.0.row(key).is_some_and(|row| row.node == node))
                    .cloned()
                    .collect();
                let listed = offered(&rows.0, Some(&[node]));
                prop_assert_eq!(listed, on_node, "the list by node and the list of all disagree");
            }
        }
        Ok(())
    });
}
