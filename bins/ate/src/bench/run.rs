//! `ate bench run`: actors are made, a load is put on the server, and what was made is removed again.

use std::process::ExitCode;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use clap::Args;
use futures_util::StreamExt;
use futures_util::stream;
use holdfast_core::id::Name;
use holdfast_runtime::shutdown::Shutdown;
use holdfast_runtime::terminal::tell;
use holdfast_runtime::{duration, entropy, tokio};
use tonic::Status;

use super::clean::{Rest, remove};
use super::display;
use super::herd::{Herd, Limits, State};
use super::load::{Length, Load, Pace};
use super::mix::{Kind, Mix};
use super::process::Process;
use super::report::{End, Report};
use super::server::Server;
use crate::cli::{self, Format, Options, TemplateRef};
use crate::failure::Failure;
use crate::output;

pub const ATESPACE: &str = "bench";
pub const PREFIX: &str = "bench-";
/// So many calls share a connection.
const CALLS_PER_CONNECTION: usize = 64;
const CONNECTIONS_MAX: usize = 16;
/// How long calls may go on that are under way when it ends.
const LAST_CALLS: Duration = Duration::from_secs(5);
/// Somebody pressed Ctrl-C: 128 and the number of SIGINT.
const INTERRUPTED: u8 = 130;

#[derive(Debug, Args)]
pub struct Run {
    /// What is asked for, with weights: create, delete, resume, resume-running, suspend, pause, get, update,
    /// list-actors, list-workers, list-atespaces
    #[arg(long, value_name = "KIND=WEIGHT,...", default_value = "resume=1,suspend=1")]
    pub mix: Mix,
    /// How many clients call at once; with --rate at most so many [default: 16, with --rate 256]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    clients: Option<u16>,
    /// How many calls are due per second, whatever the server does; without it each client calls again as soon
    /// as it is answered
    #[arg(long, value_name = "PER-SECOND", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// How many connections the clients share [default: one for 64 clients]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    connections: Option<u16>,
    /// How long it is measured
    #[arg(long = "for", value_name = "DURATION", default_value = "10s", value_parser = duration::positive)]
    measured: Duration,
    /// How many calls are measured at most [default: as many as there are]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// How long it goes on before it is measured
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration::parse)]
    pub warm_up: Duration,
    /// The template of the actors
    #[arg(short, long, value_name = "NAMESPACE/NAME", value_parser = cli::template)]
    template: TemplateRef,
    /// How many actors there are [default: two for each client]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    actors: Option<u32>,
    /// How many of them run at once: not more than there are workers [default: as many as clients]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    running: Option<u32>,
    /// The atespace that they are in; made if it is not there, and then removed
    #[arg(short, long, default_value = ATESPACE, value_parser = cli::name)]
    atespace: Name,
    /// What their names begin with
    #[arg(long, default_value = PREFIX, value_parser = prefix)]
    prefix: String,
    /// Leave them there
    #[arg(long)]
    keep: bool,
    /// Use those that an earlier run with --keep has left
    #[arg(long)]
    reuse: bool,
    /// Tell what this process of this machine uses meanwhile; may be given more than once
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    process: Vec<u32>,
}

impl Run {
    pub async fn run(self, options: Options) -> Result<ExitCode, Failure> {
        let shutdown = Shutdown::on_signal().map_err(Failure::Runtime)?;
        let server = Server::new(
            options.endpoint.clone(),
            options.trust.clone().open(&options.endpoint)?,
            self.atespace.as_str(),
            Some(self.template.clone()),
            options.timeout,
        );
        let is_ours = server.create_atespace().await?;
        let rest = if is_ours { Rest::Deleted } else { Rest::Kept };
        let found = server.actors(&self.prefix).await?;
        if !found.is_empty() && !self.reuse {
            // They may be another run's that is under way: nothing is touched.
            return Err(Failure::Input(anyhow::anyhow!(
                "{} actors {}... are in atespace {} already: remove them with ate bench clean, or use them with --reuse",
                found.len(),
                self.prefix,
                self.atespace
            )));
        }
        let measured = match self.prepare(&server, found, &shutdown).await {
            Ok(Some(herd)) => self.measure(&server, herd, &options, &shutdown).await,
            Ok(None) => Ok(None),
            Err(failure) => Err(failure),
        };
        if !self.keep {
            // What cannot be measured is removed all the same, and the first failure is the one to tell.
            let removed = remove(&server, &self.prefix, rest).await;
            if measured.is_ok() {
                removed?;
            }
        }
        if let Some(report) = measured? {
            output::show(&match options.output {
                Format::Table => report.text(),
                Format::Json => output::json(&report),
                Format::Yaml => output::yaml(&report),
            })?;
        }
        Ok(match shutdown.is_triggered() {
            true => ExitCode::from(INTERRUPTED),
            false => ExitCode::SUCCESS,
        })
    }

    /// Makes the actors that are missing; none if it was interrupted.
    async fn prepare(
        &self,
        server: &Server,
        found: Vec<(String, Option<State>)>,
        shutdown: &Shutdown,
    ) -> Result<Option<Herd>, Failure> {
        let actors = self.actors();
        let limits = Limits {
            running: self.running(),
            // Where actors are created, so are they deleted: around as many as there are at the beginning.
            actors: actors.saturating_mul(2),
        };
        let mut herd = Herd::new(&self.prefix, limits);
        for (name, state) in found.into_iter().take(actors) {
            herd.adopt(name, state.unwrap_or(State::Suspended));
        }
        let missing = actors.saturating_sub(herd.len());
        if !self
            .on_all(&mut herd, Kind::Create, missing, server, shutdown)
            .await?
        {
            return Ok(None);
        }
        let asleep = if self.mix.has(Kind::ResumeRunning) {
            self.running().min(actors)
        } else {
            0
        };
        let missing = asleep.saturating_sub(herd.awake());
        let is_whole = self
            .on_all(&mut herd, Kind::Resume, missing, server, shutdown)
            .await?;
        Ok(is_whole.then_some(herd))
    }

