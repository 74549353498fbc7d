//! gVisor's `runsc`, recent enough to checkpoint and restore more than one container in a sandbox.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::{apt, find, install as install_packages, sources, update};
use crate::say;

/// Release date of the first `runsc` that Debian has and that restores several containers.
const OLDEST: u32 = 20_240_729;
const SOURCE: &str = "/etc/apt/sources.list.d/holdfast-backports.sources";

/// Whether a recent enough `runsc` is installed; says which one is.
pub fn is_present() -> bool {
    let Some(path) = find("runsc") else {
        say::warn("runsc is missing (for gVisor sandboxes)");
        return false;
    };
    let answer = crate::step::Step::new(&path).args(["--version"]).answer();
    match answer.as_deref().and_then(release_date) {
        Some(date) if date >= OLDEST => {
            say::ok(&format!("runsc {date} ({})", path.display()));
            true
        }
        Some(date) => {
            say::warn(&format!(
                "runsc {date} ({}) is older than {OLDEST}",
                path.display()
            ));
            false
        }
        None => {
            say::warn(&format!("runsc ({}) does not tell its version", path.display()));
            false
        }
    }
}

/// Installs the newest `runsc` that the machine's package sources have, with the backports suite of its
/// release added to them if need be. If there is none, says what that means.
pub fn install() -> Result<()> {
    if newest().is_none()
        && let Some(source) = backports_source()?
    {
        fs::write(SOURCE, source).with_context(|| SOURCE.to_owned())?;
        say::ok(&format!("added the backports of this release ({SOURCE})"));
        update();
    }
    match newest() {
        Some(version) => install_packages(&[&format!("runsc={version}")]),
        None => {
            explain_fallback();
            Ok(())
        }
    }
}

/// Says which commands would install it.
pub fn explain() -> Result<()> {
    if newest().is_none() {
        let Some(source) = backports_source()? else {
            explain_fallback();
            return Ok(());
        };
        say::command(&format!("sudo tee {SOURCE} <<'END'\n{source}END"));
        say::command("sudo apt-get update");
    }
    let suite = codename().map_or(String::new(), |name| format!(" -t {name}-backports"));
    say::command(&format!("sudo apt-get install -y{suite} runsc"));
    Ok(())
}

/// Says how Holdfast does without it.
pub fn explain_fallback() {
    say::warn(&format!(
        "no runsc of {OLDEST} or later is to be had from this machine's package sources: actors will run in the \
         `process` sandbox, which isolates nothing and saves their data directories, not their memory"
    ));
}

/// The newest version among the package sources, if it is recent enough.
fn newest() -> Option<String> {
    newest_of(&apt("apt-cache").args(["madison", "runsc"]).answer()?)
}

/// From lines such as `runsc | 0.0~20240729.0-4~bpo12+2 | http://… Packages`.
fn newest_of(madison: &str) -> Option<String> {
    let versions = madison
        .lines()
        .filter_map(|line| line.split('|').nth(1))
        .map(str::trim);
    let dated = versions.filter_map(|version| Some((release_date(version)?, version)));
    let (date, version) = dated.max()?;
    (date >= OLDEST).then(|| version.to_owned())
}

fn backports_source() -> Result<Option<String>> {
    let Some(codename) = codename() else {
        return Ok(None);
    };
    let sources = sources::read(Path::new("/etc/apt"))?;
    Ok(sources::with_suite(
        &sources,
        &codename,
        &format!("{codename}-backports"),
    ))
}

/// The name of the Debian release; `None` elsewhere: other systems' backports are arranged otherwise.
fn codename() -> Option<String> {
    let release = fs::read_to_string("/etc/os-release").ok()?;
    let value = |key: &str| {
        let line = release
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        Some(line.trim_matches('"').to_owned())
    };
    (value("ID")? == "debian")
        .then(|| value("VERSION_CODENAME"))
        .flatten()
}

/// The eight digits that every version of gVisor has in it.
fn release_date(version: &str) -> Option<u32> {
    let numbers = version.split(|c: char| !c.is_ascii_digit());
    numbers
        .filter(|digits| digits.len() == 8)
        .find_map(|digits| digits.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_debian_and_of_gvisor_are_dated() {
        assert_eq!(
            release_date("runsc version 0.0~20240729.0\nspec: 1.0.2-dev\n"),
            Some(20_240_729)
        );
        assert_eq!(
            release_date("runsc version release-20260622.0\n"),
            Some(20_260_622)
        );
        assert_eq!(release_date("runsc version VERSION_MISSING\n"), None);
    }

    #[test]
    fn the_newest_version_is_taken_if_it_is_new_enough() {
        let old = " runsc | 0.0~20221219.0-1+b4 | mirror bookworm/main amd64 Packages\n";
        let new = " runsc | 0.0~20240729.0-4~bpo12+2 | mirror bookworm-backports/main amd64 Packages\n";
        assert_eq!(
            newest_of(&format!("{old}{new}")).as_deref(),
            Some("0.0~20240729.0-4~bpo12+2")
        );
        assert_eq!(newest_of(old), None);
        assert_eq!(newest_of(""), None);
    }
}
