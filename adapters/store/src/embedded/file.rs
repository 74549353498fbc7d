//! What is on disk.

use std::fs::OpenOptions;
use std::ops::Bound;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use holdfast_core::actor::Actor;
use holdfast_core::effect::{NodeRow, StoreError, StoreEvent, StoreOp, StoreReply};
use holdfast_core::id::{ActorKey, Incarnation, Name, NodeName, Version, WorkerKey};
use holdfast_core::worker::{Edition, Worker};
use redb::backends::FileBackend;
use redb::{
    Builder, Database, DatabaseError, Durability, ReadOnlyDatabase, ReadableDatabase, ReadableTable, Table,
    TableDefinition, TableError, WriteTransaction,
};

use super::guard::guarded;
use super::{FORMAT, OpenError, Then};
use crate::record::{self, keep};
use crate::{key, page};

const META: TableDefinition<&str, u64> = TableDefinition::new("holdfast");
const FORMAT_ROW: &str = "format";
const ACTORS: TableDefinition<(&str, &str), &[u8]> = TableDefinition::new("actors");
const WORKERS: TableDefinition<(&str, &str, &str), &[u8]> = TableDefinition::new("workers");
const NODES: TableDefinition<&str, &[u8]> = TableDefinition::new("nodes");
const ATESPACES: TableDefinition<&str, ()> = TableDefinition::new("atespaces");
/// By atespace, name, incarnation and version. Files that were made before it was thought of have it from their
/// next write on.
const GRAVES: TableDefinition<GraveRow, &[u8]> = TableDefinition::new("graves");

type GraveRow = (&'static str, &'static str, u64, u64);

/// Pages kept in memory; the rest is in the page cache of the operating system.
const CACHE_BYTES: usize = 64 << 20;

/// What is said of a file that was whole when it was opened and makes redb panic now.
const DAMAGED: &str = "the file has been damaged while it was open: stop, and restore it from a backup";

/// The database and where it is.
pub(super) struct File {
    path: PathBuf,
    /// None between a failure of the disk and the next use.
    database: RwLock<Option<Database>>,
}

