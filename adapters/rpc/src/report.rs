//! What a node says of itself and its workers, and what it is answered, as messages and back.
//!
//! A report comes from another machine: names in it become keys of records, so they are checked here.

use std::collections::BTreeSet;

use holdfast_core::effect::NodeRow;
use holdfast_core::id::{ActorKey, Fence, Incarnation, Name, ReplicaId, WorkerKey};
use holdfast_core::name::{check_atespace, is_dns_label, is_dns_subdomain};
use holdfast_core::registry::{Hosting, Report, Sighting};
use holdfast_core::session::{Answered, Eviction, Grant};
use holdfast_core::time::Duration;
use holdfast_core::worker::Duty;
use holdfast_runtime::net::Address;
use tonic::Status;

use crate::holdfast_v1::{self, HeartbeatRequest, HeartbeatResponse, HostedActor, PullReport, WorkerReport};

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
        session: report.node.session,
        lapsed: report.node.lapsed,
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
        reachable: !sighting.is_silent,
        hosted: sighting.hosting.as_ref().map(|hosting| HostedActor {
            atespace: hosting.actor.atespace.to_string(),
            actor_id: hosting.actor.name.to_string(),
            incarnation: hosting.incarnation.0,
            worker_fence: sighting.highest_fence.0,
            session: hosting.session,
            ..HostedActor::default()
        }),
        highest_fence: sighting.highest_fence.0,
    }
}

/// Whether a node knows this worker by the UID of its pod alone: nobody has told it what the worker is called.
pub fn is_unnamed(sighting: &Sighting) -> bool {
    let WorkerKey { namespace, pool, pod } = &sighting.key;
    [namespace, pool, pod].into_iter().all(Name::is_empty)
}

/// Reads a report. Workers that their node cannot talk to are there all the same: they may run. What they are
/// called may be missing, and where they are; whoever reads the report has to know it then.
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
        session: message.session,
        lapsed: message.lapsed,
        version: 0,
    };
    let mut workers = Vec::with_capacity(message.workers.len());
    let (mut keys, mut uids) = (BTreeSet::new(), BTreeSet::new());
    for worker in message.workers {
        let sighting = sighting(worker, &node.name)?;
        if !uids.insert(sighting.pod_uid.clone()) {
            return Err(invalid(
                "worker_pod_uid",
                sighting.pod_uid.as_str(),
                "it is given twice",
            ));
        }
        if !is_unnamed(&sighting) && !keys.insert(sighting.key.clone()) {
            return Err(invalid("worker", &sighting.key.to_string(), "it is given twice"));
        }
        workers.push(sighting);
    }
    Ok(Report { node, workers })
}

/// What a node that has reported is told, and by which replica.
pub fn answer_to_message(replica: ReplicaId, answer: &Answered) -> HeartbeatResponse {
    let message = HeartbeatResponse {
        replica: format!("{:016x}", replica.0),
        ..HeartbeatResponse::default()
    };
    match answer {
        Answered::Granted(grant) => HeartbeatResponse {
            session_ttl_ms: millis(grant.ttl),
            heartbeat_interval_ms: millis(grant.heartbeat_every),
            evictions: grant.evict.iter().map(eviction).collect(),
            ..message
        },
        Answered::Over { lapsed } => HeartbeatResponse {
            lapsed: Some(*lapsed),
            ..message
        },
    }
}

/// Reads what a replica answers. A negative time is none.
///
/// # Errors
/// `InvalidArgument` that names the field that is malformed.
pub fn answer_from_message(message: HeartbeatResponse) -> Result<Answered, Status> {
    if let Some(lapsed) = message.lapsed {
        return Ok(Answered::Over { lapsed });
    }
    let duration = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or_default());
    let eviction = |eviction: holdfast_v1::Eviction| {
        let fence = Fence::try_from(eviction.worker_fence)
            .map_err(|error| Status::invalid_argument(format!("worker_fence: {error}")))?;
        Ok(Eviction {
            pod_uid: eviction.worker_pod_uid.into(),
            fence,
        })
    };
    let evictions = message.evictions.into_iter().map(eviction);
    Ok(Answered::Granted(Grant {
        ttl: duration(message.session_ttl_ms),
        heartbeat_every: duration(message.heartbeat_interval_ms),
        evict: evictions.collect::<Result<_, Status>>()?,
    }))
}

