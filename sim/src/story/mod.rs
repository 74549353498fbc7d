//! The story of a run, as one HTML page: who did what, when, by which clock, and what came of it.
//!
//! ```text
//! plan -> World with a Recorder -> Record -> Page -> one HTML file
//! ```
//!
//! * The world tells [`line::Line`]s and shows its state after each event; a [`recorder::Recorder`] makes
//!   a [`Record`] of it: lanes, [`Entry`]s with their causes, and [`Bar`]s.
//! * A [`Page`] is the record with what a browser needs to draw it. It asks for nothing from anywhere, and its
//!   own policy forbids it to.

pub(crate) mod line;
mod page;
mod record;
pub(crate) mod recorder;
pub(crate) mod seen;
mod words;

use crate::plan::Plan;
use crate::world::{Story, World};

pub use page::Page;
pub use record::{About, Bar, Entry, Group, Kind, Lane, Record, Span};
pub use recorder::Window;

/// Plays a plan and keeps this part of it. A machine that panics is what went wrong, like anything else.
pub fn record(plan: &Plan, window: Window) -> Record {
    record_in(World::new, plan, window)
}

/// The same in a world that is made in another way, such as one with a bug of the museum in it.
pub fn record_in(world: impl FnOnce(Plan, Story) -> World, plan: &Plan, window: Window) -> Record {
    world(plan.clone(), Story::Recorded(window)).record()
}
