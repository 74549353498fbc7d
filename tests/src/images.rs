//! Images of the programs in `tests/workloads`, in an OCI image layout on disk.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use holdfast_images::{LayoutWriter, Platform, Reference};

use crate::registry::Registry;
use crate::workloads::Workload;

/// Directories that a sandbox mounts something on, or that programs expect.
const DIRECTORIES: [(&str, u32); 6] = [
    ("dev", 0o755),
    ("etc", 0o755),
    ("proc", 0o755),
    ("run", 0o755),
    ("sys", 0o755),
    ("tmp", 0o1777),
];

/// What makes an image large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ballast {
    /// Bytes that do not compress: as many cross the network. Another seed is another image.
    Noise {
        /// Decides the bytes.
        seed: u64,
    },
    /// Bytes that compress to almost nothing: large only when unpacked.
    Zeros,
}

/// Images in one layout, each under the tag of its name and pinned to its digest.
#[derive(Debug, Clone)]
pub struct Images {
    layout: PathBuf,
    /// Does nothing; `/pause` holds a sandbox open.
    pub pause: Reference,
    /// The HTTP counter, to be run as `/counter`.
    pub counter: Reference,
}

impl Images {
    /// Builds the programs, and writes their images into this directory.
    pub fn build(layout: &Path) -> Result<Self> {
        let pause = program(Workload::Pause)?.write(layout, "pause")?;
        let counter = program(Workload::Counter)?.write(layout, "counter")?;
        Ok(Self {
            layout: layout.to_owned(),
            pause,
            counter,
        })
    }

    /// The directory of the layout.
    pub fn layout(&self) -> &Path {
        &self.layout
    }

    /// Adds an image of the counter with so many bytes of ballast in a file beside it.
    pub fn add_large(&self, tag: &str, bytes: u64, ballast: Ballast) -> Result<Reference> {
        let file = tempfile::NamedTempFile::new_in(&self.layout)?;
        match ballast {
            // A hole in a file costs no disk.
            Ballast::Zeros => file.as_file().set_len(bytes)?,
            Ballast::Noise { seed } => write_noise(file.as_file(), bytes, seed)?,
        }
        let image = program(Workload::Counter)?.copy("ballast", file.path(), 0o644);
        Ok(image.write(&self.layout, tag)?)
    }

    /// The same image, to be pulled from `registry`, which serves this layout.
    pub fn served_by(&self, registry: &Registry, image: &Reference) -> Result<Reference> {
        let tag = image.tag().context("an image of a layout has a tag")?;
        let digest = image.digest().context("an image of a layout has a digest")?;
        Ok(format!("{}/holdfast/{tag}:{tag}@{digest}", registry.authority()).parse()?)
    }
}

/// An image of one program at the root, such as `/counter`, and nothing else but empty directories.
fn program(workload: Workload) -> Result<LayoutWriter> {
    let empty = DIRECTORIES
        .iter()
        .fold(LayoutWriter::new(Platform::host()), |image, (path, mode)| {
            image.directory(path, *mode)
        });
    Ok(empty.copy(workload.name(), workload.build()?, 0o755))
}

/// SplitMix64: the same seed, the same bytes.
fn write_noise(file: &File, bytes: u64, seed: u64) -> Result<()> {
    let mut file = BufWriter::new(file);
    let mut state = seed;
    let mut left = bytes;
    while left > 0 {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^= word >> 31;
        let length = left.min(8);
        file.write_all(&word.to_le_bytes()[..length as usize])?;
        left -= length;
    }
    Ok(file.flush()?)
}
