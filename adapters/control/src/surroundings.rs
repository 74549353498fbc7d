//! What surrounds a replica: who declares templates and pools, who keeps the secrets they refer to, and who
//! knows of worker pods. A directory of manifests is one such place, a Kubernetes API server is another.

use std::sync::{Arc, PoisonError, RwLock};

use holdfast_core::catalog::{Catalog, Template};
use holdfast_core::effect::{NodeCall, NodeFailure, NodeRow};
use holdfast_core::id::{Name, WorkerKey};
use holdfast_core::registry::Report;
use holdfast_core::replica::Input;
use holdfast_core::request::Request;
use holdfast_core::worker::Worker;
use holdfast_manifests::{ManifestError, Manifests, Secrets, Watcher};
use holdfast_rpc::report::is_unnamed;
use holdfast_runtime::driver::Inbox;
use holdfast_runtime::tokio::sync::Mutex;
use tonic::async_trait;

use crate::desk::Desk;

/// The incarnation of a node's row that was made from what others say of the node. Each replica makes such rows
/// for itself, so they are not stored. No node can call itself so: what comes over a socket has no blanks in it.
pub const DERIVED: &str = "told by its pods";

/// Everything around a replica but its store and its nodes.
#[async_trait]
pub trait Surroundings: Send + Sync + 'static {
    /// What is declared when the replica begins. Waits until that is known, for as long as it takes.
    async fn begin(&self) -> Catalog;

    /// Tells the replica of every change until it has gone. Dropping the future ends it.
    async fn follow(&self, replica: Teller);

    /// The secrets that the containers of this template refer to; those that do not exist are left out.
    ///
    /// # Errors
    /// Where they could not be asked for.
    async fn secrets(&self, template: &Template) -> Result<Secrets, SecretUnknown>;

    /// Something has become known of what the store has.
    fn learn(&self, _known: Known<'_>) {}

    /// What a node has said of itself, with what is known here of its workers. A worker of which nobody knows what
    /// it is called cannot be used, and is left out.
    fn relate(&self, mut report: Report) -> Report {
        report.workers.retain(|worker| {
            let is_named = !is_unnamed(worker);
            if !is_named {
                let (node, worker) = (&report.node.name, &worker.pod_uid);
                tracing::warn!(%node, %worker, "a worker that nobody has named is left out; leave a worker.json beside its socket");
            }
            is_named
        });
        report
    }

    /// Whether a node is to be called.
    ///
    /// # Errors
    /// The answer, where it is known without asking the node.
    async fn admit(&self, _call: &NodeCall) -> Result<(), NodeFailure> {
        Ok(())
    }
}

/// A piece of what the store has.
#[derive(Clone, Copy, Debug)]
pub enum Known<'a> {
    /// The row of a worker.
    Worker(&'a Worker),
    /// A worker has no row any more.
    WorkerGone(&'a WorkerKey),
    /// A node has reported.
    Node(&'a NodeRow),
}

/// A secret that could not be asked for.
#[derive(Debug, thiserror::Error)]
#[error("secretKeyRef {namespace}/{name}: {cause}")]
pub struct SecretUnknown {
    /// Its namespace.
    pub namespace: Name,
    /// Its name.
    pub name: Name,
    /// Why not.
    pub cause: String,
}

/// Tells a replica what has changed around it.
#[derive(Clone, Debug)]
pub struct Teller {
    inbox: Inbox<Input>,
    desk: Desk,
}

impl Teller {
    pub(crate) fn new(inbox: Inbox<Input>, desk: Desk) -> Teller {
        Teller { inbox, desk }
    }

    /// Operators have declared something else.
    pub fn declared(&self, catalog: Catalog) {
        self.inbox.send(Input::Declared(catalog));
    }

    /// This is what is known of a node and its workers. Returns once the replica has taken note.
    pub async fn reported(&self, report: Report) {
        // Whatever the verdict is, the next report says it all again.
        let _ = self.desk.ask(Request::Heartbeat(report)).await;
    }

    /// Whether the replica has gone.
    pub fn is_gone(&self) -> bool {
        self.inbox.is_closed()
    }
}

/// A directory of manifests.
pub struct Directory {
    watcher: Mutex<Watcher>,
    current: RwLock<Arc<Manifests>>,
}

impl Directory {
    /// What this watcher has read, and will read.
    pub fn new(watcher: Watcher) -> Directory {
        Directory {
            current: RwLock::new(watcher.current().clone()),
            watcher: Mutex::new(watcher),
        }
    }

    fn current(&self) -> Arc<Manifests> {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[async_trait]
impl Surroundings for Directory {
    async fn begin(&self) -> Catalog {
        self.current().catalog.clone()
    }

    async fn follow(&self, replica: Teller) {
        let mut watcher = self.watcher.lock().await;
        while !replica.is_gone() {
            match watcher.changed().await {
                Ok(manifests) => {
                    tracing::info!("manifests reloaded");
                    replica.declared(manifests.catalog.clone());
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = manifests;
                }
                Err(errors) => report(&errors),
            }
        }
    }

    async fn secrets(&self, _template: &Template) -> Result<Secrets, SecretUnknown> {
        Ok(self.current().secrets.clone())
    }
}

fn report(errors: &[ManifestError]) {
    for error in errors {
        tracing::error!(%error, "manifests not reloaded; what was declared before stays in force");
    }
}
