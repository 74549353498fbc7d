//! What a node remembers across restarts, in one file: per worker what it hosts, what is under way and
//! how the last operation ended; per actor the highest fence.
//!
//! What is acknowledged is on disk. Writes that arrive while the disk is busy go down together. Rows are
//! never removed: forgetting a fence is what the file is there to prevent.

mod entry;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use holdfast_core::id::{EffectId, Fence};
use holdfast_core::node::{Forgotten, Kept, Memory};
use holdfast_runtime::tokio::sync::mpsc;
use holdfast_runtime::tokio::task::spawn_blocking;
use redb::backends::FileBackend;
use redb::{
    Builder, Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, TableDefinition,
    TableError,
};

/// The version of the file's layout that this build writes, and the highest that it opens.
pub const FORMAT: u64 = 1;

const META: TableDefinition<&str, u64> = TableDefinition::new("holdfast");
const FORMAT_ROW: &str = "node-format";
/// The highest of all fences that are forgotten.
const FLOOR_ROW: &str = "node-floor";
/// Pod UID -> entry, as JSON.
const SLOTS: TableDefinition<&str, &[u8]> = TableDefinition::new("slots");
/// Atespace, actor and incarnation as a JSON array -> the highest fence.
const FENCES: TableDefinition<&str, u64> = TableDefinition::new("fences");

/// A journal is small, and so is what it needs of memory.
const CACHE_BYTES: usize = 4 << 20;
/// So many writes go down together at most.
const BATCH_MAX: usize = 256;

/// Why a file cannot be opened as a journal. It is left as it is.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process has it open.
    #[error("{path}: another atelet has this journal open; stop it, or give this one another base directory")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A newer Holdfast wrote it.
    #[error(
        "{path}: written in format {found} by a newer Holdfast; this one knows formats up to {FORMAT}: upgrade it"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// A row that cannot be read.
    #[error("{path}: row {row:?} cannot be read: {why}; {REMEDY}")]
    Row {
        /// The file.
        path: PathBuf,
        /// The row's key.
        row: String,
        /// What is wrong with it.
        why: String,
    },
    /// It is damaged, or no journal at all.
    #[error("{path}: cannot be used as a journal: {source}; {REMEDY}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<redb::Error>,
    },
    /// The operating system does not give it to us.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
}

const REMEDY: &str =
    "drain this node's workers, then move the file away: without it the node accepts any fence once";

/// The open file.
pub(crate) struct Journal {
    path: PathBuf,
    database: Database,
}

