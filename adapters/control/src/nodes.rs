//! Calls to nodes: what the core wants of one, as the original's requests with our metadata.

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_core::catalog::Scope;
use holdfast_core::effect::{Discard, NodeCall, NodeFailure, NodeFailureKind, NodeReply, Place, Verb};
use holdfast_core::id::{Fence, Name};
use holdfast_manifests::Secrets;
use holdfast_rpc::atelet::ateom_herder_client::AteomHerderClient;
use holdfast_rpc::atelet::{
    self, CheckpointRequest, CheckpointType, RestoreRequest, RunRequest, SnapshotScope,
};
use holdfast_rpc::failure::{from_tonic, node_from_status};
use holdfast_rpc::holdfast_v1::node_control_client::NodeControlClient;
use holdfast_rpc::holdfast_v1::{DiscardRequest, StopRequest, ThawRequest, UploadRequest};
use holdfast_rpc::metadata::Credentials;
use holdfast_rpc::trace;
use holdfast_runtime::net::{Address, Channel, Security, Transport};
use holdfast_runtime::tokio::time::timeout;
use tonic::{Request, Status};

use crate::surroundings::{DERIVED, Surroundings};
use crate::workload::{self, EnvPolicy};

/// Connections to nodes, one per address, kept while they are used.
pub struct Nodes {
    channels: BTreeMap<Name, Channel>,
    security: Security,
}

/// A connection, or why there cannot be one.
pub type Connected = Result<Channel, String>;

/// More addresses than any cluster has nodes: old ones are forgotten rather than kept for ever.
const CONNECTIONS_MAX: usize = 4096;

impl Nodes {
    /// Connections that are secured like this.
    pub fn new(security: Security) -> Nodes {
        Nodes {
            channels: BTreeMap::new(),
            security,
        }
    }

    /// The connection to the atelet at `address`, dialled when it is first used.
    pub fn channel(&mut self, address: &Name) -> Connected {
        if let Some(channel) = self.channels.get(address) {
            return Ok(channel.clone());
        }
        let parsed: Address = address
            .as_str()
            .parse()
            .map_err(|error| format!("atelet address \"{address}\": {error}"))?;
        if self.channels.len() >= CONNECTIONS_MAX {
            self.channels.clear();
        }
        let channel = Channel::secured(parsed, Transport::default(), self.security.clone());
        self.channels.insert(address.clone(), channel.clone());
        Ok(channel)
    }
}

/// Calls a node and waits for its answer for as long as the caller does.
pub async fn call(channel: Connected, call: &NodeCall, surroundings: &dyn Surroundings) -> NodeReply {
    surroundings.admit(call).await?;
    let channel = channel.map_err(NodeFailure::unreachable)?;
    let secrets = match &call.verb {
        Verb::Run { .. } | Verb::Restore { .. } => surroundings.secrets(&call.template).await,
        Verb::Checkpoint { .. } | Verb::Upload { .. } | Verb::Stop | Verb::Thaw => Ok(Secrets::default()),
    };
    let sent = match secrets {
        Ok(secrets) => send(channel, call, &secrets).await,
        Err(unknown) => Err(Refusal::Request(workload::unresolved(
            &call.template.workload,
            &unknown,
        ))),
    };
    match sent {
        Ok(()) => Ok(()),
        Err(Refusal::Status(status)) => Err(node_from_status(&status)),
        // What cannot be asked has not happened.
        Err(Refusal::Request(status)) => Err(NodeFailure {
            code: from_tonic(status.code()),
            message: status.message().to_owned(),
            kind: NodeFailureKind::Failed,
        }),
    }
}

/// Has a node delete what nothing points at any more, within some time: whatever has not been deleted by then
/// is asked for again.
pub async fn discard(channel: Connected, discard: &Discard, within: Duration) -> Result<(), String> {
    let mut client = NodeControlClient::new(channel?);
    let (mut local, mut external) = (Vec::new(), Vec::new());
    for snapshot in &discard.snapshots {
        match snapshot {
            Place::Local(name) => local.push(name.to_string()),
            Place::External(prefix) => external.push(prefix.to_string()),
        }
    }
    let (namespace, template) = &discard.template;
    let request = DiscardRequest {
        atespace: discard.actor.atespace.to_string(),
        actor_template_namespace: namespace.to_string(),
        actor_template_name: template.to_string(),
        actor_id: discard.actor.name.to_string(),
        snapshot_prefixes: local,
        snapshot_uri_prefixes: external,
    };
    match timeout(within, client.discard(request)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(status)) => Err(status.message().to_owned()),
        Err(_) => Err(format!("no answer within {within:?}")),
    }
}

enum Refusal {
    /// The node's.
    Status(Status),
    /// Ours: the request could not be made.
    Request(Status),
}

