//! Each operation as commands, on any connection.

use std::collections::BTreeSet;
use std::time::Duration;

use ::redis::aio::ConnectionLike;
use ::redis::{Cmd, ErrorKind, RedisError, Value, cmd};
use holdfast_core::actor::Actor;
use holdfast_core::effect::{StoreError, StoreOp, StoreReply};
use holdfast_core::id::{ActorKey, Edition, LeaseToken, Name, NodeName, WorkerKey};
use holdfast_core::worker::{self, Worker};

use super::Fault;
use super::scripts::Scripts;
use super::subscription::{NODE_CHANGES, WORKER_CHANGES, gone, written};
use crate::record::{self, keep};
use crate::{key, page};

/// How many keys the server looks at per step of a walk.
const WALK_STEP: usize = 1000;
/// How many records are fetched at once.
const FETCH_STEP: usize = 500;
/// The longest expiry that the server can add to the time of day.
const TTL_MAX_MS: u64 = i64::MAX as u64 / 4;

pub(super) async fn execute<C: ConnectionLike + Send>(
    connection: &mut C,
    scripts: &Scripts,
    op: StoreOp,
) -> Result<StoreReply, Fault> {
    match op {
        StoreOp::GetActor(key) => {
            let record: Option<Vec<u8>> = cmd("GET").arg(key::actor(&key)).query_async(connection).await?;
            Ok(StoreReply::Actor(actor(&key, record)?))
        }
        StoreOp::PutActor {
            expect,
            actor: new,
            release,
        } => {
            let mut call = scripts.put_actor.key(key::actor(&new.key));
            call.key(key::lease(&new.key))
                .arg(edition(expect))
                .arg(record::encode_actor(&new));
            let outcome = call.arg(token(release)).invoke_async(connection).await?;
            match conflict(outcome)? {
                None => Ok(StoreReply::Done),
                Some(stored) => Ok(StoreReply::ActorConflict(actor(&new.key, stored)?)),
            }
        }
        StoreOp::DeleteActor { key, expect, release } => {
            let mut call = scripts.delete_actor.key(key::actor(&key));
            call.key(key::lease(&key))
                .arg(edition(Some(expect)))
                .arg(token(Some(release)));
            match conflict(call.invoke_async(connection).await?)? {
                None => Ok(StoreReply::Done),
                Some(stored) => Ok(StoreReply::ActorConflict(actor(&key, stored)?)),
            }
        }
        StoreOp::ListActors {
            atespace,
            after,
            limit,
        } => list_actors(connection, atespace.as_ref(), after.as_ref(), limit).await,
        StoreOp::AcquireLease {
            key,
            token: mine,
            ttl,
            steal,
        } => acquire(connection, scripts, &key, mine, ttl, steal).await,
        StoreOp::RenewLease {
            key,
            token: mine,
            ttl,
        } => {
            let mut call = scripts.renew.key(key::lease(&key));
            let renewed: bool = call
                .arg(token(Some(mine)))
                .arg(millis(ttl))
                .invoke_async(connection)
                .await?;
            Ok(if renewed {
                StoreReply::Done
            } else {
                StoreReply::NotOwner
            })
        }
        StoreOp::ReleaseLease { key, token: mine } => {
            release(connection, scripts, &key, mine).await?;
            Ok(StoreReply::Done)
        }
        StoreOp::GetWorker(key) => {
            let record: Option<Vec<u8>> = cmd("GET").arg(key::worker(&key)).query_async(connection).await?;
            Ok(StoreReply::Worker(worker(&key, record)?))
        }
        StoreOp::PutWorker { expect, worker: new } => {
            let record = record::encode_worker(&new);
            let announcement = written(expect.is_none(), &record);
            let mut call = scripts.put_worker.key(key::worker(&new.key));
            call.arg(worker_edition(expect.as_ref()))
                .arg(record)
                .arg(WORKER_CHANGES)
                .arg(announcement);
            match conflict(call.invoke_async(connection).await?)? {
                None => Ok(StoreReply::Done),
                Some(stored) => Ok(StoreReply::WorkerConflict(worker(&new.key, stored)?)),
            }
        }
        StoreOp::DeleteWorker { key, expect } => {
            let mut call = scripts.delete_worker.key(key::worker(&key));
            call.arg(worker_edition(Some(&expect)))
                .arg(WORKER_CHANGES)
                .arg(gone(&key));
            match conflict(call.invoke_async(connection).await?)? {
                None => Ok(StoreReply::Done),
                Some(stored) => Ok(StoreReply::WorkerConflict(worker(&key, stored)?)),
            }
        }
        StoreOp::ListWorkers => list_workers(connection).await,
        StoreOp::PutNode(row) => {
            let mut call = scripts.put_node.key(key::node(&row.name));
            call.arg(record::encode_node(&row)).arg(NODE_CHANGES);
            replaced(&row.name, call.invoke_async(connection).await?)
        }
        StoreOp::LapseNode {
            name,
            incarnation,
            sequence,
        } => {
            let mut call = scripts.lapse_node.key(key::node(&name));
            call.arg(incarnation.as_str())
                .arg(sequence.to_string())
                .arg(NODE_CHANGES);
            replaced(&name, call.invoke_async(connection).await?)
        }
        StoreOp::ListNodes => list_nodes(connection).await,
        StoreOp::CreateAtespace(name) => {
            let mut set = cmd("SET");
            set.arg(key::atespace(&name))
                .arg(record::encode_atespace(&name))
                .arg("NX");
            let created: Option<String> = set.query_async(connection).await?;
            Ok(if created.is_some() {
                StoreReply::Done
            } else {
                StoreReply::Exists
            })
        }
        StoreOp::GetAtespace(name) => exists(connection, key::atespace(&name)).await,
        StoreOp::ListAtespaces => {
            let mut names = BTreeSet::new();
            walk(connection, &format!("{}*", key::ATESPACES), |found| {
                names.extend(key::parse_atespace(found));
                Walk::On
            })
            .await?;
            Ok(StoreReply::Atespaces(names.into_iter().collect()))
        }
        StoreOp::DeleteAtespace(name) => delete_atespace(connection, &name).await,
        StoreOp::PutGrave(grave) => {
            let mut set = cmd("HSET");
            set.arg(key::GRAVES)
                .arg(key::grave(&grave.actor, grave.incarnation, grave.version))
                .arg(record::encode_grave(&grave));
            let _: u64 = set.query_async(connection).await?;
            Ok(StoreReply::Done)
        }
        StoreOp::ListGraves { after, limit } => list_graves(connection, after.as_ref(), limit).await,
        StoreOp::DropGrave {
            key,
            incarnation,
            version,
        } => {
            let mut delete = cmd("HDEL");
            delete
                .arg(key::GRAVES)
                .arg(key::grave(&key, incarnation, version));
            let _: u64 = delete.query_async(connection).await?;
            Ok(StoreReply::Done)
        }
        StoreOp::PutSession { replica, ttl } => {
            let mut set = cmd("SET");
            let () = set
                .arg(key::session(replica))
                .arg(1)
                .arg("PX")
                .arg(millis(ttl))
                .query_async(connection)
                .await?;
            Ok(StoreReply::Done)
        }
        StoreOp::GetSession(replica) => exists(connection, key::session(replica)).await,
        StoreOp::DropSession(replica) => {
            let () = cmd("DEL")
                .arg(key::session(replica))
                .query_async(connection)
                .await?;
            Ok(StoreReply::Done)
        }
    }
}

