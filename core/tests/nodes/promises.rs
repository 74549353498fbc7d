//! What an answer promises is on disk before it is given, and a disk that takes nothing hides no loss.

use crate::hand::{actor_key, worker_key};
use crate::seat::*;
use holdfast_core::effect::*;
use holdfast_core::id::*;
use holdfast_core::node::*;

/// The actor's fence in what the disk was given last.
fn fence_given(seat: &Seat) -> Option<Fence> {
    let (_, kept) = seat.keeps.last()?;
    kept.fence.as_ref().map(|(.., fence)| *fence)
}

/// An order to stop actor a, under this fence of it.
fn stop(seat: &mut Seat, fence: u64) -> RequestId {
    seat.order(|order| {
        (order.session, order.fence) = (1, Fence(fence));
        (order.verb, order.op) = (Verb::Stop, Some(op(2)));
    })
}

#[test]
fn what_is_answered_from_memory_is_not_answered_while_the_disk_has_no_room_for_its_fence() {
    let mut seat = Seat::running();
    let again = |seat: &mut Seat| seat.order(|order| (order.session, order.fence) = (1, Fence(11)));
    let (first, left) = (again(&mut seat), again(&mut seat));
    seat.input(Input::CallerGone(left));
    seat.refuse();
    assert_eq!(seat.refusal(first), Some(NodeFailureKind::Busy));
    assert_eq!(seat.reply(left), None);
    let second = again(&mut seat);
    seat.kept();
    assert_eq!(seat.reply(second), Some(Ok(())));
}

#[test]
fn what_is_answered_from_memory_waits_for_the_disk_also_if_only_its_workers_fence_is_new() {
    let mut seat = Seat::running();
    let again = seat.order(|order| (order.session, order.worker_fence) = (1, Fence(6)));
    assert_eq!(seat.reply(again), None);
    assert_eq!(seat.keeps[0].1.entry.highest, Fence(6));
    seat.kept();
    assert_eq!(seat.reply(again), Some(Ok(())));
}

#[test]
fn an_answer_from_memory_whose_fence_the_disk_has_refused_is_not_given_before_it_is_kept() {
    let mut seat = Seat::running();
    let again = |seat: &mut Seat| seat.order(|order| (order.session, order.fence) = (1, Fence(11)));
    let first = again(&mut seat);
    seat.refuse();
    assert_eq!(seat.refusal(first), Some(NodeFailureKind::Busy));
    let second = again(&mut seat);
    assert_eq!(seat.reply(second), None);
    assert_eq!(
        fence_given(&seat),
        Some(Fence(11)),
        "it is asked to be kept again"
    );
    seat.kept();
    assert_eq!(seat.reply(second), Some(Ok(())));
}

/// The result of what it joins is on its way to the disk, with the fence of whoever began it.
#[test]
fn whoever_joins_an_operation_at_its_end_is_answered_when_the_disk_has_the_fence_that_he_showed() {
    let mut seat = Seat::running();
    let first = stop(&mut seat, 10);
    seat.kept();
    seat.worked(Ok(Vec::new()));
    assert_eq!(fence_given(&seat), Some(Fence(10)));
    let joined = [(); 2].map(|()| stop(&mut seat, 11));
    seat.kept();
    assert_eq!(seat.reply(first), Some(Ok(())));
    assert_eq!(joined.map(|id| seat.reply(id)), [None, None]);
    assert_eq!((seat.keeps.len(), fence_given(&seat)), (1, Some(Fence(11))));
    seat.kept();
    assert_eq!(joined.map(|id| seat.reply(id)), [Some(Ok(())), Some(Ok(()))]);
}

#[test]
fn whoever_joins_an_operation_at_its_end_is_told_to_come_again_if_the_disk_takes_nothing() {
    let mut seat = Seat::running();
    let first = stop(&mut seat, 10);
    seat.kept();
    seat.worked(Ok(Vec::new()));
    let joined = stop(&mut seat, 11);
    seat.refuse();
    assert_eq!(
        seat.reply(first),
        Some(Ok(())),
        "it has happened, and its fence is there"
    );
    assert_eq!(seat.reply(joined), None);
    seat.refuse();
    assert_eq!(seat.refusal(joined), Some(NodeFailureKind::Busy));
    assert_eq!(seat.keeps, [], "it is not tried for nobody");
}

