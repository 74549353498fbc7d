//! Records as JSON: the original's fields under the original's names, and ours in one object beside them.
//!
//! A record of the original reads as it is, so that a fleet moves over an existing store by stopping the
//! original's replicas and starting ours. What the core knows beyond the original's fields is in
//! `holdfast`, with the version of this format in `holdfast.v`:
//!
//! ```json
//! {"version":"4","actorId":"id1","status":"STATUS_RUNNING","ateomPodName":"pod-1","atespace":"team-a",
//!  "holdfast":{"v":1,"incarnation":"7","worker":{"incarnation":"a1","node":"n1","fence":"3"}}}
//! ```
//!
//! * Numbers of 64 bits are decimal strings; plain numbers are read too. Enums are names; their numbers
//!   are read too. Fields in `snake_case` are read too. Zero values are left out.
//! * `version` comes first, always: the scripts of the Redis store find it there.
//! * Unknown fields are refused, as the original refuses them: to write such a record back would lose
//!   what they said.
//! * A newer `holdfast.v` is refused, and so is a record that does not belong to its key.
//! * An empty name names nothing: it reads as absent wherever there may be none.

mod actor;
mod grave;
mod original;
mod scalar;
mod template;
mod worker;

use holdfast_core::actor::Actor;
use holdfast_core::effect::{Grave, NodeRow, StoreError};
use holdfast_core::id::{ActorKey, Name, WorkerKey};
use holdfast_core::worker::Worker;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::key;

/// The version of `holdfast` that this build writes, and the highest that it reads.
pub const VERSION: u64 = 1;

/// A record that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {key}: {cause}")]
pub struct RecordError {
    /// Where it is stored.
    pub key: String,
    /// What is wrong with it.
    pub cause: RecordFault,
}

/// What is wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// A newer Holdfast wrote it.
    #[error(
        "written in format {found} by a newer Holdfast; this one knows formats up to {VERSION}: upgrade it"
    )]
    Newer {
        /// Its format.
        found: u64,
    },
    /// It is no such record.
    #[error("cannot be read: {0}; repair or delete it")]
    Corrupt(String),
    /// It says that it belongs elsewhere.
    #[error("holds {found}; repair or delete it")]
    Misplaced {
        /// Where it says that it belongs.
        found: String,
    },
}

impl From<RecordError> for StoreError {
    fn from(error: RecordError) -> StoreError {
        StoreError::Refused(error.to_string())
    }
}

/// An actor's record.
pub fn encode_actor(actor: &Actor) -> String {
    text(&actor::ActorJson::from(actor))
}

/// Reads the record under `key`.
///
/// # Errors
/// As [`RecordFault`] says.
pub fn decode_actor(key: &ActorKey, json: &[u8]) -> Result<Actor, RecordError> {
    let at = || key::actor(key);
    let actor = read::<actor::ActorJson>(json).and_then(actor::ActorJson::into_actor);
    let actor = actor.map_err(|cause| RecordError { key: at(), cause })?;
    belongs(actor.key == *key, at, || key::actor(&actor.key))?;
    Ok(actor)
}

/// A worker's record.
pub fn encode_worker(worker: &Worker) -> String {
    text(&worker::WorkerJson::from(worker))
}

/// Reads the record under `key`.
///
/// # Errors
/// As [`RecordFault`] says.
pub fn decode_worker(key: &WorkerKey, json: &[u8]) -> Result<Worker, RecordError> {
    let at = || key::worker(key);
    let worker = decode_any_worker(json).map_err(|cause| RecordError { key: at(), cause })?;
    belongs(worker.key == *key, at, || key::worker(&worker.key))?;
    Ok(worker)
}

/// Reads a worker's record that came without its key.
///
/// # Errors
/// As [`RecordFault`] says.
pub fn decode_any_worker(json: &[u8]) -> Result<Worker, RecordFault> {
    read::<worker::WorkerJson>(json).and_then(worker::WorkerJson::into_worker)
}

/// What is left of a worker's record once it is deleted: enough to name it.
pub fn encode_worker_key(key: &WorkerKey) -> String {
    text(&worker::WorkerJson::naming(key))
}

