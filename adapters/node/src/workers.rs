//! Finding the workers of this node, and noticing at once when one changes or dies.
//!
//! Each worker has a directory, named by its pod's UID, in which its ateom serves a socket. The directories are
//! looked through now and again; each ateom is watched on a connection of its own, whose end is how its death
//! is noticed. Whoever starts a worker may leave `worker.json` beside the socket, which says what the worker is
//! called. Kubernetes, and the original's controller, leave nothing there (compat.md 7.1): such a worker is known
//! by its UID alone, and the control plane knows the rest.
//!
//! Dead is one on whose socket nobody listens. One that listens and says nothing may live, and so may the sandbox
//! in it: its worker is silent, and not lost.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use holdfast_core::id::{Name, OpId, PodUid, WorkerKey};
use holdfast_core::node::{Alive, Described, Input, Sandbox};
use holdfast_core::worker::Duty;
use holdfast_rpc::holdfast_v1::worker_control_client::WorkerControlClient;
use holdfast_rpc::holdfast_v1::{SandboxState, WatchRequest, WorkerState};
use holdfast_runtime::driver::Inbox;
use holdfast_runtime::net::Socket;
use holdfast_runtime::tokio;
use holdfast_runtime::tokio::sync::watch;
use holdfast_runtime::tokio::task::spawn_blocking;
use holdfast_runtime::tokio::time::{sleep, timeout};
use holdfast_sandbox::layout::Layout;
use holdfast_sandbox::names::{ActorRef, Label};
use serde::Deserialize;
use tonic::{Code, Status};

use crate::ateom::Ateoms;
use crate::original;
use crate::tasks::Tasks;

/// How often the directories are looked through.
const SCAN_EVERY: Duration = Duration::from_millis(500);
/// How soon an ateom that went away is asked again.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// How soon one that is lost is asked again, unless it makes itself a new socket. Directories of pods that are no
/// more stay where they are, and there may be many.
const LOST_RETRY_AFTER: Duration = Duration::from_secs(10);
/// How often nobody listens, or nothing sensible is said, before the worker is lost: long enough for a hiccup,
/// and not for a restart.
const LOST_AFTER_TRIES: u32 = 5;
/// How long an ateom may take to say the first word.
const FIRST_WORD_WITHIN: Duration = Duration::from_secs(2);
/// How long the kernel may take to say whether anybody listens.
const DIALLED_WITHIN: Duration = Duration::from_secs(1);

/// What is known of a worker by its directory: what whoever started it says of it, in `worker.json`, and which
/// socket is there. Without that file, all names are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct WorkerFile {
    namespace: String,
    pool: String,
    pod: String,
    ip: String,
    /// The worker is on its way out.
    #[serde(default)]
    draining: bool,
    /// The socket of its ateom.
    #[serde(skip)]
    pub(crate) socket: Option<SocketMark>,
}

/// Tells one socket from another at the same place: each run of ateom makes its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SocketMark {
    pub(crate) inode: u64,
    /// When it was made.
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: i64,
}

impl SocketMark {
    fn of(metadata: &std::fs::Metadata) -> Option<SocketMark> {
        let mark = SocketMark {
            inode: metadata.ino(),
            seconds: metadata.ctime(),
            nanoseconds: metadata.ctime_nsec(),
        };
        metadata.file_type().is_socket().then_some(mark)
    }

    /// The run of ateom that has this socket, where ateom has no name for it.
    pub(crate) fn incarnation(&self) -> String {
        let SocketMark {
            inode,
            seconds,
            nanoseconds,
        } = self;
        format!("socket-{inode:x}-{seconds:x}-{nanoseconds:x}")
    }
}

