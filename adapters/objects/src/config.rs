//! Which object store snapshots go to, from the environment.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::multipart::MultipartStore;
use object_store::{BackoffConfig, ClientConfigKey, ClientOptions, ObjectStore, RetryConfig};

use crate::wire::Connector;

/// Which service holds the buckets, and how it is reached.
///
/// | variable | meaning |
/// |---|---|
/// | `ATE_STORAGE_BACKEND` | `gcs` (also when empty or unset), `s3` or `file` |
/// | `ATE_STORAGE_ROOT` | with `file`: an existing directory; each bucket is a directory in it |
/// | `ATE_STORAGE_ALLOW_HTTP` | `true` allows endpoints without TLS beyond this host |
/// | `AWS_*` | with `s3`: region, credentials, `AWS_ENDPOINT_URL`, and `AWS_S3_USE_PATH_STYLE=true`; `AWS_CONDITIONAL_PUT=disabled` where the server has no `If-None-Match` |
/// | `GOOGLE_*`, `STORAGE_EMULATOR_HOST` | with `gcs`: credentials other than the ambient ones; an emulator |
///
/// Values may be secrets: `Debug` shows names only.
#[derive(Clone)]
pub struct Config {
    service: Service,
    allow_http: bool,
}

#[derive(Clone)]
enum Service {
    S3 {
        options: BTreeMap<String, String>,
        endpoint: Option<Uri>,
        path_style: bool,
    },
    Gcs {
        options: BTreeMap<String, String>,
        emulator: Option<Uri>,
    },
    File {
        root: PathBuf,
    },
}

/// A setting of the object store that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The value is not one of those it may be.
    #[error("{variable}={value:?}: want {want}")]
    Value {
        /// The environment variable.
        variable: &'static str,
        /// Its value; never one that is a secret.
        value: String,
        /// What it may be.
        want: &'static str,
    },
    /// Credentials that cannot be read.
    #[error("{variable}={path:?}: want a file of credentials: {cause}")]
    Credentials {
        /// The environment variable.
        variable: &'static str,
        /// The file that it names.
        path: PathBuf,
        /// What the file system said.
        #[source]
        cause: std::io::Error,
    },
    /// `file` without a usable directory.
    #[error(
        "ATE_STORAGE_ROOT={root:?}: want an existing directory for the snapshots of ATE_STORAGE_BACKEND=file: {cause}"
    )]
    Root {
        /// The directory.
        root: PathBuf,
        /// What the file system said.
        #[source]
        cause: std::io::Error,
    },
}

