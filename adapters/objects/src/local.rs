//! Snapshots on this node's disk: a directory each, the files as they are, the manifest beside them.

use std::fs::{DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::content::{CopyError, SourceError, copy, measure};
use crate::dir::Dir;
use crate::error::SnapshotError;
use crate::manifest::{FileRecord, MANIFEST_NAME, MAX_MANIFEST_LEN, Manifest, ManifestError};
use crate::name::{FileName, LocalName};
use crate::sparse::DecodeError;

/// The LOCAL snapshots of one actor: `local-checkpoint/<name>/{files.., manifest.json}` (compat.md 7.9).
///
/// All calls block on the disk, some for as long as it takes to read a snapshot: async callers move them to a thread
/// where that does no harm.
#[derive(Clone, Debug)]
pub struct LocalSnapshots {
    root: PathBuf,
}

/// How far a snapshot on disk came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalState {
    /// It has its manifest.
    Complete,
    /// Saving it was interrupted, or removing it was.
    Partial,
}

impl LocalSnapshots {
    /// Snapshots under `root`, which is made when the first is saved.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory of a snapshot.
    pub fn path(&self, name: &LocalName) -> PathBuf {
        self.root.join(name.as_str())
    }

    /// Moves the files of `plan` from `source` into the snapshot `name`, and returns its manifest.
    ///
    /// Success means: the files are on disk to stay (synced), measured, and named by a manifest that was written
    /// after them. Repeated after any interruption it goes on; a complete snapshot is returned as it is, unless
    /// `source` holds files again, for then it is another snapshot ([`SnapshotError::Occupied`]).
    pub fn save(&self, source: &Path, name: &LocalName, plan: &Manifest) -> Result<Manifest, SnapshotError> {
        plan.check()
            .map_err(|error| SnapshotError::corrupt(source.display().to_string(), error))?;
        let target_path = self.path(name);
        let on_disk = |error| SnapshotError::disk(target_path.display().to_string(), error);
        let source_dir =
            Dir::open(source).map_err(|error| SnapshotError::source(source.display().to_string(), error))?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.root)
            .map_err(on_disk)?;
        let root = Dir::open(&self.root).map_err(on_disk)?;
        let target = root.make_dir(name.as_str()).map_err(on_disk)?;
        match self.read_manifest_in(&target, name) {
            Ok(complete) => {
                let mut again = plan
                    .snapshot_files
                    .iter()
                    .map(|file| source_dir.has(file.as_str()));
                return match again.find(|has| !matches!(has, Ok(false))) {
                    None => Ok(complete),
                    Some(Ok(_)) => Err(SnapshotError::Occupied {
                        at: target_path.display().to_string(),
                    }),
                    Some(Err(error)) => Err(SnapshotError::source(source.display().to_string(), error)),
                };
            }
            Err(SnapshotError::NotFound { .. }) => {}
            Err(SnapshotError::Corrupt { .. }) => target.remove(MANIFEST_NAME).map_err(on_disk)?,
            Err(error) => return Err(error),
        }
        let mut manifest = plan.clone();
        for file in &plan.snapshot_files {
            let here = source.join(file.as_str()).display().to_string();
            let unreadable = |error| SnapshotError::source(here.as_str(), error);
            // What an interrupted attempt has moved is in the target already.
            let moved = !source_dir
                .has(file.as_str())
                .map_err(|error| unreadable(error.into()))?
                && target.has(file.as_str()).map_err(on_disk)?;
            let from = if moved { &target } else { &source_dir };
            let record = save_file(from, file).map_err(unreadable)?;
            SourceError::check(plan.files.get(file), &record).map_err(unreadable)?;
            if !moved {
                source_dir.rename_into(file.as_str(), &target).map_err(on_disk)?;
            }
            manifest.files.insert(file.clone(), record);
        }
        target.sync().map_err(on_disk)?;
        write_manifest(&target, &manifest).map_err(on_disk)?;
        target.sync().and_then(|()| root.sync()).map_err(on_disk)?;
        Ok(manifest)
    }

    /// Reads the manifest of a snapshot; [`SnapshotError::NotFound`] and [`SnapshotError::Corrupt`] as in a store.
    pub fn read_manifest(&self, name: &LocalName) -> Result<Manifest, SnapshotError> {
        self.read_manifest_in(&self.open(name)?, name)
    }

    /// Copies the files of `manifest` into `dest`, sharing blocks where the file system can, with mode 0600.
    ///
    /// A file appears under its name only once it is complete and, where the manifest says so, has the recorded size
    /// and digest.
    pub fn fetch(&self, name: &LocalName, manifest: &Manifest, dest: &Path) -> Result<(), SnapshotError> {
        let source_path = self.path(name);
        manifest
            .check()
            .map_err(|error| SnapshotError::corrupt(source_path.display().to_string(), error))?;
        let on_dest = |error| SnapshotError::disk(dest.display().to_string(), error);
        let source = self.open(name)?;
        let dest_dir = Dir::open(dest).map_err(on_dest)?;
        dest_dir.remove_temps().map_err(on_dest)?;
        for file in &manifest.snapshot_files {
            let at = source_path.join(file.as_str()).display().to_string();
            let unreadable = |error: io::Error| match error.kind() {
                io::ErrorKind::NotFound => SnapshotError::NotFound { at: at.clone() },
                _ => SnapshotError::disk(at.as_str(), error),
            };
            let from = source.open_file(file.as_str()).map_err(unreadable)?;
            let temp = dest_dir.create_temp(file.as_str()).map_err(on_dest)?;
            let found = clone_or_copy(&from, &temp.file).map_err(|error| match error {
                CopyError::Write(error) => on_dest(error),
                CopyError::Read(SourceError::Io(error)) => unreadable(error),
                CopyError::Read(changed) => SnapshotError::source(at.as_str(), changed),
            })?;
            if let Some(expected) = manifest.files.get(file) {
                verify(expected, &found).map_err(|error| SnapshotError::corrupt(at.as_str(), error))?;
            }
            temp.publish().map_err(on_dest)?;
        }
        Ok(())
    }

    /// Removes a snapshot, the manifest first. What is not there is removed already.
    pub fn delete(&self, name: &LocalName) -> Result<(), SnapshotError> {
        let path = self.path(name);
        let dir = match self.open(name) {
            Ok(dir) => dir,
            Err(SnapshotError::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let removed = dir
            .remove(MANIFEST_NAME)
            .and_then(|()| dir.names()?.iter().try_for_each(|file| dir.remove(file)))
            .and_then(|()| Dir::open(&self.root)?.remove_dir(name.as_str()));
        removed.map_err(|error| SnapshotError::disk(path.display().to_string(), error))
    }

    /// All snapshots here, sorted by name; entries with names that no snapshot has are left out.
    pub fn list(&self) -> Result<Vec<(LocalName, LocalState)>, SnapshotError> {
        let on_disk = |error| SnapshotError::disk(self.root.display().to_string(), error);
        let root = match Dir::open(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened.map_err(on_disk)?,
        };
        let mut found = Vec::new();
        for name in root.names().map_err(on_disk)? {
            if let (Ok(name), Ok(dir)) = (name.parse::<LocalName>(), root.open_dir(&name)) {
                let complete = dir.has(MANIFEST_NAME).map_err(on_disk)?;
                found.push((
                    name,
                    if complete {
                        LocalState::Complete
                    } else {
                        LocalState::Partial
                    },
                ));
            }
        }
        Ok(found)
    }

    fn open(&self, name: &LocalName) -> Result<Dir, SnapshotError> {
        let at = self.path(name).display().to_string();
        Dir::open(&self.root)
            .and_then(|root| root.open_dir(name.as_str()))
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => SnapshotError::NotFound { at },
                _ => SnapshotError::disk(at, error),
            })
    }

    fn read_manifest_in(&self, dir: &Dir, name: &LocalName) -> Result<Manifest, SnapshotError> {
        let at = self.path(name).join(MANIFEST_NAME).display().to_string();
        let mut text = Vec::new();
        let limit = MAX_MANIFEST_LEN as u64 + 1;
        let read = dir
            .open_file(MANIFEST_NAME)
            .and_then(|file| file.take(limit).read_to_end(&mut text));
        match read {
            Ok(_) => Manifest::from_json(&text).map_err(|error| SnapshotError::corrupt(at, error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(SnapshotError::NotFound { at }),
            Err(error) => Err(SnapshotError::disk(at, error)),
        }
    }
}

/// Measures a file and makes it survive a power loss.
fn save_file(dir: &Dir, name: &FileName) -> Result<FileRecord, SourceError> {
    let file = dir.open_file(name.as_str())?;
    let record = measure(&file)?;
    file.sync_data()?;
    Ok(record)
}

fn write_manifest(dir: &Dir, manifest: &Manifest) -> io::Result<()> {
    let text = manifest.to_json();
    if text.len() > MAX_MANIFEST_LEN {
        return Err(io::Error::other(ManifestError::TooLong(text.len() as u64)));
    }
    let mut temp = dir.create_temp(MANIFEST_NAME)?;
    temp.file.write_all(&text)?;
    temp.file.sync_all()?;
    temp.publish()
}

/// A clone costs no space and no writing; it is read once, as a copy is, to know what it holds.
fn clone_or_copy(from: &File, to: &File) -> Result<FileRecord, CopyError> {
    match rustix::fs::ioctl_ficlone(to, from) {
        Ok(()) => Ok(measure(to)?),
        Err(_) => copy(from, to),
    }
}

fn verify(expected: &FileRecord, found: &FileRecord) -> Result<(), DecodeError> {
    if expected.size != found.size {
        return Err(DecodeError::Size {
            expected: expected.size,
            found: found.size,
        });
    }
    if expected.sha256 != found.sha256 {
        return Err(DecodeError::Digest {
            what: "content",
            expected: expected.sha256,
            found: found.sha256,
        });
    }
    Ok(())
}
