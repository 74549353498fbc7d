//! One pod: its network, its worker process, and whoever starts that again.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use holdfast_sandbox::layout::Layout;
use holdfast_sandbox::names::Label;
use holdfast_sandbox::network::{NetworkError, Pod as PodNetwork, Subnet};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::ledger::{Ledger, Line};

/// How long a worker may take to end by itself: it finishes what it is doing and stops its sandbox.
const GRACE: Duration = Duration::from_secs(20);
const RESTART_FROM: Duration = Duration::from_millis(200);
const RESTART_TO: Duration = Duration::from_secs(5);
/// How soon a request to stop is noticed while a worker runs.
const GLANCE: Duration = Duration::from_millis(100);

/// The wish that pods end.
#[derive(Debug, Default)]
pub struct Stop {
    is_requested: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// Asks all pods to end.
    pub fn request(&self) {
        *self.is_requested.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    fn is_requested(&self) -> bool {
        *self.is_requested.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for `pause`, or until it is requested.
    fn wait(&self, pause: Duration) -> bool {
        let guard = self.is_requested.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .changed
            .wait_timeout_while(guard, pause, |requested| !*requested);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

pub struct Pod {
    pub line: Line,
    pub uid: Label,
    pub subnet: Subnet,
    pub base: Ipv4Addr,
    pub layout: Layout,
    pub logs: PathBuf,
    pub program: PathBuf,
    pub arguments: Vec<String>,
    pub ledger: Arc<Mutex<Ledger>>,
}

/// A worker process, a child of ours or one that an earlier supervisor left.
struct Worker {
    pid: u32,
    handle: rustix::fd::OwnedFd,
    child: Option<std::process::Child>,
}

impl Pod {
    /// Keeps the pod's worker running until `stop` is requested, then ends it.
    pub fn supervise(mut self, stop: &Stop) {
        let mut pause = RESTART_FROM;
        let mut found = self.find();
        while !stop.is_requested() {
            let worker = match found.take() {
                Some(worker) => {
                    tracing::info!(pod = %self.line.pod, pid = worker.pid, "worker found running");
                    Ok(worker)
                }
                None => self.begin(),
            };
            match worker {
                Ok(worker) => {
                    let has_lasted = self.watch(worker, stop);
                    if has_lasted {
                        pause = RESTART_FROM;
                    }
                }
                Err(error) => tracing::error!(pod = %self.line.pod, %error, "worker cannot be started"),
            }
            if stop.wait(pause) {
                break;
            }
            pause = (pause * 2).min(RESTART_TO);
        }
        if let Err(error) = PodNetwork::delete(&self.uid) {
            tracing::warn!(pod = %self.line.pod, %error, "the pod's network could not be removed");
        }
        if let Err(error) = self.subnet.release() {
            tracing::warn!(pod = %self.line.pod, %error, "the pod's subnet could not be released");
        }
        if let Err(error) = remove_dir(&self.layout.worker(&self.uid)) {
            tracing::warn!(pod = %self.line.pod, %error, "the worker's directory could not be removed");
        }
    }

    /// The worker that an earlier supervisor left, if it is still the same process.
    fn find(&self) -> Option<Worker> {
        let (pid, started) = (self.line.pid?, self.line.pid_started?);
        let handle = pidfd_open(Pid::from_raw(i32::try_from(pid).ok()?)?, PidfdFlags::empty()).ok()?;
        (start_time(pid).ok()? == started).then_some(Worker {
            pid,
            handle,
            child: None,
        })
    }

    /// The pod's network, in another subnet if something else on this machine has the one it had.
    fn network(&mut self) -> io::Result<PodNetwork> {
        loop {
            match PodNetwork::create(&self.uid, self.subnet) {
                Err(NetworkError::SubnetTaken { subnet, routed }) => {
                    tracing::info!(pod = %self.line.pod, subnet, routed, "subnet is taken; trying another");
                    self.subnet.release().map_err(io::Error::other)?;
                    let index = lock(&self.ledger).renumber(&self.line.uid)?;
                    self.subnet = Subnet::nth(self.base, index)
                        .ok_or_else(|| io::Error::other(format!("no free subnet in {}/16", self.base)))?;
                }
                made => {
                    self.subnet.reserve().map_err(io::Error::other)?;
                    return made.map_err(io::Error::other);
                }
            }
        }
    }

    fn begin(&mut self) -> io::Result<Worker> {
        let network = self.network()?;
        let dir = self.layout.worker(&self.uid);
        fs::create_dir_all(&dir)?;
        let identity = serde_json::json!({
            "namespace": self.line.namespace,
            "pool": self.line.pool,
            "pod": self.line.pod,
            "ip": network.address().to_string(),
        });
        fs::write(dir.join("worker.json"), serde_json::to_vec(&identity)?)?;
        let log = self.log()?;
        // As in a container, whatever the worker starts dies with it, and its mounts are its own.
        let mut command = Command::new("unshare");
        command
            .args(["--fork", "--pid", "--mount-proc", "--kill-child", "--"])
            .arg(&self.program)
            .args(&self.arguments)
            .args(["--pod-uid", self.uid.as_str()])
            .env("POD_IP", network.address().to_string())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        network.confine(&mut command)?;
        // A group of its own: a Ctrl-C at the supervisor's terminal must not end actors at once.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn()?;
        let pid = child.id();
        let raw = Pid::from_raw(i32::try_from(pid).unwrap_or_default()).ok_or(io::ErrorKind::NotFound)?;
        let handle = pidfd_open(raw, PidfdFlags::empty())?;
        self.note(Some((pid, start_time(pid)?)));
        tracing::info!(pod = %self.line.pod, pid, ip = %network.address(), "worker started");
        Ok(Worker {
            pid,
            handle,
            child: Some(child),
        })
    }

    /// Waits until the worker has ended, ending it when that is requested. Whether it had run for a while.
    fn watch(&self, mut worker: Worker, stop: &Stop) -> bool {
        let mut glances = 0u32;
        while !has_ended(&worker.handle, GLANCE) {
            glances = glances.saturating_add(1);
            if stop.is_requested() {
                ask_to_end(&worker);
                if !has_ended(&worker.handle, GRACE) {
                    tracing::warn!(pod = %self.line.pod, pid = worker.pid, "worker does not end; killing it");
                    let _ = pidfd_send_signal(&worker.handle, Signal::KILL);
                    has_ended(&worker.handle, GRACE);
                }
                break;
            }
        }
        let status = worker.child.as_mut().and_then(|child| child.wait().ok());
        self.note(None);
        if !stop.is_requested() {
            let status = status.map(|status| status.to_string()).unwrap_or_default();
            tracing::warn!(pod = %self.line.pod, pid = worker.pid, status, "worker ended; starting it again");
        }
        glances > 50
    }

    fn note(&self, process: Option<(u32, u64)>) {
        if let Err(error) = lock(&self.ledger).started(&self.line.uid, process) {
            tracing::error!(%error, "the ledger of pods could not be written");
        }
    }

    fn log(&self) -> io::Result<File> {
        fs::create_dir_all(&self.logs)?;
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.logs.join(format!("{}.log", self.line.pod)))
    }
}

fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The process that we started waits for the worker, which is its only child and the one to be asked.
fn ask_to_end(worker: &Worker) {
    let pid = worker.pid;
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let inner = children
        .split_whitespace()
        .next()
        .and_then(|pid| Pid::from_raw(pid.parse().ok()?));
    let asked = match inner {
        Some(inner) => {
            pidfd_open(inner, PidfdFlags::empty()).and_then(|h| pidfd_send_signal(&h, Signal::TERM))
        }
        None => pidfd_send_signal(&worker.handle, Signal::TERM),
    };
    if let Err(error) = asked {
        tracing::debug!(pid, %error, "the worker has ended already");
    }
}

fn has_ended(handle: &rustix::fd::OwnedFd, within: Duration) -> bool {
    let mut fds = [PollFd::new(handle, PollFlags::IN)];
    let timeout = Timespec {
        tv_sec: i64::try_from(within.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(within.subsec_nanos()),
    };
    matches!(poll(&mut fds, Some(&timeout)), Ok(1..))
}

/// When a process started, in clock ticks since boot: with the process id, its identity.
fn start_time(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name in parentheses, which may itself contain any character.
    let after_name = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    after_name
        .split_whitespace()
        .nth(19)
        .and_then(|ticks| ticks.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unreadable /proc/<pid>/stat"))
}

fn remove_dir(dir: &std::path::Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_a_later_one_of_its_id_by_when_it_started() {
        let own = std::process::id();
        assert_eq!(start_time(own).unwrap(), start_time(own).unwrap());
        assert!(start_time(own).unwrap() > start_time(1).unwrap());
    }
}
