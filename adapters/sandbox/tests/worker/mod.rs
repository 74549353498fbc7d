//! A worker's place on this machine: a pod network, a base directory, and the programs of an actor.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use holdfast_sandbox::bundle::{ContainerConfig, write_container, write_identity, write_pause};
use holdfast_sandbox::layout::{ActorDirs, Layout};
use holdfast_sandbox::names::{ActorRef, Label, PAUSE};
use holdfast_sandbox::network::{Pod, Subnet, WorkerNetwork, interior_netns};
use holdfast_sandbox::readyz::HttpGet;
use holdfast_sandbox::reaper::Reaper;
use holdfast_sandbox::{Activation, Container, Discard, Driver};
use holdfast_tests::workloads::Workload;

pub const RUNSC: &str = "/usr/bin/runsc";

/// Addresses set aside for tests of networks (RFC 2544).
const SUBNETS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);

/// The programs are built before the reaper starts: cargo is not one of its children.
static PREPARED: LazyLock<(PathBuf, PathBuf, &'static Reaper)> = LazyLock::new(|| {
    let setup = "these tests need root, runsc and nft: run `cargo xtask setup`, then test as root";
    assert!(
        rustix::process::geteuid().is_root() && Path::new(RUNSC).exists(),
        "{setup}"
    );
    let pause = Workload::Pause.build().unwrap();
    let counter = Workload::Counter.build().unwrap();
    (pause, counter, Reaper::of_this_process().unwrap())
});

pub fn reaper() -> &'static Reaper {
    PREPARED.2
}

/// A pod with a worker in it.
pub struct Worker {
    pub uid: Label,
    pub pod: Pod,
    pub layout: Layout,
    network: Option<Arc<WorkerNetwork>>,
    base: tempfile::TempDir,
}

impl Worker {
    /// `index` must differ between tests that run at the same time.
    pub fn new(index: u16) -> Self {
        reaper();
        let uid = Label::parse("pod UID", &format!("sandbox-test-{index}")).unwrap();
        let subnet = Subnet::nth(SUBNETS, index).unwrap();
        let pod = Pod::create(&uid, subnet).unwrap();
        let network = inside(&pod, || WorkerNetwork::open(&uid).unwrap());
        let base = tempfile::tempdir().unwrap();
        let layout = Layout::new(base.path());
        Self {
            uid,
            pod,
            layout,
            network: Some(Arc::new(network)),
            base,
        }
    }

    pub fn driver(&self) -> Driver {
        Driver::gvisor(reaper(), self.network.clone())
    }

