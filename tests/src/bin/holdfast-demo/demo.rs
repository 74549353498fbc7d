//! The scenes of the demo.

use anyhow::{Result, bail};

use crate::Args;

pub fn run(args: &Args) -> Result<()> {
    bail!("the demo has no scenes yet, so nothing was shown of {args:?}")
}
