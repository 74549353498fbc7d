//! Where an operation on a worker stands, and what may befall it there.

use super::{Node, Output, Stage};
use crate::effect::Verb;
use crate::id::PodUid;
use crate::node::work::{WorkFailureKind, WorkResult};
use crate::table::{Kind, Row, Table, begins, ends, kinds, moves, stays};

kinds! {
    /// Where the operation on a worker stands.
    pub enum Phase {
        /// What was there before is cleared, images are pulled.
        Preparing,
        /// Bundles are laid out while the snapshot is fetched.
        Assembling,
        /// ateom boots or restores.
        Booting,
        /// ateom lets a frozen sandbox go on.
        Thawing,
        /// ateom checkpoints.
        Capturing,
        /// The files of the checkpoint are stored.
        Saving,
        /// A local snapshot is uploaded.
        Uploading,
        /// ateom ends what runs.
        Stopping,
        /// The result is kept on disk.
        Ending,
    }
}

kinds! {
    /// What may befall the operation on a worker.
    pub enum Event {
        /// A boot from images is ordered.
        Run,
        /// A boot from a snapshot is ordered.
        Restore,
        /// A checkpoint is ordered.
        Checkpoint,
        /// An upload is ordered.
        Upload,
        /// What runs is to end.
        Stop,
        /// What is frozen is to go on.
        Thaw,
        /// The same operation is ordered once more.
        Join,
        /// One of its images is here.
        Pulled,
        /// One of its images cannot be had.
        Unpulled,
        /// A step has succeeded.
        Done,
        /// A step has failed: the snapshot is missing or corrupt, or the sandbox could not do it.
        Fatal,
        /// A step has failed: the sandbox is not there.
        Gone,
        /// A step has failed: whoever should do it could not be reached.
        Unreachable,
        /// A step has failed, this time.
        Transient,
        /// A step that failed is tried again.
        Retry,
        /// The disk has what it was given.
        Kept,
        /// The disk did not take it.
        Unkept,
    }
}

/// Everything that may become of the operation on a worker. An order for which there is no row is answered
/// without one: it is refused, or what it wants has happened. Other events without a row are about steps
/// that are over.
pub const TABLE: Table<Phase, Event> = {
    use Event as E;
    use Phase as P;
    const ROWS: &[Row<P, E>] = &[
        begins(
            E::Run,
            &[P::Preparing],
            "the order is kept before ateom hears of it",
        ),
        begins(E::Restore, &[P::Preparing], "the same"),
        begins(
            E::Checkpoint,
            &[P::Capturing, P::Saving],
            "saves at once if the checkpoint was taken before a restart",
        ),
        begins(E::Upload, &[P::Uploading], "the sandbox is not touched"),
        begins(
            E::Stop,
            &[P::Stopping],
            "the order is kept before ateom hears of it",
        ),
        begins(
            E::Thaw,
            &[P::Thawing, P::Ending],
            "ends at once where no session binds the actor",
        ),
        moves(
            &[P::Preparing, P::Assembling, P::Booting, P::Stopping, P::Ending],
            E::Stop,
            &[P::Stopping],
            "overtakes a boot, wherever that stands; its callers are told",
        ),
        stays(P::ALL, E::Join, "one more is told how it ends"),
        moves(
            &[P::Preparing],
            E::Pulled,
            &[P::Preparing, P::Assembling],
            "goes on when all is here and clear",
        ),
        moves(&[P::Preparing], E::Unpulled, &[P::Ending], "failed"),
        moves(
            &[P::Preparing],
            E::Done,
            &[P::Preparing, P::Assembling],
            "goes on when all is here and clear",
        ),
        moves(
            &[P::Assembling],
            E::Done,
            &[P::Assembling, P::Booting, P::Ending],
            "goes on when both are done; failed if the node's session has ended meanwhile",
        ),
        moves(
            &[P::Capturing],
            E::Done,
            &[P::Saving],
            "from here on the files are the actor",
        ),
        moves(
            &[P::Booting, P::Thawing, P::Saving, P::Uploading, P::Stopping],
            E::Done,
            &[P::Ending],
            "what became of it is kept before it is told",
        ),
        moves(
            &[P::Preparing, P::Assembling, P::Thawing, P::Saving, P::Uploading],
            E::Fatal,
            &[P::Ending],
            "a crash if the snapshot could not be fetched or saved, else failed",
        ),
        moves(
            &[P::Booting],
            E::Fatal,
            &[P::Stopping, P::Ending],
            "a restore has crashed, and first nothing of it may be left; a boot from images has failed",
        ),
        moves(&[P::Capturing], E::Fatal, &[P::Stopping], "crashed"),
        moves(
            &[
                P::Preparing,
                P::Assembling,
                P::Booting,
                P::Thawing,
                P::Capturing,
                P::Saving,
                P::Uploading,
            ],
            E::Gone,
            &[P::Ending],
            "the sandbox is gone",
        ),
        moves(
            &[P::Preparing, P::Assembling, P::Saving, P::Uploading],
            E::Unreachable,
            &[P::Ending],
            "as Fatal",
        ),
        moves(
            &[P::Booting],
            E::Unreachable,
            &[P::Booting, P::Ending],
            "tried again a few times, unless the worker is gone",
        ),
        moves(
            &[P::Thawing],
            E::Unreachable,
            &[P::Thawing, P::Ending],
            "the same",
        ),
        moves(
            &[P::Capturing],
            E::Unreachable,
            &[P::Capturing, P::Stopping, P::Ending],
            "the same; then it is a crash",
        ),
        moves(
            &[P::Preparing, P::Assembling, P::Booting, P::Thawing, P::Uploading],
            E::Transient,
            &[P::Ending],
            "failed",
        ),
        moves(&[P::Capturing], E::Transient, &[P::Stopping], "crashed"),
        moves(
            &[P::Saving],
            E::Transient,
            &[P::Saving, P::Ending],
            "tried again a few times; then it is a crash",
        ),
        moves(
            &[P::Stopping],
            E::Fatal,
            &[P::Stopping, P::Ending],
            "after a crash it is tried until nothing is left",
        ),
        moves(&[P::Stopping], E::Gone, &[P::Stopping, P::Ending], "the same"),
        moves(
            &[P::Stopping],
            E::Unreachable,
            &[P::Stopping, P::Ending],
            "the same",
        ),
        moves(
            &[P::Stopping],
            E::Transient,
            &[P::Stopping, P::Ending],
            "the same",
        ),
        stays(
            &[P::Capturing, P::Saving, P::Stopping],
            E::Retry,
            "the step is asked for again",
        ),
        moves(
            &[P::Booting],
            E::Retry,
            &[P::Booting, P::Ending],
            "the same, unless the node's session has ended meanwhile",
        ),
        moves(&[P::Thawing], E::Retry, &[P::Thawing, P::Ending], "the same"),
        stays(
            &[P::Preparing, P::Capturing, P::Saving, P::Stopping],
            E::Kept,
            "what waited for it is asked for",
        ),
        moves(
            &[P::Thawing],
            E::Kept,
            &[P::Thawing, P::Ending],
            "the same, unless the node's session has ended meanwhile",
        ),
        moves(
            &[P::Preparing, P::Thawing, P::Capturing, P::Stopping],
            E::Unkept,
            &[P::Ending],
            "what cannot be remembered is not begun",
        ),
        stays(
            &[P::Saving],
            E::Unkept,
            "what has been captured is saved all the same",
        ),
        ends(&[P::Ending], E::Kept, "all who wait are told"),
        ends(&[P::Ending], E::Unkept, "the same: it has happened"),
    ];
    Table::new("operation", ROWS)
};

