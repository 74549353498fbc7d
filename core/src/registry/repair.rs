//! Where a worker's row and what its node says differ, and what would make them agree.

use super::{Going, Hosting, Seen, Sighting, Wish};
use crate::effect::NodeRow;
use crate::id::{ActorKey, Fence, Incarnation, PodUid, Version};
use crate::worker::{self, Change, Duty, Hosted, Sight, Worker};
use alloc::boxed::Box;
use core::cmp::Ordering;

/// The actor that a worker is promised to.
pub(super) fn promised_to(row: &Worker) -> Option<&ActorKey> {
    row.hosts.as_ref().map(|hosted| &hosted.actor)
}

/// What would make a worker's row agree with what its node says.
pub(super) fn repair(row: Option<&Worker>, seen: &Seen, node: Option<&NodeRow>) -> Option<Wish> {
    let session = node.map_or(0, |node| node.session);
    let is_over = |hosted: &Hosted| hosted.session > 0 && node.is_some_and(|n| n.lapsed >= hosted.session);
    match (row, seen) {
        (None, Seen::Here(s)) => Some(Wish::Write {
            expect: None,
            worker: Box::new(Worker::appear(s.key.clone(), sight(s), s.highest_fence)),
        }),
        (Some(row), Seen::Gone) => Some(match &row.hosts {
            Some(hosted) => Wish::Release {
                actor: hosted.actor.clone(),
                worker: row.key.clone(),
            },
            None => {
                worker::TABLE.made(Some(row.phase()), worker::Event::Drop, None);
                Wish::Drop {
                    key: row.key.clone(),
                    expect: row.edition(),
                }
            }
        }),
        (Some(row), Seen::Here(s)) => {
            let is_other = s.pod_uid != row.pod_uid || s.incarnation != row.incarnation;
            let is_moved = s.ip != row.ip || s.node != row.node || s.duty != row.duty;
            match &row.hosts {
                Some(hosted) if end_of_promise(s, &row.pod_uid, hosted.fence).is_some() => {
                    Some(Wish::Release {
                        actor: hosted.actor.clone(),
                        worker: row.key.clone(),
                    })
                }
                _ if is_other || is_moved => sighted(row, s, Version(s.highest_fence.0)),
                Some(hosted) if s.hosting.as_ref().is_some_and(|h| awaits(h, session)) => Some(Wish::Thaw {
                    actor: hosted.actor.clone(),
                    worker: row.key.clone(),
                }),
                Some(hosted) if row.duty == Duty::Draining => Some(Wish::Drain {
                    actor: hosted.actor.clone(),
                }),
                Some(hosted) if is_over(hosted) => Some(Wish::Release {
                    actor: hosted.actor.clone(),
                    worker: row.key.clone(),
                }),
                // The row is behind its node: the store has lost a write, or it comes late, or the pod was away.
                // It is raised, so that what the node hosts can be told from a promise that is on its way, and
                // the next promise is one that the node lets in.
                None if s.hosting.is_some() && row.version.0 <= s.highest_fence.0
                    || row.version.0 < s.highest_fence.0 =>
                {
                    sighted(row, s, Version(s.highest_fence.0).next())
                }
                Some(_) | None => None,
            }
        }
        (Some(row), Seen::Never) => {
            row.hosts
                .as_ref()
                .filter(|hosted| is_over(hosted))
                .map(|hosted| Wish::Release {
                    actor: hosted.actor.clone(),
                    worker: row.key.clone(),
                })
        }
        (None, Seen::Never | Seen::Gone) => None,
    }
}

/// The row as its node sees the worker, at a version of at least `at_least`.
fn sighted(row: &Worker, s: &Sighting, at_least: Version) -> Option<Wish> {
    let sight = sight(s);
    let own = sight.own_above(s.highest_fence);
    let worker = row.after(Change::Sight(sight), at_least.max(own)).ok()?;
    Some(Wish::Write {
        expect: Some(row.edition()),
        worker: Box::new(worker),
    })
}

fn sight(s: &Sighting) -> Sight {
    Sight {
        pod_uid: s.pod_uid.clone(),
        incarnation: s.incarnation.clone(),
        ip: s.ip.clone(),
        node: s.node.clone(),
        duty: s.duty,
    }
}

/// How the promise that a worker of this pod made under this fence came to its end, if its node says
/// that it did. A node raises the fence when it vacates the worker, so a promise stands exactly as long
/// as its fence is the highest and something is hosted; one that the node has not heard of stands too.
pub(super) fn end_of_promise(s: &Sighting, pod_uid: &PodUid, promise: Fence) -> Option<Going> {
    if s.pod_uid != *pod_uid {
        return Some(Going::Restarted);
    }
    let is_over = match s.highest_fence.cmp(&promise) {
        Ordering::Less => false,
        Ordering::Equal => s.hosting.is_none(),
        Ordering::Greater => true,
    };
    (is_over && promise > Fence(0)).then_some(Going::Sandbox)
}

/// Whether an actor waits for agreement to go on under this session of its node.
pub(super) fn awaits(hosting: &Hosting, session: u64) -> bool {
    hosting.session > 0 && hosting.session < session
}

/// Whether a worker hosts an actor under a promise that its row has left behind.
pub(super) fn is_stray(row: Option<&Worker>, seen: &Seen) -> bool {
    let (Some(row), Seen::Here(s)) = (row, seen) else {
        return false;
    };
    let is_same = s.pod_uid == row.pod_uid && s.incarnation == row.incarnation;
    // What a node found and does not know was brought by others.
    let hosting = s.hosting.as_ref().filter(|h| h.incarnation != Incarnation(0));
    is_same
        && hosting.is_some_and(|h| match &row.hosts {
            None => row.version.0 > s.highest_fence.0,
            Some(hosted) => {
                hosted.fence > s.highest_fence
                    && (hosted.actor != h.actor || hosted.incarnation != h.incarnation)
            }
        })
}
