//! Lists in the JSON form of their protobuf messages: names in lowerCamelCase, 64-bit numbers as strings,
//! enums by name (or by number, if the name is not known), and nothing that has its default value. Keys are
//! in alphabetical order, as kubectl-ate prints them.

use std::collections::BTreeMap;

use holdfast_rpc::ateapi::{self, Actor, Atespace, Worker};
use holdfast_rpc::holdfast_v1::ExplainActorResponse;
use serde::Serialize;

/// A value in JSON or YAML.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Json {
    Text(String),
    Number(i32),
    List(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

/// `ateapi.ListActorsResponse`, with all its pages in one.
pub fn actors(actors: &[Actor]) -> Json {
    Message::default().list("actors", actors.iter().map(actor)).into()
}

/// `holdfast.v1.ExplainActorResponse`.
pub fn explained(explained: &ExplainActorResponse) -> Json {
    Message::default()
        .message("actor", explained.actor.as_ref().map(actor))
        .text("operationId", &explained.operation_id)
        .text("claimedBy", &explained.claimed_by)
        .int64("fence", i64::try_from(explained.fence).unwrap_or(i64::MAX))
        .text("nodeName", &explained.node_name)
        .text("crashedDuring", &explained.crashed_during)
        .text("crashCause", &explained.crash_cause)
        .text("loss", &explained.loss)
        .text("lastGoodSnapshot", &explained.last_good_snapshot)
        .into()
}

/// `ateapi.ListWorkersResponse`.
pub fn workers(workers: &[Worker]) -> Json {
    Message::default()
        .list("workers", workers.iter().map(worker))
        .into()
}

/// `ateapi.ListAtespacesResponse`.
pub fn atespaces(atespaces: &[Atespace]) -> Json {
    let atespace = |atespace: &Atespace| Message::default().text("name", &atespace.name).into();
    Message::default()
        .list("atespaces", atespaces.iter().map(atespace))
        .into()
}

fn actor(actor: &Actor) -> Json {
    let status = ateapi::actor::Status::try_from(actor.status).map(|status| status.as_str_name());
    Message::default()
        .text("actorId", &actor.actor_id)
        .int64("version", actor.version)
        .text("actorTemplateNamespace", &actor.actor_template_namespace)
        .text("actorTemplateName", &actor.actor_template_name)
        .word("status", actor.status, status.ok())
        .text("ateomPodNamespace", &actor.ateom_pod_namespace)
        .text("ateomPodName", &actor.ateom_pod_name)
        .text("ateomPodIp", &actor.ateom_pod_ip)
        .text("inProgressSnapshot", &actor.in_progress_snapshot)
        .text("ateomPodUid", &actor.ateom_pod_uid)
        .message(
            "latestSnapshotInfo",
            actor.latest_snapshot_info.as_ref().map(snapshot),
        )
        .message("workerSelector", actor.worker_selector.as_ref().map(selector))
        .text("workerPoolName", &actor.worker_pool_name)
        .text("atespace", &actor.atespace)
        .into()
}

fn snapshot(snapshot: &ateapi::SnapshotInfo) -> Json {
    use ateapi::snapshot_info::Data;
    let kind = ateapi::SnapshotType::try_from(snapshot.r#type).map(|kind| kind.as_str_name());
    let message = Message::default().word("type", snapshot.r#type, kind.ok());
    match &snapshot.data {
        None => message,
        Some(Data::External(external)) => {
            let data = Message::default().text("snapshotUriPrefix", &external.snapshot_uri_prefix);
            message.message("external", Some(data.into()))
        }
        Some(Data::Local(local)) => {
            let nodes = local
                .node_vms_with_local_snapshots
                .iter()
                .map(|node| Json::Text(node.clone()));
            let data = Message::default()
                .text("snapshotPrefix", &local.snapshot_prefix)
                .list("nodeVmsWithLocalSnapshots", nodes);
            message.message("local", Some(data.into()))
        }
    }
    .into()
}

fn selector(selector: &ateapi::Selector) -> Json {
    let labels = selector
        .match_labels
        .iter()
        .map(|(key, value)| (key.clone(), Json::Text(value.clone())));
    let labels: BTreeMap<_, _> = labels.collect();
    Message::default()
        .message(
            "matchLabels",
            (!labels.is_empty()).then_some(Json::Object(labels)),
        )
        .into()
}

fn worker(worker: &Worker) -> Json {
    Message::default()
        .text("workerNamespace", &worker.worker_namespace)
        .text("workerPool", &worker.worker_pool)
        .text("workerPod", &worker.worker_pod)
        .text("actorNamespace", &worker.actor_namespace)
        .text("actorTemplate", &worker.actor_template)
        .text("actorId", &worker.actor_id)
        .text("ip", &worker.ip)
        .int64("version", worker.version)
        .text("workerPodUid", &worker.worker_pod_uid)
        .text("nodeName", &worker.node_name)
        .text("actorAtespace", &worker.actor_atespace)
        .into()
}

/// A message, field by field. Fields that have their default value are left out.
#[derive(Default)]
struct Message(BTreeMap<String, Json>);

impl Message {
    fn text(self, name: &str, value: &str) -> Message {
        self.message(name, (!value.is_empty()).then(|| Json::Text(value.to_owned())))
    }

    fn int64(self, name: &str, value: i64) -> Message {
        self.message(name, (value != 0).then(|| Json::Text(value.to_string())))
    }

    fn word(self, name: &str, value: i32, word: Option<&str>) -> Message {
        let known = word.map_or(Json::Number(value), |word| Json::Text(word.to_owned()));
        self.message(name, (value != 0).then_some(known))
    }

    fn list(self, name: &str, values: impl Iterator<Item = Json>) -> Message {
        let values: Vec<_> = values.collect();
        self.message(name, (!values.is_empty()).then_some(Json::List(values)))
    }

    /// A field that knows whether it is there, whatever is in it.
    fn message(mut self, name: &str, value: Option<Json>) -> Message {
        self.0.extend(value.map(|value| (name.to_owned(), value)));
        self
    }
}

impl From<Message> for Json {
    fn from(message: Message) -> Json {
        Json::Object(message.0)
    }
}
