//! What processes of this machine have used meanwhile, as the kernel accounts for it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// A process that is watched.
#[derive(Clone, Debug)]
pub struct Process {
    id: u32,
    before: Duration,
}

/// What a process has used.
#[derive(Clone, Debug)]
pub struct Used {
    pub id: u32,
    /// Its name, as the kernel has it.
    pub name: String,
    /// The time that its threads were on a processor. What threads that have ended used is not in it.
    pub cpu: Duration,
    /// The memory that it holds now.
    pub memory_bytes: u64,
    /// The most that it has held since it began.
    pub memory_peak_bytes: u64,
}

impl Process {
    /// Begins to watch it.
    ///
    /// # Errors
    /// If there is no such process, or it is somebody else's.
    pub fn watch(id: u32) -> std::io::Result<Process> {
        let before = cpu(id)?;
        Ok(Process { id, before })
    }

    /// What it has used since; nothing if it has gone.
    pub fn used(&self) -> Option<Used> {
        let cpu = cpu(self.id).ok()?.saturating_sub(self.before);
        let name = fs::read_to_string(file(self.id, "comm")).ok()?;
        let status = fs::read_to_string(file(self.id, "status")).ok()?;
        Some(Used {
            id: self.id,
            name: name.trim().to_owned(),
            cpu,
            memory_bytes: kibibytes(&status, "VmRSS:")? << 10,
            memory_peak_bytes: kibibytes(&status, "VmHWM:")? << 10,
        })
    }
}

fn file(id: u32, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{id}/{name}"))
}

/// The time on a processor of all threads, from `schedstat`, which counts nanoseconds where `stat` has ticks.
fn cpu(id: u32) -> std::io::Result<Duration> {
    let mut nanos = 0;
    for thread in fs::read_dir(file(id, "task"))? {
        // A thread may end between the list and the look.
        let stat = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
        let first = stat.split_whitespace().next();
        nanos += first.and_then(|number| number.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(nanos))
}

fn kibibytes(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_works_uses_time_and_memory() {
        let process = Process::watch(std::process::id()).unwrap();
        let mut sum = 0_u64;
        let used = loop {
            sum = std::hint::black_box((0..1_000_000).fold(sum, |sum, n| sum.wrapping_mul(31) ^ n));
            let used = process.used().unwrap();
            if used.cpu >= Duration::from_millis(2) {
                break used;
            }
        };
        assert!(
            used.memory_bytes > 1 << 20 && used.memory_peak_bytes >= used.memory_bytes,
            "{used:?}"
        );
        assert_eq!(used.id, std::process::id());
    }

    #[test]
    fn a_process_that_is_not_there_cannot_be_watched() {
        assert!(Process::watch(u32::MAX).is_err());
    }
}
