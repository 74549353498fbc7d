//! The file: `name: value` on each line, with `#` comments: YAML, as far as it goes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Arg, Command};

use crate::shown;

/// No program has so many flags that a file of them is larger.
const BYTES_MAX: u64 = 1 << 20;

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("--config {}: {source}", shown(.path))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// It is none.
    #[error("--config {}: is larger than a megabyte; is it the right file?", shown(.path))]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A line is no setting.
    #[error("{}:{line}: {why}", shown(.path))]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from one.
        line: usize,
        /// What is wrong, and what would be right.
        why: String,
    },
}

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub struct Setting {
    pub name: String,
    pub value: String,
    pub line: usize,
}

fn wrong(path: &Path, line: usize, why: impl Into<String>) -> FileError {
    FileError::Line {
        path: path.to_owned(),
        line,
        why: why.into(),
    }
}

/// The settings of a file, each once.
pub fn read(path: &Path) -> Result<Vec<Setting>, FileError> {
    let io = |source| FileError::Io {
        path: path.to_owned(),
        source,
    };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(io)?;
    file.take(BYTES_MAX + 1).read_to_string(&mut text).map_err(io)?;
    if text.len() as u64 > BYTES_MAX {
        return Err(FileError::TooLarge {
            path: path.to_owned(),
        });
    }
    let mut seen = BTreeMap::new();
    let mut settings = Vec::new();
    for (number, text) in (1..).zip(text.lines()) {
        if text.trim().is_empty() || text.trim_start().starts_with('#') || text.trim_end() == "---" {
            continue;
        }
        let (name, value) = text
            .split_once(':')
            .filter(|(_, value)| value.is_empty() || value.starts_with([' ', '\t']))
            .ok_or_else(|| wrong(path, number, "write NAME: VALUE, such as lease-ttl: 30s"))?;
        if name.starts_with([' ', '\t', '-']) {
            return Err(wrong(
                path,
                number,
                "a setting is one line, and begins it: NAME: VALUE",
            ));
        }
        let name = name.trim_end().to_owned();
        if let Some(before) = seen.insert(name.clone(), number) {
            return Err(wrong(path, number, format!("{name} is in line {before} already")));
        }
        let value = scalar(value.trim()).map_err(|why| wrong(path, number, format!("{name}: {why}")))?;
        settings.push(Setting {
            name,
            value,
            line: number,
        });
    }
    Ok(settings)
}

/// A value as it is meant: in quotes, or bare up to a comment.
fn scalar(text: &str) -> Result<String, &'static str> {
    let Some(quote) = text.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
        let bare = text.find(" #").map_or(text, |at| &text[..at]).trim_end();
        return match bare.chars().next() {
            None | Some('#') => Err("has no value"),
            Some('[' | '{' | '|' | '>' | '&' | '*' | '!') => {
                Err("a value is one word or text; put it in quotes")
            }
            Some(_) => Ok(bare.to_owned()),
        };
    };
    let (value, rest) = text[1..]
        .split_once(quote)
        .ok_or("the quotes do not end on this line")?;
    if quote == '"' && value.contains('\\') {
        return Err("backslashes mean nothing here; use single quotes");
    }
    match rest.trim_start() {
        "" => Ok(value.to_owned()),
        rest if rest.starts_with('#') => Ok(value.to_owned()),
        _ => Err("something follows the quotes"),
    }
}

/// The flag that a setting is for.
pub fn argument<'a>(
    command: &'a Command,
    never: &[&str],
    setting: &Setting,
    path: &Path,
) -> Result<&'a Arg, FileError> {
    let may = |argument: &&Arg| argument.get_long().is_some_and(|long| !never.contains(&long));
    let found = command
        .get_arguments()
        .filter(may)
        .find(|argument| argument.get_long() == Some(&setting.name));
    found.ok_or_else(|| {
        let all: Vec<&str> = command
            .get_arguments()
            .filter(may)
            .filter_map(Arg::get_long)
            .collect();
        let why = format!(
            "there is no setting \"{}\"; want one of {}",
            setting.name,
            all.join(", ")
        );
        wrong(path, setting.line, why)
    })
}

/// What would say the same on the command line; nothing for a switch that is off.
pub fn words(argument: &Arg, setting: &Setting, path: &Path) -> Result<Option<OsString>, FileError> {
    let Setting { name, value, line } = setting;
    if argument.get_action().takes_values() {
        return Ok(Some(format!("--{name}={value}").into()));
    }
    match value.as_str() {
        "true" => Ok(Some(format!("--{name}").into())),
        "false" => Ok(None),
        other => Err(wrong(
            path,
            *line,
            format!("{name}: \"{other}\" is neither true nor false"),
        )),
    }
}
