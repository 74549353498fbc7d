//! What a file on disk holds: its populated extents, its size and its digest.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::digest::{Hasher, Sha256};
use crate::manifest::FileRecord;

/// How much is read, hashed, compressed or written at a time: small enough to stay in the processor's cache.
pub(crate) const STEP: usize = 128 * 1024;

/// The file could not be read as one unchanging thing.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Reading failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Somebody wrote to it meanwhile.
    #[error("the file was changed while it was read")]
    Changed,
    /// It holds something other than what was recorded when it was saved.
    #[error(
        "the file has {found_size} bytes with sha256 {found}, {size} bytes with sha256 {expected} were recorded"
    )]
    Altered {
        /// Recorded size.
        size: u64,
        /// Recorded digest.
        expected: Sha256,
        /// Size found.
        found_size: u64,
        /// Digest found.
        found: Sha256,
    },
    /// Larger than any file that is ever restored.
    #[error("the file has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
}

/// What tells that a file was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Version {
    pub(crate) size: u64,
    inode: u64,
    modified_s: i64,
    modified_ns: i64,
}

impl Version {
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let meta = file.metadata()?;
        Ok(Self {
            size: meta.len(),
            inode: meta.ino(),
            modified_s: meta.mtime(),
            modified_ns: meta.mtime_nsec(),
        })
    }
}

/// The first populated extent of a file of `size` bytes that starts at `from` or later.
pub(crate) fn next_extent(file: &File, from: u64, size: u64) -> Result<Option<Range<u64>>, SourceError> {
    if from >= size {
        return Ok(None);
    }
    let start = match seek(file, SeekFrom::Data(from)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        Err(error) => return Err(io::Error::from(error).into()),
    };
    if start >= size {
        return Ok(None);
    }
    let end = seek(file, SeekFrom::Hole(start)).map_err(io::Error::from)?;
    if start < from || end <= start {
        return Err(SourceError::Changed);
    }
    Ok(Some(start..end.min(size)))
}

/// Fills `buffer` from `offset`; a file that ends before that was cut meanwhile.
pub(crate) fn read_whole(file: &File, buffer: &mut [u8], offset: u64) -> Result<(), SourceError> {
    file.read_exact_at(buffer, offset)
        .map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => SourceError::Changed,
            _ => error.into(),
        })
}

/// Reads a file once, from one end to the other.
pub(crate) fn measure(file: &File) -> Result<FileRecord, SourceError> {
    walk(file, |_, _| Ok(()))
}

/// Reads a file once and writes what it holds to `copy`, which must be empty; holes stay holes. A failing `copy` is
/// told apart from a failing `file`.
pub(crate) fn copy(file: &File, copy: &File) -> Result<FileRecord, CopyError> {
    copy.set_len(Version::of(file).map_err(SourceError::Io)?.size)
        .map_err(CopyError::Write)?;
    let mut failed = None;
    let record = walk(file, |bytes, offset| {
        copy.write_all_at(bytes, offset).map_err(|error| {
            failed = Some(error);
            io::ErrorKind::Interrupted.into()
        })
    });
    match failed {
        Some(error) => Err(CopyError::Write(error)),
        None => Ok(record?),
    }
}

/// Which side of a copy failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    #[error(transparent)]
    Read(#[from] SourceError),
    #[error(transparent)]
    Write(io::Error),
}

fn walk(file: &File, mut visit: impl FnMut(&[u8], u64) -> io::Result<()>) -> Result<FileRecord, SourceError> {
    let version = Version::of(file)?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; STEP];
    let mut at = 0;
    while let Some(extent) = next_extent(file, at, version.size)? {
        hasher.update_zeros(extent.start - at);
        at = extent.start;
        while at < extent.end {
            let step = &mut buffer[..(extent.end - at).min(STEP as u64) as usize];
            read_whole(file, step, at)?;
            hasher.update(step);
            visit(step, at)?;
            at += step.len() as u64;
        }
    }
    hasher.update_zeros(version.size - at);
    if Version::of(file)? != version {
        return Err(SourceError::Changed);
    }
    Ok(FileRecord {
        size: version.size,
        sha256: hasher.finish(),
        stored: None,
    })
}

impl SourceError {
    /// Whether `found` is what was recorded, when something was.
    pub(crate) fn check(expected: Option<&FileRecord>, found: &FileRecord) -> Result<(), SourceError> {
        match expected {
            Some(expected) if !expected.same_content(found) => Err(SourceError::Altered {
                size: expected.size,
                expected: expected.sha256,
                found_size: found.size,
                found: found.sha256,
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_written_to_while_it_is_read_has_no_digest() {
        let file = tempfile::tempfile().expect("a file");
        file.write_all_at(&[1; 3 * STEP], 0).expect("writes");
        assert!(measure(&file).is_ok());
        let grown = walk(&file, |_, offset| {
            file.write_all_at(&[2], 4 * STEP as u64 + offset)
        });
        assert!(matches!(grown, Err(SourceError::Changed)), "{grown:?}");
        let cut = walk(&file, |_, _| file.set_len(10));
        assert!(matches!(cut, Err(SourceError::Changed)), "{cut:?}");
    }

    #[test]
    fn a_copy_tells_which_side_failed() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        file.as_file().write_all_at(b"content", 0).expect("writes");
        let read_only = File::open(file.path()).expect("opens");
        assert!(matches!(
            copy(file.as_file(), &read_only),
            Err(CopyError::Write(_))
        ));
        let target = tempfile::tempfile().expect("a file");
        let record = copy(&read_only, &target).expect("copies");
        assert_eq!(record, measure(&target).expect("reads"));
        assert_eq!(record.sha256, Sha256::of(b"content"));
    }
}
