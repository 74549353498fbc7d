//! Workers and their nodes, as this replica knows them.

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_core::id::NodeName;
use holdfast_core::registry::Registry as Known;
use holdfast_core::table::Kind;
use holdfast_core::time::Instant;
use holdfast_core::worker::Phase;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Counts, Labels};

/// How often they are counted. It costs some tens of nanoseconds for each worker.
const EVERY: Duration = Duration::from_secs(5);

pub struct Workers {
    workers: Family<Labels<1>, Gauge>,
    stale: Gauge,
    nodes: Family<Labels<1>, Gauge>,
    events: Counts<1>,
    counted: Option<Instant>,
    /// Of each node that has workers: how many, how many of them on the way out, and whether it is silent.
    before: BTreeMap<NodeName, Node>,
}

#[derive(Clone, Copy, Default)]
struct Node {
    workers: u64,
    draining: u64,
    is_stale: bool,
}

impl Workers {
    pub fn new(registry: &mut Registry) -> Workers {
        let workers = Family::default();
        registry.register(
            "holdfast_workers",
            "Workers, by what their rows say",
            workers.clone(),
        );
        let stale: Gauge = Gauge::default();
        registry.register(
            "holdfast_workers_stale",
            "Workers of nodes that have been silent for so long that they get no new actors",
            stale.clone(),
        );
        let nodes = Family::default();
        registry.register(
            "holdfast_nodes",
            "Nodes that have workers, by whether they report",
            nodes.clone(),
        );
        let events = Counts::default();
        registry.register("holdfast_worker_events", "What became of workers", events.clone());
        for event in ["registered", "gone", "stale", "reactivated", "drained"] {
            drop(events.get_or_create(&[("event", event)]));
        }
        Workers {
            workers,
            stale,
            nodes,
            events,
            counted: None,
            before: BTreeMap::new(),
        }
    }

    /// This replica has written the first row of a worker.
    pub fn registered(&self) {
        self.count("registered", 1);
    }

    /// This replica has deleted the row of a worker that is no more.
    pub fn gone(&self) {
        self.count("gone", 1);
    }

    fn count(&self, event: &'static str, by: u64) {
        self.events.get_or_create(&[("event", event)]).inc_by(by);
    }

    /// Counts them, unless that has just been done.
    pub fn look(&mut self, now: Instant, known: &Known) {
        if self.counted.is_some_and(|last| now.since(last) < EVERY) {
            return;
        }
        self.counted = Some(now);
        let mut phases = BTreeMap::new();
        let mut nodes: BTreeMap<NodeName, Node> = BTreeMap::new();
        for row in known.rows() {
            let phase = row.phase();
            *phases.entry(phase).or_insert(0_i64) += 1;
            let node = nodes.entry(row.node.clone()).or_default();
            node.workers += 1;
            node.draining += u64::from(matches!(phase, Phase::Draining | Phase::Drained));
        }
        for phase in Phase::ALL {
            let state = match phase {
                Phase::Free => "free",
                Phase::Promised => "assigned",
                Phase::Draining => "draining",
                Phase::Drained => "drained",
            };
            let count = phases.get(phase).copied().unwrap_or(0);
            self.workers.get_or_create(&[("state", state)]).set(count);
        }
        let mut stale = 0;
        for (name, node) in &mut nodes {
            node.is_stale = known.in_reach(Some(name)).is_none();
            stale += if node.is_stale { node.workers } else { 0 };
            let before = self.before.get(name).copied().unwrap_or(Node {
                is_stale: node.is_stale,
                ..Node::default()
            });
            match (before.is_stale, node.is_stale) {
                (false, true) => self.count("stale", node.workers),
                (true, false) => self.count("reactivated", node.workers),
                _ => {}
            }
            self.count("drained", node.draining.saturating_sub(before.draining));
        }
        self.stale.set(i64::try_from(stale).unwrap_or(i64::MAX));
        let silent = nodes.values().filter(|node| node.is_stale).count();
        for (state, count) in [("reporting", nodes.len() - silent), ("stale", silent)] {
            self.nodes
                .get_or_create(&[("state", state)])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.before = nodes;
    }
}
