//! Reaping every dead descendant at once, without taking an exit status from the one who waits for it.
//!
//! `runsc` leaves the sandbox and its gofers behind as orphans. Unless their nearest subreaper collects
//! them promptly, `runsc delete` waits one to two seconds for a process that is already a zombie, and
//! after a checkpoint it fails outright. So a worker makes itself the subreaper, and one thread of it
//! collects everything.
//!
//! The race this avoids: a thread that calls `waitpid(-1)` may collect a child whose owner is about to
//! wait for it. Here nobody but the reaper waits. It *peeks* (`WNOWAIT`) at whoever died, takes the
//! registry's lock, and only then collects; a child is forked and registered under that same lock, so it
//! is known before anyone can collect it, and a pid is never signalled after it was given back to the
//! kernel.
//!
//! Rule for the process that holds a reaper: every child is spawned through [`Reaper::spawn`].

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use rustix::process::{Pid, Signal};

/// Collects the exits of all children and adopted orphans of this process.
#[derive(Debug)]
pub struct Reaper {
    registry: Mutex<BTreeMap<i32, Arc<Cell>>>,
    /// Signalled when a process is registered: with no child at all there is nothing to wait for.
    registered: Condvar,
}

/// A process whose exit the reaper reports here. Clones speak of the same process.
///
/// Dropping it neither kills the process nor leaves a zombie.
#[derive(Clone)]
pub struct Process {
    pid: Pid,
    cell: Arc<Cell>,
    reaper: &'static Reaper,
}

#[derive(Default)]
struct Cell {
    state: Mutex<State>,
    exited: Condvar,
}

#[derive(Default)]
struct State {
    status: Option<ExitStatus>,
    subscribers: Vec<Subscriber>,
}

type Subscriber = Box<dyn FnOnce(ExitStatus) + Send>;

