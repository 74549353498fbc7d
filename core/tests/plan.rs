//! What a workflow does next, case by case: which answer it believes, and when it leaves things alone.

mod hand;

use hand::{actor_key, failure, template, worker_key};
use holdfast_core::actor::*;
use holdfast_core::catalog::Selector;
use holdfast_core::effect::{NodeFailureKind, NodeReply, Verb};
use holdfast_core::failure::Code;
use holdfast_core::id::*;
use holdfast_core::plan::*;
use holdfast_core::registry::{Fact, Going};
use holdfast_core::worker::{self, Duty, Sight, Worker};

const ME: LeaseToken = LeaseToken {
    replica: ReplicaId(1),
    seq: 1,
};

fn op(seq: u64) -> OpId {
    OpId {
        replica: ReplicaId(1),
        seq,
    }
}

fn on(worker: &str) -> Assignment {
    Assignment {
        worker: worker_key(worker),
        pod_uid: "uid".into(),
        incarnation: "run".into(),
        ip: "ip".into(),
        node: "node".into(),
        fence: Fence(3),
        session: 1,
    }
}

/// The row of a worker that is promised to the actor.
fn promised(name: &str) -> Worker {
    let sight = Sight {
        pod_uid: "uid".into(),
        incarnation: "run".into(),
        ip: "ip".into(),
        node: "node".into(),
        duty: Duty::Serving,
    };
    let promise = worker::Change::Promise {
        actor: actor_key("a"),
        incarnation: Incarnation(7),
        template: ("ns".into(), "counter".into()),
        session: 1,
    };
    let free = Worker::appear(worker_key(name), sight, Fence(0));
    free.after(promise, Version::FIRST).unwrap()
}

/// A case: a record, and what is known besides.
struct Case {
    actor: Actor,
    worker: Fact,
    promised: Option<Worker>,
    outcome: Option<(CallOf, NodeReply)>,
    is_sole: bool,
}

impl Case {
    /// An actor in this state whose record this workflow has claimed, on a worker that is there.
    fn claimed(state: State) -> Case {
        let mut actor = Actor::create(actor_key("a"), Incarnation(7), template(), Selector::default());
        actor.state = state;
        actor.latest = Some(Snapshot::External("latest".into()));
        actor.claim = Some(Claim {
            token: ME,
            fence: Fence(1),
        });
        Case {
            actor,
            worker: Fact::Present,
            promised: None,
            outcome: None,
            is_sole: false,
        }
    }

    /// Nobody else has called for the operation that is recorded.
    fn sole(self) -> Case {
        Case {
            is_sole: true,
            ..self
        }
    }

    fn unclaimed(mut self) -> Case {
        self.actor.claim = None;
        self
    }

    fn worker(self, worker: Fact) -> Case {
        Case { worker, ..self }
    }

    fn promised(self, name: &str) -> Case {
        Case {
            promised: Some(promised(name)),
            ..self
        }
    }

    fn after(self, call: CallOf, reply: NodeReply) -> Case {
        Case {
            outcome: Some((call, reply)),
            ..self
        }
    }

    fn next(&self, goal: Goal) -> Next {
        let facts = Facts {
            token: ME,
            template: self.actor.pinned.as_deref(),
            golden: None,
            worker: self.worker,
            promised: self.promised.as_ref(),
            leaving: None,
            outcome: self.outcome.as_ref().map(|(call, reply)| (call, reply)),
            is_undoing: false,
            is_sole: self.is_sole,
        };
        next(&goal, &self.actor, &facts)
    }
}

fn settle(worker: &str) -> Goal {
    Goal::Settle {
        worker: worker_key(worker),
        resume: Unfinished::Finish,
    }
}

fn failed(kind: NodeFailureKind) -> NodeReply {
    failure(Code::Unavailable, kind)
}

fn writes(next: &Next) -> Option<&Change> {
    match next {
        Next::Write {
            change: WishedChange::Exactly(change),
            ..
        } => Some(change),
        _ => None,
    }
}

fn calls(next: &Next) -> Option<CallOf> {
    match next {
        Next::Call { call, .. } => Some(*call),
        _ => None,
    }
}

