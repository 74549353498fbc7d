//! The counter that runs inside actors.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use holdfast_tests::http::{self, Connection};
use holdfast_tests::process::Process;
use holdfast_tests::workloads::Workload;

const SOON: Duration = Duration::from_secs(20);

struct Counter {
    address: SocketAddr,
    process: Process,
}

fn start(directory: &Path, variables: &[(&str, &str)]) -> Result<Counter> {
    let mut command = Command::new(Workload::Counter.build()?);
    command
        .env_clear()
        .envs([("HOST", "127.0.0.1"), ("PORT", "0")])
        .envs(variables.iter().copied());
    let log = format!("counter-{}", fs::read_dir(directory)?.count());
    let mut process = Process::spawn(&log, directory, &mut command)?;
    let address = process.wait_until("the counter to listen", SOON, |process| {
        let log = process.log();
        let Some((line, _)) = log.split_once('\n') else {
            return Ok(None);
        };
        Ok(line.strip_prefix("listening on ").map(str::parse).transpose()?)
    })?;
    Ok(Counter { address, process })
}

impl Counter {
    fn count(&self, path: &str) -> Result<(u64, String)> {
        let answer = http::get(self.address, "actor", path, SOON)?.json()?;
        let nonce = answer["nonce"].as_str().context("no nonce")?.to_owned();
        Ok((answer["count"].as_u64().context("no count")?, nonce))
    }

    /// Sends these bytes and returns the status of the answer, and whether the connection then closed.
    fn status(&self, bytes: &[u8]) -> Result<(u16, bool)> {
        let mut connection = Connection::open(self.address, SOON)?;
        connection.send(bytes)?;
        let response = connection.receive()?;
        let announced = response.header("connection") == Some("close");
        Ok((response.status, announced && connection.is_closed()))
    }
}

#[test]
fn the_programs_need_no_interpreter() -> Result<()> {
    for workload in [Workload::Pause, Workload::Counter] {
        assert!(
            !program_headers(&fs::read(workload.build()?)?).contains(&INTERPRETER),
            "{workload:?}"
        );
    }
    let dynamic = fs::read(std::env::current_exe()?)?;
    assert!(
        program_headers(&dynamic).contains(&INTERPRETER),
        "this test itself has one"
    );
    Ok(())
}

const INTERPRETER: u32 = 3;

/// The types of the program headers of a 64-bit little-endian ELF file.
fn program_headers(elf: &[u8]) -> Vec<u32> {
    let u16_at = |at: usize| usize::from(u16::from_le_bytes([elf[at], elf[at + 1]]));
    let start = usize::try_from(u64::from_le_bytes(elf[0x20..0x28].try_into().unwrap())).unwrap();
    let (size, count) = (u16_at(0x36), u16_at(0x38));
    let headers = (0..count).map(|index| start + index * size);
    headers
        .map(|at| u32::from_le_bytes(elf[at..at + 4].try_into().unwrap()))
        .collect()
}

#[test]
fn it_counts_requests_but_not_peeks_and_says_which_process_counted() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let counter = start(directory.path(), &[])?;
    let (count, nonce) = counter.count("/")?;
    assert_eq!(count, 1);
    assert_eq!(counter.count("/")?, (2, nonce.clone()));
    assert_eq!(counter.count("/peek")?, (2, nonce.clone()));
    assert_eq!(counter.count("/?query")?, (3, nonce.clone()));
    assert_eq!(http::get(counter.address, "actor", "/readyz", SOON)?.status, 200);
    assert_eq!(
        http::get(counter.address, "actor", "/peek", SOON)?.json()?["actor"],
        serde_json::Value::Null
    );

    let other = start(directory.path(), &[])?;
    assert_ne!(other.count("/peek")?.1, nonce);
    Ok(())
}

#[test]
fn a_connection_serves_many_requests_also_when_they_come_at_once() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let counter = start(directory.path(), &[])?;
    let mut connection = Connection::open(counter.address, SOON)?;
    let with_body = "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello";
    connection.send(with_body.repeat(3).as_bytes())?;
    for count in 1..=3 {
        assert_eq!(connection.receive()?.json()?["count"], count);
    }
    connection.send(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")?;
    assert_eq!(connection.receive()?.json()?["count"], 4);
    assert!(connection.is_closed());
    Ok(())
}

#[test]
fn what_it_does_not_understand_is_refused_and_does_not_count() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let counter = start(directory.path(), &[])?;
    let large_head = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(9000));
    for (request, status) in [
        ("GET /\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost : a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\n", 400),
        (
            "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
            400,
        ),
        ("GET http://a/ HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 65537\r\n\r\n", 413),
        (
            "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\n",
            413,
        ),
        (&large_head, 431),
        (
            "GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            501,
        ),
        ("GET / HTTP/2.0\r\nhost: a\r\n\r\n", 505),
    ] {
        assert_eq!(counter.status(request.as_bytes())?, (status, true), "{request:?}");
    }
    assert_eq!(
        counter.status(b"GET /nowhere HTTP/1.1\r\nhost: a\r\n\r\n")?,
        (404, false)
    );
    assert_eq!(
        counter.status(b"POST / HTTP/1.1\r\nhost: a\r\n\r\n")?,
        (405, false)
    );
    assert_eq!(counter.count("/peek")?.0, 0);
    Ok(())
}

#[test]
fn with_a_file_the_count_outlives_the_process() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("count");
    let variables = [("COUNTER_FILE", file.to_str().context("not UTF-8")?)];
    let mut first = start(directory.path(), &variables)?;
    first.count("/")?;
    let (count, nonce) = first.count("/")?;
    first.process.kill()?;

    let second = start(directory.path(), &variables)?;
    let (next, other_nonce) = second.count("/")?;
    assert_eq!(next, count + 1);
    assert_ne!(other_nonce, nonce);
    Ok(())
}

#[test]
fn a_file_that_holds_no_count_is_named_and_kept() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("count");
    fs::write(&file, "many")?;
    let error = start(
        directory.path(),
        &[("COUNTER_FILE", file.to_str().context("not UTF-8")?)],
    )
    .err();
    let error = format!("{:#}", error.context("it started")?);
    assert!(
        error.contains("exit status: 2") && error.contains("\"many\""),
        "{error}"
    );
    assert_eq!(fs::read_to_string(&file)?, "many");
    Ok(())
}
