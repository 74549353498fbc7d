//! Content on disk under its own name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use crate::trees::NOW;
use crate::{Digest, DiskError};

/// A directory of blobs, `blobs/sha256/<hex>`, of blobs that are still coming in, `partial/<hex>`, and of images that
/// are unpacked, `trees/<hex>`.
///
/// Any number of processes may share one. A blob appears by renaming its complete and checked partial
/// file, and a partial file is written by whoever holds the lock on it. All files are opened relative to
/// handles of the two directories, under names that only digests can make.
///
/// Nothing is forced to the disk: a blob is checked again while it is unpacked, so what a power failure
/// spoils is found, removed and pulled again.
#[derive(Clone, Debug)]
pub struct Cache(Arc<Directories>);

#[derive(Debug)]
struct Directories {
    path: PathBuf,
    blobs: OwnedFd,
    partial: OwnedFd,
    trees: OwnedFd,
    unpacking: OwnedFd,
    /// Blobs that somebody in this process is at work on, and how many are.
    pinned: Mutex<BTreeMap<Digest, usize>>,
}

impl Cache {
    /// Opens the cache in `path`, which is made if it is missing.
    ///
    /// # Errors
    /// When the directories cannot be made or are not directories.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        let disk = |errno| DiskError::new(path, errno);
        std::fs::create_dir_all(path).map_err(|error| DiskError::new(path, error))?;
        let root =
            rustix::fs::open(path, DIRECTORY.difference(OFlags::NOFOLLOW), Mode::empty()).map_err(disk)?;
        let sha256 = make_directory(&root, "blobs")
            .and_then(|blobs| make_directory(&blobs, "sha256"))
            .map_err(disk)?;
        let make = |name: &str| make_directory(&root, name).map_err(disk);
        let cache = Self(Arc::new(Directories {
            path: path.to_owned(),
            blobs: sha256,
            partial: make("partial")?,
            trees: make("trees")?,
            unpacking: make("unpacking")?,
            pinned: Mutex::default(),
        }));
        cache.sweep_unpacking()?;
        Ok(cache)
    }

    /// Keeps blobs from being collected for as long as this is held.
    pub(crate) fn pin(&self, blobs: impl IntoIterator<Item = Digest>) -> Pins {
        let blobs: Vec<_> = blobs.into_iter().collect();
        let mut pinned = self.0.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        for blob in &blobs {
            *pinned.entry(*blob).or_default() += 1;
        }
        Pins {
            cache: self.clone(),
            blobs,
        }
    }

    pub(crate) fn is_pinned(&self, blob: Digest) -> bool {
        let pinned = self.0.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        pinned.contains_key(&blob)
    }

    /// Takes note that a blob is used now, if it is there.
    pub(crate) fn touch(&self, blob: Digest) -> Result<(), DiskError> {
        match rustix::fs::utimensat(&self.0.blobs, blob.hex(), &NOW, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(DiskError::new(self.blob_path(blob), errno)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0.path
    }

    pub(crate) fn blobs(&self) -> &OwnedFd {
        &self.0.blobs
    }

    pub(crate) fn partials(&self) -> &OwnedFd {
        &self.0.partial
    }

    pub(crate) fn trees(&self) -> &OwnedFd {
        &self.0.trees
    }

    pub(crate) fn unpacking(&self) -> &OwnedFd {
        &self.0.unpacking
    }

    /// Removes the partial files of `blobs`: what remains of a pull that nobody wants any more. Returns
    /// those that somebody is writing. A pull that was dropped a moment ago may still be writing its last
    /// bytes, so whoever dropped it asks again for them.
    ///
    /// # Errors
    /// At the first file that cannot be removed.
    pub fn discard_partials(&self, blobs: &BTreeSet<Digest>) -> Result<BTreeSet<Digest>, DiskError> {
        let mut busy = BTreeSet::new();
        for &digest in blobs {
            let Some(file) = self.open_partial(digest, OFlags::empty())? else {
                continue;
            };
            match self.lock(&file, digest)? {
                Lock::Mine => self.remove_partial(digest)?,
                Lock::Gone => {}
                Lock::Taken => {
                    busy.insert(digest);
                }
            }
        }
        Ok(busy)
    }

    /// Removes a blob. Who has it open keeps it; who needs it later pulls it again.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub fn remove(&self, digest: Digest) -> Result<(), DiskError> {
        remove(&self.0.blobs, digest).map_err(|errno| DiskError::new(self.blob_path(digest), errno))
    }

    pub(crate) fn blob_size(&self, digest: Digest) -> Result<Option<u64>, DiskError> {
        stat(&self.0.blobs, digest)
            .map(|stat| stat.map(|stat| size_of(&stat)))
            .map_err(|errno| DiskError::new(self.blob_path(digest), errno))
    }

    pub(crate) fn open_blob(&self, digest: Digest) -> Result<Option<File>, DiskError> {
        open(&self.0.blobs, digest, OFlags::RDONLY)
            .map_err(|errno| DiskError::new(self.blob_path(digest), errno))
    }

    /// The content of a blob of at most `limit` bytes. What is larger or spoiled is removed.
    pub(crate) fn read_blob(&self, digest: Digest, limit: u64) -> Result<Option<Vec<u8>>, DiskError> {
        let Some(file) = self.open_blob(digest)? else {
            return Ok(None);
        };
        let mut content = Vec::new();
        file.take(limit)
            .read_to_end(&mut content)
            .map_err(|error| DiskError::new(self.blob_path(digest), error))?;
        if Digest::of(&content) == digest {
            return Ok(Some(content));
        }
        self.remove(digest)?;
        Ok(None)
    }

    /// Takes the partial file of a blob, unless somebody has it or it has become the blob.
    pub(crate) fn acquire(&self, digest: Digest, size: Option<u64>) -> Result<Acquired, DiskError> {
        loop {
            match self.blob_size(digest)? {
                Some(here) if size.is_none_or(|size| size == here) => return Ok(Acquired::Present(here)),
                // A power failure can cut a file short that had been complete.
                Some(_) => self.remove(digest)?,
                None => {}
            }
            let Some(file) = self.open_partial(digest, OFlags::CREATE)? else {
                return Err(DiskError::new(self.partial_path(digest), Errno::NOENT));
            };
            match self.lock(&file, digest)? {
                // Somebody may have completed it between the first look and the lock.
                Lock::Mine if self.blob_size(digest)?.is_some() => self.remove_partial(digest)?,
                Lock::Mine => {
                    return Ok(Acquired::Mine(Partial {
                        cache: self.clone(),
                        digest,
                        file,
                        checked: 0,
                        hasher: Sha256::new(),
                    }));
                }
                Lock::Taken => {
                    let here = rustix::fs::fstat(&file).map_or(0, |stat| size_of(&stat));
                    return Ok(Acquired::Busy(here));
                }
                Lock::Gone => {}
            }
        }
    }

    pub(crate) fn blob_path(&self, digest: Digest) -> PathBuf {
        self.0.path.join("blobs/sha256").join(digest.hex())
    }

    fn partial_path(&self, digest: Digest) -> PathBuf {
        self.0.path.join("partial").join(digest.hex())
    }

    fn open_partial(&self, digest: Digest, flags: OFlags) -> Result<Option<File>, DiskError> {
        open(&self.0.partial, digest, OFlags::RDWR | flags)
            .map_err(|errno| DiskError::new(self.partial_path(digest), errno))
    }

    fn remove_partial(&self, digest: Digest) -> Result<(), DiskError> {
        remove(&self.0.partial, digest).map_err(|errno| DiskError::new(self.partial_path(digest), errno))
    }

    /// Locks a partial file. Between opening and locking it may have been renamed or removed: a lock
    /// counts only on the file that still has the name.
    fn lock(&self, file: &File, digest: Digest) -> Result<Lock, DiskError> {
        let lock = || match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => Ok(Lock::Taken),
            Err(errno) => Err(errno),
            Ok(()) => {
                let locked = rustix::fs::fstat(file)?;
                let named = stat(&self.0.partial, digest)?;
                let same = named.is_some_and(|named| named.st_ino == locked.st_ino);
                Ok(if same { Lock::Mine } else { Lock::Gone })
            }
        };
        lock().map_err(|errno| DiskError::new(self.partial_path(digest), errno))
    }
}

