//! What the flags amount to, checked as a whole before anything is opened.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use holdfast_control::Security;
use holdfast_core::settings::{BrokenRelation, Setting, Settings};
use holdfast_kubernetes::{Access, AccessError};
use holdfast_manifests::{ManifestError, Watcher};
use holdfast_runtime::duration;
use holdfast_runtime::net::{Address, ServerTls};
use holdfast_store::embedded::{Embedded, OpenError};
use holdfast_store::redis::Config;

use holdfast_telemetry::otlp::{self, Defaults};

use crate::flags::Flags;
use crate::redis::{RedisError, RedisFlags};
use crate::security::SecurityError;

/// Everything that a replica is started with.
pub struct Plan {
    pub listen: Address,
    /// What is spoken there, if it is TLS.
    pub tls: Option<Arc<dyn ServerTls>>,
    pub security: Security,
    pub metrics: Option<Address>,
    /// Where spans go, if anywhere.
    pub traces: Option<otlp::Settings>,
    pub store: StorePlace,
    pub declared: DeclaredBy,
    pub atelet_port: u16,
    pub settings: Settings,
}

/// Where records are kept.
#[derive(Debug, PartialEq, Eq)]
pub enum StorePlace {
    Embedded(PathBuf),
    Redis {
        config: Box<Config>,
        /// How long it is waited for at start.
        patience: Duration,
    },
}

/// Who declares templates and pools.
pub enum DeclaredBy {
    Manifests(Box<Watcher>),
    Kubernetes(Access),
}

impl StorePlace {
    /// Looks at what is there, as far as that can be done without touching it.
    ///
    /// # Errors
    /// If there is a file that is no store of ours.
    pub fn check(&self) -> Result<(), OpenError> {
        match self {
            StorePlace::Embedded(path) => Embedded::check(path),
            StorePlace::Redis { .. } => Ok(()),
        }
    }
}

/// What is wrong with flags that are well-formed one by one.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error(transparent)]
    Security(#[from] SecurityError),
    #[error(
        "--metrics-listen-addr {address}: other hosts can reach this address, and nothing there is encrypted or \
         authenticated. Listen on 127.0.0.1:9090, or say --insecure-metrics if everyone on this network may know"
    )]
    MetricsExposed { address: Address },
    #[error("--store {shown}: is neither embedded:PATH nor redis://host:port nor rediss://host:port")]
    StoreKind { shown: String },
    #[error(
        "--store embedded: has no path; write embedded:PATH, such as embedded:/var/lib/holdfast/ateapi.redb"
    )]
    NoPath,
    #[error("--store embedded:{}: is a directory; name a file in it", .path.display())]
    Directory { path: PathBuf },
    #[error("--store embedded:{}: the directory {} does not exist; make it, or name another", .path.display(), .parent.display())]
    NoParent { path: PathBuf, parent: PathBuf },
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error(transparent)]
    Traces(#[from] otlp::SettingsError),
    #[error("{0}")]
    Settings(String),
    #[error("--kubeconfig {0}")]
    Kubeconfig(#[from] AccessError),
    #[error("--kubeconfig {} and --manifests {}: both declare templates and pools; choose one", .file.display(), .directory.display())]
    DeclaredTwice { file: PathBuf, directory: PathBuf },
    #[error(
        "nobody declares templates and pools: say --manifests DIRECTORY, or --kubeconfig FILE, or run in a pod of the \
         Kubernetes cluster whose templates and pools are to be used"
    )]
    NothingDeclared,
    #[error("--manifests {}: {}", .directory.display(), lines(.errors))]
    Manifests {
        directory: PathBuf,
        errors: Vec<ManifestError>,
    },
}

impl Plan {
    /// Checks everything that can be checked without touching the network or the store.
    ///
    /// # Errors
    /// The first flag that is wrong, or everything that is wrong with the manifests.
    pub fn new(flags: Flags) -> Result<Plan, PlanError> {
        let settings = settings(&flags)?;
        let security = flags
            .security
            .plan(&flags.grpc_listen_addr, flags.insecure_plaintext)?;
        let store = place(flags.store.as_deref(), flags.redis)?;
        let declared = declared_by(flags.manifests, flags.kubeconfig)?;
        if let Some(address) = flags.metrics_listen_addr.as_ref()
            && !flags.insecure_plaintext
            && !flags.insecure_metrics
            && !address.is_local()
        {
            return Err(PlanError::MetricsExposed {
                address: address.clone(),
            });
        }
        Ok(Plan {
            listen: flags.grpc_listen_addr,
            tls: security.tls,
            security: security.security,
            metrics: flags.metrics_listen_addr,
            traces: flags
                .traces
                .plan(Defaults::beginning(holdfast_control::SERVICE), |name| {
                    std::env::var(name).ok()
                })?,
            store,
            declared,
            atelet_port: flags.atelet_port,
            settings,
        })
    }
}

