//! Callers: they ask replicas, repeat what may be repeated, and send requests to actors that serve.

use super::{Event, World, actor_key};
use crate::fact::{Asked, Fact};
use crate::host::{Host, Live};
use crate::latency::REQUEST;
use crate::plan::{MILLI, SECOND};
use holdfast_core::actor::{Actor, Boot, Snapshot, State};
use holdfast_core::catalog::Selector;
use holdfast_core::failure::{Code, Failure};
use holdfast_core::id::{ActorKey, NodeName, PodUid, RequestId};
use holdfast_core::licence::Hold;
use holdfast_core::replica::Input;
use holdfast_core::request::{Answer, Request, Verdict};
use std::collections::VecDeque;

/// How often a caller repeats a request before it gives up.
const TRIES_MAX: u32 = 12;
/// How often an actor is asked to serve after the calm, where nothing stands in the way.
const EPILOGUE_TRIES_MAX: usize = 8;

/// A caller.
#[derive(Clone, Debug)]
pub struct Caller {
    wish: Option<Wanted>,
    tries: u32,
    /// What it is to want next, by its number in the plan.
    wishes: VecDeque<usize>,
    /// Whether it wants nothing, and nothing will make it act but another wish.
    is_idle: bool,
}

#[derive(Clone, Debug)]
struct Wanted {
    key: ActorKey,
    what: Asked,
    is_fresh: bool,
    leaves_after: Option<u64>,
}

impl Default for Caller {
    fn default() -> Self {
        Caller {
            wish: None,
            tries: 0,
            wishes: VecDeque::new(),
            is_idle: true,
        }
    }
}

/// A request that has been sent.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Who sent it.
    pub by: AskedBy,
    /// To whom.
    pub replica: usize,
    /// In which life.
    pub life: u32,
    /// Whether an answer is waited for.
    pub is_open: bool,
    /// The answer, if it is the epilogue's.
    pub verdict: Option<Option<Verdict>>,
}

/// Who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedBy {
    /// A caller.
    Caller(usize),
    /// A node that reports, in this life.
    Node(usize, u32),
    /// A script, which looks at the answer itself.
    Script,
}

impl World {
    /// A caller is to want something, once it has what it wanted before.
    pub(super) fn wish(&mut self, number: usize) {
        let caller = self.plan.requests[number].caller;
        self.callers[caller].wishes.push_back(number);
        if self.callers[caller].is_idle {
            self.callers[caller].is_idle = false;
            self.caller_acts(caller);
        }
    }

    pub(super) fn caller_acts(&mut self, caller: usize) {
        if self.callers[caller].wish.is_none() {
            let next = self.callers[caller].wishes.pop_front().filter(|_| !self.calm);
            let Some(number) = next else {
                self.callers[caller].is_idle = true;
                return;
            };
            let wish = &self.plan.requests[number];
            let wanted = Wanted {
                key: actor_key(wish.actor),
                what: wish.what,
                is_fresh: wish.fresh,
                leaves_after: wish.leaves_after_us,
            };
            self.callers[caller].wish = Some(wanted);
            self.callers[caller].tries = 0;
        }
        let Some(wish) = &mut self.callers[caller].wish else {
            return;
        };
        let wanted = wish.clone();
        wish.leaves_after = None;
        let boot = if wanted.is_fresh {
            Boot::Fresh
        } else {
            Boot::Golden
        };
        match self.ask(AskedBy::Caller(caller), &wanted.key, wanted.what, boot) {
            Some(id) => {
                if let Some(after) = wanted.leaves_after {
                    self.at(self.now + after, Event::CallerLeaves(id));
                }
            }
            None => self.after(100 * MILLI, SECOND, Event::Caller(caller)),
        }
    }

    /// Sends a request to a replica that runs; none if there is none.
    fn ask(&mut self, by: AskedBy, key: &ActorKey, what: Asked, boot: Boot) -> Option<RequestId> {
        let up: Vec<usize> = (0..self.replicas.len())
            .filter(|r| self.replicas[*r].is_ready)
            .collect();
        if up.is_empty() {
            return None;
        }
        let replica = up[self.rng.index(up.len())];
        Some(self.ask_at(by, replica, key, what, boot))
    }

