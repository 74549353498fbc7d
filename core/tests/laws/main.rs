//! Laws: what holds of every machine of the core, whatever happens to it and in whatever order.
//!
//! A law is a function of a recorded history (`history.rs`): it plays the history on a fresh machine once
//! as it was, and once changed in a way that must not matter, or must matter in exactly one way. The
//! histories come from the surroundings of each machine (`keeper.rs`, `pulls.rs`, `registry.rs`, `node.rs`,
//! `replica.rs`), which answer what was asked most of the time and are wild the rest of it. Each law has a
//! test that a machine with a flaw (`flawed.rs`) breaks it.

mod commuting;
mod earlier;
mod flawed;
mod history;
mod keeper;
mod node;
mod parties;
mod placing;
mod plan;
mod pulls;
mod records;
mod registry;
mod repeated;
mod replica;
mod scaled;
mod settled;
mod shifted;
mod silence;
#[path = "../stage/mod.rs"]
mod stage;
mod timers;
mod unrelated;
