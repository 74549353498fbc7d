//! Every duration in one place, with the relations between them (design section 6, last paragraph).
//!
//! The defaults' relations are checked when the crate is compiled; a configuration's when it is
//! built, with an error that says which relation broke and by how much.

use crate::session::OnLapse;
use crate::time::{Duration, fraction};
use core::fmt;

const PPM: u64 = 1_000_000;

/// How leases are taken, kept and lost (design section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseSettings {
    /// How long a lease lives in the store without renewal, on the store's clock.
    pub ttl: Duration,
    /// How long after a successful renewal was *sent* the next one is due.
    pub renew_every: Duration,
    /// The first pause before a failed renewal is tried again; doubles up to `renew_every`.
    pub retry_from: Duration,
    /// How far two clocks may drift apart, in parts per million of the elapsed time.
    pub drift_ppm: u64,
    /// Taken off every validity besides drift: scheduling, granularity, rounding.
    pub margin: Duration,
}

impl LeaseSettings {
    /// How long after sending its request a holder may believe in a lease that was granted.
    pub fn believed_for(&self) -> Duration {
        self.shortened(self.ttl)
    }

    /// The part of `span` that has surely not passed on another clock when it has passed on one's own.
    fn shortened(&self, span: Duration) -> Duration {
        span.saturating_sub(fraction(span, self.drift_ppm, PPM))
            .saturating_sub(self.margin)
    }

    /// How long one waits by one's own clock until `span` has surely passed on another.
    fn lengthened(&self, span: Duration) -> Duration {
        span.saturating_add(fraction(span, self.drift_ppm, PPM))
            .saturating_add(self.margin)
    }
}

/// A replica's own session in the store, by which peers see that it is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionSettings {
    /// How long the session lives without renewal.
    pub ttl: Duration,
    /// How often it is renewed.
    pub renew_every: Duration,
}

/// How nodes are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeSettings {
    /// How often a node reports when nothing changes.
    pub heartbeat_every: Duration,
    /// After how many silent intervals a node is stale.
    pub stale_after: u32,
    /// How long a node may keep its sandboxes running without hearing from the control plane.
    pub session_ttl: Duration,
    /// What becomes of them then.
    pub on_lapse: OnLapse,
}

impl NodeSettings {
    /// How long a node may be silent before its workers get no new actors.
    pub fn stale_silence(&self) -> Duration {
        self.heartbeat_every.saturating_mul(self.stale_after)
    }
}

/// How image pulls are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PullSettings {
    /// A pull that moves no byte for so long has stalled.
    pub stall_after: Duration,
    /// How many stalls or retryable failures in a row, without progress between them, end a pull.
    pub attempts: u32,
    /// The pause before a failed pull is tried again.
    pub retry_after: Duration,
    /// How long a pull that nobody waits for goes on.
    pub abandon_grace: Duration,
}

/// How workflows run and how the reconciler follows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WorkflowSettings {
    /// The longest a single workflow may take (`--actor-workflow-deadline`).
    pub deadline: Duration,
    /// The first pause before a failed store operation or node call is repeated; doubles.
    pub retry_from: Duration,
    /// The longest such pause.
    pub retry_to: Duration,
    /// How long a transition may stand still before the reconciler takes it up.
    pub settle_after: Duration,
    /// How often each assigned worker's actor is looked at.
    pub sweep_every: Duration,
}

/// All settings of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// Leases.
    pub lease: LeaseSettings,
    /// Replica sessions.
    pub session: SessionSettings,
    /// Nodes.
    pub node: NodeSettings,
    /// Pulls.
    pub pull: PullSettings,
    /// Workflows.
    pub workflow: WorkflowSettings,
}

impl Settings {
    /// The defaults of design section 6.
    pub const DEFAULT: Settings = Settings {
        lease: LeaseSettings {
            ttl: Duration::from_secs(30),
            renew_every: Duration::from_secs(10),
            retry_from: Duration::from_secs(3),
            drift_ppm: 10_000,
            margin: Duration::from_secs(1),
        },
        session: SessionSettings {
            ttl: Duration::from_secs(6),
            renew_every: Duration::from_secs(2),
        },
        node: NodeSettings {
            heartbeat_every: Duration::from_secs(30),
            stale_after: 3,
            session_ttl: Duration::from_secs(90),
            on_lapse: OnLapse::Freeze,
        },
        pull: PullSettings {
            stall_after: Duration::from_secs(30),
            attempts: 3,
            retry_after: Duration::from_secs(1),
            abandon_grace: Duration::from_secs(60),
        },
        workflow: WorkflowSettings {
            deadline: Duration::from_secs(300),
            retry_from: Duration::from_millis(100),
            retry_to: Duration::from_secs(5),
            settle_after: Duration::from_secs(10),
            sweep_every: Duration::from_secs(10),
        },
    };

    /// The same settings with another lease TTL; renewal and retry keep their share of it.
    #[must_use]
    pub fn with_lease_ttl(mut self, ttl: Duration) -> Settings {
        self.lease.ttl = ttl;
        self.lease.renew_every = ttl / 3;
        self.lease.retry_from = ttl / 10;
        self.lease.margin = ttl / 30;
        self
    }

    /// How long after sending the report that renewed it a node may believe in a session of `ttl`.
    pub fn session_believed_for(&self, ttl: Duration) -> Duration {
        self.lease.shortened(ttl)
    }

    /// How long a node must not have been heard of before its session is surely over.
    pub fn session_over_after(&self) -> Duration {
        self.lease.lengthened(self.node.session_ttl)
    }

