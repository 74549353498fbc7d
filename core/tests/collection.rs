//! Collection: what nothing points at any more is deleted, after a while, and nothing else is.

mod hand;

use hand::Cluster;
use holdfast_core::actor::{Boot, Change, GARBAGE_MAX, Snapshot, Status};
use holdfast_core::effect::{NodeFailureKind, Place, Verb};
use holdfast_core::failure::Code;
use holdfast_core::id::{ActorKey, Name, NodeName, Version};
use holdfast_core::replica::Input;
use holdfast_core::request::Request;
use holdfast_core::settings::Settings;
use holdfast_core::time::Duration;

/// A moment in which nothing is collected.
const SOON: Duration = Duration::from_secs(30);

/// The longest that one waits for a collection to begin.
fn later() -> Duration {
    Settings::DEFAULT.workflow.collect_after * 5 / 4
}

fn suspend(c: &mut Cluster, key: &ActorKey) -> Name {
    c.ask(0, Request::Suspend(key.clone()));
    c.run(0);
    c.answer(0, Ok(()));
    match &c.store.actors[key].latest {
        Some(Snapshot::External(prefix)) => prefix.clone(),
        other => panic!("{other:?}"),
    }
}

fn resume(c: &mut Cluster, key: &ActorKey) {
    c.ask(0, Request::Resume(key.clone(), Boot::Golden));
    c.run(0);
    c.answer(0, Ok(()));
}

fn places(c: &Cluster) -> Vec<Place> {
    let discards = c.replicas[0].discards.iter();
    discards
        .flat_map(|(_, discard)| discard.snapshots.clone())
        .collect()
}

/// Nodes do what they are told to.
fn deleted(c: &mut Cluster) -> Vec<Place> {
    let mut all = Vec::new();
    while let Some((effect, discard)) = c.replicas[0].discards.pop_front() {
        all.extend(discard.snapshots);
        c.input(0, Input::Discarded(effect, Ok(())));
        c.run(0);
    }
    all
}

/// Time passes, and the node goes on reporting.
fn pass(c: &mut Cluster, time: Duration) {
    let step = Duration::from_secs(15);
    let mut left = time;
    while left > Duration::ZERO {
        let now = left.min(step);
        c.pass(0, now);
        c.report(0, vec![hand::sighting("w1", 0, None)]);
        left -= now;
    }
}

#[test]
fn the_last_snapshot_and_the_one_before_it_are_kept_and_older_ones_go_after_a_while() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.asleep("a", None);
    let mut taken = Vec::new();
    for _ in 0..3 {
        resume(&mut c, &key);
        taken.push(suspend(&mut c, &key));
    }
    assert_eq!(
        c.store.actors[&key].garbage,
        [Snapshot::External(taken[0].clone())]
    );
    pass(&mut c, SOON);
    assert_eq!(
        places(&c),
        [],
        "the store may still lose the write that let go of it"
    );
    pass(&mut c, later());
    assert_eq!(deleted(&mut c), [Place::External(taken[0].clone())]);
    assert_eq!(c.store.actors[&key].garbage, []);
    let version = c.store.actors[&key].version;
    pass(&mut c, later() * 2);
    assert_eq!(
        (deleted(&mut c), c.store.actors[&key].version),
        (vec![], version),
        "and that is all"
    );
}

/// Scenario S30.
#[test]
fn what_a_template_starts_new_actors_from_is_not_collected_while_it_does() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.asleep("a", None);
    resume(&mut c, &key);
    let golden = suspend(&mut c, &key);
    let mut borrowing = (*hand::template()).clone();
    borrowing.golden_snapshot = Some(golden.clone());
    c.input(0, Input::Declared(hand::catalog(Some(borrowing.into()))));
    c.ask(0, Request::Delete(key));
    c.run(0);
    pass(&mut c, later() * 3);
    assert_eq!(deleted(&mut c), []);
    c.input(0, Input::Declared(hand::catalog(Some(hand::template()))));
    pass(&mut c, later() * 3);
    assert_eq!(deleted(&mut c), [Place::External(golden)]);
}

#[test]
fn what_a_node_could_not_delete_is_tried_again_and_stays_noted_until_then() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", Some("mem://1"));
    c.ask(0, Request::Suspend(key.clone()));
    c.run(0);
    c.answer(0, hand::failure(Code::DataLoss, NodeFailureKind::SandboxGone));
    assert_eq!(
        c.store.actors[&key].garbage.len(),
        1,
        "the snapshot that was begun and never finished"
    );
    pass(&mut c, later());
    let (effect, first) = c.replicas[0].discards.pop_front().expect("it is collected");
    c.input(
        0,
        Input::Discarded(effect, Err("the object store does not answer".into())),
    );
    c.run(0);
    assert_eq!(c.store.actors[&key].garbage.len(), 1);
    pass(&mut c, later());
    assert_eq!(deleted(&mut c), first.snapshots);
    assert_eq!(c.store.actors[&key].garbage, []);
}