fn declared_by(manifests: Option<PathBuf>, kubeconfig: Option<PathBuf>) -> Result<DeclaredBy, PlanError> {
    let access = kubeconfig.as_deref().map(Access::kubeconfig).transpose()?;
    match (manifests, access) {
        (Some(directory), Some(_)) => Err(PlanError::DeclaredTwice {
            file: kubeconfig.unwrap_or_default(),
            directory,
        }),
        (Some(directory), None) => match Watcher::open(&directory) {
            Ok(watcher) => Ok(DeclaredBy::Manifests(Box::new(watcher))),
            Err(errors) => Err(PlanError::Manifests { directory, errors }),
        },
        (None, Some(access)) => Ok(DeclaredBy::Kubernetes(access)),
        (None, None) if Access::is_in_cluster() => Ok(DeclaredBy::Kubernetes(Access::InCluster)),
        (None, None) => Err(PlanError::NothingDeclared),
    }
}

fn settings(flags: &Flags) -> Result<Settings, PlanError> {
    let mut settings = Settings::DEFAULT.with_lease_ttl(flags.lease_ttl);
    if let Some(ttl) = flags.replica_session_ttl {
        settings = settings.with_session_ttl(ttl);
    }
    settings.node.session_ttl = flags.session_ttl;
    settings.node.heartbeat_every = flags.heartbeat_interval;
    settings.node.stale_after = flags.stale_after;
    settings.workflow.deadline = flags.actor_workflow_deadline;
    settings.workflow.settle_after = flags.settle_after;
    settings.workflow.sweep_every = flags.sweep_interval;
    settings.workflow.collect_after = flags.collect_after;
    // Pulls are the nodes' business, and so is their setting; here it must only not be in the way.
    settings.pull.stall_after = settings.pull.stall_after.min(flags.actor_workflow_deadline / 2);
    let told = |broken: BrokenRelation| broken.told(|setting| flag(setting, &settings), duration::show);
    settings.check().map_err(told).map_err(PlanError::Settings)?;
    Ok(settings)
}

/// The flag that sets this, and to what.
fn flag(setting: Setting, settings: &Settings) -> Option<String> {
    let Settings {
        lease,
        session,
        node,
        pull: _,
        workflow,
    } = settings;
    let (flag, value) = match setting {
        Setting::LeaseTtl => ("--lease-ttl", lease.ttl),
        Setting::LeaseRenewEvery => ("a third of --lease-ttl", lease.ttl),
        Setting::LeaseRetryFrom => ("a tenth of --lease-ttl", lease.ttl),
        Setting::SessionTtl => ("--replica-session-ttl", session.ttl),
        Setting::SessionRenewEvery => ("a third of --replica-session-ttl", session.ttl),
        Setting::HeartbeatEvery => ("--heartbeat-interval", node.heartbeat_every),
        Setting::NodeSessionTtl => ("--session-ttl", node.session_ttl),
        Setting::Deadline => ("--actor-workflow-deadline", workflow.deadline),
        Setting::SettleAfter => ("--settle-after", workflow.settle_after),
        Setting::SweepEvery => ("--sweep-interval", workflow.sweep_every),
        Setting::CollectAfter => ("--collect-after", workflow.collect_after),
        Setting::FencesMax => return None,
        Setting::StaleAfter => return Some(format!("--stale-after {}", node.stale_after)),
        Setting::PullStallAfter
        | Setting::PullAttempts
        | Setting::PullRetryAfter
        | Setting::PullAbandonGrace
        | Setting::WorkflowRetryFrom
        | Setting::WorkflowRetryTo => return None,
    };
    Some(format!("{flag} {}", duration::show(value)))
}

