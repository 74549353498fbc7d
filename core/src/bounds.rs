//! How long anything takes at most: each bound as a formula over the settings.
//!
//! A formula is data. What the documentation says of it and what a simulation is held to come from the
//! same place, so they cannot differ. The arguments for the bounds are in `docs/protocol.md`.

use crate::settings::{Setting, Settings};
use crate::time::{Duration, fraction};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use Formula::{Believed, Jittered, Of, SurelyOver, Times};

/// Something that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bound {
    /// A lease that is not renewed is believed in.
    LeaseBelieved,
    /// A dead replica's lease is in the way of somebody who asks for it.
    FailoverAsked,
    /// A dead replica's workflow stands still if nobody asks.
    FailoverUnasked,
    /// A lease that nobody releases and whose replica lives is in the way: its answer was lost.
    LeaseLeft,
    /// A workflow, as its caller sees it.
    Verdict,
    /// A Resume that failed stands before it begins to be undone.
    Undone,
    /// A silent node gets new actors.
    Stale,
    /// What runs on a node that hears nothing runs on, from its last answered report.
    Frozen,
    /// The actors of a silent node cannot be run elsewhere, from its last report in the store.
    Elsewhere,
    /// What a silent node was doing stands still if nobody asks, from its last report in the store.
    ElsewhereUnasked,
    /// A pull that moves nothing has not failed.
    PullHung,
    /// A pull that nobody waits for goes on.
    PullAbandoned,
    /// An actor is neither at rest nor serving, after the last fault.
    Settled,
}

