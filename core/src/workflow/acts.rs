//! What a workflow does about the record: the plan's wishes become effects.

use super::{CLAIMS_MAX, PLACES_MAX, Step, Workflow, World};
use crate::actor::{self, Actor, Assignment, Change};
use crate::catalog::Template;
use crate::effect::{Fenced, NodeCall, NodeFailureKind, Verb};
use crate::failure::Failure;
use crate::id::{ActorKey, Fence, Name, NodeName, OpId, Version};
use crate::plan::{self, CallOf, CallVerb, Facts, Goal, Next, Then, WishedChange};
use crate::registry::Fact;
use crate::time::Instant;
use crate::worker::{self, Worker};
use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

impl Workflow {
    pub(super) fn decide(&mut self, now: Instant, world: World<'_>) {
        let Some(actor) = self.actor.clone() else {
            return self.decide_on_nothing(now, world);
        };
        let next = plan::next(&self.goal, &actor, &self.facts(world));
        match next {
            Next::Finish(result) => self.finish(now, result),
            Next::Place { nodes } => self.place(now, &actor, nodes.as_deref(), world),
            Next::Write { change, then } => self.write(now, &actor, change, then, world),
            Next::Delete => {
                actor::TABLE.made(Some(actor.status()), actor::Event::Delete, None);
                self.enter(now, Step::Bury);
            }
            Next::Call {
                call,
                node,
                worker,
                verb,
            } => self.call(now, &actor, call, node, worker, verb, world),
            Next::Free(on) => match world.registry.row(&on.worker) {
                Some(row) if is_promise(row, &self.key, &on) => self.free(now, &on, Some(row), world),
                _ => self.enter(now, Step::ReadRow(on)),
            },
            Next::CallAgain => self.rest(now, world),
        }
    }

    /// There is no such actor; a worker may still be promised to it.
    pub(super) fn decide_on_nothing(&mut self, now: Instant, world: World<'_>) {
        if let Some(row) = self.stray_row(world)
            && let Some(on) = Assignment::of(row)
        {
            return self.free(now, &on, Some(row), world);
        }
        let result = match self.goal {
            Goal::Settle { .. } => Ok(()),
            _ => Err(Failure::actor_not_found(&self.key.name)),
        };
        self.finish(now, result);
    }

    pub(super) fn facts<'a>(&'a self, world: World<'a>) -> Facts<'a> {
        let actor = self.actor.as_deref();
        let declared = actor.and_then(|a| world.catalog.template(&a.template_namespace, &a.template_name));
        let promised = match &self.goal {
            Goal::Settle { .. } => self.stray_row(world),
            _ => self.promised.as_deref(),
        };
        Facts {
            token: self.token,
            template: template_of(actor, declared),
            golden: declared.and_then(|t| t.golden_snapshot.as_ref()),
            worker: actor
                .and_then(|a| a.assignment())
                .map_or(Fact::Present, |on| world.registry.fact(on)),
            promised,
            leaving: self.leaving.as_deref(),
            outcome: self.outcome.as_deref().map(|(call, reply)| (call, reply)),
            is_undoing: self.is_undoing,
            is_sole: self
                .called
                .is_some_and(|(op, times)| times == 1 && self.has_named(op)),
        }
    }

    /// The promise that a settling workflow came for, if it stands.
    pub(super) fn promise_to_settle(&self, world: World<'_>) -> Option<Fence> {
        let Goal::Settle { worker, .. } = &self.goal else {
            return None;
        };
        let hosted = world.registry.row(worker)?.hosts.as_ref()?;
        (hosted.actor == self.key).then_some(hosted.fence)
    }

