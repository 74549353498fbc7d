//! A real cluster: the whole suite, servers that die, slots that move.

#[path = "server/cluster.rs"]
mod cluster;
#[path = "samples/renewals.rs"]
mod renewals;
#[allow(dead_code, reason = "other tests use more of them")]
mod samples;
#[allow(dead_code, reason = "other tests do more with it")]
mod server;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cluster::{Cluster, info};
use futures_util::future::BoxFuture;
use holdfast_core::effect::{StoreError, StoreEvent, StoreOp, StoreReply};
use holdfast_core::id::{Version, WorkerKey};
use holdfast_core::worker::{Duty, Worker};
use holdfast_store::conformance::Subject;
use holdfast_store::redis::{Config, Redis, Timing, Url};
use holdfast_store::{Store, Watch};
use samples::{actor, put};

const PATIENCE: Duration = Duration::from_secs(60);

fn connect(url: &str, timing: Timing) -> Redis {
    let url: Url = url.parse().unwrap();
    Redis::new(Config {
        timing,
        ..Config::from(url)
    })
}

/// One that notices soon.
fn attentive() -> Timing {
    Timing {
        ping_every: Duration::from_millis(100),
        retry_to: Duration::from_millis(500),
        ..Timing::default()
    }
}

struct OnCluster {
    store: Arc<dyn Store>,
    peer: Arc<dyn Store>,
}

impl OnCluster {
    /// On a cluster in which there is nothing; the peer enters it by another server.
    async fn emptied(cluster: &Cluster) -> OnCluster {
        cluster.flush();
        let other = format!("redis://{}", cluster.masters[1].address());
        OnCluster {
            store: Arc::new(connect(&cluster.url(), Timing::default())),
            peer: Arc::new(connect(&other, Timing::default())),
        }
    }
}

