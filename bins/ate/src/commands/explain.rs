//! `ate explain`: why an actor is where it is.

use super::Context;
use crate::cli::OneActor;
use crate::failure::Failure;
use crate::output;

pub async fn run(actor: OneActor, context: &Context) -> Result<(), Failure> {
    let explained = context.client.explain_actor(&actor.key()?).await?;
    output::show(&output::explained(&explained, context.format))
}
