//! What unit tests make histories of.

use holdfast_core::actor::{Actor, State};
use holdfast_core::catalog::{LabelSelector, Scope, Selector, Template, Workload};
use holdfast_core::id::{ActorKey, Incarnation};
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
