//! A store on a Redis or Valkey server, or a cluster of them, for many processes.
//!
//! Every conditional write is one script on one slot: one round trip, one atomic step. Leases and sessions expire on
//! the server's clock. Records are the original's, under the original's keys (see [`crate::key`]), so that
//! this runs on what the original left behind.
//!
//! ```text
//! operations --+                      which server, and who else if it was the wrong one: servers, topology, slot
//! walk --------+--> servers --> link  one server: connect, send, give up in time, fail fast while it is away
//! claim -------+                 |
//! subscription --> directory ----+--> tls, url
//! ```
//!
//! **Durability** is the servers': with `appendonly yes` and `appendfsync everysec`, up to a second of
//! acknowledged writes is lost when a host dies, and a failover to a replica loses what had not been
//! copied, unless [`Config::copies`] has each write wait for that. Versions, leases and fences may go back then; the
//! nodes' memory wins (design section 4).
//!
//! **Lists** know from [`directory`] which keys there are, for as long as somebody watches, and read the records of a page. Where
//! that is not known, or somebody else writes here, they walk all keys with `SCAN` and answer what one walk saw. Either way
//! they are in order of the keys; what existed throughout is never missed and never repeated; and a page token is
//! the last key of its page, so that it survives restarts, failovers and resharding.
//!
//! **Deleting an atespace** is not atomic with the creation of an actor in it, as in the original: the
//! actor's key and the atespace's are in different slots.

mod claim;
mod deadline;
mod directory;
mod link;
mod operations;
mod renewals;
mod scripts;
mod servers;
mod slot;
mod subscription;
mod tls;
mod topology;
mod url;
mod walk;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ::redis::{ErrorKind, RedisError, ServerErrorKind};
use holdfast_core::effect::{StoreError, StoreOp, StoreReply};

use crate::watch::{Hub, Watch};
use crate::{Answer, Store, key};
use claim::Claim;
use deadline::Deadline;
use directory::Directory;
use link::Place;
use operations::Operations;
use renewals::Renewals;
use scripts::Scripts;
use servers::Servers;
use subscription::Subscription;
pub use tls::{Tls, TlsError};
pub use url::{Url, UrlError};

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// One operation, connecting included. Past that its outcome is unknown.
    pub operation: Duration,
    /// One list, which walks everything that is stored.
    pub list: Duration,
    /// How often a connection that waits for events is asked for a sign of life.
    pub ping_every: Duration,
    /// The pause before the first attempt to listen again; each further one is twice as long.
    pub retry_from: Duration,
    /// The longest such pause.
    pub retry_to: Duration,
    /// How often all keys are walked to see whether somebody writes here who announces nothing.
    pub look_back_every: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            operation: Duration::from_secs(3),
            list: Duration::from_secs(30),
            ping_every: Duration::from_secs(5),
            retry_from: Duration::from_millis(100),
            retry_to: Duration::from_secs(5),
            look_back_every: Duration::from_secs(60),
        }
    }
}

/// Which servers, and how they are spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where they are, and who we are there.
    pub url: Url,
    /// How they are known to be who they are, where the URL asks for TLS.
    pub tls: Tls,
    /// How many replicas must have a write before it counts as done.
    pub copies: u32,
    /// How long things may take.
    pub timing: Timing,
}

impl From<Url> for Config {
    /// The usual: what the machine trusts, no replicas, the default timing.
    fn from(url: Url) -> Config {
        Config {
            url,
            tls: Tls::default(),
            copies: 0,
            timing: Timing::default(),
        }
    }
}

/// A store on a Redis or Valkey server, or a cluster of them.
pub struct Redis {
    servers: Arc<Servers>,
    claim: Claim,
    scripts: Arc<Scripts>,
    renewals: Arc<Renewals>,
    timing: Timing,
    hub: Arc<Hub>,
    directory: Arc<Directory>,
    /// Started by the first who watches.
    subscription: OnceLock<Subscription>,
}

impl Redis {
    /// A store on these servers. Connects when it is first needed, and again whenever it must.
    pub fn new(config: Config) -> Redis {
        let Config {
            url,
            tls,
            copies,
            timing,
        } = config;
        Redis {
            servers: Arc::new(Servers::new(Place { url, tls }, timing, copies)),
            claim: Claim::default(),
            scripts: Arc::default(),
            renewals: Arc::default(),
            timing,
            hub: Arc::new(Hub::new(false)),
            directory: Arc::default(),
            subscription: OnceLock::new(),
        }
    }

