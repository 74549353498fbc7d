//! Directories inside an image, which may hold links that lead anywhere.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{FileType, Mode, OFlags, fstat, mkdirat, openat, readlinkat};
use rustix::io::{Errno, dup};

/// As many links as the kernel follows.
const LINKS_MAX: u32 = 40;
const FOUND: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A step on the way.
struct Step {
    name: Vec<u8>,
    /// Whether it may be made: it was asked for by name. What a link leads to has to be there.
    may_be_made: bool,
}

/// Makes `path` and its parents below `root`, taking every link as if `root` were the whole world.
///
/// Links are read, and not followed by the kernel: it works where following them is forbidden, see
/// [`crate::confinement`].
pub(crate) fn make_dirs(root: &OwnedFd, path: &str) -> rustix::io::Result<()> {
    let mut way: VecDeque<Step> = steps(path.as_bytes(), true).collect();
    let mut places = vec![dup(root)?];
    let mut links = 0;
    while let Some(step) = way.pop_front() {
        if step.name == b".." {
            if places.len() > 1 {
                places.pop();
            }
            continue;
        }
        let here = places.last().unwrap_or(root).as_fd();
        let name = OsStr::from_bytes(&step.name);
        let found = match openat(here, name, FOUND, Mode::empty()) {
            Err(Errno::NOENT) if step.may_be_made => {
                mkdirat(here, name, Mode::from_raw_mode(0o755))?;
                openat(here, name, FOUND, Mode::empty())?
            }
            found => found?,
        };
        match FileType::from_raw_mode(fstat(&found)?.st_mode) {
            FileType::Directory => places.push(found),
            FileType::Symlink => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(Errno::LOOP);
                }
                let target = readlinkat(&found, "", Vec::new())?.into_bytes();
                if target.starts_with(b"/") {
                    places.truncate(1);
                }
                for step in steps(&target, false).collect::<Vec<_>>().into_iter().rev() {
                    way.push_front(step);
                }
            }
            _ => return Err(Errno::NOTDIR),
        }
    }
    Ok(())
}

fn steps(path: &[u8], may_be_made: bool) -> impl Iterator<Item = Step> {
    let names = path.split(|byte| *byte == b'/');
    names
        .filter(|name| !matches!(*name, b"" | b"."))
        .map(move |name| Step {
            name: name.to_vec(),
            may_be_made,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn make(root: &Path, path: &str) -> rustix::io::Result<()> {
        make_dirs(&fs::File::open(root).unwrap().into(), path)
    }

    #[test]
    fn links_lead_where_they_would_if_the_image_were_the_whole_world() {
        let outside = tempfile::tempdir().unwrap();
        let root = outside.path().join("rootfs");
        fs::create_dir_all(root.join("var/run")).unwrap();
        symlink("/var/run", root.join("run")).unwrap();
        symlink("../../../../var", root.join("up")).unwrap();
        symlink("up/./run", root.join("chain")).unwrap();
        for (path, made) in [
            ("/run/ate", "var/run/ate"),
            ("up/spool/x", "var/spool/x"),
            ("/chain/y", "var/run/y"),
            ("/new/z", "new/z"),
        ] {
            make(&root, path).unwrap();
            make(&root, path).unwrap();
            assert!(root.join(made).is_dir(), "{path}");
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_leads_nowhere_or_in_circles_or_to_a_file_is_an_error_and_nothing_is_made() {
        let root = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        symlink(outside.path(), root.path().join("out")).unwrap();
        symlink("circle", root.path().join("circle")).unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        symlink("/file", root.path().join("to-file")).unwrap();
        for (path, error) in [
            ("/out/ate", Errno::NOENT),
            ("/circle/ate", Errno::LOOP),
            ("/file/ate", Errno::NOTDIR),
            ("/to-file", Errno::NOTDIR),
        ] {
            assert_eq!(make(root.path(), path), Err(error), "{path}");
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 4);
    }
}
