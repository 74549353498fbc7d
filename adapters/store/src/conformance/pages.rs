//! Lists of actors, page by page.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::join;
use holdfast_core::effect::{StoreError, StoreOp, StoreReply};
use holdfast_core::id::{ActorKey, Name};

use super::{Subject, actor, ask, done, put, token};
use crate::Store;

type Page = (Vec<ActorKey>, Option<Name>);

async fn page(store: &Arc<dyn Store>, atespace: Option<&str>, after: Option<Name>, limit: u32) -> Page {
    let atespace = atespace.map(Name::from);
    match ask(
        store,
        StoreOp::ListActors {
            atespace,
            after,
            limit,
        },
    )
    .await
    {
        StoreReply::Actors { actors, next } => (actors.into_iter().map(|actor| actor.key).collect(), next),
        other => panic!("{other:?}"),
    }
}

/// Every page until there is no more.
async fn all(store: &Arc<dyn Store>, atespace: Option<&str>, limit: u32) -> Vec<ActorKey> {
    let (mut keys, mut after) = (Vec::new(), None);
    loop {
        let (some, next) = page(store, atespace, after, limit).await;
        assert!(
            some.len() <= limit as usize,
            "{} on a page of {limit}",
            some.len()
        );
        keys.extend(some);
        match next {
            Some(next) => after = Some(next),
            None => return keys,
        }
    }
}

/// Atespaces whose order differs from the order of their keys' texts among them.
async fn fill(store: &Arc<dyn Store>) -> Vec<ActorKey> {
    let mut keys = BTreeSet::new();
    for atespace in ["a", "a-b", "a0", "b"] {
        for id in 0..7 {
            let key = ActorKey::new(atespace, format!("id{}", (id * 5) % 7));
            done(store, put(None, &actor(&key))).await;
            keys.insert(key);
        }
    }
    keys.into_iter().collect()
}

/// Whatever the size of the page.
pub async fn pages_show_every_actor_once_in_order_of_their_keys(subject: &impl Subject) {
    let store = subject.store();
    assert_eq!(page(&store, None, None, 5).await, (vec![], None));
    let keys = fill(&store).await;
    for limit in [1, 3, 7, 27, 28, 29, 1000] {
        assert_eq!(all(&store, None, limit).await, keys, "{limit}");
    }
}

/// Not even one whose name begins alike.
pub async fn a_list_of_one_atespace_shows_no_other(subject: &impl Subject) {
    let store = subject.store();
    let keys = fill(&store).await;
    for atespace in ["a", "a-b", "b", "nowhere"] {
        let expected: Vec<_> = keys
            .iter()
            .filter(|key| key.atespace.as_str() == atespace)
            .cloned()
            .collect();
        for limit in [1, 3, 7, 1000] {
            assert_eq!(
                all(&store, Some(atespace), limit).await,
                expected,
                "{atespace}, {limit}"
            );
        }
    }
}

/// It is a place between keys, not an actor and not a cursor that somebody keeps.
pub async fn a_page_token_works_at_another_replica_and_after_its_actor_is_gone(subject: &impl Subject) {
    let store = subject.store();
    let keys = fill(&store).await;
    let (first, next) = page(&store, None, None, 5).await;
    assert_eq!(first, keys[..5]);
    let last = first[4].clone();
    done(
        &store,
        StoreOp::DeleteActor {
            expect: actor(&last).edition(),
            key: last,
            release: token(1, 1),
        },
    )
    .await;
    let (second, _) = page(&subject.peer(), None, next, 5).await;
    assert_eq!(second, keys[5..10]);
}

/// And one of another atespace's list, too.
pub async fn a_page_token_that_nobody_gave_out_is_refused(subject: &impl Subject) {
    let store = subject.store();
    fill(&store).await;
    let (_, of_b) = page(&store, Some("b"), None, 1).await;
    for (atespace, after) in [
        (None, Some("!".into())),
        (None, Some("".into())),
        (Some("a".into()), of_b),
    ] {
        let refused = store
            .execute(StoreOp::ListActors {
                atespace,
                after,
                limit: 5,
            })
            .await;
        let Err(StoreError::Refused(text)) = refused else {
            panic!("{refused:?}")
        };
        assert!(text.starts_with("invalid page token: "), "{text}");
    }
}

/// While others come and go, and versions change.
pub async fn what_exists_throughout_is_on_exactly_one_page_whatever_else_happens(subject: &impl Subject) {
    let (store, peer) = (subject.store(), subject.peer());
    let steady = fill(&store).await;
    let churn = async {
        for round in 0..60_u64 {
            let passing = actor(&ActorKey::new("a", format!("id{}-passing", round % 7)));
            done(&peer, put(None, &passing)).await;
            let moving = &steady[usize::try_from(round).unwrap() % steady.len()];
            let StoreReply::Actor(Some(stored)) = ask(&peer, StoreOp::GetActor(moving.clone())).await else {
                panic!()
            };
            let version = stored.version;
            done(&peer, put(Some(version), &super::at(&stored, version.next().0))).await;
            let release = token(1, 1);
            done(
                &peer,
                StoreOp::DeleteActor {
                    expect: passing.edition(),
                    key: passing.key,
                    release,
                },
            )
            .await;
        }
    };
    let lists = async {
        for limit in [2, 3, 5] {
            let listed = all(&store, None, limit).await;
            let mut known: Vec<_> = listed
                .iter()
                .filter(|key| steady.contains(key))
                .cloned()
                .collect();
            assert_eq!(known.len(), steady.len());
            known.dedup();
            assert_eq!(known, steady);
        }
    };
    join(churn, lists).await;
}
