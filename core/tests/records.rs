//! What each change makes of a record: of all that it carries, what is said here and nothing else.

mod hand;

use hand::{actor_key, template, worker_key};
use holdfast_core::actor::*;
use holdfast_core::catalog::Selector;
use holdfast_core::effect::NodeRow;
use holdfast_core::id::{Fence, Incarnation, LeaseToken, Name, OpId, ReplicaId, Version};
use holdfast_core::worker::{self, Duty, Hosted, Sight, Worker};

const OLD: LeaseToken = LeaseToken {
    replica: ReplicaId(1),
    seq: 1,
};

/// An actor with everything that one can have, at version 9.
fn actor(state: State) -> Actor {
    let actor = Actor::create(actor_key("a"), Incarnation(7), template(), Selector::default());
    Actor {
        version: Version(9),
        state,
        claim: Some(Claim {
            token: OLD,
            fence: Fence(8),
        }),
        latest: Some(Snapshot::External("latest".into())),
        last_external: Some("latest".into()),
        fallback: Some("fallback".into()),
        in_progress: Some("in progress".into()),
        loss: Some(loss("an old loss")),
        ..actor
    }
}

fn loss(reason: &str) -> Loss {
    Loss {
        worker: worker_key("w"),
        reason: reason.into(),
    }
}

fn op(seq: u64) -> OpId {
    OpId {
        replica: ReplicaId(1),
        seq,
    }
}

fn on() -> Assignment {
    Assignment {
        worker: worker_key("w"),
        pod_uid: "uid".into(),
        incarnation: "run".into(),
        ip: "ip".into(),
        node: "node".into(),
        fence: Fence(3),
        session: 1,
    }
}

fn resuming() -> State {
    State::Resuming {
        op: op(1),
        on: on(),
        boot: Boot::Golden,
    }
}

fn suspending() -> State {
    State::Suspending {
        op: op(1),
        from: Source::Worker(on()),
        snapshot: "new".into(),
    }
}

fn pausing() -> State {
    State::Pausing {
        op: op(1),
        on: on(),
        snapshot: "new".into(),
    }
}

fn crashed(during: Transition) -> Crash {
    Crash {
        during,
        reason: "runsc".into(),
        node: "node".into(),
    }
}

fn local(name: &str) -> Option<Snapshot> {
    Some(Snapshot::Local {
        name: name.into(),
        nodes: vec!["node".into()],
    })
}

/// These external snapshots, and then these local ones.
fn snapshots(external: &[&str], on_node: &[&str]) -> Vec<Snapshot> {
    let external = external.iter().map(|name| Snapshot::External((*name).into()));
    external
        .chain(on_node.iter().filter_map(|name| local(name)))
        .collect()
}

/// The same, let go of by the change that [`changed`] makes.
fn garbage(external: &[&str], on_node: &[&str]) -> Vec<Garbage> {
    let of = |snapshot| Garbage {
        snapshot,
        since: Version(10),
        by: Some(OLD),
    };
    snapshots(external, on_node).into_iter().map(of).collect()
}

/// The record after this change by the workflow that wrote it before, and the same record one version on.
fn changed(before: Actor, change: &Change) -> (Actor, Actor) {
    let after = before.after(change, Some(OLD), Version::FIRST).unwrap();
    let next = Actor {
        version: Version(10),
        ..before
    };
    (after, next)
}

#[test]
fn the_first_write_under_a_lease_claims_the_record_at_its_version() {
    let before = actor(State::Suspended);
    let token = LeaseToken {
        replica: ReplicaId(2),
        seq: 1,
    };
    let claim = Some(Claim {
        token,
        fence: Fence(20),
    });
    let after = before.after(&Change::Claim, Some(token), Version(20)).unwrap();
    assert_eq!(
        after,
        Actor {
            version: Version(20),
            claim,
            ..before
        }
    );
    let second = after.after(&Change::Claim, Some(token), Version::FIRST).unwrap();
    assert_eq!((second.version, second.claim), (Version(21), claim));
    let by_nobody = after.after(&Change::Claim, None, Version::FIRST).unwrap();
    assert_eq!(by_nobody.claim, claim);
}

