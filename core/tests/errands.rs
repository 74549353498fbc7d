//! Requests that need no lease: what the store is asked, and what the caller is told about each of its answers.

mod hand;

use hand::{Cluster, actor_key, template};
use holdfast_core::actor::Actor;
use holdfast_core::catalog::Selector;
use holdfast_core::effect::{StoreError, StoreOp, StoreReply};
use holdfast_core::failure::Code;
use holdfast_core::id::{Incarnation, Name, RequestId, Version};
use holdfast_core::replica::Input;
use holdfast_core::request::{Answer, Request, Verdict};
use std::collections::BTreeSet;

/// A request whose caller waits.
struct Errand {
    cluster: Cluster,
    request: RequestId,
}

impl Errand {
    fn new(request: Request) -> Errand {
        let mut cluster = Cluster::new(1, &[]);
        let request = cluster.ask(0, request);
        Errand { cluster, request }
    }

    /// What the store is asked.
    fn asks(&self) -> StoreOp {
        let (_, op) = self.cluster.replicas[0]
            .store
            .front()
            .expect("the store is asked");
        op.clone()
    }

    /// The store answers; what the caller is told then, if anything.
    fn answered(&mut self, reply: Result<StoreReply, StoreError>) -> Option<Verdict> {
        let (effect, _) = self.cluster.replicas[0]
            .store
            .pop_front()
            .expect("the store is asked");
        self.cluster.input(0, Input::Stored(effect, reply));
        let told = self.cluster.is_told(0, self.request);
        told.then(|| self.cluster.verdict(0, self.request).clone())
    }
}

fn actor() -> Actor {
    Actor::create(actor_key("a"), Incarnation(7), template(), Selector::default())
}

fn create() -> Request {
    Request::CreateActor {
        key: actor_key("a"),
        template_namespace: "ns".into(),
        template_name: "counter".into(),
        selector: Selector::default(),
    }
}

fn selector() -> Selector {
    Selector {
        match_labels: [(Name::from("zone"), Name::from("a"))].into(),
    }
}

fn update() -> Request {
    Request::UpdateActor {
        key: actor_key("a"),
        selector: selector(),
    }
}

fn code_and_words(verdict: Option<Verdict>) -> (Code, String) {
    let failure = verdict.expect("the caller is told").unwrap_err();
    (failure.code, failure.message)
}

#[test]
fn a_question_is_one_operation_and_its_answer() {
    let actors = StoreReply::Actors {
        actors: vec![actor()],
        next: Some("b".into()),
    };
    let list = Request::ListActors {
        atespace: Some("space".into()),
        after: Some("a".into()),
        limit: 3,
    };
    let op = StoreOp::ListActors {
        atespace: Some("space".into()),
        after: Some("a".into()),
        limit: 3,
    };
    let told = Answer::Actors {
        actors: vec![actor()],
        next: Some("b".into()),
    };
    let name = || Name::from("space");
    for (request, op, reply, answer) in [
        (
            Request::GetActor(actor_key("a")),
            StoreOp::GetActor(actor_key("a")),
            StoreReply::Actor(Some(Box::new(actor()))),
            Answer::Actor(Box::new(actor())),
        ),
        (list, op, actors, told),
        (
            Request::ListWorkers,
            StoreOp::ListWorkers,
            StoreReply::Workers(Vec::new()),
            Answer::Workers(Vec::new()),
        ),
        (
            Request::ListAtespaces,
            StoreOp::ListAtespaces,
            StoreReply::Atespaces(vec![name()]),
            Answer::Atespaces(vec![name()]),
        ),
        (
            Request::GetAtespace(name()),
            StoreOp::GetAtespace(name()),
            StoreReply::Exists,
            Answer::Atespace(name()),
        ),
        (
            Request::CreateAtespace(name()),
            StoreOp::CreateAtespace(name()),
            StoreReply::Done,
            Answer::Atespace(name()),
        ),
        (
            Request::DeleteAtespace(name()),
            StoreOp::DeleteAtespace(name()),
            StoreReply::Done,
            Answer::Done,
        ),
    ] {
        let mut errand = Errand::new(request);
        assert_eq!(errand.asks(), op);
        assert_eq!(errand.answered(Ok(reply)), Some(Ok(answer)));
    }
}

