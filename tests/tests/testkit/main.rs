//! The test kit itself, on real sockets and processes: a kit that does not do what it says proves nothing.

mod counter;
mod images;
mod kubernetes;
mod leftovers;
mod redis;
mod registry;
