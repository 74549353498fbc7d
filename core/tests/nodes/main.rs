//! A node by hand, step by step: which orders it lets in, what it believes of what ateom says, and what it gives up.

mod forgets;
#[path = "../hand/mod.rs"]
mod hand;
mod looks;
mod promises;
mod seat;

use hand::actor_key;
use holdfast_core::catalog::{Container, Scope, Workload};
use holdfast_core::effect::*;
use holdfast_core::failure::Code;
use holdfast_core::id::*;
use holdfast_core::machine::Machine;
use holdfast_core::node::*;
use holdfast_core::pull;
use holdfast_core::registry::Hosting;
use holdfast_core::session::{Answered, Eviction, Grant};
use holdfast_core::time::Duration;
use holdfast_core::worker::Duty;
use seat::{SETTINGS, Seat, checkpoint, entry, grant, op, pending, run};
use std::sync::Arc;

#[test]
fn an_order_without_a_fence_is_let_in_and_lowers_none() {
    let mut seat = Seat::started(Some(entry(Sandbox::Running)), &[("a", 10)]);
    seat.describe(Some(("a", 1, Sandbox::Running)));
    let original = seat.order(|order| {
        (order.fence, order.worker_fence) = (Fence(0), Fence(0));
        (order.verb, order.op) = (checkpoint(), None);
    });
    assert_eq!(seat.reply(original), None, "it is let in");
    assert_eq!(
        seat.keeps
            .last()
            .unwrap()
            .1
            .fence
            .as_ref()
            .map(|(.., fence)| *fence),
        Some(Fence(10))
    );
    seat.finish();
    let late = seat.order(|order| (order.fence, order.op) = (Fence(9), Some(op(2))));
    let stale = NodeFailureKind::StaleFence {
        of: Fenced::Actor,
        highest: Fence(10),
    };
    assert_eq!(seat.refusal(late), Some(stale));
}

#[test]
fn a_control_plane_without_fences_leaves_none_behind() {
    let mut seat = Seat::idle();
    let boot = |order: &mut Order| (order.fence, order.worker_fence) = (Fence(0), Fence(0));
    seat.order(boot);
    seat.finish();
    seat.describe(Some(("a", 1, Sandbox::Running)));
    assert_eq!(seat.keeps.iter().find_map(|(_, kept)| kept.fence.clone()), None);
    seat.order(|order| {
        boot(order);
        (order.verb, order.op) = (Verb::Stop, Some(op(2)));
    });
    seat.finish();
    seat.describe(None);
    assert_eq!(seat.report(), Some((Fence(0), None)));
}

#[test]
fn what_is_not_named_is_not_compared() {
    // Whoever knows no lives speaks of the actor by its name; of what was found nobody knows the life.
    for (hosted, ordered) in [(7, 0), (0, 7), (0, 0), (7, 7)] {
        let mut known = entry(Sandbox::Running);
        known.hosted.as_mut().unwrap().incarnation = Incarnation(hosted);
        let mut seat = Seat::started(Some(known), &[]);
        seat.describe(Some(("a", 1, Sandbox::Running)));
        seat.order(|order| {
            (order.verb, order.op) = (Verb::Stop, Some(op(2)));
            order.incarnation = Incarnation(ordered);
        });
        seat.kept();
        assert_eq!(seat.working(), [&Work::Stop], "{hosted} {ordered}");
    }
    let mut seat = Seat::running();
    let stop = seat.order(|order| {
        (order.verb, order.op) = (Verb::Stop, Some(op(2)));
        order.incarnation = Incarnation(8);
    });
    seat.kept();
    assert_eq!(seat.reply(stop), Some(Ok(())), "another life of it is not there");
    assert_eq!(seat.working(), [] as [&Work; 0]);
}

#[test]
fn an_order_to_stop_what_is_not_there_is_done_and_touches_nobody_else() {
    let mut seat = Seat::running();
    let stop = seat.order(|order| {
        (order.actor, order.op) = (actor_key("b"), Some(op(2)));
        order.verb = Verb::Stop;
    });
    assert_eq!(seat.reply(stop), None, "its fence is not on disk yet");
    seat.kept();
    assert_eq!(seat.reply(stop), Some(Ok(())));
    assert_eq!(seat.working(), [] as [&Work; 0]);
    assert_eq!(seat.hosts().as_deref(), Some("a"));
}

