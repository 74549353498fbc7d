//! How a story begins: the records, the machines, and everybody's knowledge of them.

use crate::atelet::Atelet;
use crate::commands::{after, duration, letter, parse, uid_of};
use crate::stage::worker_key;
use crate::words;
use crate::world::{Mail, World};
use holdfast_core::actor::{Assignment, Boot, Change, Crash, Snapshot, Transition};
use holdfast_core::effect::StoreEvent;
use holdfast_core::id::*;
use holdfast_core::lease::Keeper;
use holdfast_core::node::{self, Alive, Described, Hosted, Sandbox};
use holdfast_core::pull::Pulls;
use holdfast_core::registry::{Hosting, Report, Sighting};
use holdfast_core::session::OnLapse;
use holdfast_core::time::Duration;
use holdfast_core::worker::{self, Duty, Worker};

type Played = Result<(), String>;

impl World {
    pub fn given(&mut self, words: &[&str]) -> Played {
        if self.is_started {
            return Err("the story has begun".into());
        }
        match *words {
            ["replica" | "replicas", ref names @ ..] => {
                for name in names {
                    self.cast.push(letter(name)?);
                }
            }
            ["atelet", node, "with", ref workers @ ..] => {
                self.atelets.insert(node.into(), Atelet::new());
                for worker in workers {
                    self.add_worker(&node.into(), worker);
                }
            }
            // Workers whose node nobody has ever heard.
            ["silent", node, "with", ref workers @ ..] => {
                for worker in workers {
                    self.add_worker(&node.into(), worker);
                }
            }
            [node, "with", ref workers @ ..] => {
                let mut row = words::node_row(&node.into(), "address");
                row.session = self.session;
                self.rows.insert(node.into(), row);
                for worker in workers {
                    self.add_worker(&node.into(), worker);
                }
            }
            ["nodes", "have", "sessions"] => {
                self.settings.node.on_lapse = OnLapse::Freeze;
                self.session = 1;
            }
            ["keeper"] => self.keeper = Some(Keeper::new(self.settings.lease, 7)),
            ["pulls"] => self.pulls = Some(Pulls::new(self.settings.pull)),
            // So rarely that no story sees it.
            ["no", "sweep"] => self.settings.workflow.sweep_every = Duration::from_secs(1_000_000),
            ["heartbeats", "shown"] => self.shows_heartbeats = true,
            ["sessions", "shown"] => self.shows_sessions = true,
            ["workflow.deadline", time] => self.settings.workflow.deadline = duration(time)?,
            [actor, state, ref rest @ ..] => return self.given_actor(actor, state, rest),
            _ => return Err("no such beginning".into()),
        }
        Ok(())
    }

    fn add_worker(&mut self, node: &NodeName, name: &str) {
        let worker = Worker {
            key: worker_key(name),
            version: Version::FIRST,
            pod_uid: uid_of(name),
            incarnation: "run 1".into(),
            ip: "ip".into(),
            node: node.clone(),
            duty: Duty::Serving,
            hosts: None,
        };
        if let Some(atelet) = self.atelets.get_mut(node) {
            let described = Described {
                key: worker.key.clone(),
                ip: worker.ip.clone(),
                incarnation: worker.incarnation.clone(),
                duty: Duty::Serving,
                sandbox: None,
            };
            atelet.ateoms.insert(worker.pod_uid.clone(), described);
        }
        self.store.workers.insert(worker.key.clone(), worker);
    }

    /// `SUSPENDED|RUNNING on w1|PAUSED on node-1 at s1|CRASHED during resume`, `at` the last snapshot,
    /// `after` the one before it.
    fn given_actor(&mut self, actor: &str, state: &str, words: &[&str]) -> Played {
        let value = |name: &str| {
            words
                .chunks(2)
                .find(|pair| pair[0] == name)
                .and_then(|pair| pair.get(1))
                .copied()
        };
        let mut record = self.asleep(actor, value("at"), value("after"));
        match state {
            "SUSPENDED" => {}
            "PAUSED" => {
                let nodes = vec![value("on").ok_or("on which node?")?.into()];
                let name = value("at").ok_or("at which snapshot?")?.into();
                (record.last_external, record.fallback) = (record.fallback, None);
                record.latest = Some(Snapshot::Local { name, nodes });
                record = after(&record, &Change::Select(record.selector.clone()))?;
                record.state = holdfast_core::actor::State::Paused;
            }
            "RUNNING" => {
                let worker = value("on").ok_or("on which worker?")?;
                let on = self.promise(worker, &record.key, record.incarnation)?;
                let op = OpId {
                    replica: ReplicaId(0),
                    seq: 1,
                };
                record = after(
                    &record,
                    &Change::Resume {
                        op,
                        on: on.clone(),
                        boot: Boot::Golden,
                    },
                )?;
                record = after(&record, &Change::Ran)?;
                self.host(&on, &record.key, op);
            }
            "CRASHED" => {
                let worker = self
                    .store
                    .workers
                    .keys()
                    .next()
                    .ok_or("crashed where?")?
                    .pod
                    .as_str()
                    .to_owned();
                let on = self.promise(&worker, &record.key, record.incarnation)?;
                let op = OpId {
                    replica: ReplicaId(0),
                    seq: 1,
                };
                let during = match value("during") {
                    Some("resume") => Transition::Resume,
                    Some("pause") => Transition::Pause,
                    _ => Transition::Suspend,
                };
                record = after(
                    &record,
                    &Change::Resume {
                        op,
                        on: on.clone(),
                        boot: Boot::Golden,
                    },
                )?;
                let crash = Crash {
                    during,
                    reason: "it did".into(),
                    node: on.node,
                };
                record = after(&record, &Change::Crash(crash))?;
                let row = self.store.workers.get_mut(&on.worker).ok_or("no such worker")?;
                *row = row
                    .after(worker::Change::Free, Version::FIRST)
                    .map_err(|e| e.to_string())?;
            }
            version if version.starts_with('v') => record.version = Version(parse(&version[1..])?),
            _ => return Err("no such beginning".into()),
        }
        self.store.atespaces.insert(record.key.atespace.clone());
        self.store.actors.insert(record.key.clone(), record);
        Ok(())
    }

