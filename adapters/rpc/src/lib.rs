//! The gRPC wire of Holdfast: messages, fences as metadata, statuses with details, and how calls are served.
//!
//! The packages `ateapi`, `atelet` and `ateom` are the original's, field by field; `holdfast.v1` is ours.
//! What the original does not know travels where it does not look: in metadata, status details and
//! services of our own.

use std::fmt;

pub mod failure;
pub mod gate;
pub mod message;
pub mod metadata;
pub mod reflection;
pub mod report;
pub mod server;
pub mod status;
pub mod trace;
pub mod trailer;

/// The control plane's package.
pub mod ateapi {
    tonic::include_proto!("ateapi");
}

/// The node daemon's package.
pub mod atelet {
    tonic::include_proto!("atelet");
}

/// The sandbox driver's package.
pub mod ateom {
    tonic::include_proto!("ateom");
}

pub use holdfast::v1 as holdfast_v1;

mod holdfast {
    /// Our own package: what the original's packages lack.
    pub mod v1 {
        tonic::include_proto!("holdfast.v1");
    }
}

/// The encoded `FileDescriptorSet` of all four packages.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The value may be a secret.
impl fmt::Debug for atelet::EnvEntry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("EnvEntry")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The token is a secret.
impl fmt::Debug for ateapi::MintJwtResponse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("MintJwtResponse").finish_non_exhaustive()
    }
}
