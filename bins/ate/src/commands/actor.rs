//! `ate resume|suspend|pause|revert`: one actor, and what it then is.

use holdfast_rpc::ateapi::Actor;

use super::Context;
use crate::cli::{OneActor, Resume};
use crate::failure::Failure;
use crate::output;

pub async fn resume(resume: Resume, context: &Context) -> Result<(), Failure> {
    show(
        context
            .client
            .resume_actor(&resume.actor.key()?, resume.boot)
            .await?,
        context,
    )
}

pub async fn suspend(actor: OneActor, context: &Context) -> Result<(), Failure> {
    show(context.client.suspend_actor(&actor.key()?).await?, context)
}

pub async fn pause(actor: OneActor, context: &Context) -> Result<(), Failure> {
    show(context.client.pause_actor(&actor.key()?).await?, context)
}

pub async fn revert(actor: OneActor, context: &Context) -> Result<(), Failure> {
    show(context.client.revert_actor(&actor.key()?).await?, context)
}

fn show(actor: Actor, context: &Context) -> Result<(), Failure> {
    output::show(&output::actors(vec![actor], context.format))
}