/// Why an operation has no answer.
pub(super) enum Fault {
    /// It says all there is to say.
    Refused(StoreError),
    /// It concerns the file.
    Storage(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for Fault {
    fn from(error: E) -> Fault {
        Fault::Storage(error.into())
    }
}

/// The answer to a write, and what follows from it.
type Done = (StoreReply, Vec<Then>);

type Outcome = Result<Done, StoreError>;

impl File {
    pub(super) fn open(path: &Path) -> Result<File, OpenError> {
        guarded(|| Self::open_trusting(path))
            .unwrap_or_else(|panic| Err(unusable(path, redb::Error::Corrupted(panic))))
    }

    fn open_trusting(path: &Path) -> Result<File, OpenError> {
        if std::fs::metadata(path).is_ok_and(|metadata| metadata.len() == 0) {
            return Err(OpenError::Empty { path: path.into() });
        }
        let mut database = open(path)?;
        // What is damaged is to be told now, and not by whoever first reads it.
        match database.check_integrity() {
            Ok(true) => {}
            Ok(false) => return Err(OpenError::Repaired { path: path.into() }),
            Err(error) => return Err(unusable(path, error)),
        }
        match format(&database).map_err(|error| unusable(path, error))? {
            Some(FORMAT) => {}
            Some(found) => {
                return Err(OpenError::Newer {
                    path: path.into(),
                    found,
                });
            }
            None if is_empty(&database).map_err(|error| unusable(path, error))? => {
                tracing::warn!(path = %path.display(), "there was no store; beginning with an empty one");
                initialize(&database).map_err(|error| unusable(path, error))?;
                // The file is durable, but not yet that it is there.
                let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                let directory = std::fs::File::open(directory.unwrap_or(Path::new(".")));
                let synced = directory.and_then(|directory| directory.sync_all());
                synced.map_err(|source| OpenError::Io {
                    path: path.into(),
                    source,
                })?;
            }
            None => return Err(OpenError::Foreign { path: path.into() }),
        }
        Ok(File {
            path: path.into(),
            database: RwLock::new(Some(database)),
        })
    }

    /// Whether what is at `path`, if anything is, may be opened as a store.
    pub(super) fn check(path: &Path) -> Result<(), OpenError> {
        guarded(|| Self::check_trusting(path))
            .unwrap_or_else(|panic| Err(unusable(path, redb::Error::Corrupted(panic))))
    }

    fn check_trusting(path: &Path) -> Result<(), OpenError> {
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.len() == 0 => return Err(OpenError::Empty { path: path.into() }),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(source) => {
                return Err(OpenError::Io {
                    path: path.into(),
                    source,
                });
            }
        }
        let database = match ReadOnlyDatabase::open(path) {
            Ok(database) => database,
            Err(DatabaseError::DatabaseAlreadyOpen | DatabaseError::RepairAborted) => return Ok(()),
            Err(error) => return Err(unusable(path, error)),
        };
        match format(&database).map_err(|error| unusable(path, error))? {
            Some(FORMAT) => Ok(()),
            Some(found) => Err(OpenError::Newer {
                path: path.into(),
                found,
            }),
            None if is_empty(&database).map_err(|error| unusable(path, error))? => Ok(()),
            None => Err(OpenError::Foreign { path: path.into() }),
        }
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

    /// Uses the database. Once the disk has failed redb refuses everything until it is opened anew, which
    /// the next use then does.
    fn with<T>(&self, using: impl FnOnce(&Database) -> Result<T, Fault>) -> Result<T, Fault> {
        // A panic while it was locked has at worst left a database that refuses, as a failed disk does.
        let read = || self.database.read().unwrap_or_else(PoisonError::into_inner);
        let write = || self.database.write().unwrap_or_else(PoisonError::into_inner);
        if read().is_none() {
            let mut database = write();
            if database.is_none() {
                let reopened = open(&self.path).map_err(|error| StoreError::Unavailable(error.to_string()));
                *database = Some(reopened.map_err(Fault::Refused)?);
            }
        }
        let used = match &*read() {
            Some(database) => guarded(|| using(database)).unwrap_or_else(|panic| {
                Err(Fault::Storage(redb::Error::Corrupted(format!(
                    "{panic}; {DAMAGED}"
                ))))
            }),
            None => Err(Fault::Storage(redb::Error::PreviousIo)),
        };
        if let Err(Fault::Storage(_)) = used {
            *write() = None;
        }
        used
    }

    pub(super) fn actor(&self, key: &ActorKey) -> Result<Option<Box<Actor>>, Fault> {
        self.with(|database| actor(&database.begin_read()?.open_table(ACTORS)?, key))
    }

    pub(super) fn actors(
        &self,
        atespace: Option<&Name>,
        after: Option<&Name>,
        limit: u32,
    ) -> Result<StoreReply, Fault> {
        let after = after
            .map(|token| page::start(token, atespace))
            .transpose()
            .map_err(Fault::Refused)?;
        let first = match (&after, atespace) {
            (Some(last), _) => Bound::Excluded((last.atespace.as_str(), last.name.as_str())),
            (None, Some(atespace)) => Bound::Included((atespace.as_str(), "")),
            (None, None) => Bound::Unbounded,
        };
        let limit = limit.max(1) as usize;
        self.with(|database| {
            let table = database.begin_read()?.open_table(ACTORS)?;
            let (mut actors, mut seen, mut last) = (Vec::new(), 0, None);
            for row in table.range::<(&str, &str)>((first, Bound::Unbounded))? {
                let (key, value) = row?;
                let (in_atespace, name) = key.value();
                if atespace.is_some_and(|wanted| wanted.as_str() != in_atespace) {
                    break;
                }
                if seen == limit {
                    return Ok(StoreReply::Actors {
                        actors,
                        next: last.as_ref().map(page::token),
                    });
                }
                seen += 1;
                let key = last.insert(ActorKey::new(in_atespace, name));
                keep(&mut actors, record::decode_actor(key, value.value()));
            }
            Ok(StoreReply::Actors { actors, next: None })
        })
    }

    pub(super) fn worker(&self, key: &WorkerKey) -> Result<Option<Box<Worker>>, Fault> {
        self.with(|database| worker(&database.begin_read()?.open_table(WORKERS)?, key))
    }

    pub(super) fn workers(&self) -> Result<Vec<Worker>, Fault> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(WORKERS)?;
            let mut workers = Vec::new();
            for row in table.iter()? {
                let (key, value) = row?;
                let (namespace, pool, pod) = key.value();
                let key = WorkerKey::new(namespace, pool, pod);
                keep(&mut workers, record::decode_worker(&key, value.value()));
            }
            Ok(workers)
        })
    }

    pub(super) fn nodes(&self) -> Result<Vec<NodeRow>, Fault> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(NODES)?;
            let mut nodes = Vec::new();
            for row in table.iter()? {
                let (name, value) = row?;
                keep(
                    &mut nodes,
                    record::decode_node(&name.value().into(), value.value()),
                );
            }
            Ok(nodes)
        })
    }

    pub(super) fn has_atespace(&self, name: &Name) -> Result<bool, Fault> {
        self.with(|database| {
            Ok(database
                .begin_read()?
                .open_table(ATESPACES)?
                .get(name.as_str())?
                .is_some())
        })
    }

    pub(super) fn atespaces(&self) -> Result<Vec<Name>, Fault> {
        self.with(|database| {
            let mut names = Vec::new();
            for row in database.begin_read()?.open_table(ATESPACES)?.iter()? {
                names.push(row?.0.value().into());
            }
            Ok(names)
        })
    }

    pub(super) fn graves(&self, after: Option<&Name>, limit: u32) -> Result<StoreReply, Fault> {
        let after = after
            .map(page::start_of_graves)
            .transpose()
            .map_err(Fault::Refused)?;
        let first = match &after {
            Some((last, incarnation, version)) => Bound::Excluded(grave_row(last, *incarnation, *version)),
            None => Bound::Unbounded,
        };
        let limit = limit.max(1) as usize;
        self.with(|database| {
            let (mut graves, mut seen, mut last) = (Vec::new(), 0, String::new());
            let table = match database.begin_read()?.open_table(GRAVES) {
                Err(TableError::TableDoesNotExist(_)) => {
                    return Ok(StoreReply::Graves { graves, next: None });
                }
                table => table?,
            };
            for row in table.range::<(&str, &str, u64, u64)>((first, Bound::Unbounded))? {
                if seen == limit {
                    let next = Some(page::token_of_grave(&last));
                    return Ok(StoreReply::Graves { graves, next });
                }
                seen += 1;
                let (row, note) = row?;
                let (atespace, name, incarnation, version) = row.value();
                last = key::grave_named(atespace, name, incarnation, version);
                keep(&mut graves, record::decode_grave(&last, note.value()));
            }
            Ok(StoreReply::Graves { graves, next: None })
        })
    }

    /// Executes writes in order, as one transaction: when this returns they are durable. One that is
    /// refused changes nothing and keeps none of the others from happening.
    pub(super) fn write(&self, ops: &[StoreOp]) -> Result<Vec<Outcome>, Fault> {
        self.with(|database| {
            let mut write = database.begin_write()?;
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
        })
    }
}

