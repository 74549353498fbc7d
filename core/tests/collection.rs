//! Collection: what nothing points at any more is deleted, after a while, and nothing else is.

mod hand;

use hand::{Cluster, name_of};
use holdfast_core::actor::{Boot, Change, GARBAGE_MAX, Garbage, Snapshot, State, Status};
use holdfast_core::effect::{Grave, NodeFailureKind, NodeRow, Place, StoreError, StoreOp, StoreReply, Verb};
use holdfast_core::failure::Code;
use holdfast_core::id::{ActorKey, Incarnation, LeaseToken, Name, NodeName, Version};
use holdfast_core::machine::Machine;
use holdfast_core::registry::Report;
use holdfast_core::replica::{Input, Timer};
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

/// What an actor has let go of.
fn garbage(c: &Cluster, key: &ActorKey) -> Vec<Snapshot> {
    c.store.actors[key].let_go().cloned().collect()
}

/// An actor that has let go of these: a paused one that was just reverted.
fn let_go(c: &mut Cluster, name: &str, garbage: Vec<Snapshot>) -> ActorKey {
    let key = c.asleep(name, Some("mem://kept"));
    let actor = c.store.actors.get_mut(&key).unwrap();
    actor.state = State::Paused;
    let (since, by) = (Version::FIRST, None);
    let since_long_ago = |snapshot| Garbage { snapshot, since, by };
    actor.garbage = garbage.into_iter().map(since_long_ago).collect();
    c.ask(0, Request::Revert(key.clone()));
    c.run(0);
    key
}

/// The note of an actor that was deleted.
fn leave_note(c: &mut Cluster, name: &str, latest: &str) -> Grave {
    let key = c.asleep(name, Some(latest));
    let actor = c.store.actors.remove(&key).unwrap();
    let grave = actor.grave().expect("it has a snapshot");
    c.store.graves.push(grave.clone());
    grave
}

fn external(place: &str) -> Snapshot {
    Snapshot::External(place.into())
}

fn local(name: &str, node: &str) -> Snapshot {
    Snapshot::Local {
        name: name.into(),
        nodes: vec![NodeName::from(node)],
    }
}

/// Forty leftovers, of actors that exist or of deleted ones, that are due.
fn forty(are_deleted: bool) -> (Cluster, Vec<Place>) {
    let mut c = Cluster::new(1, &["w1"]);
    let mut all = Vec::new();
    for number in 10..50 {
        let (name, place) = (format!("a{number}"), format!("mem://{number}"));
        match are_deleted {
            true => drop(leave_note(&mut c, &name, &place)),
            false => drop(let_go(&mut c, &name, vec![external(&place)])),
        }
        all.push(Place::External(place.into()));
    }
    (c, all)
}

fn sorted(mut places: Vec<Place>) -> Vec<Place> {
    places.sort_by_key(|place| format!("{place:?}"));
    places
}

#[test]
fn sixteen_collections_run_at_once_and_all_are_made_in_the_end() {
    for are_deleted in [false, true] {
        let (mut c, all) = forty(are_deleted);
        pass(&mut c, later() * 3);
        let mut deleted = Vec::new();
        for left in (0..40).rev() {
            assert_eq!(places(&c).len(), (left + 1).min(16));
            let (effect, discard) = c.replicas[0].discards.pop_front().unwrap();
            deleted.extend(discard.snapshots);
            c.input(0, Input::Discarded(effect, Ok(())));
            c.run(0);
        }
        assert_eq!(sorted(deleted), all);
        assert!(c.store.graves.is_empty());
    }
}

/// Of forty, those that did not fail are deleted, and the others when they come round again.
fn assert_the_rest_goes_first(c: &mut Cluster, all: &[Place]) {
    let mut gone = deleted(c);
    assert_eq!(gone.len(), 24);
    pass(c, later() * 3);
    gone.extend(deleted(c));
    assert_eq!(sorted(gone), all);
}

#[test]
fn a_collection_that_fails_makes_room_for_the_next_and_comes_round_again() {
    for are_deleted in [false, true] {
        let (mut c, all) = forty(are_deleted);
        pass(&mut c, later() * 3);
        let first = places(&c);
        for (effect, _) in core::mem::take(&mut c.replicas[0].discards) {
            c.input(0, Input::Discarded(effect, Err("away".into())));
        }
        c.run(0);
        let second = places(&c);
        assert_eq!(second.len(), 16);
        assert!(second.iter().all(|place| !first.contains(place)));
        assert_the_rest_goes_first(&mut c, &all);
    }
}

