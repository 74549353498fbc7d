//! What a worker's program is told, and how that becomes a worker: the same for `ateom-gvisor` and for the
//! workers of `ate dev`.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::{Args, ValueEnum};
use holdfast_rpc::trace::Tracer;
use holdfast_runtime::clock::SystemClock;
use holdfast_runtime::shutdown::{Shutdown, insisted};
use holdfast_runtime::{duration, flags, tokio};
use holdfast_sandbox::names::{Label, NameError};

use crate::{Class, Config, Network, WorkerError};

/// One worker: a sandbox slot in a pod.
#[derive(Args, Clone, Debug)]
pub struct Worker {
    /// UID of the pod it lives in
    #[arg(long, value_name = "UID", value_parser = pod_uid)]
    pub pod_uid: String,
    /// Where node daemon and workers meet
    #[arg(long, value_name = "DIR", default_value = "/var/lib/ateom-gvisor", value_parser = flags::shared_directory)]
    pub base_dir: PathBuf,
    /// What actors run in; plain processes have no isolation, and snapshots of data directories only
    #[arg(long, value_enum, default_value_t = Sandbox::Gvisor)]
    pub sandbox: Sandbox,
    /// The pod's address, where plain processes serve
    #[arg(long, value_name = "IP", env = "POD_IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub pod_ip: IpAddr,
    /// Stop when no node daemon has called for so long, e.g. 60s; without it, never
    #[arg(long, value_name = "DURATION", value_parser = duration::positive)]
    pub idle_exit: Option<Duration>,
    /// How long a worker that is told to stop lets its actor run on, so that it can be put to sleep, e.g. 60s;
    /// told again, or with 0, it ends at once, and its actor goes back to its last snapshot
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration::parse)]
    pub drain_timeout: Duration,
}

/// It names a directory, a socket and a network.
fn pod_uid(text: &str) -> Result<String, NameError> {
    Label::parse("pod UID", text).map(|uid| uid.as_str().to_owned())
}

/// What actors run in.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sandbox {
    /// gVisor
    Gvisor,
    /// Plain processes
    Process,
}

/// Serves until asked to stop.
///
/// # Errors
/// If it cannot begin, or something is left behind at the end.
pub async fn run(worker: Worker, tracer: Tracer, shutdown: Shutdown) -> Result<(), WorkerError> {
    let class = match worker.sandbox {
        Sandbox::Gvisor => Class::Gvisor {
            network: Network::Netns,
        },
        Sandbox::Process => Class::Process {
            address: worker.pod_ip,
        },
    };
    let config = Config {
        pod_uid: worker.pod_uid,
        base_dir: worker.base_dir,
        class,
        idle_exit: worker.idle_exit,
        drain_timeout: worker.drain_timeout,
        hurry: told_again(&shutdown),
        actor_log: Arc::new(Mutex::new(std::io::stdout())),
        tracer,
    };
    crate::run(config, Arc::new(SystemClock), shutdown).await
}

/// A token that goes off when this process is told to stop once more after `shutdown`.
fn told_again(shutdown: &Shutdown) -> Shutdown {
    let hurry = Shutdown::new();
    let (first, token) = (shutdown.triggered(), hurry.clone());
    tokio::spawn(async move {
        first.await;
        // Only now: it would see the first signal as well.
        match insisted() {
            Ok(again) => {
                let signal = again.await;
                tracing::warn!(signal, "asked to stop again; the actor is not waited for");
                token.trigger();
            }
            Err(error) => tracing::warn!(%error, "a second wish to stop will not be heard"),
        }
    });
    hurry
}
