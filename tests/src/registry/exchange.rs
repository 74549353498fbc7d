//! Requests and answers of one connection, and the faults that befall them.

use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;

use super::{Entry, Fault, Rule, Served, Shared, lock};

const LINE_BYTES_MAX: u64 = 8 << 10;
const CHUNK_BYTES_MAX: u64 = 64 << 10;
/// A throttled body is sent in this many pieces a second.
const PIECES_PER_S: u64 = 20;
const LOOK_UP_EVERY: Duration = Duration::from_millis(20);

struct Request {
    method: String,
    path: String,
    range: Option<(u64, Option<u64>)>,
    close: bool,
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Box<dyn Read>,
    bytes: u64,
    from: Option<u64>,
}

enum Next {
    Request,
    Close,
}

pub fn converse(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader)? {
        let rules = shared.faults(&request.path);
        let forced = rules.iter().find_map(|rule| match rule.fault() {
            Some(Fault::Status(status)) => Some(status),
            _ => None,
        });
        let answer = match forced {
            Some(status) => Answer::error(status, "UNKNOWN", "injected by a test"),
            None => answer(&request, shared)?,
        };
        let sent = record(&request, &answer, shared);
        if let Next::Close = send(stream, &request, answer, &rules, &sent)? {
            break;
        }
    }
    Ok(())
}

fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = || -> io::Result<Option<String>> {
        let mut line = String::new();
        reader.take(LINE_BYTES_MAX).read_line(&mut line)?;
        Ok(line.strip_suffix("\r\n").map(str::to_owned))
    };
    let Some(request_line) = line()? else {
        return Ok(None);
    };
    let mut words = request_line.split(' ').map(str::to_owned);
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Ok(None);
    };
    let path = target
        .split_once('?')
        .map_or(target.as_str(), |(path, _query)| path)
        .to_owned();
    let mut request = Request {
        method,
        path,
        range: None,
        close: false,
    };
    loop {
        let Some(header) = line()? else { return Ok(None) };
        if header.is_empty() {
            return Ok(Some(request));
        }
        let (name, value) = header.split_once(':').unwrap_or((&header, ""));
        match name.to_ascii_lowercase().as_str() {
            "range" => request.range = range(value.trim()),
            "connection" => request.close = value.trim().eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
}

/// The one form of range that a client which goes on with a download sends: `bytes=FIRST-[LAST]`.
fn range(value: &str) -> Option<(u64, Option<u64>)> {
    let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    let last = if last.is_empty() {
        None
    } else {
        Some(last.parse().ok()?)
    };
    Some((first.parse().ok()?, last))
}

fn answer(request: &Request, shared: &Shared) -> io::Result<Answer> {
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return Ok(Answer::error(405, "UNSUPPORTED", "this registry is read-only"));
    }
    if matches!(request.path.as_str(), "/v2" | "/v2/") {
        return Ok(Answer::json("{}".into()));
    }
    let catalog = &shared.catalog;
    let path = request.path.strip_prefix("/v2/").unwrap_or_default();
    let (front, last) = path.rsplit_once('/').unwrap_or_default();
    match front.rsplit_once('/').unwrap_or_default().1 {
        "blobs" => match catalog.blob(last) {
            Some((mut blob, size)) => match request.range {
                None => Ok(Answer::content(
                    200,
                    "application/octet-stream".into(),
                    last,
                    Box::new(blob),
                    size,
                )),
                Some((first, _)) if first >= size => {
                    let mut answer = Answer::error(416, "RANGE_INVALID", "the range begins after the end");
                    answer.headers.push(("content-range", format!("bytes */{size}")));
                    Ok(answer)
                }
                Some((first, end)) => {
                    let end = end.map_or(size, |end| end.saturating_add(1).min(size)).max(first);
                    blob.seek(SeekFrom::Start(first))?;
                    let media_type = "application/octet-stream".into();
                    let mut answer = Answer::content(206, media_type, last, Box::new(blob), end - first);
                    answer
                        .headers
                        .push(("content-range", format!("bytes {first}-{}/{size}", end - 1)));
                    answer.from = Some(first);
                    Ok(answer)
                }
            },
            None => Ok(Answer::error(404, "BLOB_UNKNOWN", last)),
        },
        "manifests" => match catalog.manifest(last).map_err(io::Error::other)? {
            Some(manifest) => {
                let bytes = manifest.bytes.len() as u64;
                let body = Box::new(Cursor::new(manifest.bytes));
                Ok(Answer::content(
                    200,
                    manifest.media_type,
                    &manifest.digest,
                    body,
                    bytes,
                ))
            }
            None => Ok(Answer::error(404, "MANIFEST_UNKNOWN", last)),
        },
        "tags" if last == "list" => {
            let name = front.strip_suffix("/tags").unwrap_or_default();
            let tags = catalog.tags().map_err(io::Error::other)?;
            Ok(Answer::json(
                serde_json::json!({ "name": name, "tags": tags }).to_string(),
            ))
        }
        _ => Ok(Answer::error(404, "NAME_UNKNOWN", &request.path)),
    }
}

impl Answer {
    fn content(status: u16, media_type: String, digest: &str, body: Box<dyn Read>, bytes: u64) -> Self {
        let headers = vec![
            ("content-type", media_type),
            ("docker-content-digest", digest.to_owned()),
            ("accept-ranges", "bytes".into()),
        ];
        Self {
            status,
            headers,
            body,
            bytes,
            from: None,
        }
    }

