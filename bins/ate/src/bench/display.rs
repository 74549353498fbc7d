//! How far a run is, on a terminal; nothing where there is none.

use std::time::Duration;

use holdfast_runtime::tokio;
use indicatif::{ProgressBar, ProgressStyle};

use super::load::Load;

/// How often it is told.
const EVERY: Duration = Duration::from_millis(250);

/// What is being done to so many actors.
pub fn preparation(what: &'static str, actors: usize) -> ProgressBar {
    bar(
        "{msg} {bar:30} {human_pos}/{human_len} actors, {eta} left",
        actors as u64,
    )
    .with_message(what)
}

/// Shows a load until it is dropped.
pub async fn show(load: &Load) {
    let length = load.length;
    let whole = length.warm_up + length.measured;
    let bar = bar(
        "{bar:30} {msg}",
        u64::try_from(whole.as_millis()).unwrap_or(u64::MAX),
    );
    let _cleared = Cleared(bar.clone());
    let mut before = (0, Duration::ZERO);
    loop {
        let measured = load.elapsed();
        let told = {
            let tally = load
                .tally
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            let total = &tally.total;
            let since = measured.saturating_sub(before.1).as_secs_f64().max(1e-3);
            let rate = total.count.saturating_sub(before.0) as f64 / since;
            before = (total.count, measured);
            match total.count {
                0 => "warming up".to_owned(),
                _ => format!(
                    "{rate:.0} calls/s, p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms, {} failed",
                    total.latency.quantile(0.5) as f64 / 1e3,
                    total.latency.quantile(0.99) as f64 / 1e3,
                    total.latency.max() as f64 / 1e3,
                    total.failed()
                ),
            }
        };
        bar.set_position(u64::try_from((length.warm_up + measured).as_millis()).unwrap_or(u64::MAX));
        bar.set_message(told);
        tokio::time::sleep(EVERY).await;
    }
}

/// Leaves the terminal as it was.
struct Cleared(ProgressBar);

impl Drop for Cleared {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// It draws on standard error, and only on a terminal.
fn bar(template: &str, length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(template)
        .expect("the template is right")
        .progress_chars("=> ");
    ProgressBar::new(length).with_style(style)
}
