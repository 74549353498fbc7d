//! Where spans go, and which: the standard variables of OpenTelemetry, and flags that come before them.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use holdfast_rpc::trace::{QUEUE, Sampler};
use holdfast_runtime::entropy;
use holdfast_runtime::net::{Address, Security};
use holdfast_security::{ClientError, ClientOptions};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

/// The flags.
#[derive(Args, Clone, Debug, Default)]
pub struct TraceFlags {
    /// Send spans to this OpenTelemetry collector, by OTLP over gRPC: http://host:4317, or https://host:4317 [default: what
    /// OTEL_EXPORTER_OTLP_ENDPOINT says, or nowhere]
    #[arg(long, value_name = "URL", env = "HOLDFAST_OTLP_ENDPOINT")]
    otlp_endpoint: Option<String>,

    /// Which traces are sent: always_on, always_off, traceidratio=RATIO, or parentbased_ before one of them, which leaves
    /// it to whoever began the trace [default: what OTEL_TRACES_SAMPLER says, or that of the original's part]
    #[arg(long, value_name = "SAMPLER", env = "HOLDFAST_TRACE_SAMPLER")]
    trace_sampler: Option<String>,
}

/// What a program is called, and what is sent of traces that it begins if nobody says so.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    /// Its `service.name`.
    pub service: &'static str,
    /// As the original has it.
    pub sampler: Sampler,
}

impl Defaults {
    /// Of a program that begins traces.
    pub const fn beginning(service: &'static str) -> Defaults {
        Defaults {
            service,
            sampler: Sampler {
                ratio: 1.0,
                asks_parent: true,
            },
        }
    }

    /// Of a program that only goes on with traces of others.
    pub const fn following(service: &'static str) -> Defaults {
        Defaults {
            service,
            sampler: Sampler {
                ratio: 0.0,
                asks_parent: true,
            },
        }
    }
}

/// Where spans go, which, and how.
#[derive(Clone)]
pub struct Settings {
    /// The collector.
    pub endpoint: Address,
    /// How it is reached.
    pub security: Security,
    /// What is sent with each batch. It may have secrets in it.
    pub headers: HeaderMap,
    /// Which are sent.
    pub sampler: Sampler,
    /// What is said of the process.
    pub resource: Vec<(String, String)>,
    /// How many spans wait at most.
    pub queue: usize,
    /// How many go at once at most.
    pub batch: usize,
    /// How long the first of a batch waits for the others.
    pub delay: Duration,
    /// How long the collector may take for a batch.
    pub timeout: Duration,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("endpoint", &self.endpoint)
            .field("sampler", &self.sampler)
            .finish_non_exhaustive()
    }
}

/// A flag or a variable that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The value cannot be used.
    #[error("{name} {value:?}: {why}")]
    Value {
        /// The flag or variable.
        name: &'static str,
        /// What it says.
        value: String,
        /// What would be right.
        why: String,
    },
    /// The value cannot be used, and may be a secret.
    #[error("{name}: {why}")]
    Hidden {
        /// The variable.
        name: &'static str,
        /// What would be right.
        why: &'static str,
    },
    /// The collector cannot be reached like this.
    #[error("OTEL_EXPORTER_OTLP_CERTIFICATE: {0}")]
    Tls(#[from] ClientError),
}

const ENDPOINT_FLAG: &str = "--otlp-endpoint";
const SAMPLER_FLAG: &str = "--trace-sampler";

impl TraceFlags {
    /// What flags and variables amount to; none if nobody names a collector.
    ///
    /// # Errors
    /// The first that is wrong, by its name.
    pub fn plan(
        self,
        defaults: Defaults,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Settings>, SettingsError> {
        let set = |name: &'static str| Some((name, variable(name).filter(|value| !value.is_empty())?));
        let sampler = match &self.trace_sampler {
            Some(text) => sampler(SAMPLER_FLAG, text, None)?,
            None => match set("OTEL_TRACES_SAMPLER") {
                Some((name, text)) => sampler(name, &text, set("OTEL_TRACES_SAMPLER_ARG"))?,
                None => defaults.sampler,
            },
        };
        let endpoint = self.otlp_endpoint.map(|text| (ENDPOINT_FLAG, text));
        let is_off = set("OTEL_SDK_DISABLED").is_some_and(|(_, value)| value.eq_ignore_ascii_case("true"))
            || set("OTEL_TRACES_EXPORTER").is_some_and(|(_, value)| value == "none");
        let from_variables = || {
            let named =
                set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| set("OTEL_EXPORTER_OTLP_ENDPOINT"));
            named.filter(|_| !is_off)
        };
        let Some((name, url)) = endpoint.or_else(from_variables) else {
            return Ok(None);
        };
        if let Some((name, value)) = set("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
            .or_else(|| set("OTEL_EXPORTER_OTLP_PROTOCOL"))
            .filter(|(_, value)| value != "grpc")
        {
            let why = "only grpc is spoken here, which collectors take at port 4317".to_owned();
            return Err(SettingsError::Value { name, value, why });
        }
        let (endpoint, is_secure) = collector(name, &url)?;
        let security = ClientOptions {
            tls: is_secure,
            ca_certs: set("OTEL_EXPORTER_OTLP_CERTIFICATE")
                .filter(|_| is_secure)
                .map(|(_, path)| PathBuf::from(path)),
            ..ClientOptions::default()
        };
        let number = |name, default: u64| match set(name) {
            None => Ok(default),
            Some((name, value)) => match value.parse() {
                Ok(number) if number > 0 => Ok(number),
                _ => {
                    let why = "want a whole number above 0".to_owned();
                    Err(SettingsError::Value { name, value, why })
                }
            },
        };
        let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let queue = size(number("OTEL_BSP_MAX_QUEUE_SIZE", QUEUE as u64)?);
        Ok(Some(Settings {
            endpoint,
            security: security.open()?,
            headers: match set("OTEL_EXPORTER_OTLP_HEADERS") {
                Some((name, text)) => headers(name, &text)?,
                None => HeaderMap::new(),
            },
            sampler,
            resource: resource(
                defaults.service,
                set("OTEL_SERVICE_NAME").map(|(_, name)| name),
                set("OTEL_RESOURCE_ATTRIBUTES"),
            )?,
            queue: queue.min(1 << 20),
            batch: size(number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)?).min(queue),
            delay: Duration::from_millis(number("OTEL_BSP_SCHEDULE_DELAY", 5000)?),
            timeout: Duration::from_millis(number("OTEL_EXPORTER_OTLP_TIMEOUT", 10_000)?),
        }))
    }
}