impl Config {
    /// Reads the environment of this process.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_vars(
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))),
        )
    }

    /// Reads the given variables.
    pub fn from_vars(vars: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let vars: BTreeMap<String, String> =
            vars.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let get = |name: &str| vars.get(name).map(String::as_str);
        let allow_http = boolean("ATE_STORAGE_ALLOW_HTTP", get("ATE_STORAGE_ALLOW_HTTP"))?
            || get("AWS_ALLOW_HTTP") == Some("true");
        let with_prefix = |prefix: &str| {
            vars.iter()
                .filter(|(name, _)| name.starts_with(prefix))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
                .collect::<BTreeMap<_, _>>()
        };
        let backend = get("ATE_STORAGE_BACKEND").unwrap_or("gcs");
        match get("ATE_STORAGE_ROOT") {
            Some(root) if backend != "file" => {
                return Err(ConfigError::Value {
                    variable: "ATE_STORAGE_ROOT",
                    value: root.to_owned(),
                    want: "ATE_STORAGE_BACKEND=file with it, or neither",
                });
            }
            Some(root) if !root.starts_with('/') => {
                return Err(ConfigError::Value {
                    variable: "ATE_STORAGE_ROOT",
                    value: root.to_owned(),
                    want: "the absolute path of an existing directory",
                });
            }
            Some(_) | None => {}
        }
        let service = match backend {
            "s3" => {
                let specific = get("AWS_ENDPOINT_URL_S3").map(|url| ("AWS_ENDPOINT_URL_S3", url));
                let endpoint = specific.or(get("AWS_ENDPOINT_URL").map(|url| ("AWS_ENDPOINT_URL", url)));
                Service::S3 {
                    endpoint: endpoint
                        .map(|(name, url)| parse_endpoint(name, url, allow_http))
                        .transpose()?,
                    path_style: boolean("AWS_S3_USE_PATH_STYLE", get("AWS_S3_USE_PATH_STYLE"))?,
                    options: with_prefix("AWS_"),
                }
            }
            "gcs" => {
                let emulator = get("STORAGE_EMULATOR_HOST").map(|host| match host.contains("://") {
                    true => host.to_owned(),
                    false => format!("http://{host}"),
                });
                let parse = |url: String| parse_endpoint("STORAGE_EMULATOR_HOST", &url, allow_http);
                for variable in CREDENTIALS {
                    get(variable).map_or(Ok(()), |path| readable(variable, path))?;
                }
                Service::Gcs {
                    options: with_prefix("GOOGLE_"),
                    emulator: emulator.map(parse).transpose()?,
                }
            }
            "file" => Service::file(get("ATE_STORAGE_ROOT").unwrap_or_default().into())?,
            other => {
                return Err(ConfigError::Value {
                    variable: "ATE_STORAGE_BACKEND",
                    value: other.to_owned(),
                    want: "gcs, s3 or file",
                });
            }
        };
        Ok(Self { service, allow_http })
    }

    /// Snapshots in directories under `root`, which must exist.
    pub fn file(root: impl Into<PathBuf>) -> Result<Self, ConfigError> {
        Ok(Self {
            service: Service::file(root.into())?,
            allow_http: false,
        })
    }

    /// The store, and whether it holds all buckets (as its top directories) or just `bucket`.
    pub(crate) fn open(&self, bucket: &str) -> object_store::Result<Opened> {
        let client =
            ClientOptions::new().with_config(ClientConfigKey::AllowHttp, self.allow_http.to_string());
        match &self.service {
            Service::S3 {
                options,
                endpoint,
                path_style,
            } => {
                let mut builder = AmazonS3Builder::new();
                for (name, value) in options {
                    if let Ok(key) = name.parse::<AmazonS3ConfigKey>() {
                        builder = builder.with_config(key, value);
                    }
                }
                // An IP address has no sub-domains: such an endpoint is addressed by path, as the AWS SDKs do.
                let by_path = *path_style || endpoint.as_ref().and_then(host_ip).is_some();
                if let Some(endpoint) = endpoint {
                    builder = builder.with_config(
                        AmazonS3ConfigKey::Endpoint,
                        bucket_endpoint(endpoint, bucket, by_path),
                    );
                    builder = builder.with_config(
                        AmazonS3ConfigKey::S3Endpoint,
                        bucket_endpoint(endpoint, bucket, by_path),
                    );
                }
                let store = builder
                    .with_bucket_name(bucket)
                    .with_virtual_hosted_style_request(!by_path)
                    .with_client_options(client)
                    .with_http_connector(Connector)
                    .with_retry(retry())
                    .build()?;
                Ok(Opened::resumable(store, Extent::Bucket))
            }
            Service::Gcs { options, emulator } => {
                let mut builder = GoogleCloudStorageBuilder::new();
                for (name, value) in options {
                    if let Ok(key) = name.parse::<GoogleConfigKey>() {
                        builder = builder.with_config(key, value);
                    }
                }
                if let Some(emulator) = emulator {
                    builder = builder
                        .with_base_url(emulator.to_string().trim_end_matches('/'))
                        .with_skip_signature(true);
                }
                let store = builder
                    .with_bucket_name(bucket)
                    .with_client_options(client)
                    .with_http_connector(Connector)
                    .with_retry(retry())
                    .build()?;
                Ok(Opened::resumable(store, Extent::Bucket))
            }
            Service::File { root } => {
                let store = LocalFileSystem::new_with_prefix(root)?
                    .with_automatic_cleanup(true)
                    .with_fsync(true);
                Ok(Opened {
                    store: Arc::new(store),
                    parts: None,
                    extent: Extent::AllBuckets,
                })
            }
        }
    }
}

/// A store, and what it can do.
pub(crate) struct Opened {
    pub store: Arc<dyn ObjectStore>,
    /// The same store, if an upload in parts can be continued there.
    pub parts: Option<Arc<dyn MultipartStore>>,
    pub extent: Extent,
}

impl Opened {
    fn resumable<S: ObjectStore + MultipartStore>(store: S, extent: Extent) -> Self {
        let store = Arc::new(store);
        Self {
            store: store.clone(),
            parts: Some(store),
            extent,
        }
    }
}

