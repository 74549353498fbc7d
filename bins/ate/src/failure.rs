//! Why a command did not do what it was asked, and what to do next.

use std::io::{self, Write};
use std::time::Duration;

use clap::builder::styling::{AnsiColor, Style};
use holdfast_core::id::ActorKey;
use holdfast_rpc::status::{Reason, reasons};
use holdfast_runtime::net::Address;
use holdfast_runtime::{causes, duration};
use tonic::{Code, Status};

use crate::cli::UsageError;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const HINT: Style = AnsiColor::Green.on_default().bold();

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The arguments do not fit together.
    #[error("the arguments do not fit together")]
    Usage(UsageError),
    /// Nobody listens where the control plane should be.
    #[error("{0}")]
    NoServer(String),
    /// The control plane said no, or was lost.
    #[error("{} ({:?})", said(.status), .status.code())]
    Verdict {
        /// What it said.
        status: Status,
        /// The actor it was about.
        actor: Option<ActorKey>,
    },
    /// There was no verdict in time.
    #[error("no answer from {address} within {}", duration::show(*.timeout))]
    TimedOut {
        /// Who was asked.
        address: Address,
        /// How long was waited.
        timeout: Duration,
        /// The actor it was about.
        actor: Option<ActorKey>,
    },
    /// The answer is not one.
    #[error("{address} answered with {what}; is it an ateapi of a version that this ate knows?")]
    Misfit {
        /// Who was asked.
        address: Address,
        /// What is wrong with the answer.
        what: &'static str,
    },
    /// The result could not be shown.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
    /// What was found could not be kept.
    #[error("{}", causes::told(.0.as_ref()))]
    File(anyhow::Error),
    /// What was given to a cluster, or to the simulator, makes no sense: settings, manifests, plans.
    #[error("{}", causes::told(.0.as_ref()))]
    Input(anyhow::Error),
    /// The cluster, or a worker of it, could not run.
    #[error("{}", causes::told(.0.as_ref()))]
    Cluster(anyhow::Error),
    /// The process could not be set up.
    #[error("cannot start the async runtime: {0}")]
    Runtime(io::Error),
}

impl From<UsageError> for Failure {
    fn from(error: UsageError) -> Failure {
        Failure::Usage(error)
    }
}

impl Failure {
    /// What `status` means, said by `address` about `actor`.
    pub fn from_status(status: Status, address: &Address, actor: Option<&ActorKey>) -> Failure {
        let is_unreached = status.code() == Code::Unavailable
            && status
                .message()
                .starts_with(&format!("cannot connect to {address}"));
        if is_unreached {
            Failure::NoServer(status.message().to_owned())
        } else {
            Failure::Verdict {
                status,
                actor: actor.cloned(),
            }
        }
    }

    /// Writes it to standard error, with what to do next on a line of its own.
    pub fn tell(&self) {
        let mut stderr = anstream::stderr().lock();
        // Where nobody reads it, the exit code must do.
        let _ = writeln!(stderr, "{ERROR}error:{ERROR:#} {self}");
        if let Some(hint) = self.hint() {
            let _ = writeln!(stderr, "{HINT}hint:{HINT:#} {hint}");
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Failure::NoServer(_) => Some("is ateapi running? start one with: ate dev".to_owned()),
            Failure::Verdict {
                status,
                actor: Some(actor),
            } if reasons(status).contains(&Reason::CrashActor) => Some(format!(
                "bring it back to its last good snapshot with: ate revert actor {} --atespace {}",
                actor.name, actor.atespace
            )),
            Failure::TimedOut {
                actor: Some(actor), ..
            } => Some(format!(
                "what was begun goes on; see how it ends with: ate get actor {} --atespace {}",
                actor.name, actor.atespace
            )),
            _ => None,
        }
    }
}

/// The message of a status; its code in words when it has none.
fn said(status: &Status) -> &str {
    match status.message() {
        "" => status.code().description(),
        message => message,
    }
}
