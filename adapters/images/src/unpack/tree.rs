//! The directory tree that layers are unpacked to, and that nothing in a layer gets out of.
//!
//! Every name is resolved one component at a time, relative to the handle of its parent directory and
//! without letting the kernel follow a link. Links among the parents are resolved here, as the container
//! will see them: an absolute one starts at the root of the tree, and one that climbs above it is refused.
//! Nobody else changes the tree meanwhile, because nothing runs in it before it is complete.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::{Limit, Problem, Refusal, UnpackError, UnpackLimits};
use crate::DiskError;
use crate::files::{LIST, PASS, names_in, os, remove_all};

/// Directories within directories; bounds the recursion that removes them.
const MAX_DEPTH: usize = 256;
/// Bytes of the names of directories whose final mode must wait.
const MAX_CLOSED_BYTES: usize = 8 << 20;
/// As many links as the kernel follows in one name.
const MAX_LINKS: usize = 40;
/// Components to go through for one name, those of links included.
const MAX_STEPS: usize = 1024;
/// What file systems allow.
const MAX_NAME_BYTES: usize = 255;
const MAX_LINK_BYTES: usize = 4095;
/// What the writer of the tree needs on its directories while it writes.
const OPEN_MODE: u32 = 0o700;
const IMPLICIT_MODE: u32 = 0o755;

const CREATE: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// A root directory and what has to be known about it while layers come in.
pub(super) struct Tree {
    root: OwnedFd,
    path: PathBuf,
    max_path_bytes: usize,
    max_entries: u64,
    entries: u64,
    /// What the layer at hand made; the first one needs no such notes, for there is nothing to hide.
    layer: Option<LayerNotes>,
    /// Final modes of directories that would lock out a writer that is not root.
    closed: BTreeMap<Vec<u8>, u32>,
    closed_bytes: usize,
}

/// A layer's whiteouts hide only what earlier layers made, whatever the order of its entries.
#[derive(Default)]
struct LayerNotes {
    /// What the layer made, with all parents, by fingerprint.
    touched: BTreeSet<[u8; 16]>,
    /// Directories in which nothing of earlier layers is left.
    opaque: BTreeSet<[u8; 16]>,
}

/// A directory of the tree, reached without links.
struct Place {
    /// `None` is the root.
    handle: Option<OwnedFd>,
    /// Its real path below the root, without slashes at the ends.
    path: Vec<u8>,
    depth: usize,
}

/// What to do about parents that do not exist.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Make,
    Stop,
}

/// What a name in a directory is.
enum Found {
    Directory(OwnedFd),
    Link(Vec<u8>),
    Nothing,
    Other,
}

