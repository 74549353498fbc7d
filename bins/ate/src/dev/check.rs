//! What the command line and the manifests say, found to make sense before anything is touched.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use holdfast_core::settings::{BrokenRelation, Setting, Settings};
use holdfast_manifests::{ManifestError, Manifests, Watcher};
use holdfast_runtime::duration;
use holdfast_runtime::terminal::tell;
use holdfast_worker::flags::Sandbox;

use super::crew::Size;
use super::{Dev, SandboxChoice, sandbox};
use crate::failure::Failure;

/// What a cluster is started with.
pub struct Plan {
    pub input: Input,
    /// What actors run in.
    pub sandbox: Sandbox,
}

/// What was given, whatever this machine has.
pub struct Input {
    pub settings: Settings,
    pub places: Places,
    /// For the control plane, if there is one.
    pub watcher: Watcher,
    /// For whoever starts workers.
    pub follower: Watcher,
    pub size: Size,
    /// The runsc to use instead of the one that a SandboxConfig names.
    pub runsc: Option<PathBuf>,
}

/// Where the parts of a cluster lie in its directory.
pub struct Places {
    pub store: PathBuf,
    pub node: PathBuf,
    pub objects: PathBuf,
}

/// The digest of nothing, which stands where somebody is to put one.
const PLACEHOLDER: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// `sun_path` has 108 bytes on Linux, the last one for the terminating NUL.
const SOCKET_BYTES_MAX: usize = 107;

impl Plan {
    /// Checks everything that can be checked without touching the network or the data directory.
    ///
    /// # Errors
    /// The first thing that is wrong, of the manifests all; or that this machine has no gVisor.
    pub fn new(args: &Dev) -> Result<Plan, Failure> {
        let input = Input::new(args).map_err(Failure::Input)?;
        let sandbox = match input.runsc {
            Some(_) => Sandbox::Gvisor,
            None => sandbox::choose(args.sandbox).map_err(Failure::Cluster)?,
        };
        no_placeholders(input.follower.current(), sandbox, input.runsc.as_deref())
            .with_context(|| format!("--manifests {}", args.manifests.display()))
            .map_err(Failure::Input)?;
        warn_of_nothing(args, input.follower.current());
        Ok(Plan { input, sandbox })
    }
}

impl Input {
    fn new(args: &Dev) -> Result<Input> {
        for (flag, address) in [("--listen", &args.listen), ("--http", &args.http)] {
            ensure!(
                args.insecure_plaintext || address.is_local(),
                "{flag} {address}: other hosts can reach this address, and nothing there is encrypted or authenticated; \
                 listen on 127.0.0.1 or a Unix socket, or say --insecure-plaintext if you trust everyone on this network"
            );
        }
        let settings = settings(args)?;
        let places = Places::below(&args.data_dir)?;
        let size = args.workers.map_or(Size::Declared, Size::Fixed);
        let open = || {
            Watcher::open(&args.manifests).map_err(|errors| {
                anyhow::anyhow!("--manifests {}: {}", args.manifests.display(), listed(&errors))
            })
        };
        let (watcher, follower) = (open()?, open()?);
        let manifests = follower.current();
        holdfast_pods::check(&size.of(manifests))
            .with_context(|| format!("--manifests {}", args.manifests.display()))?;
        let runsc = match (&args.runsc, args.sandbox) {
            (None, _) => None,
            (Some(_), SandboxChoice::Process) => {
                bail!("--runsc: plain processes need no runsc; leave it out, or say --sandbox runsc")
            }
            (Some(file), SandboxChoice::Auto | SandboxChoice::Runsc) => {
                Some(sandbox::given(file).with_context(|| format!("--runsc {}", file.display()))?)
            }
        };
        Ok(Input {
            settings,
            places,
            watcher,
            follower,
            size,
            runsc,
        })
    }
}

impl Places {
    fn below(dir: &Path) -> Result<Places> {
        let flag = || format!("--data-dir {}", dir.display());
        let dir = std::path::absolute(dir).with_context(flag)?;
        let places = Places {
            store: dir.join("store.redb"),
            node: dir.join("node"),
            objects: dir.join("objects"),
        };
        let socket = places
            .node
            .join("ateoms/00000000-0000-0000-0000-000000000000/ateom.sock");
        let (length, excess) = (
            dir.as_os_str().len(),
            socket.as_os_str().len().saturating_sub(SOCKET_BYTES_MAX),
        );
        ensure!(
            excess == 0,
            "{}: is too long: the sockets of workers below it may have {SOCKET_BYTES_MAX} bytes, which leaves {} for it",
            flag(),
            length - excess
        );
        ensure!(
            !dir.exists() || dir.is_dir(),
            "{}: is not a directory; name one, or what is to become one",
            flag()
        );
        ensure!(dir.to_str().is_some(), "{}: is not UTF-8", flag());
        Ok(places)
    }
}

