//! A replica stops when it is asked to, whatever has become of its log, its terminal and its console.

use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use holdfast_tests::wait;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

/// A replica on a Unix socket of its own: being connected to is how it is seen to serve, without its log.
struct Replica {
    dir: TempDir,
    child: Child,
}

impl Replica {
    fn start(stderr: impl Into<Stdio>, before: &[&str]) -> Replica {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("manifests")).unwrap();
        let line = [before, &[env!("CARGO_BIN_EXE_ateapi")]].concat();
        let child = Command::new(line[0])
            .args(&line[1..])
            .args(["--manifests", "manifests", "--store", "embedded:store"])
            .args(["--grpc-listen-addr", "unix:api.sock"])
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let mut replica = Replica { dir, child };
        replica.wait_until_it_serves();
        replica
    }

    fn socket(&self) -> std::path::PathBuf {
        self.dir.path().join("api.sock")
    }

    fn wait_until_it_serves(&mut self) {
        let socket = self.socket();
        wait::until("the replica to serve", PATIENCE, || {
            assert_eq!(self.child.try_wait()?, None, "it ended");
            Ok(self.asked(&socket))
        })
        .unwrap();
    }

    /// `Some` when a call was answered.
    fn asked(&self, socket: &Path) -> Option<()> {
        let endpoint = format!("unix:{}", socket.display());
        let asked = Command::new(holdfast_tests::process::binary("ate").unwrap())
            .args(["get", "atespaces", "--endpoint", &endpoint])
            .output()
            .unwrap();
        asked.status.success().then_some(())
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    fn ended(&mut self) -> ExitStatus {
        wait::until("the replica to end", PATIENCE, || Ok(self.child.try_wait()?)).unwrap()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

#[test]
fn a_log_that_cannot_be_written_keeps_nobody_from_serving_or_stopping() {
    let (reader, closed_pipe) = std::io::pipe().unwrap();
    drop(reader);
    for (what, stderr) in [
        ("a full disk", Stdio::from(full())),
        ("a pipe without reader", Stdio::from(closed_pipe)),
    ] {
        let mut replica = Replica::start(stderr, &[]);
        replica.signal(Signal::TERM);
        assert_eq!(replica.ended().code(), Some(0), "{what}");
        assert!(!replica.socket().exists(), "{what}: it stopped in order");
    }
}

#[test]
fn a_terminal_that_is_closed_stops_it_in_order() {
    // The tests themselves may have been started to outlive theirs.
    let mut replica = Replica::start(Stdio::null(), &["env", "--default-signal=HUP"]);
    replica.signal(Signal::HUP);
    assert_eq!(replica.ended().code(), Some(0));
    assert!(!replica.socket().exists());
}

#[test]
fn one_that_was_started_to_outlive_its_terminal_does() {
    let mut replica = Replica::start(Stdio::null(), &["nohup"]);
    replica.signal(Signal::HUP);
    replica.wait_until_it_serves();
    replica.signal(Signal::TERM);
    assert_eq!(replica.ended().code(), Some(0));
}

#[test]
fn an_answer_that_cannot_be_written_is_a_failure_and_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("manifests")).unwrap();
    for flags in [&["--check"][..], &["--store", "nonsense"]] {
        let status = Command::new(env!("CARGO_BIN_EXE_ateapi"))
            .args(["--manifests", "manifests", "--grpc-listen-addr", "unix:x"])
            .args(if flags.len() == 1 {
                &["--store", "embedded:s"][..]
            } else {
                &[]
            })
            .args(flags)
            .current_dir(dir.path())
            .stdout(full())
            .stderr(full())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(flags.len() as i32), "{flags:?}");
    }
}
