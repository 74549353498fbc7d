//! What an interrupted upload has finished, kept beside the files themselves, so that the next attempt goes on.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::SnapshotUri;
use crate::content::Version;
use crate::digest::Sha256;
use crate::dir::Dir;
use crate::manifest::FileRecord;
use crate::name::FileName;

const NAME: &str = ".upload.json";
/// Notes of the largest upload that there can be are shorter.
const MAX_BYTES: u64 = 16 << 20;

/// The uploads of one directory to one place.
///
/// A hint, never a proof: an entry counts only for a file that was not touched since, and only when the store still
/// has an object of the recorded size. So a ledger that is lost, stale or damaged costs an upload, and nothing else.
#[derive(Serialize, Deserialize)]
pub(crate) struct Ledger {
    uri: String,
    done: BTreeMap<FileName, Entry>,
    /// Files of which a part has been sent.
    #[serde(default)]
    open: BTreeMap<FileName, Open>,
}

/// An upload in parts that has not come to its end.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Open {
    pub version: Version,
    /// What the store calls it.
    pub upload: String,
    /// What has been sent, from the first part on.
    pub parts: Vec<SentPart>,
}

/// A part that the store has.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct SentPart {
    /// The digest of all stored bytes up to its end.
    pub prefix: Sha256,
    /// What the store calls it.
    pub id: String,
}

/// Uploads of one directory that have not come to their end.
#[derive(Debug)]
pub struct Unfinished {
    pub(crate) uri: SnapshotUri,
    pub(crate) uploads: Vec<(FileName, String)>,
}

impl Unfinished {
    /// What is noted beside the files in `dir`. For whoever is about to remove them. Blocks.
    pub fn beside(dir: &Path) -> Option<Self> {
        let ledger = read(&Dir::open(dir).ok()?)?;
        let uploads: Vec<_> = ledger
            .open
            .into_iter()
            .map(|(name, open)| (name, open.upload))
            .collect();
        let uri = ledger.uri.parse().ok()?;
        (!uploads.is_empty()).then_some(Self { uri, uploads })
    }
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
                open: BTreeMap::new(),
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

    /// The unfinished upload of this very file.
    pub(crate) fn find_open(&self, name: &FileName, version: Version) -> Option<Open> {
        self.open
            .get(name)
            .filter(|open| open.version == version)
            .cloned()
    }

    /// Notes how far an upload has come; none: that there is none any more.
    pub(crate) fn note_open(&mut self, dir: &Dir, name: &FileName, open: Option<Open>) {
        let is_news = match open {
            Some(open) => {
                self.open.insert(name.clone(), open);
                true
            }
            None => self.open.remove(name).is_some(),
        };
        if is_news && let Err(error) = self.save(dir) {
            tracing::debug!(uri = self.uri, %error, "cannot note how far an upload has come; a repeated one would start over");
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
        .take(MAX_BYTES)
        .read_to_end(&mut text)
        .ok()?;
    serde_json::from_slice(&text).ok()
}
