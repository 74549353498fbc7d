//! Pods as far as they matter here: workers and atelets.

use holdfast_core::id::{Name, NodeName, PodUid, WorkerKey};
use kube::api::{ApiResource, Object};
use serde::Deserialize;

/// The label that makes a pod a worker; its value is the pool.
pub const WORKER_POOL_LABEL: &str = "ate.dev/worker-pool";
/// Where atelets are, and how they are told from other pods there.
pub const ATELET_NAMESPACE: &str = "ate-system";
/// How atelets are told from other pods there.
pub const ATELET_SELECTOR: &str = "app in (atelet)";
/// The container of a worker pod in which ateom is.
const ATEOM: &str = "ateom";

/// A pod as it is served, without what nobody asks for here: there may be ten thousand of them.
pub type ServedPod = Object<Spec, Status>;

/// What is read of a pod's spec.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    node_name: Option<String>,
}

/// What is read of a pod's status.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    conditions: Option<Vec<Condition>>,
    container_statuses: Option<Vec<ContainerStatus>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    r#type: String,
    status: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerStatus {
    name: String,
    restart_count: u64,
    state: ContainerState,
    last_state: ContainerState,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerState {
    running: Option<serde::de::IgnoredAny>,
    terminated: Option<serde::de::IgnoredAny>,
}

/// The kind of object that [`ServedPod`] is read from.
pub fn resource() -> ApiResource {
    ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&())
}

/// A worker pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerPod {
    /// Namespace, pool and name.
    pub key: WorkerKey,
    /// Which pod has this name.
    pub uid: PodUid,
    /// The node it is on, or was.
    pub node: NodeName,
    /// Its address; empty where it has none (any more).
    pub ip: Name,
    /// Whether it has been told to go.
    pub is_leaving: bool,
    /// Whether its ateom can be talked to, as far as its kubelet knows.
    pub is_ready: bool,
    /// How many runs of ateom have ended in it.
    pub runs_ended: u64,
}

/// An atelet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AteletPod {
    /// Its name, in [`ATELET_NAMESPACE`].
    pub name: Name,
    /// The node that it serves.
    pub node: NodeName,
    /// Its address; empty while it has none.
    pub address: Name,
    /// Whether it has been told to go.
    pub is_leaving: bool,
}

/// What a served pod is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read<T> {
    /// It is there.
    There(T),
    /// It has a name and nothing runs in it, nor ever will again.
    Ended,
    /// It has not come as far as a node.
    Waiting,
}

/// Reads a worker pod.
pub fn worker(pod: &ServedPod) -> Read<WorkerPod> {
    let status = pod.status.clone().unwrap_or_default();
    if has_ended(&status) {
        return Read::Ended;
    }
    let labels = pod.metadata.labels.as_ref();
    let pool = labels.and_then(|labels| labels.get(WORKER_POOL_LABEL));
    let (Some(node), Some(pool)) = (&pod.spec.node_name, pool) else {
        return Read::Waiting;
    };
    let containers = status.container_statuses.unwrap_or_default();
    let ateom = containers.iter().find(|container| container.name == ATEOM);
    let ateom = ateom.or(containers.first()).cloned().unwrap_or_default();
    let is_running = ateom.state.running.is_some();
    // Between two runs it waits, and the one before is told of as its last state.
    let has_died = ateom.state.terminated.is_some() || !is_running && ateom.last_state.terminated.is_some();
    let conditions = status.conditions.unwrap_or_default();
    let is_unready = |condition: &Condition| condition.r#type == "Ready" && condition.status != "True";
    Read::There(WorkerPod {
        key: WorkerKey::new(
            text(&pod.metadata.namespace),
            pool.as_str(),
            text(&pod.metadata.name),
        ),
        uid: text(&pod.metadata.uid),
        node: node.as_str().into(),
        ip: text(&status.pod_ip),
        is_leaving: pod.metadata.deletion_timestamp.is_some(),
        is_ready: is_running && !conditions.iter().any(is_unready),
        runs_ended: ateom.restart_count + u64::from(has_died),
    })
}

/// Reads an atelet, which listens at this port.
pub fn atelet(pod: &ServedPod, port: u16) -> Read<AteletPod> {
    let status = pod.status.clone().unwrap_or_default();
    if has_ended(&status) {
        return Read::Ended;
    }
    let Some(node) = &pod.spec.node_name else {
        return Read::Waiting;
    };
    let address = match status.pod_ip.as_deref().unwrap_or_default() {
        "" => String::new(),
        ip if ip.contains(':') => format!("[{ip}]:{port}"),
        ip => format!("{ip}:{port}"),
    };
    Read::There(AteletPod {
        name: text(&pod.metadata.name),
        node: node.as_str().into(),
        address: address.into(),
        is_leaving: pod.metadata.deletion_timestamp.is_some(),
    })
}

