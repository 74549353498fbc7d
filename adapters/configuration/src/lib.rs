//! Where the settings of a program come from: flags, then the environment, then a file (`--config FILE`), then
//! their defaults.
//!
//! The file has the flags' own names, one to a line: a flat mapping in YAML. It is turned into the arguments that
//! would say the same, so that there is one declaration, one `--help` and one place that reads values.

mod file;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Command;

pub use file::FileError;

/// The flag that names the file.
pub const FLAG: &str = "config";
/// What stands in no file: what it would mean there is said by asking.
const NEVER: [&str; 4] = [FLAG, "check", "help", "version"];

/// The arguments of a program, with what its file says, and where each came from.
#[derive(Debug)]
pub struct Arguments {
    /// All of them, the name of the program first.
    pub all: Vec<OsString>,
    origins: BTreeMap<String, Origin>,
}

/// Where the value of a flag that is not on the command line comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    Variable(String),
    File { path: PathBuf, line: usize },
}

impl Arguments {
    /// What `given` on the command line, the variables of the environment and the file that one of them names
    /// amount to.
    ///
    /// # Errors
    /// As [`FileError`] says.
    pub fn gather(
        command: &Command,
        given: impl IntoIterator<Item = OsString>,
        variable: impl Fn(&OsStr) -> Option<OsString>,
    ) -> Result<Arguments, FileError> {
        // Only then do groups know of the arguments that say that they belong to them.
        let mut built = command.clone();
        built.build();
        let command = &built;
        let mut all: Vec<OsString> = given.into_iter().collect();
        let mut origins = BTreeMap::new();
        for argument in command.get_arguments() {
            if let (Some(name), Some(of)) = (argument.get_long(), argument.get_env())
                && !is_given(&all, name)
                && variable(of).is_some()
            {
                let origin = Origin::Variable(of.to_string_lossy().into_owned());
                origins.insert(name.to_owned(), origin);
            }
        }
        let config = command
            .get_arguments()
            .find(|argument| argument.get_long() == Some(FLAG));
        let from_environment = || config?.get_env().and_then(&variable);
        if let Some(path) = value_of(&all, FLAG).or_else(from_environment) {
            let path = PathBuf::from(path);
            for setting in file::read(&path)? {
                let stands = |origins: &BTreeMap<String, Origin>, name: &str| {
                    is_given(&all, name) || origins.contains_key(name)
                };
                let argument = file::argument(command, &NEVER, &setting, &path)?;
                let rivals = rivals(command, argument.get_id());
                if stands(&origins, &setting.name) || rivals.iter().any(|rival| stands(&origins, rival)) {
                    continue;
                }
                if let Some(words) = file::words(argument, &setting, &path)? {
                    all.push(words);
                    let origin = Origin::File {
                        path: path.clone(),
                        line: setting.line,
                    };
                    origins.insert(setting.name, origin);
                }
            }
        }
        Ok(Arguments { all, origins })
    }

    /// `error`, and where the settings that it names come from if that is not the command line.
    pub fn explain(&self, error: &str) -> String {
        let mut text = error.trim_end().to_owned();
        for (name, origin) in &self.origins {
            if names(error, name) {
                // Writing to a string cannot fail.
                let _ = match origin {
                    Origin::Variable(variable) => {
                        write!(text, "\n--{name} is from the environment: {variable}")
                    }
                    Origin::File { path, line } => {
                        write!(text, "\n--{name} is from {}:{line}", path.display())
                    }
                };
            }
        }
        text
    }
}

/// Whether `text` names the flag, and not one whose name begins so.
fn names(text: &str, name: &str) -> bool {
    let flag = format!("--{name}");
    text.match_indices(&flag)
        .any(|(at, _)| !text[at + flag.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '-'))
}

/// The other flags of a group of which one is wanted.
fn rivals(command: &Command, id: &clap::Id) -> Vec<String> {
    let groups = command
        .get_groups()
        .filter(|group| !(*group).clone().is_multiple());
    let members = groups
        .filter(|group| group.get_args().any(|member| member == id))
        .flat_map(|group| group.get_args().filter(|member| *member != id));
    let long = |member: &clap::Id| {
        let argument = command
            .get_arguments()
            .find(|argument| argument.get_id() == member);
        argument?.get_long().map(str::to_owned)
    };
    members.filter_map(long).collect()
}

fn is_given(all: &[OsString], name: &str) -> bool {
    let flag = format!("--{name}");
    all.iter().any(|word| {
        let word = word.to_string_lossy();
        word == flag || word.strip_prefix(&flag).is_some_and(|rest| rest.starts_with('='))
    })
}

/// The value of a flag on the command line.
fn value_of(all: &[OsString], name: &str) -> Option<OsString> {
    let flag = format!("--{name}");
    let at = all
        .iter()
        .position(|word| word.to_string_lossy().split('=').next() == Some(&flag))?;
    match all[at].to_string_lossy().split_once('=') {
        Some((_, value)) => Some(value.into()),
        None => all.get(at + 1).cloned(),
    }
}

/// How the path of the file is shown.
fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests;
