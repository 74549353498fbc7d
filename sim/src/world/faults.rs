//! What goes wrong, and how it ends.

use super::{Event, World, actor_key, pod_name};
use crate::fact::{Ending, Fact};
use crate::host::Ateom;
use crate::plan::{Fault, MILLI, SECOND};
use crate::store::Forgotten;
use crate::story::line::Line;
use holdfast_core::actor::Snapshot;
use holdfast_core::effect::{StoreEvent, StoreOp};
use holdfast_core::id::{ActorKey, PodUid};
use holdfast_core::node;
use holdfast_core::replica;
use holdfast_core::time::Duration;
use holdfast_core::worker::Duty;

impl World {
    pub(super) fn strike(&mut self, number: usize) {
        if self.calm {
            return;
        }
        let plan = self.plan.clone();
        let fault = &plan.faults[number].fault;
        self.tell(Line::Fault(fault));
        match fault {
            Fault::StoreAway { for_us } => self.wrong_for(*for_us),
            Fault::StoreFailsOver { away_us, .. } => self.wrong_for(*away_us),
            Fault::StoreFlushed {} => self.wrong_for(0),
            Fault::StoreSlow { takes_us, for_us } => self.wrong_for(*takes_us + *for_us),
            Fault::StoreFull { for_us }
            | Fault::StoreLoading { for_us }
            | Fault::ReplicaCut { for_us, .. }
            | Fault::WatchIll { for_us, .. } => self.wrong_for(*for_us),
            _ => {}
        }
        self.flaw_of_fault(fault);
        self.inflict(fault);
    }

