//! What is wrong with the outside for a while: the store and the ways to it, machines, registry, object store, runsc.

use super::{Answered, Event, World};

use crate::latency::{STORE, STORE_SILENT};
use crate::plan::{Fault, Ill, MILLI, SECOND, Way};
use holdfast_core::effect::{StoreError, StoreEvent, StoreOp};
use holdfast_core::id::{EffectId, OpId, PodUid};
use holdfast_core::replica::Input;
use std::collections::{BTreeMap, BTreeSet};

/// What is wrong, and until when.
#[derive(Clone, Debug, Default)]
pub(super) struct Outside {
    /// How much longer than usual an operation takes on its way to the store.
    store_takes: (u64, u64),
    store_full_until: u64,
    store_loading_until: u64,
    /// Replicas whose way to the store, or back, is cut.
    cut_from_store: BTreeMap<usize, (Way, u64)>,
    /// What the watch of a replica does.
    watches: BTreeMap<usize, (Ill, u64)>,
    /// Nodes whose way to or from the replicas is cut.
    cut_nodes: BTreeMap<usize, (Way, u64)>,
    lost_replicas: BTreeMap<usize, u64>,
    lost_nodes: BTreeMap<usize, u64>,
    objects_take: (u64, u64),
    objects_lie_until: u64,
    registry: Option<(Ill, u64)>,
    /// How many bytes more than usual have come.
    trickled: u64,
    runsc_hung: BTreeMap<usize, u64>,
    /// What has hung and is not done yet.
    hung: BTreeSet<(PodUid, OpId)>,
}

/// How something ends that runsc was to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trap {
    /// As it should.
    None,
    /// Nothing was done.
    NoEffect,
    /// It was done, and nobody hears of it.
    NoExit,
}

/// What happens to an operation before the store sees it.
pub(super) enum OnItsWay {
    /// It takes so much longer.
    Goes(u64),
    /// Its sender is told so, and it is never performed.
    Refused(StoreError, crate::latency::Span),
    /// Its sender is told that nobody answers, and it is performed.
    Unheard,
}

fn is_now<T: Copy>(what: Option<&(T, u64)>, now: u64) -> Option<T> {
    what.filter(|(_, until)| now < *until).map(|(what, _)| *what)
}

impl World {
    /// Faults of this kind last, and change nothing but what is noted here.
    pub(super) fn inflict_outside(&mut self, fault: &Fault) {
        let now = self.now;
        let outside = &mut self.outside;
        match *fault {
            Fault::StoreSlow { takes_us, for_us } => outside.store_takes = (takes_us, now + for_us),
            Fault::StoreFull { for_us } => outside.store_full_until = now + for_us,
            Fault::StoreLoading { for_us } => outside.store_loading_until = now + for_us,
            Fault::ReplicaCut { replica, way, for_us } => {
                outside.cut_from_store.insert(replica, (way, now + for_us));
            }
            Fault::WatchIll { replica, ill, for_us } => {
                outside.watches.insert(replica, (ill, now + for_us));
                self.at(now + for_us, Event::WatchHeals(replica));
            }
            Fault::NodeCutOneWay { node, way, for_us } => {
                outside.cut_nodes.insert(node, (way, now + for_us));
            }
            Fault::ReplicaLost { replica, for_us } => {
                outside.lost_replicas.insert(replica, now + for_us);
                self.kill_replica(replica);
            }
            Fault::NodeLost { node, for_us } => {
                outside.lost_nodes.insert(node, now + for_us);
                self.node_is_lost(node);
            }
            Fault::ObjectsSlow { takes_us, for_us } => outside.objects_take = (takes_us, now + for_us),
            Fault::ObjectsLie { for_us } => outside.objects_lie_until = now + for_us,
            Fault::RegistryIll { ill, for_us } => {
                outside.registry = Some((ill, now + for_us));
                self.hosts.iter_mut().for_each(|host| host.images.clear());
            }
            Fault::RunscHangs { node, for_us } => {
                outside.runsc_hung.insert(node, now + for_us);
            }
            _ => unreachable!("{fault:?} is inflicted where faults are"),
        }
    }

    /// Everything is as it should be again, and who is away comes back.
    pub(super) fn heal_outside(&mut self) {
        let outside = std::mem::take(&mut self.outside);
        self.outside.hung = outside.hung;
        self.outside.trickled = outside.trickled;
        for replica in outside.watches.into_keys() {
            self.watch_heals(replica);
        }
        for replica in outside.lost_replicas.into_keys() {
            self.after(10 * MILLI, SECOND, Event::ReplicaStarts(replica));
        }
        for node in outside.lost_nodes.into_keys() {
            self.after(10 * MILLI, SECOND, Event::NodeStarts(node));
            for uid in self.hosts[node].ateoms.keys().cloned().collect::<Vec<_>>() {
                self.after(100 * MILLI, 5 * SECOND, Event::AteomStarts(node, uid));
            }
        }
    }

    /// The machine is gone with all that runs on it; its disk is there when it comes back.
    fn node_is_lost(&mut self, node: usize) {
        self.kill_node(node);
        for uid in self.hosts[node].ateoms.keys().cloned().collect::<Vec<_>>() {
            self.kill_ateom(node, &uid, false);
        }
    }

    /// Whether the machine of a replica is away: then it starts when that is back.
    pub(super) fn is_replica_lost(&mut self, replica: usize) -> bool {
        let until = self
            .outside
            .lost_replicas
            .get(&replica)
            .copied()
            .unwrap_or_default();
        let is_lost = self.now < until;
        if is_lost {
            self.at(until, Event::ReplicaStarts(replica));
        }
        is_lost
    }