    fn json(text: String) -> Self {
        let headers = vec![
            ("content-type", "application/json".to_owned()),
            ("docker-distribution-api-version", "registry/2.0".into()),
        ];
        let bytes = text.len() as u64;
        Self {
            status: 200,
            headers,
            body: Box::new(Cursor::new(text)),
            bytes,
            from: None,
        }
    }

    fn error(status: u16, code: &str, message: &str) -> Self {
        let errors = serde_json::json!({ "errors": [{ "code": code, "message": message }] });
        Self {
            status,
            ..Self::json(errors.to_string())
        }
    }
}

/// Enters the request into the record, and returns where to count what is sent.
fn record(request: &Request, answer: &Answer, shared: &Shared) -> Arc<AtomicU64> {
    let bytes = Arc::new(AtomicU64::new(0));
    let served = Served {
        method: request.method.clone(),
        path: request.path.clone(),
        from: answer.from,
        status: answer.status,
        bytes: 0,
    };
    lock(&shared.served).push(Entry {
        served,
        bytes: Arc::clone(&bytes),
    });
    bytes
}

fn send(
    mut stream: &TcpStream,
    request: &Request,
    mut answer: Answer,
    rules: &[Arc<Rule>],
    sent: &AtomicU64,
) -> io::Result<Next> {
    for rule in rules {
        if let Some(Fault::Delay(delay)) = rule.fault() {
            let until = Instant::now() + delay;
            while rule.fault().is_some() && Instant::now() < until && !left(stream)? {
                thread::sleep(LOOK_UP_EVERY);
            }
        }
    }
    let mut head = format!("HTTP/1.1 {} {}\r\n", answer.status, reason(answer.status));
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", answer.bytes));
    stream.write_all(head.as_bytes())?;
    if request.method == "HEAD" {
        return Ok(if request.close { Next::Close } else { Next::Request });
    }

    let mut chunk = Vec::new();
    let mut done = 0;
    loop {
        let turn = take_turn(rules, done);
        match turn.stop {
            Some(Stop::Hang) => {
                if left(stream)? {
                    return Ok(Next::Close);
                }
                thread::sleep(LOOK_UP_EVERY);
                continue;
            }
            Some(Stop::Reset) => {
                set_socket_linger(stream, Some(Duration::ZERO))?;
                return Ok(Next::Close);
            }
            Some(Stop::Close) => return Ok(Next::Close),
            None if done == answer.bytes => {
                return Ok(if request.close { Next::Close } else { Next::Request });
            }
            None => {}
        }
        chunk.clear();
        let bytes = turn.bytes.min(answer.bytes - done);
        if answer.body.by_ref().take(bytes).read_to_end(&mut chunk)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        corrupt(&mut chunk, done, rules);
        stream.write_all(&chunk)?;
        done += chunk.len() as u64;
        sent.store(done, Ordering::Release);
        thread::sleep(turn.pause);
    }
}

enum Stop {
    Hang,
    Reset,
    Close,
}

/// What may be sent next, and how long to pause after it.
struct Turn {
    bytes: u64,
    pause: Duration,
    stop: Option<Stop>,
}

fn take_turn(rules: &[Arc<Rule>], done: u64) -> Turn {
    let mut turn = Turn {
        bytes: CHUNK_BYTES_MAX,
        pause: Duration::ZERO,
        stop: None,
    };
    for fault in rules.iter().filter_map(|rule| rule.fault()) {
        let (after, stop) = match fault {
            Fault::HangAfter(after) => (after, Stop::Hang),
            Fault::ResetAfter(after) => (after, Stop::Reset),
            Fault::CloseAfter(after) => (after, Stop::Close),
            Fault::Rate(bytes_per_s) => {
                turn.bytes = turn.bytes.min((bytes_per_s / PIECES_PER_S).max(1));
                turn.pause = Duration::from_secs(1) * u32::try_from(turn.bytes).unwrap_or(u32::MAX)
                    / u32::try_from(bytes_per_s.max(1)).unwrap_or(u32::MAX);
                continue;
            }
            Fault::Delay(_) | Fault::Corrupt(_) | Fault::Status(_) => continue,
        };
        if done >= after {
            turn.stop = Some(stop);
        } else {
            turn.bytes = turn.bytes.min(after - done);
        }
    }
    turn
}

fn corrupt(chunk: &mut [u8], done: u64, rules: &[Arc<Rule>]) {
    for fault in rules.iter().filter_map(|rule| rule.fault()) {
        let Fault::Corrupt(offset) = fault else { continue };
        let index = offset
            .checked_sub(done)
            .and_then(|index| usize::try_from(index).ok());
        if let Some(byte) = index.and_then(|index| chunk.get_mut(index)) {
            *byte = !*byte;
        }
    }
}

/// Whether the client has closed its side.
fn left(stream: &TcpStream) -> io::Result<bool> {
    stream.set_nonblocking(true)?;
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false)?;
    match peeked {
        Ok(bytes) => Ok(bytes == 0),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        404 => "Not Found",
        405 => "Method Not Allowed",
        416 => "Range Not Satisfiable",
        // RFC 9112 section 4: a client ignores the phrase.
        _ => "",
    }
}
