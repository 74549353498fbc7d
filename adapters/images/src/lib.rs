//! Everything between an image reference and a directory that a sandbox can use as its root.
//!
//! ```text
//! Reference --Puller::pull--> Image (blobs in the Cache) --Image::unpacked--> Tree --Tree::lay_out--> rootfs
//! ```
//!
//! A tree is unpacked once, and laid out for each container by links. [`Cache::collect`] gives back what nobody uses.
//!
//! This crate moves bytes and checks them. It decides nothing about time: a pull reports its [`Progress`]
//! and goes on for as long as it is let; the core watches, drops it when it stalls and starts it again,
//! and the next attempt goes on where the last one stopped. The memory of a pull is a few buffers, that of
//! unpacking one entry plus a set of names that [`UnpackLimits`] bounds, whatever the size of the image.
//!
//! Registries, layers and layouts are other people's input: nothing in them is trusted before its digest
//! is checked, and nothing in a layer reaches outside of the directory it is unpacked to.

mod blocking;
mod cache;
mod challenge;
mod collect;
mod credentials;
mod error;
mod files;
mod http;
mod image;
mod layout;
mod manifest;
mod mirror;
mod platform;
mod progress;
mod pull;
mod registry;
mod source;
mod transfer;
mod trees;
mod unpack;

pub use holdfast_references::{
    Digest, DigestError, Location, Reference, ReferenceError, ReferenceProblem, check_host,
};

pub use cache::Cache;
pub use collect::{Collected, Usage, Watermarks, WatermarksError};
pub use credentials::{CloudLogins, Credentials, CredentialsError, Login};
pub use error::{DiskError, PullError};
pub use image::Image;
pub use layout::{LayoutError, LayoutWriter};
pub use mirror::{LocalhostReplacement, Mirror, MirrorError};
pub use platform::Platform;
pub use progress::{Counts, Progress};
pub use pull::{Layouts, PullLimits, PullOptions, Puller};
pub use trees::{LaidOut, Sharing, Tree};
pub use unpack::{Limit, Refusal, UnpackError, UnpackLimits, UnpackReport};
