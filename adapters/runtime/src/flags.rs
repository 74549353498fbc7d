//! Flags that several programs have: how their values are read, with what would be right where they are
//! wrong. What is read from the file system is looked at and left alone.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// Why a path cannot be what a flag asks for.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// It would mean something else in another directory.
    #[error("must be absolute")]
    Relative,
    /// It is there, and is no directory.
    #[error("is not a directory")]
    NoDirectory,
    /// It is there, and is no file.
    #[error("is not a file")]
    NoFile,
    /// Nobody may run it.
    #[error("is not executable")]
    NotExecutable,
    /// It cannot be looked at.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// An installed program, by the absolute path of its file.
///
/// # Errors
/// When there is no such file, or it cannot be run.
pub fn program(text: &str) -> Result<PathBuf, PathError> {
    let path = absolute(text)?;
    let metadata = path.metadata()?;
    if !metadata.is_file() {
        return Err(PathError::NoFile);
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(PathError::NotExecutable);
    }
    Ok(path)
}

/// A directory that processes with other working directories share, by its absolute path. It need not be
/// there yet.
///
/// # Errors
/// When it is relative, or something else than a directory is there.
pub fn shared_directory(text: &str) -> Result<PathBuf, PathError> {
    let path = absolute(text)?;
    if path.exists() && !path.is_dir() {
        return Err(PathError::NoDirectory);
    }
    Ok(path)
}

fn absolute(text: &str) -> Result<PathBuf, PathError> {
    let path = PathBuf::from(text);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(PathError::Relative)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};

    #[test]
    fn a_path_is_looked_at_before_it_is_believed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("runsc");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        let (file, dir) = (file.to_str().unwrap(), dir.path().to_str().unwrap());
        let missing = format!("{dir}/missing");

        let why = |text: &str| program(text).unwrap_err().to_string();
        assert_eq!(why("runsc"), "must be absolute");
        assert_eq!(why(""), "must be absolute");
        assert_eq!(why(dir), "is not a file");
        assert_eq!(why(file), "is not executable");
        assert!(why(&missing).starts_with("No such file"));
        fs::set_permissions(file, Permissions::from_mode(0o755)).unwrap();
        assert_eq!(program(file).unwrap(), PathBuf::from(file));

        let why = |text: &str| shared_directory(text).unwrap_err().to_string();
        assert_eq!(why("base"), "must be absolute");
        assert_eq!(why(file), "is not a directory");
        assert_eq!(shared_directory(dir).unwrap(), PathBuf::from(dir));
        assert_eq!(shared_directory(&missing).unwrap(), PathBuf::from(&missing));
    }
}
