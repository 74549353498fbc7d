//! Child processes that never outlive their test, with a log that their failures quote.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

const TAIL_LINES: usize = 30;

/// A running program. Killed (by process id) and reaped when dropped.
///
/// It stays in the process group of the test, so that whoever kills the group leaves nothing running.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    exit: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` with no input; both outputs are appended to `<directory>/<name>.log`.
    pub fn spawn(name: &str, directory: &Path, command: &mut Command) -> Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let open = || -> Result<File> {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(&log)
                .with_context(|| log.display().to_string())
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(open()?)
            .stderr(open()?)
            .spawn()
            .with_context(|| format!("start {name}: {command:?}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
            exit: None,
        })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Both outputs so far.
    pub fn log(&self) -> String {
        fs::read(&self.log).map_or_else(
            |error| error.to_string(),
            |log| String::from_utf8_lossy(&log).into_owned(),
        )
    }

    /// How it ended; `None` while it runs.
    pub fn exit(&mut self) -> Result<Option<ExitStatus>> {
        if self.exit.is_none() {
            self.exit = self.child.try_wait()?;
        }
        Ok(self.exit)
    }

    /// Waits until `probe` has an answer. Fails at once, quoting the log, when the program ends first.
    pub fn wait_until<T>(
        &mut self,
        what: &str,
        within: Duration,
        mut probe: impl FnMut(&Self) -> Result<Option<T>>,
    ) -> Result<T> {
        wait::until(what, within, || {
            let exit = self.exit()?;
            match (probe(self)?, exit) {
                (Some(answer), _) => Ok(Some(answer)),
                (None, Some(exit)) => bail!("{} ended: {exit}", self.name),
                (None, None) => Ok(None),
            }
        })
        .with_context(|| self.quote_log())
    }

    /// Waits until the program ends by itself.
    pub fn wait_exit(&mut self, within: Duration) -> Result<ExitStatus> {
        let name = self.name.clone();
        wait::to_the_end(&format!("{name} to end"), within, || self.exit()).with_context(|| self.quote_log())
    }

    /// Sends a signal to this one process. Fails when it has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if let Some(exit) = self.exit()? {
            bail!("{} has already ended: {exit}\n{}", self.name, self.quote_log());
        }
        // Not reaped yet, so the id cannot have been given to another process.
        Ok(kill_process(self.pid()?, signal)?)
    }

    /// Stops it as a long pause of the machine would (SIGSTOP).
    pub fn freeze(&mut self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Ends the pause.
    pub fn thaw(&mut self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    pub fn terminate(&mut self, within: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait_exit(within)
    }

    /// `kill -9`, and reaps it. Killing what has already ended is done.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        if self.exit()?.is_none() {
            self.child.kill()?;
        }
        let exit = self.child.wait()?;
        self.exit = Some(exit);
        Ok(exit)
    }

    fn pid(&self) -> Result<Pid> {
        i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .context("a process id beyond i32")
    }

    fn quote_log(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
        format!("last lines of {}:\n  {}", self.log.display(), tail.join("\n  "))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing to be done about a process that cannot be killed.
        let _ = self.kill();
    }
}

/// The path of a binary of this workspace, built with the same profile as the running program.
pub fn binary(name: &str) -> Result<PathBuf> {
    let current = std::env::current_exe()?;
    let path = current
        .ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file());
    path.with_context(|| {
        format!(
            "{name} is not beside {}: build it first (cargo build --bin {name})",
            current.display()
        )
    })
}
