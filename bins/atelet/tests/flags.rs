//! Every flag wrong in turn: exit code 2, a message that names the flag, the value and what would be right,
//! and nothing half-made left behind. And one that is right: it serves until it is asked to stop.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A directory in which snapshots have their place.
fn host() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("objects")).unwrap();
    fs::write(directory.path().join("runsc"), "").unwrap();
    directory
}

/// `atelet` with these flags only, in `host` and with nothing of ours in its environment but the place of snapshots.
fn bare(host: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_atelet"));
    command
        .args(flags)
        .env_clear()
        .env("ATE_STORAGE_BACKEND", "file")
        .env("ATE_STORAGE_ROOT", host.join("objects"))
        .current_dir(host);
    command
}

/// `atelet` with these flags in addition to all that it needs.
fn with(host: &Path, flags: &[&str]) -> Command {
    let mut command = bare(host, &["--node-name", "node-1"]);
    command.arg("--base-dir").arg(host.join("base")).args(flags);
    command
}

#[track_caller]
fn assert_refused(host: &Path, command: &mut Command, expected: &[&str]) {
    // With --check a flag that is wrongly taken for right ends the process too.
    let output = command.arg("--check").output().unwrap();
    let said = stderr(&output);
    assert_eq!(
        (output.status.code(), output.stdout.len()),
        (Some(2), 0),
        "{command:?}\n{said}"
    );
    for text in expected {
        assert!(said.contains(text), "{text:?} is not in:\n{said}");
    }
    let mut left: Vec<_> = fs::read_dir(host)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["objects", "runsc"]);
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn every_wrong_value_is_named_with_its_flag_and_what_would_be_right() {
    let host = host();
    let host = host.path();
    for (flag, value, expected) in [
        ("node-name", "", "want lower case letters"),
        ("node-name", "Node/1", "want lower case letters"),
        ("listen", "", "the address is empty; write host:port"),
        ("listen", "localhost", "has no port; write host:port"),
        ("listen", "https://a:1", "scheme \"https\" is not supported"),
        ("listen", "10.0.0.7:8085", "say --insecure-plaintext"),
        ("port", "8085", "say --insecure-plaintext"),
        ("port", "65536", "65536 is not in 0..=65535"),
        ("port", "http", "invalid digit"),
        ("advertise", "node", "has no port"),
        ("advertise", "0.0.0.0:8085", "this has every host"),
        ("advertise", "10.0.0.7:0", "this has no port"),
        ("control-plane", "", "the address is empty"),
        ("control-plane", "a:1,b", "address \"b\" has no port"),
        ("base-dir", "base", "must be absolute"),
        ("sandbox", "docker", "[possible values: gvisor, process]"),
        ("runsc-path", "/no/such/runsc", "No such file"),
        ("runsc-path", "runsc", "must be absolute"),
        ("runsc-path", "/", "is not a file"),
        ("pull-stall", "30", "30 has no unit"),
        ("pull-stall", "0s", "must be longer than zero"),
        (
            "pull-stall",
            "1h",
            "1h: must be shorter than the 5m that an order may take",
        ),
        ("pull-attempts", "0", "0 is not in 1..=1000"),
        ("localhost-registry-replacement", "http://x", "is not a host name"),
        (
            "registry-config",
            "/no/such/config.json",
            "/no/such/config.json: No such file",
        ),
        ("gcp-auth-for-image-pulls", "perhaps", "'perhaps'"),
        ("metrics-listen-addr", "9090", "has no port"),
        ("log-format", "xml", "is no log format; use json or text"),
    ] {
        let argument = format!("--{flag}={value}");
        let mut command = match flag {
            "node-name" => bare(host, &[]),
            "base-dir" => bare(host, &["--node-name", "node-1"]),
            _ => with(host, &[]),
        };
        assert_refused(host, command.arg(argument), &[flag, expected]);
    }
}

#[test]
fn flags_that_do_not_go_together_are_refused() {
    let host = host();
    let host = host.path();
    assert_refused(host, &mut bare(host, &[]), &["--node-name <NAME>"]);
    assert_refused(
        host,
        &mut with(host, &["--port", "1", "--listen", "127.0.0.1:1"]),
        &["cannot be used with"],
    );
    assert_refused(
        host,
        &mut with(host, &["--port", "8085", "--insecure-plaintext"]),
        &["--advertise", "0.0.0.0:8085 is every interface"],
    );
    assert_refused(
        host,
        &mut with(host, &["--sandbox", "process", "--runsc-path", "/bin/sh"]),
        &["plain processes need no runsc"],
    );
    let long = format!("/{}", "b".repeat(60));
    assert_refused(
        host,
        &mut bare(host, &["--node-name", "n", "--base-dir", &long]),
        &["--base-dir", "is too long"],
    );
    assert_refused(
        host,
        &mut with(host, &["serve"]),
        &["unexpected argument 'serve'"],
    );
}

#[test]
fn a_store_for_snapshots_that_is_none_is_refused() {
    let host = host();
    let host = host.path();
    let mut backend = with(host, &[]);
    backend.env("ATE_STORAGE_BACKEND", "tape");
    assert_refused(
        host,
        &mut backend,
        &["ATE_STORAGE_BACKEND=\"tape\"", "want gcs, s3 or file"],
    );
    let mut root = with(host, &[]);
    root.env("ATE_STORAGE_ROOT", "/no/such/directory");
    assert_refused(host, &mut root, &["ATE_STORAGE_ROOT=\"/no/such/directory\""]);
}

#[test]
fn what_is_right_is_said_to_be_and_nothing_is_made() {
    let host = host();
    let host = host.path();
    for flags in [
        &[][..],
        &["--listen", "unix:/run/atelet.sock"],
        &["--port=8085", "--insecure-plaintext", "--advertise=10.0.0.7:8085"],
        &["--gcp-auth-for-image-pulls", "--metrics-listen-addr=:9090"],
        &["--gcp-auth-for-image-pulls=false", "--pull-stall=2s"],
        &[
            "--sandbox=process",
            "--control-plane=a:1,b:2",
            "--log-format=text",
        ],
        &[
            "--localhost-registry-replacement=kind-registry:5000",
            "--insecure-registry=a,b",
        ],
    ] {
        let output = with(host, flags).arg("--check").output().unwrap();
        let said = stderr(&output);
        assert_eq!(
            (output.status.code(), &output.stdout[..]),
            (Some(0), &b"OK\n"[..]),
            "{said}"
        );
        assert!(!host.join("base").exists());
    }
    let version = bare(host, &["--version"]).output().unwrap();
    let expected = format!("atelet {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8_lossy(&version.stdout), expected);
}

#[test]
fn it_serves_until_it_is_asked_to_stop() {
    let host = host();
    let socket = format!("unix:{}", host.path().join("atelet.sock").display());
    let mut child = with(host.path(), &["--listen", &socket])
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
    let host = host();
    fs::create_dir(host.path().join("base")).unwrap();
    let journal = host.path().join("base/journal.redb");
    fs::write(&journal, "garbage").unwrap();
    let socket = format!("unix:{}", host.path().join("atelet.sock").display());
    let output = with(host.path(), &["--listen", &socket]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(
        stderr(&output).contains(&format!("error: {}", journal.display())),
        "{}",
        stderr(&output)
    );
}
