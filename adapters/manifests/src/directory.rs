//! The files of a directory, as they are at one moment.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Fault, ManifestError, Place, Position};

/// The biggest file that is read. The API server takes objects of 1.5 MB.
const MAX_FILE_BYTES: usize = 4 << 20;
/// The most files that are read.
const MAX_FILES: usize = 1000;
/// The most that is read of all files together.
const MAX_TOTAL_BYTES: usize = 64 << 20;

/// The manifests of a directory.
pub(crate) struct Files {
    contents: BTreeMap<PathBuf, Vec<u8>>,
    unreadable: Vec<ManifestError>,
}

impl Files {
    /// What cannot be read is kept as a fault, and is part of what the digest covers.
    pub(crate) fn read(dir: &Path) -> Files {
        let mut files = Files {
            contents: BTreeMap::new(),
            unreadable: Vec::new(),
        };
        match manifest_paths(dir) {
            Ok(paths) if paths.len() > MAX_FILES => {
                let fault = Fault::TooBig {
                    what: "the number of manifests",
                    limit: MAX_FILES,
                };
                files.unreadable.push(of_file(dir, None, fault));
            }
            Ok(paths) => files.add_all(dir, paths),
            Err(error) => files.unreadable.push(of_file(dir, None, error.into())),
        }
        files
    }

    /// The same digest means the same files with the same contents.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut add = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        for (path, content) in &self.contents {
            add(path.as_os_str().as_encoded_bytes());
            add(content);
        }
        for fault in &self.unreadable {
            add(fault.to_string().as_bytes());
        }
        hash.finalize().into()
    }

    /// The text of each file, in the order of their paths, and what could not be read.
    pub(crate) fn into_texts(self) -> (Vec<(PathBuf, String)>, Vec<ManifestError>) {
        let mut texts = Vec::new();
        let mut faults = self.unreadable;
        for (path, content) in self.contents {
            match String::from_utf8(content) {
                Ok(text) => texts.push((path, text)),
                Err(not_text) => faults.push(not_utf8(&path, &not_text)),
            }
        }
        (texts, faults)
    }

    fn add_all(&mut self, dir: &Path, paths: Vec<PathBuf>) {
        let mut total = 0;
        for path in paths {
            match read_file(&path) {
                Ok(content) => {
                    total += content.len();
                    self.contents.insert(path, content);
                }
                Err(fault) => self.unreadable.push(of_file(&path, None, fault)),
            }
            if total > MAX_TOTAL_BYTES {
                let fault = Fault::TooBig {
                    what: "the size of all manifests in bytes",
                    limit: MAX_TOTAL_BYTES,
                };
                return self.unreadable.push(of_file(dir, None, fault));
            }
        }
    }
}

fn of_file(path: &Path, position: Option<Position>, fault: Fault) -> ManifestError {
    let place = Place {
        file: path.to_owned(),
        position,
    };
    ManifestError {
        place,
        object: String::new(),
        field: String::new(),
        value: None,
        fault,
    }
}

fn not_utf8(path: &Path, error: &std::string::FromUtf8Error) -> ManifestError {
    let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
    let good = String::from_utf8_lossy(good);
    let line_start = good.rfind('\n').map_or(0, |newline| newline + 1);
    let position = Position {
        line: good.matches('\n').count() + 1,
        column: good[line_start..].chars().count() + 1,
    };
    of_file(
        path,
        Some(position),
        Fault::Syntax("not UTF-8 text; save the file as UTF-8".to_owned()),
    )
}

fn manifest_paths(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let is_manifest = path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml");
        // Editors keep their own files beside the one that is edited, under hidden names.
        let is_hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if is_manifest && !is_hidden && !path.is_dir() {
            paths.push(path);
        }
    }
    Ok(paths)
}

fn read_file(path: &Path) -> Result<Vec<u8>, Fault> {
    // Opening a FIFO would wait for its writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file").into());
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?
        .take(MAX_FILE_BYTES as u64 + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(Fault::TooBig {
            what: "the size in bytes",
            limit: MAX_FILE_BYTES,
        });
    }
    Ok(bytes)
}
