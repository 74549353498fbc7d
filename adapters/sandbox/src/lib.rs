//! Sandboxes: where actors run.
//!
//! A [`Driver`] starts or restores an [`Activation`] and returns a [`Sandbox`], which can be checkpointed,
//! frozen, thawed and stopped. Everything blocks; call it from a thread that may.
//!
//! | class | isolation | snapshots |
//! |---|---|---|
//! | gVisor | `runsc`, a network namespace per worker | memory, file systems, durable directories |
//! | process | none | durable directories |
//!
//! The process that uses a driver must live in the pod's network namespace, and start all its children
//! through its [`reaper::Reaper`].

mod activation;
pub mod bundle;
mod census;
pub mod confinement;
mod data;
mod driver;
mod inside;
pub mod layout;
pub mod logs;
pub mod names;
pub mod network;
mod process;
pub mod readyz;
pub mod reaper;
pub mod runsc;
mod scratch;

pub use activation::{Activation, CheckpointError, Container, Discard, Fate, Output, SandboxError, Scope};
pub use data::ARCHIVE as DURABLE_DIR_ARCHIVE;
pub use driver::{Driver, Sandbox, sweep};
