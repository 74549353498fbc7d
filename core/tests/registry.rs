//! The registry by hand: what rows and nodes say, and what it makes of that.

mod hand;

use hand::{actor_key, worker_key};
use holdfast_core::actor::Assignment;
use holdfast_core::effect::NodeRow;
use holdfast_core::id::*;
use holdfast_core::registry::*;
use holdfast_core::session::Eviction;
use holdfast_core::settings::Settings;
use holdfast_core::time::{Duration, Instant};
use holdfast_core::worker::{self, Duty, Hosted, Worker};
use std::collections::{BTreeMap, BTreeSet};

/// A registry, and the nodes that report to it.
struct Ear {
    registry: Registry,
    now: Instant,
    /// Each node's last report.
    nodes: BTreeMap<NodeName, NodeRow>,
}

impl Ear {
    /// It has listed these rows, and nothing else has happened.
    fn listed(rows: &[Worker]) -> Ear {
        let mut ear = Ear {
            registry: Registry::new(Settings::DEFAULT),
            now: Instant::from_micros(1_000_000),
            nodes: BTreeMap::new(),
        };
        ear.registry.listed(rows.to_vec());
        ear
    }

    /// The next report of a node. The first counts as the second of its run: as one that names everybody.
    fn next(&mut self, node: &str) -> &mut NodeRow {
        let row = self.nodes.entry(node.into()).or_insert_with(|| NodeRow {
            name: node.into(),
            address: "address".into(),
            incarnation: "atelet".into(),
            sequence: 1,
            session: 0,
            lapsed: 0,
            version: 0,
        });
        row.sequence += 1;
        row
    }

    /// A node reports to this replica; what is wished for then.
    fn reports(&mut self, node: &str, workers: &[Sighting]) -> Vec<Wish> {
        let node = self.next(node).clone();
        let workers = workers.to_vec();
        self.registry.reported(self.now, Report { node, workers });
        self.wishes()
    }

    /// A node reports to another replica.
    fn is_heard_elsewhere(&mut self, node: &str) -> Vec<Wish> {
        let row = self.next(node).clone();
        self.registry.heard(self.now, row);
        self.wishes()
    }

    fn written(&mut self, row: &Worker) -> Vec<Wish> {
        self.registry.written(row.clone());
        self.wishes()
    }

    fn pass(&mut self, time: Duration) -> Vec<Wish> {
        self.now = self.now.plus(time);
        self.registry.handle_timeout(self.now);
        self.wishes()
    }

    fn wishes(&mut self) -> Vec<Wish> {
        std::iter::from_fn(|| self.registry.poll_wish()).collect()
    }

    /// The worker that is free, if any.
    fn free(&self) -> Option<WorkerKey> {
        let pools = [("ns".into(), "pool".into())];
        let worker = self.registry.place(&pools, None, &BTreeSet::new(), 0);
        worker.map(|worker| worker.key.clone())
    }
}

/// The row of a free worker on node n1.
fn row(name: &str, version: u64) -> Worker {
    Worker {
        key: worker_key(name),
        version: Version(version),
        pod_uid: format!("uid-{name}").into(),
        incarnation: "run-1".into(),
        ip: "ip".into(),
        node: "n1".into(),
        duty: Duty::Serving,
        hosts: None,
    }
}

/// That row, promised to an actor under a fence and a session.
fn promised(row: Worker, fence: u64, session: u64) -> Worker {
    let hosts = Some(Hosted {
        actor: actor_key("a"),
        incarnation: Incarnation(7),
        template_namespace: "ns".into(),
        template_name: "counter".into(),
        fence: Fence(fence),
        session,
    });
    Worker { hosts, ..row }
}

/// What its node says that agrees with a row.
fn seen(row: &Worker) -> Sighting {
    Sighting {
        key: row.key.clone(),
        pod_uid: row.pod_uid.clone(),
        incarnation: row.incarnation.clone(),
        ip: row.ip.clone(),
        node: row.node.clone(),
        duty: row.duty,
        is_silent: false,
        highest_fence: row.hosts.as_ref().map(|hosted| hosted.fence).unwrap_or_default(),
        hosting: row.hosts.as_ref().map(|hosted| hosting(hosted.session)),
    }
}

