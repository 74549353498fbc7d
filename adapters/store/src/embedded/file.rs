//! What is on disk.

use std::fs::OpenOptions;
use std::ops::Bound;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use holdfast_core::actor::Actor;
use holdfast_core::effect::{NodeRow, StoreError, StoreEvent, StoreOp, StoreReply};
use holdfast_core::id::{ActorKey, Name, Version, WorkerKey};
use holdfast_core::worker::Worker;
use redb::backends::FileBackend;
use redb::{
    Builder, Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, Table, TableDefinition,
    TableError, WriteTransaction,
};

use super::{FORMAT, OpenError, Then};
use crate::page;
use crate::record::{self, keep};

const META: TableDefinition<&str, u64> = TableDefinition::new("holdfast");
const FORMAT_ROW: &str = "format";
const ACTORS: TableDefinition<(&str, &str), &[u8]> = TableDefinition::new("actors");
const WORKERS: TableDefinition<(&str, &str, &str), &[u8]> = TableDefinition::new("workers");
const NODES: TableDefinition<&str, &[u8]> = TableDefinition::new("nodes");
const ATESPACES: TableDefinition<&str, ()> = TableDefinition::new("atespaces");

/// Pages kept in memory; the rest is in the page cache of the operating system.
const CACHE_BYTES: usize = 64 << 20;

/// The database and where it is.
pub(super) struct File {
    path: PathBuf,
    database: Database,
}

