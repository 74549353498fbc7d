//! The flags and environment variables of `ateapi`.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgGroup, Parser};
use holdfast_core::settings::SHORTEST_PERIOD;
use holdfast_runtime::duration::{self, DurationError};
use holdfast_runtime::logging::LogFormat;
use holdfast_runtime::net::Address;
use holdfast_telemetry::otlp::TraceFlags;

use crate::redis::RedisFlags;
use crate::security::SecurityFlags;

/// One replica of the Agent Substrate control plane.
///
/// It serves the gRPC services ateapi.Control, ateapi.SessionIdentity, holdfast.v1.Admin and
/// holdfast.v1.Nodes, and keeps its records in a store. Replicas that share a Redis store share the work; an embedded store has one replica.
/// SIGTERM and SIGINT stop it: leases are handed over and calls in flight are answered.
#[derive(Debug, Parser)]
#[command(
    name = "ateapi",
    version,
    max_term_width = 100,
    group = ArgGroup::new("records").required(true),
    after_help = "Durations are numbers with units (h, m, s, ms, us, ns), such as 5m, 1h30m or 250ms.\n\
                  Exit codes: 0 stopped when asked to, 1 could not serve, 2 a flag or a manifest is wrong."
)]
pub struct Flags {
    /// Where to serve gRPC: host:port, or unix:/path. Other than loopback addresses need TLS, which is
    /// --grpc-server-cred-bundle, or --insecure-plaintext
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "HOLDFAST_GRPC_LISTEN_ADDR",
        default_value = "127.0.0.1:8443"
    )]
    pub grpc_listen_addr: Address,

    /// Serve without TLS where other hosts can reach it
    #[arg(long, env = "HOLDFAST_INSECURE_PLAINTEXT", value_parser = BoolishValueParser::new())]
    pub insecure_plaintext: bool,

    #[command(flatten)]
    pub security: SecurityFlags,

    #[command(flatten)]
    pub traces: TraceFlags,

    /// Where to answer /metrics, /readyz and /healthz over HTTP: host:port, or unix:/path. Without it nobody is
    /// told. Whoever reaches it may ask, so other than loopback addresses need --insecure-metrics
    #[arg(long, value_name = "ADDRESS", env = "HOLDFAST_METRICS_LISTEN_ADDR")]
    pub metrics_listen_addr: Option<Address>,

    /// Answer at --metrics-listen-addr in plaintext where other hosts can reach it, as Prometheus and probes of Kubernetes
    /// ask; --insecure-plaintext says so, too
    #[arg(long, env = "HOLDFAST_INSECURE_METRICS", value_parser = BoolishValueParser::new())]
    pub insecure_metrics: bool,

    /// Where records are kept: embedded:PATH (a file, made if there is none; one replica) or
    /// redis://[user[:password]@]host:port[,host:port...][/database] (shared by replicas; a server, a master and its
    /// replicas, or servers of a cluster), or rediss:// for TLS
    #[arg(long, group = "records", env = "HOLDFAST_STORE", hide_env_values = true)]
    pub store: Option<String>,

    #[command(flatten)]
    pub redis: RedisFlags,

    /// Do without Kubernetes: the directory of manifests (*.yaml) that declare ActorTemplates, WorkerPools,
    /// SandboxConfigs and Secrets. It is followed while this runs; workers are those that nodes report
    #[arg(long, value_name = "DIRECTORY", env = "HOLDFAST_MANIFESTS")]
    pub manifests: Option<PathBuf>,

    /// The file that says where the Kubernetes API server is and who asks, whose templates, pools, worker pods
    /// and secrets are used [default: the service account of this pod]
    #[arg(long, value_name = "FILE", env = "HOLDFAST_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,

    /// The port at which the atelets of a Kubernetes cluster listen, each at the address of its pod
    #[arg(
        long,
        value_name = "PORT",
        env = "HOLDFAST_ATELET_PORT",
        default_value_t = 8085,
        value_parser = clap::value_parser!(u16).range(1..)
    )]
    pub atelet_port: u16,

    /// The longest that one Resume, Suspend, Pause, Delete or Revert may take
    #[arg(long, value_name = "DURATION", env = "HOLDFAST_ACTOR_WORKFLOW_DEADLINE", default_value = "5m", value_parser = lease)]
    pub actor_workflow_deadline: Duration,

    /// How long a lease on an actor outlives a replica that died; renewed at every third of it
    #[arg(long, value_name = "DURATION", env = "HOLDFAST_LEASE_TTL", default_value = "30s", value_parser = lease)]
    pub lease_ttl: Duration,

    /// How long a replica that died counts as alive to its peers, who then take over its leases; renewed
    /// at every third of it [default: a fifth of --lease-ttl]
    #[arg(long, value_name = "DURATION", env = "HOLDFAST_REPLICA_SESSION_TTL", value_parser = session)]
    pub replica_session_ttl: Option<Duration>,

    /// How long a node may run sandboxes without hearing from the control plane
    #[arg(long, value_name = "DURATION", env = "HOLDFAST_SESSION_TTL", default_value = "90s", value_parser = duration::period)]
    pub session_ttl: Duration,

    /// How often nodes report
    #[arg(long, value_name = "DURATION", env = "HOLDFAST_HEARTBEAT_INTERVAL", default_value = "30s", value_parser = duration::period)]
    pub heartbeat_interval: Duration,

    /// After how many missing reports the workers of a node get no new actors
    #[arg(long, value_name = "COUNT", env = "HOLDFAST_STALE_AFTER", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub stale_after: u32,

    /// How long an actor may stand between two states before it is taken care of without being asked
    #[arg(long, value_name = "DURATION", env = "HOLDFAST_SETTLE_AFTER", default_value = "10s", value_parser = duration::period)]
    pub settle_after: Duration,

    /// How often workers and the actors they host are compared
    #[arg(long, value_name = "DURATION", env = "HOLDFAST_SWEEP_INTERVAL", default_value = "10s", value_parser = duration::period)]
    pub sweep_interval: Duration,

    /// How long a snapshot that nothing points at any more is kept: longer than the store could lose writes
    /// that it has acknowledged
    #[arg(long, value_name = "DURATION", env = "HOLDFAST_COLLECT_AFTER", default_value = "60s", value_parser = duration::period)]
    pub collect_after: Duration,

    /// A file with settings, under the names of these flags, one to a line: NAME: VALUE. Flags come before the
    /// environment, and that before the file
    #[arg(long, value_name = "FILE", env = "HOLDFAST_CONFIG")]
    config: Option<PathBuf>,

    /// Check flags and manifests, print OK and exit. An embedded store that is there is looked
    /// at. Nothing is written, and nobody is asked over the network
    #[arg(long)]
    check: bool,

    /// How the log on standard error is written: json (a line per event) or text. RUST_LOG says what is
    /// logged
    #[arg(
        long,
        value_name = "FORMAT",
        env = "HOLDFAST_LOG_FORMAT",
        default_value = "json"
    )]
    pub log_format: LogFormat,
}

/// What the process is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Check,
    Serve,
}

impl Flags {
    /// What the process is to do.
    pub fn mode(&self) -> Mode {
        if self.check { Mode::Check } else { Mode::Serve }
    }
}

/// A failed renewal of a lease is tried again after a tenth of its life, and no workflow is shorter than
/// its lease.
fn lease(text: &str) -> Result<Duration, DurationError> {
    duration::at_least(10 * SHORTEST_PERIOD, text)
}

/// A session is renewed at every third of its life.
fn session(text: &str) -> Result<Duration, DurationError> {
    duration::at_least(3 * SHORTEST_PERIOD, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_declaration_holds_together() {
        Flags::command().debug_assert();
    }

    #[test]
    fn every_setting_can_come_from_the_environment() {
        for argument in Flags::command()
            .get_arguments()
            .filter(|argument| argument.get_id() != "check")
        {
            let flag = argument.get_long().unwrap();
            let variable = format!("HOLDFAST_{}", flag.replace('-', "_").to_uppercase());
            assert_eq!(argument.get_env(), Some(variable.as_ref()), "{flag}");
            assert!(argument.get_help().is_some(), "{flag}");
        }
    }
}