#[test]
fn a_collection_whose_read_fails_makes_room_for_the_next_and_comes_round_again() {
    for are_deleted in [false, true] {
        let (mut c, all) = forty(are_deleted);
        let is_read = |op: &StoreOp| matches!(op, StoreOp::GetActor(_));
        while !c.replicas[0].store.iter().any(|(_, op)| is_read(op)) {
            c.run(0);
            c.report(0, vec![hand::sighting("w1", 0, None)]);
            c.wake(0);
        }
        let reads: Vec<_> = c.replicas[0]
            .store
            .drain(..)
            .filter(|(_, op)| is_read(op))
            .collect();
        assert_eq!(reads.len(), 16);
        for (effect, _) in reads {
            c.input(
                0,
                Input::Stored(effect, Err(StoreError::Unavailable("away".into()))),
            );
        }
        assert_eq!(c.replicas[0].store.len(), 16, "others, at once");
        c.run(0);
        assert_the_rest_goes_first(&mut c, &all);
    }
}

#[test]
fn what_the_record_does_not_name_any_more_is_not_deleted() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = let_go(&mut c, "a", vec![external("mem://1"), external("mem://2")]);
    // The store has lost the write that let go of one of them.
    let actor = c.store.actors.get_mut(&key).unwrap();
    actor
        .garbage
        .retain(|garbage| garbage.snapshot == external("mem://2"));
    actor.latest = Some(external("mem://1"));
    pass(&mut c, later());
    assert_eq!(deleted(&mut c), [Place::External("mem://2".into())]);
}

#[test]
fn what_a_store_has_lost_and_was_let_go_of_once_more_waits_from_then_on() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = let_go(&mut c, "a", vec![external("mem://1")]);
    pass(&mut c, SOON);
    // The store has lost the write that let go of it, and somebody else has written the same under another claim.
    let actor = c.store.actors.get_mut(&key).unwrap();
    actor.garbage[0].by = Some("0000000000000009-9".parse::<LeaseToken>().unwrap());
    pass(&mut c, later());
    assert_eq!(deleted(&mut c), [], "the store may lose that one, too");
    resume(&mut c, &key);
    pass(&mut c, later());
    assert_eq!(deleted(&mut c), [Place::External("mem://1".into())]);
}

#[test]
fn what_lies_in_two_places_is_deleted_in_one_after_the_other_and_noted_each_time() {
    let mut c = Cluster::new(1, &["w1"]);
    let left = vec![external("mem://1"), local("l1", "node"), external("mem://2")];
    let key = let_go(&mut c, "a", left.clone());
    c.replicas[0].performed.clear();
    pass(&mut c, later());
    // All of it is left if the first place cannot be reached.
    let (effect, _) = c.replicas[0].discards.pop_front().expect("it is collected");
    c.input(0, Input::Discarded(effect, Err("away".into())));
    c.run(0);
    assert_eq!(garbage(&c, &key), left);
    c.replicas[0].performed.clear();
    pass(&mut c, later());
    let batches: Vec<_> = std::iter::from_fn(|| {
        let (effect, discard) = c.replicas[0].discards.pop_front()?;
        c.input(0, Input::Discarded(effect, Ok(())));
        c.run(0);
        Some((discard.snapshots, garbage(&c, &key)))
    })
    .collect();
    let in_the_store = vec![
        Place::External("mem://1".into()),
        Place::External("mem://2".into()),
    ];
    let on_the_node = vec![Place::Local("l1".into())];
    assert_eq!(
        batches,
        [(in_the_store, vec![local("l1", "node")]), (on_the_node, vec![])]
    );
    assert_eq!(c.names(0), ["GetActor", "PutActor", "GetActor", "PutActor"]);
}

