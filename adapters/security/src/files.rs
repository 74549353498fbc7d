//! What is made of files, and made again when one of them changes: certificates, authorities and tokens are
//! replaced under a running process.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// A file that cannot be used, and why. What is in it is never repeated.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", .path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

impl FileError {
    /// A fault of the file at `path`.
    pub fn new(path: &Path, why: impl ToString) -> FileError {
        FileError {
            path: path.to_owned(),
            why: why.to_string(),
        }
    }
}

impl From<FileError> for io::Error {
    fn from(error: FileError) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

/// Reads a file that is meant to be small.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    /// Bundles, authorities and pools have kilobytes. What has more is something else, named by mistake.
    const BYTES_MAX: u64 = 4 << 20;
    let metadata = fs::metadata(path).map_err(|error| FileError::new(path, error))?;
    if !metadata.is_file() {
        return Err(FileError::new(path, "is not a file"));
    }
    if metadata.len() > BYTES_MAX {
        return Err(FileError::new(
            path,
            "is larger than 4 MiB; is it the right file?",
        ));
    }
    fs::read(path).map_err(|error| FileError::new(path, error))
}

type Make<T> = dyn Fn() -> Result<T, FileError> + Send + Sync;

/// Something made of files. Whether they have changed is asked each time that it is used, which costs a look at
/// their metadata. As long as they cannot be used, what was made of them before stays in force.
pub struct FromFiles<T> {
    paths: Vec<PathBuf>,
    make: Box<Make<T>>,
    held: Mutex<Held<T>>,
}

struct Held<T> {
    made: Arc<T>,
    of: Vec<Stamp>,
    /// What could not be used, and has been told.
    refused: Option<Vec<Stamp>>,
}

/// What changes when a file does: Kubernetes swaps a link to a directory, others rename or rewrite.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp(Option<(u64, u64, i64, i64, u64)>);

impl Stamp {
    fn of(path: &Path) -> Stamp {
        let metadata = fs::metadata(path).ok();
        Stamp(metadata.map(|file| {
            (
                file.dev(),
                file.ino(),
                file.mtime(),
                file.mtime_nsec(),
                file.size(),
            )
        }))
    }
}

impl<T> FromFiles<T> {
    /// Made by `make`, which reads these files.
    ///
    /// # Errors
    /// Those of `make`: what cannot be made at first is not waited for.
    pub fn open(
        paths: Vec<PathBuf>,
        make: impl Fn() -> Result<T, FileError> + Send + Sync + 'static,
    ) -> Result<Self, FileError> {
        let of = stamps(&paths);
        let made = Arc::new(make()?);
        Ok(Self {
            paths,
            make: Box::new(make),
            held: Mutex::new(Held {
                made,
                of,
                refused: None,
            }),
        })
    }

    /// What the files amount to now.
    pub fn current(&self) -> Arc<T> {
        // Looked at before they are read: what is written meanwhile is read the next time.
        let now = stamps(&self.paths);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.of == now {
            return held.made.clone();
        }
        match (self.make)() {
            Ok(made) => {
                tracing::info!(files = ?self.paths, "read again");
                *held = Held {
                    made: Arc::new(made),
                    of: now,
                    refused: None,
                };
            }
            Err(error) => {
                if held.refused.as_ref() != Some(&now) {
                    tracing::warn!(%error, "cannot be used; what was read before stays in force");
                    held.refused = Some(now);
                }
            }
        }
        held.made.clone()
    }
}

fn stamps(paths: &[PathBuf]) -> Vec<Stamp> {
    paths.iter().map(|path| Stamp::of(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_of_a_file_follows_it_and_outlives_a_bad_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("number");
        let put = |text: &str| {
            fs::write(dir.path().join("new"), text).unwrap();
            fs::rename(dir.path().join("new"), &path).unwrap();
        };
        put("1");
        let at = path.clone();
        let number = FromFiles::open(vec![path.clone()], move || {
            let text = String::from_utf8(read(&at)?).unwrap();
            text.parse::<u32>().map_err(|error| FileError::new(&at, error))
        })
        .unwrap();
        assert_eq!(*number.current(), 1);
        put("2");
        assert_eq!(*number.current(), 2);
        put("two");
        assert_eq!(*number.current(), 2);
        fs::remove_file(&path).unwrap();
        assert_eq!(*number.current(), 2);
        put("3");
        assert_eq!(*number.current(), 3);
    }

    #[test]
    fn what_is_no_small_file_is_named_and_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let why = |path: &Path| read(path).unwrap_err().to_string();
        assert!(why(dir.path()).ends_with("is not a file"));
        assert!(why(&dir.path().join("none")).contains("/none: No such file"));
        let large = dir.path().join("large");
        fs::File::create(&large).unwrap().set_len((4 << 20) + 1).unwrap();
        assert!(why(&large).contains("larger than 4 MiB"));
    }
}
