//! What is said in the end, to people and to programs.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::mutants::accepted::{Accepted, FILE};
use crate::mutants::copy::Sources;
use crate::mutants::judge::Fate;
use crate::mutants::mutant::Mutant;
use crate::say;

/// Of a hundred mutants so many must be caught, whatever is accepted.
const CAUGHT_MIN_PERCENT: usize = 95;

/// All that was found out.
pub struct Report<'a> {
    /// Where the mutants are.
    pub sources: &'a Sources,
    /// How many could be compiled.
    pub viable: usize,
    /// How they were chosen, in words.
    pub chosen: String,
    /// Those that were tried, and what became of them.
    pub fates: Vec<(&'a Mutant, Fate)>,
    /// What nobody minds.
    pub accepted: &'a Accepted,
}

impl Report<'_> {
    /// Tells it. Says whether all is as it should be.
    pub fn tell(&self) -> bool {
        let count = |is: &dyn Fn(&Fate) -> bool| self.fates.iter().filter(|(_, fate)| is(fate)).count();
        let caught = count(&Fate::is_caught);
        let elsewhere = caught - count(&Fate::is_caught_at_home);
        let late = count(&|fate| matches!(fate, Fate::TimedOut(_)));
        let unreached = count(&|fate| *fate == Fate::Unreached);
        let missed: Vec<_> = self.fates.iter().filter(|(_, fate)| !fate.is_caught()).collect();
        let unlisted: Vec<_> = missed
            .iter()
            .filter(|(mutant, _)| self.accepted.reason(mutant).is_none())
            .collect();

        let mut file = "";
        for (mutant, fate) in missed.iter() {
            if mutant.file != file {
                file = &mutant.file;
                say::heading(file);
            }
            let (is, would_be) = mutant.difference(self.sources.text(file));
            anstream::eprintln!(
                "  {}:{} in {}: {}",
                mutant.line,
                mutant.column,
                mutant.function,
                mutant.change
            );
            anstream::eprintln!("    - {is}");
            anstream::eprintln!("    + {would_be}");
            match self.accepted.reason(mutant) {
                Some(reason) => anstream::eprintln!("    accepted: {reason}"),
                None if *fate == Fate::Unreached => say::failed("no test comes to it"),
                None => say::failed("no test minds"),
            }
        }
        for (mutant, fate) in &self.fates {
            if fate.is_caught() && self.accepted.reason(mutant).is_some() {
                say::warn(&format!("caught, and still in {FILE}: {}", mutant.key()));
            }
        }

        let tried = self.fates.len();
        let percent = (caught * 1000).checked_div(tried).unwrap_or(1000);
        say::heading("mutants");
        let found = self.sources.mutants.len();
        anstream::println!(
            "found {found}, of which {} do not compile; tried {tried} ({})",
            found - self.viable,
            self.chosen
        );
        anstream::println!(
            "caught {caught} ({}.{} %), of which {late} by the time they take and {elsewhere} only by model or simulator",
            percent / 10,
            percent % 10
        );
        anstream::println!(
            "missed {}, of which {} are accepted in {FILE} and {unreached} are reached by no test",
            missed.len(),
            missed.len() - unlisted.len()
        );
        unlisted.is_empty() && caught * 100 >= tried * CAUGHT_MIN_PERCENT
    }

    /// Writes it down for programs.
    pub fn write(&self, path: &Path) -> Result<()> {
        let tried: Vec<Value> = self
            .fates
            .iter()
            .map(|(mutant, fate)| {
                let (fate, by) = match fate {
                    Fate::Caught(by) => ("caught", Some(by)),
                    Fate::TimedOut(by) => ("timed out", Some(by)),
                    Fate::Missed => ("missed", None),
                    Fate::Unreached => ("unreached", None),
                };
                json!({
                    "name": mutant.to_string(),
                    "key": mutant.key(),
                    "fate": fate,
                    "by": by,
                    "accepted": self.accepted.reason(mutant),
                })
            })
            .collect();
        let report = json!({
            "found": self.sources.mutants.len(),
            "viable": self.viable,
            "chosen": self.chosen,
            "tried": tried,
        });
        let text = serde_json::to_string_pretty(&report)? + "\n";
        fs::write(path, text).with_context(|| path.display().to_string())
    }
}

/// The keys of those that were missed, as the last run has written down.
pub fn missed_last_time(path: &Path) -> Result<Vec<String>> {
    let text = fs::read(path).with_context(|| format!("{}: run without --missed first", path.display()))?;
    let report: Value = serde_json::from_slice(&text)?;
    let tried = report["tried"].as_array().into_iter().flatten();
    let missed = tried.filter(|one| one["by"].is_null());
    Ok(missed
        .filter_map(|one| one["key"].as_str().map(str::to_owned))
        .collect())
}
