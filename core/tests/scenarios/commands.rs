//! The language of stories: what each command does to the world. [`README.md`](README.md) lists them.

use crate::atelet::{Caller, Held, files_of};
use crate::stage::{actor_key, catalog, template, worker_key, workload};
use crate::story::Player;
use crate::words;
use crate::world::{Mail, StoreMode, World};
use holdfast_core::actor::{Actor, Boot, Change, Snapshot};
use holdfast_core::catalog::{Scope, Selector};
use holdfast_core::effect::*;
use holdfast_core::failure::Code;
use holdfast_core::id::*;
use holdfast_core::lease;
use holdfast_core::machine::Machine;
use holdfast_core::node::{self, Alive, Order, Sandbox, WorkFailure, WorkFailureKind};
use holdfast_core::pull::{self, Attempt, PullFailure, Retry, Waiter};
use holdfast_core::registry::{Hosting, Report, Sighting};
use holdfast_core::replica;
use holdfast_core::request::Request;
use holdfast_core::time::Duration;
use holdfast_core::worker::Duty;
use std::str::FromStr;
use std::sync::Arc;

type Played = Result<(), String>;

impl Player for World {
    fn begin(&mut self) {
        *self = World::new();
    }

    fn play(&mut self, command: &str) -> Result<Vec<String>, String> {
        let words: Vec<&str> = command.split_whitespace().collect();
        if let ["given", ref words @ ..] = words[..] {
            return self.given(words).map(|()| Vec::new());
        }
        self.start();
        self.command(&words)?;
        self.run();
        // What is due at this very instant is not kept waiting for the next command.
        self.advance(self.now);
        Ok(self.happened())
    }
}

