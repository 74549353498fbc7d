//! What a clock shows does not matter, only what has passed on it: a machine whose clock is set otherwise
//! asks for the same, at the same times of its own.

use crate::flawed::{Flaw, Flawed};
use crate::history::{History, Lawful, Subject, Verdict, every_machine, fails, play};
use holdfast_core::settings::Settings;
use holdfast_core::time::Duration;
use proptest::prelude::*;

every_machine!(law: keeper, pulls, registry, node, replica);

fn law<S: Subject, M: Lawful<S>>(fresh: impl Fn(&Settings) -> M, history: History<S::Input>) -> Verdict {
    let settings = &crate::history::EXACT;
    let as_it_was = play(fresh(settings), history.clone());
    for shift in [1, 999_999, 1_000_000, 77_777_777_777, 1 << 50].map(Duration::from_micros) {
        let history = history.0.iter().cloned().map(|(at, what)| (at.plus(shift), what));
        let shifted = play(fresh(settings), history.collect());
        for ((at, outputs, wake), shifted) in as_it_was.iter().zip(shifted) {
            let expected = (at.plus(shift), outputs.clone(), wake.map(|wake| wake.plus(shift)));
            prop_assert_eq!(shifted, expected, "shifted by {:?}", shift);
        }
    }
    Ok(())
}

#[test]
fn a_machine_that_looks_at_the_date_breaks_it() {
    type S = crate::keeper::Subject;
    fails::<S>(|history| law::<S, _>(|s| Flawed::new(S::fresh(s), Flaw::Dated), history));
}