fn running() -> State {
    State::Running { on: on("w1") }
}

fn resuming() -> State {
    State::Resuming {
        op: op(1),
        on: on("w1"),
        boot: Boot::Golden,
    }
}

fn pausing() -> State {
    State::Pausing {
        op: op(1),
        on: on("w1"),
        snapshot: "new".into(),
    }
}

fn suspending() -> State {
    State::Suspending {
        op: op(1),
        from: Source::Worker(on("w1")),
        snapshot: "new".into(),
    }
}

#[test]
fn a_second_worker_is_freed_also_while_the_first_one_is_silent() {
    let silent = || Case::claimed(running()).worker(Fact::Gone(Going::Session));
    assert_eq!(silent().promised("w1").next(settle("w1")), Next::Finish(Ok(())));
    let stray = Assignment::of(&promised("w2")).unwrap();
    assert_eq!(
        silent().promised("w2").next(settle("w2")),
        Next::Free(Box::new(stray))
    );
}

#[test]
fn a_sleeping_actor_to_which_nothing_is_promised_is_left_alone() {
    for asleep in [State::Suspended, State::Paused] {
        let nothing = Case::claimed(asleep.clone()).unclaimed();
        assert_eq!(nothing.next(settle("w1")), Next::Finish(Ok(())));
        let another = Case::claimed(asleep.clone()).unclaimed().promised("w2");
        assert_eq!(another.next(settle("w1")), Next::Finish(Ok(())));
        let promised = Case::claimed(asleep).unclaimed().promised("w1");
        assert_eq!(writes(&promised.next(settle("w1"))), Some(&Change::Claim));
    }
}

#[test]
fn only_the_failure_of_the_recorded_operation_undoes_a_resume_that_nobody_waits_for() {
    let after = |call, kind| {
        Case::claimed(resuming())
            .after(call, failed(kind))
            .next(settle("w1"))
    };
    let (own, other) = (CallOf::Recorded(op(1)), CallOf::Recorded(op(2)));
    assert_eq!(calls(&after(own, NodeFailureKind::Failed)), Some(CallOf::Stop));
    assert_eq!(after(own, NodeFailureKind::Busy), Next::CallAgain);
    assert_eq!(calls(&after(other, NodeFailureKind::Failed)), Some(own));
}

#[test]
fn a_thaw_is_written_under_a_claim_and_a_session_before_it_is_asked_for() {
    let frozen = |session| Case::claimed(running()).worker(Fact::Frozen(session));
    for goal in [
        Goal::Resume(Boot::Golden),
        Goal::Suspend,
        Goal::Pause,
        settle("w1"),
    ] {
        let thaw = Change::Thaw { session: 2 };
        assert_eq!(writes(&frozen(2).next(goal.clone())), Some(&thaw));
        let thaw = Change::Thaw { session: 1 };
        assert_eq!(writes(&frozen(1).unclaimed().next(goal.clone())), Some(&thaw));
        assert_eq!(calls(&frozen(1).next(goal)), Some(CallOf::Thaw(1)));
    }
}

#[test]
fn what_became_of_an_earlier_thaw_says_nothing_about_this_one() {
    let after = |session, reply| {
        let frozen = Case::claimed(running()).worker(Fact::Frozen(1));
        frozen
            .after(CallOf::Thaw(session), reply)
            .next(Goal::Resume(Boot::Golden))
    };
    assert_eq!(after(1, Ok(())), Next::Finish(Ok(())));
    assert_eq!(calls(&after(9, Ok(()))), Some(CallOf::Thaw(1)));
    let gone = || failed(NodeFailureKind::SandboxGone);
    assert!(matches!(
        writes(&after(1, gone())),
        Some(Change::Reset { loss: Some(_) })
    ));
    assert_eq!(calls(&after(9, gone())), Some(CallOf::Thaw(1)));
}