    /// Whether a machine is away: then what is to start there starts when it is back.
    pub(super) fn is_node_lost(&mut self, node: usize, starts: Event) -> bool {
        let until = self.outside.lost_nodes.get(&node).copied().unwrap_or_default();
        let is_lost = self.now < until;
        if is_lost {
            self.at(until, starts);
        }
        is_lost
    }

    /// What happens to an operation on its way to the store.
    pub(super) fn on_its_way(&mut self, replica: usize, op: &StoreOp) -> OnItsWay {
        let (now, outside) = (self.now, &self.outside);
        let unavailable = |why: &str| StoreError::Unavailable(why.into());
        if now < outside.store_loading_until {
            return OnItsWay::Refused(unavailable("LOADING: the store reads its data"), STORE);
        }
        match is_now(outside.cut_from_store.get(&replica), now) {
            Some(Way::There) => {
                return OnItsWay::Refused(unavailable("the store does not answer"), STORE_SILENT);
            }
            Some(Way::Back) => return OnItsWay::Unheard,
            None => {}
        }
        if now < outside.store_full_until && takes_room(op) {
            return OnItsWay::Refused(unavailable("OOM: the store's memory is full"), STORE);
        }
        let (takes, until) = outside.store_takes;
        if now < until {
            OnItsWay::Goes(self.rng.between(0, takes))
        } else {
            OnItsWay::Goes(0)
        }
    }

    /// The operation is performed, and its sender is told that nobody answers.
    pub(super) fn unheard(&mut self, replica: usize, life: u32, effect: EffectId, op: StoreOp) {
        let away = StoreError::Unavailable("the store does not answer".into());
        let answer = Input::Stored(effect, Err(away));
        self.within(STORE_SILENT, Event::Replica(replica, life, answer));
        self.within(STORE, Event::AtStore(replica, life, effect, op, Answered::Lost));
    }

    /// What the watch of a replica makes of an event; nothing if it is lost.
    pub(super) fn watched_by(&mut self, replica: usize, event: StoreEvent, at: u64) -> Option<StoreEvent> {
        let Some((ill, until)) = self.outside.watches.get(&replica).copied() else {
            return Some(event);
        };
        if self.now >= until {
            return Some(event);
        }
        match ill {
            Ill::Cuts => None,
            Ill::Trickles => {
                let watch = &mut self.replicas[replica].watch_until;
                *watch = (*watch).max(until);
                Some(event)
            }
            Ill::Garbles => {
                // What is old by then comes once more.
                let life = self.replicas[replica].life;
                let again = at + self.rng.between(MILLI, 5 * SECOND);
                self.at(
                    again,
                    Event::Replica(replica, life, Input::Watched(event.clone())),
                );
                Some(event)
            }
        }
    }

    /// Whoever may have missed something is told so.
    pub(super) fn watch_heals(&mut self, replica: usize) {
        if self.replicas[replica].machine.is_some() {
            let life = self.replicas[replica].life;
            let at = self.replicas[replica].watch_until.max(self.now + MILLI);
            self.replicas[replica].watch_until = at;
            self.at(
                at,
                Event::Replica(replica, life, Input::Watched(StoreEvent::Resync)),
            );
        }
    }

    /// Whether nothing gets to a node, or from it, at the moment.
    pub(super) fn is_cut(&self, node: usize, way: Way) -> bool {
        let is_cut_off = self.now < self.hosts[node].cut_until;
        is_cut_off || is_now(self.outside.cut_nodes.get(&node), self.now) == Some(way)
    }

    /// How much longer than usual the object store takes.
    pub(super) fn objects_take(&mut self) -> u64 {
        let (takes, until) = self.outside.objects_take;
        if self.now < until {
            self.rng.between(0, takes)
        } else {
            0
        }
    }

    /// Whether the object store says of what it has stored that it failed.
    pub(super) fn objects_lie(&self) -> bool {
        self.now < self.outside.objects_lie_until
    }

    /// What is wrong with the registry.
    pub(super) fn registry_ill(&self) -> Option<Ill> {
        is_now(self.outside.registry.as_ref(), self.now)
    }

    /// How many bytes of an image have come, if these have: they become more where it comes in drops.
    pub(super) fn trickled(&mut self, bytes: u64) -> u64 {
        if self.registry_ill() == Some(Ill::Trickles) {
            self.outside.trickled += 1;
        }
        self.outside.trickled + bytes
    }

    /// How much longer it takes until runsc is done with an operation.
    pub(super) fn runsc_hangs(&mut self, node: usize, uid: &PodUid, op: OpId) -> u64 {
        let until = self.outside.runsc_hung.get(&node).copied().unwrap_or_default();
        let hangs = until.saturating_sub(self.now);
        if hangs > 0 {
            self.outside.hung.insert((uid.clone(), op));
        }
        hangs
    }

    /// How it ends: what has hung may have been done and may not, and its exit says nothing.
    pub(super) fn runsc_trap(&mut self, uid: &PodUid, op: OpId) -> Trap {
        if self.outside.hung.is_empty() || !self.outside.hung.remove(&(uid.clone(), op)) {
            return Trap::None;
        }
        [Trap::None, Trap::NoEffect, Trap::NoExit][self.rng.index(3)]
    }
}

/// Whether an operation needs memory that a full store has not.
fn takes_room(op: &StoreOp) -> bool {
    matches!(
        op,
        StoreOp::PutActor { .. }
            | StoreOp::AcquireLease { .. }
            | StoreOp::PutWorker { .. }
            | StoreOp::PutNode(_)
            | StoreOp::LapseNode { .. }
            | StoreOp::CreateAtespace(_)
            | StoreOp::PutSession { .. }
            | StoreOp::PutGrave(_)
    )
}
