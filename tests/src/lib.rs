//! What whole-system tests and the demo need around Holdfast's own programs: the real parts it works with
//! (a Redis server, a registry, images), ways to break them, and proof that nothing was left behind.
//!
//! Everything here is blocking `std` code, listens on loopback only, and ends with the value that started it.

pub mod http;
pub mod images;
pub mod kubernetes;
pub mod leftovers;
pub mod open_metrics;
pub mod pki;
pub mod process;
pub mod proxy;
pub mod redis;
pub mod refusals;
pub mod registry;
pub mod wait;
pub mod workloads;
