//! The model checker: the core's own machines in small worlds, of which every history is looked at.
//!
//! Two [`holdfast_core::replica::Replica`]s, one or two [`holdfast_core::node::Node`]s, a store, workers and
//! callers ([`state`]); everything that can happen next ([`step`]); a breadth-first search over all of it
//! ([`search`]); what must be true of whatever happens ([`invariant`]), and that from every state the world
//! comes to rest and serves when nothing goes wrong any more ([`calm`]).
//!
//! Time is abstracted to orders. A machine's clock stands still while messages arrive and jumps when its next
//! timer fires, which it may do when nothing is on its way, or, as often as the budget says, at any moment.
//! Leases and sessions end in the store when the model says so. See `docs/decisions/013`.

pub mod calm;
mod catalog;
pub mod defect;
pub mod fact;
pub mod flight;
pub mod futile;
pub mod history;
pub mod host;
pub mod invariant;
pub mod model;
pub mod part;
mod scene;
pub mod scope;
pub mod scopes;
pub mod search;
pub mod state;
pub mod step;
pub mod store;
pub mod story;