fn place(store: Option<&str>, redis: RedisFlags) -> Result<StorePlace, PlanError> {
    let patience = redis.redis_start_timeout;
    let shared = |config| StorePlace::Redis {
        config: Box::new(config),
        patience,
    };
    let Some(text) = store else {
        return Ok(shared(redis.at_address()?));
    };
    if text.starts_with("redis://") || text.starts_with("rediss://") {
        return Ok(shared(redis.at(text)?));
    }
    let Some(path) = text.strip_prefix("embedded:").map(PathBuf::from) else {
        // What looks like it holds a password is not repeated.
        let shown = if text.contains('@') {
            "(not shown)".to_owned()
        } else {
            text.to_owned()
        };
        return Err(PlanError::StoreKind { shown });
    };
    redis.unused()?;
    if path.as_os_str().is_empty() {
        return Err(PlanError::NoPath);
    }
    if path.is_dir() {
        return Err(PlanError::Directory { path });
    }
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) if !parent.is_dir() => {
            let parent = parent.to_owned();
            Err(PlanError::NoParent { path, parent })
        }
        _ => Ok(StorePlace::Embedded(path)),
    }
}

/// One fault stands on the line; several have one each.
fn lines(errors: &[ManifestError]) -> String {
    match errors {
        [error] => error.to_string(),
        errors => errors
            .iter()
            .fold(format!("{} faults", errors.len()), |mut text, error| {
                // Writing to a string cannot fail.
                let _ = write!(text, "\n  {error}");
                text
            }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn flags(more: &[&str]) -> Flags {
        Flags::parse_from([&["ateapi", "--manifests", "m", "--store", "embedded:s"], more].concat())
    }

    #[test]
    fn the_defaults_of_the_flags_are_those_of_the_core() {
        assert_eq!(settings(&flags(&[])).unwrap(), Settings::DEFAULT);
    }

    #[test]
    fn each_flag_reaches_its_setting() {
        let read = settings(&flags(&[
            "--actor-workflow-deadline=20s",
            "--lease-ttl=3s",
            "--replica-session-ttl=1500ms",
            "--session-ttl=40s",
            "--heartbeat-interval=4s",
            "--stale-after=5",
            "--settle-after=6s",
            "--sweep-interval=7s",
            "--collect-after=8s",
        ]))
        .unwrap();
        let mut expected = Settings::DEFAULT.with_lease_ttl(Duration::from_secs(3));
        expected.workflow.deadline = Duration::from_secs(20);
        expected.session.ttl = Duration::from_millis(1500);
        expected.session.renew_every = Duration::from_millis(500);
        expected.node.session_ttl = Duration::from_secs(40);
        expected.node.heartbeat_every = Duration::from_secs(4);
        expected.node.stale_after = 5;
        expected.workflow.settle_after = Duration::from_secs(6);
        expected.workflow.sweep_every = Duration::from_secs(7);
        expected.workflow.collect_after = Duration::from_secs(8);
        expected.pull.stall_after = Duration::from_secs(10);
        assert_eq!(read, expected);
    }

    #[test]
    fn the_shortest_lives_that_flags_accept_hold_together() {
        let shortest = [
            "--actor-workflow-deadline=100ms",
            "--lease-ttl=100ms",
            "--replica-session-ttl=30ms",
            "--session-ttl=30ms",
            "--heartbeat-interval=10ms",
            "--settle-after=10ms",
            "--sweep-interval=10ms",
            "--collect-after=10ms",
        ];
        assert!(settings(&flags(&shortest)).is_ok());
    }

    fn planned(more: &[&str]) -> StorePlace {
        let flags = Flags::parse_from([&["ateapi", "--manifests", "m"], more].concat());
        place(flags.store.as_deref(), flags.redis).unwrap()
    }

    #[test]
    fn both_spellings_of_a_redis_server_mean_the_same() {
        let by_url = planned(&["--store", "redis://db:7000"]);
        assert_eq!(planned(&["--redis-cluster-address", "db:7000"]), by_url);
        assert_eq!(
            planned(&["--store", "embedded:s"]),
            StorePlace::Embedded("s".into())
        );
    }

    #[test]
    fn a_flag_of_tls_makes_the_originals_spelling_mean_tls() {
        let by_address = planned(&[
            "--redis-cluster-address",
            "db:7000",
            "--redis-tls-server-name",
            "db.example",
        ]);
        let by_url = planned(&[
            "--store",
            "rediss://db:7000",
            "--redis-tls-server-name",
            "db.example",
        ]);
        assert_eq!(by_address, by_url);
        let StorePlace::Redis { config, .. } = by_url else {
            panic!()
        };
        assert!(config.url.is_secure());
        assert_eq!(config.tls.server_name.as_deref(), Some("db.example"));
    }
}