/// What one store covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    Bucket,
    AllBuckets,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Config");
        match &self.service {
            Service::S3 {
                options,
                endpoint,
                path_style,
            } => out
                .field("backend", &"s3")
                .field("endpoint", endpoint)
                .field("path_style", path_style)
                .field("variables", &options.keys()),
            Service::Gcs { options, emulator } => out
                .field("backend", &"gcs")
                .field("emulator", emulator)
                .field("variables", &options.keys()),
            Service::File { root } => out.field("backend", &"file").field("root", root),
        };
        out.field("allow_http", &self.allow_http).finish()
    }
}

impl Service {
    fn file(root: PathBuf) -> Result<Self, ConfigError> {
        match std::fs::metadata(&root) {
            Ok(meta) if meta.is_dir() => Ok(Self::File { root }),
            Ok(_) => Err(ConfigError::Root {
                root,
                cause: std::io::ErrorKind::NotADirectory.into(),
            }),
            Err(cause) => Err(ConfigError::Root { root, cause }),
        }
    }
}

/// One request is tried again for about a minute; what lasts longer is for the caller to know.
fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            base: 2.0,
        },
        max_retries: 10,
        retry_timeout: Duration::from_secs(60),
    }
}

/// Variables that name a file of credentials.
const CREDENTIALS: [&str; 3] = [
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_PATH",
];

fn readable(variable: &'static str, path: &str) -> Result<(), ConfigError> {
    let opened = std::fs::File::open(path).and_then(|file| match file.metadata()?.is_file() {
        true => Ok(()),
        false => Err(std::io::Error::other("it is not a file")),
    });
    opened.map_err(|cause| ConfigError::Credentials {
        variable,
        path: path.into(),
        cause,
    })
}

fn boolean(variable: &'static str, value: Option<&str>) -> Result<bool, ConfigError> {
    match value {
        None | Some("false" | "0") => Ok(false),
        Some("true" | "1") => Ok(true),
        Some(value) => Err(ConfigError::Value {
            variable,
            value: value.to_owned(),
            want: "true or false",
        }),
    }
}

fn parse_endpoint(variable: &'static str, url: &str, allow_http: bool) -> Result<Uri, ConfigError> {
    let refuse = |want| {
        Err(ConfigError::Value {
            variable,
            value: without_userinfo(url),
            want,
        })
    };
    let Ok(uri) = url.parse::<Uri>() else {
        return refuse("an http or https URL");
    };
    let plain = uri
        .authority()
        .is_some_and(|authority| !authority.as_str().contains('@'));
    match uri.scheme_str() {
        Some("https") if plain => Ok(uri),
        Some("http") if plain && (allow_http || is_loopback(&uri)) => Ok(uri),
        Some("http") if plain => {
            refuse("https, or ATE_STORAGE_ALLOW_HTTP=true to send snapshots unprotected")
        }
        _ => refuse("an http or https URL without credentials in it"),
    }
}

/// What of an endpoint can be shown: people do put passwords in URLs.
fn without_userinfo(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}://***{}", &url[..scheme], &url[at..]),
        _ => url.to_owned(),
    }
}

/// Whether a URI names this very host.
pub(crate) fn is_loopback(uri: &Uri) -> bool {
    uri.host() == Some("localhost") || host_ip(uri).is_some_and(|ip| ip.is_loopback())
}

fn host_ip(uri: &Uri) -> Option<IpAddr> {
    uri.host()?
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .ok()
}