impl World {
    fn command(&mut self, words: &[&str]) -> Played {
        match *words {
            ["advance", "to", time] => {
                let end = words::START.plus(duration(time)?);
                self.advance(end);
            }
            ["advance", time] => self.advance(self.now.plus(duration(time)?)),
            ["timers"] => self.say_timers(),
            ["show", ref what @ ..] => return self.show(what),
            ["store", ref what @ ..] => return self.store_command(what),
            ["resume", actor, ref rest @ ..] => {
                let (boot, rest) = match rest {
                    ["fresh", rest @ ..] => (Boot::Fresh, rest),
                    rest => (Boot::Golden, rest),
                };
                return self.ask(rest, Request::Resume(actor_key(actor), boot));
            }
            ["suspend", actor, ref rest @ ..] => return self.ask(rest, Request::Suspend(actor_key(actor))),
            ["pause", actor, ref rest @ ..] => return self.ask(rest, Request::Pause(actor_key(actor))),
            ["delete", actor, ref rest @ ..] => return self.ask(rest, Request::Delete(actor_key(actor))),
            ["revert", actor, ref rest @ ..] => return self.ask(rest, Request::Revert(actor_key(actor))),
            ["get", actor, ref rest @ ..] => return self.ask(rest, Request::GetActor(actor_key(actor))),
            ["create", actor, ref rest @ ..] => {
                let request = Request::CreateActor {
                    key: actor_key(actor),
                    template_namespace: "ns".into(),
                    template_name: "counter".into(),
                    selector: Selector::default(),
                };
                return self.ask(rest, request);
            }
            ["update", actor, "tier", tier, ref rest @ ..] => {
                let selector = Selector {
                    match_labels: [("tier".into(), tier.into())].into(),
                };
                return self.ask(
                    rest,
                    Request::UpdateActor {
                        key: actor_key(actor),
                        selector,
                    },
                );
            }
            ["caller", number, "leaves"] => {
                let id = RequestId(parse(number.trim_start_matches('#'))?);
                let gone = replica::Input::CallerGone(id);
                let names: Vec<char> = self.replicas.keys().copied().collect();
                self.mail
                    .extend(names.into_iter().map(|name| Mail::Replica(name, gone.clone())));
            }
            ["start", name] if name.len() == 1 => self.add_replica(letter(name)?),
            ["kill", name] if name.len() == 1 => {
                let name = letter(name)?;
                self.replicas.remove(&name).ok_or("there is no such replica")?;
                self.asked.retain(|(by, ..)| *by != name);
                self.calls.retain(|(by, ..)| *by != name);
            }
            ["freeze", name] => {
                let seat = self
                    .replicas
                    .get_mut(&letter(name)?)
                    .ok_or("there is no such replica")?;
                seat.frozen = Some(Vec::new());
            }
            ["thaw", name] => {
                let name = letter(name)?;
                let seat = self.replicas.get_mut(&name).ok_or("there is no such replica")?;
                // What came in meanwhile and what fell due meanwhile: the driver wakes it first.
                let inbox = seat.frozen.take().unwrap_or_default();
                seat.machine.handle_timeout(self.now);
                self.drain_replica(name);
                self.mail
                    .extend(inbox.into_iter().map(|input| Mail::Replica(name, input)));
            }
            ["shutdown", name] => self
                .mail
                .push_back(Mail::Replica(letter(name)?, replica::Input::Shutdown)),
            ["template", "is", "deleted"] => {
                self.catalog = catalog(None);
                let declared = replica::Input::Declared(self.catalog.clone());
                let names: Vec<char> = self.replicas.keys().copied().collect();
                self.mail.extend(
                    names
                        .into_iter()
                        .map(|name| Mail::Replica(name, declared.clone())),
                );
            }
            ["acquire" | "granted" | "renewed" | "not-owner" | "failed" | "release"]
                if self.keeper.is_some() =>
            {
                let input = match words[0] {
                    "acquire" => lease::Input::Acquire,
                    "granted" => lease::Input::Granted,
                    "renewed" => lease::Input::Renewed,
                    "not-owner" => lease::Input::NotOwner,
                    "failed" => lease::Input::Failed,
                    _ => lease::Input::Release,
                };
                let now = self.now;
                self.with_keeper(|keeper| keeper.handle(now, input));
            }
            [waiter, "wants", image] => self.pull(pull::Input::Want(image.into(), Waiter(parse(waiter)?))),
            [waiter, "gives", "up"] => self.pull(pull::Input::Unwant(Waiter(parse(waiter)?))),
            ["attempt", number, ref what @ ..] => {
                let attempt = Attempt(parse(number)?);
                let input = match what {
                    ["moves", bytes] => pull::Input::Progress(attempt, parse(bytes)?),
                    ["ends"] => pull::Input::Ended(attempt, Ok(())),
                    ["fails"] => pull::Input::Ended(attempt, Err(pull_failure(Retry::Helps))),
                    ["is", "refused"] => pull::Input::Ended(attempt, Err(pull_failure(Retry::Useless))),
                    _ => return unknown(),
                };
                self.pull(input);
            }
            ["order", ref what @ ..] => return self.order_by_hand(what),
            [name, ref what @ ..] if self.atelets.contains_key(&Name::from(name)) => {
                return self.atelet_command(&name.into(), what);
            }
            [name, ref what @ ..] if self.rows.contains_key(&Name::from(name)) => {
                return self.node_command(&name.into(), what);
            }
            [worker, ref what @ ..] => return self.ateom_command(worker, what),
            [] => return unknown(),
        }
        Ok(())
    }

    fn ask(&mut self, rest: &[&str], request: Request) -> Played {
        let name = match rest {
            [] => *self.replicas.keys().next().ok_or("there is no replica")?,
            ["via", name] => letter(name)?,
            _ => return unknown(),
        };
        self.request(name, request);
        Ok(())
    }

    fn pull(&mut self, input: pull::Input) {
        let now = self.now;
        if self.pulls.is_some() {
            self.with_pulls(|pulls| pulls.handle(now, input));
        } else if let Some(name) = self.atelets.keys().next().cloned() {
            self.mail.push_back(Mail::Node(name, node::Input::Pull(input)));
        }
    }