    /// Makes `count` calls of `kind`; false if it was interrupted.
    async fn on_all(
        &self,
        herd: &mut Herd,
        kind: Kind,
        count: usize,
        server: &Server,
        shutdown: &Shutdown,
    ) -> Result<bool, Failure> {
        let bar = display::preparation(kind.name(), count);
        let held: Vec<_> = (0..count)
            .filter_map(|_| herd.take(kind, 0))
            .filter(|(taken, _)| *taken == kind)
            .collect();
        let mut calls = stream::iter(held)
            .map(|(kind, held)| async move { (patiently(server, kind, &held.name).await, held) })
            .buffer_unordered(self.clients());
        let mut is_whole = true;
        while let Some((called, held)) = calls.next().await {
            called.map_err(|status| server.failure(status))?;
            herd.put(kind, held, super::herd::Outcome::Done);
            bar.inc(1);
            if shutdown.is_triggered() {
                is_whole = false;
                break;
            }
        }
        bar.finish_and_clear();
        Ok(is_whole)
    }

    async fn measure(
        &self,
        server: &Server,
        herd: Herd,
        options: &Options,
        shutdown: &Shutdown,
    ) -> Result<Option<Report>, Failure> {
        let length = Length {
            warm_up: self.warm_up,
            measured: self.measured,
            count: self.count,
        };
        let load = Arc::new(Load::new(self.mix.clone(), self.pace(), length, herd));
        let servers: Vec<Server> = (0..self.connections()).map(|_| server.another()).collect();
        let seed = entropy::fresh_u64();
        let mut clients = Vec::new();
        for (nth, server) in (0_u64..).zip(servers.iter().cycle().take(self.clients())) {
            clients.push(tokio::spawn(
                load.clone().client(server.clone(), seed.wrapping_add(nth)),
            ));
        }
        let pacer = load.clone();
        let pacer = std::thread::spawn(move || pacer.pace());
        let aborts: Vec<_> = clients
            .iter()
            .map(tokio::task::JoinHandle::abort_handle)
            .collect();
        let mut all = std::pin::pin!(async {
            for client in clients {
                // One that was aborted has nothing more to say.
                let _ = client.await;
            }
        });
        tokio::time::sleep(self.warm_up).await;
        let watched = self.watch()?;
        let mut has_ended = false;
        tokio::select! {
            biased;
            () = &mut all => has_ended = true,
            () = shutdown.triggered() => {}
            () = tokio::time::sleep(self.measured) => {}
            () = display::show(&load) => {}
        }
        let used = watched.iter().filter_map(Process::used).collect();
        let measured = load.elapsed().min(self.measured);
        let overdue = load.overdue();
        load.stop();
        if !has_ended && tokio::time::timeout(LAST_CALLS, &mut all).await.is_err() {
            tell("leaving calls that are not answered");
            aborts.iter().for_each(tokio::task::AbortHandle::abort);
        }
        // It ends when it sees that the load has.
        let _ = pacer.join();
        let tally = load.tally.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let end = End {
            endpoint: options.endpoint.to_string(),
            actors: self.actors(),
            measured,
            is_interrupted: shutdown.is_triggered(),
            overdue,
            used,
        };
        Ok(Some(Report::new(self, &tally, end)))
    }

    fn watch(&self) -> Result<Vec<Process>, Failure> {
        let watch = |id: &u32| {
            Process::watch(*id)
                .map_err(|error| Failure::Input(anyhow::anyhow!("--process {id} cannot be watched: {error}")))
        };
        self.process.iter().map(watch).collect()
    }

    pub fn clients(&self) -> usize {
        let default = if self.rate.is_some() { 256 } else { 16 };
        usize::from(self.clients.unwrap_or(default))
    }

    pub fn connections(&self) -> usize {
        let default = self.clients().div_ceil(CALLS_PER_CONNECTION).min(CONNECTIONS_MAX);
        self.connections.map_or(default, usize::from)
    }

    pub fn pace(&self) -> Pace {
        self.rate
            .map_or(Pace::Closed, |rate| Pace::Every(Duration::from_secs(1) / rate))
    }

    fn actors(&self) -> usize {
        self.actors.map_or(2 * self.clients(), |actors| actors as usize)
    }

    fn running(&self) -> usize {
        self.running.map_or(self.clients(), |running| running as usize)
    }
}

/// Asks again for a while where it is only not now: this is not measured.
async fn patiently(server: &Server, kind: Kind, name: &str) -> Result<(), Status> {
    const TRIES: u32 = 20;
    const PAUSE: Duration = Duration::from_millis(100);
    let mut tries = 0;
    loop {
        let status = match server.call(kind, name).await {
            Ok(()) => return Ok(()),
            Err(status) => status,
        };
        tries += 1;
        let is_for_now = matches!(status.code(), tonic::Code::Aborted | tonic::Code::Unavailable);
        if !is_for_now || tries == TRIES {
            return Err(status);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The beginning of names of actors, with room for a number behind it.
pub fn prefix(text: &str) -> Result<String, String> {
    const LONGEST: usize = 40;
    match cli::name(&format!("{text}0")) {
        Ok(_) if text.is_empty() => {
            Err("must not be empty: it says which actors are the run's own".to_owned())
        }
        Ok(_) if text.len() > LONGEST => Err(format!("must be no more than {LONGEST} characters")),
        Ok(_) => Ok(text.to_owned()),
        Err(rule) => Err(rule),
    }
}
