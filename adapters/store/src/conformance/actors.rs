//! Actors: conditional writes.

use futures_util::future::join_all;
use holdfast_core::actor::{Actor, Assignment, Claim, Garbage, Loss, Snapshot, Source, State};
use holdfast_core::catalog::Selector;
use holdfast_core::effect::{StoreError, StoreOp, StoreReply};
use holdfast_core::id::{ActorKey, Fence, Incarnation, OpId, ReplicaId, Version, WorkerKey};

use super::{LONG, Subject, acquire, actor, ask, at, done, holder, key, put, stored, token};

/// A read of nothing.
pub async fn an_actor_that_is_not_there_is_none(subject: &impl Subject) {
    assert_eq!(stored(&subject.store(), &key("a")).await, None);
}

/// Creation is a write that expects nothing.
pub async fn an_actor_is_created_once(subject: &impl Subject) {
    let (store, peer) = (subject.store(), subject.peer());
    let first = actor(&key("a"));
    done(&store, put(None, &first)).await;
    let second = Actor {
        incarnation: Incarnation(8),
        ..first.clone()
    };
    let conflict = StoreReply::ActorConflict(Some(Box::new(first.clone())));
    assert_eq!(ask(&peer, put(None, &second)).await, conflict);
    assert_eq!(stored(&peer, &first.key).await, Some(first));
}

/// The new version may be any higher one.
pub async fn a_write_on_the_expected_version_replaces_the_actor(subject: &impl Subject) {
    let (store, peer) = (subject.store(), subject.peer());
    let first = actor(&key("a"));
    done(&store, put(None, &first)).await;
    let second = at(&first, 9);
    done(&peer, put(Some(Version::FIRST), &second)).await;
    let third = at(&first, Version::MAX.0);
    done(&store, put(Some(Version(9)), &third)).await;
    assert_eq!(stored(&peer, &first.key).await, Some(third));
}

/// Neither an older nor a newer version will do.
pub async fn a_write_on_another_version_changes_nothing_and_shows_what_is_stored(subject: &impl Subject) {
    let store = subject.store();
    let first = at(&actor(&key("a")), 5);
    done(&store, put(None, &first)).await;
    let conflict = StoreReply::ActorConflict(Some(Box::new(first.clone())));
    for wrong in [Some(Version(4)), Some(Version(6)), Some(Version(50)), None] {
        assert_eq!(
            ask(&store, put(wrong, &at(&first, 51))).await,
            conflict,
            "{wrong:?}"
        );
    }
    assert_eq!(stored(&store, &first.key).await, Some(first));
}

/// A write does not bring back what was deleted.
pub async fn a_write_to_an_actor_that_is_gone_changes_nothing(subject: &impl Subject) {
    let store = subject.store();
    let ghost = actor(&key("a"));
    let conflict = StoreReply::ActorConflict(None);
    assert_eq!(ask(&store, put(Some(Version::FIRST), &ghost)).await, conflict);
    assert_eq!(stored(&store, &ghost.key).await, None);
}

/// A record with everything in it, text that JSON must escape, and a label that looks like a version.
pub async fn every_field_of_an_actor_survives(subject: &impl Subject) {
    let op = OpId {
        replica: ReplicaId(u64::MAX),
        seq: u64::MAX,
    };
    let on = Assignment {
        worker: WorkerKey::new("ns", "pool", "pod"),
        pod_uid: "uid".into(),
        incarnation: "run".into(),
        ip: "10.0.0.1".into(),
        node: "n1".into(),
        fence: Fence(3),
        session: u64::MAX,
    };
    let full = Actor {
        selector: Selector {
            match_labels: [("version".into(), "9".into())].into(),
        },
        state: State::Suspending {
            op,
            from: Source::Worker(on),
            snapshot: "s3://b/\"new\"\n".into(),
        },
        claim: Some(Claim {
            token: token(1, 2),
            fence: Fence(4),
        }),
        latest: Some(Snapshot::Local {
            name: "local".into(),
            nodes: vec!["n1".into(), "n2".into()],
        }),
        last_external: Some("s3://b/old".into()),
        fallback: Some("s3://b/older".into()),
        in_progress: Some("s3://b/\"new\"\n".into()),
        loss: Some(Loss {
            worker: WorkerKey::new("ns", "pool", "lost"),
            reason: "gone \u{1F30A}".into(),
        }),
        garbage: vec![
            Garbage {
                snapshot: Snapshot::External("s3://b/oldest".into()),
                since: Version::FIRST,
                by: None,
            },
            Garbage {
                snapshot: Snapshot::Local {
                    name: "older".into(),
                    nodes: vec!["n1".into()],
                },
                since: Version(9),
                by: Some(token(1, 2)),
            },
        ],
        ..actor(&key("a"))
    };
    done(&subject.store(), put(None, &full)).await;
    assert_eq!(stored(&subject.peer(), &full.key).await, Some(full.clone()));
    done(&subject.peer(), put(Some(full.version), &at(&full, 2))).await;
}