async fn send(channel: Channel, call: &NodeCall, secrets: &Secrets) -> Result<(), Refusal> {
    let ids = Ids::of(call);
    let herder = AteomHerderClient::new(channel.clone());
    let control = NodeControlClient::new(channel);
    let spec = |policy| {
        workload::message(&call.template.workload, policy, &call.template.namespace, secrets)
            .map_err(Refusal::Request)
    };
    match &call.verb {
        Verb::Run { assets } => {
            let request = RunRequest {
                target_ateom_uid: ids.uid,
                actor_template_namespace: ids.namespace,
                actor_template_name: ids.template,
                actor_id: ids.actor,
                spec: Some(spec(EnvPolicy::Resolved)?),
                sandbox_assets: Some(workload::assets(assets)),
            };
            sent(herder, call, request, |mut c, r| async move {
                c.run(r).await.map(drop)
            })
            .await
        }
        Verb::Restore { from, scope } => {
            let request = RestoreRequest {
                target_ateom_uid: ids.uid,
                actor_template_namespace: ids.namespace,
                actor_template_name: ids.template,
                actor_id: ids.actor,
                spec: Some(spec(EnvPolicy::Resolved)?),
                r#type: kind(from) as i32,
                config: Some(match from {
                    Place::External(prefix) => {
                        atelet::restore_request::Config::ExternalConfig(external(prefix))
                    }
                    Place::Local(name) => atelet::restore_request::Config::LocalConfig(local(name)),
                }),
                scope: wire_scope(*scope) as i32,
            };
            sent(herder, call, request, |mut c, r| async move {
                c.restore(r).await.map(drop)
            })
            .await
        }
        Verb::Checkpoint { to, scope } => {
            let request = CheckpointRequest {
                target_ateom_uid: ids.uid,
                actor_template_namespace: ids.namespace,
                actor_template_name: ids.template,
                actor_id: ids.actor,
                spec: Some(spec(EnvPolicy::LeftOut)?),
                r#type: kind(to) as i32,
                config: Some(match to {
                    Place::External(prefix) => {
                        atelet::checkpoint_request::Config::ExternalConfig(external(prefix))
                    }
                    Place::Local(name) => atelet::checkpoint_request::Config::LocalConfig(local(name)),
                }),
                scope: wire_scope(*scope) as i32,
            };
            sent(herder, call, request, |mut c, r| async move {
                c.checkpoint(r).await.map(drop)
            })
            .await
        }
        Verb::Upload { name, to } => {
            let request = UploadRequest {
                target_ateom_uid: ids.uid,
                atespace: call.actor.atespace.to_string(),
                actor_template_namespace: ids.namespace,
                actor_template_name: ids.template,
                actor_id: ids.actor,
                snapshot_prefix: name.to_string(),
                snapshot_uri_prefix: to.to_string(),
            };
            sent(control, call, request, |mut c, r| async move {
                c.upload(r).await.map(drop)
            })
            .await
        }
        Verb::Thaw => {
            let request = ThawRequest {
                target_ateom_uid: ids.uid,
                atespace: call.actor.atespace.to_string(),
                actor_template_namespace: ids.namespace,
                actor_template_name: ids.template,
                actor_id: ids.actor,
            };
            sent(control, call, request, |mut c, r| async move {
                c.thaw(r).await.map(drop)
            })
            .await
        }
        Verb::Stop => {
            let request = StopRequest {
                target_ateom_uid: ids.uid,
                atespace: call.actor.atespace.to_string(),
                actor_template_namespace: ids.namespace,
                actor_template_name: ids.template,
                actor_id: ids.actor,
            };
            sent(control, call, request, |mut c, r| async move {
                c.stop(r).await.map(drop)
            })
            .await
        }
    }
}

async fn sent<C, R, F>(
    client: C,
    call: &NodeCall,
    message: R,
    method: impl FnOnce(C, Request<R>) -> F,
) -> Result<(), Refusal>
where
    F: Future<Output = Result<(), Status>>,
{
    let mut request = Request::new(message);
    let worker = call.worker.as_ref();
    let credentials = Credentials {
        actor_fence: Some(call.fence),
        worker_fence: worker
            .map(|target| target.fence)
            .filter(|fence| *fence > Fence(0)),
        operation: Some(call.op),
        incarnation: Some(call.incarnation),
        atespace: Some(call.actor.atespace.clone()),
        session: worker.map(|target| target.session).filter(|session| *session > 0),
        run: Some(call.run.clone()).filter(|run| !run.is_empty() && run.as_str() != DERIVED),
        until: None,
    };
    credentials
        .write(request.metadata_mut())
        .map_err(Refusal::Request)?;
    trace::inject(request.metadata_mut());
    method(client, request).await.map_err(Refusal::Status)
}

struct Ids {
    uid: String,
    namespace: String,
    template: String,
    actor: String,
}

impl Ids {
    fn of(call: &NodeCall) -> Ids {
        Ids {
            uid: call
                .worker
                .as_ref()
                .map(|target| target.pod_uid.to_string())
                .unwrap_or_default(),
            namespace: call.template.namespace.to_string(),
            template: call.template.name.to_string(),
            actor: call.actor.name.to_string(),
        }
    }
}

fn kind(place: &Place) -> CheckpointType {
    match place {
        Place::External(_) => CheckpointType::External,
        Place::Local(_) => CheckpointType::Local,
    }
}

fn external(prefix: &Name) -> atelet::ExternalCheckpointConfiguration {
    atelet::ExternalCheckpointConfiguration {
        snapshot_uri_prefix: prefix.to_string(),
    }
}

fn local(name: &Name) -> atelet::LocalCheckpointConfiguration {
    atelet::LocalCheckpointConfiguration {
        snapshot_prefix: name.to_string(),
    }
}

fn wire_scope(scope: Scope) -> SnapshotScope {
    match scope {
        Scope::Full => SnapshotScope::Full,
        Scope::Data => SnapshotScope::Data,
    }
}
