//! Calls with bearer tokens.

use std::sync::Arc;

use holdfast_rpc::gate::Doorkeeper;
use http::header::AUTHORIZATION;
use http::request::Parts;
use tonic::Status;

use crate::issuer::Verifier;

/// Lets calls in that carry a token which may be believed.
pub struct BearerTokens(pub Arc<Verifier>);

#[tonic::async_trait]
impl Doorkeeper for BearerTokens {
    async fn admit(&self, call: &Parts) -> Result<(), Status> {
        let value = call
            .headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let token = value
            .and_then(|value| value.strip_prefix("Bearer "))
            .map(str::trim);
        let Some(token) = token.filter(|token| !token.is_empty()) else {
            return Err(Status::unauthenticated("missing bearer token"));
        };
        match self.0.verify(token).await {
            Ok(_) => Ok(()),
            Err(error) => Err(Status::unauthenticated(format!("invalid bearer token: {error}"))),
        }
    }
}