/// The essence of a conditional write.
pub async fn of_many_writers_on_one_version_exactly_one_wins(subject: &impl Subject) {
    let (store, peer) = (subject.store(), subject.peer());
    let first = actor(&key("a"));
    done(&store, put(None, &first)).await;
    let writes = (0..32).map(|writer| {
        let store = if writer % 2 == 0 { &store } else { &peer };
        let mine = Actor { last_external: Some(format!("gs://b/{writer}").into()), ..at(&first, 2) };
        async move { (ask(store, put(Some(Version::FIRST), &mine)).await == StoreReply::Done).then_some(mine) }
    });
    let winners: Vec<Actor> = join_all(writes).await.into_iter().flatten().collect();
    let [winner] = &winners[..] else {
        panic!("{} winners", winners.len())
    };
    assert_eq!(stored(&store, &first.key).await.as_ref(), Some(winner));
}

/// Deletion is conditional as any write.
pub async fn an_actor_is_deleted_only_at_the_expected_version(subject: &impl Subject) {
    let store = subject.store();
    let first = actor(&key("a"));
    let delete = |version: Version| StoreOp::DeleteActor {
        key: first.key.clone(),
        expect: at(&first, version.0).edition(),
        release: token(1, 1),
    };
    assert_eq!(
        ask(&store, delete(Version::FIRST)).await,
        StoreReply::ActorConflict(None)
    );
    done(&store, put(None, &first)).await;
    let conflict = StoreReply::ActorConflict(Some(Box::new(first.clone())));
    assert_eq!(ask(&store, delete(Version(2))).await, conflict);
    done(&store, delete(Version::FIRST)).await;
    assert_eq!(stored(&store, &first.key).await, None);
}

/// Each life of a name counts its versions from the first: who has missed that it began anew may expect a version
/// that is there again.
pub async fn what_was_meant_for_an_earlier_life_of_a_name_is_a_conflict(subject: &impl Subject) {
    let store = subject.store();
    let first = actor(&key("a"));
    let second = Actor {
        incarnation: Incarnation(8),
        ..first.clone()
    };
    done(&store, put(None, &second)).await;
    let conflict = StoreReply::ActorConflict(Some(Box::new(second.clone())));
    assert_eq!(
        ask(&store, put(Some(Version::FIRST), &at(&first, 2))).await,
        conflict
    );
    let delete = |life: &Actor| StoreOp::DeleteActor {
        key: first.key.clone(),
        expect: life.edition(),
        release: token(1, 1),
    };
    assert_eq!(ask(&store, delete(&first)).await, conflict);
    done(&store, delete(&second)).await;
    assert_eq!(stored(&store, &first.key).await, None);
}

