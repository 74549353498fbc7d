//! When everything has been healed and every actor deleted, nothing may be left.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use holdfast_tests::redis::Reply;
use holdfast_tests::wait;

use crate::host;
use crate::world::{World, lock, walk};

/// What has its own pace: collection, settling, tidying up behind an actor.
const SETTLED_WITHIN: Duration = Duration::from_secs(90);

/// Looks for one kind of thing.
type Look<'a> = dyn Fn() -> Result<Vec<String>> + 'a;

/// What is left behind, if anything.
pub fn leftovers(world: &World) -> Vec<String> {
    let checks: [(&str, &Look<'_>); 5] = [
        ("workers that are not free", &|| workers(world)),
        ("sandboxes", &|| sandboxes(world)),
        ("leases", &|| leases(world)),
        ("snapshots in the object store", &|| world.objects.stored()),
        ("files of actors", &|| files(&world.disk.path)),
    ];
    let mut left = Vec::new();
    for (what, look) in checks {
        let mut last = Vec::new();
        let gone = wait::until(what, SETTLED_WITHIN, || {
            last = look().with_context(|| what.to_owned())?;
            Ok(last.is_empty().then_some(()))
        });
        if let Err(error) = gone {
            left.push(format!("{what}: {error:#}: {last:?}"));
        }
    }
    left
}

fn workers(world: &World) -> Result<Vec<String>> {
    let workers = world.client.workers()?;
    let taken = workers.into_iter().filter(|worker| !worker.actor_id.is_empty());
    Ok(taken
        .map(|worker| format!("{} has {}", worker.worker_pod, worker.actor_id))
        .collect())
}

fn sandboxes(world: &World) -> Result<Vec<String>> {
    let found = host::find(&world.base())?.into_iter();
    Ok(found
        .filter(|found| found.kind != host::Kind::Ateom)
        .map(|found| found.line)
        .collect())
}

fn leases(world: &World) -> Result<Vec<String>> {
    match lock(&world.redis).command(&["KEYS", "lease:*"])? {
        Reply::Array(keys) => Ok(keys.into_iter().map(|key| format!("{key:?}")).collect()),
        other => Ok(vec![format!("{other:?}")]),
    }
}

/// Everything but what says who lived here and in what.
fn files(base: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    walk(&base.join("actors"), &mut files)?;
    files.retain(|file| !file.ends_with("/sandbox-assets.json"));
    Ok(files)
}
