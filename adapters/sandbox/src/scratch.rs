//! Anonymous files in memory. Unlike a pipe they need nobody to read them, and a process that outlives its
//! parent cannot block on one or keep its reader waiting.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// Only the end of a long text is of interest: that is where programs say why they failed.
const READ_LIMIT_BYTES: u64 = 64 * 1024;

/// A new file; `name` shows up in `/proc/<pid>/fd` only.
pub(crate) fn file(name: &str) -> io::Result<File> {
    Ok(rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC)?.into())
}

/// The end of what was written to it.
pub(crate) fn read(mut file: File) -> io::Result<String> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(READ_LIMIT_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(READ_LIMIT_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
