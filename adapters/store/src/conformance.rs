//! What every store must do, as tests that any store can be put to.
//!
//! Each test is an async function over a [`Subject`] that nobody else uses. [`conformance_suite!`] makes
//! one `#[tokio::test]` of each:
//!
//! ```ignore
//! holdfast_store::conformance_suite!(async { MySubject::start().await });
//! ```
//!
//! [`conformance_suite!`]: crate::conformance_suite

mod actors;
mod atespaces;
mod graves;
mod leases;
mod pages;
mod watching;
mod workers;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use holdfast_core::actor::Actor;
use holdfast_core::catalog::{LabelSelector, Scope, Selector, Template, Workload};
use holdfast_core::effect::{NodeRow, StoreOp, StoreReply};
use holdfast_core::id::{ActorKey, Incarnation, LeaseToken, Name, ReplicaId, Version, WorkerKey};
use holdfast_core::time::Duration;
use holdfast_core::worker::{Duty, Edition, Worker};

use crate::Store;

pub use actors::*;
pub use atespaces::*;
pub use graves::*;
pub use leases::*;
pub use pages::*;
pub use watching::*;
pub use workers::*;

/// An empty store that is put to the tests.
pub trait Subject: Send + Sync {
    /// The store.
    fn store(&self) -> Arc<dyn Store>;
    /// The same store as another replica has it; where one process has it alone, the same again.
    fn peer(&self) -> Arc<dyn Store>;
    /// Lets this much time, and a little more, pass on the store's clock.
    fn pass(&self, time: Duration) -> BoxFuture<'_, ()>;
}

/// Makes a test of each function of [`conformance`](crate::conformance), for the subject that the given
/// future makes anew each time. A store that hangs fails its test after a minute.
///
/// `conformance_suite!(one_by_one subject)` is an expression that runs them all, where a subject is dear to make.
#[macro_export]
macro_rules! conformance_suite {
    ($subject:expr) => {
        $crate::conformance_suite! { @list tests $subject }
    };
    (one_by_one $subject:expr) => {
        $crate::conformance_suite! { @list run $subject }
    };
    (@list $how:ident $subject:expr) => {
        $crate::conformance_suite! { @$how $subject;
            an_actor_that_is_not_there_is_none
            an_actor_is_created_once
            a_write_on_the_expected_version_replaces_the_actor
            a_write_on_another_version_changes_nothing_and_shows_what_is_stored
            a_write_to_an_actor_that_is_gone_changes_nothing
            every_field_of_an_actor_survives
            of_many_writers_on_one_version_exactly_one_wins
            what_was_meant_for_an_earlier_life_of_a_name_is_a_conflict
            what_another_owner_wrote_at_the_expected_version_is_a_conflict
            an_actor_is_deleted_only_at_the_expected_version
            a_write_can_end_its_lease_in_the_same_step
            a_write_that_fails_leaves_its_lease
            a_write_never_ends_somebody_elses_lease
            a_delete_ends_its_own_lease_and_no_other
            a_name_that_would_alias_another_key_is_refused
            the_first_to_ask_gets_the_lease_and_the_actor
            a_lease_that_is_held_names_its_holder
            taking_ones_own_lease_again_renews_it
            a_lease_ends_by_itself
            a_renewed_lease_lives_on
            a_lease_is_renewed_by_its_holder_only
            a_lease_that_has_ended_cannot_be_renewed
            a_late_release_never_ends_a_newer_lease
            a_released_lease_is_free
            a_lease_can_be_taken_from_the_named_holder_only
            actors_of_one_name_in_two_atespaces_have_two_leases
            of_many_who_ask_for_a_lease_exactly_one_gets_it
            a_worker_is_written_only_at_the_expected_version
            a_worker_is_deleted_only_at_the_expected_version
            what_was_promised_to_another_at_the_expected_version_is_a_conflict
            of_many_writers_of_a_worker_exactly_one_wins
            all_workers_are_listed
            a_node_is_as_it_was_heard_last
            an_older_report_of_a_node_changes_nothing
            a_session_is_declared_over_only_if_the_report_was_the_last
            a_session_is_not_declared_over_by_a_report_that_was_written_twice
            a_session_of_a_row_that_is_not_there_is_declared_over
            what_has_lapsed_stays_so
            of_a_report_and_its_lapse_one_comes_first
            an_atespace_is_created_once
            atespaces_are_listed_in_order
            an_atespace_with_an_actor_in_it_stays
            an_atespace_that_is_not_there_cannot_be_deleted
            a_session_lives_until_it_is_not_renewed
            a_session_that_is_dropped_is_gone_and_no_other
            pages_show_every_actor_once_in_order_of_their_keys
            a_list_of_one_atespace_shows_no_other
            a_page_token_works_at_another_replica_and_after_its_actor_is_gone
            a_page_token_that_nobody_gave_out_is_refused
            what_exists_throughout_is_on_exactly_one_page_whatever_else_happens
            what_a_deleted_actor_leaves_is_noted_until_it_is_dropped
            a_later_note_takes_the_place_of_an_earlier_one
            every_attempt_and_every_life_has_a_note_of_its_own
            pages_show_every_note_that_stays
            a_token_of_another_list_is_refused
            a_watch_begins_with_resync_and_then_tells_everything
            a_watch_tells_the_writes_of_a_worker_in_their_order
            a_write_that_conflicts_is_not_told
            a_watch_tells_of_a_session_that_is_declared_over
            every_watch_hears_everything
            a_watch_that_falls_behind_is_told_to_list_again
        }
    };
    (@run $subject:expr; $($test:ident)*) => {{ $(
        eprintln!("{}", stringify!($test));
        let subject = $subject.await;
        let test = $crate::conformance::$test(&subject);
        tokio::time::timeout(std::time::Duration::from_secs(60), test).await.expect("the store hangs");
    )* }};
    (@tests $subject:expr; $($test:ident)*) => { $(
        #[tokio::test]
        async fn $test() {
            let subject = $subject.await;
            let test = $crate::conformance::$test(&subject);
            tokio::time::timeout(std::time::Duration::from_secs(60), test).await.expect("the store hangs");
        }
    )* };
}

