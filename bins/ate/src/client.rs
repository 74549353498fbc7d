//! The control plane, asked from the command line: within one time limit, page by page, and again where
//! asking again is what the answer advises.

use std::time::Duration;

use holdfast_core::id::ActorKey;
use holdfast_core::time::Instant;
use holdfast_rpc::ateapi::control_client::ControlClient;
use holdfast_rpc::ateapi::{self, Actor, ActorRef, Atespace, Worker};
use holdfast_rpc::holdfast_v1::admin_client::AdminClient;
use holdfast_rpc::holdfast_v1::{ExplainActorRequest, ExplainActorResponse, RevertActorRequest};
use holdfast_rpc::status::retry_after;
use holdfast_runtime::clock::{Clock, SystemClock};
use holdfast_runtime::net::{Address, Channel, Security, Transport};
use holdfast_runtime::terminal::tell;
use holdfast_runtime::{duration, tokio};
use tonic::{Code, Response, Status};

use crate::failure::Failure;

/// The largest page that ateapi gives.
const PAGE: i32 = 1000;
/// Workers come in one message, however many there are.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// The pause before the second attempt where the answer names none; each further one is half as long again.
const PAUSE_FROM: Duration = Duration::from_millis(200);
const PAUSE_TO: Duration = Duration::from_secs(5);

/// A control plane and a time by which it is to have answered.
pub struct Client {
    control: ControlClient<Channel>,
    admin: AdminClient<Channel>,
    address: Address,
    timeout: Duration,
    deadline: Instant,
}

impl Client {
    /// Asks the control plane at `address`, for at most `timeout` from now.
    pub fn new(address: Address, security: Security, timeout: Duration) -> Client {
        let channel = Channel::secured(address.clone(), Transport::default(), security);
        Client {
            control: ControlClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
            admin: AdminClient::new(channel),
            address,
            timeout,
            deadline: SystemClock.now().plus(timeout),
        }
    }

    pub async fn create_actor(&self, request: ateapi::CreateActorRequest) -> Result<Actor, Failure> {
        let call = async || self.control.clone().create_actor(request.clone()).await;
        self.present(self.ask(None, call).await?.actor)
    }

    pub async fn get_actor(&self, key: &ActorKey) -> Result<Actor, Failure> {
        let request = ateapi::GetActorRequest {
            actor_ref: reference(key),
        };
        let call = async || self.control.clone().get_actor(request.clone()).await;
        self.present(self.ask(Some(key), call).await?.actor)
    }

    /// The actors of an atespace, or of all.
    pub async fn list_actors(&self, atespace: Option<&str>) -> Result<Vec<Actor>, Failure> {
        let mut request = ateapi::ListActorsRequest {
            page_size: PAGE,
            page_token: String::new(),
            atespace: atespace.unwrap_or_default().to_owned(),
        };
        let mut actors = Vec::new();
        loop {
            let call = async || self.control.clone().list_actors(request.clone()).await;
            let page = self.ask(None, call).await?;
            actors.extend(page.actors);
            if page.next_page_token.is_empty() {
                return Ok(actors);
            }
            if page.next_page_token == request.page_token {
                return Err(self.misfit("a page that is followed by itself"));
            }
            request.page_token = page.next_page_token;
        }
    }

    pub async fn resume_actor(&self, key: &ActorKey, boot: bool) -> Result<Actor, Failure> {
        let request = ateapi::ResumeActorRequest {
            actor_ref: reference(key),
            boot,
        };
        let call = async || self.control.clone().resume_actor(request.clone()).await;
        self.present(self.persist(key, call).await?.actor)
    }

    pub async fn suspend_actor(&self, key: &ActorKey) -> Result<Actor, Failure> {
        let request = ateapi::SuspendActorRequest {
            actor_ref: reference(key),
        };
        let call = async || self.control.clone().suspend_actor(request.clone()).await;
        self.present(self.persist(key, call).await?.actor)
    }

    pub async fn pause_actor(&self, key: &ActorKey) -> Result<Actor, Failure> {
        let request = ateapi::PauseActorRequest {
            actor_ref: reference(key),
        };
        let call = async || self.control.clone().pause_actor(request.clone()).await;
        self.present(self.persist(key, call).await?.actor)
    }

    pub async fn revert_actor(&self, key: &ActorKey) -> Result<Actor, Failure> {
        let request = RevertActorRequest {
            actor_ref: reference(key),
        };
        let call = async || self.admin.clone().revert_actor(request.clone()).await;
        self.present(self.persist(key, call).await?.actor)
    }

