//! What goes wrong, and how it ends.

use super::{Event, World};
use crate::fact::{Ending, Fact};
use crate::host::Ateom;
use crate::plan::{Fault, MILLI, PAUSE_MAX, SECOND};
use crate::store::Forgotten;
use holdfast_core::actor::Snapshot;
use holdfast_core::effect::{StoreEvent, StoreOp};
use holdfast_core::id::PodUid;
use holdfast_core::node;
use holdfast_core::replica;
use holdfast_core::time::Duration;
use holdfast_core::worker::Duty;

impl World {
    pub(super) fn strike(&mut self) {
        if self.calm {
            return;
        }
        let fault = self.plan.faults[self.rng.index(self.plan.faults.len())];
        self.tell(|| format!("FAULT {fault:?}"));
        self.inflict(fault);
        let mean = self.plan.fault_every;
        self.after(mean / 4, mean * 2, Event::Strike);
    }

    fn inflict(&mut self, fault: Fault) {
        let replica = self.rng.index(self.replicas.len());
        let node = self.rng.index(self.hosts.len());
        match fault {
            Fault::ReplicaDies => self.replicas[replica].fuse = Some(self.rng.between(1, 25) as u32),
            Fault::ReplicaPauses => {
                let pause = self.rng.between(500 * MILLI, PAUSE_MAX);
                let outputs = self.rng.below(25) as u32;
                self.replicas[replica].pause_after = Some((outputs, pause));
            }
            Fault::ReplicaLeaves => {
                let life = self.replicas[replica].life;
                self.deliver_to_replica(replica, life, replica::Input::Shutdown);
            }
            Fault::NodeDies => self.hosts[node].fuse = Some(self.rng.between(1, 25) as u32),
            Fault::NodePauses => {
                let until = self.now + self.rng.between(500 * MILLI, PAUSE_MAX);
                if self.hosts[node].paused_until <= self.now {
                    self.hosts[node].paused_until = until;
                }
            }
            Fault::AteomDies => {
                if let Some(uid) = self.some_worker(node) {
                    self.kill_ateom(node, &uid);
                }
            }
            Fault::PodReplaced => {
                if let Some(uid) = self.some_worker(node) {
                    self.replace_pod(node, &uid);
                }
            }
            Fault::PodLeaves => {
                if let Some(uid) = self.some_worker(node) {
                    self.pod_leaves(node, &uid);
                }
            }
            Fault::SandboxDies => {
                if let Some(uid) = self.some_worker(node) {
                    self.sandbox_ends(node, &uid, Ending::Killed);
                    self.describe(node, &uid);
                }
            }
            Fault::StoreAway => self.store_away_until = self.now + self.rng.between(100 * MILLI, 40 * SECOND),
            Fault::StoreFailsOver => {
                let reach = self.plan.settings.workflow.collect_after.as_micros() as u64;
                let lag = self.rng.between(0, reach - SECOND);
                self.fail_over(lag);
                self.store_away_until = self.now + self.rng.between(0, 10 * SECOND);
            }
            Fault::StoreFlushed => self.flush_store(),
            Fault::NodeCutOff => {
                self.hosts[node].cut_until = self.now + self.rng.between(500 * MILLI, 40 * SECOND);
            }
            Fault::NodePartitioned => {
                self.hosts[node].cut_until = self.now + self.rng.between(80 * SECOND, 200 * SECOND);
            }
            Fault::RegistryHangs => {
                self.registry_hung_until = self.now + self.rng.between(SECOND, 60 * SECOND);
                for host in &mut self.hosts {
                    host.images.clear();
                }
            }
            Fault::ObjectsAway => {
                self.objects_away_until = self.now + self.rng.between(100 * MILLI, 30 * SECOND)
            }
            Fault::SnapshotDamaged => self.damage(),
            Fault::DiskFull => {
                self.hosts[node].disk_full_until = self.now + self.rng.between(100 * MILLI, 60 * SECOND);
            }
            Fault::DiskRefuses => self.hosts[node].refusals += self.rng.between(1, 3) as u32,
        }
    }

    /// A standby takes over that has not heard of the writes of the last `lag`; whoever watched has to
    /// look again.
    fn fail_over(&mut self, lag: u64) {
        let now = self.store_now();
        let forgotten = self.store.fail_over(now, Duration::from_micros(lag));
        self.forgets(forgotten);
    }

    fn flush_store(&mut self) {
        let forgotten = self.store.flush();
        let now = self.store_now();
        self.store.perform(now, &StoreOp::CreateAtespace("space".into()));
        self.forgets(forgotten);
    }

