//! `sandbox-assets.json`: what the actor's sandbox was made with, so that its snapshot says what a
//! restore needs. It survives the emptying of the actor's other directories.
//!
//! The text is that of a manifest, as in the original (compat.md 7.7). Reading and writing block.

use std::io::Write as _;
use std::path::PathBuf;

use holdfast_core::catalog::{AssetFile, SandboxAssets};
use holdfast_core::id::Name;
use holdfast_objects::{Asset, Manifest};
use holdfast_sandbox::layout::ActorDirs;

use super::failure::StepError;

/// The record of a sandbox that is booted from its images.
pub(super) fn of_assets(assets: &SandboxAssets, architecture: &str) -> Manifest {
    let files = assets.assets.get(&Name::from(architecture));
    let asset = |(name, file): (&Name, &AssetFile)| {
        let asset = Asset {
            url: file.url.to_string(),
            sha256: file.sha256.to_string(),
        };
        (name.to_string(), asset)
    };
    Manifest {
        sandbox_class: assets.sandbox_class.to_string(),
        assets: files.into_iter().flatten().map(asset).collect(),
        ..Manifest::default()
    }
}

/// The record of a sandbox that is restored.
pub(super) fn of_manifest(manifest: &Manifest) -> Manifest {
    Manifest {
        sandbox_class: manifest.sandbox_class.clone(),
        assets: manifest.assets.clone(),
        snapshot_files: manifest.snapshot_files.clone(),
        ..Manifest::default()
    }
}

/// Reads the record of the actor's sandbox.
pub(super) fn read(dirs: &ActorDirs) -> Result<Manifest, StepError> {
    let path = path(dirs);
    let text = std::fs::read(&path).map_err(|source| StepError::NoRecord {
        path: path.clone(),
        why: source.to_string(),
    })?;
    Manifest::from_json(&text).map_err(|error| StepError::NoRecord {
        path,
        why: error.to_string(),
    })
}

/// Writes the record of the actor's sandbox: whole or not at all, to stay, readable only for its owner.
pub(super) fn write(dirs: &ActorDirs, record: &Manifest) -> Result<(), StepError> {
    let path = path(dirs);
    let written = tempfile::NamedTempFile::new_in(dirs.root()).and_then(|mut file| {
        file.write_all(&record.to_json())?;
        file.as_file().sync_all()?;
        file.persist(&path).map_err(|error| error.error)
    });
    written.map(drop).map_err(|source| StepError::disk(path, source))
}

fn path(dirs: &ActorDirs) -> PathBuf {
    dirs.root().join("sandbox-assets.json")
}