/// The worker that a record names, whatever else it says; `None` if it names none completely, as the
/// original does not when it deletes one.
///
/// # Errors
/// As [`RecordFault`] says.
pub fn decode_worker_key(json: &[u8]) -> Result<Option<WorkerKey>, RecordFault> {
    Ok(read::<worker::WorkerJson>(json)?.key())
}

/// A node's record.
pub fn encode_node(row: &NodeRow) -> String {
    text(&worker::NodeJson::from(row))
}

/// Reads the record of the node `name`.
///
/// # Errors
/// As [`RecordFault`] says.
pub fn decode_node(name: &Name, json: &[u8]) -> Result<NodeRow, RecordError> {
    let at = || key::node(name);
    let row = decode_any_node(json).map_err(|cause| RecordError { key: at(), cause })?;
    belongs(row.name == *name, at, || key::node(&row.name))?;
    Ok(row)
}

/// Reads a node's record that came without its key.
///
/// # Errors
/// As [`RecordFault`] says.
pub fn decode_any_node(json: &[u8]) -> Result<NodeRow, RecordFault> {
    Ok(read::<worker::NodeJson>(json)?.into())
}

/// What an attempt at deleting an actor has noted.
pub fn encode_grave(grave: &Grave) -> String {
    text(&grave::GraveJson::from(grave))
}

/// Reads the note of this name among [`key::GRAVES`].
///
/// # Errors
/// As [`RecordFault`] says.
pub fn decode_grave(name: &str, json: &[u8]) -> Result<Grave, RecordError> {
    let at = || format!("{}[{name}]", key::GRAVES);
    let grave = read::<grave::GraveJson>(json).and_then(grave::GraveJson::into_grave);
    let grave = grave.map_err(|cause| RecordError { key: at(), cause })?;
    let found = key::grave(&grave.actor, grave.incarnation, grave.version);
    belongs(found == name, at, || format!("{}[{found}]", key::GRAVES))?;
    Ok(grave)
}

/// An atespace's record. Its key says all that is in it.
pub fn encode_atespace(name: &Name) -> String {
    text(&worker::AtespaceJson { name: name.into() })
}

/// Adds a record to a list, which goes on without those that cannot be read.
pub(crate) fn keep<T>(list: &mut Vec<T>, record: Result<T, RecordError>) {
    match record {
        Ok(record) => list.push(record),
        Err(error) => tracing::warn!(key = error.key, cause = %error.cause, "record left out of a list"),
    }
}

fn text(record: &impl Serialize) -> String {
    serde_json::to_string(record).expect("every record is a JSON object with text keys")
}

/// A record that may say by which format it was written.
trait Versioned: DeserializeOwned {
    /// The format; `None` in records of the original.
    fn format(&self) -> Option<u64>;
}

fn read<T: Versioned>(json: &[u8]) -> Result<T, RecordFault> {
    // serde would take an array for an object whose names are left out.
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err(RecordFault::Corrupt("it is not a JSON object".into()));
    }
    match serde_json::from_slice::<T>(json) {
        Ok(record) => match record.format() {
            None | Some(VERSION) => Ok(record),
            Some(found) if found > VERSION => Err(RecordFault::Newer { found }),
            Some(found) => Err(RecordFault::Corrupt(format!("there is no format {found}"))),
        },
        // A newer format has fields that this one does not know: say so instead of naming one of them.
        Err(error) => match serde_json::from_slice::<Peek>(json) {
            Ok(Peek {
                holdfast: Format { v: found },
            }) if found > VERSION => Err(RecordFault::Newer { found }),
            _ => Err(RecordFault::Corrupt(error.to_string())),
        },
    }
}

#[derive(Deserialize)]
struct Peek {
    holdfast: Format,
}

#[derive(Deserialize)]
struct Format {
    v: u64,
}

fn missing(field: &str) -> RecordFault {
    RecordFault::Corrupt(format!("{field} is missing"))
}

fn belongs(
    at_home: bool,
    key: impl FnOnce() -> String,
    found: impl FnOnce() -> String,
) -> Result<(), RecordError> {
    if at_home {
        return Ok(());
    }
    Err(RecordError {
        key: key(),
        cause: RecordFault::Misplaced { found: found() },
    })
}