#[test]
fn a_resume_names_its_operation_and_its_worker() {
    let resume = Change::Resume {
        op: op(1),
        on: on(),
        boot: Boot::Golden,
    };
    for asleep in [State::Suspended, State::Paused] {
        let (after, next) = changed(actor(asleep), &resume);
        assert_eq!(
            after,
            Actor {
                state: resuming(),
                ..next
            }
        );
    }
}

#[test]
fn an_actor_that_serves_has_nothing_in_progress_and_no_loss_to_tell() {
    let (after, next) = changed(actor(resuming()), &Change::Ran);
    assert_eq!(
        after,
        Actor {
            state: State::Running { on: on() },
            in_progress: None,
            loss: None,
            garbage: garbage(&["in progress"], &[]),
            ..next
        }
    );
}

#[test]
fn a_thaw_names_the_session_and_changes_nothing_else() {
    let (after, next) = changed(actor(State::Running { on: on() }), &Change::Thaw { session: 5 });
    let on = Assignment { session: 5, ..on() };
    assert_eq!(
        after,
        Actor {
            state: State::Running { on },
            ..next
        }
    );
}

#[test]
fn a_checkpoint_that_begins_names_the_snapshot_and_moves_no_pointer() {
    let (op, snapshot) = (op(1), Name::from("new"));
    let suspend = Change::Suspend {
        op,
        snapshot: snapshot.clone(),
    };
    let pause = Change::Pause {
        op,
        snapshot: snapshot.clone(),
    };
    for (change, state) in [(suspend, suspending()), (pause, pausing())] {
        let (after, next) = changed(actor(State::Running { on: on() }), &change);
        assert_eq!(
            after,
            Actor {
                state,
                in_progress: Some(snapshot.clone()),
                garbage: garbage(&["in progress"], &[]),
                ..next
            }
        );
    }
}

#[test]
fn a_committed_snapshot_is_the_latest_and_the_one_before_it_the_fallback() {
    let paused = Actor {
        latest: local("local"),
        in_progress: Some("new".into()),
        ..actor(State::Paused)
    };
    for (before, change, garbage) in [
        (
            actor(suspending()),
            Change::Suspended,
            garbage(&["fallback", "in progress"], &[]),
        ),
        (paused, Change::Uploaded, garbage(&["fallback"], &["local"])),
    ] {
        let (after, next) = changed(before, &change);
        assert_eq!(
            after,
            Actor {
                state: State::Suspended,
                latest: Some(Snapshot::External("new".into())),
                last_external: Some("new".into()),
                fallback: Some("latest".into()),
                in_progress: None,
                garbage,
                ..next
            }
        );
    }
}

#[test]
fn a_paused_actor_sleeps_where_it_was_and_keeps_what_is_in_the_object_store() {
    let (after, next) = changed(actor(pausing()), &Change::Paused);
    assert_eq!(
        after,
        Actor {
            state: State::Paused,
            latest: local("new"),
            in_progress: None,
            garbage: garbage(&[], &["in progress"]),
            ..next
        }
    );
}

#[test]
fn a_place_for_an_upload_is_in_progress_and_moves_no_pointer() {
    let reserve = Change::Reserve {
        snapshot: "new".into(),
    };
    let (after, next) = changed(actor(State::Paused), &reserve);
    assert_eq!(
        after,
        Actor {
            in_progress: Some("new".into()),
            garbage: garbage(&["in progress"], &[]),
            ..next
        }
    );
    let without = Actor {
        in_progress: None,
        ..actor(State::Paused)
    };
    let uploaded = without.after(&Change::Uploaded, Some(OLD), Version::FIRST);
    assert!(uploaded.is_err(), "nothing was being uploaded");
}

#[test]
fn an_actor_that_was_not_put_to_sleep_serves_where_it_did() {
    for (state, change, garbage) in [
        (suspending(), Change::Wake, garbage(&["in progress"], &[])),
        (pausing(), Change::Wake, garbage(&[], &["in progress"])),
        // Nothing was begun, so there is nothing to collect. An actor that is refused often lets go of nothing.
        (suspending(), Change::WakeUnbegun, garbage(&[], &[])),
        (pausing(), Change::WakeUnbegun, garbage(&[], &[])),
    ] {
        let (after, next) = changed(actor(state), &change);
        assert_eq!(
            after,
            Actor {
                state: State::Running { on: on() },
                in_progress: None,
                garbage,
                ..next
            }
        );
    }
}

