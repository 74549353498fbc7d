//! A cluster to show: `ate dev` on images, manifests and a directory of its own.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use holdfast_tests::images::{Ballast, Images};
use holdfast_tests::process::{Process, binary};
use holdfast_tests::registry::Registry;
use holdfast_tests::{http, wait};
use sha2::{Digest, Sha256};

use crate::client::{ATESPACE, Client};
use crate::manifests::{self, Template};
use crate::{Args, Sandbox};

/// The lease TTL of the demo: short, so that a slow pull visibly outlives it.
pub const LEASE_TTL: Duration = Duration::from_secs(3);
/// After how long without a byte a pull has stalled, in the demo.
pub const PULL_STALL: Duration = Duration::from_secs(2);
/// After how long the demo's cluster undoes a transition that failed.
pub const SETTLE_AFTER: Duration = Duration::from_secs(2);
/// More than anything in the demo should take.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// How many bytes the image of the slow pull has beside its program.
const SLOW_IMAGE_BYTES: u64 = 6 << 20;
/// The image whose pull the original needed 5.5 GB of memory for.
pub const LARGE_IMAGE_BYTES: u64 = 1_500_000_000;
const HUNG_IMAGE_BYTES: u64 = 2 << 20;

pub struct Options {
    pub workers: u16,
    pub sandbox: Sandbox,
    /// Control planes that run already; empty for one in the same process.
    pub join: Vec<SocketAddr>,
    /// Bytes of a further image, with a template named `large`; none unless they are named.
    pub large_image: Option<u64>,
    /// Distinguishes the networks of two clusters that run at once.
    pub network: &'static str,
}

impl From<&Args> for Options {
    fn from(args: &Args) -> Options {
        Options {
            workers: args.workers,
            sandbox: args.sandbox,
            join: Vec::new(),
            large_image: args.large_image.then_some(LARGE_IMAGE_BYTES),
            network: "10.88.0.0",
        }
    }
}

pub struct Cluster {
    parts: Parts,
    pub sandbox: Kind,
    pub registry: Registry,
    pub client: Client,
    process: Process,
    grpc: SocketAddr,
    router: SocketAddr,
    arguments: Vec<String>,
}

/// What the cluster's actors run in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Gvisor,
    Process,
}

impl Kind {
    pub fn describe(self) -> &'static str {
        match self {
            Kind::Gvisor => "gVisor (runsc)",
            Kind::Process => "plain processes, NO ISOLATION; snapshots hold data directories only",
        }
    }
}

/// Images, registry and manifests: what a cluster is started on.
pub struct Parts {
    dir: tempfile::TempDir,
    _images: Images,
}

impl Parts {
    /// Builds the images, and writes the manifests of a pool and its templates.
    pub fn prepare(kind: Kind, workers: u16, large_image: Option<u64>) -> Result<(Parts, Registry)> {
        // Short: the path of a worker's socket below it has 107 bytes at most.
        let dir = tempfile::Builder::new().prefix("hf").tempdir()?;
        let layout = dir.path().join("images");
        fs::create_dir_all(&layout)?;
        let images = Images::build(&layout)?;
        let slow = images.add_large("slow", SLOW_IMAGE_BYTES, Ballast::Noise { seed: 1 })?;
        let hung = images.add_large("hung", HUNG_IMAGE_BYTES, Ballast::Noise { seed: 2 })?;
        let held = images.add_large("held", SLOW_IMAGE_BYTES, Ballast::Noise { seed: 3 })?;
        let registry = Registry::serve(&layout)?;
        let template = |name: &str, image: String| Template {
            name: name.to_owned(),
            pause: images.pause.to_string(),
            image,
            kind,
        };
        let mut documents = vec![
            manifests::pool(workers),
            template("counter", images.counter.to_string()).yaml(),
        ];
        let mut served = vec![("slow", slow), ("hung", hung), ("held", held)];
        if let Some(bytes) = large_image {
            served.push((
                "large",
                images.add_large("large", bytes, Ballast::Noise { seed: 4 })?,
            ));
        }
        for (name, image) in &served {
            let served = images.served_by(&registry, image)?;
            documents.push(template(name, served.to_string()).yaml());
        }
        documents.push(manifests::sandbox_config(&assets(kind)?));
        let manifests = dir.path().join("manifests");
        fs::create_dir_all(&manifests)?;
        fs::write(manifests.join("demo.yaml"), documents.join("---\n"))?;
        Ok((Parts { dir, _images: images }, registry))
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn manifests(&self) -> PathBuf {
        self.dir.path().join("manifests")
    }
}

impl Cluster {
    pub fn start(options: &Options) -> Result<Cluster> {
        let kind = choose(options.sandbox)?;
        let (parts, registry) = Parts::prepare(kind, options.workers, options.large_image)?;
        Cluster::start_on(parts, registry, kind, options)
    }

