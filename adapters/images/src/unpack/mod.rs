//! Applies the layers of an image to a directory.

mod layer;
mod members;
mod tree;

use std::fmt;
use std::fs::{File, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Cache, Digest, DiskError};
use layer::Blob;
use members::{Kind, Member, MemberError, Members};
use tree::Tree;

const COPY_BYTES: usize = 256 << 10;
/// Set-user-id, set-group-id and sticky have no place in a sandbox where everybody is root.
const PERMISSION_BITS: u32 = 0o777;
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Other bookkeeping of the same family, which hides nothing.
const BOOKKEEPING: &[u8] = b".wh..wh.";
/// Names in errors are cut here: they come from the image.
const SHOWN_NAME_BYTES: usize = 256;

/// How much an image may unpack to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnpackLimits {
    /// Bytes of all layers after decompression, with holes in files counted as if they were full.
    pub bytes: u64,
    /// Members of all layers, and directories that they only imply.
    pub entries: u64,
    /// Bytes of one file.
    pub file_bytes: u64,
    /// Bytes of one path, after its links are resolved, and of what one link points to.
    pub path_bytes: usize,
}

impl Default for UnpackLimits {
    /// 64 GiB, 2 million entries, 32 GiB and 4096 bytes.
    fn default() -> Self {
        Self {
            bytes: 64 << 30,
            entries: 2_000_000,
            file_bytes: 32 << 30,
            path_bytes: 4096,
        }
    }
}

/// What was unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnpackReport {
    /// Members of all layers, and directories that they only imply.
    pub entries: u64,
    /// Bytes of all layers after decompression.
    pub bytes: u64,
}

/// Why an image was not unpacked. What is in the directory by then is to be removed.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// More than the limits allow.
    #[error(
        "layer {layer}, entry {entry}: {limit} above the limit of {allowed}; use a smaller image or raise the limit"
    )]
    Limit {
        /// The layer.
        layer: Digest,
        /// The entry that goes too far.
        entry: String,
        /// What there is too much of.
        limit: Limit,
        /// How much may be.
        allowed: u64,
    },
    /// Something that has no place in an image, or reaches out of it.
    #[error("layer {layer}, entry {entry}: {refusal}; build the image without it")]
    Refused {
        /// The layer.
        layer: Digest,
        /// The entry.
        entry: String,
        /// What is wrong with it.
        refusal: Refusal,
    },
    /// A layer that cannot be read although it is what its digest says.
    #[error("layer {layer}, after entry {entry}: {reason}; build the image again")]
    Malformed {
        /// The layer.
        layer: Digest,
        /// The last entry that could be read.
        entry: String,
        /// What is wrong.
        reason: String,
    },
    /// A blob that is not what its digest says any more. It has been removed from the cache.
    #[error("blob {layer} was spoiled on disk (it had digest {got}) and is removed; pull the image again")]
    Spoiled {
        /// The layer.
        layer: Digest,
        /// What it was.
        got: Digest,
    },
    /// A blob that is no longer in the cache.
    #[error("blob {layer} is no longer in the cache; pull the image again")]
    Missing {
        /// The layer.
        layer: Digest,
    },
    /// A root directory that has something in it.
    #[error("{path} is not empty; remove what is in it first", path = path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// The cache or the root directory cannot be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The caller said stop.
    #[error("unpacking was stopped")]
    Stopped,
}

/// What there can be too much of in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Of everything.
    Bytes,
    /// Members.
    Entries,
    /// Of one file.
    FileBytes,
    /// Of a path or the target of a link.
    PathBytes,
    /// Of one name in a path.
    NameBytes,
    /// Directories in each other.
    PathDepth,
    /// Extension records in front of a member.
    ExtensionBytes,
    /// Names of directories that their owner may not write to.
    ClosedDirectoryBytes,
}

/// What has no place in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A name, or a link in it, that leads above the root.
    Escapes,
    /// A name that is empty or contains NUL.
    BadName,
    /// A link to nothing, to a directory as another name for it, or with NUL in it.
    BadLink,
    /// Another name for something that is not there.
    LinkTargetMissing,
    /// More links in one name than can be meant.
    LinkLoop,
    /// A name below something that is not a directory.
    ParentNotDirectory,
    /// A whiteout of a directory by one of its own names.
    BadWhiteout,
    /// A device, a pipe, or a type nobody has heard of.
    Kind(u8),
}

/// What the parts of this module report; [`UnpackError`] adds the layer and the entry.
#[derive(Debug)]
enum Problem {
    Limit(Limit, u64),
    Refused(Refusal),
    Malformed(String),
    Disk(DiskError),
    Stopped,
}

impl UnpackError {
    /// Whether pulling the image and unpacking it again may succeed without anybody changing anything.
    pub fn needs_pull(&self) -> bool {
        matches!(self, Self::Spoiled { .. } | Self::Missing { .. })
    }