    fn store_command(&mut self, what: &[&str]) -> Played {
        match what {
            ["is", "down"] => self.mode = StoreMode::Down,
            ["is", "up"] => self.mode = StoreMode::Up,
            ["waits"] => self.mode = StoreMode::Held,
            ["goes", "on"] => {
                self.mode = StoreMode::Up;
                for (name, effect, op) in std::mem::take(&mut self.asked) {
                    self.perform(name, effect, op);
                }
            }
            ["answers", by @ ..] => {
                let (name, effect, op) = self.take_asked(by)?;
                self.perform(name, effect, op);
            }
            // Done, and nobody hears that it was.
            ["loses", "the", "answer", by @ ..] => {
                let (name, effect, op) = self.take_asked(by)?;
                self.apply(&op);
                self.say_op(name, &op, "done, answer lost");
                self.answer_store(name, effect, Err(StoreError::Unavailable("answer lost".into())));
            }
            ["fails", by @ ..] => {
                let (name, effect, op) = self.take_asked(by)?;
                self.say_op(name, &op, "not done");
                self.answer_store(name, effect, Err(StoreError::Unavailable("not done".into())));
            }
            ["refuses", by @ ..] => {
                let (name, effect, op) = self.take_asked(by)?;
                self.say_op(name, &op, "refused");
                self.answer_store(name, effect, Err(StoreError::Refused("out of memory".into())));
            }
            ["loses", "the", "lease", "of", actor] => {
                self.store
                    .leases
                    .remove(&actor_key(actor))
                    .ok_or("nobody holds it")?;
            }
            ["loses", actor] => {
                self.store
                    .actors
                    .remove(&actor_key(actor))
                    .ok_or("there is no such actor")?;
            }
            ["forgets", "all", "promises"] => {
                for row in self.store.workers.values_mut() {
                    row.hosts = None;
                    row.version = Version::FIRST;
                }
            }
            ["puts", actor, "back", "to", "version", version] => {
                let record = self
                    .store
                    .actors
                    .get_mut(&actor_key(actor))
                    .ok_or("there is no such actor")?;
                record.version = Version(parse(version)?);
                record.claim = None;
            }
            ["watch", "breaks"] => self.is_watched = false,
            ["watch", "is", "back"] => {
                self.is_watched = true;
                self.publish(&StoreEvent::Resync);
            }
            _ => return unknown(),
        }
        Ok(())
    }

    fn take_asked(&mut self, by: &[&str]) -> Result<(char, EffectId, StoreOp), String> {
        let name = match by {
            [] => None,
            [name] => Some(letter(name)?),
            _ => return unknown(),
        };
        let at = self
            .asked
            .iter()
            .position(|(by, ..)| name.is_none_or(|name| name == *by));
        at.and_then(|at| self.asked.remove(at))
            .ok_or("the store has not been asked anything".into())
    }

    fn show(&mut self, what: &[&str]) -> Played {
        let line = match what {
            ["lease", actor] => {
                let lease = self.lease(&actor_key(actor));
                lease.map_or("nobody".into(), |(token, left)| {
                    format!("{} for {}", words::token(token), words::duration(left))
                })
            }
            [actor] if actor.contains('/') => {
                let record = self.store.actors.get(&actor_key(actor));
                record.map_or("no such actor".into(), |record| {
                    let at = words::latest(record.latest.as_ref());
                    let claim = record.claim.map_or("nobody".into(), |c| {
                        format!("{} with fence {}", words::token(c.token), c.fence)
                    });
                    format!("{}; latest {at}; claimed by {claim}", words::actor(record))
                })
            }
            [worker] => {
                let row = self.store.workers.get(&worker_key(worker));
                row.map_or("no such worker".into(), words::worker)
            }
            _ => return unknown(),
        };
        self.say("store", &line);
        Ok(())
    }

