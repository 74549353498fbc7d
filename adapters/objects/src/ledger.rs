//! What an interrupted upload has finished, kept beside the files themselves, so that the next attempt goes on.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};

use serde::{Deserialize, Serialize};

use crate::SnapshotUri;
use crate::content::Version;
use crate::dir::Dir;
use crate::manifest::{FileRecord, MAX_MANIFEST_LEN};
use crate::name::FileName;

const NAME: &str = ".upload.json";

/// The uploads of one directory to one place.
///
/// A hint, never a proof: an entry counts only for a file that was not touched since, and only when the store still
/// has an object of the recorded size. So a ledger that is lost, stale or damaged costs an upload, and nothing else.
#[derive(Serialize, Deserialize)]
pub(crate) struct Ledger {
    uri: String,
    done: BTreeMap<FileName, Entry>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Entry {
    version: Version,
    record: FileRecord,
}

impl Ledger {
    /// What is known about uploads of `dir` to `uri`.
    pub(crate) fn load(dir: &Dir, uri: &SnapshotUri) -> Self {
        let uri = uri.to_string();
        match read(dir) {
            Some(ledger) if ledger.uri == uri => ledger,
            _ => Self {
                uri,
                done: BTreeMap::new(),
            },
        }
    }

    /// The record of a finished upload of this very file.
    pub(crate) fn find(&self, name: &FileName, file: &File) -> Option<FileRecord> {
        let entry = self.done.get(name)?;
        (Version::of(file).ok()? == entry.version).then_some(entry.record)
    }

    /// Notes a finished upload.
    pub(crate) fn add(&mut self, dir: &Dir, name: FileName, record: FileRecord) {
        let noted = dir
            .open_file(name.as_str())
            .and_then(|file| Version::of(&file))
            .and_then(|version| {
                self.done.insert(name, Entry { version, record });
                self.save(dir)
            });
        if let Err(error) = noted {
            tracing::debug!(uri = self.uri, %error, "cannot note a finished upload; a repeated one would start over");
        }
    }

    /// Forgets all: the snapshot is complete.
    pub(crate) fn remove(dir: &Dir) {
        if let Err(error) = dir.remove(NAME) {
            tracing::debug!(%error, "cannot remove the notes of a finished upload");
        }
    }

    fn save(&self, dir: &Dir) -> io::Result<()> {
        let mut temp = dir.create_temp(NAME)?;
        temp.file.write_all(&serde_json::to_vec(self)?)?;
        temp.publish()
    }
}

fn read(dir: &Dir) -> Option<Ledger> {
    let mut text = Vec::new();
    dir.open_file(NAME)
        .ok()?
        .take(MAX_MANIFEST_LEN as u64)
        .read_to_end(&mut text)
        .ok()?;
    serde_json::from_slice(&text).ok()
}
