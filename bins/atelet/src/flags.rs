//! The flags and environment variables of `atelet`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Parser, ValueEnum};
use holdfast_runtime::logging::LogFormat;
use holdfast_runtime::net::Address;
use holdfast_runtime::{duration, flags};
use holdfast_telemetry::otlp::TraceFlags;

use crate::images::ImageFlags;
use crate::security::SecurityFlags;

/// The node daemon of Agent Substrate: runs actors in the workers of one machine.
///
/// It serves the gRPC services atelet.AteomHerder and holdfast.v1.NodeControl, finds the workers below its
/// base directory, and reports to the control plane. SIGTERM and SIGINT stop it: it takes no more orders,
/// finishes what it has begun and leaves sandboxes running; started again, it finds them.
///
/// Where external snapshots are is said by the environment: ATE_STORAGE_BACKEND (gcs, s3 or file),
/// ATE_STORAGE_ROOT, AWS_* and GOOGLE_*.
#[derive(Debug, Parser)]
#[command(
    name = "atelet",
    version,
    max_term_width = 100,
    after_help = "Durations are numbers with units (h, m, s, ms, us, ns), such as 30s or 1m30s.\n\
                  Exit codes: 0 stopped when asked to, 1 could not serve, 2 a flag or a variable is wrong."
)]
pub struct Flags {
    /// The node's name, by which the control plane knows it
    #[arg(long, value_name = "NAME", env = "HOLDFAST_NODE_NAME", value_parser = node_name)]
    pub node_name: String,

    /// Where to serve gRPC: host:port, or unix:/path. Other than loopback addresses need TLS, which is
    /// --grpc-server-cred-bundle with --client-ca-certs, or --insecure-plaintext
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "HOLDFAST_LISTEN",
        default_value = "127.0.0.1:8085"
    )]
    pub listen: Address,

    /// Serve on this port of every interface; the original's name for --listen :PORT
    #[arg(long, value_name = "PORT", env = "HOLDFAST_PORT", conflicts_with = "listen")]
    pub port: Option<u16>,

    /// Serve without TLS and without authentication where other hosts can reach it
    #[arg(long, env = "HOLDFAST_INSECURE_PLAINTEXT", value_parser = BoolishValueParser::new())]
    pub insecure_plaintext: bool,

    #[command(flatten)]
    pub security: SecurityFlags,

    /// Where the control plane reaches this node, if not where it listens
    #[arg(long, value_name = "HOST:PORT", env = "HOLDFAST_ADVERTISE", value_parser = advertised)]
    pub advertise: Option<Address>,

    /// Replicas of the control plane, separated by commas; reports go to one, and to the next when that
    /// does not answer
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "HOLDFAST_CONTROL_PLANE",
        value_delimiter = ',',
        value_parser = Address::to_dial
    )]
    pub control_plane: Vec<Address>,

    /// The directory that is shared with the workers of this machine
    #[arg(
        long,
        value_name = "DIRECTORY",
        env = "HOLDFAST_BASE_DIR",
        default_value = holdfast_node::BASE_DIR,
        value_parser = base_dir
    )]
    pub base_dir: PathBuf,

    /// What sandboxes are: gvisor, or process (plain processes without isolation, for machines without
    /// runsc)
    #[arg(
        long,
        value_name = "CLASS",
        env = "HOLDFAST_SANDBOX",
        default_value = "gvisor"
    )]
    pub sandbox: SandboxClass,

    /// An installed runsc, used instead of the one that SandboxConfigs name
    #[arg(long, value_name = "FILE", env = "HOLDFAST_RUNSC_PATH", value_parser = runsc)]
    pub runsc_path: Option<PathBuf>,

    /// What becomes of running actors when no control plane has answered for a session's time: freeze
    /// (nothing is lost, and they may be resumed elsewhere), or keep (they run on, and stay here)
    #[arg(
        long,
        value_name = "WHAT",
        env = "HOLDFAST_ON_SESSION_LAPSE",
        default_value = "freeze"
    )]
    pub on_session_lapse: Lapse,

    /// How long an image pull may move no byte before it counts as stalled and is made again
    #[arg(long, value_name = "DURATION", env = "HOLDFAST_PULL_STALL", default_value = "30s", value_parser = duration::period)]
    pub pull_stall: Duration,

    /// How many stalls or failures without progress between them end an image pull
    #[arg(long, value_name = "COUNT", env = "HOLDFAST_PULL_ATTEMPTS", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub pull_attempts: u32,

    #[command(flatten)]
    pub images: ImageFlags,

    /// Where to answer /metrics, /readyz and /healthz over HTTP: host:port, or unix:/path. Without it nobody is
    /// told. Whoever reaches it may ask, so other than loopback addresses need --insecure-metrics
    #[arg(long, value_name = "ADDRESS", env = "HOLDFAST_METRICS_LISTEN_ADDR")]
    pub metrics_listen_addr: Option<Address>,

    /// Answer at --metrics-listen-addr in plaintext where other hosts can reach it, as Prometheus and probes of Kubernetes
    /// ask; --insecure-plaintext says so, too
    #[arg(long, env = "HOLDFAST_INSECURE_METRICS", value_parser = BoolishValueParser::new())]
    pub insecure_metrics: bool,

    #[command(flatten)]
    pub traces: TraceFlags,

    /// A file with settings, under the names of these flags, one to a line: NAME: VALUE. Flags come before the
    /// environment, and that before the file
    #[arg(long, value_name = "FILE", env = "HOLDFAST_CONFIG")]
    config: Option<PathBuf>,

    /// Check flags and environment, print OK and exit. Nothing is opened or made
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