/// A store that has lost its last writes counts their versions once more: what one owner has written there is not what
/// another expects.
pub async fn what_another_owner_wrote_at_the_expected_version_is_a_conflict(subject: &impl Subject) {
    let store = subject.store();
    let first = actor(&key("a"));
    let by = |replica: u64| Actor {
        claim: Some(Claim {
            token: token(replica, 1),
            fence: Fence(2),
        }),
        ..at(&first, 2)
    };
    done(&store, put(None, &first)).await;
    let claims = StoreOp::PutActor {
        expect: Some(first.edition()),
        actor: Box::new(by(1)),
        release: None,
    };
    done(&store, claims).await;
    let conflict = StoreReply::ActorConflict(Some(Box::new(by(1))));
    for stranger in [by(2), at(&first, 2)] {
        let next = StoreOp::PutActor {
            expect: Some(stranger.edition()),
            actor: Box::new(at(&stranger, 3)),
            release: None,
        };
        assert_eq!(ask(&store, next).await, conflict);
        let delete = StoreOp::DeleteActor {
            key: first.key.clone(),
            expect: stranger.edition(),
            release: token(2, 1),
        };
        assert_eq!(ask(&store, delete).await, conflict);
    }
    done(&store, put(Some(Version(2)), &at(&by(1), 3))).await;
}

/// What a workflow writes last also ends its lease.
pub async fn a_write_can_end_its_lease_in_the_same_step(subject: &impl Subject) {
    let store = subject.store();
    let first = actor(&key("a"));
    ask(&store, acquire(&first.key, token(1, 1), LONG)).await;
    let release = Some(token(1, 1));
    done(
        &store,
        StoreOp::PutActor {
            expect: None,
            actor: Box::new(first.clone()),
            release,
        },
    )
    .await;
    assert_eq!(holder(&store, &first.key).await, None);
}

/// A conflict is not the end of the workflow.
pub async fn a_write_that_fails_leaves_its_lease(subject: &impl Subject) {
    let store = subject.store();
    let first = actor(&key("a"));
    ask(&store, acquire(&first.key, token(1, 1), LONG)).await;
    let expect = Some(at(&first, 3).edition());
    let release = Some(token(1, 1));
    ask(
        &store,
        StoreOp::PutActor {
            expect,
            actor: Box::new(first.clone()),
            release,
        },
    )
    .await;
    ask(
        &store,
        StoreOp::DeleteActor {
            key: first.key.clone(),
            expect: at(&first, 3).edition(),
            release: token(1, 1),
        },
    )
    .await;
    assert_eq!(holder(&store, &first.key).await, Some(token(1, 1)));
}

/// A lease that was lost to another is the other's.
pub async fn a_write_never_ends_somebody_elses_lease(subject: &impl Subject) {
    let store = subject.store();
    let first = actor(&key("a"));
    ask(&store, acquire(&first.key, token(2, 1), LONG)).await;
    let release = Some(token(1, 1));
    done(
        &store,
        StoreOp::PutActor {
            expect: None,
            actor: Box::new(first.clone()),
            release,
        },
    )
    .await;
    done(&store, put(Some(Version::FIRST), &at(&first, 2))).await;
    assert_eq!(holder(&store, &first.key).await, Some(token(2, 1)));
}

/// As writes do.
pub async fn a_delete_ends_its_own_lease_and_no_other(subject: &impl Subject) {
    let store = subject.store();
    let first = actor(&key("a"));
    for (mine, left) in [(token(1, 1), None), (token(9, 9), Some(token(1, 1)))] {
        done(&store, put(None, &first)).await;
        ask(&store, acquire(&first.key, token(1, 1), LONG)).await;
        done(
            &store,
            StoreOp::DeleteActor {
                key: first.key.clone(),
                expect: first.edition(),
                release: mine,
            },
        )
        .await;
        assert_eq!(holder(&store, &first.key).await, left);
    }
}

/// Scenario S82.
pub async fn a_name_that_would_alias_another_key_is_refused(subject: &impl Subject) {
    let store = subject.store();
    for bad in [
        ActorKey::new("a:b", "c"),
        ActorKey::new("a", "b:c"),
        ActorKey::new("a", ""),
        ActorKey::new("", "a"),
    ] {
        for op in [
            put(None, &actor(&bad)),
            StoreOp::GetActor(bad.clone()),
            acquire(&bad, token(1, 1), LONG),
        ] {
            let Err(StoreError::Refused(text)) = store.execute(op).await else {
                panic!("{bad}")
            };
            assert!(text.contains("cannot be part of a key"), "{text}");
        }
    }
}
