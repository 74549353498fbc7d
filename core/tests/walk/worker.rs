//! The worker's record.

use super::Walk;
use holdfast_core::effect::NodeRow;
use holdfast_core::id::{ActorKey, Fence, Incarnation, Version, WorkerKey};
use holdfast_core::registry::{Registry, Report, Sighting, Wish};
use holdfast_core::settings::Settings;
use holdfast_core::table::Kind;
use holdfast_core::time::Instant;
use holdfast_core::worker::*;

/// Tries every change on a worker in every phase.
pub fn walk() -> Walk {
    let mut walk = Walk::default();
    for duty in [Duty::Serving, Duty::Draining] {
        let key = WorkerKey::new("ns", "pool", "pod");
        let worker = Worker::appear(key, sight(duty), Fence(4));
        assert!(worker.version > Version(4));
        walk.made
            .insert(TABLE.made(None, Event::Appear, Some(worker.phase())));
        let mut rows = vec![worker.clone()];
        rows.extend(worker.after(promise(), Version::FIRST));
        // One that was promised before it was on its way out.
        let serving = worker.after(Change::Sight(sight(Duty::Serving)), Version::FIRST);
        let promised = serving.and_then(|row| row.after(promise(), Version::FIRST));
        rows.extend(promised.and_then(|row| row.after(Change::Sight(sight(duty)), Version::FIRST)));
        for row in rows {
            try_all(&mut walk, &row);
        }
    }
    walk
}

fn try_all(walk: &mut Walk, row: &Worker) {
    let sights = [Duty::Serving, Duty::Draining].map(|duty| Change::Sight(sight(duty)));
    for change in [promise(), Change::Free].into_iter().chain(sights) {
        let event = change.event();
        match row.after(change, Version(9 << 50)) {
            Ok(next) => {
                assert!(next.version > row.version && next.version >= Version(9 << 50));
                walk.made
                    .insert(TABLE.made(Some(row.phase()), event, Some(next.phase())));
            }
            Err(illegal) => {
                assert_eq!((illegal.from, illegal.event), (Some(row.phase()), event));
                walk.refused.insert((row.phase().name(), event.name()));
            }
        }
    }
    if is_dropped(row) {
        walk.made.insert(TABLE.made(Some(row.phase()), Event::Drop, None));
    } else {
        walk.refused.insert((row.phase().name(), Event::Drop.name()));
    }
}

/// Whether the registry drops the record when its node has named the worker and names it no more.
fn is_dropped(row: &Worker) -> bool {
    let mut registry = Registry::new(Settings::DEFAULT);
    registry.listed(vec![row.clone()]);
    let sighting = Sighting {
        key: row.key.clone(),
        pod_uid: row.pod_uid.clone(),
        incarnation: row.incarnation.clone(),
        ip: row.ip.clone(),
        node: row.node.clone(),
        duty: row.duty,
        is_silent: false,
        highest_fence: Fence(0),
        hosting: None,
    };
    for (sequence, workers) in [(1, vec![sighting]), (2, Vec::new())] {
        let node = NodeRow {
            name: row.node.clone(),
            address: "address".into(),
            incarnation: "atelet".into(),
            sequence,
            session: 1,
            lapsed: 0,
            version: 0,
        };
        registry.reported(Instant::from_micros(sequence), Report { node, workers });
    }
    let wishes: Vec<Wish> = std::iter::from_fn(|| registry.poll_wish()).collect();
    wishes.iter().any(|wish| matches!(wish, Wish::Drop { .. }))
}

fn promise() -> Change {
    Change::Promise {
        actor: ActorKey::new("space", "a"),
        incarnation: Incarnation(7),
        template: ("ns".into(), "counter".into()),
        session: 1,
    }
}

fn sight(duty: Duty) -> Sight {
    Sight {
        pod_uid: "uid".into(),
        incarnation: "run".into(),
        ip: "ip".into(),
        node: "node".into(),
        duty,
    }
}
