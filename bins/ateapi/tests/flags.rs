//! Every flag wrong in turn: exit code 2, a message that names the flag, the value and what would be right,
//! and nothing half-made left behind.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use holdfast_tests::wait;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

const POOL: &str = "apiVersion: ate.dev/v1alpha1
kind: WorkerPool
metadata: {name: pool}
spec: {replicas: 3, ateomImage: ateom}
";

/// A directory with manifests that are right, and room for a store.
struct Host {
    dir: TempDir,
}

impl Host {
    fn new() -> Host {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("manifests")).unwrap();
        let host = Host { dir };
        host.declare(POOL);
        host
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn declare(&self, text: &str) {
        fs::write(self.path().join("manifests/all.yaml"), text).unwrap();
    }

    /// `ateapi` with these flags only, in this directory and with nothing in its environment.
    fn bare(&self, flags: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ateapi"));
        command.args(flags).env_clear().current_dir(self.path());
        command
    }

    /// `ateapi` with these flags in addition to all that is required.
    fn with(&self, flags: &[&str]) -> Command {
        self.bare(&[&["--store", "embedded:store", "--manifests", "manifests"], flags].concat())
    }

    #[track_caller]
    fn assert_refused(&self, command: &mut Command, expected: &[&str]) {
        let output = finish(command);
        let said = stderr(&output);
        println!("{command:?}\n{said}");
        assert_eq!(
            (output.status.code(), output.stdout.len()),
            (Some(2), 0),
            "{said}"
        );
        for text in expected {
            assert!(said.contains(text), "{text:?} is not in:\n{said}");
        }
        let left: Vec<_> = fs::read_dir(self.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["manifests"]);
    }
}

