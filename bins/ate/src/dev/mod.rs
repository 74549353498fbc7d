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
mod drain;
mod sandbox;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use holdfast_core::settings::Settings;
use holdfast_images::{Layouts, PullOptions};
use holdfast_manifests::{Manifests, Watcher};
use holdfast_node::Sandboxes;
use holdfast_pods::Pods;
use holdfast_runtime::clock::{Clock, SystemClock};
use holdfast_runtime::duration;
use holdfast_runtime::logging::{self, LogFormat};
use holdfast_runtime::net::{Address, Listener};
use holdfast_runtime::shutdown::{Shutdown, signalled};
use holdfast_runtime::tokio;
use holdfast_store::embedded::Embedded;

use crate::failure::Failure;
use activator::ControlPlane;

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
    /// Use these control planes instead of running one: addresses, separated by commas
    #[arg(
        long,
        value_name = "ADDRESS,...",
        value_delimiter = ',',
        conflicts_with = "listen"
    )]
    join: Vec<Address>,
    /// Workers of every pool, instead of what its manifest says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    workers: Option<u32>,
    /// What actors run in; auto takes runsc where it is recent enough, else plain processes
    #[arg(long, value_enum, default_value_t = SandboxChoice::Auto)]
    sandbox: SandboxChoice,
    /// The runsc to use instead of the one that a SandboxConfig names
    #[arg(long, value_name = "FILE")]
    runsc: Option<PathBuf>,
    /// The /16 that workers get their addresses from
    #[arg(long, value_name = "IPV4", default_value = "10.88.0.0")]
    pod_network: Ipv4Addr,
    /// How long a lease on an actor lives without renewal, e.g. 30s
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::positive)]
    lease_ttl: Duration,
    /// How long an image pull may move no byte before it counts as stalled, e.g. 30s
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::positive)]
    pull_stall: Duration,
    /// How long a failed transition may stand before it is undone, e.g. 10s
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::positive)]
    settle_after: Duration,
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

/// Where the parts of a cluster lie in its directory.
struct Places {
    store: PathBuf,
    node: PathBuf,
    objects: PathBuf,
}

impl Places {
    fn below(dir: &Path) -> Places {
        Places {
            store: dir.join("store.redb"),
            node: dir.join("node"),
            objects: dir.join("objects"),
        }
    }
}

/// Runs the cluster until it is told to stop.
pub async fn run(args: Dev) -> Result<(), Failure> {
    logging::init(LogFormat::Text);
    let Checked { settings, watcher } = check(&args).map_err(Failure::Input)?;
    serve(args, settings, watcher).await.map_err(Failure::Cluster)
}

/// What the command line and the manifests say, found to make sense.
struct Checked {
    settings: Settings,
    watcher: Watcher,
}

fn check(args: &Dev) -> Result<Checked> {
    let settings = settings(args)?;
    let watcher = Watcher::open(&args.manifests).map_err(|errors| anyhow::anyhow!(listed(&errors)))?;
    Ok(Checked { settings, watcher })
}

async fn serve(args: Dev, settings: Settings, watcher: Watcher) -> Result<()> {
    let sandbox = sandbox::choose(args.sandbox)?;
    if !rustix::process::geteuid().is_root() {
        bail!("ate dev makes a network for each worker, which takes root; run it with sudo");
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let http = Listener::bind(&args.http).await?;
    let http_address = http.address().clone();
    let control = match args.join.is_empty() {
        true => Some(Listener::bind(&args.listen).await?),
        false => None,
    };
    std::fs::create_dir_all(&args.data_dir)
        .with_context(|| format!("cannot make the data directory {}", args.data_dir.display()))?;
    let places = Places::below(&args.data_dir);
    std::fs::create_dir_all(&places.objects)?;
    std::fs::create_dir_all(&places.node)?;

    let shutdown = Shutdown::on_signal()?;
    // Actors are put to sleep before the parts that could do so go away.
    let parts = Shutdown::new();
    let control_plane = ControlPlane::new(match &control {
        Some(listener) => vec![listener.address().clone()],
        None => args.join.clone(),
    });
    let manifests = watcher.current().clone();
    let mut running = Vec::new();
    if let Some(listener) = control {
        let store = Embedded::open(&places.store, clock.clone())?;
        let config = holdfast_control::Config {
            settings,
            listener,
            store: Arc::new(store),
            manifests: watcher,
            clock: clock.clone(),
        };
        running.push(tokio::spawn(named(
            "control plane",
            holdfast_control::run(config, parts.clone()),
        )));
    }
    let node = node_config(&args, &places, settings, &control_plane, sandbox)?;
    running.push(tokio::spawn(named(
        "node",
        holdfast_node::run(node, clock.clone(), parts.clone()),
    )));
    let pods = Pods::start(&pods_config(&args, &places, &manifests, sandbox)?)?;
    let router = holdfast_router::serve(
        http,
        Arc::new(control_plane.clone()),
        clock,
        holdfast_router::Settings::default(),
        parts.triggered(),
    );
    let router = tokio::spawn(router);
    announce(&http_address, &control_plane, &manifests);

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
    if outcome.is_ok() && args.join.is_empty() {
        let again = signalled()?;
        tokio::select! {
            biased;
            _ = again => {}
            () = drain::suspend_all(&control_plane) => {}
        }
    }
    parts.trigger();
    tokio::task::spawn_blocking(move || pods.stop()).await?;
    let _ = router.await;
    outcome
}

/// Runs one worker, as a child of a cluster.
pub async fn work(worker: holdfast_worker::flags::Worker) -> Result<()> {
    logging::init(LogFormat::Text);
    Ok(holdfast_worker::flags::run(worker, Shutdown::on_signal()?).await?)
}

async fn named<E: std::error::Error + Send + Sync + 'static>(
    name: &'static str,
    part: impl Future<Output = Result<(), E>>,
) -> Result<()> {
    part.await.with_context(|| format!("the {name} failed"))
}

