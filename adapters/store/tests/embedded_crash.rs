//! The embedded store in a process that comes to a bad end. Each test runs its own binary again as the
//! process that suffers.

mod samples;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use holdfast_core::effect::{StoreError, StoreOp, StoreReply};
use holdfast_runtime::clock::SystemClock;
use holdfast_store::Store;
use holdfast_store::embedded::Embedded;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use samples::{actor, put, token};

/// Where the store of the process that suffers is.
const STORE: &str = "HOLDFAST_TEST_STORE";
const WRITERS: usize = 8;

/// Which version of which actor was acknowledged last.
type Acknowledged = BTreeMap<String, u64>;

fn open(path: &Path) -> Embedded {
    Embedded::open(path, Arc::new(SystemClock)).unwrap()
}

/// This binary again, as the process that runs `test` on the store at `path`.
fn sufferer(test: &str, path: &Path, limits: &str) -> Child {
    let run = format!("{limits} exec \"$0\" --ignored --exact {test} --nocapture --test-threads 1");
    Command::new("sh")
        .args(["-c", &run])
        .arg(std::env::current_exe().unwrap())
        .env(STORE, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn path_of_sufferer() -> PathBuf {
    std::env::var_os(STORE)
        .expect("this is not a test: it is run by those that are")
        .into()
}

/// Tells the parent. A pipe takes so short a text as a whole or not at all.
fn acknowledge(name: &str, version: u64) {
    std::io::stdout()
        .lock()
        .write_all(format!("\nack {name} {version}\n").as_bytes())
        .unwrap();
}

/// Reads until so many writes are acknowledged, or until the end.
fn read_acknowledged(output: &mut impl BufRead, count: usize, into: &mut Acknowledged) -> usize {
    let mut read = 0;
    for line in output.lines().map_while(Result::ok) {
        let Some((name, version)) = line.strip_prefix("ack ").and_then(|rest| rest.split_once(' ')) else {
            continue;
        };
        into.insert(name.into(), version.parse().unwrap());
        read += 1;
        if read == count {
            break;
        }
    }
    read
}

async fn version(store: &Embedded, name: &str) -> u64 {
    match store.execute(StoreOp::GetActor(actor(name).key)).await.unwrap() {
        StoreReply::Actor(stored) => stored.map_or(0, |stored| stored.version.0),
        other => panic!("{other:?}"),
    }
}

/// Every acknowledged write is there, and nothing that was not even asked for.
async fn verify(store: &Embedded, acknowledged: &Acknowledged) {
    for (name, acknowledged) in acknowledged {
        let stored = version(store, name).await;
        assert!(
            (*acknowledged..=acknowledged + 1).contains(&stored),
            "{name}: {acknowledged}, then {stored}"
        );
    }
}

#[tokio::test]
#[ignore = "runs only as the process that is killed"]
async fn write_until_killed() {
    let store = open(&path_of_sufferer());
    let writers = (0..WRITERS).map(|writer| {
        let store = &store;
        async move {
            let name = format!("writer-{writer}");
            let mut at = version(store, &name).await;
            loop {
                let (actor, mine) = (actor(&name), token(at));
                let ttl = Duration::from_secs(30);
                let acquire = StoreOp::AcquireLease {
                    key: actor.key.clone(),
                    token: mine,
                    ttl,
                    steal: None,
                };
                assert!(matches!(
                    store.execute(acquire).await,
                    Ok(StoreReply::Acquired(_))
                ));
                let write = put(&actor, (at > 0).then_some(at), Some(mine));
                assert_eq!(store.execute(write).await, Ok(StoreReply::Done));
                at += 1;
                acknowledge(&name, at);
            }
        }
    });
    join_all(writers).await;
}

#[tokio::test]
async fn a_process_that_is_killed_loses_no_acknowledged_write() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let mut acknowledged = Acknowledged::new();
    for count in [1, 40, 171, 502, 803] {
        let mut child = sufferer("write_until_killed", &path, "");
        let mut output = BufReader::new(child.stdout.take().unwrap());
        assert_eq!(read_acknowledged(&mut output, count, &mut acknowledged), count);
        child.kill().unwrap();
        // What it had said before it died is still in the pipe.
        read_acknowledged(&mut output, usize::MAX, &mut acknowledged);
        assert!(!child.wait().unwrap().success());
        verify(&open(&path), &acknowledged).await;
    }
    assert_eq!(acknowledged.len(), WRITERS);
}

#[tokio::test]
#[ignore = "runs only as the process whose disk is full"]
async fn write_until_the_disk_is_full() {
    let store = open(&path_of_sufferer());
    let (mut written, mut acknowledged) = (0, Acknowledged::new());
    let refused = loop {
        let name = format!("a{written}");
        match store.execute(put(&actor(&name), None, None)).await {
            Ok(reply) => assert_eq!(reply, StoreReply::Done),
            Err(error) => break error,
        }
        acknowledged.insert(name, 1);
        written += 1;
    };
    assert!(
        matches!(&refused, StoreError::Unavailable(text) if text.contains("store")),
        "{refused:?}"
    );
    verify(&store, &acknowledged).await;
    let hard = getrlimit(Resource::Fsize).maximum;
    setrlimit(
        Resource::Fsize,
        Rlimit {
            current: hard,
            maximum: hard,
        },
    )
    .unwrap();
    for more in 0..10 {
        let name = format!("later-{more}");
        assert_eq!(
            store.execute(put(&actor(&name), None, None)).await,
            Ok(StoreReply::Done)
        );
        acknowledged.insert(name, 1);
    }
    verify(&store, &acknowledged).await;
}

#[test]
fn a_disk_that_was_full_is_used_again_once_it_has_room() {
    let directory = tempfile::tempdir().unwrap();
    // Files may not grow beyond some MiB, and an attempt is an error instead of the end of the process.
    let limits = "trap '' XFSZ; ulimit -S -f 4096;";
    let mut child = sufferer(
        "write_until_the_disk_is_full",
        &directory.path().join("store"),
        limits,
    );
    let mut output = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().unwrap(), &mut output).unwrap();
    assert!(child.wait().unwrap().success(), "{output}");
    assert!(output.contains("1 passed"), "{output}");
}