fn bucket_endpoint(endpoint: &Uri, bucket: &str, by_path: bool) -> String {
    let scheme = endpoint.scheme_str().unwrap_or("https");
    let authority = endpoint.authority().map_or("", |authority| authority.as_str());
    let path = endpoint.path().trim_end_matches('/');
    match by_path {
        true => format!("{scheme}://{authority}{path}"),
        false => format!("{scheme}://{bucket}.{authority}{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::from_vars(
            vars.iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        )
    }

    const S3: (&str, &str) = ("ATE_STORAGE_BACKEND", "s3");

    #[test]
    fn the_backend_is_gcs_unless_said_otherwise() {
        for vars in [
            vec![],
            vec![("ATE_STORAGE_BACKEND", "")],
            vec![("ATE_STORAGE_BACKEND", "gcs")],
        ] {
            assert!(matches!(
                read(&vars).expect("reads").service,
                Service::Gcs { emulator: None, .. }
            ));
        }
        let text = read(&[("ATE_STORAGE_BACKEND", "s4")])
            .expect_err("a typo")
            .to_string();
        assert_eq!(text, r#"ATE_STORAGE_BACKEND="s4": want gcs, s3 or file"#);
    }

    #[test]
    fn plain_http_stays_on_this_host_unless_allowed_by_name() {
        for url in [
            "http://127.0.0.1:9000",
            "http://localhost:9000",
            "http://[::1]:9000",
            "https://s3.example.com",
        ] {
            read(&[S3, ("AWS_ENDPOINT_URL", url)]).expect(url);
        }
        let remote = ("AWS_ENDPOINT_URL", "http://s3.example.com");
        let text = read(&[S3, remote]).expect_err("plain http").to_string();
        assert!(text.contains("ATE_STORAGE_ALLOW_HTTP=true"), "{text}");
        read(&[S3, remote, ("ATE_STORAGE_ALLOW_HTTP", "true")]).expect("allowed");
        let emulator = ("STORAGE_EMULATOR_HOST", "gcs.example.com:80");
        assert!(read(&[emulator]).is_err());
        for url in [
            "s3.example.com",
            "ftp://x",
            "https://",
            "http://",
            ":",
            "https://user:hunter2@s3.example.com",
        ] {
            let text = read(&[S3, ("AWS_ENDPOINT_URL", url)]).expect_err(url).to_string();
            assert!(
                text.contains("AWS_ENDPOINT_URL") && !text.contains("hunter2"),
                "{text}"
            );
        }
    }

    #[test]
    fn no_secret_is_ever_shown() {
        let config = read(&[
            S3,
            ("AWS_SECRET_ACCESS_KEY", "hunter2"),
            ("AWS_SESSION_TOKEN", "hunter3"),
        ])
        .expect("reads");
        let shown = format!("{config:?}");
        assert!(
            shown.contains("aws_secret_access_key") && !shown.contains("hunter"),
            "{shown}"
        );
    }

    #[test]
    fn buckets_are_addressed_by_host_or_by_path_as_the_original_does() {
        let uri = |text: &str| text.parse::<Uri>().expect("a URI");
        assert_eq!(
            bucket_endpoint(&uri("https://s3.example.com/"), "b", false),
            "https://b.s3.example.com"
        );
        assert_eq!(
            bucket_endpoint(&uri("http://127.0.0.1:9000"), "b", true),
            "http://127.0.0.1:9000"
        );
        assert!(read(&[S3, ("AWS_S3_USE_PATH_STYLE", "yes")]).is_err());
    }

    #[test]
    fn credentials_that_cannot_be_read_are_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("key.json");
        std::fs::write(&file, "{}").expect("writes");
        for variable in CREDENTIALS {
            for path in [dir.path().join("absent"), dir.path().to_owned()] {
                let path = path.to_str().expect("text");
                let text = read(&[(variable, path)]).expect_err(path).to_string();
                assert!(text.starts_with(&format!("{variable}={path:?}: ")), "{text}");
            }
            read(&[(variable, file.to_str().expect("text"))]).expect("readable");
            read(&[S3, (variable, "/absent")]).expect("nobody asks for it");
        }
    }

    #[test]
    fn a_root_that_is_no_directory_is_named() {
        let root = tempfile::tempdir().expect("a directory");
        let file = root.path().join("f");
        std::fs::write(&file, "").expect("writes");
        for path in [root.path().join("absent"), file] {
            let path = path.to_str().expect("text");
            let text = read(&[("ATE_STORAGE_BACKEND", "file"), ("ATE_STORAGE_ROOT", path)])
                .expect_err(path)
                .to_string();
            assert!(text.contains(path), "{text}");
        }
        assert!(read(&[("ATE_STORAGE_BACKEND", "file")]).is_err());
        let relative = read(&[("ATE_STORAGE_BACKEND", "file"), ("ATE_STORAGE_ROOT", ".")]);
        let text = relative.expect_err("relative").to_string();
        assert!(text.contains("want the absolute path"), "{text}");
        let text = read(&[("ATE_STORAGE_ROOT", "/")]).expect_err("gcs").to_string();
        assert!(text.contains("want ATE_STORAGE_BACKEND=file with it"), "{text}");
    }
}
