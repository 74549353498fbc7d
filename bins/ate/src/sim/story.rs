//! `ate sim story`: one plan, as a page for a browser.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use holdfast_runtime::duration;
use holdfast_sim::story::{Page, Window, record_in};

use super::options::OnePlan;
use super::{ended, found};
use crate::failure::Failure;
use crate::output;

#[derive(Args, Debug)]
pub struct Tell {
    #[command(flatten)]
    one: OnePlan,
    /// The file to write the page to
    #[arg(long, value_name = "FILE", default_value = "story.html")]
    out: PathBuf,
    /// From when on, in the time of the run
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration::parse)]
    from: Duration,
    /// Until when [default: its end]
    #[arg(long, value_name = "DURATION", value_parser = duration::positive)]
    to: Option<Duration>,
    /// How many entries at most: the latest
    #[arg(long, value_name = "N", default_value_t = Window::ENTRIES)]
    entries: usize,
}

impl Tell {
    pub fn run(self) -> Result<ExitCode, Failure> {
        let plan = self.one.plan()?;
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let window = Window {
            from: micros(self.from),
            until: self.to.map_or(u64::MAX, micros),
            entries: self.entries,
        };
        let players = &self.one.players;
        let record = record_in(|plan, story| players.world(plan, story), &plan, window);
        if record.entries.is_empty() {
            let end = duration::show(Duration::from_micros(record.end));
            return Err(Failure::Input(anyhow::anyhow!(
                "nothing happens in that part of the run, which ends at {end}; choose another --from and --to"
            )));
        }
        found::write(&self.out, &Page::of(&record)).map_err(Failure::File)?;
        let (entries, path) = (record.entries.len(), self.out.display());
        let how = match &record.violation {
            None => "it holds".to_owned(),
            Some(violation) => violation.to_string(),
        };
        output::show(&format!(
            "{how}\n{entries} entries in {path}: open it in a browser\n"
        ))?;
        Ok(ended(record.violation.is_none()))
    }
}
