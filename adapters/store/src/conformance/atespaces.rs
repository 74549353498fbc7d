//! Atespaces and sessions.

use holdfast_core::effect::{StoreOp, StoreReply};
use holdfast_core::id::{ActorKey, ReplicaId};

use super::{LONG, SHORT, Subject, actor, ask, done, put, token};

/// The second attempt is told so.
pub async fn an_atespace_is_created_once(subject: &impl Subject) {
    let store = subject.store();
    assert_eq!(
        ask(&store, StoreOp::GetAtespace("a".into())).await,
        StoreReply::Missing
    );
    done(&store, StoreOp::CreateAtespace("a".into())).await;
    assert_eq!(
        ask(&subject.peer(), StoreOp::CreateAtespace("a".into())).await,
        StoreReply::Exists
    );
    assert_eq!(
        ask(&subject.peer(), StoreOp::GetAtespace("a".into())).await,
        StoreReply::Exists
    );
}

/// In order of their names.
pub async fn atespaces_are_listed_in_order(subject: &impl Subject) {
    let store = subject.store();
    assert_eq!(
        ask(&store, StoreOp::ListAtespaces).await,
        StoreReply::Atespaces(vec![])
    );
    for name in ["b", "a-b", "a", "a0"] {
        done(&store, StoreOp::CreateAtespace(name.into())).await;
    }
    let listed = StoreReply::Atespaces(["a", "a-b", "a0", "b"].map(Into::into).to_vec());
    assert_eq!(ask(&store, StoreOp::ListAtespaces).await, listed);
}

/// Neighbours in the order of names do not count.
pub async fn an_atespace_with_an_actor_in_it_stays(subject: &impl Subject) {
    let store = subject.store();
    done(&store, StoreOp::CreateAtespace("b".into())).await;
    for neighbour in ["a", "b-b", "b0", "c"] {
        done(&store, put(None, &actor(&ActorKey::new(neighbour, "id1")))).await;
    }
    let inside = actor(&ActorKey::new("b", "id1"));
    done(&store, put(None, &inside)).await;
    assert_eq!(
        ask(&store, StoreOp::DeleteAtespace("b".into())).await,
        StoreReply::NotEmpty
    );
    assert_eq!(
        ask(&store, StoreOp::GetAtespace("b".into())).await,
        StoreReply::Exists
    );
    done(
        &store,
        StoreOp::DeleteActor {
            expect: inside.edition(),
            key: inside.key,
            release: token(1, 1),
        },
    )
    .await;
    done(&store, StoreOp::DeleteAtespace("b".into())).await;
    assert_eq!(
        ask(&store, StoreOp::GetAtespace("b".into())).await,
        StoreReply::Missing
    );
}

/// Nor twice.
pub async fn an_atespace_that_is_not_there_cannot_be_deleted(subject: &impl Subject) {
    let store = subject.store();
    assert_eq!(
        ask(&store, StoreOp::DeleteAtespace("a".into())).await,
        StoreReply::Missing
    );
}

/// Each renewal counts from its own time.
pub async fn a_session_lives_until_it_is_not_renewed(subject: &impl Subject) {
    let store = subject.store();
    let replica = ReplicaId(0xfeed);
    assert_eq!(
        ask(&store, StoreOp::GetSession(replica)).await,
        StoreReply::Missing
    );
    done(&store, StoreOp::PutSession { replica, ttl: SHORT }).await;
    done(&store, StoreOp::PutSession { replica, ttl: LONG }).await;
    subject.pass(SHORT).await;
    assert_eq!(
        ask(&subject.peer(), StoreOp::GetSession(replica)).await,
        StoreReply::Exists
    );
    done(&store, StoreOp::PutSession { replica, ttl: SHORT }).await;
    subject.pass(SHORT).await;
    assert_eq!(
        ask(&subject.peer(), StoreOp::GetSession(replica)).await,
        StoreReply::Missing
    );
}

/// At once.
pub async fn a_session_that_is_dropped_is_gone_and_no_other(subject: &impl Subject) {
    let store = subject.store();
    for replica in [ReplicaId(1), ReplicaId(2)] {
        done(&store, StoreOp::PutSession { replica, ttl: LONG }).await;
    }
    done(&store, StoreOp::DropSession(ReplicaId(1))).await;
    done(&store, StoreOp::DropSession(ReplicaId(1))).await;
    assert_eq!(
        ask(&store, StoreOp::GetSession(ReplicaId(1))).await,
        StoreReply::Missing
    );
    assert_eq!(
        ask(&store, StoreOp::GetSession(ReplicaId(2))).await,
        StoreReply::Exists
    );
}
