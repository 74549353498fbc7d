//! What a run plays on: Redis, a control plane, a node daemon and its workers, a registry and an object store,
//! each a process of its own where it is one in a cluster.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_manifests::PoolSpec;
use holdfast_pods::Pods;
use holdfast_tests::images::{Ballast, Images};
use holdfast_tests::process::{Process, binary};
use holdfast_tests::proxy::Proxy;
use holdfast_tests::redis::{Persistence, Server};
use holdfast_tests::registry::Registry;
use holdfast_tests::{http, wait};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use sha2::{Digest, Sha256};

use crate::client::{Client, NAMESPACE};

/// More than anything should take to start or to end.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// What the node's directory holds: enough for what it does, and quickly filled.
const DISK_BYTES: u64 = 768 << 20;
const IMAGE_BYTES: u64 = 1 << 20;
const BUCKET: &str = "lifecycles";

/// What surrounds the actors.
pub struct World {
    pub client: Client,
    pub registry: Registry,
    pub redis: Mutex<Server>,
    pub control: Mutex<Daemon>,
    pub node: Mutex<Daemon>,
    pub objects: Objects,
    pods: Mutex<Pods>,
    pub disk: Disk,
    pub templates: Vec<String>,
    _images: Images,
    dir: tempfile::TempDir,
}

/// Where external snapshots go.
pub enum Objects {
    /// A directory of this machine.
    Directory(PathBuf),
    /// An S3 server, behind a proxy that breaks on demand.
    S3 {
        proxy: Proxy,
        address: SocketAddr,
        _server: Process,
    },
}

/// A program that is killed and started again.
pub struct Daemon {
    name: &'static str,
    dir: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    pub process: Process,
}

impl Daemon {
    fn start(
        name: &'static str,
        dir: &Path,
        arguments: Vec<String>,
        environment: Vec<(String, String)>,
    ) -> Result<Self> {
        let process = launch(name, dir, &arguments, &environment)?;
        Ok(Self {
            name,
            dir: dir.to_owned(),
            arguments,
            environment,
            process,
        })
    }

    /// `kill -9`.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill().map(drop)
    }

    /// Starts it again, as it was started before.
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        self.process = launch(self.name, &self.dir, &self.arguments, &self.environment)?;
        Ok(())
    }

    /// The address at which it says that it serves.
    fn address(&mut self) -> Result<SocketAddr> {
        self.process
            .wait_until("it to serve", PATIENCE, |process| Ok(served(&process.log())))
    }
}

fn launch(name: &str, dir: &Path, arguments: &[String], environment: &[(String, String)]) -> Result<Process> {
    let mut command = Command::new(binary(name)?);
    command
        .args(arguments)
        .envs(environment.iter().cloned())
        .env("NO_COLOR", "1")
        .env("RUST_LOG", "info");
    Process::spawn(name, dir, &mut command)
}

fn served(log: &str) -> Option<SocketAddr> {
    log.lines().find_map(|line| {
        let (_, rest) = line.split_once("serving")?.1.split_once("address=")?;
        rest.split_whitespace().next()?.trim_matches('"').parse().ok()
    })
}

/// A disk of its own for the node, so that filling it harms nobody else.
pub struct Disk {
    pub path: PathBuf,
}

impl Disk {
    fn mounted(path: PathBuf) -> Result<Self> {
        fs::create_dir_all(&path)?;
        let options = format!("size={DISK_BYTES},mode=0700");
        let options = std::ffi::CString::new(options)?;
        mount("lifecycles", &path, "tmpfs", MountFlags::empty(), Some(&*options))
            .with_context(|| format!("mount a tmpfs at {}", path.display()))?;
        Ok(Self { path })
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }

    /// Leaves not a byte.
    pub fn fill(&self) -> Result<()> {
        use std::io::Write;
        let mut file = fs::File::create(self.ballast())?;
        let block = vec![0; 1 << 20];
        for size in [block.len(), 4096, 1] {
            while file.write_all(&block[..size]).is_ok() {}
        }
        Ok(())
    }

