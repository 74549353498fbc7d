//! Leases: one holder at a time, by tokens and by the store's clock.

use futures_util::future::join_all;
use holdfast_core::effect::{StoreOp, StoreReply};
use holdfast_core::id::{ActorKey, LeaseToken};
use holdfast_core::time::Duration;

use super::{LONG, SHORT, Subject, acquire, actor, ask, done, holder, key, put, release, token};

fn renew(key: &ActorKey, token: LeaseToken, ttl: Duration) -> StoreOp {
    StoreOp::RenewLease {
        key: key.clone(),
        token,
        ttl,
    }
}

/// The read is part of the acquisition.
pub async fn the_first_to_ask_gets_the_lease_and_the_actor(subject: &impl Subject) {
    let store = subject.store();
    assert_eq!(
        ask(&store, acquire(&key("ghost"), token(1, 1), LONG)).await,
        StoreReply::Acquired(None)
    );
    let first = actor(&key("a"));
    done(&store, put(None, &first)).await;
    let acquired = StoreReply::Acquired(Some(Box::new(first.clone())));
    assert_eq!(
        ask(&subject.peer(), acquire(&first.key, token(1, 2), LONG)).await,
        acquired
    );
}

/// So that whoever is turned away can find out whether the holder lives.
pub async fn a_lease_that_is_held_names_its_holder(subject: &impl Subject) {
    let store = subject.store();
    ask(&store, acquire(&key("a"), token(1, u64::MAX), LONG)).await;
    let held = StoreReply::Held(token(1, u64::MAX));
    assert_eq!(
        ask(&subject.peer(), acquire(&key("a"), token(2, 1), LONG)).await,
        held
    );
    assert_eq!(
        ask(&store, acquire(&key("a"), token(1, 2), LONG)).await,
        held,
        "another acquisition of one replica"
    );
}

/// An acquisition whose answer was lost is asked for again.
pub async fn taking_ones_own_lease_again_renews_it(subject: &impl Subject) {
    let store = subject.store();
    ask(&store, acquire(&key("a"), token(1, 1), SHORT)).await;
    assert_eq!(
        ask(&store, acquire(&key("a"), token(1, 1), LONG)).await,
        StoreReply::Acquired(None)
    );
    subject.pass(SHORT).await;
    assert_eq!(holder(&store, &key("a")).await, Some(token(1, 1)));
}

/// What a dead holder held.
pub async fn a_lease_ends_by_itself(subject: &impl Subject) {
    let store = subject.store();
    ask(&store, acquire(&key("a"), token(1, 1), SHORT)).await;
    subject.pass(SHORT).await;
    assert_eq!(
        ask(&store, acquire(&key("a"), token(2, 1), LONG)).await,
        StoreReply::Acquired(None)
    );
    assert_eq!(holder(&store, &key("a")).await, Some(token(2, 1)));
}

/// From the time of the renewal on.
pub async fn a_renewed_lease_lives_on(subject: &impl Subject) {
    let store = subject.store();
    ask(&store, acquire(&key("a"), token(1, 1), LONG)).await;
    done(&subject.peer(), renew(&key("a"), token(1, 1), LONG)).await;
    done(&store, renew(&key("a"), token(1, 1), SHORT)).await;
    subject.pass(SHORT).await;
    assert_eq!(
        holder(&store, &key("a")).await,
        None,
        "a renewal may also shorten"
    );
    ask(&store, acquire(&key("a"), token(1, 2), Duration::from_secs(10))).await;
    done(&store, renew(&key("a"), token(1, 2), LONG)).await;
    subject.pass(SHORT).await;
    assert_eq!(holder(&store, &key("a")).await, Some(token(1, 2)));
}

/// Tokens, not replicas, are compared.
pub async fn a_lease_is_renewed_by_its_holder_only(subject: &impl Subject) {
    let store = subject.store();
    ask(&store, acquire(&key("a"), token(1, 1), LONG)).await;
    for other in [token(2, 1), token(1, 2), token(1, 0)] {
        assert_eq!(
            ask(&store, renew(&key("a"), other, LONG)).await,
            StoreReply::NotOwner
        );
    }
    assert_eq!(
        ask(&store, renew(&key("b"), token(1, 1), LONG)).await,
        StoreReply::NotOwner,
        "nobody has that one"
    );
}

