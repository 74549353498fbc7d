//! What the shape of the workspace promises, checked: who may depend on whom, what the core may not do,
//! what a file may be called. Each rule has a test that it can fail.

mod code;
mod core_purity;
mod counts;
mod dependencies;
mod files;
mod simulation;

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file of the repository as it would be committed.
struct Source {
    /// Relative to the root of the workspace.
    path: String,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every text file that is committed or would be by `git add`.
fn sources() -> Vec<Source> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git is needed to know which files are the repository's");
    assert!(
        output.status.success(),
        "git ls-files: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let paths = String::from_utf8(output.stdout).expect("paths are UTF-8");
    let sources: Vec<_> = paths
        .split_terminator('\0')
        // A deleted file may still be listed, and a binary one has no text.
        .filter_map(|path| {
            Some(Source {
                path: path.to_owned(),
                text: std::fs::read_to_string(root().join(path)).ok()?,
            })
        })
        .collect();
    assert!(sources.len() > 50, "only {} files were found", sources.len());
    sources
}

fn rust_sources() -> Vec<Source> {
    sources()
        .into_iter()
        .filter(|source| source.path.ends_with(".rs"))
        .collect()
}

/// Fails with every violation at once.
#[track_caller]
fn assert_none(rule: &str, violations: &[String]) {
    assert!(violations.is_empty(), "{rule}:\n  {}", violations.join("\n  "));
}
