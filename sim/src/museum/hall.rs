//! What is on show.

use super::{Exhibit, Hunt, leases, nodes, protocols, records, snapshots, verdicts, watchers};
use crate::clock::Spread;
use crate::plan::{Kind, Recipe, SECOND};
use holdfast_core::time::Duration;

/// Every exhibit: leases, records, snapshots, nodes, those who watch, verdicts, whole protocols.
pub const ALL: &[Exhibit] = &[
    Exhibit {
        name: "validity-from-the-answer",
        what: "A lease is believed in from when the answer came, not from before the request was sent.",
        had_by: "most lease clients that keep one timestamp",
        breaks: &["I6"],
        hunt: Hunt::Tuned("ReplicaPauses; short leases", naps_over_short_leases),
        flaw: || Box::new(leases::ValidFromTheAnswer::default()),
    },
    Exhibit {
        name: "no-drift-margin",
        what: "A lease is believed in to the last moment of its TTL, whichever clock that is measured by.",
        had_by: "lock recipes that take all clocks to be one",
        breaks: &["I6"],
        hunt: Hunt::Tuned(
            "StoreAway; short leases, clocks at the bound",
            blinks_at_the_bound,
        ),
        flaw: || Box::new(leases::NoDriftMargin),
    },
    Exhibit {
        name: "error-treated-as-loss",
        what: "A renewal that gets no answer is taken for the loss of the lease, and the work is cancelled.",
        had_by: "the original's heartbeat, as it was first proposed",
        breaks: &["I10"],
        hunt: Hunt::Storms,
        flaw: || Box::new(leases::ErrorIsLoss::default()),
    },
    Exhibit {
        name: "error-treated-as-renewal",
        what: "A renewal that gets no answer is taken for one that was done, and the work goes on past the lease.",
        had_by: "the original, with its store out of reach",
        breaks: &["I6"],
        hunt: Hunt::Tuned("StoreAway, RegistryHangs; short leases", long_blinks),
        flaw: || Box::new(leases::ErrorIsRenewal::default()),
    },
    Exhibit {
        name: "heartbeat-stops-after-one-failure",
        what: "The loop that renews ends with its first failure, and the work goes on without it.",
        had_by: "renewal loops that return on error",
        breaks: &["I6"],
        hunt: Hunt::Tuned("StoreAway, RegistryHangs; short leases", long_blinks),
        flaw: || Box::new(leases::HeartbeatStops::default()),
    },
    Exhibit {
        name: "lease-never-renewed",
        what: "Nobody renews, and the work takes as long as it takes.",
        had_by: "lock recipes whose TTL is a guess at the longest task",
        breaks: &["I6"],
        hunt: Hunt::Tuned("StoreAway, RegistryHangs; short leases", long_blinks),
        flaw: || Box::new(leases::NoRenewal),
    },
    Exhibit {
        name: "release-without-token",
        what: "Who gives a lease back deletes whatever lease there is.",
        had_by: "lock recipes that end with a bare DEL",
        breaks: &["I6"],
        hunt: Hunt::Tuned("ReplicaPauses; short leases", naps_over_short_leases),
        flaw: || Box::new(leases::ReleaseWithoutToken),
    },
    Exhibit {
        name: "lease-for-everybody",
        what: "A lease is written whether or not somebody has one.",
        had_by: "lock recipes that check first and set then",
        breaks: &["I6"],
        hunt: Hunt::Storms,
        flaw: || Box::new(leases::LeaseForEverybody),
    },
    Exhibit {
        name: "steal-from-anybody",
        what: "Who has found a holder dead takes the lease from whoever holds it by then.",
        had_by: "takeovers that do not compare what they take",
        breaks: &["I6"],
        hunt: Hunt::Tuned("ReplicaPauses; short leases", naps_over_short_leases),
        flaw: || Box::new(leases::StealFromAnybody),
    },
    Exhibit {
        name: "lease-without-end",
        what: "A lease is written in two steps, the key and then its end; who dies in between has it for ever.",
        had_by: "lock recipes of SETNX and EXPIRE",
        breaks: &["I3", "I7", "I8"],
        hunt: Hunt::Storms,
        flaw: || Box::new(leases::LeaseWithoutEnd),
    },
    Exhibit {
        name: "lease-key-without-atespace",
        what: "Leases are kept by the actor's name alone, so namesakes in two atespaces lock each other out.",
        had_by: "the original",
        breaks: &["I12"],
        hunt: Hunt::Storms,
        flaw: || Box::new(leases::KeyWithoutAtespace),
    },
    Exhibit {
        name: "lease-goes-with-the-caller",
        what: "A caller who leaves takes the lease along, and the work that it began goes on.",
        had_by: "the original, whose lock lives in the caller's context",
        breaks: &["I6"],
        hunt: Hunt::Storms,
        flaw: || Box::new(leases::LeaseGoesWithTheCaller::default()),
    },
    Exhibit {
        name: "no-takeover",
        what: "Nobody notices that a holder is dead: peers wait until its leases run out.",
        had_by: "the original",
        breaks: &["I7"],
        hunt: Hunt::Storms,
        flaw: || Box::new(leases::NoTakeover),
    },
    Exhibit {
        name: "renewal-without-backoff",
        what: "A renewal that fails is tried again at once, for as long as it fails.",
        had_by: "databases that were exhausted by their own leases",
        breaks: &["I11"],
        hunt: Hunt::Storms,
        flaw: || Box::new(leases::NoBackoff),
    },
    Exhibit {
        name: "unfenced-finalize",
        what: "An actor is written whatever is stored, so a holder that slept past its lease writes through.",
        had_by: "systems that trust a lock to fence their writes",
        breaks: &["table", "I1", "I3", "I4", "I5", "I8"],
        hunt: Hunt::Storms,
        flaw: || Box::new(records::UnfencedWrite),
    },
    Exhibit {
        name: "worker-promised-blindly",
        what: "A worker is promised whatever is stored, so two replicas give it to two actors.",
        had_by: "schedulers that write what they have cached",
        breaks: &["table", "I1", "I2", "I3", "I8"],
        hunt: Hunt::Storms,
        flaw: || Box::new(records::BlindPromise),
    },
    Exhibit {
        name: "promise-not-awaited",
        what: "An actor is pointed at a worker before the worker's promise is known to be written.",
        had_by: "pipelines that do not look at each answer",
        breaks: &["I1", "I3", "I8", "I10"],
        hunt: Hunt::Tuned("small storms; one worker, three replicas in a hurry", rush),
        flaw: || Box::new(records::PromiseNotAwaited),
    },
    Exhibit {
        name: "actor-deleted-blindly",
        what: "An actor is deleted whatever has become of it since somebody looked.",
        had_by: "the first version of nearly every delete",
        breaks: &["table", "I3", "I8"],
        hunt: Hunt::Tuned(
            "ReplicaPauses, StoreSlow; one actor, short leases",
            late_writes_to_one_actor,
        ),
        flaw: || Box::new(records::BlindDelete),
    },
    Exhibit {
        name: "error-treated-as-success",
        what: "A write that got no answer is taken for one that was done.",
        had_by: "callers that drop an error",
        breaks: &["table", "I2", "I3", "I4", "I5", "I8", "I10"],
        hunt: Hunt::Storms,
        flaw: || Box::new(records::ErrorIsSuccess::default()),
    },
    Exhibit {
        name: "conflict-treated-as-success",
        what: "A write that was refused, because the record had changed, is taken for one that was done.",
        had_by: "the original's pod watcher, which drops conflicts",
        breaks: &["table", "I2", "I3", "I5", "I8", "I10"],
        hunt: Hunt::Storms,
        flaw: || Box::new(records::ConflictIsSuccess::default()),
    },
    Exhibit {
        name: "worker-freed-before-the-actor-is-committed",
        what: "The worker is free as soon as its node has checkpointed, before the actor's record says so.",
        had_by: "the original's order of writes",
        breaks: &["I1", "I3", "I5", "I8", "I10"],
        hunt: Hunt::Storms,
        flaw: || Box::new(records::FreedBeforeCommitted::default()),
    },
    Exhibit {
        name: "worker-freed-and-forgotten",
        what: "Workers are freed by whoever does not look whether it is done, and it is not.",
        had_by: "the original: a crashed actor kept its slot",
        breaks: &["I3", "I8"],
        hunt: Hunt::Storms,
        flaw: || Box::new(records::FreedAndForgotten),
    },
    Exhibit {
        name: "loss-not-told",
        what: "An actor that is put to sleep without its newest state bears no mark of it.",
        had_by: "the original",
        breaks: &["I5"],
        hunt: Hunt::Storms,
        flaw: || Box::new(records::LossNotTold),
    },
    Exhibit {
        name: "session-lapsed-unheard",
        what: "A node is given up by whoever has not heard of it, though others have.",
        had_by: "failure detectors without a quorum or a compare-and-set",
        breaks: &["I2", "I10"],
        hunt: Hunt::Faults(&[Kind::NodeCutOff, Kind::ReplicaPauses]),
        flaw: || Box::new(records::LapsedUnheard),
    },
    Exhibit {
        name: "error-on-close-ignored",
        what: "An upload whose error comes at its very end is taken for one that was done.",
        had_by: "the original's upload to object stores",
        breaks: &["I4"],
        hunt: Hunt::Storms,
        flaw: || Box::new(snapshots::ErrorOnClose),
    },
    Exhibit {
        name: "short-write-ignored",
        what: "A snapshot is called saved on a disk that had no room for it.",
        had_by: "programs that check neither write nor fsync",
        breaks: &["I4"],
        hunt: Hunt::Faults(&[Kind::DiskFull]),
        flaw: || Box::new(snapshots::ShortWrite),
    },
    Exhibit {
        name: "nothing-to-save-is-saved",
        what: "A checkpoint that finds no sandbox counts as done, and the name that was kept for it becomes `latest`.",
        had_by: "the original",
        breaks: &["I4"],
        hunt: Hunt::Storms,
        flaw: || Box::new(snapshots::NothingIsSaved::default()),
    },
    Exhibit {
        name: "promote-before-verify",
        what: "An order is answered when it is received: `latest` moves to a snapshot that is still being written.",
        had_by: "systems that confuse accepted with done",
        breaks: &["I4", "I8", "I10"],
        hunt: Hunt::Storms,
        flaw: || Box::new(nodes::AcceptedIsDone),
    },
    Exhibit {
        name: "no-checksum",
        what: "A snapshot that was damaged is restored as it is.",
        had_by: "the original, whose manifest has no checksums",
        breaks: &["I5"],
        hunt: Hunt::Storms,
        flaw: || Box::new(snapshots::NoChecksum),
    },
    Exhibit {
        name: "away-treated-as-absent",
        what: "An object store that does not answer is taken for one that has no snapshot, and the actor begins anew.",
        had_by: "caches that answer an error with an empty value",
        breaks: &["I5"],
        hunt: Hunt::Storms,
        flaw: || Box::new(snapshots::AwayIsAbsent),
    },
    Exhibit {
        name: "stale-snapshot-pointer",
        what: "An actor is restored from the snapshot before the last, which somebody has remembered.",
        had_by: "the original, for a Resume during SUSPENDING",
        breaks: &["I5"],
        hunt: Hunt::Storms,
        flaw: || Box::new(snapshots::StalePointer),
    },
    Exhibit {
        name: "collect-before-commit",
        what: "The old snapshot is deleted when the new one is stored, before the record points at that.",
        had_by: "garbage collectors that run in the step before",
        breaks: &["I4"],
        hunt: Hunt::Storms,
        flaw: || Box::new(snapshots::CollectedBeforeCommitted),
    },
    Exhibit {
        name: "collects-too-much",
        what: "Who deletes what an actor has let go of deletes what it still points at, too.",
        had_by: "the original: a golden snapshot that templates still used",
        breaks: &["I4"],
        hunt: Hunt::Storms,
        flaw: || Box::new(snapshots::CollectsTooMuch),
    },
    Exhibit {
        name: "collects-nothing",
        what: "What was to be deleted is called deleted, and is not.",
        had_by: "the original, which never deletes a snapshot",
        breaks: &["I8"],
        hunt: Hunt::Storms,
        flaw: || Box::new(snapshots::CollectsNothing),
    },
    Exhibit {
        name: "graves-not-kept",
        what: "An actor is deleted, and its snapshots are nobody's business any more.",
        had_by: "the original",
        breaks: &["I8"],
        hunt: Hunt::Storms,
        flaw: || Box::new(records::NoGraves),
    },
    Exhibit {
        name: "restart-empties-the-disk",
        what: "A node's daemon that starts again empties its directories first, with the snapshots in them.",
        had_by: "daemons that begin with a clean slate",
        breaks: &["I4"],
        hunt: Hunt::Storms,
        flaw: || Box::new(nodes::RestartEmptiesDisk),
    },
    Exhibit {
        name: "nodes-know-no-fences",
        what: "A node carries out whatever it is ordered, however stale.",
        had_by: "the original",
        breaks: &["I1", "I10"],
        hunt: Hunt::Storms,
        flaw: || Box::new(nodes::NoFences::default()),
    },
    Exhibit {
        name: "retry-as-a-new-operation",
        what: "An order that is repeated is a new operation to its node, and a checkpoint is taken of a dead guest.",
        had_by: "the original",
        breaks: &["I1", "I3", "I5", "I8", "I10"],
        hunt: Hunt::Storms,
        flaw: || Box::new(nodes::RetryIsNew::default()),
    },
    Exhibit {
        name: "result-forgotten",
        what: "A worker that is asked once more does not know that it has done it.",
        had_by: "the original's workers",
        breaks: &["I2", "I5", "I10"],
        hunt: Hunt::Storms,
        flaw: || Box::new(nodes::ResultForgotten),
    },
    Exhibit {
        name: "no-journal",
        what: "What a node knew is gone when its daemon starts again.",
        had_by: "the original",
        breaks: &["I1", "I2", "I3", "I5", "I8", "I10"],
        hunt: Hunt::Storms,
        flaw: || Box::new(nodes::NoJournal),
    },
    Exhibit {
        name: "refusal-unheard",
        what: "What a disk has refused to keep is taken for kept.",
        had_by: "programs that do not check fsync",
        breaks: &["I1", "I2", "I3", "I5", "I8", "I10"],
        hunt: Hunt::Faults(&[Kind::DiskFull, Kind::DiskRefuses, Kind::NodeDies]),
        flaw: || Box::new(nodes::RefusalUnheard),
    },
    Exhibit {
        name: "write-behind",
        what: "The last record of a journal waits in memory for the next one, and is called written.",
        had_by: "journals without fsync",
        breaks: &["I1", "I2", "I3", "I5", "I8", "I10"],
        hunt: Hunt::Storms,
        flaw: || Box::new(nodes::WriteBehind::default()),
    },
    Exhibit {
        name: "sandbox-outlives-its-session",
        what: "What runs on a node that nobody hears runs on, beside its successor.",
        had_by: "the original, after a forced deletion of a pod",
        breaks: &["I2"],
        hunt: Hunt::Faults(&[Kind::NodePartitioned]),
        flaw: || Box::new(nodes::LicenceWithoutEnd),
    },
    Exhibit {
        name: "thawed-unasked",
        what: "What was frozen goes on as soon as the control plane is heard again, whatever that says.",
        had_by: "leader elections that resume without a new term",
        breaks: &["I2"],
        hunt: Hunt::Faults(&[Kind::NodePartitioned]),
        flaw: || Box::new(nodes::ThawedUnasked),
    },
    Exhibit {
        name: "session-too-long",
        what: "A node believes in its session for longer than it was granted.",
        had_by: "two configurations of one timeout",
        breaks: &["I2", "I10"],
        hunt: Hunt::Faults(&[Kind::NodePartitioned]),
        flaw: || Box::new(nodes::SessionTooLong),
    },
    Exhibit {
        name: "session-without-drift-margin",
        what: "A node's session ends for both sides after the same time, each by its own clock.",
        had_by: "failure detectors that take all clocks to be one",
        breaks: &["I2", "I10"],
        hunt: Hunt::Tuned("NodePartitioned; clocks at the bound", partitions_at_the_bound),
        flaw: || Box::new(nodes::SessionWithoutMargin),
    },
    Exhibit {
        name: "restart-unseen",
        what: "A worker whose daemon was restarted in place looks as it did before, and its actor serves nobody.",
        had_by: "the original",
        breaks: &["I2", "I3", "I8", "I10"],
        hunt: Hunt::Storms,
        flaw: || Box::new(nodes::RestartUnseen::default()),
    },
    Exhibit {
        name: "stop-does-nothing",
        what: "A sandbox that is to be stopped is said to have been, and runs on.",
        had_by: "teardowns that trust an exit code",
        breaks: &["I1", "I2", "I3", "I8"],
        hunt: Hunt::Storms,
        flaw: || Box::new(nodes::StopDoesNothing),
    },
    Exhibit {
        name: "stop-of-nothing-fails",
        what: "To stop what is not there fails, every time, and whoever waits for it waits for ever.",
        had_by: "the original, with a sandbox that was deleted and said to have failed",
        breaks: &["I3", "I8"],
        hunt: Hunt::Storms,
        flaw: || Box::new(nodes::StopOfNothingFails),
    },
    Exhibit {
        name: "checkpoint-leaves-the-sandbox",
        what: "A checkpoint leaves its sandbox running.",
        had_by: "checkpoints that continue by default",
        breaks: &["I1", "I2", "I3", "I5", "I8"],
        hunt: Hunt::Storms,
        flaw: || Box::new(nodes::CheckpointLeavesSandbox),
    },
    Exhibit {
        name: "answers-for-others",
        what: "Who comes to a worker's address is served, also who looks for an actor that was there before.",
        had_by: "the original's router and its cache",
        breaks: &["I5"],
        hunt: Hunt::Storms,
        flaw: || Box::new(nodes::AnswersForOthers),
    },
    Exhibit {
        name: "hung-pull-is-waited-for",
        what: "An image pull that moves nothing is waited for as long as it likes.",
        had_by: "the original",
        breaks: &["I9"],
        hunt: Hunt::Storms,
        flaw: || Box::new(nodes::NoStall),
    },
    Exhibit {
        name: "reset-on-soft-delete",
        what: "A pod that is told to go counts as gone: its actor is reset while its sandbox runs on for the grace period.",
        had_by: "the original",
        breaks: &["I2", "I3", "I5", "I8"],
        hunt: Hunt::Storms,
        flaw: || Box::new(watchers::ResetOnSoftDelete),
    },
    Exhibit {
        name: "watcher-overwrites-any-state",
        what: "The actor of a pod that is gone is written down as asleep, whatever it was doing and whoever has its lease.",
        had_by: "the original",
        breaks: &["I5"],
        hunt: Hunt::Storms,
        flaw: || Box::new(watchers::WatcherOverwrites),
    },
    Exhibit {
        name: "dead-watch",
        what: "A watch whose buffer has overflown brings nothing any more, and nobody is told.",
        had_by: "the original",
        breaks: &["I3", "I8"],
        hunt: Hunt::Tuned("PodReplaced; one worker, three replicas", one_worker),
        flaw: || Box::new(watchers::WatchIsDead),
    },
    Exhibit {
        name: "unreachable-treated-as-crash",
        what: "A node that does not answer in time is taken to have lost its actor.",
        had_by: "systems without a word for not knowing",
        breaks: &["I10"],
        hunt: Hunt::Storms,
        flaw: || Box::new(verdicts::UnreachableIsCrash),
    },
    Exhibit {
        name: "everything-is-internal",
        what: "What went wrong for want of a better code is Internal, and nobody knows whether to try again.",
        had_by: "the original",
        breaks: &["I12"],
        hunt: Hunt::Storms,
        flaw: || Box::new(verdicts::EverythingIsInternal),
    },
    Exhibit {
        name: "lost-lease-is-silent",
        what: "A workflow that loses its lease ends without a word to its caller.",
        had_by: "workers that return when their context is cancelled",
        breaks: &["I9", "I12"],
        hunt: Hunt::Storms,
        flaw: || Box::new(verdicts::LostLeaseIsSilent),
    },
    Exhibit {
        name: "told-twice",
        what: "A request that fails is answered by whoever notices, and by whoever cleans up.",
        had_by: "handlers that answer in a deferred block as well",
        breaks: &["I12"],
        hunt: Hunt::Storms,
        flaw: || Box::new(verdicts::ToldTwice),
    },
    Exhibit {
        name: "no-deadline",
        what: "A workflow takes as long as it takes, and its caller waits.",
        had_by: "controllers whose contexts have no end",
        breaks: &["I9"],
        hunt: Hunt::Storms,
        flaw: || Box::new(verdicts::NoDeadline),
    },
    Exhibit {
        name: "no-reconciler",
        what: "What a workflow has left undone stands until a caller asks again.",
        had_by: "the original",
        breaks: &["I3", "I7", "I8"],
        hunt: Hunt::Storms,
        flaw: || Box::new(verdicts::NoReconciler),
    },
    Exhibit {
        name: "protocol-coupled-28s",
        what: "A lock of 30 s that nobody renews, a deadline of 28 s for whatever is done under it, and nobody who sees that its holder is dead.",
        had_by: "the original: its lock, its deadline, and peers that wait for both",
        breaks: &["I6", "I7"],
        hunt: Hunt::Storms,
        flaw: protocols::coupled,
    },
    Exhibit {
        name: "protocol-heartbeat-cancels",
        what: "The same lock with a heartbeat and a deadline of its own, where any failed renewal cancels the work with an internal error.",
        had_by: "the original, as its successor was first proposed",
        breaks: &["I7", "I10", "I12"],
        hunt: Hunt::Storms,
        flaw: protocols::heartbeat,
    },
];

