//! What a run has made, removed again, whatever has become of it.

use std::time::Duration;

use clap::Args;
use futures_util::StreamExt;
use futures_util::stream;
use holdfast_core::id::Name;
use holdfast_runtime::terminal::tell;
use holdfast_runtime::tokio;
use tonic::{Code, Status};

use super::herd::State;
use super::mix::Kind;
use super::run::{ATESPACE, PREFIX, prefix};
use super::server::Server;
use crate::cli::{self, Options};
use crate::failure::Failure;

/// Actors that are removed at once.
const AT_ONCE: usize = 64;
/// How often, and how long apart, an actor is tried that is not to be had yet.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(250);

/// Remove the actors that an earlier run has left
#[derive(Debug, Args)]
pub struct Clean {
    /// The atespace that they are in
    #[arg(short, long, default_value = ATESPACE, value_parser = cli::name)]
    atespace: Name,
    /// What their names begin with; others are let alone
    #[arg(long, default_value = PREFIX, value_parser = prefix)]
    prefix: String,
}

impl Clean {
    pub async fn run(self, options: Options) -> Result<(), Failure> {
        let security = options.trust.open(&options.endpoint)?;
        let atespace = self.atespace.as_str();
        let server = Server::new(options.endpoint, security, atespace, None, options.timeout);
        let removed = remove(&server, &self.prefix, Rest::Deleted).await?;
        tell(format_args!("removed {removed} actors"));
        Ok(())
    }
}

/// What becomes of an atespace that has no actors any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    Deleted,
    Kept,
}

/// Deletes the actors whose names begin with `prefix`, and says how many there were.
pub async fn remove(server: &Server, prefix: &str, rest: Rest) -> Result<usize, Failure> {
    let actors = server.actors(prefix).await?;
    let count = actors.len();
    let mut removals = stream::iter(actors)
        .map(|(name, state)| async move { (end(server, &name, state).await, name) })
        .buffer_unordered(AT_ONCE);
    let mut left = Vec::new();
    while let Some((ended, name)) = removals.next().await {
        if let Err(status) = ended {
            left.push((name, status));
        }
    }
    if let Some((name, status)) = left.first() {
        return Err(Failure::File(anyhow::anyhow!(
            "{} of {count} actors could not be removed; the first, {name}: {}. Try again with: ate bench clean",
            left.len(),
            status.message()
        )));
    }
    if rest == Rest::Deleted {
        server.delete_atespace().await?;
    }
    Ok(count)
}

/// Suspends an actor unless it sleeps, and deletes it.
async fn end(server: &Server, name: &str, state: Option<State>) -> Result<(), Status> {
    let mut is_suspended = state == Some(State::Suspended);
    let mut tries = 0;
    loop {
        // The original suspends no paused actor; a resumed one is suspended everywhere.
        if state == Some(State::Paused) && tries == 0 {
            let _ = server.call(Kind::Resume, name).await;
        }
        if !is_suspended {
            // A crashed actor cannot be suspended, and need not be.
            let _ = server.call(Kind::Suspend, name).await;
        }
        let refusal = match server.call(Kind::Delete, name).await {
            Ok(()) => return Ok(()),
            Err(status) if status.code() == Code::NotFound => return Ok(()),
            Err(status) => status,
        };
        is_suspended = false;
        tries += 1;
        if tries == TRIES {
            return Err(refusal);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
