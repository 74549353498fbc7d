//! Plans that went wrong, kept as files.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use holdfast_sim::oracle::Violation;
use holdfast_sim::plan::Plan;

/// Keeps the plan below `dir`, which is made if need be, and says in it what it shows. What lies there under
/// another plan's name stays.
pub fn keep(dir: &Path, name: &str, plan: &Plan, violation: &Violation) -> Result<PathBuf> {
    let text = with_about(plan, violation).to_json();
    fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    let mut path = dir.join(format!("{name}.json"));
    let mut more = 2;
    loop {
        match fs::read_to_string(&path) {
            Ok(there) if there == text => return Ok(path),
            Err(error) if error.kind() == ErrorKind::NotFound => break,
            _ => {
                path = dir.join(format!("{name}-{more}.json"));
                more += 1;
            }
        }
    }
    write(&path, &text)?;
    Ok(path)
}

/// The plan, which says what it shows.
pub fn with_about(plan: &Plan, violation: &Violation) -> Plan {
    let mut plan = plan.clone();
    if plan.about.is_empty() {
        plan.about = violation.to_string();
    }
    plan
}

/// Writes a file.
pub fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
}

/// The command that plays it again.
pub fn replay(path: &Path) -> String {
    let path = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_=+.,:/~@%".contains(c);
    match path.chars().all(is_plain) {
        true => format!("ate sim replay {path}"),
        false => format!("ate sim replay '{}'", path.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_sim::plan::Recipe;

    #[test]
    fn a_plan_is_kept_once_with_what_it_shows_and_in_nobodys_place() {
        let violation = Violation {
            at: 1_500_000,
            invariant: "I5",
            what: "made up".to_string(),
        };
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("found");
        let keep = |seed: u64| keep(&dir, "I5-seed", &Recipe::small(seed).plan(), &violation).unwrap();
        assert_eq!(keep(1), dir.join("I5-seed.json"));
        assert_eq!(keep(2), dir.join("I5-seed-2.json"));
        assert_eq!(
            (keep(1), keep(2)),
            (dir.join("I5-seed.json"), dir.join("I5-seed-2.json"))
        );
        let kept = Plan::from_file(&dir.join("I5-seed.json")).unwrap();
        assert_eq!(kept.about, "I5 at 1.500000s: made up");
        assert_eq!(kept.requests, Recipe::small(1).plan().requests);
    }

    #[test]
    fn the_command_is_as_a_shell_takes_it() {
        assert_eq!(replay(Path::new("a/I5.json")), "ate sim replay a/I5.json");
        assert_eq!(replay(Path::new("it's")), r"ate sim replay 'it'\''s'");
    }
}
