//! What has nothing to do with each other may happen in any order: at one instant, the deeds of two
//! strangers can be exchanged, and both see the same.

use crate::history::Verdict;
use crate::parties::{Actors, Images, Moment, Nodes, Shared, Sharing, Workers, check, play};
use proptest::prelude::*;

fn law<S: Shared>(sharing: Sharing, moments: Vec<Moment<S::Deed>>) -> Verdict {
    let exchanged = |(deeds, gap): &Moment<S::Deed>| {
        let mut deeds = deeds.clone();
        deeds.sort_by_key(|(party, _)| std::cmp::Reverse(*party));
        (deeds, *gap)
    };
    let exchanged: Vec<Moment<S::Deed>> = moments.iter().map(exchanged).collect();
    prop_assert_eq!(play::<S>(sharing, &exchanged), play::<S>(sharing, &moments));
    Ok(())
}

macro_rules! strangers {
    ($($name:ident: $shared:ty),*) => {
        $(
            mod $name {
                use super::*;

                #[test]
                fn their_deeds_commute() {
                    check::<$shared>(|moments| law::<$shared>(Sharing::Nothing, moments)).unwrap();
                }

                #[test]
                fn the_deeds_of_those_who_share_something_do_not() {
                    assert!(check::<$shared>(|moments| law::<$shared>(Sharing::Something, moments)).is_err());
                }
            }
        )*
    };
}

strangers!(images: Images, nodes: Nodes, workers: Workers, actors: Actors);
