//! The services: the form of requests is checked in the original's order and words, then the machine
//! is asked.

use std::sync::Arc;

use holdfast_core::actor::Boot;
use holdfast_core::id::{ActorKey, Name};
use holdfast_core::name::{check_actor_id, check_atespace, check_selector, is_dns_label};
use holdfast_core::request::{Answer, Request as Ask};
use holdfast_rpc::ateapi::control_server::Control;
use holdfast_rpc::ateapi::{self, ActorRef};
use holdfast_rpc::failure::to_status;
use holdfast_rpc::holdfast_v1::admin_server::Admin;
use holdfast_rpc::holdfast_v1::nodes_server::Nodes;
use holdfast_rpc::holdfast_v1::{
    ExplainActorRequest, ExplainActorResponse, HeartbeatRequest, HeartbeatResponse, RevertActorRequest,
    RevertActorResponse,
};
use holdfast_rpc::{message, report};
use holdfast_store::Store;
use tonic::{Request, Response, Status};

use crate::clearing;
use crate::desk::Desk;
use crate::surroundings::Surroundings;

/// The largest page of actors, and the one that a caller gets who names no size.
const PAGE_MAX: i32 = 1000;

/// Every service of ateapi.
#[derive(Clone)]
pub struct Service {
    desk: Desk,
    /// Who knows more of workers than their nodes do.
    surroundings: Arc<dyn Surroundings>,
    /// What DebugClear may delete.
    clearable: Option<Arc<dyn Store>>,
}

type Reply<T> = Result<Response<T>, Status>;

impl Service {
    /// Services that ask the machine behind this desk. DebugClear is refused unless it is told what to delete.
    pub fn new(
        desk: Desk,
        surroundings: Arc<dyn Surroundings>,
        clearable: Option<Arc<dyn Store>>,
    ) -> Service {
        Service {
            desk,
            surroundings,
            clearable,
        }
    }

    async fn ask(&self, request: Ask) -> Result<Answer, Status> {
        match self.desk.ask(request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(failure)) => Err(to_status(&failure)),
            Err(_) => Err(Status::unavailable("this replica has stopped; ask another")),
        }
    }

    async fn actor(&self, request: Ask) -> Result<Option<ateapi::Actor>, Status> {
        match self.ask(request).await? {
            Answer::Actor(actor) => Ok(Some(message::actor(&actor))),
            other => Err(misfit(&other)),
        }
    }
}

#[tonic::async_trait]
impl Control for Service {
    async fn get_actor(&self, request: Request<ateapi::GetActorRequest>) -> Reply<ateapi::GetActorResponse> {
        let key = known_key(request.into_inner().actor_ref)?;
        let actor = self.actor(Ask::GetActor(key)).await?;
        Ok(Response::new(ateapi::GetActorResponse { actor }))
    }

    async fn create_actor(
        &self,
        request: Request<ateapi::CreateActorRequest>,
    ) -> Reply<ateapi::CreateActorResponse> {
        let request = request.into_inner();
        required(&request.actor_template_namespace, "actor_template_namespace")?;
        required(&request.actor_template_name, "actor_template_name")?;
        let ActorRef { atespace, name } = request.actor_ref.unwrap_or_default();
        required(&name, "actor_id")?;
        check_actor_id(&name).map_err(|failure| to_status(&failure))?;
        required(&atespace, "atespace")?;
        check_atespace(&atespace).map_err(|failure| to_status(&failure))?;
        let selector = message::to_selector(request.worker_selector.as_ref());
        check_selector(&selector).map_err(|failure| to_status(&failure))?;
        let ask = Ask::CreateActor {
            key: ActorKey::new(atespace, name),
            template_namespace: request.actor_template_namespace.into(),
            template_name: request.actor_template_name.into(),
            selector,
        };
        Ok(Response::new(ateapi::CreateActorResponse {
            actor: self.actor(ask).await?,
        }))
    }

    async fn update_actor(
        &self,
        request: Request<ateapi::UpdateActorRequest>,
    ) -> Reply<ateapi::UpdateActorResponse> {
        let request = request.into_inner();
        let ActorRef { atespace, name } = request.actor_ref.unwrap_or_default();
        required(&name, "actor_id")?;
        required(&atespace, "atespace")?;
        check_atespace(&atespace).map_err(|failure| to_status(&failure))?;
        let selector = message::to_selector(request.worker_selector.as_ref());
        check_selector(&selector).map_err(|failure| to_status(&failure))?;
        let key = existing(atespace, name)?;
        let actor = self.actor(Ask::UpdateActor { key, selector }).await?;
        Ok(Response::new(ateapi::UpdateActorResponse { actor }))
    }