#[test]
fn an_order_that_names_no_operation_joins_the_same_wish_and_no_other() {
    let mut seat = Seat::idle();
    let nameless = |seat: &mut Seat, change: fn(&mut Order)| {
        seat.order(|order| {
            order.op = None;
            change(order);
        })
    };
    let first = nameless(&mut seat, |_| {});
    let same = nameless(&mut seat, |_| {});
    let other_verb = nameless(&mut seat, |order| order.verb = checkpoint());
    let other_actor = nameless(&mut seat, |order| order.actor = actor_key("b"));
    assert_eq!((seat.reply(first), seat.reply(same)), (None, None));
    assert!(seat.refusal(other_verb).is_some());
    seat.finish();
    assert_eq!(seat.refusal(other_actor), Some(NodeFailureKind::Occupied));
    assert_eq!(
        (seat.reply(first), seat.reply(same)),
        (Some(Ok(())), Some(Ok(())))
    );
}

#[test]
fn a_boot_that_ateom_has_made_although_nobody_heard_is_not_made_again() {
    let mut seat = Seat::idle();
    let boot = seat.order(|_| {});
    seat.pulled();
    seat.kept();
    while !matches!(seat.work[0].1, Work::Boot { .. }) {
        seat.worked(Ok(Vec::new()));
    }
    while seat.reply(boot).is_none() {
        match seat.work.is_empty() {
            false => drop(seat.fails(WorkFailureKind::Unreachable)),
            true => seat.pass(SETTINGS.workflow.retry_to),
        }
        seat.kept();
    }
    assert_eq!(seat.refusal(boot), Some(NodeFailureKind::Failed));
    assert_eq!(seat.hosts().as_deref(), Some("a"), "it may be there after all");
    // An ateom that does not say of which operation it heard last.
    seat.describe(Some(("a", 1, Sandbox::Running)));
    let again = seat.order(|_| {});
    assert_eq!(seat.reply(again), Some(Ok(())));
}

#[test]
fn a_boot_that_ateom_said_it_made_before_it_was_called_failed_is_not_made_again() {
    let mut seat = Seat::idle();
    let boot = seat.order(|_| {});
    seat.pulled();
    seat.kept();
    while !matches!(seat.work[0].1, Work::Boot { .. }) {
        seat.worked(Ok(Vec::new()));
    }
    seat.describe(Some(("a", 1, Sandbox::Running)));
    seat.fails(WorkFailureKind::Transient);
    seat.kept();
    assert_eq!(seat.refusal(boot), Some(NodeFailureKind::Failed));
    let again = seat.order(|_| {});
    assert_eq!(seat.reply(again), Some(Ok(())));
    assert_eq!(seat.working(), [] as [&Work; 0]);
}

#[test]
fn what_was_captured_for_one_operation_is_saved_for_no_other() {
    for (seq, expected) in [(8, Work::Save(vec!["files".into()])), (9, Work::Capture)] {
        let mut known = entry(Sandbox::Busy);
        known.current = Some(pending(8, Some(vec!["files".into()])));
        let mut seat = Seat::started(Some(known), &[]);
        seat.describe(None);
        seat.order(|order| (order.verb, order.op) = (checkpoint(), Some(op(seq))));
        seat.kept();
        assert_eq!(seat.working(), [&expected]);
    }
}

#[test]
fn a_node_that_starts_again_goes_on_in_the_session_under_which_its_actors_came() {
    let mut known = entry(Sandbox::Running);
    known.hosted.as_mut().unwrap().session = 6;
    let seat = Seat::started(Some(known), &[]);
    assert_eq!(seat.node.session().number(), 6);
    assert_eq!(Seat::started(None, &[]).node.session().number(), 1);
}

#[test]
fn what_becomes_of_a_session_and_of_a_pull_is_told() {
    let mut seat = Seat::started(None, &[]);
    seat.describe(None);
    seat.answered(grant());
    assert_eq!(seat.moves(), ["session Ungranted -> Granted by Grant"]);
    seat.said.clear();
    seat.pass(SETTINGS.node.session_ttl);
    assert_eq!(seat.moves(), ["session Granted -> Lapsed by Expiry"]);
    seat.said.clear();
    seat.input(Input::Reported(Ok(Answered::Over { lapsed: 1 })));
    assert_eq!(seat.moves(), ["session Lapsed -> Lapsed by Over"]);
    seat.answered(grant());
    seat.said.clear();
    seat.order(|order| order.session = 2);
    let moves = seat.moves();
    assert!(
        moves.iter().any(|moved| moved.starts_with("pull absent -> ")),
        "{moves:?}"
    );
}

