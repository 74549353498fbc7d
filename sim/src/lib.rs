//! The simulator: the core's own machines, many of them, in a world of faults and virtual time.
//!
//! How it hangs together, each arrow one way:
//!
//! ```text
//! seed -> plan::Recipe -> plan::Plan -> world::World -> fact::Fact -> oracle -> Violation -> shrink -> a smaller Plan
//! ```
//!
//! * A [`plan::Plan`] is data: sizes, settings, clocks, faults with their moments and targets, requests, and
//!   the seed of the noise. It is what is run, shrunk, and stored (`sim/corpus/`). A seed only makes one.
//! * A [`world::World`] plays it, in one thread: a storm in which callers call and faults strike, then a
//!   calm in which everything must come to rest, then a check that every actor serves. It has models of the
//!   outside ([`store`], [`host`]) and decides nothing; the core's machines do. True time is the world's; each
//!   process sees its own [`clock`].
//! * What is *true* is told as [`fact::Fact`]s, and the [`oracle`]s see nothing else: neither the machines nor
//!   what they believe.
//! * A [`story`] is a run, or a part of it, as one HTML page for people.
//! * [`search`] looks for the plan that comes nearest to a bound. [`shrink`] makes a plan that goes wrong as small as
//!   it can be. [`cuts`] are another way to use the world: no noise, and every effect of every workflow is cut at all
//!   four places. The [`museum`] shows that it is not blind: known bugs are put into the world, and have to be found.
//!   [`ledger`] is what came of it all: which transitions were seen.
//!
//! A [`campaign`] plays many plans over all cores. The command for all of it is `ate sim`.

pub mod campaign;
mod caught;
pub mod clock;
pub mod cuts;
pub mod explain;
pub mod fact;
pub mod frontier;
pub mod host;
pub mod latency;
pub mod ledger;
#[cfg(test)]
mod made_up;
pub mod museum;
pub mod oracle;
pub mod plan;
pub mod rng;
pub mod search;
pub mod shrink;
pub mod store;
pub mod story;
pub mod world;