    async fn suspend_actor(
        &self,
        request: Request<ateapi::SuspendActorRequest>,
    ) -> Reply<ateapi::SuspendActorResponse> {
        let key = known_key(request.into_inner().actor_ref)?;
        let actor = self.actor(Ask::Suspend(key)).await?;
        Ok(Response::new(ateapi::SuspendActorResponse { actor }))
    }

    async fn pause_actor(
        &self,
        request: Request<ateapi::PauseActorRequest>,
    ) -> Reply<ateapi::PauseActorResponse> {
        let key = known_key(request.into_inner().actor_ref)?;
        let actor = self.actor(Ask::Pause(key)).await?;
        Ok(Response::new(ateapi::PauseActorResponse { actor }))
    }

    async fn resume_actor(
        &self,
        request: Request<ateapi::ResumeActorRequest>,
    ) -> Reply<ateapi::ResumeActorResponse> {
        let request = request.into_inner();
        let key = known_key(request.actor_ref)?;
        let boot = if request.boot { Boot::Fresh } else { Boot::Golden };
        let actor = self.actor(Ask::Resume(key, boot)).await?;
        Ok(Response::new(ateapi::ResumeActorResponse { actor }))
    }

    async fn delete_actor(
        &self,
        request: Request<ateapi::DeleteActorRequest>,
    ) -> Reply<ateapi::DeleteActorResponse> {
        let ActorRef { atespace, name } = request.into_inner().actor_ref.unwrap_or_default();
        required(&name, "actor_id")?;
        check_actor_id(&name).map_err(|failure| to_status(&failure))?;
        required(&atespace, "atespace")?;
        self.ask(Ask::Delete(existing(atespace, name)?)).await?;
        Ok(Response::new(ateapi::DeleteActorResponse {}))
    }

    async fn list_workers(
        &self,
        _request: Request<ateapi::ListWorkersRequest>,
    ) -> Reply<ateapi::ListWorkersResponse> {
        match self.ask(Ask::ListWorkers).await? {
            Answer::Workers(workers) => {
                let workers = workers.iter().map(message::worker).collect();
                Ok(Response::new(ateapi::ListWorkersResponse { workers }))
            }
            other => Err(misfit(&other)),
        }
    }

    async fn list_actors(
        &self,
        request: Request<ateapi::ListActorsRequest>,
    ) -> Reply<ateapi::ListActorsResponse> {
        let request = request.into_inner();
        if !request.atespace.is_empty() {
            check_atespace(&request.atespace).map_err(|failure| to_status(&failure))?;
        }
        let limit = match request.page_size {
            0 => PAGE_MAX,
            n if n < 0 => return Err(Status::invalid_argument("page_size cannot be negative")),
            n if n > PAGE_MAX => {
                let text = format!("page_size {n} exceeds maximum page size {PAGE_MAX}");
                return Err(Status::invalid_argument(text));
            }
            n => n,
        };
        let ask = Ask::ListActors {
            atespace: named(request.atespace),
            after: named(request.page_token),
            limit: limit.unsigned_abs(),
        };
        match self.ask(ask).await? {
            Answer::Actors { actors, next } => Ok(Response::new(ateapi::ListActorsResponse {
                actors: actors.iter().map(message::actor).collect(),
                next_page_token: next.map(|token| token.to_string()).unwrap_or_default(),
            })),
            other => Err(misfit(&other)),
        }
    }

    async fn create_atespace(
        &self,
        request: Request<ateapi::CreateAtespaceRequest>,
    ) -> Reply<ateapi::CreateAtespaceResponse> {
        let name = atespace_name(request.into_inner().name)?;
        let atespace = atespace(self.ask(Ask::CreateAtespace(name)).await?)?;
        Ok(Response::new(ateapi::CreateAtespaceResponse { atespace }))
    }

    async fn get_atespace(
        &self,
        request: Request<ateapi::GetAtespaceRequest>,
    ) -> Reply<ateapi::GetAtespaceResponse> {
        let name = atespace_name(request.into_inner().name)?;
        let atespace = atespace(self.ask(Ask::GetAtespace(name)).await?)?;
        Ok(Response::new(ateapi::GetAtespaceResponse { atespace }))
    }

