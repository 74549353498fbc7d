//! gVisor through its command line tool.

mod command;
mod flags;
mod sandbox;

pub use command::RunscError;
pub use flags::{Feature, Runtime};
pub(crate) use sandbox::{Gvisor, GvisorSandbox, sweep};
