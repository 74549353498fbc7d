//! Images that are unpacked once, for all who run them.
//!
//! ```text
//! unpacking/<hex>/        while it is unpacked, locked by whoever does it
//! trees/<hex>/rootfs/     complete, by rename; named by the digest of the manifest
//!             record.json what it was made of
//!             lease       a hard link to it stands wherever the tree is in use, so the count of its links says whether
//!                         it is, also after a restart
//!             synced      there once the tree has been forced to the disk
//! ```
//!
//! Who takes a tree holds a shared lock on its directory, who removes it an exclusive one. Nothing writes to a complete
//! tree any more: those who run it get directories of their own with links to its files, or copies.

mod lay_out;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holdfast_runtime::tokio;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::blocking::blocking;
use crate::files::{LIST, names_in, os, remove_all};
use crate::unpack::{UnpackError, UnpackLimits, unpack};
use crate::{Cache, Digest, DiskError, Image};

pub use lay_out::{LaidOut, Sharing};

/// What unpacks differently from an earlier release has another number.
const FORMAT: u32 = 1;
const ROOTFS: &str = "rootfs";
pub(crate) const LEASE: &str = "lease";
const RECORD: &str = "record.json";
const SYNCED: &str = "synced";
const MAX_RECORD_BYTES: u64 = 1 << 20;
/// Where the kernel says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// How often we look whether somebody else has unpacked the image that we want too.
const BUSY_POLL: Duration = Duration::from_millis(20);

/// An image, unpacked. While this is held, the tree is not removed.
#[derive(Debug)]
pub struct Tree {
    directory: OwnedFd,
    path: PathBuf,
}

/// What a tree was made of.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    format: u32,
    /// The boot in which it was written: what was not forced to the disk counts in no other.
    boot: String,
    pub layers: Vec<Digest>,
    pub entries: u64,
    pub bytes: u64,
}

/// What became of asking for a tree.
enum Turn {
    Ready(Tree),
    Busy,
    Mine(Unpacking),
}

/// A tree that is being made, locked until this is dropped.
struct Unpacking {
    cache: Cache,
    digest: Digest,
    directory: OwnedFd,
}

impl Image {
    /// The image unpacked, in the cache: made by whoever comes first, while the others wait. Dropping the future ends
    /// the unpacking, and what it has made so far is removed.
    ///
    /// # Errors
    /// As those of [`Image::unpack`].
    pub async fn unpacked(&self, limits: &UnpackLimits) -> Result<Tree, UnpackError> {
        let _pins = self.cache.pin(self.layers.iter().copied());
        loop {
            let (cache, digest) = (self.cache.clone(), self.digest());
            match off_thread(move || cache.turn(digest)).await?? {
                Turn::Ready(tree) => return Ok(tree),
                Turn::Busy => tokio::time::sleep(BUSY_POLL).await,
                Turn::Mine(unpacking) => {
                    let stop = StopOnDrop::default();
                    let (image, limits, stopped) = (self.clone(), *limits, stop.0.clone());
                    off_thread(move || unpacking.run(&image.layers, &limits, &stopped)).await??;
                }
            }
        }
    }
}

impl Cache {
    fn turn(&self, digest: Digest) -> Result<Turn, DiskError> {
        let disk = |errno: Errno| DiskError::new(self.tree_path(digest), errno);
        loop {
            match self.open_tree(digest)? {
                Opened::Tree(tree) if tree.is_sound() => return Ok(Turn::Ready(tree)),
                Opened::Tree(tree) => {
                    drop(tree);
                    if self.remove_tree(digest)?.is_none() {
                        return Ok(Turn::Busy);
                    }
                    continue;
                }
                Opened::Busy => return Ok(Turn::Busy),
                Opened::Nothing => {}
            }
            let (hex, unpacking) = (digest.hex(), self.unpacking());
            match rustix::fs::mkdirat(unpacking, &hex, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(disk(errno)),
            }
            let directory = match rustix::fs::openat(unpacking, &hex, LIST, Mode::empty()) {
                Ok(directory) => directory,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(disk(errno)),
            };
            match lock(&directory, FlockOperation::NonBlockingLockExclusive).map_err(disk)? {
                Locked::Busy => return Ok(Turn::Busy),
                Locked::Mine if is_named(&directory, unpacking, &hex).map_err(disk)? => {
                    let mine = Unpacking {
                        cache: self.clone(),
                        digest,
                        directory,
                    };
                    // Somebody may have completed it between the first look and the lock; then it goes away unused.
                    if matches!(self.open_tree(digest)?, Opened::Nothing) {
                        return Ok(Turn::Mine(mine));
                    }
                }
                Locked::Mine => {}
            }
        }
    }

    /// Whether an image is there unpacked, so that its layers are not needed.
    pub(crate) fn has_tree(&self, digest: Digest) -> Result<bool, DiskError> {
        Ok(match self.open_tree(digest)? {
            Opened::Tree(tree) => tree.is_sound(),
            // Whoever holds it alone is about to remove it.
            Opened::Busy | Opened::Nothing => false,
        })
    }

