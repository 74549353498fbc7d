//! What the flags amount to, checked as a whole before anything is opened.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use holdfast_core::settings::{BrokenRelation, Settings};
use holdfast_images::{Credentials, CredentialsError, Layouts, PullOptions};
use holdfast_node::{Config, Sandboxes};
use holdfast_runtime::duration;
use holdfast_runtime::net::Address;

use crate::flags::{Flags, SandboxClass};

/// What is wrong with flags that are well-formed one by one.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error(
        "{flag} {address}: other hosts can reach this address, and nothing there is encrypted or authenticated; \
         TLS comes with a later release. Listen on 127.0.0.1:8085 or unix:/path, or say --insecure-plaintext if you \
         trust everyone on this network"
    )]
    Exposed { flag: &'static str, address: Address },
    #[error(
        "--advertise: {listen} is every interface of this host and no address to reach it by; say which is, such as \
         --advertise 10.0.0.7:8085"
    )]
    NoAdvertise { listen: Address },
    #[error(
        "--advertise {address}: the control plane dials host:port, and this has {fault}; write host:port or leave it out"
    )]
    Advertise { address: Address, fault: &'static str },
    #[error("--base-dir {}: must be absolute: workers that run elsewhere share it", .path.display())]
    RelativeBase { path: PathBuf },
    #[error(
        "--base-dir {}: is too long: the sockets of workers below it may have 107 bytes, which leaves 48 for it",
        .path.display()
    )]
    LongBase { path: PathBuf },
    #[error("--base-dir {}: is not a directory", .path.display())]
    NoDirectory { path: PathBuf },
    #[error("--runsc-path {}: {why}; name the file of an installed runsc, such as /usr/bin/runsc", .path.display())]
    Runsc { path: PathBuf, why: String },
    #[error("--runsc-path: plain processes need no runsc; leave it out, or say --sandbox gvisor")]
    NeedlessRunsc,
    #[error("--registry-config: {0}")]
    Logins(CredentialsError),
    #[error("{0}")]
    Storage(holdfast_objects::ConfigError),
    #[error(
        "--pull-stall {}: must be shorter than the {} that an order may take", duration::show(*.stall),
        duration::show(*.deadline)
    )]
    Stall { stall: Duration, deadline: Duration },
    #[error("settings do not fit together: {0}")]
    Settings(BrokenRelation),
}

/// A pod's UID has 36 bytes; `/ateoms/<uid>/ateom.sock` stands behind the base directory.
const BASE_BYTES_MAX: usize = 107 - "/ateoms//ateom.sock".len() - 36 - 4;

/// Checks everything that can be checked without opening or making anything.
///
/// # Errors
/// The first flag or variable that is wrong.
pub fn plan(flags: Flags) -> Result<Config, PlanError> {
    let settings = settings(&flags)?;
    let (flag, listen) = match flags.port {
        Some(port) => ("--port", every_interface(port)),
        None => ("--listen", flags.listen),
    };
    if !flags.insecure_plaintext && !listen.is_local() {
        let address = listen;
        return Err(PlanError::Exposed { flag, address });
    }
    match &flags.advertise {
        None if is_every_interface(&listen) => return Err(PlanError::NoAdvertise { listen }),
        Some(address) if is_every_interface(address) => {
            return Err(PlanError::Advertise {
                address: address.clone(),
                fault: "every host",
            });
        }
        Some(address @ Address::Tcp { port: 0, .. }) => {
            return Err(PlanError::Advertise {
                address: address.clone(),
                fault: "no port",
            });
        }
        _ => {}
    }
    Ok(Config {
        node_name: flags.node_name.into(),
        listen,
        advertise: flags.advertise,
        base_dir: base_dir(flags.base_dir)?,
        control_planes: flags.control_plane,
        settings,
        storage: holdfast_objects::Config::from_env().map_err(PlanError::Storage)?,
        images: PullOptions {
            plain_http: flags.insecure_registry.into_iter().collect(),
            localhost_replacement: flags.localhost_registry_replacement,
            credentials: match &flags.registry_config {
                Some(path) => Credentials::from_docker_config(path).map_err(PlanError::Logins)?,
                None => Credentials::default(),
            },
            layouts: if flags.allow_image_layouts {
                Layouts::Allowed
            } else {
                Layouts::Refused
            },
            ..PullOptions::default()
        },
        sandboxes: sandboxes(flags.sandbox, flags.runsc_path)?,
    })
}

fn settings(flags: &Flags) -> Result<Settings, PlanError> {
    let mut settings = Settings::DEFAULT;
    settings.pull.stall_after = flags.pull_stall;
    settings.pull.attempts = flags.pull_attempts;
    if flags.pull_stall >= settings.workflow.deadline {
        return Err(PlanError::Stall {
            stall: flags.pull_stall,
            deadline: settings.workflow.deadline,
        });
    }
    settings.check().map_err(PlanError::Settings)?;
    Ok(settings)
}

fn base_dir(path: PathBuf) -> Result<PathBuf, PlanError> {
    if !path.is_absolute() {
        return Err(PlanError::RelativeBase { path });
    }
    if path.as_os_str().len() > BASE_BYTES_MAX {
        return Err(PlanError::LongBase { path });
    }
    if path.exists() && !path.is_dir() {
        return Err(PlanError::NoDirectory { path });
    }
    Ok(path)
}

fn sandboxes(class: SandboxClass, runsc: Option<PathBuf>) -> Result<Sandboxes, PlanError> {
    match (class, runsc) {
        (SandboxClass::Process, None) => Ok(Sandboxes::Process),
        (SandboxClass::Process, Some(_)) => Err(PlanError::NeedlessRunsc),
        (SandboxClass::Gvisor, None) => Ok(Sandboxes::Gvisor { runsc: None }),
        (SandboxClass::Gvisor, Some(path)) => {
            let why = match path.metadata() {
                Err(error) => Some(error.to_string()),
                Ok(metadata) if !metadata.is_file() => Some("is not a file".to_owned()),
                Ok(_) if !path.is_absolute() => Some("must be absolute".to_owned()),
                Ok(_) => None,
            };
            match why {
                None => Ok(Sandboxes::Gvisor { runsc: Some(path) }),
                Some(why) => Err(PlanError::Runsc { path, why }),
            }
        }
    }
}

fn every_interface(port: u16) -> Address {
    Address::Tcp {
        host: "0.0.0.0".to_owned(),
        port,
    }
}

fn is_every_interface(address: &Address) -> bool {
    match address {
        Address::Unix(_) => false,
        Address::Tcp { host, .. } => host.parse().is_ok_and(|address: IpAddr| address.is_unspecified()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_base_directory_leaves_room_for_the_socket_of_a_worker() {
        let uid = "01234567-89ab-cdef-0123-456789abcdef";
        let base = format!("/{}", "b".repeat(BASE_BYTES_MAX - 1));
        assert!(format!("{base}/ateoms/{uid}/ateom.sock").len() <= 107);
        assert_eq!(BASE_BYTES_MAX, 48);
        assert!(base_dir(base.clone().into()).is_ok());
        assert!(base_dir(format!("{base}b").into()).is_err());
    }
}
