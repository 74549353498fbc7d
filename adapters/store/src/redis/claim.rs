//! Whether a database is ours: nothing is written to one that is somebody else's.
//!
//! A database of ours has the key [`MARK`]. One without it is taken if it is empty, or if what is in it looks like
//! records of the original or of an earlier Holdfast.

use std::sync::{Arc, Mutex, PoisonError};

use ::redis::{ErrorKind, RedisError, ServerErrorKind, Value, cmd};
use holdfast_core::effect::StoreError;
use serde::Deserialize;

use super::Fault;
use super::deadline::Deadline;
use super::link::Unanswered;
use super::servers::{Question, Servers, first};
use crate::key;

/// The key that says whose a database is.
const MARK: &str = "holdfast";
/// How databases are laid out that this build can use.
const LAYOUT: u64 = 1;
/// How many keys are looked at, about, on each server.
const SAMPLE: usize = 100;
/// How many steps a server may take to find any.
const SAMPLE_STEPS_MAX: usize = 100;

/// What has been found out.
#[derive(Default)]
pub(super) struct Claim {
    /// The run of the server that was asked; in a cluster the first one's.
    found: Mutex<Option<Arc<str>>>,
}

#[derive(Deserialize)]
struct Mark {
    v: u64,
}

impl Claim {
    /// Passes if the database is ours, which it is made if it may be.
    pub(super) async fn check(&self, servers: &Servers, deadline: Deadline) -> Result<(), Fault> {
        // A cluster is one thing, whichever of its servers come and go. A server may be replaced by another.
        let run = match servers.topology(deadline).await? {
            Some(_) => "".into(),
            None => servers.seed().live(deadline).await?.run,
        };
        if self.found().as_ref() == Some(&run) {
            return Ok(());
        }
        if !is_marked(servers, deadline).await? {
            look_around(servers, deadline).await?;
            mark(servers, deadline).await?;
        }
        *self.found() = Some(run);
        Ok(())
    }

    fn found(&self) -> std::sync::MutexGuard<'_, Option<Arc<str>>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) async fn is_marked(servers: &Servers, deadline: Deadline) -> Result<bool, Fault> {
    let question = Question {
        key: MARK,
        is_write: false,
        command: &|_| cmd("GET").arg(MARK).take(),
    };
    let text: Option<Vec<u8>> = match servers.ask(&question, deadline).await {
        Ok(answered) => ::redis::from_redis_value(answered.value).map_err(RedisError::from)?,
        // Whoever may use our keys only can do no harm to others.
        Err(Fault::Store(StoreError::Unavailable(text)))
            if text.contains("NOPERM") || text.contains("NoPerm") =>
        {
            return Ok(true);
        }
        Err(fault) => return Err(fault),
    };
    let Some(text) = text else { return Ok(false) };
    match serde_json::from_slice(&text) {
        Ok(Mark { v: LAYOUT }) => Ok(true),
        Ok(Mark { v }) if v > LAYOUT => Err(refused(
            servers,
            &format!(
                "is laid out in format {v} by a newer Holdfast; this one knows formats up to {LAYOUT}: upgrade it"
            ),
        )),
        _ => Err(refused(
            servers,
            &format!(
                "its key {MARK:?} is not the mark of a Holdfast; name another database, or delete the key if it is \
             nobody's"
            ),
        )),
    }
}

/// Refuses a database in which there are keys that are nobody's we know.
async fn look_around(servers: &Servers, deadline: Deadline) -> Result<(), Fault> {
    let links = match servers.topology(deadline).await? {
        Some(topology) => topology
            .masters()
            .iter()
            .map(|master| servers.node(&master.address))
            .collect(),
        None => vec![servers.seed().clone()],
    };
    for link in links {
        let live = link.live(deadline).await?;
        let mut cursor = 0_u64;
        for _ in 0..SAMPLE_STEPS_MAX {
            let scan = cmd("SCAN").arg(cursor).arg("COUNT").arg(SAMPLE).take();
            let replies = link.send_on(&live, deadline, &[scan]).await?;
            let [shown] = match first(replies) {
                Ok(shown) => shown,
                Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) => break,
                Err(error) => return Err(link.blame(&error).into()),
            };
            let (next, keys): (u64, Vec<Vec<u8>>) =
                ::redis::from_redis_value(shown).map_err(RedisError::from)?;
            if let Some(foreign) = keys.iter().find(|key| !is_known(key)) {
                return Err(refused(
                    servers,
                    &format!(
                        "holds keys that are not Holdfast's, such as {:?}, so that nothing is written to it; name another \
                     database or server. If they are to share it, say so there: SET {MARK} '{{\"v\":{LAYOUT}}}'",
                        String::from_utf8_lossy(foreign)
                    ),
                ));
            }
            if next == 0 || !keys.is_empty() {
                break;
            }
            cursor = next;
        }
    }
    Ok(())
}

async fn mark(servers: &Servers, deadline: Deadline) -> Result<(), Fault> {
    let question = Question {
        key: MARK,
        is_write: true,
        command: &|_| {
            let mut set = cmd("SET");
            set.arg(MARK).arg(format!("{{\"v\":{LAYOUT}}}")).arg("NX").take()
        },
    };
    match servers.ask(&question, deadline).await {
        Ok(answered) => match answered.value {
            // Somebody else was faster, and may be another version.
            Value::Nil => match is_marked(servers, deadline).await? {
                true => Ok(()),
                false => Err(StoreError::Unavailable("the mark of the database came and went".into()).into()),
            },
            _ => Ok(()),
        },
        Err(fault) => Err(fault),
    }
}

fn is_known(found: &[u8]) -> bool {
    let Ok(found) = str::from_utf8(found) else {
        return false;
    };
    key::parse_actor(found).is_some()
        || key::parse_worker(found).is_some()
        || key::parse_atespace(found).is_some()
        || key::parse_node(found).is_some()
        || key::is_session(found)
        || found == key::GRAVES
        || found == MARK
        || found.starts_with("lock:actor:")
        || found.starts_with("lease:{actor:")
}

fn refused(servers: &Servers, why: &str) -> Fault {
    servers.seed().refused(why).into()
}

impl From<Unanswered> for Fault {
    fn from(unanswered: Unanswered) -> Fault {
        Fault::Store(unanswered.into())
    }
}