fn settings(args: &Dev) -> Result<Settings> {
    let mut settings = Settings::DEFAULT.with_lease_ttl(args.lease_ttl);
    settings.pull.stall_after = args.pull_stall;
    settings.workflow.settle_after = args.settle_after;
    settings.check().with_context(|| {
        format!(
            "--lease-ttl {}, --pull-stall {} and --settle-after {} do not go together",
            duration::show(args.lease_ttl),
            duration::show(args.pull_stall),
            duration::show(args.settle_after)
        )
    })?;
    Ok(settings)
}

fn node_config(
    args: &Dev,
    places: &Places,
    settings: Settings,
    control_plane: &ControlPlane,
    sandbox: holdfast_worker::flags::Sandbox,
) -> Result<holdfast_node::Config> {
    let objects = places
        .objects
        .to_str()
        .context("the data directory's path is not UTF-8")?
        .to_owned();
    let storage = [
        ("ATE_STORAGE_BACKEND".to_owned(), "file".to_owned()),
        ("ATE_STORAGE_ROOT".to_owned(), objects),
    ];
    Ok(holdfast_node::Config {
        node_name: NODE.into(),
        listen: "127.0.0.1:0".parse()?,
        advertise: None,
        base_dir: places.node.clone(),
        control_planes: control_plane.addresses(),
        settings,
        storage: holdfast_objects::Config::from_vars(storage)?,
        // Templates of a cluster on one's own machine may name its directories.
        images: PullOptions {
            layouts: Layouts::Allowed,
            ..PullOptions::default()
        },
        sandboxes: match sandbox {
            holdfast_worker::flags::Sandbox::Gvisor => Sandboxes::Gvisor {
                runsc: args.runsc.clone(),
            },
            holdfast_worker::flags::Sandbox::Process => Sandboxes::Process,
        },
    })
}

fn pods_config(
    args: &Dev,
    places: &Places,
    manifests: &Manifests,
    sandbox: holdfast_worker::flags::Sandbox,
) -> Result<holdfast_pods::Config> {
    let mut pools = manifests.pools.clone();
    if let Some(workers) = args.workers {
        for pool in &mut pools {
            pool.replicas = workers;
        }
    }
    let base = places.node.display().to_string();
    let class = match sandbox {
        holdfast_worker::flags::Sandbox::Gvisor => "gvisor",
        holdfast_worker::flags::Sandbox::Process => "process",
    };
    Ok(holdfast_pods::Config {
        base: places.node.clone(),
        pools,
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
        ]
        .map(str::to_owned)
        .into(),
    })
}

fn announce(http: &Address, control_plane: &ControlPlane, manifests: &Manifests) {
    let endpoint = control_plane.first();
    eprintln!("cluster is up: control plane {endpoint}, router http://{http}");
    if let Some(template) = manifests.catalog.templates().next() {
        let (namespace, name) = (&template.namespace, &template.name);
        eprintln!("\ntry, in another terminal:");
        eprintln!("  export ATE_ENDPOINT={endpoint}");
        eprintln!("  ate create atespace demo");
        eprintln!("  ate create actor hello -a demo -t {namespace}/{name}");
        eprintln!(
            "  curl -H 'Host: hello.demo.{}' http://{http}/",
            holdfast_router::DOMAIN
        );
        eprintln!("  ate suspend hello -a demo\n");
    }
}

fn listed(errors: &[holdfast_manifests::ManifestError]) -> String {
    errors
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}