#[test]
fn what_is_gone_is_forgotten_and_nothing_else() {
    let before = Actor {
        garbage: garbage(&["1", "2"], &["3"]),
        ..actor(resuming())
    };
    let (after, next) = changed(before, &Change::Collected(snapshots(&["2", "4", "latest"], &[])));
    assert_eq!(
        after,
        Actor {
            garbage: garbage(&["1"], &["3"]),
            ..next
        }
    );
}

#[test]
fn a_reset_drops_what_was_in_progress_and_forgets_no_loss() {
    for (latest, state) in [
        (None, State::Suspended),
        (Some(Snapshot::External("latest".into())), State::Suspended),
        (local("local"), State::Paused),
    ] {
        for (lost, told) in [(None, "an old loss"), (Some(loss("a new loss")), "a new loss")] {
            let before = Actor {
                latest: latest.clone(),
                ..actor(suspending())
            };
            let (after, next) = changed(before, &Change::Reset { loss: lost });
            assert_eq!(
                after,
                Actor {
                    state: state.clone(),
                    in_progress: None,
                    loss: Some(loss(told)),
                    garbage: garbage(&["in progress"], &[]),
                    ..next
                }
            );
        }
    }
}

#[test]
fn a_crash_keeps_everything_for_those_who_investigate() {
    let crash = crashed(Transition::Suspend);
    let (after, next) = changed(actor(suspending()), &Change::Crash(crash.clone()));
    assert_eq!(
        after,
        Actor {
            state: State::Crashed(crash),
            ..next
        }
    );
}

#[test]
fn a_revert_goes_back_to_the_last_good_snapshot_with_nothing_left_to_tell() {
    let (latest, fallback) = (Some(Name::from("latest")), Some(Name::from("fallback")));
    let last = Some(Snapshot::External("latest".into()));
    for (state, pointer, good, kept, garbage) in [
        // What could not be written says nothing against what was.
        (
            State::Crashed(crashed(Transition::Suspend)),
            last.clone(),
            &latest,
            &fallback,
            garbage(&["in progress"], &[]),
        ),
        (
            State::Paused,
            local("local"),
            &latest,
            &fallback,
            garbage(&["in progress"], &["local"]),
        ),
        // What could not be restored is not good, and nothing is left before the one that is taken instead.
        (
            State::Crashed(crashed(Transition::Resume)),
            last,
            &fallback,
            &None,
            garbage(&["in progress", "latest"], &[]),
        ),
        // It was the local one that could not be restored.
        (
            State::Crashed(crashed(Transition::Resume)),
            local("local"),
            &latest,
            &fallback,
            garbage(&["in progress"], &["local"]),
        ),
    ] {
        let before = Actor {
            latest: pointer,
            ..actor(state)
        };
        let (after, next) = changed(before, &Change::Revert);
        assert_eq!(
            after,
            Actor {
                state: State::Suspended,
                latest: good.clone().map(Snapshot::External),
                last_external: good.clone(),
                fallback: kept.clone(),
                in_progress: None,
                loss: None,
                garbage,
                ..next
            }
        );
    }
}

#[test]
fn the_only_snapshot_may_be_tried_again() {
    let before = Actor {
        fallback: None,
        ..actor(State::Crashed(crashed(Transition::Resume)))
    };
    let (after, _) = changed(before, &Change::Revert);
    assert_eq!(after.latest, Some(Snapshot::External("latest".into())));
}

#[test]
fn another_selector_changes_nothing_else() {
    let mut selector = Selector::default();
    selector.match_labels.insert("zone".into(), "a".into());
    let (after, next) = changed(actor(resuming()), &Change::Select(selector.clone()));
    assert_eq!(after, Actor { selector, ..next });
}

fn sight(run: &str, duty: Duty) -> Sight {
    Sight {
        pod_uid: format!("uid of {run}").into(),
        incarnation: run.into(),
        ip: format!("ip of {run}").into(),
        node: format!("node of {run}").into(),
        duty,
    }
}