fn eviction(eviction: &Eviction) -> holdfast_v1::Eviction {
    holdfast_v1::Eviction {
        worker_pod_uid: eviction.pod_uid.to_string(),
        worker_fence: eviction.fence.0,
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn sighting(worker: WorkerReport, node: &Name) -> Result<Sighting, Status> {
    let names = [
        ("worker_namespace", &worker.worker_namespace),
        ("worker_pool", &worker.worker_pool),
        ("worker_pod", &worker.worker_pod),
    ];
    let is_unnamed = names.iter().all(|(_, value)| value.is_empty());
    for (field, value) in names {
        if !is_unnamed && !is_dns_subdomain(value) {
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
    let is_unheard = !worker.reachable && worker.ateom_incarnation.is_empty();
    Ok(Sighting {
        key: WorkerKey::new(worker.worker_namespace, worker.worker_pool, worker.worker_pod),
        pod_uid: worker.worker_pod_uid.into(),
        incarnation: if is_unheard {
            Name::default()
        } else {
            text("ateom_incarnation", worker.ateom_incarnation)?
        },
        ip: match worker.ip.is_empty() && is_unnamed {
            true => Name::default(),
            false => text("ip", worker.ip)?,
        },
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
        is_silent: !worker.reachable,
    })
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
        session: hosted.session,
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
            is_silent: false,
            highest_fence: Fence::MAX,
            hosting,
        };
        let hosting = |atespace: &str| Hosting {
            actor: ActorKey::new(atespace, "a1"),
            incarnation: Incarnation(9),
            session: 4,
        };
        Report {
            node: NodeRow {
                name: "node-1".into(),
                address: "10.0.0.1:8085".into(),
                incarnation: "abc".into(),
                sequence: 3,
                session: 5,
                lapsed: 4,
                version: 0,
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
    fn what_is_answered_is_read_back() {
        let granted = Answered::Granted(Grant {
            ttl: Duration::from_secs(90),
            heartbeat_every: Duration::from_millis(30_001),
            evict: vec![Eviction {
                pod_uid: "uid-1".into(),
                fence: Fence(7),
            }],
        });
        for answer in [
            granted,
            Answered::Over { lapsed: 0 },
            Answered::Over { lapsed: 4 },
        ] {
            let message = answer_to_message(ReplicaId(1), &answer);
            assert_eq!(message.replica, "0000000000000001");
            assert_eq!(answer_from_message(message).unwrap(), answer);
        }
        let negative = HeartbeatResponse {
            session_ttl_ms: -1,
            ..HeartbeatResponse::default()
        };
        let Ok(Answered::Granted(grant)) = answer_from_message(negative) else {
            panic!("nothing is over")
        };
        assert_eq!(grant.ttl, Duration::ZERO);
        let odd = HeartbeatResponse {
            evictions: vec![holdfast_v1::Eviction {
                worker_pod_uid: "uid-1".into(),
                worker_fence: 1 << 63,
            }],
            ..HeartbeatResponse::default()
        };
        let error = answer_from_message(odd).unwrap_err();
        assert!(error.message().contains("worker_fence"), "{error:?}");
    }

    #[test]
    fn a_worker_that_its_node_cannot_talk_to_is_there_and_nobody_need_have_heard_it() {
        for incarnation in ["1f", ""] {
            let mut report = report();
            report.workers[1].is_silent = true;
            report.workers[1].incarnation = incarnation.into();
            let message = to_message(&report, Vec::new());
            assert!(!message.workers[1].reachable);
            assert_eq!(from_message(message).unwrap(), report);
        }
    }

    #[test]
    fn workers_that_nobody_has_named_are_told_apart_by_their_uids() {
        let mut report = report();
        for unnamed in &mut report.workers[..2] {
            unnamed.key = WorkerKey::new("", "", "");
            unnamed.ip = Name::default();
        }
        assert_eq!(from_message(to_message(&report, Vec::new())).unwrap(), report);
        assert_eq!(
            report.workers.iter().map(is_unnamed).collect::<Vec<_>>(),
            [true, true, false]
        );
        // Half a name is none.
        let mut message = to_message(&report, Vec::new());
        message.workers[0].worker_pod = "w1".into();
        let error = from_message(message).unwrap_err();
        assert!(error.message().contains("worker_namespace"), "{error:?}");
    }

    #[test]
    fn what_is_wrong_with_a_report_is_named() {
        type Spoil = fn(&mut HeartbeatRequest);
        let cases: [(&str, Spoil); 14] = [
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
            ("ateom_incarnation", |m| m.workers[0].ateom_incarnation.clear()),
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