    fn inflict(&mut self, fault: &Fault) {
        match *fault {
            Fault::ReplicaDies {
                replica,
                after_outputs,
            } => self.replicas[replica].fuse = Some(after_outputs),
            Fault::ReplicaPauses {
                replica,
                after_outputs,
                for_us,
            } => self.replicas[replica].pause_after = Some((after_outputs, for_us)),
            Fault::ReplicaLeaves { replica } => {
                let life = self.replicas[replica].life;
                self.deliver_to_replica(replica, life, replica::Input::Shutdown);
            }
            Fault::NodeDies { node, after_outputs } => self.hosts[node].fuse = Some(after_outputs),
            Fault::NodePauses { node, for_us } => {
                if self.hosts[node].paused_until <= self.now {
                    self.node_sleeps(node, self.now + for_us);
                }
            }
            Fault::AteomDies {
                node,
                worker,
                is_noticed,
            } => {
                if let Some(uid) = self.worker_at(node, worker) {
                    self.kill_ateom(node, &uid, is_noticed);
                }
            }
            Fault::PodReplaced { node, worker } => {
                if let Some(uid) = self.worker_at(node, worker) {
                    self.replace_pod(node, &uid);
                }
            }
            Fault::PodLeaves {
                node,
                worker,
                grace_us,
            } => {
                if let Some(uid) = self.worker_at(node, worker) {
                    self.pod_leaves(node, &uid, grace_us);
                }
            }
            Fault::SandboxDies { node, worker } => {
                if let Some(uid) = self.worker_at(node, worker) {
                    self.sandbox_ends(node, &uid, Ending::Killed);
                    self.describe(node, &uid);
                }
            }
            Fault::StoreAway { for_us } => self.store_away_until = self.now + for_us,
            Fault::StoreFailsOver { lag_us, away_us } => {
                self.fail_over(lag_us);
                self.store_away_until = self.now + away_us;
            }
            Fault::StoreFlushed {} => self.flush_store(),
            Fault::NodeCutOff { node, for_us } => self.hosts[node].cut_until = self.now + for_us,
            Fault::RegistryHangs { for_us } => {
                self.registry_hung_until = self.now + for_us;
                for host in &mut self.hosts {
                    host.images.clear();
                }
            }
            Fault::ObjectsAway { for_us } => self.objects_away_until = self.now + for_us,
            Fault::SnapshotDamaged { actor } => self.damage(&actor_key(actor)),
            Fault::DiskFull { node, for_us } => self.hosts[node].disk_full_until = self.now + for_us,
            Fault::DiskRefuses { node, writes } => self.hosts[node].refusals += writes,
            _ => self.inflict_outside(fault),
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
            .flat_map(|actor| actor.snapshots().into_iter().chain(actor.let_go().cloned()));
        let of_graves = forgotten.graves.iter().flat_map(|grave| grave.snapshots.clone());
        for snapshot in of_actors.chain(of_graves) {
            if let Snapshot::External(name) = snapshot {
                self.excused.insert(name);
            }
        }
        self.fact(Fact::Forgot(Box::new(forgotten)));
        self.publish(&StoreEvent::Resync);
    }

    pub(super) fn node_sleeps(&mut self, node: usize, until: u64) {
        self.hosts[node].paused_until = until;
        self.fact(Fact::NodeSlept { node, until });
    }

    /// Whoever is in that place of a node now.
    pub(super) fn worker_at(&self, node: usize, worker: usize) -> Option<PodUid> {
        let pod = pod_name(node, worker);
        let mut ateoms = self.hosts[node].ateoms.iter();
        ateoms
            .find(|(_, ateom)| ateom.key.pod == pod)
            .map(|(uid, _)| uid.clone())
    }

    fn kill_sandbox_and_ateom(&mut self, node: usize, uid: &PodUid) {
        self.sandbox_ends(node, uid, Ending::Killed);
        let captured = self.hosts[node].ateoms.get(uid).and_then(|a| a.captured.clone());
        if let Some(actor) = captured {
            self.fact(Fact::Harmed(actor));
        }
    }

    pub(super) fn kill_ateom(&mut self, node: usize, uid: &PodUid, is_noticed: bool) {
        self.kill_sandbox_and_ateom(node, uid);
        let Some(ateom) = self.hosts[node].ateoms.get_mut(uid) else {
            return;
        };
        ateom.is_up = false;
        ateom.current = None;
        self.tell(Line::AteomDies(node, uid));
        if is_noticed {
            self.sighted(node, uid, node::Input::WorkerLost(uid.clone()));
        }
        self.after(100 * MILLI, 5 * SECOND, Event::AteomStarts(node, uid.clone()));
    }

    /// The pod is told to go, and is killed when its grace is over.
    fn pod_leaves(&mut self, node: usize, uid: &PodUid, grace: u64) {
        let Some(ateom) = self.hosts[node].ateoms.get_mut(uid) else {
            return;
        };
        if std::mem::replace(&mut ateom.duty, Duty::Draining) == Duty::Serving {
            self.describe(node, uid);
            self.at(self.now + grace, Event::PodEnds(node, uid.clone()));
        }
    }

    pub(super) fn replace_pod(&mut self, node: usize, uid: &PodUid) {
        self.kill_sandbox_and_ateom(node, uid);
        let Some(old) = self.hosts[node].ateoms.remove(uid) else {
            return;
        };
        self.sighted(node, uid, node::Input::WorkerLost(uid.clone()));
        let fresh: PodUid = format!("uid-{}", self.id()).into();
        self.tell(Line::PodReplaced(node, uid, &fresh));
        let mut ateom = Ateom::new(old.key, 0);
        ateom.is_up = false;
        self.hosts[node].ateoms.insert(fresh.clone(), ateom);
        self.after(500 * MILLI, 5 * SECOND, Event::AteomStarts(node, fresh));
    }

    /// What an actor would be resumed from is damaged.
    pub(super) fn damage(&mut self, actor: &ActorKey) {
        let latest = self
            .store
            .actors
            .get(actor)
            .and_then(|actor| actor.latest.clone());
        match latest {
            None => {}
            Some(Snapshot::External(snapshot)) => {
                self.objects.insert(snapshot.clone(), None);
                self.fact(Fact::Damaged { snapshot, node: None });
            }
            Some(Snapshot::Local { name, nodes }) => {
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
        self.tell(Line::Calm);
        self.calm = true;
        self.store_away_until = 0;
        self.objects_away_until = 0;
        self.registry_hung_until = 0;
        self.heal_outside();
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