/// Whoever names no lives may join one who does.
#[test]
fn whoever_joins_an_operation_may_show_a_fence_of_another_life() {
    let mut seat = Seat::running();
    stop(&mut seat, 10);
    let joined = seat.order(|order| {
        (order.incarnation, order.fence) = (Incarnation(0), Fence(12));
        (order.verb, order.op) = (Verb::Stop, Some(op(2)));
    });
    seat.finish();
    assert_eq!(seat.reply(joined), Some(Ok(())));
}

/// An upload is not noted when it begins.
#[test]
fn an_upload_is_answered_when_the_disk_has_the_fence_that_it_showed() {
    let mut seat = Seat::idle();
    let upload = seat.order(|order| {
        order.verb = Verb::Upload {
            name: "s".into(),
            to: "mem://1".into(),
        };
    });
    seat.worked(Ok(Vec::new()));
    seat.refuse();
    assert_eq!(seat.reply(upload), None);
    assert_eq!(fence_given(&seat), Some(Fence(10)));
    seat.kept();
    assert_eq!(seat.reply(upload), Some(Ok(())));
}

#[test]
fn a_fence_on_its_way_to_the_disk_by_one_worker_is_waited_for_by_another() {
    let mut seat = Seat::running();
    let other = Described {
        key: worker_key("w2"),
        ..described(Some(("b", 9, Sandbox::Running)))
    };
    seat.input(Input::Worker("uid2".into(), other));
    seat.kept();
    let first = seat.order(|order| (order.session, order.fence) = (1, Fence(11)));
    let second = seat.order(|order| {
        (order.fence, order.verb, order.op) = (Fence(11), Verb::Stop, Some(op(5)));
        (order.worker, order.worker_fence) = ("uid2".into(), Fence(0));
    });
    assert_eq!((seat.reply(first), seat.reply(second)), (None, None));
    seat.kept();
    assert_eq!(
        (seat.reply(first), seat.reply(second)),
        (Some(Ok(())), Some(Ok(())))
    );
}

#[test]
fn an_answer_that_promises_nothing_does_not_wait_for_the_disk() {
    let mut seat = Seat::idle();
    let boot = seat.order(|order| order.session = 1);
    seat.refuse();
    seat.refuse();
    assert_eq!(seat.refusal(boot), Some(NodeFailureKind::Failed));
    assert_eq!(seat.keeps, []);
}

#[test]
fn nothing_is_touched_before_the_order_for_it_is_on_disk() {
    let mut seat = Seat::idle();
    seat.order(|order| order.session = 1);
    assert_eq!(seat.working(), [] as [&Work; 0]);
    assert!(!seat.pulls.is_empty(), "an image touches nothing");
    seat.kept();
    assert_eq!(seat.working(), [&Work::Clear]);
}

/// A checkpoint that could not be noted was not begun, so it is no reason to expect that the sandbox is gone.
#[test]
fn a_checkpoint_that_the_disk_refused_does_not_hide_that_the_sandbox_died_later() {
    let mut seat = Seat::running();
    let refused = seat.order(|order| {
        (order.session, order.fence) = (1, Fence(11));
        (order.verb, order.op) = (checkpoint(), Some(op(2)));
    });
    seat.refuse();
    seat.kept();
    assert_eq!(seat.refusal(refused), Some(NodeFailureKind::NotBegun));
    assert_eq!(seat.hosts().as_deref(), Some("a"));
    seat.describe(None);
    seat.kept();
    assert_eq!(seat.hosts(), None);
}

/// Whoever was told so has the actor serve on.
#[test]
fn a_checkpoint_that_was_refused_is_not_taken_when_its_order_comes_once_more() {
    let mut seat = Seat::running();
    let order = |order: &mut Order, seq| {
        (order.session, order.fence) = (1, Fence(11));
        (order.verb, order.op) = (checkpoint(), Some(op(seq)));
    };
    let first = seat.order(|it| order(it, 2));
    seat.refuse();
    seat.kept();
    let again = seat.order(|it| order(it, 2));
    for refused in [first, again] {
        assert_eq!(seat.refusal(refused), Some(NodeFailureKind::NotBegun));
    }
    assert_eq!(seat.working(), [] as [&Work; 0]);
    assert_eq!(seat.hosts().as_deref(), Some("a"));
    let next = seat.order(|it| order(it, 3));
    seat.finish();
    assert_eq!(seat.reply(next), Some(Ok(())), "that is another operation");
}

