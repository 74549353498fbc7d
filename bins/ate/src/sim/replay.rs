//! `ate sim plan` and `ate sim replay`: one plan, as it is and as it goes.

use std::process::ExitCode;

use clap::Args;
use holdfast_sim::world::Story;

use super::ended;
use super::options::OnePlan;
use super::report::verdicts;
use crate::failure::Failure;
use crate::output;

#[derive(Args, Debug)]
pub struct Print {
    #[command(flatten)]
    one: OnePlan,
}

impl Print {
    pub fn run(self) -> Result<ExitCode, Failure> {
        output::show(&self.one.plan()?.to_json())?;
        Ok(ended(true))
    }
}

#[derive(Args, Debug)]
pub struct Replay {
    #[command(flatten)]
    one: OnePlan,
    /// How many lines of its story are told, counted from its end
    #[arg(long, value_name = "N", default_value_t = 80)]
    lines: usize,
}

impl Replay {
    pub fn run(self) -> Result<ExitCode, Failure> {
        let plan = self.one.plan()?;
        let outcome = self.one.players.world(plan, Story::Kept).run();
        let story = &outcome.timeline;
        let mut text = String::new();
        for line in story.iter().skip(story.len().saturating_sub(self.lines)) {
            text.push_str(line);
            text.push('\n');
        }
        text += &format!(
            "{} events in {:.1} s of its time, as {:016x}; verdicts: {}\n",
            outcome.events,
            outcome.micros as f64 / 1e6,
            outcome.digest,
            verdicts(&outcome.verdicts)
        );
        match (&outcome.violation, &outcome.known) {
            (Some(violation), _) => text += &format!("{violation}\n"),
            (None, Some(known)) => {
                text += &format!("it holds, but for what is known and not mended yet: {known}\n")
            }
            (None, None) => text += "it holds\n",
        }
        output::show(&text)?;
        Ok(ended(outcome.violation.is_none()))
    }
}
