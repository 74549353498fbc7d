//! The scenes.

pub mod corruption;
pub mod deaths;
pub mod lifecycle;
pub mod pulls;
pub mod replicas;
