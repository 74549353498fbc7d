//! The worlds that are looked at.

use crate::scope::{Answers, Fault, Scope, Wish};
use Fault::{Crash, Journal, Loss, Message, Mishap, Pause, Report, Restart, Silence, Sweep};
use Wish::{Delete, Pause as Nap, Resume, Revert, Suspend};

/// The three that go wrong together in the plan.
const THREE: &[Fault] = &[Crash, Message, Pause];

/// Everything that `cargo xtask model` looks at.
pub fn all() -> Vec<Scope> {
    let groups = [
        singles(),
        pairs(),
        together(),
        races(),
        endings(),
        journals(),
        silences(),
    ];
    groups.into_iter().flatten().collect()
}

/// Each fault alone, in every place.
fn singles() -> Vec<Scope> {
    let round = || one_actor(&[Resume(0), Suspend(0), Resume(0)]);
    let mut scopes = vec![round(), in_flight(round())];
    let here = Fault::ALL.into_iter().filter(|fault| *fault != Silence);
    scopes.extend(here.map(|fault| with(round(), &[fault])));
    let nap = || one_actor(&[Resume(0), Nap(0), Resume(0)]);
    scopes.extend([Crash, Message, Restart, Loss, Mishap].map(|fault| with(nap(), &[fault])));
    let upload = || one_actor(&[Resume(0), Nap(0), Suspend(0)]);
    scopes.extend([Crash, Message, Restart, Mishap].map(|fault| with(upload(), &[fault])));
    let neighbours = || one_node(&[Resume(0), Suspend(0), Resume(0)]);
    scopes.extend([Crash, Message, Restart, Report].map(|fault| with(neighbours(), &[fault])));
    let short = || in_flight(one_actor(&[Resume(0), Suspend(0)]));
    scopes.extend([Crash, Pause].map(|fault| with(short(), &[fault])));
    scopes
}

/// Pairs of them, on shorter errands.
fn pairs() -> Vec<Scope> {
    let pairs = [
        [Crash, Message],
        [Crash, Restart],
        [Crash, Loss],
        [Message, Message],
        [Message, Restart],
        [Message, Loss],
        [Message, Mishap],
        [Restart, Restart],
        [Restart, Loss],
        [Crash, Pause],
        [Message, Pause],
    ];
    let scopes = pairs.map(|pair| with(one_actor(&[Resume(0), Suspend(0)]), &pair));
    scopes.into()
}

/// The three of the plan together: each workflow, from every rest from which it begins; then two callers at once, and
/// rounds of two workflows, which are too large to be seen as a whole.
fn together() -> Vec<Scope> {
    let scopes = [
        one_actor(&[Resume(0)]),
        one_actor(&[Resume(0)]).after(&[Resume(0), Suspend(0)]),
        one_actor(&[Resume(0)]).after(&[Resume(0), Nap(0)]),
        one_actor(&[Suspend(0)]).after(&[Resume(0)]),
        one_actor(&[Nap(0)]).after(&[Resume(0)]),
        one_actor(&[Suspend(0)]).after(&[Resume(0), Nap(0)]),
        two_callers(&[Resume(0)], &[Resume(0)]),
        two_callers(&[Suspend(0)], &[Suspend(0)]).after(&[Resume(0)]),
        two_callers(&[Suspend(0)], &[Resume(0)]).after(&[Resume(0)]),
        one_actor(&[Resume(0), Suspend(0)]),
        one_actor(&[Resume(0), Nap(0)]),
    ];
    scopes.map(|scope| with(scope, THREE)).into()
}

/// Two callers who disagree about one actor, and two actors who want one worker.
fn races() -> Vec<Scope> {
    let quarrel = || two_callers(&[Resume(0), Suspend(0)], &[Resume(0)]);
    let mut scopes: Vec<Scope> = [&[][..], &[Crash], &[Message], &[Restart], &[Report]]
        .map(|faults| with(quarrel(), faults))
        .into();
    let rivals = || two_actors(&[Resume(0), Suspend(0)], &[Resume(1)]);
    scopes.extend([&[][..], &[Loss], &[Restart], &[Sweep]].map(|faults| with(rivals(), faults)));
    let race = || two_actors(&[Resume(0)], &[Resume(1)]);
    scopes.extend([Crash, Message, Pause, Report].map(|fault| with(race(), &[fault])));
    scopes.extend([[Crash, Message], [Crash, Pause], [Message, Pause]].map(|pair| with(race(), &pair)));
    scopes
}