#[test]
fn a_note_that_always_comes_too_late_is_left_to_the_next_who_works_on_the_actor() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = let_go(&mut c, "a", vec![external("mem://1")]);
    pass(&mut c, later());
    let (effect, _) = c.replicas[0].discards.pop_front().expect("it is collected");
    c.input(0, Input::Discarded(effect, Ok(())));
    let mut tries = 0;
    while let Some((_, op)) = c.replicas[0].store.front() {
        assert_eq!(name_of(op), "PutActor");
        tries += 1;
        c.change(&key, &Change::Select(Default::default()));
        c.step(0);
    }
    assert_eq!(tries, 6, "the first, and five more");
    assert_eq!(c.store.actors[&key].garbage.len(), 1);
    resume(&mut c, &key);
    pass(&mut c, later());
    deleted(&mut c);
    assert_eq!(garbage(&c, &key), []);
}

#[test]
fn what_an_earlier_life_of_an_actor_has_left_is_deleted_while_the_next_one_lives() {
    for version in [1, 100] {
        let mut c = Cluster::new(1, &["w1"]);
        leave_note(&mut c, "a", "mem://1");
        let note = &mut c.store.graves[0];
        (note.incarnation, note.version) = (Incarnation(6), Version(version));
        c.asleep("a", Some("mem://2"));
        pass(&mut c, later() * 3);
        assert_eq!(deleted(&mut c), [Place::External("mem://1".into())]);
        assert!(c.store.graves.is_empty());
    }
}

/// Turns the clock until a replica lists the notes of deleted actors.
fn until_it_lists(c: &mut Cluster) {
    let lists = |c: &Cluster| {
        let mut asked = c.replicas[0].store.iter();
        asked.any(|(_, op)| matches!(op, StoreOp::ListGraves { .. }))
    };
    while !lists(c) {
        c.run(0);
        c.wake(0);
    }
}

/// Answers the list that is asked for; after which note, if any is.
fn answer_list(c: &mut Cluster, graves: Vec<Grave>, next: Option<&str>) -> Option<Option<Name>> {
    let is_list = |op: &StoreOp| matches!(op, StoreOp::ListGraves { .. });
    let at = c.replicas[0].store.iter().position(|(_, op)| is_list(op))?;
    let (effect, op) = c.replicas[0].store.remove(at)?;
    let next = next.map(Name::from);
    c.input(0, Input::Stored(effect, Ok(StoreReply::Graves { graves, next })));
    match op {
        StoreOp::ListGraves { after, .. } => Some(after),
        _ => None,
    }
}

#[test]
fn notes_are_listed_page_by_page_and_the_next_look_reads_on() {
    let mut c = Cluster::new(1, &[]);
    until_it_lists(&mut c);
    assert_eq!(answer_list(&mut c, vec![], Some("p1")), Some(None));
    for page in 2..=64 {
        let after = format!("p{}", page - 1);
        let next = format!("p{page}");
        assert_eq!(
            answer_list(&mut c, vec![], Some(&next)),
            Some(Some(after.as_str().into()))
        );
    }
    assert_eq!(
        answer_list(&mut c, vec![], None),
        None,
        "it is enough for one look"
    );
    until_it_lists(&mut c);
    assert_eq!(answer_list(&mut c, vec![], None), Some(Some("p64".into())));
    assert_eq!(answer_list(&mut c, vec![], None), None, "that was the last");
    until_it_lists(&mut c);
    assert_eq!(
        answer_list(&mut c, vec![], None),
        Some(None),
        "from the beginning"
    );
}

#[test]
fn no_more_notes_are_read_at_one_look_than_are_kept() {
    let mut c = Cluster::new(1, &[]);
    let grave = leave_note(&mut c, "a", "mem://1");
    let of = |actor: usize| Grave {
        actor: hand::actor_key(&format!("a{actor}")),
        ..grave.clone()
    };
    until_it_lists(&mut c);
    let mut pages = 0;
    let page = |pages: usize| (0..1024).map(|n| of(1024 * pages + n)).collect();
    while answer_list(&mut c, page(pages), Some("more")).is_some() {
        pages += 1;
    }
    assert_eq!(pages, 17, "sixteen are held, and a few are looked for at once");
}

#[test]
fn a_list_of_notes_that_fails_is_read_at_the_next_look() {
    let mut c = Cluster::new(1, &[]);
    until_it_lists(&mut c);
    let (effect, _) = c.replicas[0].store.pop_back().unwrap();
    c.input(
        0,
        Input::Stored(effect, Err(StoreError::Unavailable("away".into()))),
    );
    assert_eq!(answer_list(&mut c, vec![], None), None);
    until_it_lists(&mut c);
    assert_eq!(answer_list(&mut c, vec![], None), Some(None));
}

