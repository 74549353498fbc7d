//! One runsc command: how long it may take, what it says when it fails.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde::Deserialize;
use thiserror::Error;

use super::flags::{Feature, Runtime};
use crate::network::netns::hide_proc_sys_net;
use crate::reaper::Reaper;
use crate::scratch;

/// How long each command may take. A hung sandbox hangs every command that talks to it, so none is
/// without a limit. Those that move memory get most of the five minutes a workflow has.
const LIMITS: &[(&str, Duration)] = &[
    ("help", Duration::from_secs(10)),
    ("run", Duration::from_secs(30)),
    ("create", Duration::from_secs(30)),
    ("start", Duration::from_secs(30)),
    ("restore", Duration::from_secs(240)),
    ("checkpoint", Duration::from_secs(240)),
    ("fscheckpoint", Duration::from_secs(240)),
    ("pause", Duration::from_secs(10)),
    ("resume", Duration::from_secs(10)),
    ("delete", Duration::from_secs(10)),
];

/// For how long neither a command nor its sandbox may use the processor, read or write: what moves memory is slow on a
/// slow disk, and a sandbox that somebody has stopped does nothing at all.
const STALLS_AFTER: Duration = Duration::from_secs(60);

/// How often that is looked at.
const GLANCE: Duration = Duration::from_secs(1);

/// How long a killed process may take to be gone.
pub(super) const KILL_LIMIT: Duration = Duration::from_secs(5);

/// Why a runsc command, and with it the sandbox operation, failed.
#[derive(Debug, Error)]
pub enum RunscError {
    /// There is no usable binary.
    #[error("{path}: cannot run runsc: {source}; fetch it again or install the distribution's package", path = .path.display())]
    Binary {
        /// Where it was looked for.
        path: PathBuf,
        /// Why it cannot be used.
        source: io::Error,
    },
    /// Its version has no release date.
    #[error("{path}: `--version` says \"{text}\", which has no release date like 20240729", path = .path.display())]
    UnknownVersion {
        /// The binary.
        path: PathBuf,
        /// The first line it printed.
        text: String,
    },
    /// It cannot restore a sandbox of several containers.
    #[error("{path}: runsc {version} is too old to restore more than one container; {oldest} or newer is needed", path = .path.display())]
    TooOld {
        /// The binary.
        path: PathBuf,
        /// Its release date.
        version: u32,
        /// The oldest that works.
        oldest: u32,
    },
    /// The command did not end in time. It was killed, and the sandbox with it.
    #[error("runsc {command} did not end within {after:?}; it and its sandbox were killed")]
    Timeout {
        /// Subcommand and container.
        command: String,
        /// The limit.
        after: Duration,
    },
    /// The command waited for a sandbox that does nothing. It was killed, and the sandbox with it.
    #[error(
        "runsc {command} got nowhere: neither it nor its sandbox did anything for {after:?}; they were killed"
    )]
    Hung {
        /// Subcommand and container.
        command: String,
        /// For how long.
        after: Duration,
    },
    /// The command failed.
    #[error("runsc {command} failed ({status}): {line}")]
    Failed {
        /// Subcommand and container.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The last line of its error output.
        line: String,
    },
    /// The sandbox is gone, though nobody asked it to.
    #[error("the sandbox died during {during}{}", .status.map(|status| format!(" ({status})")).unwrap_or_default())]
    SandboxDied {
        /// What was being done.
        during: String,
        /// How it ended, if that is known.
        status: Option<ExitStatus>,
    },
    /// The sandbox did not go away even when killed.
    #[error("process {pid} of the sandbox is still there {after:?} after SIGKILL; the kernel is stuck on it")]
    Unkillable {
        /// The process.
        pid: i32,
        /// How long it was waited for.
        after: Duration,
    },
}

impl RunscError {
    /// Whether the command took more time than it had.
    pub(crate) fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout { .. } | Self::Hung { .. })
    }

    /// Whether it found no room on the disk, as far as runsc says so.
    pub fn is_out_of_space(&self) -> bool {
        matches!(self, Self::Failed { line, .. } if line.contains("no space left on device"))
    }
}

/// An argument: text or a path.
pub(super) type Arg<'a> = &'a dyn AsRef<OsStr>;

/// How the commands of one activation begin.
#[derive(Debug)]
pub(super) struct Invocation<'a> {
    pub runtime: &'a Runtime,
    pub reaper: &'static Reaper,
    pub root: PathBuf,
    pub network: NetworkFlag,
    /// The sandbox's process, once that is known.
    pub sandbox: Option<i32>,
}

/// The value of `-network`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NetworkFlag {
    Sandbox,
    None,
}

/// Whether the command starts the sandbox itself, which is when it looks at its own network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Starts {
    Sandbox,
    Container,
    Nothing,
}

