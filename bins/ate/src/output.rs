//! What is shown on standard output, in kubectl-ate's order and columns.

use std::io::{self, Write};

use clap::builder::styling::{AnsiColor, Style};
use holdfast_rpc::ateapi::actor::Status;
use holdfast_rpc::ateapi::{Actor, Atespace, Worker};
use holdfast_rpc::holdfast_v1::ExplainActorResponse;
use serde::Serialize;

use crate::cli::Format;
use crate::failure::Failure;
use crate::protojson;
use crate::table::{self, Cell};

const NONE: &str = "<none>";

/// What an actor's record says, a line each; what has nothing to tell is left out.
pub fn explained(explained: &ExplainActorResponse, format: Format) -> String {
    let actor = explained.actor.clone().unwrap_or_default();
    let state =
        Status::try_from(actor.status).map_or(actor.status.to_string(), |s| s.as_str_name().to_owned());
    let pod = match actor.ateom_pod_name.as_str() {
        "" => String::new(),
        pod => format!("{}/{pod}", actor.ateom_pod_namespace),
    };
    let fence = if explained.fence > 0 {
        explained.fence.to_string()
    } else {
        String::new()
    };
    let lines = [
        ("actor", format!("{}/{}", actor.atespace, actor.actor_id)),
        ("status", state),
        ("worker", pod),
        ("node", explained.node_name.clone()),
        ("operation", explained.operation_id.clone()),
        ("claimed by replica", explained.claimed_by.clone()),
        ("fence", fence),
        ("crashed during", explained.crashed_during.clone()),
        ("crash cause", explained.crash_cause.clone()),
        ("lost", explained.loss.clone()),
        ("last good snapshot", explained.last_good_snapshot.clone()),
    ];
    let line = |(name, value): &(&str, String)| format!("{name:<20}{value}\n");
    match format {
        Format::Table => lines
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(line)
            .collect(),
        Format::Json => json(&protojson::explained(explained)),
        Format::Yaml => yaml(&protojson::explained(explained)),
    }
}

/// Actors, ordered by atespace, template and name.
pub fn actors(mut actors: Vec<Actor>, format: Format) -> String {
    let order = |actor: &Actor| {
        [
            &actor.atespace,
            &actor.actor_template_namespace,
            &actor.actor_template_name,
            &actor.actor_id,
        ]
        .map(String::clone)
    };
    actors.sort_by_cached_key(order);
    let row = |actor: &Actor| {
        let pod = match actor.ateom_pod_namespace.as_str() {
            "" => NONE.to_owned(),
            namespace => format!("{namespace}/{}", actor.ateom_pod_name),
        };
        [
            actor.atespace.as_str().into(),
            actor.actor_template_namespace.as_str().into(),
            actor.actor_template_name.as_str().into(),
            actor.actor_id.as_str().into(),
            status(actor.status),
            pod.into(),
            actor.ateom_pod_ip.as_str().into(),
            actor.version.to_string().into(),
        ]
    };
    let header = [
        "ATESPACE",
        "TEMPLATE NS",
        "TEMPLATE",
        "ID",
        "STATUS",
        "ATEOM POD",
        "ATEOM IP",
        "VERSION",
    ];
    match format {
        Format::Table => table::render(header, actors.iter().map(row).collect()),
        Format::Json => json(&protojson::actors(&actors)),
        Format::Yaml => yaml(&protojson::actors(&actors)),
    }
}

/// Workers, ordered by namespace, pool and pod.
pub fn workers(mut workers: Vec<Worker>, format: Format) -> String {
    workers.sort_by_cached_key(|worker| {
        [&worker.worker_namespace, &worker.worker_pool, &worker.worker_pod].map(String::clone)
    });
    let row = |worker: &Worker| {
        let (status, actor) = match worker.actor_id.as_str() {
            "" => (Cell::from("FREE"), NONE.to_owned()),
            id => {
                let actor = format!("{}/{}/{id}", worker.actor_namespace, worker.actor_template);
                (Cell::styled("ASSIGNED", AnsiColor::Green.on_default()), actor)
            }
        };
        let [namespace, pool, pod] = [&worker.worker_namespace, &worker.worker_pool, &worker.worker_pod]
            .map(|text| Cell::from(text.as_str()));
        [namespace, pool, pod, status, actor.into()]
    };
    let header = ["NAMESPACE", "POOL", "POD", "STATUS", "ASSIGNED ACTOR"];
    match format {
        Format::Table => table::render(header, workers.iter().map(row).collect()),
        Format::Json => json(&protojson::workers(&workers)),
        Format::Yaml => yaml(&protojson::workers(&workers)),
    }
}

/// Atespaces, ordered by name.
pub fn atespaces(mut atespaces: Vec<Atespace>, format: Format) -> String {
    atespaces.sort_by(|a, b| a.name.cmp(&b.name));
    let row = |atespace: &Atespace| [atespace.name.as_str().into()];
    match format {
        Format::Table => table::render(["NAME"], atespaces.iter().map(row).collect()),
        Format::Json => json(&protojson::atespaces(&atespaces)),
        Format::Yaml => yaml(&protojson::atespaces(&atespaces)),
    }
}

/// Writes `text` to standard output, without its colours unless that is a terminal and NO_COLOR is unset.
/// A reader who has seen enough and closes the pipe is no failure.
pub fn show(text: &str) -> Result<(), Failure> {
    let mut stdout = anstream::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Output(error)),
        _ => Ok(()),
    }
}

fn status(number: i32) -> Cell {
    let Ok(status) = Status::try_from(number) else {
        return number.to_string().into();
    };
    let style = match status {
        Status::Running => AnsiColor::Green.on_default(),
        Status::Resuming | Status::Suspending | Status::Pausing => AnsiColor::Yellow.on_default(),
        Status::Crashed => AnsiColor::Red.on_default(),
        Status::Unspecified | Status::Suspended | Status::Paused => Style::new(),
    };
    Cell::styled(status.as_str_name(), style)
}

/// Texts, numbers, lists and maps with texts for keys can always be written.
const WRITABLE: &str = "JSON and YAML have a form for each of our values";

pub fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect(WRITABLE) + "\n"
}

pub fn yaml(value: &impl Serialize) -> String {
    serde_saphyr::to_string_with_options(value, serde_saphyr::ser_options! { prefer_block_scalars: false })
        .expect(WRITABLE)
}

#[cfg(test)]
mod tests;