    fn open_tree(&self, digest: Digest) -> Result<Opened, DiskError> {
        let path = self.tree_path(digest);
        let disk = |errno: Errno| DiskError::new(&path, errno);
        loop {
            let directory = match rustix::fs::openat(self.trees(), digest.hex(), LIST, Mode::empty()) {
                Ok(directory) => directory,
                Err(Errno::NOENT) => return Ok(Opened::Nothing),
                Err(errno) => return Err(disk(errno)),
            };
            match lock(&directory, FlockOperation::NonBlockingLockShared).map_err(disk)? {
                Locked::Busy => return Ok(Opened::Busy),
                Locked::Mine if is_named(&directory, self.trees(), &digest.hex()).map_err(disk)? => {
                    return Ok(Opened::Tree(Tree { directory, path }));
                }
                Locked::Mine => {}
            }
        }
    }

    /// Removes a tree, unless somebody is taking it. Returns the bytes of disk that are free again.
    pub(crate) fn remove_tree(&self, digest: Digest) -> Result<Option<u64>, DiskError> {
        let disk = |errno: Errno| DiskError::new(self.tree_path(digest), errno);
        let hex = digest.hex();
        let directory = match rustix::fs::openat(self.trees(), &hex, LIST, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => return Ok(Some(0)),
            Err(errno) => return Err(disk(errno)),
        };
        if lock(&directory, FlockOperation::NonBlockingLockExclusive).map_err(disk)? == Locked::Busy {
            return Ok(None);
        }
        if !is_named(&directory, self.trees(), &hex).map_err(disk)? {
            return Ok(Some(0));
        }
        // Out of sight first: half a tree must not have the name of a whole one.
        let old = format!("{hex}.old");
        match remove_all(self.unpacking().as_fd(), old.as_bytes()) {
            Ok(_) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(disk(errno)),
        }
        rustix::fs::renameat(self.trees(), &hex, self.unpacking(), &old).map_err(disk)?;
        remove_all(self.unpacking().as_fd(), old.as_bytes())
            .map(Some)
            .map_err(disk)
    }

    /// Removes what is left of trees whose making, or removal, was cut short.
    pub(crate) fn sweep_unpacking(&self) -> Result<u64, DiskError> {
        let disk = |errno: Errno| DiskError::new(self.path().join("unpacking"), errno);
        let mut freed = 0;
        for name in names_in(self.unpacking()).map_err(disk)? {
            let directory = match rustix::fs::openat(self.unpacking(), os(&name), LIST, Mode::empty()) {
                Ok(directory) => directory,
                // Nobody makes anything but directories here.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(errno) => return Err(disk(errno)),
            };
            let mine = lock(&directory, FlockOperation::NonBlockingLockExclusive).map_err(disk)?;
            if mine == Locked::Mine {
                match remove_all(self.unpacking().as_fd(), &name) {
                    Ok(bytes) => freed += bytes,
                    Err(Errno::NOENT) => {}
                    Err(errno) => return Err(disk(errno)),
                }
            }
        }
        Ok(freed)
    }

    /// Forces trees to the disk that are not there yet, so that they are of use after a power failure too. Blocks for
    /// as long as the disk needs.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn sync_trees(&self) -> Result<(), DiskError> {
        let disk = |errno: Errno| DiskError::new(self.path().join("trees"), errno);
        let mut unsynced = Vec::new();
        for digest in self.tree_names()? {
            if let Opened::Tree(tree) = self.open_tree(digest)?
                && tree.is_sound()
                && !tree.has(SYNCED)
            {
                unsynced.push(tree);
            }
        }
        let Some(first) = unsynced.first() else {
            return Ok(());
        };
        rustix::fs::syncfs(&first.directory).map_err(disk)?;
        for tree in unsynced {
            write(&tree.directory, SYNCED, b"").map_err(disk)?;
            rustix::fs::fsync(&tree.directory).map_err(disk)?;
        }
        Ok(())
    }

    pub(crate) fn tree_names(&self) -> Result<Vec<Digest>, DiskError> {
        let names =
            names_in(self.trees()).map_err(|errno| DiskError::new(self.path().join("trees"), errno))?;
        let digest = |name: Vec<u8>| format!("sha256:{}", String::from_utf8(name).ok()?).parse().ok();
        Ok(names.into_iter().filter_map(digest).collect())
    }

    /// What a tree was made of, when it was last taken, and whether it is in use. `None` if it is not there, or about
    /// to go.
    pub(crate) fn tree_state(&self, digest: Digest) -> Result<Option<TreeState>, DiskError> {
        let Opened::Tree(tree) = self.open_tree(digest)? else {
            return Ok(None);
        };
        let lease = rustix::fs::statat(&tree.directory, LEASE, AtFlags::SYMLINK_NOFOLLOW).ok();
        Ok(Some(TreeState {
            layers: tree.record().map(|record| record.layers).unwrap_or_default(),
            used_at: lease.map_or(0, |lease| lease.st_mtime),
            is_in_use: lease.is_some_and(|lease| lease.st_nlink > 1),
        }))
    }

    fn tree_path(&self, digest: Digest) -> PathBuf {
        self.path().join("trees").join(digest.hex())
    }
}