/// That an order was refused because it could not be noted cannot be noted either: so an order is for one run of atelet,
/// unless it is noted as begun. Its sender hears of the next run, and orders again.
#[test]
fn a_checkpoint_that_was_ordered_of_an_earlier_atelet_is_begun_if_that_has_noted_it_and_not_otherwise() {
    let noted = || Entry {
        current: Some(pending(8, None)),
        ..entry(Sandbox::Busy)
    };
    for (run, journal, is_begun) in [
        ("one", entry(Sandbox::Running), false),
        ("one", noted(), true),
        ("two", entry(Sandbox::Running), true),
        ("", entry(Sandbox::Running), true),
    ] {
        let mut seat = Seat::restarted("two", Some(journal.clone()), &[("a", 10)]);
        seat.describe(Some(("a", 1, Sandbox::Running)));
        seat.answered(grant());
        let late = seat.order(|order| {
            (order.verb, order.op, order.run) = (checkpoint(), Some(op(8)), run.into());
        });
        seat.kept();
        let refusal = (!is_begun).then_some(NodeFailureKind::Busy);
        assert_eq!(
            seat.reply(late).map(|reply| reply.unwrap_err().kind),
            refusal,
            "{run}: {journal:?}"
        );
        assert_eq!(seat.working().len(), usize::from(is_begun), "{run}: {journal:?}");
    }
}

/// It may have been taken by an earlier atelet, and nobody heard of it.
#[test]
fn a_checkpoint_that_an_earlier_atelet_began_is_not_forgotten_when_the_disk_refuses_it() {
    let mut known = entry(Sandbox::Busy);
    known.current = Some(pending(8, None));
    let mut seat = Seat::started(Some(known), &[]);
    seat.describe(None);
    seat.answered(grant());
    let again = |order: &mut Order| (order.verb, order.op) = (checkpoint(), Some(op(8)));
    for _ in 0..2 {
        let refused = seat.order(again);
        seat.refuse();
        seat.refuse();
        assert_eq!(
            seat.refusal(refused),
            Some(NodeFailureKind::Busy),
            "it may have happened"
        );
        assert_eq!(seat.look, None, "it is expected that its sandbox is gone");
        assert_eq!(seat.hosts().as_deref(), Some("a"));
    }
    let taken = seat.order(again);
    seat.finish();
    assert_eq!(seat.reply(taken), Some(Ok(())));
}

/// A node that has booted what nobody named, and starts again with what its disk has.
fn restarted_with_a_nameless_boot() -> (Seat, Entry) {
    let nameless = |order: &mut Order| {
        (order.fence, order.worker_fence, order.op) = (Fence(0), Fence(0), None);
        order.incarnation = Incarnation(0);
    };
    let mut seat = Seat::started(None, &[]);
    seat.describe(None);
    let boot = seat.order(nameless);
    let mut journal = None;
    while !(seat.work.is_empty() && seat.keeps.is_empty() && seat.pulls.is_empty()) {
        seat.pulled();
        journal = seat.keeps.pop().or(journal);
        if let Some((effect, _)) = &journal {
            seat.input(Input::Kept(*effect, Ok(())));
        }
        if !seat.work.is_empty() {
            seat.worked(Ok(Vec::new()));
        }
    }
    assert_eq!(seat.reply(boot), Some(Ok(())));
    let (_, kept) = journal.expect("the boot is noted");
    let hosted = kept.entry.hosted.clone().expect("it hosts");
    let mut again = Seat::restarted("another run", Some(kept.entry.clone()), &[]);
    let mut there = described(Some(("a", 1, Sandbox::Running)));
    there.sandbox.as_mut().expect("it is there").op = Some(hosted.op);
    again.input(Input::Worker("uid".into(), there));
    (again, kept.entry)
}