    /// Checks every relation between the settings.
    ///
    /// # Errors
    /// The first relation that does not hold.
    pub fn check(&self) -> Result<(), BrokenRelation> {
        let lease = &self.lease;
        let rules = [
            (Duration::ZERO, "zero", lease.retry_from, "lease.retry_from"),
            (
                lease.retry_from,
                "lease.retry_from",
                lease.renew_every,
                "lease.renew_every",
            ),
            (
                lease.renew_every * 2,
                "twice lease.renew_every",
                lease.believed_for(),
                "lease.ttl less drift and margin",
            ),
            (
                self.session.renew_every * 2,
                "twice session.renew_every",
                self.session.ttl,
                "session.ttl",
            ),
            (
                Duration::ZERO,
                "zero",
                self.session.renew_every,
                "session.renew_every",
            ),
            (
                Duration::ZERO,
                "zero",
                self.node.heartbeat_every,
                "node.heartbeat_every",
            ),
            (
                self.node.heartbeat_every,
                "node.heartbeat_every",
                self.session_believed_for(self.node.session_ttl),
                "node.session_ttl less drift and margin",
            ),
            (Duration::ZERO, "zero", self.pull.stall_after, "pull.stall_after"),
            (
                self.pull.stall_after,
                "pull.stall_after",
                self.workflow.deadline,
                "workflow.deadline",
            ),
            (
                Duration::ZERO,
                "zero",
                self.workflow.retry_from,
                "workflow.retry_from",
            ),
            (
                Duration::ZERO,
                "zero",
                self.workflow.settle_after,
                "workflow.settle_after",
            ),
            (
                Duration::ZERO,
                "zero",
                self.workflow.sweep_every,
                "workflow.sweep_every",
            ),
        ];
        for (less, less_name, more, more_name) in rules {
            if less >= more {
                return Err(BrokenRelation::Order {
                    less,
                    less_name,
                    more,
                    more_name,
                });
            }
        }
        if self.workflow.retry_from > self.workflow.retry_to {
            return Err(BrokenRelation::Order {
                less: self.workflow.retry_from,
                less_name: "workflow.retry_from",
                more: self.workflow.retry_to,
                more_name: "workflow.retry_to",
            });
        }
        if lease.drift_ppm >= PPM {
            return Err(BrokenRelation::Drift(lease.drift_ppm));
        }
        if self.node.stale_after == 0 || self.pull.attempts == 0 {
            return Err(BrokenRelation::ZeroCount);
        }
        Ok(())
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings::DEFAULT
    }
}

const _: () = {
    let s = &Settings::DEFAULT;
    assert!(s.lease.retry_from.as_millis() < s.lease.renew_every.as_millis());
    assert!(
        s.lease.renew_every.as_millis() * 2 < s.lease.ttl.as_millis() - s.lease.ttl.as_millis() / 100 - 1000
    );
    assert!(s.session.renew_every.as_millis() * 2 < s.session.ttl.as_millis());
    assert!(s.session.ttl.as_millis() < s.lease.ttl.as_millis());
    assert!(
        s.node.heartbeat_every.as_millis() * s.node.stale_after as u128 <= s.node.session_ttl.as_millis()
    );
    assert!(s.pull.stall_after.as_millis() < s.workflow.deadline.as_millis());
};

/// A relation between settings that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokenRelation {
    /// `less` must be shorter than `more`.
    Order {
        /// The value that is too long.
        less: Duration,
        /// What it is.
        less_name: &'static str,
        /// The value that is too short.
        more: Duration,
        /// What it is.
        more_name: &'static str,
    },
    /// The drift bound is a million parts per million or more.
    Drift(u64),
    /// `node.stale_after` or `pull.attempts` is zero.
    ZeroCount,
}

impl fmt::Display for BrokenRelation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BrokenRelation::Order {
                less,
                less_name,
                more,
                more_name,
            } => {
                write!(
                    f,
                    "{less_name} ({less:?}) must be shorter than {more_name} ({more:?})"
                )
            }
            BrokenRelation::Drift(ppm) => {
                write!(
                    f,
                    "lease.drift_ppm is {ppm}; it must stay below 1000000 (parts per million)"
                )
            }
            BrokenRelation::ZeroCount => f.write_str("node.stale_after and pull.attempts must be at least 1"),
        }
    }
}

impl core::error::Error for BrokenRelation {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_hold_together() {
        assert_eq!(Settings::DEFAULT.check(), Ok(()));
        assert_eq!(
            Settings::DEFAULT.lease.believed_for(),
            Duration::from_millis(28_700)
        );
    }

    #[test]
    fn a_shorter_lease_keeps_its_proportions_down_to_a_second() {
        for secs in [1, 2, 3, 30, 600] {
            let s = Settings::DEFAULT.with_lease_ttl(Duration::from_secs(secs));
            assert_eq!(s.check(), Ok(()), "{secs}");
        }
    }

    #[test]
    fn each_broken_relation_is_named() {
        let mut s = Settings::DEFAULT;
        s.lease.renew_every = Duration::from_secs(20);
        let BrokenRelation::Order {
            less_name, more_name, ..
        } = s.check().unwrap_err()
        else {
            panic!()
        };
        assert_eq!(
            (less_name, more_name),
            ("twice lease.renew_every", "lease.ttl less drift and margin")
        );

        let mut s = Settings::DEFAULT;
        s.pull.stall_after = s.workflow.deadline;
        assert!(s.check().is_err());

        let mut s = Settings::DEFAULT;
        s.lease.drift_ppm = 1_000_000;
        assert!(s.check().is_err());
    }
}
