//! Each operation as commands to the servers that have its keys.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use ::redis::{Cmd, ErrorKind, FromRedisValue, RedisError, Value, cmd};
use holdfast_core::actor::Actor;
use holdfast_core::effect::{StoreError, StoreOp, StoreReply};
use holdfast_core::id::{ActorKey, Edition, LeaseToken, Name, NodeName, WorkerKey};
use holdfast_core::worker::{self, Worker};

use super::Fault;
use super::deadline::Deadline;
use super::directory::{Directory, Kept, Presence};
use super::renewals::Renewals;
use super::scripts::{Call, Scripts};
use super::servers::{Answered, Question, Servers, Target};
use super::subscription::{WORKER_CHANGES, actor as announced, actor_changes, gone, node_changes, written};
use super::walk::Walk;
use crate::record::{self, keep};
use crate::{key, page};

/// How many records are fetched at once.
const FETCH_STEP: usize = 500;
/// The longest expiry that the server can add to the time of day.
const TTL_MAX_MS: u64 = i64::MAX as u64 / 4;

/// What every operation needs.
pub(super) struct Operations<'a> {
    pub(super) servers: &'a Arc<Servers>,
    pub(super) directory: &'a Arc<Directory>,
    pub(super) renewals: &'a Arc<Renewals>,
    pub(super) scripts: &'a Arc<Scripts>,
    pub(super) deadline: Deadline,
}

/// Whether replicas are to have it before it counts. Leases and sessions need not outlive a failover: nodes
/// remember fences, and fences decide.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lasts {
    /// It changes nothing, or nothing that need last.
    No,
    Yes,
}