/// An original control plane names no operations; the node does it for itself, and each run counts anew.
#[test]
fn an_order_that_nobody_named_is_not_taken_for_one_of_another_run() {
    let (mut seat, entry) = restarted_with_a_nameless_boot();
    let checkpoint = seat.order(|order| {
        (order.fence, order.worker_fence, order.op) = (Fence(0), Fence(0), None);
        (order.incarnation, order.verb) = (Incarnation(0), checkpoint());
    });
    assert_eq!(seat.reply(checkpoint), None, "nothing was captured");
    let (_, kept) = seat.keeps.first().expect("the order is noted");
    let begun = kept.entry.current.as_ref().expect("it is under way").op;
    assert_ne!(
        Some(begun),
        entry.last.map(|done| done.op),
        "nor is ateom to think so"
    );
    seat.kept();
    assert_eq!(seat.working(), [&Work::Capture]);
}

/// It was taken once, and its sandbox is gone.
#[test]
fn what_was_captured_for_nobody_in_particular_is_saved_when_that_is_asked_for_again() {
    let mut known = entry(Sandbox::Busy);
    known.current = Some(pending(8, Some(vec!["files".into()])));
    for (actor, expected) in [("a", Some(Work::Save(vec!["files".into()]))), ("b", None)] {
        let mut seat = Seat::started(Some(known.clone()), &[]);
        seat.describe(None);
        seat.order(|order| {
            (order.fence, order.worker_fence, order.op) = (Fence(0), Fence(0), None);
            (order.verb, order.actor) = (checkpoint(), crate::hand::actor_key(actor));
        });
        seat.kept();
        assert_eq!(seat.working(), expected.iter().collect::<Vec<_>>());
    }
}

/// "A node that ... is told to stop what runs there, raises the worker's fence: an order under the old promise that is
/// still on its way is refused." Also if something else is there at the moment.
#[test]
fn a_stop_takes_the_promise_back_also_while_the_worker_is_occupied() {
    let mut seat = Seat::idle();
    seat.describe(Some(("x", 9, Sandbox::Running)));
    seat.kept();
    assert_eq!(seat.hosts().as_deref(), Some("x"));
    let stop = seat.order(|order| (order.session, order.verb, order.op) = (1, Verb::Stop, Some(op(2))));
    seat.kept();
    assert_eq!(seat.reply(stop), Some(Ok(())));
    seat.describe(None);
    seat.kept();
    assert_eq!(seat.hosts(), None);
    let late = seat.order(|order| order.session = 1);
    seat.kept();
    assert!(
        matches!(seat.refusal(late), Some(NodeFailureKind::StaleFence { .. })),
        "{:?} {:?}",
        seat.reply(late),
        seat.working()
    );
}

/// A Resume that is undone has its boot stopped. If atelet dies in the middle of that, the next one finds the sandbox
/// gone; whoever takes the Resume up orders the same boot once more, and must not hear that it is done.
#[test]
fn a_boot_that_was_being_undone_when_atelet_died_is_not_told_to_have_succeeded() {
    let mut seat = Seat::running();
    seat.order(|order| (order.session, order.verb, order.op) = (1, Verb::Stop, Some(op(2))));
    let on_disk = seat.keeps.last().map(|(_, kept)| kept.entry.clone());
    seat.kept();
    assert_eq!(seat.working(), [&Work::Stop]);
    for is_stopped in [true, false] {
        let mut seat = Seat::restarted("next", on_disk.clone(), &[("a", 10)]);
        seat.describe((!is_stopped).then_some(("a", 1, Sandbox::Running)));
        seat.answered(grant());
        let again = seat.order(|order| (order.session, order.fence) = (1, Fence(11)));
        seat.kept();
        assert_eq!(seat.reply(again).map(|reply| reply.is_ok()), Some(!is_stopped));
    }
}

/// I1: "no new operation below it, neither for the actor nor on the worker". Whoever is told that an actor is stopped
/// knows that nothing else is under way there either, not even for an earlier life of the name.
#[test]
fn a_stop_is_not_done_while_an_earlier_life_of_the_name_is_being_booted() {
    let mut seat = Seat::idle();
    seat.order(|order| order.session = 1);
    seat.kept();
    let stop = seat.order(|order| {
        (order.session, order.verb, order.op) = (1, Verb::Stop, Some(op(2)));
        (order.incarnation, order.worker_fence) = (Incarnation(8), order.worker_fence.next());
    });
    seat.kept();
    assert_eq!(seat.refusal(stop), Some(NodeFailureKind::Busy));
    seat.finish();
    assert_eq!(seat.hosts().as_deref(), Some("a"), "the boot goes on");
}

