//! One pod: its network, its worker process, and whoever starts that again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use holdfast_sandbox::layout::Layout;
use holdfast_sandbox::names::Label;
use holdfast_sandbox::network::{NetworkError, Pod as PodNetwork, Subnet};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::ledger::{Ledger, Line};
use crate::{Config, Error};

/// How long a worker may take to end by itself: it finishes what it is doing and stops its sandbox.
const GRACE: Duration = Duration::from_secs(20);
const RESTART_FROM: Duration = Duration::from_millis(200);
const RESTART_TO: Duration = Duration::from_secs(5);
/// After so many workers in a row that ended soon, their last words are shown.
const SHORT_LIVES: u32 = 3;
/// The most of a log that is looked at for those.
const QUOTED_BYTES: u64 = 4096;
/// How many subnets are tried in a row.
const SUBNET_TRIES: u32 = 256;
/// How soon another wish is noticed while a worker runs.
const GLANCE: Duration = Duration::from_millis(100);

/// What is wanted of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    /// That its worker runs.
    #[default]
    Running,
    /// That its worker ends; it is started again some day.
    Stopped,
    /// That nothing is left of it.
    Gone,
}

/// How a pod's supervisor is told.
#[derive(Debug, Default)]
pub struct Wishes {
    wish: Mutex<Wish>,
    changed: Condvar,
}

impl Wishes {
    /// Tells the supervisor.
    pub fn make(&self, wish: Wish) {
        *self.wish.lock().unwrap_or_else(PoisonError::into_inner) = wish;
        self.changed.notify_all();
    }

    fn now(&self) -> Wish {
        *self.wish.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for `pause`, or until the worker is not to run any more.
    fn wait(&self, pause: Duration) {
        let wish = self.wish.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .changed
            .wait_timeout_while(wish, pause, |wish| *wish == Wish::Running);
        drop(waited);
    }
}

pub struct Pod {
    pub line: Line,
    uid: Label,
    subnet: Subnet,
    layout: Layout,
    config: Config,
    ledger: Arc<Mutex<Ledger>>,
}

/// A worker process, a child of ours or one that an earlier supervisor left.
pub struct Worker {
    pid: u32,
    handle: rustix::fd::OwnedFd,
    child: Option<std::process::Child>,
}

impl Pod {
    /// The pod of a line.
    ///
    /// # Errors
    /// If the line cannot be one that we have written.
    pub fn new(line: Line, config: &Config, ledger: Arc<Mutex<Ledger>>) -> Result<Pod, Error> {
        let bad = |why: String| Error::Name(line.key.to_string(), why);
        let uid = Label::parse("pod UID", &line.uid).map_err(|error| bad(error.to_string()))?;
        let subnet = Subnet::nth(config.network, line.index)
            .ok_or_else(|| bad(format!("there is no subnet {}", line.index)))?;
        Ok(Pod {
            line,
            uid,
            subnet,
            layout: Layout::new(&config.base),
            config: config.clone(),
            ledger,
        })
    }

    /// Keeps the pod's worker running, at first the one that was found, for as long as that is wished.
    pub fn supervise(mut self, mut found: Option<Worker>, wishes: &Wishes) {
        let mut pause = RESTART_FROM;
        let mut short_lives = 0;
        while wishes.now() == Wish::Running {
            let worker = match found.take() {
                Some(worker) => {
                    tracing::info!(pod = %self.line.key, pid = worker.pid, "worker found running");
                    Ok(worker)
                }
                None => self.begin(),
            };
            match worker {
                Ok(worker) => {
                    let has_lasted = self.watch(worker, wishes);
                    short_lives = if has_lasted { 0 } else { short_lives + 1 };
                    if has_lasted {
                        pause = RESTART_FROM;
                    }
                    if short_lives >= SHORT_LIVES && wishes.now() == Wish::Running {
                        self.quote();
                    }
                }
                Err(error) => tracing::error!(pod = %self.line.key, %error, "worker cannot be started"),
            }
            wishes.wait(pause);
            pause = (pause * 2).min(RESTART_TO);
        }
        // Somebody who starts with the worker that was found to be wanted no more.
        if let Some(worker) = found {
            self.watch(worker, wishes);
        }
        match wishes.now() {
            Wish::Gone => self.remove(),
            Wish::Running | Wish::Stopped => self.clear(),
        }
    }

    /// Removes everything that is left of a pod whose worker has ended, and the pod from the ledger.
    pub fn remove(mut self) {
        self.clear();
        if let Err(error) = lock(&self.ledger).forget(&self.line.key) {
            tracing::error!(%error, "the ledger of pods could not be written");
        }
    }

    fn clear(&mut self) {
        if let Err(error) = PodNetwork::delete(&self.uid) {
            tracing::warn!(pod = %self.line.key, %error, "the pod's network could not be removed");
        }
        if let Err(error) = self.give_back() {
            tracing::warn!(pod = %self.line.key, %error, "the pod's subnet could not be released");
        }
        if let Err(error) = remove_dir(&self.layout.worker(&self.uid)) {
            tracing::warn!(pod = %self.line.key, %error, "the worker's directory could not be removed");
        }
    }

    /// The worker that an earlier supervisor left, if it is still the same process.
    pub fn find(&self) -> Option<Worker> {
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
        for _ in 0..SUBNET_TRIES {
            match self
                .claim()
                .and_then(|()| PodNetwork::create(&self.uid, self.subnet))
            {
                Err(NetworkError::SubnetTaken { subnet, routed }) => {
                    tracing::info!(pod = %self.line.key, subnet, routed, "subnet is taken; trying another");
                    self.give_back().map_err(io::Error::other)?;
                    let index = lock(&self.ledger).renumber(&self.line.key)?;
                    self.subnet = Subnet::nth(self.config.network, index)
                        .ok_or_else(|| io::Error::other(format!("there is no subnet {index}")))?;
                }
                made => return made.map_err(io::Error::other),
            }
        }
        let network = self.config.network;
        Err(io::Error::other(format!(
            "{SUBNET_TRIES} subnets of {network}/16 in a row are taken; choose another pod network"
        )))
    }