impl Tree {
    /// Opens `path`, which is made if it is missing and must be empty.
    pub fn open(path: &Path, limits: &UnpackLimits) -> Result<Self, UnpackError> {
        let disk = |errno: Errno| DiskError::new(path, errno);
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(disk(errno).into()),
        }
        let root = rustix::fs::open(path, LIST, Mode::empty()).map_err(disk)?;
        if !names_in(&root).map_err(disk)?.is_empty() {
            return Err(UnpackError::NotEmpty {
                path: path.to_owned(),
            });
        }
        Ok(Self {
            root,
            path: path.to_owned(),
            max_path_bytes: limits.path_bytes,
            max_entries: limits.entries,
            entries: 0,
            layer: None,
            closed: BTreeMap::new(),
            closed_bytes: 0,
        })
    }

    /// From now on, what is made belongs to the next layer.
    pub fn begin_layer_above(&mut self) {
        self.layer = Some(LayerNotes::default());
    }

    /// Counts an entry against the limit.
    pub fn count_entry(&mut self) -> Result<(), Problem> {
        self.entries += 1;
        match self.entries > self.max_entries {
            true => Err(Problem::Limit(Limit::Entries, self.max_entries)),
            false => Ok(()),
        }
    }

    /// Makes a directory, or gives an existing one this mode.
    pub fn directory(&mut self, name: &[&[u8]], mode: u32) -> Result<(), Problem> {
        let (place, last) = self.parent(name)?;
        let path = place.join(last);
        match rustix::fs::mkdirat(self.fd(&place), os(last), Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                if self.kind(&place, last)? != Some(FileType::Directory) {
                    self.remove(&place, last)?;
                    rustix::fs::mkdirat(self.fd(&place), os(last), Mode::RWXU)
                        .map_err(|errno| self.disk(&path, errno))?;
                }
            }
            Err(errno) => return Err(self.disk(&path, errno).into()),
        }
        self.set_mode(&place, last, mode | OPEN_MODE)?;
        self.close_later(&path, mode)?;
        self.touch(&path);
        Ok(())
    }

    /// Makes a new file in place of whatever is there; the caller fills it and then sets its mode.
    pub fn file(&mut self, name: &[&[u8]]) -> Result<File, Problem> {
        let (place, last) = self.parent(name)?;
        let path = place.join(last);
        let create =
            |tree: &Self| rustix::fs::openat(tree.fd(&place), os(last), CREATE, Mode::RUSR | Mode::WUSR);
        let created = match create(self) {
            Err(Errno::EXIST) => {
                self.remove(&place, last)?;
                create(self)
            }
            created => created,
        };
        let file = created.map_err(|errno| self.disk(&path, errno))?;
        self.touch(&path);
        Ok(file.into())
    }

    /// Makes a symbolic link in place of whatever is there. Its target is kept as it is: it means what the
    /// container will make of it.
    pub fn symlink(&mut self, name: &[&[u8]], target: &[u8]) -> Result<(), Problem> {
        if target.is_empty() || target.contains(&0) {
            return Err(Refusal::BadLink.into());
        }
        let max_bytes = self.max_path_bytes.min(MAX_LINK_BYTES);
        if target.len() > max_bytes {
            return Err(Problem::Limit(Limit::PathBytes, max_bytes as u64));
        }
        let (place, last) = self.parent(name)?;
        let path = place.join(last);
        let link = |tree: &Self| rustix::fs::symlinkat(os(target), tree.fd(&place), os(last));
        let linked = match link(self) {
            Err(Errno::EXIST) => {
                self.remove(&place, last)?;
                link(self)
            }
            linked => linked,
        };
        linked.map_err(|errno| self.disk(&path, errno))?;
        self.touch(&path);
        Ok(())
    }

    /// Makes another name for something in the tree that is not a directory.
    pub fn hardlink(&mut self, name: &[&[u8]], target: &[&[u8]]) -> Result<(), Problem> {
        let missing = Problem::from(Refusal::LinkTargetMissing);
        let Some((target_last, target_parents)) = target.split_last() else {
            return Err(missing);
        };
        let Some(target_place) = self.walk(target_parents, Missing::Stop)? else {
            return Err(missing);
        };
        match self.kind(&target_place, target_last)? {
            None => return Err(missing),
            Some(FileType::Directory) => return Err(Refusal::BadLink.into()),
            Some(_) => {}
        }
        let (place, last) = self.parent(name)?;
        let path = place.join(last);
        if path == target_place.join(target_last) {
            self.touch(&path);
            return Ok(());
        }
        let link = |tree: &Self| {
            let (from, to) = (tree.fd(&target_place), tree.fd(&place));
            rustix::fs::linkat(from, os(target_last), to, os(last), AtFlags::empty())
        };
        let linked = match link(self) {
            Err(Errno::EXIST) => {
                self.remove(&place, last)?;
                // What was in the way may have been a directory that held the target.
                link(self)
            }
            linked => linked,
        };
        match linked {
            Ok(()) => self.touch(&path),
            Err(Errno::NOENT) => return Err(missing),
            Err(errno) => return Err(self.disk(&path, errno).into()),
        }
        Ok(())
    }

    /// Hides what earlier layers have under this name.
    pub fn whiteout(&mut self, parents: &[&[u8]], name: &[u8]) -> Result<(), Problem> {
        match self.walk(parents, Missing::Stop)? {
            Some(place) if self.layer.is_some() => self.hide(&place, name),
            _ => Ok(()),
        }
    }

    /// Hides what earlier layers have in this directory.
    pub fn opaque(&mut self, directory: &[&[u8]]) -> Result<(), Problem> {
        match self.walk(directory, Missing::Stop)? {
            Some(place) => self.hide_all_in(&place),
            None => Ok(()),
        }
    }

    /// Gives the directories that had to stay open their modes, those further down first. Returns how
    /// many entries there were.
    pub fn finish(self) -> Result<u64, DiskError> {
        for (path, mode) in self.closed.iter().rev() {
            let mut names = path.split(|byte| *byte == b'/').peekable();
            let mut here = Place::root();
            while let Some(name) = names.next() {
                if names.peek().is_none() {
                    self.set_mode(&here, name, *mode)?;
                    break;
                }
                let handle = rustix::fs::openat(self.fd(&here), os(name), PASS, Mode::empty());
                here = here.child(name, handle.map_err(|errno| self.disk(path, errno))?);
            }
        }
        Ok(self.entries)
    }

    fn parent<'a>(&mut self, name: &[&'a [u8]]) -> Result<(Place, &'a [u8]), Problem> {
        // The root itself is not for a layer to replace.
        let (last, parents) = name.split_last().ok_or(Refusal::BadName)?;
        let place = self
            .walk(parents, Missing::Make)?
            .ok_or(Refusal::ParentNotDirectory)?;
        self.check_room(&place, last)?;
        Ok((place, last))
    }

    /// Goes to a directory, through links as the container would. `None` if it is not there.
    fn walk(&mut self, parts: &[&[u8]], missing: Missing) -> Result<Option<Place>, Problem> {
        let mut ahead: VecDeque<Vec<u8>> = parts.iter().map(|part| part.to_vec()).collect();
        let mut here = Place::root();
        let (mut links, mut steps) = (0, 0);
        while let Some(part) = ahead.pop_front() {
            steps += 1;
            if steps > MAX_STEPS {
                return Err(Refusal::LinkLoop.into());
            }
            match part.as_slice() {
                b"" | b"." => {}
                b".." => here = self.above(here)?,
                name => match self.look(&here, name)? {
                    Found::Directory(handle) => here = here.child(name, handle),
                    Found::Link(target) => {
                        links += 1;
                        if links > MAX_LINKS {
                            return Err(Refusal::LinkLoop.into());
                        }
                        if target.starts_with(b"/") {
                            here = Place::root();
                        }
                        for part in target.split(|byte| *byte == b'/').rev() {
                            ahead.push_front(part.to_vec());
                        }
                    }
                    Found::Nothing | Found::Other if missing == Missing::Stop => return Ok(None),
                    Found::Other => return Err(Refusal::ParentNotDirectory.into()),
                    Found::Nothing => here = self.make_parent(here, name)?,
                },
            }
        }
        Ok(Some(here))
    }

    fn make_parent(&mut self, here: Place, name: &[u8]) -> Result<Place, Problem> {
        self.count_entry()?;
        self.check_room(&here, name)?;
        let path = here.join(name);
        let made = rustix::fs::mkdirat(self.fd(&here), os(name), Mode::RWXU);
        made.map_err(|errno| self.disk(&path, errno))?;
        self.set_mode(&here, name, IMPLICIT_MODE)?;
        self.touch(&path);
        let handle = rustix::fs::openat(self.fd(&here), os(name), PASS, Mode::empty());
        let handle = handle.map_err(|errno| self.disk(&path, errno))?;
        Ok(here.child(name, handle))
    }

    fn look(&self, here: &Place, name: &[u8]) -> Result<Found, Problem> {
        check_name(name)?;
        match rustix::fs::openat(self.fd(here), os(name), PASS, Mode::empty()) {
            Ok(handle) => Ok(Found::Directory(handle)),
            Err(Errno::NOENT) => Ok(Found::Nothing),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                match rustix::fs::readlinkat(self.fd(here), os(name), Vec::new()) {
                    Ok(target) => Ok(Found::Link(target.into_bytes())),
                    Err(Errno::INVAL) => Ok(Found::Other),
                    Err(errno) => Err(self.disk(&here.join(name), errno).into()),
                }
            }
            Err(errno) => Err(self.disk(&here.join(name), errno).into()),
        }
    }

    /// The parent of a place. All places are reached without links, so it is where the path says.
    fn above(&self, here: Place) -> Result<Place, Problem> {
        let Some(handle) = &here.handle else {
            return Err(Refusal::Escapes.into());
        };
        let Some(slash) = here.path.iter().rposition(|byte| *byte == b'/') else {
            return Ok(Place::root());
        };
        let above = rustix::fs::openat(handle, "..", PASS, Mode::empty());
        Ok(Place {
            handle: Some(above.map_err(|errno| self.disk(&here.path, errno))?),
            path: here.path[..slash].to_vec(),
            depth: here.depth - 1,
        })
    }

    fn hide(&mut self, place: &Place, name: &[u8]) -> Result<(), Problem> {
        if !self.is_touched(&place.join(name)) {
            return match self.kind(place, name)? {
                Some(_) => self.remove(place, name),
                None => Ok(()),
            };
        }
        // This layer has it too. If it is a directory, what earlier layers have in it is hidden.
        match self.look(place, name)? {
            Found::Directory(handle) => self.hide_all_in(&place.child(name, handle)),
            Found::Link(_) | Found::Other | Found::Nothing => Ok(()),
        }
    }

    fn hide_all_in(&mut self, place: &Place) -> Result<(), Problem> {
        let Some(layer) = &mut self.layer else {
            return Ok(());
        };
        // Once is enough, and a layer that says it again and again must not cost more.
        if !layer.opaque.insert(fingerprint(&place.path)) {
            return Ok(());
        }
        let names = names_in(&self.fd(place)).map_err(|errno| self.disk(&place.path, errno))?;
        names.iter().try_for_each(|name| self.hide(place, name))
    }

    /// Removes whatever has this name, with everything below it.
    fn remove(&mut self, place: &Place, name: &[u8]) -> Result<(), Problem> {
        let path = place.join(name);
        self.forget_closed(&path);
        remove_all(self.fd(place), name)
            .map(drop)
            .map_err(|errno| self.disk(&path, errno).into())
    }

    fn kind(&self, place: &Place, name: &[u8]) -> Result<Option<FileType>, Problem> {
        match rustix::fs::statat(self.fd(place), os(name), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.disk(&place.join(name), errno).into()),
        }
    }

    /// Only for directories that are known to be there: a link in their place would be followed.
    fn set_mode(&self, place: &Place, name: &[u8], mode: u32) -> Result<(), DiskError> {
        let mode = Mode::from_raw_mode(mode);
        rustix::fs::chmodat(self.fd(place), os(name), mode, AtFlags::empty())
            .map_err(|errno| self.disk(&place.join(name), errno))
    }

    fn close_later(&mut self, path: &[u8], mode: u32) -> Result<(), Problem> {
        if let Some((path, _)) = self.closed.remove_entry(path) {
            self.closed_bytes -= path.len();
        }
        if mode & OPEN_MODE == OPEN_MODE {
            return Ok(());
        }
        self.closed_bytes += path.len();
        if self.closed_bytes > MAX_CLOSED_BYTES {
            return Err(Problem::Limit(
                Limit::ClosedDirectoryBytes,
                MAX_CLOSED_BYTES as u64,
            ));
        }
        self.closed.insert(path.to_vec(), mode);
        Ok(())
    }

    fn forget_closed(&mut self, removed: &[u8]) {
        let below = |path: &[u8]| {
            path.strip_prefix(removed)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        if self.closed.is_empty() {
            return;
        }
        let gone: Vec<_> = self
            .closed
            .range(removed.to_vec()..)
            .map(|(path, _)| path)
            .take_while(|path| path.starts_with(removed))
            .filter(|path| below(path))
            .cloned()
            .collect();
        for path in gone {
            self.closed_bytes -= path.len();
            self.closed.remove(&path);
        }
    }

    fn check_room(&self, place: &Place, name: &[u8]) -> Result<(), Problem> {
        check_name(name)?;
        if place.path.len() + 1 + name.len() > self.max_path_bytes {
            return Err(Problem::Limit(Limit::PathBytes, self.max_path_bytes as u64));
        }
        if place.depth + 1 > MAX_DEPTH {
            return Err(Problem::Limit(Limit::PathDepth, MAX_DEPTH as u64));
        }
        Ok(())
    }

    /// Remembers a name and its parents, up to the first that is known.
    fn touch(&mut self, path: &[u8]) {
        let Some(layer) = &mut self.layer else {
            return;
        };
        let mut path = path;
        while layer.touched.insert(fingerprint(path)) {
            match path.iter().rposition(|byte| *byte == b'/') {
                Some(slash) => path = &path[..slash],
                None => return,
            }
        }
    }

    fn is_touched(&self, path: &[u8]) -> bool {
        let layer = self.layer.as_ref();
        layer.is_some_and(|layer| layer.touched.contains(&fingerprint(path)))
    }

    fn fd<'a>(&'a self, place: &'a Place) -> BorrowedFd<'a> {
        place.handle.as_ref().unwrap_or(&self.root).as_fd()
    }

    fn disk(&self, path: &[u8], errno: Errno) -> DiskError {
        DiskError::new(self.path.join(os(path)), errno)
    }
}

impl Place {
    fn root() -> Self {
        Self {
            handle: None,
            path: Vec::new(),
            depth: 0,
        }
    }

    fn child(&self, name: &[u8], handle: OwnedFd) -> Self {
        Self {
            handle: Some(handle),
            path: self.join(name),
            depth: self.depth + 1,
        }
    }

    fn join(&self, name: &[u8]) -> Vec<u8> {
        match self.path.is_empty() {
            true => name.to_vec(),
            false => [&self.path, name].join(&b'/'),
        }
    }
}

/// Half of a SHA-256: short, and not even a hostile image finds two names with the same.
fn fingerprint(path: &[u8]) -> [u8; 16] {
    let digest = Sha256::digest(path);
    std::array::from_fn(|at| digest[at])
}

fn check_name(name: &[u8]) -> Result<(), Problem> {
    match name.len() > MAX_NAME_BYTES {
        true => Err(Problem::Limit(Limit::NameBytes, MAX_NAME_BYTES as u64)),
        false => Ok(()),
    }
}
