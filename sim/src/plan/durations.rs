//! The settings of a plan: those of the core, as numbers in a document.

use holdfast_core::session::OnLapse;
use holdfast_core::settings::{
    LeaseSettings, NodeSettings, PullSettings, SessionSettings, Settings, WorkflowSettings,
};
use holdfast_core::time::Duration;
use serde::{Deserialize, Serialize};

/// Every setting. Durations are in microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(
    missing_docs,
    reason = "each is what holdfast_core::settings has by that name"
)]
pub struct Durations {
    pub lease_ttl_us: u64,
    pub lease_renew_every_us: u64,
    pub lease_retry_from_us: u64,
    pub drift_ppm: u64,
    pub margin_us: u64,
    pub session_ttl_us: u64,
    pub session_renew_every_us: u64,
    pub heartbeat_every_us: u64,
    pub stale_after: u32,
    pub node_session_ttl_us: u64,
    pub freezes_on_lapse: bool,
    #[serde(default = "all_fences", skip_serializing_if = "are_all_fences")]
    pub fences_max: u32,
    pub pull_stall_after_us: u64,
    pub pull_attempts: u32,
    pub pull_retry_after_us: u64,
    pub pull_abandon_grace_us: u64,
    pub deadline_us: u64,
    pub retry_from_us: u64,
    pub retry_to_us: u64,
    pub settle_after_us: u64,
    pub sweep_every_us: u64,
    pub collect_after_us: u64,
}

impl Durations {
    /// These settings.
    pub fn of(settings: &Settings) -> Durations {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let Settings {
            lease,
            session,
            node,
            pull,
            workflow,
        } = settings;
        Durations {
            lease_ttl_us: micros(lease.ttl),
            lease_renew_every_us: micros(lease.renew_every),
            lease_retry_from_us: micros(lease.retry_from),
            drift_ppm: lease.drift_ppm,
            margin_us: micros(lease.margin),
            session_ttl_us: micros(session.ttl),
            session_renew_every_us: micros(session.renew_every),
            heartbeat_every_us: micros(node.heartbeat_every),
            stale_after: node.stale_after,
            node_session_ttl_us: micros(node.session_ttl),
            fences_max: node.fences_max,
            freezes_on_lapse: node.on_lapse == OnLapse::Freeze,
            pull_stall_after_us: micros(pull.stall_after),
            pull_attempts: pull.attempts,
            pull_retry_after_us: micros(pull.retry_after),
            pull_abandon_grace_us: micros(pull.abandon_grace),
            deadline_us: micros(workflow.deadline),
            retry_from_us: micros(workflow.retry_from),
            retry_to_us: micros(workflow.retry_to),
            settle_after_us: micros(workflow.settle_after),
            sweep_every_us: micros(workflow.sweep_every),
            collect_after_us: micros(workflow.collect_after),
        }
    }

    /// As the machines take them.
    pub fn settings(&self) -> Settings {
        let duration = Duration::from_micros;
        Settings {
            lease: LeaseSettings {
                ttl: duration(self.lease_ttl_us),
                renew_every: duration(self.lease_renew_every_us),
                retry_from: duration(self.lease_retry_from_us),
                drift_ppm: self.drift_ppm,
                margin: duration(self.margin_us),
            },
            session: SessionSettings {
                ttl: duration(self.session_ttl_us),
                renew_every: duration(self.session_renew_every_us),
            },
            node: NodeSettings {
                heartbeat_every: duration(self.heartbeat_every_us),
                stale_after: self.stale_after,
                session_ttl: duration(self.node_session_ttl_us),
                on_lapse: if self.freezes_on_lapse {
                    OnLapse::Freeze
                } else {
                    OnLapse::Keep
                },
                fences_max: self.fences_max,
            },
            pull: PullSettings {
                stall_after: duration(self.pull_stall_after_us),
                attempts: self.pull_attempts,
                retry_after: duration(self.pull_retry_after_us),
                abandon_grace: duration(self.pull_abandon_grace_us),
            },
            workflow: WorkflowSettings {
                deadline: duration(self.deadline_us),
                retry_from: duration(self.retry_from_us),
                retry_to: duration(self.retry_to_us),
                settle_after: duration(self.settle_after_us),
                sweep_every: duration(self.sweep_every_us),
                collect_after: duration(self.collect_after_us),
            },
        }
    }
}

fn all_fences() -> u32 {
    Settings::DEFAULT.node.fences_max
}

// The form that serde calls it in.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn are_all_fences(fences_max: &u32) -> bool {
    *fences_max == all_fences()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_what_they_were() {
        let settings = Settings::DEFAULT.with_lease_ttl(Duration::from_millis(600));
        assert_eq!(Durations::of(&settings).settings(), settings);
    }
}
