//! A world that follows a script: no chance, no callers of its own, and a request to the actor every
//! second, so that there is something to lose.

use super::callers::AskedBy;
use super::knife::name_of;
use super::{Event, Story, Telling, World, actor_key};
use crate::fact::{Asked, Still};
use crate::oracle::{Violation, is_settled};
use crate::plan::{Plan, SECOND};
use holdfast_core::actor::{Actor, Boot, State, Status};
use holdfast_core::catalog::Template;
use holdfast_core::id::{ActorKey, PodUid, RequestId};
use holdfast_core::node;
use holdfast_core::replica::{Input, Replica};
use holdfast_core::request::Verdict;
use holdfast_core::worker::{Duty, Worker};

/// How long the making of a scene may take, in microseconds.
const SCENE_MAX: u64 = 120 * SECOND;

/// How long a run is looked at after it has come to rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    /// As long as coming to rest may take.
    ToTheBound,
    /// One round of everything that is done again and again. A run that has not come to rest by then has
    /// had the time until the bound.
    OneRound,
}

impl World {
    /// Two replicas and two nodes with a worker each have come up; the images are there.
    pub(crate) fn scripted(template: impl FnOnce(&mut Template), story: Story) -> World {
        let mut world = World::new(Plan::scripted(), story);
        let mut declared = world
            .catalog
            .templates()
            .next()
            .map(|t| Template::clone(t))
            .expect("the world has a template");
        template(&mut declared);
        if let Some(golden) = &declared.golden_snapshot {
            world.objects.insert(golden.clone(), Some(0));
        }
        let images: Vec<_> = declared
            .workload
            .containers
            .iter()
            .map(|c| c.image.clone())
            .chain([declared.workload.pause_image.clone()])
            .collect();
        for host in &mut world.hosts {
            host.images.extend(images.iter().cloned());
        }
        world.catalog.add_template(declared);
        world.calm = true;
        world.at(SECOND, Event::Traffic);
        world.run_while("the world comes up", |world| {
            let is_free = |worker: &Worker| worker.hosts.is_none();
            !(world.replicas.iter().all(|r| r.is_ready)
                && world.store.workers.values().filter(|w| is_free(w)).count() == world.hosts.len())
        });
        world.pass(SECOND);
        world
    }

    /// The actor of a script.
    pub(crate) fn star() -> ActorKey {
        actor_key(0)
    }

    /// Its record.
    pub(crate) fn actor(&self) -> Option<&Actor> {
        self.store.actors.get(&World::star())
    }

    /// What its record says of it.
    pub(crate) fn status(&self) -> Option<Status> {
        self.actor().map(Actor::status)
    }

    /// Asks a replica for something and goes on.
    pub(crate) fn request(&mut self, replica: usize, what: Asked) -> RequestId {
        self.ask_at(AskedBy::Script, replica, &World::star(), what, Boot::Golden)
    }

    /// Asks a replica for something, and expects that it is done.
    pub(crate) fn obtain(&mut self, what: Asked) {
        let verdict = self.ask_and_wait(&World::star(), what);
        assert!(
            matches!(verdict, Some(Ok(_))),
            "{what:?} of the script: {verdict:?}"
        );
    }

    /// What a request was answered with, if it was.
    pub(crate) fn verdict(&self, id: RequestId) -> Option<&Verdict> {
        self.asks.get(&id)?.verdict.as_ref()?.as_ref()
    }

    pub(crate) fn pass(&mut self, time: u64) {
        self.run_until(self.now + time);
    }

    /// Runs on until the event of that number is the next.
    pub(crate) fn run_to_event(&mut self, number: u64) {
        while self.events + 1 < number {
            self.step();
        }
    }

    /// Runs as long as `is_so`.
    pub(crate) fn run_while(&mut self, what: &str, is_so: impl Fn(&World) -> bool) {
        let end = self.now + SCENE_MAX;
        while is_so(self) {
            assert!(self.now < end, "{what}: it never comes to that");
            assert_eq!(self.oracles.violation(), None, "{what}");
            self.step();
        }
    }

    /// Ends a replica's process.
    pub(crate) fn end_replica(&mut self, index: usize) {
        self.kill_replica(index);
    }

    /// Where the actor is, by its record: the node, and the pod.
    fn stage_of_star(&self) -> (usize, PodUid) {
        let on = self
            .actor()
            .and_then(Actor::assignment)
            .expect("the actor is on a worker");
        let node = self.hosts.iter().position(|host| host.name == on.node);
        (node.expect("its node is there"), on.pod_uid.clone())
    }

