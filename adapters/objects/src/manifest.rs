//! What a snapshot consists of: the JSON beside its files, written last.
//!
//! The first three keys are the original's (compat.md 7.7), so each side restores the other's snapshots. The rest is
//! ours, and the original skips it: sizes and digests of every file, who it belongs to, and a checksum of the text
//! itself, because a flipped bit in a manifest is as bad as one in a memory page.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize};

use crate::digest::Sha256;
use crate::name::FileName;

/// The name of the manifest in a snapshot.
pub const MANIFEST_NAME: &str = "manifest.json";

/// No manifest is longer, in bytes; nothing longer is read.
pub const MAX_MANIFEST_LEN: usize = 1024 * 1024;

/// No snapshot has more files.
pub const MAX_FILES: usize = 1024;

const CHECKSUM_KEY: &str = r#","manifestSha256":""#;
const CHECKSUM_END: &str = r#""}"#;

/// A snapshot's table of contents.
///
/// As a *plan* (what [`Backend::upload`](crate::Backend::upload) and [`LocalSnapshots::save`](crate::LocalSnapshots::save)
/// take) its `files` may be empty, or say what the files must turn out to be. As a *result* it has an entry for each
/// of `snapshot_files`. Manifests of the original have none, and their files can be checked for structure only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// `gvisor`, or whatever class the sandbox was of.
    pub sandbox_class: String,
    /// The programs the sandbox ran with, by name: a restore needs the same ones.
    #[serde(default, deserialize_with = "null_is_default")]
    pub assets: BTreeMap<String, Asset>,
    /// The files, in the order ateom reported them.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub snapshot_files: Vec<FileName>,
    /// What was saved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// What each file holds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<FileName, FileRecord>,
    /// Whose snapshot it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<ActorRecord>,
    /// The operation that took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation_id: Option<String>,
    /// When it was taken, as RFC 3339; for people, never for decisions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
}

/// A program the sandbox ran with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asset {
    /// Where it was fetched from.
    #[serde(default)]
    pub url: String,
    /// Its SHA-256, as text: the asset cache checks it.
    #[serde(default)]
    pub sha256: String,
}

/// How much of an actor a snapshot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Scope {
    /// Memory and files.
    Full,
    /// The durable directories only.
    Data,
}

/// What one file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileRecord {
    /// Logical size in bytes, holes included.
    pub size: u64,
    /// SHA-256 of the logical content, holes read as zeros.
    pub sha256: Sha256,
    /// The object it is stored in; `None` on a node's disk, where the file is kept as it is.
    #[serde(flatten)]
    pub stored: Option<StoredRecord>,
}

impl FileRecord {
    /// Whether both describe the same content, however it is stored.
    pub fn same_content(&self, other: &FileRecord) -> bool {
        (self.size, self.sha256) == (other.size, other.sha256)
    }
}

/// The object that holds one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRecord {
    /// Its size in bytes.
    #[serde(rename = "storedSize")]
    pub size: u64,
    /// SHA-256 of its bytes.
    #[serde(rename = "storedSha256")]
    pub sha256: Sha256,
}

/// Whose snapshot it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActorRecord {
    /// The atespace the actor lives in.
    pub atespace: String,
    /// The actor's name.
    pub id: String,
    /// Which of the actors that had this name.
    pub incarnation: String,
}

/// Bytes that are not a manifest one can restore from.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON, or not of this shape, or with a name that must not become a path.
    #[error("not a snapshot manifest: {0}")]
    Json(#[from] serde_json::Error),
    /// Longer than [`MAX_MANIFEST_LEN`].
    #[error("a manifest of {0} bytes, want at most 1048576")]
    TooLong(u64),
    /// More than [`MAX_FILES`].
    #[error("{0} files, want at most 1024")]
    TooManyFiles(usize),
    /// A file is listed twice.
    #[error("file {0} is listed twice")]
    Duplicate(FileName),
    /// `files` and `snapshotFiles` do not name the same files.
    #[error("snapshotFiles and files disagree about {0}")]
    Disagree(FileName),
    /// The text is not the one that was written.
    #[error("its checksum does not match: the text was altered after it was written")]
    Altered,
}

