//! Laying out what a sandbox starts from: assets, root file systems, bundles.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::{try_join, try_join_all};
use holdfast_core::catalog::{Container, EnvValue};
use holdfast_core::effect::Verb;
use holdfast_core::id::Name;
use holdfast_core::node::Order;
use holdfast_images::{Image, UnpackError, UnpackLimits};
use holdfast_sandbox::bundle::{self, ContainerConfig};
use holdfast_sandbox::layout::ActorDirs;
use holdfast_sandbox::names::{Label, PAUSE};
use holdfast_sandbox::network::interior_netns;

use super::failure::StepError;
use super::rooms::Shared;
use super::{Workshop, blocking, record};

/// Beside a root file system: a sign that its image is in use, for as long as it is there.
const LEASE: &str = "image-lease";

impl Workshop {
    /// Lays out the bundles of all containers; for an actor that boots from its images also fetches what
    /// its sandbox is made with, and records that.
    pub(super) async fn assemble(&self, order: &Order) -> Result<(), StepError> {
        let site = self.site(order)?;
        let room = self.rooms.shared(&site.actor).await;
        let assets = async {
            let Verb::Run { assets } = &order.verb else {
                return Ok(());
            };
            let record = record::of_assets(assets, self.assets.architecture());
            self.assets.ensure(&record.assets).await?;
            let dirs = site.dirs.clone();
            blocking(move || record::write(&dirs, &record)).await?
        };
        let bundles = async {
            let (dirs, actor) = (site.dirs.clone(), site.actor.clone());
            blocking(move || bundle::write_identity(&dirs, &actor)).await??;
            let workload = &order.workload;
            let pause = self.bundle(order, &site.dirs, &room, PAUSE, &workload.pause_image, None);
            let containers = workload.containers.iter().map(|container| {
                let (name, image) = (container.name.as_str(), &container.image);
                self.bundle(order, &site.dirs, &room, name, image, Some(container))
            });
            try_join(pause, try_join_all(containers)).await.map(drop)
        };
        try_join(assets, bundles).await.map(drop)
    }

    /// Lays out one container: its root file system, then its configuration.
    async fn bundle(
        &self,
        order: &Order,
        dirs: &ActorDirs,
        room: &Shared,
        name: &str,
        image: &Name,
        container: Option<&Container>,
    ) -> Result<(), StepError> {
        let no_image = || StepError::NoImage {
            image: image.to_string(),
        };
        let unpacked = self.images.get(image).ok_or_else(no_image)?;
        self.unpack(image, unpacked, dirs.bundle(name), room).await?;

        let netns = interior_netns(&Label::parse("target ateom UID", order.worker.as_str())?);
        let dirs = dirs.clone();
        match container {
            Some(container) => {
                let config = config_of(container)?;
                blocking(move || bundle::write_container(&dirs, &netns, &config)).await??;
            }
            None => {
                let volumes = order.workload.durable_volumes.iter();
                let volumes: Vec<Label> = volumes
                    .map(|volume| Label::parse("volume name", volume.as_str()))
                    .collect::<Result<_, _>>()?;
                blocking(move || write_pause(&dirs, &netns, &volumes)).await??;
            }
        }
        Ok(())
    }

    /// Gives a container its root file system, out of the image that is unpacked once for all.
    async fn unpack(
        &self,
        name: &Name,
        image: Image,
        bundle: PathBuf,
        room: &Shared,
    ) -> Result<(), StepError> {
        let failed = |source: UnpackError| {
            if source.needs_pull() {
                self.images.forget(name);
            }
            StepError::Unpack {
                image: name.to_string(),
                source,
            }
        };
        let tree = image.unpacked(&UnpackLimits::default()).await.map_err(failed)?;
        let stop = StopOnDrop::default();
        let (stopped, room, sharing) = (stop.0.clone(), room.clone(), self.assets.sharing());
        let laid_out = blocking(move || {
            let _room = room;
            make_private_dir(&bundle)?;
            Ok::<_, StepError>(tree.lay_out(&bundle.join("rootfs"), &bundle.join(LEASE), sharing, &stopped))
        });
        laid_out.await??.map(drop).map_err(failed)
    }
}

fn write_pause(dirs: &ActorDirs, netns: &Path, volumes: &[Label]) -> Result<(), StepError> {
    for volume in volumes {
        make_private_dir(&dirs.durable_dir(volume))?;
    }
    Ok(bundle::write_pause(dirs, netns, volumes)?)
}

fn make_private_dir(path: &Path) -> Result<(), StepError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| StepError::disk(path, source))
}

fn config_of(container: &Container) -> Result<ContainerConfig, StepError> {
    let env = container.env.iter().filter_map(|entry| match &entry.value {
        EnvValue::Literal(value) => Some((entry.name.to_string(), value.to_string())),
        // The control plane resolves secrets; requests to nodes have none.
        EnvValue::Secret { .. } => None,
    });
    let mounts = container.mounts.iter().map(|mount| {
        let volume = Label::parse("volume name", mount.volume.as_str())?;
        Ok((volume, mount.path.to_string()))
    });
    Ok(ContainerConfig {
        name: Label::container(container.name.as_str())?,
        command: container.command.iter().map(Name::to_string).collect(),
        env: env.collect(),
        durable_mounts: mounts.collect::<Result<_, StepError>>()?,
    })
}

/// Ends the unpacking on its own thread when nobody waits for it any more.
#[derive(Default)]
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