/// Blobs that are not collected while this is held.
pub(crate) struct Pins {
    cache: Cache,
    blobs: Vec<Digest>,
}

impl Drop for Pins {
    fn drop(&mut self) {
        let mut pinned = self.cache.0.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        for blob in &self.blobs {
            if let Some(count) = pinned.get_mut(blob) {
                *count -= 1;
                if *count == 0 {
                    pinned.remove(blob);
                }
            }
        }
    }
}

/// What became of trying to take a partial file.
pub(crate) enum Acquired {
    /// The blob is complete and has so many bytes.
    Present(u64),
    /// Somebody is writing it and has come so far.
    Busy(u64),
    /// It is ours to write.
    Mine(Partial),
}

#[derive(PartialEq, Eq)]
enum Lock {
    Mine,
    Taken,
    Gone,
}

/// A blob on its way in, locked until this is dropped. Its methods block on the disk.
pub(crate) struct Partial {
    cache: Cache,
    digest: Digest,
    file: File,
    /// So many bytes from the start are hashed.
    checked: u64,
    hasher: Sha256,
}

impl Partial {
    /// Hashes up to a buffer of what an earlier attempt left, and says whether there may be more.
    pub fn check_some(&mut self, buffer: &mut [u8]) -> Result<bool, DiskError> {
        let count = self.file.read(buffer).map_err(|error| self.disk(error))?;
        self.hasher.update(&buffer[..count]);
        self.checked += count as u64;
        Ok(count > 0)
    }