/// A duration in terms of settings.
#[derive(Clone, Copy, Debug)]
pub enum Formula {
    /// A setting.
    Of(Setting),
    /// A formula so many times.
    Times(Count, &'static Formula),
    /// The upper end of a jittered pause.
    Jittered(&'static Formula),
    /// What has surely not passed on another clock when this much has passed on one's own.
    Believed(&'static Formula),
    /// What one waits by one's own clock until this much has surely passed on another.
    SurelyOver(&'static Formula),
    /// All of these, one after the other.
    Sum(&'static [Formula]),
    /// Another bound.
    Bound(Bound),
}

/// How often.
#[derive(Clone, Copy, Debug)]
pub enum Count {
    /// So often.
    Exactly(u32),
    /// As often as this setting says.
    Set(Setting),
    /// Once less than this setting says.
    LessOne(Setting),
}

impl Bound {
    /// Every bound, in the order of the documentation.
    pub const ALL: [Bound; 13] = [
        Bound::LeaseBelieved,
        Bound::FailoverAsked,
        Bound::FailoverUnasked,
        Bound::LeaseLeft,
        Bound::Verdict,
        Bound::Undone,
        Bound::Stale,
        Bound::Frozen,
        Bound::Elsewhere,
        Bound::ElsewhereUnasked,
        Bound::PullHung,
        Bound::PullAbandoned,
        Bound::Settled,
    ];

    /// What ends, as a row of a table.
    pub const fn what(self) -> &'static str {
        match self {
            Bound::LeaseBelieved => "belief in a lease without renewal",
            Bound::FailoverAsked => "until a dead replica's lease can be taken by a request",
            Bound::FailoverUnasked => "until a dead replica's workflow is taken up unasked",
            Bound::LeaseLeft => "a lease whose answer was lost, in the way of others",
            Bound::Verdict => "one workflow, as its caller sees it",
            Bound::Undone => "until a failed Resume begins to be undone",
            Bound::Stale => "until a silent node gets no new actors",
            Bound::Frozen => {
                "until what runs on a node that hears nothing is frozen, from when it sent its last answered report"
            }
            Bound::Elsewhere => {
                "until another node may run an actor of a silent one, from its last report in the store"
            }
            Bound::ElsewhereUnasked => {
                "until what a silent node was doing is done or undone without it, unasked, from its last report in the store"
            }
            Bound::PullHung => "a pull that hangs, until it has failed",
            Bound::PullAbandoned => "a pull that nobody wants",
            Bound::Settled => "after the last fault, until every actor is at rest or serves",
        }
    }

    /// How long it takes at most.
    pub const fn formula(self) -> Formula {
        const LEASE: Formula = Of(Setting::LeaseTtl);
        const NODE_SESSION: Formula = Of(Setting::NodeSessionTtl);
        const SWEEP: Formula = Jittered(&Of(Setting::SweepEvery));
        const SETTLE: Formula = Jittered(&Of(Setting::SettleAfter));
        const STALL: Formula = Of(Setting::PullStallAfter);
        const PULL_RETRY: Formula = Jittered(&Of(Setting::PullRetryAfter));
        match self {
            Bound::LeaseBelieved => Believed(&LEASE),
            Bound::FailoverAsked => Of(Setting::SessionTtl),
            Bound::FailoverUnasked => Formula::Sum(&[Of(Setting::SessionTtl), SWEEP]),
            Bound::LeaseLeft => LEASE,
            Bound::Verdict => Of(Setting::Deadline),
            Bound::Undone => SETTLE,
            Bound::Stale => Times(Count::Set(Setting::StaleAfter), &Of(Setting::HeartbeatEvery)),
            Bound::Frozen => Believed(&NODE_SESSION),
            Bound::Elsewhere => SurelyOver(&NODE_SESSION),
            Bound::ElsewhereUnasked => Formula::Sum(&[SurelyOver(&NODE_SESSION), SWEEP]),
            Bound::PullHung => Formula::Sum(&[
                Times(Count::Set(Setting::PullAttempts), &STALL),
                Times(Count::LessOne(Setting::PullAttempts), &PULL_RETRY),
            ]),
            Bound::PullAbandoned => Of(Setting::PullAbandonGrace),
            Bound::Settled => Formula::Sum(&[
                Formula::Bound(Bound::Verdict),
                Formula::Bound(Bound::PullHung),
                Formula::Bound(Bound::LeaseLeft),
                Formula::Bound(Bound::Stale),
                Formula::Bound(Bound::Elsewhere),
                Times(Count::Exactly(3), &SWEEP),
                Times(Count::Exactly(3), &SETTLE),
                Times(Count::Exactly(3), &Jittered(&Of(Setting::WorkflowRetryTo))),
            ]),
        }
    }

    /// How long it takes at most with these settings.
    pub fn of(self, settings: &Settings) -> Duration {
        self.formula().of(settings)
    }
}

impl Formula {
    /// Its value with these settings.
    pub fn of(self, settings: &Settings) -> Duration {
        match self {
            Of(setting) => setting.duration(settings),
            Times(count, formula) => formula.of(settings).saturating_mul(count.of(settings)),
            Jittered(formula) => fraction(formula.of(settings), 5, 4),
            Believed(formula) => settings.lease.shortened(formula.of(settings)),
            SurelyOver(formula) => settings.lease.lengthened(formula.of(settings)),
            Formula::Sum(terms) => terms
                .iter()
                .fold(Duration::ZERO, |sum, term| sum.saturating_add(term.of(settings))),
            Formula::Bound(bound) => bound.of(settings),
        }
    }
}

impl Count {
    fn of(self, settings: &Settings) -> u32 {
        match self {
            Count::Exactly(count) => count,
            Count::Set(setting) => setting.count(settings),
            Count::LessOne(setting) => setting.count(settings).saturating_sub(1),
        }
    }
}

impl fmt::Display for Formula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Of(setting) => f.write_str(setting.name()),
            Times(count, formula) => write!(f, "{count} x {formula}"),
            Jittered(formula) => write!(f, "5/4 x {formula}"),
            Believed(formula) => write!(f, "{formula} x (1 - drift) - lease.margin"),
            SurelyOver(formula) => write!(f, "{formula} x (1 + drift) + lease.margin"),
            Formula::Sum(terms) => {
                let terms: Vec<String> = terms.iter().map(|term| alloc::format!("{term}")).collect();
                f.write_str(&terms.join(" + "))
            }
            Formula::Bound(bound) => write!(f, "({})", bound.formula()),
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Count::Exactly(count) => write!(f, "{count}"),
            Count::Set(setting) => f.write_str(setting.name()),
            Count::LessOne(setting) => write!(f, "({} - 1)", setting.name()),
        }
    }
}

/// The bounds as a table in Markdown, with the values of the defaults.
pub fn markdown() -> String {
    let mut table = String::from("| what | at most | with the defaults |\n|---|---|---|\n");
    for bound in Bound::ALL {
        let value = bound.of(&Settings::DEFAULT);
        table.push_str(&alloc::format!(
            "| {} | `{}` | {:?} |\n",
            bound.what(),
            bound.formula(),
            value
        ));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_bounded_as_the_protocol_says() {
        let millis = Bound::ALL.map(|bound| bound.of(&Settings::DEFAULT).as_millis());
        assert_eq!(
            millis,
            [
                28_700, 6_000, 18_500, 30_000, 300_000, 12_500, 90_000, 88_100, 91_900, 104_400, 92_500,
                60_000, 698_150
            ]
        );
    }

    #[test]
    fn bounds_are_what_the_machines_themselves_go_by() {
        let s = Settings::DEFAULT.with_lease_ttl(Duration::from_secs(7));
        assert_eq!(Bound::LeaseBelieved.of(&s), s.lease.believed_for());
        assert_eq!(Bound::Stale.of(&s), s.node.stale_silence());
        assert_eq!(Bound::Frozen.of(&s), s.session_believed_for(s.node.session_ttl));
        assert_eq!(Bound::Elsewhere.of(&s), s.session_over_after());
    }

    #[test]
    fn no_actor_runs_elsewhere_before_it_is_frozen_on_any_two_clocks_within_the_drift() {
        for drift_ppm in [0, 1, 10_000, 300_000] {
            let mut s = Settings::DEFAULT;
            s.lease.drift_ppm = drift_ppm;
            let (frozen, elsewhere) = (Bound::Frozen.of(&s), Bound::Elsewhere.of(&s));
            // The node's clock runs slow by the whole drift, the replica's is right; and the other way round.
            let slow = fraction(frozen, 1_000_000, 1_000_000 - drift_ppm);
            let fast = fraction(elsewhere, 1_000_000, 1_000_000 + drift_ppm);
            assert!(
                slow < elsewhere && frozen < fast,
                "{drift_ppm}: {slow:?}, {fast:?}"
            );
        }
    }

    #[test]
    fn a_formula_reads_as_it_is_calculated() {
        let told = |bound: Bound| alloc::format!("{}", bound.formula());
        assert_eq!(
            told(Bound::PullHung),
            "pull.attempts x pull.stall_after + (pull.attempts - 1) x 5/4 x pull.retry_after"
        );
        assert_eq!(
            told(Bound::FailoverUnasked),
            "session.ttl + 5/4 x workflow.sweep_every"
        );
        assert_eq!(
            told(Bound::Elsewhere),
            "node.session_ttl x (1 + drift) + lease.margin"
        );
    }
}
