//! Snapshots on their way in and out.

use futures_util::future::try_join;
use holdfast_core::catalog::Scope;
use holdfast_core::effect::{Place, Verb};
use holdfast_core::id::Name;
use holdfast_core::node::Order;
use holdfast_objects::{
    self as objects, ActorRecord, FileName, LocalName, LocalSnapshots, Manifest, Progress, SnapshotUri,
};

use super::failure::StepError;
use super::{Site, Workshop, blocking, local_checkpoints, record};
use crate::rfc3339::rfc3339;

impl Workshop {
    /// Brings the snapshot's files, verified, and what its sandbox is made with.
    pub(super) async fn fetch(&self, order: &Order) -> Result<(), StepError> {
        let Verb::Restore { from, .. } = &order.verb else {
            return Err(StepError::Misdirected);
        };
        let site = self.site(order)?;
        let room = self.rooms.shared(&site.actor).await;
        match from {
            Place::External(prefix) => {
                let uri = SnapshotUri::parse(prefix.as_str())?;
                let manifest = self.backend.read_manifest(&uri).await?;
                let (dest, progress) = (site.dirs.restore_state(), Progress::default());
                let download = async {
                    let downloaded = self.backend.download(&uri, &manifest, &dest, &progress);
                    downloaded.await.map_err(StepError::from)
                };
                try_join(download, self.adopt(&site, &manifest)).await?;
            }
            Place::Local(name) => {
                let name: LocalName = name.as_str().parse()?;
                let dirs = site.dirs.clone();
                let snapshots = self.snapshots_with(order, &site, &name).await?;
                let fetched = blocking(move || {
                    let _room = room;
                    let manifest = snapshots.read_manifest(&name)?;
                    snapshots.fetch(&name, &manifest, &dirs.restore_state())?;
                    Ok::<_, StepError>(manifest)
                });
                let manifest = fetched.await??;
                self.adopt(&site, &manifest).await?;
            }
        }
        Ok(())
    }

    /// Stores the files of a checkpoint where the order says, and gives back the actor's space.
    pub(super) async fn save(&self, order: &Order, files: &[Name]) -> Result<(), StepError> {
        let Verb::Checkpoint { to, scope } = &order.verb else {
            return Err(StepError::Misdirected);
        };
        let site = self.site(order)?;
        {
            let room = self.rooms.shared(&site.actor).await;
            let plan = self.plan(order, &site, *scope, files).await?;
            let source = site.dirs.checkpoint_state();
            match to {
                Place::External(prefix) => {
                    let uri = SnapshotUri::parse(prefix.as_str())?;
                    if !self.is_stored(&uri, &site, &plan).await? {
                        let progress = Progress::default();
                        self.backend.upload(&uri, &source, &plan, &progress).await?;
                    }
                }
                Place::Local(name) => {
                    let name: LocalName = name.as_str().parse()?;
                    let snapshots = LocalSnapshots::new(local_checkpoints(&site.dirs));
                    let saved = blocking(move || {
                        let _room = room;
                        snapshots.save(&source, &name, &plan).map(drop)
                    });
                    saved.await??;
                }
            }
        }
        self.tidy(order, site).await;
        Ok(())
    }

    /// Copies a local snapshot to the object store.
    pub(super) async fn upload(&self, order: &Order) -> Result<(), StepError> {
        let Verb::Upload { name, to } = &order.verb else {
            return Err(StepError::Misdirected);
        };
        let site = self.site(order)?;
        let _room = self.rooms.shared(&site.actor).await;
        let (name, uri): (LocalName, _) = (name.as_str().parse()?, SnapshotUri::parse(to.as_str())?);
        let snapshots = self.snapshots_with(order, &site, &name).await?;
        let progress = Progress::default();
        let uploaded = self.backend.upload_local(&uri, &snapshots, &name, &progress);
        uploaded.await?;
        Ok(())
    }

    /// Makes the sandbox's programs present, and records that this actor's sandbox is made with them.
    async fn adopt(&self, site: &Site, manifest: &Manifest) -> Result<(), StepError> {
        self.assets.ensure(&manifest.assets).await?;
        let (dirs, record) = (site.dirs.clone(), record::of_manifest(manifest));
        blocking(move || record::write(&dirs, &record)).await?
    }

    async fn plan(
        &self,
        order: &Order,
        site: &Site,
        scope: Scope,
        files: &[Name],
    ) -> Result<Manifest, StepError> {
        let snapshot_files = file_names(files.iter().map(Name::as_str))?;
        let dirs = site.dirs.clone();
        let record = blocking(move || record::read(&dirs)).await??;
        Ok(Manifest {
            sandbox_class: record.sandbox_class,
            assets: record.assets,
            snapshot_files,
            scope: Some(match scope {
                Scope::Full => objects::Scope::Full,
                Scope::Data => objects::Scope::Data,
            }),
            files: Default::default(),
            actor: Some(ActorRecord {
                atespace: order.actor.atespace.to_string(),
                id: order.actor.name.to_string(),
                incarnation: order.incarnation.to_string(),
            }),
            operation_id: order.op.map(|op| op.to_string()),
            created_at: Some(rfc3339(self.clock.wall_ms())),
        })
    }

    /// Whether this operation has stored its snapshot before, and the files here are tidied away already:
    /// the process ended before it could say so.
    async fn is_stored(&self, uri: &SnapshotUri, site: &Site, plan: &Manifest) -> Result<bool, StepError> {
        let source = site.dirs.checkpoint_state();
        let paths: Vec<_> = plan
            .snapshot_files
            .iter()
            .map(|file| source.join(file.as_str()))
            .collect();
        let is_here = blocking(move || paths.iter().all(|path| path.exists())).await?;
        if is_here || plan.operation_id.is_none() {
            return Ok(false);
        }
        let stored = self.backend.read_manifest(uri).await?;
        Ok(stored.operation_id == plan.operation_id && stored.snapshot_files == plan.snapshot_files)
    }
}

/// The names of a snapshot's files, none of which leads out of its directory.
pub(super) fn file_names<'a>(names: impl Iterator<Item = &'a str>) -> Result<Vec<FileName>, StepError> {
    Ok(names.map(str::parse).collect::<Result<_, _>>()?)
}
