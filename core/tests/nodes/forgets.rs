//! A node does not grow with the number of actors and pods that it has ever seen, and lets nobody stale in for that.

use crate::hand::{actor_key, worker_key};
use crate::seat::*;
use holdfast_core::effect::*;
use holdfast_core::id::*;
use holdfast_core::node::*;
use holdfast_core::registry::Sighting;
use holdfast_core::settings::Settings;
use holdfast_core::worker::{Change, Sight, Worker};

/// A node that remembers eight fences, and what its disk has.
struct Forgetful {
    seat: Seat,
    disk: Memory,
}

fn settings() -> Settings {
    let mut settings = SETTINGS;
    settings.node.fences_max = 8;
    settings
}

impl Forgetful {
    fn new() -> Forgetful {
        let mut seat = Seat::on("atelet", settings(), Memory::default());
        seat.describe(None);
        seat.answered(grant());
        Forgetful {
            seat,
            disk: Memory::default(),
        }
    }

    /// The disk takes what it was given.
    fn kept(&mut self) {
        for (effect, kept) in std::mem::take(&mut self.seat.keeps) {
            self.disk.take(&kept);
            self.seat.input(Input::Kept(effect, Ok(())));
        }
    }

    /// Somebody wants nothing of this actor to run, under this fence of it, and is answered.
    fn stopped(&mut self, actor: &str, fence: u64) -> NodeReply {
        let id = self.seat.order(|order| {
            (order.actor, order.fence) = (actor_key(actor), Fence(fence));
            (order.worker_fence, order.verb, order.op) = (Fence(0), Verb::Stop, None);
        });
        while self.seat.reply(id).is_none() {
            self.kept();
            while !self.seat.work.is_empty() {
                self.seat.worked(Ok(Vec::new()));
            }
        }
        self.kept();
        self.seat.reply(id).expect("it is answered")
    }

    /// The fence that it would have to show, if this one is too low.
    fn highest(&mut self, actor: &str, fence: u64) -> Option<u64> {
        match self.stopped(actor, fence) {
            Ok(()) => None,
            Err(failure) => match failure.kind {
                NodeFailureKind::StaleFence {
                    of: Fenced::Actor,
                    highest,
                } => Some(highest.0),
                other => panic!("{other:?}"),
            },
        }
    }

    fn restart(&mut self) {
        self.seat = Seat::on("another", settings(), self.disk.clone());
        self.seat.describe(None);
        self.seat.answered(grant());
    }
}

#[test]
fn the_lowest_fences_are_forgotten_and_the_highest_of_them_counts_for_whoever_is_not_remembered() {
    let mut node = Forgetful::new();
    for actor in 1..=9 {
        assert_eq!(node.highest(&format!("a{actor}"), 10 * actor), None);
    }
    assert_eq!((node.disk.fences.len(), node.disk.floor), (6, Fence(30)));
    for round in 0..2 {
        assert_eq!(node.highest("a1", 9), Some(30), "stale as ever, round {round}");
        assert_eq!(node.highest("a2", 29), Some(30), "who is told claims above it");
        assert_eq!(node.highest("a9", 89), Some(90), "remembered for itself");
        node.restart();
    }
    assert_eq!(node.highest("a1", 31), None);
    assert_eq!(node.highest("a1", 30), Some(31));
}

#[test]
fn what_could_not_be_forgotten_on_disk_is_not_let_in_after_a_restart_either() {
    let mut node = Forgetful::new();
    for actor in 1..=8 {
        assert_eq!(node.stopped(&format!("a{actor}"), 10 * actor), Ok(()));
    }
    node.seat.order(|order| {
        (order.actor, order.fence) = (actor_key("a9"), Fence(90));
        (order.worker_fence, order.verb, order.op) = (Fence(0), Verb::Stop, None);
    });
    node.seat.refuse();
    // What is written next has the floor, whatever it is about.
    node.kept();
    assert_eq!((node.disk.fences.len(), node.disk.floor), (9, Fence(30)));
    node.restart();
    assert_eq!(node.highest("a1", 9), Some(10));
    assert_eq!(node.highest("new", 29), Some(30));
}

#[test]
fn the_fence_of_an_actor_that_is_here_is_not_forgotten() {
    let mut node = Forgetful::new();
    node.seat
        .order(|order| (order.session, order.fence) = (1, Fence(2)));
    while !(node.seat.work.is_empty() && node.seat.keeps.is_empty() && node.seat.pulls.is_empty()) {
        node.seat.pulled();
        node.kept();
        while !node.seat.work.is_empty() {
            node.seat.worked(Ok(Vec::new()));
        }
    }
    for actor in 1..=20 {
        assert_eq!(node.stopped(&format!("b{actor}"), 10 * actor), Ok(()));
    }
    assert_eq!(
        node.disk.fences.get(&(actor_key("a"), Incarnation(7))),
        Some(&Fence(2))
    );
    assert!(node.disk.floor > Fence(2));
    assert_eq!(node.highest("a", 1), Some(2));
}

