//! `ate delete`.

use super::Context;
use crate::cli::{Delete, Deletion};
use crate::failure::Failure;
use crate::output;

pub async fn run(what: Delete, context: &Context) -> Result<(), Failure> {
    match what.target()? {
        Deletion::Actor(key) => {
            context.client.delete_actor(&key).await?;
            output::show(&format!("actor \"{}\" deleted\n", key.name))
        }
        Deletion::Atespace(name) => {
            context.client.delete_atespace(name.as_str()).await?;
            output::show(&format!("atespace \"{name}\" deleted\n"))
        }
    }
}
