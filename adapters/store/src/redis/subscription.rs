//! What happens to workers and nodes, as the servers announce it.
//!
//! Workers are announced on the original's channel in the original's words. Nodes, and actors that come and go, are
//! announced on channels of our own, which the original does not listen to. An announcement is part of the script that
//! writes, so that the order of announcements is the order of writes.
//!
//! **In a cluster** every master is listened to, on a connection of its own, and only for what was written there.
//! (A cluster passes announcements on to all its servers, but on links that lose what does not fit; so an
//! announcement says which server it was made on, and its echoes elsewhere are passed over.)
//!
//! **Nothing is missed without being noticed.** A server puts what it announces on the connections of those who
//! listen before it answers the writer, and cuts the connection of one who is too slow; pings find a connection
//! that is dead. So a connection that stands has missed nothing, as if every announcement on it were numbered. When one
//! ends everybody who watches is told to list again once we listen again. In a cluster each ping asks the server for
//! its topology: where that has changed, something may have been announced by a server that was not listened to, or
//! on two connections in another order than it was written in, and everybody is told to list again. The answers
//! come behind all that was announced before, on each connection: whoever lists then has missed nothing.

use std::future::Future;
use std::sync::{Arc, Weak};

use ::redis::{AsyncConnectionConfig, Cmd, Msg, ProtocolVersion, PushInfo, PushKind, Value, cmd};
use futures_util::future::try_join_all;
use holdfast_core::effect::{StoreError, StoreEvent};
use holdfast_core::id::{ActorKey, WorkerKey};
use holdfast_runtime::net::Address;
use holdfast_runtime::tokio;
use holdfast_runtime::tokio::sync::Notify;
use holdfast_runtime::tokio::task::JoinHandle;
use serde::{Deserialize, Serialize};

use super::Timing;
use super::deadline::{Deadline, Pauses};
use super::directory::{Directory, Presence};
use super::link::{Live, dial};
use super::servers::Servers;
use super::topology::Topology;
use crate::key;
use crate::record::{self, RecordFault};
use crate::watch::Hub;

/// Where workers are announced: the original's channel.
pub(super) const WORKER_CHANGES: &str = "worker-changes";

/// Where the nodes are announced that are written on this server of a cluster, or on the server that stands alone.
pub(super) fn node_changes(origin: &str) -> String {
    match origin {
        "" => NODE_CHANGES.to_owned(),
        origin => format!("{NODE_CHANGES}:{origin}"),
    }
}

const NODE_CHANGES: &str = "holdfast-changes";

/// Where actors are announced that come to be on this server, or are deleted.
pub(super) fn actor_changes(origin: &str) -> String {
    match origin {
        "" => ACTOR_CHANGES.to_owned(),
        origin => format!("{ACTOR_CHANGES}:{origin}"),
    }
}

const ACTOR_CHANGES: &str = "holdfast-changes-of-actors";

/// The announcement of an actor: what has become of it, and its key.
pub(super) fn actor(key: &ActorKey, presence: Presence) -> String {
    let sign = match presence {
        Presence::There => '+',
        Presence::Gone => '-',
    };
    format!("{sign}{}", key::actor(key))
}

fn read_actor(payload: &[u8]) -> Option<(ActorKey, Presence)> {
    let (sign, path) = str::from_utf8(payload).ok()?.split_at_checked(1)?;
    let presence = match sign {
        "+" => Presence::There,
        "-" => Presence::Gone,
        _ => return None,
    };
    Some((key::parse_actor(path)?, presence))
}

const CREATED: u8 = 0;
const UPDATED: u8 = 1;
const DELETED: u8 = 2;

#[derive(Serialize, Deserialize)]
struct Announcement {
    t: u8,
    w: String,
    /// The server of the cluster on which it was written.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    n: Option<String>,
}

/// The announcement of a worker's record.
pub(super) fn written(created: bool, record: &str, origin: &str) -> String {
    announcement(if created { CREATED } else { UPDATED }, record.into(), origin)
}

/// The announcement that a worker is gone.
pub(super) fn gone(key: &WorkerKey, origin: &str) -> String {
    announcement(DELETED, record::encode_worker_key(key), origin)
}

fn announcement(t: u8, w: String, origin: &str) -> String {
    let n = (!origin.is_empty()).then(|| origin.to_owned());
    serde_json::to_string(&Announcement { t, w, n }).expect("a number and texts are JSON")
}

/// What an announcement says that was heard from this server; nothing if it is the echo of another's.
fn event(channel: &str, payload: &[u8], origin: &str) -> Result<Option<StoreEvent>, RecordFault> {
    if channel.starts_with(NODE_CHANGES) {
        return record::decode_any_node(payload).map(StoreEvent::Node).map(Some);
    }
    let said: Announcement =
        serde_json::from_slice(payload).map_err(|error| RecordFault::Corrupt(error.to_string()))?;
    if said.n.is_some_and(|made_on| made_on != origin) {
        return Ok(None);
    }
    let event =
        match said.t {
            CREATED | UPDATED => record::decode_any_worker(said.w.as_bytes())
                .map(|worker| StoreEvent::Worker(Box::new(worker))),
            // The original does not name the pool: somebody is gone, so look who is left.
            DELETED => Ok(record::decode_worker_key(said.w.as_bytes())?
                .map_or(StoreEvent::Resync, StoreEvent::WorkerGone)),
            other => Err(RecordFault::Corrupt(format!(
                "there is no change of kind {other}"
            ))),
        };
    event.map(Some)
}

