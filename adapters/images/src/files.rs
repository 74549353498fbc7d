//! Directories by handle: names in them, never paths, and no link is followed.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// Looks through a directory without needing permission to list it.
pub(crate) const PASS: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
/// Lists a directory.
pub(crate) const LIST: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Removes whatever has this name, with everything below it. Returns the bytes of disk that nothing else holds.
pub(crate) fn remove_all(directory: BorrowedFd<'_>, name: &[u8]) -> Result<u64, Errno> {
    let stat = rustix::fs::statat(directory, os(name), AtFlags::SYMLINK_NOFOLLOW)?;
    if kind_of(&stat) != FileType::Directory {
        rustix::fs::unlinkat(directory, os(name), AtFlags::empty())?;
        return Ok(if stat.st_nlink > 1 { 0 } else { allocated(&stat) });
    }
    let inner = rustix::fs::openat(directory, os(name), LIST, Mode::empty())?;
    let mut freed = allocated(&stat);
    for child in names_in(&inner)? {
        freed += remove_all(inner.as_fd(), &child)?;
    }
    drop(inner);
    rustix::fs::unlinkat(directory, os(name), AtFlags::REMOVEDIR)?;
    Ok(freed)
}

/// The names in a directory.
pub(crate) fn names_in(directory: &impl AsFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    // Opened once more, since handles to pass through cannot be listed.
    let listable = rustix::fs::openat(directory, ".", LIST, Mode::empty())?;
    for entry in Dir::new(listable)? {
        let entry = entry?;
        match entry.file_name().to_bytes() {
            b"." | b".." => {}
            name => names.push(name.to_vec()),
        }
    }
    Ok(names)
}

/// Bytes of disk that something takes.
pub(crate) fn allocated(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512)
}

pub(crate) fn kind_of(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

pub(crate) fn os(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}
