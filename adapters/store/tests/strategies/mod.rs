//! Any actor, worker and node that the core can hold. Names are never empty: an empty one names nothing.

use std::sync::Arc;

use holdfast_core::actor::{
    Actor, Assignment, Boot, Claim, Crash, Garbage, Loss, Snapshot, Source, State, Transition,
};
use holdfast_core::catalog::{
    Container, Env, EnvValue, LabelSelector, Labels, Mount, Operator, Presence, Readyz, Requirement, Scope,
    Selector, Template, Workload,
};
use holdfast_core::effect::{Grave, NodeRow};
use holdfast_core::id::{
    ActorKey, Fence, Incarnation, LeaseToken, Name, OpId, ReplicaId, Version, WorkerKey,
};
use holdfast_core::worker::{Duty, Hosted, Worker};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

/// Any text at all.
pub fn name() -> impl Strategy<Value = Name> {
    prop_oneof![3 => "[a-z0-9-]{1,12}", 1 => "\\PC{1,12}", 1 => Just("\"version\":\"9\"\n\u{0}".to_owned())]
        .prop_map(Name::from)
}

fn part() -> impl Strategy<Value = Name> {
    "[a-z0-9.-]{1,12}".prop_map(Name::from)
}

fn actor_key() -> impl Strategy<Value = ActorKey> {
    (part(), part()).prop_map(|(atespace, name)| ActorKey { atespace, name })
}

fn worker_key() -> impl Strategy<Value = WorkerKey> {
    (part(), part(), part()).prop_map(|(namespace, pool, pod)| WorkerKey { namespace, pool, pod })
}

fn op() -> impl Strategy<Value = OpId> {
    any::<(u64, u64)>().prop_map(|(replica, seq)| OpId {
        replica: ReplicaId(replica),
        seq,
    })
}

fn token() -> impl Strategy<Value = LeaseToken> {
    any::<(u64, u64)>().prop_map(|(replica, seq)| LeaseToken {
        replica: ReplicaId(replica),
        seq,
    })
}

/// A version or a fence.
fn count() -> impl Strategy<Value = u64> {
    0..=Version::MAX.0
}

fn assignment() -> impl Strategy<Value = Assignment> {
    let counts = (count(), any::<u64>());
    (worker_key(), name(), name(), name(), name(), counts).prop_map(
        |(worker, pod_uid, incarnation, ip, node, (fence, session))| Assignment {
            worker,
            pod_uid,
            incarnation,
            ip,
            node,
            fence: Fence(fence),
            session,
        },
    )
}

fn state() -> impl Strategy<Value = State> {
    let boot = prop_oneof![Just(Boot::Golden), Just(Boot::Fresh)];
    let source = prop_oneof![
        assignment().prop_map(Source::Worker),
        name().prop_map(Source::Local)
    ];
    let during = prop_oneof![
        Just(Transition::Resume),
        Just(Transition::Suspend),
        Just(Transition::Pause)
    ];
    prop_oneof![
        Just(State::Suspended),
        Just(State::Paused),
        (op(), assignment(), boot).prop_map(|(op, on, boot)| State::Resuming { op, on, boot }),
        assignment().prop_map(|on| State::Running { on }),
        (op(), source, name()).prop_map(|(op, from, snapshot)| State::Suspending { op, from, snapshot }),
        (op(), assignment(), name()).prop_map(|(op, on, snapshot)| State::Pausing { op, on, snapshot }),
        (during, name(), name()).prop_map(|(during, reason, node)| State::Crashed(Crash {
            during,
            reason,
            node
        })),
    ]
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    prop_oneof![
        name().prop_map(Snapshot::External),
        (name(), vec(name(), 0..3)).prop_map(|(name, nodes)| Snapshot::Local { name, nodes }),
    ]
}

fn labels() -> impl Strategy<Value = Labels> {
    let key = prop_oneof![3 => name(), 1 => Just(Name::from("version"))];
    btree_map(key, name(), 0..4)
}

fn selector() -> impl Strategy<Value = Selector> {
    labels().prop_map(|match_labels| Selector { match_labels })
}

fn requirement() -> impl Strategy<Value = Requirement> {
    let operator = prop_oneof![
        vec(name(), 0..3).prop_map(Operator::In),
        vec(name(), 0..3).prop_map(Operator::NotIn),
        Just(Operator::Exists),
        Just(Operator::DoesNotExist),
    ];
    (name(), operator).prop_map(|(key, operator)| Requirement { key, operator })
}

