//! Which pods there are, on disk: their identities outlive this process.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use holdfast_sandbox::network::SUBNETS;
use serde::{Deserialize, Serialize};

use crate::{Error, PodKey};

/// One pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    #[serde(flatten)]
    pub key: PodKey,
    pub uid: String,
    /// Which subnet it has.
    pub index: u16,
    /// Whether we have reserved that subnet. What somebody else has reserved is not ours to release.
    #[serde(default)]
    pub is_reserved: bool,
    /// Its worker's process, and when that started: a process id alone may be somebody else's by now.
    pub pid: Option<u32>,
    pub pid_started: Option<u64>,
}

/// The pods of one directory. Nobody else has them as long as this lives.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    lines: BTreeMap<PodKey, Line>,
    /// The indices of all lines.
    taken: BTreeSet<u16>,
    _lock: File,
}

impl Ledger {
    /// The ledger in `dir`, which is made if need be; empty if there is none.
    ///
    /// # Errors
    /// If another process has it, or it cannot be used.
    pub fn open(dir: &Path) -> Result<Ledger, Error> {
        let path = dir.join("pods.json");
        let fault = |source| Error::Ledger {
            path: path.clone(),
            source,
        };
        fs::create_dir_all(dir).map_err(fault)?;
        // Not the ledger itself: that is another file after every change.
        let lock = File::create(dir.join("pods.lock")).map_err(fault)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::InUse { dir: dir.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(fault(error)),
        }
        let lines = read(dir).map_err(fault)?;
        Ok(Ledger {
            taken: lines.iter().map(|line| line.index).collect(),
            lines: lines.into_iter().map(|line| (line.key.clone(), line)).collect(),
            path,
            _lock: lock,
        })
    }

    /// The line of a pod, new if it has none. A pod keeps its UID and address for as long as it is listed.
    pub fn line(&mut self, key: &PodKey) -> Line {
        if let Some(line) = self.lines.get(key) {
            return line.clone();
        }
        let line = Line {
            key: key.clone(),
            uid: uid(holdfast_runtime::entropy::fresh_u128()),
            index: self.free_after(SUBNETS - 1),
            is_reserved: false,
            pid: None,
            pid_started: None,
        };
        self.taken.insert(line.index);
        self.lines.insert(key.clone(), line.clone());
        line
    }

    /// Every line there is.
    pub fn lines(&self) -> impl Iterator<Item = &Line> {
        self.lines.values()
    }

    /// Gives a pod the next index that no pod has: something else on this machine has its subnet.
    pub fn renumber(&mut self, key: &PodKey) -> io::Result<u16> {
        let Some(index) = self.lines.get(key).map(|line| line.index) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let next = self.free_after(index);
        self.taken.remove(&index);
        self.taken.insert(next);
        self.change(key, |line| line.index = next)?;
        Ok(next)
    }

    /// Changes a pod's line; nothing happens if it has none.
    pub fn change(&mut self, key: &PodKey, change: impl FnOnce(&mut Line)) -> io::Result<()> {
        if let Some(line) = self.lines.get_mut(key) {
            change(line);
        }
        self.save()
    }

    /// Takes a pod off the list.
    pub fn forget(&mut self, key: &PodKey) -> io::Result<()> {
        if let Some(line) = self.lines.remove(key) {
            self.taken.remove(&line.index);
        }
        self.save()
    }

    /// Writes it, so that a reader sees the old one or the new one and nothing between.
    pub fn save(&self) -> io::Result<()> {
        let next = self.path.with_extension("json.next");
        let mut file = File::create(&next)?;
        let lines: Vec<&Line> = self.lines.values().collect();
        file.write_all(&serde_json::to_vec_pretty(&lines)?)?;
        file.sync_all()?;
        fs::rename(&next, &self.path)
    }

    /// The first index behind `last`, and from the beginning again, that no line has. There are far more of
    /// them than lines.
    fn free_after(&self, last: u16) -> u16 {
        let next = (last + 1..SUBNETS).chain(0..last);
        next.into_iter()
            .find(|index| !self.taken.contains(index))
            .unwrap_or(last)
    }
}

/// What the ledger in `dir` says, whoever has it; nothing if there is none.
///
/// # Errors
/// If it cannot be read.
pub fn read(dir: &Path) -> io::Result<Vec<Line>> {
    match fs::read(dir.join("pods.json")) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
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

    fn key(pod: &str) -> PodKey {
        PodKey {
            namespace: "ns".into(),
            pool: "p".into(),
            pod: pod.into(),
        }
    }

    #[test]
    fn a_pod_keeps_its_identity_and_address_across_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        let (a, b) = (ledger.line(&key("p-0")), ledger.line(&key("p-1")));
        assert_ne!((&a.uid, a.index), (&b.uid, b.index));
        ledger.change(&a.key, |line| line.pid = Some(7)).unwrap();
        drop(ledger);

        let mut again = Ledger::open(dir.path()).unwrap();
        let found = again.line(&key("p-0"));
        assert_eq!((&found.uid, found.index, found.pid), (&a.uid, a.index, Some(7)));
        assert_eq!(again.lines().count(), 2);
    }

    #[test]
    fn a_pod_whose_subnet_is_taken_gets_one_that_no_other_pod_has() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        let [a, b, c] = ["p-0", "p-1", "p-2"].map(|pod| ledger.line(&key(pod)));
        assert_eq!([a.index, b.index, c.index], [0, 1, 2]);
        assert_eq!(ledger.renumber(&a.key).unwrap(), 3);
        assert_eq!(ledger.line(&key("p-3")).index, 0, "what was given up is free");
        ledger.change(&a.key, |line| line.index = SUBNETS - 1).unwrap();
        ledger.forget(&b.key).unwrap();
        assert_eq!(ledger.renumber(&a.key).unwrap(), 1, "from the beginning again");
    }

    #[test]
    fn a_ledger_belongs_to_one_process_and_anybody_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        ledger.line(&key("p-0"));
        ledger.save().unwrap();
        let refused = Ledger::open(dir.path()).unwrap_err();
        assert!(matches!(refused, Error::InUse { .. }), "{refused}");
        assert_eq!(read(dir.path()).unwrap().len(), 1);
        drop(ledger);
        Ledger::open(dir.path()).unwrap();
    }

    #[test]
    fn a_ledger_that_cannot_be_read_is_an_error_and_not_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("pods.json"), "[{").unwrap();
        let Err(Error::Ledger { source, .. }) = Ledger::open(dir.path()) else {
            panic!("it was opened")
        };
        assert_eq!(source.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn uids_look_like_those_of_kubernetes() {
        assert_eq!(
            uid(0x0123456789abcdef0123456789abcdef),
            "01234567-89ab-4def-a123-456789abcdef"
        );
    }
}