/// Leases so short that a process often sleeps through one.
fn short_leases(recipe: &mut Recipe) {
    recipe.settings = recipe.settings.with_lease_ttl(Duration::from_secs(10));
}

/// Some who ask for the same few actors.
fn crowded(recipe: &mut Recipe) {
    recipe.replicas = 3;
    recipe.actors = 2;
    recipe.callers = 4;
    recipe.wish_every = SECOND;
}

fn naps_over_short_leases(recipe: &mut Recipe) {
    short_leases(recipe);
    crowded(recipe);
    recipe.faults = vec![Kind::ReplicaPauses];
    recipe.fault_every = 3 * SECOND;
}

fn blinks_at_the_bound(recipe: &mut Recipe) {
    short_leases(recipe);
    crowded(recipe);
    recipe.faults = vec![Kind::StoreAway, Kind::RegistryHangs];
    recipe.fault_every = 5 * SECOND;
    recipe.clocks = Spread::AtTheBound;
}

fn long_blinks(recipe: &mut Recipe) {
    short_leases(recipe);
    crowded(recipe);
    recipe.faults = vec![Kind::StoreAway, Kind::RegistryHangs];
    recipe.fault_every = 5 * SECOND;
}

fn one_worker(recipe: &mut Recipe) {
    (recipe.replicas, recipe.nodes, recipe.workers_per_node) = (3, 1, 1);
    recipe.faults = vec![Kind::PodReplaced];
}

fn rush(recipe: &mut Recipe) {
    (recipe.replicas, recipe.nodes, recipe.workers_per_node) = (3, 1, 1);
    recipe.callers = 4;
    recipe.wish_every = SECOND;
}

/// A write that was sent in time and is done when its lease is over.
fn late_writes_to_one_actor(recipe: &mut Recipe) {
    naps_over_short_leases(recipe);
    recipe.actors = 1;
    recipe.faults.push(Kind::StoreSlow);
}

fn partitions_at_the_bound(recipe: &mut Recipe) {
    recipe.faults = vec![Kind::NodePartitioned];
    recipe.clocks = Spread::AtTheBound;
}
