//! Bad input, walked over a program: each argument that its command line declares, wrong in turn.
//!
//! The arguments are those of the program's own `clap` declaration, so one that has no bad example fails the
//! walk. What must hold for each of them: exit code 2, nothing on standard output, a message that names the
//! argument, its value and what would be right, and nothing half-made left behind.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use clap::Arg;

use crate::wait;

const PATIENCE: Duration = Duration::from_secs(60);

/// A program, and where it may do harm.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its file.
    pub file: PathBuf,
    /// Its declaration.
    pub command: clap::Command,
    /// Its working directory, in which nothing may change.
    pub directory: PathBuf,
    /// All of its environment.
    pub environment: Vec<(&'static str, OsString)>,
}

/// What is walked of one subcommand.
#[derive(Clone, Copy, Debug)]
pub struct Walk<'a> {
    /// The words that name it; none for the program itself.
    pub path: &'a [&'a str],
    /// Good arguments, without which it is not complete. One that is tried itself is left out.
    pub base: &'a [Good<'a>],
    /// Bad ones, each by its name, a value, and what is said about it.
    pub bad: &'a [Bad<'a>],
}

/// A good argument: its name (`--flag`, or `<NAME>` where it is positional) and its value, if it has one.
pub type Good<'a> = (&'a str, &'a str);
/// A bad argument: its name, its value, and what would be right.
pub type Bad<'a> = (&'a str, &'a str, &'a str);

impl Program {
    /// Walks every subcommand and every argument.
    ///
    /// # Panics
    /// With all that does not hold.
    #[track_caller]
    pub fn refuses(&self, walks: &[Walk<'_>]) {
        let mut complaints = self.forgotten(walks);
        for walk in walks {
            let declared = self.subcommand(walk.path);
            for bad in walk.bad {
                complaints.extend(self.try_bad(walk, bad, &declared));
            }
            for switch in own(&declared, walk.path).filter(|argument| is_switch(argument)) {
                let name = name(switch);
                let line = line(walk, &name, format!("{name}=perhaps").into());
                complaints.extend(self.complaint(self.run(&line, &[]), &line, &[&name, "perhaps"]));
                complaints.extend(self.try_variable(walk, switch, "perhaps", &[&name, "perhaps"]));
            }
            let required = walk.base.iter().filter(|(name, _)| {
                declared
                    .get_arguments()
                    .any(|argument| is_required(argument, name))
            });
            for (name, _) in required {
                let line = line(walk, name, None);
                let shown = name.trim_matches(['<', '>']);
                complaints.extend(self.complaint(self.run(&line, &[]), &line, &[shown]));
            }
            let unknown = line(walk, "--no-such-flag", Some("--no-such-flag".into()));
            complaints.extend(self.complaint(self.run(&unknown, &[]), &unknown, &["--no-such-flag"]));
        }
        assert!(complaints.is_empty(), "{}", complaints.join("\n\n"));
    }

    /// Runs a line that must be refused, and says so where it is not.
    ///
    /// # Panics
    /// With what does not hold.
    #[track_caller]
    pub fn refuses_line(&self, line: &[&str], variables: &[(&str, &str)], expected: &[&str]) {
        let line: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
        if let Some(complaint) = self.complaint(self.run(&line, variables), &line, expected) {
            panic!("{complaint}");
        }
    }

    /// What the program says to a line that ends by itself.
    pub fn run(&self, line: &[String], variables: &[(&str, &str)]) -> Ran {
        let mut command = self.command(line);
        command.envs(variables.iter().copied());
        self.finish(command)
    }

    fn command(&self, line: &[String]) -> Command {
        let mut command = Command::new(&self.file);
        command
            .args(line)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.directory)
            .stdin(Stdio::null());
        command
    }