/// Looks for workers until the machine has gone. Of those that were `known` before, it says at once which
/// are not there any more.
pub(crate) async fn discover(
    layout: Layout,
    ateoms: Arc<Ateoms>,
    inbox: Inbox<Input>,
    mut known: BTreeSet<PodUid>,
) {
    let mut watching: BTreeMap<PodUid, watch::Sender<WorkerFile>> = BTreeMap::new();
    let mut tasks = Tasks::default();
    let mut complaints = BTreeMap::new();
    loop {
        let here = layout.clone();
        let found = spawn_blocking(move || scan(&here)).await;
        let Ok(found) = found else { return };
        match found {
            Ok(found) => {
                complain(&mut complaints, &found);
                let found: BTreeMap<_, _> = found
                    .into_iter()
                    .filter_map(|(uid, file)| Some((uid, file.ok()?)))
                    .collect();
                watching.retain(|uid, _| found.contains_key(uid));
                for uid in std::mem::take(&mut known) {
                    if !found.contains_key(&uid) {
                        inbox.send(Input::WorkerLost(uid));
                    }
                }
                for (uid, file) in found {
                    if let Some(watched) = watching.get(&uid) {
                        watched.send_if_modified(|current| {
                            let is_new = *current != file;
                            *current = file;
                            is_new
                        });
                        continue;
                    }
                    let (sender, receiver) = watch::channel(file);
                    watching.insert(uid.clone(), sender);
                    let watcher = Watcher {
                        uid,
                        file: receiver,
                        ateoms: ateoms.clone(),
                        inbox: inbox.clone(),
                    };
                    tasks.spawn(watcher.run());
                }
            }
            Err(error) => tracing::warn!(%error, "cannot look for workers"),
        }
        sleep(SCAN_EVERY).await;
    }
}

type Found = BTreeMap<PodUid, Result<WorkerFile, String>>;

/// The workers in whose directories is a socket, or a file that says that there is a worker.
fn scan(layout: &Layout) -> io::Result<Found> {
    let mut found = Found::new();
    let directory = workers_dir(layout);
    let entries = match std::fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name();
        let Some(uid) = name
            .to_str()
            .and_then(|name| Label::parse("worker UID", name).ok())
        else {
            continue;
        };
        if let Some(file) = read(layout, &uid) {
            found.insert(uid.as_str().into(), file);
        }
    }
    Ok(found)
}

/// What a worker's directory says, if there is a worker.
fn read(layout: &Layout, uid: &Label) -> Option<Result<WorkerFile, String>> {
    let socket = std::fs::symlink_metadata(layout.worker_socket(uid));
    let socket = socket.ok().and_then(|metadata| SocketMark::of(&metadata));
    let path = layout.worker(uid).join("worker.json");
    let file = match std::fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            socket?;
            Ok(WorkerFile::default())
        }
        Err(error) => Err(error.to_string()),
        Ok(json) => serde_json::from_slice(&json).map_err(|error| error.to_string()),
    };
    let file = file.map(|file| WorkerFile { socket, ..file });
    Some(file.map_err(|error| format!("{}: {error}", path.display())))
}

/// Asks a worker's ateom what it has now. What its stream of changes brings may be older than the answer.
pub(crate) async fn look(ateoms: Arc<Ateoms>, uid: PodUid) -> Result<Described, String> {
    let label = Label::parse("worker UID", uid.as_str()).map_err(|error| error.to_string())?;
    let layout = ateoms.layout().clone();
    let file = spawn_blocking(move || read(&layout, &label)).await;
    let file = file.map_err(|error| error.to_string())?;
    let file = file.ok_or_else(|| format!("worker {uid} has no directory"))??;
    let state = ateoms.describe(&uid).await.map_err(|error| error.to_string())?;
    Ok(Described {
        duty: ateoms.duty(&uid, duty(&file)),
        ..described(&uid, &file, &state)?
    })
}

fn workers_dir(layout: &Layout) -> PathBuf {
    let any = Label::parse("worker UID", "x").expect("x is a label");
    let mut directory = layout.worker(&any);
    directory.pop();
    directory
}