    /// Ends a [`Disk::fill`].
    pub fn free(&self) {
        let _ = fs::remove_file(self.ballast());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(&self.path, UnmountFlags::DETACH);
    }
}

impl World {
    /// Starts everything, with so many workers and templates, each of which has an image of its own.
    pub fn start(workers: u32, templates: u64) -> Result<Self> {
        // Short: the path of a worker's socket below it has 107 bytes at most.
        let dir = tempfile::Builder::new().prefix("hl").tempdir()?;
        let layout = dir.path().join("images");
        fs::create_dir_all(&layout)?;
        let images = Images::build(&layout)?;
        let large: Vec<_> = (0..templates)
            .map(|seed| images.add_large(&format!("t{seed}"), IMAGE_BYTES, Ballast::Noise { seed }))
            .collect::<Result<_>>()?;
        let registry = Registry::serve(&layout)?;
        let objects = Objects::start(dir.path())?;
        let runsc = runsc().context("runsc is not on the PATH; `cargo xtask setup` installs it")?;
        let mut documents = vec![pool(workers), sandbox_config(&runsc)?];
        let mut names = Vec::new();
        for (index, image) in large.iter().enumerate() {
            let name = format!("t{index}");
            let image = images.served_by(&registry, image)?;
            let pause = images.served_by(&registry, &images.pause)?;
            documents.push(template(
                &name,
                &pause.to_string(),
                &image.to_string(),
                objects.scheme(),
            ));
            names.push(name);
        }
        let manifests = dir.path().join("manifests");
        fs::create_dir_all(&manifests)?;
        fs::write(manifests.join("lifecycles.yaml"), documents.join("---\n"))?;

        let disk = Disk::mounted(dir.path().join("n"))?;
        let redis = Server::start(Persistence::EveryWrite)?;
        let port = free_port()?;
        let mut control = Daemon::start(
            "ateapi",
            dir.path(),
            control_arguments(port, &redis, &manifests),
            vec![],
        )?;
        let address = control.address()?;
        let client = Client::new(address)?;
        let node = Daemon::start(
            "atelet",
            dir.path(),
            node_arguments(free_port()?, address, &disk.path, &registry, &runsc),
            objects.environment(),
        )?;
        let mut pods = Pods::open(holdfast_pods::Config {
            base: disk.path.clone(),
            network: [10, 91, 0, 0].into(),
            program: binary("ateom-gvisor")?,
            arguments: ["--base-dir".to_owned(), disk.path.display().to_string()].into(),
        })?;
        let pool = PoolSpec {
            namespace: NAMESPACE.into(),
            name: "pool".into(),
            replicas: workers,
        };
        pods.want(&[pool])?;
        let world = Self {
            client,
            registry,
            redis: Mutex::new(redis),
            control: Mutex::new(control),
            node: Mutex::new(node),
            objects,
            pods: Mutex::new(pods),
            disk,
            templates: names,
            _images: images,
            dir,
        };
        wait::until(&format!("{workers} workers"), PATIENCE, || {
            let seen = world.client.workers();
            Ok(seen.ok().filter(|seen| seen.len() == workers as usize).map(drop))
        })
        .with_context(|| world.tails())?;
        world.client.create_atespace()?;
        Ok(world)
    }