impl Operations<'_> {
    pub(super) async fn execute(&self, op: StoreOp) -> Result<StoreReply, Fault> {
        match op {
            StoreOp::GetActor(key) => {
                let record = self.get(&key::actor(&key)).await?;
                Ok(StoreReply::Actor(actor(&key, record)?))
            }
            StoreOp::PutActor {
                expect,
                actor: new,
                release,
            } => {
                let mut call = self.scripts.put_actor.call().key(key::actor(&new.key));
                if release.is_some() {
                    call = call.key(key::lease(&new.key));
                }
                let call = call
                    .arg(edition(expect))
                    .arg(record::encode_actor(&new))
                    .arg(token(release));
                let announce = |origin: &str| match expect {
                    None => vec![actor_changes(origin), announced(&new.key, Presence::There)],
                    Some(_) => vec![],
                };
                match conflict(self.run(&call, Lasts::Yes, &announce).await?)? {
                    None => Ok(StoreReply::Done),
                    Some(stored) => Ok(StoreReply::ActorConflict(actor(&new.key, stored)?)),
                }
            }
            StoreOp::DeleteActor { key, expect, release } => {
                let call = self.scripts.delete_actor.call();
                let call = call.key(key::actor(&key)).key(key::lease(&key));
                let call = call.arg(edition(Some(expect))).arg(token(Some(release)));
                let announce = |origin: &str| vec![actor_changes(origin), announced(&key, Presence::Gone)];
                match conflict(self.run(&call, Lasts::Yes, &announce).await?)? {
                    None => Ok(StoreReply::Done),
                    Some(stored) => Ok(StoreReply::ActorConflict(actor(&key, stored)?)),
                }
            }
            StoreOp::ListActors {
                atespace,
                after,
                limit,
            } => self.list_actors(atespace.as_ref(), after.as_ref(), limit).await,
            StoreOp::AcquireLease {
                key,
                token: mine,
                ttl,
                steal,
            } => self.acquire(&key, mine, ttl, steal).await,
            StoreOp::RenewLease {
                key,
                token: mine,
                ttl,
            } => {
                let (lease, token) = (key::lease(&key), token(Some(mine)));
                let renewed = self
                    .renewals
                    .renew(self.servers, self.scripts, lease, token, millis(ttl))
                    .await?;
                Ok(if renewed {
                    StoreReply::Done
                } else {
                    StoreReply::NotOwner
                })
            }
            StoreOp::ReleaseLease { key, token: mine } => {
                self.release(&key, mine).await?;
                Ok(StoreReply::Done)
            }
            StoreOp::GetWorker(key) => {
                let record = self.get(&key::worker(&key)).await?;
                Ok(StoreReply::Worker(worker(&key, record)?))
            }
            StoreOp::PutWorker { expect, worker: new } => {
                let record = record::encode_worker(&new);
                let call = self.scripts.put_worker.call().key(key::worker(&new.key));
                let call = call.arg(worker_edition(expect.as_ref())).arg(&record);
                let is_new = expect.is_none();
                let announce = |origin: &str| vec![WORKER_CHANGES.into(), written(is_new, &record, origin)];
                match conflict(self.run(&call, Lasts::Yes, &announce).await?)? {
                    None => Ok(StoreReply::Done),
                    Some(stored) => Ok(StoreReply::WorkerConflict(worker(&new.key, stored)?)),
                }
            }
            StoreOp::DeleteWorker { key, expect } => {
                let call = self.scripts.delete_worker.call().key(key::worker(&key));
                let call = call.arg(worker_edition(Some(&expect)));
                let announce = |origin: &str| vec![WORKER_CHANGES.into(), gone(&key, origin)];
                match conflict(self.run(&call, Lasts::Yes, &announce).await?)? {
                    None => Ok(StoreReply::Done),
                    Some(stored) => Ok(StoreReply::WorkerConflict(worker(&key, stored)?)),
                }
            }
            StoreOp::ListWorkers => self.list_workers().await,
            StoreOp::PutNode(row) => {
                let call = self.scripts.put_node.call().key(key::node(&row.name));
                let call = call.arg(record::encode_node(&row));
                let announce = |origin: &str| vec![node_changes(origin)];
                let at = |version| StoreReply::NodeAt(version);
                replaced(&row.name, self.run(&call, Lasts::Yes, &announce).await?, at)
            }
            StoreOp::LapseNode(row) => {
                let call = self.scripts.lapse_node.call().key(key::node(&row.name));
                let call = call.arg(record::encode_node(&row));
                let announce = |origin: &str| vec![node_changes(origin)];
                replaced(&row.name, self.run(&call, Lasts::Yes, &announce).await?, |_| {
                    StoreReply::Done
                })
            }
            StoreOp::ListNodes => self.list_nodes().await,
            StoreOp::CreateAtespace(name) => {
                let key = key::atespace(&name);
                let mut set = cmd("SET");
                set.arg(&key).arg(record::encode_atespace(&name)).arg("NX");
                let created: Option<String> = read(self.ask(&key, Lasts::Yes, &set).await?)?;
                Ok(if created.is_some() {
                    StoreReply::Done
                } else {
                    StoreReply::Exists
                })
            }
            StoreOp::GetAtespace(name) => self.exists(&key::atespace(&name)).await,
            StoreOp::ListAtespaces => {
                let mut names = BTreeSet::new();
                self.walk(&format!("{}*", key::ATESPACES), |found| {
                    names.extend(key::parse_atespace(found));
                    Walk::On
                })
                .await?;
                Ok(StoreReply::Atespaces(names.into_iter().collect()))
            }
            StoreOp::DeleteAtespace(name) => self.delete_atespace(&name).await,
            StoreOp::PutGrave(grave) => {
                let mut set = cmd("HSET");
                set.arg(key::GRAVES)
                    .arg(key::grave(&grave.actor, grave.incarnation, grave.version))
                    .arg(record::encode_grave(&grave));
                self.ask(key::GRAVES, Lasts::Yes, &set).await?;
                Ok(StoreReply::Done)
            }
            StoreOp::ListGraves { after, limit } => self.list_graves(after.as_ref(), limit).await,
            StoreOp::DropGrave {
                key,
                incarnation,
                version,
            } => {
                let mut delete = cmd("HDEL");
                delete
                    .arg(key::GRAVES)
                    .arg(key::grave(&key, incarnation, version));
                self.ask(key::GRAVES, Lasts::Yes, &delete).await?;
                Ok(StoreReply::Done)
            }
            StoreOp::PutSession { replica, ttl } => {
                let key = key::session(replica);
                let mut set = cmd("SET");
                set.arg(&key).arg(1).arg("PX").arg(millis(ttl));
                self.ask(&key, Lasts::No, &set).await?;
                Ok(StoreReply::Done)
            }
            StoreOp::GetSession(replica) => self.exists(&key::session(replica)).await,
            StoreOp::DropSession(replica) => {
                let key = key::session(replica);
                self.ask(&key, Lasts::No, cmd("DEL").arg(&key)).await?;
                Ok(StoreReply::Done)
            }
        }
    }

    async fn acquire(
        &self,
        key: &ActorKey,
        mine: LeaseToken,
        ttl: Duration,
        steal: Option<LeaseToken>,
    ) -> Result<StoreReply, Fault> {
        let call = self.scripts.acquire.call();
        let call = call.key(key::lease(key)).key(key::actor(key));
        let call = call.arg(token(Some(mine))).arg(millis(ttl)).arg(token(steal));
        let (granted, text): (bool, Option<Vec<u8>>) = read(self.run(&call, Lasts::No, &nothing).await?)?;
        if !granted {
            let holder = text
                .as_deref()
                .and_then(|text| str::from_utf8(text).ok()?.parse().ok());
            let not_ours = || {
                let key = key::lease(key);
                Fault::Store(StoreError::Refused(format!(
                    "lease {key}: its holder is no token of ours; delete it"
                )))
            };
            return holder.map(StoreReply::Held).ok_or_else(not_ours);
        }
        match actor(key, text) {
            Ok(actor) => Ok(StoreReply::Acquired(actor)),
            Err(fault) => {
                // What is refused must have changed nothing.
                self.release(key, mine).await?;
                Err(fault)
            }
        }
    }

    async fn release(&self, key: &ActorKey, mine: LeaseToken) -> Result<(), Fault> {
        let call = self.scripts.release.call().key(key::lease(key));
        let call = call.arg(token(Some(mine)));
        self.run(&call, Lasts::No, &nothing).await.map(drop)
    }

    async fn list_actors(
        &self,
        atespace: Option<&Name>,
        after: Option<&Name>,
        limit: u32,
    ) -> Result<StoreReply, Fault> {
        let after = after
            .map(|token| page::start(token, atespace))
            .transpose()
            .map_err(Fault::Store)?;
        let limit = limit.max(1) as usize;
        // The keys of the page, and one more if there is another page.
        let page = |all: &BTreeSet<ActorKey>| -> BTreeSet<ActorKey> {
            let first = |atespace: &Name| Bound::Included(ActorKey::new(atespace.clone(), ""));
            let from = match (&after, atespace) {
                (Some(last), _) => Bound::Excluded(last.clone()),
                (None, Some(atespace)) => first(atespace),
                (None, None) => Bound::Unbounded,
            };
            all.range((from, Bound::Unbounded))
                .take_while(|key| atespace.is_none_or(|atespace| *atespace == key.atespace))
                .take(limit + 1)
                .cloned()
                .collect()
        };
        let mut keys = match self.known(page).await? {
            Some(keys) => keys,
            None => self.walk_for_page(atespace, after.as_ref(), limit).await?,
        };
        let more = keys.len() > limit;
        if more {
            keys.pop_last();
        }
        let next = if more { keys.last().map(page::token) } else { None };
        let mut actors = Vec::new();
        self.fetch(&keys, key::actor, |key, text| {
            keep(&mut actors, record::decode_actor(key, text))
        })
        .await?;
        Ok(StoreReply::Actors { actors, next })
    }

    async fn walk_for_page(
        &self,
        atespace: Option<&Name>,
        after: Option<&ActorKey>,
        limit: usize,
    ) -> Result<BTreeSet<ActorKey>, Fault> {
        let pattern = match atespace {
            Some(name) => format!("{}{}:*", key::ACTORS, literal(name.as_str())),
            None => format!("{}*", key::ACTORS),
        };
        let mut keys = BTreeSet::new();
        self.walk(&pattern, |found| {
            keys.extend(key::parse_actor(found).filter(|key| after.is_none_or(|last| key > last)));
            if keys.len() > limit + 1 {
                keys.pop_last();
            }
            Walk::On
        })
        .await?;
        Ok(keys)
    }

    /// Reads from the keys that there are, where that is known.
    async fn known<K: Kept, T>(&self, read: impl Fn(&BTreeSet<K>) -> T) -> Result<Option<T>, Fault> {
        self.directory.read(self.servers, self.deadline, read).await
    }

    /// All keys of a kind.
    async fn keys<K: Kept>(&self) -> Result<BTreeSet<K>, Fault> {
        if let Some(keys) = self.known(BTreeSet::clone).await? {
            return Ok(keys);
        }
        let mut keys = BTreeSet::new();
        self.walk(&format!("{}*", K::PREFIX), |found| {
            keys.extend(K::parse(found));
            Walk::On
        })
        .await?;
        Ok(keys)
    }

    async fn list_workers(&self) -> Result<StoreReply, Fault> {
        let keys = self.keys::<WorkerKey>().await?;
        let mut workers = Vec::new();
        self.fetch(&keys, key::worker, |key, text| {
            keep(&mut workers, record::decode_worker(key, text))
        })
        .await?;
        Ok(StoreReply::Workers(workers))
    }

    async fn list_nodes(&self) -> Result<StoreReply, Fault> {
        let names = self.keys::<NodeName>().await?;
        let mut nodes = Vec::new();
        self.fetch(&names, key::node, |name, text| {
            keep(&mut nodes, record::decode_node(name, text))
        })
        .await?;
        Ok(StoreReply::Nodes(nodes))
    }

    /// One step of a walk through the notes, which shows about as many as it is asked for. Where another run of
    /// the server has begun the walk, it begins anew.
    async fn list_graves(&self, after: Option<&Name>, limit: u32) -> Result<StoreReply, Fault> {
        let after = after.map(page::start_of_walk).transpose().map_err(Fault::Store)?;
        let scan = |target: &Target<'_>| {
            let cursor = match &after {
                Some((cursor, run)) if run == target.run => *cursor,
                _ => 0,
            };
            let mut scan = cmd("HSCAN");
            scan.arg(key::GRAVES)
                .arg(cursor)
                .arg("COUNT")
                .arg(limit.max(1))
                .take()
        };
        let Answered { value, run } = self.put(key::GRAVES, Lasts::No, &scan).await?;
        type Named = (Vec<u8>, Vec<u8>);
        let (next, notes): (u64, Vec<Named>) = read(value)?;
        let mut graves = Vec::with_capacity(notes.len());
        for (name, note) in &notes {
            keep(
                &mut graves,
                record::decode_grave(&String::from_utf8_lossy(name), note),
            );
        }
        let next = (next != 0).then(|| page::token_of_walk(&run, next));
        Ok(StoreReply::Graves { graves, next })
    }

    async fn delete_atespace(&self, name: &Name) -> Result<StoreReply, Fault> {
        let key = key::atespace(name);
        if self.exists(&key).await? == StoreReply::Missing {
            return Ok(StoreReply::Missing);
        }
        let empty = match self.is_known_to_be_empty(name).await? {
            Some(empty) => empty,
            None => self.walk_for_one(name).await?.is_none(),
        };
        if !empty {
            return Ok(StoreReply::NotEmpty);
        }
        let deleted: bool = read(self.ask(&key, Lasts::Yes, cmd("DEL").arg(&key)).await?)?;
        Ok(if deleted {
            StoreReply::Done
        } else {
            StoreReply::Missing
        })
    }

    /// Whether an atespace has no actors, where that is known.
    async fn is_known_to_be_empty(&self, atespace: &Name) -> Result<Option<bool>, Fault> {
        let mut last = ActorKey::new(atespace.clone(), "");
        loop {
            let next = |all: &BTreeSet<ActorKey>| {
                let mut rest = all.range((Bound::Excluded(last.clone()), Bound::Unbounded));
                rest.next().filter(|key| key.atespace == *atespace).cloned()
            };
            last = match self.known(next).await? {
                None => return Ok(None),
                Some(None) => return Ok(Some(true)),
                Some(Some(key)) => key,
            };
            // Its record may have been lost without a word.
            if self.exists(&key::actor(&last)).await? == StoreReply::Exists {
                return Ok(Some(false));
            }
        }
    }

    /// Any actor of an atespace.
    async fn walk_for_one(&self, atespace: &Name) -> Result<Option<ActorKey>, Fault> {
        let mut one = None;
        let pattern = format!("{}{}:*", key::ACTORS, literal(atespace.as_str()));
        self.walk(&pattern, |found| {
            one = key::parse_actor(found);
            match one {
                Some(_) => Walk::Enough,
                None => Walk::On,
            }
        })
        .await?;
        Ok(one)
    }

    async fn exists(&self, key: &str) -> Result<StoreReply, Fault> {
        let exists: bool = read(self.ask(key, Lasts::No, cmd("EXISTS").arg(key)).await?)?;
        Ok(if exists {
            StoreReply::Exists
        } else {
            StoreReply::Missing
        })
    }

    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Fault> {
        read(self.ask(key, Lasts::No, cmd("GET").arg(key)).await?)
    }

    /// Runs a script where its keys are, with what it is to announce from there.
    async fn run(
        &self,
        call: &Call<'_>,
        lasts: Lasts,
        announce: &(dyn Fn(&str) -> Vec<String> + Send + Sync),
    ) -> Result<Value, Fault> {
        let command = |target: &Target<'_>| call.command(target.wants_script, &announce(target.origin));
        Ok(self.put(call.first_key(), lasts, &command).await?.value)
    }

    /// Gives a command that is the same everywhere to whoever has the key.
    async fn ask(&self, key: &str, lasts: Lasts, command: &Cmd) -> Result<Value, Fault> {
        Ok(self.put(key, lasts, &|_| command.clone()).await?.value)
    }

    async fn put(
        &self,
        key: &str,
        lasts: Lasts,
        command: &(dyn Fn(&Target<'_>) -> Cmd + Send + Sync),
    ) -> Result<Answered, Fault> {
        let is_write = lasts == Lasts::Yes;
        let question = Question {
            key,
            is_write,
            command,
        };
        self.servers.ask(&question, self.deadline).await
    }

    async fn walk(&self, pattern: &str, each: impl FnMut(&str) -> Walk + Send) -> Result<(), Fault> {
        self.servers.walk(pattern, self.deadline, each).await
    }

    /// Shows the records under these keys, in order; those that are gone by now are left out.
    async fn fetch<K>(
        &self,
        keys: &BTreeSet<K>,
        path: impl Fn(&K) -> String,
        mut each: impl FnMut(&K, &[u8]),
    ) -> Result<(), Fault> {
        let keys: Vec<&K> = keys.iter().collect();
        for some in keys.chunks(FETCH_STEP) {
            let paths: Vec<String> = some.iter().map(|key| path(key)).collect();
            self.servers
                .fetch(&paths, self.deadline, |index, record| each(some[index], record))
                .await?;
        }
        Ok(())
    }
}

fn nothing(_origin: &str) -> Vec<String> {
    vec![]
}

fn read<T: FromRedisValue>(value: Value) -> Result<T, Fault> {
    Ok(::redis::from_redis_value(value).map_err(RedisError::from)?)
}

/// What a script of a conditional write found instead of what was expected; `None` if it wrote.
fn conflict(outcome: Value) -> Result<Option<Option<Vec<u8>>>, Fault> {
    match outcome {
        Value::Int(1) => Ok(None),
        Value::Nil => Ok(Some(None)),
        Value::BulkString(stored) => Ok(Some(Some(stored))),
        _ => Err(RedisError::from((
            ErrorKind::UnexpectedReturnType,
            "no answer of a conditional write",
        ))
        .into()),
    }
}

/// The answer of a conditional write of a node's row, which tells the version that was written.
fn replaced(name: &NodeName, outcome: Value, reply: impl Fn(u64) -> StoreReply) -> Result<StoreReply, Fault> {
    if let Value::Int(version @ 0..) = outcome {
        return Ok(reply(version.unsigned_abs()));
    }
    let stored = conflict(outcome)?.flatten();
    let stored = stored
        .map(|record| record::decode_node(name, &record))
        .transpose()?;
    Ok(StoreReply::NodeConflict(stored))
}

fn actor(key: &ActorKey, record: Option<Vec<u8>>) -> Result<Option<Box<Actor>>, Fault> {
    let actor = record
        .map(|record| record::decode_actor(key, &record))
        .transpose()?;
    Ok(actor.map(Box::new))
}

fn worker(key: &WorkerKey, record: Option<Vec<u8>>) -> Result<Option<Box<Worker>>, Fault> {
    let worker = record
        .map(|record| record::decode_worker(key, &record))
        .transpose()?;
    Ok(worker.map(Box::new))
}

fn edition(expect: Option<Edition>) -> String {
    expect.map(|edition| edition.to_string()).unwrap_or_default()
}

fn worker_edition(expect: Option<&worker::Edition>) -> String {
    expect.map(|edition| edition.to_string()).unwrap_or_default()
}

fn token(token: Option<LeaseToken>) -> String {
    token.map(|token| token.to_string()).unwrap_or_default()
}

/// Milliseconds, rounded up: a lease must not end before its holder believes so.
fn millis(ttl: Duration) -> u64 {
    let millis = ttl.as_nanos().div_ceil(1_000_000);
    u64::try_from(millis).unwrap_or(u64::MAX).clamp(1, TTL_MAX_MS)
}

/// A pattern that matches exactly this text.
fn literal(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for char in text.chars() {
        if matches!(char, '*' | '?' | '[' | ']' | '^' | '\\') {
            pattern.push('\\');
        }
        pattern.push(char);
    }
    pattern
}