    fn promise(&mut self, worker: &str, key: &ActorKey, life: Incarnation) -> Result<Assignment, String> {
        let row = self
            .store
            .workers
            .get_mut(&worker_key(worker))
            .ok_or("no such worker")?;
        let promise = worker::Change::Promise {
            actor: key.clone(),
            incarnation: life,
            template: ("ns".into(), "counter".into()),
            session: self.session,
        };
        *row = row.after(promise, Version::FIRST).map_err(|e| e.to_string())?;
        Assignment::of(row).ok_or("no promise".into())
    }

    /// An atelet that brought an actor has it in its journal, and its ateom says so too.
    fn host(&mut self, on: &Assignment, key: &ActorKey, op: OpId) {
        let session = self.session;
        let Some(atelet) = self.atelets.get_mut(&on.node) else {
            return;
        };
        let entry = atelet.disk.entries.entry(on.pod_uid.clone()).or_default();
        entry.highest = on.fence;
        let sandbox = Sandbox::Running;
        entry.hosted = Some(Hosted {
            actor: key.clone(),
            incarnation: Incarnation(7),
            template: ("ns".into(), "counter".into()),
            op,
            session,
            sandbox,
        });
        if let Some(described) = atelet.ateoms.get_mut(&on.pod_uid) {
            described.sandbox = Some(Alive {
                actor: key.name.clone(),
                op: Some(op),
                sandbox,
            });
        }
    }

    /// Lets everybody start and hear of each other. The story's time begins two seconds later, when sessions
    /// are renewed for the first time and the first sweep is over.
    pub fn start(&mut self) {
        if self.is_started {
            return;
        }
        self.is_started = true;
        self.is_quiet = true;
        self.now = words::START.minus(self.settings.session.renew_every);
        let given = std::mem::take(&mut self.store);
        for name in std::mem::take(&mut self.cast) {
            self.add_replica(name);
        }
        self.run();
        self.advance(words::START);
        (self.store.actors, self.store.workers) = (given.actors, given.workers);
        self.store.atespaces = given.atespaces;
        for row in self.store.workers.values().cloned().collect::<Vec<_>>() {
            self.publish(&StoreEvent::Worker(Box::new(row)));
        }
        self.run();
        for name in self.atelets.keys().cloned().collect::<Vec<_>>() {
            self.start_atelet(&name);
            for (uid, described) in self.atelets[&name].ateoms.clone() {
                self.mail
                    .push_back(Mail::Node(name.clone(), node::Input::Worker(uid, described)));
            }
        }
        for name in self.rows.keys().cloned().collect::<Vec<_>>() {
            self.report_as_given(name);
        }
        self.run();
        self.advance(words::START);
        self.happened();
        self.is_quiet = false;
    }

    /// The first report of a node that the story plays: all is as the store has it.
    fn report_as_given(&mut self, name: NodeName) {
        let workers = self.store.workers.values().filter(|row| row.node == name);
        let workers = workers.map(|row| Sighting {
            key: row.key.clone(),
            pod_uid: row.pod_uid.clone(),
            incarnation: row.incarnation.clone(),
            ip: row.ip.clone(),
            node: row.node.clone(),
            duty: row.duty,
            is_silent: false,
            highest_fence: row.hosts.as_ref().map_or(Fence(0), |hosted| hosted.fence),
            hosting: row.hosts.as_ref().map(|hosted| Hosting {
                actor: hosted.actor.clone(),
                incarnation: hosted.incarnation,
                session: hosted.session,
            }),
        });
        let report = Report {
            node: self.rows[&name].clone(),
            workers: workers.collect(),
        };
        if let Some(first) = self.replicas.keys().next().copied() {
            self.heartbeat(first, None, report);
        }
    }
}
