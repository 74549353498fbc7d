//! Proof that nothing was left on the host: processes, mounts, network namespaces, links, firewall tables.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::wait;

/// What the host looked like when the watch began.
#[derive(Debug)]
pub struct Watch {
    markers: Vec<String>,
    before: Things,
}

/// Descriptions of things, and how many there are of each (mounts may lie on one another).
type Things = BTreeMap<String, usize>;

impl Watch {
    /// Begins a watch over everything whose description contains one of `markers`, such as the directory of
    /// a test or the id of a worker; over everything at all when there are none.
    ///
    /// Tests run side by side, so only a watch with markers can tell whose leftovers it sees.
    pub fn begin(markers: &[&str]) -> Result<Self> {
        let markers: Vec<_> = markers.iter().map(|&marker| marker.to_owned()).collect();
        Ok(Self {
            before: things(&markers)?,
            markers,
        })
    }

    /// A watch over what must all be gone in the end: everything whose description contains one of `markers`, of
    /// which there is at least one.
    pub fn until_gone(markers: Vec<String>) -> Self {
        assert!(!markers.is_empty(), "a whole machine is never empty");
        Self {
            markers,
            before: Things::new(),
        }
    }

    /// What is there now and was not there before, each described by its kind and name.
    pub fn leaked(&self) -> Result<Vec<String>> {
        let mut now = things(&self.markers)?;
        now.retain(|thing, count| *count > self.before.get(thing).copied().unwrap_or(0));
        Ok(now.into_keys().collect())
    }

    /// Waits until nothing is left: teardown may still be on its way. Fails with the list of what stays.
    pub fn verify(&self, within: Duration) -> Result<()> {
        let mut leaked = Vec::new();
        let gone = wait::until("the host to be as it was", within, || {
            leaked = self.leaked()?;
            Ok(leaked.is_empty().then_some(()))
        });
        gone.with_context(|| format!("left behind:\n  {}", leaked.join("\n  ")))
    }
}

fn things(markers: &[String]) -> Result<Things> {
    let mut all = Vec::new();
    processes(&mut all)?;
    mounts(&mut all)?;
    names_in("network namespace", Path::new("/run/netns"), &mut all)?;
    names_in("link", Path::new("/sys/class/net"), &mut all)?;
    firewall_tables(&mut all)?;
    let mut things = Things::new();
    for thing in all {
        if markers.is_empty() || markers.iter().any(|marker| thing.contains(marker)) {
            *things.entry(thing).or_default() += 1;
        }
    }
    Ok(things)
}

/// Every process but kernel threads and zombies, which have no command line.
fn processes(things: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // A process may end while the list is read.
        let Ok(command_line) = fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        let words: Vec<_> = command_line
            .split(|&byte| byte == 0)
            .map(String::from_utf8_lossy)
            .collect();
        let command_line = words.join(" ");
        if !command_line.is_empty() {
            things.push(format!("process {id}: {}", command_line.trim_end()));
        }
    }
    Ok(())
}

fn mounts(things: &mut Vec<String>) -> Result<()> {
    for line in fs::read_to_string("/proc/self/mountinfo")?.lines() {
        let mut before_and_after = line.splitn(2, " - ");
        let point = before_and_after
            .next()
            .and_then(|before| before.split(' ').nth(4));
        let kind = before_and_after.next().and_then(|after| after.split(' ').next());
        let (Some(point), Some(kind)) = (point, kind) else {
            bail!("a mount in no known form: {line:?}")
        };
        things.push(format!("mount {point} ({kind})"));
    }
    Ok(())
}

fn names_in(kind: &str, directory: &Path, things: &mut Vec<String>) -> Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| directory.display().to_string())?,
    };
    for entry in entries {
        things.push(format!("{kind} {}", entry?.file_name().to_string_lossy()));
    }
    Ok(())
}

fn firewall_tables(things: &mut Vec<String>) -> Result<()> {
    let output = Command::new("nft")
        .args(["list", "tables"])
        .output()
        .context("nft is needed to see firewall tables: cargo xtask setup installs it")?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "nft list tables: {}", error.trim());
    things.extend(
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(|table| format!("firewall {table}")),
    );
    Ok(())
}
