//! A replica whose Redis store is away, or not ours, when it starts.

use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use holdfast_tests::process::Process;
use holdfast_tests::redis::{Persistence, Server};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

fn start(host: &TempDir, flags: &[&str]) -> Process {
    fs::create_dir_all(host.path().join("manifests")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ateapi"));
    command
        .env_clear()
        .current_dir(host.path())
        .args(["--manifests", "manifests", "--grpc-listen-addr", "127.0.0.1:0"])
        .args(flags);
    Process::spawn("ateapi", host.path(), &mut command).unwrap()
}

fn until_it_says(process: &mut Process, text: &str) {
    let says = |process: &Process| Ok(process.log().contains(text).then_some(()));
    process.wait_until(text, PATIENCE, says).unwrap();
}

/// Where nobody listened a moment ago.
fn nowhere() -> String {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    format!("redis://{port}")
}

#[test]
fn a_store_that_never_answers_ends_the_start_with_its_address_and_the_flag() {
    let host = tempfile::tempdir().unwrap();
    let nowhere = nowhere();
    let mut replica = start(&host, &["--store", &nowhere, "--redis-start-timeout", "700ms"]);
    assert_eq!(replica.wait_exit(PATIENCE).unwrap().code(), Some(1));
    let log = replica.log();
    assert!(
        log.contains("the store does not answer yet"),
        "it tried again: {log}"
    );
    let last = log.lines().last().unwrap();
    assert!(
        last.contains("--store: not reached within 700ms (--redis-start-timeout)") && last.contains(&nowhere),
        "{last}"
    );
}

#[test]
fn a_store_that_comes_later_is_waited_for() {
    let host = tempfile::tempdir().unwrap();
    let mut redis = Server::start(Persistence::None).unwrap();
    redis.kill().unwrap();
    let mut replica = start(&host, &["--redis-cluster-address", &redis.address().to_string()]);
    until_it_says(&mut replica, "the store does not answer yet");
    redis.restart().unwrap();
    until_it_says(&mut replica, "\"msg\":\"serving\"");
}

#[test]
fn a_database_of_somebody_else_ends_the_start_at_once() {
    let host = tempfile::tempdir().unwrap();
    let redis = Server::start(Persistence::None).unwrap();
    redis.command(&["SET", "cart:7", "1"]).unwrap();
    let mut replica = start(&host, &["--store", &redis.url(), "--redis-start-timeout", "1h"]);
    assert_eq!(replica.wait_exit(PATIENCE).unwrap().code(), Some(1));
    let log = replica.log();
    assert!(
        log.contains("holds keys that are not Holdfast's, such as \"cart:7\""),
        "{log}"
    );
}
