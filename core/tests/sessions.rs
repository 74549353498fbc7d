//! Sessions of nodes: what a silent node's actors may do, and what may be done about them.

mod hand;

use hand::{Cluster, catalog, sighting, template, worker_key};
use holdfast_core::actor::{Boot, State, Status};
use holdfast_core::effect::{NodeFailureKind, NodeReply, NodeRow, StoreOp, Verb};
use holdfast_core::failure::Code;
use holdfast_core::id::*;
use holdfast_core::machine::Machine;
use holdfast_core::node::{Alive, Described, Input, Memory, Node, Order, Output, Sandbox, Tend, Work};
use holdfast_core::registry::{Report, Sighting};
use holdfast_core::replica;
use holdfast_core::request::Request;
use holdfast_core::session::{Answered, Eviction, Grant};
use holdfast_core::settings::Settings;
use holdfast_core::time::{Duration, Instant};
use holdfast_core::worker::Duty;
use std::sync::Arc;

const TTL: Duration = Settings::DEFAULT.node.session_ttl;

/// When the replicas of a cluster that has been silent since its beginning declare the session over.
fn over_after() -> Duration {
    Settings::DEFAULT.session_over_after()
}

/// A worker that hosts an actor under its promise, in a session of its node.
fn hosting(c: &Cluster, key: &ActorKey, session: u64) -> Sighting {
    let fence = c.store.workers[&worker_key("w1")].hosts.as_ref().unwrap().fence;
    let mut sighting = sighting("w1", fence.0, Some(key));
    if let Some(hosting) = &mut sighting.hosting {
        hosting.session = session;
    }
    sighting
}

/// An actor that runs on w1, whose node has been silent for so long that its session is over.
fn silent(replicas: usize) -> (Cluster, ActorKey) {
    let mut c = Cluster::new(replicas, &["w1"]);
    let key = c.running("a", Some("mem://1"));
    c.watch();
    c.pass(0, over_after());
    c.watch();
    (c, key)
}

#[test]
fn a_session_is_declared_over_when_it_surely_is_and_not_before() {
    let mut c = Cluster::new(1, &["w1"]);
    c.pass(0, over_after() - Duration::from_micros(1));
    assert_eq!(c.store.nodes[&Name::from("node")].lapsed, 0);
    c.pass(0, Duration::from_micros(1));
    assert_eq!(c.store.nodes[&Name::from("node")].lapsed, 1);
    assert!(over_after() > TTL + TTL / 100, "drift and margin are added");
}

#[test]
fn a_node_that_another_replica_has_heard_is_not_given_up() {
    let mut c = Cluster::new(2, &["w1"]);
    c.pass(1, Duration::from_secs(60));
    c.report(1, vec![sighting("w1", 0, None)]);
    // Replica 0 has not been told by the store's watch.
    let wait = over_after() - Duration::from_secs(60);
    c.pass(0, wait);
    assert_eq!(
        c.store.nodes[&Name::from("node")].lapsed,
        0,
        "the write is conditional"
    );
    c.pass(0, over_after() - Duration::from_secs(1));
    assert_eq!(
        c.store.nodes[&Name::from("node")].lapsed,
        0,
        "it counts from when it learned of the report"
    );
}

#[test]
fn an_actor_on_a_silent_node_stays_until_somebody_wants_it() {
    let (mut c, key) = silent(1);
    c.pass(0, Duration::from_secs(60));
    assert_eq!(
        c.store.actors[&key].status(),
        Status::Running,
        "it is held still, and nothing is lost"
    );

    let suspend = c.ask(0, Request::Suspend(key.clone()));
    c.run(0);
    let refused = c.verdict(0, suspend).as_ref().unwrap_err();
    assert_eq!(
        (refused.code, refused.retry_after.is_some()),
        (Code::Unavailable, true)
    );
    assert_eq!(c.store.actors[&key].status(), Status::Running);

    let other = NodeRow {
        name: "other".into(),
        address: "address".into(),
        incarnation: "atelet".into(),
        sequence: 1,
        session: 1,
        lapsed: 0,
        version: 0,
    };
    let free = Sighting {
        node: "other".into(),
        ..sighting("w2", 0, None)
    };
    let workers = vec![free];
    c.ask(0, Request::Heartbeat(Report { node: other, workers }));
    c.run(0);
    c.ask(0, Request::Resume(key.clone(), Boot::Golden));
    c.run(0);
    assert_eq!(c.call(0).node, Name::from("other"));
    assert!(
        c.store.actors[&key].loss.is_some(),
        "what it did since its snapshot is given up, and said to be"
    );
    assert_eq!(c.store.workers[&worker_key("w1")].hosts, None);
}

