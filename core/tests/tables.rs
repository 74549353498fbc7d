//! Each table of transitions against the code that makes them, in both directions.

mod walk;

use holdfast_core::node::operation;
use holdfast_core::{actor, lease, licence, pull, session, worker};
use proptest::prelude::*;

#[test]
fn an_actor_becomes_what_its_table_says_and_nothing_else() {
    walk::actor::walk().agrees_with(&actor::TABLE);
}

#[test]
fn a_worker_becomes_what_its_table_says_and_nothing_else() {
    walk::worker::walk().agrees_with(&worker::TABLE);
}

#[test]
fn a_lease_becomes_what_its_table_says_and_nothing_else() {
    walk::lease::walk().agrees_with(&lease::TABLE);
}

#[test]
fn a_pull_becomes_what_its_table_says_and_nothing_else() {
    walk::pull::walk().agrees_with(&pull::TABLE);
}

#[test]
fn an_operation_becomes_what_its_table_says_and_nothing_else() {
    walk::operation::walk().agrees_with(&operation::TABLE);
}

#[test]
fn a_session_becomes_what_its_table_says_and_nothing_else() {
    walk::session::walk().agrees_with(&session::TABLE);
}

#[test]
fn a_licence_becomes_what_its_table_says_and_nothing_else() {
    walk::licence::walk().agrees_with(&licence::TABLE);
}

#[test]
#[should_panic(expected = "not in the table: actor SUSPENDED -> RUNNING by Ran")]
fn a_transition_that_is_not_in_the_table_goes_no_further() {
    actor::TABLE.made(
        Some(actor::Status::Suspended),
        actor::Event::Ran,
        Some(actor::Status::Running),
    );
}

#[test]
#[should_panic(expected = "not in the table: actor RESUMING -> PAUSING by Ran")]
fn nor_does_one_that_is_there_for_that_event_and_leads_elsewhere() {
    actor::TABLE.made(
        Some(actor::Status::Resuming),
        actor::Event::Ran,
        Some(actor::Status::Pausing),
    );
}

proptest! {
    /// Its walk strays from every way through by two deeds; this strays for as long as it likes.
    #[test]
    fn whatever_befalls_an_operation_its_table_has_it(numbers in prop::collection::vec(any::<usize>(), 0..400)) {
        walk::operation::wander(&numbers);
    }
}