fn hosting(session: u64) -> Hosting {
    Hosting {
        actor: actor_key("a"),
        incarnation: Incarnation(7),
        session,
    }
}

/// What was assigned by a promise.
fn on(row: &Worker) -> Assignment {
    Assignment::of(row).unwrap()
}

fn release(name: &str) -> Wish {
    Wish::Release {
        actor: actor_key("a"),
        worker: worker_key(name),
    }
}

#[test]
fn a_row_is_written_as_its_node_sees_the_worker() {
    let known = row("w", 10);
    let agreed = seen(&known);
    let changes: [fn(&mut Sighting); 4] = [
        |s| s.pod_uid = "another".into(),
        |s| s.incarnation = "run-2".into(),
        |s| s.ip = "another".into(),
        |s| s.duty = Duty::Draining,
    ];
    let mut ear = Ear::listed(std::slice::from_ref(&known));
    assert_eq!(ear.reports("n1", std::slice::from_ref(&agreed)), []);
    for change in changes {
        let mut ear = Ear::listed(std::slice::from_ref(&known));
        let mut said = agreed.clone();
        change(&mut said);
        let worker = Worker {
            version: Version(11),
            pod_uid: said.pod_uid.clone(),
            incarnation: said.incarnation.clone(),
            ip: said.ip.clone(),
            duty: said.duty,
            ..known.clone()
        };
        let wish = Wish::Write {
            expect: Some(worker::Edition::free(Version(10))),
            worker: Box::new(worker),
        };
        assert_eq!(ear.reports("n1", &[said]), [wish]);
    }
}

#[test]
fn a_row_that_is_behind_its_node_is_raised_above_what_that_has_seen() {
    let busy = || Some(hosting(0));
    let cases = [
        (9, busy(), None),
        (10, busy(), Some(11)),
        (30, busy(), Some(31)),
        // The next promise is let in as it is.
        (10, None, None),
        (11, None, Some(12)),
    ];
    for (highest, hosting, raised) in cases {
        let known = row("w", 10);
        let mut ear = Ear::listed(std::slice::from_ref(&known));
        let said = Sighting {
            highest_fence: Fence(highest),
            hosting,
            ..seen(&known)
        };
        let wishes = ear.reports("n1", &[said]);
        let versions = wishes.iter().map(|wish| match wish {
            Wish::Write { worker, .. } => worker.version,
            other => panic!("{other:?}"),
        });
        assert_eq!(
            versions.collect::<Vec<_>>(),
            raised.map(Version).into_iter().collect::<Vec<_>>()
        );
    }
}

#[test]
fn a_promise_without_a_fence_is_ended_by_nothing_but_another_pod() {
    let known = promised(row("w", 10), 0, 0);
    for (highest, is_hosting) in [(0, false), (5, false), (5, true)] {
        let mut ear = Ear::listed(std::slice::from_ref(&known));
        let said = Sighting {
            highest_fence: Fence(highest),
            hosting: is_hosting.then(|| hosting(0)),
            ..seen(&known)
        };
        assert_eq!(ear.reports("n1", &[said]), []);
    }
    let mut ear = Ear::listed(std::slice::from_ref(&known));
    let said = Sighting {
        pod_uid: "another".into(),
        ..seen(&known)
    };
    assert_eq!(ear.reports("n1", &[said]), [release("w")]);
}

#[test]
fn an_actor_is_thawed_if_it_waits_for_a_session_that_its_node_has_left() {
    for (came_under, is_thawed) in [(0, false), (1, true), (2, false)] {
        let known = promised(row("w", 10), 10, came_under);
        let mut ear = Ear::listed(std::slice::from_ref(&known));
        ear.next("n1").session = 2;
        let thaw = Wish::Thaw {
            actor: actor_key("a"),
            worker: worker_key("w"),
        };
        let expected = if is_thawed { vec![thaw] } else { vec![] };
        assert_eq!(ear.reports("n1", &[seen(&known)]), expected, "{came_under}");
    }
}

#[test]
fn the_same_words_in_another_session_are_looked_at_again() {
    let known = promised(row("w", 10), 10, 1);
    let mut ear = Ear::listed(std::slice::from_ref(&known));
    ear.next("n1").session = 1;
    assert_eq!(ear.reports("n1", &[seen(&known)]), []);
    assert_eq!(ear.reports("n1", &[seen(&known)]), []);
    ear.next("n1").session = 2;
    let wishes = ear.reports("n1", &[seen(&known)]);
    assert!(matches!(wishes[..], [Wish::Thaw { .. }]), "{wishes:?}");
}

