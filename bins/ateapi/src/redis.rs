//! The flags that say how Redis or Valkey is spoken to, under the original's names.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use holdfast_runtime::duration;
use holdfast_store::redis::{Config, Tls, TlsError, Url, UrlError};

/// What is said instead of a value that the environment has, under the original's names.
const FROM_ENVIRONMENT: &str = "@env";

/// How the servers are spoken to.
#[derive(Clone, Debug, Args)]
pub struct RedisFlags {
    /// Where a Redis server is, or any server of a cluster; the original's name for --store redis://host:port, or,
    /// with any of the TLS flags below, rediss://host:port. @env takes it from ATE_API_REDIS_ADDRESS
    #[arg(
        long,
        group = "records",
        value_name = "HOST:PORT",
        env = "HOLDFAST_REDIS_CLUSTER_ADDRESS",
        hide_env_values = true
    )]
    pub redis_cluster_address: Option<String>,

    /// With TLS: a file (PEM) of the authorities that sign servers' certificates [default: those that this machine
    /// trusts]. It is read again for each connection, and so is --redis-client-cert
    #[arg(long, value_name = "FILE", env = "HOLDFAST_REDIS_CA_CERTS")]
    pub redis_ca_certs: Option<PathBuf>,

    /// With TLS: the name in the servers' certificates [default: the name or address of the server]. @env takes it
    /// from ATE_API_REDIS_TLS_SERVER_NAME
    #[arg(long, value_name = "NAME", env = "HOLDFAST_REDIS_TLS_SERVER_NAME")]
    pub redis_tls_server_name: Option<String>,

    /// With TLS: a file (PEM) with our private key, our certificate and those that sign it, for servers that ask
    /// for one. @env takes it from ATE_API_REDIS_CLIENT_CERT
    #[arg(long, value_name = "FILE", env = "HOLDFAST_REDIS_CLIENT_CERT")]
    pub redis_client_cert: Option<PathBuf>,

    /// Whether Google's IAM gives us the password. Only false is supported; users and passwords go to --store.
    /// @env takes it from ATE_API_REDIS_USE_IAM_AUTH
    #[arg(
        long,
        value_name = "BOOL",
        env = "HOLDFAST_REDIS_USE_IAM_AUTH",
        default_value = "false"
    )]
    pub redis_use_iam_auth: String,

    /// How many replicas must have a write before it counts as done (WAIT). Each write is then as slow as a replica,
    /// and fails while there are fewer
    #[arg(long, value_name = "COUNT", env = "HOLDFAST_REDIS_WAIT_REPLICAS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10))]
    pub redis_wait_replicas: u32,

    /// How long a Redis store that does not answer is waited for at start, before this exits with code 1
    #[arg(long, value_name = "DURATION", env = "HOLDFAST_REDIS_START_TIMEOUT", default_value = "60s", value_parser = duration::period)]
    pub redis_start_timeout: Duration,
}

/// What is wrong with them.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    #[error("--redis-cluster-address: is not host:port; a URL goes to --store")]
    Address,
    #[error("{flag}: {source}")]
    Url { flag: &'static str, source: UrlError },
    #[error(
        "--redis-use-iam-auth {value:?}: IAM authentication is not supported; say false, and give user and password, \
         if there are any, to --store"
    )]
    Iam { value: String },
    #[error("{flag}: is for TLS, and --store does not ask for it; write rediss:// there")]
    NoTls { flag: String },
    #[error("{flag}: is for a Redis store, and --store names an embedded one")]
    NoRedis { flag: String },
    #[error("{flag} @env: {variable} is not set")]
    NotSet {
        flag: &'static str,
        variable: &'static str,
    },
    #[error("--redis-ca-certs, --redis-tls-server-name, --redis-client-cert: {0}")]
    Tls(#[from] TlsError),
}

impl RedisFlags {
    /// The store that `--store URL` names.
    ///
    /// # Errors
    /// What is wrong with the URL, or does not go with it.
    pub fn at(self, url: &str) -> Result<Config, RedisError> {
        let url: Url = url.parse().map_err(|source| RedisError::Url {
            flag: "--store",
            source,
        })?;
        let flags = self.settled()?;
        if let (false, Some(flag)) = (url.is_secure(), flags.first_of_tls()) {
            return Err(RedisError::NoTls { flag });
        }
        flags.config(url)
    }

