//! One command that is run as part of a task, and how to run it again by hand.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;

use crate::say;

/// A command with the environment variables that it needs on top of ours.
pub struct Step {
    program: OsString,
    arguments: Vec<OsString>,
    variables: Vec<(&'static str, OsString)>,
}

impl Step {
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            arguments: Vec::new(),
            variables: Vec::new(),
        }
    }

    /// The cargo that runs us, in the workspace.
    pub fn cargo(arguments: &str) -> Self {
        Self::new("cargo").args(arguments.split(' '))
    }

    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.arguments
            .extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    pub fn env(mut self, name: &'static str, value: impl AsRef<OsStr>) -> Self {
        self.variables.push((name, value.as_ref().to_owned()));
        self
    }

    /// Runs it in the open: its output is ours, it gets no input.
    pub fn run(&self) -> Result<()> {
        let status = self.command().status().with_context(|| self.failure())?;
        if !status.success() {
            bail!("{status}: {self}");
        }
        Ok(())
    }

    /// Becomes it: what it does with signals, and how it ends, is then what we do. Returns why it could not.
    pub fn become_it(&self) -> anyhow::Error {
        anyhow::Error::from(self.command().exec()).context(self.failure())
    }

    /// Runs it behind a spinner (on a terminal); its output appears only if it fails.
    pub fn run_behind(&self, what: &str) -> Result<()> {
        let spinner = std::io::stderr().is_terminal().then(|| {
            let spinner = ProgressBar::new_spinner().with_message(what.to_owned());
            spinner.enable_steady_tick(Duration::from_millis(100));
            spinner
        });
        if spinner.is_none() {
            anstream::eprintln!("{what}");
        }
        let output = self.command().output().with_context(|| self.failure());
        if let Some(spinner) = spinner {
            spinner.finish_and_clear();
        }
        let output = output?;
        if !output.status.success() {
            anstream::eprint!("{}", String::from_utf8_lossy(&output.stdout));
            anstream::eprint!("{}", String::from_utf8_lossy(&output.stderr));
            bail!("{}: {self}", output.status);
        }
        say::ok(what);
        Ok(())
    }

    /// What it prints when it succeeds; `None` when it fails or is not there.
    pub fn answer(&self) -> Option<String> {
        let output = self.command().stderr(Stdio::null()).output().ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        // What `cargo run` tells us about ourselves would make build scripts that look at it run again.
        for (name, _) in env::vars_os() {
            if ["CARGO_PKG_", "CARGO_MANIFEST_"]
                .iter()
                .any(|own| name.as_encoded_bytes().starts_with(own.as_bytes()))
            {
                command.env_remove(name);
            }
        }
        command.args(&self.arguments).envs(self.variables.iter().cloned());
        command.stdin(Stdio::null()).current_dir(root());
        command
    }

    fn failure(&self) -> String {
        format!("cannot start {}", self.program.display())
    }
}

/// As one would type it.
impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (name, value) in &self.variables {
            write!(f, "{name}={} ", quote(value))?;
        }
        write!(f, "{}", quote(&self.program))?;
        self.arguments
            .iter()
            .try_for_each(|argument| write!(f, " {}", quote(argument)))
    }
}

/// The directory of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn quote(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+.,:/~@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_reads_as_a_shell_takes_it() {
        let step = Step::cargo("check --workspace")
            .args(["it's", ""])
            .env("RUSTFLAGS", "--cfg madsim");
        assert_eq!(
            step.to_string(),
            r"RUSTFLAGS='--cfg madsim' cargo check --workspace 'it'\''s' ''"
        );
    }
}
