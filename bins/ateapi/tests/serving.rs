//! A real replica, asked by the real command line: it starts, keeps what it was told, and stops.

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use holdfast_tests::process::{Process, binary};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

const TEMPLATE: &str = "apiVersion: ate.dev/v1alpha1
kind: ActorTemplate
metadata: {name: counter, namespace: team}
spec:
  pauseImage: pause@sha256:0000000000000000000000000000000000000000000000000000000000000000
  snapshotsConfig: {location: \"s3://bucket/a\"}
  containers: [{name: main, image: counter@sha256:1111111111111111111111111111111111111111111111111111111111111111, command: [/counter]}]
";

struct Host {
    dir: TempDir,
}

impl Host {
    fn new() -> Host {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("manifests")).unwrap();
        fs::write(dir.path().join("manifests/counter.yaml"), TEMPLATE).unwrap();
        Host { dir }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn command(&self, flags: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ateapi"));
        command
            .env_clear()
            .current_dir(self.path())
            .args(["--manifests", "manifests"])
            .args(flags);
        command
    }

    /// A replica on the embedded store of this host, and where it serves.
    fn start(&self, name: &str, listen: &str) -> (Process, String) {
        let mut command = self.command(&["--store", "embedded:store", "--grpc-listen-addr", listen]);
        let mut process = Process::spawn(name, self.path(), &mut command).unwrap();
        let serving = |process: &Process| Ok(process.log().lines().find_map(serving));
        let address = process
            .wait_until("the replica to serve", PATIENCE, serving)
            .unwrap();
        (process, address)
    }

    /// What a replica says that cannot serve.
    #[track_caller]
    fn failed(&self, name: &str, listen: &str) -> String {
        let mut command = self.command(&["--store", "embedded:store", "--grpc-listen-addr", listen]);
        let mut process = Process::spawn(name, self.path(), &mut command).unwrap();
        assert_eq!(
            process.wait_exit(PATIENCE).unwrap().code(),
            Some(1),
            "{}",
            process.log()
        );
        process.log()
    }

    fn ate(&self, endpoint: &str, line: &str) -> Output {
        let mut command = Command::new(binary("ate").unwrap());
        command
            .current_dir(self.path())
            .env("ATE_ENDPOINT", endpoint)
            .args(line.split_whitespace());
        command.output().unwrap()
    }

    #[track_caller]
    fn done(&self, endpoint: &str, line: &str) -> String {
        let output = self.ate(endpoint, line);
        assert!(
            output.status.success(),
            "{line}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }
}

/// The address in the line of the log that says where it is served.
fn serving(line: &str) -> Option<String> {
    if !line.contains("\"msg\":\"serving\"") {
        return None;
    }
    let (address, _) = line.split_once("\"address\":\"")?.1.split_once('"')?;
    Some(address.to_owned())
}

#[test]
fn what_was_acknowledged_outlives_a_stop_and_a_kill() {
    let host = Host::new();
    let (mut replica, endpoint) = host.start("first", "127.0.0.1:0");
    assert_eq!(host.done(&endpoint, "create atespace demo"), "NAME\ndemo\n");
    let created = host.done(&endpoint, "create actor one -t team/counter -a demo");
    assert!(
        created
            .lines()
            .nth(1)
            .is_some_and(|line| line.starts_with("demo") && line.contains("STATUS_SUSPENDED")),
        "{created}"
    );
    let refused = host.ate(&endpoint, "create actor one -t team/counter -a demo");
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&refused.stderr),
        "error: Actor one already exists (AlreadyExists)\n"
    );
    assert_eq!(host.done(&endpoint, "get workers -o json"), "{}\n");
    assert!(
        replica.terminate(PATIENCE).unwrap().success(),
        "{}",
        replica.log()
    );

    let (mut replica, endpoint) = host.start("second", "127.0.0.1:0");
    assert_eq!(host.done(&endpoint, "get actors -A"), created);
    host.done(&endpoint, "create actor two -t team/counter -a demo");
    replica.kill().unwrap();

    let (mut replica, endpoint) = host.start("third", "127.0.0.1:0");
    assert_eq!(host.done(&endpoint, "get actors -a demo").lines().count(), 3);
    host.done(&endpoint, "delete one -a demo");
    assert_eq!(host.done(&endpoint, "get actors -a demo").lines().count(), 2);
    assert!(
        replica.terminate(PATIENCE).unwrap().success(),
        "{}",
        replica.log()
    );
}

#[test]
fn a_unix_socket_is_served_and_removed_at_the_end() {
    let host = Host::new();
    let (mut replica, endpoint) = host.start("replica", "unix:api.sock");
    assert_eq!(endpoint, "unix:api.sock");
    host.done(&endpoint, "create atespace demo");
    assert!(
        replica.terminate(PATIENCE).unwrap().success(),
        "{}",
        replica.log()
    );
    assert!(!host.path().join("api.sock").exists());
}

#[test]
fn where_the_address_is_taken_no_store_is_made() {
    let host = Host::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let _taken = UnixListener::bind(host.path().join("api.sock")).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (name, listen) in [("tcp", address.as_str()), ("unix", "unix:api.sock")] {
        let said = host.failed(name, listen);
        assert!(
            said.starts_with(&format!("error: --grpc-listen-addr: cannot listen on {listen}: ")),
            "{said}"
        );
        assert!(!host.path().join("store").exists());
        assert!(
            host.path().join("api.sock").exists(),
            "the socket belongs to somebody else"
        );
    }
}

#[test]
fn a_store_that_another_replica_has_open_is_left_alone() {
    let host = Host::new();
    let (_replica, endpoint) = host.start("replica", "127.0.0.1:0");
    let said = host.failed("second", "unix:second.sock");
    assert!(
        said.starts_with("error: --store: store: another process has this store open"),
        "{said}"
    );
    assert!(!host.path().join("second.sock").exists());
    host.done(&endpoint, "create atespace demo");
}

#[test]
fn a_store_that_does_not_answer_is_waited_for_until_it_is_time_to_stop() {
    let host = Host::new();
    // Bound and never accepted from: what is sent is not answered.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let redis = silent.local_addr().unwrap().to_string();
    let mut command = host.command(&[
        "--redis-cluster-address",
        &redis,
        "--grpc-listen-addr",
        "127.0.0.1:0",
    ]);
    let mut replica = Process::spawn("replica", host.path(), &mut command).unwrap();
    let warned = |process: &Process| {
        Ok(process
            .log()
            .contains("the store does not answer yet")
            .then_some(()))
    };
    replica.wait_until("a warning", PATIENCE, warned).unwrap();
    assert_eq!(replica.terminate(PATIENCE).unwrap().code(), Some(1));
    assert!(
        replica
            .log()
            .contains("error: stopped before the store could be reached"),
        "{}",
        replica.log()
    );
}
