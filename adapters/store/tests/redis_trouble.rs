//! A server that is away, or another one, or not ours.

mod samples;
#[allow(dead_code, reason = "other tests do more with it")]
mod server;

use std::time::Duration;

use ::redis::Commands;
use holdfast_core::effect::{Grave, StoreError, StoreEvent, StoreOp, StoreReply};
use holdfast_core::id::{Incarnation, Version};
use holdfast_store::Store;
use holdfast_store::redis::{Config, Redis, Timing, Url};
use rustix::process::Signal;
use samples::{actor, put, token};
use server::Server;

const PATIENCE: Duration = Duration::from_secs(60);
/// A master that does not wait for more replicas before it begins to copy.
const AT_ONCE: [&str; 2] = ["--repl-diskless-sync-delay", "0"];

fn config(url: &str) -> Config {
    Config::from(url.parse::<Url>().unwrap())
}

fn get(name: &str) -> StoreOp {
    StoreOp::GetActor(actor(name).key)
}

async fn once_it_answers(store: &Redis, op: &StoreOp) -> Result<StoreReply, StoreError> {
    let asked = async {
        loop {
            match store.execute(op.clone()).await {
                Err(StoreError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
                answer => return answer,
            }
        }
    };
    tokio::time::timeout(PATIENCE, asked)
        .await
        .expect("it is not found again")
}

fn replica_of(master: &Server) -> Server {
    let address = master.address();
    let of = format!("{} {}", address.ip(), address.port());
    let replica = Server::start(&["--replicaof", &of]);
    let begin = std::time::Instant::now();
    loop {
        let info: String = redis::cmd("INFO").query(&mut replica.raw()).unwrap();
        if info.contains("master_link_status:up") {
            return replica;
        }
        assert!(begin.elapsed() < PATIENCE, "the replica does not follow");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test]
async fn a_replica_that_is_promoted_is_found_by_itself_and_until_then_errors_pass() {
    let mut master = Server::start(&AT_ONCE);
    let replica = replica_of(&master);
    let timing = Timing {
        retry_to: Duration::from_millis(200),
        ..Timing::default()
    };
    // The replica is named first: it is the role that counts.
    let store = Redis::new(Config {
        timing,
        copies: 1,
        ..config(&format!("redis://{},{}", replica.address(), master.address()))
    });
    let mut watch = store.watch();
    assert_eq!(
        store.execute(put(&actor("a"), None, None)).await,
        Ok(StoreReply::Done)
    );
    let heard = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap();
    assert_eq!(heard, Some(StoreEvent::Resync));
    master.kill();
    for _ in 0..3 {
        let Err(StoreError::Unavailable(why)) = store.execute(get("a")).await else {
            panic!("answered by nobody")
        };
        assert!(!why.is_empty());
    }
    let _: String = redis::cmd("REPLICAOF")
        .arg("NO")
        .arg("ONE")
        .query(&mut replica.raw())
        .unwrap();
    let Ok(StoreReply::Actor(Some(found))) = once_it_answers(&store, &get("a")).await else {
        panic!("what was acknowledged with a copy is there")
    };
    assert_eq!(found.version, Version(1));
    let heard = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap();
    assert_eq!(heard, Some(StoreEvent::Resync));
}

#[tokio::test]
async fn a_master_that_becomes_a_replica_is_left_for_the_new_one() {
    let first = Server::start(&AT_ONCE);
    let second = replica_of(&first);
    let store = Redis::new(config(&format!(
        "redis://{},{}",
        first.address(),
        second.address()
    )));
    assert_eq!(
        store.execute(put(&actor("a"), None, None)).await,
        Ok(StoreReply::Done)
    );
    let copied = || -> bool { second.raw().exists("actor:team-a:a").unwrap() };
    while !copied() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let _: String = redis::cmd("REPLICAOF")
        .arg("NO")
        .arg("ONE")
        .query(&mut second.raw())
        .unwrap();
    let address = second.address();
    let _: String = redis::cmd("REPLICAOF")
        .arg(address.ip().to_string())
        .arg(address.port())
        .query(&mut first.raw())
        .unwrap();
    let answer = once_it_answers(&store, &put(&actor("a"), Some(1), None)).await;
    assert_eq!(answer, Ok(StoreReply::Done));
    let there: String = second.raw().get("actor:team-a:a").unwrap();
    assert!(there.contains(r#""version":"2""#), "{there}");
}

#[tokio::test]
async fn a_write_that_too_few_replicas_have_is_not_acknowledged() {
    let alone = Server::start(&[]);
    let store = Redis::new(Config {
        copies: 1,
        timing: Timing {
            operation: Duration::from_millis(200),
            ..Timing::default()
        },
        ..config(&alone.url())
    });
    let Err(StoreError::Unavailable(why)) = store.execute(put(&actor("a"), None, None)).await else {
        panic!("acknowledged")
    };
    assert!(
        why.contains("0 of the 1 replicas that --redis-wait-replicas asks for"),
        "{why}"
    );
    let answer = store.execute(get("a")).await;
    assert_eq!(
        answer,
        Ok(StoreReply::Actor(None)),
        "not even the mark of the database was copied"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_server_is_away_nobody_waits_for_it() {
    let server = Server::start(&[]);
    // Nobody would wait for these in a test: whoever does, does not pass.
    let store = Redis::new(Config {
        timing: Timing {
            operation: Duration::from_secs(2),
            retry_from: Duration::from_secs(1000),
            retry_to: Duration::from_secs(1000),
            ..Timing::default()
        },
        ..config(&server.url())
    });
    assert_eq!(
        store.execute(put(&actor("a"), None, None)).await,
        Ok(StoreReply::Done)
    );
    server.signal(Signal::STOP);
    let Err(StoreError::Unavailable(why)) = store.execute(get("a")).await else {
        panic!("answered")
    };
    assert!(why.contains("no answer within 2s"), "{why}");
    // A thousand times two seconds would be longer than any test may take.
    for _ in 0..1000 {
        let Err(StoreError::Unavailable(why)) = store.execute(get("a")).await else {
            panic!("answered")
        };
        assert!(why.contains("is away, and looked for"), "{why}");
    }
    server.signal(Signal::CONT);
}

#[tokio::test]
async fn a_database_of_somebody_else_is_not_written_to() {
    let server = Server::start(&[]);
    let _: () = server.raw().set("session:ann", "cart").unwrap();
    let store = Redis::new(config(&server.url()));
    for op in [put(&actor("a"), None, None), get("a"), StoreOp::ListWorkers] {
        let Err(StoreError::Refused(why)) = store.execute(op).await else {
            panic!("used")
        };
        assert!(
            why.contains("holds keys that are not Holdfast's, such as \"session:ann\""),
            "{why}"
        );
    }
    let keys: Vec<String> = server.raw().keys("*").unwrap();
    assert_eq!(keys, ["session:ann"], "nothing was written");
    // Whoever shares it on purpose says so.
    let _: () = server.raw().set("holdfast", "{\"v\":1}").unwrap();
    assert_eq!(
        store.execute(put(&actor("a"), None, None)).await,
        Ok(StoreReply::Done)
    );
}

#[tokio::test]
async fn a_server_that_is_replaced_by_somebody_elses_is_not_written_to() {
    let mut server = Server::start(&[]);
    let store = Redis::new(config(&server.url()));
    assert_eq!(
        store.execute(put(&actor("a"), None, None)).await,
        Ok(StoreReply::Done)
    );
    server.kill();
    server.restart();
    let _: () = server.raw().set("cart", "1").unwrap();
    let Err(StoreError::Refused(why)) = once_it_answers(&store, &put(&actor("a"), None, None)).await else {
        panic!("used")
    };
    assert!(why.contains("\"cart\""), "{why}");
}

#[tokio::test]
async fn a_database_of_a_newer_holdfast_and_a_mark_of_somebody_else_are_refused() {
    for (mark, why) in [
        ("{\"v\":2}", "in format 2 by a newer Holdfast"),
        ("hello", "is not the mark of a Holdfast"),
        ("{\"v\":0}", "is not the mark of a Holdfast"),
    ] {
        let server = Server::start(&[]);
        let _: () = server.raw().set("holdfast", mark).unwrap();
        let store = Redis::new(config(&server.url()));
        let Err(StoreError::Refused(text)) = store.ping().await else {
            panic!("used")
        };
        assert!(text.contains(why), "{text}");
    }
}

#[tokio::test]
async fn a_user_who_may_touch_our_keys_only_and_ask_nothing_else_can_work() {
    let server = Server::start(&[]);
    let rules = "on >pw ~actor:* ~worker:* ~atespace:* ~lease:* ~node:* ~session:* ~graves &worker-changes \
                 &holdfast-changes* +@all -info -@admin";
    let _: () = redis::cmd("ACL")
        .arg("SETUSER")
        .arg("ann")
        .arg(rules.split_whitespace().collect::<Vec<_>>())
        .query(&mut server.raw())
        .unwrap();
    let store = Redis::new(config(&format!("redis://ann:pw@{}", server.address())));
    assert_eq!(
        store.execute(put(&actor("a"), None, None)).await,
        Ok(StoreReply::Done)
    );
    assert_eq!(
        store.execute(get("a")).await,
        Ok(StoreReply::Actor(Some(Box::new(actor("a")))))
    );
    let release = put(&actor("a"), Some(1), Some(token(1)));
    assert_eq!(store.execute(release).await, Ok(StoreReply::Done));
}

#[tokio::test]
async fn a_list_of_notes_that_another_run_of_the_server_began_begins_anew() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let store = Redis::new(config(&server.url()));
    let total = 2000;
    for index in 0..total {
        let grave = Grave {
            actor: actor("a").key,
            incarnation: Incarnation(index),
            version: Version(1),
            template: ("ns".into(), "tmpl".into()),
            snapshots: vec![],
        };
        let answer = store.execute(StoreOp::PutGrave(Box::new(grave))).await;
        assert_eq!(answer, Ok(StoreReply::Done));
    }
    let page = |after| StoreOp::ListGraves { after, limit: 100 };
    let Ok(StoreReply::Graves {
        next: Some(token), ..
    }) = store.execute(page(None)).await
    else {
        panic!("no page, or all in one")
    };
    server.kill();
    server.restart();
    let (mut seen, mut after) = (std::collections::BTreeSet::new(), Some(token));
    while let Some(token) = after {
        let Ok(StoreReply::Graves { graves, next }) = once_it_answers(&store, &page(Some(token))).await
        else {
            panic!("no page")
        };
        seen.extend(graves.into_iter().map(|grave| grave.incarnation));
        after = next;
    }
    assert_eq!(
        seen.len() as u64,
        total,
        "the pages since the restart show all of them"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_ask_at_once_share_one_connection() {
    let server = Server::start(&[]);
    let store = Redis::new(config(&server.url()));
    let connections = || -> u64 {
        let info: String = redis::cmd("INFO").arg("stats").query(&mut server.raw()).unwrap();
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix("total_connections_received:"));
        line.unwrap().trim().parse().unwrap()
    };
    let before = connections();
    let asked = (0..100).map(|index| {
        let (op, store) = (get(&format!("a{index}")), &store);
        async move { store.execute(op).await }
    });
    for answer in futures_util::future::join_all(asked).await {
        assert_eq!(answer, Ok(StoreReply::Actor(None)));
    }
    // Theirs, and the one that asks.
    assert_eq!(connections() - before, 2);
}