    pub fn len(&self) -> u64 {
        self.checked
    }

    pub fn append(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        self.file.write_all(bytes).map_err(|error| self.disk(error))?;
        self.hasher.update(bytes);
        self.checked += bytes.len() as u64;
        Ok(())
    }

    /// Forgets all content.
    pub fn clear(&mut self) -> Result<(), DiskError> {
        self.hasher = Sha256::new();
        self.checked = 0;
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map(drop)
            .map_err(|error| self.disk(error))
    }

    /// Makes this the blob. Other content than its name promises is removed and its digest returned.
    pub fn commit(mut self) -> Result<Result<(), Digest>, DiskError> {
        let got = Digest::from_hasher(std::mem::take(&mut self.hasher));
        if got != self.digest {
            self.cache.remove_partial(self.digest)?;
            return Ok(Err(got));
        }
        let directories = &self.cache.0;
        let name = self.digest.hex();
        rustix::fs::renameat(&directories.partial, &name, &directories.blobs, &name)
            .map_err(|errno| DiskError::new(self.cache.blob_path(self.digest), errno))?;
        Ok(Ok(()))
    }

    fn disk(&self, error: io::Error) -> DiskError {
        DiskError::new(self.cache.partial_path(self.digest), error)
    }
}

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn make_directory(parent: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => rustix::fs::openat(parent, name, DIRECTORY, Mode::empty()),
        Err(errno) => Err(errno),
    }
}