impl Journal {
    /// Opens the journal at `path`, readable only for its owner, and makes it if there is none. Blocks.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let mut options = OpenOptions::new();
        Self::opened(path, options.create(true).mode(0o600))
    }

    /// Opens the journal that has been there before: one that is gone is not begun anew, because it would have
    /// forgotten every fence.
    fn reopen(path: &Path) -> Result<Self, JournalError> {
        Self::opened(path, &mut OpenOptions::new())
    }

    fn opened(path: &Path, options: &mut OpenOptions) -> Result<Self, JournalError> {
        let io = |source| JournalError::Io {
            path: path.into(),
            source,
        };
        let file = options
            .read(true)
            .write(true)
            .truncate(false)
            .open(path)
            .map_err(io)?;
        let database = FileBackend::new(file)
            .and_then(|file| {
                Builder::new()
                    .set_cache_size(CACHE_BYTES)
                    .create_with_backend(file)
            })
            .map_err(|error| match error {
                DatabaseError::DatabaseAlreadyOpen => JournalError::InUse { path: path.into() },
                other => unusable(path, other),
            })?;
        let journal = Self {
            path: path.into(),
            database,
        };
        match journal.format().map_err(|error| unusable(path, error))? {
            Some(FORMAT) => {}
            Some(found) => {
                return Err(JournalError::Newer {
                    path: path.into(),
                    found,
                });
            }
            None => {
                journal.initialize().map_err(|error| unusable(path, error))?;
                // The file is durable, but not yet that it is there.
                let directory = path.parent().unwrap_or(Path::new("."));
                File::open(directory)
                    .and_then(|directory| directory.sync_all())
                    .map_err(io)?;
            }
        }
        Ok(journal)
    }

    /// Reads everything. Blocks.
    pub fn load(&self) -> Result<Memory, JournalError> {
        let unusable = |error: redb::Error| unusable(&self.path, error);
        let bad_row = |row: &str, why: String| JournalError::Row {
            path: self.path.clone(),
            row: row.to_owned(),
            why,
        };
        let mut memory = Memory::default();
        let rows = || -> Result<_, redb::Error> {
            let read = self.database.begin_read()?;
            let (mut slots, mut fences) = (Vec::new(), Vec::new());
            for row in read.open_table(SLOTS)?.iter()? {
                let (key, value) = row?;
                slots.push((key.value().to_owned(), value.value().to_vec()));
            }
            for row in read.open_table(FENCES)?.iter()? {
                let (key, value) = row?;
                fences.push((key.value().to_owned(), value.value()));
            }
            let floor = read.open_table(META)?.get(FLOOR_ROW)?.map(|row| row.value());
            Ok((slots, fences, floor.unwrap_or(0)))
        };
        let (slots, fences, floor) = rows().map_err(unusable)?;
        for (uid, json) in slots {
            let entry = entry::decode(&json).map_err(|error| bad_row(&uid, error.to_string()))?;
            memory.entries.insert(uid.into(), entry);
        }
        for (key, fence) in fences {
            let actor = entry::decode_actor(&key).map_err(|error| bad_row(&key, error.to_string()))?;
            let fence = Fence::try_from(fence).map_err(|error| bad_row(&key, error.to_string()))?;
            memory.fences.insert(actor, fence);
        }
        memory.floor = Fence::try_from(floor).map_err(|error| bad_row(FLOOR_ROW, error.to_string()))?;
        Ok(memory)
    }

    /// Writes all of it, in order; when this returns it is durable. Blocks.
    fn write(&self, batch: &[Kept]) -> Result<(), redb::Error> {
        let mut write = self.database.begin_write()?;
        write.set_durability(Durability::Immediate)?;
        {
            let mut slots = write.open_table(SLOTS)?;
            let mut fences = write.open_table(FENCES)?;
            let mut meta = write.open_table(META)?;
            for kept in batch {
                let Forgotten {
                    lives,
                    floor,
                    workers,
                } = &kept.forgotten;
                for (actor, incarnation) in lives {
                    fences.remove(entry::encode_actor(actor, *incarnation).as_str())?;
                }
                for worker in workers {
                    slots.remove(worker.as_str())?;
                }
                if *floor > Fence(0) {
                    meta.insert(FLOOR_ROW, floor.0)?;
                }
                slots.insert(kept.worker.as_str(), entry::encode(&kept.entry).as_slice())?;
                if let Some((actor, incarnation, fence)) = &kept.fence {
                    let key = entry::encode_actor(actor, *incarnation);
                    fences.insert(key.as_str(), fence.0)?;
                }
            }
        }
        Ok(write.commit()?)
    }

    fn format(&self) -> Result<Option<u64>, redb::Error> {
        match self.database.begin_read()?.open_table(META) {
            Ok(meta) => Ok(meta.get(FORMAT_ROW)?.map(|row| row.value())),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn initialize(&self) -> Result<(), redb::Error> {
        let write = self.database.begin_write()?;
        write.open_table(META)?.insert(FORMAT_ROW, FORMAT)?;
        write.open_table(SLOTS)?;
        write.open_table(FENCES)?;
        Ok(write.commit()?)
    }
}

/// Writes what arrives, in order, and tells when it is durable, until the sender is gone.
pub(crate) async fn keep(
    journal: Journal,
    mut arriving: mpsc::UnboundedReceiver<(EffectId, Kept)>,
    tell: impl Fn(EffectId, Result<(), String>),
) {
    let path = journal.path.clone();
    let (mut journal, mut is_failing) = (Some(journal), false);
    while let Some((effect, kept)) = arriving.recv().await {
        let (mut effects, mut batch) = (vec![effect], vec![kept]);
        while batch.len() < BATCH_MAX
            && let Ok((effect, kept)) = arriving.try_recv()
        {
            effects.push(effect);
            batch.push(kept);
        }
        let (open, file) = (journal.take(), path.clone());
        let written = spawn_blocking(move || write(open, &file, &batch)).await;
        let result = match written {
            Ok((open, result)) => {
                journal = open;
                result
            }
            Err(_) => Err(format!("{}: writing was cut short", path.display())),
        };
        match &result {
            Ok(()) if is_failing => tracing::info!("the journal can be written again"),
            Err(error) if !is_failing => {
                tracing::error!(
                    error,
                    "the journal cannot be written: this node takes no orders until it can"
                );
            }
            Ok(()) | Err(_) => {}
        }
        is_failing = result.is_err();
        for effect in effects {
            tell(effect, result.clone());
        }
    }
}

/// Writes to the journal. Once the disk has failed redb refuses everything until the file is opened anew, which
/// the next write then does. Blocks.
fn write(open: Option<Journal>, path: &Path, batch: &[Kept]) -> (Option<Journal>, Result<(), String>) {
    let journal = match open.map_or_else(|| Journal::reopen(path), Ok) {
        Ok(journal) => journal,
        Err(error) => return (None, Err(error.to_string())),
    };
    match journal.write(batch) {
        Ok(()) => (Some(journal), Ok(())),
        Err(error) => (None, Err(format!("{}: {error}", path.display()))),
    }
}

fn unusable(path: &Path, error: impl Into<redb::Error>) -> JournalError {
    let path = path.into();
    match error.into() {
        // It is the disk that is full or failing, and not the journal that is damaged.
        redb::Error::Io(source) if source.raw_os_error().is_some() => JournalError::Io { path, source },
        source => JournalError::Unusable {
            path,
            source: Box::new(source),
        },
    }
}

#[cfg(test)]
mod tests;
