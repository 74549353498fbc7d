//! Which runsc this is, and what it can do.
//!
//! A flag that a binary does not know makes every command fail, so each optional one is used only when the
//! binary itself lists it. The version decides only what no flag shows.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use super::command::{RunscError, limit, output};
use crate::reaper::Reaper;

/// The oldest release that restores more than one container into a sandbox.
const OLDEST_USABLE: u32 = 20240501;

/// The newest release that mistakes a network namespace for the machine's own on current kernels.
const LAST_FOOLED_BY_PROC_SYS_NET: u32 = 20240729;

/// Everything optional, with the help page that lists it. `first` is for people: the release that had it.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    Row { feature: Feature::NetDisconnectOk,        page: Page::Global,       flag: "net-disconnect-ok",        first: 20240520 },
    Row { feature: Feature::AllowConnectedOnSave,   page: Page::Global,       flag: "allow-connected-on-save",  first: 20260520 },
    Row { feature: Feature::CheckpointCompression,  page: Page::Checkpoint,   flag: "compression",              first: 20230814 },
    Row { feature: Feature::RestoreBackground,      page: Page::Restore,      flag: "background",               first: 20240930 },
    Row { feature: Feature::RestoreDirect,          page: Page::Restore,      flag: "direct",                   first: 20240501 },
    Row { feature: Feature::FsCheckpoint,           page: Page::FsCheckpoint, flag: "path",                     first: 20260323 },
    Row { feature: Feature::FsRestore,              page: Page::Create,       flag: "fs-restore-image-path",    first: 20260323 },
];

/// Something only some releases can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// A checkpoint resets open connections instead of failing, and killing the sandbox with it.
    NetDisconnectOk,
    /// A checkpoint keeps open connections.
    AllowConnectedOnSave,
    /// The compression of a checkpoint can be chosen.
    CheckpointCompression,
    /// Memory is loaded while the actor runs already.
    RestoreBackground,
    /// Memory is loaded past the page cache.
    RestoreDirect,
    /// A directory can be snapshotted without the memory.
    FsCheckpoint,
    /// Such a directory snapshot can be restored.
    FsRestore,
}

struct Row {
    feature: Feature,
    page: Page,
    flag: &'static str,
    #[cfg_attr(not(test), expect(dead_code, reason = "a note for people, checked by a test"))]
    first: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Page {
    Global,
    Create,
    Checkpoint,
    Restore,
    FsCheckpoint,
}

impl Page {
    const ALL: [Self; 5] = [
        Self::Global,
        Self::Create,
        Self::Checkpoint,
        Self::Restore,
        Self::FsCheckpoint,
    ];

    fn command(self) -> &'static [&'static str] {
        match self {
            Self::Global => &["flags"],
            Self::Create => &["help", "create"],
            Self::Checkpoint => &["help", "checkpoint"],
            Self::Restore => &["help", "restore"],
            Self::FsCheckpoint => &["help", "fscheckpoint"],
        }
    }

    /// What the page of a known subcommand begins with; an unknown one gets the general usage.
    fn heading(self) -> Option<&'static str> {
        self.command().get(1).copied()
    }
}

/// A `runsc` binary and what it can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    path: PathBuf,
    version: u32,
    features: Vec<Feature>,
}

/// Two files of equal identity are the same bytes, as far as anything short of reading them can tell.
type FileIdentity = (u64, u64, u64, i64, i64, i64, i64);

static DETECTED: Mutex<BTreeMap<FileIdentity, Arc<Runtime>>> = Mutex::new(BTreeMap::new());

