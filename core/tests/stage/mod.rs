//! What stories and laws play on: a store that keeps its contract and its own time, and the few records
//! that all of them need.
#![allow(dead_code, reason = "each test target uses its part")]

pub mod store;

use holdfast_core::catalog::*;
use holdfast_core::id::{ActorKey, WorkerKey};
use std::sync::Arc;

/// The actor `name`, written `atespace/name`.
pub fn actor_key(name: &str) -> ActorKey {
    let (atespace, name) = name.split_once('/').unwrap_or(("demo", name));
    ActorKey::new(atespace, name)
}

/// The worker `name` of the one pool.
pub fn worker_key(name: &str) -> WorkerKey {
    WorkerKey::new("ns", "pool", name)
}

/// One template, whose one container runs `image`.
pub fn template() -> Arc<Template> {
    Arc::new(Template {
        namespace: "ns".into(),
        name: "counter".into(),
        workload: workload(),
        snapshot_location: "mem:".into(),
        on_pause: Scope::Full,
        on_commit: Scope::Full,
        sandbox_class: "gvisor".into(),
        worker_selector: LabelSelector::default(),
        golden_snapshot: None,
    })
}

/// A sandbox of one image.
pub fn workload() -> Workload {
    Workload {
        pause_image: "image".into(),
        containers: Vec::new(),
        durable_volumes: Vec::new(),
    }
}

/// One pool, and the template unless it has been deleted.
pub fn catalog(template: Option<Arc<Template>>) -> Catalog {
    let mut catalog = Catalog::new();
    if let Some(template) = template {
        catalog.add_template((*template).clone());
    }
    catalog.add_pool(Pool {
        namespace: "ns".into(),
        name: "pool".into(),
        labels: Labels::new(),
        sandbox_class: "gvisor".into(),
        sandbox_config: None,
    });
    catalog.add_sandbox_config(SandboxConfig {
        name: "default".into(),
        sandbox_class: "gvisor".into(),
        role: ConfigRole::Default,
        assets: Assets::new(),
    });
    catalog
}
