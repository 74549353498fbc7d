//! What ateom says of workers, and what the control plane is told of it.

use super::looks::Age;
use super::{ABSENT_MAX, Described, Node, Output, Slot, Stage, Timer};
use crate::id::PodUid;
use crate::registry::{Hosting, Report, Sighting};
use crate::time::Instant;
use alloc::format;
use alloc::vec::Vec;

impl Node {
    pub(super) fn worker(&mut self, now: Instant, uid: PodUid, described: Described) {
        let slot = self.slots.entry(uid.clone()).or_default();
        let was_silent = core::mem::take(&mut slot.is_silent);
        if slot.described.as_ref() == Some(&described) && !was_silent {
            return;
        }
        let is_first = slot.described.replace(described).is_none() && !slot.is_touched;
        slot.is_awaited = false;
        (slot.is_lost, slot.absent) = (false, None);
        // While an operation is under way its own answer tells what became of it, also when ateom was
        // restarted meanwhile: what is asked of the new one is under the same promise.
        if slot.running.is_none() {
            self.weigh(&uid, if is_first { Age::New } else { Age::Unknown });
            self.tend(now, &uid);
        }
        self.changed(now);
    }

    /// Silence is no proof that a sandbox is gone: what was there is taken to be there. A worker that neither
    /// the journal knows nor anybody has heard is not there yet.
    pub(super) fn worker_silent(&mut self, now: Instant, uid: &PodUid, known: Described) {
        self.look_away(uid);
        let Some(slot) = self.slots.get_mut(uid) else {
            return;
        };
        if slot.described.is_none() && !slot.is_awaited {
            return;
        }
        let was_silent = core::mem::replace(&mut slot.is_silent, true);
        let before = slot.described.take();
        let now_known = match before.clone() {
            Some(said) => Described {
                key: known.key,
                ip: known.ip,
                duty: known.duty,
                ..said
            },
            None => known,
        };
        let is_news = !was_silent || before.as_ref() != Some(&now_known);
        slot.described = Some(now_known);
        if !was_silent {
            self.outputs.push_back(Output::Note(format!(
                "worker {uid} does not answer; nothing new is given to it"
            )));
        }
        if is_news {
            self.changed(now);
        }
    }

    pub(super) fn worker_lost(&mut self, now: Instant, uid: &PodUid) {
        self.look_away(uid);
        let Some(slot) = self.slots.get_mut(uid) else {
            return;
        };
        let was_awaited = core::mem::take(&mut slot.is_awaited);
        slot.is_silent = false;
        if slot.described.take().is_none() && !was_awaited {
            return;
        }
        (slot.is_lost, slot.absent) = (true, Some(self.next));
        let is_idle = slot
            .running
            .as_ref()
            .is_none_or(|r| matches!(r.stage, Stage::Ending(_)));
        if is_idle && slot.entry.current.as_ref().is_none_or(|p| p.captured.is_none()) {
            slot.entry.vacate();
            slot.entry.outlive();
            self.forget_the_absent();
            self.keep(uid);
        }
        self.changed(now);
    }

    /// No pod comes back after a thousand others have come and gone: the older half of those that are absent, and
    /// that nobody waits for, is forgotten.
    pub(super) fn forget_the_absent(&mut self) {
        let absent = self.slots.values().filter(|slot| slot.absent.is_some());
        if absent.count() <= ABSENT_MAX {
            return;
        }
        let awaited = self.awaited_workers();
        let since = |slot: &Slot| {
            let is_empty = slot.entry.hosted.is_none() && slot.entry.current.is_none();
            slot.absent.filter(|_| is_empty && slot.running.is_none())
        };
        let free = self.slots.iter().filter(|(uid, _)| !awaited.contains(*uid));
        let mut over: Vec<(u64, &PodUid)> =
            free.filter_map(|(uid, slot)| Some((since(slot)?, uid))).collect();
        over.sort_unstable();
        over.truncate(ABSENT_MAX / 2);
        let oldest: Vec<PodUid> = over.into_iter().map(|(_, uid)| uid.clone()).collect();
        for uid in oldest {
            self.slots.remove(&uid);
            self.forgotten.push(uid);
        }
    }

    pub(super) fn changed(&mut self, now: Instant) {
        self.is_changed = true;
        if self.reporting.is_none() {
            self.timers.set(Timer::Report, Some(now));
        }
    }

    /// Reports, as soon as every worker that the journal knows has been found, or found missing or silent: a
    /// worker that a report does not name is taken to be gone, and its actor with it.
    pub(super) fn report(&mut self, now: Instant) {
        if self.slots.values().any(|slot| slot.is_awaited && !slot.is_silent) {
            return;
        }
        self.reporting = Some(now);
        self.is_changed = false;
        self.row.sequence += 1;
        self.row.session = self.session.number();
        self.row.lapsed = self.row.session.saturating_sub(1);
        let workers = self.slots.iter().filter_map(|(uid, slot)| {
            let described = slot.described.as_ref()?;
            Some(Sighting {
                key: described.key.clone(),
                pod_uid: uid.clone(),
                incarnation: described.incarnation.clone(),
                ip: described.ip.clone(),
                node: self.row.name.clone(),
                duty: described.duty,
                is_silent: slot.is_silent,
                highest_fence: slot.entry.highest,
                hosting: slot.entry.hosted.as_ref().map(|h| Hosting {
                    actor: h.actor.clone(),
                    incarnation: h.incarnation,
                    session: h.session,
                }),
            })
        });
        let report = Report {
            node: self.row.clone(),
            workers: workers.collect(),
        };
        self.outputs.push_back(Output::Report(report));
    }
}