/// The limit of a subcommand.
pub(super) fn limit(subcommand: &str) -> Duration {
    let found = LIMITS.iter().find(|(name, _)| *name == subcommand);
    found
        .map(|(_, limit)| *limit)
        .expect("every subcommand in use has a limit in the table")
}

impl Invocation<'_> {
    /// Runs a subcommand; `target` is its last argument, the container. `streams` becomes standard output
    /// and error of the container it starts.
    pub(super) fn run(
        &self,
        subcommand: &str,
        args: &[Arg<'_>],
        targets: &[&str],
        starts: Starts,
        streams: Option<OwnedFd>,
    ) -> Result<(), RunscError> {
        let log = scratch::file("runsc-log").map_err(|source| self.unusable(source))?;
        let mut command = self.command(starts, &log);
        command.arg(subcommand);
        for arg in args {
            command.arg(arg.as_ref());
        }
        command.args(targets).stdin(Stdio::null());
        let errors = match streams {
            Some(streams) => {
                let copy = streams.try_clone().map_err(|source| self.unusable(source))?;
                command.stdout(streams).stderr(copy);
                None
            }
            None => {
                let errors = scratch::file("runsc-stderr").map_err(|source| self.unusable(source))?;
                let copy = errors.try_clone().map_err(|source| self.unusable(source))?;
                command.stdout(Stdio::null()).stderr(copy);
                Some(errors)
            }
        };
        let what = format!("{subcommand} {}", targets.join(" "));
        let status = wait(
            self.reaper,
            &mut command,
            self.runtime.path(),
            &what,
            Patience {
                limit: limit(subcommand),
                stalls_after: STALLS_AFTER,
                sandbox: self.sandbox,
            },
        )?;
        if status.success() {
            return Ok(());
        }
        let logged = scratch::read(log).unwrap_or_default();
        let printed = errors
            .and_then(|errors| scratch::read(errors).ok())
            .unwrap_or_default();
        Err(RunscError::Failed {
            command: what,
            status,
            line: last_error(&logged, &printed),
        })
    }

    fn command(&self, starts: Starts, log: &File) -> Command {
        let mut command = Command::new(self.runtime.path());
        command.arg("-root").arg(&self.root);
        command.args(["-platform", "systrap", "-ignore-cgroups"]);
        command.args([
            "-network",
            match self.network {
                NetworkFlag::Sandbox => "sandbox",
                NetworkFlag::None => "none",
            },
        ]);
        for (feature, flag) in [
            (Feature::NetDisconnectOk, "-net-disconnect-ok"),
            (Feature::AllowConnectedOnSave, "-allow-connected-on-save"),
        ] {
            if self.runtime.has(feature) {
                command.arg(flag);
            }
        }
        // Errors go to a file of their own: standard error belongs to the container.
        command.arg(format!("-log-fd={}", log.as_raw_fd()));
        let log = log.as_raw_fd();
        let hide = starts == Starts::Sandbox
            && self.network == NetworkFlag::Sandbox
            && self.runtime.is_fooled_by_proc_sys_net();
        // SAFETY: both are plain system calls on values made before the fork; nothing is allocated unless a
        // call fails and the exec is given up.
        unsafe {
            command.pre_exec(move || {
                let log = std::os::fd::BorrowedFd::borrow_raw(log);
                rustix::io::fcntl_setfd(log, rustix::io::FdFlags::empty())?;
                if hide { hide_proc_sys_net() } else { Ok(()) }
            });
        }
        command
    }

    fn unusable(&self, source: io::Error) -> RunscError {
        RunscError::Binary {
            path: self.runtime.path().to_owned(),
            source,
        }
    }
}

/// Runs a command that prints something short, and returns what it printed.
pub(super) fn output(
    reaper: &'static Reaper,
    mut command: Command,
    what: &str,
    limit: Duration,
) -> Result<String, RunscError> {
    let path = PathBuf::from(command.get_program());
    let unusable = |source| RunscError::Binary {
        path: path.clone(),
        source,
    };
    // Help goes to either stream, depending on the subcommand.
    let printed = scratch::file("runsc-output").map_err(unusable)?;
    let copies = [
        printed.try_clone().map_err(unusable)?,
        printed.try_clone().map_err(unusable)?,
    ];
    let [stdout, stderr] = copies;
    command.stdout(stdout).stderr(stderr);
    let patience = Patience {
        limit,
        stalls_after: limit,
        sandbox: None,
    };
    let status = wait(reaper, &mut command, &path, what, patience)?;
    let text = scratch::read(printed).map_err(unusable)?;
    if status.success() {
        Ok(text)
    } else {
        Err(RunscError::Failed {
            command: what.to_owned(),
            status,
            line: last_error("", &text),
        })
    }
}

/// How long a command is waited for.
#[derive(Debug, Clone, Copy)]
struct Patience {
    limit: Duration,
    stalls_after: Duration,
    sandbox: Option<i32>,
}

