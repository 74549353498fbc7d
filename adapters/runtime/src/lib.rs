//! The seams between Holdfast and its host: async runtime, clock, randomness, sockets, shutdown.
//!
//! Everything that differs between a real host and the simulator is here and nowhere else: this is the
//! only crate that knows `cfg(madsim)`. Other crates use [`tokio`] from here, sockets from [`net`], time
//! from [`clock`] and randomness from [`entropy`], and then run unchanged in both worlds.

pub mod causes;
pub mod clock;
pub mod driver;
pub mod duration;
pub mod entropy;
pub mod flags;
pub mod logging;
pub mod net;
pub mod shutdown;
pub mod terminal;
pub mod threads;

/// The async runtime: tokio on a real host, its simulated twin under `--cfg madsim`.
pub use tokio;