    /// Whether the servers answer, let us in, and keep records of ours or nothing.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when they do not answer, [`StoreError::Refused`] when they turn us away, or
    /// are not to be written to.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let deadline = Deadline::after(self.timing.operation);
        let asked = async {
            self.claim.check(&self.servers, deadline).await?;
            claim::is_marked(&self.servers, deadline).await
        };
        asked.await.map(drop).map_err(Fault::told)
    }

    async fn run(&self, op: StoreOp) -> Result<StoreReply, Fault> {
        key::check(&op).map_err(|bad| Fault::Store(bad.into()))?;
        let within = match &op {
            StoreOp::ListActors { .. }
            | StoreOp::ListWorkers
            | StoreOp::ListNodes
            | StoreOp::ListAtespaces
            | StoreOp::DeleteAtespace(_) => self.timing.list,
            _ => self.timing.operation,
        };
        let deadline = Deadline::after(within);
        self.claim.check(&self.servers, deadline).await?;
        let operations = Operations {
            servers: &self.servers,
            directory: &self.directory,
            renewals: &self.renewals,
            scripts: &self.scripts,
            deadline,
        };
        operations.execute(op).await
    }
}

impl Store for Redis {
    fn execute(&self, op: StoreOp) -> Answer<'_> {
        Box::pin(async move { self.run(op).await.map_err(Fault::told) })
    }

    /// Starts to listen, on connections of its own; must be called within the runtime.
    fn watch(&self) -> Watch {
        let watch = self.hub.watch();
        self.subscription.get_or_init(|| {
            let (servers, hub) = (self.servers.clone(), self.hub.clone());
            Subscription::start(servers, hub, self.directory.clone())
        });
        watch
    }
}

/// Why an operation has no answer.
enum Fault {
    /// As the caller is to hear it.
    Store(StoreError),
    /// An answer that is none.
    Server(RedisError),
}

impl Fault {
    fn told(self) -> StoreError {
        match self {
            Fault::Store(error) => error,
            Fault::Server(error) => classify(&error),
        }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Fault {
        Fault::Store(error)
    }
}

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Fault {
        Fault::Server(error)
    }
}

impl From<crate::record::RecordError> for Fault {
    fn from(error: crate::record::RecordError) -> Fault {
        Fault::Store(error.into())
    }
}

/// Whether the server turned the operation away before it did anything, or may have done it.
///
/// What passes by itself is [`StoreError::Unavailable`], also where nothing was changed: a server that
/// loads its data, a replica that was a master a moment ago, memory or a disk that is full: once there is room again,
/// what was asked for can be done. What stays so until somebody changes what is asked, or who may ask it, is
/// [`StoreError::Refused`], unless it can come from the second half of a script: a user who may write keys
/// but not publish has written.
fn classify(error: &RedisError) -> StoreError {
    let text = error.to_string();
    match (error.kind(), error.code()) {
        (_, Some("OOM")) => {
            StoreError::Unavailable(format!("the server's memory is full (maxmemory): {text}"))
        }
        (_, Some("MISCONF")) => {
            StoreError::Unavailable(format!("the server cannot write to its disk: {text}"))
        }
        (ErrorKind::AuthenticationFailed, _) | (_, Some("NOAUTH" | "WRONGPASS")) => {
            StoreError::Refused(format!("the server wants another user or password: {text}"))
        }
        (_, Some("NOREPLICAS" | "BUSY" | "UNKILLABLE")) => StoreError::Unavailable(text),
        (ErrorKind::Server(ServerErrorKind::ResponseError | ServerErrorKind::CrossSlot), _)
        | (ErrorKind::Extension | ErrorKind::InvalidClientConfig | ErrorKind::RESP3NotSupported, _) => {
            StoreError::Refused(text)
        }
        _ => StoreError::Unavailable(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(line: &str) -> RedisError {
        let value = ::redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        value.extract_error().unwrap_err()
    }

    #[test]
    fn what_passes_by_itself_is_unavailable_and_what_an_operator_must_mend_is_refused() {
        for line in [
            "LOADING Redis is loading the dataset in memory",
            "READONLY You can't write against a read only replica.",
            "MASTERDOWN Link with MASTER is down",
            "CLUSTERDOWN The cluster is down",
            "TRYAGAIN Multiple keys request during rehashing of slot",
            "NOREPLICAS Not enough good replicas to write.",
            "BUSY Redis is busy running a script.",
            "OOM command not allowed when used memory > 'maxmemory'.",
            "MISCONF Redis is configured to save RDB snapshots",
            "NOPERM this user has no permissions to access one of the channels used as arguments",
        ] {
            assert!(
                matches!(classify(&server(line)), StoreError::Unavailable(_)),
                "{line}"
            );
        }
        for line in [
            "NOAUTH Authentication required.",
            "WRONGPASS invalid username-password pair",
            "WRONGTYPE Operation against a key holding the wrong kind of value",
            "ERR unknown command",
        ] {
            assert!(
                matches!(classify(&server(line)), StoreError::Refused(_)),
                "{line}"
            );
        }
        let cut: RedisError = std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into();
        assert!(matches!(classify(&cut), StoreError::Unavailable(_)));
    }
}