/// One line in the log for each file that cannot be read, not one with every look.
fn complain(complaints: &mut BTreeMap<PodUid, String>, found: &Found) {
    complaints.retain(|uid, _| found.get(uid).is_some_and(Result::is_err));
    for (uid, file) in found {
        if let Err(error) = file
            && complaints.get(uid) != Some(error)
        {
            tracing::warn!(worker = %uid, error, "a worker cannot be used: its description cannot be read");
            complaints.insert(uid.clone(), error.clone());
        }
    }
}

/// Watches one worker.
struct Watcher {
    uid: PodUid,
    file: watch::Receiver<WorkerFile>,
    ateoms: Arc<Ateoms>,
    inbox: Inbox<Input>,
}

impl Watcher {
    /// Watches until the worker's directory is gone.
    async fn run(mut self) {
        // Tries in a row that were in vain; `None` once the worker counts as lost.
        let mut vain_tries = Some(0);
        loop {
            let (error, has_spoken) = match self.follow(&mut vain_tries).await {
                Ended::Directory => break,
                Ended::Stream(error) => (error, true),
                Ended::Silence(error) => (error, false),
            };
            tracing::debug!(worker = %self.uid, error = error.message(), "ateom is away");
            let is_silent = match self.pulse().await {
                Pulse::None => false,
                Pulse::Beats => !has_spoken,
                Pulse::Unknown => true,
            };
            if is_silent {
                vain_tries = Some(0);
                self.silent();
            } else {
                vain_tries = vain_tries.map(|tries| tries + 1);
                if vain_tries >= Some(LOST_AFTER_TRIES) {
                    vain_tries = None;
                    self.lost();
                }
            }
            self.pause(vain_tries).await;
        }
        self.lost();
        self.ateoms.forget(&self.uid);
    }

    /// Waits until it is worth while to ask again.
    async fn pause(&mut self, vain_tries: Option<u32>) {
        if vain_tries.is_some() {
            return sleep(RETRY_AFTER).await;
        }
        tokio::select! {
            biased;
            // That the directory is gone is noticed when it is asked.
            _ = self.file.changed() => {}
            () = sleep(LOST_RETRY_AFTER) => {}
        }
    }

