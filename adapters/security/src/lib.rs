//! Who is at the other end: TLS from files that change, tokens of Kubernetes service accounts, and identities
//! that are minted for sessions.
//!
//! ```text
//! files --> ServerFiles, ClientOptions --> holdfast_runtime::net      connections
//! issuers --> Verifier --> BearerTokens --> holdfast_rpc::gate         calls
//! pools, Session --> tokens and certificates for sessions, whose Caller is known by one of the above
//! ```
//!
//! Nothing here is printed or logged that is a secret: keys have no `Debug`, tokens are never repeated in errors.

mod bundle;
pub mod caller;
pub mod client;
mod der;
mod fetch;
mod files;
pub mod issuer;
mod jwks;
pub mod jwt;
pub mod pool;
pub mod server;
pub mod session;
pub mod tokens;
mod x509;

pub use client::{ClientError, ClientOptions};
pub use files::FileError;
pub use server::{ClientCertificates, ServerFiles};
