//! Defects that are planted to see that the checker finds them: in what stands around the core's
//! machines, because the machines are the real ones.

/// A thing around the core that does not keep its contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Defect {
    /// The store writes actors whatever version is stored.
    StoreIgnoresActorVersions,
    /// The store writes workers whatever version is stored.
    StoreIgnoresWorkerVersions,
    /// The store ends a lease for whoever asks, without comparing the token. It must not matter: safety
    /// does not rest on leases.
    ReleaseIgnoresTokens,
    /// The store grants every lease to everybody. It must not matter either.
    LeasesForEveryone,
    /// Fences get lost on the way to the nodes.
    NodesIgnoreFences,
    /// Operation ids get lost on the way to the nodes.
    NodesIgnoreOperations,
    /// A restarted atelet begins with an empty journal.
    JournalForgets,
    /// An answer is taken for the answer to whatever the replica waits for now.
    StaleAnswersAccepted,
    /// Workers let their actors run on when the node's session is over.
    LicencesWithoutEnd,
    /// A journal that refuses what it is given says that it has kept it.
    RefusalsUnheard,
    /// A node that is to delete some snapshots of an actor deletes all.
    DiscardsTooMuch,
    /// A node that is to delete snapshots says that it has, and has not.
    DiscardsNothing,
    /// A checkpoint leaves its sandbox running.
    CheckpointLeavesSandbox,
    /// A snapshot is said to be stored before it is.
    SavedBeforeStored,
    /// A verdict is told twice.
    VerdictsRepeated,
}