struct Tables<'a> {
    actors: Table<'a, (&'static str, &'static str), &'static [u8]>,
    workers: Table<'a, (&'static str, &'static str, &'static str), &'static [u8]>,
    nodes: Table<'a, &'static str, &'static [u8]>,
    atespaces: Table<'a, &'static str, ()>,
    graves: Table<'a, GraveRow, &'static [u8]>,
}

impl<'a> Tables<'a> {
    fn of(write: &'a WriteTransaction) -> Result<Tables<'a>, redb::Error> {
        Ok(Tables {
            actors: write.open_table(ACTORS)?,
            workers: write.open_table(WORKERS)?,
            nodes: write.open_table(NODES)?,
            atespaces: write.open_table(ATESPACES)?,
            graves: write.open_table(GRAVES)?,
        })
    }

    fn apply(&mut self, op: &StoreOp) -> Result<Done, Fault> {
        match op {
            StoreOp::PutActor {
                expect,
                actor: new,
                release,
            } => {
                let stored = actor(&self.actors, &new.key)?;
                if stored.as_deref().map(Actor::edition) != *expect {
                    return Ok((StoreReply::ActorConflict(stored), vec![]));
                }
                self.actors
                    .insert(actor_row(&new.key), record::encode_actor(new).as_bytes())?;
                let release = release.map(|token| Then::Release(new.key.clone(), token));
                Ok((StoreReply::Done, release.into_iter().collect()))
            }
            StoreOp::DeleteActor { key, expect, release } => {
                let stored = actor(&self.actors, key)?;
                if stored.as_deref().map(Actor::edition) != Some(*expect) {
                    return Ok((StoreReply::ActorConflict(stored), vec![]));
                }
                self.actors.remove(actor_row(key))?;
                Ok((StoreReply::Done, vec![Then::Release(key.clone(), *release)]))
            }
            StoreOp::PutWorker { expect, worker } => {
                if let Some(stored) = self.worker_other_than(&worker.key, expect.as_ref())? {
                    return Ok((StoreReply::WorkerConflict(stored), vec![]));
                }
                self.workers
                    .insert(worker_row(&worker.key), record::encode_worker(worker).as_bytes())?;
                Ok((
                    StoreReply::Done,
                    vec![Then::Tell(StoreEvent::Worker(worker.clone()))],
                ))
            }
            StoreOp::DeleteWorker { key, expect } => {
                if let Some(stored) = self.worker_other_than(key, Some(expect))? {
                    return Ok((StoreReply::WorkerConflict(stored), vec![]));
                }
                self.workers.remove(worker_row(key))?;
                Ok((
                    StoreReply::Done,
                    vec![Then::Tell(StoreEvent::WorkerGone(key.clone()))],
                ))
            }
            StoreOp::PutNode(heard) => {
                let stored = node(&self.nodes, &heard.name)?;
                let row = NodeRow::after(stored.as_ref(), heard);
                self.replace_node(stored, row, |row| StoreReply::NodeAt(row.version))
            }
            StoreOp::LapseNode(known) => {
                let stored = node(&self.nodes, &known.name)?;
                let row = NodeRow::lapse(stored.as_ref(), known);
                self.replace_node(stored, row, |_| StoreReply::Done)
            }
            StoreOp::CreateAtespace(name) => {
                if self.atespaces.get(name.as_str())?.is_some() {
                    return Ok((StoreReply::Exists, vec![]));
                }
                self.atespaces.insert(name.as_str(), ())?;
                Ok((StoreReply::Done, vec![]))
            }
            StoreOp::DeleteAtespace(name) => Ok((self.delete_atespace(name.as_str())?, vec![])),
            StoreOp::PutGrave(grave) => {
                let row = grave_row(&grave.actor, grave.incarnation, grave.version);
                self.graves.insert(row, record::encode_grave(grave).as_bytes())?;
                Ok((StoreReply::Done, vec![]))
            }
            StoreOp::DropGrave {
                key,
                incarnation,
                version,
            } => {
                self.graves.remove(grave_row(key, *incarnation, *version))?;
                Ok((StoreReply::Done, vec![]))
            }
            other => unreachable!("{other:?} is not a write"),
        }
    }

    /// Stores a node's row, if there is one to be stored.
    fn replace_node(
        &mut self,
        stored: Option<NodeRow>,
        row: Option<NodeRow>,
        reply: impl Fn(&NodeRow) -> StoreReply,
    ) -> Result<Done, Fault> {
        let Some(row) = row else {
            return Ok((StoreReply::NodeConflict(stored), vec![]));
        };
        self.nodes
            .insert(row.name.as_str(), record::encode_node(&row).as_bytes())?;
        Ok((reply(&row), vec![Then::Tell(StoreEvent::Node(row))]))
    }

    /// What is stored, if its version is not the expected one.
    fn worker_other_than(
        &self,
        key: &WorkerKey,
        expect: Option<&Edition>,
    ) -> Result<Option<Option<Box<Worker>>>, Fault> {
        let stored = worker(&self.workers, key)?;
        let edition = stored.as_deref().map(Worker::edition);
        Ok((edition.as_ref() != expect).then_some(stored))
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
    let Some(row) = table.get(actor_row(key))? else {
        return Ok(None);
    };
    let actor = record::decode_actor(key, row.value()).map_err(|error| Fault::Refused(error.into()))?;
    Ok(Some(Box::new(actor)))
}

fn worker(
    table: &impl ReadableTable<(&'static str, &'static str, &'static str), &'static [u8]>,
    key: &WorkerKey,
) -> Result<Option<Box<Worker>>, Fault> {
    let Some(row) = table.get(worker_row(key))? else {
        return Ok(None);
    };
    let worker = record::decode_worker(key, row.value()).map_err(|error| Fault::Refused(error.into()))?;
    Ok(Some(Box::new(worker)))
}

fn node(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &NodeName,
) -> Result<Option<NodeRow>, Fault> {
    let Some(row) = table.get(name.as_str())? else {
        return Ok(None);
    };
    let node = record::decode_node(name, row.value()).map_err(|error| Fault::Refused(error.into()))?;
    Ok(Some(node))
}

fn actor_row(key: &ActorKey) -> (&str, &str) {
    (key.atespace.as_str(), key.name.as_str())
}

fn worker_row(key: &WorkerKey) -> (&str, &str, &str) {
    (key.namespace.as_str(), key.pool.as_str(), key.pod.as_str())
}

fn grave_row(key: &ActorKey, incarnation: Incarnation, version: Version) -> (&str, &str, u64, u64) {
    (key.atespace.as_str(), key.name.as_str(), incarnation.0, version.0)
}

/// Opens the database at `path`, or makes it.
fn open(path: &Path) -> Result<Database, OpenError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path);
    let backend = FileBackend::new(file.map_err(|source| OpenError::Io {
        path: path.into(),
        source,
    })?);
    let database = backend.and_then(|backend| {
        Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(backend)
    });
    database.map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { path: path.into() },
        other => unusable(path, other),
    })
}

fn format(database: &impl ReadableDatabase) -> Result<Option<u64>, redb::Error> {
    match database.begin_read()?.open_table(META) {
        Ok(meta) => Ok(meta.get(FORMAT_ROW)?.map(|row| row.value())),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_empty(database: &impl ReadableDatabase) -> Result<bool, redb::Error> {
    Ok(database.begin_read()?.list_tables()?.next().is_none())
}

fn initialize(database: &Database) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    write.open_table(META)?.insert(FORMAT_ROW, FORMAT)?;
    Tables::of(&write)?;
    Ok(write.commit()?)
}

fn unusable(path: &Path, error: impl Into<redb::Error>) -> OpenError {
    OpenError::Unusable {
        path: path.into(),
        source: Box::new(error.into()),
    }
}
