//! A blocking HTTP/1.1 client that shows everything it was sent.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

const BODY_BYTES_MAX: u64 = 256 << 20;

/// An answer as it came.
#[derive(Debug, Clone)]
pub struct Response {
    /// The three digits of the status line.
    pub status: u16,
    /// Names in lower case, in the order received.
    pub headers: Vec<(String, String)>,
    /// The body, with any chunked coding removed.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of the first header of this lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as text; bytes that are not UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {:?}", self.text()))
    }
}

/// One `GET` on a connection of its own, answered within `within` from connect to last byte.
pub fn get(address: SocketAddr, host: &str, path: &str, within: Duration) -> Result<Response> {
    let mut connection = Connection::open(address, within)?;
    connection
        .send(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").as_bytes())?;
    connection
        .receive()
        .with_context(|| format!("GET {path} from {host} at {address}"))
}

/// A connection on which requests are written by hand.
pub struct Connection {
    reader: BufReader<Timed>,
}

impl Connection {
    /// Connects; everything done with the connection must be over `within` from now.
    pub fn open(address: SocketAddr, within: Duration) -> Result<Self> {
        let deadline = Instant::now() + within;
        let stream = TcpStream::connect_timeout(&address, within)
            .with_context(|| format!("connect to {address} within {within:?}"))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            reader: BufReader::new(Timed { stream, deadline }),
        })
    }

    /// Sends these bytes and nothing else.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.reader.get_mut().stream.write_all(bytes)?)
    }

    /// Reads one whole answer, to a request that has a body in its answer.
    pub fn receive(&mut self) -> Result<Response> {
        let mut response = self.receive_head()?;
        let body = &mut response.body;
        if response
            .headers
            .iter()
            .any(|(name, value)| name == "transfer-encoding" && value == "chunked")
        {
            self.read_chunks(body)?;
        } else if let Some((_, bytes)) = response.headers.iter().find(|(name, _)| name == "content-length") {
            let bytes: u64 = bytes
                .parse()
                .with_context(|| format!("content-length {bytes:?}"))?;
            self.read_exactly(bytes, body)?;
        } else {
            self.reader.by_ref().take(BODY_BYTES_MAX).read_to_end(body)?;
        }
        Ok(response)
    }

    /// Reads the head of an answer; its body stays unread.
    pub fn receive_head(&mut self) -> Result<Response> {
        let status_line = self.line()?;
        let status = status_line
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.get(2..5))
            .and_then(|digits| digits.parse().ok())
            .with_context(|| format!("not a status line: {status_line:?}"))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(Response {
                    status,
                    headers,
                    body: Vec::new(),
                });
            }
            let (name, value) = line
                .split_once(':')
                .with_context(|| format!("not a header: {line:?}"))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// Reads at most `bytes` of a body; fewer when the peer closes early.
    pub fn receive_some(&mut self, bytes: u64) -> Result<Vec<u8>> {
        let mut some = Vec::new();
        self.reader.by_ref().take(bytes).read_to_end(&mut some)?;
        Ok(some)
    }

    /// Whether the peer has closed the connection, with no more bytes to come.
    pub fn is_closed(&mut self) -> bool {
        self.reader.fill_buf().is_ok_and(|bytes| bytes.is_empty())
    }

    fn read_exactly(&mut self, bytes: u64, body: &mut Vec<u8>) -> Result<()> {
        ensure!(bytes <= BODY_BYTES_MAX, "a body of {bytes} bytes");
        let read = self.reader.by_ref().take(bytes).read_to_end(body)?;
        ensure!(
            read as u64 == bytes,
            "the connection closed after {read} of {bytes} body bytes"
        );
        Ok(())
    }

    fn read_chunks(&mut self, body: &mut Vec<u8>) -> Result<()> {
        loop {
            let line = self.line()?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let bytes =
                u64::from_str_radix(digits, 16).with_context(|| format!("not a chunk size: {line:?}"))?;
            self.read_exactly(bytes, body)?;
            if !self.line()?.is_empty() {
                bail!("a chunk does not end where it says");
            }
            if bytes == 0 {
                return Ok(());
            }
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.reader.by_ref().take(64 << 10).read_line(&mut line)?;
        ensure!(
            line.ends_with('\n'),
            "the connection closed in the middle of a head, after {line:?}"
        );
        line.truncate(line.trim_end_matches(['\r', '\n']).len());
        Ok(line)
    }
}

/// Reads that end, all together, at one deadline.
struct Timed {
    stream: TcpStream,
    deadline: Instant,
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(buffer)
    }
}
