//! Who may ask this replica, and how it asks nodes: the flags, and what they amount to.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use holdfast_control::{Binding, DebugClear, Identity, Security};
use holdfast_rpc::gate::{Doorkeeper, Gate};
use holdfast_runtime::clock::SystemClock;
use holdfast_runtime::net::{Address, ServerTls};
use holdfast_security::issuer::{IssuerError, SERVICE_ACCOUNT_CA, Verifier};
use holdfast_security::tokens::BearerTokens;
use holdfast_security::{ClientCertificates, ClientError, ClientOptions, FileError, ServerFiles};

/// Stands in the original's manifests for what its environment says.
const FROM_ENVIRONMENT: &str = "@env";
/// Where the original's environment says it.
const ISSUER_VARIABLE: &str = "ATE_API_K8SJWT_ISSUER";

/// The flags. Those of the original may be given empty, which is how it says that they are not.
#[derive(Debug, Args)]
pub struct SecurityFlags {
    /// Serve TLS with this credential bundle: a PEM file of one PRIVATE KEY (PKCS #8) and CERTIFICATEs, leaf
    /// first. It is read again when it changes
    #[arg(long, value_name = "FILE", env = "HOLDFAST_GRPC_SERVER_CRED_BUNDLE", value_parser = file)]
    grpc_server_cred_bundle: Option<PathBuf>,

    /// Whose certificates clients may show: a PEM file of authorities, read again when it changes. One that is
    /// shown is verified; nobody has to show one, unless --require-client-certs
    #[arg(long, value_name = "FILE", env = "HOLDFAST_WORKERPOOL_CA_CERTS", value_parser = file)]
    workerpool_ca_certs: Option<PathBuf>,

    /// Refuse clients that show no certificate
    #[arg(long, env = "HOLDFAST_REQUIRE_CLIENT_CERTS", value_parser = BoolishValueParser::new())]
    require_client_certs: bool,

    /// How callers are known: mtls (by their certificates, if they show any), or jwt (and each call has a bearer
    /// token of a Kubernetes service account)
    #[arg(long, value_name = "MODE", env = "HOLDFAST_AUTH_MODE", default_value = "mtls")]
    auth_mode: AuthMode,

    /// Issuers of the tokens that are believed, separated by commas, as tokens name them; @env takes
    /// ATE_API_K8SJWT_ISSUER
    #[arg(
        long,
        value_name = "URL",
        env = "HOLDFAST_CLIENT_JWT_ISSUER",
        value_delimiter = ','
    )]
    client_jwt_issuer: Vec<String>,

    /// The audience that tokens have to be for
    #[arg(
        long,
        value_name = "AUDIENCE",
        env = "HOLDFAST_CLIENT_JWT_AUDIENCE",
        default_value = "",
        hide_default_value = true
    )]
    client_jwt_audience: String,

    /// Who may have signed the certificates of issuers: a PEM file of authorities [default: for the API server
    /// of this cluster /var/run/secrets/kubernetes.io/serviceaccount/ca.crt, for others whom the system trusts]
    #[arg(long, value_name = "FILE", env = "HOLDFAST_CLIENT_JWT_CA_CERT", value_parser = file)]
    client_jwt_ca_cert: Option<PathBuf>,

    /// The keys that session tokens are signed with (MintJWT): a JSON file, read for each token
    #[arg(long, value_name = "FILE", env = "HOLDFAST_SESSION_ID_JWT_POOL", value_parser = file)]
    session_id_jwt_pool: Option<PathBuf>,

    /// The authorities that session certificates are signed by (MintCert): a JSON file, read for each
    /// certificate
    #[arg(long, value_name = "FILE", env = "HOLDFAST_SESSION_ID_CA_POOL", value_parser = file)]
    session_id_ca_pool: Option<PathBuf>,

    /// Which identities a worker may have minted: session (its session_id is an actor that is on this worker),
    /// actor (and its app_id is NAMESPACE.TEMPLATE and its user_id the atespace of that actor), or none (any, as
    /// with the original)
    #[arg(
        long,
        value_name = "BINDING",
        env = "HOLDFAST_SESSION_ID_BINDING",
        default_value = "session"
    )]
    session_id_binding: Binding,

    /// Let whoever may call delete every actor, worker and atespace (DebugClear)
    #[arg(long, env = "HOLDFAST_ENABLE_DEBUG_CLEAR", value_parser = BoolishValueParser::new())]
    enable_debug_clear: bool,

    /// How many calls are served at a time; those above are refused with ResourceExhausted
    #[arg(long, value_name = "COUNT", env = "HOLDFAST_MAX_CONCURRENT_CALLS", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_concurrent_calls: u32,

    /// Speak TLS with nodes, whose certificates are of whom the system trusts; each of the next three says so,
    /// too
    #[arg(long, env = "HOLDFAST_ATELET_TLS", value_parser = BoolishValueParser::new())]
    atelet_tls: bool,

    /// Who may have signed the certificates of nodes: a PEM file of authorities, read again when it changes
    #[arg(long, value_name = "FILE", env = "HOLDFAST_ATELET_CA_CERTS", value_parser = file)]
    atelet_ca_certs: Option<PathBuf>,

    /// What nodes are shown: a credential bundle, read again when it changes
    #[arg(long, value_name = "FILE", env = "HOLDFAST_ATELET_CRED_BUNDLE", value_parser = file)]
    atelet_cred_bundle: Option<PathBuf>,

    /// The name that the certificates of nodes are for [default: the host of each node's address]
    #[arg(long, value_name = "NAME", env = "HOLDFAST_ATELET_SERVER_NAME")]
    atelet_server_name: Option<String>,
}

