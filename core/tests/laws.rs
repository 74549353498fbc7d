//! Laws that hold for every record, every order of events and every choice: checked on random ones.

mod hand;

use hand::{template, worker_key};
use holdfast_core::actor::{
    Actor, Assignment, Boot, Change, Crash, Loss, Snapshot, Source, State, Transition,
};
use holdfast_core::catalog::Selector;
use holdfast_core::effect::{Fenced, NodeFailure, NodeFailureKind, NodeReply, NodeRow};
use holdfast_core::failure::Code;
use holdfast_core::id::*;
use holdfast_core::plan::{self, CallOf, Facts, Goal, Next, Unfinished, WishedChange};
use holdfast_core::registry::{Fact, Going, Hosting, Registry, Report, Reservation, Sighting};
use holdfast_core::settings::Settings;
use holdfast_core::time::{Duration, Instant};
use holdfast_core::worker::{self, Duty, Worker};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn token() -> impl Strategy<Value = LeaseToken> {
    (1u64..3, 1u64..4).prop_map(|(replica, seq)| LeaseToken {
        replica: ReplicaId(replica),
        seq,
    })
}

fn op() -> impl Strategy<Value = OpId> {
    (1u64..3, 1u64..4).prop_map(|(replica, seq)| OpId {
        replica: ReplicaId(replica),
        seq,
    })
}

fn assignment() -> impl Strategy<Value = Assignment> {
    (0..3u8, 1..9u64).prop_map(|(worker, fence)| Assignment {
        worker: worker_key(&format!("w{worker}")),
        pod_uid: format!("uid{worker}").into(),
        incarnation: "run".into(),
        ip: "ip".into(),
        node: format!("n{}", worker % 2).into(),
        fence: Fence(fence),
    })
}

fn name() -> impl Strategy<Value = Name> {
    (0..4u8).prop_map(|n| Name::from(format!("s{n}")))
}

fn boot() -> impl Strategy<Value = Boot> {
    prop_oneof![Just(Boot::Golden), Just(Boot::Fresh)]
}

fn loss() -> impl Strategy<Value = Loss> {
    Just(Loss {
        worker: worker_key("w"),
        reason: "gone".into(),
    })
}