#[test]
fn what_became_of_another_operation_says_nothing_about_the_recorded_one() {
    for (state, goal, done) in [
        (resuming(), Goal::Resume(Boot::Golden), Change::Ran),
        (suspending(), Goal::Suspend, Change::Suspended),
        (pausing(), Goal::Pause, Change::Paused),
    ] {
        let after = |seq, reply| {
            let case = Case::claimed(state.clone()).after(CallOf::Recorded(op(seq)), reply);
            case.next(goal.clone())
        };
        assert_eq!(writes(&after(1, Ok(()))), Some(&done));
        assert_eq!(calls(&after(2, Ok(()))), Some(CallOf::Recorded(op(1))));
        let crash = || failed(NodeFailureKind::Crash);
        assert!(matches!(writes(&after(1, crash())), Some(Change::Crash(_))));
        assert_eq!(calls(&after(2, crash())), Some(CallOf::Recorded(op(1))));
    }
}

#[test]
fn a_checkpoint_that_was_answered_before_its_node_fell_silent_is_complete() {
    for (state, goal, done) in [
        (suspending(), Goal::Suspend, Change::Suspended),
        (pausing(), Goal::Pause, Change::Paused),
    ] {
        let silent = || Case::claimed(state.clone()).worker(Fact::Gone(Going::Session));
        let answered = |seq, reply| {
            silent()
                .after(CallOf::Recorded(op(seq)), reply)
                .next(goal.clone())
        };
        assert_eq!(writes(&answered(1, Ok(()))), Some(&done));
        let refusals = [
            silent().next(goal.clone()),
            answered(2, Ok(())),
            answered(1, failed(NodeFailureKind::Busy)),
        ];
        for refused in refusals {
            assert!(
                matches!(&refused, Next::Finish(Err(failure)) if failure.code == Code::Unavailable),
                "{refused:?}"
            );
        }
    }
}

#[test]
fn a_refused_checkpoint_wakes_its_actor_only_where_the_sandbox_is_surely_untouched() {
    for (state, goal) in [(suspending(), Goal::Suspend), (pausing(), Goal::Pause)] {
        let refused = |code| {
            let reply = failure(code, NodeFailureKind::Failed);
            Case::claimed(state.clone()).after(CallOf::Recorded(op(1)), reply)
        };
        let wakes = |next: &Next| writes(next) == Some(&Change::Wake);
        let not_begun = failure(Code::Unavailable, NodeFailureKind::NotBegun);
        let not_begun = Case::claimed(state.clone()).after(CallOf::Recorded(op(1)), not_begun);
        assert_eq!(writes(&not_begun.next(goal.clone())), Some(&Change::WakeUnbegun));
        // Another order for it may be on its way, unless no other can be let in either.
        assert!(!wakes(&refused(Code::Unavailable).next(goal.clone())));
        assert!(wakes(&refused(Code::Unavailable).sole().next(goal.clone())));
        assert!(wakes(&refused(Code::InvalidArgument).next(goal.clone())));
        // What the original says after the checkpoint as well as before it.
        assert!(!wakes(&refused(Code::Internal).sole().next(goal.clone())));
    }
}

#[test]
fn a_stop_is_asked_of_the_worker_that_the_record_names() {
    let Next::Call {
        node, worker, verb, ..
    } = Case::claimed(resuming())
        .worker(Fact::Gone(Going::Worker))
        .next(Goal::Resume(Boot::Golden))
    else {
        panic!("the order may still be on its way")
    };
    assert_eq!((node, verb), (Name::from("node"), CallVerb::Exactly(Verb::Stop)));
    let target = worker.unwrap();
    assert_eq!(
        (target.pod_uid, target.fence, target.session),
        ("uid".into(), Fence(3), 1)
    );
}

/// The original's atelet stops nothing. A Resume there is undone without it, rather than never.
#[test]
fn a_resume_is_undone_on_a_node_that_knows_of_no_stop() {
    for (code, is_undone) in [(Code::Unimplemented, true), (Code::Internal, false)] {
        let next = Case::claimed(resuming())
            .worker(Fact::Gone(Going::Worker))
            .after(CallOf::Stop, failure(code, NodeFailureKind::Failed))
            .next(Goal::Resume(Boot::Golden));
        assert_eq!(
            writes(&next) == Some(&Change::Reset { loss: None }),
            is_undone,
            "{next:?}"
        );
    }
}
