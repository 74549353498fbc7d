//! Every duration in one place, with the relations between them (design section 6, last paragraph).
//!
//! There is one list of relations: the defaults are held against it when the crate is compiled, a
//! configuration when it is built, with an error that says which relation broke and by how much.

use crate::session::OnLapse;
use crate::time::{Duration, fraction};
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use core::fmt;

const PPM: u64 = 1_000_000;

/// The shortest that anything may be which comes round again and again: a renewal, a report, a sweep,
/// a pause before another attempt. Timers tick in milliseconds, so that ten are kept to within a
/// tenth, and a hundred rounds a second are bearable for a store and for the processor. What is
/// shorter asks for all of both.
pub const SHORTEST_PERIOD: Duration = Duration::from_millis(10);

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
    pub const fn believed_for(&self) -> Duration {
        self.shortened(self.ttl)
    }

    /// The part of `span` that has surely not passed on another clock when it has passed on one's own.
    pub(crate) const fn shortened(&self, span: Duration) -> Duration {
        span.saturating_sub(fraction(span, self.drift_ppm, PPM))
            .saturating_sub(self.margin)
    }

    /// How long one waits by one's own clock until `span` has surely passed on another.
    pub(crate) const fn lengthened(&self, span: Duration) -> Duration {
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
    /// Of how many actors a node remembers the fence of each. Of those beyond, it remembers the highest of all.
    pub fences_max: u32,
}

impl NodeSettings {
    /// How long a node may be silent before its workers get no new actors.
    pub const fn stale_silence(&self) -> Duration {
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
    /// How long what nothing points at any more is kept: longer than the store can take to lose the write
    /// that let go of it.
    pub collect_after: Duration,
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
            fences_max: 65_536,
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
            collect_after: Duration::from_secs(60),
        },
    };

    /// The same settings with another lease TTL; renewal, retry and the replica session keep their
    /// share of it.
    #[must_use]
    pub fn with_lease_ttl(mut self, ttl: Duration) -> Settings {
        self.lease.ttl = ttl;
        self.lease.renew_every = ttl / 3;
        self.lease.retry_from = ttl / 10;
        self.lease.margin = ttl / 30;
        self.with_session_ttl(ttl / 5)
    }

    /// The same settings with another TTL of replica sessions; renewal keeps its share of it.
    #[must_use]
    pub fn with_session_ttl(mut self, ttl: Duration) -> Settings {
        self.session.ttl = ttl;
        self.session.renew_every = ttl / 3;
        self
    }

    /// How long after sending the report that renewed it a node may believe in a session of `ttl`.
    pub const fn session_believed_for(&self, ttl: Duration) -> Duration {
        self.lease.shortened(ttl)
    }

    /// How long a node must not have been heard of before its session is surely over.
    pub const fn session_over_after(&self) -> Duration {
        self.lease.lengthened(self.node.session_ttl)
    }

    /// Checks every relation between the settings.
    ///
    /// # Errors
    /// The first relation that does not hold.
    pub const fn check(&self) -> Result<(), BrokenRelation> {
        if self.lease.drift_ppm >= PPM {
            return Err(BrokenRelation::Drift(self.lease.drift_ppm));
        }
        if self.node.stale_after == 0 {
            return Err(BrokenRelation::Zero(Setting::StaleAfter));
        }
        if self.node.fences_max == 0 {
            return Err(BrokenRelation::Zero(Setting::FencesMax));
        }
        if self.pull.attempts == 0 {
            return Err(BrokenRelation::Zero(Setting::PullAttempts));
        }
        let relations = self.relations();
        let mut next = 0;
        while next < relations.len() {
            let relation = relations[next];
            if !relation.holds() {
                return Err(BrokenRelation::Order(relation));
            }
            next += 1;
        }
        Ok(())
    }

    /// Every relation between durations. The periods come first: what they are compared with afterwards
    /// is easier to understand when they are none that nobody can keep.
    const fn relations(&self) -> [Relation; 18] {
        use Setting::*;
        let silence = Term {
            what: What::Silence,
            value: self.node.stale_silence(),
        };
        [
            self.period(LeaseRetryFrom),
            self.period(SessionRenewEvery),
            self.period(HeartbeatEvery),
            self.period(PullStallAfter),
            self.period(PullRetryAfter),
            self.period(WorkflowRetryFrom),
            self.period(SettleAfter),
            self.period(SweepEvery),
            self.period(CollectAfter),
            // Two renewals, and so one that fails, fit into what is believed.
            self.one(LeaseRetryFrom).is_below(self.one(LeaseRenewEvery)),
            self.twice(LeaseRenewEvery).is_below(self.believed(LeaseTtl)),
            self.twice(SessionRenewEvery).is_below(self.one(SessionTtl)),
            // A session is there to end before the leases that it vouches for.
            self.one(SessionTtl).is_below(self.one(LeaseTtl)),
            // Nobody waits longer for a dead replica's lease than for the workflow it was taken for.
            self.one(LeaseTtl).is_at_most(self.one(Deadline)),
            self.one(HeartbeatEvery).is_below(self.believed(NodeSessionTtl)),
            // A node that is still given actors has a session.
            silence.is_at_most(self.one(NodeSessionTtl)),
            // A pull that stalls is told before the workflow that waits for it is over.
            self.one(PullStallAfter).is_below(self.one(Deadline)),
            self.one(WorkflowRetryFrom).is_at_most(self.one(WorkflowRetryTo)),
        ]
    }

    const fn one(&self, setting: Setting) -> Term {
        Term {
            what: What::One(setting),
            value: setting.duration(self),
        }
    }

    const fn twice(&self, setting: Setting) -> Term {
        Term {
            what: What::Twice(setting),
            value: setting.duration(self).saturating_mul(2),
        }
    }

    const fn believed(&self, setting: Setting) -> Term {
        Term {
            what: What::Believed(setting),
            value: self.lease.shortened(setting.duration(self)),
        }
    }

    const fn period(&self, setting: Setting) -> Relation {
        let shortest = Term {
            what: What::ShortestPeriod,
            value: SHORTEST_PERIOD,
        };
        shortest.is_at_most(self.one(setting))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings::DEFAULT
    }
}

