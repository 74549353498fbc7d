//! Every flag wrong in turn: exit code 2, a message that names the flag, the value and what would be right,
//! and nothing half-made left behind. And one that is right: it serves until it is asked to stop.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use holdfast_tests::refusals::{Bad, Program, Walk};
use tempfile::TempDir;

const LONG: &str = "/a-base-directory-with-forty-nine-bytes-in-its-name";

const BAD: [Bad<'_>; 55] = [
    ("--node-name", "", "want lower case letters"),
    ("--node-name", "Node_1", "want lower case letters"),
    ("--listen", "", "the address is empty; write host:port"),
    ("--listen", "localhost", "has no port; write host:port"),
    ("--listen", "https://a:1", "scheme \"https\" is not supported"),
    (
        "--listen",
        "999.1.1.1:80",
        "is neither a DNS name nor an IP address",
    ),
    ("--listen", "10.0.0.7:8085", "say --insecure-plaintext"),
    ("--port", "8085", "say --insecure-plaintext"),
    ("--port", "65536", "65536 is not in 0..=65535"),
    ("--port", "http", "invalid digit"),
    ("--advertise", "node", "has no port"),
    ("--advertise", "0.0.0.0:8085", "this has every host"),
    ("--advertise", "10.0.0.7:0", "nobody listens on port 0"),
    (
        "--advertise",
        "unix:/x",
        "this is a socket of one host; write host:port",
    ),
    ("--control-plane", "", "the address is empty"),
    ("--control-plane", "b", "address \"b\" has no port"),
    ("--control-plane", "b:0", "nobody listens on port 0"),
    ("--base-dir", "base", "must be absolute"),
    ("--base-dir", "/dev/null", "is not a directory"),
    (
        "--base-dir",
        LONG,
        "is too long: the sockets of workers below it may have 107 bytes, which leaves 48 for it",
    ),
    ("--sandbox", "docker", "[possible values: gvisor, process]"),
    ("--runsc-path", "/no/such/runsc", "No such file"),
    (
        "--runsc-path",
        "runsc",
        "must be absolute; name the file of an installed runsc",
    ),
    ("--runsc-path", "/", "is not a file"),
    ("--runsc-path", "/etc/passwd", "is not executable"),
    ("--on-session-lapse", "stop", "possible values: freeze, keep"),
    ("--pull-stall", "30", "30 has no unit"),
    ("--pull-stall", "0s", "must be 10ms or longer"),
    (
        "--pull-stall",
        "1h",
        "--pull-stall 1h must be shorter than workflow.deadline, which no flag sets, (5m)",
    ),
    ("--pull-attempts", "0", "0 is not in 1..=1000"),
    (
        "--localhost-registry-replacement",
        "http://x",
        "is not a host name",
    ),
    ("--insecure-registry", "", "is not a host name or address"),
    (
        "--insecure-registry",
        "http://foo/bar",
        "write it as image references do, without a scheme",
    ),
    ("--insecure-registry", "foo/bar", "is not a host name or address"),
    (
        "--registry-config",
        "/no/such/config.json",
        "/no/such/config.json: No such file",
    ),
    ("--gcp-auth-for-image-pulls", "perhaps", "'perhaps'"),
    (
        "--registry-mirror",
        "mirror.example",
        "write REGISTRY=host[:port][/path], such as docker.io=",
    ),
    ("--registry-mirror", "docker.io=http://x", "without a scheme"),
    ("--image-gc-high-threshold", "0", "0 is not in 1..=100"),
    ("--image-gc-high-threshold", "101", "101 is not in 1..=100"),
    (
        "--image-gc-low-threshold",
        "86",
        "the low watermark of 86 percent is above the high one of 85",
    ),
    ("--metrics-listen-addr", "9090", "has no port"),
    ("--metrics-listen-addr", "0.0.0.0:9090", "say --insecure-metrics"),
    ("--otlp-endpoint", "collector:4317", "want http://host:port"),
    (
        "--trace-sampler",
        "sometimes",
        "want always_on, always_off, traceidratio",
    ),
    ("--config", "none.yaml", "No such file"),
    ("--log-format", "xml", "is no log format; use json or text"),
    ("--grpc-server-cred-bundle", "none", "none: No such file"),
    ("--grpc-server-cred-bundle", "runsc", "has no CERTIFICATE"),
    ("--client-ca-certs", "none", "add --grpc-server-cred-bundle FILE"),
    ("--control-plane-ca-certs", "none", "none: No such file"),
    ("--control-plane-cred-bundle", "runsc", "has no CERTIFICATE"),
    (
        "--control-plane-server-name",
        "a b",
        "is neither a DNS name nor an IP address",
    ),
    ("--control-plane-token-file", "none", "none: No such file"),
    (
        "--control-plane-token-file",
        "runsc",
        "is empty; a token is needed",
    ),
];