#[test]
fn a_stray_is_what_a_worker_hosts_although_its_row_has_moved_on() {
    let free = row("w", 10);
    let kept = promised(row("w", 10), 10, 0);
    let guest = |actor: &str, life: u64| Hosting {
        actor: actor_key(actor),
        incarnation: Incarnation(life),
        session: 0,
    };
    // What the row says, the highest fence that the node has seen, what it hosts, and whether that is a stray.
    for (known, highest, hosting, is_stray) in [
        (&free, 9, guest("a", 7), true),
        (&free, 10, guest("a", 7), false),
        (&free, 11, guest("a", 7), false),
        (&free, 9, guest("a", 0), false),
        (&kept, 9, guest("a", 7), false),
        (&kept, 9, guest("b", 7), true),
        (&kept, 9, guest("a", 8), true),
        (&kept, 9, guest("b", 8), true),
        (&kept, 10, guest("b", 8), false),
        (&kept, 11, guest("b", 8), false),
    ] {
        let mut ear = Ear::listed(std::slice::from_ref(known));
        let said = Sighting {
            highest_fence: Fence(highest),
            hosting: Some(hosting.clone()),
            ..seen(known)
        };
        ear.reports("n1", std::slice::from_ref(&said));
        let stray = is_stray.then_some(&hosting);
        assert_eq!(
            ear.registry.stray(&known.key),
            stray,
            "{highest} {hosting:?} {known:?}"
        );
        assert_eq!(ear.registry.strays().len(), usize::from(is_stray));
        // Another pod, or another run, brought what it hosts: the row knows nothing of either.
        for said in [
            Sighting {
                pod_uid: "another".into(),
                ..said.clone()
            },
            Sighting {
                incarnation: "run-2".into(),
                ..said
            },
        ] {
            let mut ear = Ear::listed(std::slice::from_ref(known));
            ear.reports("n1", &[said]);
            assert_eq!(ear.registry.stray(&known.key), None);
        }
    }
}

#[test]
fn a_stray_is_ended_up_to_the_promise_that_stands() {
    for (known, fence) in [(row("w", 10), 10), (promised(row("w", 10), 10, 0), 9)] {
        let mut ear = Ear::listed(std::slice::from_ref(&known));
        let said = Sighting {
            highest_fence: Fence(5),
            hosting: Some(Hosting {
                actor: actor_key("b"),
                ..hosting(0)
            }),
            ..seen(&known)
        };
        ear.reports("n1", std::slice::from_ref(&said));
        let evictions = |ear: &Ear| ear.registry.evictions(&"n1".into());
        assert_eq!(evictions(&ear), []);
        ear.registry.condemn(&known.key, &actor_key("b"));
        let eviction = Eviction {
            pod_uid: known.pod_uid.clone(),
            fence: Fence(fence),
        };
        assert_eq!(evictions(&ear), [eviction]);
        assert_eq!(ear.registry.evictions(&"n2".into()), []);

        // It is gone. If it comes back it is judged again.
        ear.reports("n1", &[seen(&known)]);
        assert_eq!((evictions(&ear), ear.registry.strays().len()), (vec![], 0));
        ear.reports("n1", &[said]);
        assert_eq!((evictions(&ear), ear.registry.strays().len()), (vec![], 1));
    }
}

#[test]
fn what_is_no_stray_cannot_be_condemned() {
    let known = promised(row("w", 10), 10, 0);
    let mut ear = Ear::listed(std::slice::from_ref(&known));
    ear.reports("n1", &[seen(&known)]);
    ear.registry.condemn(&known.key, &actor_key("a"));
    assert_eq!(ear.registry.evictions(&"n1".into()), []);
}