fn has_ended(status: &Status) -> bool {
    matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"))
}

fn text(field: &Option<String>) -> Name {
    field.as_deref().unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(container: Value) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": "team", "name": "w-1", "uid": "u1", "labels": {"ate.dev/worker-pool": "pool"}},
            "spec": {"nodeName": "n1", "containers": [{"name": "ateom"}]},
            "status": {
                "phase": "Running", "podIP": "10.0.0.7",
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{"name": "sidecar", "restartCount": 9, "state": {}}, container],
            },
        })
    }

    fn read(pod: Value) -> Read<WorkerPod> {
        worker(&serde_json::from_value(pod).unwrap())
    }

    #[track_caller]
    fn there(pod: Value) -> WorkerPod {
        match read(pod) {
            Read::There(worker) => worker,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_running_worker_is_read() {
        let container = json!({"name": "ateom", "restartCount": 0, "state": {"running": {"startedAt": "x"}}, "lastState": {}});
        let expected = WorkerPod {
            key: WorkerKey::new("team", "pool", "w-1"),
            uid: "u1".into(),
            node: "n1".into(),
            ip: "10.0.0.7".into(),
            is_leaving: false,
            is_ready: true,
            runs_ended: 0,
        };
        assert_eq!(there(pod(container)), expected);
    }

    #[test]
    fn each_end_of_a_run_of_ateom_counts_once() {
        let dead = json!({"terminated": {"exitCode": 1}});
        let cases = [
            (json!({"restartCount": 0, "state": {"waiting": {}}}), false, 0),
            (json!({"restartCount": 0, "state": dead}), false, 1),
            (
                json!({"restartCount": 0, "state": {"waiting": {}}, "lastState": dead}),
                false,
                1,
            ),
            (
                json!({"restartCount": 1, "state": {"running": {}}, "lastState": dead}),
                true,
                1,
            ),
            (
                json!({"restartCount": 1, "state": {"waiting": {}}, "lastState": dead}),
                false,
                2,
            ),
            (
                json!({"restartCount": 2, "state": {"running": {}}, "lastState": dead}),
                true,
                2,
            ),
        ];
        for (mut container, is_ready, runs_ended) in cases {
            container["name"] = json!("ateom");
            let worker = there(pod(container.clone()));
            assert_eq!(
                (worker.is_ready, worker.runs_ended),
                (is_ready, runs_ended),
                "{container}"
            );
        }
    }

    #[test]
    fn a_worker_on_a_node_that_does_not_answer_is_not_ready() {
        let mut pod = pod(json!({"name": "ateom", "state": {"running": {}}}));
        pod["status"]["conditions"][0]["status"] = json!("False");
        assert!(!there(pod).is_ready);
    }

    #[test]
    fn a_pod_that_goes_may_have_lost_its_address() {
        let mut pod = pod(json!({"name": "ateom", "state": {"running": {}}}));
        pod["metadata"]["deletionTimestamp"] = json!("2026-07-01T00:00:00Z");
        pod["status"].as_object_mut().unwrap().remove("podIP");
        let worker = there(pod);
        assert!(worker.is_leaving && worker.ip.is_empty());
    }

    #[test]
    fn evicted_pods_have_ended_and_unscheduled_ones_wait() {
        let mut evicted = pod(json!({"name": "ateom", "state": {}}));
        evicted["status"]["phase"] = json!("Failed");
        assert_eq!(read(evicted), Read::Ended);
        let mut pending = pod(json!({"name": "ateom", "state": {}}));
        pending["spec"] = json!({});
        assert_eq!(read(pending), Read::Waiting);
        assert_eq!(
            read(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": {}})),
            Read::Waiting
        );
    }

    #[test]
    fn an_atelet_listens_at_its_port_in_either_family() {
        for (ip, address) in [
            ("10.0.0.1", "10.0.0.1:8085"),
            ("fd00::1", "[fd00::1]:8085"),
            ("", ""),
        ] {
            let pod = json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "atelet-x", "namespace": "ate-system"},
                "spec": {"nodeName": "n1"}, "status": {"podIP": ip},
            });
            let Read::There(atelet) = atelet(&serde_json::from_value(pod).unwrap(), 8085) else {
                panic!("it is there")
            };
            assert_eq!((atelet.address.as_str(), atelet.node.as_str()), (address, "n1"));
        }
    }
}