/// What is deleted, what is brought back, and what nothing points at any more.
fn endings() -> Vec<Scope> {
    let collected = |wishes: &[Wish], before: &[Wish]| one_actor(wishes).after(before).with_collection();
    let again = || collected(&[Resume(0), Suspend(0)], &[Resume(0), Suspend(0)]);
    let mut scopes: Vec<Scope> = [&[][..], &[Crash], &[Message], &[Restart], &[Mishap]]
        .map(|faults| with(again(), faults))
        .into();
    let upload = || collected(&[Suspend(0)], &[Resume(0), Nap(0)]);
    scopes.extend([[Crash, Message], [Crash, Restart], [Message, Mishap]].map(|pair| with(upload(), &pair)));
    let end = || collected(&[Delete(0)], &[Resume(0), Suspend(0)]);
    scopes.push(with(end(), THREE));
    let farewell = || {
        let both = two_callers(&[Delete(0)], &[Resume(0)]);
        both.after(&[Resume(0), Suspend(0)]).with_collection()
    };
    scopes.extend([&[][..], &[Crash], &[Message], &[Pause]].map(|faults| with(farewell(), faults)));
    let back = || {
        collected(
            &[Suspend(0), Revert(0), Resume(0)],
            &[Resume(0), Suspend(0), Resume(0)],
        )
    };
    scopes.extend([&[Mishap][..], &[Mishap, Crash], &[Mishap, Message]].map(|faults| with(back(), faults)));
    let undone = || collected(&[Revert(0)], &[Resume(0), Suspend(0), Resume(0), Nap(0)]);
    scopes.push(with(undone(), THREE));
    scopes
}

/// Journals that refuse what they are given, or take their time.
fn journals() -> Vec<Scope> {
    let pairs = [
        [Journal, Restart],
        [Journal, Loss],
        [Journal, Crash],
        [Journal, Message],
    ];
    let mut scopes: Vec<Scope> = pairs
        .map(|pair| with(one_actor(&[Resume(0), Suspend(0)]), &pair))
        .into();
    scopes.push(with(one_actor(&[Resume(0), Nap(0), Resume(0)]), &[Journal]));
    scopes
}

/// Nodes that are not heard of, perhaps for longer than their sessions.
fn silences() -> Vec<Scope> {
    let away = |wishes: &[Wish]| one_actor(wishes).after(&[Resume(0)]).with_sessions();
    let mut scopes = vec![
        away(&[Resume(0), Suspend(0)]),
        with(away(&[Resume(0), Suspend(0)]), &[Silence]),
        with(away(&[Nap(0), Resume(0)]), &[Silence]),
        with(one_actor(&[Resume(0), Suspend(0)]).with_sessions(), &[Silence]),
    ];
    let both = two_callers(&[Suspend(0)], &[Resume(0)]);
    scopes.push(with(both.after(&[Resume(0)]).with_sessions(), &[Silence]));
    let moved = || away(&[Resume(0)]);
    let pairs = [
        [Silence, Crash],
        [Silence, Message],
        [Silence, Pause],
        [Silence, Restart],
        [Silence, Loss],
    ];
    scopes.extend(pairs.map(|pair| with(moved(), &pair)));
    scopes
}

/// What an ordinary test looks at, in less than a minute.
pub fn small() -> Vec<Scope> {
    let round = || one_actor(&[Resume(0), Suspend(0), Resume(0)]);
    let faults = [&[][..], &[Restart], &[Loss], &[Mishap], &[Journal]];
    let mut scopes: Vec<Scope> = faults.map(|faults| with(round(), faults)).into();
    scopes.extend([Crash, Message, Pause].map(|fault| with(one_actor(&[Resume(0)]), &[fault])));
    scopes.push(two_actors(&[Resume(0)], &[Resume(1)]));
    scopes.push(with(
        one_actor(&[Suspend(0)]).after(&[Resume(0)]),
        &[Crash, Message],
    ));
    let end = one_actor(&[Delete(0)]).after(&[Resume(0), Suspend(0)]);
    scopes.push(with(end.with_collection(), &[Crash, Pause]));
    let moved = one_actor(&[Resume(0)]).after(&[Resume(0)]);
    scopes.push(with(moved.with_sessions(), &[Silence]));
    scopes
}

/// Two replicas, two nodes of one worker each, one caller and its actor.
pub fn one_actor(wishes: &[Wish]) -> Scope {
    Scope::of(2, 1, 1, vec![wishes.to_vec()])
}

/// Two replicas, one node of two workers, one caller and its actor.
pub fn one_node(wishes: &[Wish]) -> Scope {
    Scope::of(1, 2, 1, vec![wishes.to_vec()])
}

/// Two replicas, two nodes of one worker each, two callers of one actor.
pub fn two_callers(one: &[Wish], other: &[Wish]) -> Scope {
    Scope::of(2, 1, 1, vec![one.to_vec(), other.to_vec()])
}

/// Two replicas, one worker, two actors, each with its caller.
pub fn two_actors(one: &[Wish], other: &[Wish]) -> Scope {
    Scope::of(1, 1, 2, vec![one.to_vec(), other.to_vec()])
}

fn in_flight(scope: Scope) -> Scope {
    Scope {
        answers: Answers::InFlight,
        ..scope
    }
}

fn with(scope: Scope, faults: &[Fault]) -> Scope {
    scope.with_faults(faults)
}