fn collector(name: &'static str, url: &str) -> Result<(Address, bool), SettingsError> {
    let wrong = |why: &str| SettingsError::Value {
        name,
        value: url.to_owned(),
        why: why.to_owned(),
    };
    const WANT: &str = "want http://host:port or https://host:port, such as http://127.0.0.1:4317";
    let uri: Uri = url.parse().map_err(|_| wrong(WANT))?;
    let is_secure = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(wrong(WANT)),
    };
    if uri
        .authority()
        .is_none_or(|authority| authority.as_str().contains('@'))
        || uri.query().is_some()
    {
        return Err(wrong(WANT));
    }
    if !matches!(uri.path(), "" | "/") {
        return Err(wrong("gRPC has no path; leave it out"));
    }
    let host = uri.host().ok_or_else(|| wrong(WANT))?;
    let address = format!("{host}:{}", uri.port_u16().unwrap_or(4317));
    let address = Address::to_dial(&address).map_err(|error| wrong(&error.to_string()))?;
    Ok((address, is_secure))
}

fn sampler(
    name: &'static str,
    text: &str,
    argument: Option<(&'static str, String)>,
) -> Result<Sampler, SettingsError> {
    let wrong = |name, value: &str, why: &str| SettingsError::Value {
        name,
        value: value.to_owned(),
        why: why.to_owned(),
    };
    let (kind, inline) = match text.split_once('=') {
        Some((kind, ratio)) => (kind, Some((name, ratio.to_owned()))),
        None => (text, None),
    };
    let (root, asks_parent) = match kind.strip_prefix("parentbased_") {
        Some(root) => (root, true),
        None => (kind, false),
    };
    let ratio = match (root, inline) {
        ("always_on", None) => 1.0,
        ("always_off", None) => 0.0,
        ("traceidratio", inline) => match inline.or(argument) {
            None => 1.0,
            Some((name, text)) => match text.parse::<f64>() {
                Ok(ratio) if (0.0..=1.0).contains(&ratio) => ratio,
                _ => return Err(wrong(name, &text, "the ratio is a number from 0 to 1")),
            },
        },
        _ => {
            let why = "want always_on, always_off, traceidratio, or parentbased_ before one of them";
            return Err(wrong(name, text, why));
        }
    };
    Ok(Sampler { ratio, asks_parent })
}

/// `key=value,key=value`, values percent-encoded.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (key, value) = part.split_once('=')?;
            Some((key.trim().to_owned(), decoded(value.trim())?))
        })
        .collect()
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

fn headers(name: &'static str, text: &str) -> Result<HeaderMap, SettingsError> {
    let why = "want NAME=VALUE,NAME=VALUE, with lower case names and percent-encoded values";
    let hidden = || SettingsError::Hidden { name, why };
    let mut headers = HeaderMap::new();
    for (key, value) in pairs(text).ok_or_else(hidden)? {
        let key = HeaderName::from_bytes(key.to_ascii_lowercase().as_bytes()).map_err(|_| hidden())?;
        let mut value = HeaderValue::from_str(&value).map_err(|_| hidden())?;
        value.set_sensitive(true);
        headers.append(key, value);
    }
    Ok(headers)
}

