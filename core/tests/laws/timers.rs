//! Timers against a naive list.

use holdfast_core::time::Instant;
use holdfast_core::timers::Timers;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;

proptest! {
    /// Whatever is set and whenever one looks: the same as sorting all deadlines every time.
    #[test]
    fn timers_agree_with_a_list_that_is_sorted_every_time(
        steps in vec((0..6u64, prop::option::of(0..50u64), any::<bool>()), 1..200),
    ) {
        let mut timers: Timers<u64> = Timers::default();
        let mut naive: BTreeMap<u64, u64> = BTreeMap::new();
        for (key, at, is_look) in steps {
            if is_look {
                let now = at.unwrap_or(0);
                let due = naive.iter().map(|(key, at)| (*at, *key)).min().filter(|(at, _)| *at <= now);
                prop_assert_eq!(timers.expired(Instant::from_micros(now)), due.map(|(_, key)| key));
                if let Some((_, key)) = due {
                    naive.remove(&key);
                }
            } else {
                timers.set(key, at.map(Instant::from_micros));
                let once = timers.clone();
                timers.set(key, at.map(Instant::from_micros));
                prop_assert_eq!(&timers, &once, "setting the same again changes nothing");
                match at {
                    Some(at) => naive.insert(key, at),
                    None => naive.remove(&key),
                };
            }
            let next = naive.iter().map(|(key, at)| (*at, *key)).min();
            prop_assert_eq!(timers.next().map(|(at, key)| (at.as_micros(), *key)), next);
            for key in 0..6 {
                prop_assert_eq!(timers.get(&key).map(Instant::as_micros), naive.get(&key).copied());
            }
        }
    }
}
