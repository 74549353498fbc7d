//! SessionIdentity: tokens and certificates for sessions, for the worker that the session runs on.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use holdfast_core::actor::Actor;
use holdfast_core::request::{Answer, Request as Ask};
use holdfast_rpc::ateapi::session_identity_server::SessionIdentity;
use holdfast_rpc::ateapi::{MintCertRequest, MintCertResponse, MintJwtRequest, MintJwtResponse};
use holdfast_rpc::failure::to_status;
use holdfast_runtime::clock::Clock;
use holdfast_runtime::net::PeerCertificates;
use holdfast_security::caller::Caller;
use holdfast_security::issuer::Verifier;
use holdfast_security::pool;
use holdfast_security::session::{CertificateError, Session};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use crate::desk::Desk;

/// What identities may be minted for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Binding {
    /// A session is an actor that is on the worker which calls; its application and its user are what the
    /// worker says.
    #[default]
    Session,
    /// And its application is `NAMESPACE.TEMPLATE`, and its user the atespace.
    Actor,
    /// Whatever is asked for, by whoever is known at all, as the original does.
    None,
}

impl FromStr for Binding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "session" => Ok(Self::Session),
            "actor" => Ok(Self::Actor),
            "none" => Ok(Self::None),
            _ => Err(format!("\"{text}\" is no binding; use session, actor or none")),
        }
    }
}

/// What identities are minted with. Nothing that is not configured is offered.
#[derive(Clone, Default)]
pub struct Identity {
    /// Knows callers by their tokens.
    pub verifier: Option<Arc<Verifier>>,
    /// The file with the keys that tokens are signed with; read for each of them.
    pub jwt_pool: Option<PathBuf>,
    /// The file with the authorities that certificates are signed by; read for each of them.
    pub ca_pool: Option<PathBuf>,
    /// What callers may ask for.
    pub binding: Binding,
}

/// The service.
#[derive(Clone)]
pub struct Minter {
    desk: Desk,
    identity: Identity,
    clock: Arc<dyn Clock>,
}

impl Minter {
    /// Mints like this, for actors that the machine behind this desk knows.
    pub fn new(desk: Desk, identity: Identity, clock: Arc<dyn Clock>) -> Minter {
        Minter {
            desk,
            identity,
            clock,
        }
    }

    async fn ask(&self, request: Ask) -> Result<Answer, Status> {
        match self.desk.ask(request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(failure)) => Err(to_status(&failure)),
            Err(_) => Err(Status::unavailable("this replica has stopped; ask another")),
        }
    }

    /// The actor that a session is, if whoever calls may be the worker that it is on.
    async fn bound(&self, session: &Session, caller: Option<Caller>) -> Result<Option<Actor>, Status> {
        if !session.is_well_formed() {
            return Err(Status::invalid_argument(
                "app_id, user_id and session_id must not be . or .. and must not contain slashes or control characters",
            ));
        }
        if self.identity.binding == Binding::None {
            return Ok(None);
        }
        // One text for all of it: who may not ask learns nothing about where actors are.
        let refused = || {
            Status::permission_denied(format!(
                "session \"{}\" is no actor on the worker that asks for it, as far as its credentials tell",
                session.session
            ))
        };
        let caller = caller.ok_or_else(refused)?;
        let Answer::Workers(workers) = self.ask(Ask::ListWorkers).await? else {
            return Err(Status::internal(
                "internal server error: an answer does not fit its question",
            ));
        };
        let hosted = workers.iter().filter(|worker| {
            let key = &worker.key;
            caller.may_be(key.namespace.as_str(), key.pod.as_str(), worker.pod_uid.as_str())
        });
        let keys = hosted.filter_map(|worker| {
            let actor = &worker.hosts.as_ref()?.actor;
            (actor.name.as_str() == session.session).then_some(actor)
        });
        for key in keys {
            // A row may be a promise that is not kept yet, or no longer: the actor's own record decides.
            let found = match self.ask(Ask::GetActor(key.clone())).await {
                Ok(Answer::Actor(actor)) => actor,
                Ok(_) => continue,
                Err(status) if status.code() == tonic::Code::NotFound => continue,
                Err(status) => return Err(status),
            };
            let is_there = found.assignment().is_some_and(|on| {
                let key = &on.worker;
                caller.may_be(key.namespace.as_str(), key.pod.as_str(), on.pod_uid.as_str())
            });
            if is_there && self.is_allowed(session, &found) {
                return Ok(Some(*found));
            }
        }
        Err(refused())
    }

    fn is_allowed(&self, session: &Session, actor: &Actor) -> bool {
        if self.identity.binding != Binding::Actor {
            return true;
        }
        // A namespace has no dot, so there is one way only to read this.
        let app = format!("{}.{}", actor.template_namespace, actor.template_name);
        session.app == app && session.user == actor.key.atespace.as_str()
    }

    async fn known(&self, metadata: &MetadataMap) -> Result<Option<Caller>, Status> {
        let mut values = metadata.get_all("authorization").iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(Status::unauthenticated("Need authorization header"));
        };
        let unknown = || Status::unauthenticated("Unauthenticated");
        let text = value.to_str().map_err(|_| unknown())?;
        let token = text.strip_prefix("Bearer ").unwrap_or(text);
        let verifier = self.identity.verifier.as_ref().ok_or_else(unknown)?;
        let claims = verifier.verify(token).await.map_err(|_| unknown())?;
        Ok(Caller::of_token(&claims))
    }
}