/// I1: what is done for the owner who has joined is not done under the fence of the one before. While the disk does not
/// have his fence, a restart would forget it.
#[test]
fn an_operation_that_a_later_owner_has_joined_goes_on_under_his_fence_once_it_is_on_disk() {
    for (fence, life, is_kept, expected) in [
        (12, 7, true, 12),
        (12, 7, false, 11),
        (11, 7, true, 11),
        (12, 8, true, 11),
    ] {
        let mut seat = Seat::running();
        let ordered = |seat: &mut Seat, fence: u64, life| {
            seat.order(|order| {
                (order.session, order.fence, order.worker_fence) = (1, Fence(fence), Fence(fence + 10));
                (order.verb, order.op, order.incarnation) = (checkpoint(), Some(op(2)), Incarnation(life));
            })
        };
        ordered(&mut seat, 11, 7);
        seat.kept();
        ordered(&mut seat, fence, life);
        seat.worked(Ok(vec!["files".into()]));
        assert_eq!(
            seat.under,
            (Fence(11), Fence(21)),
            "the disk has not taken it yet"
        );
        if is_kept {
            seat.kept();
        } else {
            seat.refuse();
        }
        seat.fails(WorkFailureKind::Transient);
        seat.pass(SETTINGS.workflow.retry_to);
        assert!(matches!(seat.working()[..], [Work::Save(_)]));
        let under = (Fence(expected), Fence(expected + 10));
        assert_eq!(seat.under, under, "{fence} {life} {is_kept}");
    }
}

/// What a node says of a worker where nobody is, at the fence of a promise, is that the promise is over. So it is: the
/// row may have been promised anew, at the very number to which a Stop has raised the fence.
#[test]
fn a_promise_at_the_fence_to_which_a_stop_has_raised_the_worker_is_not_let_in() {
    for (promise, is_let_in) in [(22, false), (23, true)] {
        let mut seat = Seat::idle();
        seat.order(|order| {
            (order.session, order.fence, order.worker_fence) = (1, Fence(11), Fence(21));
            (order.verb, order.op) = (Verb::Stop, Some(op(2)));
        });
        seat.finish();
        let boot = seat.order(|order| {
            (order.session, order.fence, order.worker_fence) = (1, Fence(12), Fence(promise));
            order.op = Some(op(3));
        });
        seat.kept();
        let stale = NodeFailureKind::StaleFence {
            of: Fenced::Worker,
            highest: Fence(22),
        };
        assert_eq!(seat.refusal(boot), (!is_let_in).then_some(stale), "{promise}");
    }
}

/// Whoever is told that his promise is over runs the actor elsewhere. So what he is told rests on the disk: the next
/// atelet does not let in what this one has refused.
#[test]
fn that_a_promise_is_over_is_told_when_the_next_atelet_knows_it_too() {
    let mut seat = Seat::idle();
    seat.order(|order| {
        (order.session, order.fence, order.worker_fence) = (1, Fence(11), Fence(30));
        (order.verb, order.op) = (Verb::Stop, Some(op(2)));
    });
    let late = seat.order(|order| {
        (order.session, order.fence, order.worker_fence) = (1, Fence(12), Fence(25));
        order.op = Some(op(3));
    });
    assert_eq!(seat.reply(late), None, "30 is in memory only");
    let on_disk: Vec<Fence> = seat.keeps.iter().map(|(_, kept)| kept.entry.highest).collect();
    assert!(on_disk.iter().any(|highest| *highest >= Fence(30)), "{on_disk:?}");
    seat.kept();
    let over = seat.refusal(late);
    assert!(
        matches!(over, Some(NodeFailureKind::StaleFence { of: Fenced::Worker, highest }) if highest >= Fence(30)),
        "{over:?}"
    );
}

