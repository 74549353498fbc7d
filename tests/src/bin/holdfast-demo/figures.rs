//! What was measured, and how it compares with the commands that cannot be avoided.

use std::time::Duration;

use anyhow::Result;

use crate::bare;
use crate::cluster::{Cluster, Kind};
use crate::say;

#[derive(Default)]
pub struct Figures {
    pub create: Vec<Duration>,
    pub boot: Vec<Duration>,
    pub resume: Vec<Duration>,
    pub suspend: Vec<Duration>,
    /// The same with nothing else going on, as the bare commands are measured.
    pub resume_alone: Vec<Duration>,
    pub suspend_alone: Vec<Duration>,
    bare: Option<bare::Bare>,
}

impl Figures {
    /// Runs the bare `runsc` commands of a resume and a suspend, on the same machine in the same minute.
    pub fn measure_bare(&mut self, cluster: &Cluster) -> Result<()> {
        if cluster.sandbox == Kind::Gvisor {
            self.bare = Some(bare::measure(cluster)?);
        }
        Ok(())
    }

    pub fn print(&mut self, elapsed: Duration) {
        say::title("What was measured");
        for (what, times) in [
            ("create", &mut self.create),
            ("first resume (boot)", &mut self.boot),
            ("resume", &mut self.resume),
            ("suspend", &mut self.suspend),
            ("resume, alone", &mut self.resume_alone),
            ("suspend, alone", &mut self.suspend_alone),
        ] {
            if !times.is_empty() {
                times.sort_unstable();
                say::note(&format!(
                    "{what:<20} p50 {:>7.1} ms   p99 {:>7.1} ms   of {}",
                    ms(percentile(times, 50)),
                    ms(percentile(times, 99)),
                    times.len()
                ));
            }
        }
        if let Some(bare) = &self.bare {
            for (what, ours, theirs) in [
                ("resume", percentile(&self.resume_alone, 50), bare.restore),
                ("suspend", percentile(&self.suspend_alone, 50), bare.checkpoint),
            ] {
                let over = (ms(ours) / ms(theirs) - 1.0) * 100.0;
                say::note(&format!(
                    "{what:<20} beside the bare runsc commands: {:.1} ms against {:.1} ms ({over:+.0} %)",
                    ms(ours),
                    ms(theirs)
                ));
            }
        }
        say::note(&format!("the whole demo took {:.0} s", elapsed.as_secs_f64()));
    }
}

pub fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or_default()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
