//! Issuers of tokens: where their keys are, and for how long they are remembered.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use holdfast_runtime::clock::Clock;
use holdfast_runtime::tokio::sync::Mutex as Turn;
use http::{HeaderValue, Uri};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;

use crate::bundle::authorities;
use crate::client::{ClientError, bearer, native_roots};
use crate::fetch;
use crate::files::FromFiles;
use crate::jwks::KeySet;
use crate::jwt::{Claims, Token, TokenError};
use crate::server::provider;

/// How long keys are taken as they are. A key that an issuer withdraws is believed in for as long at most.
const FRESH: Duration = Duration::from_secs(300);
/// How long keys outlive an issuer that cannot be asked: an API server that is restarted must not end all calls.
const STALE: Duration = Duration::from_secs(3600);
/// How often an issuer is asked at most, whatever tokens people send.
const ASKED_EVERY: Duration = Duration::from_secs(10);

/// Where a pod finds what it needs to ask the API server of its cluster.
pub const SERVICE_ACCOUNT_CA: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";
/// The token that it asks with.
pub const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// The names of the API server inside of its cluster.
const IN_CLUSTER: [&str; 2] = ["kubernetes.default.svc", "kubernetes.default.svc.cluster.local"];
/// Where API servers publish keys, under whatever name.
const CLUSTER_KEYS: &str = "/openid/v1/jwks";

/// Believes tokens of these issuers for one audience.
pub struct Verifier {
    issuers: Vec<Issuer>,
    audience: String,
    clock: Arc<dyn Clock>,
}

struct Issuer {
    /// As tokens name it.
    url: String,
    in_cluster: bool,
    tls: FromFiles<Arc<ClientConfig>>,
    token: PathBuf,
    clock: Arc<dyn Clock>,
    known: Mutex<Known>,
    /// Whoever holds it asks the issuer; others wait for what it hears.
    turn: Turn<()>,
}

#[derive(Default)]
struct Known {
    keys: Arc<KeySet>,
    /// When they were fetched, on the clock of this host.
    fetched: Option<u64>,
    asked: Option<u64>,
    /// What came of asking last.
    failure: String,
}

/// Why no issuer can be asked.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// It is not the URL of an issuer.
    #[error("{url:?}: {why}")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Its certificate could not be checked.
    #[error(transparent)]
    Roots(#[from] ClientError),
}

#[derive(Deserialize)]
struct Discovery {
    jwks_uri: String,
}

impl Verifier {
    /// Believes tokens that one of `issuers` has made for `audience`. The API server of this cluster is asked with
    /// the token of the service account, and known by `ca_certs`, or else by the authority of the service account;
    /// other issuers by whom this machine trusts, and by `ca_certs`.
    ///
    /// # Errors
    /// When an issuer cannot ever be asked. Whether it answers is seen with the first token.
    pub fn new(
        issuers: &[String],
        audience: String,
        ca_certs: Option<&Path>,
        clock: Arc<dyn Clock>,
    ) -> Result<Verifier, IssuerError> {
        let issuers = issuers.iter().map(|url| Issuer::new(url, ca_certs, &clock));
        Ok(Verifier {
            issuers: issuers.collect::<Result<_, _>>()?,
            audience,
            clock,
        })
    }

    /// What a token claims, if it may be believed.
    ///
    /// # Errors
    /// Why it is not.
    pub async fn verify(&self, text: &str) -> Result<Claims, TokenError> {
        let token = Token::read(text)?;
        let issuer = self.issuers.iter().find(|issuer| issuer.url == token.claims.iss);
        let issuer = issuer.ok_or_else(|| TokenError::Issuer(token.claims.iss.clone()))?;
        let keys = issuer.keys(token.key_id()?).await?;
        token.verify(&keys, &self.audience, self.clock.wall_ms())
    }
}

impl Issuer {
    fn new(url: &str, ca_certs: Option<&Path>, clock: &Arc<dyn Clock>) -> Result<Issuer, IssuerError> {
        let fault = |why| IssuerError::Url {
            url: url.to_owned(),
            why,
        };
        let uri: Uri = url.parse().map_err(|_| fault("is no URL"))?;
        let host = uri
            .host()
            .ok_or_else(|| fault("has no host; write https://HOST[/PATH]"))?;
        match uri.scheme_str() {
            Some("https" | "http") => {}
            _ => return Err(fault("has no scheme; write https://HOST[/PATH]")),
        }
        if uri.query().is_some() {
            return Err(fault("has a query; write https://HOST[/PATH]"));
        }
        let in_cluster = uri.scheme_str() == Some("https") && IN_CLUSTER.contains(&host);
        Ok(Issuer {
            url: url.to_owned(),
            in_cluster,
            tls: trust(in_cluster, ca_certs)?,
            token: SERVICE_ACCOUNT_TOKEN.into(),
            clock: Arc::clone(clock),
            known: Mutex::default(),
            turn: Turn::new(()),
        })
    }