const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(200);

async fn ask(store: &Arc<dyn Store>, op: StoreOp) -> StoreReply {
    let shown = format!("{op:?}");
    store
        .execute(op)
        .await
        .unwrap_or_else(|error| panic!("{shown}: {error:?}"))
}

async fn done(store: &Arc<dyn Store>, op: StoreOp) {
    let shown = format!("{op:?}");
    assert_eq!(ask(store, op).await, StoreReply::Done, "{shown}");
}

/// Notes this report of a node; the row that is stored then.
async fn heard(store: &Arc<dyn Store>, row: NodeRow) -> NodeRow {
    match ask(store, StoreOp::PutNode(row.clone())).await {
        StoreReply::NodeAt(version) => NodeRow { version, ..row },
        other => panic!("{row:?}: {other:?}"),
    }
}

fn key(name: &str) -> ActorKey {
    ActorKey::new("team-a", name)
}

fn actor(key: &ActorKey) -> Actor {
    let template = Template {
        namespace: "ns".into(),
        name: "tmpl".into(),
        workload: Workload {
            pause_image: "pause@x".into(),
            containers: vec![],
            durable_volumes: vec![],
        },
        snapshot_location: "file:///snapshots".into(),
        on_pause: Scope::Full,
        on_commit: Scope::Full,
        sandbox_class: "gvisor".into(),
        worker_selector: LabelSelector::default(),
        golden_snapshot: None,
    };
    Actor::create(
        key.clone(),
        Incarnation(7),
        Arc::new(template),
        Selector::default(),
    )
}

fn at(actor: &Actor, version: u64) -> Actor {
    Actor {
        version: Version(version),
        ..actor.clone()
    }
}

/// In the same life.
fn put(expect: Option<Version>, actor: &Actor) -> StoreOp {
    StoreOp::PutActor {
        expect: expect.map(|version| at(actor, version.0).edition()),
        actor: Box::new(actor.clone()),
        release: None,
    }
}

async fn stored(store: &Arc<dyn Store>, key: &ActorKey) -> Option<Actor> {
    match ask(store, StoreOp::GetActor(key.clone())).await {
        StoreReply::Actor(actor) => actor.map(|actor| *actor),
        other => panic!("{other:?}"),
    }
}

fn token(replica: u64, seq: u64) -> LeaseToken {
    LeaseToken {
        replica: ReplicaId(replica),
        seq,
    }
}

fn acquire(key: &ActorKey, token: LeaseToken, ttl: Duration) -> StoreOp {
    StoreOp::AcquireLease {
        key: key.clone(),
        token,
        ttl,
        steal: None,
    }
}

fn release(key: &ActorKey, token: LeaseToken) -> StoreOp {
    StoreOp::ReleaseLease {
        key: key.clone(),
        token,
    }
}

/// Who holds the lease, found out by an attempt to take it that must not succeed.
async fn holder(store: &Arc<dyn Store>, key: &ActorKey) -> Option<LeaseToken> {
    let probe = token(u64::MAX, 0);
    match ask(store, acquire(key, probe, LONG)).await {
        StoreReply::Held(holder) => Some(holder),
        StoreReply::Acquired(_) => {
            done(store, release(key, probe)).await;
            None
        }
        other => panic!("{other:?}"),
    }
}

fn worker(pod: &str, version: u64) -> Worker {
    Worker {
        key: WorkerKey::new("ns", "pool", pod),
        version: Version(version),
        pod_uid: "uid".into(),
        incarnation: "run".into(),
        ip: "10.0.0.1".into(),
        node: "n1".into(),
        duty: Duty::Serving,
        hosts: None,
    }
}

fn put_worker(expect: Option<u64>, worker: &Worker) -> StoreOp {
    StoreOp::PutWorker {
        expect: expect.map(|version| Edition::free(Version(version))),
        worker: Box::new(worker.clone()),
    }
}

fn node(name: &str, sequence: u64) -> NodeRow {
    NodeRow {
        name: name.into(),
        address: Name::from("10.0.0.9:8085"),
        incarnation: "run".into(),
        sequence,
        session: 1,
        lapsed: 0,
        version: 0,
    }
}