/// How callers are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AuthMode {
    /// By certificates.
    Mtls,
    /// By tokens.
    Jwt,
}

/// What is wrong with these flags.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    #[error(
        "--grpc-listen-addr {address}: other hosts can reach this address, and nothing there would be encrypted. Serve \
         TLS with --grpc-server-cred-bundle FILE, listen on 127.0.0.1:8443 or unix:/path behind a proxy that terminates \
         TLS, or say --insecure-plaintext if you trust everyone on this network"
    )]
    Exposed { address: Address },
    #[error("--insecure-plaintext: --grpc-server-cred-bundle says to serve TLS; leave one of them out")]
    PlaintextAndTls,
    #[error(
        "--workerpool-ca-certs {}: without TLS nobody shows a certificate; add --grpc-server-cred-bundle FILE", .0.display()
    )]
    NoTls(PathBuf),
    #[error("--require-client-certs: whose? Name their authorities with --workerpool-ca-certs FILE")]
    NoAuthorities,
    #[error("--auth-mode jwt: whose tokens? Name their issuer with --client-jwt-issuer URL")]
    NoIssuer,
    #[error(
        "--client-jwt-issuer {0}: for whom are its tokens? Say --client-jwt-audience, such as api.ate-system.svc"
    )]
    NoAudience(String),
    #[error("--client-jwt-issuer @env: the variable {ISSUER_VARIABLE} is not set")]
    NoVariable,
    #[error("--client-jwt-audience {0}: there is no --client-jwt-issuer whose tokens could be for it")]
    NobodysAudience(String),
    #[error("--client-jwt-ca-cert {}: there is no --client-jwt-issuer that it could be of", .0.display())]
    NobodysCa(PathBuf),
    #[error("{flag}: {source}")]
    File { flag: &'static str, source: FileError },
    #[error("--client-jwt-issuer: {0}")]
    Issuer(IssuerError),
    #[error("--client-jwt-ca-cert: {0}")]
    IssuerCa(ClientError),
    #[error("--atelet-ca-certs, --atelet-cred-bundle, --atelet-server-name: {0}")]
    Nodes(ClientError),
}

/// What the flags amount to.
pub struct Planned {
    /// What is spoken where this replica serves, if it is TLS.
    pub tls: Option<Arc<dyn ServerTls>>,
    /// Who may ask what.
    pub security: Security,
}

