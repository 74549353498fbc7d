//! The workers of a cluster on one machine: as many as its manifests ask for, also when those change.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use holdfast_manifests::{Manifests, PoolSpec, Watcher};
use holdfast_pods::{PodKey, Pods};
use holdfast_runtime::tokio;

use super::activator::ControlPlane;
use super::drain::{self, Whose};

/// How many workers pools have.
#[derive(Clone, Copy, Debug)]
pub enum Size {
    /// As many as their manifests say.
    Declared,
    /// So many each.
    Fixed(u32),
}

impl Size {
    /// The pools of these manifests, in the size that they are to have.
    pub fn of(self, manifests: &Manifests) -> Vec<PoolSpec> {
        let mut pools = manifests.pools.clone();
        if let Size::Fixed(workers) = self {
            for pool in &mut pools {
                pool.replicas = workers;
            }
        }
        pools
    }
}

/// Who tells what is wrong with manifests that have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reports {
    /// The control plane in this process.
    ControlPlane,
    /// Nobody else in this process.
    Crew,
}

/// The workers, shared by who follows the manifests and who ends everything.
#[derive(Clone)]
pub struct Crew {
    pods: Arc<Mutex<Pods>>,
}

impl Crew {
    pub fn new(pods: Pods) -> Crew {
        Crew {
            pods: Arc::new(Mutex::new(pods)),
        }
    }

    /// Starts the workers that these pools ask for, or finds them again. Returns those that run and no pool
    /// asks for.
    pub async fn want(&self, pools: Vec<PoolSpec>) -> Result<Vec<PodKey>> {
        let surplus = self.off_thread(move |pods| pods.want(&pools)).await?;
        Ok(surplus?)
    }

    /// The workers that run, or are about to.
    pub async fn keys(&self) -> Result<Vec<PodKey>> {
        self.off_thread(|pods| pods.keys().cloned().collect()).await
    }

    /// Ends every worker; who it was is kept for the next start.
    pub async fn stop(&self) -> Result<()> {
        self.off_thread(Pods::stop).await
    }

    /// Follows the manifests for ever, beginning with a `surplus` to be ended.
    pub async fn follow(
        self,
        mut surplus: Vec<PodKey>,
        mut watcher: Watcher,
        size: Size,
        reports: Reports,
        control_plane: ControlPlane,
    ) {
        // How many workers the last manifests asked for.
        let mut had = None;
        loop {
            if !surplus.is_empty()
                && let Err(error) = self.dismiss(surplus, &control_plane).await
            {
                tracing::error!(%error, "workers that no pool asks for may still run");
            }
            let pools = match watcher.changed().await {
                Ok(manifests) => size.of(&manifests),
                Err(errors) if reports == Reports::Crew => {
                    for error in errors {
                        tracing::error!(%error, "manifests not reloaded; workers stay as they are");
                    }
                    surplus = Vec::new();
                    continue;
                }
                Err(_) => {
                    surplus = Vec::new();
                    continue;
                }
            };
            let wanted: u32 = pools.iter().map(|pool| pool.replicas).sum();
            let had = had.replace(wanted);
            surplus = match self.want(pools).await {
                Ok(surplus) => {
                    match wanted {
                        _ if had == Some(wanted) => {}
                        0 => tracing::warn!("no pool asks for a worker any more: no actor can run"),
                        _ => tracing::info!(wanted, "workers follow the manifests"),
                    }
                    surplus
                }
                Err(error) => {
                    tracing::error!(%error, "workers stay as they are");
                    Vec::new()
                }
            };
        }
    }

    /// Ends workers for good, once the actors on them sleep.
    async fn dismiss(&self, surplus: Vec<PodKey>, control_plane: &ControlPlane) -> Result<()> {
        let names: Vec<String> = surplus.iter().map(ToString::to_string).collect();
        tracing::warn!(
            workers = names.join(", "),
            "no pool asks for these workers any more; ending them"
        );
        drain::suspend(control_plane, &Whose::On(surplus.iter().cloned().collect())).await;
        self.off_thread(move |pods| pods.end(&surplus)).await
    }

    async fn off_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Pods) -> T + Send + 'static,
    ) -> Result<T> {
        let pods = self.pods.clone();
        tokio::task::spawn_blocking(move || work(&mut pods.lock().unwrap_or_else(PoisonError::into_inner)))
            .await
            .context("the supervisor of workers panicked")
    }
}
