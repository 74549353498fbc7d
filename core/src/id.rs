//! Who and what: the names, numbers and identities that every machine speaks of.

use alloc::string::String;
use alloc::sync::Arc;
use core::cmp::Ordering;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::str::FromStr;

/// An immutable piece of text that is cheap to clone and compares by content.
#[derive(Clone, Eq)]
pub struct Name(Arc<str>);

// Clones need not look at the text to see that they are equal, and it may be far away.
impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Name) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) {
            return Ordering::Equal;
        }
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Name) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Name {
    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there is no text at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Name(text.into())
    }
}

impl From<String> for Name {
    fn from(text: String) -> Self {
        Name(text.into())
    }
}

impl Default for Name {
    fn default() -> Self {
        Name("".into())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An actor's place in the world: its atespace and its name within it.
///
/// Two actors of one name in two atespaces are different actors everywhere: in records, leases,
/// fences and on nodes (scenario S09).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActorKey {
    /// The atespace.
    pub atespace: Name,
    /// The actor's name, unique within the atespace.
    pub name: Name,
}

impl ActorKey {
    /// The key of `name` in `atespace`.
    pub fn new(atespace: impl Into<Name>, name: impl Into<Name>) -> Self {
        ActorKey {
            atespace: atespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ActorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.atespace, self.name)
    }
}

/// A worker pod's place: namespace, pool and pod name. The pod behind it may change; see [`PodUid`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerKey {
    /// The Kubernetes namespace of the pod.
    pub namespace: Name,
    /// The worker pool that the pod belongs to.
    pub pool: Name,
    /// The pod's name.
    pub pod: Name,
}

impl WorkerKey {
    /// The key of `pod` of `pool` in `namespace`.
    pub fn new(namespace: impl Into<Name>, pool: impl Into<Name>, pod: impl Into<Name>) -> Self {
        WorkerKey {
            namespace: namespace.into(),
            pool: pool.into(),
            pod: pod.into(),
        }
    }
}

impl fmt::Display for WorkerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.pool, self.pod)
    }
}

/// The UID of a worker pod: a new pod of an old name is a new worker.
pub type PodUid = Name;

/// The name of a node.
pub type NodeName = Name;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number! {
    /// How often a record has been written. Grows by at least one with each write.
    Version
}
number! {
    /// A number that only grows, per actor and per worker. Every effect carries one, and a resource
    /// refuses anything below the highest it has seen (design section 4).
    Fence
}
number! {
    /// Tells one life of an actor from the next: deleted and created again by the same name, it is
    /// another actor (scenario S07).
    Incarnation
}
number! {
    /// One running control-plane process. Drawn at random when the process starts, so a restarted
    /// replica is a new one.
    ReplicaId
}
number! {
    /// A caller's request, as long as it waits for its verdict. Local to one machine.
    RequestId
}
number! {
    /// An effect that a machine has asked for and not yet heard of. Local to one machine.
    EffectId
}

impl Version {
    /// The version of a record that has just been created.
    pub const FIRST: Version = Version(1);
}

/// One writing of a record, by one owner, in one life of its name. A version alone does not tell what somebody
/// wrote: each life counts its versions from the first, and so somebody may have missed that the name began anew;
/// and a store that has lost its last writes counts their versions once more, for whoever writes then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Edition {
    /// The life.
    pub incarnation: Incarnation,
    /// How often it was written in that life.
    pub version: Version,
    /// The last acquisition under which it was written.
    pub claim: Option<LeaseToken>,
}

impl fmt::Display for Edition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/", self.version, self.incarnation)?;
        match self.claim {
            Some(token) => token.fmt(f),
            None => f.write_str("nobody"),
        }
    }
}

/// The highest count: what the original's messages and records have room for. No count of writes reaches
/// it, so a higher number comes from nobody who counts, and is refused wherever numbers come in.
const COUNT_MAX: u64 = i64::MAX as u64;

macro_rules! counted {
    ($name:ident, $what:literal) => {
        impl $name {
            /// The highest that anybody may name.
            pub const MAX: $name = $name(COUNT_MAX);

            /// The one after this, or [`Self::MAX`] again.
            #[must_use]
            pub fn next(self) -> $name {
                $name(self.0.saturating_add(1).min(COUNT_MAX))
            }
        }

        /// How a number from outside is read.
        impl TryFrom<u64> for $name {
            type Error = TooHigh;

            fn try_from(number: u64) -> Result<Self, TooHigh> {
                if number <= COUNT_MAX {
                    Ok($name(number))
                } else {
                    Err(TooHigh {
                        what: $what,
                        number,
                    })
                }
            }
        }
    };
}

counted!(Version, "version");
counted!(Fence, "fence");

/// A number that nobody can have counted up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooHigh {
    /// What it was meant to be.
    pub what: &'static str,
    /// The number.
    pub number: u64,
}

impl fmt::Display for TooHigh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TooHigh { what, number } = self;
        write!(f, "{number} is no {what}: the highest is {COUNT_MAX}")
    }
}

impl core::error::Error for TooHigh {}

macro_rules! replica_scoped {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name {
            /// The replica that made it.
            pub replica: ReplicaId,
            /// Counts within that replica.
            pub seq: u64,
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}-{}", self.replica.0, self.seq)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                let (replica, seq) = text.split_once('-').ok_or(NotAnId)?;
                let canonical = replica.len() == 16 && !seq.starts_with('+');
                if !canonical {
                    return Err(NotAnId);
                }
                Ok($name {
                    replica: ReplicaId(u64::from_str_radix(replica, 16).map_err(|_| NotAnId)?),
                    seq: seq.parse().map_err(|_| NotAnId)?,
                })
            }
        }
    };
}

replica_scoped! {
    /// Names one operation on a node. A step that may have happened is repeated under the same id,
    /// so that the node can tell a repetition from a new wish.
    OpId
}
replica_scoped! {
    /// Names one acquisition of a lease. Renewing and releasing compare it, so a late release can
    /// never remove a newer lease (design section 3, point 4).
    LeaseToken
}

/// The text is not 16 hexadecimal digits, a hyphen and a decimal number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnId;

impl fmt::Display for NotAnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("want 16 hexadecimal digits, '-' and a decimal number")
    }
}

impl core::error::Error for NotAnId {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn what_nobody_can_have_counted_up_to_is_no_version_and_no_fence() {
        for number in [0, 1, COUNT_MAX] {
            assert_eq!(Version::try_from(number), Ok(Version(number)));
            assert_eq!(Fence::try_from(number), Ok(Fence(number)));
        }
        for number in [COUNT_MAX + 1, u64::MAX] {
            assert!(Version::try_from(number).is_err());
            let error = Fence::try_from(number).unwrap_err();
            assert_eq!(
                error.to_string(),
                alloc::format!("{number} is no fence: the highest is 9223372036854775807")
            );
        }
        assert_eq!(Version::FIRST.next(), Version(2));
        assert_eq!(Version::MAX.next(), Version::MAX);
        assert_eq!(Fence::MAX.next(), Fence::MAX);
    }

    #[test]
    fn operation_ids_survive_text_and_nothing_else_parses() {
        let id = OpId {
            replica: ReplicaId(0xfeed),
            seq: 7,
        };
        assert_eq!(id.to_string().parse::<OpId>(), Ok(id));
        for bad in [
            "",
            "-",
            "feed-7",
            "000000000000feed",
            "000000000000feed-",
            "000000000000feed-+7",
            "zz",
        ] {
            assert_eq!(bad.parse::<OpId>(), Err(NotAnId), "{bad}");
        }
    }
}
