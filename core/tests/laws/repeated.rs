//! News that is heard twice is no news: what may be delivered more than once changes nothing the second
//! time. Requests and orders are not such: who asks twice is answered twice (and an order that is repeated
//! under its operation begins nothing: see `node.rs`).

use crate::flawed::{Flaw, Flawed};
use crate::history::{EXACT, Happening, History, Lawful, Subject, Verdict, every_machine, fails, play_one};
use holdfast_core::settings::Settings;
use proptest::prelude::*;

every_machine!(law: keeper, pulls, registry, node, replica);

fn law<S: Subject, M: Lawful<S>>(fresh: impl Fn(&Settings) -> M, history: History<S::Input>) -> Verdict {
    let mut machine = fresh(&EXACT);
    for (now, happening) in history {
        let repeated = match &happening {
            Happening::Input(input) if S::is_idempotent(input) => Some(input.clone()),
            Happening::Input(_) | Happening::Wake => None,
        };
        play_one(&mut machine, now, happening);
        if let Some(input) = repeated {
            let mut again = machine.clone();
            let mut outputs = play_one(&mut again, now, Happening::Input(input.clone()));
            outputs.retain(|output| !S::is_reminder(output));
            prop_assert_eq!(outputs, vec![], "{:?} was heard again", input);
            prop_assert_eq!(
                &again.poll_timeout().map(|(at, _)| at),
                &machine.poll_timeout().map(|(at, _)| at)
            );
            prop_assert_eq!(&again, &machine, "{:?} was heard again", input);
        }
    }
    Ok(())
}

#[test]
fn a_machine_that_echoes_breaks_it() {
    type S = crate::pulls::Subject;
    fails::<S>(|history| law::<S, _>(|s| Flawed::new(S::fresh(s), Flaw::Echoing), history));
}