fn container() -> impl Strategy<Value = Container> {
    let presence = prop_oneof![Just(Presence::Required), Just(Presence::Optional)];
    let value = prop_oneof![
        name().prop_map(EnvValue::Literal),
        Just(EnvValue::Literal(Name::default())),
        (name(), name(), presence).prop_map(|(secret, key, presence)| EnvValue::Secret {
            secret,
            key,
            presence
        }),
    ];
    let env = (name(), value).prop_map(|(name, value)| Env { name, value });
    let readyz = (name(), any::<u16>()).prop_map(|(path, port)| Readyz { path, port });
    let mount = (name(), name()).prop_map(|(volume, path)| Mount { volume, path });
    (
        name(),
        name(),
        vec(name(), 0..3),
        vec(env, 0..3),
        option::of(readyz),
        vec(mount, 0..3),
    )
        .prop_map(|(name, image, command, env, readyz, mounts)| Container {
            name,
            image,
            command,
            env,
            readyz,
            mounts,
        })
}

fn template() -> impl Strategy<Value = Template> {
    let scope = || prop_oneof![Just(Scope::Full), Just(Scope::Data)];
    let workload = (name(), vec(container(), 0..3), vec(name(), 0..3)).prop_map(
        |(pause_image, containers, durable_volumes)| Workload {
            pause_image,
            containers,
            durable_volumes,
        },
    );
    let worker_selector = (selector(), vec(requirement(), 0..3))
        .prop_map(|(equal, requirements)| LabelSelector { equal, requirements });
    (
        (name(), name(), workload, name()),
        (scope(), scope(), name(), worker_selector, option::of(name())),
    )
        .prop_map(|((namespace, name, workload, snapshot_location), rest)| {
            let (on_pause, on_commit, sandbox_class, worker_selector, golden_snapshot) = rest;
            Template {
                namespace,
                name,
                workload,
                snapshot_location,
                on_pause,
                on_commit,
                sandbox_class,
                worker_selector,
                golden_snapshot,
            }
        })
}

/// Any actor.
pub fn actor() -> impl Strategy<Value = Actor> {
    let claim = (token(), count()).prop_map(|(token, fence)| Claim {
        token,
        fence: Fence(fence),
    });
    let loss = (worker_key(), name()).prop_map(|(worker, reason)| Loss { worker, reason });
    (
        (actor_key(), count(), any::<u64>(), name(), name()),
        (option::of(template()), selector(), state(), option::of(claim)),
        (
            option::of(snapshot()),
            option::of(name()),
            option::of(name()),
            option::of(name()),
            option::of(loss),
            vec((snapshot(), count(), option::of(token())), 0..3),
        ),
    )
        .prop_map(|(identity, middle, end)| {
            let (key, version, incarnation, template_namespace, template_name) = identity;
            let (pinned, selector, state, claim) = middle;
            let (latest, last_external, fallback, in_progress, loss, garbage) = end;
            Actor {
                key,
                version: Version(version),
                incarnation: Incarnation(incarnation),
                template_namespace,
                template_name,
                pinned: pinned.map(Arc::new),
                selector,
                state,
                claim,
                latest,
                last_external,
                fallback,
                in_progress,
                loss,
                garbage: garbage.into_iter().map(let_go).collect(),
            }
        })
}

fn let_go((snapshot, since, by): (Snapshot, u64, Option<LeaseToken>)) -> Garbage {
    Garbage {
        snapshot,
        since: Version(since),
        by,
    }
}

/// Any note of a deleted actor.
pub fn grave() -> impl Strategy<Value = Grave> {
    let template = (name(), name());
    (
        actor_key(),
        any::<u64>(),
        count(),
        template,
        vec(snapshot(), 0..3),
    )
        .prop_map(|(actor, incarnation, version, template, snapshots)| Grave {
            actor,
            incarnation: Incarnation(incarnation),
            version: Version(version),
            template,
            snapshots,
        })
}

/// Any worker.
pub fn worker() -> impl Strategy<Value = Worker> {
    let counts = (count(), any::<u64>());
    let hosted = (actor_key(), any::<u64>(), name(), name(), counts).prop_map(
        |(actor, incarnation, template_namespace, template_name, (fence, session))| Hosted {
            actor,
            incarnation: Incarnation(incarnation),
            template_namespace,
            template_name,
            fence: Fence(fence),
            session,
        },
    );
    let duty = prop_oneof![Just(Duty::Serving), Just(Duty::Draining)];
    (
        (worker_key(), count(), name(), name()),
        (name(), name(), duty, option::of(hosted)),
    )
        .prop_map(
            |((key, version, pod_uid, incarnation), (ip, node, duty, hosts))| Worker {
                key,
                version: Version(version),
                pod_uid,
                incarnation,
                ip,
                node,
                duty,
                hosts,
            },
        )
}

/// Any node.
pub fn node() -> impl Strategy<Value = NodeRow> {
    let counts = any::<[u64; 4]>();
    (part(), name(), name(), counts).prop_map(
        |(name, address, incarnation, [sequence, session, lapsed, version])| NodeRow {
            name,
            address,
            incarnation,
            sequence,
            session,
            lapsed,
            version,
        },
    )
}
