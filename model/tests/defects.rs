//! The checker sees bugs: each planted defect is found, and a shortest story tells how it hurts.

use holdfast_model::defect::Defect;
use holdfast_model::model::{Liveness, Model};
use holdfast_model::scope::Fault::{Journal, Message, Pause, Restart, Silence};
use holdfast_model::scope::Scope;
use holdfast_model::scope::Wish::{Resume, Suspend};
use holdfast_model::scopes::{one_actor, two_actors, two_callers};
use holdfast_model::search::{Limits, Verdict, explore};
use holdfast_model::story;
use std::time::Duration;

const LIMITS: Limits = Limits {
    states: 200_000,
    time: Duration::from_secs(120),
};

/// What is wrong in the world of this scope, and the story that leads there.
fn violation(scope: Scope) -> (String, Vec<String>) {
    let mut model = Model::new(scope, Liveness::Everywhere);
    let outcome = explore(&mut model, LIMITS);
    match outcome.verdict {
        Verdict::Violated(way, what) => (what, story::tell(&mut model, &way)),
        other => panic!("nothing was found in {} states: {other:?}", outcome.states),
    }
}

#[track_caller]
fn breaks(invariant: &str, scope: Scope) {
    let (what, story) = violation(scope);
    println!("{what}\n{}", story.join("\n"));
    assert!(what.starts_with(invariant), "{what}\n{}", story.join("\n"));
}

fn round() -> Scope {
    one_actor(&[Resume(0), Suspend(0), Resume(0)])
}

#[test]
fn a_store_that_ignores_the_versions_of_actors_is_found() {
    breaks(
        "I8",
        round()
            .with_faults(&[Pause])
            .with_defect(Defect::StoreIgnoresActorVersions),
    );
}

#[test]
fn a_store_that_ignores_the_versions_of_workers_is_found() {
    breaks(
        "I3",
        two_actors(&[Resume(0)], &[Resume(1)]).with_defect(Defect::StoreIgnoresWorkerVersions),
    );
}

#[test]
fn nodes_that_ignore_fences_are_found() {
    breaks(
        "I1",
        round()
            .with_faults(&[Pause])
            .with_defect(Defect::NodesIgnoreFences),
    );
}

#[test]
fn nodes_that_do_not_recognise_repetitions_are_found() {
    breaks(
        "I10",
        round()
            .with_faults(&[Message])
            .with_defect(Defect::NodesIgnoreOperations),
    );
}

#[test]
fn a_journal_that_forgets_is_found() {
    breaks(
        "I10",
        round()
            .with_faults(&[Restart])
            .with_defect(Defect::JournalForgets),
    );
}

#[test]
fn an_answer_that_is_taken_for_the_answer_to_something_else_is_found() {
    breaks(
        "I4",
        round()
            .with_faults(&[Pause])
            .with_defect(Defect::StaleAnswersAccepted),
    );
}

#[test]
fn a_checkpoint_that_leaves_its_sandbox_running_is_found() {
    breaks("I3", round().with_defect(Defect::CheckpointLeavesSandbox));
}

#[test]
fn a_snapshot_that_is_said_to_be_stored_too_early_is_found() {
    breaks("I4", round().with_defect(Defect::SavedBeforeStored));
}

#[test]
fn a_journal_whose_refusals_are_not_heard_is_found() {
    breaks(
        "I",
        round()
            .with_faults(&[Journal, Restart])
            .with_defect(Defect::RefusalsUnheard),
    );
}

#[test]
fn workers_that_let_their_actors_run_on_when_the_session_is_over_are_found() {
    breaks(
        "I2",
        one_actor(&[Resume(0)])
            .after(&[Resume(0)])
            .with_sessions()
            .with_faults(&[Silence])
            .with_defect(Defect::LicencesWithoutEnd),
    );
}

#[test]
fn a_node_that_deletes_more_than_it_is_told_to_is_found() {
    breaks("I4", suspended_again().with_defect(Defect::DiscardsTooMuch));
}

#[test]
fn a_snapshot_that_nothing_points_at_and_that_is_not_deleted_is_found() {
    breaks("I8", suspended_again().with_defect(Defect::DiscardsNothing));
}

/// An actor lets go of a snapshot.
fn suspended_again() -> Scope {
    let before = [Resume(0), Suspend(0), Resume(0), Suspend(0)];
    one_actor(&[Resume(0), Suspend(0)])
        .after(&before)
        .with_collection()
}

#[test]
fn a_verdict_that_is_told_twice_is_found() {
    breaks("I12", round().with_defect(Defect::VerdictsRepeated));
}

#[test]
fn leases_that_exclude_nobody_break_nothing_because_safety_does_not_rest_on_them() {
    for defect in [Defect::LeasesForEveryone, Defect::ReleaseIgnoresTokens] {
        let scope = two_callers(&[Resume(0), Suspend(0)], &[Resume(0)]).with_defect(defect);
        let mut model = Model::new(scope, Liveness::Everywhere);
        let outcome = explore(&mut model, LIMITS);
        if let Verdict::Violated(way, what) = &outcome.verdict {
            panic!("{what}\n{}", story::tell(&mut model, way).join("\n"));
        }
        assert!(matches!(outcome.verdict, Verdict::Exhausted));
    }
}