/// What sandboxes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SandboxClass {
    /// gVisor's.
    Gvisor,
    /// Plain processes.
    Process,
}

/// What becomes of running actors when the node's session lapses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Lapse {
    /// They are held still.
    Freeze,
    /// They run on.
    Keep,
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

    /// The flag that says where to serve.
    pub fn listen_flag(&self) -> &'static str {
        if self.port.is_some() { "--port" } else { "--listen" }
    }
}

fn node_name(text: &str) -> Result<String, &'static str> {
    if holdfast_core::name::is_dns_subdomain(text) {
        Ok(text.to_owned())
    } else {
        Err("want lower case letters, digits, '-' and '.', such as node-1.example")
    }
}

/// A pod's UID has 36 bytes; `/ateoms/<uid>/ateom.sock` stands behind the base directory.
const BASE_BYTES_MAX: usize = 107 - "/ateoms//ateom.sock".len() - 36 - 4;

fn base_dir(text: &str) -> Result<PathBuf, String> {
    if text.len() > BASE_BYTES_MAX {
        return Err(format!(
            "is too long: the sockets of workers below it may have 107 bytes, which leaves {BASE_BYTES_MAX} for it"
        ));
    }
    flags::shared_directory(text).map_err(|error| error.to_string())
}

fn runsc(text: &str) -> Result<PathBuf, String> {
    flags::program(text)
        .map_err(|error| format!("{error}; name the file of an installed runsc, such as /usr/bin/runsc"))
}

fn advertised(text: &str) -> Result<Address, String> {
    let fault = match Address::to_dial(text) {
        Err(error) => return Err(error.to_string()),
        Ok(Address::Unix(_)) => "this is a socket of one host",
        Ok(address) if is_every_interface(&address) => "this has every host",
        Ok(address) => return Ok(address),
    };
    Err(format!(
        "the control plane dials host:port, and {fault}; write host:port or leave it out"
    ))
}

/// Whether an address stands for all that this host has.
pub fn is_every_interface(address: &Address) -> bool {
    match address {
        Address::Unix(_) => false,
        Address::Tcp { host, .. } => host.parse().is_ok_and(|address: IpAddr| address.is_unspecified()),
    }
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
    fn the_longest_base_directory_leaves_room_for_the_socket_of_a_worker() {
        let uid = "01234567-89ab-cdef-0123-456789abcdef";
        let base = format!("/{}", "b".repeat(BASE_BYTES_MAX - 1));
        assert!(format!("{base}/ateoms/{uid}/ateom.sock").len() <= 107);
        assert_eq!(BASE_BYTES_MAX, 48);
        assert!(base_dir(&base).is_ok());
        assert!(base_dir(&format!("{base}b")).is_err());
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
