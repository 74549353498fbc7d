//! The records of a worker, a node and an atespace.

use holdfast_core::effect::NodeRow;
use holdfast_core::id::{ActorKey, Fence, Incarnation, Version, WorkerKey};
use holdfast_core::worker::{Duty, Hosted, Worker};
use serde::{Deserialize, Serialize};

use super::scalar::{Count, Int, Text};
use super::{RecordFault, VERSION, Versioned, missing};

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct WorkerJson {
    #[serde(skip_serializing_if = "is_none_yet")]
    version: Count<Version>,
    #[serde(alias = "worker_namespace", skip_serializing_if = "Text::is_empty")]
    worker_namespace: Text,
    #[serde(alias = "worker_pool", skip_serializing_if = "Text::is_empty")]
    worker_pool: Text,
    #[serde(alias = "worker_pod", skip_serializing_if = "Text::is_empty")]
    worker_pod: Text,
    #[serde(alias = "actor_namespace", skip_serializing_if = "Text::is_empty")]
    actor_namespace: Text,
    #[serde(alias = "actor_template", skip_serializing_if = "Text::is_empty")]
    actor_template: Text,
    #[serde(alias = "actor_id", skip_serializing_if = "Text::is_empty")]
    actor_id: Text,
    #[serde(skip_serializing_if = "Text::is_empty")]
    ip: Text,
    #[serde(alias = "worker_pod_uid", skip_serializing_if = "Text::is_empty")]
    worker_pod_uid: Text,
    #[serde(alias = "node_name", skip_serializing_if = "Text::is_empty")]
    node_name: Text,
    #[serde(alias = "actor_atespace", skip_serializing_if = "Text::is_empty")]
    actor_atespace: Text,
    #[serde(skip_serializing_if = "Option::is_none")]
    holdfast: Option<Extra>,
}

/// What the original has no field for.
#[derive(Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Extra {
    v: u64,
    #[serde(skip_serializing_if = "Text::is_empty")]
    incarnation: Text,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    draining: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    hosts: Option<HostsJson>,
}

/// What a promise says beyond the original's fields.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HostsJson {
    incarnation: Int,
    fence: Count<Fence>,
    #[serde(default, skip_serializing_if = "Int::is_zero")]
    session: Int,
}

impl Versioned for WorkerJson {
    fn format(&self) -> Option<u64> {
        self.holdfast.as_ref().map(|extra| extra.v)
    }
}

impl From<&Worker> for WorkerJson {
    fn from(worker: &Worker) -> WorkerJson {
        let mut record = WorkerJson {
            version: Count(worker.version),
            ip: (&worker.ip).into(),
            worker_pod_uid: (&worker.pod_uid).into(),
            node_name: (&worker.node).into(),
            ..WorkerJson::naming(&worker.key)
        };
        let mut extra = Extra {
            v: VERSION,
            incarnation: (&worker.incarnation).into(),
            draining: worker.duty == Duty::Draining,
            hosts: None,
        };
        if let Some(hosted) = &worker.hosts {
            record.actor_atespace = (&hosted.actor.atespace).into();
            record.actor_id = (&hosted.actor.name).into();
            record.actor_namespace = (&hosted.template_namespace).into();
            record.actor_template = (&hosted.template_name).into();
            extra.hosts = Some(HostsJson {
                incarnation: Int(hosted.incarnation.0),
                fence: Count(hosted.fence),
                session: Int(hosted.session),
            });
        }
        record.holdfast = Some(extra);
        record
    }
}

impl WorkerJson {
    /// A record that says nothing but whose it is.
    pub(super) fn naming(key: &WorkerKey) -> WorkerJson {
        WorkerJson {
            worker_namespace: (&key.namespace).into(),
            worker_pool: (&key.pool).into(),
            worker_pod: (&key.pod).into(),
            ..WorkerJson::default()
        }
    }

    /// Whose record it is, if it says so completely.
    pub(super) fn key(&self) -> Option<WorkerKey> {
        let part = |text: &Text| text.clone().some();
        Some(WorkerKey {
            namespace: part(&self.worker_namespace)?,
            pool: part(&self.worker_pool)?,
            pod: part(&self.worker_pod)?,
        })
    }

    pub(super) fn into_worker(mut self) -> Result<Worker, RecordFault> {
        let key = self
            .key()
            .ok_or_else(|| missing("workerNamespace, workerPool or workerPod"))?;
        let (extra, life) = match self.holdfast.take() {
            Some(mut extra) => {
                let life = extra.hosts.take();
                (extra, life)
            }
            None => {
                let promised = !self.actor_id.is_empty();
                let life = promised.then_some(HostsJson {
                    incarnation: Int(0),
                    fence: Count(Fence(0)),
                    session: Int(0),
                });
                (Extra::default(), life)
            }
        };
        let hosts = life.map(|life| Hosted {
            actor: ActorKey {
                atespace: self.actor_atespace.0,
                name: self.actor_id.0,
            },
            incarnation: Incarnation(life.incarnation.0),
            template_namespace: self.actor_namespace.0,
            template_name: self.actor_template.0,
            fence: life.fence.0,
            session: life.session.0,
        });
        Ok(Worker {
            key,
            version: self.version.0,
            pod_uid: self.worker_pod_uid.0,
            incarnation: extra.incarnation.0,
            ip: self.ip.0,
            node: self.node_name.0,
            duty: if extra.draining {
                Duty::Draining
            } else {
                Duty::Serving
            },
            hosts,
        })
    }
}

fn is_none_yet(version: &Count<Version>) -> bool {
    version.0 == Version(0)
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeJson {
    name: Text,
    address: Text,
    incarnation: Text,
    sequence: Int,
    #[serde(default, skip_serializing_if = "Int::is_zero")]
    session: Int,
    #[serde(default, skip_serializing_if = "Int::is_zero")]
    lapsed: Int,
    #[serde(default, skip_serializing_if = "Int::is_zero")]
    version: Int,
    holdfast: NodeExtra,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeExtra {
    v: u64,
}

impl Versioned for NodeJson {
    fn format(&self) -> Option<u64> {
        Some(self.holdfast.v)
    }
}

impl From<&NodeRow> for NodeJson {
    fn from(row: &NodeRow) -> NodeJson {
        NodeJson {
            name: (&row.name).into(),
            address: (&row.address).into(),
            incarnation: (&row.incarnation).into(),
            sequence: Int(row.sequence),
            session: Int(row.session),
            lapsed: Int(row.lapsed),
            version: Int(row.version),
            holdfast: NodeExtra { v: VERSION },
        }
    }
}

impl From<NodeJson> for NodeRow {
    fn from(json: NodeJson) -> NodeRow {
        NodeRow {
            name: json.name.0,
            address: json.address.0,
            incarnation: json.incarnation.0,
            sequence: json.sequence.0,
            session: json.session.0,
            lapsed: json.lapsed.0,
            version: json.version.0,
        }
    }
}

#[derive(Serialize)]
pub(super) struct AtespaceJson {
    pub(super) name: Text,
}