    /// A node that the story itself plays.
    fn node_command(&mut self, node: &NodeName, what: &[&str]) -> Played {
        match what {
            ["answers", answer @ ..] => {
                let at = self.calls.iter().position(|(_, _, call)| call.node == *node);
                let (name, effect, call) = at
                    .map(|at| self.calls.remove(at))
                    .ok_or("it has not been called")?;
                let reply = reply(answer)?;
                self.say(
                    node.as_str(),
                    &format!("tells {name} about {}: {}", call.actor, words::node_reply(&reply)),
                );
                self.mail
                    .push_back(Mail::Replica(name, replica::Input::Called(effect, reply)));
            }
            ["repeats", "its", "first", "report:", rest @ ..] => {
                let first = words::node_row(node, "address");
                let workers: Result<Vec<Sighting>, String> = rest
                    .split(|word| *word == "and")
                    .map(|words| sighting(node, words))
                    .collect();
                let name = *self.replicas.keys().next().ok_or("there is no replica")?;
                self.heartbeat(
                    name,
                    None,
                    Report {
                        node: first,
                        workers: workers?,
                    },
                );
            }
            ["begins", "anew"] => {
                let row = self.rows.get_mut(node).ok_or("there is no such node")?;
                (row.incarnation, row.sequence) = (format!("{}'", row.incarnation).into(), 0);
            }
            ["reports", rest @ ..] => {
                let (workers, name) = match rest {
                    [workers @ .., "to", name] => (workers, letter(name)?),
                    workers => (
                        workers,
                        *self.replicas.keys().next().ok_or("there is no replica")?,
                    ),
                };
                let workers: Result<Vec<Sighting>, String> = workers
                    .split(|word| *word == "and")
                    .filter(|words| !words.is_empty())
                    .map(|words| sighting(node, words))
                    .collect();
                let row = self.rows.get_mut(node).ok_or("there is no such node")?;
                row.sequence += 1;
                let node = row.clone();
                self.heartbeat(
                    name,
                    None,
                    Report {
                        node,
                        workers: workers?,
                    },
                );
            }
            _ => return unknown(),
        }
        Ok(())
    }

    fn atelet_command(&mut self, node: &NodeName, what: &[&str]) -> Played {
        let atelet = self.atelets.get_mut(node).ok_or("there is no such node")?;
        match what {
            ["loses", "its", "answers"] => atelet.is_mute = true,
            ["is", "heard", "again"] => (atelet.is_mute, atelet.is_cut) = (false, false),
            ["is", "cut", "off"] => atelet.is_cut = true,
            ["dies"] => self.kill_atelet(node),
            ["starts"] => {
                self.start_atelet(node);
                let ateoms = self
                    .atelets
                    .get(node)
                    .map(|atelet| atelet.ateoms.clone())
                    .unwrap_or_default();
                let found = ateoms
                    .into_iter()
                    .map(|(uid, it)| Mail::Node(node.clone(), node::Input::Worker(uid, it)));
                self.mail.extend(found);
            }
            ["starts", "blind"] => self.start_atelet(node),
            ["finds", worker] => {
                let uid = uid_of(worker);
                let described = atelet
                    .ateoms
                    .get(&uid)
                    .cloned()
                    .ok_or("there is no such worker")?;
                self.mail
                    .push_back(Mail::Node(node.clone(), node::Input::Worker(uid, described)));
            }
            ["finds", worker, "silent"] => {
                let uid = uid_of(worker);
                let described = atelet
                    .ateoms
                    .get(&uid)
                    .cloned()
                    .ok_or("there is no such worker")?;
                let known = node::Described {
                    incarnation: Name::default(),
                    sandbox: None,
                    ..described
                };
                self.mail
                    .push_back(Mail::Node(node.clone(), node::Input::WorkerSilent(uid, known)));
            }
            ["finds", worker, "missing"] => {
                self.mail
                    .push_back(Mail::Node(node.clone(), node::Input::WorkerLost(uid_of(worker))));
            }
            ["disk", "waits"] => {
                atelet.held.insert(Held::Disk);
            }
            ["disk", "goes", "on"] => {
                atelet.held.remove(&Held::Disk);
                for (effect, kept) in std::mem::take(&mut atelet.keeps) {
                    self.keep(node, effect, kept);
                }
            }
            ["disk", "is", "full"] => {
                for (effect, _) in std::mem::take(&mut atelet.keeps) {
                    let full = node::Input::Kept(effect, Err("no space left on device".into()));
                    self.mail.push_back(Mail::Node(node.clone(), full));
                }
            }
            ["pulls", "wait"] => {
                atelet.held.insert(Held::Pulls);
            }
            _ => return unknown(),
        }
        Ok(())
    }