    /// The store that `--redis-cluster-address` names. Only an address, so that what is meant as a URL is not taken
    /// for a strange user of a strange host.
    ///
    /// # Errors
    /// What is wrong with it, or does not go with it.
    pub fn at_address(self) -> Result<Config, RedisError> {
        let flags = self.settled()?;
        let address = flags.redis_cluster_address.as_deref().unwrap_or_default();
        if address.contains(['/', '@']) {
            return Err(RedisError::Address);
        }
        let scheme = match flags.first_of_tls() {
            Some(_) => "rediss",
            None => "redis",
        };
        let url = format!("{scheme}://{address}").parse();
        let url = url.map_err(|source| RedisError::Url {
            flag: "--redis-cluster-address",
            source,
        })?;
        flags.config(url)
    }

    /// Passes if nothing is said that only a Redis store could use.
    ///
    /// # Errors
    /// The first flag that has nothing to do here.
    pub fn unused(&self) -> Result<(), RedisError> {
        if self.redis_use_iam_auth != "false" {
            let value = self.redis_use_iam_auth.clone();
            return Err(RedisError::Iam { value });
        }
        let copies = self.redis_wait_replicas;
        let copies = (copies > 0).then(|| format!("--redis-wait-replicas {copies}"));
        match self.first_of_tls().or(copies) {
            Some(flag) => Err(RedisError::NoRedis { flag }),
            None => Ok(()),
        }
    }

    /// The first flag of TLS that is given, with its value.
    fn first_of_tls(&self) -> Option<String> {
        let told = |flag: &str, path: &PathBuf| format!("{flag} {}", path.display());
        let ca = self
            .redis_ca_certs
            .as_ref()
            .map(|path| told("--redis-ca-certs", path));
        let name = self.redis_tls_server_name.as_ref();
        let client = self.redis_client_cert.as_ref();
        ca.or_else(|| name.map(|name| format!("--redis-tls-server-name {name}")))
            .or_else(|| client.map(|path| told("--redis-client-cert", path)))
    }

    /// With what the original takes from its environment.
    fn settled(mut self) -> Result<RedisFlags, RedisError> {
        let from = |flag, variable| {
            let value = std::env::var(variable).ok();
            value.ok_or(RedisError::NotSet { flag, variable })
        };
        let asks = |value: &str| value == FROM_ENVIRONMENT;
        if self.redis_cluster_address.as_deref().is_some_and(asks) {
            self.redis_cluster_address = Some(from("--redis-cluster-address", "ATE_API_REDIS_ADDRESS")?);
        }
        // What the original is not told, it has set to nothing.
        if self.redis_tls_server_name.as_deref().is_some_and(asks) {
            self.redis_tls_server_name =
                Some(from("--redis-tls-server-name", "ATE_API_REDIS_TLS_SERVER_NAME")?);
        }
        if self
            .redis_client_cert
            .as_ref()
            .and_then(|path| path.to_str())
            .is_some_and(asks)
        {
            self.redis_client_cert = Some(from("--redis-client-cert", "ATE_API_REDIS_CLIENT_CERT")?.into());
        }
        if asks(&self.redis_use_iam_auth) {
            self.redis_use_iam_auth = from("--redis-use-iam-auth", "ATE_API_REDIS_USE_IAM_AUTH")?;
        }
        if self.redis_use_iam_auth != "false" {
            return Err(RedisError::Iam {
                value: self.redis_use_iam_auth,
            });
        }
        self.redis_ca_certs = self.redis_ca_certs.filter(|path| !path.as_os_str().is_empty());
        self.redis_tls_server_name = self.redis_tls_server_name.filter(|name| !name.is_empty());
        self.redis_client_cert = self.redis_client_cert.filter(|path| !path.as_os_str().is_empty());
        Ok(self)
    }

    fn config(self, url: Url) -> Result<Config, RedisError> {
        let tls = Tls {
            ca_certs: self.redis_ca_certs,
            server_name: self.redis_tls_server_name,
            client_cert: self.redis_client_cert,
        };
        if url.is_secure() {
            tls.check()?;
        }
        Ok(Config {
            tls,
            copies: self.redis_wait_replicas,
            ..Config::from(url)
        })
    }
}
