//! A control plane that says what a test wants it to say.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use holdfast_rpc::ateapi::control_server::{Control, ControlServer};
use holdfast_rpc::ateapi::*;
use holdfast_rpc::holdfast_v1::admin_server::{Admin, AdminServer};
use holdfast_rpc::holdfast_v1::{
    ExplainActorRequest, ExplainActorResponse, RevertActorRequest, RevertActorResponse,
};
use holdfast_rpc::server;
use holdfast_runtime::clock::SystemClock;
use holdfast_runtime::net::{Address, Listener, Transport};
use tokio::sync::oneshot;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

/// What the control plane has, what it has been asked, and what it will refuse.
#[derive(Default)]
pub struct State {
    pub actors: Vec<Actor>,
    pub atespaces: Vec<String>,
    pub workers: Vec<Worker>,
    /// Taken one by one: `Some` refuses the next request, `None` lets it pass. After the last all pass.
    pub refusals: VecDeque<Option<Status>>,
    /// Each request as one line.
    pub asked: Vec<String>,
    /// Whether requests are never answered.
    pub silent: bool,
    /// Whether each page is said to be followed by the same one.
    pub circular: bool,
}

/// A running control plane. It stops when it is dropped.
pub struct Plane {
    pub address: Address,
    state: Arc<Mutex<State>>,
    _stop: oneshot::Sender<()>,
}

impl Plane {
    /// Serves `state` on a free port of loopback, or on `address`.
    pub async fn start(state: State, address: &str) -> Plane {
        let listener = Listener::bind(&address.parse().unwrap()).await.unwrap();
        let address = listener.address().clone();
        let state = Arc::new(Mutex::new(state));
        let service = Service(Arc::clone(&state));
        let routes = Routes::new(ControlServer::new(service.clone())).add_service(AdminServer::new(service));
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        tokio::spawn(server::serve(
            listener,
            routes,
            Transport::default(),
            Arc::new(SystemClock),
            stopped,
        ));
        Plane {
            address,
            state,
            _stop: stop,
        }
    }

    pub fn asked(&self) -> Vec<String> {
        self.state.lock().unwrap().asked.clone()
    }
}

#[derive(Clone)]
struct Service(Arc<Mutex<State>>);

type Reply<T> = Result<Response<T>, Status>;

impl Service {
    async fn hear(&self, request: String) -> Result<MutexGuard<'_, State>, Status> {
        let silent = {
            let mut state = self.0.lock().unwrap();
            state.asked.push(request);
            if let Some(Some(refusal)) = state.refusals.pop_front() {
                return Err(refusal);
            }
            state.silent
        };
        if silent {
            std::future::pending::<()>().await;
        }
        Ok(self.0.lock().unwrap())
    }

    async fn act(
        &self,
        verb: &str,
        actor: Option<ActorRef>,
        becomes: actor::Status,
    ) -> Result<Option<Actor>, Status> {
        let ActorRef { atespace, name } = actor.unwrap();
        let mut state = self.hear(format!("{verb} {atespace}/{name}")).await?;
        let actor = state
            .actors
            .iter_mut()
            .find(|actor| actor.atespace == atespace && actor.actor_id == name);
        let actor = actor.ok_or_else(|| Status::not_found(format!("Actor {name} not found")))?;
        actor.status = becomes.into();
        actor.version += 1;
        Ok(Some(actor.clone()))
    }
}

#[tonic::async_trait]
impl Control for Service {
    async fn get_actor(&self, request: Request<GetActorRequest>) -> Reply<GetActorResponse> {
        let ActorRef { atespace, name } = request.into_inner().actor_ref.unwrap();
        let state = self.hear(format!("get {atespace}/{name}")).await?;
        let actor = state
            .actors
            .iter()
            .find(|actor| actor.atespace == atespace && actor.actor_id == name);
        Ok(Response::new(GetActorResponse {
            actor: actor.cloned(),
        }))
    }

    async fn create_actor(&self, request: Request<CreateActorRequest>) -> Reply<CreateActorResponse> {
        let request = request.into_inner();
        let mut state = self.hear(format!("{request:?}")).await?;
        let ActorRef { atespace, name } = request.actor_ref.unwrap();
        let actor = Actor {
            actor_id: name,
            version: 1,
            actor_template_namespace: request.actor_template_namespace,
            actor_template_name: request.actor_template_name,
            status: actor::Status::Suspended.into(),
            worker_selector: request.worker_selector,
            atespace,
            ..Actor::default()
        };
        state.actors.push(actor.clone());
        Ok(Response::new(CreateActorResponse { actor: Some(actor) }))
    }

    async fn update_actor(&self, _: Request<UpdateActorRequest>) -> Reply<UpdateActorResponse> {
        Err(Status::unimplemented("no command does this"))
    }

    async fn suspend_actor(&self, request: Request<SuspendActorRequest>) -> Reply<SuspendActorResponse> {
        let actor = self
            .act(
                "suspend",
                request.into_inner().actor_ref,
                actor::Status::Suspended,
            )
            .await?;
        Ok(Response::new(SuspendActorResponse { actor }))
    }