/// Rows may begin anew below what they were: a store that was flushed counts once more.
#[test]
fn of_two_evictions_the_one_with_the_lower_fence_is_not_heeded() {
    let mut seat = Seat::running();
    let evict = |seat: &mut Seat, fence| {
        let grant = Grant {
            ttl: SETTINGS.node.session_ttl,
            heartbeat_every: SETTINGS.node.heartbeat_every,
            evict: vec![Eviction {
                pod_uid: "uid".into(),
                fence: Fence(fence),
            }],
        };
        seat.answered(Answered::Granted(grant));
        seat.kept();
    };
    evict(&mut seat, 9);
    assert_eq!(seat.fails(WorkFailureKind::Fatal), Work::Stop);
    seat.kept();
    evict(&mut seat, 8);
    assert_eq!(seat.working(), [] as [&Work; 0]);
    evict(&mut seat, 9);
    assert_eq!(seat.working(), [&Work::Stop]);
}

/// As a store gives it that has lost writes and has them begun once more.
#[test]
fn an_order_from_before_what_runs_there_by_now_is_told_that_the_worker_is_taken() {
    for (sandbox, expected) in [
        (Sandbox::Running, NodeFailureKind::Occupied),
        (Sandbox::Frozen, NodeFailureKind::Occupied),
        // It ends by itself.
        (Sandbox::Busy, NodeFailureKind::Busy),
    ] {
        let mut seat = Seat::running();
        seat.describe(Some(("a", 1, sandbox)));
        let order = |order: &mut Order| (order.session, order.op) = (1, Some(op(7)));
        let late = seat.order(order);
        seat.kept();
        assert_eq!(seat.refusal(late), Some(expected), "{sandbox:?}");
        assert_eq!(seat.hosts().as_deref(), Some("a"));
    }
}

#[test]
fn an_eviction_is_noted_for_those_who_wonder() {
    let mut seat = Seat::running();
    let evict = vec![Eviction {
        pod_uid: "uid".into(),
        fence: Fence(5),
    }];
    seat.answered(Answered::Granted(Grant {
        ttl: SETTINGS.node.session_ttl,
        heartbeat_every: SETTINGS.node.heartbeat_every,
        evict,
    }));
    let is_told = |output: &Output| matches!(output, Output::Note(text) if text.contains("no record knows of actor space/a"));
    assert!(seat.said.iter().any(is_told));
    seat.kept();
    assert_eq!(seat.working(), [&Work::Stop]);
}

#[test]
fn what_has_frozen_itself_is_thawed_as_soon_as_that_is_heard_if_its_session_goes_on() {
    let mut seat = Seat::running();
    seat.describe(Some(("a", 1, Sandbox::Frozen)));
    assert!(matches!(seat.tends()[..], [Tend::Thaw(_)]), "{:?}", seat.tends());
}

#[test]
fn a_sandbox_that_is_gone_after_a_checkpoint_has_become_a_snapshot() {
    let mut known = entry(Sandbox::Busy);
    known.current = Some(pending(8, None));
    let mut seat = Seat::started(Some(known), &[]);
    seat.describe(None);
    seat.kept();
    assert_eq!(seat.hosts().as_deref(), Some("a"));
    seat.order(|order| (order.verb, order.op) = (checkpoint(), Some(op(8))));
    seat.kept();
    assert_eq!(seat.working(), [&Work::Capture], "which finds out");
}

#[test]
fn what_ateom_runs_is_believed_rather_than_what_is_remembered() {
    let mut seat = Seat::started(Some(entry(Sandbox::Running)), &[]);
    seat.describe(Some(("b", 3, Sandbox::Running)));
    let (_, hosting) = seat.report().unwrap();
    let found = Hosting {
        actor: ActorKey::new("", "b"),
        incarnation: Incarnation(0),
        session: 0,
    };
    assert_eq!(hosting, Some(found));

    // The same actor by another operation: an order under that one has been carried out.
    let mut seat = Seat::started(Some(entry(Sandbox::Running)), &[]);
    seat.describe(Some(("a", 3, Sandbox::Running)));
    let kept = &seat.keeps.last().expect("the disk hears of it").1;
    assert_eq!(kept.entry.hosted.as_ref().map(|hosted| hosted.op), Some(op(3)));
    seat.kept();
    let repeated = seat.order(|order| order.op = Some(op(3)));
    seat.kept();
    assert_eq!(seat.reply(repeated), Some(Ok(())));
}