impl Manifest {
    /// The text to write: JSON, closed by a checksum over everything before it.
    pub fn to_json(&self) -> Vec<u8> {
        let mut text =
            serde_json::to_string(self).expect("maps with text keys, numbers and text always serialise");
        let checksum = Sha256::of(text.as_bytes());
        let closing_brace = text.pop();
        debug_assert_eq!(closing_brace, Some('}'));
        format!("{text}{CHECKSUM_KEY}{checksum}{CHECKSUM_END}").into_bytes()
    }

    /// Reads a manifest, of ours or of the original. Unknown keys are skipped. A manifest with checksums for its
    /// files must carry an intact one for itself.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_MANIFEST_LEN {
            return Err(ManifestError::TooLong(bytes.len() as u64));
        }
        let manifest: Manifest = serde_json::from_slice(bytes)?;
        manifest.check()?;
        let intact = has_intact_checksum(bytes);
        if intact == Some(false) || (intact.is_none() && !manifest.files.is_empty()) {
            return Err(ManifestError::Altered);
        }
        Ok(manifest)
    }

    /// Whether the list of files is one that can be worked through: bounded, without doubles, and, where there are
    /// records, with one for each file.
    pub fn check(&self) -> Result<(), ManifestError> {
        if self.snapshot_files.len() > MAX_FILES {
            return Err(ManifestError::TooManyFiles(self.snapshot_files.len()));
        }
        let mut listed = BTreeSet::new();
        if let Some(double) = self.snapshot_files.iter().find(|name| !listed.insert(*name)) {
            return Err(ManifestError::Duplicate(double.clone()));
        }
        if self.files.is_empty() {
            return Ok(());
        }
        let unrecorded = self
            .snapshot_files
            .iter()
            .find(|name| !self.files.contains_key(name));
        let unlisted = self.files.keys().find(|name| !listed.contains(name));
        match unrecorded.or(unlisted) {
            Some(name) => Err(ManifestError::Disagree(name.clone())),
            None => Ok(()),
        }
    }
}

/// `None` when the text ends in no checksum at all, as the original's do.
fn has_intact_checksum(bytes: &[u8]) -> Option<bool> {
    let body_len = bytes
        .len()
        .checked_sub(CHECKSUM_KEY.len() + 64 + CHECKSUM_END.len())?;
    let (body, tail) = bytes.split_at(body_len);
    let recorded = tail
        .strip_prefix(CHECKSUM_KEY.as_bytes())?
        .strip_suffix(CHECKSUM_END.as_bytes())?;
    Some(Sha256::of(&[body, b"}"].concat()).to_string().as_bytes() == recorded)
}

fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Manifest {
        let record = FileRecord {
            size: 7,
            sha256: Sha256::of(b"content"),
            stored: Some(StoredRecord {
                size: 40,
                sha256: Sha256::of(b"stored"),
            }),
        };
        let name: FileName = "checkpoint.img".parse().expect("name");
        Manifest {
            sandbox_class: "gvisor".into(),
            assets: BTreeMap::from([(
                "runsc".into(),
                Asset {
                    url: "gs://b/runsc".into(),
                    sha256: "00".into(),
                },
            )]),
            snapshot_files: vec![name.clone()],
            scope: Some(Scope::Full),
            files: BTreeMap::from([(name, record)]),
            actor: Some(ActorRecord {
                atespace: "s".into(),
                id: "a1".into(),
                incarnation: "4".into(),
            }),
            operation_id: Some("op-1".into()),
            created_at: Some("2026-06-30T12:00:00Z".into()),
        }
    }

    #[test]
    fn a_manifest_of_the_original_reads_and_keeps_its_order() {
        let text = br#"{"sandboxClass":"gvisor","assets":{"runsc":{"url":"gs://x/y","sha256":"ab"}},
            "snapshotFiles":["pages.img","checkpoint.img"],"someDay":{"a":1}}"#;
        let manifest = Manifest::from_json(text).expect("reads");
        assert_eq!(manifest.sandbox_class, "gvisor");
        assert_eq!(manifest.assets["runsc"].url, "gs://x/y");
        let names: Vec<_> = manifest.snapshot_files.iter().map(FileName::as_str).collect();
        assert_eq!(names, ["pages.img", "checkpoint.img"]);
        assert!(manifest.files.is_empty());
        let nulls = br#"{"sandboxClass":"gvisor","assets":null,"snapshotFiles":null}"#;
        assert!(
            Manifest::from_json(nulls)
                .expect("reads")
                .snapshot_files
                .is_empty()
        );
    }

    #[test]
    fn the_written_form_is_the_documented_one() {
        let text = String::from_utf8(full().to_json()).expect("text");
        let (body, _) = text.split_once(CHECKSUM_KEY).expect("a checksum");
        let content = Sha256::of(b"content");
        let stored = Sha256::of(b"stored");
        assert_eq!(
            body,
            format!(
                r#"{{"sandboxClass":"gvisor","assets":{{"runsc":{{"url":"gs://b/runsc","sha256":"00"}}}},"snapshotFiles":["checkpoint.img"],"scope":"FULL","files":{{"checkpoint.img":{{"size":7,"sha256":"{content}","storedSize":40,"storedSha256":"{stored}"}}}},"actor":{{"atespace":"s","id":"a1","incarnation":"4"}},"operationId":"op-1","createdAt":"2026-06-30T12:00:00Z""#
            )
        );
        assert_eq!(Manifest::from_json(text.as_bytes()).expect("reads"), full());
    }

    #[test]
    fn a_file_without_an_object_has_no_stored_keys() {
        let mut manifest = full();
        let record = manifest.files.values_mut().next().expect("one file");
        record.stored = None;
        let text = manifest.to_json();
        assert!(!String::from_utf8_lossy(&text).contains("stored"));
        assert_eq!(Manifest::from_json(&text).expect("reads"), manifest);
    }

    /// S26, for the manifest itself.
    #[test]
    fn no_flipped_bit_of_a_manifest_goes_unseen() {
        let text = full().to_json();
        for bit in 0..text.len() * 8 {
            let mut altered = text.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert!(
                Manifest::from_json(&altered).is_err(),
                "bit {bit} of {}",
                String::from_utf8_lossy(&altered)
            );
        }
        for len in 0..text.len() {
            assert!(Manifest::from_json(&text[..len]).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn lists_that_cannot_be_worked_through_are_refused() {
        let refused = |text: &str| Manifest::from_json(text.as_bytes()).expect_err(text).to_string();
        assert!(
            refused(r#"{"sandboxClass":"g","snapshotFiles":["../x"]}"#)
                .contains("invalid snapshot file name")
        );
        assert!(refused(r#"{"sandboxClass":"g","snapshotFiles":["a","a"]}"#).contains("listed twice"));
        let mut missing = full();
        missing.snapshot_files.push("pages.img".parse().expect("name"));
        assert!(refused(&String::from_utf8_lossy(&missing.to_json())).contains("disagree about pages.img"));
        let mut extra = full();
        extra.snapshot_files.clear();
        assert!(
            refused(&String::from_utf8_lossy(&extra.to_json())).contains("disagree about checkpoint.img")
        );
        let names: Vec<_> = (0..=MAX_FILES).map(|n| format!("\"f{n}\"")).collect();
        let many = format!(r#"{{"sandboxClass":"g","snapshotFiles":[{}]}}"#, names.join(","));
        assert!(refused(&many).contains("1025 files"));
        assert!(refused(&" ".repeat(MAX_MANIFEST_LEN + 1)).contains("want at most"));
    }
}
