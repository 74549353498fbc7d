//! The original's format for a file in an object store (compat.md 7.8): its populated extents, compressed.
//!
//! ```text
//! 8 bytes  ASCII "ATESPRSE"
//! u32 LE   version, 2
//! then one zstd stream of
//!   i64 LE  logical size
//!   repeat: i64 LE offset, i64 LE length, that many bytes
//!   i64 LE  -1
//! ```
//!
//! Both directions are plain state machines over byte buffers: [`Encoder::fill`] and [`Decoder::push`] each do a
//! bounded amount of work in bounded memory, so that a caller can run one step at a time away from its async threads
//! and drop everything between two steps.

mod decode;
mod encode;

pub(crate) use decode::same_digest;
pub use decode::{DecodeError, Decoder};
pub use encode::{Encoder, Fill};

pub(crate) const MAGIC: &[u8; 8] = b"ATESPRSE";
pub(crate) const VERSION: u32 = 2;
pub(crate) const TERMINATOR: i64 = -1;

/// What the original calls fastest. Snapshots are read once and written once: time matters, the last percent does not.
pub(crate) const LEVEL: i32 = 1;

/// The largest back-reference distance accepted, as a power of two: 32 MiB, more than the original's library or any
/// ordinary zstd level writes. It bounds what one decoder allocates at the word of the stream it reads.
pub(crate) const WINDOW_LOG_MAX: u32 = 25;