/// Why an operation has no answer.
pub(super) enum Fault {
    /// It concerns this operation alone, and nothing was changed.
    Refused(StoreError),
    /// It concerns the file.
    Storage(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for Fault {
    fn from(error: E) -> Fault {
        Fault::Storage(error.into())
    }
}

type Outcome = Result<(StoreReply, Vec<Then>), StoreError>;

impl File {
    pub(super) fn open(path: &Path) -> Result<File, OpenError> {
        let io = |source| OpenError::Io { path: path.into(), source };
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let backend = FileBackend::new(file.map_err(io)?);
        let database =
            backend.and_then(|backend| Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(backend));
        let database = database.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { path: path.into() },
            other => unusable(path, other),
        })?;
        let file = File { path: path.into(), database };
        match file.format().map_err(|error| unusable(path, error))? {
            Some(FORMAT) => {}
            Some(found) => return Err(OpenError::Newer { path: path.into(), found }),
            None if file.is_empty().map_err(|error| unusable(path, error))? => {
                file.initialize().map_err(|error| unusable(path, error))?;
                // The file is durable, but not yet that it is there.
                let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                let directory = std::fs::File::open(directory.unwrap_or(Path::new(".")));
                directory.and_then(|directory| directory.sync_all()).map_err(io)?;
            }
            None => return Err(OpenError::Foreign { path: path.into() }),
        }
        Ok(file)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What the caller is told of a fault.
    pub(super) fn blame(&self, fault: Fault) -> StoreError {
        match fault {
            Fault::Refused(error) => error,
            Fault::Storage(error) => StoreError::Unavailable(format!("{}: {error}", self.path.display())),
        }
    }

    fn format(&self) -> Result<Option<u64>, redb::Error> {
        match self.database.begin_read()?.open_table(META) {
            Ok(meta) => Ok(meta.get(FORMAT_ROW)?.map(|row| row.value())),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn is_empty(&self) -> Result<bool, redb::Error> {
        Ok(self.database.begin_read()?.list_tables()?.next().is_none())
    }

    fn initialize(&self) -> Result<(), redb::Error> {
        let write = self.database.begin_write()?;
        write.open_table(META)?.insert(FORMAT_ROW, FORMAT)?;
        Tables::of(&write)?;
        Ok(write.commit()?)
    }

    pub(super) fn actor(&self, key: &ActorKey) -> Result<Option<Box<Actor>>, Fault> {
        actor(&self.database.begin_read()?.open_table(ACTORS)?, key)
    }

    pub(super) fn actors(
        &self,
        atespace: Option<&Name>,
        after: Option<&Name>,
        limit: u32,
    ) -> Result<StoreReply, Fault> {
        let after = after.map(|token| page::start(token, atespace)).transpose().map_err(Fault::Refused)?;
        let first = match (&after, atespace) {
            (Some(last), _) => Bound::Excluded((last.atespace.as_str(), last.name.as_str())),
            (None, Some(atespace)) => Bound::Included((atespace.as_str(), "")),
            (None, None) => Bound::Unbounded,
        };
        let limit = limit.max(1) as usize;
        let table = self.database.begin_read()?.open_table(ACTORS)?;
        let (mut actors, mut seen, mut last) = (Vec::new(), 0, None);
        for row in table.range::<(&str, &str)>((first, Bound::Unbounded))? {
            let (key, value) = row?;
            let (in_atespace, name) = key.value();
            if atespace.is_some_and(|wanted| wanted.as_str() != in_atespace) {
                break;
            }
            if seen == limit {
                return Ok(StoreReply::Actors { actors, next: last.as_ref().map(page::token) });
            }
            seen += 1;
            let key = last.insert(ActorKey::new(in_atespace, name));
            keep(&mut actors, record::decode_actor(key, value.value()));
        }
        Ok(StoreReply::Actors { actors, next: None })
    }

    pub(super) fn worker(&self, key: &WorkerKey) -> Result<Option<Box<Worker>>, Fault> {
        worker(&self.database.begin_read()?.open_table(WORKERS)?, key)
    }

    pub(super) fn workers(&self) -> Result<Vec<Worker>, Fault> {
        let table = self.database.begin_read()?.open_table(WORKERS)?;
        let mut workers = Vec::new();
        for row in table.iter()? {
            let (key, value) = row?;
            let (namespace, pool, pod) = key.value();
            keep(&mut workers, record::decode_worker(&WorkerKey::new(namespace, pool, pod), value.value()));
        }
        Ok(workers)
    }

    pub(super) fn nodes(&self) -> Result<Vec<NodeRow>, Fault> {
        let table = self.database.begin_read()?.open_table(NODES)?;
        let mut nodes = Vec::new();
        for row in table.iter()? {
            let (name, value) = row?;
            keep(&mut nodes, record::decode_node(&name.value().into(), value.value()));
        }
        Ok(nodes)
    }

    pub(super) fn has_atespace(&self, name: &Name) -> Result<bool, Fault> {
        let table = self.database.begin_read()?.open_table(ATESPACES)?;
        Ok(table.get(name.as_str())?.is_some())
    }

    pub(super) fn atespaces(&self) -> Result<Vec<Name>, Fault> {
        let table = self.database.begin_read()?.open_table(ATESPACES)?;
        let mut names = Vec::new();
        for row in table.iter()? {
            names.push(row?.0.value().into());
        }
        Ok(names)
    }

    /// Executes writes in order, as one transaction: when this returns they are durable. One that is
    /// refused changes nothing and keeps none of the others from happening.
    pub(super) fn write(&self, ops: &[StoreOp]) -> Result<Vec<Outcome>, Fault> {
        let mut write = self.database.begin_write()?;
        write.set_durability(Durability::Immediate)?;
        let mut outcomes = Vec::with_capacity(ops.len());
        {
            let mut tables = Tables::of(&write)?;
            for op in ops {
                outcomes.push(match tables.apply(op) {
                    Ok(done) => Ok(done),
                    Err(Fault::Refused(error)) => Err(error),
                    Err(fault @ Fault::Storage(_)) => return Err(fault),
                });
            }
        }
        write.commit()?;
        Ok(outcomes)
    }
}

struct Tables<'a> {
    actors: Table<'a, (&'static str, &'static str), &'static [u8]>,
    workers: Table<'a, (&'static str, &'static str, &'static str), &'static [u8]>,
    nodes: Table<'a, &'static str, &'static [u8]>,
    atespaces: Table<'a, &'static str, ()>,
}

impl<'a> Tables<'a> {
    fn of(write: &'a WriteTransaction) -> Result<Tables<'a>, redb::Error> {
        Ok(Tables {
            actors: write.open_table(ACTORS)?,
            workers: write.open_table(WORKERS)?,
            nodes: write.open_table(NODES)?,
            atespaces: write.open_table(ATESPACES)?,
        })
    }

    fn apply(&mut self, op: &StoreOp) -> Result<(StoreReply, Vec<Then>), Fault> {
        match op {
            StoreOp::PutActor { expect, actor: new, release } => {
                let stored = actor(&self.actors, &new.key)?;
                if stored.as_ref().map(|stored| stored.version) != *expect {
                    return Ok((StoreReply::ActorConflict(stored), vec![]));
                }
                self.actors.insert(actor_row(&new.key), record::encode_actor(new).as_bytes())?;
                let release = release.map(|token| Then::Release(new.key.clone(), token));
                Ok((StoreReply::Done, release.into_iter().collect()))
            }
            StoreOp::DeleteActor { key, expect, release } => {
                let stored = actor(&self.actors, key)?;
                if stored.as_ref().map(|stored| stored.version) != Some(*expect) {
                    return Ok((StoreReply::ActorConflict(stored), vec![]));
                }
                self.actors.remove(actor_row(key))?;
                Ok((StoreReply::Done, vec![Then::Release(key.clone(), *release)]))
            }
            StoreOp::PutWorker { expect, worker } => {
                if let Some(stored) = self.worker_other_than(&worker.key, *expect)? {
                    return Ok((StoreReply::WorkerConflict(stored), vec![]));
                }
                self.workers.insert(worker_row(&worker.key), record::encode_worker(worker).as_bytes())?;
                Ok((StoreReply::Done, vec![Then::Tell(StoreEvent::Worker(worker.clone()))]))
            }
            StoreOp::DeleteWorker { key, expect } => {
                if let Some(stored) = self.worker_other_than(key, Some(*expect))? {
                    return Ok((StoreReply::WorkerConflict(stored), vec![]));
                }
                self.workers.remove(worker_row(key))?;
                Ok((StoreReply::Done, vec![Then::Tell(StoreEvent::WorkerGone(key.clone()))]))
            }
            StoreOp::PutNode(row) => {
                self.nodes.insert(row.name.as_str(), record::encode_node(row).as_bytes())?;
                Ok((StoreReply::Done, vec![Then::Tell(StoreEvent::Node(row.clone()))]))
            }
            StoreOp::CreateAtespace(name) => {
                if self.atespaces.get(name.as_str())?.is_some() {
                    return Ok((StoreReply::Exists, vec![]));
                }
                self.atespaces.insert(name.as_str(), ())?;
                Ok((StoreReply::Done, vec![]))
            }
            StoreOp::DeleteAtespace(name) => Ok((self.delete_atespace(name.as_str())?, vec![])),
            other => unreachable!("{other:?} is not a write"),
        }
    }

    /// What is stored, if its version is not the expected one.
    fn worker_other_than(
        &self,
        key: &WorkerKey,
        expect: Option<Version>,
    ) -> Result<Option<Option<Box<Worker>>>, Fault> {
        let stored = worker(&self.workers, key)?;
        let version = stored.as_ref().map(|stored| stored.version);
        Ok((version != expect).then_some(stored))
    }

    fn delete_atespace(&mut self, name: &str) -> Result<StoreReply, Fault> {
        if self.atespaces.get(name)?.is_none() {
            return Ok(StoreReply::Missing);
        }
        if let Some(first) = self.actors.range::<(&str, &str)>((name, "")..)?.next()
            && first?.0.value().0 == name
        {
            return Ok(StoreReply::NotEmpty);
        }
        self.atespaces.remove(name)?;
        Ok(StoreReply::Done)
    }
}

fn actor(
    table: &impl ReadableTable<(&'static str, &'static str), &'static [u8]>,
    key: &ActorKey,
) -> Result<Option<Box<Actor>>, Fault> {
    let Some(row) = table.get(actor_row(key))? else { return Ok(None) };
    let actor = record::decode_actor(key, row.value()).map_err(|error| Fault::Refused(error.into()))?;
    Ok(Some(Box::new(actor)))
}

fn worker(
    table: &impl ReadableTable<(&'static str, &'static str, &'static str), &'static [u8]>,
    key: &WorkerKey,
) -> Result<Option<Box<Worker>>, Fault> {
    let Some(row) = table.get(worker_row(key))? else { return Ok(None) };
    let worker = record::decode_worker(key, row.value()).map_err(|error| Fault::Refused(error.into()))?;
    Ok(Some(Box::new(worker)))
}

fn actor_row(key: &ActorKey) -> (&str, &str) {
    (key.atespace.as_str(), key.name.as_str())
}

fn worker_row(key: &WorkerKey) -> (&str, &str, &str) {
    (key.namespace.as_str(), key.pool.as_str(), key.pod.as_str())
}

fn unusable(path: &Path, error: impl Into<redb::Error>) -> OpenError {
    OpenError::Unusable { path: path.into(), source: Box::new(error.into()) }
}