    /// An ateom: its steps, and what its atelet sees of it.
    fn ateom_command(&mut self, worker: &str, what: &[&str]) -> Played {
        let uid = uid_of(worker);
        let found = self
            .atelets
            .iter_mut()
            .find(|(_, atelet)| atelet.ateoms.contains_key(&uid));
        let (name, atelet) = found.ok_or("there is no such command, node or worker")?;
        let name = name.clone();
        match what {
            ["waits"] => {
                atelet.held.insert(Held::Steps(uid));
            }
            ["goes", "on"] => {
                atelet.held.remove(&Held::Steps(uid.clone()));
                let waiting: Vec<_> = atelet
                    .steps
                    .extract_if(.., |(_, _, order)| order.worker == uid)
                    .collect();
                let looks: Vec<_> = atelet.looks.extract_if(.., |(_, of)| *of == uid).collect();
                for (effect, work, order) in waiting {
                    self.work(&name, effect, &work, &order, Ok(files_of(&work)));
                }
                for (effect, uid) in looks {
                    self.look(&name, effect, &uid);
                }
            }
            ["dies"] => {
                atelet.ateoms.remove(&uid);
                self.mail
                    .push_back(Mail::Node(name, node::Input::WorkerLost(uid)));
            }
            ["loses", "its", "sandbox"] => {
                let described = atelet.ateoms.get_mut(&uid).ok_or("there is no such worker")?;
                described.sandbox = None;
                let described = described.clone();
                self.mail
                    .push_back(Mail::Node(name, node::Input::Worker(uid, described)));
            }
            ["restarts"] => {
                let described = atelet.ateoms.get_mut(&uid).ok_or("there is no such worker")?;
                described.incarnation = format!("{}'", described.incarnation).into();
                described.sandbox = None;
                let described = described.clone();
                self.mail
                    .push_back(Mail::Node(name, node::Input::Worker(uid, described)));
            }
            ["drains"] => {
                let described = atelet.ateoms.get_mut(&uid).ok_or("there is no such worker")?;
                described.duty = Duty::Draining;
                let described = described.clone();
                self.mail
                    .push_back(Mail::Node(name, node::Input::Worker(uid, described)));
            }
            ["runs", actor] => {
                let described = atelet.ateoms.get_mut(&uid).ok_or("there is no such worker")?;
                let actor = actor_key(actor).name;
                described.sandbox = Some(Alive {
                    actor,
                    op: None,
                    sandbox: Sandbox::Running,
                });
                let described = described.clone();
                self.mail
                    .push_back(Mail::Node(name, node::Input::Worker(uid, described)));
            }
            ["look", "fails"] => {
                let at = atelet.looks.iter().position(|(_, of)| *of == uid);
                let (effect, _) = at.map(|at| atelet.looks.remove(at)).ok_or("no look waits")?;
                let failed = Err("it does not answer".into());
                self.mail
                    .push_back(Mail::Node(name, node::Input::Looked(effect, failed)));
            }
            [step, result] => {
                let at = atelet
                    .steps
                    .iter()
                    .position(|(_, w, o)| o.worker == uid && words::work(w) == *step);
                let (effect, work, order) =
                    at.map(|at| atelet.steps.remove(at)).ok_or("no such step waits")?;
                let kind = match *result {
                    "ok" => None,
                    "fatal" => Some(WorkFailureKind::Fatal),
                    "gone" => Some(WorkFailureKind::Gone),
                    "unreachable" => Some(WorkFailureKind::Unreachable),
                    "transient" => Some(WorkFailureKind::Transient),
                    _ => return unknown(),
                };
                let result = match kind {
                    None => Ok(files_of(&work)),
                    Some(kind) => {
                        let message = format!("{step} failed");
                        Err(WorkFailure {
                            code: Code::Unavailable,
                            message,
                            kind,
                        })
                    }
                };
                self.work(&name, effect, &work, &order, result);
            }
            _ => return unknown(),
        }
        Ok(())
    }