#[test]
fn a_resume_under_way_on_a_silent_node_is_begun_elsewhere_without_asking_it() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.asleep("a", Some("mem://1"));
    c.ask(0, Request::Resume(key.clone(), Boot::Golden));
    c.run(0);
    assert_eq!(c.call(0).worker.as_ref().unwrap().session, 1);
    c.pass(0, over_after());
    assert!(
        c.replicas[0].calls.is_empty(),
        "nothing is asked of a node that is not there"
    );
    assert_ne!(c.store.actors[&key].status(), Status::Resuming);
    assert!(c.store.actors[&key].loss.is_none(), "it had not served");
}

#[test]
fn a_checkpoint_on_a_silent_node_is_given_up_and_said_to_be_lost() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", Some("mem://1"));
    let suspend = c.ask(0, Request::Suspend(key.clone()));
    c.run(0);
    c.pass(0, over_after());
    assert_eq!(
        c.verdict(0, suspend).as_ref().unwrap_err().code,
        Code::Unavailable
    );
    c.pass(0, Duration::from_secs(30));
    let actor = &c.store.actors[&key];
    assert_eq!(
        actor.status(),
        Status::Suspended,
        "no transition stands still for ever"
    );
    assert!(actor.loss.is_some());
}

#[test]
fn an_actor_goes_on_with_a_claim_and_then_a_thaw_when_its_node_is_back() {
    let (mut c, key) = silent(1);
    let before = c.store.actors[&key].version;
    c.session = 2;
    let back = hosting(&c, &key, 1);
    c.report(0, vec![back]);
    let call = c.call(0).clone();
    assert_eq!(call.verb, Verb::Thaw);
    assert_eq!(call.worker.as_ref().unwrap().session, 2);
    let actor = &c.store.actors[&key];
    assert!(
        actor.version > before,
        "whoever wanted to move it can do so no more"
    );
    assert!(call.fence > Fence(before.0));
    assert!(matches!(&actor.state, State::Running { on } if on.session == 2));

    c.answer(0, Ok(()));
    let agreed = hosting(&c, &key, 2);
    c.report(0, vec![agreed]);
    assert!(c.replicas[0].calls.is_empty());
    let resume = c.ask(0, Request::Resume(key, Boot::Golden));
    c.run(0);
    assert!(c.verdict(0, resume).is_ok());
}

#[test]
fn a_replica_that_has_not_heard_that_the_node_is_back_cannot_move_an_actor_that_went_on() {
    let (mut c, key) = silent(2);
    c.session = 2;
    let back = hosting(&c, &key, 1);
    c.report(0, vec![back]);
    c.answer(0, Ok(()));

    let resume = c.ask(1, Request::Resume(key.clone(), Boot::Golden));
    c.run(1);
    assert!(
        c.verdict(1, resume).is_ok(),
        "the record says under which session it runs"
    );
    assert!(c.store.actors[&key].loss.is_none());
}

#[test]
fn a_thaw_whose_sandbox_is_gone_after_all_is_a_loss() {
    let (mut c, key) = silent(1);
    c.session = 2;
    let back = hosting(&c, &key, 1);
    c.report(0, vec![back]);
    c.answer(0, hand::failure(Code::DataLoss, NodeFailureKind::SandboxGone));
    assert_eq!(c.store.actors[&key].status(), Status::Suspended);
    assert!(c.store.actors[&key].loss.is_some());
}

