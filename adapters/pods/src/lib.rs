//! Worker pods on one machine: what a scheduler and a kubelet do in a cluster.
//!
//! Every pool gets its replicas; each is a worker process in a network of its own, started again when
//! it dies. Workers outlive this process when it is killed, and the next one finds them again by the
//! ledger it keeps, so a control plane that crashes takes no actor with it.

mod ledger;
mod pod;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use holdfast_manifests::PoolSpec;
use serde::{Deserialize, Serialize};

use ledger::{Ledger, Line};
use pod::{Pod, Wish, Wishes};

/// The most workers that one machine runs.
pub const MOST: u32 = 256;

/// What to start, and where.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where everything lies.
    pub base: PathBuf,
    /// The /16 that pod addresses come from.
    pub network: Ipv4Addr,
    /// How a worker is started; `--pod-uid` and its value are added.
    pub program: PathBuf,
    /// Arguments before those.
    pub arguments: Vec<String>,
}

/// Names one pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PodKey {
    /// The namespace of its pool.
    pub namespace: String,
    /// Its pool.
    pub pool: String,
    /// Its own name: the pool's and a number.
    pub pod: String,
}

impl fmt::Display for PodKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.namespace, self.pod)
    }
}

/// Why there cannot be these pods.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has the pods of this directory.
    #[error("{}: another cluster runs its workers in this directory; stop it, or use another one", .dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// The ledger cannot be used.
    #[error("{}: {source}; the directory must be writable, and the file as it was written: move it away to start with new workers", .path.display())]
    Ledger {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: std::io::Error,
    },
    /// There are more workers than one machine runs.
    #[error("the pools ask for {wanted} workers, and one machine runs {MOST} at most; lower their replicas")]
    TooMany {
        /// How many are wanted.
        wanted: u64,
    },
    /// A pool's name cannot name pods.
    #[error("pool {0} cannot name pods: {1}")]
    Name(String, String),
}

/// Whether one machine runs the workers of these pools.
///
/// # Errors
/// [`Error::TooMany`].
pub fn check(pools: &[PoolSpec]) -> Result<(), Error> {
    let wanted = pools.iter().map(|pool| u64::from(pool.replicas)).sum();
    match wanted <= u64::from(MOST) {
        true => Ok(()),
        false => Err(Error::TooMany { wanted }),
    }
}

/// The pods of one directory, which belongs to this process as long as it has them.
#[derive(Debug)]
pub struct Pods {
    config: Config,
    ledger: Arc<Mutex<Ledger>>,
    running: BTreeMap<PodKey, Supervisor>,
}

#[derive(Debug)]
struct Supervisor {
    wishes: Arc<Wishes>,
    thread: thread::JoinHandle<()>,
}

impl Pods {
    /// Takes possession of the directory. Nothing is started, ended or changed in it yet.
    ///
    /// # Errors
    /// If another process has it, or the ledger in it cannot be used.
    pub fn open(config: Config) -> Result<Pods, Error> {
        let ledger = Ledger::open(&config.base)?;
        Ok(Pods {
            config,
            ledger: Arc::new(Mutex::new(ledger)),
            running: BTreeMap::new(),
        })
    }

    /// Starts those workers of these pools that do not run, or finds them again. What an earlier process
    /// left and no pool wants is removed if nothing of it runs; what does run is found again as well, and
    /// is among those that are returned: who runs and is not wanted. See [`Pods::end`].
    ///
    /// # Errors
    /// If there cannot be such pods; nothing has been started then. A worker that cannot be started is
    /// reported in the log and tried again.
    pub fn want(&mut self, pools: &[PoolSpec]) -> Result<Vec<PodKey>, Error> {
        check(pools)?;
        let wanted: BTreeSet<PodKey> = pools.iter().flat_map(replicas).collect();
        for (pod, found) in self.missing(&wanted)? {
            if found.is_some() || wanted.contains(&pod.line.key) {
                let wishes = Arc::new(Wishes::default());
                let (key, heard) = (pod.line.key.clone(), wishes.clone());
                let thread = thread::spawn(move || pod.supervise(found, &heard));
                self.running.insert(key, Supervisor { wishes, thread });
            } else {
                tracing::info!(pod = %pod.line.key, "removing what is left of a worker that is not wanted any more");
                pod.remove();
            }
        }
        let surplus = self.running.keys().filter(|key| !wanted.contains(key));
        Ok(surplus.cloned().collect())
    }

    /// Ends these pods for good: their workers, gently at first, and everything they had. Blocks until it
    /// is done.
    pub fn end(&mut self, pods: &[PodKey]) {
        let ending: Vec<Supervisor> = pods.iter().filter_map(|key| self.running.remove(key)).collect();
        end_all(ending, Wish::Gone);
    }

    /// Ends every worker, gently at first, and removes its network; who it was is kept for the next start.
    /// Blocks until it is done.
    pub fn stop(&mut self) {
        let ending = std::mem::take(&mut self.running);
        end_all(ending.into_values().collect(), Wish::Stopped);
    }

    /// The pods whose workers run, or are about to.
    pub fn keys(&self) -> impl Iterator<Item = &PodKey> {
        self.running.keys()
    }

    /// Every pod that is wanted or listed and has no supervisor, with the worker it still has.
    fn missing(&self, wanted: &BTreeSet<PodKey>) -> Result<Vec<(Pod, Option<pod::Worker>)>, Error> {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        for key in wanted {
            ledger.line(key);
        }
        ledger.save().map_err(|source| Error::Ledger {
            path: self.config.base.join("pods.json"),
            source,
        })?;
        ledger
            .lines()
            .filter(|line| !self.running.contains_key(&line.key))
            .map(|line| {
                let pod = Pod::new(line.clone(), &self.config, self.ledger.clone())?;
                let found = pod.find();
                Ok((pod, found))
            })
            .collect()
    }
}

fn end_all(ending: Vec<Supervisor>, wish: Wish) {
    for supervisor in &ending {
        supervisor.wishes.make(wish);
    }
    for supervisor in ending {
        // A supervisor that panicked has said so; the others are still to be waited for.
        let _ = supervisor.thread.join();
    }
}

/// The pods of a pool.
fn replicas(pool: &PoolSpec) -> impl Iterator<Item = PodKey> {
    (0..pool.replicas).map(|index| PodKey {
        namespace: pool.namespace.to_string(),
        pool: pool.name.to_string(),
        pod: format!("{}-{index}", pool.name),
    })
}

/// The process ids of the workers that a cluster in `base` runs, by pod name; for those who test it.
///
/// # Errors
/// If the ledger cannot be read.
pub fn worker_pids(base: &Path) -> std::io::Result<Vec<(String, u32)>> {
    let lines = ledger::read(base)?;
    let running = |line: Line| line.pid.map(|pid| (line.key.pod, pid));
    Ok(lines.into_iter().filter_map(running).collect())
}
