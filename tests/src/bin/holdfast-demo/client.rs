//! The control plane's clients, for scenes that wait.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use holdfast_rpc::ateapi::control_client::ControlClient;
use holdfast_rpc::ateapi::{self, ActorRef};
use holdfast_rpc::holdfast_v1::admin_client::AdminClient;
use holdfast_rpc::holdfast_v1::{ExplainActorRequest, RevertActorRequest};
use holdfast_runtime::net::{Channel, Transport, deadline};
use holdfast_runtime::tokio::runtime::Runtime;
use holdfast_tests::wait;
use tonic::{Code, Status};

use crate::cluster::PATIENCE;

pub const ATESPACE: &str = "demo";

#[derive(Clone)]
pub struct Client {
    runtime: Arc<Runtime>,
    replicas: Vec<Channel>,
}

impl Client {
    pub fn new(replicas: &[SocketAddr]) -> Result<Client> {
        let channel = |address: &SocketAddr| Channel::new((*address).into(), Transport::default());
        Ok(Client {
            runtime: Arc::new(Runtime::new().context("start the runtime")?),
            replicas: replicas.iter().map(channel).collect(),
        })
    }

    /// The same client, asking only that replica.
    pub fn only(&self, replica: usize) -> Client {
        Client {
            runtime: self.runtime.clone(),
            replicas: vec![self.replicas[replica].clone()],
        }
    }

    fn control(&self) -> ControlClient<Channel> {
        ControlClient::new(self.replicas[0].clone())
    }

    fn wait<T>(&self, call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, Status> {
        self.runtime
            .block_on(deadline(PATIENCE, call))
            .map(tonic::Response::into_inner)
    }

    pub fn create_atespace(&self) -> Result<(), Status> {
        let request = ateapi::CreateAtespaceRequest {
            name: ATESPACE.into(),
        };
        self.wait(self.control().create_atespace(request)).map(drop)
    }

    pub fn create(&self, actor: &str, template: &str) -> Result<(), Status> {
        let request = ateapi::CreateActorRequest {
            actor_ref: actor_ref(actor),
            actor_template_namespace: "demo".into(),
            actor_template_name: template.into(),
            worker_selector: None,
        };
        self.wait(self.control().create_actor(request)).map(drop)
    }

    pub fn get(&self, actor: &str) -> Result<ateapi::Actor, Status> {
        let request = ateapi::GetActorRequest {
            actor_ref: actor_ref(actor),
        };
        self.wait(self.control().get_actor(request))
            .map(|reply| reply.actor.unwrap_or_default())
    }

    pub fn resume(&self, actor: &str) -> Result<ateapi::Actor, Status> {
        let request = ateapi::ResumeActorRequest {
            actor_ref: actor_ref(actor),
            boot: false,
        };
        self.wait(self.control().resume_actor(request))
            .map(|reply| reply.actor.unwrap_or_default())
    }

    pub fn suspend(&self, actor: &str) -> Result<ateapi::Actor, Status> {
        let request = ateapi::SuspendActorRequest {
            actor_ref: actor_ref(actor),
        };
        self.wait(self.control().suspend_actor(request))
            .map(|reply| reply.actor.unwrap_or_default())
    }

    pub fn revert(&self, actor: &str) -> Result<ateapi::Actor, Status> {
        let request = RevertActorRequest {
            actor_ref: actor_ref(actor),
        };
        let mut admin = AdminClient::new(self.replicas[0].clone());
        self.wait(admin.revert_actor(request))
            .map(|reply| reply.actor.unwrap_or_default())
    }

    /// Why the actor crashed.
    pub fn crash_cause(&self, actor: &str) -> Result<String, Status> {
        let request = ExplainActorRequest {
            actor_ref: actor_ref(actor),
        };
        let mut admin = AdminClient::new(self.replicas[0].clone());
        self.wait(admin.explain_actor(request))
            .map(|reply| reply.crash_cause)
    }

    pub fn workers(&self) -> Result<Vec<ateapi::Worker>, Status> {
        self.wait(self.control().list_workers(ateapi::ListWorkersRequest {}))
            .map(|reply| reply.workers)
    }

    /// Asks again for as long as the answer says that this helps.
    pub fn persist<T>(
        &self,
        what: &str,
        within: Duration,
        mut ask: impl FnMut() -> Result<T, Status>,
    ) -> Result<T> {
        wait::until(what, within, || match ask() {
            Ok(answer) => Ok(Some(answer)),
            Err(status) if matches!(status.code(), Code::Aborted | Code::Unavailable) => Ok(None),
            Err(status) => Err(status.into()),
        })
    }
}

fn actor_ref(actor: &str) -> Option<ActorRef> {
    Some(ActorRef {
        atespace: ATESPACE.into(),
        name: actor.into(),
    })
}
