//! Noticing that the manifests have changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use holdfast_core::catalog::Template;
use holdfast_runtime::tokio;

use crate::Manifests;
use crate::directory::Files;
use crate::error::{Fault, ManifestError, Place};
use crate::object::{self, Kind, ObjectKey};

/// How long after a look at the directory the next one follows.
const INTERVAL: Duration = Duration::from_secs(1);

type Digest = [u8; 32];

/// Follows a directory of manifests.
///
/// It looks at the contents once a second; there is no notification to miss, and mounted ConfigMaps and
/// network file systems work as well. A change counts once two looks in a row have found the same, so
/// that a file that is still being written is not taken for one that ends early.
pub struct Watcher {
    dir: PathBuf,
    current: Arc<Manifests>,
    /// What has been acted on.
    handled: Digest,
    /// What the last look found.
    seen: Digest,
}

impl Watcher {
    /// Reads the directory a first time.
    ///
    /// # Errors
    /// Those of [`crate::load`].
    pub fn open(dir: &Path) -> Result<Watcher, Vec<ManifestError>> {
        let files = Files::read(dir);
        let digest = files.digest();
        let current = Arc::new(object::read(files)?);
        Ok(Watcher {
            dir: dir.to_owned(),
            current,
            handled: digest,
            seen: digest,
        })
    }

    /// The manifests that are in force.
    pub fn current(&self) -> &Arc<Manifests> {
        &self.current
    }

    /// Waits for the next change, in a loop of its own: each call begins with a pause of a second. Dropping
    /// the future loses nothing.
    ///
    /// # Errors
    /// What is wrong with the change, once. [`Watcher::current`] stays as it was.
    pub async fn changed(&mut self) -> Result<Arc<Manifests>, Vec<ManifestError>> {
        loop {
            tokio::time::sleep(INTERVAL).await;
            let dir = self.dir.clone();
            let (digest, files) = blocking(move || {
                let files = Files::read(&dir);
                (files.digest(), files)
            })
            .await;
            if self.is_due(digest) {
                let new = blocking(move || object::read(files)).await;
                return self.take(digest, new);
            }
        }
    }

    /// Whether what a look has found must be acted on.
    fn is_due(&mut self, digest: Digest) -> bool {
        let settled = std::mem::replace(&mut self.seen, digest) == digest;
        settled && digest != self.handled
    }

    fn take(
        &mut self,
        digest: Digest,
        new: Result<Manifests, Vec<ManifestError>>,
    ) -> Result<Arc<Manifests>, Vec<ManifestError>> {
        self.handled = digest;
        let new = new?;
        let changed: Vec<ManifestError> = self
            .current
            .catalog
            .templates()
            .filter(|old| {
                let new = new.catalog.template(&old.namespace, &old.name);
                new.is_some_and(|new| spec(new) != spec(old))
            })
            .map(|old| immutable(&new, old))
            .collect();
        if !changed.is_empty() {
            return Err(changed);
        }
        self.current = Arc::new(new);
        Ok(Arc::clone(&self.current))
    }
}

/// Runs `work` on a thread that may wait for the disk.
#[allow(
    deprecated,
    reason = "the simulator warns about it and then runs the work in place, as it should"
)]
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_cancelled() => std::future::pending().await,
        Err(error) => panic!("reading the manifests panicked: {error}"),
    }
}

/// The part of a template that must not change: all but its status.
fn spec(template: &Template) -> Template {
    Template {
        golden_snapshot: None,
        ..template.clone()
    }
}

