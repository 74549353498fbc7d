//! What each command does: ask, then show.

mod actor;
mod create;
mod delete;
mod explain;
mod get;

use std::process::ExitCode;

use crate::cli::{self, Cli, Command, Format, Shell};
use crate::client::Client;
use crate::failure::Failure;
use crate::output;

/// What a command works with.
struct Context {
    client: Client,
    format: Format,
}

/// Does what the command line says.
pub async fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let Cli { options, command } = cli;
    let context = || -> Result<Context, Failure> {
        let security = options.trust.clone().open(&options.endpoint)?;
        Ok(Context {
            client: Client::new(options.endpoint.clone(), security, options.timeout),
            format: options.output,
        })
    };
    let done = match command {
        // Nothing of it is asynchronous, and nothing else is waited for meanwhile.
        Command::Sim(sim) => return crate::sim::run(*sim),
        Command::Bench(bench) => return crate::bench::run(*bench, options).await,
        Command::Dev(dev) => crate::dev::run(*dev).await,
        Command::Worker(worker) => crate::dev::work(worker).await.map_err(Failure::Cluster),
        Command::Create(what) => create::run(what, &context()?).await,
        Command::Get(what) => get::run(what, &context()?).await,
        Command::Resume(resume) => actor::resume(resume, &context()?).await,
        Command::Suspend(actor) => actor::suspend(actor, &context()?).await,
        Command::Pause(actor) => actor::pause(actor, &context()?).await,
        Command::Revert(actor) => actor::revert(actor, &context()?).await,
        Command::Explain(actor) => explain::run(actor, &context()?).await,
        Command::Delete(what) => delete::run(what, &context()?).await,
        Command::Completion { shell } => completion(shell),
    };
    done.map(|()| ExitCode::SUCCESS)
}

fn completion(shell: Shell) -> Result<(), Failure> {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli::command(), "ate", &mut script);
    output::show(&String::from_utf8_lossy(&script))
}
