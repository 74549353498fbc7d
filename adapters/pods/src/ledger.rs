//! Which pods there are, on disk: their identities outlive this process.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// One pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub namespace: String,
    pub pool: String,
    pub pod: String,
    pub uid: String,
    /// Which subnet it has.
    pub index: u16,
    /// Its worker's process, and when that started: a process id alone may be somebody else's by now.
    pub pid: Option<u32>,
    pub pid_started: Option<u64>,
}

#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    lines: Vec<Line>,
}

impl Ledger {
    /// The ledger at `path`; empty if there is none.
    pub fn open(path: &Path) -> io::Result<Ledger> {
        let lines = match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        Ok(Ledger {
            path: path.to_owned(),
            lines,
        })
    }

    /// The line of a pod, new if it has none. A pod keeps its UID and address for as long as it is listed.
    pub fn line(&mut self, namespace: &str, pool: &str, pod: &str) -> Line {
        let is_it = |line: &&Line| line.namespace == namespace && line.pool == pool && line.pod == pod;
        if let Some(line) = self.lines.iter().find(is_it) {
            return line.clone();
        }
        let taken: Vec<u16> = self.lines.iter().map(|line| line.index).collect();
        let index = (0..u16::MAX).find(|n| !taken.contains(n)).unwrap_or(u16::MAX);
        let line = Line {
            namespace: namespace.to_owned(),
            pool: pool.to_owned(),
            pod: pod.to_owned(),
            uid: uid(holdfast_runtime::entropy::fresh_u128()),
            index,
            pid: None,
            pid_started: None,
        };
        self.lines.push(line.clone());
        line
    }

    /// Gives a pod another index, that no pod has had: something else on this machine has its subnet.
    pub fn renumber(&mut self, uid: &str) -> io::Result<u16> {
        let next = self
            .lines
            .iter()
            .map(|line| line.index)
            .max()
            .map_or(0, |last| last.saturating_add(1));
        if let Some(line) = self.lines.iter_mut().find(|line| line.uid == uid) {
            line.index = next;
        }
        self.save()?;
        Ok(next)
    }

    /// Notes which process is a pod's worker.
    pub fn started(&mut self, uid: &str, process: Option<(u32, u64)>) -> io::Result<()> {
        if let Some(line) = self.lines.iter_mut().find(|line| line.uid == uid) {
            line.pid = process.map(|(pid, _)| pid);
            line.pid_started = process.map(|(_, started)| started);
        }
        self.save()
    }

    /// The pods whose worker has a process.
    pub fn running(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|line| line.pid.is_some())
    }

    /// Writes it, so that a reader sees the old one or the new one and nothing between.
    pub fn save(&self) -> io::Result<()> {
        if let Some(dir) = self.path.parent() {
            fs::create_dir_all(dir)?;
        }
        let next = self.path.with_extension("json.next");
        let mut file = File::create(&next)?;
        file.write_all(&serde_json::to_vec_pretty(&self.lines)?)?;
        file.sync_all()?;
        fs::rename(&next, &self.path)
    }
}

/// A UID in the form that Kubernetes gives them.
fn uid(random: u128) -> String {
    let hex = format!("{random:032x}");
    format!(
        "{}-{}-4{}-a{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[13..16],
        &hex[17..20],
        &hex[20..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_keeps_its_identity_and_address_across_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pods.json");
        let mut ledger = Ledger::open(&path).unwrap();
        let (a, b) = (ledger.line("ns", "p", "p-0"), ledger.line("ns", "p", "p-1"));
        assert_ne!((&a.uid, a.index), (&b.uid, b.index));
        ledger.started(&a.uid, Some((7, 70))).unwrap();

        let mut again = Ledger::open(&path).unwrap();
        let found = again.line("ns", "p", "p-0");
        assert_eq!((&found.uid, found.index, found.pid), (&a.uid, a.index, Some(7)));
        assert_eq!(again.running().count(), 1);
    }

    #[test]
    fn a_pod_whose_subnet_is_taken_gets_one_that_no_other_pod_has() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(&dir.path().join("pods.json")).unwrap();
        let (a, b) = (ledger.line("ns", "p", "p-0"), ledger.line("ns", "p", "p-1"));
        assert_eq!(ledger.renumber(&a.uid).unwrap(), b.index + 1);
        assert_eq!(ledger.line("ns", "p", "p-0").index, b.index + 1);
    }

    #[test]
    fn a_ledger_that_cannot_be_read_is_an_error_and_not_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pods.json");
        fs::write(&path, "[{").unwrap();
        assert_eq!(
            Ledger::open(&path).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }

    #[test]
    fn uids_look_like_those_of_kubernetes() {
        assert_eq!(
            uid(0x0123456789abcdef0123456789abcdef),
            "01234567-89ab-4def-a123-456789abcdef"
        );
    }
}