/// How often the node reports at once; each report is answered.
fn reports_at_once(seat: &mut Seat) -> usize {
    let mut reports = 0;
    loop {
        seat.said.clear();
        seat.pass(Duration::ZERO);
        if !seat.said.iter().any(|output| matches!(output, Output::Report(_))) {
            return reports;
        }
        reports += 1;
        seat.input(Input::Reported(Ok(grant())));
    }
}

#[test]
fn what_changes_about_a_worker_that_does_not_answer_is_reported_at_once() {
    let mut seat = Seat::running();
    seat.input(Input::Reported(Ok(grant())));
    reports_at_once(&mut seat);
    for (duty, is_news) in [
        (Duty::Serving, true),
        (Duty::Serving, false),
        (Duty::Draining, true),
        (Duty::Draining, false),
    ] {
        let known = Described {
            key: hand::worker_key("w"),
            ip: "ip".into(),
            incarnation: "".into(),
            duty,
            sandbox: None,
        };
        seat.input(Input::WorkerSilent("uid".into(), known));
        assert_eq!(reports_at_once(&mut seat), usize::from(is_news), "{duty:?}");
    }
}

#[test]
fn a_worker_is_kept_for_an_actor_that_could_not_be_booted() {
    let mut seat = Seat::started(Some(entry(Sandbox::Stopped)), &[]);
    seat.describe(None);
    assert_eq!(seat.hosts().as_deref(), Some("a"));
}

#[test]
fn the_attempts_of_one_step_do_not_count_for_the_next() {
    let mut seat = Seat::running();
    let id = seat.order(|order| (order.verb, order.op) = (checkpoint(), Some(op(2))));
    seat.kept();
    for _ in 0..3 {
        assert_eq!(seat.fails(WorkFailureKind::Unreachable), Work::Capture);
        seat.pass(SETTINGS.workflow.retry_to * 2);
    }
    assert_eq!(seat.worked(Ok(vec!["files".into()])), Work::Capture);
    seat.kept();
    for _ in 0..7 {
        assert_eq!(
            seat.fails(WorkFailureKind::Transient),
            Work::Save(vec!["files".into()])
        );
        seat.pass(SETTINGS.workflow.retry_to * 2);
    }
    seat.finish();
    assert_eq!(seat.reply(id), Some(Ok(())));
}

#[test]
fn where_no_worker_is_nothing_has_to_be_stopped() {
    let mut seat = Seat::running();
    let id = seat.order(|order| (order.verb, order.op) = (Verb::Stop, Some(op(2))));
    seat.kept();
    seat.input(Input::WorkerLost("uid".into()));
    assert_eq!(seat.fails(WorkFailureKind::Unreachable), Work::Stop);
    seat.kept();
    assert_eq!(seat.reply(id), Some(Ok(())));
}

#[test]
fn only_a_crash_is_a_loss_of_data() {
    for (kind, expected) in [
        (WorkFailureKind::Fatal, (NodeFailureKind::Crash, Code::DataLoss)),
        (
            WorkFailureKind::Transient,
            (NodeFailureKind::Failed, Code::Unavailable),
        ),
    ] {
        let mut seat = Seat::idle();
        let id = seat.order(|order| {
            order.verb = Verb::Restore {
                from: Place::External("mem://1".into()),
                scope: Scope::Full,
            };
        });
        seat.pulled();
        seat.kept();
        while seat.work[0].1 != Work::Fetch {
            seat.worked(Ok(Vec::new()));
        }
        seat.fails(kind);
        seat.kept();
        let failure = seat.reply(id).unwrap().unwrap_err();
        assert_eq!((failure.kind, failure.code), expected);
    }
}

