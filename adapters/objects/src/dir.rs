//! A directory held open, in which files are reached by checked names and never through a link (S80).

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir as Entries, Mode, OFlags};
use rustix::io::Errno;

/// How temporary files are called: a dot, which no [`FileName`](crate::FileName) starts with, and this end.
const TEMP_SUFFIX: &str = ".partial";

/// An open directory.
#[derive(Debug)]
pub(crate) struct Dir(OwnedFd);

impl Dir {
    /// Opens a directory whose path the caller vouches for.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty())?))
    }

    /// Opens a directory in this one; a link is an error.
    pub(crate) fn open_dir(&self, name: &str) -> io::Result<Self> {
        Ok(Self(rustix::fs::openat(
            &self.0,
            name,
            DIRECTORY | OFlags::NOFOLLOW,
            Mode::empty(),
        )?))
    }

    /// Makes a directory in this one if it is not there, for the daemon alone to enter.
    pub(crate) fn make_dir(&self, name: &str) -> io::Result<Self> {
        match rustix::fs::mkdirat(&self.0, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => self.open_dir(name),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a regular file for reading; a link, a device or a pipe is an error, and none of them makes this wait.
    pub(crate) fn open_file(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&self.0, name, flags, Mode::empty())?);
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
        }
    }

    /// Starts a file that appears under `name` only once it is [published](Temp::publish).
    ///
    /// A leftover of an earlier attempt is unlinked, not reused: whoever may still write to it keeps a file of its
    /// own.
    pub(crate) fn create_temp(&self, name: &str) -> io::Result<Temp<'_>> {
        let temp_name = format!(".{name}{TEMP_SUFFIX}");
        self.remove(&temp_name)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.0, &temp_name, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(Temp {
            dir: self,
            name: name.to_owned(),
            temp_name: Some(temp_name),
            file: File::from(fd),
        })
    }

    /// Moves `name` out of here into `target`, over whatever has that name there.
    pub(crate) fn rename_into(&self, name: &str, target: &Dir) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.0, name, &target.0, name)?)
    }

    /// Whether something has this name.
    pub(crate) fn has(&self, name: &str) -> io::Result<bool> {
        match rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a file; one that is not there is removed already.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        absent_is_done(rustix::fs::unlinkat(&self.0, name, AtFlags::empty()))
    }

    /// Removes an empty directory; one that is not there is removed already.
    pub(crate) fn remove_dir(&self, name: &str) -> io::Result<()> {
        absent_is_done(rustix::fs::unlinkat(&self.0, name, AtFlags::REMOVEDIR))
    }

    /// Removes what interrupted attempts left behind.
    pub(crate) fn remove_temps(&self) -> io::Result<()> {
        let is_temp = |name: &String| name.starts_with('.') && name.ends_with(TEMP_SUFFIX);
        self.names()?
            .iter()
            .filter(|name| is_temp(name))
            .try_for_each(|name| self.remove(name))
    }

    /// The names in it, sorted; those that are not UTF-8 are none of ours and are left out.
    pub(crate) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Entries::read_from(&self.0)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            names.extend(
                name.to_str()
                    .filter(|name| !matches!(*name, "." | ".."))
                    .map(str::to_owned),
            );
        }
        names.sort();
        Ok(names)
    }

    /// Makes the names in it survive a power loss.
    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.0)?)
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn absent_is_done(result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A file that is not there yet. Dropped, it is gone.
#[derive(Debug)]
pub(crate) struct Temp<'a> {
    dir: &'a Dir,
    name: String,
    /// `None` once published.
    temp_name: Option<String>,
    pub(crate) file: File,
}

impl Temp<'_> {
    /// Gives the file its name, over whatever has it now.
    pub(crate) fn publish(mut self) -> io::Result<()> {
        if let Some(temp_name) = &self.temp_name {
            rustix::fs::renameat(&self.dir.0, temp_name, &self.dir.0, &self.name)?;
            self.temp_name = None;
        }
        Ok(())
    }
}

impl Drop for Temp<'_> {
    fn drop(&mut self) {
        if let Some(temp_name) = self.temp_name.take() {
            // Best effort: the next attempt removes it too.
            let _ = self.dir.remove(&temp_name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_seen_only_once_it_is_published() {
        let root = tempfile::tempdir().expect("a directory");
        let dir = Dir::open(root.path()).expect("opens");
        let mut temp = dir.create_temp("a").expect("creates");
        temp.file.write_all(b"x").expect("writes");
        assert!(!root.path().join("a").exists());
        temp.publish().expect("publishes");
        assert_eq!(dir.names().expect("lists"), ["a"]);
        let mode = fs::metadata(root.path().join("a"))
            .expect("stat")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(dir.create_temp("b").expect("creates"));
        assert_eq!(dir.names().expect("lists"), ["a"]);
    }

    #[test]
    fn leftovers_of_killed_attempts_are_replaced_and_removed() {
        let root = tempfile::tempdir().expect("a directory");
        let dir = Dir::open(root.path()).expect("opens");
        fs::write(root.path().join(".a.partial"), "old").expect("writes");
        fs::write(root.path().join(".b.partial"), "old").expect("writes");
        dir.create_temp("a")
            .expect("creates")
            .publish()
            .expect("publishes");
        assert_eq!(fs::read(root.path().join("a")).expect("reads"), b"");
        dir.remove_temps().expect("removes");
        assert_eq!(dir.names().expect("lists"), ["a"]);
    }

    /// S80: a link in a directory the sandbox can write to must not lead the daemon anywhere.
    #[test]
    fn links_and_pipes_are_not_followed_and_not_waited_for() {
        let root = tempfile::tempdir().expect("a directory");
        let secret = root.path().join("secret");
        fs::write(&secret, "s").expect("writes");
        let inner = root.path().join("inner");
        fs::create_dir(&inner).expect("makes");
        std::os::unix::fs::symlink(&secret, inner.join("link")).expect("links");
        std::os::unix::fs::symlink(root.path(), inner.join("out")).expect("links");
        rustix::fs::mknodat(CWD, inner.join("pipe"), rustix::fs::FileType::Fifo, Mode::RUSR, 0)
            .expect("a pipe");
        let dir = Dir::open(&inner).expect("opens");
        for name in ["link", "pipe", "out", "absent"] {
            assert!(dir.open_file(name).is_err(), "{name}");
        }
        assert!(dir.open_dir("out").is_err());
        assert!(dir.make_dir("out").is_err());
        std::os::unix::fs::symlink(&secret, inner.join(".new.partial")).expect("links");
        dir.create_temp("new")
            .expect("creates")
            .publish()
            .expect("publishes");
        assert_eq!(fs::read(&secret).expect("reads"), b"s");
    }
}