    /// `order run demo/a on w1 op 1 fence 5/2 [life 8]`: an order as some control plane might send it.
    fn order_by_hand(&mut self, words: &[&str]) -> Played {
        let at = words
            .iter()
            .position(|word| word.contains('/') && !word.contains(':'))
            .ok_or("no actor")?;
        let (verb, rest) = words.split_at(at);
        let verb = match verb {
            ["run"] => Verb::Run {
                assets: self
                    .catalog
                    .assets(&("ns".into(), "pool".into()))
                    .map_err(|e| e.to_string())?,
            },
            ["restore", from] => Verb::Restore {
                from: place(from),
                scope: Scope::Full,
            },
            ["checkpoint", to] => Verb::Checkpoint {
                to: place(to),
                scope: Scope::Full,
            },
            ["upload", name, to] => Verb::Upload {
                name: (*name).into(),
                to: (*to).into(),
            },
            ["stop"] => Verb::Stop,
            _ => return unknown(),
        };
        let [actor, "on", worker, "op", op, "fence", fences, life @ ..] = rest else {
            return unknown();
        };
        let (fence, worker_fence) = fences.split_once('/').ok_or("fences are two: actor/worker")?;
        let life = match life {
            [] => 7,
            ["life", life] => parse(life)?,
            _ => return unknown(),
        };
        let order = Order {
            worker: uid_of(worker),
            worker_fence: Fence(parse(worker_fence)?),
            actor: actor_key(actor),
            incarnation: Incarnation(life),
            fence: Fence(parse(fence)?),
            op: Some(OpId {
                replica: ReplicaId(0),
                seq: parse(op)?,
            }),
            template: ("ns".into(), "counter".into()),
            workload: Arc::new(workload()),
            session: 0,
            run: Name::default(),
            verb,
        };
        let node = self.atelets.keys().next().cloned().ok_or("there is no atelet")?;
        self.order(&node, Caller::Hand(self.orders + 1), order);
        Ok(())
    }

    /// A record as some earlier story left it.
    pub fn asleep(&self, actor: &str, latest: Option<&str>, before: Option<&str>) -> Actor {
        let mut record = Actor::create(actor_key(actor), Incarnation(7), template(), Selector::default());
        record.latest = latest.map(|name| Snapshot::External(name.into()));
        record.last_external = latest.map(Name::from);
        record.fallback = before.map(Name::from);
        record
    }
}

/// The first pod of a worker is its name; `w1#2` is another.
pub fn uid_of(worker: &str) -> PodUid {
    if worker.contains('#') {
        worker.into()
    } else {
        format!("{worker}#1").into()
    }
}

pub fn duration(text: &str) -> Result<Duration, String> {
    if let Some(millis) = text.strip_suffix("ms") {
        return Ok(Duration::from_millis(parse(millis)?));
    }
    let secs = text.strip_suffix('s').ok_or("a duration ends in s or ms")?;
    let (whole, part) = secs.split_once('.').unwrap_or((secs, ""));
    let millis: u64 = parse(&format!("{part:0<3}"))?;
    Ok(Duration::from_millis(parse::<u64>(whole)? * 1000 + millis))
}