    /// The node's directory, as it stands in command lines.
    pub fn base(&self) -> String {
        self.disk.path.display().to_string()
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What names of processes, mounts, namespaces and links of this run contain.
    pub fn markers(&self) -> Result<Vec<String>> {
        let mut markers = vec![self.dir.path().display().to_string()];
        for entry in fs::read_dir(self.disk.path.join("ateoms"))? {
            let uid = entry?.file_name().to_string_lossy().into_owned();
            let short: String = uid.chars().filter(|c| *c != '-').collect();
            // A pod's link has a short name: see holdfast_sandbox::network::Pod.
            markers.push(format!("hf-{}", &short[short.len().saturating_sub(12)..]));
            markers.push(uid);
        }
        Ok(markers)
    }

    /// Keeps logs and all else that is on disk for whoever looks into what went wrong.
    pub fn keep(&mut self) -> PathBuf {
        self.dir.disable_cleanup(true);
        self.dir.path().to_owned()
    }

    /// What the control plane has logged, all its lives.
    pub fn control_log(&self) -> String {
        lock(&self.control).process.log()
    }

    /// The last lines of everybody's log.
    pub fn tails(&self) -> String {
        [&self.control, &self.node]
            .iter()
            .map(|daemon| {
                let daemon = lock(daemon);
                let log = daemon.process.log();
                let lines: Vec<&str> = log.lines().collect();
                let last = lines[lines.len().saturating_sub(15)..].join("\n  ");
                format!("{}:\n  {last}\n", daemon.name)
            })
            .collect()
    }

    /// Ends everything in order.
    pub fn stop(&mut self) -> Result<()> {
        let ended = lock(&self.node).process.terminate(PATIENCE)?;
        ensure!(ended.success(), "atelet ended with {ended}");
        lock(&self.pods).stop();
        let ended = lock(&self.control).process.terminate(PATIENCE)?;
        ensure!(ended.success(), "ateapi ended with {ended}");
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Also after a failure: workers would outlive this process.
        lock(&self.pods).stop();
    }
}

impl Objects {
    /// A real S3 server where this machine has one, else a directory.
    fn start(dir: &Path) -> Result<Self> {
        let Some(moto) = on_path("moto_server") else {
            let root = dir.join("objects");
            fs::create_dir_all(&root)?;
            return Ok(Self::Directory(root));
        };
        let mut command = Command::new(moto);
        command.args(["-H", "127.0.0.1", "-p", "0"]);
        let mut server = Process::spawn("s3", dir, &mut command)?;
        let address = server.wait_until("the S3 server to listen", PATIENCE, |process| {
            let log = process.log();
            let address = log.lines().find_map(|line| line.split_once("Running on http://"));
            Ok(address.and_then(|(_, address)| address.trim().parse::<SocketAddr>().ok()))
        })?;
        let mut connection = http::Connection::open(address, PATIENCE)?;
        let head = format!("PUT /{BUCKET} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\n\r\n");
        connection.send(head.as_bytes())?;
        let made = connection.receive()?;
        ensure!(made.status == 200, "make a bucket: HTTP {}", made.status);
        Ok(Self::S3 {
            proxy: Proxy::to(address)?,
            address,
            _server: server,
        })
    }

    pub fn describe(&self) -> &'static str {
        match self {
            Self::Directory(_) => "a directory (there is no moto_server on the PATH)",
            Self::S3 { .. } => "an S3 server, moto",
        }
    }

    fn scheme(&self) -> &'static str {
        match self {
            Self::Directory(_) => "file",
            Self::S3 { .. } => "s3",
        }
    }

    fn environment(&self) -> Vec<(String, String)> {
        let own = |pairs: &[(&str, String)]| -> Vec<(String, String)> {
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect()
        };
        match self {
            Self::Directory(root) => own(&[
                ("ATE_STORAGE_BACKEND", "file".into()),
                ("ATE_STORAGE_ROOT", root.display().to_string()),
            ]),
            Self::S3 { proxy, .. } => own(&[
                ("ATE_STORAGE_BACKEND", "s3".into()),
                ("AWS_ENDPOINT_URL", format!("http://{}", proxy.address())),
                ("AWS_S3_USE_PATH_STYLE", "true".into()),
                ("AWS_REGION", "us-east-1".into()),
                ("AWS_ACCESS_KEY_ID", "lifecycles".into()),
                ("AWS_SECRET_ACCESS_KEY", "lifecycles".into()),
            ]),
        }
    }

    /// The names of what is stored, some of them where there are many.
    pub fn stored(&self) -> Result<Vec<String>> {
        match self {
            Self::Directory(root) => {
                let mut files = Vec::new();
                walk(root, &mut files)?;
                Ok(files)
            }
            Self::S3 { address, .. } => {
                let path = format!("/{BUCKET}?list-type=2");
                let listed = http::get(*address, &address.to_string(), &path, PATIENCE)?;
                ensure!(listed.status == 200, "list the bucket: HTTP {}", listed.status);
                let text = listed.text();
                let keys = text.split("<Key>").skip(1);
                Ok(keys
                    .filter_map(|key| Some(key.split_once("</Key>")?.0.to_owned()))
                    .collect())
            }
        }
    }
}