#[test]
fn what_is_let_go_of_while_something_else_waits_has_to_wait_for_as_long() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.asleep("a", None);
    let mut taken = Vec::new();
    for _ in 0..3 {
        resume(&mut c, &key);
        taken.push(suspend(&mut c, &key));
    }
    pass(&mut c, SOON);
    resume(&mut c, &key);
    taken.push(suspend(&mut c, &key));
    pass(&mut c, later() - SOON);
    assert_eq!(deleted(&mut c), [Place::External(taken[0].clone())]);
    pass(&mut c, later());
    assert_eq!(deleted(&mut c), [Place::External(taken[1].clone())]);
}

#[test]
fn a_note_that_something_is_gone_gives_way_to_whoever_writes_meanwhile() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", Some("mem://1"));
    c.ask(0, Request::Suspend(key.clone()));
    c.run(0);
    c.answer(0, hand::failure(Code::DataLoss, NodeFailureKind::SandboxGone));
    pass(&mut c, later());
    let (effect, _) = c.replicas[0].discards.pop_front().expect("it is collected");
    c.input(0, Input::Discarded(effect, Ok(())));
    c.change(&key, &Change::Select(Default::default()));
    let version = c.store.actors[&key].version;
    c.run(0);
    let actor = &c.store.actors[&key];
    assert_eq!((actor.version, actor.garbage.len()), (version.next(), 0));
}

#[test]
fn a_deleted_actor_leaves_a_note_and_what_it_names_is_deleted_at_the_second_look() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.asleep("a", Some("mem://1"));
    let delete = c.ask(0, Request::Delete(key.clone()));
    c.run(0);
    assert!(c.verdict(0, delete).is_ok());
    assert_eq!(c.store.graves.len(), 1);
    pass(&mut c, later());
    assert_eq!(places(&c), [], "the store may still lose the deletion");
    pass(&mut c, later());
    assert_eq!(deleted(&mut c), [Place::External("mem://1".into())]);
    assert!(c.store.graves.is_empty());
}

#[test]
fn a_deletion_that_did_not_happen_has_nothing_deleted() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.asleep("a", Some("mem://1"));
    let grave = c.store.actors[&key].grave().expect("it has a snapshot");
    c.store.graves.push(grave);
    pass(&mut c, later() * 3);
    assert_eq!(deleted(&mut c), []);
    assert_eq!(c.store.actors[&key].status(), Status::Suspended);
    assert_eq!(c.store.graves.len(), 1, "the deletion may be on its way");

    c.change(&key, &Change::Select(Default::default()));
    pass(&mut c, later() * 3);
    assert_eq!(deleted(&mut c), []);
    assert!(
        c.store.graves.is_empty(),
        "nobody can delete that version any more"
    );
}

#[test]
fn what_is_on_the_disk_of_a_node_that_is_away_waits_and_does_not_hold_up_the_rest() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.asleep("a", Some("mem://1"));
    let away = Snapshot::Local {
        name: "local".into(),
        nodes: vec![NodeName::from("away")],
    };
    let mut grave = c.store.actors[&key].grave().expect("it has a snapshot");
    grave.snapshots.insert(0, away.clone());
    c.store.actors.remove(&key);
    c.store.graves.push(grave);
    pass(&mut c, later() * 3);
    assert_eq!(deleted(&mut c), [Place::External("mem://1".into())]);
    assert_eq!(c.store.graves[0].snapshots, [away]);
}

#[test]
fn each_upload_of_a_paused_actor_has_a_place_of_its_own() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", None);
    c.ask(0, Request::Pause(key.clone()));
    c.run(0);
    c.answer(0, Ok(()));
    let mut places = Vec::new();
    for _ in 0..2 {
        c.ask(0, Request::Suspend(key.clone()));
        c.run(0);
        match c.call(0).verb.clone() {
            Verb::Upload { to, .. } => places.push(to),
            other => panic!("{other:?}"),
        }
        c.answer(0, hand::failure(Code::Unavailable, NodeFailureKind::Failed));
        // Something else lets go of the place.
        c.change(
            &key,
            &Change::Reserve {
                snapshot: "mem://elsewhere".into(),
            },
        );
        c.change(&key, &Change::Revert);
        let mut paused = c.store.actors[&key].clone();
        paused.state = holdfast_core::actor::State::Paused;
        paused.latest = Some(Snapshot::Local {
            name: "local".into(),
            nodes: vec!["node".into()],
        });
        paused.version = paused.version.next();
        c.store.actors.insert(key.clone(), paused);
    }
    assert_ne!(
        places[0], places[1],
        "what was let go of is never pointed at again"
    );
}

#[test]
fn a_record_does_not_grow_without_bound() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.asleep("a", None);
    for n in 0..2 * GARBAGE_MAX {
        let reserve = Change::Reserve {
            snapshot: format!("mem://{n}").into(),
        };
        let mut actor = c.store.actors[&key].clone();
        actor.state = holdfast_core::actor::State::Paused;
        let next = actor
            .after(&reserve, None, Version::FIRST)
            .expect("a legal change");
        c.store.actors.insert(key.clone(), next);
    }
    let garbage = &c.store.actors[&key].garbage;
    assert_eq!(garbage.len(), GARBAGE_MAX);
    let newest = Snapshot::External(format!("mem://{}", 2 * GARBAGE_MAX - 2).into());
    assert_eq!(garbage.last(), Some(&newest));
}
