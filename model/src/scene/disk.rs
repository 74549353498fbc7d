//! What is done on a node beside the steps of operations: its journal, its workers' licences, and what it deletes.

use super::{Scene, Todo};
use crate::defect::Defect;
use crate::fact::Fact;
use crate::flight::Message;
use crate::host::{Ateom, Luck};
use holdfast_core::actor::{Actor, Snapshot};
use holdfast_core::effect::{Discard, Place};
use holdfast_core::id::{ActorKey, EffectId, PodUid};
use holdfast_core::licence::Licensed;
use holdfast_core::machine::Machine;
use holdfast_core::node::{self, Kept, Tend};
use holdfast_core::time::Instant;

impl Scene<'_> {
    /// A worker is told for how long its actor may run. What it is just asked to do comes first.
    pub(super) fn tend(&mut self, node: usize, uid: &PodUid, actor: &ActorKey, tend: Tend) {
        let is_busy = self.flight.messages().iter().any(
            |message| matches!(&**message, Message::Step { node: n, order, .. } if *n == node && order.worker == *uid),
        );
        let is_heeded = self.model.scope.defect != Some(Defect::LicencesWithoutEnd);
        if self.hosts[node].serving(uid, actor).is_none() || !is_heeded {
            return;
        }
        let what = match tend {
            Tend::Extend(until) => Licensed::Extended(until),
            Tend::Freeze if !is_busy => Licensed::Freeze,
            Tend::Thaw(until) if !is_busy => Licensed::Thaw(Some(until)),
            Tend::Freeze | Tend::Thaw(_) => return,
        };
        let now = self.atelets[node].now;
        let mut facts = Vec::new();
        self.hosts[node].license(uid, now, what, &mut facts);
        self.licence_moved(node, uid, facts);
    }

    /// By this clock, what may run no longer is held still.
    pub fn heed_licences(&mut self, node: usize, now: Instant) {
        let is_due = |ateom: &Ateom| ateom.licence.poll_timeout().is_some_and(|(at, _)| at <= now);
        let due = self.hosts[node].ateoms.iter().filter(|(_, ateom)| is_due(ateom));
        let due: Vec<PodUid> = due.map(|(uid, _)| uid.clone()).collect();
        for uid in due {
            let mut facts = Vec::new();
            self.hosts[node].heed_licence(&uid, now, &mut facts);
            self.licence_moved(node, &uid, facts);
        }
    }

    fn licence_moved(&mut self, node: usize, uid: &PodUid, facts: Vec<Fact>) {
        let has_moved = !facts.is_empty();
        self.facts(facts);
        if has_moved {
            self.describe(node, uid);
        }
    }

    /// The journal has kept what it was given, or has not.
    pub fn kept(&mut self, node: usize, effect: EffectId, kept: &Kept, luck: Luck) {
        let result = match luck {
            Luck::Good => {
                self.hosts[node].keep(kept);
                Ok(())
            }
            Luck::Bad if self.model.scope.defect == Some(Defect::RefusalsUnheard) => Ok(()),
            Luck::Bad => Err("no space left on the device".into()),
        };
        self.todo
            .push_back(Todo::Node(node, node::Input::Kept(effect, result)));
    }

    /// A node deletes snapshots.
    pub fn discard(&mut self, node: usize, discard: &Discard) {
        if self.model.scope.defect == Some(Defect::DiscardsTooMuch) {
            let all: Vec<_> = self
                .outside
                .objects
                .keys()
                .cloned()
                .map(Place::External)
                .collect();
            return self.delete(node, &all);
        }
        if self.model.scope.defect == Some(Defect::DiscardsNothing) {
            return;
        }
        self.delete(node, &discard.snapshots);
    }

    fn delete(&mut self, node: usize, places: &[Place]) {
        let at = self.hosts[node].name.clone();
        for place in places {
            let snapshot = match place {
                Place::External(name) => {
                    self.outside.objects.remove(name);
                    name
                }
                Place::Local(name) => {
                    self.hosts[node].locals.remove(name);
                    name
                }
            };
            let is_it = |pointed: &Snapshot| match (pointed, place) {
                (Snapshot::External(pointed), Place::External(name)) => pointed == name,
                (Snapshot::Local { name: pointed, nodes }, Place::Local(name)) => {
                    pointed == name && nodes.contains(&at)
                }
                _ => false,
            };
            let points = |actor: &&Actor| actor.snapshots().iter().any(is_it);
            let wanted_by = self.store.actors.values().find(points);
            let discarded = Fact::Discarded {
                snapshot: snapshot.clone(),
                wanted_by: wanted_by.map(|actor| actor.key.clone()),
            };
            self.fact(discarded);
        }
    }
}