fn wait(
    reaper: &'static Reaper,
    command: &mut Command,
    path: &Path,
    what: &str,
    patience: Patience,
) -> Result<ExitStatus, RunscError> {
    // A Ctrl-C in the worker's terminal must not cut an operation short.
    command.process_group(0);
    let running = reaper.spawn(command).map_err(|source| RunscError::Binary {
        path: path.to_owned(),
        source,
    })?;
    let Patience {
        limit,
        stalls_after,
        sandbox,
    } = patience;
    let began = Instant::now();
    let (mut done, mut moved) = (Vec::new(), began);
    let command = what.to_owned();
    let error = loop {
        let left = limit.saturating_sub(began.elapsed());
        if let Some(status) = running.wait_timeout(left.min(GLANCE).min(stalls_after)) {
            return Ok(status);
        }
        if began.elapsed() >= limit {
            break RunscError::Timeout {
                command,
                after: limit,
            };
        }
        let now: Vec<_> = [Some(running.id()), sandbox]
            .into_iter()
            .flatten()
            .map(work)
            .collect();
        if now != done {
            (done, moved) = (now, Instant::now());
        } else if moved.elapsed() >= stalls_after {
            break RunscError::Hung {
                command,
                after: stalls_after,
            };
        }
    };
    running.signal(Signal::KILL);
    running.wait_timeout(KILL_LIMIT);
    Err(error)
}

/// What a process has done so far: ticks of processor time, bytes read and written. Nothing if it is gone.
fn work(pid: i32) -> [Option<u64>; 4] {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The program's name may hold anything; behind its last parenthesis the third field begins.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = |field: usize| fields.split_whitespace().nth(field - 3)?.parse().ok();
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let bytes = |name: &str| {
        io.lines()
            .find_map(|line| line.strip_prefix(name))?
            .trim()
            .parse()
            .ok()
    };
    [ticks(14), ticks(15), bytes("rchar:"), bytes("wchar:")]
}

/// The reason a command gives: the last message of its log, else the last line it printed.
fn last_error(log: &str, printed: &str) -> String {
    #[derive(Deserialize)]
    struct Entry {
        msg: String,
    }
    let logged = log
        .lines()
        .rev()
        .find_map(|line| serde_json::from_str::<Entry>(line).ok());
    let line = match logged {
        Some(entry) => entry.msg,
        None => printed
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .unwrap_or("no reason given")
            .to_owned(),
    };
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_last_message_logged_or_else_the_last_line_printed() {
        let log = "{\"msg\":\"first\",\"level\":\"error\"}\n{\"msg\":\"second\",\"level\":\"error\"}";
        assert_eq!(last_error(log, "printed\n"), "second");
        assert_eq!(last_error("", "one\ntwo \n\n"), "two");
        assert_eq!(last_error("not json", ""), "no reason given");
    }

    #[test]
    fn every_limit_is_shorter_than_a_workflow() {
        for (subcommand, limit) in LIMITS {
            assert!(*limit < Duration::from_secs(300), "{subcommand}");
            assert_eq!(super::limit(subcommand), *limit);
        }
    }

    #[test]
    fn a_command_that_does_nothing_is_hung_and_one_that_works_has_its_time() {
        let reaper = Reaper::of_this_process().unwrap();
        let spent = |script: &str, limit_ms| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]);
            let patience = Patience {
                limit: Duration::from_millis(limit_ms),
                stalls_after: Duration::from_millis(300),
                sandbox: None,
            };
            wait(reaper, &mut command, Path::new("/bin/sh"), "x", patience).unwrap_err()
        };
        let hung = spent("exec sleep 1000", 100_000);
        assert!(
            matches!(hung, RunscError::Hung { .. }) && hung.is_timeout(),
            "{hung}"
        );
        let busy = spent("while :; do :; done", 900);
        assert!(
            matches!(busy, RunscError::Timeout { .. }) && busy.is_timeout(),
            "{busy}"
        );
    }

    #[test]
    fn the_work_of_a_process_is_seen_and_that_of_one_that_is_gone_is_not() {
        let before = work(i32::try_from(std::process::id()).unwrap());
        assert!(before.iter().all(Option::is_some), "{before:?}");
        fs::read_to_string("/proc/self/status").unwrap();
        assert_ne!(work(i32::try_from(std::process::id()).unwrap()), before);
        assert_eq!(work(i32::MAX), [None; 4]);
    }

    #[test]
    fn a_command_that_does_not_end_is_killed_and_collected() {
        let reaper = Reaper::of_this_process().unwrap();
        let mut command = Command::new("/bin/sleep");
        command.arg("1000");
        let error = output(reaper, command, "sleep", Duration::from_millis(20)).unwrap_err();
        assert!(
            matches!(error, RunscError::Timeout { ref command, .. } if command == "sleep"),
            "{error}"
        );
    }
}