const _: () = assert!(
    matches!(Settings::DEFAULT.check(), Ok(())),
    "the defaults do not hold together"
);

/// A setting that others depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `lease.ttl`
    LeaseTtl,
    /// `lease.renew_every`
    LeaseRenewEvery,
    /// `lease.retry_from`
    LeaseRetryFrom,
    /// `session.ttl`
    SessionTtl,
    /// `session.renew_every`
    SessionRenewEvery,
    /// `node.heartbeat_every`
    HeartbeatEvery,
    /// `node.stale_after`
    StaleAfter,
    /// `node.session_ttl`
    NodeSessionTtl,
    /// `node.fences_max`
    FencesMax,
    /// `pull.stall_after`
    PullStallAfter,
    /// `pull.attempts`
    PullAttempts,
    /// `pull.retry_after`
    PullRetryAfter,
    /// `pull.abandon_grace`
    PullAbandonGrace,
    /// `workflow.deadline`
    Deadline,
    /// `workflow.retry_from`
    WorkflowRetryFrom,
    /// `workflow.retry_to`
    WorkflowRetryTo,
    /// `workflow.settle_after`
    SettleAfter,
    /// `workflow.sweep_every`
    SweepEvery,
    /// `workflow.collect_after`
    CollectAfter,
}

impl Setting {
    /// Where it stands in [`Settings`].
    pub const fn name(self) -> &'static str {
        match self {
            Setting::LeaseTtl => "lease.ttl",
            Setting::LeaseRenewEvery => "lease.renew_every",
            Setting::LeaseRetryFrom => "lease.retry_from",
            Setting::SessionTtl => "session.ttl",
            Setting::SessionRenewEvery => "session.renew_every",
            Setting::HeartbeatEvery => "node.heartbeat_every",
            Setting::StaleAfter => "node.stale_after",
            Setting::FencesMax => "node.fences_max",
            Setting::NodeSessionTtl => "node.session_ttl",
            Setting::PullStallAfter => "pull.stall_after",
            Setting::PullAttempts => "pull.attempts",
            Setting::PullRetryAfter => "pull.retry_after",
            Setting::PullAbandonGrace => "pull.abandon_grace",
            Setting::Deadline => "workflow.deadline",
            Setting::WorkflowRetryFrom => "workflow.retry_from",
            Setting::WorkflowRetryTo => "workflow.retry_to",
            Setting::SettleAfter => "workflow.settle_after",
            Setting::SweepEvery => "workflow.sweep_every",
            Setting::CollectAfter => "workflow.collect_after",
        }
    }

    /// Its value; zero if it is a count.
    pub const fn duration(self, settings: &Settings) -> Duration {
        let Settings {
            lease,
            session,
            node,
            pull,
            workflow,
        } = settings;
        match self {
            Setting::LeaseTtl => lease.ttl,
            Setting::LeaseRenewEvery => lease.renew_every,
            Setting::LeaseRetryFrom => lease.retry_from,
            Setting::SessionTtl => session.ttl,
            Setting::SessionRenewEvery => session.renew_every,
            Setting::HeartbeatEvery => node.heartbeat_every,
            Setting::NodeSessionTtl => node.session_ttl,
            Setting::PullStallAfter => pull.stall_after,
            Setting::PullRetryAfter => pull.retry_after,
            Setting::PullAbandonGrace => pull.abandon_grace,
            Setting::Deadline => workflow.deadline,
            Setting::WorkflowRetryFrom => workflow.retry_from,
            Setting::WorkflowRetryTo => workflow.retry_to,
            Setting::SettleAfter => workflow.settle_after,
            Setting::SweepEvery => workflow.sweep_every,
            Setting::CollectAfter => workflow.collect_after,
            Setting::StaleAfter | Setting::FencesMax | Setting::PullAttempts => Duration::ZERO,
        }
    }

    /// Its value; one if it is a duration.
    pub const fn count(self, settings: &Settings) -> u32 {
        match self {
            Setting::StaleAfter => settings.node.stale_after,
            Setting::FencesMax => settings.node.fences_max,
            Setting::PullAttempts => settings.pull.attempts,
            _ => 1,
        }
    }
}

