//! What actors run in on this machine.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use holdfast_worker::flags::Sandbox;

use super::SandboxChoice;

/// Finds out what actors run in.
///
/// # Errors
/// If gVisor is asked for and cannot be had, with what to do about it.
pub fn choose(choice: SandboxChoice) -> Result<Sandbox> {
    let gvisor = match choice {
        SandboxChoice::Process => return Ok(warned()),
        SandboxChoice::Runsc | SandboxChoice::Auto => usable_runsc(),
    };
    match (gvisor, choice) {
        (Ok(_), _) => Ok(Sandbox::Gvisor),
        (Err(why), SandboxChoice::Runsc) => {
            Err(why.context("install a runsc of 2024-05-01 or later, or take --sandbox process"))
        }
        (Err(why), _) => {
            eprintln!("gVisor cannot be used here: {why:#}");
            Ok(warned())
        }
    }
}

/// The first release that restores actors of several containers, pause and application.
const FIRST_USABLE: u32 = 20_240_501;

fn usable_runsc() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").context("PATH is not set")?;
    let file = std::env::split_paths(&path)
        .map(|dir| dir.join("runsc"))
        .find(|file| file.is_file())
        .context("there is no runsc on the PATH")?;
    let output = Command::new(&file)
        .arg("--version")
        .output()
        .with_context(|| file.display().to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let released =
        release_date(&text).with_context(|| format!("{} does not tell its version", file.display()))?;
    if released < FIRST_USABLE {
        bail!(
            "{} is of {released} and cannot restore actors of several containers",
            file.display()
        );
    }
    Ok(file)
}

/// The eight digits of a release in `runsc version 0.0~20240729.0` or `release-20260622.0`.
fn release_date(version: &str) -> Option<u32> {
    let digits = version
        .split(|c: char| !c.is_ascii_digit())
        .find(|part| part.len() == 8)?;
    digits.parse().ok()
}

fn warned() -> Sandbox {
    eprintln!("WARNING: actors run as plain processes, WITHOUT ISOLATION from this machine and each other;");
    eprintln!(
        "         only templates whose snapshots hold data directories (onPause and onCommit: Data) work"
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
    }
}
