//! The worker: one sandbox slot, served over a Unix socket to the node daemon.
//!
//! Two services. `ateom.Ateom` is the original's: run, checkpoint, restore. `holdfast.v1.WorkerControl` is
//! what it lacks: what goes on here, told as it changes, and stop, freeze, thaw.
//!
//! * One operation at a time. Its work is detached from its caller: who gives up does not undo it, and who
//!   repeats it joins it, or gets its result when it is done.
//! * Told to stop, it goes on until its actor has been put to sleep, for a while at most.
//! * A new incarnation begins by ending whatever an earlier one left running.

mod activity;
mod ateom;
mod control;
pub mod flags;
mod record;
mod request;
mod server;
mod slot;
mod verdict;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use holdfast_rpc::trace::Tracer;
use holdfast_runtime::shutdown::Shutdown;
use holdfast_sandbox::logs::Destination;

pub use server::{WorkerError, run};

/// What a worker is.
#[derive(Clone)]
pub struct Config {
    /// UID of the pod it lives in; names its socket and its network. A DNS label.
    pub pod_uid: String,
    /// Where node daemon and workers meet, `/var/lib/ateom-gvisor` in a cluster.
    pub base_dir: PathBuf,
    /// What its actors run in.
    pub class: Class,
    /// Stop when nobody has called for so long; a call in flight, such as a watch, counts all the time.
    pub idle_exit: Option<Duration>,
    /// For how long a worker that is told to stop goes on for its actor's sake, so that it can be put to sleep.
    /// Zero: its actor goes back to its last snapshot.
    pub drain_timeout: Duration,
    /// Triggered when it shall stop at once after all.
    pub hurry: Shutdown,
    /// Where the labelled output of actors goes: standard output in a pod.
    pub actor_log: Destination,
    /// Has a span of each call.
    pub tracer: Tracer,
}

/// What actors run in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// gVisor.
    Gvisor {
        /// How its actors are reached.
        network: Network,
    },
    /// Plain processes in the network of the worker, without isolation.
    Process {
        /// Where they answer: the pod's address, or the loopback address.
        address: IpAddr,
    },
}

/// The network of gVisor actors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// A namespace behind the pod's address, to which port 80 is forwarded.
    Netns,
    /// None at all.
    None,
}
