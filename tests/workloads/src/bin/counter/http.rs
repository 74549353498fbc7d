//! As much of HTTP/1.1 (RFC 9112) as a counter needs, and strict about that much: every size is bounded,
//! connections persist, and whatever is not understood ends the connection instead of being guessed at.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

const HEAD_BYTES_MAX: u64 = 8 << 10;
const BODY_BYTES_MAX: u64 = 64 << 10;
const IDLE_MAX: Duration = Duration::from_secs(75);
const LINGER_MAX: Duration = Duration::from_secs(1);
const WRITE_MAX: Duration = Duration::from_secs(10);

/// A request whose body, if it had one, has been read and discarded.
pub struct Request {
    pub method: String,
    /// The target up to its query.
    pub path: String,
    /// Whom it is for.
    pub host: String,
    pub keep_alive: bool,
}

/// Status line and content type of an answer.
#[derive(Clone, Copy)]
pub struct Status(&'static str, &'static str);

impl Status {
    pub const OK: Self = Self("200 OK", "text/plain");
    pub const JSON: Self = Self("200 OK", "application/json");
    pub const BAD_REQUEST: Self = Self("400 Bad Request", "text/plain");
    pub const NOT_FOUND: Self = Self("404 Not Found", "text/plain");
    pub const METHOD_NOT_ALLOWED: Self = Self("405 Method Not Allowed\r\nallow: GET", "text/plain");
    pub const CONTENT_TOO_LARGE: Self = Self("413 Content Too Large", "text/plain");
    pub const MISDIRECTED: Self = Self("421 Misdirected Request", "text/plain");
    pub const HEAD_TOO_LARGE: Self = Self("431 Request Header Fields Too Large", "text/plain");
    pub const INTERNAL: Self = Self("500 Internal Server Error", "text/plain");
    pub const NOT_IMPLEMENTED: Self = Self("501 Not Implemented", "text/plain");
    pub const UNAVAILABLE: Self = Self("503 Service Unavailable", "text/plain");
    pub const VERSION_NOT_SUPPORTED: Self = Self("505 HTTP Version Not Supported", "text/plain");
}

/// One client's connection.
pub struct Connection {
    reader: BufReader<TcpStream>,
}

impl Connection {
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(IDLE_MAX))?;
        stream.set_write_timeout(Some(WRITE_MAX))?;
        Ok(Self {
            reader: BufReader::new(stream),
        })
    }

    /// The next request; `None` when the client is done; a status when it must be refused.
    pub fn next_request(&mut self) -> io::Result<Option<Result<Request, Status>>> {
        let lines = match self.head()? {
            None => return Ok(None),
            Some(Err(status)) => return Ok(Some(Err(status))),
            Some(Ok(lines)) => lines,
        };
        let (request, body_bytes) = match parse(&lines) {
            Ok(parsed) => parsed,
            Err(status) => return Ok(Some(Err(status))),
        };
        let discarded = io::copy(&mut self.reader.by_ref().take(body_bytes), &mut io::sink())?;
        Ok((discarded == body_bytes).then_some(Ok(request)))
    }

    pub fn respond(&mut self, status: Status, body: &str, keep_alive: bool) -> io::Result<()> {
        let Status(line, content_type) = status;
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let answer = format!(
            "HTTP/1.1 {line}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\nconnection: {connection}\r\n\r\n{body}",
            body.len()
        );
        self.reader.get_mut().write_all(answer.as_bytes())
    }

    /// Answers with `status` for the last time: where the next request would begin is not known.
    ///
    /// What the client still sends is read for a moment, so that the answer is not lost to a reset (RFC 9112
    /// section 9.6).
    pub fn refuse(&mut self, status: Status) -> io::Result<()> {
        self.respond(status, "", false)?;
        self.reader.get_ref().shutdown(Shutdown::Write)?;
        self.reader.get_ref().set_read_timeout(Some(LINGER_MAX))?;
        io::copy(&mut self.reader.by_ref().take(BODY_BYTES_MAX), &mut io::sink()).map(drop)
    }

    /// The lines before the empty line, without their ends.
    fn head(&mut self) -> io::Result<Option<Result<Vec<String>, Status>>> {
        let mut head = self.reader.by_ref().take(HEAD_BYTES_MAX);
        let mut lines = Vec::new();
        loop {
            let mut line = Vec::new();
            head.read_until(b'\n', &mut line)?;
            if line.pop() != Some(b'\n') {
                return Ok((head.limit() == 0).then_some(Err(Status::HEAD_TOO_LARGE)));
            }
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            match String::from_utf8(line) {
                // RFC 9112 section 2.2: an empty line before the request line is skipped.
                Ok(line) if line.is_empty() && lines.is_empty() => {}
                Ok(line) if line.is_empty() => return Ok(Some(Ok(lines))),
                Ok(line) => lines.push(line),
                Err(_) => return Ok(Some(Err(Status::BAD_REQUEST))),
            }
        }
    }
}

/// The request that `lines` ask for, and the length of its body.
fn parse(lines: &[String]) -> Result<(Request, u64), Status> {
    let (request_line, fields) = lines.split_first().ok_or(Status::BAD_REQUEST)?;
    let mut parts = request_line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Status::BAD_REQUEST);
    };
    let persistent = match version {
        "HTTP/1.1" => true,
        "HTTP/1.0" => false,
        _ if version.starts_with("HTTP/") => return Err(Status::VERSION_NOT_SUPPORTED),
        _ => return Err(Status::BAD_REQUEST),
    };
    if method.is_empty() || !target.starts_with('/') {
        return Err(Status::BAD_REQUEST);
    }

    let (mut hosts, mut host, mut body_bytes, mut keep_alive) = (0, "", None, persistent);
    for field in fields {
        let (name, value) = field.split_once(':').ok_or(Status::BAD_REQUEST)?;
        if name.is_empty() || name.contains(|c: char| c.is_whitespace()) {
            return Err(Status::BAD_REQUEST);
        }
        let value = value.trim_matches([' ', '\t']);
        match name.to_ascii_lowercase().as_str() {
            "host" => {
                hosts += 1;
                host = value;
            }
            "transfer-encoding" => return Err(Status::NOT_IMPLEMENTED),
            "content-length" => {
                let bytes = content_length(value)?;
                if body_bytes.is_some_and(|before| before != bytes) {
                    return Err(Status::BAD_REQUEST);
                }
                body_bytes = Some(bytes);
            }
            "connection" => {
                for option in value.split(',').map(str::trim) {
                    if option.eq_ignore_ascii_case("close") {
                        keep_alive = false;
                    } else if option.eq_ignore_ascii_case("keep-alive") && !persistent {
                        keep_alive = true;
                    }
                }
            }
            _ => {}
        }
    }
    if persistent && hosts != 1 {
        return Err(Status::BAD_REQUEST);
    }
    let path = target.split_once('?').map_or(target, |(path, _query)| path);
    let request = Request {
        method: method.to_owned(),
        path: path.to_owned(),
        host: host.to_owned(),
        keep_alive,
    };
    Ok((request, body_bytes.unwrap_or(0)))
}

fn content_length(value: &str) -> Result<u64, Status> {
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Status::BAD_REQUEST);
    }
    // All digits, so the only way to fail is to be too large.
    match value.parse() {
        Ok(bytes) if bytes <= BODY_BYTES_MAX => Ok(bytes),
        _ => Err(Status::CONTENT_TOO_LARGE),
    }
}