/// Two durations, of which one must be shorter than the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relation {
    less: Term,
    order: Order,
    more: Term,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Below,
    AtMost,
}

/// One side of a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Term {
    what: What,
    value: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    One(Setting),
    Twice(Setting),
    /// What a lease or a session is worth to its holder.
    Believed(Setting),
    /// How long a node is silent before it is stale.
    Silence,
    ShortestPeriod,
}

impl Term {
    const fn is_below(self, more: Term) -> Relation {
        Relation {
            less: self,
            order: Order::Below,
            more,
        }
    }

    const fn is_at_most(self, more: Term) -> Relation {
        Relation {
            less: self,
            order: Order::AtMost,
            more,
        }
    }

    /// A value that the name tells already is not repeated.
    fn told(self, name: &impl Fn(Setting) -> String, show: &impl Fn(Duration) -> String) -> String {
        let told = match self.what {
            What::One(setting) => name(setting),
            What::Twice(setting) => format!("twice {}", name(setting)),
            What::Believed(setting) => format!("{} less drift and margin", name(setting)),
            What::Silence => format!(
                "{} times {}",
                name(Setting::HeartbeatEvery),
                name(Setting::StaleAfter)
            ),
            What::ShortestPeriod => return show(self.value),
        };
        let value = show(self.value);
        match self.what {
            What::One(_) if told.ends_with(&value) => told,
            _ => format!("{told} ({value})"),
        }
    }
}

