//! What a node says of itself and its workers, as a message and back.
//!
//! A report comes from another machine: names in it become keys of records, so they are checked here.

use std::collections::BTreeSet;

use holdfast_core::effect::NodeRow;
use holdfast_core::id::{ActorKey, Fence, Incarnation, Name, WorkerKey};
use holdfast_core::name::{check_atespace, is_dns_label, is_dns_subdomain};
use holdfast_core::registry::{Hosting, Report, Sighting};
use holdfast_core::worker::Duty;
use holdfast_runtime::net::Address;
use tonic::Status;

use crate::holdfast_v1::{HeartbeatRequest, HostedActor, PullReport, WorkerReport};

/// No machine has room for more workers.
const WORKERS_MAX: usize = 4096;
/// The longest incarnation or address, in bytes.
const TEXT_MAX: usize = 255;

/// A report as it is sent, with the image pulls that are under way.
pub fn to_message(report: &Report, pulls: Vec<PullReport>) -> HeartbeatRequest {
    HeartbeatRequest {
        node_name: report.node.name.to_string(),
        node_incarnation: report.node.incarnation.to_string(),
        address: report.node.address.to_string(),
        sequence: report.node.sequence,
        complete: true,
        workers: report.workers.iter().map(worker).collect(),
        local_snapshots: Vec::new(),
        pulls,
    }
}

/// A worker as it is reported.
pub fn worker(sighting: &Sighting) -> WorkerReport {
    WorkerReport {
        worker_namespace: sighting.key.namespace.to_string(),
        worker_pool: sighting.key.pool.to_string(),
        worker_pod: sighting.key.pod.to_string(),
        worker_pod_uid: sighting.pod_uid.to_string(),
        ip: sighting.ip.to_string(),
        ateom_incarnation: sighting.incarnation.to_string(),
        draining: sighting.duty == Duty::Draining,
        reachable: true,
        hosted: sighting.hosting.as_ref().map(|hosting| HostedActor {
            atespace: hosting.actor.atespace.to_string(),
            actor_id: hosting.actor.name.to_string(),
            incarnation: hosting.incarnation.0,
            worker_fence: sighting.highest_fence.0,
            ..HostedActor::default()
        }),
        highest_fence: sighting.highest_fence.0,
    }
}

/// Reads a report. Workers that their node cannot talk to are left out: they are not there.
///
/// # Errors
/// `InvalidArgument` that names the field that is missing, malformed or given twice.
pub fn from_message(message: HeartbeatRequest) -> Result<Report, Status> {
    if !message.complete {
        return Err(invalid(
            "complete",
            "false",
            "a report must name every worker of its node",
        ));
    }
    if message.workers.len() > WORKERS_MAX {
        let count = message.workers.len().to_string();
        return Err(invalid("workers", &count, "a node has at most 4096"));
    }
    if !is_dns_subdomain(&message.node_name) {
        return Err(invalid("node_name", &message.node_name, "want a DNS subdomain"));
    }
    if let Err(error) = message.address.parse::<Address>() {
        return Err(Status::invalid_argument(format!(
            "invalid report: address: {error}"
        )));
    }
    let node = NodeRow {
        name: message.node_name.into(),
        address: message.address.into(),
        incarnation: text("node_incarnation", message.node_incarnation)?,
        sequence: message.sequence,
    };
    let mut workers = Vec::with_capacity(message.workers.len());
    let (mut keys, mut uids) = (BTreeSet::new(), BTreeSet::new());
    for worker in message.workers {
        let Some(sighting) = sighting(worker, &node.name)? else {
            continue;
        };
        if !uids.insert(sighting.pod_uid.clone()) {
            return Err(invalid(
                "worker_pod_uid",
                sighting.pod_uid.as_str(),
                "it is given twice",
            ));
        }
        if !keys.insert(sighting.key.clone()) {
            return Err(invalid("worker", &sighting.key.to_string(), "it is given twice"));
        }
        workers.push(sighting);
    }
    Ok(Report { node, workers })
}

fn sighting(worker: WorkerReport, node: &Name) -> Result<Option<Sighting>, Status> {
    for (field, value) in [
        ("worker_namespace", &worker.worker_namespace),
        ("worker_pool", &worker.worker_pool),
        ("worker_pod", &worker.worker_pod),
    ] {
        if !is_dns_subdomain(value) {
            return Err(invalid(field, value, "want a DNS subdomain"));
        }
    }
    if !is_dns_label(&worker.worker_pod_uid) {
        return Err(invalid(
            "worker_pod_uid",
            &worker.worker_pod_uid,
            "want a DNS label",
        ));
    }
    if !worker.reachable {
        return Ok(None);
    }
    Ok(Some(Sighting {
        key: WorkerKey::new(worker.worker_namespace, worker.worker_pool, worker.worker_pod),
        pod_uid: worker.worker_pod_uid.into(),
        incarnation: text("ateom_incarnation", worker.ateom_incarnation)?,
        ip: text("ip", worker.ip)?,
        node: node.clone(),
        duty: if worker.draining {
            Duty::Draining
        } else {
            Duty::Serving
        },
        highest_fence: Fence::try_from(worker.highest_fence).map_err(|error| {
            invalid(
                "highest_fence",
                &worker.highest_fence.to_string(),
                &error.to_string(),
            )
        })?,
        hosting: worker.hosted.map(hosting).transpose()?,
    }))
}