    /// Whether anybody listens on ateom's socket, as the kernel knows without asking ateom.
    async fn pulse(&self) -> Pulse {
        let Ok(address) = self.ateoms.address(&self.uid) else {
            return Pulse::None;
        };
        match Socket::connect(&address, DIALLED_WITHIN).await {
            Ok(_) => Pulse::Beats,
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Pulse::None,
                // It has more callers waiting than it has room for, for instance.
                _ => Pulse::Unknown,
            },
        }
    }

    /// Follows what ateom says until it says no more.
    async fn follow(&mut self, vain_tries: &mut Option<u32>) -> Ended {
        if self.file.has_changed().is_err() {
            return Ended::Directory;
        }
        let channel = match self.ateoms.channel(&self.uid) {
            Ok(channel) => channel,
            Err(error) => return Ended::Stream(Status::internal(error.to_string())),
        };
        let mut client = WorkerControlClient::new(channel);
        let first = async {
            let mut stream = client.watch(WatchRequest {}).await?.into_inner();
            let state = stream.message().await?;
            Ok::<_, Status>((stream, state))
        };
        let (mut stream, mut state) = match timeout(FIRST_WORD_WITHIN, first).await {
            Ok(Ok((stream, Some(state)))) => (stream, state),
            Ok(Ok((_, None))) => return Ended::Stream(Status::unavailable("ateom says nothing")),
            Ok(Err(status)) if status.code() == Code::Unimplemented => {
                return self.follow_original(vain_tries).await;
            }
            Ok(Err(status)) => return Ended::Stream(status),
            Err(_) => return Ended::Silence(Status::deadline_exceeded("ateom is silent")),
        };
        loop {
            if let Err(error) = self.tell(&state) {
                return Ended::Stream(Status::internal(error));
            }
            *vain_tries = Some(0);
            tokio::select! {
                biased;
                changed = self.file.changed() => if changed.is_err() {
                    return Ended::Directory;
                },
                message = stream.message() => match message {
                    Ok(Some(next)) => state = next,
                    Ok(None) => return Ended::Stream(Status::unavailable("ateom ended the stream")),
                    Err(status) => return Ended::Stream(status),
                },
            }
        }
    }

    /// Follows the original's ateom, which says nothing of itself: what is known of it is told, and its death is
    /// the end of a connection.
    async fn follow_original(&mut self, vain_tries: &mut Option<u32>) -> Ended {
        let Ok(address) = self.ateoms.address(&self.uid) else {
            return Ended::Directory;
        };
        let file = self.file.borrow_and_update().clone();
        let Some(socket) = file.socket else {
            // It has made itself another one since the directory was looked through.
            return Ended::Stream(Status::unavailable("its socket is new"));
        };
        // It was there a moment ago. Should it be silent, that is told as of any other.
        let Ok(mut connection) = Socket::connect(&address, DIALLED_WITHIN).await else {
            return Ended::Silence(Status::unavailable("it takes no calls"));
        };
        let original = self.ateoms.original_at(&self.uid, socket).await;
        let mut states = original.states();
        loop {
            let state = states.borrow_and_update().clone();
            if let Err(error) = self.tell(&state) {
                return Ended::Stream(Status::internal(error));
            }
            *vain_tries = Some(0);
            tokio::select! {
                biased;
                changed = self.file.changed() => match changed {
                    Err(_) => return Ended::Directory,
                    Ok(()) if self.file.borrow_and_update().socket != Some(socket) => {
                        return Ended::Stream(Status::unavailable("ateom was restarted"));
                    }
                    Ok(()) => {}
                },
                changed = states.changed() => if changed.is_err() {
                    return Ended::Stream(Status::unavailable("ateom was restarted"));
                },
                () = original::end_of(&mut connection) => {
                    return Ended::Stream(Status::unavailable("ateom ended the connection"));
                }
            }
        }
    }

    fn tell(&self, state: &WorkerState) -> Result<(), String> {
        let file = self.file.borrow().clone();
        let described = Described {
            duty: self.ateoms.duty(&self.uid, duty(&file)),
            ..described(&self.uid, &file, state)?
        };
        self.ateoms.note(&self.uid, occupant(state)?);
        self.inbox.send(Input::Worker(self.uid.clone(), described));
        Ok(())
    }

    /// Whatever it has it may still have.
    fn silent(&self) {
        let known = unheard(&self.file.borrow());
        self.inbox.send(Input::WorkerSilent(self.uid.clone(), known));
    }

    fn lost(&self) {
        self.ateoms.note(&self.uid, None);
        self.inbox.send(Input::WorkerLost(self.uid.clone()));
    }
}

/// Why following an ateom ended.
enum Ended {
    /// The worker's directory is gone.
    Directory,
    /// The connection broke, or what was said makes no sense.
    Stream(Status),
    /// It has not said a word.
    Silence(Status),
}

/// Whether an ateom is alive, from outside.
enum Pulse {
    /// Somebody listens.
    Beats,
    /// Nobody does.
    None,
    /// It cannot be told.
    Unknown,
}

/// What is known of a worker without its ateom's word.
fn unheard(file: &WorkerFile) -> Described {
    Described {
        key: WorkerKey::new(file.namespace.as_str(), file.pool.as_str(), file.pod.as_str()),
        ip: Name::from(file.ip.as_str()),
        incarnation: Name::default(),
        duty: duty(file),
        sandbox: None,
    }
}

fn duty(file: &WorkerFile) -> Duty {
    if file.draining {
        Duty::Draining
    } else {
        Duty::Serving
    }
}

