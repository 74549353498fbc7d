//! The programs that run inside actors, linked statically so that an image needs nothing else.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Result, anyhow, ensure};

/// A program of `tests/workloads`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// Holds a sandbox open and does nothing.
    Pause,
    /// The HTTP counter.
    Counter,
}

impl Workload {
    /// The name of the program.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Counter => "counter",
        }
    }

    /// The static binary, built for this machine's architecture if it has not been.
    pub fn build(self) -> Result<PathBuf> {
        static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        let directory = BUILT.get_or_init(|| build_all().map_err(|error| format!("{error:#}")));
        let directory = directory
            .as_ref()
            .map_err(|error| anyhow!("build the workloads: {error}"))?;
        Ok(directory.join(self.name()))
    }
}

/// Builds in a target directory of its own: the flags differ from everybody else's, and the lock of the
/// shared one may be held by the very command that runs this test.
fn build_all() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let target = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let directory = root.join("target/workloads");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build
        .current_dir(&root)
        .args([
            "build",
            "--quiet",
            "--release",
            "--package",
            "holdfast-workloads",
            "--target",
            &target,
        ])
        .args(["--config", "profile.release.strip=true", "--target-dir"])
        .arg(&directory)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .stdin(Stdio::null());
    let output = build.output()?;
    ensure!(
        output.status.success(),
        "{build:?}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(directory.join(target).join("release"))
}