/// A node tells whichever replica it reaches. Whoever has found out about a stray still knows when the node is back.
#[test]
fn a_stray_is_ended_although_its_node_has_told_another_replica_meanwhile() {
    let known = row("w", 10);
    let guest = |actor: &str| Sighting {
        highest_fence: Fence(5),
        hosting: Some(Hosting {
            actor: actor_key(actor),
            ..hosting(0)
        }),
        ..seen(&known)
    };
    // Another replica has tried to give the worker to somebody meanwhile.
    let tried = row("w", 12);
    let here = promised(row("w", 12), 12, 0);
    // Who is there when the node is back, how the row stands by then, and whether it is ended.
    for (actor, row, is_ended) in [
        ("b", &known, true),
        ("b", &tried, true),
        ("c", &known, false),
        ("a", &here, false),
    ] {
        let mut ear = Ear::listed(std::slice::from_ref(&known));
        ear.reports("n1", &[guest("b")]);
        ear.registry.condemn(&known.key, &actor_key("c"));
        assert_eq!(
            ear.registry.evictions(&"n1".into()),
            [],
            "it is another that was asked about"
        );
        ear.registry.condemn(&known.key, &actor_key("b"));
        ear.is_heard_elsewhere("n1");
        assert!(ear.registry.is_unheard(&known.key));
        assert_eq!(ear.registry.evictions(&"n1".into()), []);
        ear.written(row);
        ear.reports("n1", &[guest(actor)]);
        assert_eq!(
            !ear.registry.evictions(&"n1".into()).is_empty(),
            is_ended,
            "{actor} {row:?}"
        );
    }
}

#[test]
fn a_list_is_held_against_what_was_reported_before_it() {
    let mut ear = Ear {
        registry: Registry::new(Settings::DEFAULT),
        ..Ear::listed(&[])
    };
    let known = row("w", 10);
    assert_eq!(ear.reports("n1", &[seen(&known)]), [], "nothing is known of rows");
    assert!(!ear.registry.is_synced());
    ear.registry.listed(Vec::new());
    assert!(ear.registry.is_synced());
    let wishes = ear.wishes();
    assert!(
        matches!(wishes[..], [Wish::Write { expect: None, .. }]),
        "{wishes:?}"
    );
}

/// A store that fails over may have lost what it had told of.
#[test]
fn a_list_says_what_there_is_also_if_it_is_older_than_what_is_known() {
    let known = row("w", 10);
    let mut ear = Ear::listed(std::slice::from_ref(&known));
    ear.registry.listing();
    ear.registry.listed(vec![row("w", 7)]);
    assert_eq!(ear.registry.row(&known.key), Some(&row("w", 7)));
}

#[test]
fn what_is_heard_while_a_list_is_read_is_newer_than_the_list() {
    let mut ear = Ear::listed(&[row("w1", 10)]);
    ear.registry.listing();
    ear.registry.written(row("w1", 10));
    ear.registry.written(row("w2", 3));
    ear.registry.listed(vec![row("w1", 7)]);
    assert_eq!(ear.registry.row(&worker_key("w1")), Some(&row("w1", 10)));
    assert_eq!(ear.registry.row(&worker_key("w2")), Some(&row("w2", 3)));
    // The next list is asked for after that.
    ear.registry.listing();
    ear.registry.listed(vec![row("w1", 8)]);
    assert_eq!(ear.registry.row(&worker_key("w1")), Some(&row("w1", 8)));
    assert_eq!(ear.registry.row(&worker_key("w2")), None);
}

#[test]
fn a_row_that_is_missing_in_a_later_list_is_gone() {
    let mut ear = Ear::listed(&[row("w1", 10), row("w2", 10)]);
    ear.registry.listed(vec![row("w2", 10)]);
    assert_eq!(ear.registry.row(&worker_key("w1")), None);
    assert!(ear.registry.row(&worker_key("w2")).is_some());
    assert_eq!(ear.registry.rows().count(), 1);
}

#[test]
fn what_has_come_and_gone_leaves_nothing_behind() {
    let mut ear = Ear::listed(&[]);
    ear.is_heard_elsewhere("n1");
    let before = ear.registry.clone();
    ear.written(&row("w", 10));
    assert_ne!(ear.registry, before);
    ear.registry.deleted(&worker_key("w"));
    assert_eq!(ear.registry, before);
}

