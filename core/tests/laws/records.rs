//! Random records and changes, and what holds of every record.

use crate::stage::{template, worker_key};
use holdfast_core::actor::{
    Actor, Assignment, Boot, Change, Crash, Loss, Snapshot, Source, State, Transition,
};
use holdfast_core::catalog::Selector;
use holdfast_core::effect::{Fenced, NodeFailure, NodeFailureKind, NodeReply};
use holdfast_core::failure::Code;
use holdfast_core::id::*;
use holdfast_core::plan::{Goal, Unfinished};
use holdfast_core::registry::{Fact, Going};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

pub fn token() -> impl Strategy<Value = LeaseToken> {
    (1u64..3, 1u64..4).prop_map(|(replica, seq)| LeaseToken {
        replica: ReplicaId(replica),
        seq,
    })
}

pub fn op() -> impl Strategy<Value = OpId> {
    (1u64..3, 1u64..4).prop_map(|(replica, seq)| OpId {
        replica: ReplicaId(replica),
        seq,
    })
}

pub fn assignment() -> impl Strategy<Value = Assignment> {
    (0..3u8, 1..9u64).prop_map(|(worker, fence)| Assignment {
        session: fence % 3,
        worker: worker_key(&format!("w{worker}")),
        pod_uid: format!("uid{worker}").into(),
        incarnation: "run".into(),
        ip: "ip".into(),
        node: format!("n{}", worker % 2).into(),
        fence: Fence(fence),
    })
}

pub fn name() -> impl Strategy<Value = Name> {
    (0..4u8).prop_map(|n| Name::from(format!("s{n}")))
}

pub fn boot() -> impl Strategy<Value = Boot> {
    prop_oneof![Just(Boot::Golden), Just(Boot::Fresh)]
}

pub fn loss() -> impl Strategy<Value = Loss> {
    Just(Loss {
        worker: worker_key("w"),
        reason: "gone".into(),
    })
}

pub fn crash() -> impl Strategy<Value = Crash> {
    let during = prop_oneof![
        Just(Transition::Resume),
        Just(Transition::Suspend),
        Just(Transition::Pause)
    ];
    during.prop_map(|during| Crash {
        during,
        reason: "?".into(),
        node: "n0".into(),
    })
}

pub fn snapshot() -> impl Strategy<Value = Snapshot> {
    prop_oneof![
        name().prop_map(Snapshot::External),
        (name(), 0..3usize).prop_map(|(name, nodes)| Snapshot::Local {
            name,
            nodes: (0..nodes).map(|n| Name::from(format!("n{n}"))).collect(),
        }),
    ]
}

pub fn state() -> impl Strategy<Value = State> {
    let source = prop_oneof![
        assignment().prop_map(Source::Worker),
        Just(Source::Local("n0".into())),
    ];
    prop_oneof![
        Just(State::Suspended),
        (op(), assignment(), boot()).prop_map(|(op, on, boot)| State::Resuming { op, on, boot }),
        assignment().prop_map(|on| State::Running { on }),
        (op(), source, name()).prop_map(|(op, from, snapshot)| State::Suspending { op, from, snapshot }),
        (op(), assignment(), name()).prop_map(|(op, on, snapshot)| State::Pausing { op, on, snapshot }),
        Just(State::Paused),
        crash().prop_map(State::Crashed),
    ]
}

pub fn actor() -> impl Strategy<Value = Actor> {
    (
        state(),
        1..20u64,
        of((token(), 1..20u64)),
        of(snapshot()),
        of(name()),
        of(name()),
        of(loss()),
        any::<bool>(),
    )
        .prop_map(
            |(state, version, claim, latest, last_external, fallback, loss, is_pinned)| {
                let key = ActorKey::new("space", "a");
                let mut actor = Actor::create(key, Incarnation(7), template(), Selector::default());
                actor.state = state;
                actor.claim = claim.map(|(token, fence)| holdfast_core::actor::Claim {
                    token,
                    fence: Fence(fence.min(version)),
                });
                actor.version = Version(version);
                (actor.latest, actor.last_external, actor.fallback, actor.loss) =
                    (latest, last_external, fallback, loss);
                actor.pinned = actor.pinned.filter(|_| is_pinned);
                actor
            },
        )
}

