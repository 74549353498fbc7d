//! Logins that a cloud has for the machines in it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use holdfast_runtime::tokio::time::{Instant, timeout};
use http::StatusCode;
use serde::Deserialize;

use super::Login;
use crate::PullError;
use crate::http::Http;
use crate::registry::{get, read_all};

/// Where Google's machines learn who they are, unless the environment says otherwise.
const METADATA_HOST: &str = "metadata.google.internal";
const METADATA_HOST_VARIABLE: &str = "GCE_METADATA_HOST";
const TOKEN_PATH: &str = "/computeMetadata/v1/instance/service-accounts/default/token";
/// Without it the server says nothing: a page in a browser cannot send it.
const FLAVOR: (&str, &str) = ("metadata-flavor", "Google");
/// The registries that know these tokens, and all below them.
const REGISTRIES: [&str; 2] = ["gcr.io", "pkg.dev"];
/// The user that goes with a token.
const USER: &str = "oauth2accesstoken";
/// Where there is no such server, nobody waits longer for it.
const LIMIT: Duration = Duration::from_secs(3);
/// A token that ends sooner is not begun with.
const SPARE: Duration = Duration::from_secs(60);
/// So long a server that did not answer is not asked again.
const SILENCE: Duration = Duration::from_secs(60);
const MAX_ANSWER_BYTES: u64 = 1 << 20;

/// The logins of the service account of this machine, at the registries of its cloud.
#[derive(Clone)]
pub struct CloudLogins(Arc<Google>);

struct Google {
    metadata: String,
    known: Mutex<Option<Known>>,
}

#[derive(Clone)]
struct Known {
    /// `None` where there is nobody to ask.
    token: Option<String>,
    until: Instant,
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
    #[serde(default)]
    expires_in: u64,
}

impl CloudLogins {
    /// Those of Google Cloud, from its metadata server or the one that `GCE_METADATA_HOST` names.
    pub fn google() -> Self {
        let host = std::env::var(METADATA_HOST_VARIABLE)
            .ok()
            .filter(|host| !host.is_empty());
        Self::google_at(host.as_deref().unwrap_or(METADATA_HOST))
    }

    fn google_at(metadata: &str) -> Self {
        Self(Arc::new(Google {
            metadata: metadata.to_owned(),
            known: Mutex::new(None),
        }))
    }

    /// The login for a registry; none for those of others.
    pub(super) async fn login(&self, host: &str, http: &Http) -> Result<Option<Login>, PullError> {
        if !is_googles(host) {
            return Ok(None);
        }
        let login = |token: String| Login::Password {
            user: USER.to_owned(),
            password: token,
        };
        let now = Instant::now();
        let known = self.known().clone();
        if let Some(known) = known.filter(|known| known.until > now) {
            return Ok(known.token.map(login));
        }
        match self.fetch(http).await {
            Ok(Token {
                access_token,
                expires_in,
            }) => {
                let until = now + Duration::from_secs(expires_in.min(24 * 60 * 60)).saturating_sub(SPARE);
                *self.known() = Some(Known {
                    token: Some(access_token.clone()),
                    until,
                });
                Ok(Some(login(access_token)))
            }
            Err(error) => {
                *self.known() = Some(Known {
                    token: None,
                    until: now + SILENCE,
                });
                Err(error)
            }
        }
    }

