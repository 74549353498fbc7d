//! What unit tests make histories of.

use holdfast_core::actor::{Actor, Assignment, Boot, State};
use holdfast_core::catalog::{LabelSelector, Scope, Selector, Template, Workload};
use holdfast_core::id::{ActorKey, Fence, Incarnation, OpId, ReplicaId, WorkerKey};
use std::sync::Arc;

/// An actor in a state.
pub(crate) fn actor(state: State) -> Actor {
    let template = Template {
        namespace: "n".into(),
        name: "t".into(),
        workload: Workload {
            pause_image: "p".into(),
            containers: Vec::new(),
            durable_volumes: Vec::new(),
        },
        snapshot_location: "mem://".into(),
        on_pause: Scope::Full,
        on_commit: Scope::Full,
        sandbox_class: "c".into(),
        worker_selector: LabelSelector::default(),
        golden_snapshot: None,
    };
    let key = ActorKey::new("s", "a");
    Actor {
        state,
        ..Actor::create(key, Incarnation(1), Arc::new(template), Selector::default())
    }
}

/// On a worker.
pub(crate) fn on() -> Assignment {
    Assignment {
        worker: WorkerKey::new("n", "p", "w"),
        pod_uid: "uid".into(),
        incarnation: "1".into(),
        ip: "ip".into(),
        node: "node".into(),
        fence: Fence(1),
        session: 1,
    }
}

/// On the way there.
pub(crate) fn resuming() -> State {
    State::Resuming {
        op: OpId {
            replica: ReplicaId(1),
            seq: 1,
        },
        on: on(),
        boot: Boot::Golden,
    }
}