fn crash() -> impl Strategy<Value = Crash> {
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

fn snapshot() -> impl Strategy<Value = Snapshot> {
    prop_oneof![
        name().prop_map(Snapshot::External),
        (name(), 0..3usize).prop_map(|(name, nodes)| Snapshot::Local {
            name,
            nodes: (0..nodes).map(|n| Name::from(format!("n{n}"))).collect(),
        }),
    ]
}

fn state() -> impl Strategy<Value = State> {
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

fn actor() -> impl Strategy<Value = Actor> {
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

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        Just(Change::Claim),
        (op(), assignment(), boot()).prop_map(|(op, on, boot)| Change::Resume { op, on, boot }),
        Just(Change::Ran),
        (op(), name()).prop_map(|(op, snapshot)| Change::Suspend { op, snapshot }),
        Just(Change::Suspended),
        name().prop_map(|snapshot| Change::Uploaded { snapshot }),
        (op(), name()).prop_map(|(op, snapshot)| Change::Pause { op, snapshot }),
        Just(Change::Paused),
        of(loss()).prop_map(|loss| Change::Reset { loss }),
        crash().prop_map(Change::Crash),
        Just(Change::Revert),
        Just(Change::Select(Selector::default())),
    ]
}

fn reply() -> impl Strategy<Value = NodeReply> {
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

fn goal() -> impl Strategy<Value = Goal> {
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

fn fact() -> impl Strategy<Value = Fact> {
    prop_oneof![
        Just(Fact::Present),
        Just(Fact::Gone(Going::Worker)),
        Just(Fact::Gone(Going::Restarted)),
        Just(Fact::Gone(Going::Sandbox)),
    ]
}

fn row(number: u8, version: u64, hosts: bool) -> Worker {
    let worker = Worker {
        key: worker_key(&format!("w{number}")),
        version: Version(version),
        pod_uid: format!("uid{number}").into(),
        incarnation: "run".into(),
        ip: "ip".into(),
        node: format!("n{}", number % 2).into(),
        duty: Duty::Serving,
        hosts: None,
    };
    if hosts {
        let promise = worker::Change::Promise {
            actor: ActorKey::new("space", "a"),
            incarnation: Incarnation(7),
            template: ("ns".into(), "counter".into()),
        };
        worker.after(promise, Version::FIRST).unwrap()
    } else {
        worker
    }
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
                    matches!(change, Change::Suspended | Change::Paused | Change::Uploaded { .. } | Change::Revert),
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

    /// The plan has an answer for every record, goal and state of knowledge; what it wishes to write is
    /// in the table; and it never acts on a worker or node under a claim that is not its own.
    #[test]
    fn the_plan_always_has_a_lawful_answer(
        actor in actor(),
        goal in goal(),
        token in token(),
        worker in fact(),
        promised in of(0..3u8),
        leaving in of(assignment()),
        outcome in of((prop_oneof![op().prop_map(CallOf::Recorded), Just(CallOf::Stop), Just(CallOf::Upload)], reply())),
        has_template in any::<bool>(),
        is_undoing in any::<bool>(),
    ) {
        let declared = template();
        let golden = Name::from("golden");
        let promised = promised.map(|w| row(w, 3, true));
        let facts = Facts {
            token,
            template: actor.pinned.as_deref().or(has_template.then_some(&*declared)),
            golden: Some(&golden),
            worker,
            promised: promised.as_ref(),
            leaving: leaving.as_ref(),
            outcome: outcome.as_ref().map(|(call, reply)| (call, reply)),
            is_undoing,
        };
        match plan::next(&goal, &actor, &facts) {
            Next::Write { change, .. } => {
                let change = match change {
                    WishedChange::Exactly(change) => change,
                    WishedChange::ClaimAbove(_) => Change::Claim,
                    WishedChange::Resume(on, boot) => {
                        Change::Resume { op: OpId { replica: ReplicaId(1), seq: 1 }, on: *on, boot }
                    }
                    WishedChange::Suspend => {
                        Change::Suspend { op: OpId { replica: ReplicaId(1), seq: 1 }, snapshot: "s".into() }
                    }
                    WishedChange::Pause => {
                        Change::Pause { op: OpId { replica: ReplicaId(1), seq: 1 }, snapshot: "s".into() }
                    }
                    WishedChange::Uploaded(name) => Change::Uploaded { snapshot: name },
                };
                prop_assert!(actor.after(&change, Some(token), Version::FIRST).is_ok(), "{:?}", change);
            }
            Next::Call { .. } => prop_assert!(actor.is_claimed_by(token), "a call before the claim"),
            Next::Finish(_) | Next::Place { .. } | Next::Delete | Next::Free(_) | Next::CallAgain => {}
        }
    }
}

/// What may happen to a registry.
#[derive(Clone, Debug)]
enum Happening {
    Written {
        worker: u8,
        version: u64,
        hosts: bool,
        duty: Duty,
    },
    Deleted(u8),
    Reported {
        node: u8,
        sequence: u64,
        workers: Vec<(u8, u64, bool, Duty)>,
    },
    Heard {
        node: u8,
        sequence: u64,
    },
    Reserved(u8, bool),
    Passed(u64),
}

/// The last word of a worker's node about it, as far as this replica knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    Free,
    Taken,
    Gone,
}

fn is_on(key: &WorkerKey, node: u8) -> bool {
    key.pod.as_str().as_bytes()[1] % 2 == node % 2
}

fn duty() -> impl Strategy<Value = Duty> {
    prop_oneof![3 => Just(Duty::Serving), 1 => Just(Duty::Draining)]
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        (0..6u8, 1..9u64, any::<bool>(), duty()).prop_map(|(worker, version, hosts, duty)| {
            Happening::Written {
                worker,
                version,
                hosts,
                duty,
            }
        }),
        (0..6u8).prop_map(Happening::Deleted),
        (
            0..2u8,
            1..9u64,
            vec((0..6u8, 0..9u64, any::<bool>(), duty()), 0..4)
        )
            .prop_map(|(node, sequence, workers)| Happening::Reported {
                node,
                sequence,
                workers
            }),
        (0..2u8, 1..9u64).prop_map(|(node, sequence)| Happening::Heard { node, sequence }),
        (0..6u8, any::<bool>()).prop_map(|(worker, made)| Happening::Reserved(worker, made)),
        (0..100u64).prop_map(Happening::Passed),
    ]
}

fn node_row(node: u8, sequence: u64) -> NodeRow {
    NodeRow {
        name: format!("n{node}").into(),
        address: "address".into(),
        incarnation: "atelet".into(),
        sequence,
    }
}

proptest! {
    /// Whatever is heard in whatever order, the workers that are offered are those whose row promises
    /// them to nobody and serves, that are not reserved, whose node has been heard lately, and of which
    /// the last word of their node is not that they are gone, taken or draining.
    #[test]
    fn the_free_lists_agree_with_a_naive_look(happenings in vec(happening(), 1..60)) {
        let settings = Settings::DEFAULT.node;
        let mut registry = Registry::new(settings);
        registry.listed(Vec::new());
        let mut now = Instant::from_micros(0);
        let mut reserved: BTreeSet<WorkerKey> = BTreeSet::new();
        let mut heard: [Option<(Instant, u64)>; 2] = [None; 2];
        let mut seen: BTreeMap<WorkerKey, Said> = BTreeMap::new();
        for happening in happenings {
            match happening {
                Happening::Written { worker, version, hosts, duty } => {
                    registry.written(Worker { duty, ..row(worker, version, hosts) });
                }
                Happening::Deleted(worker) => registry.deleted(&worker_key(&format!("w{worker}"))),
                Happening::Reported { node, sequence, workers } => {
                    let workers = workers.into_iter().filter(|(w, ..)| w % 2 == node).map(|(w, highest, hosts, duty)| Sighting {
                        key: worker_key(&format!("w{w}")),
                        pod_uid: format!("uid{w}").into(),
                        incarnation: "run".into(),
                        ip: "ip".into(),
                        node: format!("n{node}").into(),
                        duty,
                        highest_fence: Fence(highest),
                        hosting: hosts.then(|| Hosting { actor: ActorKey::new("space", "a"), incarnation: Incarnation(7) }),
                    });
                    let workers: Vec<Sighting> = workers.collect();
                    if heard[usize::from(node)].is_none_or(|(_, known)| known <= sequence) {
                        heard[usize::from(node)] = Some((now, sequence));
                        for (_, said) in seen.iter_mut().filter(|(key, said)| is_on(key, node) && **said != Said::Nothing) {
                            *said = Said::Gone;
                        }
                        for s in &workers {
                            let is_taken = s.hosting.is_some() || s.duty == Duty::Draining;
                            seen.insert(s.key.clone(), if is_taken { Said::Taken } else { Said::Free });
                        }
                    }
                    registry.reported(now, Report { node: node_row(node, sequence), workers });
                }
                Happening::Heard { node, sequence } => {
                    let known = heard[usize::from(node)];
                    if known.is_none_or(|(_, known)| known <= sequence) {
                        heard[usize::from(node)] = Some((now, sequence));
                    }
                    if known.is_some_and(|(_, known)| known < sequence) {
                        for (_, said) in seen.iter_mut().filter(|(key, _)| is_on(key, node)) {
                            *said = Said::Nothing;
                        }
                    }
                    registry.heard(now, node_row(node, sequence));
                }
                Happening::Reserved(worker, made) => {
                    let key = worker_key(&format!("w{worker}"));
                    if registry.row(&key).is_some() {
                        registry.reserve(&key, if made { Reservation::Made } else { Reservation::Lifted });
                        if made { reserved.insert(key); } else { reserved.remove(&key); }
                    }
                }
                Happening::Passed(secs) => {
                    now = now.plus(Duration::from_secs(secs));
                    registry.handle_timeout(now);
                }
            }
            // A worker without a row of which its node says that it is gone is no worker at all.
            seen.retain(|key, said| {
                let is_known = registry.row(key).is_some() || *said != Said::Gone;
                if !is_known {
                    reserved.remove(key);
                }
                is_known
            });
            let expected: BTreeSet<WorkerKey> = registry
                .rows()
                .filter(|w| w.hosts.is_none() && w.duty == Duty::Serving && !reserved.contains(&w.key))
                .filter(|w| {
                    let node = usize::from(w.node == Name::from("n1"));
                    heard[node].is_some_and(|(at, _)| now < at.plus(settings.stale_silence()))
                })
                .filter(|w| !matches!(seen.get(&w.key), Some(Said::Gone | Said::Taken)))
                .map(|w| w.key.clone())
                .collect();
            let pools = [("ns".into(), "pool".into())];
            let mut offered = BTreeSet::new();
            while let Some(worker) = registry.place(&pools, None, &offered, 11) {
                prop_assert!(offered.insert(worker.key.clone()), "offered in spite of being avoided");
            }
            prop_assert_eq!(&offered, &expected);
            for node in ["n0", "n1"] {
                let mut on_node = BTreeSet::new();
                while let Some(worker) = registry.place(&pools, Some(&[node.into()]), &on_node, 11) {
                    on_node.insert(worker.key.clone());
                }
                let expected: BTreeSet<WorkerKey> =
                    offered.iter().filter(|k| registry.row(k).unwrap().node == Name::from(node)).cloned().collect();
                prop_assert_eq!(on_node, expected, "the list by node and the list of all disagree");
            }
            while registry.poll_wish().is_some() {}
        }
    }
}
