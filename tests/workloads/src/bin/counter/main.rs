//! An HTTP counter whose count lives in this process's memory: if the count goes on and the nonce is the
//! same, the process itself was carried over, not merely its files.
//!
//! | request       | answer                                                      |
//! |---------------|-------------------------------------------------------------|
//! | `GET /`       | counts, then `{"count":N,"nonce":"…","actor":"…"}`          |
//! | `GET /peek`   | the same without counting                                   |
//! | `GET /readyz` | `ok`                                                        |
//!
//! | variable       | default   | meaning                                                               |
//! |----------------|-----------|-----------------------------------------------------------------------|
//! | `HOST`         | `0.0.0.0` | address to listen on                                                  |
//! | `PORT`         | `80`      | port to listen on; 0 picks a free one, which the first line names     |
//! | `COUNTER_FILE` | none      | keeps the count in this file as well, for sandboxes that save only data |

mod count;
mod http;

use std::env;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use count::Counter;
use http::{Connection, Status};

/// Where a sandbox writes the id of the actor that runs in it.
const ACTOR_ID: &str = "/run/ate/actor-id";
/// What the names of actors end with, as hosts.
const ACTORS: &str = ".actors.resources.substrate.ate.dev";
const ACTOR_ID_BYTES_MAX: u64 = 1024;
const CONNECTIONS_MAX: usize = 256;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("counter: {message}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), String> {
    let host = variable("HOST", IpAddr::V4(Ipv4Addr::UNSPECIFIED))?;
    let port = variable("PORT", 80u16)?;
    let counter = Counter::open(env::var_os("COUNTER_FILE").map(Into::into))
        .map_err(|error| format!("COUNTER_FILE: {error}"))?;
    let listener =
        TcpListener::bind((host, port)).map_err(|error| format!("listen on {host}:{port}: {error}"))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    println!("listening on {address}");
    io::stdout().flush().map_err(|error| error.to_string())?;
    serve(&listener, &Arc::new(counter));
    Ok(())
}

fn variable<T: FromStr<Err: Display>>(name: &str, default: T) -> Result<T, String> {
    match env::var(name) {
        Ok(value) => value
            .parse()
            .map_err(|error| format!("{name}={value:?}: {error}")),
        Err(env::VarError::NotPresent) => Ok(default),
        Err(env::VarError::NotUnicode(value)) => Err(format!("{name}={value:?}: not UTF-8")),
    }
}

/// Serves until the process is killed. An accept that fails (a peer that left, no descriptors) costs that
/// connection only.
fn serve(listener: &TcpListener, counter: &Arc<Counter>) {
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        let Ok(mut connection) = Connection::new(stream) else {
            continue;
        };
        let slot = Slot::take(&open);
        if slot.number >= CONNECTIONS_MAX {
            let _ = connection.respond(Status::UNAVAILABLE, "", false);
            continue;
        }
        let counter = Arc::clone(counter);
        thread::spawn(move || {
            let _slot = slot;
            // The peer went away or broke the protocol: nobody is left to be told.
            let _ = converse(&mut connection, &counter);
        });
    }
}

fn converse(connection: &mut Connection, counter: &Counter) -> io::Result<()> {
    while let Some(request) = connection.next_request()? {
        let request = match request {
            Ok(request) => request,
            Err(status) => return connection.refuse(status),
        };
        let (status, body) = if is_for_another(&request.host) {
            (Status::MISDIRECTED, "this is another actor\n".into())
        } else {
            answer(&request.method, &request.path, counter)
        };
        connection.respond(status, &body, request.keep_alive)?;
        if !request.keep_alive {
            break;
        }
    }
    Ok(())
}

fn answer(method: &str, path: &str, counter: &Counter) -> (Status, String) {
    let count = match (method, path) {
        ("GET", "/") => counter.increment(),
        ("GET", "/peek") => Ok(counter.peek()),
        ("GET", "/readyz") => return (Status::OK, "ok\n".into()),
        (_, "/" | "/peek" | "/readyz") => return (Status::METHOD_NOT_ALLOWED, "only GET\n".into()),
        _ => return (Status::NOT_FOUND, "not found: try /, /peek or /readyz\n".into()),
    };
    match count {
        Ok(count) => {
            let actor = actor_id().map_or("null".into(), |id| json_string(&id));
            (
                Status::JSON,
                format!(
                    "{{\"count\":{count},\"nonce\":\"{}\",\"actor\":{actor}}}\n",
                    counter.nonce()
                ),
            )
        }
        Err(error) => (Status::INTERNAL, format!("the count was not saved: {error}\n")),
    }
}

/// Whether the host names an actor, and not this one: whoever sent it knew the address from before.
fn is_for_another(host: &str) -> bool {
    let named = host
        .strip_suffix(ACTORS)
        .and_then(|names| names.split('.').next());
    named.is_some_and(|named| actor_id().is_some_and(|id| id != named))
}

/// Read anew for every answer: a restored process may find itself under another identity.
fn actor_id() -> Option<String> {
    let mut id = String::new();
    File::open(ACTOR_ID)
        .ok()?
        .take(ACTOR_ID_BYTES_MAX)
        .read_to_string(&mut id)
        .ok()?;
    Some(id.trim_end().to_owned())
}

fn json_string(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => json.extend(['\\', character]),
            '\0'..='\x1f' => json.push_str(&format!("\\u{:04x}", u32::from(character))),
            _ => json.push(character),
        }
    }
    json.push('"');
    json
}

/// One of the connections that may be open at a time; given back when dropped.
struct Slot {
    open: Arc<AtomicUsize>,
    number: usize,
}

impl Slot {
    fn take(open: &Arc<AtomicUsize>) -> Self {
        Self {
            number: open.fetch_add(1, Ordering::Relaxed),
            open: Arc::clone(open),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}
