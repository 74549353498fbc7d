//! `ate get actors|atespaces|workers`.

use holdfast_core::id::{ActorKey, Name};

use super::Context;
use crate::cli::Get;
use crate::failure::Failure;
use crate::output;

pub async fn run(what: Get, context: &Context) -> Result<(), Failure> {
    let Context { client, format } = context;
    match what {
        Get::Actors {
            name: Some(name),
            atespace: Some(atespace),
            ..
        } => {
            let actor = client.get_actor(&ActorKey::new(atespace, name)).await?;
            output::show(&output::actors(vec![actor], *format))
        }
        Get::Actors { atespace, .. } => {
            let actors = client.list_actors(atespace.as_ref().map(Name::as_str)).await?;
            if let (Some(atespace), []) = (&atespace, &actors[..]) {
                // An atespace without actors and one that does not exist have the same list.
                client.get_atespace(atespace.as_str()).await?;
            }
            output::show(&output::actors(actors, *format))
        }
        Get::Atespaces { name: Some(name) } => {
            let atespace = client.get_atespace(name.as_str()).await?;
            output::show(&output::atespaces(vec![atespace], *format))
        }
        Get::Atespaces { name: None } => {
            output::show(&output::atespaces(client.list_atespaces().await?, *format))
        }
        Get::Workers => output::show(&output::workers(client.list_workers().await?, *format)),
    }
}