    /// Sends a request to this replica.
    pub(super) fn ask_at(
        &mut self,
        by: AskedBy,
        replica: usize,
        key: &ActorKey,
        what: Asked,
        boot: Boot,
    ) -> RequestId {
        let life = self.replicas[replica].life;
        let id = RequestId(self.id());
        self.asks.insert(
            id,
            Ask {
                by,
                replica,
                life,
                is_open: true,
                verdict: None,
            },
        );
        self.fact(Fact::Asked(id, key.clone(), what));
        self.fact(Fact::Addressed(id, replica));
        let key = key.clone();
        let request = match what {
            Asked::Resume => Request::Resume(key, boot),
            Asked::Suspend => Request::Suspend(key),
            Asked::Pause => Request::Pause(key),
            Asked::Delete => Request::Delete(key),
            Asked::Revert => Request::Revert(key),
            Asked::Update => Request::UpdateActor {
                key,
                selector: Selector::default(),
            },
            Asked::Create => Request::CreateActor {
                key,
                template_namespace: "ns".into(),
                template_name: "counter".into(),
                selector: Selector::default(),
            },
        };
        self.within(
            REQUEST,
            Event::Replica(replica, life, Input::Request(id, request)),
        );
        id
    }

    pub(super) fn caller_leaves(&mut self, id: RequestId) {
        let Some(ask) = self.asks.get_mut(&id).filter(|ask| ask.is_open) else {
            return;
        };
        ask.is_open = false;
        let (replica, life, by) = (ask.replica, ask.life, ask.by);
        self.fact(Fact::Unheard(id));
        self.within(REQUEST, Event::Replica(replica, life, Input::CallerGone(id)));
        if let AskedBy::Caller(caller) = by {
            self.callers[caller].wish = None;
            self.after(100 * MILLI, SECOND, Event::Caller(caller));
        }
    }

    /// A caller hears its verdict, or that there will be none.
    pub(super) fn told(&mut self, id: RequestId, verdict: Option<Verdict>) {
        let Some(ask) = self.asks.get_mut(&id) else { return };
        if !std::mem::replace(&mut ask.is_open, false) {
            return;
        }
        let by = ask.by;
        if verdict.is_none() && !matches!(by, AskedBy::Node(..)) {
            self.fact(Fact::Unheard(id));
        }
        match by {
            AskedBy::Node(node, life) => self.report_answered(node, life, verdict),
            AskedBy::Script => {
                if let Some(ask) = self.asks.get_mut(&id) {
                    ask.verdict = Some(verdict);
                }
            }
            AskedBy::Caller(caller) => {
                let pause = self.next_wish(caller, verdict);
                self.after(pause, pause + SECOND, Event::Caller(caller));
            }
        }
    }

    /// What a caller does about its verdict; the answer is how long it waits first.
    fn next_wish(&mut self, caller: usize, verdict: Option<Verdict>) -> u64 {
        let Some(what) = self.callers[caller].wish.as_ref().map(|wanted| wanted.what) else {
            return SECOND;
        };
        self.callers[caller].tries += 1;
        let may_repeat = self.callers[caller].tries < TRIES_MAX;
        match verdict {
            None if may_repeat => 100 * MILLI,
            Some(Err(failure)) if failure.code == Code::NotFound && what != Asked::Delete => {
                self.now_wants(caller, Asked::Create);
                50 * MILLI
            }
            Some(Err(failure)) if is_about_crash(&failure) && self.rng.permille(700) => {
                self.now_wants(caller, Asked::Revert);
                50 * MILLI
            }
            Some(Err(Failure {
                retry_after: Some(pause),
                ..
            })) if may_repeat => pause.as_micros() as u64,
            Some(Ok(Answer::Actor(actor))) => {
                self.callers[caller].wish = None;
                self.send_counts(&actor);
                self.rng.between(100 * MILLI, 3 * SECOND)
            }
            None | Some(_) => {
                self.callers[caller].wish = None;
                self.rng.between(100 * MILLI, 3 * SECOND)
            }
        }
    }

    fn now_wants(&mut self, caller: usize, what: Asked) {
        if let Some(wanted) = &mut self.callers[caller].wish {
            wanted.what = what;
        }
    }

    /// Requests go where the actor is said to be.
    fn send_counts(&mut self, actor: &Actor) {
        let State::Running { on } = &actor.state else {
            return;
        };
        let Some(node) = self.hosts.iter().position(|host| host.name == on.node) else {
            return;
        };
        for _ in 0..self.rng.between(1, 3) {
            self.after(
                MILLI,
                2 * SECOND,
                Event::CountSent(actor.key.clone(), node, on.pod_uid.clone()),
            );
        }
    }

    /// A request to the actor leaves.
    pub(super) fn send_count(&mut self, actor: ActorKey, node: usize, uid: PodUid) {
        let id = self.id();
        self.fact(Fact::Sent(id, actor.clone()));
        self.after(MILLI, 20 * MILLI, Event::Count(id, actor, node, uid));
    }

