//! A real Redis server that can be killed, frozen and started again on its data.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::process::Process;

const START_MAX: Duration = Duration::from_secs(20);
const REPLY_MAX: Duration = Duration::from_secs(5);
const BULK_BYTES_MAX: usize = 64 << 20;
/// Somebody else may take a port between our finding it free and the server's binding it.
const PORTS_TRIED_MAX: usize = 5;

/// What survives a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// Nothing: as a cache, or a failover that loses everything.
    None,
    /// Every acknowledged write.
    EveryWrite,
}

/// A reply of the server (RESP2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A status such as `OK`.
    Status(String),
    /// An error, with its code in front.
    Error(String),
    /// An integer.
    Integer(i64),
    /// A string of bytes.
    Bytes(Vec<u8>),
    /// No such thing.
    Nil,
    /// Several replies.
    Array(Vec<Reply>),
}

/// One `redis-server` on a port of loopback that was free, with a directory of its own.
#[derive(Debug)]
pub struct Server {
    process: Process,
    port: u16,
    persistence: Persistence,
    // After `process`: fields are dropped in order, and the server writes here until it is dead.
    directory: TempDir,
}

impl Server {
    /// Starts a server and waits until it answers.
    pub fn start(persistence: Persistence) -> Result<Self> {
        let directory = TempDir::with_prefix("holdfast-redis-")?;
        for _ in 1..PORTS_TRIED_MAX {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
            match launch(&directory, port, persistence) {
                Ok(process) => {
                    return Ok(Self {
                        process,
                        port,
                        persistence,
                        directory,
                    });
                }
                Err(error) if format!("{error:#}").contains("Address already in use") => {}
                Err(error) => return Err(error),
            }
        }
        bail!("redis-server found each of {PORTS_TRIED_MAX} free ports taken")
    }

    /// Where it listens; the same after a restart.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Where it listens, as clients want it.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// The process, for what the methods here do not do.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// `kill -9`: connections are reset, new ones refused.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill().map(drop)
    }

    /// Connections stay open and are accepted, and nothing is answered.
    pub fn freeze(&mut self) -> Result<()> {
        self.process.freeze()
    }

    /// Ends a freeze.
    pub fn thaw(&mut self) -> Result<()> {
        self.process.thaw()
    }

    /// Kills it if it runs, and starts it on the same port with what its persistence kept.
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        self.process = launch(&self.directory, self.port, self.persistence)?;
        Ok(())
    }

    /// One command on a connection of its own.
    pub fn command(&self, words: &[&str]) -> Result<Reply> {
        command(self.port, words)
    }
}

fn launch(directory: &TempDir, port: u16, persistence: Persistence) -> Result<Process> {
    let append_only = match persistence {
        Persistence::None => "no",
        Persistence::EveryWrite => "yes",
    };
    let mut redis = Command::new("redis-server");
    redis.args([
        "--port",
        &port.to_string(),
        "--bind",
        "127.0.0.1",
        "--daemonize",
        "no",
        "--save",
        "",
    ]);
    redis.args(["--appendonly", append_only, "--appendfsync", "always"]);
    redis.arg("--dir").arg(directory.path());
    let mut process = Process::spawn("redis-server", directory.path(), &mut redis)
        .context("redis-server is needed: cargo xtask setup installs it")?;
    let us = format!("process_id:{}\r\n", process.id());
    // Another server may have the port: only the one that knows our child's process id is ours. One that still
    // reads its data answers this and nothing else.
    process.wait_until("redis-server to answer", START_MAX, |_| {
        match command(port, &["INFO"]) {
            Ok(Reply::Bytes(info)) => {
                let info = String::from_utf8_lossy(&info);
                let is_ready = info.contains(&us) && info.contains("\r\nloading:0\r\n");
                Ok(is_ready.then_some(()))
            }
            Ok(_) | Err(_) => Ok(None),
        }
    })?;
    Ok(process)
}

fn command(port: u16, words: &[&str]) -> Result<Reply> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(REPLY_MAX))?;
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(request.as_bytes())?;
    read_reply(&mut BufReader::new(stream)).with_context(|| format!("redis command {words:?}"))
}

fn read_reply(reader: &mut impl BufRead) -> Result<Reply> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let line = line
        .strip_suffix("\r\n")
        .context("the connection closed before the reply ended")?;
    let (kind, rest) = line.split_at_checked(1).context("an empty reply")?;
    Ok(match kind {
        "+" => Reply::Status(rest.to_owned()),
        "-" => Reply::Error(rest.to_owned()),
        ":" => Reply::Integer(rest.parse()?),
        "$" | "*" if rest == "-1" => Reply::Nil,
        "$" => {
            let bytes: usize = rest.parse()?;
            ensure!(bytes <= BULK_BYTES_MAX, "a reply of {bytes} bytes");
            let mut bulk = vec![0; bytes + 2];
            reader.read_exact(&mut bulk)?;
            bulk.truncate(bytes);
            Reply::Bytes(bulk)
        }
        "*" => Reply::Array(
            (0..rest.parse::<usize>()?)
                .map(|_| read_reply(reader))
                .collect::<Result<_>>()?,
        ),
        _ => bail!("not a reply: {line:?}"),
    })
}
