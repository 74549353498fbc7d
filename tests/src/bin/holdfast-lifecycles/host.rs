//! The processes of a run, found as an operator would find them: by their command lines.

use std::fs;

use anyhow::Result;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// What a process of the node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A worker's daemon.
    Ateom,
    /// gVisor's kernel with an actor in it.
    Sandbox,
    /// Its way to the file system.
    Gofer,
    /// A runsc command that is being executed.
    Command,
}

/// A process whose command line names the node's directory.
#[derive(Clone, Debug)]
pub struct Found {
    pub kind: Kind,
    pub pid: i32,
    /// The command line, with spaces.
    pub line: String,
}

impl Found {
    /// The actor that it works for, if the line says so: `atespace/namespace:template:actor`.
    pub fn actor(&self) -> Option<&str> {
        let (_, rest) = self.line.split_once("/actors/")?;
        let home = rest.split_once("/runsc-state").map_or(rest, |(home, _)| home);
        home.rsplit_once(':').map(|(_, actor)| actor)
    }

    /// Sends it a signal, unless it has become another process. Whether it was there.
    pub fn signal(&self, signal: Signal) -> bool {
        let Some(process) = Pid::from_raw(self.pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
        else {
            return false;
        };
        let is_same = line(self.pid).is_some_and(|line| line == self.line);
        is_same && pidfd_send_signal(&process, signal).is_ok()
    }
}

/// The processes of the node in `base`.
pub fn find(base: &str) -> Result<Vec<Found>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Some(line) = line(pid).filter(|line| line.contains(base)) else {
            continue;
        };
        let program = line.split(' ').next().unwrap_or_default();
        let program = program.rsplit('/').next().unwrap_or_default();
        let kind = match program {
            "ateom-gvisor" => Kind::Ateom,
            "runsc-sandbox" => Kind::Sandbox,
            "runsc-gofer" => Kind::Gofer,
            program if program.starts_with("runsc") => Kind::Command,
            _ => continue,
        };
        all.push(Found { kind, pid, line });
    }
    all.sort_by_key(|found| found.pid);
    Ok(all)
}

fn line(pid: i32) -> Option<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    Some(line.trim_end().to_owned())
}