pub fn parse<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text} is no number"))
}

pub fn letter(name: &str) -> Result<char, String> {
    let mut chars = name.chars();
    match (chars.next(), chars.next()) {
        (Some(letter @ 'A'..='Z'), None) => Ok(letter),
        _ => Err(format!("{name} is no replica")),
    }
}

fn place(text: &str) -> Place {
    match text.strip_prefix("local:") {
        Some(name) => Place::Local(name.into()),
        None => Place::External(text.into()),
    }
}

fn unknown<T>() -> Result<T, String> {
    Err("no such command".into())
}

fn pull_failure(retry: Retry) -> PullFailure {
    PullFailure {
        code: Code::Unavailable,
        message: "the registry said no".into(),
        retry,
    }
}

/// `ok`, `crash`, `gone`, `busy`, `over`, `occupied`, `unreachable`, `failed`, `stale actor 50`, `stale worker 9`.
fn reply(words: &[&str]) -> Result<NodeReply, String> {
    let (code, kind) = match words {
        ["ok"] => return Ok(Ok(())),
        ["crash"] => (Code::DataLoss, NodeFailureKind::Crash),
        ["gone"] => (Code::DataLoss, NodeFailureKind::SandboxGone),
        ["busy"] => (Code::Aborted, NodeFailureKind::Busy),
        ["over"] => (Code::Unavailable, NodeFailureKind::SessionOver),
        ["occupied"] => (Code::FailedPrecondition, NodeFailureKind::Occupied),
        ["unreachable"] => (Code::Unavailable, NodeFailureKind::Unreachable),
        ["failed"] => (Code::Unavailable, NodeFailureKind::Failed),
        ["stale", of, highest] => {
            let of = match *of {
                "actor" => Fenced::Actor,
                "worker" => Fenced::Worker,
                _ => return unknown(),
            };
            let kind = NodeFailureKind::StaleFence {
                of,
                highest: Fence(parse(highest)?),
            };
            (Code::FailedPrecondition, kind)
        }
        _ => return unknown(),
    };
    let message = format!("said {}", words.join(" "));
    Ok(Err(NodeFailure { code, message, kind }))
}

/// `w1 free`, `w1 demo/a`, and what follows: `fence 7`, `draining`, `run 2`, `life 8`.
fn sighting(node: &NodeName, words: &[&str]) -> Result<Sighting, String> {
    let [pod, hosts, rest @ ..] = words else {
        return Err("a worker and what it hosts".into());
    };
    let mut seen = Sighting {
        key: worker_key(pod.split('#').next().unwrap_or(pod)),
        pod_uid: uid_of(pod),
        incarnation: "run 1".into(),
        ip: "ip".into(),
        node: node.clone(),
        duty: Duty::Serving,
        is_silent: false,
        highest_fence: Fence(0),
        hosting: (*hosts != "free").then(|| Hosting {
            actor: actor_key(hosts),
            incarnation: Incarnation(7),
            session: 0,
        }),
    };
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        let mut number = || {
            rest.next()
                .ok_or(format!("{word} of what?"))
                .and_then(|n| parse::<u64>(n))
        };
        match *word {
            "session" => {
                let session = number()?;
                if let Some(hosting) = &mut seen.hosting {
                    hosting.session = session;
                }
            }
            "fence" => seen.highest_fence = Fence(number()?),
            "run" => seen.incarnation = format!("run {}", number()?).into(),
            "life" => {
                let life = Incarnation(number()?);
                if let Some(hosting) = &mut seen.hosting {
                    hosting.incarnation = life;
                }
            }
            "draining" => seen.duty = Duty::Draining,
            _ => return unknown(),
        }
    }
    Ok(seen)
}

/// The record after a legal change.
pub fn after(record: &Actor, change: &Change) -> Result<Actor, String> {
    record
        .after(change, None, Version::FIRST)
        .map_err(|e| e.to_string())
}
