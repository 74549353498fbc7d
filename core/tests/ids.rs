//! Keys: what differs is told apart, wherever it is compared, hashed, filed or written down.

use holdfast_core::digits::{Digits, Filed};
use holdfast_core::id::*;
use holdfast_core::time::Instant;
use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

fn hash(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// Whether these are filed by numbers of their own.
fn are_spread<K: Digits>(keys: &[K]) -> bool {
    let numbers: BTreeSet<u64> = keys.iter().map(K::digits).collect();
    numbers.len() == keys.len()
}

#[test]
fn keys_that_differ_are_filed_apart() {
    assert!(are_spread(&[1u64, 2, 3]));
    assert!(are_spread(&[EffectId(1), EffectId(2), EffectId(3)]));
    assert!(are_spread(&[RequestId(1), RequestId(2), RequestId(3)]));
    assert!(are_spread(&["", "a", "b", "ab"].map(Name::from)));
    let names = |(a, b): (&str, &str)| (Name::from(a), Name::from(b));
    assert!(are_spread(
        &[("a", "b"), ("b", "a"), ("ab", ""), ("", "ab")].map(names)
    ));
    let actors =
        [("a", "b"), ("b", "a"), ("ab", ""), ("", "ab")].map(|(space, name)| ActorKey::new(space, name));
    assert!(are_spread(&actors));
    let filed = actors.clone().map(Filed::new);
    assert!(are_spread(&filed));
    for (filed, actor) in filed.iter().zip(&actors) {
        assert_eq!((filed.digits(), filed.key()), (actor.digits(), actor));
        assert_eq!(format!("{filed:?}"), format!("{actor:?}"));
    }
}

#[test]
fn what_a_machine_waits_for_is_filed_apart() {
    let worker = |name: &str| (ActorKey::new("space", name), WorkerKey::new("ns", "pool", "w"));
    use holdfast_core::{node, replica};
    assert!(are_spread(&[
        replica::Timer::Session,
        replica::Timer::Registry,
        replica::Timer::Sweep,
        replica::Timer::Relist,
        replica::Timer::Settle(Box::new(worker("a"))),
        replica::Timer::Settle(Box::new(worker("b"))),
    ]));
    assert!(are_spread(&[replica::Timer::Flow(1), replica::Timer::Flow(2)]));
    assert!(are_spread(&[
        node::Timer::Pulls,
        node::Timer::Report,
        node::Timer::Session,
        node::Timer::Retry("a".into()),
        node::Timer::Retry("b".into()),
    ]));
}

#[test]
fn deadlines_are_filed_in_the_order_of_their_times() {
    let at = |micros| (Instant::from_micros(micros), "why");
    let times = [0, 1, 2, 1_000_000, u64::MAX];
    assert!(times.map(at).is_sorted_by_key(Digits::digits) && are_spread(&times.map(at)));
}

#[test]
fn names_are_what_they_say() {
    let (a, b) = (Name::from("a"), Name::from(String::from("b")));
    assert_eq!((a.as_str(), b.as_str()), ("a", "b"));
    assert_eq!(
        (a.to_string(), format!("{b:?}")),
        (String::from("a"), String::from("b"))
    );
    assert_eq!(hash(&a), hash(&Name::from("a")));
    assert_ne!(hash(&a), hash(&b));
    assert!(Name::default().is_empty() && !a.is_empty());
    assert_eq!(ActorKey::new("space", "a").to_string(), "space/a");
    assert_eq!(WorkerKey::new("ns", "pool", "w").to_string(), "ns/pool/w");
    assert_eq!(
        (Version(3).to_string(), Fence(4).to_string()),
        (String::from("3"), String::from("4"))
    );
    // Stores compare it as it is written here.
    let nobodys = Edition {
        incarnation: Incarnation(7),
        version: Version(3),
        claim: None,
    };
    let claimed = Edition {
        claim: Some("000000000000feed-7".parse().unwrap()),
        ..nobodys
    };
    assert_eq!(
        (nobodys.to_string(), claimed.to_string()),
        (String::from("3/7/nobody"), String::from("3/7/000000000000feed-7"))
    );
}

#[test]
fn a_text_that_is_no_id_is_refused_with_what_would_be_one() {
    let error = "1-2".parse::<OpId>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "want 16 hexadecimal digits, '-' and a decimal number"
    );
    let id = "000000000000feed-7".parse::<LeaseToken>().unwrap();
    assert_eq!((id.replica, id.seq), (ReplicaId(0xfeed), 7));
}