    /// It comes to where the actor was said to be.
    pub(super) fn count(&mut self, id: u64, actor: &ActorKey, node: usize, uid: &PodUid) {
        // A destination can tell whether the actor is served there (scenario S11).
        let is_there = self.store.actors.get(actor).is_some_and(|a| match &a.state {
            State::Running { on } => on.pod_uid == *uid,
            _ => false,
        });
        let is_held = |host: &Host| {
            host.ateoms
                .get(uid)
                .is_some_and(|a| a.licence.hold() == Hold::Frozen)
        };
        let is_there = is_there && !is_held(&self.hosts[node]);
        let is_anybodys = self.answers_for_others();
        let ateom = self.hosts[node].ateoms.get_mut(uid);
        let live = ateom.and_then(|ateom| ateom.sandbox.as_mut());
        let is_it = |live: &&mut Live| {
            if live.actor == *actor {
                is_there
            } else {
                is_anybodys
            }
        };
        let Some(live) = live.filter(is_it) else {
            return self.fact(Fact::Refused(id));
        };
        live.count += 1;
        let (count, whose) = (live.count, live.actor.clone());
        self.fact(Fact::Counted(whose, count));
        let is_lost = !self.calm && self.rng.permille(self.plan.noise.calls_lost);
        if !is_lost {
            self.after(MILLI, 20 * MILLI, Event::CountTold(id, count));
        }
    }

    /// After the calm every actor must go to sleep, serve, and go to sleep again.
    pub(super) fn serve_everyone(&mut self) {
        let keys: Vec<ActorKey> = self.store.actors.keys().cloned().collect();
        for key in &keys {
            self.insist(key, Asked::Suspend);
        }
        for key in &keys {
            if !self.is_beyond_help(key) {
                self.insist(key, Asked::Resume);
                self.insist(key, Asked::Suspend);
            }
        }
    }

    /// Whether the only snapshot that is left was damaged.
    fn is_beyond_help(&self, key: &ActorKey) -> bool {
        let is_bad = |name| self.objects.get(name).is_none_or(Option::is_none);
        self.store
            .actors
            .get(key)
            .is_some_and(|actor| match &actor.latest {
                Some(Snapshot::External(name)) => is_bad(name),
                Some(Snapshot::Local { name, nodes }) => self.local_is_bad(nodes, name),
                None => false,
            })
    }

    fn local_is_bad(&self, nodes: &[NodeName], name: &holdfast_core::id::Name) -> bool {
        self.hosts
            .iter()
            .filter(|host| nodes.contains(&host.name))
            .all(|host| host.locals.get(name).copied().flatten().is_none())
    }

    fn insist(&mut self, key: &ActorKey, what: Asked) {
        let mut wish = what;
        let mut heard = Vec::new();
        // A lease that was granted after everybody had given up on it is there until it runs out.
        let patience = self.now + self.settings.lease.ttl.as_micros() as u64;
        while heard.len() < EPILOGUE_TRIES_MAX {
            if self.oracles.violation().is_some() {
                return;
            }
            let verdict = self.ask_and_wait(key, wish);
            let is_held = matches!(&verdict, Some(Err(failure)) if failure.code == Code::Aborted);
            if is_held && self.now < patience {
                let end = self.now + SECOND;
                self.run_until(end);
                continue;
            }
            heard.push(format!("{wish:?}: {verdict:?}"));
            match verdict {
                Some(Ok(_)) if wish == what => return,
                Some(Ok(_)) => wish = what,
                Some(Err(failure)) if is_about_crash(&failure) || self.is_beyond_help(key) => {
                    if self.is_beyond_help(key) {
                        return;
                    }
                    wish = Asked::Revert;
                }
                // The loss has been told; the actor sleeps at its last snapshot.
                Some(Err(failure)) if failure.code == Code::DataLoss && what == Asked::Suspend => return,
                Some(Err(_)) | None => {
                    let end = self.now + SECOND;
                    self.run_until(end);
                }
            }
        }
        self.fact(Fact::Unserved(
            key.clone(),
            format!("{what:?}: {}", heard.join("; ")),
        ));
    }

    pub(super) fn ask_and_wait(&mut self, key: &ActorKey, what: Asked) -> Option<Verdict> {
        let id = self.ask(AskedBy::Script, key, what, Boot::Golden)?;
        let end = self.now + 2 * self.settings.workflow.deadline.as_micros() as u64;
        while self.now < end && self.oracles.violation().is_none() && !self.queue.is_empty() {
            self.step();
            if let Some(verdict) = self.asks.get_mut(&id).and_then(|ask| ask.verdict.take()) {
                return verdict;
            }
        }
        None
    }
}

fn is_about_crash(failure: &Failure) -> bool {
    failure.crashed || failure.message.contains("crashed actor")
}
