//! `ate dev`: a whole cluster in one process, on one machine.
//!
//! ```text
//! HTTP client --> router --ResumeActor--> ateapi (embedded store) --Run, Restore--> atelet --> worker 0..N
//!                    +-------------------------- HTTP ----------------------------------------^
//! ```
//!
//! Control plane, node daemon and router share this process. Each worker is a process of its own, in a
//! network of its own, as it would be in a pod; workers survive this process and are found again.

mod activator;
mod check;
mod crew;
mod drain;
mod remains;
mod sandbox;

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::net::{AddrParseError, Ipv4Addr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use holdfast_core::settings::SHORTEST_PERIOD;
use holdfast_images::{Layouts, PullOptions};
use holdfast_manifests::Manifests;
use holdfast_node::Sandboxes;
use holdfast_pods::Pods;
use holdfast_runtime::clock::{Clock, SystemClock};
use holdfast_runtime::duration::{self, DurationError};
use holdfast_runtime::logging::{self, LogFormat};
use holdfast_runtime::net::{Address, Listener};
use holdfast_runtime::shutdown::{Shutdown, insisted};
use holdfast_runtime::terminal::tell;
use holdfast_runtime::tokio;
use holdfast_store::embedded::Embedded;
use holdfast_worker::flags::Sandbox;
use rustix::fs::{Access, access};

use crate::failure::Failure;
use activator::ControlPlane;
use check::{Input, Plan};
use crew::{Crew, Reports};
use drain::Whose;

/// Run a whole cluster on this machine: control plane, node, workers and an HTTP router
#[derive(Args, Debug)]
pub struct Dev {
    /// Directory of the Kubernetes manifests to serve: ActorTemplate, WorkerPool, SandboxConfig, Secret
    #[arg(long, value_name = "DIR")]
    manifests: PathBuf,
    /// Directory of everything the cluster keeps; a cluster started on it again finds its actors
    #[arg(long, value_name = "DIR", default_value = "/var/lib/holdfast")]
    data_dir: PathBuf,
    /// Where the control plane listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8443")]
    listen: Address,
    /// Where the router listens for HTTP requests to actors
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    http: Address,
    /// Serve without TLS and without authentication where other hosts can reach it
    #[arg(long)]
    insecure_plaintext: bool,
    /// Use these control planes instead of running one: addresses, separated by commas
    #[arg(
        long,
        value_name = "ADDRESS,...",
        value_delimiter = ',',
        value_parser = Address::to_dial,
        conflicts_with = "listen"
    )]
    join: Vec<Address>,
    /// Workers of every pool, instead of what its manifest says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    workers: Option<u32>,
    /// What actors run in; auto takes runsc where it is recent enough, else plain processes
    #[arg(long, value_enum, default_value_t = SandboxChoice::Auto)]
    sandbox: SandboxChoice,
    /// The runsc to use instead of the one that a SandboxConfig names; actors then run in nothing else
    #[arg(long, value_name = "FILE")]
    runsc: Option<PathBuf>,
    /// The /16 that workers get their addresses from
    #[arg(long, value_name = "IPV4", default_value = "10.88.0.0", value_parser = pod_network)]
    pod_network: Ipv4Addr,
    /// How long a lease on an actor lives without renewal, e.g. 30s
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = lease)]
    lease_ttl: Duration,
    /// How long the node may let actors run without hearing from the control plane, e.g. 90s; it reports at
    /// every third of it
    #[arg(long, value_name = "DURATION", default_value = "90s", value_parser = duration::period)]
    node_session_ttl: Duration,
    /// How long an image pull may move no byte before it counts as stalled, e.g. 30s
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::period)]
    pull_stall: Duration,
    /// How long a failed transition may stand before it is undone, e.g. 10s
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::period)]
    settle_after: Duration,
    /// How long a snapshot that nothing points at any more is kept, e.g. 60s
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration::period)]
    collect_after: Duration,
}

/// A /16 is named by its first address.
fn pod_network(text: &str) -> Result<Ipv4Addr, String> {
    let address: Ipv4Addr = text.parse().map_err(|error: AddrParseError| error.to_string())?;
    match address.octets() {
        [_, _, 0, 0] => Ok(address),
        [a, b, ..] => Err(format!("it is the first address of a /16; write {a}.{b}.0.0")),
    }
}

