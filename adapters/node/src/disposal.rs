//! Snapshots that nothing points at any more, deleted.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::iter;
use holdfast_objects::{
    Backend, LocalName, LocalSnapshots, Manifest, SnapshotError, SnapshotUri, Unfinished,
};
use holdfast_rpc::failure::to_tonic;
use holdfast_runtime::tokio::task::spawn_blocking;
use holdfast_sandbox::layout::Layout;
use holdfast_sandbox::names::ActorRef;
use tonic::Status;

use crate::work::{StepError, local_checkpoints};

/// How many snapshots of one request are deleted at once.
const AT_ONCE: usize = 4;

/// Which snapshots of which actor are to be deleted: names that have been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Discard {
    pub actor: ActorRef,
    pub local: Vec<LocalName>,
    pub external: Vec<SnapshotUri>,
}

/// Where the snapshots of this node are, and those that it may reach.
#[derive(Clone)]
pub(crate) struct Disposal {
    layout: Layout,
    backend: Arc<Backend>,
}

impl Disposal {
    pub fn new(layout: Layout, backend: Arc<Backend>) -> Self {
        Self { layout, backend }
    }

    /// Deletes all of them; what is not there is deleted already. One that cannot be deleted keeps none of the
    /// others.
    ///
    /// # Errors
    /// Why one of them could not be deleted.
    pub async fn discard(&self, discard: &Discard) -> Result<(), Status> {
        let Discard {
            actor,
            local,
            external,
        } = discard;
        let mut results = Vec::new();
        for name in local {
            results.push(self.discard_local(actor, name).await);
        }
        let external = external.iter().map(|uri| self.discard_external(actor, uri));
        let mut external = iter(external.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
        while let Some(result) = external.next().await {
            results.push(result);
        }
        let failed = results.into_iter().find_map(Result::err);
        failed.map_or(Ok(()), |error| {
            Err(Status::new(to_tonic(error.code()), error.to_string()))
        })
    }

    async fn discard_external(&self, actor: &ActorRef, uri: &SnapshotUri) -> Result<(), StepError> {
        let manifest = self.backend.read_manifest(uri).await;
        if let Some(owner) = is_anothers(actor, manifest)? {
            let at = uri.to_string();
            return Err(StepError::NotTheirs { at, owner });
        }
        Ok(self.backend.delete(uri).await?)
    }

    /// Where the actor's snapshots are, and where the original has them. There may be those of a namesake in
    /// another atespace.
    async fn discard_local(&self, actor: &ActorRef, name: &LocalName) -> Result<(), StepError> {
        let (actor, name, layout) = (actor.clone(), name.clone(), self.layout.clone());
        let discarded = spawn_blocking(move || {
            let mut unfinished = Vec::new();
            for place in [actor.clone(), actor.without_atespace()] {
                let snapshots = LocalSnapshots::new(local_checkpoints(&layout.actor(&place)));
                if is_anothers(&actor, snapshots.read_manifest(&name))?.is_none() {
                    unfinished.extend(Unfinished::beside(&snapshots.path(&name)));
                    snapshots.delete(&name)?;
                }
            }
            Ok::<_, StepError>(unfinished)
        });
        // Of a snapshot that was on its way to the object store parts may be there.
        for unfinished in discarded.await.map_err(|_| StepError::Interrupted)?? {
            self.backend.give_up(unfinished).await;
        }
        Ok(())
    }
}

/// Whose snapshot it is, if it says that it is somebody else's. One that was never completed, or is damaged, says
/// nothing.
fn is_anothers(
    actor: &ActorRef,
    manifest: Result<Manifest, SnapshotError>,
) -> Result<Option<String>, StepError> {
    let owner = match manifest {
        Ok(manifest) => manifest.actor,
        Err(SnapshotError::NotFound { .. } | SnapshotError::Corrupt { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let Some(owner) = owner else { return Ok(None) };
    let is_known = |atespace: &str| !atespace.is_empty();
    let other_atespace = actor
        .atespace()
        .is_some_and(|mine| is_known(&owner.atespace) && owner.atespace != mine);
    let is_other = owner.id != actor.actor_id() || other_atespace;
    Ok(is_other.then(|| format!("{}/{}", owner.atespace, owner.id)))
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use holdfast_objects::{ActorRecord, Config, Progress};
    use holdfast_runtime::tokio;
    use tonic::Code;

    struct Machine {
        disposal: Disposal,
        objects: tempfile::TempDir,
        base: tempfile::TempDir,
    }

    impl Machine {
        fn new() -> Self {
            let (objects, base) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let backend = Backend::new(Config::file(objects.path()).unwrap());
            Self {
                disposal: Disposal::new(Layout::new(base.path()), Arc::new(backend)),
                objects,
                base,
            }
        }

        async fn upload(&self, uri: &str, owner: &str) {
            let (source, manifest) = checkpoint(owner);
            let uri = SnapshotUri::parse(uri).unwrap();
            let (backend, progress) = (&self.disposal.backend, Progress::default());
            let uploaded = backend.upload(&uri, source.path(), &manifest, &progress);
            uploaded.await.unwrap();
        }

        fn save(&self, actor: &ActorRef, name: &str, owner: &str) -> PathBuf {
            let (source, manifest) = checkpoint(owner);
            let snapshots = LocalSnapshots::new(local_checkpoints(&self.disposal.layout.actor(actor)));
            let name = name.parse().unwrap();
            snapshots.save(source.path(), &name, &manifest).unwrap();
            snapshots.path(&name)
        }

        async fn discard(&self, local: &[&str], external: &[&str]) -> Result<(), Status> {
            let discard = Discard {
                actor: actor(),
                local: local.iter().map(|name| name.parse().unwrap()).collect(),
                external: external
                    .iter()
                    .map(|uri| SnapshotUri::parse(uri).unwrap())
                    .collect(),
            };
            self.disposal.discard(&discard).await
        }
    }

    fn actor() -> ActorRef {
        ActorRef::parse("ns", "counter", "a1")
            .unwrap()
            .within(Some("team-a"))
            .unwrap()
    }

    /// A checkpoint of one file, and whose it is: `atespace/id`.
    fn checkpoint(owner: &str) -> (tempfile::TempDir, Manifest) {
        let source = tempfile::tempdir().unwrap();
        std::fs::write(source.path().join("pages.img"), b"pages").unwrap();
        let (atespace, id) = owner.split_once('/').unwrap();
        let manifest = Manifest {
            sandbox_class: "gvisor".into(),
            assets: Default::default(),
            snapshot_files: vec!["pages.img".parse().unwrap()],
            scope: None,
            files: Default::default(),
            actor: Some(ActorRecord {
                atespace: atespace.into(),
                id: id.into(),
                incarnation: "1".into(),
            }),
            operation_id: None,
            created_at: None,
        };
        (source, manifest)
    }

    fn files_below(directory: &Path) -> usize {
        let entries = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        entries
            .map(|path| if path.is_dir() { files_below(&path) } else { 1 })
            .sum()
    }

    #[tokio::test]
    async fn what_is_discarded_is_gone_and_its_neighbours_are_not() {
        let machine = Machine::new();
        for uri in [
            "gs://b/s/team-a/a1-1",
            "gs://b/s/team-a/a1-2",
            "gs://b/s/team-a/a1-3",
        ] {
            machine.upload(uri, "team-a/a1").await;
        }
        let [gone, kept] = ["l1", "l2"].map(|name| machine.save(&actor(), name, "team-a/a1"));
        let before = files_below(machine.objects.path());
        let external = ["gs://b/s/team-a/a1-1", "gs://b/s/team-a/a1-2"];
        for _ in 0..2 {
            machine.discard(&["l1"], &external).await.unwrap();
            assert_eq!(files_below(machine.objects.path()), before / 3);
            assert!(!gone.exists() && kept.exists());
        }
    }

    #[tokio::test]
    async fn what_was_never_there_is_deleted_already() {
        let machine = Machine::new();
        machine.discard(&["l1"], &["gs://b/s/team-a/a1-1"]).await.unwrap();
        assert_eq!(files_below(machine.base.path()), 0);
    }

    #[tokio::test]
    async fn what_says_that_it_is_somebody_elses_stays_and_does_not_keep_the_others() {
        let machine = Machine::new();
        machine.upload("gs://b/s/team-a/a1-1", "team-a/a1").await;
        machine.upload("gs://b/s/team-a/a2-1", "team-a/a2").await;
        machine.upload("gs://b/s/team-b/a1-1", "team-b/a1").await;
        let before = files_below(machine.objects.path());
        let external = [
            "gs://b/s/team-a/a2-1",
            "gs://b/s/team-b/a1-1",
            "gs://b/s/team-a/a1-1",
        ];
        let refused = machine.discard(&[], &external).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(
            refused.message().contains("belongs to actor team-"),
            "{refused:?}"
        );
        assert_eq!(files_below(machine.objects.path()), before / 3 * 2);
    }

    #[tokio::test]
    async fn a_snapshot_that_lies_where_the_original_has_it_goes_unless_it_is_a_namesakes() {
        let machine = Machine::new();
        let [mine, anothers] = [("l1", "/a1"), ("l2", "team-b/a1")]
            .map(|(name, owner)| machine.save(&actor().without_atespace(), name, owner));
        machine.discard(&["l1", "l2"], &[]).await.unwrap();
        assert!(!mine.exists() && anothers.exists());
    }

    #[tokio::test]
    async fn a_snapshot_that_was_never_completed_goes_too() {
        let machine = Machine::new();
        machine.upload("gs://b/s/team-a/a1-1", "team-a/a1").await;
        let manifest = machine.objects.path().join("b/s/team-a/a1-1/manifest.json");
        std::fs::remove_file(manifest).unwrap();
        machine.discard(&[], &["gs://b/s/team-a/a1-1"]).await.unwrap();
        assert_eq!(files_below(machine.objects.path()), 0);
    }
}