/// The atespace is empty when the node does not remember it: the worker is not free all the same.
fn hosting(hosted: HostedActor) -> Result<Hosting, Status> {
    if !is_dns_label(&hosted.actor_id) {
        return Err(invalid("actor_id", &hosted.actor_id, "want a DNS label"));
    }
    if !hosted.atespace.is_empty() {
        check_atespace(&hosted.atespace)
            .map_err(|failure| invalid("atespace", &hosted.atespace, &failure.message))?;
    }
    Ok(Hosting {
        actor: ActorKey::new(hosted.atespace, hosted.actor_id),
        incarnation: Incarnation(hosted.incarnation),
    })
}

fn text(field: &str, value: String) -> Result<Name, Status> {
    let is_printable = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic());
    if is_printable && value.len() <= TEXT_MAX {
        Ok(value.into())
    } else {
        Err(invalid(field, &value, "want 1 to 255 printable characters"))
    }
}

fn invalid(field: &str, value: &str, why: &str) -> Status {
    Status::invalid_argument(format!("invalid report: {field} {value:?}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let sighting = |pod: &str, hosting| Sighting {
            key: WorkerKey::new("ns", "pool", pod),
            pod_uid: format!("uid-{pod}").into(),
            incarnation: "1f".into(),
            ip: "10.0.0.7".into(),
            node: "node-1".into(),
            duty: Duty::Draining,
            highest_fence: Fence::MAX,
            hosting,
        };
        let hosting = |atespace: &str| Hosting {
            actor: ActorKey::new(atespace, "a1"),
            incarnation: Incarnation(9),
        };
        Report {
            node: NodeRow {
                name: "node-1".into(),
                address: "10.0.0.1:8085".into(),
                incarnation: "abc".into(),
                sequence: 3,
            },
            workers: vec![
                sighting("w1", None),
                sighting("w2", Some(hosting("team-a"))),
                sighting("w3", Some(hosting(""))),
            ],
        }
    }

    #[test]
    fn what_is_reported_is_read_back() {
        assert_eq!(from_message(to_message(&report(), Vec::new())).unwrap(), report());
    }

    #[test]
    fn a_worker_that_its_node_cannot_talk_to_is_not_there() {
        let mut message = to_message(&report(), Vec::new());
        message.workers[0].reachable = false;
        assert_eq!(from_message(message).unwrap().workers.len(), 2);
    }

    #[test]
    fn what_is_wrong_with_a_report_is_named() {
        type Spoil = fn(&mut HeartbeatRequest);
        let cases: [(&str, Spoil); 13] = [
            ("complete", |m| m.complete = false),
            ("node_name", |m| m.node_name = "a/b".into()),
            ("address", |m| m.address = "nowhere".into()),
            ("node_incarnation", |m| m.node_incarnation.clear()),
            ("worker_namespace", |m| {
                m.workers[0].worker_namespace = "a:b".into()
            }),
            ("worker_pod_uid", |m| m.workers[0].worker_pod_uid = "..".into()),
            ("worker_pod_uid", |m| m.workers[1] = m.workers[0].clone()),
            ("given twice", |m| m.workers[1].worker_pod = "w1".into()),
            ("ateom_incarnation", |m| {
                m.workers[0].ateom_incarnation = "a b".into()
            }),
            ("ip", |m| m.workers[0].ip = "x".repeat(256)),
            ("highest_fence", |m| m.workers[0].highest_fence = 1 << 63),
            ("actor_id", |m| {
                m.workers[1].hosted.as_mut().unwrap().actor_id = "A".into()
            }),
            ("workers", |m| {
                m.workers = vec![WorkerReport::default(); WORKERS_MAX + 1]
            }),
        ];
        for (part, spoil) in cases {
            let mut message = to_message(&report(), Vec::new());
            spoil(&mut message);
            let error = from_message(message).expect_err(part);
            assert_eq!(error.code(), tonic::Code::InvalidArgument, "{part}");
            assert!(error.message().contains(part), "{part}: {error:?}");
        }
    }
}
