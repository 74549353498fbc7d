//! Workloads and sandbox files as messages, with secrets put in at the last moment.

use holdfast_core::catalog::{EnvValue, Presence, SandboxAssets, Workload};
use holdfast_core::id::Name;
use holdfast_manifests::Secrets;
use holdfast_rpc::atelet;
use tonic::Status;

use crate::surroundings::SecretUnknown;

/// Whether the environment goes along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvPolicy {
    /// With secrets resolved: the containers are about to start.
    Resolved,
    /// Not at all: nothing starts.
    LeftOut,
}

/// A workload as a node hears of it.
///
/// # Errors
/// `FailedPrecondition` that names the container, the variable and the secret that is missing.
pub fn message(
    workload: &Workload,
    policy: EnvPolicy,
    namespace: &Name,
    secrets: &Secrets,
) -> Result<atelet::WorkloadSpec, Status> {
    let mut containers = Vec::with_capacity(workload.containers.len());
    for container in &workload.containers {
        let mut env = Vec::new();
        if policy == EnvPolicy::Resolved {
            for variable in &container.env {
                let value = match &variable.value {
                    EnvValue::Literal(value) => Some(value.to_string()),
                    EnvValue::Secret {
                        secret,
                        key,
                        presence,
                    } => secret_value(secrets, namespace, secret, key, *presence).map_err(|missing| {
                        Status::failed_precondition(format!(
                            "container \"{}\" env \"{}\" references missing {missing}",
                            container.name, variable.name
                        ))
                    })?,
                };
                if let Some(value) = value {
                    env.push(atelet::EnvEntry {
                        name: variable.name.to_string(),
                        value,
                    });
                }
            }
        }
        containers.push(atelet::Container {
            name: container.name.to_string(),
            image: container.image.to_string(),
            command: container.command.iter().map(Name::to_string).collect(),
            env,
            readyz: container.readyz.as_ref().map(|readyz| atelet::Readyz {
                http_get: Some(atelet::HttpGetAction {
                    path: readyz.path.to_string(),
                    port: i32::from(readyz.port),
                }),
            }),
            volume_mounts: container
                .mounts
                .iter()
                .map(|mount| atelet::VolumeMount {
                    name: mount.volume.to_string(),
                    mount_path: mount.path.to_string(),
                })
                .collect(),
        });
    }
    let volumes = workload.durable_volumes.iter().map(|name| atelet::Volume {
        name: name.to_string(),
        r#type: atelet::VolumeType::DurableDir as i32,
        source: Some(atelet::volume::Source::DurableDir(atelet::DurableDirVolume {})),
    });
    Ok(atelet::WorkloadSpec {
        containers,
        pause_image: workload.pause_image.to_string(),
        volumes: volumes.collect(),
    })
}

/// A secret that some variable refers to could not be asked for.
pub fn unresolved(workload: &Workload, unknown: &SecretUnknown) -> Status {
    let mut places = workload.containers.iter().flat_map(|container| {
        let refers = container
            .env
            .iter()
            .filter(|env| matches!(&env.value, EnvValue::Secret { secret, .. } if *secret == unknown.name));
        refers.map(|env| format!("container \"{}\" env \"{}\" ", container.name, env.name))
    });
    let place = places.next().unwrap_or_default();
    Status::internal(format!("internal server error: while resolving {place}{unknown}"))
}

/// Sandbox files as a node hears of them.
pub fn assets(assets: &SandboxAssets) -> atelet::SandboxAssets {
    let by_arch = assets.assets.iter().map(|(arch, files)| {
        let files = files.iter().map(|(name, file)| {
            let file = atelet::AssetFile {
                url: file.url.to_string(),
                sha256: file.sha256.to_string(),
            };
            (name.to_string(), file)
        });
        (
            arch.to_string(),
            atelet::ArchAssets {
                files: files.collect(),
            },
        )
    });
    atelet::SandboxAssets {
        sandbox_class: assets.sandbox_class.to_string(),
        assets: by_arch.collect(),
    }
}

/// A secret's value; none if it is missing and may be. The error names what is missing.
fn secret_value(
    secrets: &Secrets,
    namespace: &Name,
    secret: &Name,
    key: &Name,
    presence: Presence,
) -> Result<Option<String>, String> {
    let missing = match secrets.get(namespace, secret) {
        None => format!("secret {namespace}/{secret}"),
        Some(found) => match found.get(key) {
            Some(value) => return Ok(Some(String::from_utf8_lossy(value).into_owned())),
            None => format!("key \"{key}\" in secret {namespace}/{secret}"),
        },
    };
    match presence {
        Presence::Optional => Ok(None),
        Presence::Required => Err(missing),
    }
}
