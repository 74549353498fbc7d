//! What deleted actors leave behind.

use std::collections::BTreeSet;
use std::sync::Arc;

use holdfast_core::actor::Snapshot;
use holdfast_core::effect::{Grave, StoreError, StoreOp, StoreReply};
use holdfast_core::id::{ActorKey, Incarnation, Name, Version};

use super::{Subject, ask, done};
use crate::Store;

fn grave(name: &str, version: u64) -> Grave {
    Grave {
        actor: ActorKey::new("team-a", name),
        incarnation: Incarnation(u64::MAX),
        version: Version(version),
        template: ("ns".into(), "tmpl".into()),
        snapshots: vec![
            Snapshot::External("s3://b/\"1\"".into()),
            Snapshot::Local {
                name: "local".into(),
                nodes: vec!["n1".into(), "n2".into()],
            },
        ],
    }
}

async fn bury(store: &Arc<dyn Store>, grave: &Grave) {
    done(store, StoreOp::PutGrave(Box::new(grave.clone()))).await;
}

fn dropped(grave: &Grave) -> StoreOp {
    StoreOp::DropGrave {
        key: grave.actor.clone(),
        incarnation: grave.incarnation,
        version: grave.version,
    }
}

async fn page(store: &Arc<dyn Store>, after: Option<Name>, limit: u32) -> (Vec<Grave>, Option<Name>) {
    match ask(store, StoreOp::ListGraves { after, limit }).await {
        StoreReply::Graves { graves, next } => (graves, next),
        other => panic!("{other:?}"),
    }
}

/// Each of them at least once, whatever the size of the page.
async fn all(store: &Arc<dyn Store>, limit: u32) -> Vec<Grave> {
    let (mut found, mut names, mut after) = (Vec::new(), BTreeSet::new(), None);
    loop {
        let (some, next) = page(store, after, limit).await;
        let is_new =
            |grave: &Grave| names.insert((grave.actor.clone(), grave.incarnation.0, grave.version.0));
        found.extend(some.into_iter().filter(is_new));
        match next {
            Some(next) => after = Some(next),
            None => return found,
        }
    }
}

/// With all that it says.
pub async fn what_a_deleted_actor_leaves_is_noted_until_it_is_dropped(subject: &impl Subject) {
    let (store, peer) = (subject.store(), subject.peer());
    assert_eq!(all(&store, 10).await, []);
    let left = grave("a", 1);
    bury(&store, &left).await;
    assert_eq!(all(&peer, 10).await, std::slice::from_ref(&left));
    done(&peer, dropped(&left)).await;
    assert_eq!(all(&store, 10).await, []);
    done(&store, dropped(&left)).await;
}

/// Of the same attempt at deleting it.
pub async fn a_later_note_takes_the_place_of_an_earlier_one(subject: &impl Subject) {
    let store = subject.store();
    let mut left = grave("a", 1);
    bury(&store, &left).await;
    left.snapshots.pop();
    bury(&store, &left).await;
    assert_eq!(all(&store, 10).await, [left]);
}

/// What one of them knows must not be forgotten because another is done.
pub async fn every_attempt_and_every_life_has_a_note_of_its_own(subject: &impl Subject) {
    let store = subject.store();
    let first = grave("a", 1);
    let notes = [
        first.clone(),
        grave("a", 2),
        grave("b", 1),
        Grave {
            incarnation: Incarnation(0),
            ..first.clone()
        },
    ];
    for note in &notes {
        bury(&store, note).await;
    }
    done(&store, dropped(&first)).await;
    let left = all(&store, 10).await;
    assert_eq!(left.len(), 3);
    assert!(notes[1..].iter().all(|note| left.contains(note)));
}

/// Also while others are dropped.
pub async fn pages_show_every_note_that_stays(subject: &impl Subject) {
    let (store, peer) = (subject.store(), subject.peer());
    let notes: Vec<Grave> = (0..400).map(|n| grave(&format!("id{n}"), 1)).collect();
    for note in &notes {
        bury(&store, note).await;
    }
    for limit in [1, 7, 399, 400, 1000] {
        assert_eq!(all(&store, limit).await.len(), notes.len(), "{limit}");
    }
    let (mut seen, next) = page(&store, None, 100).await;
    for note in notes.iter().step_by(2) {
        done(&peer, dropped(note)).await;
    }
    let mut after = next;
    while let Some(token) = after {
        let (some, next) = page(&peer, Some(token), 100).await;
        seen.extend(some);
        after = next;
    }
    let mut staying = notes.iter().skip(1).step_by(2);
    assert!(staying.all(|note| seen.contains(note)));
}

/// It is no place in this list.
pub async fn a_token_of_another_list_is_refused(subject: &impl Subject) {
    for after in ["!", "", "YWN0b3I6YTpi"] {
        let op = StoreOp::ListGraves {
            after: Some(after.into()),
            limit: 5,
        };
        let Err(StoreError::Refused(text)) = subject.store().execute(op).await else {
            panic!("{after}")
        };
        assert!(text.starts_with("invalid page token: "), "{text}");
    }
}