    async fn list_atespaces(
        &self,
        _request: Request<ateapi::ListAtespacesRequest>,
    ) -> Reply<ateapi::ListAtespacesResponse> {
        match self.ask(Ask::ListAtespaces).await? {
            Answer::Atespaces(names) => {
                let atespaces = names.iter().map(|name| ateapi::Atespace {
                    name: name.to_string(),
                });
                Ok(Response::new(ateapi::ListAtespacesResponse {
                    atespaces: atespaces.collect(),
                }))
            }
            other => Err(misfit(&other)),
        }
    }

    async fn delete_atespace(
        &self,
        request: Request<ateapi::DeleteAtespaceRequest>,
    ) -> Reply<ateapi::DeleteAtespaceResponse> {
        let name = atespace_name(request.into_inner().name)?;
        self.ask(Ask::DeleteAtespace(name)).await?;
        Ok(Response::new(ateapi::DeleteAtespaceResponse {}))
    }

    async fn debug_clear(
        &self,
        _request: Request<ateapi::DebugClearRequest>,
    ) -> Reply<ateapi::DebugClearResponse> {
        let store = self.clearable.as_ref().ok_or_else(|| {
            Status::permission_denied(
                "DebugClear erases every record and is not offered here; start ateapi with --enable-debug-clear",
            )
        })?;
        clearing::clear(&**store).await?;
        Ok(Response::new(ateapi::DebugClearResponse {}))
    }
}

#[tonic::async_trait]
impl Admin for Service {
    async fn revert_actor(&self, request: Request<RevertActorRequest>) -> Reply<RevertActorResponse> {
        let key = known_key(request.into_inner().actor_ref)?;
        let actor = self.actor(Ask::Revert(key)).await?;
        Ok(Response::new(RevertActorResponse { actor }))
    }

    async fn explain_actor(&self, request: Request<ExplainActorRequest>) -> Reply<ExplainActorResponse> {
        let key = known_key(request.into_inner().actor_ref)?;
        match self.ask(Ask::GetActor(key)).await? {
            Answer::Actor(actor) => Ok(Response::new(message::explained(&actor))),
            other => Err(misfit(&other)),
        }
    }
}

#[tonic::async_trait]
impl Nodes for Service {
    async fn heartbeat(&self, request: Request<HeartbeatRequest>) -> Reply<HeartbeatResponse> {
        let report = report::from_message(request.into_inner())?;
        let report = self.surroundings.relate(report);
        match self.ask(Ask::Heartbeat(report)).await? {
            Answer::Reported(replica, answer) => {
                Ok(Response::new(report::answer_to_message(replica, &answer)))
            }
            other => Err(misfit(&other)),
        }
    }
}

/// The key of an actor that is asked for by its id: both parts must be there.
fn known_key(actor_ref: Option<ActorRef>) -> Result<ActorKey, Status> {
    let ActorRef { atespace, name } = actor_ref.unwrap_or_default();
    required(&name, "id")?;
    required(&atespace, "atespace")?;
    existing(atespace, name)
}

/// The key of an actor that may exist. One whose name could never have been given does not, and it is
/// not looked for: a name with a separator in it must not become another actor's key (scenario S82).
fn existing(atespace: String, name: String) -> Result<ActorKey, Status> {
    if is_dns_label(&name) && is_dns_label(&atespace) {
        Ok(ActorKey::new(atespace, name))
    } else {
        Err(Status::not_found(format!("Actor {name} not found")))
    }
}

fn atespace_name(name: String) -> Result<Name, Status> {
    required(&name, "name")?;
    check_atespace(&name).map_err(|failure| to_status(&failure))?;
    Ok(name.into())
}

fn required(value: &str, field: &str) -> Result<(), Status> {
    if value.is_empty() {
        Err(Status::invalid_argument(format!("{field} is required")))
    } else {
        Ok(())
    }
}

fn named(text: String) -> Option<Name> {
    (!text.is_empty()).then(|| text.into())
}

fn atespace(answer: Answer) -> Result<Option<ateapi::Atespace>, Status> {
    match answer {
        Answer::Atespace(name) => Ok(Some(ateapi::Atespace {
            name: name.to_string(),
        })),
        other => Err(misfit(&other)),
    }
}

fn misfit(answer: &Answer) -> Status {
    tracing::error!(?answer, "an answer does not fit its question");
    Status::internal("internal server error: an answer does not fit its question")
}
