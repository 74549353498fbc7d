//! A store in one file, for one process.
//!
//! Actors, workers, nodes, atespaces and the notes of deleted actors are on disk, and an operation that is answered is on disk: a
//! process that is killed, or a host that loses power, comes back to every acknowledged write. Writes
//! that wait while the disk is busy go down together, so that their number is not bounded by the
//! number of times the disk can flush.
//!
//! Leases and sessions are in memory, on the clock that the store is given. They die with the process,
//! and may: their holders die with it, a restarted process is a new replica, and what a lease protects
//! is protected by versions and fences whatever becomes of the lease.

mod file;
mod guard;
mod leases;
mod queue;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use holdfast_core::effect::{StoreError, StoreEvent, StoreOp, StoreReply};
use holdfast_core::id::{ActorKey, LeaseToken};
use holdfast_runtime::clock::Clock;
use holdfast_runtime::tokio::task::{self, JoinHandle};

use crate::watch::{Hub, Watch};
use crate::{Answer, Store, key};
use file::File;
use leases::Leases;
use queue::Queue;

/// The version of the file's layout that this build writes, and the highest that it opens.
pub const FORMAT: u64 = 1;

/// A store in one file, for one process.
pub struct Embedded {
    inner: Arc<Inner>,
}

struct Inner {
    file: File,
    leases: Mutex<Leases>,
    clock: Arc<dyn Clock>,
    hub: Hub,
    queue: Queue,
}

/// Why a file cannot be opened as a store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{path}: another process has this store open; stop that process, or use another file")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A newer Holdfast wrote it.
    #[error(
        "{path}: written in format {found} by a newer Holdfast; this one knows formats up to {FORMAT}: upgrade it"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// It is a database, but no store of ours.
    #[error("{path}: this is no store of Holdfast's; use another file")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// It is there, and has nothing in it.
    #[error(
        "{path}: is empty, so that either everything that was in it is lost or somebody has made it; restore it from a \
         backup, or remove it to begin without any actors"
    )]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// It was damaged, and is whole again without what could not be saved.
    #[error(
        "{path}: was damaged and has been repaired, perhaps without what was written last; restore it from a backup, \
         or start again to go on with what is left"
    )]
    Repaired {
        /// The file.
        path: PathBuf,
    },
    /// The operating system does not give it to us.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// It is damaged, or no database at all.
    #[error("{path}: cannot be used as a store: {source}; restore it from a backup, or use another file")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<redb::Error>,
    },
}

impl Embedded {
    /// Opens the store at `path`, readable only for its owner, and makes it if there is none. Blocks
    /// while it reads all of it, to see that it is whole, and repairs a file whose process was killed.
    ///
    /// # Errors
    /// As [`OpenError`] says. A file that is no store is left as it is.
    pub fn open(path: impl AsRef<Path>, clock: Arc<dyn Clock>) -> Result<Embedded, OpenError> {
        let file = File::open(path.as_ref())?;
        let inner = Inner {
            file,
            leases: Mutex::default(),
            clock,
            hub: Hub::new(true),
            queue: Queue::default(),
        };
        Ok(Embedded {
            inner: Arc::new(inner),
        })
    }

    /// Looks whether a store could be opened at `path`, and writes nothing. A file that another process has open
    /// counts as one, and one whose process was killed is not read as a whole: that is done when it is opened.
    ///
    /// # Errors
    /// As [`OpenError`] says, if there is a file and it is no store of ours.
    pub fn check(path: impl AsRef<Path>) -> Result<(), OpenError> {
        File::check(path.as_ref())
    }

    /// Where the store is.
    pub fn path(&self) -> &Path {
        self.inner.file.path()
    }
}

impl Store for Embedded {
    fn execute(&self, op: StoreOp) -> Answer<'_> {
        Box::pin(async move {
            key::check(&op)?;
            match op {
                StoreOp::RenewLease { .. }
                | StoreOp::ReleaseLease { .. }
                | StoreOp::PutSession { .. }
                | StoreOp::GetSession(_)
                | StoreOp::DropSession(_) => Ok(self.inner.remember(&op)),
                StoreOp::GetActor(_)
                | StoreOp::ListActors { .. }
                | StoreOp::AcquireLease { .. }
                | StoreOp::GetWorker(_)
                | StoreOp::ListWorkers
                | StoreOp::ListNodes
                | StoreOp::GetAtespace(_)
                | StoreOp::ListAtespaces
                | StoreOp::ListGraves { .. } => {
                    let inner = self.inner.clone();
                    let read = blocking(move || inner.read(op)).await;
                    read.unwrap_or_else(|panic| {
                        Err(StoreError::Unavailable(format!("a read failed: {panic}")))
                    })
                }
                StoreOp::PutActor { .. }
                | StoreOp::DeleteActor { .. }
                | StoreOp::PutWorker { .. }
                | StoreOp::DeleteWorker { .. }
                | StoreOp::PutNode(_)
                | StoreOp::LapseNode { .. }
                | StoreOp::CreateAtespace(_)
                | StoreOp::DeleteAtespace(_)
                | StoreOp::PutGrave(_)
                | StoreOp::DropGrave { .. } => queue::write(&self.inner, op).await,
            }
        })
    }

    fn watch(&self) -> Watch {
        self.inner.hub.watch()
    }
}