async fn acquire<C: ConnectionLike + Send>(
    connection: &mut C,
    scripts: &Scripts,
    key: &ActorKey,
    mine: LeaseToken,
    ttl: Duration,
    steal: Option<LeaseToken>,
) -> Result<StoreReply, Fault> {
    let mut call = scripts.acquire.key(key::lease(key));
    call.key(key::actor(key))
        .arg(token(Some(mine)))
        .arg(millis(ttl))
        .arg(token(steal));
    let (granted, text): (bool, Option<Vec<u8>>) = call.invoke_async(connection).await?;
    if !granted {
        let holder = text
            .as_deref()
            .and_then(|text| str::from_utf8(text).ok()?.parse().ok());
        let not_ours = || {
            let key = key::lease(key);
            Fault::Refused(StoreError::Refused(format!(
                "lease {key}: its holder is no token of ours; delete it"
            )))
        };
        return holder.map(StoreReply::Held).ok_or_else(not_ours);
    }
    match actor(key, text) {
        Ok(actor) => Ok(StoreReply::Acquired(actor)),
        Err(fault) => {
            // What is refused must have changed nothing.
            release(connection, scripts, key, mine).await?;
            Err(fault)
        }
    }
}

async fn release<C: ConnectionLike + Send>(
    connection: &mut C,
    scripts: &Scripts,
    key: &ActorKey,
    mine: LeaseToken,
) -> Result<(), Fault> {
    let mut call = scripts.release.key(key::lease(key));
    let _: u64 = call.arg(token(Some(mine))).invoke_async(connection).await?;
    Ok(())
}

