//! An API server that speaks the real protocol over plain HTTP, and misbehaves on demand: lists in pages, watches
//! with bookmarks, history that it forgets (410), conflicts, status as a subresource, and for custom resources the
//! defaults and the rules of their CRDs (not those written in CEL).

mod exchange;
mod objects;
mod schema;

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use serde_json::Value;

use objects::Objects;
pub use objects::Refusal;
pub use schema::{Crd, Fault};

/// The documents of a manifest.
pub fn documents(yaml: &str) -> Result<Vec<Value>> {
    serde_saphyr::from_multiple(yaml).context("a manifest in YAML")
}

/// One request, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
}

/// A running API server on a free port of loopback. Ends, with all its connections, when dropped.
pub struct ApiServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    objects: Mutex<Objects>,
    changed: Condvar,
    asked: Mutex<Vec<Asked>>,
    connections: Mutex<BTreeMap<u64, TcpStream>>,
    /// Whoever connects is turned away.
    is_away: AtomicBool,
    /// Watches are told nothing.
    is_mute: AtomicBool,
    is_ending: AtomicBool,
}

impl ApiServer {
    /// Starts one that knows pods and secrets, and has none.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            objects: Mutex::new(Objects::new()),
            changed: Condvar::new(),
            asked: Mutex::default(),
            connections: Mutex::default(),
            is_away: AtomicBool::new(false),
            is_mute: AtomicBool::new(false),
            is_ending: AtomicBool::new(false),
        });
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

    /// Writes a kubeconfig that leads here.
    pub fn kubeconfig(&self, directory: &Path) -> Result<PathBuf> {
        let path = directory.join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             contexts: [{{name: test, context: {{cluster: test, user: test}}}}]\n\
             clusters: [{{name: test, cluster: {{server: 'http://{}'}}}}]\n\
             users: [{{name: test, user: {{token: test}}}}]\n",
            self.address
        );
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// Serves the custom resource of this CRD from now on.
    pub fn install(&self, crd: Crd) {
        self.objects().install(crd);
    }

    /// Creates an object.
    ///
    /// # Errors
    /// If it is there, or breaks a rule of its CRD.
    pub fn create(&self, object: Value) -> Result<Value, Refusal> {
        self.write(|objects| objects.create(object))
    }

    /// Changes an object, its status included, and keeps its uid.
    ///
    /// # Errors
    /// If it is not there, or the change breaks a rule of its CRD.
    pub fn change(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) -> Result<Value, Refusal> {
        self.write(|objects| objects.change(kind, namespace, name, change))
    }

    /// Deletes an object at once, whatever its grace period.
    ///
    /// # Errors
    /// If it is not there.
    pub fn delete(&self, kind: &str, namespace: &str, name: &str) -> Result<Value, Refusal> {
        self.write(|objects| objects.delete(kind, namespace, name))
    }

    /// Forgets how everything came about: whoever watches from before now is told so (410).
    pub fn forget_history(&self) {
        self.objects().forget_history();
        self.cut_connections();
    }

    /// Is away: every connection is cut, and whoever comes is turned away.
    pub fn go_away(&self) {
        self.shared.is_away.store(true, Ordering::Release);
        self.cut_connections();
    }

    /// Is back.
    pub fn come_back(&self) {
        self.shared.is_away.store(false, Ordering::Release);
    }

    /// Watches are told nothing from now on, as if whatever is between had swallowed it, until they hear again.
    pub fn mute_watches(&self) {
        self.shared.is_mute.store(true, Ordering::Release);
    }

    /// Watches go on where they were.
    pub fn unmute_watches(&self) {
        self.shared.is_mute.store(false, Ordering::Release);
        self.shared.changed.notify_all();
    }

    /// Every request whose path and query contain all of these, in order of arrival.
    pub fn asked(&self, parts: &[&str]) -> Vec<Asked> {
        let asked = lock(&self.shared.asked);
        let matching = asked
            .iter()
            .filter(|asked| parts.iter().all(|part| asked.target.contains(part)));
        matching.cloned().collect()
    }

    fn write(&self, write: impl FnOnce(&mut Objects) -> Result<Value, Refusal>) -> Result<Value, Refusal> {
        let written = write(&mut self.objects());
        self.shared.changed.notify_all();
        written
    }

    fn objects(&self) -> MutexGuard<'_, Objects> {
        lock(&self.shared.objects)
    }

    fn cut_connections(&self) {
        for connection in lock(&self.shared.connections).values() {
            // Already closed by its peer, or closed now.
            let _ = connection.shutdown(Shutdown::Both);
        }
        self.shared.changed.notify_all();
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.shared.is_ending.store(true, Ordering::Release);
        // Wakes the accept; if that fails, it is not waiting.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            // It panics only if we are wrong, and then a test has already failed.
            let _ = accepting.join();
        }
        self.cut_connections();
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for (id, stream) in (0..).zip(listener.incoming()) {
        if shared.is_ending.load(Ordering::Acquire) {
            break;
        }
        let Ok(stream) = stream else { continue };
        if shared.is_away.load(Ordering::Acquire) {
            continue;
        }
        if let Ok(clone) = stream.try_clone() {
            lock(&shared.connections).insert(id, clone);
        }
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            // A peer that hangs up in the middle is one that has heard enough.
            let _ = exchange::converse(&stream, &shared);
            lock(&shared.connections).remove(&id);
            let _ = stream.shutdown(Shutdown::Both);
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