#[test]
fn a_repair_that_could_not_be_made_is_wished_for_again() {
    let known = row("w", 10);
    let mut ear = Ear::listed(std::slice::from_ref(&known));
    let said = Sighting {
        ip: "another".into(),
        ..seen(&known)
    };
    let wishes = ear.reports("n1", std::slice::from_ref(&said));
    assert_eq!(wishes.len(), 1);
    assert_eq!(
        ear.reports("n1", std::slice::from_ref(&said)),
        [],
        "it is under way"
    );
    ear.registry.repair_failed(&known.key);
    assert_eq!(ear.reports("n1", &[said]), wishes);
}

#[test]
fn a_worker_that_nobody_has_heard_is_not_gone_although_its_row_is_of_an_older_pod() {
    let known = row("w", 10);
    let silent = Sighting {
        pod_uid: "another".into(),
        incarnation: "".into(),
        is_silent: true,
        ..seen(&known)
    };
    let mut ear = Ear::listed(std::slice::from_ref(&known));
    assert_eq!(ear.reports("n1", std::slice::from_ref(&silent)), []);
    // Nor when it was heard before.
    let mut ear = Ear::listed(std::slice::from_ref(&known));
    ear.reports("n1", &[seen(&known)]);
    assert_eq!(ear.reports("n1", &[silent]), []);
    assert_eq!(ear.reports("n1", &[]).len(), 1, "now it is");
}

#[test]
fn a_worker_without_a_row_of_which_its_node_says_no_more_is_forgotten() {
    let known = row("w", 10);
    let silent = Sighting {
        pod_uid: "another".into(),
        incarnation: "".into(),
        is_silent: true,
        ..seen(&known)
    };
    let after = |first: &[Sighting]| {
        let mut ear = Ear::listed(&[]);
        ear.reports("n1", first);
        ear.reports("n1", std::slice::from_ref(&silent));
        ear.registry
    };
    assert_eq!(after(&[seen(&known)]), after(&[]));
}

#[test]
fn of_a_worker_that_does_not_answer_its_row_tells_which_run_it_was_unless_its_node_knows() {
    let known = row("w", 10);
    let silent = |run: &str| Sighting {
        incarnation: run.into(),
        is_silent: true,
        ..seen(&known)
    };
    let mut ear = Ear::listed(std::slice::from_ref(&known));
    assert_eq!(ear.reports("n1", &[silent("")]), []);
    assert_eq!(ear.free(), None, "it is there, and silent");
    let wishes = ear.reports("n1", &[silent("run-2")]);
    let worker = match &wishes[..] {
        [Wish::Write { worker, .. }] => worker,
        other => panic!("{other:?}"),
    };
    assert_eq!(worker.incarnation, "run-2".into());
    // A node that has heard it can tell without a row, too.
    let mut ear = Ear::listed(&[]);
    assert_eq!(ear.reports("n1", &[silent("")]), []);
    assert_eq!(ear.reports("n1", &[silent("run-2")]).len(), 1);
}

#[test]
fn what_a_vacated_workers_node_says_next_is_read_although_it_says_what_it_said_before() {
    let known = promised(row("w", 10), 10, 0);
    let mut ear = Ear::listed(std::slice::from_ref(&known));
    assert_eq!(ear.reports("n1", &[seen(&known)]), []);
    ear.registry.vacated(&on(&known));
    assert_eq!(ear.registry.fact(&on(&known)), Fact::Gone(Going::Sandbox));
    ear.reports("n1", &[seen(&known)]);
    assert_eq!(ear.registry.fact(&on(&known)), Fact::Present);
}

#[test]
fn a_node_says_nothing_of_a_worker_that_has_moved_away() {
    let here = row("w", 10);
    let mut ear = Ear::listed(std::slice::from_ref(&here));
    let moved = Worker {
        version: Version(11),
        node: "n2".into(),
        ..here.clone()
    };
    ear.written(&moved);
    assert_eq!(ear.reports("n1", &[]), []);
    assert_eq!(ear.reports("n2", &[]).len(), 1, "its own node does");

    // The first report of a run leaves out what has not been found yet, and is no word about it later either.
    let mut ear = Ear::listed(std::slice::from_ref(&here));
    ear.next("n1").sequence = 0;
    assert_eq!(ear.reports("n1", &[]), []);
    ear.written(&moved);
    assert_eq!(ear.reports("n1", &[]), []);
}