impl Relation {
    const fn holds(&self) -> bool {
        let (less, more) = (self.less.value.as_nanos(), self.more.value.as_nanos());
        match self.order {
            Order::Below => less < more,
            Order::AtMost => less <= more,
        }
    }
}

/// A relation between settings that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokenRelation {
    /// One duration must be shorter than another.
    Order(Relation),
    /// The drift bound is a million parts per million or more.
    Drift(u64),
    /// A count that must be at least one is zero.
    Zero(Setting),
}

impl BrokenRelation {
    /// What must hold and does not, in the words of whoever set it: `flag` says by which flag and to what,
    /// if there is one, and `show` how durations are written there.
    pub fn told(
        &self,
        flag: impl Fn(Setting) -> Option<String>,
        show: impl Fn(Duration) -> String,
    ) -> String {
        let name = |setting| match flag(setting) {
            Some(flag) => flag,
            None => format!("{}, which no flag sets,", Setting::name(setting)),
        };
        let relation = match self {
            BrokenRelation::Order(relation) => relation,
            BrokenRelation::Drift(ppm) => {
                return format!("lease.drift_ppm is {ppm}; it must stay below {PPM} (parts per million)");
            }
            BrokenRelation::Zero(setting) => return format!("{} must be at least 1", name(*setting)),
        };
        let (less, more) = (relation.less.told(&name, &show), relation.more.told(&name, &show));
        match (relation.less.what, relation.order) {
            (What::ShortestPeriod, _) => format!("{more} must be {less} or longer"),
            (_, Order::Below) => format!("{less} must be shorter than {more}"),
            (_, Order::AtMost) => format!("{less} must not be longer than {more}"),
        }
    }
}

impl fmt::Display for BrokenRelation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |setting: Setting| Some(setting.name().to_owned());
        f.write_str(&self.told(name, |duration| format!("{duration:?}")))
    }
}

impl core::error::Error for BrokenRelation {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn the_defaults_hold_together() {
        assert_eq!(Settings::DEFAULT.check(), Ok(()));
        assert_eq!(
            Settings::DEFAULT.lease.believed_for(),
            Duration::from_millis(28_700)
        );
        assert_eq!(
            Settings::DEFAULT.with_lease_ttl(Duration::from_secs(30)),
            Settings::DEFAULT
        );
    }

    #[test]
    fn another_lease_keeps_its_proportions() {
        for millis in [150, 250, 1_000, 3_000, 30_000, 300_000] {
            let s = Settings::DEFAULT.with_lease_ttl(Duration::from_millis(millis));
            assert_eq!(s.check(), Ok(()), "{millis}");
        }
    }

    #[test]
    fn a_setting_is_a_number_or_a_duration() {
        let s = Settings::DEFAULT;
        for (setting, count) in [
            (Setting::StaleAfter, s.node.stale_after),
            (Setting::FencesMax, s.node.fences_max),
            (Setting::PullAttempts, s.pull.attempts),
        ] {
            assert_eq!((setting.count(&s), setting.duration(&s)), (count, Duration::ZERO));
        }
        assert_eq!(Setting::LeaseTtl.count(&s), 1);
    }

    /// Breaks one relation.
    type Breaks = fn(&mut Settings);

