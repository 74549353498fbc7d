//! `ate sim search`: the plan that comes nearest to a bound.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use holdfast_core::bounds::Bound;
use holdfast_sim::search::{SEARCHED, worst};

use super::{Stop, ended, found};
use crate::failure::Failure;
use crate::output;

#[derive(Args, Debug)]
pub struct Search {
    /// The bound, such as failover-unasked; docs/protocol.md says what each of them is
    #[arg(value_name = "BOUND", value_parser = bound)]
    bound: Bound,
    /// Where the search begins
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// How many plans are played
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
    /// The file to write the plan to [default: BOUND.json]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What a bound is called.
pub fn name(bound: Bound) -> String {
    let mut name = String::new();
    for letter in format!("{bound:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

/// The bound of that name, if there are plans to begin with.
pub fn bound(text: &str) -> Result<Bound, String> {
    let found = SEARCHED.into_iter().find(|bound| name(*bound) == text);
    found.ok_or_else(|| {
        let names = SEARCHED.map(name).join(", ");
        format!("no plans are made to come near {text:?}; want one of {names}")
    })
}

impl Search {
    pub fn run(self, stop: &Stop) -> Result<ExitCode, Failure> {
        let name = name(self.bound);
        let Some(worst) = worst(self.bound, self.seed, self.runs, stop) else {
            output::show(&format!(
                "{name}: no plan has put it to the test; try more --runs\n"
            ))?;
            return Ok(ended(true));
        };
        let path = self.out.unwrap_or_else(|| format!("{name}.json").into());
        found::write(&path, &worst.plan.to_json()).map_err(Failure::File)?;
        let mut text = format!(
            "{}: {:.3} of it is seen, in {} runs\n",
            self.bound.what(),
            worst.nearness.thousandths() as f64 / 1e3,
            worst.runs
        );
        if let Some(violation) = &worst.violation {
            text += &format!("{violation}\n");
        }
        output::show(&format!("{text}{}\n", found::replay(&path)))?;
        Ok(ended(worst.violation.is_none()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_that_is_searched_has_a_name() {
        for it in SEARCHED {
            assert_eq!(bound(&name(it)), Ok(it));
        }
        assert_eq!(name(Bound::FailoverUnasked), "failover-unasked");
        let told = bound("stale").unwrap_err();
        assert!(
            told.contains("\"stale\"") && told.contains("lease-believed"),
            "{told}"
        );
    }
}
