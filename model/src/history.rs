//! What has to be remembered of the past to tell whether what happens now is right.

use crate::fact::{Asked, Ending, Fact};
use holdfast_core::actor::{Actor, Snapshot, State};
use holdfast_core::id::{ActorKey, Fence, Name, NodeName, OpId, PodUid, RequestId};
use std::collections::{BTreeMap, BTreeSet};

/// The past, as far as invariants need it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct History {
    /// Which operations have been begun where.
    pub begun: BTreeSet<(PodUid, OpId)>,
    /// The highest fence of an actor under which a node has begun something.
    pub actor_fences: BTreeMap<(NodeName, ActorKey), Fence>,
    /// The highest fence of a worker under which something has been begun there.
    pub worker_fences: BTreeMap<PodUid, Fence>,
    /// The sandboxes that serve.
    pub alive: BTreeMap<PodUid, ActorKey>,
    /// Those of them that are held still.
    pub frozen: BTreeSet<PodUid>,
    /// Snapshots in the order in which they were stored.
    pub saved: Vec<(Name, Option<NodeName>)>,
    /// Actors that came to harm since they last began to serve.
    pub harmed: BTreeSet<ActorKey>,
    /// What actors have acknowledged.
    pub counts: BTreeMap<ActorKey, Counts>,
    /// The requests that have no verdict yet.
    pub open: BTreeMap<RequestId, (ActorKey, Asked)>,
}

/// What is known of the requests that an actor has acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counts {
    /// The highest number that was acknowledged and has not been said to be lost.
    pub acknowledged: u8,
    /// What was acknowledged when the actor last went to sleep.
    pub slept: u8,
    /// What a successful Suspend or Pause vouches for.
    pub vouched: u8,
    /// Whether the record has said that something was lost.
    pub is_lost: bool,
}

impl History {
    /// When a snapshot was stored, counted in snapshots.
    pub fn age(&self, snapshot: &Snapshot) -> Option<usize> {
        let position = |name: &Name, node: Option<&NodeName>| {
            self.saved
                .iter()
                .position(|(saved, on)| saved == name && on.as_ref() == node)
        };
        match snapshot {
            Snapshot::External(name) => position(name, None),
            Snapshot::Local { name, nodes } => {
                nodes.iter().filter_map(|node| position(name, Some(node))).max()
            }
        }
    }

    /// Remembers a fact.
    pub fn absorb(&mut self, fact: Fact) {
        match fact {
            Fact::Up { worker, actor, count } => {
                if !self.frozen.contains(&worker) {
                    self.serves(&actor, count);
                }
                self.alive.insert(worker, actor);
            }
            Fact::Frozen(worker, _) => {
                self.frozen.insert(worker);
            }
            Fact::Thawed(worker, actor, count) => {
                self.serves(&actor, count);
                self.frozen.remove(&worker);
            }
            // They may be taken back to what was saved, although what is held still has more.
            Fact::DeclaredOver { actors, .. } => self.harmed.extend(actors),
            Fact::Down { worker, actor, how } => {
                self.alive.remove(&worker);
                self.frozen.remove(&worker);
                if how == Ending::Killed {
                    self.harmed.insert(actor);
                }
            }
            Fact::Cleared(..) | Fact::Discarded { .. } => {}
            Fact::Harmed(actor) => {
                self.harmed.insert(actor);
            }
            Fact::Counted(actor, count) => {
                let known = self.counts.entry(actor).or_default();
                known.acknowledged = known.acknowledged.max(count);
            }
            Fact::Recorded { before, after } => self.recorded(&before, &after),
            Fact::Saved { snapshot, node } => {
                let saved = (snapshot, node);
                if !self.saved.contains(&saved) {
                    self.saved.push(saved);
                }
            }
            Fact::Begun {
                node,
                worker,
                actor,
                op,
                fence,
                worker_fence,
            } => {
                raise(self.actor_fences.entry((node, actor)).or_default(), fence);
                raise(
                    self.worker_fences.entry(worker.clone()).or_default(),
                    worker_fence,
                );
                self.begun.insert((worker, op));
            }
            Fact::Asked(id, actor, asked) => {
                self.open.insert(id, (actor, asked));
            }
            Fact::Told(id, result) => {
                if let (Some((actor, Asked::Sleep)), Ok(())) = (self.open.remove(&id), result) {
                    let known = self.counts.entry(actor).or_default();
                    if !known.is_lost {
                        known.vouched = known.slept;
                    }
                }
            }
            Fact::Unheard(id) => {
                self.open.remove(&id);
            }
        }
    }

    fn serves(&mut self, actor: &ActorKey, count: u8) {
        self.harmed.remove(actor);
        let known = self.counts.entry(actor.clone()).or_default();
        *known = Counts {
            acknowledged: count,
            slept: known.slept.min(count),
            vouched: known.vouched.min(count),
            is_lost: false,
        };
    }

    fn recorded(&mut self, before: &Actor, after: &Actor) {
        let is_crash = matches!(after.state, State::Crashed(_)) && !matches!(before.state, State::Crashed(_));
        let is_loss = after.loss.is_some() && before.loss != after.loss;
        let is_asleep = matches!(after.state, State::Suspended | State::Paused);
        let known = self.counts.entry(after.key.clone()).or_default();
        known.is_lost |= is_crash || is_loss;
        let is_revert = match before.state {
            State::Crashed(_) => is_asleep,
            State::Paused => {
                after.state == State::Suspended
                    && after.latest == before.last_good().cloned().map(Snapshot::External)
            }
            _ => false,
        };
        if is_revert {
            // It goes back, and says so.
            known.vouched = 0;
            known.is_lost = true;
        } else if is_asleep && before.state != after.state && !is_loss {
            known.slept = known.acknowledged;
        }
    }
}

fn raise(known: &mut Fence, to: Fence) {
    *known = (*known).max(to);
}
