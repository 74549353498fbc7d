//! What the ledger says can happen does happen, and nothing else does.
//!
//! `REWRITE=1 cargo test -p holdfast-sim --test ledger` writes it anew and keeps the reasons.

#[path = "../../core/tests/walk/mod.rs"]
mod walk;

use holdfast_core::node::operation;
use holdfast_core::time::Duration;
use holdfast_core::{actor, lease, licence, pull, session, worker};
use holdfast_sim::ledger::{Ceiling, Ledger, Seen, UNEXPLAINED, reasons, standings, weakened};
use holdfast_sim::plan::{Kind, Recipe, SECOND};
use holdfast_sim::world::run;
use std::path::Path;
use walk::Walk;

/// How many entries of each record may be no better than this. It may only improve: a ceiling is lowered with
/// what lowers it, and raised by nothing but a new state or event.
const CEILINGS: &[(&str, Ceiling)] = &[
    ("actor", Ceiling { walk: 0, never: 24 }),
    ("worker", Ceiling { walk: 0, never: 8 }),
    ("lease", Ceiling { walk: 1, never: 0 }),
    ("pull", Ceiling { walk: 0, never: 6 }),
    ("operation", Ceiling { walk: 24, never: 5 }),
    ("session", Ceiling { walk: 0, never: 0 }),
    ("licence", Ceiling { walk: 2, never: 0 }),
];

/// How many worlds of each kind are played.
const SEEDS: u64 = 400;
/// The one of [`deaf_thaws`].
const DEAF_THAW: u64 = 1263;

#[test]
fn every_state_with_every_event_is_as_the_ledger_says() {
    let seen = seen();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("ledger.txt");
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let mut ledger = Ledger::new(reasons(&found));
    ledger.add(&actor::TABLE, &seen);
    ledger.add(&worker::TABLE, &seen);
    ledger.add(&lease::TABLE, &seen);
    ledger.add(&pull::TABLE, &seen);
    ledger.add(&operation::TABLE, &seen);
    ledger.add(&session::TABLE, &seen);
    ledger.add(&licence::TABLE, &seen);
    let expected = ledger.text();
    // Before anything is written: what it had stays, whoever writes it anew.
    let lost = weakened(&standings(&found), &standings(&expected));
    assert!(
        lost.is_empty(),
        "sim/ledger.txt had better than this, and it may only improve: {lost:#?}\n\
         give back the run or the walk that made it. What can no longer be made at all goes from the record's table; what \
         only the record's own test can still make is weakened by hand, with its reason, and with the ceiling above"
    );
    if std::env::var_os("REWRITE").is_some() {
        std::fs::write(&path, &expected).unwrap();
    } else {
        let differs = expected.lines().zip(found.lines()).find(|(new, old)| new != old);
        assert!(
            found == expected,
            "sim/ledger.txt says otherwise: {differs:?}; REWRITE=1 cargo test -p holdfast-sim --test ledger"
        );
    }
    let passed = ledger.passed(CEILINGS);
    assert!(
        passed.is_empty(),
        "{passed:#?}\n\
         A new state or event has new entries. Let a run make what can be made (a kind of world below) and the \
         record's walk in core/tests/walk try what cannot. For what is left give a reason in sim/ledger.txt, and raise the \
         ceiling in the same commit."
    );
    let unexplained = format!(": {UNEXPLAINED}");
    let open: Vec<&str> = expected
        .lines()
        .filter(|line| line.ends_with(&unexplained))
        .collect();
    assert!(
        open.is_empty(),
        "reasons are missing in sim/ledger.txt: {open:#?}"
    );
}

fn seen() -> Seen {
    let mut seen = Seen::default();
    for seed in 0..SEEDS {
        for recipe in [
            Recipe::small,
            bad_registry,
            restless_pods,
            hasty_leases,
            partitions,
        ] {
            let outcome = run(recipe(seed).plan());
            assert_eq!(outcome.violation, None, "{:?}", recipe(seed));
            seen.run.extend(outcome.moves);
        }
    }
    let outcome = run(deaf_thaws(DEAF_THAW).plan());
    assert_eq!(outcome.violation, None);
    seen.run.extend(outcome.moves);
    for (record, walk) in [
        (actor::TABLE.record(), walk::actor::walk()),
        (worker::TABLE.record(), walk::worker::walk()),
        (lease::TABLE.record(), walk::lease::walk()),
        (pull::TABLE.record(), walk::pull::walk()),
        (operation::TABLE.record(), walk::operation::walk()),
        (session::TABLE.record(), walk::session::walk()),
        (licence::TABLE.record(), walk::licence::walk()),
    ] {
        let Walk { made, refused } = walk;
        seen.walked.extend(made);
        seen.refused
            .extend(refused.into_iter().map(|(state, event)| (record, state, event)));
    }
    seen
}

/// A registry that hangs and fails, and images that are soon wanted by nobody: what may become of a pull
/// is rare where most succeed.
fn bad_registry(seed: u64) -> Recipe {
    let mut plan = Recipe {
        nodes: 1,
        workers_per_node: 2,
        actors: 4,
        callers: 4,
        faults: vec![Kind::RegistryHangs, Kind::AteomDies],
        fault_every: 3 * SECOND,
        steps_fail: 300,
        ..Recipe::small(seed)
    };
    plan.settings.pull.abandon_grace = plan.settings.pull.retry_after;
    plan
}

/// Two actors on a node whose workers and sandboxes die and leave every few seconds.
fn restless_pods(seed: u64) -> Recipe {
    Recipe {
        nodes: 1,
        workers_per_node: 2,
        actors: 2,
        callers: 4,
        faults: vec![Kind::PodLeaves, Kind::AteomDies, Kind::SandboxDies],
        fault_every: 2 * SECOND,
        ..Recipe::small(seed)
    }
}

/// Leases that are short, replicas that are not scheduled, and a store that nobody reaches.
fn hasty_leases(seed: u64) -> Recipe {
    let plan = Recipe::small(seed);
    Recipe {
        replicas: 3,
        faults: vec![Kind::ReplicaPauses, Kind::StoreAway, Kind::RegistryHangs],
        fault_every: 2 * SECOND,
        settings: plan.settings.with_lease_ttl(Duration::from_secs(6)),
        ..plan
    }
}

/// Workers that die in the moment in which they are thawed: of ten thousand such worlds one has it.
fn deaf_thaws(seed: u64) -> Recipe {
    Recipe {
        faults: vec![
            Kind::NodeCutOff,
            Kind::NodePartitioned,
            Kind::AteomDies,
            Kind::NodePauses,
        ],
        fault_every: 8 * SECOND,
        calls_repeated: 0,
        ..Recipe::small(seed)
    }
}

/// Nodes that are not heard of until long after their sessions, and actors that are frozen meanwhile.
fn partitions(seed: u64) -> Recipe {
    Recipe {
        faults: vec![Kind::NodePartitioned, Kind::NodeDies, Kind::StoreAway],
        fault_every: 30 * SECOND,
        steps_fail: 60,
        ..Recipe::small(seed)
    }
}
