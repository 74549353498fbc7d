//! The suite on the embedded store, and what only a file can do.

mod samples;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use holdfast_core::actor::Snapshot;
use holdfast_core::effect::{StoreError, StoreOp, StoreReply};
use holdfast_core::id::ReplicaId;
use holdfast_core::time::Instant;
use holdfast_runtime::clock::Clock;
use holdfast_store::Store;
use holdfast_store::conformance::Subject;
use holdfast_store::embedded::{Embedded, FORMAT, OpenError};
use samples::{actor, put, token};
use tempfile::TempDir;

/// A clock that only tests move.
#[derive(Default)]
struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> Instant {
        Instant::from_micros(self.0.load(Ordering::SeqCst))
    }

    fn wall_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst) / 1000
    }
}

struct OnFile {
    store: Arc<dyn Store>,
    clock: Arc<Hand>,
    _directory: TempDir,
}

impl OnFile {
    async fn start() -> OnFile {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(Hand::default());
        let store = Embedded::open(directory.path().join("store"), clock.clone()).unwrap();
        OnFile {
            store: Arc::new(store),
            clock,
            _directory: directory,
        }
    }
}

impl Subject for OnFile {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    fn peer(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    fn pass(&self, time: Duration) -> BoxFuture<'_, ()> {
        self.clock
            .0
            .fetch_add(u64::try_from(time.as_micros()).unwrap(), Ordering::SeqCst);
        Box::pin(std::future::ready(()))
    }
}

mod suite {
    holdfast_store::conformance_suite!(super::OnFile::start());
}

fn open(directory: &TempDir) -> Result<Embedded, OpenError> {
    Embedded::open(directory.path().join("store"), Arc::new(Hand::default()))
}

/// The database behind a store that nobody has open.
fn raw(directory: &TempDir) -> redb::Database {
    redb::Database::create(directory.path().join("store")).unwrap()
}

const ACTORS: redb::TableDefinition<(&str, &str), &[u8]> = redb::TableDefinition::new("actors");
const GRAVES: redb::TableDefinition<(&str, &str, u64, u64), &[u8]> = redb::TableDefinition::new("graves");
const META: redb::TableDefinition<&str, u64> = redb::TableDefinition::new("holdfast");

#[tokio::test]
async fn what_was_written_is_there_after_a_restart_and_leases_and_sessions_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let (first, replica) = (actor("a"), ReplicaId(1));
    let ttl = Duration::from_secs(60);
    let acquire = |token| StoreOp::AcquireLease {
        key: first.key.clone(),
        token,
        ttl,
        steal: None,
    };
    let store = open(&directory).unwrap();
    for op in [
        put(&first, None, None),
        StoreOp::CreateAtespace("team-a".into()),
        StoreOp::PutSession { replica, ttl },
    ] {
        assert_eq!(store.execute(op).await, Ok(StoreReply::Done));
    }
    store.execute(acquire(token(1))).await.unwrap();
    drop(store);
    let store = open(&directory).unwrap();
    assert_eq!(
        store.execute(StoreOp::GetAtespace("team-a".into())).await,
        Ok(StoreReply::Exists)
    );
    let acquired = StoreReply::Acquired(Some(Box::new(first.clone())));
    assert_eq!(store.execute(acquire(token(2))).await, Ok(acquired));
    assert_eq!(
        store.execute(StoreOp::GetSession(replica)).await,
        Ok(StoreReply::Missing)
    );
}

#[test]
fn a_store_that_is_open_cannot_be_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).unwrap();
    let Err(error) = open(&directory) else {
        panic!("two at once")
    };
    assert!(matches!(&error, OpenError::InUse { path } if path == store.path()));
    assert!(
        error.to_string().contains("another process has this store open"),
        "{error}"
    );
}

#[test]
fn a_store_of_a_newer_format_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(&directory).unwrap());
    {
        let write = raw(&directory).begin_write().unwrap();
        write
            .open_table(META)
            .unwrap()
            .insert("format", FORMAT + 1)
            .unwrap();
        write.commit().unwrap();
    }
    assert!(matches!(open(&directory), Err(OpenError::Newer { found, .. }) if found == FORMAT + 1));
}

#[tokio::test]
async fn a_store_from_before_deleted_actors_left_notes_has_none_and_takes_them() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(&directory).unwrap());
    {
        let write = raw(&directory).begin_write().unwrap();
        assert!(write.delete_table(GRAVES).unwrap());
        write.commit().unwrap();
    }
    let store = open(&directory).unwrap();
    let list = || StoreOp::ListGraves {
        after: None,
        limit: 10,
    };
    let none = StoreReply::Graves {
        graves: vec![],
        next: None,
    };
    assert_eq!(store.execute(list()).await, Ok(none));
    let mut gone = actor("a");
    gone.latest = Some(Snapshot::External("s3://b/1".into()));
    let grave = gone.grave().unwrap();
    let noted = store.execute(StoreOp::PutGrave(Box::new(grave.clone()))).await;
    assert_eq!(noted, Ok(StoreReply::Done));
    let one = StoreReply::Graves {
        graves: vec![grave],
        next: None,
    };
    assert_eq!(store.execute(list()).await, Ok(one));
}

#[test]
fn what_is_no_store_is_named_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    for text in ["not a database at all".repeat(1000), "x".into()] {
        std::fs::write(&path, &text).unwrap();
        let Err(error @ OpenError::Unusable { .. }) = open(&directory) else {
            panic!("opened")
        };
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
    std::fs::remove_file(&path).unwrap();
    {
        let write = raw(&directory).begin_write().unwrap();
        write.open_table(ACTORS).unwrap();
        write.commit().unwrap();
    }
    assert!(matches!(open(&directory), Err(OpenError::Foreign { .. })));
    let missing = Embedded::open(directory.path().join("no/such/store"), Arc::new(Hand::default()));
    assert!(matches!(missing, Err(OpenError::Io { .. })));
}