    /// The pod that the actor is on is replaced by another one of its name.
    pub(crate) fn end_pod(&mut self) {
        let (node, uid) = self.stage_of_star();
        self.replace_pod(node, &uid);
    }

    /// The pod that the actor is on begins to leave.
    pub(crate) fn drain_pod(&mut self) {
        let (node, uid) = self.stage_of_star();
        if let Some(ateom) = self.hosts[node].ateoms.get_mut(&uid) {
            ateom.duty = Duty::Draining;
        }
        self.describe(node, &uid);
    }

    /// What the actor would be resumed from is damaged.
    pub(crate) fn spoil(&mut self) {
        self.damage(&World::star());
    }

    /// A request reaches the actor every second, if it serves.
    pub(super) fn traffic(&mut self) {
        let running: Vec<Actor> = self.store.actors.values().cloned().collect();
        for actor in running {
            if let State::Running { on } = &actor.state
                && let Some(node) = self.hosts.iter().position(|host| host.name == on.node)
            {
                self.send_count(actor.key.clone(), node, on.pod_uid.clone());
            }
        }
        self.at(self.now + SECOND, Event::Traffic);
    }

    /// Nothing is under way, and everything is as it should be. What a replica does for its own sake, such as
    /// renewing its session, is no part of coming to rest: two of them never let a second pass without it.
    pub(crate) fn is_at_rest(&self) -> bool {
        let is_idle = |event: &Event| match event {
            Event::AtStore(_, _, _, op, _) => name_of(op).is_none(),
            event => !matches!(
                event,
                Event::Step(..)
                    | Event::AtAteom(..)
                    | Event::AteomAsked(..)
                    | Event::AteomDone(..)
                    | Event::AteomStarts(..)
                    | Event::Kept(..)
                    | Event::OrderArrives(..)
                    | Event::Replica(_, _, Input::Request(..))
                    | Event::ReportArrives(..)
                    | Event::Node(
                        _,
                        _,
                        node::Input::Worker(..) | node::Input::WorkerLost(_) | node::Input::Looked(..)
                    )
            ),
        };
        self.is_unarmed()
            && self.replicas.iter().all(|replica| {
                let is_busy = |machine: &Replica| machine.workflows().next().is_some();
                replica.is_ready
                    && replica.paused_until <= self.now
                    && !replica.machine.as_ref().is_none_or(is_busy)
            })
            && self
                .hosts
                .iter()
                .all(|host| host.atelet.is_some() && host.paused_until <= self.now)
            && self.calls.values().all(|call| call.is_over)
            && self.queue.events().all(is_idle)
            && is_settled(&self.still())
    }

    /// Runs until everything is at rest, or until it should be; the answer is how many effects there were
    /// until then.
    pub(crate) fn settle(&mut self) -> u64 {
        let patience = self.plan.settling();
        let (mut effects, mut since) = (self.effects(), self.now);
        while self.now < self.faults_end().max(self.began) + patience && self.oracles.violation().is_none() {
            if !self.is_at_rest() {
                (effects, since) = (self.effects(), self.now);
            } else if self.now > since + SECOND {
                break;
            }
            self.step();
        }
        effects
    }

    /// Lets time pass, looks, and asks the actor to serve.
    pub(crate) fn conclude(&mut self, watch: Watch) -> Option<Violation> {
        let s = self.settings;
        let time = match watch {
            Watch::ToTheBound => self.plan.settling(),
            Watch::OneRound => {
                let round = s.workflow.sweep_every.max(s.workflow.settle_after) * 5 / 4;
                round.max(s.node.heartbeat_every).as_micros() as u64 + SECOND
            }
        };
        self.run_until(self.now.max(self.faults_end()) + time);
        self.break_step(None);
        if self.oracles.violation().is_none() {
            self.look_around();
            self.serve_everyone();
        }
        self.oracles.end();
        self.oracles.violation().cloned()
    }

    /// What has happened so far, if that was to be kept.
    pub(crate) fn story(&mut self) -> Vec<String> {
        match &mut self.telling {
            Telling::Kept(lines) => std::mem::take(lines),
            Telling::Digested(_) | Telling::Recorded(_) | Telling::Dropped => Vec::new(),
        }
    }

    pub(super) fn still(&self) -> Still {
        let mut still = Still {
            actors: self.store.actors.clone(),
            workers: self.store.workers.values().cloned().collect(),
            ..Still::default()
        };
        for host in &self.hosts {
            for (uid, ateom) in &host.ateoms {
                still.present.push(uid.clone());
                if let Some(live) = &ateom.sandbox {
                    still.sandboxes.insert(uid.clone(), live.actor.clone());
                }
            }
        }
        still
    }
}