/// A tree as those who collect see it.
pub(crate) struct TreeState {
    pub layers: Vec<Digest>,
    /// Seconds of the disk's clock.
    pub used_at: i64,
    pub is_in_use: bool,
}

impl Tree {
    fn record(&self) -> Option<Record> {
        let file = rustix::fs::openat(&self.directory, RECORD, READ, Mode::empty()).ok()?;
        let mut text = Vec::new();
        let read = File::from(file).take(MAX_RECORD_BYTES).read_to_end(&mut text);
        read.ok().and_then(|_| serde_json::from_slice(&text).ok())
    }

    /// Whether it is of this release's making, and has not been through a power failure before it was on the disk.
    fn is_sound(&self) -> bool {
        let is_of = |record: Record| record.format == FORMAT && (self.has(SYNCED) || record.boot == boot());
        self.record().is_some_and(is_of)
    }

    fn has(&self, name: &str) -> bool {
        rustix::fs::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Takes note that it is used now.
    fn touch(&self) -> Result<(), Errno> {
        rustix::fs::utimensat(&self.directory, LEASE, &NOW, AtFlags::SYMLINK_NOFOLLOW)
    }
}

impl Unpacking {
    fn run(self, layers: &[Digest], limits: &UnpackLimits, stop: &AtomicBool) -> Result<(), UnpackError> {
        let path = self.cache.path().join("unpacking").join(self.digest.hex());
        let disk = |errno: Errno| DiskError::new(&path, errno);
        // What an attempt left that was killed.
        for name in names_in(&self.directory).map_err(disk)? {
            remove_all(self.directory.as_fd(), &name).map_err(disk)?;
        }
        let report = unpack(&self.cache, layers, &path.join(ROOTFS), limits, stop)?;
        let record = Record {
            format: FORMAT,
            boot: boot(),
            layers: layers.to_vec(),
            entries: report.entries,
            bytes: report.bytes,
        };
        let text = serde_json::to_vec(&record)
            .map_err(|error| DiskError::new(&path, std::io::Error::other(error)))?;
        write(&self.directory, LEASE, b"").map_err(disk)?;
        write(&self.directory, RECORD, &text).map_err(disk)?;
        let hex = self.digest.hex();
        rustix::fs::renameat(self.cache.unpacking(), &hex, self.cache.trees(), &hex).map_err(disk)?;
        Ok(())
    }
}

impl Drop for Unpacking {
    fn drop(&mut self) {
        let hex = self.digest.hex();
        if !is_named(&self.directory, self.cache.unpacking(), &hex).unwrap_or(false) {
            return;
        }
        if let Err(error) = remove_all(self.cache.unpacking().as_fd(), hex.as_bytes()) {
            tracing::warn!(digest = %self.digest, %error, "cannot remove half an image; the next sweep does");
        }
    }
}

const READ: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const WRITE: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::TRUNC)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
/// The time of the last change, and no other.
pub(crate) const NOW: Timestamps = Timestamps {
    last_access: Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_OMIT as _,
    },
    last_modification: Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_NOW as _,
    },
};

enum Opened {
    Tree(Tree),
    Busy,
    Nothing,
}

#[derive(PartialEq, Eq)]
enum Locked {
    Mine,
    Busy,
}

fn lock(directory: &OwnedFd, operation: FlockOperation) -> Result<Locked, Errno> {
    match rustix::fs::flock(directory, operation) {
        Ok(()) => Ok(Locked::Mine),
        Err(Errno::WOULDBLOCK) => Ok(Locked::Busy),
        Err(errno) => Err(errno),
    }
}

/// Whether a directory still has its name: a lock on one that was moved away is worth nothing.
fn is_named(directory: &OwnedFd, parent: &OwnedFd, name: &str) -> Result<bool, Errno> {
    let locked = rustix::fs::fstat(directory)?;
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(named) => Ok(named.st_ino == locked.st_ino && named.st_dev == locked.st_dev),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn write(directory: &OwnedFd, name: &str, content: &[u8]) -> Result<(), Errno> {
    let file = rustix::fs::openat(directory, name, WRITE, Mode::RUSR | Mode::WUSR)?;
    let written = File::from(file).write_all(content);
    written.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

fn boot() -> String {
    // Without it nothing is told apart, and trees count after every boot: what matters is on machines that have it.
    std::fs::read_to_string(BOOT_ID).map_or_else(|_| String::new(), |id| id.trim().to_owned())
}

/// Ends work on its own thread when nobody waits for it any more.
#[derive(Default)]
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, UnpackError> {
    blocking(work).await.map_err(|_| UnpackError::Stopped)
}