    /// Whether the disk or the quota is used up: somebody has to make room first.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Disk(error) if error.is_full())
    }
}

pub(crate) fn unpack(
    cache: &Cache,
    layers: &[Digest],
    rootfs: &Path,
    limits: &UnpackLimits,
    stop: &AtomicBool,
) -> Result<UnpackReport, UnpackError> {
    let mut unpacking = Unpacking {
        tree: Tree::open(rootfs, limits)?,
        limits,
        stop,
        bytes: 0,
        entry: String::new(),
        buffer: vec![0; COPY_BYTES],
    };
    for (position, &layer) in layers.iter().enumerate() {
        if position > 0 {
            unpacking.tree.begin_layer_above();
        }
        unpacking.layer(cache, layer)?;
    }
    Ok(UnpackReport {
        bytes: unpacking.bytes,
        entries: unpacking.tree.finish()?,
    })
}

struct Unpacking<'a> {
    tree: Tree,
    limits: &'a UnpackLimits,
    stop: &'a AtomicBool,
    bytes: u64,
    /// The entry at hand, for errors.
    entry: String,
    buffer: Vec<u8>,
}

impl Unpacking<'_> {
    fn layer(&mut self, cache: &Cache, layer: Digest) -> Result<(), UnpackError> {
        let file = cache.open_blob(layer)?.ok_or(UnpackError::Missing { layer })?;
        let mut blob = Blob::new(file);
        self.entry.clear();
        let path = cache.blob_path(layer);
        let applied = self.apply(&mut blob, &path);
        if matches!(applied, Err(Problem::Disk(_) | Problem::Stopped)) {
            return applied.map_err(|problem| self.error(layer, problem));
        }
        // Whatever is wrong with the entries may be the disk's doing and not the image's.
        let got = blob
            .digest(self.stop)
            .map_err(|error| DiskError::new(path, error))?
            .ok_or(UnpackError::Stopped)?;
        if got != layer {
            cache.remove(layer)?;
            return Err(UnpackError::Spoiled { layer, got });
        }
        applied.map_err(|problem| self.error(layer, problem))
    }

    fn apply(&mut self, blob: &mut Blob, path: &Path) -> Result<(), Problem> {
        let input = blob.decompress().map_err(|error| read_problem(error, path))?;
        let mut members = Members::new(Metered {
            input,
            path,
            used: self.bytes,
            allowed: self.limits.bytes,
            stop: self.stop,
        });
        while let Some(member) = members.next().map_err(|error| members.input().problem(error))? {
            self.entry = shown(&member.name);
            self.tree.count_entry()?;
            self.member(&member, &mut members)?;
        }
        self.bytes = members.input().used;
        Ok(())
    }

    fn member<R: Read>(&mut self, member: &Member, members: &mut Members<Metered<R>>) -> Result<(), Problem> {
        let name = parts(&member.name)?;
        let Some((&last, parents)) = name.split_last() else {
            // The root: its mode is ours to decide.
            return Ok(());
        };
        if last == OPAQUE {
            return self.tree.opaque(parents);
        }
        if last.starts_with(BOOKKEEPING) {
            return Ok(());
        }
        if let Some(hidden) = last.strip_prefix(WHITEOUT) {
            return match hidden {
                b"" | b"." | b".." => Err(Refusal::BadWhiteout.into()),
                hidden => self.tree.whiteout(parents, hidden),
            };
        }
        let mode = member.mode & PERMISSION_BITS;
        match member.kind {
            Kind::Directory => self.tree.directory(&name, mode),
            Kind::Symlink => self.tree.symlink(&name, &member.link),
            Kind::Hardlink => self.tree.hardlink(&name, &parts(&member.link)?),
            Kind::Other(kind) => Err(Refusal::Kind(kind).into()),
            Kind::File => {
                if member.size > self.limits.file_bytes {
                    return Err(Problem::Limit(Limit::FileBytes, self.limits.file_bytes));
                }
                members.input().charge(member.holes())?;
                let file = self.tree.file(&name)?;
                self.fill(file, member, mode, members)
            }
        }
    }

    fn fill<R: Read>(
        &mut self,
        mut file: File,
        member: &Member,
        mode: u32,
        members: &mut Members<Metered<R>>,
    ) -> Result<(), Problem> {
        let disk = |error: io::Error| Problem::Disk(DiskError::new(&self.entry, error));
        let mut end = 0;
        for segment in &member.segments {
            if segment.offset != end {
                file.seek(SeekFrom::Start(segment.offset)).map_err(disk)?;
            }
            end = segment.offset + segment.length;
            let mut left = segment.length;
            while left > 0 {
                let wanted = usize::try_from(left).map_or(COPY_BYTES, |left| left.min(COPY_BYTES));
                let count = members
                    .read(&mut self.buffer[..wanted])
                    .map_err(|error| members.input().problem(error.into()))?;
                file.write_all(&self.buffer[..count]).map_err(disk)?;
                left -= count as u64;
            }
        }
        if end < member.size {
            file.set_len(member.size).map_err(disk)?;
        }
        file.set_permissions(Permissions::from_mode(mode)).map_err(disk)
    }

    fn error(&self, layer: Digest, problem: Problem) -> UnpackError {
        let entry = match self.entry.is_empty() {
            true => "(none)".to_owned(),
            false => self.entry.clone(),
        };
        match problem {
            Problem::Limit(limit, allowed) => UnpackError::Limit {
                layer,
                entry,
                limit,
                allowed,
            },
            Problem::Refused(refusal) => UnpackError::Refused {
                layer,
                entry,
                refusal,
            },
            Problem::Malformed(reason) => UnpackError::Malformed { layer, entry, reason },
            Problem::Disk(error) => UnpackError::Disk(error),
            Problem::Stopped => UnpackError::Stopped,
        }
    }
}

