//! The registry: its surroundings, as a machine like the others.

use crate::history::{History, Recorder, gaps};
use crate::stage::worker_key;
use holdfast_core::actor::Assignment;
use holdfast_core::effect::NodeRow;
use holdfast_core::id::*;
use holdfast_core::machine::Machine;
use holdfast_core::registry::{Hosting, Registry, Report, Reservation, Sighting, Wish};
use holdfast_core::settings::Settings;
use holdfast_core::time::{Duration, Instant};
use holdfast_core::worker::{Change, Duty, Worker};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::VecDeque;

/// The registry with its questions as inputs, and its wishes as outputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows(pub Registry);

/// What a registry hears.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    Listed(Vec<Worker>),
    Written(Worker),
    Deleted(WorkerKey),
    Failed(WorkerKey),
    Reported(Report),
    Heard(NodeRow),
    Reserved(WorkerKey),
    Lifted(WorkerKey),
    /// The node has answered that it has vacated a worker, as its row has it.
    Vacated(WorkerKey),
}

impl Machine for Rows {
    type Input = News;
    type Output = Wish;
    type Timer = ();

    fn handle(&mut self, now: Instant, news: News) {
        match news {
            News::Listed(rows) => self.0.listed(rows),
            News::Written(row) => self.0.written(row),
            News::Deleted(key) => self.0.deleted(&key),
            News::Failed(key) => self.0.repair_failed(&key),
            News::Reported(report) => self.0.reported(now, report),
            News::Heard(row) => self.0.heard(now, row),
            News::Reserved(key) => self.0.reserve(&key, Reservation::Made),
            News::Lifted(key) => self.0.reserve(&key, Reservation::Lifted),
            News::Vacated(key) => {
                if let Some(on) = self.0.row(&key).and_then(promised) {
                    self.0.vacated(&on);
                }
            }
        }
    }

    fn poll_output(&mut self) -> Option<Wish> {
        self.0.poll_wish()
    }

    fn poll_timeout(&self) -> Option<(Instant, ())> {
        self.0.poll_timeout().map(|at| (at, ()))
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.0.handle_timeout(now);
    }
}

pub struct Subject;

impl crate::history::Subject for Subject {
    type Input = News;
    type Output = Wish;
    type Machine = Rows;

    fn fresh(settings: &Settings) -> Rows {
        Rows(Registry::new(*settings))
    }

    fn histories(settings: Settings) -> BoxedStrategy<History<News>> {
        vec(act(), 1..60)
            .prop_map(move |acts| record(&settings, acts))
            .boxed()
    }

    fn is_idempotent(_: &News) -> bool {
        true
    }

    /// Whoever is to be released or drained is wished for until it has happened.
    fn is_reminder(wish: &Wish) -> bool {
        matches!(wish, Wish::Release { .. } | Wish::Drain { .. })
    }
}

#[derive(Clone, Debug)]
enum Act {
    /// The oldest wish is granted, or cannot be.
    Grant(bool),
    /// A node reports its workers: which are there, and what they host.
    Report(u8, Vec<(u8, u64, bool, Duty)>),
    /// A node reported to another replica.
    Heard(u8),
    Reserve(u8, bool),
    Pass(Duration),
    Wild(News),
}

/// What the actor that a worker is promised to is assigned to.
fn promised(row: &Worker) -> Option<Assignment> {
    let hosted = row.hosts.as_ref()?;
    Some(Assignment {
        worker: row.key.clone(),
        pod_uid: row.pod_uid.clone(),
        incarnation: row.incarnation.clone(),
        ip: row.ip.clone(),
        node: row.node.clone(),
        fence: hosted.fence,
        session: hosted.session,
    })
}

/// One of a few workers, of which each node has every other.
pub fn row(worker: u8, version: u64, hosts: bool) -> Worker {
    let worker = Worker {
        key: worker_key(&format!("w{worker}")),
        version: Version(version),
        pod_uid: format!("uid{worker}").into(),
        incarnation: "run".into(),
        ip: "ip".into(),
        node: format!("n{}", worker % 2).into(),
        duty: Duty::Serving,
        hosts: None,
    };
    let promise = Change::Promise {
        actor: ActorKey::new("space", "a"),
        incarnation: Incarnation(7),
        template: ("ns".into(), "counter".into()),
        session: 0,
    };
    if hosts {
        worker.after(promise, Version::FIRST).expect("a free worker")
    } else {
        worker
    }
}

/// The same worker, promised to nobody.
pub fn freed(row: &Worker) -> Worker {
    row.after(Change::Free, Version::FIRST)
        .unwrap_or_else(|_| row.clone())
}

fn duty() -> impl Strategy<Value = Duty> {
    prop_oneof![3 => Just(Duty::Serving), 1 => Just(Duty::Draining)]
}