/// The task that listens, until this is dropped.
pub(super) struct Subscription(JoinHandle<()>);

impl Drop for Subscription {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Subscription {
    pub(super) fn start(servers: Arc<Servers>, hub: Arc<Hub>, directory: Arc<Directory>) -> Subscription {
        Subscription(tokio::spawn(async move {
            let timing = servers.timing;
            let mut pauses = Pauses::of(&timing);
            loop {
                let mut listener = Listener {
                    servers: &servers,
                    timing,
                    hub: &hub,
                    directory: &directory,
                    heard: false,
                };
                let Err(error) = listener.listen().await;
                directory.deaf();
                hub.deaf();
                let (StoreError::Unavailable(error) | StoreError::Refused(error)) = error;
                tracing::warn!(error, "not listening for changes of workers and nodes");
                if listener.heard {
                    pauses = Pauses::of(&timing);
                }
                pauses.wait().await;
            }
        }))
    }
}

enum Never {}

struct Listener<'a> {
    servers: &'a Servers,
    timing: Timing,
    hub: &'a Arc<Hub>,
    directory: &'a Arc<Directory>,
    /// Whether everything arrived, for a time.
    heard: bool,
}

impl Listener<'_> {
    /// Listens until that is no longer possible.
    async fn listen(&mut self) -> Result<Never, StoreError> {
        let deadline = Deadline::after(self.timing.operation);
        let mut topology = match self.servers.topology(deadline).await? {
            Some(_) => Some(self.servers.refresh(deadline).await?),
            None => None,
        };
        let cut = Arc::new(Notify::new());
        let posts: Vec<(Address, Arc<str>)> = match &topology {
            Some(topology) => {
                let masters = topology.masters().iter();
                masters
                    .map(|master| (master.address.clone(), master.id.clone()))
                    .collect()
            }
            // Whichever of several servers is the master now.
            None => vec![(self.servers.seed().live(deadline).await?.address, "".into())],
        };
        let listening = posts
            .iter()
            .map(|(address, origin)| self.tune_in(address, origin, &cut, deadline));
        let lives = try_join_all(listening).await?;
        self.heard = true;
        self.directory.listening(lives.clone());
        self.hub.live();
        loop {
            tokio::select! {
                biased;
                () = cut.notified() => {}
                () = tokio::time::sleep(self.timing.ping_every) => {}
            }
            let Some(known) = &mut topology else {
                for live in &lives {
                    self.ask(live, cmd("PING")).await?;
                }
                continue;
            };
            let asked = lives.iter().map(async |live| {
                let slots = self.ask(live, cmd("CLUSTER").arg("SLOTS").take()).await?;
                Ok::<_, StoreError>(Topology::read(&slots, &live.address))
            });
            for told in try_join_all(asked).await?.into_iter().flatten() {
                if told.masters() != known.masters() {
                    let why = "the servers of the cluster are others now".to_owned();
                    return Err(StoreError::Unavailable(why));
                }
                if told != **known {
                    tracing::info!("slots of the cluster have moved");
                    self.directory.missed();
                    self.hub.tell(StoreEvent::Resync);
                    *known = Arc::new(told);
                }
            }
        }
    }

    async fn tune_in(
        &self,
        address: &Address,
        origin: &Arc<str>,
        cut: &Arc<Notify>,
        deadline: Deadline,
    ) -> Result<Live, StoreError> {
        let receiver = receiver(
            self.hub.clone(),
            // Which has the connection that this is for.
            Arc::downgrade(self.directory),
            cut.clone(),
            origin.clone(),
        );
        let config = AsyncConnectionConfig::new().set_push_sender(receiver);
        let place = self.servers.place.at(address);
        let live = dial(&place, address, deadline, ProtocolVersion::RESP3, config);
        let live = self.bounded(deadline, address, live).await?;
        let channels = [
            WORKER_CHANGES.to_owned(),
            node_changes(origin),
            actor_changes(origin),
        ];
        let mut connection = live.connection.clone();
        let subscribed = async {
            let outcome = connection.subscribe(&channels[..]).await;
            outcome.map_err(|error| self.servers.blame(&live, &error))
        };
        self.bounded(deadline, address, subscribed).await?;
        Ok(live)
    }

    async fn ask(&self, live: &Live, command: Cmd) -> Result<Value, StoreError> {
        let mut connection = live.connection.clone();
        let asked = async {
            let answer = command.query_async(&mut connection).await;
            answer.map_err(|error| self.servers.blame(live, &error))
        };
        self.bounded(Deadline::after(self.timing.operation), &live.address, asked)
            .await
    }

    async fn bounded<T>(
        &self,
        deadline: Deadline,
        address: &Address,
        step: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        deadline.bound(step).await.unwrap_or_else(|| {
            Err(StoreError::Unavailable(format!(
                "{address}: {}",
                deadline.passed()
            )))
        })
    }
}

