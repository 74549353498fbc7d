use super::*;
use holdfast_core::catalog::{AssetFile, SandboxAssets, Scope};
use holdfast_core::effect::{Fenced, NodeFailure, NodeFailureKind, Place, Verb};
use holdfast_core::failure::Code;
use holdfast_core::id::{ActorKey, Incarnation, OpId, PodUid, ReplicaId};
use holdfast_core::node::{Done, Entry, Hosted, Pending, Sandbox};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::FileExt as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn op(seq: u64) -> OpId {
    OpId {
        replica: ReplicaId(0xfeed),
        seq,
    }
}

fn every_verb() -> Vec<Verb> {
    let file = AssetFile {
        url: "gs://b/runsc".into(),
        sha256: "ab".into(),
    };
    let assets = SandboxAssets {
        sandbox_class: "gvisor".into(),
        assets: [("amd64".into(), [("runsc".into(), file)].into())].into(),
    };
    vec![
        Verb::Run { assets },
        Verb::Restore {
            from: Place::External("gs://b/s".into()),
            scope: Scope::Full,
        },
        Verb::Checkpoint {
            to: Place::Local("s".into()),
            scope: Scope::Data,
        },
        Verb::Upload {
            name: "s".into(),
            to: "gs://b/s".into(),
        },
        Verb::Stop,
        Verb::Thaw,
    ]
}

fn every_result() -> Vec<Result<(), NodeFailure>> {
    let highest = Fence::MAX;
    let kinds = [
        NodeFailureKind::Crash,
        NodeFailureKind::SandboxGone,
        NodeFailureKind::StaleFence {
            of: Fenced::Actor,
            highest,
        },
        NodeFailureKind::StaleFence {
            of: Fenced::Worker,
            highest,
        },
        NodeFailureKind::Busy,
        NodeFailureKind::SessionOver,
        NodeFailureKind::NotBegun,
        NodeFailureKind::Occupied,
        NodeFailureKind::Unreachable,
        NodeFailureKind::Failed,
    ];
    let failure = |kind| NodeFailure {
        code: Code::DataLoss,
        message: "why".into(),
        kind,
    };
    std::iter::once(Ok(()))
        .chain(kinds.map(|kind| Err(failure(kind))))
        .collect()
}

fn kept(worker: &str, verb: Verb, sandbox: Sandbox, result: Result<(), NodeFailure>) -> Kept {
    let actor = ActorKey::new("team-a", "a1");
    Kept {
        worker: worker.into(),
        entry: Entry {
            highest: Fence(7),
            voided: Fence(9),
            hosted: Some(Hosted {
                actor: actor.clone(),
                incarnation: Incarnation(3),
                template: ("ns".into(), "t".into()),
                op: op(1),
                session: 2,
                sandbox,
            }),
            current: Some(Pending {
                op: op(2),
                actor: actor.clone(),
                incarnation: Incarnation(3),
                template: ("ns".into(), "t".into()),
                verb,
                captured: Some(vec!["checkpoint.img".into()]),
            }),
            last: Some(Done { op: op(1), result }),
        },
        fence: Some((actor, Incarnation(3), Fence(9))),
        forgotten: Forgotten::default(),
    }
}

#[test]
fn whatever_an_entry_says_is_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.redb");
    let sandboxes = [Sandbox::Busy, Sandbox::Running, Sandbox::Frozen, Sandbox::Stopped];
    let mut batch: Vec<Kept> = Vec::new();
    for (i, verb) in every_verb().into_iter().enumerate() {
        batch.push(kept(&format!("v{i}"), verb, sandboxes[i % 4], Ok(())));
    }
    for (i, result) in every_result().into_iter().enumerate() {
        batch.push(kept(&format!("r{i}"), Verb::Stop, sandboxes[i % 4], result));
    }
    batch.push(Kept {
        worker: "empty".into(),
        entry: Entry::default(),
        fence: None,
        forgotten: Forgotten::default(),
    });
    let journal = Journal::open(&path).unwrap();
    assert_eq!(journal.load().unwrap(), Memory::default());
    journal.write(&batch).unwrap();
    drop(journal);

    let memory = Journal::open(&path).unwrap().load().unwrap();
    assert_eq!(memory.entries.len(), batch.len());
    for kept in batch {
        assert_eq!(memory.entries[&kept.worker], kept.entry);
    }
    let key = (ActorKey::new("team-a", "a1"), Incarnation(3));
    assert_eq!(memory.fences, [(key, Fence(9))].into());
}