#[test]
fn only_its_owner_can_read_a_store() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).unwrap();
    assert_eq!(
        std::fs::metadata(store.path()).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_named_and_harms_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).unwrap();
    for name in ["a", "b", "c"] {
        store.execute(put(&actor(name), None, None)).await.unwrap();
    }
    drop(store);
    {
        let write = raw(&directory).begin_write().unwrap();
        write
            .open_table(ACTORS)
            .unwrap()
            .insert(("team-a", "b"), b"{".as_slice())
            .unwrap();
        write.commit().unwrap();
    }
    let store = open(&directory).unwrap();
    let broken = actor("b");
    let acquire = StoreOp::AcquireLease {
        key: broken.key.clone(),
        token: token(1),
        ttl: Duration::from_secs(9),
        steal: None,
    };
    let writes = [put(&broken, Some(1), None), put(&broken, None, None)];
    for op in [StoreOp::GetActor(broken.key.clone()), acquire]
        .into_iter()
        .chain(writes)
    {
        let Err(StoreError::Refused(text)) = store.execute(op).await else {
            panic!("not refused")
        };
        assert!(
            text.starts_with("record actor:team-a:b: cannot be read"),
            "{text}"
        );
    }
    let renew = StoreOp::RenewLease {
        key: broken.key,
        token: token(1),
        ttl: Duration::from_secs(9),
    };
    assert_eq!(
        store.execute(renew).await,
        Ok(StoreReply::NotOwner),
        "what is refused has no effect"
    );
    let list = StoreOp::ListActors {
        atespace: None,
        after: None,
        limit: 10,
    };
    let Ok(StoreReply::Actors { actors, next: None }) = store.execute(list).await else {
        panic!("no list")
    };
    assert_eq!(actors, [actor("a"), actor("c")]);
    let others = [put(&actor("a"), Some(1), None), put(&actor("b0"), None, None)].map(|op| store.execute(op));
    assert_eq!(
        join_all(others).await,
        [Ok(StoreReply::Done), Ok(StoreReply::Done)]
    );
}

#[tokio::test]
async fn a_thousand_writes_at_once_are_all_answered() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).unwrap();
    let writes = (0..1000).map(|n| store.execute(put(&actor(&format!("a{n}")), None, None)));
    assert!(
        join_all(writes)
            .await
            .iter()
            .all(|answer| *answer == Ok(StoreReply::Done))
    );
    let list = StoreOp::ListActors {
        atespace: None,
        after: None,
        limit: 2000,
    };
    let Ok(StoreReply::Actors { actors, .. }) = store.execute(list).await else {
        panic!("no list")
    };
    assert_eq!(actors.len(), 1000);
}

const PAGE_BYTES: usize = 4096;
const MANY: usize = 300;

async fn count(store: &Embedded) -> usize {
    let list = StoreOp::ListActors {
        atespace: None,
        after: None,
        limit: 10_000,
    };
    match store.execute(list).await {
        Ok(StoreReply::Actors { actors, next: None }) => actors.len(),
        other => panic!("{other:?}"),
    }
}

/// One page after the other is overwritten: the store is as it was, or refused by its name, or what could be
/// saved is there once that has been told. It is never a panic, which would fail this test.
#[tokio::test]
async fn a_page_that_was_overwritten_is_told_of_before_the_store_is_used() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).unwrap();
    let path = store.path().to_owned();
    for index in 0..MANY {
        store
            .execute(put(&actor(&format!("a{index}")), None, None))
            .await
            .unwrap();
    }
    drop(store);
    let whole = std::fs::read(&path).unwrap();
    let mut refused = 0;
    for page in 0..whole.len() / PAGE_BYTES {
        let mut damaged = whole.clone();
        let (from, to) = (page * PAGE_BYTES + 64, page * PAGE_BYTES + 192);
        damaged[from..to].iter_mut().for_each(|byte| *byte ^= 0x5a);
        std::fs::write(&path, damaged).unwrap();
        match open(&directory) {
            Ok(store) => assert_eq!(count(&store).await, MANY, "page {page}"),
            Err(error) => {
                refused += 1;
                let told = error.to_string();
                assert!(told.starts_with(&path.display().to_string()), "{told}");
                assert!(told.contains("restore it from a backup"), "{told}");
                if matches!(error, OpenError::Repaired { .. }) {
                    assert!(count(&open(&directory).unwrap()).await <= MANY, "page {page}");
                }
            }
        }
    }
    assert!(refused > 10, "only {refused} pages made a difference");
}

#[test]
fn a_store_that_was_cut_to_nothing_is_not_taken_for_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    drop(open(&directory).unwrap());
    std::fs::write(&path, "").unwrap();
    let Err(error @ OpenError::Empty { .. }) = open(&directory) else {
        panic!("it was")
    };
    let told = error.to_string();
    assert!(
        told.contains("store: is empty") && told.contains("restore it"),
        "{told}"
    );
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0, "it is left as it is");
}

#[test]
fn a_store_that_was_cut_short_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    drop(open(&directory).unwrap());
    let whole = std::fs::read(&path).unwrap();
    for length in [1, PAGE_BYTES, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let Err(error) = open(&directory) else {
            panic!("{length} of {} bytes were opened", whole.len())
        };
        assert!(
            error.to_string().starts_with(&path.display().to_string()),
            "{error}"
        );
    }
}
