//! A root directory for one container, out of a tree that many share.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::{LEASE, ROOTFS, Tree};
use crate::DiskError;
use crate::files::{LIST, kind_of, names_in, os};
use crate::unpack::UnpackError;

/// Several names of one file are kept together up to so many bytes of names; beyond that each is a copy.
const MAX_NAMED_BYTES: usize = 8 << 20;
const COPY_BYTES: usize = 256 << 10;
const CREATE: OFlags = OFlags::RDWR
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
const READ: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// How the files of a tree get into a root directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// They are the same files under one more name. Only for those who cannot write to them: gVisor puts what a
    /// sandbox changes in its root into a layer of its own, and opens what is below for reading only.
    Links,
    /// They are other files, which share blocks where the file system can.
    Copies,
}

/// What a root directory was made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaidOut {
    /// Files, links and directories.
    pub entries: u64,
    /// Files whose content was copied, since it could be shared in no way.
    pub copied: u64,
}

impl Tree {
    /// Makes `rootfs` (mode 0700; it must be missing or empty) a root directory with the files of the image, and
    /// `lease` the sign that the tree is in use until that file is removed. Blocks; `stop` makes it return soon.
    ///
    /// # Errors
    /// See [`UnpackError`]. What is in `rootfs` then is to be removed.
    pub fn lay_out(
        &self,
        rootfs: &Path,
        lease: &Path,
        sharing: Sharing,
        stop: &AtomicBool,
    ) -> Result<LaidOut, UnpackError> {
        let disk = |errno: Errno| UnpackError::from(DiskError::new(rootfs, errno));
        self.touch().map_err(disk)?;
        self.lease_to(lease)
            .map_err(|errno| DiskError::new(lease, errno))?;
        match rustix::fs::mkdir(rootfs, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(disk(errno)),
        }
        let target = rustix::fs::open(rootfs, LIST, Mode::empty()).map_err(disk)?;
        if !names_in(&target).map_err(disk)?.is_empty() {
            return Err(UnpackError::NotEmpty {
                path: rootfs.to_owned(),
            });
        }
        let source = rustix::fs::openat(&self.directory, ROOTFS, LIST, Mode::empty())
            .map_err(|errno| DiskError::new(self.path.join(ROOTFS), errno))?;
        let mut laying = Laying {
            sharing,
            stop,
            root: target.as_fd(),
            named: BTreeMap::new(),
            named_bytes: 0,
            report: LaidOut::default(),
        };
        laying
            .directory(&source, target.as_fd(), &mut Vec::new())
            .map_err(|error| match error {
                Failure::Stopped => UnpackError::Stopped,
                Failure::Disk(errno) => disk(errno),
            })?;
        Ok(laying.report)
    }

    fn lease_to(&self, lease: &Path) -> Result<(), Errno> {
        match rustix::fs::unlink(lease) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        match rustix::fs::linkat(&self.directory, LEASE, CWD, lease, AtFlags::empty()) {
            // On another file system everything is copied, and what becomes of the tree is no matter.
            Ok(()) | Err(Errno::XDEV | Errno::MLINK | Errno::PERM) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

struct Laying<'a> {
    sharing: Sharing,
    stop: &'a AtomicBool,
    root: BorrowedFd<'a>,
    /// Where files with several names have got their first, by inode.
    named: BTreeMap<u64, Vec<u8>>,
    named_bytes: usize,
    report: LaidOut,
}

enum Failure {
    Stopped,
    Disk(Errno),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Disk(errno)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Disk(Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }
}

impl Laying<'_> {
    /// The depth is bounded: nothing deeper is ever unpacked.
    fn directory(&mut self, from: &OwnedFd, to: BorrowedFd<'_>, path: &mut Vec<u8>) -> Result<(), Failure> {
        for name in names_in(from)? {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Failure::Stopped);
            }
            self.report.entries += 1;
            if self.sharing == Sharing::Links && self.link(from, to, &name)? {
                continue;
            }
            let stat = rustix::fs::statat(from, os(&name), AtFlags::SYMLINK_NOFOLLOW)?;
            let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
            let length = path.len();
            path.extend_from_slice(b"/");
            path.extend_from_slice(&name);
            match kind_of(&stat) {
                FileType::Directory => {
                    rustix::fs::mkdirat(to, os(&name), Mode::RWXU)?;
                    let (from, into) = (open(from, &name, LIST)?, open(&to, &name, LIST)?);
                    self.directory(&from, into.as_fd(), path)?;
                    rustix::fs::fchmod(&into, mode)?;
                }
                FileType::Symlink => {
                    let target = rustix::fs::readlinkat(from, os(&name), Vec::new())?;
                    rustix::fs::symlinkat(target, to, os(&name))?;
                }
                _ => self.file(from, to, &name, &stat, path)?,
            }
            path.truncate(length);
        }
        Ok(())
    }

    /// Whether a link could be made: not to directories, and not to a file that has as many as there can be.
    fn link(&mut self, from: &OwnedFd, to: BorrowedFd<'_>, name: &[u8]) -> Result<bool, Failure> {
        match rustix::fs::linkat(from, os(name), to, os(name), AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::PERM | Errno::MLINK) => Ok(false),
            Err(Errno::XDEV) => {
                self.sharing = Sharing::Copies;
                Ok(false)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    fn file(
        &mut self,
        from: &OwnedFd,
        to: BorrowedFd<'_>,
        name: &[u8],
        stat: &Stat,
        path: &[u8],
    ) -> Result<(), Failure> {
        let path = &path[1..];
        if let Some(first) = self.named.get(&stat.st_ino) {
            rustix::fs::linkat(self.root, os(first), to, os(name), AtFlags::empty())?;
            return Ok(());
        }
        if stat.st_nlink > 1 && self.named_bytes + path.len() <= MAX_NAMED_BYTES {
            self.named_bytes += path.len();
            self.named.insert(stat.st_ino, path.to_vec());
        }
        let source = File::from(open(from, name, READ)?);
        let target = File::from(rustix::fs::openat(to, os(name), CREATE, Mode::RUSR | Mode::WUSR)?);
        if rustix::fs::ioctl_ficlone(&target, &source).is_err() {
            self.report.copied += 1;
            self.copy(source, &target, stat)?;
        }
        rustix::fs::fchmod(&target, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
        Ok(())
    }

    /// Copies what is in a file, and leaves holes where it has them.
    fn copy(&self, mut source: File, mut target: &File, stat: &Stat) -> Result<(), Failure> {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let mut buffer = vec![0; COPY_BYTES];
        let mut end = 0;
        while end < size {
            let start = match rustix::fs::seek(&source, rustix::fs::SeekFrom::Data(end)) {
                Ok(start) => start,
                Err(Errno::NXIO) => break,
                Err(errno) => return Err(errno.into()),
            };
            end = rustix::fs::seek(&source, rustix::fs::SeekFrom::Hole(start))?;
            source.seek(SeekFrom::Start(start))?;
            target.seek(SeekFrom::Start(start))?;
            let mut left = end - start;
            while left > 0 {
                if self.stop.load(Ordering::Relaxed) {
                    return Err(Failure::Stopped);
                }
                let wanted = usize::try_from(left).map_or(COPY_BYTES, |left| left.min(COPY_BYTES));
                source.read_exact(&mut buffer[..wanted])?;
                target.write_all(&buffer[..wanted])?;
                left -= wanted as u64;
            }
        }
        Ok(target.set_len(size)?)
    }
}

fn open(directory: &impl AsFd, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(directory, os(name), flags, Mode::empty())
}