#[tonic::async_trait]
impl SessionIdentity for Minter {
    async fn mint_jwt(&self, request: Request<MintJwtRequest>) -> Result<Response<MintJwtResponse>, Status> {
        let caller = self.known(request.metadata()).await?;
        let request = request.into_inner();
        let session = Session {
            app: request.app_id,
            user: request.user_id,
            session: request.session_id,
        };
        let path = self.identity.jwt_pool.as_ref().ok_or_else(|| {
            Status::failed_precondition(
                "no session tokens are minted here: ateapi has no --session-id-jwt-pool",
            )
        })?;
        let authority = pool::jwt(path).map_err(|error| {
            tracing::error!(%error, "session tokens cannot be signed");
            Status::internal("internal server error: Failed to load session JWT pool")
        })?;
        if request.audience.is_empty() {
            return Err(Status::internal(
                "internal server error: at least one audience must be requested",
            ));
        }
        let actor = self.bound(&session, caller).await?;
        let placed = actor.map(|actor| {
            let told = [
                ("atespace", actor.key.atespace.to_string()),
                ("actorTemplateNamespace", actor.template_namespace.to_string()),
                ("actorTemplateName", actor.template_name.to_string()),
            ];
            told.map(|(name, value)| (name.to_owned(), value.into()))
                .into_iter()
                .collect()
        });
        let token = session.token(
            &request.audience,
            placed.unwrap_or_default(),
            &authority,
            self.clock.wall_ms(),
        );
        let session_jwt = token.map_err(|why| {
            tracing::error!(pool = %path.display(), why, "session tokens cannot be signed");
            Status::internal(format!("internal server error: while signing session JWT: {why}"))
        })?;
        Ok(Response::new(MintJwtResponse { session_jwt }))
    }

    async fn mint_cert(
        &self,
        request: Request<MintCertRequest>,
    ) -> Result<Response<MintCertResponse>, Status> {
        let shown = request.extensions().get::<PeerCertificates>().cloned();
        let shown = shown.ok_or_else(|| Status::unauthenticated("unexpected peer transport credentials"))?;
        if shown.0.is_empty() {
            return Err(Status::unauthenticated("could not verify peer certificate"));
        }
        let request = request.into_inner();
        let session = Session {
            app: request.app_id,
            user: request.user_id,
            session: request.session_id,
        };
        if [&session.app, &session.user, &session.session]
            .iter()
            .any(|part| part.is_empty())
        {
            return Err(Status::invalid_argument(
                "app_id, user_id, and session_id are required",
            ));
        }
        let path = self.identity.ca_pool.as_ref().ok_or_else(|| {
            Status::failed_precondition(
                "no session certificates are minted here: ateapi has no --session-id-ca-pool",
            )
        })?;
        let authority = pool::certificates(path).map_err(|error| {
            tracing::error!(%error, "session certificates cannot be signed");
            Status::internal("Failed to load session CA")
        })?;
        self.bound(&session, Caller::of_certificate(&shown)).await?;
        let signing = &request.certificate_signing_request;
        match session.certificate(signing, &authority, self.clock.wall_ms()) {
            Ok(session_certificates) => Ok(Response::new(MintCertResponse { session_certificates })),
            Err(CertificateError::Malformed) => Err(Status::internal("Failed to parse CSR")),
            Err(CertificateError::Unsigned) => Err(Status::internal("Failed to verify CSR signature")),
            Err(CertificateError::Authority) => Err(Status::internal("Failed to sign certificate")),
        }
    }
}