    async fn fetch(&self, http: &Http) -> Result<Token, PullError> {
        let what = format!("http://{}{TOKEN_PATH}", self.0.metadata);
        let asked = async {
            let response = http.send(get(&what, &[FLAVOR])?).await?;
            if response.status() != StatusCode::OK {
                return Err(PullError::Status {
                    what: what.clone(),
                    status: response.status().as_u16(),
                });
            }
            let json = read_all(response, MAX_ANSWER_BYTES, &what).await?;
            // The error would quote the answer, which is secret.
            serde_json::from_slice(&json).map_err(|_| PullError::Malformed {
                what: what.clone(),
                reason: "its answer is not a token".to_owned(),
            })
        };
        let late = |_| PullError::Network {
            what: what.clone(),
            source: "no answer; this machine may be in no cloud".into(),
        };
        timeout(LIMIT, asked)
            .await
            .unwrap_or_else(|elapsed| Err(late(elapsed)))
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Option<Known>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_googles(host: &str) -> bool {
    let is_below = |registry: &str| {
        host.strip_suffix(registry)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    REGISTRIES.iter().any(|registry| is_below(registry))
}

impl fmt::Debug for CloudLogins {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("CloudLogins(google)")
    }
}

#[cfg(test)]
mod tests {
    use holdfast_runtime::tokio;
    use holdfast_runtime::tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use holdfast_runtime::tokio::net::TcpListener;
    use holdfast_runtime::tokio::sync::watch;

    use super::*;

    /// A metadata server that gives each caller another token, and what it was asked.
    async fn metadata(answer: &'static str) -> (String, watch::Receiver<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address").to_string();
        let (sender, asked) = watch::channel(Vec::new());
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.expect("accept");
                let mut request = vec![0; 4096];
                let count = socket.read(&mut request).await.unwrap_or(0);
                sender
                    .send_modify(|asked| asked.push(String::from_utf8_lossy(&request[..count]).into_owned()));
                let body = answer.replace('#', &sender.borrow().len().to_string());
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                let _ = socket.write_all(format!("{head}{body}").as_bytes()).await;
            }
        });
        (address, asked)
    }

    fn password(login: &Option<Login>) -> Option<&str> {
        match login {
            Some(Login::Password { user, password }) if user == USER => Some(password),
            _ => None,
        }
    }

    #[tokio::test]
    async fn the_token_of_this_machine_opens_the_registries_of_its_cloud_and_no_others() {
        let (address, asked) =
            metadata(r#"{"access_token":"t#","expires_in":3599,"token_type":"Bearer"}"#).await;
        let (cloud, http) = (CloudLogins::google_at(&address), Http::new(Default::default()));
        for host in ["docker.io", "evilgcr.io", "gcr.io.example", "127.0.0.1:5000"] {
            assert!(
                cloud.login(host, &http).await.expect("no question").is_none(),
                "{host}"
            );
        }
        assert_eq!(asked.borrow().len(), 0);
        for host in ["gcr.io", "eu.gcr.io", "pkg.dev", "europe-docker.pkg.dev"] {
            let login = cloud.login(host, &http).await.expect("login");
            assert_eq!(password(&login), Some("t1"), "{host}");
        }
        let asked = asked.borrow();
        assert_eq!(asked.len(), 1, "a token is used until it ends");
        assert!(
            asked[0].to_ascii_lowercase().contains("metadata-flavor: google"),
            "{asked:?}"
        );
        assert!(asked[0].starts_with("GET /computeMetadata/v1/instance/service-accounts/default/token "));
    }

    #[tokio::test]
    async fn a_token_that_is_about_to_end_is_fetched_anew() {
        let (address, _) = metadata(r#"{"access_token":"t#","expires_in":59}"#).await;
        let (cloud, http) = (CloudLogins::google_at(&address), Http::new(Default::default()));
        for token in ["t1", "t2"] {
            let login = cloud.login("gcr.io", &http).await.expect("login");
            assert_eq!(password(&login), Some(token));
        }
    }

    #[tokio::test]
    async fn where_nobody_answers_it_is_told_once_and_pulls_go_on_without_a_login() {
        let (address, asked) = metadata("hunter2").await;
        let (cloud, http) = (CloudLogins::google_at(&address), Http::new(Default::default()));
        let error = cloud.login("gcr.io", &http).await.expect_err("no token");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        assert!(cloud.login("gcr.io", &http).await.expect("quiet").is_none());
        assert_eq!(asked.borrow().len(), 1);
    }
}