    pub fn start_on(parts: Parts, registry: Registry, kind: Kind, options: &Options) -> Result<Cluster> {
        let data = parts.dir().join("data");
        let mut arguments: Vec<String> = ["dev", "--manifests"].map(str::to_owned).into();
        arguments.push(parts.manifests().display().to_string());
        for (flag, value) in [
            ("--data-dir", data.display().to_string()),
            (
                "--sandbox",
                if kind == Kind::Gvisor { "runsc" } else { "process" }.to_owned(),
            ),
            ("--pod-network", options.network.to_owned()),
            ("--lease-ttl", format!("{}ms", LEASE_TTL.as_millis())),
            ("--pull-stall", format!("{}ms", PULL_STALL.as_millis())),
            ("--settle-after", format!("{}ms", SETTLE_AFTER.as_millis())),
        ] {
            arguments.extend([flag.to_owned(), value]);
        }
        let join: Vec<String> = options.join.iter().map(ToString::to_string).collect();
        if !join.is_empty() {
            arguments.extend(["--join".to_owned(), join.join(",")]);
        }
        let mut first = arguments.clone();
        first.extend(["--http", "127.0.0.1:0"].map(str::to_owned));
        if join.is_empty() {
            first.extend(["--listen", "127.0.0.1:0"].map(str::to_owned));
        }
        let (process, grpc, router) = launch(parts.dir(), &first)?;
        arguments.extend(["--http".to_owned(), router.to_string()]);
        let addresses = if join.is_empty() {
            arguments.extend(["--listen".to_owned(), grpc.to_string()]);
            vec![grpc]
        } else {
            options.join.clone()
        };
        let client = Client::new(&addresses)?;
        let cluster = Cluster {
            parts,
            sandbox: kind,
            registry,
            client,
            process,
            grpc,
            router,
            arguments,
        };
        cluster.wait_for_workers(usize::from(options.workers))?;
        Ok(cluster)
    }

    pub fn dir(&self) -> &Path {
        self.parts.dir()
    }

    /// The node's base directory.
    pub fn node_dir(&self) -> PathBuf {
        self.dir().join("data").join("node")
    }

    /// The directories of its actors on its node.
    pub fn actors_dir(&self) -> PathBuf {
        self.node_dir().join("actors").join(ATESPACE)
    }

    /// What the cluster has logged.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// One HTTP request to an actor, through the router.
    pub fn count(&self, actor: &str, path: &str) -> Result<Counted> {
        let host = format!("{actor}.demo.actors.resources.substrate.ate.dev");
        let response = http::get(self.router, &host, path, PATIENCE)?;
        ensure!(
            response.status == 200,
            "{actor}: HTTP {}: {}",
            response.status,
            response.text()
        );
        let body = response.json()?;
        let count = body["count"]
            .as_u64()
            .with_context(|| format!("{actor}: no count in {body}"))?;
        Ok(Counted {
            count,
            nonce: body["nonce"].to_string(),
        })
    }

    /// The memory that the cluster's process, control plane and node daemon together, holds now, and the
    /// most that it has held since it was last asked, in bytes.
    pub fn memory(&self) -> Result<(u64, u64)> {
        let dir = PathBuf::from(format!("/proc/{}", self.process.id()));
        let status = fs::read_to_string(dir.join("status"))?;
        let kib = |field: &str| -> Result<u64> {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(field))
                .context("no such field")?;
            let number = line
                .trim_start_matches(':')
                .split_whitespace()
                .next()
                .context("no number")?;
            Ok(number.parse::<u64>()? * 1024)
        };
        let figures = (kib("VmRSS")?, kib("VmHWM")?);
        // Resets the peak: see proc(5), clear_refs.
        fs::write(dir.join("clear_refs"), "5")?;
        Ok(figures)
    }