impl SecurityFlags {
    /// Checks them together, and reads every file once.
    ///
    /// # Errors
    /// The first that is wrong.
    pub fn plan(self, listen: &Address, plaintext: bool) -> Result<Planned, SecurityError> {
        let tls = self.tls(listen, plaintext)?;
        let verifier = self.verifier()?.map(Arc::new);
        let doorkeeper = match (self.auth_mode, &verifier) {
            (AuthMode::Mtls, _) => None,
            (AuthMode::Jwt, None) => return Err(SecurityError::NoIssuer),
            (AuthMode::Jwt, Some(verifier)) => {
                Some(Arc::new(BearerTokens(verifier.clone())) as Arc<dyn Doorkeeper>)
            }
        };
        let nodes = ClientOptions {
            tls: self.atelet_tls,
            ca_certs: given(self.atelet_ca_certs),
            cred_bundle: given(self.atelet_cred_bundle),
            server_name: self.atelet_server_name,
            ..ClientOptions::default()
        };
        Ok(Planned {
            tls,
            security: Security {
                gate: Gate {
                    doorkeeper,
                    calls_max: self.max_concurrent_calls as usize,
                },
                nodes: nodes.open().map_err(SecurityError::Nodes)?,
                identity: Identity {
                    verifier,
                    jwt_pool: pool("--session-id-jwt-pool", self.session_id_jwt_pool, |path| {
                        holdfast_security::pool::jwt(path).map(drop)
                    })?,
                    ca_pool: pool("--session-id-ca-pool", self.session_id_ca_pool, |path| {
                        holdfast_security::pool::certificates(path).map(drop)
                    })?,
                    binding: self.session_id_binding,
                },
                debug_clear: if self.enable_debug_clear {
                    DebugClear::Offered
                } else {
                    DebugClear::Refused
                },
            },
        })
    }

    fn tls(&self, listen: &Address, plaintext: bool) -> Result<Option<Arc<dyn ServerTls>>, SecurityError> {
        let authorities = given(self.workerpool_ca_certs.clone());
        let clients = match (authorities, self.require_client_certs) {
            (Some(path), true) => Some((path, ClientCertificates::Required)),
            (Some(path), false) => Some((path, ClientCertificates::Verified)),
            (None, true) => return Err(SecurityError::NoAuthorities),
            (None, false) => None,
        };
        let Some(bundle) = given(self.grpc_server_cred_bundle.clone()) else {
            if !plaintext && !listen.is_local() {
                return Err(SecurityError::Exposed {
                    address: listen.clone(),
                });
            }
            if let Some((path, _)) = clients {
                return Err(SecurityError::NoTls(path));
            }
            return Ok(None);
        };
        if plaintext {
            return Err(SecurityError::PlaintextAndTls);
        }
        let opened = ServerFiles::open(bundle.clone(), clients);
        let server = opened.map_err(|source| SecurityError::File {
            flag: if source.path == bundle {
                "--grpc-server-cred-bundle"
            } else {
                "--workerpool-ca-certs"
            },
            source,
        })?;
        Ok(Some(Arc::new(server)))
    }

    fn verifier(&self) -> Result<Option<Verifier>, SecurityError> {
        let mut issuers = Vec::new();
        for issuer in self.client_jwt_issuer.iter().filter(|issuer| !issuer.is_empty()) {
            if issuer == FROM_ENVIRONMENT {
                issuers.push(std::env::var(ISSUER_VARIABLE).map_err(|_| SecurityError::NoVariable)?);
            } else {
                issuers.push(issuer.clone());
            }
        }
        let (audience, ca_certs) = (
            self.client_jwt_audience.clone(),
            given(self.client_jwt_ca_cert.clone()),
        );
        if issuers.is_empty() {
            return match ca_certs {
                _ if !audience.is_empty() => Err(SecurityError::NobodysAudience(audience)),
                // It is what the original takes when nothing is said.
                Some(path) if path != Path::new(SERVICE_ACCOUNT_CA) => Err(SecurityError::NobodysCa(path)),
                _ => Ok(None),
            };
        }
        if audience.is_empty() {
            return Err(SecurityError::NoAudience(issuers.join(",")));
        }
        let verifier = Verifier::new(&issuers, audience, ca_certs.as_deref(), Arc::new(SystemClock));
        verifier.map(Some).map_err(|error| match error {
            IssuerError::Roots(error) => SecurityError::IssuerCa(error),
            error => SecurityError::Issuer(error),
        })
    }
}

/// A pool is read for each use; what is wrong with it is better known before.
fn pool(
    flag: &'static str,
    path: Option<PathBuf>,
    read: impl FnOnce(&PathBuf) -> Result<(), FileError>,
) -> Result<Option<PathBuf>, SecurityError> {
    let path = given(path);
    if let Some(path) = &path {
        read(path).map_err(|source| SecurityError::File { flag, source })?;
    }
    Ok(path)
}

fn given(path: Option<PathBuf>) -> Option<PathBuf> {
    path.filter(|path| !path.as_os_str().is_empty())
}

/// Also nothing, which the parser for paths would refuse.
fn file(text: &str) -> Result<PathBuf, Infallible> {
    Ok(PathBuf::from(text))
}
