//! What operators have declared in every world: one template, one pool, one kind of sandbox.

use holdfast_core::catalog::{
    Assets, Catalog, ConfigRole, LabelSelector, Labels, Pool, SandboxConfig, Scope, Template, Workload,
};
use std::sync::Arc;

/// The template of every actor: no golden snapshot, one image.
pub fn template() -> Arc<Template> {
    Arc::new(Template {
        namespace: "ns".into(),
        name: "counter".into(),
        workload: Workload {
            pause_image: "pause".into(),
            containers: Vec::new(),
            durable_volumes: Vec::new(),
        },
        snapshot_location: "mem://snapshots".into(),
        on_pause: Scope::Full,
        on_commit: Scope::Full,
        sandbox_class: "gvisor".into(),
        worker_selector: LabelSelector::default(),
        golden_snapshot: None,
    })
}

/// The catalog of every replica.
pub fn catalog(template: &Template) -> Catalog {
    let mut catalog = Catalog::new();
    catalog.add_template(template.clone());
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