#[test]
fn what_is_forgotten_is_on_disk_no_more_and_the_highest_of_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.redb");
    let journal = Journal::open(&path).unwrap();
    let first = kept("old", Verb::Stop, Sandbox::Running, Ok(()));
    let second = Kept {
        worker: "new".into(),
        fence: Some((ActorKey::new("team-a", "a2"), Incarnation(4), Fence(1))),
        forgotten: Forgotten {
            lives: vec![(ActorKey::new("team-a", "a1"), Incarnation(3))],
            floor: Fence(9),
            workers: vec!["old".into()],
        },
        ..first.clone()
    };
    // A later write that forgets nothing takes nothing back.
    let third = Kept {
        fence: None,
        forgotten: Forgotten::default(),
        ..second.clone()
    };
    let mut expected = Memory::default();
    for kept in [&first, &second, &third] {
        journal.write(std::slice::from_ref(kept)).unwrap();
        expected.take(kept);
        assert_eq!(journal.load().unwrap(), expected);
    }
    assert_eq!(
        (expected.entries.len(), expected.fences.len(), expected.floor),
        (1, 1, Fence(9))
    );
    drop(journal);
    assert_eq!(Journal::open(&path).unwrap().load().unwrap(), expected);
}

#[test]
fn a_file_that_is_no_journal_of_ours_is_named_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.redb");
    std::fs::write(&path, b"something else").unwrap();
    let error = Journal::open(&path).map(|_| ()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, JournalError::Unusable { .. }), "{text}");
    assert!(
        text.contains(&path.display().to_string()) && text.contains("move the file away"),
        "{text}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), b"something else");
}

#[test]
fn a_journal_of_a_newer_holdfast_or_one_in_use_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.redb");
    let journal = Journal::open(&path).unwrap();
    let error = Journal::open(&path).map(|_| ()).unwrap_err();
    assert!(matches!(error, JournalError::InUse { .. }), "{error}");

    let write = journal.database.begin_write().unwrap();
    write
        .open_table(META)
        .unwrap()
        .insert(FORMAT_ROW, FORMAT + 1)
        .unwrap();
    write.commit().unwrap();
    drop(journal);
    let error = Journal::open(&path).map(|_| ()).unwrap_err();
    assert!(matches!(error, JournalError::Newer { found: 2, .. }), "{error}");
}

#[test]
fn a_row_that_cannot_be_read_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.redb");
    let journal = Journal::open(&path).unwrap();
    let write = journal.database.begin_write().unwrap();
    write
        .open_table(SLOTS)
        .unwrap()
        .insert("uid-1", b"{}".as_slice())
        .unwrap();
    write.commit().unwrap();
    let error = journal.load().unwrap_err();
    assert!(
        matches!(&error, JournalError::Row { row, .. } if row == "uid-1"),
        "{error}"
    );
}

#[test]
fn a_fence_that_nobody_can_have_counted_up_to_is_a_row_that_cannot_be_read() {
    let stale = r#"{"highest":1,"last":{"op":"0000000000000001-1","failure":{"code":9,"message":"",
                    "kind":{"staleActorFence":9223372036854775808}}}}"#;
    for (slot, fence) in [
        (r#"{"highest":9223372036854775808}"#, 1),
        (r#"{"highest":1,"voided":9223372036854775808}"#, 1),
        (stale, 1),
        (r#"{"highest":1}"#, Fence::MAX.0 + 1),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(&directory.path().join("journal.redb")).unwrap();
        let write = journal.database.begin_write().unwrap();
        let actor = entry::encode_actor(&ActorKey::new("team-a", "a1"), Incarnation(3));
        write
            .open_table(SLOTS)
            .unwrap()
            .insert("uid-1", slot.as_bytes())
            .unwrap();
        write
            .open_table(FENCES)
            .unwrap()
            .insert(actor.as_str(), fence)
            .unwrap();
        write.commit().unwrap();
        let error = journal.load().unwrap_err();
        assert!(matches!(error, JournalError::Row { .. }), "{error}");
        let says = "9223372036854775808 is no fence: the highest is 9223372036854775807";
        assert!(error.to_string().contains(says), "{error}");
    }
}

/// A file on a disk that is full from some moment on.
#[derive(Debug)]
struct Filling {
    file: std::fs::File,
    is_full: Arc<AtomicBool>,
}

impl Filling {
    /// A journal that has been opened, and then the disk was full.
    fn journal(path: &Path) -> Journal {
        drop(Journal::open(path).unwrap());
        let is_full = Arc::new(AtomicBool::new(false));
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let backend = Filling {
            file,
            is_full: is_full.clone(),
        };
        let database = Builder::new().create_with_backend(backend).unwrap();
        is_full.store(true, Ordering::Relaxed);
        Journal {
            path: path.into(),
            database,
        }
    }

    fn room(&self) -> std::io::Result<&std::fs::File> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        Ok(&self.file)
    }
}

impl redb::StorageBackend for Filling {
    fn len(&self) -> std::io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.room()?.set_len(len)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        self.room()?.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.room()?.write_all_at(data, offset)
    }
}