    pub async fn explain_actor(&self, key: &ActorKey) -> Result<ExplainActorResponse, Failure> {
        let request = ExplainActorRequest {
            actor_ref: reference(key),
        };
        let call = async || self.admin.clone().explain_actor(request.clone()).await;
        self.persist(key, call).await
    }

    pub async fn delete_actor(&self, key: &ActorKey) -> Result<(), Failure> {
        let request = ateapi::DeleteActorRequest {
            actor_ref: reference(key),
        };
        let mut attempts = 0;
        let call = async || {
            attempts += 1;
            self.control.clone().delete_actor(request.clone()).await
        };
        match self.persist(key, call).await {
            // An earlier attempt has done it, although its answer said otherwise.
            Err(Failure::Verdict { status, .. }) if status.code() == Code::NotFound && attempts > 1 => Ok(()),
            deleted => deleted.map(drop),
        }
    }

    pub async fn create_atespace(&self, name: &str) -> Result<Atespace, Failure> {
        let request = ateapi::CreateAtespaceRequest {
            name: name.to_owned(),
        };
        let call = async || self.control.clone().create_atespace(request.clone()).await;
        self.present(self.ask(None, call).await?.atespace)
    }

    pub async fn get_atespace(&self, name: &str) -> Result<Atespace, Failure> {
        let request = ateapi::GetAtespaceRequest {
            name: name.to_owned(),
        };
        let call = async || self.control.clone().get_atespace(request.clone()).await;
        self.present(self.ask(None, call).await?.atespace)
    }

    pub async fn list_atespaces(&self) -> Result<Vec<Atespace>, Failure> {
        let call = async || {
            self.control
                .clone()
                .list_atespaces(ateapi::ListAtespacesRequest {})
                .await
        };
        Ok(self.ask(None, call).await?.atespaces)
    }

    pub async fn delete_atespace(&self, name: &str) -> Result<(), Failure> {
        let request = ateapi::DeleteAtespaceRequest {
            name: name.to_owned(),
        };
        let call = async || self.control.clone().delete_atespace(request.clone()).await;
        self.ask(None, call).await.map(drop)
    }

    pub async fn list_workers(&self) -> Result<Vec<Worker>, Failure> {
        let call = async || {
            self.control
                .clone()
                .list_workers(ateapi::ListWorkersRequest {})
                .await
        };
        Ok(self.ask(None, call).await?.workers)
    }

    /// Asks once.
    async fn ask<T>(
        &self,
        actor: Option<&ActorKey>,
        call: impl AsyncFnOnce() -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(self.left(), call()).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(Failure::from_status(status, &self.address, actor)),
            Err(_) => Err(Failure::TimedOut {
                address: self.address.clone(),
                timeout: self.timeout,
                actor: actor.cloned(),
            }),
        }
    }

    /// Asks until there is a verdict: what an answer says is only for now is asked again, with a note on
    /// standard error, as long as the time limit leaves room for it. Only for what may be asked twice.
    async fn persist<T>(
        &self,
        actor: &ActorKey,
        mut call: impl AsyncFnMut() -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        let mut unadvised = PAUSE_FROM;
        loop {
            let failure = match self.ask(Some(actor), &mut call).await {
                Err(failure @ Failure::Verdict { .. }) => failure,
                other => return other,
            };
            let Some(pause) = pause(&failure, unadvised) else {
                return Err(failure);
            };
            if pause >= self.left() {
                return Err(failure);
            }
            tell(format_args!(
                "{failure}; trying again in {}",
                duration::show(pause)
            ));
            tokio::time::sleep(pause).await;
            unadvised = (unadvised * 3 / 2).min(PAUSE_TO);
        }
    }

    fn left(&self) -> Duration {
        self.deadline.since(SystemClock.now())
    }

    fn present<T>(&self, answer: Option<T>) -> Result<T, Failure> {
        answer.ok_or_else(|| self.misfit("an empty message"))
    }

    fn misfit(&self, what: &'static str) -> Failure {
        Failure::Misfit {
            address: self.address.clone(),
            what,
        }
    }
}

/// How long to wait before asking again, if that may help. `Aborted` always says so; `Unavailable` can also
/// mean that nobody was reached at all, so there it takes the server's word.
fn pause(failure: &Failure, unadvised: Duration) -> Option<Duration> {
    let Failure::Verdict { status, .. } = failure else {
        return None;
    };
    // Whoever advises does not know how often it has been asked.
    let advised = retry_after(status).map(|pause| pause.max(unadvised));
    match status.code() {
        Code::Aborted => Some(advised.unwrap_or(unadvised)),
        Code::Unavailable => advised,
        _ => None,
    }
}

fn reference(key: &ActorKey) -> Option<ActorRef> {
    Some(ActorRef {
        atespace: key.atespace.to_string(),
        name: key.name.to_string(),
    })
}
