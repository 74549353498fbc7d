//! Where everything lies below the base directory. Node daemon and worker agree on it, and so do those of
//! the original, so either side can be replaced alone: an atespace is in a path only if both know it.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::names::{ActorRef, Label};

/// The base directory, `/var/lib/ateom-gvisor` in a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    base: PathBuf,
}

/// The directories of one actor on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActorDirs {
    root: PathBuf,
}

impl Layout {
    /// The layout below `base`.
    pub fn new(base: impl Into<PathBuf>) -> Self {
        Self { base: base.into() }
    }

    /// Sandbox assets, named by their digests.
    pub fn static_files(&self) -> PathBuf {
        self.base.join("static-files")
    }

    /// A worker's own directory.
    pub fn worker(&self, pod_uid: &Label) -> PathBuf {
        self.base.join("ateoms").join(pod_uid.as_str())
    }

    /// The socket a worker serves. A socket's path holds at most 107 bytes, which the kernel checks.
    pub fn worker_socket(&self, pod_uid: &Label) -> PathBuf {
        self.worker(pod_uid).join("ateom.sock")
    }

    /// What a worker has activated, written before the sandbox starts, so that a later incarnation finds
    /// what an earlier one left running.
    pub fn worker_activation(&self, pod_uid: &Label) -> PathBuf {
        self.worker(pod_uid).join("activation.json")
    }

    /// The directories of `actor`.
    pub fn actor(&self, actor: &ActorRef) -> ActorDirs {
        ActorDirs {
            root: self.base.join("actors").join(actor.to_string()),
        }
    }
}

impl ActorDirs {
    /// The actor's directory as it was recorded. Only for paths this program wrote itself.
    pub fn recorded(root: PathBuf) -> Self {
        Self { root }
    }

    /// The actor's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A container's OCI bundle.
    pub fn bundle(&self, container: &str) -> PathBuf {
        self.root.join("bundles").join(container)
    }

    /// A container's unpacked root file system.
    pub fn rootfs(&self, container: &str) -> PathBuf {
        self.bundle(container).join("rootfs")
    }

    /// runsc's `-root`: one per actor, so ids in it never meet those of another.
    pub fn runsc_state(&self) -> PathBuf {
        self.root.join("runsc-state")
    }

    /// Where `runsc` writes a container's sandbox pid.
    pub fn pidfile(&self, container: &str) -> PathBuf {
        self.root.join("pidfiles").join(format!("{container}.pid"))
    }

    /// Where a checkpoint is written.
    pub fn checkpoint_state(&self) -> PathBuf {
        self.root.join("checkpoint-state")
    }

    /// Where the files of the snapshot to restore are placed.
    pub fn restore_state(&self) -> PathBuf {
        self.root.join("restore-state")
    }

    /// The directory mounted at `/run/ate`.
    pub fn identity(&self) -> PathBuf {
        self.root.join("identity")
    }

    /// The parent of all durable volumes.
    pub fn durable_dirs(&self) -> PathBuf {
        self.root.join("durable-dir")
    }

    /// One durable volume.
    pub fn durable_dir(&self, volume: &Label) -> PathBuf {
        self.durable_dirs().join(volume.as_str())
    }

    /// Empties what belongs to one activation. Local checkpoints and the record of the sandbox stay.
    pub fn reset(&self) -> io::Result<()> {
        const PRIVATE: u32 = 0o700;
        const SHARED: u32 = 0o755;
        make_dir(&self.root, PRIVATE)?;
        for (dir, mode) in [
            (self.root.join("bundles"), PRIVATE),
            (self.runsc_state(), PRIVATE),
            (self.root.join("pidfiles"), PRIVATE),
            (self.checkpoint_state(), PRIVATE),
            (self.restore_state(), PRIVATE),
            (self.identity(), SHARED),
            (self.durable_dirs(), SHARED),
        ] {
            remove_dir(&dir)?;
            make_dir(&dir, mode)?;
        }
        Ok(())
    }
}

/// Makes a directory, and its parents, that only its owner may read; it is fine when it is there already.
///
/// # Errors
/// The file system's, naming the path.
pub fn make_private_dir(dir: &Path) -> io::Result<()> {
    make_dir(dir, 0o700)
}

/// Removes a directory and all in it; it is fine when it is not there.
pub(crate) fn remove_dir(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(dir, error)),
        _ => Ok(()),
    }
}

/// Makes a directory and its parents; it is fine when it is there already.
pub(crate) fn make_dir(dir: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(dir)
        .map_err(|error| at(dir, error))
}

/// The same error, naming the path it is about.
pub(crate) fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_empties_an_activation_and_keeps_local_checkpoints() {
        let base = tempfile::tempdir().unwrap();
        let layout = Layout::new(base.path());
        let dirs = layout.actor(&ActorRef::parse("ns", "t", "a").unwrap());
        dirs.reset().unwrap();
        let kept = dirs.root().join("local-checkpoint/p/manifest.json");
        make_dir(kept.parent().unwrap(), 0o700).unwrap();
        fs::write(&kept, "{}").unwrap();
        fs::write(dirs.restore_state().join("checkpoint.img"), "x").unwrap();

        dirs.reset().unwrap();
        assert!(kept.exists());
        assert_eq!(fs::read_dir(dirs.restore_state()).unwrap().count(), 0);
        assert_eq!(dirs.root(), base.path().join("actors/ns:t:a"));
    }

    #[test]
    fn namesakes_in_two_atespaces_have_nothing_in_common() {
        let base = tempfile::tempdir().unwrap();
        let layout = Layout::new(base.path());
        let of = |atespace| {
            let actor = ActorRef::parse("ns", "t", "a").unwrap();
            layout.actor(&actor.within(atespace).unwrap())
        };
        let homes = [of(None), of(Some("team-a")), of(Some("team-b"))];
        for home in &homes {
            home.reset().unwrap();
            fs::write(home.restore_state().join("checkpoint.img"), "x").unwrap();
        }
        assert_eq!(homes[1].root(), base.path().join("actors/team-a/ns:t:a"));
        for emptied in &homes {
            emptied.reset().unwrap();
            let left = homes
                .iter()
                .map(|home| fs::read_dir(home.restore_state()).unwrap().count());
            assert_eq!(left.sum::<usize>(), 2);
            fs::write(emptied.restore_state().join("checkpoint.img"), "x").unwrap();
        }
    }
}
