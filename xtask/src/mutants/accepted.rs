//! The survivors that are accepted, each with the reason: `core/mutants.txt`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail, ensure};

use crate::mutants::mutant::Mutant;

/// Where they are listed.
pub const FILE: &str = "core/mutants.txt";

/// What the list says: mutants, by what they are called without line and column, and why nobody minds them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Accepted(BTreeMap<String, String>);

impl Accepted {
    /// Reads the list. A line names a mutant, the indented ones below it say why it is accepted; several in a row share
    /// what stands below the last. Lines that begin with `#` are for the reader.
    pub fn parse(text: &str) -> Result<Accepted> {
        let mut accepted = BTreeMap::new();
        let mut named: Vec<&str> = Vec::new();
        let mut reason = String::new();
        let lines = text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.starts_with('#') && !line.trim().is_empty());
        for (index, line) in lines {
            if line.starts_with(' ') {
                ensure!(!named.is_empty(), "{FILE}:{}: a reason for nothing", index + 1);
                reason.push_str(line.trim());
                reason.push(' ');
                continue;
            }
            if !reason.is_empty() {
                settle(&mut accepted, &mut named, &mut reason)?;
            }
            named.push(line.trim_end());
        }
        settle(&mut accepted, &mut named, &mut reason)?;
        Ok(Accepted(accepted))
    }

    /// Why this mutant is accepted, if it is.
    pub fn reason(&self, mutant: &Mutant) -> Option<&str> {
        self.0.get(&mutant.key()).map(String::as_str)
    }

    /// What is listed and is none of these.
    pub fn strangers(&self, mutants: &[Mutant]) -> Vec<&str> {
        let known: BTreeSet<_> = mutants.iter().map(Mutant::key).collect();
        let listed = self.0.keys().map(String::as_str);
        listed.filter(|key| !known.contains(*key)).collect()
    }
}

fn settle(accepted: &mut BTreeMap<String, String>, named: &mut Vec<&str>, reason: &mut String) -> Result<()> {
    let reason = std::mem::take(reason).trim_end().to_owned();
    for name in named.drain(..) {
        ensure!(!reason.is_empty(), "{FILE}: no reason is given for {name}");
        if accepted.insert(name.to_owned(), reason.clone()).is_some() {
            bail!("{FILE}: listed twice: {name}");
        }
    }
    Ok(())
}