fn settings(args: &Dev) -> Result<Settings> {
    let mut settings = Settings::DEFAULT.with_lease_ttl(args.lease_ttl);
    settings.node.session_ttl = args.node_session_ttl;
    settings.node.heartbeat_every = args.node_session_ttl / 3;
    settings.pull.stall_after = args.pull_stall;
    settings.workflow.settle_after = args.settle_after;
    settings.workflow.collect_after = args.collect_after;
    let told = |broken: BrokenRelation| broken.told(|setting| flag(setting, args), duration::show);
    settings.check().map_err(|broken| anyhow::anyhow!(told(broken)))?;
    Ok(settings)
}

/// The flag that sets this, and to what.
fn flag(setting: Setting, args: &Dev) -> Option<String> {
    let (flag, value) = match setting {
        Setting::LeaseTtl => ("--lease-ttl", args.lease_ttl),
        Setting::LeaseRenewEvery => ("a third of --lease-ttl", args.lease_ttl),
        Setting::LeaseRetryFrom => ("a tenth of --lease-ttl", args.lease_ttl),
        Setting::SessionTtl => ("a fifth of --lease-ttl", args.lease_ttl),
        Setting::SessionRenewEvery => ("a fifteenth of --lease-ttl", args.lease_ttl),
        Setting::NodeSessionTtl => ("--node-session-ttl", args.node_session_ttl),
        Setting::HeartbeatEvery => ("a third of --node-session-ttl", args.node_session_ttl),
        Setting::PullStallAfter => ("--pull-stall", args.pull_stall),
        Setting::SettleAfter => ("--settle-after", args.settle_after),
        Setting::CollectAfter => ("--collect-after", args.collect_after),
        _ => return None,
    };
    Some(format!("{flag} {}", duration::show(value)))
}

/// Refuses digests that nothing has: pulling such an image would fail only when an actor is resumed.
fn no_placeholders(manifests: &Manifests, sandbox: Sandbox, runsc: Option<&Path>) -> Result<()> {
    const REMEDY: &str = "`cargo xtask images DIR` writes images and manifests that go with them";
    for template in manifests.catalog.templates() {
        let images = template
            .workload
            .containers
            .iter()
            .map(|container| &container.image);
        for image in images.chain([&template.workload.pause_image]) {
            ensure!(
                !image.as_str().contains(PLACEHOLDER),
                "ActorTemplate {}/{}: {image}: this digest is a placeholder; put that of your own image there, or {REMEDY}",
                template.namespace,
                template.name
            );
        }
    }
    if runsc.is_some() || sandbox == Sandbox::Process {
        return Ok(());
    }
    for pool in manifests.catalog.pools() {
        let key = (pool.namespace.clone(), pool.name.clone());
        let files = manifests
            .catalog
            .assets(&key)
            .map(|found| found.assets)
            .unwrap_or_default();
        for (name, file) in files.values().flatten() {
            ensure!(
                file.sha256.as_str() != PLACEHOLDER,
                "the SandboxConfig of WorkerPool {}/{}: {name}: this digest is a placeholder; put that of your runsc \
                 there, say --runsc FILE, or {REMEDY}",
                pool.namespace,
                pool.name
            );
        }
    }
    Ok(())
}

fn warn_of_nothing(args: &Dev, manifests: &Manifests) {
    let dir = args.manifests.display();
    if manifests.catalog.templates().next().is_none() {
        tell(format_args!(
            "WARNING: {dir} has no ActorTemplate: no actor can be created until it has; only its own *.yaml and *.yml \
             files are read, none of directories below it"
        ));
    }
    if manifests.pools.iter().all(|pool| pool.replicas == 0)
        && (args.workers.is_none() || manifests.pools.is_empty())
    {
        tell(format_args!(
            "WARNING: {dir} has no WorkerPool with replicas: no actor can run until it has"
        ));
    }
}

fn listed(errors: &[ManifestError]) -> String {
    errors
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}
