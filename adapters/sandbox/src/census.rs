//! Finding processes by a mark they carry, when nothing else remembers their ids: after a restart of the
//! worker, after a command that was killed half-way, or when a program has forked away from its group.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The environment variable that marks the processes of an actor without a sandbox.
pub(crate) const MARK_VARIABLE: &str = "HOLDFAST_SANDBOX";

const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// What tells the processes in question from all others.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mark<'a> {
    /// A sandbox, gofer or command that works on this runsc root.
    RunscRoot(&'a Path),
    /// [`MARK_VARIABLE`] names this directory.
    Environment(&'a Path),
}

impl Mark<'_> {
    fn file(self) -> &'static str {
        match self {
            Self::RunscRoot(_) => "cmdline",
            Self::Environment(_) => "environ",
        }
    }

    fn is_on(self, pid: i32) -> bool {
        // A zombie shows an empty file, a vanished process none.
        fs::read(format!("/proc/{pid}/{}", self.file())).is_ok_and(|text| self.matches(&text))
    }

    fn matches(self, text: &[u8]) -> bool {
        use std::os::unix::ffi::OsStrExt;
        let mut previous: &[u8] = b"";
        text.split(|byte| *byte == 0).any(|word| {
            let hit = match self {
                Self::RunscRoot(root) => {
                    let root = root.as_os_str().as_bytes();
                    word.strip_prefix(b"--root=") == Some(root) || (previous == b"-root" && word == root)
                }
                Self::Environment(dir) => {
                    let value = word
                        .strip_prefix(MARK_VARIABLE.as_bytes())
                        .and_then(|rest| rest.strip_prefix(b"="));
                    value == Some(dir.as_os_str().as_bytes())
                }
            };
            previous = word;
            hit
        })
    }
}

/// The living processes that carry `mark`.
pub(crate) fn find(mark: Mark<'_>) -> io::Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let pid = name.to_str().and_then(|name| name.parse().ok());
        found.extend(pid.filter(|pid| mark.is_on(*pid)));
    }
    Ok(found)
}

/// Sends `signal` to every process that carries `mark`.
pub(crate) fn signal(mark: Mark<'_>, signal: Signal) -> io::Result<()> {
    for pid in find(mark)? {
        let Some(raw) = Pid::from_raw(pid) else { continue };
        // The id may be another's by now: hold the process first, look once more, and only then signal.
        if let Ok(process) = pidfd_open(raw, PidfdFlags::empty())
            && mark.is_on(pid)
        {
            let _ = pidfd_send_signal(&process, signal);
        }
    }
    Ok(())
}

/// Kills every process that carries `mark`, and those they fork meanwhile. Returns one that is still there
/// after `limit`.
pub(crate) fn kill_all(mark: Mark<'_>, limit: Duration) -> io::Result<Option<i32>> {
    let until = Instant::now() + limit;
    loop {
        signal(mark, Signal::KILL)?;
        let left = find(mark)?;
        let Some(first) = left.first() else {
            return Ok(None);
        };
        if Instant::now() >= until {
            return Ok(Some(*first));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reaper::Reaper;
    use std::process::{Command, Stdio};

    #[test]
    fn a_mark_is_the_whole_value_and_not_a_part_of_one() {
        let root = Mark::RunscRoot(Path::new("/a/state"));
        assert!(root.matches(b"runsc-sandbox\0--root=/a/state\0boot\0"));
        assert!(root.matches(b"/usr/bin/runsc\0-root\0/a/state\0checkpoint\0"));
        assert!(!root.matches(b"runsc-sandbox\0--root=/a/state2\0boot\0"));
        assert!(!root.matches(b"ls\0/a/state\0"));
        let variable = Mark::Environment(Path::new("/a"));
        assert!(variable.matches(b"X=1\0HOLDFAST_SANDBOX=/a\0"));
        assert!(!variable.matches(b"HOLDFAST_SANDBOX=/a/b\0XHOLDFAST_SANDBOX=/a\0"));
    }

    #[test]
    fn marked_processes_are_killed_even_when_they_left_their_group() {
        let reaper = Reaper::of_this_process().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "setsid sleep 1000 & sleep 1000"])
            .env(MARK_VARIABLE, dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let shell = reaper.spawn(&mut command).unwrap();
        let mark = Mark::Environment(dir.path());
        while find(mark).unwrap().len() < 3 {
            std::thread::yield_now();
        }
        assert_eq!(kill_all(mark, Duration::from_secs(10)).unwrap(), None);
        assert!(!shell.wait().success());
        assert_eq!(find(mark).unwrap(), [0; 0]);
    }
}