fn promise() -> worker::Change {
    worker::Change::Promise {
        actor: actor_key("a"),
        incarnation: Incarnation(7),
        template: ("ns".into(), "counter".into()),
        session: 3,
    }
}

#[test]
fn a_promise_names_the_actor_under_the_version_that_it_is_written_at() {
    let free = Worker::appear(worker_key("w"), sight("run", Duty::Serving), Fence(0));
    let promised = free.after(promise(), Version(1 << 50)).unwrap();
    let hosts = Hosted {
        actor: actor_key("a"),
        incarnation: Incarnation(7),
        template_namespace: "ns".into(),
        template_name: "counter".into(),
        fence: Fence(1 << 50),
        session: 3,
    };
    assert_eq!(
        promised,
        Worker {
            version: Version(1 << 50),
            hosts: Some(hosts),
            ..free.clone()
        }
    );
    let freed = promised.after(worker::Change::Free, Version::FIRST).unwrap();
    let version = promised.version.next();
    assert_eq!(freed, Worker { version, ..free });
}

#[test]
fn a_promise_is_to_one_life_of_one_actor() {
    let free = Worker::appear(worker_key("w"), sight("run", Duty::Serving), Fence(0));
    let promised = free.after(promise(), Version::FIRST).unwrap();
    assert!(promised.is_promised_to(&actor_key("a"), Incarnation(7)));
    assert!(!promised.is_promised_to(&actor_key("b"), Incarnation(7)));
    assert!(!promised.is_promised_to(&actor_key("a"), Incarnation(8)));
    assert!(!free.is_promised_to(&actor_key("a"), Incarnation(7)));
}

#[test]
fn a_row_begins_well_above_every_promise_that_its_node_has_seen() {
    let appear = |highest| Worker::appear(worker_key("w"), sight("run", Duty::Serving), Fence(highest));
    let own = appear(0).version;
    assert!(own > Version(1 << 16) && own < Version(1 << 48));
    assert_eq!(appear(own.0 / 2).version, own);
    // What a node tells of a pod that it has lost is above all of them, and still each pod has its own.
    let back = appear(1 << 48).version;
    assert!(back.0 >= (1 << 48) + (1 << 16) && back.0 < (1 << 48) + (1 << 40) - (1 << 16));
    let other = Sight {
        pod_uid: "another".into(),
        ..sight("run", Duty::Serving)
    };
    let other = Worker::appear(worker_key("w"), other, Fence(1 << 48));
    assert_ne!(other.version, back);
    assert_eq!(appear(Fence::MAX.0).version, Version::MAX);
}

#[test]
fn what_the_table_does_not_have_is_refused_in_its_words() {
    let refused = actor(State::Suspended)
        .after(&Change::Ran, None, Version::FIRST)
        .unwrap_err();
    assert_eq!(refused.to_string(), "no transition Ran from SUSPENDED");
    let free = Worker::appear(worker_key("w"), sight("run", Duty::Serving), Fence(0));
    let refused = free.after(worker::Change::Free, Version::FIRST).unwrap_err();
    assert_eq!(refused.to_string(), "no transition Free from Free");
}

#[test]
fn a_sighting_is_taken_over_and_the_promise_stays() {
    let free = Worker::appear(worker_key("w"), sight("run", Duty::Serving), Fence(0));
    let promised = free.after(promise(), Version::FIRST).unwrap();
    let seen = sight("another", Duty::Draining);
    let after = promised
        .after(worker::Change::Sight(seen), Version::FIRST)
        .unwrap();
    assert_eq!(
        after,
        Worker {
            version: promised.version.next(),
            pod_uid: "uid of another".into(),
            incarnation: "another".into(),
            ip: "ip of another".into(),
            node: "node of another".into(),
            duty: Duty::Draining,
            ..promised
        }
    );
}

/// The row of a node at this report of a run of atelet, in this session.
fn node(run: &str, sequence: u64, session: u64, lapsed: u64) -> NodeRow {
    NodeRow {
        name: "node".into(),
        address: format!("address of {run} at {sequence}").into(),
        incarnation: run.into(),
        sequence,
        session,
        lapsed,
        version: 0,
    }
}

/// This row, as the store has it with such a version.
fn at(version: u64, row: &NodeRow) -> NodeRow {
    NodeRow {
        version,
        ..row.clone()
    }
}