    /// Runs `work` in the pod's network, where a worker lives.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        inside(&self.pod, work)
    }

    /// Prepares the counter as a new activation of `actor`.
    pub fn counter(&self, actor: &str) -> Activation {
        self.prepare(actor, &[])
    }

    /// The same with a durable directory that keeps the count.
    pub fn counter_with_data(&self, actor: &str) -> Activation {
        self.prepare(actor, &[("COUNTER_FILE".into(), "/data/count".into())])
    }

    fn prepare(&self, actor: &str, env: &[(String, String)]) -> Activation {
        let actor = ActorRef::parse("ns", "counter", actor).unwrap();
        let dirs = self.layout.actor(&actor);
        dirs.reset().unwrap();
        let name = Label::container("main").unwrap();
        let volume = Label::parse("volume", "data").unwrap();
        let has_data = !env.is_empty();
        let volumes = if has_data { vec![volume.clone()] } else { vec![] };
        for (container, program, file) in [(PAUSE, &PREPARED.0, "pause"), ("main", &PREPARED.1, "counter")] {
            fs::create_dir_all(dirs.rootfs(container)).unwrap();
            fs::copy(program, dirs.rootfs(container).join(file)).unwrap();
        }
        let netns = interior_netns(&self.uid);
        write_identity(&dirs, &actor).unwrap();
        write_pause(&dirs, &netns, &volumes).unwrap();
        let config = ContainerConfig {
            name: name.clone(),
            command: vec!["/counter".into()],
            env: env.to_vec(),
            durable_mounts: volumes
                .into_iter()
                .map(|volume| (volume, "/data".into()))
                .collect(),
        };
        write_container(&dirs, &netns, &config).unwrap();
        let container = Container {
            readyz: Some(HttpGet::parse("main", "", 80).unwrap()),
            durable_mounts: if has_data { vec!["/data".into()] } else { vec![] },
            name,
        };
        Activation {
            actor,
            dirs,
            runsc: Some(RUNSC.into()),
            containers: vec![container],
            output: Arc::new(Discard),
        }
    }

    /// What the node daemon does between a checkpoint and a restore: carry the snapshot over to fresh
    /// directories.
    pub fn carry_over(&self, dirs: &ActorDirs, prepare: impl FnOnce() -> Activation) -> Activation {
        let kept = self.base.path().join("snapshot");
        fs::rename(dirs.checkpoint_state(), &kept).unwrap();
        let activation = prepare();
        fs::remove_dir(activation.dirs.restore_state()).unwrap();
        fs::rename(kept, activation.dirs.restore_state()).unwrap();
        activation
    }

    /// Counts once, from the machine, through the pod's address.
    pub fn count(&self) -> Counted {
        let text = get(self.pod.address(), "/").unwrap();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Everything of this worker that is on the machine besides its pod and its network.
    pub fn processes(&self) -> Vec<String> {
        let base = self.base.path().to_str().unwrap().to_owned();
        let pids = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let words = pids.filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).ok());
        words.filter(|words| words.contains(&base)).collect()
    }

    pub fn mounts(&self) -> Vec<String> {
        let base = self.base.path().to_str().unwrap();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        mounts
            .lines()
            .filter(|line| line.contains(base))
            .map(str::to_owned)
            .collect()
    }

    /// The packet filter of the worker, as the nft program reads it; `None` if there is none.
    pub fn packet_filter(&self) -> Option<String> {
        let listed = self.base.path().join("packet-filter");
        self.inside(|| {
            let mut command = Command::new("nft");
            command.args(["list", "table", "ip", "ateom_actor"]);
            command
                .stdin(Stdio::null())
                .stdout(fs::File::create(&listed).unwrap())
                .stderr(Stdio::null());
            let status = reaper().spawn(&mut command).unwrap().wait();
            status.success().then(|| fs::read_to_string(&listed).unwrap())
        })
    }

    /// Addresses, routes and neighbours of the interior namespace, as the ip program tells them.
    pub fn interior(&self) -> String {
        ["-brief -4 addr", "-4 route show table all"]
            .iter()
            .map(|words| self.ip(words))
            .collect()
    }

    /// Leaves an address and routes in the interior namespace.
    pub fn disturb(&self) {
        for words in [
            "addr add 169.254.99.1/24 dev eth0",
            "route add 192.0.2.0/24 dev eth0",
        ] {
            self.ip(words);
        }
    }

    fn ip(&self, words: &str) -> String {
        let listed = self.base.path().join("ip");
        let netns = format!("ateom:{}", self.uid);
        let mut command = Command::new("ip");
        command.args(["-n", &netns]).args(words.split(' '));
        command
            .stdin(Stdio::null())
            .stdout(fs::File::create(&listed).unwrap());
        let status = reaper().spawn(&mut command).unwrap().wait();
        assert!(status.success(), "ip {words}: {status}");
        fs::read_to_string(&listed).unwrap()
    }

    pub fn links(&self) -> Vec<String> {
        let table = self.inside(|| fs::read_to_string("/proc/thread-self/net/dev").unwrap());
        let names = table.lines().skip(2).filter_map(|line| line.split(':').next());
        names
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.starts_with("tunl"))
            .collect()
    }

    /// Removes the worker's network, and tells whether all went well.
    pub fn remove_network(&self) {
        let network = self.network.as_ref().unwrap();
        self.inside(|| network.remove().unwrap());
    }

    /// What the death of the worker's process amounts to, as far as its network is concerned.
    pub fn lose_network(&mut self) {
        let network = self.network.take().unwrap();
        assert!(Arc::into_inner(network).is_some(), "no driver has it any more");
    }

    /// What the next incarnation of the worker does about it.
    pub fn reopen_network(&mut self) {
        let network = self.inside(|| WorkerNetwork::open(&self.uid)).unwrap();
        self.network = Some(Arc::new(network));
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(network) = &self.network {
            let _ = self.inside(|| network.remove());
        }
        let _ = Pod::delete(&self.uid);
    }
}

#[derive(Debug, PartialEq, serde::Deserialize)]
pub struct Counted {
    pub count: u64,
    pub nonce: String,
    pub actor: String,
}

/// One GET; the body of the answer.
pub fn get(address: Ipv4Addr, path: &str) -> io::Result<String> {
    let address = SocketAddr::new(IpAddr::V4(address), 80);
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| io::Error::other(answer.clone()))?;
    if head.starts_with("HTTP/1.1 200") {
        Ok(body.to_owned())
    } else {
        Err(io::Error::other(head.to_owned()))
    }
}

fn inside<T: Send>(pod: &Pod, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            pod.enter().unwrap();
            work()
        });
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
