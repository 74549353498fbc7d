//! What callers of the control plane do, for threads that wait.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use holdfast_rpc::ateapi::control_client::ControlClient;
use holdfast_rpc::ateapi::{self, Actor, ActorRef};
use holdfast_rpc::holdfast_v1::admin_client::AdminClient;
use holdfast_rpc::holdfast_v1::{ExplainActorRequest, ExplainActorResponse, RevertActorRequest};
use holdfast_runtime::net::{Channel, Transport, deadline};
use holdfast_runtime::tokio::runtime::Runtime;
use tonic::{Response, Status};

pub const ATESPACE: &str = "lives";
pub const NAMESPACE: &str = "demo";

/// How long one call may take.
const CALL_WITHIN: Duration = Duration::from_secs(40);

#[derive(Clone)]
pub struct Client {
    runtime: Arc<Runtime>,
    channel: Channel,
}

impl Client {
    pub fn new(address: SocketAddr) -> Result<Client> {
        Ok(Client {
            runtime: Arc::new(Runtime::new().context("start the runtime")?),
            channel: Channel::new(address.into(), Transport::default()),
        })
    }

    fn control(&self) -> ControlClient<Channel> {
        ControlClient::new(self.channel.clone())
    }

    fn wait<T>(&self, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
        self.runtime
            .block_on(deadline(CALL_WITHIN, call))
            .map(Response::into_inner)
    }

    pub fn create_atespace(&self) -> Result<(), Status> {
        let name = ATESPACE.to_owned();
        let request = ateapi::CreateAtespaceRequest { name };
        self.wait(self.control().create_atespace(request)).map(drop)
    }

    pub fn create(&self, actor: &str, template: &str) -> Result<(), Status> {
        let request = ateapi::CreateActorRequest {
            actor_ref: reference(actor),
            actor_template_namespace: NAMESPACE.into(),
            actor_template_name: template.into(),
            worker_selector: None,
        };
        self.wait(self.control().create_actor(request)).map(drop)
    }

    pub fn get(&self, actor: &str) -> Result<Actor, Status> {
        let actor_ref = reference(actor);
        self.wait(self.control().get_actor(ateapi::GetActorRequest { actor_ref }))
            .map(|reply| reply.actor.unwrap_or_default())
    }

    pub fn resume(&self, actor: &str) -> Result<Actor, Status> {
        let request = ateapi::ResumeActorRequest {
            actor_ref: reference(actor),
            boot: false,
        };
        self.wait(self.control().resume_actor(request))
            .map(|reply| reply.actor.unwrap_or_default())
    }

    pub fn suspend(&self, actor: &str) -> Result<(), Status> {
        let actor_ref = reference(actor);
        self.wait(
            self.control()
                .suspend_actor(ateapi::SuspendActorRequest { actor_ref }),
        )
        .map(drop)
    }

    pub fn pause(&self, actor: &str) -> Result<(), Status> {
        let actor_ref = reference(actor);
        self.wait(
            self.control()
                .pause_actor(ateapi::PauseActorRequest { actor_ref }),
        )
        .map(drop)
    }

    pub fn delete(&self, actor: &str) -> Result<(), Status> {
        let actor_ref = reference(actor);
        self.wait(
            self.control()
                .delete_actor(ateapi::DeleteActorRequest { actor_ref }),
        )
        .map(drop)
    }

    pub fn revert(&self, actor: &str) -> Result<(), Status> {
        let actor_ref = reference(actor);
        let mut admin = AdminClient::new(self.channel.clone());
        self.wait(admin.revert_actor(RevertActorRequest { actor_ref }))
            .map(drop)
    }

    pub fn explain(&self, actor: &str) -> Result<ExplainActorResponse, Status> {
        let actor_ref = reference(actor);
        let mut admin = AdminClient::new(self.channel.clone());
        self.wait(admin.explain_actor(ExplainActorRequest { actor_ref }))
    }

    pub fn workers(&self) -> Result<Vec<ateapi::Worker>, Status> {
        self.wait(self.control().list_workers(ateapi::ListWorkersRequest {}))
            .map(|reply| reply.workers)
    }
}

fn reference(actor: &str) -> Option<ActorRef> {
    Some(ActorRef {
        atespace: ATESPACE.into(),
        name: actor.into(),
    })
}
