//! What goes wrong with workflows and what callers are told of them.

use super::flaw::{Flaw, Passes};
use crate::world::World;
use holdfast_core::effect::NodeFailureKind;
use holdfast_core::failure::{Code, Failure};
use holdfast_core::replica::{Input, Output};
use holdfast_core::settings::Settings;
use holdfast_core::time::Duration;

/// Longer than any run.
const NEVER: Duration = Duration::from_secs(86_400);

/// What went wrong for want of a better code is Internal.
#[derive(Clone, Debug)]
pub(super) struct EverythingIsInternal;

impl Flaw for EverythingIsInternal {
    fn replica_says(&mut self, _: &mut World, _: usize, output: &mut Output) -> Passes {
        if let Output::Reply(_, Err(failure)) = output
            && failure.code == Code::Unavailable
        {
            *failure = internal(failure);
        }
        Passes::On
    }
}

fn internal(failure: &Failure) -> Failure {
    Failure::new(
        Code::Internal,
        format!("internal server error: {}", failure.message),
    )
}

/// A workflow that loses its lease says so with Internal.
#[derive(Clone, Debug)]
pub(super) struct LostLeaseIsInternal;

impl Flaw for LostLeaseIsInternal {
    fn replica_says(&mut self, _: &mut World, _: usize, output: &mut Output) -> Passes {
        if let Output::Reply(_, Err(failure)) = output
            && is_lost_lease(failure)
        {
            *failure = internal(failure);
        }
        Passes::On
    }
}

/// A workflow that loses its lease ends without a word.
#[derive(Clone, Debug)]
pub(super) struct LostLeaseIsSilent;

impl Flaw for LostLeaseIsSilent {
    fn replica_says(&mut self, _: &mut World, _: usize, output: &mut Output) -> Passes {
        match output {
            Output::Reply(_, Err(failure)) if is_lost_lease(failure) => Passes::Not,
            _ => Passes::On,
        }
    }
}

fn is_lost_lease(failure: &Failure) -> bool {
    failure.code == Code::Aborted && failure.message.contains("lost actor lock")
}

/// A request that fails is answered by whoever notices, and by whoever cleans up.
#[derive(Clone, Debug)]
pub(super) struct ToldTwice;

impl Flaw for ToldTwice {
    fn replica_says(&mut self, world: &mut World, replica: usize, output: &mut Output) -> Passes {
        if let Output::Reply(_, Err(_)) = output {
            world.replica_says_too(replica, output.clone());
        }
        Passes::On
    }
}

/// A node that does not answer in time has lost its actor.
#[derive(Clone, Debug)]
pub(super) struct UnreachableIsCrash;

impl Flaw for UnreachableIsCrash {
    fn replica_hears(&mut self, _: &mut World, _: usize, input: &mut Input) -> Passes {
        if let Input::Called(_, Err(failure)) = input
            && failure.kind == NodeFailureKind::Unreachable
        {
            failure.kind = NodeFailureKind::Crash;
            failure.code = Code::DataLoss;
        }
        Passes::On
    }
}

/// A workflow takes as long as it takes.
#[derive(Clone, Debug)]
pub(super) struct NoDeadline;

impl Flaw for NoDeadline {
    fn sets_replicas(&self, settings: &mut Settings) {
        settings.workflow.deadline = NEVER;
    }
}

/// What a workflow has left undone stands until a caller asks again.
#[derive(Clone, Debug)]
pub(super) struct NoReconciler;

impl Flaw for NoReconciler {
    fn sets_replicas(&self, settings: &mut Settings) {
        settings.workflow.sweep_every = NEVER;
        settings.workflow.settle_after = NEVER;
    }
}