    /// The row with that promise. One made since then is a newer owner's: this workflow's record of the
    /// actor may be older than it, and must not judge it.
    fn stray_row<'a>(&self, world: World<'a>) -> Option<&'a Worker> {
        let Goal::Settle { worker, .. } = &self.goal else {
            return None;
        };
        let is_standing = self.stray.is_some() && self.promise_to_settle(world) == self.stray;
        world.registry.row(worker).filter(|_| is_standing)
    }

    pub(super) fn place(
        &mut self,
        now: Instant,
        actor: &Actor,
        nodes: Option<&[NodeName]>,
        world: World<'_>,
    ) {
        if self.places >= PLACES_MAX {
            let failure = Failure::placed_too_often(&self.key.name, self.places);
            return self.finish(now, Err(failure));
        }
        let facts = self.facts(world);
        let Some(template) = facts.template else {
            let failure = Failure::template_missing("LoadActorForResume", &actor.template_name);
            return self.finish(now, Err(failure));
        };
        let pools = world.catalog.eligible(template, &actor.selector);
        if pools.is_empty() {
            return self.finish(now, Err(Failure::no_pool()));
        }
        let seed = self.token.replica.0 ^ self.token.seq.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let Some(worker) = world.registry.place(&pools, nodes, &self.avoid, seed) else {
            if core::mem::take(&mut self.is_behind) {
                // Nothing is wrong with the workers of a node that begins another session: it will be heard of.
                self.avoid.clear();
                self.call_failures = self.places;
                return self.rest(now, world);
            }
            let failure = match nodes {
                Some(nodes) => {
                    let names: Vec<&str> = nodes.iter().map(Name::as_str).collect();
                    Failure::local_snapshot_unreachable(&self.key.name, &names.join(", "))
                }
                None => Failure::no_free_worker(),
            };
            return self.finish(now, Err(failure));
        };
        let template = (actor.template_namespace.clone(), actor.template_name.clone());
        let promise = worker::Change::Promise {
            actor: self.key.clone(),
            incarnation: actor.incarnation,
            template,
            session: world.registry.session(&worker.node),
        };
        match worker.after(promise, Version::FIRST) {
            Ok(promised) => self.enter(now, Step::Promise(Box::new(promised))),
            Err(illegal) => self.finish(now, Err(Failure::illegal(&illegal))),
        }
    }

    pub(super) fn write(
        &mut self,
        now: Instant,
        actor: &Actor,
        change: WishedChange,
        then: Then,
        world: World<'_>,
    ) {
        let (change, at_least) = match self.change(actor, change, world) {
            Ok(change) => change,
            Err(failure) => return self.finish(now, Err(failure)),
        };
        // A claim that moves past a node's fence must raise ours although the lease is the same.
        let mut before = actor.clone();
        if at_least > Version::FIRST {
            before.claim = None;
        }
        match before.after(&change, Some(self.token), at_least) {
            Ok(next) => {
                let is_release = then != Then::GoOn;
                self.enter(
                    now,
                    Step::Write {
                        actor: Box::new(next),
                        then,
                        is_release,
                    },
                );
            }
            // The plan never wishes for it; if it did, nothing is written and the caller may retry.
            Err(illegal) => self.finish(now, Err(Failure::illegal(&illegal))),
        }
    }

    /// What the plan wishes for, with the names that are the workflow's to give, and the version that it takes.
    fn change(
        &mut self,
        actor: &Actor,
        wish: WishedChange,
        world: World<'_>,
    ) -> Result<(Change, Version), Failure> {
        if matches!(
            wish,
            WishedChange::Resume(..) | WishedChange::Suspend | WishedChange::Pause
        ) {
            // How an earlier operation of this workflow ended says nothing about the one that begins.
            self.outcome = None;
            self.is_undoing = false;
        }
        let location = || {
            let template = self.template(actor, world);
            let missing = || Failure::template_missing("LoadActorForSuspend", &actor.template_name);
            template.map(|t| t.snapshot_location.clone()).ok_or_else(missing)
        };
        let change = match wish {
            WishedChange::Exactly(change) => change,
            WishedChange::ClaimAbove(highest) => {
                self.claims += 1;
                if self.claims > CLAIMS_MAX {
                    return Err(Failure::fences_ran_away(&self.key.name, actor.version));
                }
                self.outcome = None;
                return Ok((Change::Claim, Version(highest.0).next()));
            }
            WishedChange::Resume(on, boot) => {
                let op = self.next_op()?;
                self.places += 1;
                Change::Resume { op, on: *on, boot }
            }
            WishedChange::Suspend => {
                let location = location()?;
                let op = self.next_op()?;
                let name = snapshot_name(&actor.key, actor.version, op);
                let snapshot = snapshot_uri(&location, &actor.key, &name);
                Change::Suspend { op, snapshot }
            }
            WishedChange::Pause => {
                let op = self.next_op()?;
                let snapshot = snapshot_name(&actor.key, actor.version, op);
                Change::Pause { op, snapshot }
            }
            WishedChange::Reserve => {
                let location = location()?;
                let name = snapshot_name(&actor.key, actor.version, self.next_op()?);
                let snapshot = snapshot_uri(&location, &actor.key, &name);
                Change::Reserve { snapshot }
            }
        };
        Ok((change, Version::FIRST))
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn call(
        &mut self,
        now: Instant,
        actor: &Actor,
        call: CallOf,
        node: NodeName,
        worker: Option<crate::effect::Target>,
        verb: CallVerb,
        world: World<'_>,
    ) {
        let Some(template) = self.template(actor, world) else {
            let failure = Failure::template_missing("LoadActorForResume", &actor.template_name);
            return self.finish(now, Err(failure));
        };
        let verb = match verb {
            CallVerb::Exactly(verb) => verb,
            CallVerb::Boot(worker) => match world.catalog.assets(&(worker.namespace, worker.pool)) {
                Ok(assets) => Verb::Run { assets },
                Err(error) => return self.finish(now, Err(Failure::assets(&error))),
            },
        };
        if let CallOf::Recorded(op) = call {
            let times = self
                .called
                .filter(|(before, _)| *before == op)
                .map_or(0, |(_, times)| times);
            self.called = Some((op, times + 1));
        }
        let op = match call {
            CallOf::Recorded(op) => Ok(op),
            CallOf::Stop | CallOf::Upload | CallOf::Thaw(_) => self.op_of_errand(call),
        };
        let op = match op {
            Ok(op) => op,
            Err(failure) => return self.finish(now, Err(failure)),
        };
        self.is_undoing |= call == CallOf::Stop;
        let fence = actor.claim.map(|claim| claim.fence).unwrap_or_default();
        let call_data = NodeCall {
            node,
            // Whoever sends it knows better.
            run: Name::default(),
            worker,
            actor: self.key.clone(),
            incarnation: actor.incarnation,
            template,
            fence,
            op,
            verb,
        };
        self.enter(now, Step::Call(Box::new(call_data), call));
    }

    pub(super) fn template(&self, actor: &Actor, world: World<'_>) -> Option<Arc<Template>> {
        let declared = || {
            world
                .catalog
                .template(&actor.template_namespace, &actor.template_name)
                .cloned()
        };
        actor.pinned.clone().or_else(declared)
    }

    /// Writes the row of a worker as free, if its promise is still the one that the actor left.
    pub(super) fn free(&mut self, now: Instant, on: &Assignment, row: Option<&Worker>, world: World<'_>) {
        match row {
            Some(row) if is_promise(row, &self.key, on) => {
                let above = match self.outcome.as_deref() {
                    Some((_, Err(failure))) => match failure.kind {
                        NodeFailureKind::StaleFence {
                            of: Fenced::Worker,
                            highest,
                        } => Version(highest.0).next(),
                        _ => Version::FIRST,
                    },
                    _ => Version::FIRST,
                };
                match row.after(worker::Change::Free, above) {
                    Ok(free) => self.enter(
                        now,
                        Step::Free {
                            from: row.edition(),
                            to: Box::new(free),
                        },
                    ),
                    Err(illegal) => self.finish(now, Err(Failure::illegal(&illegal))),
                }
            }
            _ => self.freed(now, world),
        }
    }

    pub(super) fn freed(&mut self, now: Instant, world: World<'_>) {
        if self.leaving.take().is_none() {
            return self.finish(now, Ok(()));
        }
        self.decide(now, world);
    }
}