impl Subject for OnCluster {
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

#[tokio::test]
async fn the_whole_suite_passes_on_three_masters() {
    let cluster = Cluster::start(3, false);
    holdfast_store::conformance_suite!(one_by_one OnCluster::emptied(&cluster));
    let subject = OnCluster::emptied(&cluster).await;
    renewals::renew_many(&*subject.store).await;
}

#[tokio::test]
async fn the_whole_suite_passes_on_three_masters_where_lists_know_the_keys() {
    let cluster = Cluster::start(3, false);
    let subject = async || {
        let subject = OnCluster::emptied(&cluster).await;
        for store in [&subject.store, &subject.peer] {
            let mut watch = store.watch();
            assert_eq!(heard(&mut watch).await, StoreEvent::Resync);
            for op in [list(None, 10), StoreOp::ListWorkers, StoreOp::ListNodes] {
                store.execute(op).await.unwrap();
            }
        }
        subject
    };
    holdfast_store::conformance_suite!(one_by_one subject());
}

fn get(name: &str) -> StoreOp {
    StoreOp::GetActor(actor(name).key)
}

async fn done(store: &dyn Store, op: StoreOp) {
    let shown = format!("{op:?}");
    assert_eq!(store.execute(op).await, Ok(StoreReply::Done), "{shown}");
}

async fn heard(watch: &mut Watch) -> StoreEvent {
    let next = tokio::time::timeout(PATIENCE, watch.next()).await;
    next.expect("nothing is heard").expect("the store is there")
}

fn list(after: Option<holdfast_core::id::Name>, limit: u32) -> StoreOp {
    StoreOp::ListActors {
        atespace: None,
        after,
        limit,
    }
}

fn worker(pod: usize, version: u64) -> Worker {
    Worker {
        key: WorkerKey::new("ns", "pool", format!("w{pod}")),
        version: Version(version),
        pod_uid: "uid".into(),
        incarnation: "run".into(),
        ip: "10.0.0.1".into(),
        node: "n1".into(),
        duty: Duty::Serving,
        hosts: None,
    }
}

fn put_worker(pod: usize) -> StoreOp {
    StoreOp::PutWorker {
        expect: None,
        worker: Box::new(worker(pod, 1)),
    }
}

/// The slot of an actor, as the cluster itself counts.
fn slot(cluster: &Cluster, name: &str) -> u16 {
    let key = format!("actor:team-a:{name}");
    info(&cluster.masters[0], &format!("CLUSTER KEYSLOT {key}"))
        .parse()
        .unwrap()
}

fn owner(slot: u16) -> usize {
    (0..3)
        .find(|index| usize::from(slot) < (index + 1) * 16384 / 3)
        .unwrap()
}

#[tokio::test]
async fn a_master_that_dies_is_an_error_that_passes_until_its_replica_has_taken_over() {
    let mut cluster = Cluster::start(3, true);
    let store = connect(&cluster.url(), attentive());
    let mut watch = store.watch();
    assert_eq!(heard(&mut watch).await, StoreEvent::Resync);
    for index in 0..30 {
        done(&store, put(&actor(&format!("a{index}")), None, None)).await;
    }
    // The server that was named at start dies, too.
    let victim = 0;
    let theirs: Vec<String> = (0..30)
        .map(|index| format!("a{index}"))
        .filter(|name| owner(slot(&cluster, name)) == victim)
        .collect();
    assert!(!theirs.is_empty());
    // Copies are asynchronous: a write that has not been copied may be lost, which is not what is tested here.
    cluster.wait_until("its replica has everything", |cluster| {
        let keys =
            |server: &server::Server| -> u64 { redis::cmd("DBSIZE").query(&mut server.raw()).unwrap() };
        keys(&cluster.replicas[victim]) == keys(&cluster.masters[victim])
    });
    cluster.masters[victim].kill();
    let op = get(&theirs[0]);
    let mut failures = 0;
    let recovered = async {
        loop {
            match store.execute(op.clone()).await {
                Err(StoreError::Unavailable(_)) => failures += 1,
                Err(StoreError::Refused(why)) => panic!("nobody needs to mend this: {why}"),
                Ok(answer) => return answer,
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let answer = tokio::time::timeout(PATIENCE, recovered)
        .await
        .expect("no failover");
    assert!(matches!(answer, StoreReply::Actor(Some(_))), "{answer:?}");
    assert!(failures > 0, "it was away for a time");
    assert_eq!(
        heard(&mut watch).await,
        StoreEvent::Resync,
        "a new server is listened to"
    );
    let fresh = tokio::time::timeout(PATIENCE, async {
        loop {
            match store.execute(put_worker(7)).await {
                Err(StoreError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
                answer => return answer,
            }
        }
    });
    fresh.await.unwrap().unwrap();
    while !matches!(heard(&mut watch).await, StoreEvent::Worker(worker) if *worker == self::worker(7, 1)) {}
    let Ok(StoreReply::Actors { actors, next: None }) = store.execute(list(None, 100)).await else {
        panic!("no list")
    };
    assert_eq!(actors.len(), 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_move_under_load_fail_nobody_and_lists_stay_whole() {
    let mut cluster = Cluster::start(3, false);
    cluster.join();
    let store = Arc::new(connect(&cluster.url(), attentive()));
    let names: Vec<String> = (0..40).map(|index| format!("a{index:02}")).collect();
    for name in &names {
        done(&*store, put(&actor(name), None, None)).await;
    }
    let over = Arc::new(AtomicBool::new(false));
    // Each name is written all the time by one writer, whose every write must come through, once.
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (store, over) = (store.clone(), over.clone());
            let names: Vec<String> = names.iter().skip(writer).step_by(4).cloned().collect();
            tokio::spawn(async move {
                let mut version = 1;
                while !over.load(Ordering::SeqCst) {
                    for name in &names {
                        done(&*store, put(&actor(name), Some(version), None)).await;
                    }
                    version += 1;
                }
                version
            })
        })
        .collect();
    let lister = {
        let (store, over, names) = (store.clone(), over.clone(), names.clone());
        tokio::spawn(async move {
            let mut lists = 0;
            while !over.load(Ordering::SeqCst) {
                let (mut seen, mut after) = (vec![], None);
                loop {
                    let Ok(StoreReply::Actors { actors, next }) = store.execute(list(after, 7)).await else {
                        panic!("no list")
                    };
                    seen.extend(actors.into_iter().map(|actor| actor.key.name.to_string()));
                    after = next;
                    if after.is_none() {
                        break;
                    }
                }
                assert_eq!(seen, names, "each once, in order");
                lists += 1;
            }
            lists
        })
    };
    let cluster = tokio::task::spawn_blocking({
        let names = names.clone();
        move || {
            // To the newcomer, as when a cluster grows.
            let slots: BTreeSet<u16> = names.iter().map(|name| slot(&cluster, name)).collect();
            for slot in slots {
                cluster.move_slot(slot, owner(slot), 3);
            }
            cluster
        }
    })
    .await
    .unwrap();
    over.store(true, Ordering::SeqCst);
    for writer in writers {
        assert!(writer.await.unwrap() > 1, "nothing was written");
    }
    assert!(lister.await.unwrap() > 0, "nothing was listed");
    drop(cluster);
}

#[tokio::test]
async fn a_slot_that_is_half_moved_is_read_written_and_listed_where_its_keys_are() {
    let cluster = Cluster::start(3, false);
    let store = connect(&cluster.url(), attentive());
    done(&store, put(&actor("a"), None, None)).await;
    let slot = slot(&cluster, "a");
    let (home, other) = (owner(slot), (owner(slot) + 1) % 3);
    cluster.open_slot(slot, home, other);
    // Here still.
    done(&store, put(&actor("a"), Some(1), None)).await;
    cluster.move_keys(slot, home, other);
    // There, though the slot is not.
    let now = holdfast_core::actor::Actor {
        version: Version(2),
        ..actor("a")
    };
    assert_eq!(
        store.execute(get("a")).await,
        Ok(StoreReply::Actor(Some(Box::new(now.clone()))))
    );
    let Ok(StoreReply::Actors { actors, .. }) = store.execute(list(None, 10)).await else {
        panic!("no list")
    };
    assert_eq!(actors, [now]);
    cluster.close_slot(slot, other);
    done(&store, put(&actor("a"), Some(2), None)).await;
}

#[tokio::test]
async fn a_watch_hears_every_master_once_and_lists_again_when_slots_have_moved() {
    let mut cluster = Cluster::start(3, false);
    let store = connect(&cluster.url(), attentive());
    let mut watch = store.watch();
    assert_eq!(heard(&mut watch).await, StoreEvent::Resync);
    for pod in 0..20 {
        done(&store, put_worker(pod)).await;
    }
    let mut pods = vec![];
    while pods.len() < 20 {
        match heard(&mut watch).await {
            StoreEvent::Worker(worker) => pods.push(worker.key.pod.to_string()),
            other => panic!("{other:?}"),
        }
    }
    pods.sort();
    pods.dedup();
    assert_eq!(
        pods.len(),
        20,
        "each once, though the cluster passes announcements on"
    );
    cluster.move_slot(5, 0, 1);
    assert_eq!(heard(&mut watch).await, StoreEvent::Resync);
    // What is written on a server that joins is heard.
    cluster.join();
    let slot: u16 = info(&cluster.masters[0], "CLUSTER KEYSLOT worker:ns:pool:w20")
        .parse()
        .unwrap();
    cluster.move_slot(slot, owner(slot), 3);
    assert_eq!(heard(&mut watch).await, StoreEvent::Resync);
    done(&store, put_worker(20)).await;
    loop {
        match heard(&mut watch).await {
            StoreEvent::Worker(heard) => {
                assert_eq!(*heard, worker(20, 1));
                break;
            }
            // Servers tell of the move one after the other.
            StoreEvent::Resync => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_cluster_has_no_other_database_than_the_first() {
    let cluster = Cluster::start(3, false);
    let store = connect(&format!("{}/3", cluster.url()), Timing::default());
    let Err(StoreError::Refused(why)) = store.ping().await else {
        panic!("accepted")
    };
    assert!(why.contains("SELECT is not allowed in cluster mode"), "{why}");
}

#[tokio::test]
async fn scripts_that_servers_of_a_cluster_have_forgotten_are_sent_again() {
    let cluster = Cluster::start(3, false);
    let store = connect(&cluster.url(), Timing::default());
    for version in [None, Some(1), Some(2)] {
        done(&store, put(&actor("a"), version, None)).await;
        for master in &cluster.masters {
            let () = redis::cmd("SCRIPT")
                .arg("FLUSH")
                .query(&mut master.raw())
                .unwrap();
        }
    }
}
