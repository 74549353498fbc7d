//! What happens to workers and nodes, as the server announces it.
//!
//! Workers are announced on the original's channel in the original's words. Nodes are announced on a
//! channel of our own, which the original does not listen to. An announcement is part of the script that
//! writes, so that the order of announcements is the order of writes.
//!
//! A server drops the connection of a listener that is too slow, and pings find a connection that is dead:
//! either way everybody who watches is told to list again once we listen again.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Msg, ProtocolVersion, PushInfo, PushKind, RedisResult, cmd};
use holdfast_core::effect::StoreEvent;
use holdfast_core::id::WorkerKey;
use holdfast_runtime::entropy::fresh_u64;
use holdfast_runtime::tokio;
use holdfast_runtime::tokio::sync::Notify;
use holdfast_runtime::tokio::task::JoinHandle;
use serde::{Deserialize, Serialize};

use super::Timing;
use super::link::{dial, timed_out};
use super::url::Url;
use crate::record::{self, RecordFault};
use crate::watch::Hub;

/// Where workers are announced: the original's channel.
pub(super) const WORKER_CHANGES: &str = "worker-changes";
/// Where nodes are announced.
pub(super) const NODE_CHANGES: &str = "holdfast-changes";

const CREATED: u8 = 0;
const UPDATED: u8 = 1;
const DELETED: u8 = 2;

#[derive(Serialize, Deserialize)]
struct Announcement {
    t: u8,
    w: String,
}

/// The announcement of a worker's record.
pub(super) fn written(created: bool, record: &str) -> String {
    announcement(if created { CREATED } else { UPDATED }, record.into())
}

/// The announcement that a worker is gone.
pub(super) fn gone(key: &WorkerKey) -> String {
    announcement(DELETED, record::encode_worker_key(key))
}

fn announcement(t: u8, w: String) -> String {
    serde_json::to_string(&Announcement { t, w }).expect("a number and a text are JSON")
}

/// What an announcement says.
fn event(channel: &str, payload: &[u8]) -> Result<StoreEvent, RecordFault> {
    if channel == NODE_CHANGES {
        return record::decode_any_node(payload).map(StoreEvent::Node);
    }
    let said: Announcement =
        serde_json::from_slice(payload).map_err(|error| RecordFault::Corrupt(error.to_string()))?;
    match said.t {
        CREATED | UPDATED => {
            record::decode_any_worker(said.w.as_bytes()).map(|worker| StoreEvent::Worker(Box::new(worker)))
        }
        // The original does not name the pool: somebody is gone, so look who is left.
        DELETED => {
            Ok(record::decode_worker_key(said.w.as_bytes())?
                .map_or(StoreEvent::Resync, StoreEvent::WorkerGone))
        }
        other => Err(RecordFault::Corrupt(format!(
            "there is no change of kind {other}"
        ))),
    }
}

/// The task that listens, until this is dropped.
pub(super) struct Subscription(JoinHandle<()>);

impl Drop for Subscription {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Subscription {
    pub(super) fn start(url: Url, timing: Timing, hub: Arc<Hub>) -> Subscription {
        Subscription(tokio::spawn(async move {
            let mut pause = timing.retry_from;
            loop {
                let mut listener = Listener {
                    url: &url,
                    timing,
                    hub: &hub,
                    heard: false,
                };
                let Err(error) = listener.listen().await;
                hub.deaf();
                tracing::warn!(server = %url, %error, "not listening for changes of workers and nodes");
                pause = if listener.heard { timing.retry_from } else { pause };
                tokio::time::sleep(jittered(pause)).await;
                pause = (2 * pause).min(timing.retry_to);
            }
        }))
    }
}

/// Half of `pause` and a random part of the other half, so that replicas do not come back all at once.
fn jittered(pause: Duration) -> Duration {
    let half = pause / 2;
    let micros = u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
    half + Duration::from_micros(fresh_u64() % micros.saturating_add(1))
}

enum Never {}

struct Listener<'a> {
    url: &'a Url,
    timing: Timing,
    hub: &'a Arc<Hub>,
    /// Whether everything arrived, for a time.
    heard: bool,
}

impl Listener<'_> {
    /// Listens until that is no longer possible.
    async fn listen(&mut self) -> RedisResult<Never> {
        let cut = Arc::new(Notify::new());
        let config = AsyncConnectionConfig::new().set_push_sender(receiver(self.hub.clone(), cut.clone()));
        let within = self.timing.operation;
        let live = self
            .bounded(dial(self.url, within, ProtocolVersion::RESP3, config))
            .await?;
        let mut connection: MultiplexedConnection = live.connection.clone();
        self.bounded(connection.subscribe(&[WORKER_CHANGES, NODE_CHANGES]))
            .await?;
        self.heard = true;
        self.hub.live();
        loop {
            tokio::select! {
                biased;
                () = cut.notified() => {}
                () = tokio::time::sleep(self.timing.ping_every) => {}
            }
            let _: String = self.bounded(cmd("PING").query_async(&mut connection)).await?;
        }
    }

    async fn bounded<T>(&self, step: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
        let within = self.timing.operation;
        tokio::time::timeout(within, step)
            .await
            .unwrap_or_else(|_| Err(timed_out(within)))
    }
}

/// Passes on what the server pushes; `cut` is told when it will push no more.
fn receiver(
    hub: Arc<Hub>,
    cut: Arc<Notify>,
) -> impl Fn(PushInfo) -> Result<(), Never> + Send + Sync + 'static {
    move |push| {
        if push.kind == PushKind::Disconnection {
            cut.notify_one();
        } else if let Some(message) = Msg::from_push_info(push) {
            let heard = event(message.get_channel_name(), message.get_payload_bytes());
            hub.tell(heard.unwrap_or_else(|fault| {
                tracing::warn!(channel = message.get_channel_name(), %fault, "announcement not understood");
                StoreEvent::Resync
            }));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_originals_announcements_are_understood() {
        let worker = r#"{\"workerNamespace\":\"ns\",\"workerPool\":\"p\",\"workerPod\":\"w\",\"version\":\"2\",\"ip\":\"\u003c\"}"#;
        for t in [0, 1] {
            let heard = event(
                WORKER_CHANGES,
                format!(r#"{{"t":{t},"w":"{worker}"}}"#).as_bytes(),
            );
            let Ok(StoreEvent::Worker(heard)) = heard else {
                panic!("{heard:?}")
            };
            assert_eq!(heard.key, WorkerKey::new("ns", "p", "w"));
            assert_eq!(heard.ip.as_str(), "<");
        }
        let deleted = br#"{"t":2,"w":"{\"workerNamespace\":\"ns\",\"workerPod\":\"w\"}"}"#;
        assert_eq!(event(WORKER_CHANGES, deleted), Ok(StoreEvent::Resync));
    }

    #[test]
    fn our_deletions_name_the_worker_and_the_original_can_read_them() {
        let key = WorkerKey::new("ns", "p", "w");
        let said = gone(&key);
        assert_eq!(
            said,
            r#"{"t":2,"w":"{\"workerNamespace\":\"ns\",\"workerPool\":\"p\",\"workerPod\":\"w\"}"}"#
        );
        assert_eq!(
            event(WORKER_CHANGES, said.as_bytes()),
            Ok(StoreEvent::WorkerGone(key))
        );
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
            assert!(event(WORKER_CHANGES, bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(event(NODE_CHANGES, b"{}").is_err());
    }
}