fn immutable(new: &Manifests, template: &Template) -> ManifestError {
    let key = ObjectKey {
        kind: Kind::ActorTemplate,
        namespace: template.namespace.clone(),
        name: template.name.clone(),
    };
    let nowhere = Place {
        file: PathBuf::new(),
        position: None,
    };
    ManifestError {
        place: new.place(&key).cloned().unwrap_or(nowhere),
        object: key.to_string(),
        field: "spec".to_owned(),
        value: None,
        fault: Fault::Immutable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const TEMPLATE: &str = "apiVersion: ate.dev/v1alpha1
kind: ActorTemplate
metadata: {name: t}
spec: {pauseImage: p@sha256:0000000000000000000000000000000000000000000000000000000000000000, snapshotsConfig: {location: gs://here}}
";
    const POOL: &str = "apiVersion: ate.dev/v1alpha1
kind: WorkerPool
metadata: {name: p}
spec: {replicas: 1, ateomImage: x}
";

    struct Watched {
        dir: tempfile::TempDir,
        watcher: Watcher,
    }

    impl Watched {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("t.yaml"), TEMPLATE).unwrap();
            let watcher = Watcher::open(dir.path()).unwrap();
            Self { dir, watcher }
        }

        fn write(&self, file: &str, text: &str) {
            fs::write(self.dir.path().join(file), text).unwrap();
        }

        fn look(&mut self) -> Option<Result<Arc<Manifests>, Vec<ManifestError>>> {
            let files = Files::read(self.dir.path());
            let digest = files.digest();
            self.watcher
                .is_due(digest)
                .then(|| self.watcher.take(digest, object::read(files)))
        }

        fn pools(&self) -> usize {
            self.watcher.current().pools.len()
        }
    }

    #[test]
    fn a_change_counts_once_it_has_settled() {
        let mut watched = Watched::new();
        assert!(watched.look().is_none(), "nothing has changed");
        watched.write("p.yaml", "");
        assert!(watched.look().is_none(), "it is still being written");
        watched.write("p.yaml", POOL);
        assert!(watched.look().is_none(), "it has just been written");
        let manifests = watched.look().unwrap().unwrap();
        assert_eq!((manifests.pools.len(), watched.pools()), (1, 1));
        assert!(watched.look().is_none(), "a change is told once");
    }

    #[test]
    fn a_change_that_is_undone_before_it_settles_is_none() {
        let mut watched = Watched::new();
        watched.write("t.yaml", "");
        assert!(watched.look().is_none());
        watched.write("t.yaml", TEMPLATE);
        assert!(watched.look().is_none() && watched.look().is_none());
    }

    #[test]
    fn a_broken_edit_is_told_once_and_keeps_the_old_manifests() {
        let mut watched = Watched::new();
        watched.write("p.yaml", "kind: [");
        watched.look();
        let errors = watched.look().unwrap().unwrap_err();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(watched.look().is_none(), "the same fault again is no news");
        assert_eq!(watched.watcher.current().catalog.templates().count(), 1);
        watched.write("p.yaml", POOL);
        watched.look();
        assert!(watched.look().unwrap().is_ok());
    }

    #[test]
    fn a_directory_that_cannot_be_read_keeps_the_old_manifests() {
        let mut watched = Watched::new();
        fs::remove_dir_all(watched.dir.path()).unwrap();
        watched.look();
        let errors = watched.look().unwrap().unwrap_err();
        assert!(matches!(errors[0].fault, Fault::Unreadable(_)), "{errors:?}");
        assert_eq!(watched.watcher.current().catalog.templates().count(), 1);
    }

    #[test]
    fn the_spec_of_a_template_is_immutable_but_its_status_is_not() {
        let mut watched = Watched::new();
        watched.write(
            "t.yaml",
            &format!("# moved down\n{}", TEMPLATE.replace("gs://here", "gs://there")),
        );
        watched.look();
        let errors = watched.look().unwrap().unwrap_err();
        let [error] = &errors[..] else {
            panic!("{errors:?}")
        };
        let expected = "t.yaml:2:1: ActorTemplate default/t: spec: Spec is immutable: snapshots depend on it; keep it, \
                        and give the changed template a new name";
        assert!(error.to_string().ends_with(expected), "{error}");
        let template = watched.watcher.current().catalog.templates().next().unwrap();
        assert_eq!(template.snapshot_location.as_str(), "gs://here");

        watched.write(
            "t.yaml",
            &format!("{TEMPLATE}status: {{goldenSnapshot: gs://gold}}\n"),
        );
        watched.look();
        let manifests = watched.look().unwrap().unwrap();
        assert!(
            manifests
                .catalog
                .templates()
                .next()
                .unwrap()
                .golden_snapshot
                .is_some()
        );
    }

    #[test]
    fn a_template_that_was_deleted_may_come_back_different() {
        let mut watched = Watched::new();
        for text in ["", &TEMPLATE.replace("gs://here", "gs://there")] {
            watched.write("t.yaml", text);
            watched.look();
            assert!(watched.look().unwrap().is_ok());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_on_disk_wakes_the_one_who_waits() {
        let mut watched = Watched::new();
        watched.write("p.yaml", POOL);
        let manifests = watched.watcher.changed().await.unwrap();
        assert_eq!(manifests.pools.len(), 1);
    }
}