#[test]
fn what_could_not_be_done_to_a_sandbox_leaves_it_as_it_was_or_still() {
    // A thaw that fails leaves it frozen, a checkpoint running; what should be stopped serves nobody.
    for (verb, left) in [
        (Verb::Thaw, Sandbox::Frozen),
        (checkpoint(), Sandbox::Running),
        (Verb::Stop, Sandbox::Stopped),
    ] {
        let mut seat = Seat::running();
        let id = seat.order(|order| {
            (order.verb, order.op) = (verb.clone(), Some(op(2)));
            order.session = 1;
        });
        match verb {
            // What cannot be remembered is not begun.
            Verb::Checkpoint { .. } => {
                let (effect, _) = seat.keeps.remove(0);
                seat.input(Input::Kept(effect, Err("full".into())));
            }
            _ => {
                seat.kept();
                while !seat.work.is_empty() {
                    seat.fails(WorkFailureKind::Transient);
                    seat.pass(SETTINGS.workflow.retry_to);
                }
            }
        }
        let kept = seat.keeps.last().expect("how it ended is kept").1.clone();
        assert_eq!(
            kept.entry.hosted.map(|hosted| hosted.sandbox),
            Some(left),
            "{verb:?}"
        );
        seat.kept();
        let refusal = match verb {
            Verb::Checkpoint { .. } => NodeFailureKind::NotBegun,
            _ => NodeFailureKind::Failed,
        };
        assert_eq!(seat.refusal(id), Some(refusal));
    }
}

#[test]
fn an_upload_leaves_the_worker_that_it_names_alone() {
    let mut seat = Seat::running();
    let id = seat.order(|order| {
        order.op = Some(op(2));
        order.verb = Verb::Upload {
            name: "local".into(),
            to: "mem://1".into(),
        };
    });
    seat.finish();
    assert_eq!(seat.reply(id), Some(Ok(())));
    assert_eq!(seat.hosts().as_deref(), Some("a"));
}

/// From a control plane that names no operations, and that did not hear the answer.
#[test]
fn a_boot_that_nobody_named_has_happened_if_its_actor_runs_there() {
    for (actor, is_there) in [("a", true), ("b", false)] {
        let mut seat = Seat::idle();
        let nameless = |seat: &mut Seat, actor: &str| {
            seat.order(|order| {
                (order.actor, order.op) = (actor_key(actor), None);
                (order.fence, order.worker_fence) = (Fence(0), Fence(0));
            })
        };
        nameless(&mut seat, "a");
        seat.finish();
        let again = nameless(&mut seat, actor);
        seat.kept();
        assert_eq!(seat.working(), [] as [&Work; 0]);
        assert_eq!(
            seat.reply(again).map(|reply| reply.is_ok()),
            Some(is_there),
            "{actor}"
        );
    }
}

/// Two paused actors of one node have nothing to do with each other; of one actor there is one operation at a time.
#[test]
fn paused_actors_of_one_node_are_uploaded_side_by_side() {
    let mut seat = Seat::idle();
    let upload = |seat: &mut Seat, name: &str, seq| {
        seat.order(|order| {
            (order.actor, order.op) = (actor_key(name), Some(op(seq)));
            (order.worker, order.worker_fence) = (Name::default(), Fence(0));
            order.verb = Verb::Upload {
                name: name.into(),
                to: "mem://1".into(),
            };
        })
    };
    let uploads = ["b", "c", "b"]
        .into_iter()
        .zip(2..)
        .map(|(name, seq)| upload(&mut seat, name, seq));
    let uploads: Vec<RequestId> = uploads.collect();
    assert_eq!(seat.working(), [&Work::Upload, &Work::Upload]);
    assert_eq!(
        seat.refusal(uploads[2]),
        Some(NodeFailureKind::Busy),
        "it is under way"
    );
    let boot = seat.order(|order| (order.actor, order.op, order.session) = (actor_key("b"), Some(op(9)), 1));
    assert_eq!(seat.refusal(boot), Some(NodeFailureKind::Busy), "that as well");
    seat.worked(Ok(Vec::new()));
    assert!(
        seat.keeps.iter().all(|(_, kept)| kept.worker.is_empty()),
        "nothing is kept of it but the fence of the actor"
    );
    seat.finish();
    assert_eq!(
        uploads[..2].iter().map(|id| seat.reply(*id)).collect::<Vec<_>>(),
        [const { Some(Ok(())) }; 2]
    );
    let again = upload(&mut seat, "b", 7);
    assert_eq!(seat.working(), [&Work::Upload]);
    seat.finish();
    assert_eq!(seat.reply(again), Some(Ok(())));
}

