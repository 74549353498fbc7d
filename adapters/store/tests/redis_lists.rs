//! Lists from what is known of the keys, which need not walk them.

#[path = "samples/renewals.rs"]
mod renewals;
#[allow(dead_code, reason = "other tests use more of them")]
mod samples;
#[allow(dead_code, reason = "other tests do more with it")]
mod server;

use std::sync::Arc;
use std::time::Duration;

use ::redis::Commands;
use futures_util::future::BoxFuture;
use holdfast_core::effect::{StoreEvent, StoreOp, StoreReply};
use holdfast_core::id::{ActorKey, Version};
use holdfast_store::conformance::Subject;
use holdfast_store::redis::{Config, Redis, Timing};
use holdfast_store::{Store, Watch};
use samples::{actor, put};
use server::Server;

const PATIENCE: Duration = Duration::from_secs(60);

/// A store that hears what is announced from now on.
async fn listening(server: &Server, timing: Timing) -> (Arc<dyn Store>, Watch) {
    let url: holdfast_store::redis::Url = server.url().parse().unwrap();
    let store = Redis::new(Config {
        timing,
        ..Config::from(url)
    });
    let mut watch = store.watch();
    assert_eq!(heard(&mut watch).await, StoreEvent::Resync);
    (Arc::new(store), watch)
}

async fn heard(watch: &mut Watch) -> StoreEvent {
    let next = tokio::time::timeout(PATIENCE, watch.next()).await;
    next.expect("nothing is heard").expect("the store is there")
}

struct Listening {
    store: Arc<dyn Store>,
    peer: Arc<dyn Store>,
    _server: Server,
}

impl Listening {
    /// Both have listed all kinds of keys once, so that they know from then on which there are.
    async fn start() -> Listening {
        let server = Server::start(&[]);
        let (store, _) = listening(&server, Timing::default()).await;
        let (peer, _) = listening(&server, Timing::default()).await;
        for store in [&store, &peer] {
            for op in [list(), StoreOp::ListWorkers, StoreOp::ListNodes] {
                store.execute(op).await.unwrap();
            }
        }
        Listening {
            store,
            peer,
            _server: server,
        }
    }
}

impl Subject for Listening {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    fn peer(&self) -> Arc<dyn Store> {
        self.peer.clone()
    }

    fn pass(&self, time: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(time + Duration::from_millis(20)))
    }
}

mod suite {
    holdfast_store::conformance_suite!(super::Listening::start());
}

fn list() -> StoreOp {
    StoreOp::ListActors {
        atespace: None,
        after: None,
        limit: 1000,
    }
}

async fn listed(store: &Arc<dyn Store>) -> Vec<String> {
    match store.execute(list()).await {
        Ok(StoreReply::Actors { actors, next: None }) => {
            actors.iter().map(|actor| actor.key.name.to_string()).collect()
        }
        other => panic!("{other:?}"),
    }
}

async fn done(store: &Arc<dyn Store>, op: StoreOp) {
    let shown = format!("{op:?}");
    assert_eq!(store.execute(op).await, Ok(StoreReply::Done), "{shown}");
}

/// How often the server has been asked to go through its keys.
fn scans(server: &Server) -> u64 {
    let stats: String = redis::cmd("INFO")
        .arg("commandstats")
        .query(&mut server.raw())
        .unwrap();
    let calls = |line: &str| {
        line.strip_prefix("cmdstat_scan:calls=")?
            .split(',')
            .next()?
            .parse()
            .ok()
    };
    stats.lines().find_map(calls).unwrap_or(0)
}

