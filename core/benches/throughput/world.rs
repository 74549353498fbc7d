//! Names, declarations and a perfect store: it never fails, never forgets and answers at once.

use holdfast_core::actor::Actor;
use holdfast_core::catalog::{
    Catalog, ConfigRole, LabelSelector, Labels, Pool, SandboxConfig, Scope, Selector, Template, Workload,
};
use holdfast_core::effect::{Grave, NodeRow, StoreOp, StoreReply};
use holdfast_core::id::{ActorKey, Fence, Incarnation, LeaseToken, Name, NodeName, Version, WorkerKey};
use holdfast_core::registry::{Hosting, Report, Sighting};
use holdfast_core::worker::Duty;
use holdfast_core::worker::Worker;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// How many workers a node has.
pub const PER_NODE: usize = 10;

pub fn template() -> Arc<Template> {
    Arc::new(Template {
        namespace: "demo".into(),
        name: "counter".into(),
        workload: Workload {
            pause_image: "pause".into(),
            containers: Vec::new(),
            durable_volumes: Vec::new(),
        },
        snapshot_location: "s3://snapshots".into(),
        on_pause: Scope::Full,
        on_commit: Scope::Full,
        sandbox_class: "gvisor".into(),
        worker_selector: LabelSelector::default(),
        golden_snapshot: None,
    })
}

pub fn catalog() -> Catalog {
    let mut catalog = Catalog::new();
    catalog.add_template((*template()).clone());
    catalog.add_pool(Pool {
        namespace: "demo".into(),
        name: "pool".into(),
        labels: Labels::new(),
        sandbox_class: "gvisor".into(),
        sandbox_config: None,
    });
    catalog.add_sandbox_config(SandboxConfig {
        name: "default".into(),
        sandbox_class: "gvisor".into(),
        role: ConfigRole::Default,
        assets: Default::default(),
    });
    catalog
}

pub fn actor_key(index: usize) -> ActorKey {
    ActorKey::new(format!("space-{}", index % 16), format!("actor-{index:07}"))
}

/// An actor that has never run.
pub fn actor(index: usize) -> Actor {
    Actor::create(
        actor_key(index),
        Incarnation(index as u64 + 1),
        template(),
        Selector::default(),
    )
}

/// A node, as it sees itself.
pub struct Node {
    pub report: Report,
}

impl Node {
    /// Node number `index`, with `workers` workers that host nothing.
    pub fn new(index: usize, workers: usize) -> Node {
        let name = NodeName::from(format!("node-{index:06}"));
        let sighting = |slot: usize| {
            let pod = format!("pool-{index:06}-{slot:02}");
            Sighting {
                pod_uid: format!("uid-of-{pod}").into(),
                key: WorkerKey::new("demo", "pool", pod),
                incarnation: "run-1".into(),
                ip: format!("10.{}.{}.{slot}", index / 256, index % 256).into(),
                node: name.clone(),
                duty: Duty::Serving,
                is_silent: false,
                highest_fence: Fence(0),
                hosting: None,
            }
        };
        Node {
            report: Report {
                workers: (0..workers).map(sighting).collect(),
                node: NodeRow {
                    name: name.clone(),
                    address: Name::from(format!("{name}:8085")),
                    incarnation: "atelet-1".into(),
                    sequence: 0,
                    session: 0,
                    lapsed: 0,
                    version: 0,
                },
            },
        }
    }

    /// The next report.
    pub fn report(&mut self) -> Report {
        self.report.node.sequence += 1;
        self.report.clone()
    }

    /// The next report, of names that nothing else has.
    pub fn report_afresh(&mut self) -> Report {
        let mut report = self.report();
        let afresh = |name: &mut Name| *name = Name::from(name.as_str());
        afresh(&mut report.node.name);
        afresh(&mut report.node.address);
        afresh(&mut report.node.incarnation);
        for worker in &mut report.workers {
            for name in [
                &mut worker.key.namespace,
                &mut worker.key.pool,
                &mut worker.key.pod,
            ] {
                afresh(name);
            }
            for name in [
                &mut worker.pod_uid,
                &mut worker.incarnation,
                &mut worker.ip,
                &mut worker.node,
            ] {
                afresh(name);
            }
        }
        report
    }

    /// Notes what the worker of this pod hosts from now on, under this fence.
    pub fn hosts(&mut self, pod_uid: &Name, fence: Fence, hosting: Option<Hosting>) {
        let worker = self.report.workers.iter_mut().find(|w| w.pod_uid == *pod_uid);
        let worker = worker.expect("calls name workers of this node");
        worker.highest_fence = fence;
        worker.hosting = hosting;
    }
}

/// What the store holds.
#[derive(Default)]
pub struct Store {
    pub actors: HashMap<ActorKey, Actor>,
    pub workers: HashMap<WorkerKey, Worker>,
    leases: HashMap<ActorKey, LeaseToken>,
    graves: BTreeMap<(ActorKey, Version), Grave>,
}

impl Store {
    /// One operation, as the documentation of [`StoreOp`] has it. Nothing runs out, and nobody else writes,
    /// so a conflict is a defect, except between a workflow and the note that what was let go of is gone.
    pub fn perform(&mut self, op: StoreOp) -> StoreReply {
        match op {
            StoreOp::GetActor(key) => StoreReply::Actor(self.actor(&key)),
            StoreOp::PutActor {
                expect,
                actor,
                release,
            } => {
                if self.actors.get(&actor.key).map(Actor::edition) != expect {
                    return StoreReply::ActorConflict(self.actor(&actor.key));
                }
                if release.is_some() {
                    self.leases.remove(&actor.key);
                }
                self.actors.insert(actor.key.clone(), *actor);
                StoreReply::Done
            }
            StoreOp::DeleteActor { key, .. } => {
                self.actors.remove(&key);
                self.leases.remove(&key);
                StoreReply::Done
            }
            StoreOp::AcquireLease { key, token, .. } => {
                let actor = self.actor(&key);
                match self.leases.insert(key, token) {
                    None => StoreReply::Acquired(actor),
                    Some(holder) => panic!("{holder} holds it already"),
                }
            }
            StoreOp::ReleaseLease { key, .. } => {
                self.leases.remove(&key);
                StoreReply::Done
            }
            StoreOp::RenewLease { .. } | StoreOp::PutSession { .. } => StoreReply::Done,
            StoreOp::PutNode(row) => StoreReply::NodeAt(row.sequence),
            StoreOp::GetWorker(key) => StoreReply::Worker(self.workers.get(&key).cloned().map(Box::new)),
            StoreOp::PutWorker { expect, worker } => {
                assert_eq!(self.workers.get(&worker.key).map(Worker::edition), expect);
                self.workers.insert(worker.key.clone(), *worker);
                StoreReply::Done
            }
            StoreOp::ListWorkers => StoreReply::Workers(Vec::new()),
            StoreOp::ListNodes => StoreReply::Nodes(Vec::new()),
            StoreOp::GetAtespace(_) => StoreReply::Exists,
            StoreOp::PutGrave(grave) => {
                self.graves.insert((grave.actor.clone(), grave.version), *grave);
                StoreReply::Done
            }
            StoreOp::ListGraves { limit, .. } => StoreReply::Graves {
                graves: self.graves.values().take(limit as usize).cloned().collect(),
                next: None,
            },
            StoreOp::DropGrave { key, version, .. } => {
                self.graves.remove(&(key, version));
                StoreReply::Done
            }
            other => panic!("no mix needs {other:?}"),
        }
    }

    fn actor(&self, key: &ActorKey) -> Option<Box<Actor>> {
        self.actors.get(key).cloned().map(Box::new)
    }
}