    async fn pause_actor(&self, request: Request<PauseActorRequest>) -> Reply<PauseActorResponse> {
        let actor = self
            .act("pause", request.into_inner().actor_ref, actor::Status::Paused)
            .await?;
        Ok(Response::new(PauseActorResponse { actor }))
    }

    async fn resume_actor(&self, request: Request<ResumeActorRequest>) -> Reply<ResumeActorResponse> {
        let request = request.into_inner();
        let verb = if request.boot { "boot" } else { "resume" };
        let actor = self.act(verb, request.actor_ref, actor::Status::Running).await?;
        Ok(Response::new(ResumeActorResponse { actor }))
    }

    async fn delete_actor(&self, request: Request<DeleteActorRequest>) -> Reply<DeleteActorResponse> {
        let actor = request.into_inner().actor_ref;
        self.act("delete", actor, actor::Status::Suspended).await?;
        Ok(Response::new(DeleteActorResponse {}))
    }

    async fn list_workers(&self, _: Request<ListWorkersRequest>) -> Reply<ListWorkersResponse> {
        let state = self.hear("list workers".to_owned()).await?;
        Ok(Response::new(ListWorkersResponse {
            workers: state.workers.clone(),
        }))
    }

    async fn list_actors(&self, request: Request<ListActorsRequest>) -> Reply<ListActorsResponse> {
        let ListActorsRequest {
            page_size,
            page_token,
            atespace,
        } = request.into_inner();
        let state = self
            .hear(format!("list {atespace:?} {page_size} after {page_token:?}"))
            .await?;
        let first: usize = page_token.parse().unwrap_or(0);
        let size = usize::try_from(page_size).unwrap();
        let wanted = state
            .actors
            .iter()
            .filter(|actor| atespace.is_empty() || actor.atespace == atespace);
        let actors: Vec<_> = wanted.skip(first).take(size).cloned().collect();
        let next_page_token = match actors.len() {
            _ if state.circular => "0".to_owned(),
            n if n == size => (first + n).to_string(),
            _ => String::new(),
        };
        Ok(Response::new(ListActorsResponse {
            actors,
            next_page_token,
        }))
    }

    async fn create_atespace(
        &self,
        request: Request<CreateAtespaceRequest>,
    ) -> Reply<CreateAtespaceResponse> {
        let name = request.into_inner().name;
        drop(self.hear(format!("create atespace {name}")).await?);
        Ok(Response::new(CreateAtespaceResponse {
            atespace: Some(Atespace { name }),
        }))
    }

    async fn get_atespace(&self, request: Request<GetAtespaceRequest>) -> Reply<GetAtespaceResponse> {
        let name = request.into_inner().name;
        let state = self.hear(format!("get atespace {name}")).await?;
        if !state.atespaces.contains(&name) {
            return Err(Status::not_found(format!("Atespace {name} not found")));
        }
        Ok(Response::new(GetAtespaceResponse {
            atespace: Some(Atespace { name }),
        }))
    }

    async fn list_atespaces(&self, _: Request<ListAtespacesRequest>) -> Reply<ListAtespacesResponse> {
        let state = self.hear("list atespaces".to_owned()).await?;
        let atespaces = state
            .atespaces
            .iter()
            .map(|name| Atespace { name: name.clone() })
            .collect();
        Ok(Response::new(ListAtespacesResponse { atespaces }))
    }

    async fn delete_atespace(
        &self,
        request: Request<DeleteAtespaceRequest>,
    ) -> Reply<DeleteAtespaceResponse> {
        drop(
            self.hear(format!("delete atespace {}", request.into_inner().name))
                .await?,
        );
        Ok(Response::new(DeleteAtespaceResponse {}))
    }

    async fn debug_clear(&self, _: Request<DebugClearRequest>) -> Reply<DebugClearResponse> {
        Err(Status::unimplemented("no command does this"))
    }
}

#[tonic::async_trait]
impl Admin for Service {
    async fn revert_actor(&self, request: Request<RevertActorRequest>) -> Reply<RevertActorResponse> {
        let actor = self
            .act("revert", request.into_inner().actor_ref, actor::Status::Suspended)
            .await?;
        Ok(Response::new(RevertActorResponse { actor }))
    }

    async fn explain_actor(&self, request: Request<ExplainActorRequest>) -> Reply<ExplainActorResponse> {
        let ActorRef { atespace, name } = request.into_inner().actor_ref.unwrap();
        let state = self.hear(format!("explain {atespace}/{name}")).await?;
        let is_asked_for = |actor: &&Actor| actor.atespace == atespace && actor.actor_id == name;
        Ok(Response::new(ExplainActorResponse {
            actor: state.actors.iter().find(is_asked_for).cloned(),
            fence: 7,
            crashed_during: "resume".to_owned(),
            crash_cause: "snapshot corrupt".to_owned(),
            ..ExplainActorResponse::default()
        }))
    }
}