    /// `kill -9` of the cluster's process; its workers live on.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill().map(drop)
    }

    /// Starts the cluster's process again, on what it left.
    pub fn restart(&mut self) -> Result<()> {
        let (process, grpc, _) = launch(self.dir(), &self.arguments.clone())?;
        ensure!(
            grpc == self.grpc,
            "the control plane came back at another address"
        );
        self.process = process;
        Ok(())
    }

    /// Ctrl-C, and everything is gone.
    pub fn stop(mut self) -> Result<()> {
        self.process.terminate(PATIENCE)?;
        let left = self.sandboxes()?;
        ensure!(left.is_empty(), "sandboxes outlived their cluster: {left:?}");
        Ok(())
    }

    /// The processes of sandboxes in this cluster's directory, with the actor each is for.
    pub fn sandboxes(&self) -> Result<Vec<(u32, String)>> {
        let marker = self.actors_dir().display().to_string();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<u32>().ok())
            else {
                continue;
            };
            let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else {
                continue;
            };
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let is_sandbox = line.contains("runsc-sandbox") || self.sandbox == Kind::Process;
            if let Some((_, rest)) = line.split_once(&marker).filter(|_| is_sandbox) {
                let actor = rest.trim_start_matches('/').split('/').next().unwrap_or_default();
                found.push((pid, actor.to_owned()));
            }
        }
        Ok(found)
    }

    /// The process ids of workers, by pod.
    pub fn worker_pids(&self) -> Result<BTreeMap<String, u32>> {
        Ok(holdfast_pods::worker_pids(&self.node_dir())?
            .into_iter()
            .collect())
    }

    pub fn wait_for_workers(&self, count: usize) -> Result<()> {
        wait::until(&format!("{count} workers"), PATIENCE, || {
            Ok(self
                .client
                .workers()
                .ok()
                .filter(|workers| workers.len() == count)
                .map(drop))
        })
        .with_context(|| tail(&self.log()))
    }

    /// Waits until no worker is promised to anybody.
    pub fn wait_until_all_free(&self, within: Duration) -> Result<()> {
        wait::until("all workers to be free", within, || {
            Ok(self
                .client
                .workers()?
                .iter()
                .all(|worker| worker.actor_id.is_empty())
                .then_some(()))
        })
        .with_context(|| tail(&self.log()))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // After a scene that failed: the workers must not outlive the demo.
        if self.process.exit().is_ok_and(|exit| exit.is_none()) {
            let _ = self.process.terminate(PATIENCE);
        }
    }
}

/// What a counter answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    pub count: u64,
    /// Drawn at random when the program started: the same as long as its memory lives.
    pub nonce: String,
}

fn launch(dir: &Path, arguments: &[String]) -> Result<(Process, SocketAddr, SocketAddr)> {
    let before = fs::read_to_string(dir.join("ate-dev.log"))
        .unwrap_or_default()
        .len();
    let mut command = Command::new(binary("ate")?);
    command
        .args(arguments)
        .env("NO_COLOR", "1")
        .env("RUST_LOG", "info");
    let mut process = Process::spawn("ate-dev", dir, &mut command)?;
    let (grpc, router) = process.wait_until("the cluster to be up", PATIENCE, |process| {
        Ok(process.log()[before..].lines().find_map(announced))
    })?;
    Ok((process, grpc, router))
}

/// The addresses in `cluster is up: control plane A, router http://B`.
fn announced(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let (grpc, router) = line
        .strip_prefix("cluster is up: control plane ")?
        .split_once(", router http://")?;
    Some((grpc.parse().ok()?, router.parse().ok()?))
}

pub fn choose(sandbox: Sandbox) -> Result<Kind> {
    let is_root = rustix::process::geteuid().is_root();
    match sandbox {
        Sandbox::Process => Ok(Kind::Process),
        Sandbox::Runsc | Sandbox::Auto if runsc().is_some() && is_root => Ok(Kind::Gvisor),
        Sandbox::Runsc => {
            bail!("runsc cannot be used here; run `cargo xtask setup` as root, or take --sandbox process")
        }
        Sandbox::Auto => Ok(Kind::Process),
    }
}

pub fn runsc() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join("runsc"))
        .find(|file| file.is_file())
}

/// The files of the sandbox: the machine's own runsc, by its digest. Plain processes need none; their
/// manifests are those of gVisor all the same, as they would be in a cluster.
fn assets(kind: Kind) -> Result<Vec<(String, String, String)>> {
    let (url, digest) = match kind {
        Kind::Gvisor => {
            let file = runsc().context("runsc is not on the PATH")?;
            (
                format!("file://{}", file.display()),
                Sha256::digest(fs::read(&file)?),
            )
        }
        Kind::Process => (
            "gs://gvisor/releases/release/latest/x86_64/runsc".to_owned(),
            Sha256::digest("unused"),
        ),
    };
    Ok(vec![("runsc".into(), url, hex::encode(digest))])
}

pub fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    format!(
        "last lines of the log:\n  {}",
        lines[lines.len().saturating_sub(30)..].join("\n  ")
    )
}