#[test]
fn what_the_store_refuses_has_a_code_and_the_name_that_it_is_about() {
    let name = || Name::from("space");
    for (request, reply, code, words) in [
        (
            Request::GetActor(actor_key("a")),
            StoreReply::Actor(None),
            Code::NotFound,
            "Actor a not found",
        ),
        (
            update(),
            StoreReply::Actor(None),
            Code::NotFound,
            "Actor a not found",
        ),
        (
            Request::GetAtespace(name()),
            StoreReply::Missing,
            Code::NotFound,
            "Atespace space not found",
        ),
        (
            Request::DeleteAtespace(name()),
            StoreReply::Missing,
            Code::NotFound,
            "Atespace space not found",
        ),
        (
            Request::DeleteAtespace(name()),
            StoreReply::NotEmpty,
            Code::FailedPrecondition,
            "Atespace space is not empty",
        ),
        (
            Request::CreateAtespace(name()),
            StoreReply::Exists,
            Code::AlreadyExists,
            "Atespace space already exists",
        ),
        (
            create(),
            StoreReply::Missing,
            Code::FailedPrecondition,
            "Atespace space not found",
        ),
    ] {
        let told = Errand::new(request).answered(Ok(reply));
        assert_eq!(code_and_words(told), (code, words.to_owned()));
    }
}

#[test]
fn an_answer_that_does_not_fit_is_a_defect_and_says_which() {
    for (request, reply) in [
        (Request::GetAtespace("space".into()), StoreReply::Done),
        (Request::CreateAtespace("space".into()), StoreReply::NotEmpty),
        (Request::DeleteAtespace("space".into()), StoreReply::Exists),
        (Request::ListWorkers, StoreReply::Done),
    ] {
        let (code, words) = code_and_words(Errand::new(request).answered(Ok(reply.clone())));
        assert_eq!(code, Code::Internal);
        assert_eq!(words, format!("the store's answer does not fit: {reply:?}"));
    }
}

#[test]
fn a_store_that_does_not_answer_is_told_to_the_caller() {
    let told = Errand::new(Request::ListWorkers).answered(Err(StoreError::Unavailable("gone".into())));
    let failure = told.unwrap().unwrap_err();
    assert_eq!(
        (failure.code, failure.retry_after.is_some()),
        (Code::Unavailable, true)
    );
    assert_eq!(failure.message, "store unavailable: gone");
    let told = Errand::new(Request::ListWorkers).answered(Err(StoreError::Refused("full".into())));
    let failure = told.unwrap().unwrap_err();
    assert_eq!((failure.code, failure.retry_after), (Code::Internal, None));
}

#[test]
fn an_actor_is_made_in_an_atespace_that_is_there() {
    let mut errand = Errand::new(create());
    assert_eq!(errand.asks(), StoreOp::GetAtespace("space".into()));
    assert_eq!(errand.answered(Ok(StoreReply::Exists)), None);
    let StoreOp::PutActor {
        expect: None,
        actor: made,
        release: None,
    } = errand.asks()
    else {
        panic!("{:?}", errand.asks());
    };
    let incarnation = made.incarnation;
    assert_eq!(
        *made,
        Actor {
            incarnation,
            ..actor()
        }
    );
    let told = errand.answered(Ok(StoreReply::Done));
    assert_eq!(told, Some(Ok(Answer::Actor(made))));
}

#[test]
fn two_actors_that_a_replica_makes_have_lives_of_their_own() {
    let mut cluster = Cluster::new(2, &[]);
    let mut lives = Vec::new();
    for replica in [0, 0, 1] {
        cluster.ask(replica, create());
        let (effect, _) = cluster.replicas[replica].store.pop_front().unwrap();
        cluster.input(replica, Input::Stored(effect, Ok(StoreReply::Exists)));
        let (_, op) = cluster.replicas[replica].store.pop_front().unwrap();
        let StoreOp::PutActor { actor, .. } = op else {
            panic!("{op:?}")
        };
        lives.push(actor.incarnation);
    }
    lives.sort();
    lives.dedup();
    assert_eq!(lives.len(), 3);
    assert!(
        lives[0] != Incarnation(0),
        "which stands for a life that is not known"
    );
}

#[test]
fn an_actor_that_is_there_already_was_made_by_somebody_else_unless_it_is_the_very_same() {
    for (is_own, life) in [(true, None), (false, Some(Incarnation(1)))] {
        let mut errand = Errand::new(create());
        errand.answered(Ok(StoreReply::Exists));
        let StoreOp::PutActor { actor: made, .. } = errand.asks() else {
            panic!("{:?}", errand.asks());
        };
        let stored = Actor {
            incarnation: life.unwrap_or(made.incarnation),
            ..(*made).clone()
        };
        let told = errand.answered(Ok(StoreReply::ActorConflict(Some(Box::new(stored)))));
        if is_own {
            assert_eq!(
                told,
                Some(Ok(Answer::Actor(made))),
                "its acknowledgement was lost"
            );
        } else {
            assert_eq!(
                code_and_words(told),
                (Code::AlreadyExists, "Actor a already exists".into())
            );
        }
    }
}