/// Every regular file below a directory.
pub fn walk(dir: &Path, files: &mut Vec<String>) -> Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), files)?;
        } else {
            files.push(entry.path().display().to_string());
        }
    }
    Ok(())
}

fn control_arguments(port: u16, redis: &Server, manifests: &Path) -> Vec<String> {
    let manifests = manifests.display().to_string();
    let listen = format!("127.0.0.1:{port}");
    let url = redis.url();
    [
        ("--grpc-listen-addr", listen.as_str()),
        ("--store", &url),
        ("--manifests", &manifests),
        ("--log-format", "text"),
        ("--lease-ttl", "6s"),
        ("--session-ttl", "15s"),
        ("--heartbeat-interval", "3s"),
        ("--settle-after", "3s"),
        ("--sweep-interval", "2s"),
        ("--collect-after", "5s"),
    ]
    .into_iter()
    .flat_map(|(flag, value)| [flag.to_owned(), value.to_owned()])
    .collect()
}

fn node_arguments(
    port: u16,
    control: SocketAddr,
    base: &Path,
    registry: &Registry,
    runsc: &Path,
) -> Vec<String> {
    let (listen, control) = (format!("127.0.0.1:{port}"), control.to_string());
    let (base, runsc) = (base.display().to_string(), runsc.display().to_string());
    let registry = registry.authority();
    [
        ("--node-name", "local"),
        ("--listen", listen.as_str()),
        ("--control-plane", &control),
        ("--base-dir", &base),
        ("--runsc-path", &runsc),
        ("--insecure-registry", &registry),
        ("--pull-stall", "3s"),
        ("--log-format", "text"),
    ]
    .into_iter()
    .flat_map(|(flag, value)| [flag.to_owned(), value.to_owned()])
    .collect()
}

/// A port that is free now: whoever is restarted has to have the one it had.
fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

fn pool(workers: u32) -> String {
    format!(
        "apiVersion: ate.dev/v1alpha1
kind: WorkerPool
metadata: {{name: pool, namespace: {NAMESPACE}}}
spec: {{replicas: {workers}, ateomImage: \"ateom-gvisor\", sandboxClass: gvisor}}
"
    )
}

fn template(name: &str, pause: &str, image: &str, scheme: &str) -> String {
    format!(
        "apiVersion: ate.dev/v1alpha1
kind: ActorTemplate
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec:
  sandboxClass: gvisor
  pauseImage: \"{pause}\"
  containers:
    - name: counter
      image: \"{image}\"
      command: [\"/counter\"]
      readyz: {{httpGet: {{path: /readyz, port: 80}}}}
  snapshotsConfig: {{location: \"{scheme}://{BUCKET}/{name}\", onPause: Full, onCommit: Full}}
"
    )
}

fn sandbox_config(runsc: &Path) -> Result<String> {
    let digest = hex::encode(Sha256::digest(fs::read(runsc)?));
    let arch = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    Ok(format!(
        "apiVersion: ate.dev/v1alpha1
kind: SandboxConfig
metadata: {{name: {NAMESPACE}}}
spec:
  sandboxClass: gvisor
  default: true
  assets:
    {arch}:
      runsc: {{url: \"file://{}\", sha256: {digest}}}
",
        runsc.display()
    ))
}

pub fn runsc() -> Option<PathBuf> {
    on_path("runsc")
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
