//! Snapshots of durable directories, for runtimes that cannot make their own.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::Path;

use tar::{Archive, Builder, EntryType, Header};

use crate::layout::at;

/// The archive's name among the files of a snapshot.
pub const ARCHIVE: &str = "durable-dir.tar";

const BUFFER_BYTES: usize = 1 << 20;

/// Writes everything below `dir` into a new archive. Sockets and pipes stay out: they are not data.
pub(crate) fn pack(dir: &Path, archive: &Path) -> io::Result<()> {
    let file = File::create_new(archive).map_err(|error| at(archive, error))?;
    let mut builder = Builder::new(BufWriter::with_capacity(BUFFER_BYTES, file));
    builder.follow_symlinks(false);
    append(&mut builder, dir, Path::new(""))?;
    builder
        .into_inner()?
        .into_inner()
        .map_err(|error| at(archive, error.into_error()))?
        .flush()
}

/// Fills `dir` with what the archive holds, replacing all that was there.
pub(crate) fn unpack(archive: &Path, dir: &Path) -> io::Result<()> {
    crate::layout::remove_dir(dir)?;
    crate::layout::make_dir(dir, 0o755)?;
    let file = File::open(archive).map_err(|error| at(archive, error))?;
    let mut archive = Archive::new(BufReader::with_capacity(BUFFER_BYTES, file));
    archive.set_preserve_permissions(true);
    archive.set_preserve_mtime(true);
    archive.set_preserve_ownerships(rustix::process::geteuid().is_root());
    archive.unpack(dir).map_err(|error| at(dir, error))
}

fn append(builder: &mut Builder<impl Write>, root: &Path, below: &Path) -> io::Result<()> {
    let dir = root.join(below);
    let mut entries = fs::read_dir(&dir)
        .map_err(|error| at(&dir, error))?
        .collect::<io::Result<Vec<_>>>()?;
    // The same directory gives the same archive.
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = below.join(entry.file_name());
        let path = entry.path();
        let kind = entry.file_type()?;
        let appended = if kind.is_dir() {
            let mut header = Header::new_gnu();
            header.set_metadata(&entry.metadata()?);
            header.set_entry_type(EntryType::Directory);
            header.set_size(0);
            builder
                .append_data(&mut header, &name, io::empty())
                .and_then(|()| append(builder, root, &name))
        } else if kind.is_file() || kind.is_symlink() {
            builder.append_path_with_name(&path, &name)
        } else {
            Ok(())
        };
        appended.map_err(|error| at(&path, error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_directory_comes_back_as_it_was_and_nothing_else_remains() {
        let base = tempfile::tempdir().unwrap();
        let (from, to) = (base.path().join("from"), base.path().join("to"));
        fs::create_dir_all(from.join("data/sub")).unwrap();
        fs::write(from.join("data/sub/file"), b"content").unwrap();
        fs::set_permissions(from.join("data/sub/file"), fs::Permissions::from_mode(0o640)).unwrap();
        symlink("sub/file", from.join("data/link")).unwrap();
        let _socket = UnixListener::bind(from.join("data/socket")).unwrap();
        let archive = base.path().join(ARCHIVE);
        pack(&from, &archive).unwrap();

        fs::create_dir_all(to.join("old")).unwrap();
        unpack(&archive, &to).unwrap();
        assert_eq!(fs::read(to.join("data/link")).unwrap(), b"content");
        let mode = fs::metadata(to.join("data/sub/file"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o640);
        assert!(!to.join("old").exists() && !to.join("data/socket").exists());
    }

    #[test]
    fn an_archive_that_is_cut_short_is_an_error() {
        let base = tempfile::tempdir().unwrap();
        let from = base.path().join("from");
        fs::create_dir(&from).unwrap();
        fs::write(from.join("file"), vec![7; 100_000]).unwrap();
        let archive = base.path().join(ARCHIVE);
        pack(&from, &archive).unwrap();
        File::options()
            .write(true)
            .open(&archive)
            .unwrap()
            .set_len(50_000)
            .unwrap();
        assert!(unpack(&archive, &base.path().join("to")).is_err());
    }
}
