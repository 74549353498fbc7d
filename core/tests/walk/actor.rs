//! The actor's record.

use super::Walk;
use holdfast_core::actor::*;
use holdfast_core::catalog::{LabelSelector, Scope, Selector, Template, Workload};
use holdfast_core::id::{
    ActorKey, Fence, Incarnation, LeaseToken, Name, OpId, ReplicaId, Version, WorkerKey,
};
use holdfast_core::plan::{self, Facts, Goal, Next};
use holdfast_core::registry;
use holdfast_core::table::{ABSENT, Kind};
use std::sync::Arc;

/// Tries every change on an actor in every state.
pub fn walk() -> Walk {
    let mut walk = Walk::default();
    let new = created();
    walk.made
        .insert(TABLE.made(None, Event::Create, Some(new.status())));
    for actor in states().into_iter().flat_map(|state| records(&new, &state)) {
        let from = actor.status();
        for change in changes() {
            match actor.after(&change, None, Version::FIRST) {
                Ok(next) => {
                    assert!(next.version > actor.version);
                    walk.made
                        .insert(TABLE.made(Some(from), change.event(), Some(next.status())));
                }
                Err(illegal) => {
                    assert_eq!((illegal.from, illegal.event), (Some(from), change.event()));
                    let is_wake = matches!(change, Change::Wake | Change::WakeUnbegun);
                    if is_wake && is_upload_of_the_original(&actor.state) {
                        continue;
                    }
                    walk.refused.insert((from.name(), change.event().name()));
                }
            }
        }
        match plan::next(&Goal::Delete, &actor, &facts()) {
            Next::Delete => {
                walk.made.insert(TABLE.made(Some(from), Event::Delete, None));
            }
            _ => {
                walk.refused.insert((from.name(), Event::Delete.name()));
            }
        }
    }
    assert!(
        !walk
            .made
            .iter()
            .any(|moved| moved.from == ABSENT && moved.to == ABSENT)
    );
    walk
}

fn created() -> Actor {
    let template = Template {
        namespace: "ns".into(),
        name: "counter".into(),
        workload: Workload {
            pause_image: "pause".into(),
            containers: Vec::new(),
            durable_volumes: Vec::new(),
        },
        snapshot_location: "mem://snapshots".into(),
        on_pause: Scope::Full,
        on_commit: Scope::Full,
        sandbox_class: "gvisor".into(),
        worker_selector: LabelSelector::default(),
        golden_snapshot: None,
    };
    let key = ActorKey::new("space", "a");
    Actor::create(key, Incarnation(7), Arc::new(template), Selector::default())
}

/// There is nothing that could be woken, though the same state from a worker has something.
fn is_upload_of_the_original(state: &State) -> bool {
    matches!(
        state,
        State::Suspending {
            from: Source::Local(_),
            ..
        }
    )
}

/// The record in this state, with each snapshot that it may have.
fn records(new: &Actor, state: &State) -> Vec<Actor> {
    let local = Snapshot::Local {
        name: "local".into(),
        nodes: vec!["node".into()],
    };
    let latest = [None, Some(Snapshot::External("last".into())), Some(local)];
    let external = [None, Some(Name::from("last"))];
    let both = latest
        .iter()
        .flat_map(|latest| external.iter().map(move |external| (latest, external)));
    both.map(|(latest, external)| {
        let mut actor = new.clone();
        actor.state = state.clone();
        actor.latest.clone_from(latest);
        actor.last_external.clone_from(external);
        // Uploads are to a place that was reserved.
        actor.in_progress = matches!(state, State::Paused).then(|| "copy".into());
        actor
    })
    .collect()
}

fn states() -> Vec<State> {
    let worker = Source::Worker(on());
    let local = Source::Local("node".into());
    let snapshot = Name::from("next");
    vec![
        State::Suspended,
        State::Resuming {
            op: op(),
            on: on(),
            boot: Boot::Golden,
        },
        State::Running { on: on() },
        State::Suspending {
            op: op(),
            from: worker,
            snapshot: snapshot.clone(),
        },
        State::Suspending {
            op: op(),
            from: local,
            snapshot: snapshot.clone(),
        },
        State::Pausing {
            op: op(),
            on: on(),
            snapshot,
        },
        State::Paused,
        State::Crashed(crash(Transition::Resume)),
        State::Crashed(crash(Transition::Suspend)),
    ]
}

fn changes() -> Vec<Change> {
    let snapshot = Name::from("new");
    let loss = Loss {
        worker: WorkerKey::new("ns", "pool", "pod"),
        reason: "gone".into(),
    };
    vec![
        Change::Claim,
        Change::Resume {
            op: op(),
            on: on(),
            boot: Boot::Fresh,
        },
        Change::Ran,
        Change::Thaw { session: 2 },
        Change::Suspend {
            op: op(),
            snapshot: snapshot.clone(),
        },
        Change::Suspended,
        Change::Reserve {
            snapshot: snapshot.clone(),
        },
        Change::Uploaded,
        Change::Pause { op: op(), snapshot },
        Change::Paused,
        Change::Wake,
        Change::WakeUnbegun,
        Change::Reset { loss: None },
        Change::Reset { loss: Some(loss) },
        Change::Crash(crash(Transition::Pause)),
        Change::Revert,
        Change::Select(Selector::default()),
        Change::Collected(Vec::new()),
    ]
}

fn op() -> OpId {
    OpId {
        replica: ReplicaId(1),
        seq: 1,
    }
}

fn on() -> Assignment {
    Assignment {
        worker: WorkerKey::new("ns", "pool", "pod"),
        pod_uid: "uid".into(),
        incarnation: "run".into(),
        ip: "ip".into(),
        node: "node".into(),
        fence: Fence(3),
        session: 1,
    }
}

fn crash(during: Transition) -> Crash {
    Crash {
        during,
        reason: "?".into(),
        node: "node".into(),
    }
}

fn facts() -> Facts<'static> {
    Facts {
        token: LeaseToken {
            replica: ReplicaId(1),
            seq: 1,
        },
        template: None,
        golden: None,
        worker: registry::Fact::Present,
        promised: None,
        leaving: None,
        outcome: None,
        is_undoing: false,
        is_sole: false,
    }
}