#[test]
fn a_replica_that_leaves_reads_no_more_notes() {
    let mut c = Cluster::new(1, &[]);
    until_it_lists(&mut c);
    c.input(0, Input::Shutdown);
    assert_eq!(answer_list(&mut c, vec![], Some("p1")), Some(None));
    assert_eq!(answer_list(&mut c, vec![], None), None);
}

#[test]
fn a_replica_that_leaves_has_nothing_more_deleted_and_goes_on_with_nothing() {
    for fails in [false, true] {
        let (mut c, _) = forty(false);
        pass(&mut c, later());
        assert_eq!(places(&c).len(), 16);
        // One of them has just been read when it is told to leave.
        let (effect, _) = c.replicas[0].discards.pop_front().unwrap();
        c.input(0, Input::Discarded(effect, Err("away".into())));
        let (reading, op) = c.replicas[0].store.pop_front().expect("the next is read");
        c.input(0, Input::Shutdown);
        c.run(0);
        let reply = c.store.perform(&op);
        c.input(0, Input::Stored(reading, Ok(reply)));
        for (effect, _) in core::mem::take(&mut c.replicas[0].discards) {
            let result = if fails { Err("away".into()) } else { Ok(()) };
            c.input(0, Input::Discarded(effect, result));
        }
        assert_eq!(places(&c), []);
        assert!(
            c.replicas[0].store.is_empty(),
            "nothing is noted: it may have left"
        );
        let next = c.replicas[0].machine.poll_timeout();
        assert!(
            next.as_ref().is_none_or(|(_, why)| *why == Timer::Registry),
            "{next:?}"
        );
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
    assert_eq!(garbage(&c, &key), [Snapshot::External(taken[0].clone())]);
    pass(&mut c, SOON);
    assert_eq!(
        places(&c),
        [],
        "the store may still lose the write that let go of it"
    );
    pass(&mut c, later());
    assert_eq!(deleted(&mut c), [Place::External(taken[0].clone())]);
    assert_eq!(garbage(&c, &key), []);
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
    assert_eq!(garbage(&c, &key), []);
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
fn each_is_collected_as_soon_as_it_has_waited_for_long_enough() {
    let mut c = Cluster::new(1, &["w1"]);
    let_go(&mut c, "a", vec![external("mem://1")]);
    pass(&mut c, SOON);
    let_go(&mut c, "b", vec![external("mem://2")]);
    pass(&mut c, Settings::DEFAULT.workflow.collect_after - SOON);
    assert_eq!(deleted(&mut c), [Place::External("mem://1".into())]);
    pass(&mut c, SOON - Duration::from_millis(1));
    assert_eq!(deleted(&mut c), []);
    pass(&mut c, Duration::from_millis(1));
    assert_eq!(deleted(&mut c), [Place::External("mem://2".into())]);
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
fn a_deleted_actor_leaves_a_note_and_what_it_names_is_deleted_when_it_was_not_there_twice() {
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

/// A note is written before the record is deleted, by whoever tries to; it says nothing of when that succeeds.
#[test]
fn what_a_deleted_actor_leaves_waits_from_its_deletion_and_not_from_the_first_attempt() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.asleep("a", Some("mem://1"));
    let grave = c.store.actors[&key].grave().expect("it has a snapshot");
    c.store.graves.push(grave);
    let second = Duration::from_secs(1);
    pass(&mut c, Settings::DEFAULT.workflow.collect_after * 7 / 3);
    let delete = c.ask(0, Request::Delete(key));
    c.run(0);
    assert!(c.verdict(0, delete).is_ok());
    let mut waited = Duration::ZERO;
    while places(&c).is_empty() {
        pass(&mut c, second);
        waited += second;
    }
    assert!(waited >= Settings::DEFAULT.workflow.collect_after, "{waited:?}");
    assert!(waited <= later() * 2 + second, "{waited:?}");
    deleted(&mut c);
    assert!(c.store.graves.is_empty());
}

/// The store may lose a deletion that is younger than that.
#[test]
fn an_actor_that_is_back_after_it_was_not_there_keeps_what_it_has() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.asleep("a", Some("mem://1"));
    let record = c.store.actors[&key].clone();
    c.ask(0, Request::Delete(key.clone()));
    c.run(0);
    pass(&mut c, later());
    c.store.actors.insert(key, record);
    pass(&mut c, later() * 3);
    assert_eq!(deleted(&mut c), []);
    assert_eq!(c.store.graves.len(), 1);
}

#[test]
fn a_pause_that_crashed_may_have_left_a_snapshot_on_its_node_and_it_goes_with_the_actor() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", None);
    c.ask(0, Request::Pause(key.clone()));
    c.run(0);
    let begun = match &c.call(0).verb {
        Verb::Checkpoint {
            to: Place::Local(name),
            ..
        } => name.clone(),
        other => panic!("{other:?}"),
    };
    c.answer(0, hand::failure(Code::DataLoss, NodeFailureKind::Crash));
    c.ask(0, Request::Delete(key));
    c.run(0);
    assert_eq!(c.store.graves[0].snapshots, [local(begun.as_str(), "node")]);
}

#[test]
fn what_an_actor_had_let_go_of_goes_with_it_when_it_is_deleted_first() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = let_go(&mut c, "a", vec![external("mem://1")]);
    c.ask(0, Request::Delete(key));
    c.run(0);
    assert_eq!(
        c.store.graves[0].snapshots,
        [external("mem://kept"), external("mem://1")]
    );
}