    /// A key set that has this key, or the latest if the key is not known.
    async fn keys(&self, id: &str) -> Result<Arc<KeySet>, TokenError> {
        if let Some(keys) = self.usable(id, FRESH) {
            return Ok(keys);
        }
        // While somebody else asks, what is not quite fresh has to do.
        let turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            Err(_) => match self.usable(id, STALE) {
                Some(keys) => return Ok(keys),
                None => self.turn.lock().await,
            },
        };
        if let Some(keys) = self.usable(id, FRESH) {
            return Ok(keys);
        }
        if self.may_ask() {
            let fetched = self.fetch().await;
            self.learn(fetched);
        }
        drop(turn);
        let known = self.known();
        match self.age(known.fetched).filter(|age| *age <= STALE) {
            Some(_) => Ok(Arc::clone(&known.keys)),
            None => Err(TokenError::Keys {
                issuer: self.url.clone(),
                why: known.failure.clone(),
            }),
        }
    }

    fn usable(&self, id: &str, within: Duration) -> Option<Arc<KeySet>> {
        let known = self.known();
        let is_young = self.age(known.fetched).is_some_and(|age| age <= within);
        (is_young && known.keys.get(id).is_some()).then(|| Arc::clone(&known.keys))
    }

    /// Whether it is time to ask again; whoever hears yes is the one who asks.
    fn may_ask(&self) -> bool {
        let now = self.now();
        let mut known = self.known();
        let is_due = self.age(known.asked).is_none_or(|age| age >= ASKED_EVERY);
        if is_due {
            known.asked = Some(now);
        }
        is_due
    }

    fn learn(&self, fetched: Result<KeySet, String>) {
        let now = self.now();
        let mut known = self.known();
        match fetched {
            Ok(keys) => {
                known.keys = Arc::new(keys);
                known.fetched = Some(now);
                known.failure.clear();
            }
            Err(why) => {
                tracing::warn!(issuer = self.url, error = why, "keys not fetched");
                known.failure = why;
            }
        }
    }

    async fn fetch(&self) -> Result<KeySet, String> {
        let tls = Arc::clone(&self.tls.current());
        let document = format!(
            "{}/.well-known/openid-configuration",
            self.url.trim_end_matches('/')
        );
        let document = self.get(&document, &tls).await?;
        let discovery: Discovery = serde_json::from_slice(&document)
            .map_err(|error| format!("its discovery document is not understood: {error}"))?;
        KeySet::read(&self.get(&discovery.jwks_uri, &tls).await?)
            .map_err(|why| format!("{} {why}", discovery.jwks_uri))
    }

    async fn get(&self, url: &str, tls: &Arc<ClientConfig>) -> Result<bytes::Bytes, String> {
        let uri: Uri = url.parse().map_err(|_| format!("{url:?} is no URL"))?;
        let token = self.shown_to(&uri)?;
        fetch::get(&uri, Arc::clone(tls), token).await
    }

    /// The token of the service account, for the API server of this cluster and nobody else.
    fn shown_to(&self, uri: &Uri) -> Result<Option<HeaderValue>, String> {
        let is_below = |uri: &Uri| {
            let text = uri.to_string();
            let rest = text.strip_prefix(self.url.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let is_keys = uri.scheme_str() == Some("https") && uri.path() == CLUSTER_KEYS;
        if !self.in_cluster || !(is_below(uri) || is_keys) {
            return Ok(None);
        }
        bearer(&self.token).map(Some).map_err(|error| error.to_string())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        self.clock.now().as_micros()
    }

    fn age(&self, at: Option<u64>) -> Option<Duration> {
        at.map(|at| Duration::from_micros(self.now().saturating_sub(at)))
    }
}

/// Whom an issuer's certificate may be of.
fn trust(in_cluster: bool, ca_certs: Option<&Path>) -> Result<FromFiles<Arc<ClientConfig>>, ClientError> {
    let file = match (in_cluster, ca_certs) {
        (true, None) => Some(PathBuf::from(SERVICE_ACCOUNT_CA)),
        (_, given) => given.map(Path::to_owned),
    };
    let native = match (in_cluster, &file) {
        (false, None) => native_roots().unwrap_or_else(|error| {
            tracing::warn!(%error, "issuers with https cannot be asked");
            RootCertStore::empty()
        }),
        (false, Some(_)) => native_roots().unwrap_or_else(|_| RootCertStore::empty()),
        (true, _) => RootCertStore::empty(),
    };
    let paths = file.iter().cloned().collect();
    let made = FromFiles::open(paths, move || {
        let mut roots = native.clone();
        if let Some(file) = &file {
            roots.extend(authorities(file)?.roots);
        }
        let builder =
            ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13, &TLS12]);
        let builder = builder.map_err(|error| crate::FileError::new(Path::new("TLS"), error))?;
        Ok(Arc::new(
            builder.with_root_certificates(roots).with_no_client_auth(),
        ))
    });
    Ok(made?)
}

#[cfg(test)]
mod tests;