/// Sorts by version within an actor's name, and is unique by its operation.
fn snapshot_name(actor: &ActorKey, version: Version, op: OpId) -> Name {
    format!("{}-{:010}-{op}", actor.name, version.0).into()
}

/// Where a snapshot of that name goes in the object store.
fn snapshot_uri(location: &Name, actor: &ActorKey, name: &Name) -> Name {
    format!("{location}/{}/{name}", actor.atespace).into()
}

fn is_promise(row: &Worker, actor: &ActorKey, on: &Assignment) -> bool {
    row.hosts
        .as_ref()
        .is_some_and(|h| h.actor == *actor && (h.fence == on.fence || on.fence.0 == 0))
}

fn template_of<'a>(actor: Option<&'a Actor>, declared: Option<&'a Arc<Template>>) -> Option<&'a Template> {
    actor
        .and_then(|a| a.pinned.as_deref())
        .or_else(|| declared.map(|t| &**t))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ReplicaId;
    use crate::name::SNAPSHOT_PATH_MAX;

    #[test]
    fn the_longest_snapshot_fits_into_the_room_that_templates_leave_for_it() {
        let label = "a".repeat(63);
        let actor = ActorKey::new(label.as_str(), label.as_str());
        let op = OpId {
            replica: ReplicaId(u64::MAX),
            seq: u64::MAX,
        };
        let name = snapshot_name(&actor, Version(u64::MAX), op);
        let location = Name::from("gs://bucket");
        let uri = snapshot_uri(&location, &actor, &name);
        assert_eq!(uri.as_str().len(), location.as_str().len() + SNAPSHOT_PATH_MAX);
    }
}