    /// One that serves instead of ending is ended, and has failed.
    fn finish(&self, mut command: Command) -> Ran {
        let before = files(&self.directory);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.file.display()));
        let ended = wait::until("the program to end", PATIENCE, || Ok(child.try_wait()?));
        if ended.is_err() {
            // It may have ended just now.
            let _ = child.kill();
        }
        let output = child.wait_with_output().expect("it was started with pipes");
        Ran {
            output,
            ended: ended.is_ok(),
            changed: files(&self.directory) != before,
        }
    }

    /// Arguments and subcommands of the declaration that nothing is said about, and the other way round.
    fn forgotten(&self, walks: &[Walk<'_>]) -> Vec<String> {
        let mut complaints = Vec::new();
        let mut to_walk = Vec::new();
        collect(&self.command, &mut Vec::new(), &mut to_walk);
        for path in &to_walk {
            if !walks.iter().any(|walk| walk.path == path) {
                complaints.push(format!("{path:?} has no bad examples"));
            }
        }
        for walk in walks {
            let declared = self.subcommand(walk.path);
            let tried = |name: &str| walk.bad.iter().any(|(tried, _, _)| *tried == name);
            let valued: Vec<String> = own(&declared, walk.path)
                .filter(|argument| is_valued(argument))
                .map(name)
                .collect();
            let missing = valued.iter().filter(|name| !tried(name));
            complaints.extend(missing.map(|name| format!("{:?} {name} has no bad example", walk.path)));
            let unknown = walk
                .bad
                .iter()
                .filter(|(name, _, _)| !valued.iter().any(|valued| valued == name));
            complaints.extend(unknown.map(|(name, _, _)| format!("{:?} has no {name}", walk.path)));
        }
        complaints
    }

    fn subcommand(&self, path: &[&str]) -> clap::Command {
        let mut command = &self.command;
        for word in path {
            command = command
                .find_subcommand(word)
                .unwrap_or_else(|| panic!("there is no {path:?}"));
        }
        command.clone()
    }

    fn try_bad(&self, walk: &Walk<'_>, bad: &Bad<'_>, declared: &clap::Command) -> Vec<String> {
        let (argument, value, why) = *bad;
        let expected = [argument.trim_matches(['<', '>']), value, why];
        let given = match argument.starts_with('<') {
            true => value.to_owned(),
            false => format!("{argument}={value}"),
        };
        let mut complaints = Vec::new();
        let flag = line(walk, argument, Some(given));
        complaints.extend(self.complaint(self.run(&flag, &[]), &flag, &expected));
        let declaration = declared
            .get_arguments()
            .find(|declared| name(declared) == argument);
        complaints.extend(declaration.and_then(|it| self.try_variable(walk, it, value, &expected)));
        complaints
    }

    /// The same from the environment, for arguments that can come from there.
    fn try_variable(
        &self,
        walk: &Walk<'_>,
        argument: &Arg,
        value: &str,
        expected: &[&str],
    ) -> Option<String> {
        let variable = argument.get_env()?.to_str()?;
        let ran = self.run(&line(walk, &name(argument), None), &[(variable, value)]);
        self.complaint(ran, &[format!("{variable}={value}")], expected)
    }

    fn complaint(&self, ran: Ran, line: &[String], expected: &[&str]) -> Option<String> {
        let said = ran.said();
        let wrong = match &ran {
            Ran { ended: false, .. } => "it did not end".to_owned(),
            Ran { changed: true, .. } => "it left something behind".to_owned(),
            Ran { output, .. } if output.status.code() != Some(2) => format!("{}", output.status),
            Ran { output, .. } if !output.stdout.is_empty() => "standard output is for results".to_owned(),
            _ if said.contains('\x1b') => "there are colours where no terminal is".to_owned(),
            _ => {
                // What may hold a password is not repeated whole.
                let is_told = |text: &&&str| said.contains(**text) || text.starts_with("redis");
                let missing: Vec<_> = expected.iter().filter(|text| !is_told(text)).collect();
                if missing.is_empty() {
                    return None;
                }
                format!("{missing:?} is not said")
            }
        };
        let program = self.file.file_name().unwrap_or_default().to_string_lossy();
        Some(format!("{program} {}: {wrong}:\n{said}", line.join(" ")))
    }
}

/// What came of a line.
#[derive(Debug)]
pub struct Ran {
    /// Its outputs and its exit code.
    pub output: Output,
    ended: bool,
    changed: bool,
}

impl Ran {
    /// Its standard error.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }
}

/// The path of the subcommand, its base without `tried`, and `given`.
fn line(walk: &Walk<'_>, tried: &str, given: Option<String>) -> Vec<String> {
    let base = walk
        .base
        .iter()
        // One name of the store is given, not two.
        .filter(|(name, _)| *name != tried && (*name, tried) != ("--store", "--redis-cluster-address"))
        .flat_map(|(name, value)| match (name.starts_with('<'), value.is_empty()) {
            (true, _) => vec![*value],
            (false, true) => vec![*name],
            (false, false) => vec![*name, *value],
        });
    walk.path
        .iter()
        .copied()
        .chain(base)
        .map(str::to_owned)
        .chain(given)
        .collect()
}

/// The arguments of a subcommand itself: those that all understand are walked with the program.
fn own<'a>(declared: &'a clap::Command, path: &[&str]) -> impl Iterator<Item = &'a Arg> {
    let is_program = path.is_empty();
    declared
        .get_arguments()
        .filter(move |argument| is_program || !argument.is_global_set())
}

/// `--flag`, or `<NAME>` where it is positional.
fn name(argument: &Arg) -> String {
    match argument.get_long() {
        Some(long) => format!("--{long}"),
        None => {
            let names = argument.get_value_names().unwrap_or_default();
            format!("<{}>", names.first().map_or("", |name| name.as_str()))
        }
    }
}

fn is_built_in(argument: &Arg) -> bool {
    matches!(argument.get_id().as_str(), "help" | "version")
}

fn is_valued(argument: &Arg) -> bool {
    argument.get_action().takes_values() && !is_built_in(argument)
}

fn is_switch(argument: &Arg) -> bool {
    !argument.get_action().takes_values() && !is_built_in(argument) && argument.get_long().is_some()
}

fn is_required(argument: &Arg, called: &str) -> bool {
    argument.is_required_set() && argument.get_env().is_none() && name(argument) == called
}

/// Every subcommand that can be typed, and those above them that have arguments of their own.
fn collect<'a>(command: &'a clap::Command, path: &mut Vec<&'a str>, found: &mut Vec<Vec<&'a str>>) {
    let mut subcommands = command
        .get_subcommands()
        .filter(|subcommand| subcommand.get_name() != "help")
        .peekable();
    if subcommands.peek().is_none() || own(command, path).any(is_valued) {
        found.push(path.clone());
    }
    for subcommand in subcommands {
        path.push(subcommand.get_name());
        collect(subcommand, path, found);
        path.pop();
    }
}

/// Every path below a directory, with the length of what is a file.
fn files(directory: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => {
                found.extend(files(&path));
                found.insert(path, 0);
            }
            Ok(metadata) => {
                found.insert(path, metadata.len());
            }
            Err(_) => {}
        }
    }
    found
}