pub fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        Just(Change::Claim),
        (op(), assignment(), boot()).prop_map(|(op, on, boot)| Change::Resume { op, on, boot }),
        Just(Change::Ran),
        (op(), name()).prop_map(|(op, snapshot)| Change::Suspend { op, snapshot }),
        Just(Change::Suspended),
        name().prop_map(|snapshot| Change::Reserve { snapshot }),
        Just(Change::Uploaded),
        (op(), name()).prop_map(|(op, snapshot)| Change::Pause { op, snapshot }),
        Just(Change::Paused),
        of(loss()).prop_map(|loss| Change::Reset { loss }),
        crash().prop_map(Change::Crash),
        Just(Change::Revert),
        Just(Change::Select(Selector::default())),
    ]
}

pub fn reply() -> impl Strategy<Value = NodeReply> {
    let stale =
        (prop_oneof![Just(Fenced::Actor), Just(Fenced::Worker)], 0..40u64).prop_map(|(of, highest)| {
            NodeFailureKind::StaleFence {
                of,
                highest: Fence(highest),
            }
        });
    let kind = prop_oneof![
        Just(NodeFailureKind::Crash),
        Just(NodeFailureKind::SandboxGone),
        stale,
        Just(NodeFailureKind::Busy),
        Just(NodeFailureKind::SessionOver),
        Just(NodeFailureKind::Occupied),
        Just(NodeFailureKind::Unreachable),
        Just(NodeFailureKind::Failed),
    ];
    of(kind).prop_map(|kind| match kind {
        None => Ok(()),
        Some(kind) => Err(NodeFailure {
            code: Code::Unavailable,
            message: "?".into(),
            kind,
        }),
    })
}

pub fn goal() -> impl Strategy<Value = Goal> {
    let resume = prop_oneof![Just(Unfinished::Finish), Just(Unfinished::Undo)];
    prop_oneof![
        boot().prop_map(Goal::Resume),
        Just(Goal::Suspend),
        Just(Goal::Pause),
        Just(Goal::Delete),
        Just(Goal::Revert),
        (0..3u8, resume).prop_map(|(w, resume)| Goal::Settle {
            worker: worker_key(&format!("w{w}")),
            resume
        }),
    ]
}

pub fn fact() -> impl Strategy<Value = Fact> {
    prop_oneof![
        Just(Fact::Present),
        Just(Fact::Gone(Going::Worker)),
        Just(Fact::Gone(Going::Restarted)),
        Just(Fact::Gone(Going::Sandbox)),
    ]
}

proptest! {
    /// Whatever is written: versions grow, fences never fall, an actor that runs or is in transition
    /// has what it needs, and `latest` moves only along the changes that complete a snapshot.
    #[test]
    fn no_sequence_of_changes_breaks_a_record(
        start in actor(),
        changes in vec((change(), of(token()), 0..60u64), 1..30),
    ) {
        let mut actor = start;
        for (change, by, at_least) in changes {
            let Ok(next) = actor.after(&change, by, Version(at_least)) else { continue };
            prop_assert!(next.version > actor.version);
            prop_assert!(next.version >= Version(at_least));
            let fence = |a: &Actor| a.claim.map(|c| c.fence).unwrap_or_default();
            prop_assert!(fence(&next) >= fence(&actor), "{:?} lowers the fence", change);
            prop_assert!(next.claim.is_none_or(|c| c.fence <= Fence(next.version.0)));
            if next.latest != actor.latest {
                prop_assert!(
                    matches!(change, Change::Suspended | Change::Paused | Change::Uploaded | Change::Revert),
                    "{:?} moves latest",
                    change
                );
            }
            if matches!(next.state, State::Running { .. } | State::Resuming { .. } | State::Pausing { .. }) {
                prop_assert!(next.assignment().is_some());
            }
            if matches!(next.state, State::Paused) && !matches!(actor.state, State::Paused) {
                let is_local = matches!(next.latest, Some(Snapshot::Local { .. }));
                prop_assert!(is_local, "asleep on a disk without a local snapshot");
            }
            prop_assert_eq!(&next.key, &actor.key);
            prop_assert_eq!(next.incarnation, actor.incarnation);
            actor = next;
        }
    }
}
