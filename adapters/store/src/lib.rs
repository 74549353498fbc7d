//! The store: where actors, workers, nodes, atespaces, leases and sessions are remembered.
//!
//! The core says what it wants as [`StoreOp`] and hears a [`StoreReply`]; this crate does it.
//! There are two stores, and one suite ([`conformance`], behind the feature of that name) that both pass:
//!
//! * [`embedded::Embedded`]: a file, for one process.
//! * [`redis::Redis`]: a Redis or Valkey server, for many, readable over an installation of the original.
//!
//! ```text
//! replica machine --StoreOp--> Store::execute --> record (JSON) --> file | Redis
//!        ^                                                             |
//!        +--------StoreEvent-------- Watch <---------------------------+
//! ```

#![forbid(unsafe_code)]

#[cfg(feature = "conformance")]
pub mod conformance;
pub mod embedded;
pub mod key;
mod page;
pub mod record;
pub mod redis;
mod watch;

use futures_util::future::BoxFuture;
use holdfast_core::effect::{StoreError, StoreOp, StoreReply};

pub use watch::Watch;

/// The future of one operation's answer.
pub type Answer<'a> = BoxFuture<'a, Result<StoreReply, StoreError>>;

/// A store that executes the core's operations.
///
/// What each operation promises is said at [`StoreOp`]. Beyond that:
///
/// * A write that is answered [`StoreReply::Done`] is durable, as far as this store is.
/// * An operation whose future is dropped may still happen.
/// * Nothing is repeated in here: after [`StoreError::Unavailable`] the caller decides.
/// * A record that cannot be read fails the operations on it, with its key named, and no others:
///   lists leave it out, with a warning in the log.
pub trait Store: Send + Sync + 'static {
    /// Executes one operation.
    ///
    /// # Errors
    /// As [`StoreError`] says.
    fn execute(&self, op: StoreOp) -> Answer<'_>;

    /// From now on, what happens to workers and nodes. Of one worker, or node, the events come in the
    /// order of its writes. The first event is [`StoreEvent::Resync`], as soon as nothing can be
    /// missed any more: list then.
    ///
    /// [`StoreEvent::Resync`]: holdfast_core::effect::StoreEvent::Resync
    fn watch(&self) -> Watch;
}
