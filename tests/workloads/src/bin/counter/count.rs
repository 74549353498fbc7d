//! The count, in memory and, when asked for, in a file that is always either the old count or the new one.

use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A count that only grows, and the nonce that names this process.
pub struct Counter {
    count: Mutex<u64>,
    file: Option<PathBuf>,
    nonce: String,
}

impl Counter {
    /// Starts at zero, or where `file` says the last process left off.
    pub fn open(file: Option<PathBuf>) -> io::Result<Self> {
        let count = file.as_deref().map_or(Ok(0), load)?;
        Ok(Self {
            count: Mutex::new(count),
            file,
            nonce: nonce(),
        })
    }

    /// Counts one more and returns the new count. On an error nothing was counted.
    pub fn increment(&self) -> io::Result<u64> {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let next = *count + 1;
        if let Some(file) = &self.file {
            save(file, next)?;
        }
        *count = next;
        Ok(next)
    }

    /// The count as it is.
    pub fn peek(&self) -> u64 {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same for as long as this process lives, wherever it is carried; never that of another process.
    pub fn nonce(&self) -> &str {
        &self.nonce
    }
}

/// The standard library seeds its hashers with a system call, so this needs no `/dev/urandom` in the sandbox.
fn nonce() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

fn load(file: &Path) -> io::Result<u64> {
    match fs::read_to_string(file) {
        Ok(text) => text.trim_end().parse().map_err(|error| {
            let message = format!(
                "{}: expected a decimal count, found {text:?}: {error}",
                file.display()
            );
            io::Error::new(io::ErrorKind::InvalidData, message)
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(io::Error::new(
            error.kind(),
            format!("{}: {error}", file.display()),
        )),
    }
}

fn save(file: &Path, count: u64) -> io::Result<()> {
    let mut name = file.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(".new");
    let new = file.with_file_name(name);
    let mut written = File::create(&new)?;
    writeln!(written, "{count}")?;
    written.sync_all()?;
    fs::rename(&new, file)?;
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}