fn open(directory: &OwnedFd, digest: Digest, flags: OFlags) -> Result<Option<File>, Errno> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::openat(directory, digest.hex(), flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(Some(file.into())),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn stat(directory: &OwnedFd, digest: Digest) -> Result<Option<Stat>, Errno> {
    match rustix::fs::statat(directory, digest.hex(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => Ok(Some(stat)),
        Ok(_) => Err(Errno::INVAL),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn size_of(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

fn remove(directory: &OwnedFd, digest: Digest) -> Result<(), Errno> {
    match rustix::fs::unlinkat(directory, digest.hex(), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (tempfile::TempDir, Cache) {
        let directory = tempfile::tempdir().expect("temporary directory");
        let cache = Cache::open(directory.path()).expect("cache");
        (directory, cache)
    }

    fn mine(cache: &Cache, digest: Digest) -> Partial {
        match cache.acquire(digest, None).expect("acquire") {
            Acquired::Mine(partial) => partial,
            _ => panic!("the partial file is not ours"),
        }
    }

    #[test]
    fn content_appears_under_its_digest_only_when_complete() {
        let (_directory, cache) = cache();
        let digest = Digest::of(b"content");
        let mut partial = mine(&cache, digest);
        partial.append(b"con").expect("append");
        assert_eq!(cache.blob_size(digest).expect("size"), None);
        partial.append(b"tent").expect("append");
        partial.commit().expect("commit").expect("digest");
        assert_eq!(
            cache.read_blob(digest, 100).expect("read").as_deref(),
            Some(&b"content"[..])
        );
        assert!(matches!(cache.acquire(digest, Some(7)), Ok(Acquired::Present(7))));
    }

    #[test]
    fn other_content_than_promised_is_thrown_away() {
        let (_directory, cache) = cache();
        let digest = Digest::of(b"content");
        let mut partial = mine(&cache, digest);
        partial.append(b"forgery").expect("append");
        assert_eq!(partial.commit().expect("commit"), Err(Digest::of(b"forgery")));
        assert_eq!(cache.blob_size(digest).expect("size"), None);
        let mut partial = mine(&cache, digest);
        assert!(!partial.check_some(&mut [0; 16]).expect("empty"));
    }

    #[test]
    fn one_writer_at_a_time_and_the_next_goes_on_where_it_stopped() {
        let (directory, cache) = cache();
        let other = Cache::open(directory.path()).expect("the same cache");
        let digest = Digest::of(b"content");
        let mut first = mine(&cache, digest);
        first.append(b"con").expect("append");
        assert!(matches!(other.acquire(digest, None), Ok(Acquired::Busy(3))));
        other.discard_partials(&[digest].into()).expect("busy files stay");
        drop(first);

        let mut second = mine(&other, digest);
        while second.check_some(&mut [0; 2]).expect("check") {}
        assert_eq!(second.len(), 3);
        second.append(b"tent").expect("append");
        second.commit().expect("commit").expect("digest");
    }

    #[test]
    fn a_discarded_partial_file_is_gone() {
        let (directory, cache) = cache();
        let digest = Digest::of(b"content");
        mine(&cache, digest).append(b"con").expect("append");
        assert_eq!(
            cache.discard_partials(&[digest].into()).expect("discard"),
            [].into()
        );
        let left = std::fs::read_dir(directory.path().join("partial"))
            .expect("list")
            .count();
        assert_eq!(left, 0);
    }

    #[test]
    fn a_blob_of_the_wrong_size_does_not_count() {
        let (directory, cache) = cache();
        let digest = Digest::of(b"content");
        std::fs::write(directory.path().join("blobs/sha256").join(digest.hex()), b"cont").expect("write");
        assert!(matches!(cache.acquire(digest, Some(7)), Ok(Acquired::Mine(_))));
        assert_eq!(cache.blob_size(digest).expect("size"), None);
    }

    #[test]
    fn links_planted_in_the_cache_are_not_followed() {
        let (directory, cache) = cache();
        let digest = Digest::of(b"content");
        let outside = directory.path().join("outside");
        std::fs::write(&outside, b"untouched").expect("write");
        std::os::unix::fs::symlink(&outside, directory.path().join("partial").join(digest.hex()))
            .expect("link");
        assert!(cache.acquire(digest, None).is_err());
        assert_eq!(std::fs::read(&outside).expect("read"), b"untouched");
    }
}