/// A boot that waits for an image, and for its directories to be emptied.
fn waiting_for_an_image() -> (Seat, RequestId) {
    let mut seat = Seat::idle();
    let container = Container {
        name: "main".into(),
        image: "large".into(),
        command: Vec::new(),
        env: Vec::new(),
        readyz: None,
        mounts: Vec::new(),
    };
    let workload = Arc::new(Workload {
        pause_image: "large".into(),
        containers: vec![container],
        durable_volumes: Vec::new(),
    });
    let id = seat.order(|order| order.workload = workload.clone());
    seat.kept();
    assert_eq!(seat.pulls.len(), 1);
    (seat, id)
}

/// Whether the node has told that somebody who waited for the pull does so no more.
fn is_let_go_of(seat: &Seat) -> bool {
    let moves = seat.moves();
    moves.iter().any(|moved| moved.ends_with("by Unwant"))
}

/// The image goes on coming in, and nobody wants it any more.
fn is_given_up_in_time(seat: &mut Seat) {
    let (_, attempt) = seat.pulls[0];
    let is_cancelled = |output: &Output| *output == Output::CancelPull(attempt);
    let step = Duration::from_secs(5);
    let grace = SETTINGS.pull.abandon_grace;
    let mut waited = Duration::ZERO;
    while waited + step < grace {
        waited += step;
        seat.pass(step);
        let moved = pull::Input::Progress(attempt, waited.as_secs());
        seat.input(Input::Pull(moved));
        assert!(!seat.said.iter().any(is_cancelled), "after {waited:?}");
    }
    assert_eq!(
        seat.node
            .poll_timeout()
            .map(|(at, _)| at <= seat.now.plus(grace - waited)),
        Some(true)
    );
    seat.pass(grace - waited);
    assert!(seat.said.iter().any(is_cancelled));
}

#[test]
fn a_pull_whose_boot_has_failed_is_given_up_when_nobody_wants_it() {
    let (mut seat, id) = waiting_for_an_image();
    assert_eq!(seat.fails(WorkFailureKind::Fatal), Work::Clear);
    assert!(is_let_go_of(&seat));
    seat.kept();
    assert_eq!(seat.refusal(id), Some(NodeFailureKind::Failed));
    is_given_up_in_time(&mut seat);
}

#[test]
fn a_pull_whose_boot_was_overtaken_is_given_up_when_nobody_wants_it() {
    let (mut seat, id) = waiting_for_an_image();
    seat.order(|order| (order.verb, order.op, order.fence) = (Verb::Stop, Some(op(2)), Fence(11)));
    assert_eq!(seat.refusal(id), Some(NodeFailureKind::Failed));
    assert_eq!(seat.cancelled(), 1, "emptying directories, too, is ended");
    assert!(is_let_go_of(&seat));
    is_given_up_in_time(&mut seat);
}

#[test]
fn a_boot_that_was_about_to_be_tried_again_is_not_when_it_was_overtaken() {
    let mut seat = Seat::idle();
    seat.order(|_| {});
    seat.pulled();
    seat.kept();
    while !matches!(seat.work[0].1, Work::Boot { .. }) {
        seat.worked(Ok(Vec::new()));
    }
    seat.fails(WorkFailureKind::Unreachable);
    seat.order(|order| (order.verb, order.op, order.fence) = (Verb::Stop, Some(op(2)), Fence(11)));
    seat.kept();
    assert_eq!(seat.working(), [&Work::Stop]);
    seat.pass(SETTINGS.workflow.retry_to);
    assert_eq!(seat.working(), [&Work::Stop], "it is asked once");
}

#[test]
fn a_snapshot_is_where_its_order_says() {
    let place = Place::Local("s".into());
    let restore = Verb::Restore {
        from: place.clone(),
        scope: Scope::Full,
    };
    let upload = Verb::Upload {
        name: "s".into(),
        to: "mem://1".into(),
    };
    assert_eq!(place_of(&restore), Some(&place));
    assert_eq!(place_of(&checkpoint()), Some(&Place::External("mem://1".into())));
    for none in [run(), upload, Verb::Stop, Verb::Thaw] {
        assert_eq!(place_of(&none), None);
    }
}
