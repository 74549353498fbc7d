//! The simulator: the core's own machines, many of them, in a world of faults and virtual time.
//!
//! One thread, one clock, one seed. [`world::run`] plays a [`plan::Plan`]: a storm in which callers
//! call and faults strike, then a calm in which everything must come to rest, then a check that every
//! actor serves. Oracles ([`oracle`]) watch what is *true*, not what machines believe.
//!
//! A seed that fails is run again with its story kept: `cargo run -p holdfast-sim --example seeds -- SEED`.

pub mod clock;
pub mod cuts;
pub mod explain;
pub mod fact;
pub mod host;
pub mod ledger;
#[cfg(test)]
mod made_up;
pub mod oracle;
pub mod plan;
pub mod rng;
pub mod store;
pub mod world;
