//! A store on a Redis or Valkey server, for many processes.
//!
//! Every conditional write is one script: one round trip, one atomic step. Leases and sessions expire on
//! the server's clock. Records are the original's, under the original's keys (see [`crate::key`]), so that
//! this runs on what the original left behind.
//!
//! **Durability** is the server's: with `appendonly yes` and `appendfsync everysec`, up to a second of
//! acknowledged writes is lost when its host dies, and a failover to a replica loses what had not been
//! copied. Versions, leases and fences may go back then; the nodes' memory wins (design section 4).
//!
//! **Lists** walk all keys with `SCAN` and answer what one walk saw, in order of the keys. What existed
//! throughout is never missed and never repeated, and a page token is the last key of its page, so that it
//! survives restarts and failovers. The price is a walk per page, linear in everything that is stored; an
//! index that makes it constant cannot share a slot with the records of the original's layout, so it
//! needs a protocol of its own and is not here yet.
//!
//! **Deleting an atespace** is not atomic with the creation of an actor in it, as in the original: the
//! actor's key and the atespace's are in different slots.
//!
//! What is sent goes through anything that speaks the `redis` crate's `ConnectionLike`; only [`link`] knows
//! that there is one server.

mod link;
mod operations;
mod scripts;
mod subscription;
mod url;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ::redis::{ErrorKind, RedisError, ServerErrorKind};
use holdfast_core::effect::{StoreError, StoreOp};

use crate::watch::{Hub, Watch};
use crate::{Answer, Store, key};
use link::Link;
use scripts::Scripts;
use subscription::Subscription;
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
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            operation: Duration::from_secs(3),
            list: Duration::from_secs(30),
            ping_every: Duration::from_secs(5),
            retry_from: Duration::from_millis(100),
            retry_to: Duration::from_secs(5),
        }
    }
}

/// A store on a Redis or Valkey server.
pub struct Redis {
    link: Arc<Link>,
    scripts: Scripts,
    timing: Timing,
    hub: Arc<Hub>,
    /// Started by the first who watches.
    subscription: OnceLock<Subscription>,
}

impl Redis {
    /// A store on the server at `url`. Connects when it is first needed, and again whenever it must.
    pub fn new(url: Url, timing: Timing) -> Redis {
        Redis {
            link: Arc::new(Link::new(url)),
            scripts: Scripts::default(),
            timing,
            hub: Arc::new(Hub::new(false)),
            subscription: OnceLock::new(),
        }
    }

    /// Whether the server answers and lets us in.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it does not answer, [`StoreError::Refused`] when it turns us away.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.link
            .run(self.timing.operation, async |mut connection| {
                let _: String = ::redis::cmd("PING").query_async(&mut connection).await?;
                Ok(())
            })
            .await
    }
}

impl Store for Redis {
    fn execute(&self, op: StoreOp) -> Answer<'_> {
        Box::pin(async move {
            key::check(&op)?;
            let within = match &op {
                StoreOp::ListActors { .. }
                | StoreOp::ListWorkers
                | StoreOp::ListNodes
                | StoreOp::ListAtespaces
                | StoreOp::DeleteAtespace(_) => self.timing.list,
                _ => self.timing.operation,
            };
            let run = async |mut connection| operations::execute(&mut connection, &self.scripts, op).await;
            self.link.run(within, run).await
        })
    }

    /// Starts to listen, on a connection of its own; must be called within the runtime.
    fn watch(&self) -> Watch {
        let watch = self.hub.watch();
        self.subscription
            .get_or_init(|| Subscription::start(self.link.url().clone(), self.timing, self.hub.clone()));
        watch
    }
}

/// Why an operation has no answer.
enum Fault {
    /// The adapter refuses it.
    Refused(StoreError),
    /// The server, or the way to it.
    Server(RedisError),
}

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Fault {
        Fault::Server(error)
    }
}

impl From<crate::record::RecordError> for Fault {
    fn from(error: crate::record::RecordError) -> Fault {
        Fault::Refused(error.into())
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