impl Node {
    /// Where the operation on a worker stands; none if there is none under way.
    pub fn operation(&self, uid: &PodUid) -> Option<Phase> {
        self.running(uid).map(|running| running.stage.phase())
    }

    /// The one way in which operations begin, change and end: does what an event asks for, and tells which
    /// transition that was before anything else leaves this machine.
    pub(super) fn befall(&mut self, uid: &PodUid, event: Event, act: impl FnOnce(&mut Node)) {
        let from = self.operation(uid);
        act(self);
        let moved = TABLE.made(from, event, self.operation(uid));
        self.outputs.push_back(Output::Moved(uid.clone(), moved));
    }
}

impl Stage {
    fn phase(&self) -> Phase {
        match self {
            Stage::Preparing { .. } => Phase::Preparing,
            Stage::Assembling { .. } => Phase::Assembling,
            Stage::Booting => Phase::Booting,
            Stage::Thawing => Phase::Thawing,
            Stage::Capturing => Phase::Capturing,
            Stage::Saving(_) => Phase::Saving,
            Stage::Uploading => Phase::Uploading,
            Stage::Stopping(_) => Phase::Stopping,
            Stage::Ending(_) => Phase::Ending,
        }
    }
}

impl Event {
    /// An order of this kind.
    pub(super) fn order(verb: &Verb) -> Event {
        match verb {
            Verb::Run { .. } => Event::Run,
            Verb::Restore { .. } => Event::Restore,
            Verb::Checkpoint { .. } => Event::Checkpoint,
            Verb::Upload { .. } => Event::Upload,
            Verb::Stop => Event::Stop,
            Verb::Thaw => Event::Thaw,
        }
    }

    /// The end of a step.
    pub(super) fn worked(result: &WorkResult) -> Event {
        match result.as_ref().map_err(|failure| failure.kind) {
            Ok(_) => Event::Done,
            Err(WorkFailureKind::Fatal) => Event::Fatal,
            Err(WorkFailureKind::Gone) => Event::Gone,
            Err(WorkFailureKind::Unreachable) => Event::Unreachable,
            Err(WorkFailureKind::Transient) => Event::Transient,
        }
    }
}
