//! A stranger changes nothing: what a party sees is the same whether or not another one, with whom it shares
//! a machine and nothing else, does anything there.

use crate::history::Verdict;
use crate::parties::{Actors, Images, Moment, Nodes, Shared, Sharing, Workers, check, play};
use proptest::prelude::*;

fn law<S: Shared>(sharing: Sharing, moments: Vec<Moment<S::Deed>>) -> Verdict {
    let alone = |(deeds, gap): &Moment<S::Deed>| {
        let own = deeds.iter().filter(|(party, _)| *party == 0);
        (own.cloned().collect(), *gap)
    };
    let alone: Vec<Moment<S::Deed>> = moments.iter().map(alone).collect();
    let [alone, _] = play::<S>(sharing, &alone);
    let [beside_another, _] = play::<S>(sharing, &moments);
    prop_assert_eq!(beside_another, alone);
    Ok(())
}

macro_rules! strangers {
    ($($name:ident: $shared:ty),*) => {
        $(
            mod $name {
                use super::*;

                #[test]
                fn a_stranger_changes_nothing() {
                    check::<$shared>(|moments| law::<$shared>(Sharing::Nothing, moments)).unwrap();
                }

                #[test]
                fn who_shares_something_breaks_it() {
                    assert!(check::<$shared>(|moments| law::<$shared>(Sharing::Something, moments)).is_err());
                }
            }
        )*
    };
}

strangers!(images: Images, nodes: Nodes, workers: Workers, actors: Actors);
