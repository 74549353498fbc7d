//! Resuming actors through the control plane, whichever replica of it answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use holdfast_core::id::ActorKey;
use holdfast_router::{Activator, Route, RouteFailure};
use holdfast_rpc::ateapi::control_client::ControlClient;
use holdfast_rpc::ateapi::{ActorRef, ResumeActorRequest};
use holdfast_rpc::failure::from_tonic;
use holdfast_rpc::status::retry_after;
use holdfast_runtime::net::{Address, Channel, Transport};
use tonic::{Code, Status};

/// The port that actors serve on.
const PORT: u16 = 80;

/// The replicas of a control plane.
#[derive(Clone, Debug)]
pub struct ControlPlane {
    replicas: Arc<Vec<(Address, Channel)>>,
    /// The one that answered last.
    current: Arc<AtomicUsize>,
}

impl ControlPlane {
    /// The control plane at these addresses, of which there is at least one.
    pub fn new(addresses: Vec<Address>) -> ControlPlane {
        let replicas = addresses
            .into_iter()
            .map(|a| (a.clone(), Channel::new(a, Transport::default())))
            .collect();
        ControlPlane {
            replicas: Arc::new(replicas),
            current: Arc::default(),
        }
    }

    /// Every replica's address.
    pub fn addresses(&self) -> Vec<Address> {
        self.replicas.iter().map(|(address, _)| address.clone()).collect()
    }

    /// The first replica's address, for people.
    pub fn first(&self) -> String {
        self.replicas
            .first()
            .map(|(address, _)| address.to_string())
            .unwrap_or_default()
    }

    /// A client of the replica that answered last.
    pub fn client(&self) -> ControlClient<Channel> {
        let index = self.current.load(Ordering::Relaxed) % self.replicas.len();
        ControlClient::new(self.replicas[index].1.clone())
    }

    /// Turns to the next replica: this one does not answer.
    pub fn next(&self) {
        self.current.fetch_add(1, Ordering::Relaxed);
    }
}

#[async_trait::async_trait]
impl Activator for ControlPlane {
    async fn resume(&self, actor: &ActorKey, _stale: Option<SocketAddr>) -> Result<Route, RouteFailure> {
        let actor_ref = ActorRef {
            atespace: actor.atespace.to_string(),
            name: actor.name.to_string(),
        };
        let request = ResumeActorRequest {
            actor_ref: Some(actor_ref),
            boot: false,
        };
        let reply = self.client().resume_actor(request).await.map_err(|status| {
            if status.code() == Code::Unavailable && status.details().is_empty() {
                self.next();
            }
            failure(&status)
        })?;
        let ip = reply
            .into_inner()
            .actor
            .map(|actor| actor.ateom_pod_ip)
            .unwrap_or_default();
        let ip = ip.parse().map_err(|_| {
            failure(&Status::unavailable(format!(
                "actor {actor} has no address yet; try again"
            )))
        })?;
        Ok(Route {
            address: SocketAddr::new(ip, PORT),
        })
    }
}

fn failure(status: &Status) -> RouteFailure {
    RouteFailure {
        code: from_tonic(status.code()),
        message: status.message().to_owned(),
        retry_after: retry_after(status),
    }
}
