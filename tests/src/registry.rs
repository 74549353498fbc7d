//! A registry (OCI distribution, read-only) that misbehaves on demand.
//!
//! It serves one OCI image layout under every repository name: `<authority>/<any/name>:<tag>` or `@<digest>`.

mod catalog;
mod exchange;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;

use catalog::Catalog;

/// What goes wrong with an answer. Bytes are counted in its body, from zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The body is sent at this many bytes per second.
    Rate(u64),
    /// Nothing is sent for this long.
    Delay(Duration),
    /// After so many bytes nothing more is sent, and the connection stays open.
    HangAfter(u64),
    /// After so many bytes the connection is reset.
    ResetAfter(u64),
    /// After so many bytes the connection is closed in good order, as if the body had ended.
    CloseAfter(u64),
    /// This byte of the body is another one.
    Corrupt(u64),
    /// The answer is this status code, without what was asked for.
    Status(u16),
}

/// How many answers a fault befalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// The next answer it matches.
    Once,
    /// Every answer it matches, until healed.
    Always,
}

/// Names an injected fault, to heal it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FaultId(u64);

/// One request, and what has been sent in answer so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// `GET` or `HEAD`.
    pub method: String,
    /// The path asked for.
    pub path: String,
    /// The offset at which the answer begins, when only a part was asked for.
    pub from: Option<u64>,
    /// The status it was answered with.
    pub status: u16,
    /// Bytes of the body given to the network.
    pub bytes: u64,
}

/// A running registry on a free port of loopback. Ends, with all its connections, when dropped.
pub struct Registry {
    shared: Arc<Shared>,
    address: SocketAddr,
    accepting: Option<JoinHandle<()>>,
}

impl Registry {
    /// Serves the image layout in this directory, as it is at the time of each request.
    pub fn serve(layout: &Path) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(Catalog::open(layout)?));
        let accepting = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Ok(Self {
            shared,
            address,
            accepting: Some(accepting),
        })
    }

    /// The part of an image reference before the first slash, `127.0.0.1:<port>`.
    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    /// Lets `fault` befall every answer, from the next request on, whose path contains `path_part`: a digest,
    /// `/blobs/`, `/manifests/`, or nothing for all. Several faults may befall one answer.
    pub fn inject(&self, path_part: &str, fault: Fault, times: Times) -> FaultId {
        let id = FaultId(self.shared.next_id());
        let rule = Rule {
            path_part: path_part.to_owned(),
            fault,
            times,
            healed: AtomicBool::new(false),
        };
        lock(&self.shared.rules).insert(id, Arc::new(rule));
        id
    }

    /// Ends a fault, also for answers under way: what hangs goes on.
    pub fn heal(&self, id: FaultId) {
        if let Some(rule) = lock(&self.shared.rules).remove(&id) {
            rule.healed.store(true, Ordering::Release);
        }
    }

    /// Every request whose path contains `path_part`, in order of arrival.
    pub fn served(&self, path_part: &str) -> Vec<Served> {
        lock(&self.shared.served)
            .iter()
            .filter(|entry| entry.served.path.contains(path_part))
            .map(|entry| Served {
                bytes: entry.bytes.load(Ordering::Acquire),
                ..entry.served.clone()
            })
            .collect()
    }

    /// Bytes of bodies sent for paths that contain `path_part`.
    pub fn bytes_served(&self, path_part: &str) -> u64 {
        self.served(path_part).iter().map(|served| served.bytes).sum()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::Release);
        // Wakes the accept; if that fails, it is not waiting.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            // It panics only if we are wrong, and then a test has already failed.
            let _ = accepting.join();
        }
        for connection in lock(&self.shared.connections).values() {
            // Already closed by its peer, or closed now.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

struct Shared {
    catalog: Catalog,
    rules: Mutex<BTreeMap<FaultId, Arc<Rule>>>,
    served: Mutex<Vec<Entry>>,
    connections: Mutex<BTreeMap<u64, TcpStream>>,
    last_id: AtomicU64,
    ending: AtomicBool,
}

impl Shared {
    fn new(catalog: Catalog) -> Self {
        Self {
            catalog,
            rules: Mutex::default(),
            served: Mutex::default(),
            connections: Mutex::default(),
            last_id: AtomicU64::new(0),
            ending: AtomicBool::new(false),
        }
    }

    fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed)
    }

    /// The faults that befall the answer to a request for `path`; those for one answer are used up by this.
    fn faults(&self, path: &str) -> Vec<Arc<Rule>> {
        let mut rules = lock(&self.rules);
        let matching: Vec<_> = rules
            .values()
            .filter(|rule| path.contains(&rule.path_part))
            .cloned()
            .collect();
        rules.retain(|_, rule| rule.times == Times::Always || !path.contains(&rule.path_part));
        matching
    }
}

struct Rule {
    path_part: String,
    fault: Fault,
    times: Times,
    healed: AtomicBool,
}

impl Rule {
    fn fault(&self) -> Option<Fault> {
        (!self.healed.load(Ordering::Acquire)).then_some(self.fault)
    }
}

struct Entry {
    served: Served,
    bytes: Arc<AtomicU64>,
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.ending.load(Ordering::Acquire) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let Ok(clone) = stream.try_clone() else { continue };
        let id = shared.next_id();
        lock(&shared.connections).insert(id, clone);
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            // A client that leaves in the middle is its own affair.
            let _ = exchange::converse(&stream, &shared);
            // Before `stream`, so that closing that is what the client sees.
            lock(&shared.connections).remove(&id);
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
