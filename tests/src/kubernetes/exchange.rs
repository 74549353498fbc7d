//! Requests and answers of one connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::objects::{Happened, Kind, Refusal};
use super::{Asked, Shared, lock};

const LINE_BYTES_MAX: u64 = 16 << 10;
const BODY_BYTES_MAX: u64 = 4 << 20;
/// A watch that had nothing to tell for so long hears how far everything has come.
const BOOKMARK_AFTER: Duration = Duration::from_millis(50);

struct Request {
    method: String,
    path: Vec<String>,
    query: Vec<(String, String)>,
    body: Vec<u8>,
}

/// What a path names.
struct Place {
    kind: Kind,
    namespace: Option<String>,
    name: Option<String>,
    is_status: bool,
}

type Answer = Result<Value, Refusal>;

pub fn converse(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader, shared)? {
        let place = place(&request, shared);
        if let Ok(place) = &place
            && request
                .value("watch")
                .is_some_and(|watch| watch == "true" || watch == "1")
        {
            return watch(stream, &request, place, shared);
        }
        let answer = place.and_then(|place| answer(&request, &place, shared));
        let (code, body) = match answer {
            Ok(body) if request.method == "POST" => (201, body),
            Ok(body) => (200, body),
            Err(refusal) => (refusal.code, refusal.status()),
        };
        let body = body.to_string();
        let head = format!(
            "HTTP/1.1 {code} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = stream;
        stream.write_all((head + &body).as_bytes())?;
    }
    Ok(())
}

impl Request {
    fn value(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(key, _)| key == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// Whether the label selector of this request selects an object.
    fn selects(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        let selector = self.value("labelSelector").unwrap_or_default();
        requirements(selector).iter().all(|requirement| {
            if let Some((key, values)) = requirement.split_once(" in ") {
                let mut values = values.trim().trim_matches(['(', ')']).split(',');
                return values.any(|value| labels[key.trim()] == value.trim());
            }
            match requirement.split_once('=') {
                Some((key, value)) => labels[key.trim_end_matches('=')] == value.trim_start_matches('='),
                None => labels[requirement.as_str()].is_string(),
            }
        })
    }
}

/// The requirements of a selector, at whose commas it is split unless they stand in brackets.
fn requirements(selector: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    let mut depth = 0;
    for c in selector.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        match (c, depth, found.last_mut()) {
            (',', 0, _) => found.push(String::new()),
            (c, _, Some(last)) => last.push(c),
            (_, _, None) => {}
        }
    }
    found.retain(|requirement| !requirement.trim().is_empty());
    found
}

fn read_request(reader: &mut impl BufRead, shared: &Shared) -> io::Result<Option<Request>> {
    let mut line = || -> io::Result<Option<String>> {
        let mut line = String::new();
        reader.take(LINE_BYTES_MAX).read_line(&mut line)?;
        Ok(line.strip_suffix("\r\n").map(str::to_owned))
    };
    let Some(first) = line()? else { return Ok(None) };
    let mut words = first.split(' ').map(str::to_owned);
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Ok(None);
    };
    let mut length = 0;
    loop {
        let Some(header) = line()? else { return Ok(None) };
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').unwrap_or((&header, ""));
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = Vec::new();
    reader.take(length.min(BODY_BYTES_MAX)).read_to_end(&mut body)?;
    lock(&shared.asked).push(Asked {
        method: method.clone(),
        target: decoded(&target),
    });
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let query = pairs.map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(key), decoded(value))
    });
    let path = path.split('/').filter(|part| !part.is_empty());
    Ok(Some(Request {
        method,
        path: path.map(decoded).collect(),
        query: query.collect(),
        body,
    }))
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits: Vec<u8> = rest.by_ref().take(2).collect();
                let digits = String::from_utf8_lossy(&digits).into_owned();
                bytes.push(u8::from_str_radix(&digits, 16).unwrap_or(b'?'));
            }
            b'+' => bytes.push(b' '),
            byte => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn place(request: &Request, shared: &Shared) -> Result<Place, Refusal> {
    let not_found = || {
        Refusal::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        )
    };
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    let (api_version, rest) = match &path[..] {
        ["api", "v1", rest @ ..] => ("v1".to_owned(), rest),
        ["apis", group, version, rest @ ..] => (format!("{group}/{version}"), rest),
        _ => return Err(not_found()),
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some((*namespace).to_owned()), rest),
        rest => (None, rest),
    };
    let (plural, name, is_status) = match rest {
        [plural] => (*plural, None, false),
        [plural, name] => (*plural, Some((*name).to_owned()), false),
        [plural, name, "status"] => (*plural, Some((*name).to_owned()), true),
        _ => return Err(not_found()),
    };
    let kind = lock(&shared.objects).kind(&api_version, plural).cloned();
    Ok(Place {
        kind: kind.ok_or_else(not_found)?,
        namespace,
        name,
        is_status,
    })
}

