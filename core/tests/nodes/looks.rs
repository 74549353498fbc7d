//! What ateom says by itself may be old; what it answers is the truth.

use crate::seat::*;
use holdfast_core::effect::*;
use holdfast_core::id::*;
use holdfast_core::node::*;

const RUNNING: Option<(&str, u64, Sandbox)> = Some(("a", 1, Sandbox::Running));

/// A boot whose result is being kept on disk, when ateom has said this.
fn ending(alive: Option<(&str, u64, Sandbox)>) -> Seat {
    let mut seat = Seat::idle();
    seat.order(|order| order.session = 1);
    seat.pulled();
    seat.kept();
    while !seat.work.is_empty() {
        seat.worked(Ok(Vec::new()));
    }
    seat.says(alive);
    seat.said.clear();
    assert_eq!(seat.look, None, "its answer is still to come");
    seat.kept();
    seat
}

#[test]
fn what_bears_out_the_journal_is_believed_at_once() {
    let mut seat = ending(RUNNING);
    assert_eq!(
        (seat.look, seat.keeps.len(), seat.hosts().as_deref()),
        (None, 0, Some("a"))
    );

    let mut seat = ending(Some(("a", 1, Sandbox::Frozen)));
    assert!(matches!(seat.tends()[..], [Tend::Thaw(_)]), "{:?}", seat.tends());
    let kept = seat.keeps.pop().expect("the disk hears of it").1;
    assert_eq!(kept.entry.hosted.unwrap().sandbox, Sandbox::Frozen);
    assert_eq!(seat.look, None);
}

#[test]
fn what_was_said_in_the_middle_of_an_operation_does_not_undo_how_it_ended() {
    let mut seat = ending(Some(("a", 1, Sandbox::Busy)));
    assert!(
        matches!(seat.tends()[..], [Tend::Extend(_)]),
        "{:?}",
        seat.tends()
    );
    assert_eq!(
        (seat.look, seat.keeps.len(), seat.hosts().as_deref()),
        (None, 0, Some("a"))
    );
}

/// An ateom that is restarted between its answer and the journal's has said so, and does not say it again.
#[test]
fn what_was_said_in_the_middle_of_an_operation_is_asked_about_when_that_has_ended() {
    for said in [
        None,
        Some(("a", 2, Sandbox::Frozen)),
        Some(("b", 3, Sandbox::Running)),
    ] {
        let mut seat = ending(said);
        assert!(seat.look.is_some(), "{said:?}");
        assert!(
            matches!(seat.tends()[..], [Tend::Extend(_)]),
            "{:?}",
            seat.tends()
        );
        assert_eq!((seat.keeps.len(), seat.hosts().as_deref()), (0, Some("a")));
        seat.answers(RUNNING);
        assert_eq!(
            (seat.look, seat.keeps.len(), seat.hosts().as_deref()),
            (None, 0, Some("a"))
        );
    }
    let mut seat = ending(None);
    seat.answers(None);
    let kept = seat.keeps.pop().expect("the disk hears of it").1;
    assert_eq!((kept.entry.hosted, kept.entry.highest), (None, Fence(6)));
    assert_eq!(seat.hosts(), None);
    let is_noted =
        |output: &Output| *output == Output::Note("worker uid lost the sandbox of actor space/a".into());
    assert!(seat.said.iter().any(is_noted));
}

#[test]
fn that_an_actor_is_gone_is_believed_of_an_answer_only() {
    let mut seat = Seat::running();
    // On its way since before ateom heard of operation 1, for instance.
    seat.says(None);
    assert_eq!((seat.look.is_some(), seat.hosts().as_deref()), (true, Some("a")));
    seat.answers(RUNNING);
    assert_eq!((seat.look, seat.hosts().as_deref()), (None, Some("a")));
    // What it says once more is no news, and yet not what was answered.
    seat.says(None);
    seat.answers(None);
    assert_eq!((seat.look, seat.hosts()), (None, None));
}

#[test]
fn that_somebody_is_there_is_believed_of_the_first_word_and_of_an_answer() {
    let stranger = Some(("b", 3, Sandbox::Running));
    let mut seat = Seat::started(None, &[]);
    seat.says(stranger);
    assert_eq!((seat.look, seat.hosts().as_deref()), (None, Some("b")));

    let mut seat = Seat::idle();
    seat.says(stranger);
    assert_eq!((seat.look.is_some(), seat.hosts()), (true, None));
    seat.answers(stranger);
    assert_eq!(seat.hosts().as_deref(), Some("b"));

    // What has been stopped is alive in what is still on its way.
    let mut seat = Seat::running();
    let stop = seat.order(|order| (order.verb, order.op) = (Verb::Stop, Some(op(2))));
    seat.finish();
    assert_eq!((seat.reply(stop), seat.hosts()), (Some(Ok(())), None));
    seat.answers(None);
    assert_eq!((seat.look, seat.hosts()), (None, None));
}

#[test]
fn the_first_word_of_an_ateom_that_came_back_may_be_older_than_the_boot_that_it_made() {
    let mut seat = Seat::idle();
    seat.order(|order| order.session = 1);
    seat.pulled();
    seat.kept();
    while !matches!(seat.work[0].1, Work::Boot { .. }) {
        seat.worked(Ok(Vec::new()));
    }
    seat.input(Input::WorkerLost("uid".into()));
    seat.worked(Ok(Vec::new()));
    seat.kept();
    seat.says(None);
    assert!(seat.look.is_some());
    seat.answers(RUNNING);
    assert_eq!(seat.hosts().as_deref(), Some("a"));
}

