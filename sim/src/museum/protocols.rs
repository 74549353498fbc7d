//! Whole protocols: several flaws that belong together.

use super::flaw::{Flaw, Passes};
use super::{leases, verdicts};
use crate::world::World;
use holdfast_core::effect::{StoreOp, StoreReply};
use holdfast_core::replica::{Input, Output};
use holdfast_core::settings::Settings;
use holdfast_core::time::Duration;

/// How long the coupled protocol lets a workflow run: two seconds less than its lock lives.
const COUPLED_DEADLINE: Duration = Duration::from_secs(28);

/// Several flaws of the control plane at once.
#[derive(Clone)]
struct Together(Vec<Box<dyn Flaw>>);

/// A lock of thirty seconds that nobody renews, and a deadline of twenty-eight for whatever is done under it, so that
/// the one implies the other. Nobody notices that a holder is dead.
pub(super) fn coupled() -> Box<dyn Flaw> {
    Box::new(Together(vec![
        Box::new(leases::NoRenewal),
        Box::new(Deadline(COUPLED_DEADLINE)),
        Box::new(leases::NoTakeover),
    ]))
}

/// The same lock with a heartbeat and a deadline of its own: the first renewal that fails, for whatever reason, cancels
/// the workflow, whose caller is told of an internal error.
pub(super) fn heartbeat() -> Box<dyn Flaw> {
    Box::new(Together(vec![
        Box::new(leases::ErrorIsLoss::default()),
        Box::new(leases::NoTakeover),
        Box::new(verdicts::LostLeaseIsInternal),
    ]))
}

#[derive(Clone, Debug)]
struct Deadline(Duration);

impl Flaw for Deadline {
    fn sets_replicas(&self, settings: &mut Settings) {
        settings.workflow.deadline = self.0;
    }
}

impl Flaw for Together {
    fn sets_replicas(&self, settings: &mut Settings) {
        self.0.iter().for_each(|flaw| flaw.sets_replicas(settings));
    }

    fn replica_hears(&mut self, world: &mut World, replica: usize, input: &mut Input) -> Passes {
        let mut flaws = self.0.iter_mut();
        let is_stopped = flaws.any(|flaw| flaw.replica_hears(world, replica, input) == Passes::Not);
        if is_stopped { Passes::Not } else { Passes::On }
    }

    fn replica_says(&mut self, world: &mut World, replica: usize, output: &mut Output) -> Passes {
        let mut flaws = self.0.iter_mut();
        let is_stopped = flaws.any(|flaw| flaw.replica_says(world, replica, output) == Passes::Not);
        if is_stopped { Passes::Not } else { Passes::On }
    }

    fn store_does(&mut self, world: &mut World, op: &StoreOp) -> Option<StoreOp> {
        self.0.iter_mut().find_map(|flaw| flaw.store_does(world, op))
    }

    fn store_answers(&mut self, world: &mut World, op: &StoreOp, reply: &mut StoreReply) {
        for flaw in &mut self.0 {
            flaw.store_answers(world, op, reply);
        }
    }
}