fn answer(request: &Request, place: &Place, shared: &Shared) -> Answer {
    let namespace = place.namespace.as_deref().unwrap_or_default();
    let plural = place.kind.plural.as_str();
    let sent = || {
        let mut object: Value = serde_json::from_slice(&request.body)
            .map_err(|error| Refusal::new(400, "BadRequest", error.to_string()))?;
        if place.namespace.is_some() {
            object["metadata"]["namespace"] = namespace.into();
        }
        Ok(object)
    };
    let mut objects = lock(&shared.objects);
    let written = match (request.method.as_str(), &place.name) {
        ("GET", Some(name)) => {
            let found = objects.get(plural, namespace, name).cloned();
            return found.ok_or_else(|| Refusal::not_found(&format!("{plural} {name:?}")));
        }
        ("GET", None) => return list(request, place, &objects),
        ("POST", None) => objects.create(sent()?),
        ("PUT", Some(_)) => objects.replace(sent()?, place.is_status),
        ("DELETE", Some(name)) => objects.delete(&place.kind.kind, namespace, name),
        _ => Err(Refusal::new(405, "MethodNotAllowed", "not served here")),
    };
    shared.changed.notify_all();
    written
}

/// One page. A token says at which version the list was begun, and behind which object it goes on.
fn list(request: &Request, place: &Place, objects: &super::objects::Objects) -> Answer {
    let limit: usize = request
        .value("limit")
        .and_then(|limit| limit.parse().ok())
        .unwrap_or(usize::MAX);
    let token = request.value("continue").and_then(|token| token.split_once('/'));
    let (version, skip) = match token {
        None => (objects.version, 0),
        Some((version, skip)) => (
            version.parse().unwrap_or_default(),
            skip.parse().unwrap_or_default(),
        ),
    };
    if version < objects.forgotten {
        return Err(Refusal::expired());
    }
    let all = objects.all(&place.kind.plural, place.namespace.as_deref());
    let matching: Vec<&Value> = all.filter(|object| request.selects(object)).collect();
    let page = matching.iter().skip(skip).take(limit);
    let end = skip.saturating_add(limit);
    let next = if end < matching.len() {
        format!("{version}/{end}")
    } else {
        String::new()
    };
    Ok(json!({
        "apiVersion": place.kind.api_version,
        "kind": format!("{}List", place.kind.kind),
        "metadata": {"resourceVersion": version.to_string(), "continue": next},
        "items": page.collect::<Vec<_>>(),
    }))
}

/// Tells what happens from a version on, one line each, until the client has had enough or its time is over.
fn watch(stream: &TcpStream, request: &Request, place: &Place, shared: &Shared) -> io::Result<()> {
    let seconds = request
        .value("timeoutSeconds")
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or(300);
    let end = Instant::now() + Duration::from_secs(seconds);
    let has_bookmarks = request.value("allowWatchBookmarks") == Some("true");
    let mut stream = stream;
    stream.write_all(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n",
    )?;
    let from = request
        .value("resourceVersion")
        .and_then(|version| version.parse().ok());
    let mut told: u64 = from.unwrap_or_default();
    let mut bookmarked = told;
    loop {
        let (lines, now_at) = {
            let objects = lock(&shared.objects);
            if told < objects.forgotten {
                let error = json!({"type": "ERROR", "object": Refusal::expired().status()});
                return send(stream, &[error]).and_then(|()| stream.write_all(b"0\r\n\r\n"));
            }
            let is_mute = shared.is_mute.load(Ordering::Acquire);
            let news = objects
                .history
                .iter()
                .filter(|happened| !is_mute && happened.version > told);
            let lines: Vec<Value> = news
                .filter_map(|happened| line(happened, request, place))
                .collect();
            (lines, if is_mute { told } else { objects.version })
        };
        told = now_at;
        if !lines.is_empty() {
            bookmarked = told;
            send(stream, &lines)?;
        }
        let is_over = Instant::now() >= end;
        let objects = lock(&shared.objects);
        let has_news = objects.version > told && !shared.is_mute.load(Ordering::Acquire);
        let (objects, idle) = if has_news || is_over {
            (objects, false)
        } else {
            let waited = shared.changed.wait_timeout(objects, BOOKMARK_AFTER);
            let (objects, timeout) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
            (objects, timeout.timed_out())
        };
        drop(objects);
        if shared.is_ending.load(Ordering::Acquire) {
            return Ok(());
        }
        if has_bookmarks && (idle || is_over) && told > bookmarked {
            bookmarked = told;
            let object = json!({
                "kind": place.kind.kind, "apiVersion": place.kind.api_version,
                "metadata": {"resourceVersion": told.to_string(), "creationTimestamp": null},
                "spec": {"containers": null}, "status": {},
            });
            send(stream, &[json!({"type": "BOOKMARK", "object": object})])?;
        }
        if is_over {
            return stream.write_all(b"0\r\n\r\n");
        }
    }
}

/// What a watch is told of something that happened. An object that a selector has ceased to select is deleted, for
/// whoever watches by that selector.
fn line(happened: &Happened, request: &Request, place: &Place) -> Option<Value> {
    if happened.plural != place.kind.plural {
        return None;
    }
    let is_meant = |object: &&Value| {
        let within = &object["metadata"]["namespace"];
        place
            .namespace
            .as_ref()
            .is_none_or(|namespace| within == namespace)
            && request.selects(object)
    };
    let before = happened.before.as_ref().filter(is_meant);
    let after = happened.after.as_ref().filter(is_meant);
    let (kind, object) = match (before, after) {
        (None, Some(after)) => ("ADDED", after),
        (Some(_), Some(after)) => ("MODIFIED", after),
        (Some(before), None) => ("DELETED", happened.after.as_ref().unwrap_or(before)),
        (None, None) => return None,
    };
    Some(json!({"type": kind, "object": object}))
}

fn send(mut stream: &TcpStream, lines: &[Value]) -> io::Result<()> {
    for line in lines {
        let line = format!("{line}\n");
        stream.write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes())?;
    }
    Ok(())
}
