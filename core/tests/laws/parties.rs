//! Two parties who share a machine and nothing else: two images of one node's pulls, two nodes of one
//! registry, two actors on two workers of one node, two actors of one replica in two pools.
//!
//! Each has its own surroundings, and sees what concerns it. The numbers that a machine gives (effects,
//! tokens, operations) depend on what else it does, and so does the jitter that is drawn from them: they
//! are no part of what a party sees, and nothing waits here before it is tried again.

mod images;
mod nodes;
mod replicas;
mod workers;

pub use images::Images;
pub use nodes::Nodes;
pub use replicas::Actors;
pub use workers::Workers;

use crate::history::{EXACT, Verdict, runner};
use holdfast_core::settings::{LeaseSettings, Settings, WorkflowSettings};
use holdfast_core::time::Duration;
use proptest::collection::vec;
use proptest::prelude::*;
use std::fmt::Debug;

/// What the parties share besides the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    Nothing,
    /// So much that they are not strangers: the laws must not hold then.
    Something,
}

/// A machine with two parties.
pub trait Shared: 'static {
    /// What a party can do, or what can be done about it.
    type Deed: Clone + Debug;

    fn deeds() -> BoxedStrategy<Self::Deed>;
    fn new(sharing: Sharing) -> Self;
    fn act(&mut self, party: u8, deed: &Self::Deed);
    fn pass(&mut self, time: Duration);
    /// What each party has seen so far.
    fn seen(&self) -> &[Vec<String>; 2];
}

/// What happens at one instant, and how long nothing happens after it.
pub type Moment<D> = (Vec<(u8, D)>, Duration);

/// What the parties see of these moments.
pub fn play<S: Shared>(sharing: Sharing, moments: &[Moment<S::Deed>]) -> [Vec<String>; 2] {
    let mut shared = S::new(sharing);
    for (deeds, gap) in moments {
        for (party, deed) in deeds {
            shared.act(*party, deed);
        }
        shared.pass(*gap);
    }
    shared.seen().clone()
}

/// Checks a law on many moments of two parties.
pub fn check<S: Shared>(law: impl Fn(Vec<Moment<S::Deed>>) -> Verdict) -> Result<(), String> {
    let gap = prop_oneof![4 => 1..2_000u64, 1 => 1..20_000u64].prop_map(Duration::from_millis);
    let moments = vec((vec((0..2u8, S::deeds()), 1..6), gap), 1..25);
    runner(2_000).run(&moments, law).map_err(|why| why.to_string())
}

/// Settings under which nothing waits before it is tried again, so that no jitter is drawn.
pub const HASTY: Settings = Settings {
    lease: LeaseSettings {
        retry_from: Duration::ZERO,
        ..EXACT.lease
    },
    workflow: WorkflowSettings {
        retry_from: Duration::ZERO,
        retry_to: Duration::ZERO,
        settle_after: Duration::ZERO,
        ..EXACT.workflow
    },
    ..EXACT
};
