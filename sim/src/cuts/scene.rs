//! The scenes: how each workflow comes about.

use crate::fact::Asked;
use crate::plan::SECOND;
use crate::world::{Story, World};
use holdfast_core::actor::Status;
use holdfast_core::node::Work;

/// One way in which a workflow comes about.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    /// What it is called.
    pub name: &'static str,
    /// Whether the template has a golden snapshot.
    has_golden: bool,
    /// Brings the world to where it begins, without faults.
    prepare: fn(&mut World),
    /// Sets it going.
    begin: fn(&mut World),
}

const fn scene(name: &'static str, prepare: fn(&mut World), begin: fn(&mut World)) -> Scene {
    Scene {
        name,
        has_golden: false,
        prepare,
        begin,
    }
}

/// Every scene.
pub const SCENES: &[Scene] = &[
    scene("resume: boot", created, |w| ask(w, Asked::Resume)),
    Scene {
        has_golden: true,
        ..scene("resume: from the golden snapshot", created, |w| {
            ask(w, Asked::Resume)
        })
    },
    scene("resume: from the object store", suspended, |w| {
        ask(w, Asked::Resume)
    }),
    scene("resume: from the node's disk", paused, |w| ask(w, Asked::Resume)),
    scene("resume: the worker is gone", awake, |w| {
        w.end_pod();
        w.pass(SECOND / 100);
        ask(w, Asked::Resume);
    }),
    scene("resume: finishes a suspend", half_suspended, |w| {
        w.request(1, Asked::Resume);
    }),
    scene("resume: the snapshot is damaged", spoiled, |w| {
        ask(w, Asked::Resume)
    }),
    scene("suspend: running", awake, |w| ask(w, Asked::Suspend)),
    scene("suspend: paused", paused, |w| ask(w, Asked::Suspend)),
    scene("suspend: finishes a resume", half_resumed, |w| {
        w.request(1, Asked::Suspend);
    }),
    scene("suspend: the worker is gone", awake, |w| {
        w.end_pod();
        w.pass(SECOND / 100);
        ask(w, Asked::Suspend);
    }),
    scene("suspend: the checkpoint fails", awake, |w| {
        w.break_step(Some(Work::Capture));
        ask(w, Asked::Suspend);
    }),
    scene("pause", awake, |w| ask(w, Asked::Pause)),
    scene("delete: suspended", suspended, |w| ask(w, Asked::Delete)),
    scene("delete: crashed", crashed, |w| ask(w, Asked::Delete)),
    scene("revert: crashed", crashed, |w| ask(w, Asked::Revert)),
    scene("revert: paused", paused_after_suspend, |w| ask(w, Asked::Revert)),
    scene("settle: finishes a resume", half_resumed, |_| {}),
    scene("settle: finishes a suspend", half_suspended, |_| {}),
    scene("settle: finishes a pause", half_paused, |_| {}),
    scene("settle: undoes a resume", failed_resume, |_| {}),
    scene("settle: the worker is gone", awake, |w| w.end_pod()),
    scene("drain", awake, |w| w.drain_pod()),
];

impl Scene {
    /// The world at the moment at which the workflow begins; from here on effects are numbered.
    pub(super) fn begin(&self, story: Story) -> World {
        let golden = self.has_golden.then(|| "mem://golden".into());
        let mut world = World::scripted(|template| template.golden_snapshot = golden, story);
        (self.prepare)(&mut world);
        world.number_effects();
        (self.begin)(&mut world);
        world
    }
}

fn ask(world: &mut World, what: Asked) {
    world.request(0, what);
}

fn created(world: &mut World) {
    world.obtain(Asked::Create);
    world.pass(SECOND);
}

fn awake(world: &mut World) {
    suspended(world);
    world.obtain(Asked::Resume);
    world.pass(4 * SECOND);
}

fn suspended(world: &mut World) {
    created(world);
    world.obtain(Asked::Resume);
    world.pass(3 * SECOND);
    world.obtain(Asked::Suspend);
    world.pass(SECOND);
}

fn paused(world: &mut World) {
    created(world);
    world.obtain(Asked::Resume);
    world.pass(3 * SECOND);
    world.obtain(Asked::Pause);
    world.pass(SECOND);
}

fn paused_after_suspend(world: &mut World) {
    awake(world);
    world.obtain(Asked::Pause);
    world.pass(SECOND);
}

/// Asleep at a snapshot that is damaged, with a good one before it.
fn spoiled(world: &mut World) {
    awake(world);
    world.obtain(Asked::Suspend);
    world.spoil();
    world.pass(SECOND);
}

fn crashed(world: &mut World) {
    awake(world);
    world.break_step(Some(Work::Capture));
    world.request(0, Asked::Suspend);
    world.run_while("a crash", |w| w.status() != Some(Status::Crashed));
    world.break_step(None);
    world.pass(3 * SECOND);
}

fn half_suspended(world: &mut World) {
    awake(world);
    half(world, Asked::Suspend, Status::Suspending);
}

fn half_paused(world: &mut World) {
    awake(world);
    half(world, Asked::Pause, Status::Pausing);
}

fn half_resumed(world: &mut World) {
    suspended(world);
    half(world, Asked::Resume, Status::Resuming);
}

/// A workflow whose replica dies in its middle; the lease of the dead runs out before anybody acts.
fn half(world: &mut World, what: Asked, status: Status) {
    world.request(0, what);
    world.run_while("the middle of a workflow", |w| w.status() != Some(status));
    world.end_replica(0);
}

/// A Resume that has failed, as its caller knows.
fn failed_resume(world: &mut World) {
    suspended(world);
    world.break_step(Some(Work::Assemble));
    let request = world.request(0, Asked::Resume);
    world.run_while("a Resume that fails", |w| w.verdict(request).is_none());
    world.break_step(None);
}
