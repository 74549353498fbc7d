//! Small things that several tests store.

use std::sync::Arc;

use holdfast_core::actor::Actor;
use holdfast_core::catalog::{LabelSelector, Scope, Selector, Template, Workload};
use holdfast_core::effect::StoreOp;
use holdfast_core::id::{ActorKey, Incarnation, LeaseToken, ReplicaId, Version};

pub fn actor(name: &str) -> Actor {
    let template = Template {
        namespace: "ns".into(),
        name: "tmpl".into(),
        workload: Workload {
            pause_image: "pause@x".into(),
            containers: vec![],
            durable_volumes: vec![],
        },
        snapshot_location: "file:///snapshots".into(),
        on_pause: Scope::Full,
        on_commit: Scope::Full,
        sandbox_class: "gvisor".into(),
        worker_selector: LabelSelector::default(),
        golden_snapshot: None,
    };
    Actor::create(
        ActorKey::new("team-a", name),
        Incarnation(7),
        Arc::new(template),
        Selector::default(),
    )
}

/// The write of the version after `expect`.
pub fn put(actor: &Actor, expect: Option<u64>, release: Option<LeaseToken>) -> StoreOp {
    let at = |version| Actor {
        version: Version(version),
        ..actor.clone()
    };
    StoreOp::PutActor {
        expect: expect.map(|version| at(version).edition()),
        actor: Box::new(at(expect.unwrap_or(0) + 1)),
        release,
    }
}

pub fn token(seq: u64) -> LeaseToken {
    LeaseToken {
        replica: ReplicaId(1),
        seq,
    }
}