impl Reaper {
    /// The reaper of this process, started by the first call.
    ///
    /// Children and orphans belong to a process as a whole, so there is exactly one. Fails when the
    /// kernel refuses to make the process a subreaper or to start a thread.
    pub fn of_this_process() -> io::Result<&'static Reaper> {
        static REAPER: OnceLock<Result<&'static Reaper, io::ErrorKind>> = OnceLock::new();
        let started = REAPER.get_or_init(|| {
            rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
                .map_err(|error| error.kind())?;
            let reaper: &'static Reaper = Box::leak(Box::new(Reaper {
                registry: Mutex::default(),
                registered: Condvar::new(),
            }));
            std::thread::Builder::new()
                .name("reaper".into())
                .spawn(|| reaper.reap_forever())
                .map_err(|error| error.kind())?;
            Ok(reaper)
        });
        (*started).map_err(io::Error::from)
    }

    /// Spawns a child whose exit arrives at the returned handle.
    ///
    /// Pipes asked of `command` are not handed out: give files as its standard streams.
    pub fn spawn(&'static self, command: &mut Command) -> io::Result<Process> {
        let mut registry = self.lock();
        let child = command.spawn()?;
        Ok(self.register(&mut registry, child.id() as i32))
    }

    /// Follows the exit of an orphan that became ours; `None` when it is gone, or not our child.
    pub fn adopt(&'static self, pid: i32) -> Option<Process> {
        let mut registry = self.lock();
        let known = registry.get(&pid).cloned();
        if let (Some(cell), Some(raw)) = (known, Pid::from_raw(pid)) {
            return Some(Process {
                pid: raw,
                cell,
                reaper: self,
            });
        }
        let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
        let is_ours = pid > 0 && waitid(Id::Pid(nix::unistd::Pid::from_raw(pid)), peek).is_ok();
        is_ours.then(|| self.register(&mut registry, pid))
    }

    fn register(&'static self, registry: &mut BTreeMap<i32, Arc<Cell>>, pid: i32) -> Process {
        let cell = Arc::new(Cell::default());
        registry.insert(pid, cell.clone());
        self.registered.notify_one();
        let pid = Pid::from_raw(pid).expect("a spawned or living process has a positive pid");
        Process {
            pid,
            cell,
            reaper: self,
        }
    }

    fn reap_forever(&'static self) {
        loop {
            match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
                Ok(peeked) => self.collect(peeked),
                Err(nix::errno::Errno::ECHILD) => self.wait_for_a_child(),
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => tracing::error!(%error, "cannot wait for children; retrying"),
            }
        }
    }

    fn collect(&self, peeked: WaitStatus) {
        let Some(pid) = peeked.pid() else { return };
        let mut registry = self.lock();
        let Ok(status) = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG) else {
            return;
        };
        let status = exit_status(status);
        let Some(cell) = registry.remove(&pid.as_raw()) else {
            tracing::debug!(pid = pid.as_raw(), %status, "collected an orphan");
            return;
        };
        let subscribers = cell.settle(status);
        drop(registry);
        for subscriber in subscribers {
            subscriber(status);
        }
    }

    /// Blocks until a process is registered. Without a child there is no descendant either, so nothing
    /// can become ours in the meantime.
    fn wait_for_a_child(&self) {
        drop(
            self.registered
                .wait_while(self.lock(), |registry| registry.is_empty()),
        );
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, Arc<Cell>>> {
        // Nothing under this lock leaves it half-changed, so a panicking spawner poisons nothing.
        self.registry
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Process {
    /// The process id. It may name another process once this one has exited.
    pub fn id(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Waits until the process has exited and been collected.
    pub fn wait(&self) -> ExitStatus {
        let mut state = self.cell.lock();
        loop {
            if let Some(status) = state.status {
                return status;
            }
            state = self
                .cell
                .exited
                .wait(state)
                .unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    /// Like [`Process::wait`], but gives up after `limit` with `None`.
    pub fn wait_timeout(&self, limit: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + limit;
        let mut state = self.cell.lock();
        while state.status.is_none() {
            let left = until.checked_duration_since(Instant::now())?;
            state = self
                .cell
                .exited
                .wait_timeout(state, left)
                .unwrap_or_else(|poisoned| poisoned.into_inner())
                .0;
        }
        state.status
    }

    /// Its exit status, if it has exited.
    pub fn exited(&self) -> Option<ExitStatus> {
        self.cell.lock().status
    }

    /// Calls `subscriber` once, as soon as the process has exited (at once when it already has).
    ///
    /// It runs on the reaper's thread, so it must only pass the news on.
    pub fn on_exit(&self, subscriber: impl FnOnce(ExitStatus) + Send + 'static) {
        let mut state = self.cell.lock();
        match state.status {
            None => state.subscribers.push(Box::new(subscriber)),
            Some(status) => {
                drop(state);
                subscriber(status);
            }
        }
    }

    /// Sends `signal` to the process; nothing happens once it has exited.
    pub fn signal(&self, signal: Signal) {
        self.with_living(|pid| rustix::process::kill_process(pid, signal));
    }

    /// Sends `signal` to the process group led by this process; nothing happens once it has exited.
    pub fn signal_group(&self, signal: Signal) {
        self.with_living(|pid| rustix::process::kill_process_group(pid, signal));
    }

    fn with_living(&self, signal: impl FnOnce(Pid) -> rustix::io::Result<()>) {
        let _registry = self.reaper.lock();
        if self.exited().is_none()
            && let Err(error) = signal(self.pid)
        {
            tracing::debug!(pid = self.id(), %error, "signal not delivered");
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Process")
            .field("pid", &self.id())
            .field("exited", &self.exited())
            .finish()
    }
}

impl Cell {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Records the status and returns whom to tell. Runs under the registry's lock, so that nobody can
    /// signal the pid between its collection and this record.
    fn settle(&self, status: ExitStatus) -> Vec<Subscriber> {
        let mut state = self.lock();
        state.status = Some(status);
        self.exited.notify_all();
        std::mem::take(&mut state.subscribers)
    }
}

impl fmt::Debug for Cell {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Cell")
    }
}

/// A status in the encoding of `wait(2)`, which is what [`ExitStatus`] holds.
fn exit_status(status: WaitStatus) -> ExitStatus {
    match status {
        WaitStatus::Exited(_, code) => ExitStatus::from_raw((code & 0xff) << 8),
        WaitStatus::Signaled(_, signal, core) => {
            ExitStatus::from_raw(signal as i32 | if core { 0x80 } else { 0 })
        }
        other => unreachable!("WEXITED reported {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;
    use std::sync::mpsc;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    #[test]
    fn every_one_of_many_short_children_reports_its_own_status() {
        let reaper = Reaper::of_this_process().unwrap();
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                std::thread::spawn(move || {
                    for round in 0..20 {
                        let code = thread * 20 + round;
                        let child = reaper.spawn(&mut shell(&format!("exit {code}"))).unwrap();
                        assert_eq!(child.wait().code(), Some(code));
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
    }

    #[test]
    fn a_killed_child_reports_the_signal_and_later_signals_go_nowhere() {
        let reaper = Reaper::of_this_process().unwrap();
        let child = reaper.spawn(&mut shell("exec sleep 1000")).unwrap();
        assert_eq!(child.wait_timeout(Duration::from_millis(1)), None);
        child.signal(Signal::KILL);
        assert_eq!(child.wait().signal(), Some(9));
        child.signal(Signal::KILL);
    }

    #[test]
    fn an_adopted_orphan_is_collected_and_reported() {
        let reaper = Reaper::of_this_process().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}", file.display());
        assert!(reaper.spawn(&mut shell(&script)).unwrap().wait().success());
        let pid: i32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();

        let orphan = reaper.adopt(pid).expect("it sleeps");
        let (tell, told) = mpsc::channel();
        orphan.on_exit(move |status| tell.send(status).unwrap());
        orphan.signal(Signal::KILL);
        assert_eq!(told.recv().unwrap().signal(), Some(9));
        assert!(reaper.adopt(pid).is_none(), "its zombie is gone too");
    }

    #[test]
    fn a_program_that_does_not_exist_is_an_error_and_not_a_child() {
        let reaper = Reaper::of_this_process().unwrap();
        let error = reaper
            .spawn(&mut Command::new("/nonexistent/program"))
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