/// What comes of a command that ends by itself; one that serves instead is ended, and has failed.
#[track_caller]
fn finish(command: &mut Command) -> Output {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let ended = wait::until("ateapi to end", PATIENCE, || Ok(child.try_wait()?));
    if ended.is_err() {
        child.kill().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    ended.unwrap_or_else(|error| panic!("{command:?}: {error}\n{}", stderr(&output)));
    output
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn every_wrong_value_is_named_with_its_flag_and_what_would_be_right() {
    let host = Host::new();
    for (flag, value, expected) in [
        ("grpc-listen-addr", "", "the address is empty; write host:port"),
        ("grpc-listen-addr", "localhost", "has no port; write host:port"),
        (
            "grpc-listen-addr",
            "localhost:http",
            "is not a number from 0 to 65535",
        ),
        (
            "grpc-listen-addr",
            "https://localhost:1",
            "scheme \"https\" is not supported",
        ),
        ("grpc-listen-addr", "unix:", "a Unix socket needs a path"),
        ("grpc-listen-addr", "0.0.0.0:443", "say --insecure-plaintext"),
        ("grpc-listen-addr", ":443", "TLS comes with a later release"),
        (
            "grpc-listen-addr",
            "api.ate-system.svc:443",
            "Listen on 127.0.0.1:8443 or unix:/path",
        ),
        ("actor-workflow-deadline", "", "a duration is needed, such as 30s"),
        ("actor-workflow-deadline", "5", "5 has no unit; write 5s, 5m"),
        ("actor-workflow-deadline", "0s", "must be longer than zero"),
        ("lease-ttl", "soon", "\"soon\" does not begin with a number"),
        ("lease-ttl", "1ms", "must be 100ms or longer"),
        ("lease-ttl", "-30s", "cannot be negative"),
        (
            "replica-session-ttl",
            "6x",
            "unknown unit \"x\"; the units are h, m, s",
        ),
        ("replica-session-ttl", "1us", "must be 100ms or longer"),
        ("session-ttl", "1d", "unknown unit \"d\""),
        (
            "session-ttl",
            "30s",
            "--heartbeat-interval 30s must be shorter than --session-ttl 30s",
        ),
        ("heartbeat-interval", "0", "must be longer than zero"),
        (
            "heartbeat-interval",
            "1h30m",
            "--heartbeat-interval 1h30m must be shorter than --session-ttl 1m30s",
        ),
        ("stale-after", "0", "0 is not in 1..=1000"),
        ("stale-after", "three", "invalid digit"),
        ("settle-after", "300y", "unknown unit \"y\""),
        ("settle-after", "9999999h", "the longest duration is 292 years"),
        ("sweep-interval", "s", "does not begin with a number"),
        ("log-format", "xml", "is no log format; use json or text"),
    ] {
        let argument = format!("--{flag}={value}");
        host.assert_refused(&mut host.with(&[&argument]), &[flag, value, expected]);
        let variable = format!("HOLDFAST_{}", flag.replace('-', "_").to_uppercase());
        host.assert_refused(host.with(&[]).env(variable, value), &[flag, value, expected]);
    }
    host.assert_refused(
        host.with(&[]).env("HOLDFAST_INSECURE_PLAINTEXT", "maybe"),
        &["'maybe'", "--insecure-plaintext"],
    );
    host.assert_refused(
        &mut host.with(&["--port", "1"]),
        &["unexpected argument '--port'"],
    );
    host.assert_refused(&mut host.with(&["serve"]), &["unexpected argument 'serve'"]);
}

#[test]
fn a_store_that_is_none_is_refused() {
    let host = Host::new();
    let refused = |flags: &[&str], expected: &[&str]| {
        host.assert_refused(
            &mut host.bare(&[&["--manifests", "manifests"], flags].concat()),
            expected,
        );
    };
    refused(&[], &["--store <STORE>|--redis-cluster-address <HOST:PORT>"]);
    for (value, expected) in [
        ("", "is neither embedded:PATH nor redis://host:port"),
        (
            "store",
            "--store store: is neither embedded:PATH nor redis://host:port",
        ),
        ("file:store", "is neither embedded:PATH nor redis://host:port"),
        ("embedded:", "has no path; write embedded:PATH"),
        (
            "embedded:manifests",
            "--store embedded:manifests: is a directory; name a file in it",
        ),
        (
            "embedded:none/store",
            "the directory none does not exist; make it",
        ),
        ("redis://", "is no host:port"),
        ("redis://db:0", "\"db:0\" is no host:port"),
        ("redis://db/one", "database \"one\" is not a number"),
        ("rediss://db", "(TLS) is not supported; use redis://"),
    ] {
        refused(&["--store", value], &["--store", expected]);
    }
    refused(
        &["--redis-cluster-address", ""],
        &["--redis-cluster-address", "is no host:port"],
    );
    refused(
        &["--redis-cluster-address", "db:x"],
        &["--redis-cluster-address", "\"db:x\" is no host:port"],
    );
    refused(
        &["--store", "embedded:store", "--redis-cluster-address", "db:1"],
        &["cannot be used with"],
    );
}

#[test]
fn a_password_is_never_repeated() {
    let host = Host::new();
    for value in [
        "redis://ann:hunter2@db:x",
        "redis://ann:hunter2%@db",
        "rediss://ann:hunter2@db",
        "ann:hunter2@db",
    ] {
        for flag in ["--store", "--redis-cluster-address"] {
            let output = finish(&mut host.bare(&["--manifests", "manifests", flag, value]));
            assert_eq!(output.status.code(), Some(2));
            assert!(stderr(&output).contains(flag), "{}", stderr(&output));
            assert!(!stderr(&output).contains("hunter2"), "{}", stderr(&output));
        }
        let help = finish(host.bare(&["--help"]).env("HOLDFAST_STORE", value));
        assert!(!String::from_utf8_lossy(&help.stdout).contains("hunter2"));
    }
}

#[test]
fn manifests_that_cannot_be_used_are_named_by_file_and_line() {
    let host = Host::new();
    host.assert_refused(
        &mut host.bare(&["--store", "embedded:store"]),
        &["--manifests <DIRECTORY>"],
    );
    let mut nowhere = host.bare(&["--store", "embedded:store", "--manifests", "none"]);
    host.assert_refused(
        &mut nowhere,
        &["error: --manifests none: none: cannot be read: No such file"],
    );

    host.declare(&POOL.replace("replicas: 3", "replicas: many"));
    host.assert_refused(
        &mut host.with(&[]),
        &["--manifests manifests: manifests/all.yaml:4:", "many"],
    );
    host.assert_refused(&mut host.with(&["--check"]), &["manifests/all.yaml:4:"]);

    host.declare(
        &POOL
            .replace("replicas: 3", "replicas: many")
            .replace("ateomImage", "image"),
    );
    host.assert_refused(
        &mut host.with(&[]),
        &["--manifests manifests: ", " faults\n  manifests/all.yaml:4:"],
    );
}

#[test]
fn what_is_right_is_said_to_be_and_nothing_is_made() {
    let host = Host::new();
    for flags in [
        &["--check"][..],
        &["--check", "--insecure-plaintext", "--grpc-listen-addr", ":443"],
        &["--check", "--grpc-listen-addr", "unix:/run/ateapi.sock"],
        &[
            "--check",
            "--actor-workflow-deadline",
            "1h30m",
            "--lease-ttl",
            "250ms",
            "--log-format",
            "text",
        ],
    ] {
        let output = finish(&mut host.with(flags));
        assert_eq!(
            (output.status.code(), &output.stdout[..]),
            (Some(0), &b"OK\n"[..]),
            "{}",
            stderr(&output)
        );
        assert!(!host.path().join("store").exists());
    }
    // Nobody listens there, and nobody is asked.
    let redis = [
        "--check",
        "--manifests",
        "manifests",
        "--redis-cluster-address",
        "localhost:1",
    ];
    assert_eq!(finish(&mut host.bare(&redis)).status.code(), Some(0));
    let mut from_environment = host.bare(&["--check"]);
    from_environment
        .env("HOLDFAST_STORE", "redis://db")
        .env("HOLDFAST_MANIFESTS", "manifests");
    from_environment
        .env("HOLDFAST_INSECURE_PLAINTEXT", "1")
        .env("HOLDFAST_GRPC_LISTEN_ADDR", ":443");
    assert_eq!(finish(&mut from_environment).status.code(), Some(0));
}

#[test]
fn help_says_what_each_flag_means_by_default() {
    let host = Host::new();
    let help = String::from_utf8(host.bare(&["--help"]).output().unwrap().stdout).unwrap();
    for text in [
        "127.0.0.1:8443",
        "[default: 5m]",
        "[default: 30s]",
        "HOLDFAST_LEASE_TTL",
        "250ms",
        "Exit codes",
    ] {
        assert!(help.contains(text), "{text} is not in:\n{help}");
    }
    let version = host.bare(&["--version"]).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&version.stdout),
        format!("ateapi {}\n", env!("CARGO_PKG_VERSION"))
    );
}