    /// Reserves the pod's subnet, unless that has been done.
    fn claim(&mut self) -> Result<(), NetworkError> {
        match self.subnet.reserve() {
            Err(NetworkError::SubnetTaken { .. }) if self.line.is_reserved => Ok(()),
            Err(error) => Err(error),
            Ok(()) => {
                self.note(|line| line.is_reserved = true);
                Ok(())
            }
        }
    }

    /// Releases the pod's subnet, if it was we who reserved it.
    fn give_back(&mut self) -> Result<(), NetworkError> {
        if self.line.is_reserved {
            self.subnet.release()?;
            self.note(|line| line.is_reserved = false);
        }
        Ok(())
    }

    fn begin(&mut self) -> io::Result<Worker> {
        let network = self.network()?;
        let dir = self.layout.worker(&self.uid);
        fs::create_dir_all(&dir)?;
        let identity = serde_json::json!({
            "namespace": self.line.key.namespace,
            "pool": self.line.key.pool,
            "pod": self.line.key.pod,
            "ip": network.address().to_string(),
        });
        fs::write(dir.join("worker.json"), serde_json::to_vec(&identity)?)?;
        let log = self.open_log()?;
        // As in a container, whatever the worker starts dies with it, and its mounts are its own.
        let mut command = Command::new("unshare");
        command
            .args(["--fork", "--pid", "--mount-proc", "--kill-child", "--"])
            .arg(&self.config.program)
            .args(&self.config.arguments)
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
        let started = start_time(pid)?;
        self.note(|line| (line.pid, line.pid_started) = (Some(pid), Some(started)));
        tracing::info!(pod = %self.line.key, pid, ip = %network.address(), "worker started");
        Ok(Worker {
            pid,
            handle,
            child: Some(child),
        })
    }

    /// Waits until the worker has ended, ending it when that is wished. Whether it had run for a while.
    fn watch(&mut self, mut worker: Worker, wishes: &Wishes) -> bool {
        let mut glances = 0u32;
        while !has_ended(&worker.handle, GLANCE) {
            glances = glances.saturating_add(1);
            if wishes.now() != Wish::Running {
                ask_to_end(&worker);
                if !has_ended(&worker.handle, GRACE) {
                    tracing::warn!(pod = %self.line.key, pid = worker.pid, "worker does not end; killing it");
                    let _ = pidfd_send_signal(&worker.handle, Signal::KILL);
                    has_ended(&worker.handle, GRACE);
                }
                break;
            }
        }
        let status = worker.child.as_mut().and_then(|child| child.wait().ok());
        self.note(|line| (line.pid, line.pid_started) = (None, None));
        if wishes.now() == Wish::Running {
            // One that an earlier supervisor started has another parent to tell.
            let status = status.map_or_else(|| "unknown".to_owned(), |status| status.to_string());
            tracing::warn!(pod = %self.line.key, pid = worker.pid, status, "worker ended; starting it again");
        }
        glances > 50
    }

    /// Shows the last line that a worker has logged, which is why it does not stay up, where it is seen.
    fn quote(&self) {
        let path = self.log();
        let said = last_line(&tail(&path).unwrap_or_default());
        tracing::error!(pod = %self.line.key, log = %path.display(), said, "worker does not stay up");
    }

    /// Changes the pod's line, here and in the ledger.
    fn note(&mut self, change: impl Fn(&mut Line)) {
        change(&mut self.line);
        if let Err(error) = lock(&self.ledger).change(&self.line.key, change) {
            tracing::error!(%error, "the ledger of pods could not be written");
        }
    }

    fn log(&self) -> PathBuf {
        let name = format!("{}.log", self.line.key.pod);
        self.config.base.join("logs").join(name)
    }

    fn open_log(&self) -> io::Result<File> {
        let path = self.log();
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        OpenOptions::new().create(true).append(true).open(path)
    }
}

/// The end of a file.
fn tail(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(QUOTED_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(QUOTED_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The last line of a log that says something.
fn last_line(log: &[u8]) -> String {
    let log = String::from_utf8_lossy(log);
    let line = log.lines().rev().find(|line| !line.trim().is_empty());
    line.unwrap_or("nothing").trim().to_owned()
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
pub fn start_time(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name in parentheses, which may itself contain any character.
    let after_name = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    after_name
        .split_whitespace()
        .nth(19)
        .and_then(|ticks| ticks.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unreadable /proc/<pid>/stat"))
}

fn remove_dir(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_worker_said_last_is_found_in_its_log() {
        assert_eq!(last_line(b"one\nerror: no socket\n\n \n"), "error: no socket");
        assert_eq!(last_line(b""), "nothing");
        let log = tempfile::NamedTempFile::new().unwrap();
        fs::write(log.path(), "long ".repeat(5000) + "\nshort\n").unwrap();
        let tail = tail(log.path()).unwrap();
        assert_eq!((tail.len(), last_line(&tail)), (4096, "short".to_owned()));
    }

    #[test]
    fn a_process_is_told_from_a_later_one_of_its_id_by_when_it_started() {
        let own = std::process::id();
        assert_eq!(start_time(own).unwrap(), start_time(own).unwrap());
        assert!(start_time(own).unwrap() > start_time(1).unwrap());
    }
}