#[test]
fn a_word_that_bears_out_the_journal_ends_the_question() {
    let mut seat = Seat::running();
    seat.says(None);
    let look = seat.look.expect("it asks");
    seat.says(RUNNING);
    assert_eq!(seat.look, None);
    seat.input(Input::Looked(look, Err("it does not answer".into())));
    seat.pass(SETTINGS.workflow.retry_to);
    assert_eq!((seat.look, seat.hosts().as_deref()), (None, Some("a")));
}

#[test]
fn a_word_that_contradicts_the_journal_asks_anew() {
    // The answer to the first question may have been given before ateom was restarted.
    let mut seat = ending(Some(("b", 3, Sandbox::Running)));
    let first = seat.look.expect("it asks");
    seat.says(None);
    let second = seat.look.expect("it asks again");
    assert!(first != second);
    seat.look = Some(first);
    seat.answers(RUNNING);
    seat.look = Some(second);
    seat.answers(None);
    assert_eq!(seat.hosts(), None);
}

#[test]
fn an_operation_that_begins_ends_the_question() {
    let mut seat = Seat::running();
    seat.says(None);
    let look = seat.look;
    seat.order(|order| {
        (order.verb, order.op, order.session) = (checkpoint(), Some(op(2)), 1);
    });
    assert_eq!(seat.look, None);
    seat.look = look;
    seat.answers(None);
    seat.kept();
    assert_eq!(seat.working(), [&Work::Capture]);
    assert_eq!(seat.hosts().as_deref(), Some("a"));
}

#[test]
fn a_question_that_is_not_answered_is_asked_again() {
    let mut seat = Seat::running();
    seat.says(None);
    for _ in 0..3 {
        let look = seat.look.take().expect("it asks");
        seat.input(Input::Looked(look, Err("it does not answer".into())));
        assert_eq!(seat.look, None, "not at once");
        seat.pass(SETTINGS.workflow.retry_to);
    }
    seat.answers(None);
    assert_eq!(seat.hosts(), None);
}

#[test]
fn a_worker_that_is_lost_or_silent_is_not_asked() {
    for is_asked in [true, false] {
        let unanswered = |seat: &mut Seat| {
            seat.says(None);
            if !is_asked {
                let look = seat.look.take().expect("it asks");
                seat.input(Input::Looked(look, Err("it does not answer".into())));
            }
        };
        let mut seat = Seat::running();
        unanswered(&mut seat);
        seat.input(Input::WorkerLost("uid".into()));
        seat.pass(SETTINGS.workflow.retry_to);
        assert_eq!(seat.look, None);
        let kept = seat.keeps.pop().expect("the disk hears of it").1;
        assert_eq!(kept.entry.hosted, None);

        let mut seat = Seat::running();
        unanswered(&mut seat);
        seat.input(Input::WorkerSilent("uid".into(), silent()));
        seat.pass(SETTINGS.workflow.retry_to);
        assert_eq!((seat.look, seat.hosts().as_deref()), (None, Some("a")));
        // When it is heard again it says what it said before, and that is asked about.
        seat.says(None);
        seat.answers(None);
        assert_eq!(seat.hosts(), None);
    }
}

#[test]
fn an_operation_that_ends_while_its_worker_is_silent_asks_when_that_is_heard_again() {
    let mut seat = Seat::idle();
    seat.order(|order| order.session = 1);
    seat.pulled();
    seat.kept();
    while !seat.work.is_empty() {
        seat.worked(Ok(Vec::new()));
    }
    seat.input(Input::WorkerSilent("uid".into(), silent()));
    seat.kept();
    assert_eq!((seat.look, seat.hosts().as_deref()), (None, Some("a")));
    seat.says(None);
    seat.answers(None);
    assert_eq!(seat.hosts(), None);
}

#[test]
fn an_operation_that_begins_ends_the_waiting_to_ask_again() {
    let mut seat = Seat::running();
    seat.says(None);
    let look = seat.look.take().expect("it asks");
    seat.input(Input::Looked(look, Err("it does not answer".into())));
    seat.order(|order| (order.verb, order.op) = (Verb::Stop, Some(op(2))));
    seat.pass(SETTINGS.workflow.retry_to);
    assert_eq!(seat.look, None, "what is there changes at this moment");
    seat.finish();
    assert_eq!(seat.hosts(), None);
}

#[test]
fn an_actor_that_is_found_held_still_goes_on_if_the_session_covers_it() {
    let mut seat = Seat::running();
    seat.says(None);
    seat.said.clear();
    seat.answers(Some(("a", 1, Sandbox::Frozen)));
    assert!(matches!(seat.tends()[..], [Tend::Thaw(_)]), "{:?}", seat.tends());
}

/// An actor that was captured is there until its files are stored, and nothing runs meanwhile.
#[test]
fn an_actor_that_was_stopped_is_not_lost_for_an_answer_that_nothing_runs() {
    let mut seat = Seat::started(Some(entry(Sandbox::Stopped)), &[]);
    seat.says(None);
    seat.kept();
    seat.says(Some(("a", 2, Sandbox::Running)));
    assert!(seat.look.is_some(), "that is not what was stopped");
    seat.answers(None);
    assert_eq!((seat.look, seat.keeps.len()), (None, 0));
    assert_eq!(seat.hosts().as_deref(), Some("a"));
}
