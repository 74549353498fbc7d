//! The control plane that is measured, asked once for each call: whether asking again helps is for the report.

use std::time::Duration;

use holdfast_rpc::ateapi::actor::Status as ActorStatus;
use holdfast_rpc::ateapi::control_client::ControlClient;
use holdfast_rpc::ateapi::{self, ActorRef};
use holdfast_runtime::net::{Address, Channel, Security, Transport};
use holdfast_runtime::tokio;
use tonic::{Code, Response, Status};

use super::herd::State;
use super::mix::Kind;
use crate::cli::TemplateRef;
use crate::failure::Failure;

/// The largest page that ateapi gives.
const PAGE: i32 = 1000;
/// Workers come in one message, however many there are.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// A connection to it, and what all calls have in common.
#[derive(Clone)]
pub struct Server {
    control: ControlClient<Channel>,
    address: Address,
    security: Security,
    atespace: String,
    template: Option<TemplateRef>,
    timeout: Duration,
}

impl Server {
    /// The server at `address`; actors are in `atespace`, and made of `template`.
    pub fn new(
        address: Address,
        security: Security,
        atespace: &str,
        template: Option<TemplateRef>,
        timeout: Duration,
    ) -> Server {
        let channel = Channel::secured(address.clone(), Transport::default(), security.clone());
        Server {
            control: ControlClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX),
            address,
            security,
            atespace: atespace.to_owned(),
            template,
            timeout,
        }
    }

    /// The same, over another connection.
    pub fn another(&self) -> Server {
        Server::new(
            self.address.clone(),
            self.security.clone(),
            &self.atespace,
            self.template.clone(),
            self.timeout,
        )
    }

    /// Makes one call of `kind`, about the actor `name` where it is about one.
    pub async fn call(&self, kind: Kind, name: &str) -> Result<(), Status> {
        let mut control = self.control.clone();
        let actor_ref = self.reference(name);
        let call = async move {
            match kind {
                Kind::Create => {
                    let template = self.template.clone();
                    let (namespace, template) = template.map(|t| (t.namespace, t.name)).unwrap_or_default();
                    let request = ateapi::CreateActorRequest {
                        actor_ref,
                        actor_template_namespace: namespace,
                        actor_template_name: template,
                        worker_selector: None,
                    };
                    control.create_actor(request).await.map(drop)
                }
                Kind::Delete => {
                    let request = ateapi::DeleteActorRequest { actor_ref };
                    control.delete_actor(request).await.map(drop)
                }
                Kind::Resume | Kind::ResumeRunning => {
                    let request = ateapi::ResumeActorRequest {
                        actor_ref,
                        boot: false,
                    };
                    control.resume_actor(request).await.map(drop)
                }
                Kind::Suspend => {
                    let request = ateapi::SuspendActorRequest { actor_ref };
                    control.suspend_actor(request).await.map(drop)
                }
                Kind::Pause => {
                    let request = ateapi::PauseActorRequest { actor_ref };
                    control.pause_actor(request).await.map(drop)
                }
                Kind::Get => {
                    let request = ateapi::GetActorRequest { actor_ref };
                    control.get_actor(request).await.map(drop)
                }
                Kind::Update => {
                    let request = ateapi::UpdateActorRequest {
                        actor_ref,
                        worker_selector: None,
                    };
                    control.update_actor(request).await.map(drop)
                }
                Kind::ListActors => {
                    let request = ateapi::ListActorsRequest {
                        page_size: PAGE,
                        page_token: String::new(),
                        atespace: self.atespace.clone(),
                    };
                    control.list_actors(request).await.map(drop)
                }
                Kind::ListWorkers => {
                    let request = ateapi::ListWorkersRequest {};
                    control.list_workers(request).await.map(drop)
                }
                Kind::ListAtespaces => {
                    let request = ateapi::ListAtespacesRequest {};
                    control.list_atespaces(request).await.map(drop)
                }
            }
        };
        self.within(call).await
    }

    /// Creates the atespace; false if it is there already.
    pub async fn create_atespace(&self) -> Result<bool, Failure> {
        let request = ateapi::CreateAtespaceRequest {
            name: self.atespace.clone(),
        };
        let mut control = self.control.clone();
        match self.within(control.create_atespace(request)).await {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::AlreadyExists => Ok(false),
            Err(status) => Err(self.failure(status)),
        }
    }

    /// Deletes the atespace, unless somebody else has actors in it.
    pub async fn delete_atespace(&self) -> Result<(), Failure> {
        let request = ateapi::DeleteAtespaceRequest {
            name: self.atespace.clone(),
        };
        let mut control = self.control.clone();
        match self.within(control.delete_atespace(request)).await {
            Ok(_) => Ok(()),
            Err(status) if matches!(status.code(), Code::NotFound | Code::FailedPrecondition) => Ok(()),
            Err(status) => Err(self.failure(status)),
        }
    }

    /// The actors of the atespace whose names begin with `prefix`; `None` for one that is between two states,
    /// or crashed. An atespace that is not there has none.
    pub async fn actors(&self, prefix: &str) -> Result<Vec<(String, Option<State>)>, Failure> {
        let mut request = ateapi::ListActorsRequest {
            page_size: PAGE,
            page_token: String::new(),
            atespace: self.atespace.clone(),
        };
        let mut control = self.control.clone();
        let mut actors = std::collections::BTreeMap::new();
        loop {
            let page: Response<ateapi::ListActorsResponse> = self
                .within(control.list_actors(request.clone()))
                .await
                .map_err(|status| self.failure(status))?;
            let page = page.into_inner();
            for actor in page
                .actors
                .into_iter()
                .filter(|actor| actor.actor_id.starts_with(prefix))
            {
                let state = match actor.status() {
                    ActorStatus::Suspended => Some(State::Suspended),
                    ActorStatus::Paused => Some(State::Paused),
                    ActorStatus::Running => Some(State::Running),
                    _ => None,
                };
                // The original may name one twice.
                actors.insert(actor.actor_id, state);
            }
            if page.next_page_token.is_empty() || page.next_page_token == request.page_token {
                return Ok(actors.into_iter().collect());
            }
            request.page_token = page.next_page_token;
        }
    }

    pub fn failure(&self, status: Status) -> Failure {
        Failure::from_status(status, &self.address, None)
    }

    async fn within<T>(&self, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        tokio::time::timeout(self.timeout, call)
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer within --timeout")))
    }

    fn reference(&self, name: &str) -> Option<ActorRef> {
        Some(ActorRef {
            atespace: self.atespace.clone(),
            name: name.to_owned(),
        })
    }
}
