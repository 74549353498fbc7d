//! The worlds that are looked at.

use crate::scope::{Answers, Fault, Scope, Wish};
use Fault::{Crash, Loss, Message, Mishap, Pause, Report, Restart, Sweep};
use Wish::{Pause as Nap, Resume, Suspend};

/// Everything that `cargo xtask model` looks at.
pub fn all() -> Vec<Scope> {
    let mut scopes = vec![
        with(one_actor(&[Resume(0), Suspend(0), Resume(0)]), &[]),
        with(in_flight(one_actor(&[Resume(0), Suspend(0), Resume(0)])), &[]),
    ];
    // Each fault alone, in every place.
    let round = || one_actor(&[Resume(0), Suspend(0), Resume(0)]);
    scopes.extend(Fault::ALL.map(|fault| with(round(), &[fault])));
    let nap = || one_actor(&[Resume(0), Nap(0), Resume(0)]);
    scopes.extend([Crash, Message, Restart, Loss, Mishap].map(|fault| with(nap(), &[fault])));
    let upload = || one_actor(&[Resume(0), Nap(0), Suspend(0)]);
    scopes.extend([Crash, Message, Restart, Mishap].map(|fault| with(upload(), &[fault])));
    let neighbours = || one_node(&[Resume(0), Suspend(0), Resume(0)]);
    scopes.extend([Crash, Message, Restart, Report].map(|fault| with(neighbours(), &[fault])));
    scopes.push(with(in_flight(one_actor(&[Resume(0), Suspend(0)])), &[Crash]));
    scopes.push(with(in_flight(one_actor(&[Resume(0), Suspend(0)])), &[Pause]));
    // Pairs, and the three of the plan together, on shorter errands.
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
    scopes.extend(pairs.map(|pair| with(one_actor(&[Resume(0), Suspend(0)]), &pair)));
    scopes.push(with(one_actor(&[Resume(0)]), &[Crash, Message, Pause]));
    // The three of the plan together.
    let three = &[Crash, Message, Pause][..];
    scopes.push(with(one_actor(&[Suspend(0)]).after(&[Resume(0)]), three));
    scopes.push(with(one_actor(&[Nap(0)]).after(&[Resume(0)]), three));
    scopes.push(with(
        one_actor(&[Resume(0)]).after(&[Resume(0), Suspend(0)]),
        three,
    ));
    scopes.push(with(one_actor(&[Resume(0)]).after(&[Resume(0), Nap(0)]), three));
    scopes.push(with(one_actor(&[Suspend(0)]).after(&[Resume(0), Nap(0)]), three));
    scopes.push(with(two_callers(&[Resume(0)], &[Resume(0)]), three));
    scopes.push(with(
        two_callers(&[Suspend(0)], &[Suspend(0)]).after(&[Resume(0)]),
        three,
    ));
    scopes.push(with(
        two_callers(&[Suspend(0)], &[Resume(0)]).after(&[Resume(0)]),
        three,
    ));
    scopes.push(with(one_actor(&[Resume(0), Suspend(0)]), three));
    scopes.push(with(one_actor(&[Resume(0), Nap(0)]), three));
    // Two callers who disagree.
    let quarrel = || two_callers(&[Resume(0), Suspend(0)], &[Resume(0)]);
    scopes.extend([&[][..], &[Crash], &[Message], &[Restart], &[Report]].map(|f| with(quarrel(), f)));
    // Two actors and one worker.
    let rivals = || two_actors(&[Resume(0), Suspend(0)], &[Resume(1)]);
    scopes.extend([&[][..], &[Loss], &[Restart], &[Sweep]].map(|f| with(rivals(), f)));
    let race = || two_actors(&[Resume(0)], &[Resume(1)]);
    scopes.extend([&[Crash][..], &[Message], &[Pause], &[Report]].map(|f| with(race(), f)));
    scopes.extend([[Crash, Message], [Crash, Pause], [Message, Pause]].map(|f| with(race(), &f)));
    scopes
}

/// What an ordinary test looks at, in less than a minute.
pub fn small() -> Vec<Scope> {
    let round = || one_actor(&[Resume(0), Suspend(0), Resume(0)]);
    let faults = [&[][..], &[Restart], &[Loss], &[Mishap]];
    let mut scopes: Vec<Scope> = faults.map(|faults| with(round(), faults)).into();
    scopes.push(with(one_actor(&[Resume(0)]), &[Crash]));
    scopes.push(with(one_actor(&[Resume(0)]), &[Message]));
    scopes.push(with(one_actor(&[Resume(0)]), &[Pause]));
    scopes.push(with(two_actors(&[Resume(0)], &[Resume(1)]), &[]));
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
