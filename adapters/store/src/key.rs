//! Where records are: the original's layout, and ours beside it.
//!
//! | key | value | whose |
//! |---|---|---|
//! | `actor:<atespace>:<name>` | actor record | the original's |
//! | `worker:<namespace>:<pool>:<pod>` | worker record | the original's |
//! | `atespace:<name>` | atespace record | the original's |
//! | `lease:{actor:<atespace>:<name>}` | token of the acquisition | ours |
//! | `node:<name>` | node record | ours |
//! | `session:<16 hexadecimal digits>` | `1` | ours |
//! | `holdfast` | `{"v":1}`: that the database is ours | ours |
//! | `graves` | a hash: what deleted actors have left behind, by `<atespace>:<name>:<incarnation>:<version>` | ours |
//!
//! The braces make a Redis cluster keep an actor and its lease in one slot, so that one script may touch
//! both. The original's locks are `lock:actor:<name>`, without the atespace: two actors of one name in
//! two atespaces block each other there (scenario S09), and an old lock means nothing here.
//!
//! The notes of deleted actors are one hash, so that to look for them costs what they are and not what else is
//! stored. In a cluster it has a slot of its own: of an actor that is deleted just before a failover the note
//! alone may be lost, and its snapshots stay behind.

use holdfast_core::effect::{NodeRow, StoreError, StoreOp};
use holdfast_core::id::{ActorKey, Incarnation, Name, ReplicaId, Version, WorkerKey};

/// What all actors' keys begin with.
pub const ACTORS: &str = "actor:";
/// What all workers' keys begin with.
pub const WORKERS: &str = "worker:";
/// What all atespaces' keys begin with.
pub const ATESPACES: &str = "atespace:";
/// What all nodes' keys begin with.
pub const NODES: &str = "node:";
/// The key of all notes of deleted actors.
pub const GRAVES: &str = "graves";

/// A name that would make one key look like another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {what} \"{name}\" cannot be part of a key: it must not be empty, nor hold any of \":{{}}\"")]
pub struct BadName {
    /// Whose name it is.
    pub what: &'static str,
    /// The name.
    pub name: Name,
}

impl From<BadName> for StoreError {
    fn from(bad: BadName) -> StoreError {
        StoreError::Refused(bad.to_string())
    }
}

/// The key of an actor's record.
pub fn actor(key: &ActorKey) -> String {
    format!("{ACTORS}{}:{}", key.atespace, key.name)
}

/// The key of an actor's lease.
pub fn lease(key: &ActorKey) -> String {
    format!("lease:{{{}}}", actor(key))
}

/// The key of a worker's record.
pub fn worker(key: &WorkerKey) -> String {
    format!("{WORKERS}{}:{}:{}", key.namespace, key.pool, key.pod)
}

/// The key of an atespace's record.
pub fn atespace(name: &Name) -> String {
    format!("{ATESPACES}{name}")
}

/// The key of a node's record.
pub fn node(name: &Name) -> String {
    format!("{NODES}{name}")
}

/// The key of a replica's session.
pub fn session(replica: ReplicaId) -> String {
    format!("session:{:016x}", replica.0)
}