/// What ateom and whoever started it say together, in the core's words.
fn described(uid: &PodUid, file: &WorkerFile, state: &WorkerState) -> Result<Described, String> {
    if state.pod_uid != uid.as_str() {
        let other = &state.pod_uid;
        return Err(format!(
            "the ateom in the directory of worker {uid} says that it is {other:?}"
        ));
    }
    let sandbox = state.hosted.as_ref().and_then(|hosted| {
        let sandbox = match hosted.state() {
            SandboxState::Running => Sandbox::Running,
            SandboxState::Frozen => Sandbox::Frozen,
            // What has ended is not alive, whatever is left of it.
            SandboxState::Stopped => return None,
            SandboxState::Starting | SandboxState::Checkpointing | SandboxState::Unspecified => Sandbox::Busy,
        };
        Some(Alive {
            actor: hosted.actor_id.as_str().into(),
            op: operation(&hosted.operation_id),
            sandbox,
        })
    });
    let known = unheard(file);
    let duty = if state.draining {
        Duty::Draining
    } else {
        known.duty
    };
    Ok(Described {
        incarnation: state.ateom_incarnation.as_str().into(),
        duty,
        sandbox,
        ..known
    })
}

/// Whose sandbox is there, alive or not: whatever is left is in the way of the next.
fn occupant(state: &WorkerState) -> Result<Option<ActorRef>, String> {
    let hosted = state.hosted.as_ref();
    let actor = hosted.map(|hosted| {
        let (namespace, template) = (&hosted.actor_template_namespace, &hosted.actor_template_name);
        ActorRef::parse(namespace, template, &hosted.actor_id)?.within(Some(&hosted.atespace))
    });
    actor.transpose().map_err(|error| error.to_string())
}