/// The session of the replica is renewed at every fifteenth of its life.
fn lease(text: &str) -> Result<Duration, DurationError> {
    duration::at_least(15 * SHORTEST_PERIOD, text)
}

/// The one node's name.
const NODE: &str = "local";
/// How long workers outlive a cluster that was killed, waiting for it to be started again.
const ORPHAN_GRACE: &str = "120s";

/// What actors run in.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxChoice {
    /// runsc where it is recent enough, else plain processes
    Auto,
    /// gVisor; an error where it cannot be had
    Runsc,
    /// Plain processes, without isolation
    Process,
}

/// Runs the cluster until it is told to stop.
pub async fn run(args: Dev) -> Result<(), Failure> {
    logging::init(LogFormat::Text);
    let plan = Plan::new(&args)?;
    serve(args, plan).await.map_err(Failure::Cluster)
}

async fn serve(args: Dev, plan: Plan) -> Result<()> {
    let Plan { input, sandbox } = plan;
    if !rustix::process::geteuid().is_root() {
        bail!("ate dev makes a network for each worker, which takes root; run it with sudo");
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let shutdown = Shutdown::on_signal()?;
    // Everything that only one cluster can have comes first: what is another's is seen before anything is done.
    let http = Listener::bind(&args.http).await.context("--http")?;
    let http_address = http.address().clone();
    let control = match args.join.is_empty() {
        true => Some(Listener::bind(&args.listen).await.context("--listen")?),
        false => None,
    };
    make_dir(&input.places.objects)?;
    make_dir(&input.places.node)?;
    let store = match control {
        Some(_) => {
            remains::check(&input.places)?;
            Some(Embedded::open(&input.places.store, clock.clone())?)
        }
        None => None,
    };
    check_journal(&input.places.node.join("journal.redb"))?;
    let crew = Crew::new(Pods::open(pods_config(&args, &input, sandbox)?)?);

    let control_plane = ControlPlane::new(match &control {
        Some(listener) => vec![listener.address().clone()],
        None => args.join.clone(),
    });
    let node = node_config(&input, &control_plane, sandbox)?;
    let manifests = input.follower.current().clone();
    // Requests end first, then the parts that answer them.
    let (requests, parts) = (Shutdown::new(), Shutdown::new());
    let mut running = Vec::new();
    let reports = match store {
        Some(_) => Reports::ControlPlane,
        None => Reports::Crew,
    };
    if let (Some(listener), Some(store)) = (control, store) {
        let config = holdfast_control::Config {
            settings: input.settings,
            listener,
            store: Arc::new(store),
            surroundings: Arc::new(holdfast_control::Directory::new(input.watcher)),
            clock: clock.clone(),
            security: holdfast_control::Security::default(),
        };
        running.push(tokio::spawn(named(
            "control plane",
            holdfast_control::run(config, parts.clone()),
        )));
    }
    running.push(tokio::spawn(named(
        "node",
        holdfast_node::run(node, clock.clone(), parts.clone()),
    )));
    let surplus = crew.want(input.size.of(&manifests)).await?;
    let router = tokio::spawn(holdfast_router::serve(
        http,
        Arc::new(control_plane.clone()),
        clock,
        holdfast_router::Settings::default(),
        requests.triggered(),
    ));
    announce(&http_address, &control_plane, &manifests);
    let following = crew.clone().follow(
        surplus,
        input.follower,
        input.size,
        reports,
        control_plane.clone(),
    );
    let following = tokio::spawn(following);

    let failed = async {
        loop {
            if let Some(ended) = running.iter().position(tokio::task::JoinHandle::is_finished) {
                return running.swap_remove(ended).await;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let outcome = tokio::select! {
        biased;
        () = shutdown.triggered() => Ok(()),
        ended = failed => ended.context("a part of the cluster panicked").and_then(|result| result),
    };
    following.abort();
    requests.trigger();
    if outcome.is_ok() {
        let again = insisted()?;
        tell("stopping; press Ctrl-C again to leave actors that run to their last snapshots");
        let whose = match reports {
            Reports::ControlPlane => Whose::Everybody,
            Reports::Crew => Whose::On(crew.keys().await?.into_iter().collect()),
        };
        let settled = async {
            let _ = router.await;
            drain::suspend(&control_plane, &whose).await;
            parts.trigger();
            for part in running {
                let _ = part.await;
            }
        };
        tokio::select! {
            biased;
            _ = again => {}
            () = settled => {}
        }
    }
    parts.trigger();
    crew.stop().await?;
    outcome
}

/// Makes a directory of the cluster, which only its owner can look into (there is the memory of actors in it),
/// and sees that it can be written.
fn make_dir(dir: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .and_then(|()| Ok(access(dir, Access::WRITE_OK)?))
        .with_context(|| {
            format!(
                "cannot write to {}; name another directory with --data-dir",
                dir.display()
            )
        })
}

/// Sees that no atelet has the journal of this node. Ours takes it in a moment, and workers must not have
/// been touched by then if it cannot.
fn check_journal(path: &Path) -> Result<()> {
    let journal = match File::open(path) {
        Ok(journal) => journal,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    match journal.try_lock() {
        Err(TryLockError::WouldBlock) => bail!(
            "{}: another atelet has this journal open; stop it, or take another --data-dir",
            path.display()
        ),
        _ => Ok(()),
    }
}

/// Runs one worker, as a child of a cluster.
pub async fn work(worker: holdfast_worker::flags::Worker) -> Result<()> {
    logging::init(LogFormat::Text);
    Ok(holdfast_worker::flags::run(worker, Default::default(), Shutdown::on_signal()?).await?)
}

async fn named<E: std::error::Error + Send + Sync + 'static>(
    name: &'static str,
    part: impl Future<Output = Result<(), E>>,
) -> Result<()> {
    part.await.with_context(|| format!("the {name} failed"))
}

fn node_config(
    input: &Input,
    control_plane: &ControlPlane,
    sandbox: Sandbox,
) -> Result<holdfast_node::Config> {
    let objects = input.places.objects.display().to_string();
    let storage = [
        ("ATE_STORAGE_BACKEND".to_owned(), "file".to_owned()),
        ("ATE_STORAGE_ROOT".to_owned(), objects),
    ];
    Ok(holdfast_node::Config {
        node_name: NODE.into(),
        listen: "127.0.0.1:0".parse()?,
        advertise: None,
        base_dir: input.places.node.clone(),
        control_planes: control_plane.addresses(),
        settings: input.settings,
        storage: holdfast_objects::Config::from_vars(storage)?,
        // Templates of a cluster on one's own machine may name its directories.
        images: PullOptions {
            layouts: Layouts::Allowed,
            ..PullOptions::default()
        },
        sandboxes: match sandbox {
            Sandbox::Gvisor => Sandboxes::Gvisor {
                runsc: input.runsc.clone(),
            },
            Sandbox::Process => Sandboxes::Process,
        },
        security: holdfast_node::Security::default(),
        tracer: holdfast_rpc::trace::Tracer::default(),
    })
}

fn pods_config(args: &Dev, input: &Input, sandbox: Sandbox) -> Result<holdfast_pods::Config> {
    let base = input.places.node.display().to_string();
    let class = match sandbox {
        Sandbox::Gvisor => "gvisor",
        Sandbox::Process => "process",
    };
    Ok(holdfast_pods::Config {
        base: input.places.node.clone(),
        network: args.pod_network,
        program: std::env::current_exe().context("cannot find this program's own file")?,
        arguments: [
            "worker",
            "--base-dir",
            &base,
            "--sandbox",
            class,
            "--idle-exit",
            ORPHAN_GRACE,
            // Whoever ends workers here has put actors to sleep before, or been told not to wait for that.
            "--drain-timeout",
            "0",
        ]
        .map(str::to_owned)
        .into(),
    })
}

/// Says where everything is, and what to do with it.
fn announce(http: &Address, control_plane: &ControlPlane, manifests: &Manifests) {
    let endpoint = control_plane.first();
    tell(format_args!(
        "cluster is up: control plane {endpoint}, router http://{http}"
    ));
    if let Some(template) = manifests.catalog.templates().next() {
        let (namespace, name) = (&template.namespace, &template.name);
        let domain = holdfast_router::DOMAIN;
        tell(format_args!(
            "
try, in another terminal:
  export ATE_ENDPOINT={endpoint}
  ate create atespace demo
  ate create actor hello -a demo -t {namespace}/{name}
  curl -H 'Host: hello.demo.{domain}' http://{http}/
  ate suspend hello -a demo
"
        ));
    }
}