async fn list_actors<C: ConnectionLike + Send>(
    connection: &mut C,
    atespace: Option<&Name>,
    after: Option<&Name>,
    limit: u32,
) -> Result<StoreReply, Fault> {
    let after = after
        .map(|token| page::start(token, atespace))
        .transpose()
        .map_err(Fault::Refused)?;
    let limit = limit.max(1) as usize;
    let pattern = match atespace {
        Some(name) => format!("{}{}:*", key::ACTORS, literal(name.as_str())),
        None => format!("{}*", key::ACTORS),
    };
    // The keys of the page, and one more if there is another page.
    let mut keys = BTreeSet::new();
    walk(connection, &pattern, |found| {
        keys.extend(key::parse_actor(found).filter(|key| after.as_ref().is_none_or(|last| key > last)));
        if keys.len() > limit + 1 {
            keys.pop_last();
        }
        Walk::On
    })
    .await?;
    let more = keys.len() > limit;
    if more {
        keys.pop_last();
    }
    let next = if more { keys.last().map(page::token) } else { None };
    let mut actors = Vec::new();
    fetch(connection, &keys, key::actor, |key, text| {
        keep(&mut actors, record::decode_actor(key, text))
    })
    .await?;
    Ok(StoreReply::Actors { actors, next })
}

async fn list_workers<C: ConnectionLike + Send>(connection: &mut C) -> Result<StoreReply, Fault> {
    let mut keys = BTreeSet::new();
    walk(connection, &format!("{}*", key::WORKERS), |found| {
        keys.extend(key::parse_worker(found));
        Walk::On
    })
    .await?;
    let mut workers = Vec::new();
    fetch(connection, &keys, key::worker, |key, text| {
        keep(&mut workers, record::decode_worker(key, text))
    })
    .await?;
    Ok(StoreReply::Workers(workers))
}

async fn list_nodes<C: ConnectionLike + Send>(connection: &mut C) -> Result<StoreReply, Fault> {
    let mut names = BTreeSet::new();
    walk(connection, &format!("{}*", key::NODES), |found| {
        names.extend(key::parse_node(found));
        Walk::On
    })
    .await?;
    let mut nodes = Vec::new();
    fetch(connection, &names, key::node, |name, text| {
        keep(&mut nodes, record::decode_node(name, text))
    })
    .await?;
    Ok(StoreReply::Nodes(nodes))
}