/// A decompressed layer that is counted, and cut off when it has grown too large or the caller says stop.
struct Metered<'a, R> {
    input: R,
    /// Where the layer is, for errors.
    path: &'a Path,
    used: u64,
    allowed: u64,
    stop: &'a AtomicBool,
}

impl<R> Metered<'_, R> {
    /// Counts bytes that are in no stream but in a file.
    fn charge(&mut self, bytes: u64) -> Result<(), Problem> {
        self.used = self.used.saturating_add(bytes);
        match self.used > self.allowed {
            true => Err(Problem::Limit(Limit::Bytes, self.allowed)),
            false => Ok(()),
        }
    }

    /// What is behind an error of the reader above this.
    fn problem(&self, error: MemberError) -> Problem {
        match error {
            MemberError::Format(reason) => Problem::Malformed(reason),
            MemberError::ExtensionBytes { allowed } => Problem::Limit(Limit::ExtensionBytes, allowed),
            MemberError::Read(_) if self.stop.load(Ordering::Relaxed) => Problem::Stopped,
            MemberError::Read(_) if self.used > self.allowed => Problem::Limit(Limit::Bytes, self.allowed),
            MemberError::Read(error) => read_problem(error, self.path),
        }
    }
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("stopped"));
        }
        let count = self.input.read(buffer)?;
        match self.charge(count as u64) {
            Ok(()) => Ok(count),
            Err(_) => Err(io::Error::other("too large")),
        }
    }
}

/// The disk's errors have a number; those of decompression do not.
fn read_problem(error: io::Error, path: &Path) -> Problem {
    match error.raw_os_error() {
        Some(_) => Problem::Disk(DiskError::new(path, error)),
        None => Problem::Malformed(error.to_string()),
    }
}

/// The components of a name. Leading slashes do not count: to a layer, its root is the only one.
fn parts(name: &[u8]) -> Result<Vec<&[u8]>, Refusal> {
    if name.is_empty() || name.contains(&0) {
        return Err(Refusal::BadName);
    }
    let mut parts = Vec::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(Refusal::Escapes),
            part => parts.push(part),
        }
    }
    Ok(parts)
}

fn shown(name: &[u8]) -> String {
    let cut = &name[..name.len().min(SHOWN_NAME_BYTES)];
    format!("{:?}", String::from_utf8_lossy(cut))
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<DiskError> for Problem {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Bytes => "bytes of the unpacked image",
            Self::Entries => "number of entries",
            Self::FileBytes => "bytes of one file",
            Self::PathBytes => "bytes of a path",
            Self::NameBytes => "bytes of a name",
            Self::PathDepth => "depth of directories",
            Self::ExtensionBytes => "bytes of extension records",
            Self::ClosedDirectoryBytes => "bytes of names of read-only directories",
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Escapes => formatter.write_str("it leads out of the image"),
            Self::BadName => formatter.write_str("it has no usable name"),
            Self::BadLink => formatter.write_str("it is a link that cannot be made"),
            Self::LinkTargetMissing => {
                formatter.write_str("it is a hard link to something that is not in the image")
            }
            Self::LinkLoop => formatter.write_str("it goes through too many links"),
            Self::ParentNotDirectory => formatter.write_str("it is below something that is not a directory"),
            Self::BadWhiteout => formatter.write_str("it is a whiteout of nothing that a layer can hide"),
            Self::Kind(b'3' | b'4') => formatter.write_str("it is a device"),
            Self::Kind(b'6') => formatter.write_str("it is a named pipe"),
            Self::Kind(kind) => write!(formatter, "it has the unknown type {:?}", char::from(*kind)),
        }
    }
}