#[test]
fn pods_that_are_long_gone_are_forgotten_and_the_last_of_them_are_not() {
    let mut seat = Seat::idle();
    let mut disk = Memory::default();
    for pod in 0..3000 {
        let uid = PodUid::from(format!("uid-{pod}"));
        let there = Described {
            key: worker_key(&format!("w{pod}")),
            ..described(None)
        };
        seat.input(Input::Worker(uid.clone(), there));
        seat.input(Input::WorkerLost(uid));
        for (effect, kept) in std::mem::take(&mut seat.keeps) {
            disk.take(&kept);
            seat.input(Input::Kept(effect, Ok(())));
        }
    }
    assert!(disk.entries.len() <= 1025, "{}", disk.entries.len());
    for pod in 2500..3000 {
        let uid = PodUid::from(format!("uid-{pod}"));
        assert!(
            disk.entries[&uid].highest > Fence(0),
            "no order from before is let in at {uid}"
        );
    }
}

/// I12: an answer that waits for the disk is given, whatever has been forgotten meanwhile.
#[test]
fn an_answer_that_is_owed_outlives_the_pod_that_it_is_about() {
    let mut seat = Seat::running();
    let save = |order: &mut Order| (order.session, order.verb, order.op) = (1, checkpoint(), Some(op(2)));
    let first = seat.order(save);
    seat.finish();
    assert_eq!(seat.reply(first), Some(Ok(())));
    seat.describe(None);
    seat.input(Input::WorkerLost("uid".into()));
    seat.kept();
    let pods = |seat: &mut Seat, from: u32, to: u32| {
        for pod in from..to {
            let uid = PodUid::from(format!("uid-{pod}"));
            let there = Described {
                key: worker_key(&format!("w{pod}")),
                ..described(None)
            };
            seat.input(Input::Worker(uid.clone(), there));
            seat.input(Input::WorkerLost(uid));
        }
    };
    pods(&mut seat, 0, 1023);
    seat.kept();
    // A successor asks for the same operation under a higher fence.
    let again = seat.order(|order| {
        save(order);
        order.fence = Fence(11);
    });
    assert_eq!(seat.reply(again), None, "its fence is not on disk yet");
    pods(&mut seat, 1023, 1026);
    seat.kept();
    seat.kept();
    assert_eq!(seat.reply(again), Some(Ok(())));
}

/// "Of pods that are gone it remembers about a thousand", also of those that it has never seen.
#[test]
fn pods_that_never_were_here_are_forgotten_too() {
    let mut seat = Seat::idle();
    let mut disk = Memory::default();
    for pod in 0..3000 {
        seat.order(|order| {
            order.worker = PodUid::from(format!("uid-{pod}"));
            (order.session, order.verb, order.op) = (1, Verb::Stop, None);
        });
        while !(seat.keeps.is_empty() && seat.work.is_empty()) {
            for (effect, kept) in std::mem::take(&mut seat.keeps) {
                disk.take(&kept);
                seat.input(Input::Kept(effect, Ok(())));
            }
            while !seat.work.is_empty() {
                seat.fails(WorkFailureKind::Gone);
            }
        }
    }
    assert!(disk.entries.len() <= 1026, "{}", disk.entries.len());
}

/// What the node says of its worker.
fn sighting(seat: &mut Seat) -> Sighting {
    seat.input(Input::Reported(Ok(grant())));
    seat.report();
    let report = seat.said.iter().find_map(|output| match output {
        Output::Report(report) => Some(report),
        _ => None,
    });
    report.unwrap().workers[0].clone()
}

/// The row of the worker as it is written when it is heard of again, promised.
fn promised(seen: &Sighting) -> Worker {
    let sight = Sight {
        pod_uid: seen.pod_uid.clone(),
        incarnation: seen.incarnation.clone(),
        ip: seen.ip.clone(),
        node: seen.node.clone(),
        duty: seen.duty,
    };
    let promise = Change::Promise {
        actor: actor_key("a"),
        incarnation: Incarnation(7),
        template: ("ns".into(), "counter".into()),
        session: 1,
    };
    let row = Worker::appear(seen.key.clone(), sight, seen.highest_fence);
    row.after(promise, Version::FIRST).unwrap()
}

fn lost_and_found(seat: &mut Seat) {
    seat.input(Input::WorkerLost("uid".into()));
    seat.kept();
    seat.describe(None);
    seat.kept();
}

/// "Should the same pod come back, its new row begins above every version of the old one: no order that was promised
/// before is let in, and no replica that slept through both can take one row for the other." The second time, too.
#[test]
fn a_pod_that_comes_back_twice_is_above_every_promise_from_before() {
    let mut seat = Seat::idle();
    lost_and_found(&mut seat);
    let second = sighting(&mut seat);
    let (old, fence) = (promised(&second), promised(&second).version.0);
    // The order for that promise is on its way.
    lost_and_found(&mut seat);
    let third = sighting(&mut seat);
    let new = promised(&third);
    let late = seat.order(|order| (order.session, order.worker_fence) = (1, Fence(fence)));
    seat.kept();
    assert!(
        new.version > old.version,
        "the rows of two lives are one and the same at version {}",
        new.version
    );
    assert!(matches!(
        seat.refusal(late),
        Some(NodeFailureKind::StaleFence { .. })
    ));
}