fn operation(text: &str) -> Option<OpId> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_rpc::holdfast_v1::worker_state::Hosted;

    fn file() -> WorkerFile {
        serde_json::from_str(r#"{"namespace":"ns","pool":"p","pod":"w1","ip":"10.0.0.7"}"#).unwrap()
    }

    fn state(sandbox: SandboxState) -> WorkerState {
        WorkerState {
            ateom_incarnation: "1f".into(),
            pod_uid: "uid-1".into(),
            hosted: Some(Hosted {
                actor_template_namespace: "ns".into(),
                actor_template_name: "t".into(),
                actor_id: "a1".into(),
                state: sandbox as i32,
                operation_id: "000000000000feed-7".into(),
                atespace: "team-a".into(),
            }),
            exit_cause: String::new(),
            last_operation_id: "000000000000feed-8".into(),
            draining: false,
        }
    }

    #[test]
    fn what_ateom_says_is_told_in_the_cores_words() {
        for (sandbox, expected) in [
            (SandboxState::Running, Some(Sandbox::Running)),
            (SandboxState::Starting, Some(Sandbox::Busy)),
            (SandboxState::Checkpointing, Some(Sandbox::Busy)),
            (SandboxState::Frozen, Some(Sandbox::Frozen)),
            (SandboxState::Stopped, None),
        ] {
            let described = described(&"uid-1".into(), &file(), &state(sandbox)).unwrap();
            assert_eq!(described.key, WorkerKey::new("ns", "p", "w1"));
            assert_eq!(
                (described.ip.as_str(), described.incarnation.as_str()),
                ("10.0.0.7", "1f")
            );
            let alive = expected.map(|sandbox| Alive {
                actor: "a1".into(),
                op: "000000000000feed-7".parse().ok(),
                sandbox,
            });
            assert_eq!(described.sandbox, alive, "{sandbox:?}");
        }
        let told_to_stop = WorkerState {
            draining: true,
            ..state(SandboxState::Running)
        };
        let described = described(&"uid-1".into(), &file(), &told_to_stop).unwrap();
        assert_eq!(described.duty, Duty::Draining);
        assert!(described.sandbox.is_some());
        let stopped = occupant(&state(SandboxState::Stopped)).unwrap();
        let stopped = stopped.expect("what is left of it is still in the way");
        assert_eq!(stopped.to_string(), "team-a/ns:t:a1");
    }

    #[test]
    fn an_ateom_in_anothers_directory_is_not_believed() {
        let error = described(&"uid-2".into(), &file(), &state(SandboxState::Running)).unwrap_err();
        assert!(error.contains("uid-2") && error.contains("uid-1"), "{error}");
    }

    #[test]
    fn directories_with_a_socket_or_a_description_are_found() {
        let base = tempfile::tempdir().unwrap();
        let layout = Layout::new(base.path());
        assert!(scan(&layout).unwrap().is_empty(), "no directory yet");
        for (uid, json) in [
            (
                "uid-1",
                Some(r#"{"namespace":"n","pool":"p","pod":"w","ip":"::1","draining":true}"#),
            ),
            ("uid-2", Some("{")),
            ("uid-3", None),
            ("Not-A-Label", Some("{}")),
        ] {
            let directory = base.path().join("ateoms").join(uid);
            std::fs::create_dir_all(&directory).unwrap();
            if let Some(json) = json {
                std::fs::write(directory.join("worker.json"), json).unwrap();
            }
        }
        // As a pod of the original's controller has it, and what is no socket.
        for uid in ["uid-4", "uid-5"] {
            std::fs::create_dir_all(base.path().join("ateoms").join(uid)).unwrap();
        }
        let _listener =
            std::os::unix::net::UnixListener::bind(base.path().join("ateoms/uid-4/ateom.sock")).unwrap();
        std::fs::write(base.path().join("ateoms/uid-5/ateom.sock"), "").unwrap();
        let found = scan(&layout).unwrap();
        assert_eq!(
            found.keys().map(Name::as_str).collect::<Vec<_>>(),
            ["uid-1", "uid-2", "uid-4"]
        );
        let unnamed = found[&PodUid::from("uid-4")].as_ref().unwrap();
        assert!(unnamed.socket.is_some() && unnamed.pod.is_empty(), "{unnamed:?}");
        assert!(found[&PodUid::from("uid-1")].as_ref().unwrap().draining);
        let error = found[&PodUid::from("uid-2")].as_ref().unwrap_err();
        assert!(error.contains("worker.json"), "{error}");
    }

    /// A worker in whose directory somebody is about to listen.
    struct Hearing {
        base: tempfile::TempDir,
        queue: holdfast_runtime::driver::Queue<Input>,
        _file: watch::Sender<WorkerFile>,
        _task: Tasks,
    }

    impl Hearing {
        fn begin() -> Self {
            let base = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(base.path().join("ateoms/uid-1")).unwrap();
            let (inbox, queue) = holdfast_runtime::driver::inbox();
            let (sender, receiver) = watch::channel(file());
            let layout = Layout::new(base.path());
            let watcher = Watcher {
                uid: "uid-1".into(),
                file: receiver,
                ateoms: Arc::new(Ateoms::new(layout, Duration::from_secs(1), Duty::Serving)),
                inbox,
            };
            let mut task = Tasks::default();
            task.spawn(watcher.run());
            Self {
                base,
                queue,
                _file: sender,
                _task: task,
            }
        }

        fn socket(&self) -> PathBuf {
            self.base.path().join("ateoms/uid-1/ateom.sock")
        }
    }

    #[tokio::test]
    async fn an_ateom_whose_socket_is_not_there_or_has_nobody_behind_it_is_lost() {
        let mut hearing = Hearing::begin();
        let lost = Some(Input::WorkerLost("uid-1".into()));
        assert_eq!(hearing.queue.next().await, lost);

        let mut hearing = Hearing::begin();
        drop(std::os::unix::net::UnixListener::bind(hearing.socket()).unwrap());
        assert_eq!(hearing.queue.next().await, lost);
    }

    #[tokio::test]
    async fn an_ateom_that_listens_and_says_nothing_is_silent_until_nobody_listens_any_more() {
        let mut hearing = Hearing::begin();
        // As a process that is stopped: the kernel takes calls for it.
        let listener = std::os::unix::net::UnixListener::bind(hearing.socket()).unwrap();
        let silent = Some(Input::WorkerSilent("uid-1".into(), unheard(&file())));
        assert_eq!(hearing.queue.next().await, silent);
        drop(listener);
        let mut next = hearing.queue.next().await;
        while next == silent {
            next = hearing.queue.next().await;
        }
        assert_eq!(next, Some(Input::WorkerLost("uid-1".into())));
    }
}
