//! What actors run in on this machine.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use holdfast_runtime::causes;
use holdfast_runtime::terminal::tell;
use holdfast_worker::flags::Sandbox;

use super::SandboxChoice;

/// Finds out what actors run in where nobody has said which runsc to use.
///
/// # Errors
/// If gVisor is asked for and cannot be had, with what to do about it.
pub fn choose(choice: SandboxChoice) -> Result<Sandbox> {
    let gvisor = match choice {
        SandboxChoice::Process => return Ok(warned()),
        SandboxChoice::Runsc | SandboxChoice::Auto => on_the_path().and_then(|file| usable(&file)),
    };
    match (gvisor, choice) {
        (Ok(()), _) => Ok(Sandbox::Gvisor),
        (Err(why), SandboxChoice::Runsc) => {
            Err(why.context("install a runsc of 2024-05-01 or later, or take --sandbox process"))
        }
        (Err(why), _) => {
            tell(format_args!(
                "gVisor cannot be used here: {}",
                causes::told(why.as_ref())
            ));
            Ok(warned())
        }
    }
}

/// The runsc that somebody has named, by its absolute path.
///
/// # Errors
/// If it cannot be used, with what to do about it.
pub fn given(file: &Path) -> Result<PathBuf> {
    usable(file).context("name an installed runsc of 2024-05-01 or later, or leave it out")?;
    Ok(std::path::absolute(file)?)
}

/// The first release that restores actors of several containers, pause and application.
const FIRST_USABLE: u32 = 20_240_501;

fn on_the_path() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").context("PATH is not set")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join("runsc"))
        .find(|file| file.is_file())
        .context("there is no runsc on the PATH")
}

fn usable(file: &Path) -> Result<()> {
    let shown = file.display();
    let metadata = file.metadata().with_context(|| shown.to_string())?;
    ensure!(metadata.is_file(), "{shown} is not a file");
    ensure!(
        metadata.permissions().mode() & 0o111 != 0,
        "{shown} is not executable"
    );
    let output = Command::new(std::path::absolute(file)?)
        .arg("--version")
        .output()
        .with_context(|| shown.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let released = release_date(&text)
        .filter(|_| output.status.success())
        .with_context(|| format!("{shown} does not tell the version of a runsc"))?;
    if released < FIRST_USABLE {
        bail!("{shown} is of {released} and cannot restore actors of several containers");
    }
    Ok(())
}

/// The eight digits of a release in `runsc version 0.0~20240729.0` or `release-20260622.0`.
fn release_date(version: &str) -> Option<u32> {
    let digits = version
        .lines()
        .find(|line| line.contains("runsc") || line.contains("release"))?
        .split(|c: char| !c.is_ascii_digit())
        .find(|part| part.len() == 8)?;
    digits.parse().ok()
}

fn warned() -> Sandbox {
    tell(
        "WARNING: actors run as plain processes, WITHOUT ISOLATION from this machine and each other;\n         \
         only templates whose snapshots hold data directories (onPause and onCommit: Data) work",
    );
    Sandbox::Process
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_known_by_their_date() {
        assert_eq!(
            release_date("runsc version 0.0~20240729.0\nspec: 1.0.2-dev"),
            Some(20_240_729)
        );
        assert_eq!(release_date("runsc version release-20260622.0"), Some(20_260_622));
        assert_eq!(release_date("runsc version unknown"), None);
        assert_eq!(release_date("GNU tool of 20250101"), None);
    }
}