/// An actor as the original writes it: without a word.
fn write_as_the_original(server: &Server, name: &str) {
    let record =
        format!(r#"{{"actorId":"{name}","version":"1","status":"STATUS_SUSPENDED","atespace":"team-a"}}"#);
    let _: () = server.raw().set(format!("actor:team-a:{name}"), record).unwrap();
}

#[tokio::test]
async fn a_list_after_the_first_walks_no_keys_and_neither_does_the_deletion_of_an_atespace() {
    let server = Server::start(&[]);
    let (store, _watch) = listening(&server, Timing::default()).await;
    done(&store, StoreOp::CreateAtespace("team-a".into())).await;
    done(&store, StoreOp::CreateAtespace("team-b".into())).await;
    assert_eq!(listed(&store).await, [""; 0]);
    assert_eq!(
        store.execute(StoreOp::ListWorkers).await,
        Ok(StoreReply::Workers(vec![]))
    );
    assert_eq!(
        store.execute(StoreOp::ListNodes).await,
        Ok(StoreReply::Nodes(vec![]))
    );
    let before = scans(&server);
    assert!(before > 0, "the first lists walk");
    done(&store, put(&actor("a"), None, None)).await;
    done(&store, put(&actor("b"), None, None)).await;
    assert_eq!(listed(&store).await, ["a", "b"]);
    for (atespace, answer) in [("team-a", StoreReply::NotEmpty), ("team-b", StoreReply::Done)] {
        let op = StoreOp::DeleteAtespace(atespace.into());
        assert_eq!(store.execute(op).await, Ok(answer), "{atespace}");
    }
    for op in [StoreOp::ListWorkers, StoreOp::ListNodes] {
        store.execute(op).await.unwrap();
    }
    assert_eq!(scans(&server), before);
}

#[tokio::test]
async fn what_was_there_before_and_what_somebody_writes_without_a_word_is_listed() {
    let server = Server::start(&[]);
    write_as_the_original(&server, "before");
    let timing = Timing {
        look_back_every: Duration::from_millis(50),
        ..Timing::default()
    };
    let (store, _watch) = listening(&server, timing).await;
    assert_eq!(listed(&store).await, ["before"]);
    write_as_the_original(&server, "beside");
    tokio::time::timeout(PATIENCE, async {
        while listed(&store).await != ["before", "beside"] {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it is never listed");
    // From then on whatever else is written is listed at once: lists walk.
    write_as_the_original(&server, "more");
    assert_eq!(listed(&store).await, ["before", "beside", "more"]);
}

#[tokio::test]
async fn what_is_deleted_without_a_word_is_not_listed_and_keeps_no_atespace() {
    let server = Server::start(&[]);
    let (store, _watch) = listening(&server, Timing::default()).await;
    done(&store, StoreOp::CreateAtespace("team-a".into())).await;
    for name in ["a", "b"] {
        done(&store, put(&actor(name), None, None)).await;
    }
    assert_eq!(listed(&store).await, ["a", "b"]);
    let _: () = server.raw().del("actor:team-a:a").unwrap();
    assert_eq!(listed(&store).await, ["b"]);
    let _: () = server.raw().del("actor:team-a:b").unwrap();
    done(&store, StoreOp::DeleteAtespace("team-a".into())).await;
}

#[tokio::test]
async fn whoever_has_not_heard_everything_walks_again() {
    let server = Server::start(&[]);
    let (store, mut watch) = listening(&server, Timing::default()).await;
    assert_eq!(listed(&store).await, [""; 0]);
    let _: u64 = redis::cmd("CLIENT")
        .arg(&["KILL", "TYPE", "pubsub"])
        .query(&mut server.raw())
        .unwrap();
    // Nobody listens while this is written, or somebody does: it is listed either way.
    write_as_the_original(&server, "meanwhile");
    assert_eq!(heard(&mut watch).await, StoreEvent::Resync);
    assert_eq!(listed(&store).await, ["meanwhile"]);
    let key = ActorKey::new("team-a", "meanwhile");
    let Ok(StoreReply::Actor(Some(stored))) = store.execute(StoreOp::GetActor(key)).await else {
        panic!()
    };
    assert_eq!(stored.version, Version(1));
    let nonsense: u64 = server
        .raw()
        .publish("holdfast-changes-of-actors", "nonsense")
        .unwrap();
    assert_eq!(nonsense, 1);
    write_as_the_original(&server, "more");
    assert_eq!(listed(&store).await, ["meanwhile", "more"]);
}

#[tokio::test]
async fn of_many_leases_that_are_renewed_at_once_each_has_an_answer_of_its_own() {
    let server = Server::start(&[]);
    let (store, _watch) = listening(&server, Timing::default()).await;
    renewals::renew_many(&*store).await;
    // And where the server has forgotten the script.
    let _: () = redis::cmd("SCRIPT")
        .arg("FLUSH")
        .query(&mut server.raw())
        .unwrap();
    renewals::renew_many(&*store).await;
}