/// What follows from a write once it is durable.
enum Then {
    Release(ActorKey, LeaseToken),
    Tell(StoreEvent),
}

impl Inner {
    fn leases(&self) -> MutexGuard<'_, Leases> {
        // Every change to the leases is one assignment, so that a panic elsewhere leaves them whole.
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Operations on memory alone.
    fn remember(&self, op: &StoreOp) -> StoreReply {
        let now = self.clock.now();
        let mut leases = self.leases();
        match op {
            StoreOp::RenewLease { key, token, ttl } => {
                if leases.renew(now, key, *token, *ttl) {
                    StoreReply::Done
                } else {
                    StoreReply::NotOwner
                }
            }
            StoreOp::ReleaseLease { key, token } => {
                leases.release(key, *token);
                StoreReply::Done
            }
            StoreOp::PutSession { replica, ttl } => {
                leases.put_session(now, *replica, *ttl);
                StoreReply::Done
            }
            StoreOp::GetSession(replica) => {
                if leases.has_session(now, *replica) {
                    StoreReply::Exists
                } else {
                    StoreReply::Missing
                }
            }
            StoreOp::DropSession(replica) => {
                leases.drop_session(*replica);
                StoreReply::Done
            }
            other => unreachable!("{other:?} is not about memory alone"),
        }
    }

    /// Operations that change nothing on disk. Blocks.
    fn read(&self, op: StoreOp) -> Result<StoreReply, StoreError> {
        let read = match op {
            StoreOp::GetActor(key) => self.file.actor(&key).map(StoreReply::Actor),
            StoreOp::ListActors {
                atespace,
                after,
                limit,
            } => self.file.actors(atespace.as_ref(), after.as_ref(), limit),
            StoreOp::AcquireLease {
                key,
                token,
                ttl,
                steal,
            } => {
                // One step: nobody takes, loses or ends a lease between the look at it and the read.
                let mut leases = self.leases();
                let now = self.clock.now();
                match leases.holder_other_than(now, &key, token, steal) {
                    Some(holder) => Ok(StoreReply::Held(holder)),
                    None => self.file.actor(&key).map(|actor| {
                        leases.grant(now, key, token, ttl);
                        StoreReply::Acquired(actor)
                    }),
                }
            }
            StoreOp::GetWorker(key) => self.file.worker(&key).map(StoreReply::Worker),
            StoreOp::ListWorkers => self.file.workers().map(StoreReply::Workers),
            StoreOp::ListNodes => self.file.nodes().map(StoreReply::Nodes),
            StoreOp::GetAtespace(name) => {
                let exists = self.file.has_atespace(&name);
                exists.map(|exists| {
                    if exists {
                        StoreReply::Exists
                    } else {
                        StoreReply::Missing
                    }
                })
            }
            StoreOp::ListAtespaces => self.file.atespaces().map(StoreReply::Atespaces),
            StoreOp::ListGraves { after, limit } => self.file.graves(after.as_ref(), limit),
            other => unreachable!("{other:?} is not a read"),
        };
        read.map_err(|fault| self.file.blame(fault))
    }

    /// Writes a batch, and gives each of its operations its answer. Blocks.
    fn write(&self, ops: &[StoreOp]) -> Vec<Result<StoreReply, StoreError>> {
        match self.file.write(ops) {
            Ok(outcomes) => outcomes.into_iter().map(|outcome| self.follow(outcome)).collect(),
            Err(fault) => {
                let error = self.file.blame(fault);
                ops.iter().map(|_| Err(error.clone())).collect()
            }
        }
    }

    fn follow(&self, outcome: Result<(StoreReply, Vec<Then>), StoreError>) -> Result<StoreReply, StoreError> {
        let (reply, then) = outcome?;
        for next in then {
            match next {
                Then::Release(key, token) => self.leases().release(&key, token),
                Then::Tell(event) => self.hub.tell(event),
            }
        }
        Ok(reply)
    }
}

/// Runs what waits for the disk where waiting harms nobody.
#[allow(
    deprecated,
    reason = "the simulator runs it in place, which is what a simulation wants, and deplores it"
)]
fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    task::spawn_blocking(work)
}