    fn forgets(&mut self, forgotten: Forgotten) {
        let of_actors = forgotten
            .lost_actors
            .iter()
            .flat_map(|actor| actor.snapshots().into_iter().chain(actor.garbage.iter().cloned()));
        let of_graves = forgotten.graves.iter().flat_map(|grave| grave.snapshots.clone());
        for snapshot in of_actors.chain(of_graves) {
            if let Snapshot::External(name) = snapshot {
                self.excused.insert(name);
            }
        }
        self.fact(Fact::Forgot(Box::new(forgotten)));
        self.publish(&StoreEvent::Resync);
    }

    fn some_worker(&mut self, node: usize) -> Option<PodUid> {
        let uids: Vec<PodUid> = self.hosts[node].ateoms.keys().cloned().collect();
        if uids.is_empty() {
            None
        } else {
            Some(uids[self.rng.index(uids.len())].clone())
        }
    }

    fn kill_sandbox_and_ateom(&mut self, node: usize, uid: &PodUid) {
        self.sandbox_ends(node, uid, Ending::Killed);
        let captured = self.hosts[node].ateoms.get(uid).and_then(|a| a.captured.clone());
        if let Some(actor) = captured {
            self.fact(Fact::Harmed(actor));
        }
    }

    pub(super) fn kill_ateom(&mut self, node: usize, uid: &PodUid) {
        self.kill_sandbox_and_ateom(node, uid);
        let Some(ateom) = self.hosts[node].ateoms.get_mut(uid) else {
            return;
        };
        ateom.is_up = false;
        ateom.current = None;
        // The atelet may notice that it is away, or only that it is back as another.
        if self.rng.permille(500) {
            self.sighted(node, uid, node::Input::WorkerLost(uid.clone()));
        }
        self.after(100 * MILLI, 5 * SECOND, Event::AteomStarts(node, uid.clone()));
    }

    /// The pod is told to go, and is killed when its grace is over.
    fn pod_leaves(&mut self, node: usize, uid: &PodUid) {
        let Some(ateom) = self.hosts[node].ateoms.get_mut(uid) else {
            return;
        };
        if std::mem::replace(&mut ateom.duty, Duty::Draining) == Duty::Serving {
            self.describe(node, uid);
            self.after(SECOND, 30 * SECOND, Event::PodEnds(node, uid.clone()));
        }
    }

    pub(super) fn replace_pod(&mut self, node: usize, uid: &PodUid) {
        self.kill_sandbox_and_ateom(node, uid);
        let Some(old) = self.hosts[node].ateoms.remove(uid) else {
            return;
        };
        self.sighted(node, uid, node::Input::WorkerLost(uid.clone()));
        let fresh: PodUid = format!("uid-{}", self.id()).into();
        let mut ateom = Ateom::new(old.key, 0);
        ateom.is_up = false;
        self.hosts[node].ateoms.insert(fresh.clone(), ateom);
        self.after(500 * MILLI, 5 * SECOND, Event::AteomStarts(node, fresh));
    }

    pub(super) fn damage(&mut self) {
        let actors: Vec<Snapshot> = self
            .store
            .actors
            .values()
            .filter_map(|a| a.latest.clone())
            .collect();
        if actors.is_empty() {
            return;
        }
        match actors[self.rng.index(actors.len())].clone() {
            Snapshot::External(snapshot) => {
                self.objects.insert(snapshot.clone(), None);
                self.fact(Fact::Damaged { snapshot, node: None });
            }
            Snapshot::Local { name, nodes } => {
                for host in &mut self.hosts {
                    if nodes.contains(&host.name) {
                        host.locals.insert(name.clone(), None);
                    }
                }
                self.fact(Fact::Damaged {
                    snapshot: name,
                    node: nodes.first().cloned(),
                });
            }
        }
    }

    /// From now on nothing goes wrong any more, and what is away comes back; what is paused wakes in its
    /// own time, because what has reached it must be heard in order.
    pub(super) fn heal(&mut self) {
        self.tell(|| "CALM".into());
        self.calm = true;
        self.store_away_until = 0;
        self.objects_away_until = 0;
        self.registry_hung_until = 0;
        for process in &mut self.replicas {
            process.fuse = None;
            process.pause_after = None;
        }
        for host in &mut self.hosts {
            host.fuse = None;
            host.cut_until = 0;
            host.disk_full_until = 0;
            host.refusals = 0;
        }
    }
}
