//! When everything has been healed and every actor deleted, nothing may be left.

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
        ("files of actors", &|| files(world)),
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

/// Everything but what says who lived here and in what. What an actor that lost its sandbox left behind is known to
/// stay until it runs here again (CHANGELOG, Known), and for ever if it is deleted before that.
fn files(world: &World) -> Result<Vec<String>> {
    let log = world.control_log();
    let has_lost = |actor: &str| {
        log.lines()
            .any(|line| line.contains("lost its newest state") && line.ends_with(&format!("/{actor}")))
    };
    let mut files = Vec::new();
    walk(&world.disk.path.join("actors"), &mut files)?;
    files.retain(|file| {
        let home = file.split('/').find_map(|part| Some(part.rsplit_once(':')?.1));
        !file.ends_with("/sandbox-assets.json") && !home.is_some_and(has_lost)
    });
    Ok(files)
}
