//! What the flags amount to, checked as a whole before anything is opened.

use std::path::PathBuf;

use holdfast_core::session::OnLapse;
use holdfast_core::settings::{BrokenRelation, Setting, Settings};
use holdfast_node::{Config, Sandboxes};
use holdfast_runtime::duration;
use holdfast_runtime::net::Address;
use holdfast_telemetry::otlp::{self, Defaults, Tracer};

use crate::flags::{Flags, Lapse, SandboxClass, is_every_interface};
use crate::images::{self, ImagesError};
use crate::security::SecurityError;

/// What is wrong with flags that are well-formed one by one.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error(transparent)]
    Security(#[from] SecurityError),
    #[error(
        "--advertise: {listen} is every interface of this host and no address to reach it by; say which is, such as \
         --advertise 10.0.0.7:8085"
    )]
    NoAdvertise { listen: Address },
    #[error("--runsc-path: plain processes need no runsc; leave it out, or say --sandbox gvisor")]
    NeedlessRunsc,
    #[error(transparent)]
    Images(#[from] ImagesError),
    #[error("{0}")]
    Storage(holdfast_objects::ConfigError),
    #[error("{0}")]
    Settings(String),
    #[error(
        "--metrics-listen-addr {address}: other hosts can reach this address, and nothing there is encrypted or \
         authenticated. Listen on 127.0.0.1:9090, or say --insecure-metrics if everyone on this network may know"
    )]
    MetricsExposed { address: Address },
    #[error(transparent)]
    Traces(#[from] otlp::SettingsError),
}

/// What a node is to be.
pub struct Plan {
    pub config: Config,
    /// Where it tells how it is, if anywhere.
    pub metrics: Option<Address>,
    /// Where spans go, if anywhere.
    pub traces: Option<otlp::Settings>,
}

/// Checks everything that can be checked without opening or making anything.
///
/// # Errors
/// The first flag or variable that is wrong.
pub fn plan(flags: Flags) -> Result<Plan, PlanError> {
    let settings = settings(&flags)?;
    let flag = flags.listen_flag();
    let listen = match flags.port {
        Some(port) => every_interface(port),
        None => flags.listen,
    };
    let place = (flag, &listen);
    let security = flags
        .security
        .plan(place, &flags.control_plane, flags.insecure_plaintext)?;
    if flags.advertise.is_none() && is_every_interface(&listen) {
        return Err(PlanError::NoAdvertise { listen });
    }
    if let Some(address) = flags.metrics_listen_addr.clone()
        && !flags.insecure_plaintext
        && !flags.insecure_metrics
        && !address.is_local()
    {
        return Err(PlanError::MetricsExposed { address });
    }
    let variable = |name: &str| std::env::var(name).ok();
    let traces = flags
        .traces
        .plan(Defaults::following(holdfast_node::SERVICE), variable)?;
    let config = Config {
        node_name: flags.node_name.into(),
        listen,
        advertise: flags.advertise,
        base_dir: flags.base_dir,
        control_planes: flags.control_plane,
        settings,
        storage: holdfast_objects::Config::from_env().map_err(PlanError::Storage)?,
        images: images::plan(flags.images)?,
        sandboxes: sandboxes(flags.sandbox, flags.runsc_path)?,
        security,
        tracer: Tracer::default(),
    };
    Ok(Plan {
        config,
        metrics: flags.metrics_listen_addr,
        traces,
    })
}

fn settings(flags: &Flags) -> Result<Settings, PlanError> {
    let mut settings = Settings::DEFAULT;
    settings.pull.stall_after = flags.pull_stall;
    settings.pull.attempts = flags.pull_attempts;
    settings.node.on_lapse = match flags.on_session_lapse {
        Lapse::Freeze => OnLapse::Freeze,
        Lapse::Keep => OnLapse::Keep,
    };
    let told = |broken: BrokenRelation| broken.told(|setting| flag(setting, &settings), duration::show);
    settings.check().map_err(told).map_err(PlanError::Settings)?;
    Ok(settings)
}

/// The flag that sets this, and to what.
fn flag(setting: Setting, settings: &Settings) -> Option<String> {
    match setting {
        Setting::PullStallAfter => Some(format!(
            "--pull-stall {}",
            duration::show(settings.pull.stall_after)
        )),
        Setting::PullAttempts => Some(format!("--pull-attempts {}", settings.pull.attempts)),
        _ => None,
    }
}

fn sandboxes(class: SandboxClass, runsc: Option<PathBuf>) -> Result<Sandboxes, PlanError> {
    match (class, runsc) {
        (SandboxClass::Process, None) => Ok(Sandboxes::Process),
        (SandboxClass::Process, Some(_)) => Err(PlanError::NeedlessRunsc),
        (SandboxClass::Gvisor, runsc) => Ok(Sandboxes::Gvisor { runsc }),
    }
}

fn every_interface(port: u16) -> Address {
    Address::Tcp {
        host: "0.0.0.0".to_owned(),
        port,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn what_a_lapsed_session_means_is_said_by_a_flag() {
        let read = |more: &[&str]| {
            let flags = Flags::parse_from([&["atelet", "--node-name", "n"], more].concat());
            settings(&flags).unwrap()
        };
        assert_eq!(read(&[]), Settings::DEFAULT);
        assert_eq!(read(&["--on-session-lapse", "keep"]).node.on_lapse, OnLapse::Keep);
    }
}
