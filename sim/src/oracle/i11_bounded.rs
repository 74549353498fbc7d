//! I11: what machines do is bounded.
//!
//! Formally: one input makes a machine do no more than so many things for everything that there is in the world;
//! and two renewals of one lease are at least three quarters of the first retry pause apart, as its holder
//! counts time, unless its process was not scheduled between deciding and sending. So if the store does not answer for *B*, a lease asks it for no more than 1 + *B* / (3/4
//! `lease.retry_from`) renewals.

use super::{Oracle, moment};
use crate::clock::Clock;
use crate::fact::Fact;
use holdfast_core::id::LeaseToken;
use holdfast_core::settings::Settings;
use std::collections::BTreeMap;

/// How much one input may set going for each thing that there is.
const PER_THING: usize = 8;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Bounded {
    outputs_max: usize,
    gap_min: u64,
    renewed: BTreeMap<LeaseToken, u64>,
    /// When the last that slept wakes: what it sends then was decided before.
    wakes: u64,
}

impl Bounded {
    /// For worlds with so many things in them, and these settings and clocks.
    pub fn new(things: usize, settings: &Settings, clocks: &[Clock]) -> Bounded {
        let gap = settings.lease.retry_from.as_micros() as u64 * 3 / 4;
        let fastest = clocks
            .iter()
            .map(|clock| clock.gain_ppm)
            .max()
            .unwrap_or_default();
        let pace = u64::try_from(1_000_000 + fastest.max(0)).unwrap_or(u64::MAX);
        Bounded {
            outputs_max: PER_THING * (things + 2),
            gap_min: gap * 1_000_000 / pace,
            ..Bounded::default()
        }
    }
}

impl Oracle for Bounded {
    fn see(&mut self, now: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Did { who, outputs } if *outputs > self.outputs_max => Err(format!(
                "{who} did {outputs} things at once, which may be {}",
                self.outputs_max
            )),
            Fact::Slept { until, .. } => {
                self.wakes = self.wakes.max(*until);
                Ok(())
            }
            Fact::Renews(token) => match self.renewed.insert(*token, now) {
                Some(last) if now < last + self.gap_min && last > self.wakes => Err(format!(
                    "lease {token} was renewed at {} and again after {}, which may be {} at least",
                    moment(last),
                    moment(now - last),
                    moment(self.gap_min)
                )),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::id::ReplicaId;

    fn oracle() -> Bounded {
        Bounded::new(10, &Settings::DEFAULT, &[Clock::TRUE])
    }

    #[test]
    fn renewals_that_come_too_fast_are_seen() {
        let renews = Fact::Renews(LeaseToken {
            replica: ReplicaId(1),
            seq: 1,
        });
        let mut oracle = oracle();
        assert_eq!(oracle.see(10_000_000, &renews), Ok(()));
        assert_eq!(oracle.see(12_250_000, &renews), Ok(()));
        let what = oracle.see(14_000_000, &renews).unwrap_err();
        assert!(
            what.contains("again after 1.750000s, which may be 2.250000s"),
            "{what}"
        );
    }

    #[test]
    fn an_avalanche_is_seen() {
        let did = |outputs| Fact::Did {
            who: "replica 0",
            outputs,
        };
        assert_eq!(oracle().see(0, &did(96)), Ok(()));
        assert!(oracle().see(0, &did(97)).is_err());
    }
}