#[test]
fn an_actor_of_a_template_that_nobody_declared_is_not_made() {
    let mut cluster = Cluster::new(1, &[]);
    let request = cluster.ask(
        0,
        Request::CreateActor {
            key: actor_key("a"),
            template_namespace: "ns".into(),
            template_name: "other".into(),
            selector: Selector::default(),
        },
    );
    let failure = cluster.verdict(0, request).clone().unwrap_err();
    assert_eq!(failure.code, Code::FailedPrecondition);
    assert_eq!(failure.message, "ActorTemplate ns/other not found");
}

#[test]
fn an_update_changes_what_it_read_and_nothing_that_was_written_since() {
    let mut errand = Errand::new(update());
    assert_eq!(errand.asks(), StoreOp::GetActor(actor_key("a")));
    assert_eq!(
        errand.answered(Ok(StoreReply::Actor(Some(Box::new(actor()))))),
        None
    );
    let written = |version: u64| Actor {
        version: Version(version),
        selector: selector(),
        ..actor()
    };
    let put = |version: u64| StoreOp::PutActor {
        expect: Some(written(version - 1).edition()),
        actor: Box::new(written(version)),
        release: None,
    };
    assert_eq!(errand.asks(), put(2));
    let other = Actor {
        version: Version(8),
        ..actor()
    };
    let conflict = StoreReply::ActorConflict(Some(Box::new(other)));
    assert_eq!(errand.answered(Ok(conflict)), None);
    assert_eq!(errand.asks(), put(9));
    let told = errand.answered(Ok(StoreReply::Done));
    assert_eq!(told, Some(Ok(Answer::Actor(Box::new(written(9))))));
}

#[test]
fn an_update_whose_acknowledgement_was_lost_is_recognised() {
    let mut errand = Errand::new(update());
    errand.answered(Ok(StoreReply::Actor(Some(Box::new(actor())))));
    let StoreOp::PutActor { actor: written, .. } = errand.asks() else {
        panic!("{:?}", errand.asks());
    };
    let told = errand.answered(Ok(StoreReply::ActorConflict(Some(written.clone()))));
    assert_eq!(told, Some(Ok(Answer::Actor(written))));
}

#[test]
fn an_update_of_an_actor_that_is_deleted_meanwhile_finds_none() {
    let mut errand = Errand::new(update());
    errand.answered(Ok(StoreReply::Actor(Some(Box::new(actor())))));
    let told = errand.answered(Ok(StoreReply::ActorConflict(None)));
    assert_eq!(code_and_words(told), (Code::NotFound, "Actor a not found".into()));
}

#[test]
fn an_update_that_meets_other_writers_gives_up_after_the_sixth() {
    let mut errand = Errand::new(update());
    errand.answered(Ok(StoreReply::Actor(Some(Box::new(actor())))));
    for version in 10..15 {
        let other = Actor {
            version: Version(version),
            ..actor()
        };
        let told = errand.answered(Ok(StoreReply::ActorConflict(Some(Box::new(other)))));
        assert_eq!(told, None, "at version {version}");
    }
    let told = errand.answered(Ok(StoreReply::ActorConflict(Some(Box::new(actor())))));
    let failure = told.unwrap().unwrap_err();
    assert_eq!(
        (failure.code, failure.retry_after.is_some()),
        (Code::Aborted, true)
    );
    assert_eq!(failure.message, "concurrent update conflict, please retry");
}

#[test]
fn every_actor_is_another_incarnation_whichever_replica_makes_it() {
    let mut incarnations = BTreeSet::new();
    for id in [0, 2, u64::MAX / 2, u64::MAX] {
        let mut cluster = Cluster::new(1, &[]);
        cluster.add_replica(id);
        for _ in 0..20 {
            cluster.ask(1, create());
            let (effect, op) = cluster.replicas[1]
                .store
                .pop_front()
                .expect("the atespace is read");
            assert!(matches!(op, StoreOp::GetAtespace(_)));
            cluster.input(1, Input::Stored(effect, Ok(StoreReply::Exists)));
            match cluster.replicas[1].store.pop_front() {
                Some((_, StoreOp::PutActor { actor, .. })) => {
                    assert!(incarnations.insert(actor.incarnation), "replica {id}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