    #[test]
    fn each_broken_relation_is_named() {
        let cases: [(Breaks, &str); 26] = [
            (
                |s| s.lease.retry_from = Duration::ZERO,
                "lease.retry_from (0ns) must be 10ms or longer",
            ),
            (
                |s| s.session.renew_every = Duration::from_millis(9),
                "session.renew_every (9ms) must be 10ms or longer",
            ),
            (
                |s| s.node.heartbeat_every = Duration::from_nanos(1),
                "node.heartbeat_every (1ns) must be 10ms or longer",
            ),
            (
                |s| s.pull.stall_after = Duration::ZERO,
                "pull.stall_after (0ns) must be 10ms or longer",
            ),
            (
                |s| s.pull.retry_after = Duration::ZERO,
                "pull.retry_after (0ns) must be 10ms or longer",
            ),
            (
                |s| s.workflow.retry_from = Duration::ZERO,
                "workflow.retry_from (0ns) must be 10ms or longer",
            ),
            (
                |s| s.workflow.settle_after = Duration::from_nanos(1),
                "workflow.settle_after (1ns) must be 10ms or longer",
            ),
            (
                |s| s.workflow.sweep_every = Duration::from_nanos(1),
                "workflow.sweep_every (1ns) must be 10ms or longer",
            ),
            (
                |s| s.workflow.collect_after = Duration::ZERO,
                "workflow.collect_after (0ns) must be 10ms or longer",
            ),
            (
                |s| s.lease.retry_from = s.lease.renew_every,
                "lease.retry_from (10s) must be shorter than lease.renew_every (10s)",
            ),
            (
                |s| s.lease.renew_every = Duration::from_secs(20),
                "twice lease.renew_every (40s) must be shorter than lease.ttl less drift and margin (28.7s)",
            ),
            (
                |s| s.lease.margin = Duration::from_secs(31),
                "must be shorter than lease.ttl less drift and margin (0ns)",
            ),
            (
                |s| s.session.renew_every = s.session.ttl / 2,
                "twice session.renew_every (6s) must be shorter than session.ttl (6s)",
            ),
            (
                |s| s.session.ttl = s.lease.ttl,
                "session.ttl (30s) must be shorter than lease.ttl (30s)",
            ),
            (
                |s| s.session.ttl = Duration::MAX,
                "must be shorter than lease.ttl (30s)",
            ),
            (
                |s| *s = s.with_lease_ttl(Duration::from_secs(600)),
                "lease.ttl (600s) must not be longer than workflow.deadline (300s)",
            ),
            (
                |s| s.workflow.deadline = Duration::from_millis(99),
                "must not be longer than workflow.deadline (99ms)",
            ),
            (
                |s| s.node.heartbeat_every = s.node.session_ttl,
                "node.heartbeat_every (90s) must be shorter than node.session_ttl less drift and margin (88.1s)",
            ),
            (
                |s| s.node.heartbeat_every = Duration::from_secs(50),
                "node.heartbeat_every times node.stale_after (150s) must not be longer than node.session_ttl (90s)",
            ),
            (
                |s| s.node.stale_after = u32::MAX,
                "must not be longer than node.session_ttl (90s)",
            ),
            (|s| s.node.stale_after = 0, "node.stale_after must be at least 1"),
            (|s| s.node.fences_max = 0, "node.fences_max must be at least 1"),
            (
                |s| s.pull.stall_after = s.workflow.deadline,
                "pull.stall_after (300s) must be shorter than workflow.deadline (300s)",
            ),
            (|s| s.pull.attempts = 0, "pull.attempts must be at least 1"),
            (
                |s| s.workflow.retry_from = Duration::from_secs(6),
                "workflow.retry_from (6s) must not be longer than workflow.retry_to (5s)",
            ),
            (
                |s| s.lease.drift_ppm = PPM,
                "lease.drift_ppm is 1000000; it must stay below 1000000",
            ),
        ];
        for (breaks, expected) in cases {
            let mut s = Settings::DEFAULT;
            breaks(&mut s);
            let told = s.check().expect_err(expected).to_string();
            assert!(told.contains(expected), "{told:?} is not {expected:?}");
        }
    }

    #[test]
    fn a_relation_is_told_in_the_words_of_whoever_set_it() {
        let mut s = Settings::DEFAULT;
        s.node.heartbeat_every = Duration::from_secs(50);
        let flag = |setting| match setting {
            Setting::HeartbeatEvery => Some("--every 50s".to_owned()),
            Setting::NodeSessionTtl => Some("--ttl 90s".to_owned()),
            _ => None,
        };
        let told = s
            .check()
            .unwrap_err()
            .told(flag, |duration| format!("{}s", duration.as_secs()));
        let expected = "--every 50s times node.stale_after, which no flag sets, (150s) must not be longer than --ttl 90s";
        assert_eq!(told, expected);
    }
}
