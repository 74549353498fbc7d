//! Who to be at which registry.

mod cloud;
mod program;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

use crate::http::Http;
pub use cloud::CloudLogins;
use program::Helper;

/// Logins by registry host, and who may be asked for more. Neither `Debug` nor any error shows a secret.
#[derive(Clone, Default)]
pub struct Credentials {
    logins: BTreeMap<String, Login>,
    /// The helper of a registry, by host.
    helpers: BTreeMap<String, Helper>,
    /// The helper of those that have none of their own.
    store: Option<Helper>,
    cloud: Option<CloudLogins>,
}

/// How to log in to one registry.
#[derive(Clone)]
pub enum Login {
    /// A user and a password, for the registry itself or for its token service.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// An identity token, which the registry's token service exchanges for access.
    Identity(String),
    /// An access token for the registry itself.
    Registry(String),
}

/// Why a Docker configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The file is no Docker configuration.
    #[error("{path}: line {line}, column {column}: not a Docker config.json", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Where it breaks, from 1.
        line: usize,
        /// Where it breaks, from 1.
        column: usize,
    },
    /// An entry whose `auth` cannot be decoded.
    #[error("{path}: \"auth\" of {host:?} is not the base64 of user:password", path = path.display())]
    Auth {
        /// The file.
        path: PathBuf,
        /// The registry.
        host: String,
    },
    /// A credential helper that no program can be called.
    #[error(
        "{path}: {name:?} is no name of a credential helper; write what stands behind \"docker-credential-\"",
        path = path.display()
    )]
    Helper {
        /// The file.
        path: PathBuf,
        /// What it says.
        name: String,
    },
}

impl Credentials {
    /// Reads the logins in a Docker `config.json`, and which credential helpers it names.
    ///
    /// # Errors
    /// When the file cannot be read or is not of that format.
    pub fn from_docker_config(path: &Path) -> Result<Self, CredentialsError> {
        let json = std::fs::read(path).map_err(|source| CredentialsError::Read {
            path: path.to_owned(),
            source,
        })?;
        // serde_json's own message may quote the text it stumbled over, which may be a password.
        let config: DockerConfig =
            serde_json::from_slice(&json).map_err(|error| CredentialsError::Format {
                path: path.to_owned(),
                line: error.line(),
                column: error.column(),
            })?;
        let helper = |name: &str| {
            Helper::new(name).ok_or_else(|| CredentialsError::Helper {
                path: path.to_owned(),
                name: name.to_owned(),
            })
        };
        let mut credentials = Self {
            store: config.creds_store.as_deref().map(helper).transpose()?,
            ..Self::default()
        };
        for (key, name) in &config.cred_helpers {
            credentials.helpers.insert(registry_host(key), helper(name)?);
        }
        for (key, auth) in config.auths {
            let login = auth.login().map_err(|()| CredentialsError::Auth {
                path: path.to_owned(),
                host: key.clone(),
            })?;
            if let Some(login) = login {
                credentials.insert(&key, login);
            }
        }
        Ok(credentials)
    }

    /// Sets the login for a registry, which may be written as host or as address.
    pub fn insert(&mut self, registry: &str, login: Login) {
        self.logins.insert(registry_host(registry), login);
    }

    /// The same logins, and those that the cloud has for this machine where there are none.
    pub fn with_cloud(self, cloud: CloudLogins) -> Self {
        Self {
            cloud: Some(cloud),
            ..self
        }
    }

    /// The login that is written down for a registry.
    pub(crate) fn get(&self, host: &str) -> Option<&Login> {
        self.logins.get(host).filter(|_| !self.helpers.contains_key(host))
    }

    /// The login that somebody else has for a registry: its helper, the store of all, or the cloud, in this order. Who
    /// cannot be asked has none, which the log says.
    pub(crate) async fn ask(&self, host: &str, http: &Http) -> Option<Login> {
        if let Some(helper) = self.helpers.get(host).or(self.store.as_ref()) {
            match helper.ask(host).await {
                Ok(Some(login)) => return Some(login),
                Ok(None) => {}
                Err(error) => tracing::warn!(registry = host, %error, "a credential helper has no answer"),
            }
        }
        match self.cloud.as_ref()?.login(host, http).await {
            Ok(login) => login,
            Err(error) => {
                tracing::warn!(registry = host, %error, "no login from the cloud; asking without one");
                None
            }
        }
    }
}

/// Docker writes its own registry as an address, others as hosts, and old files have more of both.
fn registry_host(key: &str) -> String {
    let key = key.split_once("://").map_or(key, |(_, rest)| rest);
    let host = key.split_once('/').map_or(key, |(host, _)| host);
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        host => host.to_owned(),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, DockerAuth>,
    creds_store: Option<String>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct DockerAuth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl DockerAuth {
    fn login(self) -> Result<Option<Login>, ()> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        if let Some(token) = given(self.registrytoken) {
            return Ok(Some(Login::Registry(token)));
        }
        if let Some(token) = given(self.identitytoken) {
            return Ok(Some(Login::Identity(token)));
        }
        if let Some(auth) = given(self.auth) {
            let text = BASE64
                .decode(auth)
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok());
            let (user, password) = text.as_deref().and_then(|text| text.split_once(':')).ok_or(())?;
            return Ok(Some(Login::Password {
                user: user.to_owned(),
                // Some tools pad with NUL.
                password: password.trim_end_matches('\0').to_owned(),
            }));
        }
        Ok(given(self.username)
            .zip(self.password)
            .map(|(user, password)| Login::Password { user, password }))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = self.logins.keys().chain(self.helpers.keys());
        formatter.debug_set().entries(hosts).finish()
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Password { .. } => "Password(..)",
            Self::Identity(_) => "Identity(..)",
            Self::Registry(_) => "Registry(..)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Credentials, CredentialsError> {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(file.path(), json).expect("write");
        Credentials::from_docker_config(file.path())
    }

    #[test]
    fn logins_are_found_under_the_host_however_the_file_writes_it() {
        let credentials = read(
            r#"{ "auths": {
                "https://index.docker.io/v1/": { "auth": "dXNlcjpwYXNzOndvcmQ=" },
                "host.example:5000": { "username": "u", "password": "p" },
                "https://token.example": { "auth": "", "identitytoken": "it" },
                "helper.example": {}
            }, "credHelpers": { "own.example": "pass" }, "credsStore": "desktop" }"#,
        )
        .expect("readable");
        match credentials.get("docker.io") {
            Some(Login::Password { user, password }) => {
                assert_eq!((user.as_str(), password.as_str()), ("user", "pass:word"));
            }
            other => panic!("{other:?}"),
        }
        assert!(
            matches!(credentials.get("host.example:5000"), Some(Login::Password { user, .. }) if user == "u")
        );
        assert!(matches!(credentials.get("token.example"), Some(Login::Identity(token)) if token == "it"));
        assert!(credentials.get("helper.example").is_none());
        assert!(credentials.get("host.example").is_none());
    }

    #[test]
    fn neither_debug_nor_errors_show_a_secret() {
        let credentials = read(r#"{ "auths": { "h": { "username": "u", "password": "hunter2" } } }"#);
        assert_eq!(format!("{:?}", credentials.expect("readable")), r#"{"h"}"#);
        for bad in [
            r#"{ "auths": { "h": { "auth": "hunter2" } } }"#,
            r#"{ "credsStore": "../../bin/sh" }"#,
            r#"{ "credHelpers": { "h": "" } }"#,
            r#"{ "auths": { "h": "hunter2" } }"#,
        ] {
            let error = read(bad).expect_err("refused");
            assert!(!error.to_string().contains("hunter2"), "{error}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }
}