fn act() -> impl Strategy<Value = Act> {
    let wild_row = || {
        (0..6u8, 1..9u64, any::<bool>(), duty()).prop_map(|(worker, version, hosts, duty)| Worker {
            duty,
            ..row(worker, version, hosts)
        })
    };
    let sightings = || vec((0..6u8, 0..9u64, any::<bool>(), duty()), 0..4);
    prop_oneof![
        6 => prop::bool::weighted(0.9).prop_map(Act::Grant),
        4 => (0..2u8, sightings()).prop_map(|(node, workers)| Act::Report(node, workers)),
        2 => (0..2u8).prop_map(Act::Heard),
        2 => (0..6u8, any::<bool>()).prop_map(|(worker, made)| Act::Reserve(worker, made)),
        3 => gaps().prop_map(Act::Pass),
        2 => wild_row().prop_map(|row| Act::Wild(News::Written(row))),
        1 => (0..6u8).prop_map(|worker| Act::Wild(News::Vacated(worker_key(&format!("w{worker}"))))),
        1 => (0..6u8).prop_map(|worker| Act::Wild(News::Deleted(worker_key(&format!("w{worker}"))))),
        1 => vec(wild_row(), 0..4).prop_map(|mut rows| {
            rows.sort_by(|a, b| a.key.cmp(&b.key));
            rows.dedup_by(|a, b| a.key == b.key);
            Act::Wild(News::Listed(rows))
        }),
        1 => (0..2u8, 1..9u64, sightings())
            .prop_map(|(node, sequence, workers)| Act::Wild(News::Reported(report(node, sequence, workers)))),
        1 => (0..2u8, 1..9u64).prop_map(|(node, sequence)| Act::Wild(News::Heard(node_row(node, sequence)))),
    ]
}

fn record(settings: &Settings, acts: Vec<Act>) -> History<News> {
    let mut r = Recorder::new(<Subject as crate::history::Subject>::fresh(settings));
    let mut wishes: VecDeque<Wish> = r.input(News::Listed(Vec::new())).into();
    let mut sequences = [1u64; 2];
    for act in acts {
        let news = match act {
            Act::Pass(gap) => {
                wishes.extend(r.pass(gap));
                continue;
            }
            Act::Wild(news) => news,
            Act::Heard(node) => {
                sequences[usize::from(node)] += 1;
                News::Heard(node_row(node, sequences[usize::from(node)]))
            }
            Act::Report(node, workers) => {
                sequences[usize::from(node)] += 1;
                News::Reported(report(node, sequences[usize::from(node)], workers))
            }
            Act::Reserve(worker, true) => News::Reserved(worker_key(&format!("w{worker}"))),
            Act::Reserve(worker, false) => News::Lifted(worker_key(&format!("w{worker}"))),
            Act::Grant(is_granted) => match (wishes.pop_front(), is_granted) {
                (Some(Wish::Write { worker, .. }), true) => News::Written(*worker),
                (Some(Wish::Drop { key, .. }), true) => News::Deleted(key),
                (Some(Wish::Write { worker, .. }), false) => News::Failed(worker.key),
                (Some(Wish::Drop { key, .. }), false) => News::Failed(key),
                (Some(Wish::Release { worker, .. }), true) => match r.machine.0.row(&worker) {
                    Some(row) => News::Written(freed(row)),
                    None => continue,
                },
                (
                    Some(Wish::Release { .. } | Wish::Drain { .. } | Wish::Thaw { .. } | Wish::Lapse { .. })
                    | None,
                    _,
                ) => continue,
            },
        };
        wishes.extend(r.input(news));
    }
    r.history
}

pub fn report(node: u8, sequence: u64, workers: Vec<(u8, u64, bool, Duty)>) -> Report {
    let hosting = Hosting {
        actor: ActorKey::new("space", "a"),
        incarnation: Incarnation(7),
        session: 0,
    };
    let workers = workers.into_iter().filter(|(worker, ..)| worker % 2 == node);
    let workers = workers.map(|(worker, highest, hosts, duty)| Sighting {
        key: worker_key(&format!("w{worker}")),
        pod_uid: format!("uid{worker}").into(),
        incarnation: "run".into(),
        ip: "ip".into(),
        node: format!("n{node}").into(),
        duty,
        is_silent: false,
        highest_fence: Fence(highest),
        hosting: hosts.then(|| hosting.clone()),
    });
    Report {
        node: node_row(node, sequence),
        workers: workers.collect(),
    }
}

pub fn node_row(node: u8, sequence: u64) -> NodeRow {
    NodeRow {
        name: format!("n{node}").into(),
        address: "address".into(),
        incarnation: "atelet".into(),
        sequence,
        session: 0,
        lapsed: 0,
        version: 0,
    }
}
