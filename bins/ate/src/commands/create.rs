//! `ate create actor|atespace`.

use holdfast_core::catalog::Selector;
use holdfast_rpc::ateapi::{self, ActorRef, CreateActorRequest};

use super::Context;
use crate::cli::{self, Create};
use crate::failure::Failure;
use crate::output;

pub async fn run(what: Create, context: &Context) -> Result<(), Failure> {
    let Context { client, format } = context;
    match what {
        Create::Actor {
            name,
            template,
            atespace,
            labels,
        } => {
            let request = CreateActorRequest {
                actor_ref: Some(ActorRef {
                    atespace: atespace.to_string(),
                    name: name.to_string(),
                }),
                actor_template_namespace: template.namespace,
                actor_template_name: template.name,
                worker_selector: message(&cli::selector(labels)?),
            };
            let actor = client.create_actor(request).await?;
            output::show(&output::actors(vec![actor], *format))
        }
        Create::Atespace { name } => {
            let atespace = client.create_atespace(name.as_str()).await?;
            output::show(&output::atespaces(vec![atespace], *format))
        }
    }
}

/// An empty selector selects everything, and so does none.
fn message(selector: &Selector) -> Option<ateapi::Selector> {
    let labels = selector
        .match_labels
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()));
    (!selector.match_labels.is_empty()).then(|| ateapi::Selector {
        match_labels: labels.collect(),
    })
}