#[test]
fn of_two_nodes_that_name_one_worker_the_last_word_counts() {
    let here = row("w", 10);
    let there = Worker {
        version: Version(11),
        node: "n2".into(),
        ..here.clone()
    };
    let back = Wish::Write {
        expect: Some(worker::Edition::free(Version(11))),
        worker: Box::new(Worker {
            version: Version(12),
            ..here.clone()
        }),
    };
    let mut ear = Ear::listed(std::slice::from_ref(&here));
    ear.reports("n1", &[seen(&here)]);
    assert_eq!(ear.reports("n2", &[seen(&there)]).len(), 1);
    ear.written(&there);
    ear.reports("n2", &[seen(&there)]);
    assert_eq!(ear.reports("n1", &[seen(&here)]), [back]);
}

#[test]
fn a_node_that_says_again_what_another_has_denied_is_believed() {
    let here = row("w", 10);
    let elsewhere = Sighting {
        node: "n2".into(),
        highest_fence: Fence(3),
        hosting: Some(hosting(0)),
        ..seen(&here)
    };
    let mut ear = Ear::listed(std::slice::from_ref(&here));
    ear.reports("n1", &[seen(&here)]);
    assert_eq!(ear.free(), Some(here.key.clone()));
    ear.reports("n2", &[elsewhere]);
    ear.registry.repair_failed(&here.key);
    assert_eq!(ear.free(), None);
    ear.reports("n1", &[seen(&here)]);
    assert_eq!(ear.free(), Some(here.key));
}

#[test]
fn a_worker_that_a_node_names_for_another_is_its_last_word_every_time() {
    let there = Worker {
        node: "n2".into(),
        ..row("w", 10)
    };
    let hearsay = seen(&there);
    let other_ip = Sighting {
        ip: "another".into(),
        ..hearsay.clone()
    };
    let mut ear = Ear::listed(std::slice::from_ref(&there));
    assert_eq!(ear.reports("n1", std::slice::from_ref(&hearsay)), []);
    assert_eq!(ear.reports("n2", &[other_ip]).len(), 1);
    let written = Worker {
        version: Version(11),
        ip: "another".into(),
        ..there
    };
    ear.written(&written);
    assert_eq!(ear.reports("n1", &[hearsay]).len(), 1);
}

#[test]
fn what_is_known_already_is_no_sign_of_life() {
    let mut ear = Ear::listed(&[row("w", 10)]);
    ear.is_heard_elsewhere("n1");
    assert_eq!(ear.free(), Some(worker_key("w")));
    ear.pass(Settings::DEFAULT.node.stale_silence());
    assert_eq!(ear.free(), None);
    let known = ear.nodes[&NodeName::from("n1")].clone();
    ear.registry.heard(ear.now, known);
    assert_eq!(ear.free(), None);
    let row = ear.next("n1").clone();
    ear.registry.heard(ear.now, row);
    assert_eq!(ear.free(), Some(worker_key("w")));
}

#[test]
fn a_node_whose_session_is_over_gets_no_actors() {
    let mut ear = Ear::listed(&[row("w", 10)]);
    for (session, lapsed, is_free) in [(0, 0, true), (1, 0, true), (1, 1, false), (2, 1, true)] {
        let next = ear.next("n1");
        (next.session, next.lapsed) = (session, lapsed);
        ear.is_heard_elsewhere("n1");
        assert_eq!(ear.free().is_some(), is_free, "{session} {lapsed}");
    }
}

#[test]
fn the_end_of_a_session_is_wished_for_until_an_answer_says_more() {
    let mut ear = Ear::listed(&[]);
    ear.next("n1").session = 1;
    ear.is_heard_elsewhere("n1");
    let lapse = |ear: &Ear| Wish::Lapse(ear.nodes[&NodeName::from("n1")].clone());
    let over = Settings::DEFAULT.session_over_after();
    assert_eq!(ear.pass(over - Duration::from_micros(1)), []);
    assert_eq!(ear.pass(Duration::from_micros(1)), [lapse(&ear)]);
    let again = Settings::DEFAULT.node.heartbeat_every;
    assert_eq!(ear.pass(again - Duration::from_micros(1)), []);
    assert_eq!(ear.pass(Duration::from_micros(1)), [lapse(&ear)]);
    let row = ear.nodes[&NodeName::from("n1")].clone();
    ear.registry.lapsed(ear.now, &row);
    assert_eq!(ear.pass(over * 2), []);
}

