//! The suite on a real `redis-server`, and what only a server can do.

mod samples;
#[allow(dead_code, reason = "other tests do more with it")]
mod server;

use std::sync::Arc;
use std::time::Duration;

use ::redis::Commands;
use futures_util::future::BoxFuture;
use holdfast_core::effect::{NodeRow, StoreError, StoreEvent, StoreOp, StoreReply};
use holdfast_store::conformance::Subject;
use holdfast_store::redis::{Config, Redis, Timing};
use holdfast_store::{Store, Watch};
use rustix::process::Signal;
use samples::{actor, put, token};
use server::Server;

const LONG: Duration = Duration::from_secs(600);

fn store(server: &Server) -> Arc<dyn Store> {
    Arc::new(connect(&server.url(), Timing::default()))
}

struct OnRedis {
    store: Arc<dyn Store>,
    peer: Arc<dyn Store>,
    _server: Server,
}

impl OnRedis {
    async fn start() -> OnRedis {
        let server = Server::start(&[]);
        OnRedis {
            store: store(&server),
            peer: store(&server),
            _server: server,
        }
    }
}

impl Subject for OnRedis {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    fn peer(&self) -> Arc<dyn Store> {
        self.peer.clone()
    }

    /// The server's clock is that of this host, and it ends a lease in the millisecond that it names.
    fn pass(&self, time: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(time + Duration::from_millis(20)))
    }
}

mod suite {
    holdfast_store::conformance_suite!(super::OnRedis::start());
}

fn connect(url: &str, timing: Timing) -> Redis {
    let url: holdfast_store::redis::Url = url.parse().unwrap();
    Redis::new(Config {
        timing,
        ..Config::from(url)
    })
}

/// The next event, which must come.
async fn heard(watch: &mut Watch) -> Option<StoreEvent> {
    tokio::time::timeout(Duration::from_secs(60), watch.next())
        .await
        .expect("nothing is heard")
}

fn get(name: &str) -> StoreOp {
    StoreOp::GetActor(actor(name).key)
}

async fn refused(store: &dyn Store, op: StoreOp) -> String {
    match store.execute(op).await {
        Err(StoreError::Refused(text)) => text,
        other => panic!("{other:?}"),
    }
}

