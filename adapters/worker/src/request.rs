//! Requests, checked: nothing that came over the socket becomes a path or an argument before this.

use std::collections::BTreeSet;
use std::path::PathBuf;

use holdfast_core::time::Instant;
use holdfast_rpc::ateom::{self, SnapshotScope, WorkloadSpec};
use holdfast_rpc::holdfast_v1;
use holdfast_rpc::metadata::Credentials;
use holdfast_sandbox::bundle::check_mount_path;
use holdfast_sandbox::names::{ActorRef, Label, NameError};
use holdfast_sandbox::readyz::HttpGet;
use holdfast_sandbox::{Container, Scope};
use tonic::Status;
use tonic::metadata::MetadataMap;

/// A request about one actor; they all name it in the same three fields. Its atespace is in the metadata.
pub(crate) trait NamesActor {
    fn actor(&self) -> Result<ActorRef, NameError>;
}

macro_rules! names_actor {
    ($($request:ty),* $(,)?) => {
        $(impl NamesActor for $request {
            fn actor(&self) -> Result<ActorRef, NameError> {
                ActorRef::parse(&self.actor_template_namespace, &self.actor_template_name, &self.actor_id)
            }
        })*
    };
}

names_actor!(
    ateom::RunWorkloadRequest,
    ateom::CheckpointWorkloadRequest,
    ateom::RestoreWorkloadRequest,
    holdfast_v1::StopWorkloadRequest,
    holdfast_v1::ExtendWorkloadRequest,
    holdfast_v1::FreezeWorkloadRequest,
    holdfast_v1::ThawWorkloadRequest,
);

/// What is to be done, to whom, and by whose order. Equal ones are the same operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    /// Absent from callers that have no operation ids.
    pub id: Option<String>,
    pub actor: ActorRef,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Run,
    Restore(Scope),
    Checkpoint(Scope),
    Stop,
    Extend(Instant),
    Freeze,
    Thaw(Option<Instant>),
}

/// What an activation needs besides its operation.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub runsc: Option<PathBuf>,
    pub containers: Vec<Container>,
    /// Until when the actor may run, if anything bounds it.
    pub until: Option<Instant>,
}

impl Operation {
    /// Reads the operation from the parts every request has.
    pub(crate) fn read(
        metadata: &MetadataMap,
        request: &impl NamesActor,
        kind: Kind,
    ) -> Result<Self, Status> {
        let actor = request.actor().map_err(invalid)?;
        let credentials = Credentials::read(metadata)?;
        let atespace = credentials.atespace.as_ref().map(|name| name.as_str());
        let actor = actor.within(atespace).map_err(invalid)?;
        let id = credentials.operation.map(|id| id.to_string());
        Ok(Self { id, actor, kind })
    }
}

impl Workload {
    pub(crate) fn read(
        metadata: &MetadataMap,
        runsc_path: &str,
        spec: Option<&WorkloadSpec>,
    ) -> Result<Self, Status> {
        let runsc = match runsc_path {
            "" => None,
            path if path.starts_with('/') => Some(PathBuf::from(path)),
            path => return Err(invalid(format!("runsc_path {path:?} must be absolute"))),
        };
        let containers = containers(spec)?;
        if containers.is_empty() {
            return Err(invalid("spec names no container"));
        }
        let until = Credentials::read(metadata)?.until;
        Ok(Self {
            runsc,
            containers,
            until,
        })
    }
}

/// The scope of a snapshot, which must be said.
pub(crate) fn scope(value: i32) -> Result<Scope, Status> {
    match SnapshotScope::try_from(value) {
        Ok(SnapshotScope::Full) => Ok(Scope::Full),
        Ok(SnapshotScope::Data) => Ok(Scope::Data),
        _ => Err(invalid(format!("unsupported snapshot scope: {value}"))),
    }
}

fn containers(spec: Option<&WorkloadSpec>) -> Result<Vec<Container>, Status> {
    let mut seen = BTreeSet::new();
    let listed = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
    listed
        .iter()
        .map(|listed| {
            let container = container(listed)?;
            if !seen.insert(container.name.clone()) {
                return Err(invalid(format!(
                    "duplicate container name \"{}\"",
                    container.name
                )));
            }
            Ok(container)
        })
        .collect()
}

fn container(listed: &ateom::Container) -> Result<Container, Status> {
    let name = Label::container(&listed.name).map_err(invalid)?;
    for path in &listed.durable_dir_volumes {
        check_mount_path(name.as_str(), path).map_err(invalid)?;
    }
    let readyz = match &listed.readyz {
        None => None,
        Some(readyz) => {
            let get = readyz.http_get.as_ref().ok_or_else(|| {
                invalid(format!(
                    "invalid readyz config for \"{name}\": httpGet is missing"
                ))
            })?;
            Some(HttpGet::parse(name.as_str(), &get.path, get.port).map_err(invalid)?)
        }
    };
    Ok(Container {
        name,
        readyz,
        durable_mounts: listed.durable_dir_volumes.clone(),
    })
}

fn invalid(fault: impl ToString) -> Status {
    Status::invalid_argument(fault.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_rpc::ateom::{HttpGetAction, Readyz};

    fn spec(containers: Vec<ateom::Container>) -> WorkloadSpec {
        WorkloadSpec { containers }
    }

    fn named(name: &str) -> ateom::Container {
        ateom::Container {
            name: name.into(),
            ..Default::default()
        }
    }

    #[test]
    fn what_could_leave_its_directory_or_makes_no_sense_is_an_invalid_argument() {
        let none = MetadataMap::new();
        for (namespace, template, actor) in [
            ("..", "t", "a"),
            ("ns", "../t", "a"),
            ("ns", "t", ""),
            ("ns", "t", "a/b"),
        ] {
            let request = holdfast_v1::StopWorkloadRequest {
                actor_template_namespace: namespace.into(),
                actor_template_name: template.into(),
                actor_id: actor.into(),
            };
            let error = Operation::read(&none, &request, Kind::Stop).unwrap_err();
            assert_eq!(error.code(), tonic::Code::InvalidArgument, "{request:?}");
        }
        let probed = |get| ateom::Container {
            readyz: Some(Readyz { http_get: get }),
            ..named("main")
        };
        let mounted = |path: &str| ateom::Container {
            durable_dir_volumes: vec![path.into()],
            ..named("main")
        };
        for (containers, says) in [
            (vec![], "names no container"),
            (vec![named("pause")], "reserved"),
            (vec![named("a"), named("a")], "duplicate container name \"a\""),
            (vec![named("../a")], "invalid container name"),
            (vec![probed(None)], "httpGet is missing"),
            (
                vec![probed(Some(HttpGetAction {
                    path: "/".into(),
                    port: 0,
                }))],
                "port 0",
            ),
            (vec![mounted("/a/../../b")], "mount path"),
        ] {
            let error = Workload::read(&none, "/runsc", Some(&spec(containers))).unwrap_err();
            assert_eq!(error.code(), tonic::Code::InvalidArgument);
            assert!(error.message().contains(says), "{error}");
        }
        assert!(Workload::read(&none, "runsc", Some(&spec(vec![named("a")]))).is_err());
        assert!(scope(0).is_err() && scope(3).is_err());
    }
}