/// Even where nobody has taken it since.
pub async fn a_lease_that_has_ended_cannot_be_renewed(subject: &impl Subject) {
    let store = subject.store();
    ask(&store, acquire(&key("a"), token(1, 1), SHORT)).await;
    subject.pass(SHORT).await;
    assert_eq!(
        ask(&store, renew(&key("a"), token(1, 1), LONG)).await,
        StoreReply::NotOwner
    );
    ask(&store, acquire(&key("a"), token(2, 1), LONG)).await;
    assert_eq!(
        ask(&store, renew(&key("a"), token(1, 1), LONG)).await,
        StoreReply::NotOwner
    );
    assert_eq!(
        ask(&store, acquire(&key("a"), token(1, 1), LONG)).await,
        StoreReply::Held(token(2, 1))
    );
}

/// Design section 3, point 4.
pub async fn a_late_release_never_ends_a_newer_lease(subject: &impl Subject) {
    let store = subject.store();
    ask(&store, acquire(&key("a"), token(1, 1), SHORT)).await;
    subject.pass(SHORT).await;
    ask(&store, acquire(&key("a"), token(1, 2), LONG)).await;
    done(&store, release(&key("a"), token(1, 1))).await;
    done(&store, release(&key("a"), token(1, 1))).await;
    assert_eq!(holder(&store, &key("a")).await, Some(token(1, 2)));
}

/// At once, and releasing nothing is no error.
pub async fn a_released_lease_is_free(subject: &impl Subject) {
    let store = subject.store();
    ask(&store, acquire(&key("a"), token(1, 1), LONG)).await;
    done(&store, release(&key("a"), token(1, 1))).await;
    done(&store, release(&key("a"), token(1, 1))).await;
    assert_eq!(
        ask(&subject.peer(), acquire(&key("a"), token(2, 1), LONG)).await,
        StoreReply::Acquired(None)
    );
}

/// Whoever takes over from a dead replica compares, too.
pub async fn a_lease_can_be_taken_from_the_named_holder_only(subject: &impl Subject) {
    let store = subject.store();
    let steal = |mine, from| StoreOp::AcquireLease {
        key: key("a"),
        token: mine,
        ttl: LONG,
        steal: Some(from),
    };
    ask(&store, acquire(&key("a"), token(1, 1), LONG)).await;
    assert_eq!(
        ask(&store, steal(token(2, 1), token(1, 0))).await,
        StoreReply::Held(token(1, 1))
    );
    assert_eq!(
        ask(&store, steal(token(2, 1), token(1, 1))).await,
        StoreReply::Acquired(None)
    );
    assert_eq!(
        ask(&store, steal(token(3, 1), token(1, 1))).await,
        StoreReply::Held(token(2, 1)),
        "too late"
    );
    assert_eq!(
        ask(&store, renew(&key("a"), token(1, 1), LONG)).await,
        StoreReply::NotOwner
    );
}

/// Scenario S09.
pub async fn actors_of_one_name_in_two_atespaces_have_two_leases(subject: &impl Subject) {
    let store = subject.store();
    for (replica, atespace) in [(1, "team-a"), (2, "team-b")] {
        let key = ActorKey::new(atespace, "id1");
        assert_eq!(
            ask(&store, acquire(&key, token(replica, 1), LONG)).await,
            StoreReply::Acquired(None)
        );
    }
}

/// The essence of a lease.
pub async fn of_many_who_ask_for_a_lease_exactly_one_gets_it(subject: &impl Subject) {
    let (store, peer) = (subject.store(), subject.peer());
    let attempts = (0..32).map(|replica| {
        let store = if replica % 2 == 0 { &store } else { &peer };
        async move {
            let mine = token(replica, 1);
            (mine, ask(store, acquire(&key("a"), mine, LONG)).await)
        }
    });
    let answers = join_all(attempts).await;
    let granted: Vec<_> = answers
        .iter()
        .filter(|(_, answer)| *answer == StoreReply::Acquired(None))
        .collect();
    let [(winner, _)] = granted[..] else {
        panic!("{} holders", granted.len())
    };
    for (asker, answer) in &answers {
        assert!(
            asker == winner || *answer == StoreReply::Held(*winner),
            "{asker}: {answer:?}"
        );
    }
}