async fn unavailable(store: &dyn Store, op: StoreOp) -> String {
    match store.execute(op).await {
        Err(StoreError::Unavailable(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn actors_and_workers_of_the_original_are_read_and_written_over() {
    let server = Server::start(&[]);
    let mut raw = server.raw();
    let original = |name: &str, version: &str| {
        format!(
            r#"{{ "actorId":"{name}", "version":{version}, "workerSelector":{{"matchLabels":{{"version":"8"}}}}, "status":"STATUS_SUSPENDED","atespace":"team-a"}}"#
        )
    };
    let store = store(&server);
    for (name, version) in [("a", r#""41""#), ("b", "41"), ("c", r#""9007199254740995""#)] {
        let _: () = raw
            .set(format!("actor:team-a:{name}"), original(name, version))
            .unwrap();
        let Ok(StoreReply::Actor(Some(stored))) = store.execute(get(name)).await else {
            panic!("{name}")
        };
        let at = stored.version.0;
        let next = put(&stored, Some(at), None);
        let early = put(&stored, Some(at - 1), None);
        assert_eq!(
            store.execute(early).await,
            Ok(StoreReply::ActorConflict(Some(stored))),
            "{name}"
        );
        assert_eq!(store.execute(next).await, Ok(StoreReply::Done), "{name}");
    }
    let worker = r#"{"workerNamespace":"ns","workerPool":"p","workerPod":"w","version":"3","ip":"10.0.0.1","actorId":"a","actorAtespace":"team-a"}"#;
    let _: () = raw.set("worker:ns:p:w", worker).unwrap();
    let _: () = raw.set("lock:actor:a", "somebody").unwrap();
    let Ok(StoreReply::Workers(workers)) = store.execute(StoreOp::ListWorkers).await else {
        panic!()
    };
    let [worker] = &workers[..] else {
        panic!("{workers:?}")
    };
    let expect = worker.edition();
    let delete = StoreOp::DeleteWorker {
        key: worker.key.clone(),
        expect,
    };
    assert_eq!(store.execute(delete).await, Ok(StoreReply::Done));
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_named_and_harms_no_other() {
    let server = Server::start(&[]);
    let store = store(&server);
    for name in ["a", "b", "c", "d"] {
        store.execute(put(&actor(name), None, None)).await.unwrap();
    }
    let mut raw = server.raw();
    let _: () = raw.set("actor:team-a:b", "{").unwrap();
    let newer = r#"{"version":"1","actorId":"c","atespace":"team-a","holdfast":{"v":2,"new":1}}"#;
    let _: () = raw.set("actor:team-a:c", newer).unwrap();
    for (name, why) in [
        ("b", "cannot be read"),
        ("c", "written in format 2 by a newer Holdfast"),
    ] {
        let acquire = StoreOp::AcquireLease {
            key: actor(name).key,
            token: token(1),
            ttl: LONG,
            steal: None,
        };
        for op in [
            get(name),
            acquire,
            put(&actor(name), None, None),
            put(&actor(name), Some(7), None),
        ] {
            let text = refused(&*store, op).await;
            assert!(
                text.starts_with(&format!("record actor:team-a:{name}: {why}")),
                "{text}"
            );
        }
        let renew = StoreOp::RenewLease {
            key: actor(name).key,
            token: token(1),
            ttl: LONG,
        };
        assert_eq!(
            store.execute(renew).await,
            Ok(StoreReply::NotOwner),
            "what is refused has no effect"
        );
    }
    let list = StoreOp::ListActors {
        atespace: None,
        after: None,
        limit: 10,
    };
    let Ok(StoreReply::Actors { actors, next: None }) = store.execute(list).await else {
        panic!("no list")
    };
    assert_eq!(actors, [actor("a"), actor("d")]);
    let _: () = raw.set("worker:ns:p:w", "{").unwrap();
    let _: () = raw.set("worker:odd", "{}").unwrap();
    assert_eq!(
        store.execute(StoreOp::ListWorkers).await,
        Ok(StoreReply::Workers(vec![]))
    );
}

#[tokio::test]
async fn passwords_users_and_databases_are_used_and_never_shown() {
    let server = Server::start(&["--requirepass", "hunter2"]);
    let host = server.address();
    let wrong = connect(&format!("redis://:hunter3@{host}"), Timing::default());
    let none = connect(&format!("redis://{host}"), Timing::default());
    for store in [&wrong, &none] {
        let text = refused(store, get("a")).await;
        assert!(
            text.contains("user or password") && text.contains(&host.to_string()),
            "{text}"
        );
        assert!(!text.contains("hunter"), "{text}");
        assert!(matches!(store.ping().await, Err(StoreError::Refused(_))));
    }
    let first = connect(&format!("redis://:hunter2@{host}/0"), Timing::default());
    let other = connect(&format!("redis://default:hunter2@{host}/3"), Timing::default());
    first.ping().await.unwrap();
    first.execute(put(&actor("a"), None, None)).await.unwrap();
    assert_eq!(
        other.execute(get("a")).await,
        Ok(StoreReply::Actor(None)),
        "databases are apart"
    );
}

#[tokio::test]
async fn a_server_that_was_away_is_used_again_and_watchers_list_again() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let store = store(&server);
    store.execute(put(&actor("a"), None, None)).await.unwrap();
    let mut watch = store.watch();
    assert_eq!(heard(&mut watch).await, Some(StoreEvent::Resync));
    server.kill();
    let text = unavailable(&*store, get("a")).await;
    assert!(text.contains(&server.address().to_string()), "{text}");
    unavailable(&*store, put(&actor("a"), Some(1), None)).await;
    server.restart();
    assert_eq!(heard(&mut watch).await, Some(StoreEvent::Resync));
    assert_eq!(
        store.execute(get("a")).await,
        Ok(StoreReply::Actor(Some(Box::new(actor("a")))))
    );
    let row = NodeRow {
        name: "n1".into(),
        address: "x".into(),
        incarnation: "r".into(),
        sequence: 1,
        session: 1,
        lapsed: 0,
        version: 0,
    };
    store.execute(StoreOp::PutNode(row.clone())).await.unwrap();
    let row = NodeRow { version: 1, ..row };
    assert_eq!(heard(&mut watch).await, Some(StoreEvent::Node(row)));
}

#[tokio::test]
async fn a_server_that_restarts_between_two_operations_fails_neither() {
    let mut server = Server::start(&[]);
    let store = store(&server);
    store.execute(put(&actor("a"), None, None)).await.unwrap();
    let mut watch = store.watch();
    assert_eq!(heard(&mut watch).await, Some(StoreEvent::Resync));
    server.kill();
    server.restart();
    // Both connections ended at once: when the watch is back, the other one's end has been noticed, too.
    assert_eq!(heard(&mut watch).await, Some(StoreEvent::Resync));
    assert_eq!(
        store.execute(put(&actor("a"), None, None)).await,
        Ok(StoreReply::Done)
    );
}

#[tokio::test]
async fn a_watch_whose_connection_is_cut_is_told_to_list_again() {
    let server = Server::start(&[]);
    let store = store(&server);
    let mut watch = store.watch();
    assert_eq!(heard(&mut watch).await, Some(StoreEvent::Resync));
    let cut: u64 = redis::cmd("CLIENT")
        .arg(&["KILL", "TYPE", "pubsub"])
        .query(&mut server.raw())
        .unwrap();
    assert_eq!(cut, 1);
    assert_eq!(heard(&mut watch).await, Some(StoreEvent::Resync));
    let _: () = server.raw().publish("worker-changes", "nonsense").unwrap();
    assert_eq!(
        heard(&mut watch).await,
        Some(StoreEvent::Resync),
        "it may have been anything"
    );
}

#[tokio::test]
async fn a_watch_on_a_server_that_is_not_there_yet_begins_when_it_is() {
    let mut server = Server::start(&[]);
    server.kill();
    let store = store(&server);
    let mut watch = store.watch();
    unavailable(&*store, StoreOp::ListWorkers).await;
    server.restart();
    assert_eq!(heard(&mut watch).await, Some(StoreEvent::Resync));
    assert_eq!(
        store.execute(StoreOp::ListWorkers).await,
        Ok(StoreReply::Workers(vec![]))
    );
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up_in_time_and_tried_again() {
    let server = Server::start(&[]);
    let timing = Timing {
        operation: Duration::from_millis(100),
        ..Timing::default()
    };
    let store = connect(&server.url(), timing);
    store.execute(put(&actor("a"), None, None)).await.unwrap();
    server.signal(Signal::STOP);
    let text = unavailable(&store, get("a")).await;
    assert!(text.contains("no answer within 100ms"), "{text}");
    for op in [put(&actor("a"), Some(1), None), get("a")] {
        let text = unavailable(&store, op).await;
        assert!(text.contains("the store is away, and looked for"), "{text}");
    }
    server.signal(Signal::CONT);
    let Ok(StoreReply::Actor(Some(_))) = once_it_is_back(&store, &get("a")).await else {
        panic!("another answer")
    };
}

/// What is answered when the store is found again, which takes some time after it is there again.
async fn once_it_is_back(store: &dyn Store, op: &StoreOp) -> Result<StoreReply, StoreError> {
    let asked = async {
        loop {
            match store.execute(op.clone()).await {
                Err(StoreError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
                answer => return answer,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asked)
        .await
        .expect("it is not found again")
}

#[tokio::test]
async fn scripts_that_the_server_has_forgotten_are_loaded_again() {
    let server = Server::start(&[]);
    let store = store(&server);
    for version in [None, Some(1), Some(2)] {
        assert_eq!(
            store.execute(put(&actor("a"), version, None)).await,
            Ok(StoreReply::Done)
        );
        let () = redis::cmd("SCRIPT")
            .arg("FLUSH")
            .query(&mut server.raw())
            .unwrap();
    }
}

#[tokio::test]
async fn a_server_whose_memory_is_full_is_unavailable_for_what_needs_room_and_nothing_has_changed() {
    let server = Server::start(&[]);
    let store = store(&server);
    store.execute(put(&actor("a"), None, None)).await.unwrap();
    let () = redis::cmd("CONFIG")
        .arg(&["SET", "maxmemory", "1"])
        .query(&mut server.raw())
        .unwrap();
    let acquire = StoreOp::AcquireLease {
        key: actor("a").key,
        token: token(1),
        ttl: LONG,
        steal: None,
    };
    for op in [
        put(&actor("a"), Some(1), None),
        put(&actor("b"), None, None),
        acquire,
    ] {
        let text = unavailable(&*store, op).await;
        assert!(text.contains("memory is full"), "{text}");
    }
    assert_eq!(
        store.execute(get("a")).await,
        Ok(StoreReply::Actor(Some(Box::new(actor("a")))))
    );
    let delete = StoreOp::DeleteActor {
        key: actor("a").key,
        expect: actor("a").edition(),
        release: token(1),
    };
    assert_eq!(
        store.execute(delete).await,
        Ok(StoreReply::Done),
        "what makes room is allowed"
    );
}

#[tokio::test]
async fn a_replica_is_unavailable_for_writes() {
    let server = Server::start(&["--replicaof", "127.0.0.1 1"]);
    let text = unavailable(&*store(&server), put(&actor("a"), None, None)).await;
    assert!(
        text.to_lowercase().contains("read only") || text.contains("ReadOnly"),
        "{text}"
    );
}