/// What is said of the process; what somebody says comes before what is known.
fn resource(
    service: &str,
    named: Option<String>,
    attributes: Option<(&'static str, String)>,
) -> Result<Vec<(String, String)>, SettingsError> {
    let mut resource = match attributes {
        None => Vec::new(),
        Some((name, value)) => match pairs(&value) {
            Some(pairs) => pairs,
            None => {
                let why = "want KEY=VALUE,KEY=VALUE, with percent-encoded values".to_owned();
                return Err(SettingsError::Value { name, value, why });
            }
        },
    };
    if let Some(named) = named {
        resource.retain(|(key, _)| key != "service.name");
        resource.push(("service.name".to_owned(), named));
    }
    for (key, value) in [
        ("service.name", service.to_owned()),
        ("service.instance.id", format!("{:032x}", entropy::fresh_u128())),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
    ] {
        if resource.iter().all(|(known, _)| known != key) {
            resource.push((key.to_owned(), value));
        }
    }
    Ok(resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: Defaults = Defaults::beginning("ateapi");

    fn plan(flags: TraceFlags, variables: &[(&str, &str)]) -> Result<Option<Settings>, SettingsError> {
        let find = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        flags.plan(DEFAULTS, find)
    }

    fn endpoint(url: &str) -> TraceFlags {
        TraceFlags {
            otlp_endpoint: Some(url.to_owned()),
            trace_sampler: None,
        }
    }

    #[test]
    fn nothing_is_sent_unless_somebody_names_a_collector() {
        assert!(plan(TraceFlags::default(), &[]).unwrap().is_none());
        let named = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");
        let settings = plan(TraceFlags::default(), &[named]).unwrap().unwrap();
        assert_eq!(settings.endpoint.to_string(), "collector:4317");
        assert_eq!((settings.queue, settings.batch), (2048, 512));
        for off in [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")] {
            assert!(plan(TraceFlags::default(), &[named, off]).unwrap().is_none());
        }
        let both = plan(endpoint("http://127.0.0.1:1"), &[named]).unwrap().unwrap();
        assert_eq!(both.endpoint.to_string(), "127.0.0.1:1", "flags come first");
        let of_traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces");
        let settings = plan(TraceFlags::default(), &[named, of_traces]).unwrap().unwrap();
        assert_eq!(settings.endpoint.to_string(), "traces:4317");
    }

    #[test]
    fn samplers_are_the_standards_and_the_originals_where_nobody_names_one() {
        let sampled = |variables: &[(&str, &str)]| {
            let named = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:1");
            let variables = [&[named], variables].concat();
            let sampler = plan(TraceFlags::default(), &variables).unwrap().unwrap().sampler;
            (sampler.ratio, sampler.asks_parent)
        };
        assert_eq!(sampled(&[]), (1.0, true));
        assert_eq!(sampled(&[("OTEL_TRACES_SAMPLER", "always_off")]), (0.0, false));
        let ratio = [
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
        ];
        assert_eq!(sampled(&ratio), (0.25, true));
        let flags = TraceFlags {
            trace_sampler: Some("traceidratio=0.5".to_owned()),
            ..endpoint("http://c:1")
        };
        let settings = plan(flags, &ratio).unwrap().unwrap();
        assert_eq!(
            (settings.sampler.ratio, settings.sampler.asks_parent),
            (0.5, false)
        );
    }

    #[test]
    fn what_is_said_of_the_process_comes_before_what_is_known_of_it() {
        let attributes = (
            "OTEL_RESOURCE_ATTRIBUTES",
            "service.name=a,deployment.environment=t%20est",
        );
        let resource =
            |variables: &[(&str, &str)]| plan(endpoint("http://c:1"), variables).unwrap().unwrap().resource;
        let has = |resource: &[(String, String)], key: &str, value: &str| {
            let found: Vec<_> = resource.iter().filter(|(known, _)| known == key).collect();
            assert_eq!(found, [&(key.to_owned(), value.to_owned())]);
        };
        has(&resource(&[]), "service.name", "ateapi");
        has(&resource(&[attributes]), "service.name", "a");
        has(&resource(&[attributes]), "deployment.environment", "t est");
        has(
            &resource(&[attributes, ("OTEL_SERVICE_NAME", "b")]),
            "service.name",
            "b",
        );
    }

    #[test]
    fn what_is_wrong_is_named_and_secrets_are_not_repeated() {
        for (name, value, part) in [
            (
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                "collector:4317",
                "want http://host:port",
            ),
            (
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                "http://c:4317/v1/traces",
                "leave it out",
            ),
            (
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                "http://u:p@c:4317",
                "want http://host:port",
            ),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", "only grpc"),
            ("OTEL_TRACES_SAMPLER", "sometimes", "want always_on"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "above 0"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "above 0"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a=%zz", "percent-encoded"),
        ] {
            let named = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:1");
            let variables = match name {
                "OTEL_EXPORTER_OTLP_ENDPOINT" => vec![(name, value)],
                _ => vec![(name, value), named],
            };
            let error = plan(TraceFlags::default(), &variables)
                .expect_err(name)
                .to_string();
            assert!(error.contains(name) && error.contains(part), "{error}");
        }
        let secret = [("OTEL_EXPORTER_OTLP_HEADERS", "authorization")];
        let error = plan(endpoint("http://c:1"), &secret).unwrap_err().to_string();
        assert!(!error.contains("authorization"), "{error}");
        let good = [("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20hunter2")];
        let settings = plan(endpoint("http://c:1"), &good).unwrap().unwrap();
        assert_eq!(settings.headers["authorization"], "Bearer hunter2");
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