#[test]
fn of_two_reports_of_a_run_the_later_one_counts() {
    let stored = at(1, &node("run", 5, 0, 0));
    assert_eq!(NodeRow::after(None, &at(7, &stored)), Some(stored.clone()));
    for (sequence, counts) in [(4, false), (5, false), (6, true)] {
        let heard = NodeRow {
            address: "another".into(),
            ..node("run", sequence, 0, 0)
        };
        let expected = if counts { at(2, &heard) } else { stored.clone() };
        assert_eq!(
            NodeRow::after(Some(&stored), &heard),
            Some(expected),
            "{sequence}"
        );
    }
    let anew = node("another run", 1, 0, 0);
    assert_eq!(NodeRow::after(Some(&stored), &anew), Some(at(2, &anew)));
}

#[test]
fn a_session_that_was_declared_over_is_over_for_good() {
    let stored = node("run", 5, 2, 2);
    for (session, is_heard) in [(0, true), (1, false), (2, false), (3, true)] {
        let heard = node("run", 6, session, 0);
        let expected = is_heard.then(|| NodeRow {
            lapsed: 2,
            ..at(1, &heard)
        });
        assert_eq!(NodeRow::after(Some(&stored), &heard), expected, "{session}");
    }
    let knows_more = node("run", 6, 4, 3);
    assert_eq!(
        NodeRow::after(Some(&stored), &knows_more),
        Some(at(1, &knows_more))
    );
}

#[test]
fn a_session_is_declared_over_only_if_nothing_was_heard_since() {
    let row = at(8, &node("run", 5, 3, 2));
    assert!(row.has_session());
    let over = NodeRow::lapse(Some(&row), &row).unwrap();
    assert_eq!(
        over,
        NodeRow {
            lapsed: 3,
            ..row.clone()
        }
    );
    assert!(!over.has_session());
    for (run, sequence, version) in [
        ("run", 4, 8),
        ("run", 6, 8),
        ("another run", 5, 8),
        ("run", 5, 9),
        ("run", 5, 7),
    ] {
        let other = at(version, &node(run, sequence, 3, 2));
        assert_eq!(
            NodeRow::lapse(Some(&row), &other),
            None,
            "{run} {sequence} {version}"
        );
    }
    assert_eq!(
        NodeRow::lapse(None, &row),
        Some(over),
        "the store has forgotten it"
    );
}

#[test]
fn a_setback_is_told_when_it_is_written_down_and_not_again() {
    let tell = |before: &Actor, after: &Actor| after.setback_since(before).map(|setback| setback.to_string());
    let befall = |state: State, latest: Option<Snapshot>, change: &Change| {
        let before = Actor {
            latest,
            ..actor(state)
        };
        let after = before.after(change, None, Version::FIRST).unwrap();
        let told = tell(&before, &after);
        let later = after
            .after(&Change::Select(Selector::default()), None, Version::FIRST)
            .unwrap();
        assert_eq!(tell(&after, &later), None, "the same as before");
        told
    };
    let lost = |reason: &str| Change::Reset {
        loss: Some(loss(reason)),
    };
    let worker = worker_key("w");

    let told = befall(State::Running { on: on() }, None, &lost("it died"));
    let expected =
        format!("lost its newest state with worker {worker} (it died); begins anew, it was never suspended");
    assert_eq!(told, Some(expected));
    let told = befall(State::Running { on: on() }, local("l"), &lost("it died"));
    let expected = format!(
        "lost its newest state with worker {worker} (it died); goes on from local snapshot l on node node"
    );
    assert_eq!(told, Some(expected));
    let told = befall(resuming(), local("l"), &Change::Reset { loss: None });
    assert_eq!(told, None, "a Resume that is undone loses nothing");

    for (during, state, suspect) in [
        (Transition::Resume, resuming(), "local snapshot l on node node"),
        (Transition::Suspend, suspending(), "snapshot in progress"),
        (
            Transition::Pause,
            pausing(),
            "local snapshot in progress on node node",
        ),
    ] {
        let told = befall(state, local("l"), &Change::Crash(crashed(during)));
        let expected = format!("crashed in {during} on node node: runsc; look at {suspect}");
        assert_eq!(told, Some(expected));
    }
}