#[test]
fn the_seed_spreads_the_choice_over_pools() {
    let other = Worker {
        key: WorkerKey::new("ns", "other", "w"),
        ..row("w", 10)
    };
    let mut ear = Ear::listed(&[row("w", 10), other]);
    ear.is_heard_elsewhere("n1");
    let pools = [("ns".into(), "pool".into()), ("ns".into(), "other".into())];
    let place = |seed| ear.registry.place(&pools, None, &BTreeSet::new(), seed).unwrap();
    let first = (0..100)
        .filter(|seed| place(*seed).key == worker_key("w"))
        .count();
    assert!((30..=70).contains(&first), "{first} of 100");
}

#[test]
fn of_a_worker_that_nobody_knows_the_session_of_its_node_tells() {
    let mut ear = Ear::listed(&[]);
    let next = ear.next("n1");
    (next.session, next.lapsed) = (4, 3);
    ear.is_heard_elsewhere("n1");
    for (session, fact) in [
        (0, Fact::Present),
        (2, Fact::Gone(Going::Session)),
        (3, Fact::Gone(Going::Session)),
        (4, Fact::Present),
    ] {
        let on = on(&promised(row("w", 10), 10, session));
        assert_eq!(ear.registry.fact(&on), fact, "{session}");
        let elsewhere = Assignment {
            node: "n2".into(),
            ..on
        };
        assert_eq!(ear.registry.fact(&elsewhere), Fact::Present);
    }
}

#[test]
fn a_row_of_another_pod_or_run_tells_that_a_worker_was_restarted_unless_it_has_the_same_promise() {
    let known = promised(row("w", 10), 10, 0);
    let mine = on(&known);
    let pod_uid = || Assignment {
        pod_uid: "another".into(),
        ..mine.clone()
    };
    let run = |incarnation: &str| Assignment {
        incarnation: incarnation.into(),
        ..mine.clone()
    };
    for (on, is_other) in [
        (mine.clone(), false),
        (pod_uid(), true),
        (run("run-0"), true),
        (run(""), false),
    ] {
        let fact = |known: &Worker| Ear::listed(std::slice::from_ref(known)).registry.fact(&on);
        assert_eq!(fact(&known), Fact::Present, "the promise stands: {on:?}");
        let restarted = match is_other {
            true => Fact::Gone(Going::Restarted),
            false => Fact::Present,
        };
        assert_eq!(fact(&row("w", 11)), restarted, "{on:?}");
        assert_eq!(fact(&promised(row("w", 11), 11, 0)), restarted, "{on:?}");
    }
}

/// What a write has expected the store has had; what is below that is what is left of it.
#[test]
fn a_row_below_what_a_write_expected_is_what_there_is_and_another_below_what_is_known_is_old() {
    for (expected, left) in [(Some(7), 5), (Some(5), 7), (Some(4), 7), (None, 7)] {
        let mut ear = Ear::listed(&[row("w", 7)]);
        let expected = expected.map(|version| row("w", version).edition());
        ear.registry.conflicted(expected, row("w", 5));
        assert_eq!(ear.registry.row(&worker_key("w")).unwrap().version, Version(left));
    }
}

/// A replica has heard a report that the store has not: it was never answered.
#[test]
fn a_session_is_declared_over_by_the_last_report_that_the_store_has() {
    let mut ear = Ear::listed(&[]);
    let stored = ear.next("n1").clone();
    ear.reports("n1", &[]);
    let heard = stored.sequence + 1;
    let row = |sequence, run: &str| NodeRow {
        sequence,
        incarnation: run.into(),
        ..stored.clone()
    };
    let mut wishes = |asked, sequence, run| {
        let expect = row(asked, "atelet");
        ear.registry.not_lapsed(ear.now, &expect, row(sequence, run));
        ear.wishes()
    };
    let lapse = Wish::Lapse(row(heard - 1, "atelet"));
    assert_eq!(wishes(heard, heard - 1, "atelet"), [lapse]);
    assert_eq!(
        wishes(heard - 1, heard - 2, "atelet"),
        [],
        "it is asked in vain once"
    );
    assert_eq!(wishes(heard, heard - 1, "another"), [], "that is another run");
    assert_eq!(wishes(heard, heard + 1, "atelet"), [], "it lives");
}