/// What becomes of an entry that is to be kept.
async fn outcomes(journal: Journal, fences: &[u64]) -> Vec<Result<(), String>> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let (told, mut results) = mpsc::unbounded_channel();
    let keeping = keep(journal, receiver, move |_, result| told.send(result).unwrap());
    let asking = async move {
        let mut all = Vec::new();
        for fence in fences {
            let entry = Entry {
                highest: Fence(*fence),
                ..Entry::default()
            };
            let kept = Kept {
                worker: "uid-1".into(),
                entry,
                fence: None,
                forgotten: Forgotten::default(),
            };
            sender.send((EffectId(*fence), kept)).unwrap();
            all.push(results.recv().await.unwrap());
        }
        all
    };
    futures_util::future::join(keeping, asking).await.1
}

#[tokio::test]
async fn a_disk_that_was_full_for_a_while_is_written_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.redb");
    let full = Filling::journal(&path);
    let results = outcomes(full, &[1, 2]).await;
    assert!(
        results[0]
            .as_ref()
            .is_err_and(|error| error.contains("journal.redb")),
        "{results:?}"
    );
    assert_eq!(results[1], Ok(()));
    let memory = Journal::open(&path).unwrap().load().unwrap();
    assert_eq!(memory.entries[&PodUid::from("uid-1")].highest, Fence(2));
}

#[tokio::test]
async fn a_journal_that_has_vanished_is_not_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.redb");
    let full = Filling::journal(&path);
    std::fs::remove_file(&path).unwrap();
    let results = outcomes(full, &[1, 2]).await;
    assert!(results.iter().all(Result::is_err), "{results:?}");
    assert!(!path.exists());
}

const CHILD: &str = "HOLDFAST_JOURNAL_OF_CHILD";

/// The other half of the next test: keeps one entry after another and says when each is durable, until
/// it is killed. On its own it does nothing.
#[tokio::test]
async fn child_that_keeps_until_it_is_killed() {
    let Some(path) = std::env::var_os(CHILD) else {
        return;
    };
    let journal = Journal::open(Path::new(&path)).unwrap();
    let (sender, receiver) = mpsc::unbounded_channel();
    let keep_next = move |fence: u64| {
        let entry = Entry {
            highest: Fence(fence),
            ..Entry::default()
        };
        let kept = Kept {
            worker: "uid-1".into(),
            entry,
            fence: None,
            forgotten: Forgotten::default(),
        };
        sender.send((EffectId(fence), kept)).unwrap();
    };
    keep_next(1);
    keep(journal, receiver, |effect, result| {
        result.unwrap();
        println!("\nkept {effect}");
        std::io::stdout().flush().unwrap();
        keep_next(effect.0 + 1);
    })
    .await;
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.redb");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "journal::tests::child_that_keeps_until_it_is_killed",
            "--nocapture",
        ])
        .env(CHILD, &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut told = 0;
    while told < 20 {
        let line = lines
            .next()
            .expect("the child goes on until it is killed")
            .unwrap();
        if let Some(number) = line.strip_prefix("kept ") {
            told = number.parse().unwrap();
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();

    let memory = Journal::open(&path).unwrap().load().unwrap();
    let highest = memory.entries[&PodUid::from("uid-1")].highest;
    assert!(highest >= Fence(told), "{highest} after {told} was acknowledged");
}