/// An order to boot actor b under a promise of the worker.
fn boots_b(seat: &mut Seat, promise: u64) -> RequestId {
    seat.order(|order| {
        (order.actor, order.op) = (actor_key("b"), Some(op(100 + promise)));
        (order.session, order.fence, order.worker_fence) = (1, Fence(20), Fence(promise));
    })
}

/// I2: whoever is told that the worker has somebody else runs the actor elsewhere, and takes no promise back. When the
/// worker is free, the order must not bring the actor there, because it comes once more: to this atelet or to the next.
/// Whoever is there meanwhile stays in the hands of its owner.
#[test]
fn an_order_that_was_refused_because_the_worker_was_occupied_is_not_let_in_when_it_comes_once_more() {
    for is_restarted in [false, true] {
        let mut seat = Seat::running();
        seat.kept();
        let refused = boots_b(&mut seat, 9);
        assert_eq!(seat.reply(refused), None, "the disk does not know it yet");
        let on_disk = seat.keeps.last().map(|(_, kept)| kept.entry.clone());
        seat.kept();
        assert_eq!(seat.refusal(refused), Some(NodeFailureKind::Occupied));
        if is_restarted {
            seat = Seat::restarted("next", on_disk, &[("a", 10)]);
            seat.describe(Some(("a", 1, Sandbox::Running)));
            seat.answered(grant());
        }
        let highest = seat.report().map(|(highest, _)| highest);
        assert_eq!(highest, Some(Fence(5)), "that of whoever is there");
        let repeated = boots_b(&mut seat, 9);
        seat.kept();
        let over = NodeFailureKind::StaleFence {
            of: Fenced::Worker,
            highest: Fence(10),
        };
        assert_eq!(seat.refusal(repeated), Some(over), "{is_restarted}");

        let sleep = seat.order(|order| (order.verb, order.op) = (checkpoint(), Some(op(2))));
        seat.finish();
        assert_eq!(seat.reply(sleep), Some(Ok(())), "under the promise from before");
        let repeated = boots_b(&mut seat, 9);
        seat.kept();
        assert_eq!(seat.refusal(repeated), Some(over), "{is_restarted}");
        assert_eq!(seat.working(), [] as [&Work; 0]);
        seat.describe(None);
        let promised_anew = boots_b(&mut seat, 11);
        seat.finish();
        assert_eq!(seat.reply(promised_anew), Some(Ok(())));
    }
}

#[test]
fn that_a_worker_is_occupied_is_not_told_if_the_disk_cannot_remember_it() {
    let mut seat = Seat::running();
    seat.kept();
    let refused = boots_b(&mut seat, 9);
    seat.refuse();
    assert_eq!(seat.refusal(refused), Some(NodeFailureKind::Busy));
}

/// Its owner runs the actor elsewhere, whatever the silent ateom does.
#[test]
fn an_order_to_a_worker_that_was_silent_is_not_let_in_when_the_worker_is_heard_again() {
    let mut seat = Seat::idle();
    seat.input(Input::WorkerSilent("uid".into(), described(None)));
    let refused = boots_b(&mut seat, 9);
    seat.kept();
    assert_eq!(seat.refusal(refused), Some(NodeFailureKind::Occupied));
    seat.describe(None);
    let repeated = boots_b(&mut seat, 9);
    seat.kept();
    let kind = seat.refusal(repeated);
    assert!(
        matches!(kind, Some(NodeFailureKind::StaleFence { .. })),
        "{kind:?}"
    );
}

/// As above, if an order from before what runs there is let in first: it raises the fence of the worker.
#[test]
fn an_order_from_before_what_runs_there_is_not_let_in_when_that_has_left() {
    let mut seat = Seat::running();
    let late = |seat: &mut Seat| {
        let late =
            seat.order(|order| (order.session, order.worker_fence, order.op) = (1, Fence(6), Some(op(7))));
        seat.kept();
        seat.refusal(late)
    };
    assert_eq!(late(&mut seat), Some(NodeFailureKind::Occupied));
    seat.describe(None);
    seat.kept();
    assert_eq!(seat.hosts(), None);
    let kind = late(&mut seat);
    assert!(
        matches!(kind, Some(NodeFailureKind::StaleFence { .. })),
        "{kind:?}"
    );
}