impl Runtime {
    /// Asks the binary at `path` for its version and flags: six short commands at once, remembered for as
    /// long as the file stays the same.
    pub fn detect(path: &Path, reaper: &'static Reaper) -> Result<Arc<Self>, RunscError> {
        let unusable = |source| RunscError::Binary {
            path: path.to_owned(),
            source,
        };
        let meta = fs::metadata(path).map_err(unusable)?;
        let identity = (
            meta.dev(),
            meta.ino(),
            meta.size(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec(),
        );
        let known = || DETECTED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(runtime) = known().get(&identity) {
            return Ok(runtime.clone());
        }
        let runtime = Arc::new(Self::ask(path, reaper)?);
        known().insert(identity, runtime.clone());
        Ok(runtime)
    }

    /// The file itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Release date, as in `20240729`.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Whether this release has `feature`.
    pub fn has(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }

    /// Whether the directory snapshots of this release can be both made and restored.
    pub fn snapshots_directories(&self) -> bool {
        self.has(Feature::FsCheckpoint) && self.has(Feature::FsRestore)
    }

    /// Whether the command that starts a sandbox in a network namespace must not see `/proc/sys/net`.
    pub fn is_fooled_by_proc_sys_net(&self) -> bool {
        self.version <= LAST_FOOLED_BY_PROC_SYS_NET
    }

    fn ask(path: &Path, reaper: &'static Reaper) -> Result<Self, RunscError> {
        let ask = |args: &[&str]| -> Result<String, RunscError> {
            let mut command = Command::new(path);
            command.args(args).stdin(Stdio::null());
            output(reaper, command, args[0], limit("help"))
        };
        let (version, pages) = std::thread::scope(|scope| {
            let version = scope.spawn(|| ask(&["--version"]));
            let pages = Page::ALL.map(|page| (page, scope.spawn(move || ask(page.command()))));
            let pages = pages.map(
                |(page, thread)| match thread.join().expect("asking does not panic") {
                    // Help for a subcommand that this release does not have.
                    Err(RunscError::Failed { .. }) if page.heading().is_some() => Ok((page, String::new())),
                    answer => answer.map(|text| (page, text)),
                },
            );
            let pages = pages.into_iter().collect::<Result<BTreeMap<_, _>, _>>();
            (version.join().expect("asking does not panic"), pages)
        });
        Self::read(path, &version?, &pages?)
    }

    fn read(path: &Path, version: &str, pages: &BTreeMap<Page, String>) -> Result<Self, RunscError> {
        let version = release_date(version).ok_or_else(|| RunscError::UnknownVersion {
            path: path.to_owned(),
            text: version.lines().next().unwrap_or_default().to_owned(),
        })?;
        if version < OLDEST_USABLE {
            return Err(RunscError::TooOld {
                path: path.to_owned(),
                version,
                oldest: OLDEST_USABLE,
            });
        }
        let has = |row: &&Row| {
            pages
                .get(&row.page)
                .is_some_and(|text| lists(text, row.page, row.flag))
        };
        let features = TABLE.iter().filter(has).map(|row| row.feature).collect();
        Ok(Self {
            path: path.to_owned(),
            version,
            features,
        })
    }
}

/// Eight digits in a row in the first line: `release-20260622.0`, `0.0~20240729.0`.
fn release_date(text: &str) -> Option<u32> {
    let line = text.lines().next()?;
    line.split(|c: char| !c.is_ascii_digit())
        .find(|digits| digits.len() == 8)?
        .parse()
        .ok()
}

/// Whether a help page describes `flag`: a line that begins with `-flag`, and then ends or goes on.
fn lists(page: &str, kind: Page, flag: &str) -> bool {
    kind.heading()
        .is_none_or(|heading| page.trim_start().starts_with(&format!("{heading} ")))
        && page.lines().any(|line| {
            line.trim_start()
                .strip_prefix('-')
                .and_then(|line| line.strip_prefix(flag))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(checkpoint: &str, restore: &str, fscheckpoint: &str) -> BTreeMap<Page, String> {
        BTreeMap::from([
            (
                Page::Global,
                "  -net-disconnect-ok\n    \tpermits saving\n  -network value\n".to_owned(),
            ),
            (
                Page::Create,
                "create [flags] <container id>\n  -bundle string\n".to_owned(),
            ),
            (Page::Checkpoint, checkpoint.to_owned()),
            (Page::Restore, restore.to_owned()),
            (Page::FsCheckpoint, fscheckpoint.to_owned()),
        ])
    }

    #[test]
    fn both_spellings_of_a_version_are_read_and_others_are_not() {
        assert_eq!(
            release_date("runsc version 0.0~20240729.0\nspec: 1.0.2-dev\n"),
            Some(20240729)
        );
        assert_eq!(
            release_date("runsc version release-20260622.0\nspec: 1.1.0\n"),
            Some(20260622)
        );
        assert_eq!(release_date("runsc version VERSION_MISSING\n20240729\n"), None);
        assert_eq!(release_date(""), None);
    }

    #[test]
    fn only_flags_the_binary_lists_are_used() {
        let restore = "restore [flags] <container id>\n  -bundle string\n  -direct\n    \tuse O_DIRECT, not -background\n";
        let usage = "Usage: runsc <flags> <subcommand>\n  -path string\n";
        let checkpoint = "checkpoint [flags] <container id>\n  -compression value\n";
        let runtime = Runtime::read(
            Path::new("r"),
            "runsc version 0.0~20240729.0",
            &pages(checkpoint, restore, usage),
        )
        .unwrap();
        assert_eq!(
            runtime.features,
            [
                Feature::NetDisconnectOk,
                Feature::CheckpointCompression,
                Feature::RestoreDirect
            ]
        );
        assert!(runtime.is_fooled_by_proc_sys_net());
        assert!(
            !runtime.snapshots_directories(),
            "the general usage is not a page of fscheckpoint"
        );
    }

    #[test]
    fn a_release_that_cannot_restore_two_containers_is_refused_by_name() {
        let error = Runtime::read(
            Path::new("/r"),
            "runsc version 0.0~20221219.0",
            &pages("", "", ""),
        )
        .unwrap_err();
        assert!(error.to_string().contains("20221219"), "{error}");
    }

    #[test]
    fn the_table_has_each_feature_once_and_only_dates() {
        for (index, row) in TABLE.iter().enumerate() {
            assert!(TABLE[..index].iter().all(|other| other.feature != row.feature));
            assert!((20220101..20300101).contains(&row.first), "{}", row.flag);
        }
    }
}