#[test]
fn whoever_deletes_is_told_whose_it_was() {
    for is_deleted in [false, true] {
        let mut c = Cluster::new(1, &["w1"]);
        match is_deleted {
            true => drop(leave_note(&mut c, "a", "mem://1")),
            false => drop(let_go(&mut c, "a", vec![external("mem://1")])),
        }
        pass(&mut c, later() * 3);
        let (_, discard) = c.replicas[0].discards.pop_front().expect("it is collected");
        assert_eq!(discard.actor, hand::actor_key("a"));
        assert_eq!(discard.template, ("ns".into(), "counter".into()));
    }
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

    // It comes back.
    let mut gone = Vec::new();
    for sequence in 2..12 {
        let node = NodeRow {
            name: "away".into(),
            address: "address".into(),
            incarnation: "atelet".into(),
            sequence,
            session: 0,
            lapsed: 0,
            version: 0,
        };
        let workers = Vec::new();
        c.ask(0, Request::Heartbeat(Report { node, workers }));
        c.run(0);
        pass(&mut c, SOON);
        gone.extend(deleted(&mut c));
    }
    assert!(gone.contains(&Place::Local("local".into())), "{gone:?}");
    assert!(c.store.graves.is_empty());
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
    let garbage = garbage(&c, &key);
    assert_eq!(garbage.len(), GARBAGE_MAX);
    let newest = Snapshot::External(format!("mem://{}", 2 * GARBAGE_MAX - 2).into());
    assert_eq!(garbage.last(), Some(&newest));
}

#[test]
fn what_a_template_starts_actors_from_stays_however_its_place_is_written() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.asleep("a", None);
    resume(&mut c, &key);
    let golden = suspend(&mut c, &key);
    let mut borrowing = (*hand::template()).clone();
    borrowing.golden_snapshot = Some(format!("{golden}/").as_str().into());
    c.input(0, Input::Declared(hand::catalog(Some(borrowing.into()))));
    c.ask(0, Request::Delete(key));
    c.run(0);
    pass(&mut c, later() * 3);
    assert_eq!(deleted(&mut c), []);
}

/// Bounded leftovers: the lives of one name do not wait for one another.
#[test]
fn what_several_lives_of_one_name_have_left_is_collected_at_once() {
    let mut c = Cluster::new(1, &["w1"]);
    for life in 1..=5 {
        let place = format!("mem://{life}");
        let key = c.asleep("a", Some(&place));
        let actor = c.store.actors.remove(&key).unwrap();
        let mut grave = actor.grave().expect("it has a snapshot");
        grave.incarnation = Incarnation(life);
        c.store.graves.push(grave);
    }
    // One look, the wait, and time to spare.
    for _ in 0..16 {
        c.pass(0, Duration::from_secs(15));
        c.report(0, vec![hand::sighting("w1", 0, None)]);
        while let Some((effect, _)) = c.replicas[0].discards.pop_front() {
            c.input(0, Input::Discarded(effect, Ok(())));
            c.run(0);
        }
    }
    assert_eq!(c.store.graves.len(), 0, "after four minutes");
}