/// Passes on what the server pushes; `cut` is told when it will push no more.
fn receiver(
    hub: Arc<Hub>,
    directory: Weak<Directory>,
    cut: Arc<Notify>,
    origin: Arc<str>,
) -> impl Fn(PushInfo) -> Result<(), Never> + Send + Sync + 'static {
    move |push| {
        if push.kind == PushKind::Disconnection {
            cut.notify_one();
        } else if let Some(message) = Msg::from_push_info(push) {
            let Some(directory) = directory.upgrade() else {
                return Ok(());
            };
            let (channel, payload) = (message.get_channel_name(), message.get_payload_bytes());
            if channel.starts_with(ACTOR_CHANGES) {
                match read_actor(payload) {
                    Some((key, presence)) => directory.tell(&key, presence),
                    None => {
                        tracing::warn!(channel, "announcement not understood");
                        directory.missed();
                    }
                }
                return Ok(());
            }
            match event(channel, payload, &origin) {
                Ok(Some(event)) => {
                    learn(&directory, &event);
                    hub.tell(event);
                }
                Ok(None) => {}
                Err(fault) => {
                    tracing::warn!(channel, %fault, "announcement not understood");
                    directory.missed();
                    hub.tell(StoreEvent::Resync);
                }
            }
        }
        Ok(())
    }
}

fn learn(directory: &Directory, event: &StoreEvent) {
    match event {
        StoreEvent::Worker(worker) => directory.tell(&worker.key, Presence::There),
        StoreEvent::WorkerGone(key) => directory.tell(key, Presence::Gone),
        StoreEvent::Node(row) => directory.tell(&row.name, Presence::There),
        StoreEvent::Resync => directory.missed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_of_an_actor_is_read_back_and_nothing_else_is_one() {
        let key = ActorKey::new("team-a", "id1");
        for presence in [Presence::There, Presence::Gone] {
            let said = actor(&key, presence);
            assert_eq!(read_actor(said.as_bytes()), Some((key.clone(), presence)));
        }
        for bad in ["", "+", "actor:a:b", "?actor:a:b", "+actor:a", "é"] {
            assert_eq!(read_actor(bad.as_bytes()), None, "{bad}");
        }
        assert!(!actor_changes("a").starts_with(&node_changes("a")));
        // Whoever listens for nodes only listens to these very channels.
        assert_ne!(actor_changes(""), node_changes("of-actors"));
    }

    #[test]
    fn the_originals_announcements_are_understood() {
        let worker = r#"{\"workerNamespace\":\"ns\",\"workerPool\":\"p\",\"workerPod\":\"w\",\"version\":\"2\",\"ip\":\"\u003c\"}"#;
        for t in [0, 1] {
            let heard = event(
                WORKER_CHANGES,
                format!(r#"{{"t":{t},"w":"{worker}"}}"#).as_bytes(),
                "",
            );
            let Ok(Some(StoreEvent::Worker(heard))) = heard else {
                panic!("{heard:?}")
            };
            assert_eq!(heard.key, WorkerKey::new("ns", "p", "w"));
            assert_eq!(heard.ip.as_str(), "<");
        }
        let deleted = br#"{"t":2,"w":"{\"workerNamespace\":\"ns\",\"workerPod\":\"w\"}"}"#;
        assert_eq!(event(WORKER_CHANGES, deleted, ""), Ok(Some(StoreEvent::Resync)));
    }

    #[test]
    fn our_deletions_name_the_worker_and_the_original_can_read_them() {
        let key = WorkerKey::new("ns", "p", "w");
        let said = gone(&key, "");
        assert_eq!(
            said,
            r#"{"t":2,"w":"{\"workerNamespace\":\"ns\",\"workerPool\":\"p\",\"workerPod\":\"w\"}"}"#
        );
        assert_eq!(
            event(WORKER_CHANGES, said.as_bytes(), ""),
            Ok(Some(StoreEvent::WorkerGone(key)))
        );
    }

    #[test]
    fn an_echo_of_what_was_written_on_another_server_is_passed_over() {
        let key = WorkerKey::new("ns", "p", "w");
        let said = gone(&key, "a");
        assert_eq!(event(WORKER_CHANGES, said.as_bytes(), "b"), Ok(None));
        assert_eq!(
            event(WORKER_CHANGES, said.as_bytes(), "a"),
            Ok(Some(StoreEvent::WorkerGone(key)))
        );
        assert_ne!(node_changes("a"), node_changes("b"));
    }

    #[test]
    fn what_is_not_understood_says_why() {
        for bad in [
            "",
            "{}",
            r#"{"t":9,"w":"{}"}"#,
            r#"{"t":0,"w":"{}"}"#,
            r#"{"t":0,"w":"{\"x\":1}"}"#,
        ] {
            assert!(event(WORKER_CHANGES, bad.as_bytes(), "").is_err(), "{bad}");
        }
        assert!(event(NODE_CHANGES, b"{}", "").is_err());
    }
}