/// One step of a walk through the notes, which shows about as many as it is asked for.
async fn list_graves<C: ConnectionLike + Send>(
    connection: &mut C,
    after: Option<&Name>,
    limit: u32,
) -> Result<StoreReply, Fault> {
    let cursor = after
        .map(page::start_of_walk)
        .transpose()
        .map_err(Fault::Refused)?;
    let mut scan = cmd("HSCAN");
    scan.arg(key::GRAVES)
        .arg(cursor.unwrap_or(0))
        .arg("COUNT")
        .arg(limit.max(1));
    type Named = (Vec<u8>, Vec<u8>);
    let (next, notes): (u64, Vec<Named>) = scan.query_async(connection).await?;
    let mut graves = Vec::with_capacity(notes.len());
    for (name, note) in &notes {
        keep(
            &mut graves,
            record::decode_grave(&String::from_utf8_lossy(name), note),
        );
    }
    let next = (next != 0).then(|| page::token_of_walk(next));
    Ok(StoreReply::Graves { graves, next })
}

async fn delete_atespace<C: ConnectionLike + Send>(
    connection: &mut C,
    name: &Name,
) -> Result<StoreReply, Fault> {
    let key = key::atespace(name);
    if exists(connection, key.clone()).await? == StoreReply::Missing {
        return Ok(StoreReply::Missing);
    }
    let mut empty = true;
    walk(
        connection,
        &format!("{}{}:*", key::ACTORS, literal(name.as_str())),
        |found| {
            empty = key::parse_actor(found).is_none();
            if empty { Walk::On } else { Walk::Enough }
        },
    )
    .await?;
    if !empty {
        return Ok(StoreReply::NotEmpty);
    }
    let deleted: bool = cmd("DEL").arg(key).query_async(connection).await?;
    Ok(if deleted {
        StoreReply::Done
    } else {
        StoreReply::Missing
    })
}

async fn exists<C: ConnectionLike + Send>(connection: &mut C, key: String) -> Result<StoreReply, Fault> {
    let exists: bool = cmd("EXISTS").arg(key).query_async(connection).await?;
    Ok(if exists {
        StoreReply::Exists
    } else {
        StoreReply::Missing
    })
}

/// Whether a walk has seen enough.
enum Walk {
    On,
    Enough,
}

/// Shows every key of a pattern that exists throughout, at least once.
async fn walk<C: ConnectionLike + Send>(
    connection: &mut C,
    pattern: &str,
    mut each: impl FnMut(&str) -> Walk,
) -> Result<(), Fault> {
    let mut cursor = 0_u64;
    loop {
        let mut scan: Cmd = cmd("SCAN");
        scan.arg(cursor)
            .arg("MATCH")
            .arg(pattern)
            .arg("COUNT")
            .arg(WALK_STEP);
        let (next, keys): (u64, Vec<Vec<u8>>) = scan.query_async(connection).await?;
        for key in keys.iter().filter_map(|key| str::from_utf8(key).ok()) {
            if let Walk::Enough = each(key) {
                return Ok(());
            }
        }
        if next == 0 {
            return Ok(());
        }
        cursor = next;
    }
}

/// Shows the records under these keys, in order; those that are gone by now are left out.
async fn fetch<C: ConnectionLike + Send, K>(
    connection: &mut C,
    keys: &BTreeSet<K>,
    path: impl Fn(&K) -> String,
    mut each: impl FnMut(&K, &[u8]),
) -> Result<(), Fault> {
    let keys: Vec<&K> = keys.iter().collect();
    for some in keys.chunks(FETCH_STEP) {
        let mut get = cmd("MGET");
        for key in some {
            get.arg(path(key));
        }
        let records: Vec<Option<Vec<u8>>> = get.query_async(connection).await?;
        for (key, record) in some.iter().zip(records) {
            if let Some(record) = record {
                each(key, &record);
            }
        }
    }
    Ok(())
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

/// The answer of a conditional write of a node's row.
fn replaced(name: &NodeName, outcome: Value) -> Result<StoreReply, Fault> {
    let Some(stored) = conflict(outcome)? else {
        return Ok(StoreReply::Done);
    };
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