/// A directory in which snapshots have their place.
struct Host {
    dir: TempDir,
    program: Program,
}

impl Host {
    fn new() -> Host {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("objects")).unwrap();
        fs::write(dir.path().join("runsc"), "").unwrap();
        fs::set_permissions(dir.path().join("runsc"), Permissions::from_mode(0o755)).unwrap();
        let program = Program {
            file: env!("CARGO_BIN_EXE_atelet").into(),
            command: atelet::command(),
            directory: dir.path().to_owned(),
            environment: vec![
                ("ATE_STORAGE_BACKEND", "file".into()),
                ("ATE_STORAGE_ROOT", dir.path().join("objects").into()),
            ],
        };
        Host { dir, program }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn base(&self) -> String {
        self.path().join("base").display().to_string()
    }

    /// All that is needed, and these. With --check a flag that is wrongly taken for right ends the process too.
    fn line<'a>(&self, base: &'a str, flags: &[&'a str]) -> Vec<&'a str> {
        [&["--node-name", "node-1", "--base-dir", base, "--check"], flags].concat()
    }

    #[track_caller]
    fn refuses(&self, flags: &[&str], variables: &[(&str, &str)], expected: &[&str]) {
        let base = self.base();
        self.program
            .refuses_line(&self.line(&base, flags), variables, expected);
    }

    fn run(&self, line: &[&str]) -> Output {
        let line: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
        self.program.run(&line, &[]).output
    }

    /// `atelet` as it serves.
    fn serving(&self, flags: &[&str]) -> Command {
        let mut command = Command::new(&self.program.file);
        command
            .args(["--node-name", "node-1", "--base-dir", &self.base()])
            .args(flags)
            .env_clear()
            .envs(self.program.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.path());
        command
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn every_flag_wrong_in_turn_is_named_with_its_value_and_what_would_be_right() {
    let host = Host::new();
    let base_dir = host.base();
    let base = [
        ("--check", ""),
        ("--node-name", "node-1"),
        ("--base-dir", base_dir.as_str()),
    ];
    host.program.refuses(&[Walk {
        path: &[],
        base: &base,
        bad: &BAD,
    }]);
}

#[test]
fn flags_that_do_not_go_together_are_refused() {
    let host = Host::new();
    host.refuses(
        &["--port", "1", "--listen", "127.0.0.1:1"],
        &[],
        &["cannot be used with"],
    );
    host.refuses(
        &["--port", "8085", "--insecure-plaintext"],
        &[],
        &["--advertise", "0.0.0.0:8085 is every interface"],
    );
    host.refuses(
        &["--sandbox", "process", "--runsc-path", "/bin/sh"],
        &[],
        &["plain processes need no runsc"],
    );
    host.refuses(&["serve"], &[], &["unexpected argument 'serve'"]);
}

#[test]
fn a_store_for_snapshots_that_is_none_is_refused() {
    let host = Host::new();
    for (variables, expected) in [
        (
            &[("ATE_STORAGE_BACKEND", "tape"), ("ATE_STORAGE_ROOT", "")][..],
            "ATE_STORAGE_BACKEND=\"tape\": want gcs, s3 or file",
        ),
        (
            &[("ATE_STORAGE_ROOT", "/no/such/directory")],
            "ATE_STORAGE_ROOT=\"/no/such/directory\"",
        ),
        (
            &[("ATE_STORAGE_ROOT", "objects")],
            "ATE_STORAGE_ROOT=\"objects\": want the absolute path",
        ),
        (
            &[("ATE_STORAGE_BACKEND", "s3")],
            "want ATE_STORAGE_BACKEND=file with it, or neither",
        ),
        (
            &[
                ("ATE_STORAGE_BACKEND", "gcs"),
                ("ATE_STORAGE_ROOT", ""),
                ("GOOGLE_APPLICATION_CREDENTIALS", "/nonexist"),
            ],
            "GOOGLE_APPLICATION_CREDENTIALS=\"/nonexist\": want a file of credentials: No such file",
        ),
        (
            &[
                ("ATE_STORAGE_BACKEND", "s3"),
                ("ATE_STORAGE_ROOT", ""),
                ("AWS_ENDPOINT_URL", "ftp://x"),
            ],
            "AWS_ENDPOINT_URL=\"ftp://x\": want an http or https URL",
        ),
    ] {
        host.refuses(&[], variables, &[expected]);
    }
}

#[test]
fn what_is_right_is_said_to_be_and_nothing_is_made() {
    let host = Host::new();
    let (base, runsc) = (host.base(), host.path().join("runsc").display().to_string());
    for flags in [
        &[][..],
        &["--listen", "unix:/run/atelet.sock"],
        &["--port=8085", "--insecure-plaintext", "--advertise=10.0.0.7:8085"],
        &[
            "--gcp-auth-for-image-pulls",
            "--metrics-listen-addr=:9090",
            "--insecure-metrics",
        ],
        &["--gcp-auth-for-image-pulls=false", "--pull-stall=2s"],
        &[
            "--sandbox=process",
            "--control-plane=a:1,b:2",
            "--on-session-lapse=keep",
            "--log-format=text",
        ],
        &[
            "--localhost-registry-replacement=kind-registry:5000",
            "--insecure-registry=a,b:5000",
        ],
        &["--runsc-path", &runsc],
    ] {
        let output = host.run(&host.line(&base, flags));
        let said = stderr(&output);
        assert_eq!(
            (output.status.code(), &output.stdout[..]),
            (Some(0), &b"OK\n"[..]),
            "{said}"
        );
        assert!(!host.path().join("base").exists());
    }
    let version = host.run(&["--version"]);
    let expected = format!("atelet {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8_lossy(&version.stdout), expected);
}

#[test]
fn an_error_names_its_flag_and_each_of_its_causes_once() {
    let host = Host::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = host.serving(&["--listen", &address]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let expected =
        format!("error: --listen: cannot listen on {address}: Address already in use (os error 98)\n");
    assert!(stderr(&output).ends_with(&expected), "{}", stderr(&output));
}

#[test]
fn it_serves_until_it_is_asked_to_stop() {
    let host = Host::new();
    let socket = format!("unix:{}", host.path().join("atelet.sock").display());
    let mut child = host
        .serving(&["--listen", &socket])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let serving = lines.find(|line| line.as_ref().unwrap().contains(r#""msg":"serving""#));
    assert!(serving.is_some(), "the log ended without a word of it");
    assert!(host.path().join("base/journal.redb").exists());
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    // Its log has to be read to its end, or it could not write it.
    lines.for_each(drop);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_journal_that_cannot_be_read_ends_it_with_the_name_of_the_file() {
    let host = Host::new();
    fs::create_dir(host.path().join("base")).unwrap();
    let journal = host.path().join("base/journal.redb");
    fs::write(&journal, "garbage").unwrap();
    let socket = format!("unix:{}", host.path().join("atelet.sock").display());
    let output = host.serving(&["--listen", &socket]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(
        stderr(&output).contains(&format!("error: {}", journal.display())),
        "{}",
        stderr(&output)
    );
}
