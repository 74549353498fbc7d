//! The way to one server: connects when needed, gives up in time, never hangs.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, ProtocolVersion, RedisError, RedisResult};
use holdfast_core::effect::StoreError;
use holdfast_runtime::net::Socket;
use holdfast_runtime::tokio;
use holdfast_runtime::tokio::sync::Mutex;
use holdfast_runtime::tokio::task::JoinHandle;

use super::url::Url;
use super::{Fault, classify};

/// The way to one server.
pub(super) struct Link {
    url: Url,
    live: Mutex<Option<Live>>,
}

/// A connection, and the task that moves its bytes for as long as somebody uses it.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) connection: MultiplexedConnection,
    driver: Arc<Driver>,
}

struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Link {
    pub(super) fn new(url: Url) -> Link {
        Link {
            url,
            live: Mutex::new(None),
        }
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Runs an operation on the connection, making one first if there is none. Nothing is repeated: an
    /// operation that was sent may have happened.
    pub(super) async fn run<T>(
        &self,
        within: Duration,
        operation: impl AsyncFnOnce(MultiplexedConnection) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let mut used = None;
        let run = async {
            let live = self.live(within).await?;
            let connection = live.connection.clone();
            used = Some(live);
            operation(connection).await
        };
        let outcome = tokio::time::timeout(within, run).await;
        let fault = match outcome {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(fault)) => fault,
            Err(_) => timed_out(within).into(),
        };
        match fault {
            Fault::Refused(error) => Err(error),
            Fault::Server(error) => {
                if let StoreError::Unavailable(_) = classify(&error)
                    && let Some(used) = used
                {
                    self.forget(&used).await;
                }
                Err(self.blame(&error))
            }
        }
    }

    /// The error as the caller hears it, naming the server.
    fn blame(&self, error: &RedisError) -> StoreError {
        match classify(error) {
            StoreError::Unavailable(text) => StoreError::Unavailable(format!("{}: {text}", self.url)),
            StoreError::Refused(text) => StoreError::Refused(format!("{}: {text}", self.url)),
        }
    }

    async fn live(&self, within: Duration) -> RedisResult<Live> {
        let mut live = self.live.lock().await;
        match &*live {
            // A server that went away is noticed before anything is sent to it, not after.
            Some(known) if !known.is_over() => Ok(known.clone()),
            Some(_) | None => {
                *live = None;
                let config = AsyncConnectionConfig::new();
                let fresh = dial(&self.url, within, ProtocolVersion::RESP2, config).await?;
                Ok(live.insert(fresh).clone())
            }
        }
    }

    /// The next operation makes a connection of its own; those under way end on theirs.
    async fn forget(&self, used: &Live) {
        let mut live = self.live.lock().await;
        if live
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(&current.driver, &used.driver))
        {
            *live = None;
        }
    }
}

impl Live {
    /// Whether the connection has ended.
    pub(super) fn is_over(&self) -> bool {
        self.driver.0.is_finished()
    }
}

/// Connects, `within` this time, and introduces us, for which the caller sets the bound. The crate's own
/// timers are all off: they are those of a runtime that the simulator does not have.
pub(super) async fn dial(
    url: &Url,
    within: Duration,
    protocol: ProtocolVersion,
    config: AsyncConnectionConfig,
) -> RedisResult<Live> {
    let socket = Socket::connect(url.address(), within).await?;
    let config = config.set_response_timeout(None).set_connection_timeout(None);
    let (connection, driver) =
        MultiplexedConnection::new_with_config(&url.greeting(protocol), socket, config).await?;
    Ok(Live {
        connection,
        driver: Arc::new(Driver(tokio::spawn(driver))),
    })
}

pub(super) fn timed_out(within: Duration) -> RedisError {
    io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {within:?}")).into()
}