#[test]
fn what_no_record_knows_of_is_ended_after_a_second_look() {
    let mut c = Cluster::new(1, &["w1"]);
    let stranger = hand::actor_key("deleted-long-ago");
    let sweep = Settings::DEFAULT.workflow.sweep_every * 2;
    let evictions = |c: &mut Cluster| {
        c.report(0, vec![sighting("w1", 4, Some(&stranger))]);
        let id = RequestId(c.last_request());
        match c.verdict(0, id) {
            Ok(holdfast_core::request::Answer::Reported(_, Answered::Granted(grant))) => grant.evict.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(evictions(&mut c), []);
    c.pass(0, sweep);
    c.pass(0, sweep);
    let row = &c.store.workers[&worker_key("w1")];
    assert!(
        row.version > Version(4),
        "the row is raised above every promise that may be on its way"
    );
    let eviction = Eviction {
        pod_uid: "uid-w1".into(),
        fence: Fence(row.version.0),
    };
    assert_eq!(evictions(&mut c), [eviction]);
}

#[test]
fn a_sandbox_whose_actor_is_recorded_there_is_not_ended_although_its_row_is_lost() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", None);
    let there = hosting(&c, &key, 1);
    // The store fails over and has lost the promise.
    let row = c.store.workers.get_mut(&worker_key("w1")).unwrap();
    row.hosts = None;
    row.version = Version(1);
    let row = row.clone();
    c.input(
        0,
        replica::Input::Watched(holdfast_core::effect::StoreEvent::WorkerGone(row.key.clone())),
    );
    c.input(
        0,
        replica::Input::Watched(holdfast_core::effect::StoreEvent::Worker(Box::new(row))),
    );
    for _ in 0..4 {
        c.report(0, vec![there.clone()]);
        c.pass(0, Settings::DEFAULT.workflow.sweep_every * 2);
        let id = RequestId(c.last_request());
        assert!(
            matches!(c.verdict(0, id), Ok(holdfast_core::request::Answer::Reported(_, Answered::Granted(grant))) if grant.evict.is_empty())
        );
    }
    assert!(c.store.workers[&worker_key("w1")].version > Version(there.highest_fence.0));
}

/// A node with one worker, driven by hand.
struct Seat {
    node: Node,
    now: Instant,
    next: u64,
    /// What ateom has.
    described: Described,
}

/// What is known of the worker without its own word.
fn known_of_it() -> Described {
    Described {
        key: worker_key("w"),
        ip: "ip".into(),
        incarnation: Name::default(),
        duty: Duty::Serving,
        sandbox: None,
    }
}

fn alive(op: Option<OpId>, sandbox: Sandbox) -> Alive {
    let actor = "a".into();
    Alive { actor, op, sandbox }
}

impl Seat {
    fn new() -> Seat {
        let row = NodeRow {
            name: "node".into(),
            address: "address".into(),
            incarnation: "atelet".into(),
            sequence: 0,
            session: 0,
            lapsed: 0,
            version: 0,
        };
        let mut seat = Seat {
            node: Node::new(row, Settings::DEFAULT),
            now: Instant::from_micros(1_000_000),
            next: 1,
            described: known_of_it(),
        };
        seat.input(Input::Start(Memory::default()));
        seat.describe(None);
        seat
    }

    /// What the node does about an input; what it keeps is kept, every step succeeds at once, and what ateom is asked
    /// it answers.
    fn input(&mut self, input: Input) -> Vec<Output> {
        self.node.handle(self.now, input);
        self.settle()
    }

    fn pass(&mut self, time: Duration) -> Vec<Output> {
        self.now = self.now.plus(time);
        self.node.handle_timeout(self.now);
        self.settle()
    }

    fn settle(&mut self) -> Vec<Output> {
        let mut seen = Vec::new();
        while let Some(output) = self.node.poll_output() {
            match &output {
                Output::Work(effect, work, order) => {
                    match work {
                        Work::Boot { .. } => self.described.sandbox = Some(alive(order.op, Sandbox::Running)),
                        Work::Capture | Work::Stop => self.described.sandbox = None,
                        _ => {}
                    }
                    self.node.handle(self.now, Input::Worked(*effect, Ok(Vec::new())));
                }
                Output::Keep(effect, _) => self.node.handle(self.now, Input::Kept(*effect, Ok(()))),
                Output::Look(effect, _) => {
                    let answer = Ok(self.described.clone());
                    self.node.handle(self.now, Input::Looked(*effect, answer));
                }
                Output::Pull(_, attempt) => {
                    let ended = holdfast_core::pull::Input::Ended(*attempt, Ok(()));
                    self.node.handle(self.now, Input::Pull(ended));
                }
                _ => {}
            }
            seen.push(output);
        }
        seen
    }

    fn describe(&mut self, sandbox: Option<Sandbox>) -> Vec<Output> {
        let described = Described {
            incarnation: "run".into(),
            sandbox: sandbox.map(|sandbox| alive(Some(op(1)), sandbox)),
            ..known_of_it()
        };
        self.described = described.clone();
        self.input(Input::Worker("uid".into(), described))
    }

    /// Lets the node report, and answers.
    fn answered(&mut self, answer: Answered) -> Vec<Output> {
        let (at, _) = self.node.poll_timeout().expect("a report is always due");
        let sent = self.pass(at.since(self.now));
        assert!(
            sent.iter().any(|output| matches!(output, Output::Report(_))),
            "{sent:?}"
        );
        self.input(Input::Reported(Ok(answer)))
    }

    fn order(&mut self, op: OpId, verb: Verb, session: u64) -> (Vec<Output>, NodeReply) {
        self.next += 1;
        let order = Order {
            worker: "uid".into(),
            worker_fence: Fence(5),
            actor: hand::actor_key("a"),
            incarnation: Incarnation(7),
            fence: Fence(self.next + 10),
            op: Some(op),
            template: ("ns".into(), "counter".into()),
            workload: Arc::new(template().workload.clone()),
            session,
            run: Name::default(),
            verb,
        };
        let id = RequestId(self.next);
        let outputs = self.input(Input::Order(id, Box::new(order)));
        let reply = outputs.iter().find_map(|output| match output {
            Output::Reply(to, reply) if *to == id => Some(reply.clone()),
            _ => None,
        });
        (outputs, reply.expect("every step succeeds at once"))
    }

    /// The actor runs, under session 1 of the node.
    fn running() -> Seat {
        let mut seat = Seat::new();
        seat.answered(grant());
        let assets = catalog(None).assets(&("ns".into(), "pool".into())).unwrap();
        let (_, reply) = seat.order(op(1), Verb::Run { assets }, 1);
        assert_eq!(reply, Ok(()));
        seat.describe(Some(Sandbox::Running));
        seat.pass(Duration::ZERO);
        seat.input(Input::Reported(Ok(grant())));
        seat
    }
}

fn op(seq: u64) -> OpId {
    OpId {
        replica: ReplicaId(1),
        seq,
    }
}

fn grant() -> Answered {
    Answered::Granted(Grant {
        ttl: TTL,
        heartbeat_every: Duration::from_secs(30),
        evict: Vec::new(),
    })
}

fn tends(outputs: &[Output]) -> Vec<Tend> {
    let tends = outputs.iter().filter_map(|output| match output {
        Output::Tend { tend, .. } => Some(*tend),
        _ => None,
    });
    tends.collect()
}

#[test]
fn a_boot_carries_the_end_of_its_licence_and_each_renewal_extends_it() {
    let mut seat = Seat::new();
    let sent_at = seat.now;
    seat.answered(grant());
    let until = sent_at.plus(Settings::DEFAULT.session_believed_for(TTL));
    let assets = catalog(None).assets(&("ns".into(), "pool".into())).unwrap();
    let (outputs, _) = seat.order(op(1), Verb::Run { assets }, 1);
    assert!(outputs.iter().any(|output| {
        matches!(output, Output::Work(_, Work::Boot { until: Some(end) }, _) if *end == until)
    }));
    let sent_at = seat.now;
    let renewed = seat.answered(grant());
    let until = sent_at.plus(Settings::DEFAULT.session_believed_for(TTL));
    assert_eq!(tends(&renewed), [Tend::Extend(until)]);
}

#[test]
fn what_runs_is_frozen_when_the_session_ends_and_goes_on_by_itself_when_it_was_not_declared_over() {
    let mut seat = Seat::running();
    let end = Settings::DEFAULT.session_believed_for(TTL);
    let half = Duration::from_secs(30);
    seat.pass(half);
    assert_eq!(
        tends(&seat.pass(end - half - Duration::from_micros(1))),
        [] as [Tend; 0]
    );
    assert_eq!(tends(&seat.pass(Duration::from_micros(1))), [Tend::Freeze]);
    seat.describe(Some(Sandbox::Frozen));

    seat.pass(half);
    let late = seat.input(Input::Reported(Ok(grant())));
    assert_eq!(
        tends(&late),
        [] as [Tend; 0],
        "that report was sent a session ago"
    );
    let sent_at = seat.now;
    assert_eq!(tends(&seat.answered(grant())), [Tend::Thaw(sent_at.plus(end))]);
}

#[test]
fn what_was_declared_over_goes_on_only_when_the_control_plane_agrees_to_it() {
    let mut seat = Seat::running();
    seat.pass(Duration::from_secs(30));
    let over = seat.input(Input::Reported(Ok(Answered::Over { lapsed: 4 })));
    assert_eq!(tends(&over), [Tend::Freeze], "its own clock may be slow");
    seat.describe(Some(Sandbox::Frozen));
    let sent = seat.pass(Duration::ZERO);
    assert!(sent.iter().any(|output| matches!(output, Output::Report(report)
        if report.node.session == 5 && report.node.lapsed == 4
            && report.workers[0].hosting.as_ref().unwrap().session == 1)));
    let back = seat.input(Input::Reported(Ok(grant())));
    assert_eq!(tends(&back), [] as [Tend; 0], "its actor may be elsewhere by now");

    let (_, late) = seat.order(op(2), Verb::Thaw, 1);
    let late = late.unwrap_err();
    assert_eq!(
        (late.kind, late.code),
        (NodeFailureKind::SessionOver, Code::Unavailable)
    );
    let (outputs, reply) = seat.order(op(3), Verb::Thaw, 5);
    assert_eq!(reply, Ok(()));
    assert!(
        outputs
            .iter()
            .any(|output| matches!(output, Output::Work(_, Work::Thaw { .. }, _)))
    );
    seat.describe(Some(Sandbox::Running));
    assert!(matches!(tends(&seat.answered(grant()))[..], [Tend::Extend(_)]));
}

#[test]
fn a_boot_that_was_ordered_under_a_session_that_is_over_never_boots() {
    let mut seat = Seat::new();
    seat.answered(grant());
    seat.answered(Answered::Over { lapsed: 1 });
    let assets = catalog(None).assets(&("ns".into(), "pool".into())).unwrap();
    for (session, refusal) in [(1, NodeFailureKind::SessionOver), (2, NodeFailureKind::Busy)] {
        let (outputs, reply) = seat.order(
            op(session),
            Verb::Run {
                assets: assets.clone(),
            },
            session,
        );
        assert_eq!(
            reply.unwrap_err().kind,
            refusal,
            "granted no more, or not granted yet"
        );
        assert!(!outputs.iter().any(|output| matches!(output, Output::Work(..))));
    }
    seat.answered(grant());
    assert_eq!(seat.order(op(3), Verb::Run { assets }, 2).1, Ok(()));
}

#[test]
fn an_eviction_ends_what_it_names_unless_the_worker_was_promised_anew() {
    let evict = |fence| {
        Answered::Granted(Grant {
            ttl: TTL,
            heartbeat_every: Duration::from_secs(30),
            evict: vec![Eviction {
                pod_uid: "uid".into(),
                fence: Fence(fence),
            }],
        })
    };
    let stops = |outputs: &[Output]| {
        outputs
            .iter()
            .any(|o| matches!(o, Output::Work(_, Work::Stop, _)))
    };
    let mut seat = Seat::running();
    seat.pass(Duration::from_secs(30));
    assert!(
        !stops(&seat.input(Input::Reported(Ok(evict(4))))),
        "its promise is newer: 5"
    );
    seat.pass(Duration::from_secs(30));
    assert!(stops(&seat.input(Input::Reported(Ok(evict(5))))));
    let (_, late) = seat.order(op(9), Verb::Thaw, 1);
    assert!(late.is_err(), "the promise is used up");
}

#[test]
fn a_control_plane_without_sessions_has_nothing_frozen() {
    let mut seat = Seat::new();
    let assets = catalog(None).assets(&("ns".into(), "pool".into())).unwrap();
    assert_eq!(seat.order(op(1), Verb::Run { assets }, 0).1, Ok(()));
    seat.describe(Some(Sandbox::Running));
    let outputs = seat.pass(Duration::from_secs(1_000_000));
    assert_eq!(tends(&outputs), [] as [Tend; 0]);
}

#[test]
fn declaring_a_session_over_takes_one_conditional_write() {
    let (c, _) = silent(1);
    let lapses = c.replicas[0]
        .performed
        .iter()
        .filter(|op| matches!(op, StoreOp::LapseNode { .. }));
    assert_eq!(lapses.count(), 1);
}

#[test]
fn a_worker_that_does_not_answer_keeps_its_actor_and_gets_no_other() {
    let mut seat = Seat::running();
    let report = |outputs: Vec<Output>| {
        let reports = outputs.into_iter().filter_map(|output| match output {
            Output::Report(report) => Some(report),
            _ => None,
        });
        reports.last().expect("what has changed is reported at once")
    };
    seat.input(Input::WorkerSilent("uid".into(), known_of_it()));
    let silent = report(seat.pass(Duration::ZERO));
    assert!(silent.workers[0].is_silent && silent.workers[0].hosting.is_some());
    let assets = catalog(None).assets(&("ns".into(), "pool".into())).unwrap();
    let (_, refused) = seat.order(op(2), Verb::Run { assets }, 1);
    assert_eq!(refused.unwrap_err().kind, NodeFailureKind::Occupied);

    let mut c = Cluster::new(1, &["w1"]);
    let mut free = sighting("w1", 0, None);
    free.is_silent = true;
    c.report(0, vec![free]);
    let key = c.asleep("a", None);
    let resume = c.ask(0, Request::Resume(key, Boot::Golden));
    c.run(0);
    assert!(c.verdict(0, resume).is_err());

    seat.input(Input::Reported(Ok(grant())));
    seat.describe(Some(Sandbox::Running));
    assert!(!report(seat.pass(Duration::ZERO)).workers[0].is_silent);
}

#[test]
fn a_node_that_starts_beside_a_worker_that_does_not_answer_reports_all_the_same() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", Some("mem://1"));
    let promised = c.store.workers[&worker_key("w1")].clone();
    let mut unheard = sighting("w1", promised.hosts.as_ref().unwrap().fence.0, Some(&key));
    unheard.is_silent = true;
    unheard.incarnation = Name::default();
    c.report(0, vec![unheard.clone()]);
    c.pass(0, Duration::from_secs(30));
    assert_eq!(c.store.actors[&key].status(), Status::Running);
    assert_eq!(c.store.workers[&worker_key("w1")], promised);

    // Nobody can tell which run of which pod that is.
    let other = Sighting {
        pod_uid: "other".into(),
        ..unheard
    };
    c.report(0, vec![other]);
    c.pass(0, Duration::from_secs(30));
    assert_eq!(c.store.workers[&worker_key("w1")], promised);
}
