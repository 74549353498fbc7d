//! Worker pods on one machine: what a scheduler and a kubelet do in a cluster.
//!
//! Every pool gets its replicas; each is a worker process in a network of its own, started again when
//! it dies. Workers outlive this process when it is killed, and the next one finds them again by the
//! ledger it keeps, so a control plane that crashes takes no actor with it.

mod ledger;
mod pod;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use holdfast_manifests::PoolSpec;
use holdfast_sandbox::layout::Layout;
use holdfast_sandbox::names::Label;
use holdfast_sandbox::network::Subnet;

use ledger::{Ledger, Line};
pub use pod::Stop;

/// What to keep running.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where everything lies.
    pub base: PathBuf,
    /// The pools and how many workers each has.
    pub pools: Vec<PoolSpec>,
    /// The /16 that pod addresses come from.
    pub network: Ipv4Addr,
    /// How a worker is started; `--pod-uid` and its value are added.
    pub program: PathBuf,
    /// Arguments before those.
    pub arguments: Vec<String>,
}

/// Why the pods could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ledger cannot be used.
    #[error("{path}: {source}; move it away to start with new workers")]
    Ledger {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: std::io::Error,
    },
    /// There are more workers than addresses.
    #[error("{wanted} workers do not fit in {network}/16; lower the replicas of a pool")]
    TooMany {
        /// How many are wanted.
        wanted: usize,
        /// The network.
        network: Ipv4Addr,
    },
    /// A pool's name cannot name pods.
    #[error("pool {0} cannot name pods: {1}")]
    Name(String, String),
}

/// The pods, running.
#[derive(Debug)]
pub struct Pods {
    threads: Vec<thread::JoinHandle<()>>,
    stop: Arc<Stop>,
}

impl Pods {
    /// Starts every pool's workers, or finds them again.
    ///
    /// # Errors
    /// If the ledger or the configuration cannot be used; nothing has been started then. A worker that
    /// cannot be started is reported in the log and tried again.
    pub fn start(config: &Config) -> Result<Pods, Error> {
        let layout = Layout::new(&config.base);
        let path = config.base.join("pods.json");
        let mut ledger = Ledger::open(&path).map_err(|source| Error::Ledger {
            path: path.clone(),
            source,
        })?;
        let mut wanted = Vec::new();
        for pool in &config.pools {
            for index in 0..pool.replicas {
                wanted.push((
                    pool.namespace.to_string(),
                    pool.name.to_string(),
                    format!("{}-{index}", pool.name),
                ));
            }
        }
        let mut lines = Vec::new();
        for (namespace, pool, pod) in &wanted {
            lines.push(ledger.line(namespace, pool, pod));
        }
        ledger.save().map_err(|source| Error::Ledger {
            path: path.clone(),
            source,
        })?;
        let ledger = Arc::new(std::sync::Mutex::new(ledger));
        let mut plans = Vec::new();
        for line in lines {
            let subnet = Subnet::nth(config.network, line.index).ok_or(Error::TooMany {
                wanted: wanted.len(),
                network: config.network,
            })?;
            let uid = Label::parse("pod UID", &line.uid)
                .map_err(|error| Error::Name(line.pool.clone(), error.to_string()))?;
            plans.push(pod::Pod {
                line,
                uid,
                subnet,
                base: config.network,
                layout: layout.clone(),
                logs: config.base.join("logs"),
                program: config.program.clone(),
                arguments: config.arguments.clone(),
                ledger: ledger.clone(),
            });
        }
        let stop = Arc::new(Stop::default());
        let threads = plans
            .into_iter()
            .map(|pod| {
                let stop = stop.clone();
                thread::spawn(move || pod.supervise(&stop))
            })
            .collect();
        Ok(Pods { threads, stop })
    }

    /// Ends every worker, gently at first, and removes its network. Blocks until it is done.
    pub fn stop(self) {
        self.stop.request();
        for thread in self.threads {
            // A supervisor that panicked has said so; the others are still to be waited for.
            let _ = thread.join();
        }
    }
}

/// The process ids of the workers that a cluster in `base` runs, by pod name; for those who test it.
///
/// # Errors
/// If the ledger cannot be read.
pub fn worker_pids(base: &Path) -> std::io::Result<Vec<(String, u32)>> {
    let ledger = Ledger::open(&base.join("pods.json"))?;
    Ok(ledger
        .running()
        .map(|line: &Line| (line.pod.clone(), line.pid.unwrap_or_default()))
        .collect())
}