/// Whether this is the key of some replica's session.
pub fn is_session(key: &str) -> bool {
    let digits = key.strip_prefix("session:").unwrap_or_default();
    digits.len() == 16
        && digits
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The name of the note that an attempt at deleting an actor has left.
pub fn grave(key: &ActorKey, incarnation: Incarnation, version: Version) -> String {
    grave_named(key.atespace.as_str(), key.name.as_str(), incarnation.0, version.0)
}

/// The same, from the parts of a row, whatever they are.
pub fn grave_named(atespace: &str, name: &str, incarnation: u64, version: u64) -> String {
    format!("{atespace}:{name}:{incarnation}:{version}")
}

/// The attempt whose note has this name.
pub fn parse_grave(name: &str) -> Option<(ActorKey, Incarnation, Version)> {
    let (actor, incarnation, version) = match split(name)?[..] {
        [atespace, actor, incarnation, version] => (
            ActorKey::new(atespace, actor),
            Incarnation(incarnation.parse().ok()?),
            Version::try_from(version.parse::<u64>().ok()?).ok()?,
        ),
        _ => return None,
    };
    let is_ours = grave(&actor, incarnation, version) == name;
    is_ours.then_some((actor, incarnation, version))
}

/// The actor whose record is under `key`.
pub fn parse_actor(key: &str) -> Option<ActorKey> {
    match split(key.strip_prefix(ACTORS)?)?[..] {
        [atespace, name] => Some(ActorKey::new(atespace, name)),
        _ => None,
    }
}

/// The worker whose record is under `key`.
pub fn parse_worker(key: &str) -> Option<WorkerKey> {
    match split(key.strip_prefix(WORKERS)?)?[..] {
        [namespace, pool, pod] => Some(WorkerKey::new(namespace, pool, pod)),
        _ => None,
    }
}

/// The atespace whose record is under `key`.
pub fn parse_atespace(key: &str) -> Option<Name> {
    parse_single(key, ATESPACES)
}

/// The node whose record is under `key`.
pub fn parse_node(key: &str) -> Option<Name> {
    parse_single(key, NODES)
}

/// Refuses an operation that speaks of a name which no key can carry (scenario S82).
///
/// # Errors
/// The first such name.
pub fn check(op: &StoreOp) -> Result<(), BadName> {
    match op {
        StoreOp::GetActor(key)
        | StoreOp::DeleteActor { key, .. }
        | StoreOp::AcquireLease { key, .. }
        | StoreOp::RenewLease { key, .. }
        | StoreOp::ReleaseLease { key, .. }
        | StoreOp::DropGrave { key, .. } => check_actor(key),
        StoreOp::PutGrave(grave) => check_actor(&grave.actor),
        StoreOp::PutActor { actor, .. } => check_actor(&actor.key),
        StoreOp::ListActors {
            atespace: Some(name), ..
        }
        | StoreOp::CreateAtespace(name)
        | StoreOp::GetAtespace(name)
        | StoreOp::DeleteAtespace(name) => check_name("atespace", name),
        StoreOp::GetWorker(key) | StoreOp::DeleteWorker { key, .. } => check_worker(key),
        StoreOp::PutWorker { worker, .. } => check_worker(&worker.key),
        StoreOp::PutNode(NodeRow { name, .. }) | StoreOp::LapseNode(NodeRow { name, .. }) => {
            check_name("node", name)
        }
        StoreOp::ListActors { atespace: None, .. }
        | StoreOp::ListWorkers
        | StoreOp::ListNodes
        | StoreOp::ListAtespaces
        | StoreOp::ListGraves { .. }
        | StoreOp::PutSession { .. }
        | StoreOp::GetSession(_)
        | StoreOp::DropSession(_) => Ok(()),
    }
}

fn check_actor(key: &ActorKey) -> Result<(), BadName> {
    check_name("atespace", &key.atespace)?;
    check_name("actor", &key.name)
}

fn check_worker(key: &WorkerKey) -> Result<(), BadName> {
    check_name("namespace", &key.namespace)?;
    check_name("pool", &key.pool)?;
    check_name("pod", &key.pod)
}

fn check_name(what: &'static str, name: &Name) -> Result<(), BadName> {
    if is_plain(name.as_str()) {
        Ok(())
    } else {
        Err(BadName {
            what,
            name: name.clone(),
        })
    }
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.contains([':', '{', '}'])
}

fn split(rest: &str) -> Option<Vec<&str>> {
    let parts: Vec<&str> = rest.split(':').collect();
    parts.iter().all(|part| is_plain(part)).then_some(parts)
}

fn parse_single(key: &str, prefix: &str) -> Option<Name> {
    let name = key.strip_prefix(prefix)?;
    is_plain(name).then(|| Name::from(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_originals_and_read_back() {
        let id = ActorKey::new("team-a", "id1");
        assert_eq!(actor(&id), "actor:team-a:id1");
        assert_eq!(lease(&id), "lease:{actor:team-a:id1}");
        assert_eq!(parse_actor("actor:team-a:id1"), Some(id));
        let pod = WorkerKey::new("ns", "pool", "pod");
        assert_eq!(worker(&pod), "worker:ns:pool:pod");
        assert_eq!(parse_worker("worker:ns:pool:pod"), Some(pod));
        assert_eq!(parse_atespace(&atespace(&"a".into())), Some("a".into()));
        assert_eq!(parse_node(&node(&"n".into())), Some("n".into()));
        assert_eq!(session(ReplicaId(0xbee)), "session:0000000000000bee");
        assert!(is_session("session:0000000000000bee") && !is_session("session:ann"));
        let note = (ActorKey::new("a", "b"), Incarnation(u64::MAX), Version(7));
        let name = grave(&note.0, note.1, note.2);
        assert_eq!(name, "a:b:18446744073709551615:7");
        assert_eq!(parse_grave(&name), Some(note));
    }

    #[test]
    fn keys_of_another_shape_are_nobodys() {
        for foreign in [
            "actor:a",
            "actor:a:b:c",
            "actor::b",
            "actor:a:",
            "worker:a:b",
            "lease:{actor:a:b}",
            "",
        ] {
            assert_eq!(parse_actor(foreign), None, "{foreign}");
            assert_eq!(parse_worker(foreign), None, "{foreign}");
        }
        for foreign in [
            "a:b:1",
            "a:b:+1:1",
            "a:b:01:1",
            "a:b:1:",
            "a::1:1",
            "a:b:1:9223372036854775808",
            "a:b:1:18446744073709551616",
        ] {
            assert_eq!(parse_grave(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_name_that_would_alias_another_key_is_named_in_the_refusal() {
        let bad = check(&StoreOp::GetActor(ActorKey::new("a", "b:c"))).unwrap_err();
        assert_eq!(
            bad.to_string(),
            "the actor \"b:c\" cannot be part of a key: it must not be empty, nor hold any of \":{}\""
        );
        assert!(check(&StoreOp::GetWorker(WorkerKey::new("a", "", "c"))).is_err());
        assert!(check(&StoreOp::GetActor(ActorKey::new("a", "b"))).is_ok());
    }
}
