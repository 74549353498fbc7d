//! Lists that are kept current by a watch.
//!
//! kube's watcher does the protocol: pages, bookmarks, and listing again when the server does not remember as far
//! back as the watch had come. Here a list counts when it is complete, and whatever fails is tried again.

use std::fmt::Debug;
use std::time::Duration;

use futures_util::{StreamExt, pin_mut};
use holdfast_runtime::{entropy, tokio};
use kube::runtime::watcher::{self, Config, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

/// How long one watch is kept, in seconds: it is begun again where it was. A connection that died without a word
/// is noticed a little later than that.
const WATCHED_FOR_SECS: u32 = 30;
/// How soon what failed is tried again for the first time, and at the latest.
const RETRY_FROM: Duration = Duration::from_millis(200);
const RETRY_TO: Duration = Duration::from_secs(10);

/// What has become known of the objects of one kind.
#[derive(Clone, Debug)]
pub enum News<K> {
    /// These are all of them.
    Listed(Vec<K>),
    /// This one is there, or is not what it was.
    There(K),
    /// This one is no more.
    Gone(K),
}

/// Follows all objects of a kind that a selector selects, until nobody `hears` it any more.
pub async fn follow<K>(
    what: &'static str,
    api: Api<K>,
    selector: Option<&str>,
    hear: impl Fn(News<K>) -> bool,
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut config = Config::default().timeout(WATCHED_FOR_SECS);
    if let Some(selector) = selector {
        config = config.labels(selector);
    }
    let events = watcher(api, config);
    pin_mut!(events);
    let mut listed = Vec::new();
    let mut failures = 0_u32;
    while let Some(event) = events.next().await {
        let news = match event {
            Ok(Event::Init) => {
                listed.clear();
                continue;
            }
            Ok(Event::InitApply(object)) => {
                listed.push(object);
                continue;
            }
            Ok(Event::InitDone) => News::Listed(std::mem::take(&mut listed)),
            Ok(Event::Apply(object)) => News::There(object),
            Ok(Event::Delete(object)) => News::Gone(object),
            Err(error) => {
                complain(what, &error, failures);
                tokio::time::sleep(pause(failures, entropy::fresh_u64())).await;
                failures = failures.saturating_add(1);
                continue;
            }
        };
        if failures > 0 {
            tracing::info!(what, "followed again");
            failures = 0;
        }
        if !hear(news) {
            return;
        }
    }
}

/// How long to wait after so many failures in a row: twice as long each time, less up to a half by chance.
fn pause(failures: u32, chance: u64) -> Duration {
    let longest = RETRY_FROM.saturating_mul(1 << failures.min(16)).min(RETRY_TO);
    let share = u32::try_from(chance % 512).unwrap_or_default();
    longest - longest / 1024 * share
}

fn complain(what: &'static str, error: &watcher::Error, failures: u32) {
    let is_forgotten = matches!(error, watcher::Error::WatchError(status) if status.code == 410);
    if is_forgotten {
        tracing::info!(
            what,
            "listed again: the API server does not remember as far back as the watch had come"
        );
    } else if failures == 0 || failures.is_power_of_two() {
        tracing::warn!(what, %error, hint = hint(error), "not followed; what was known stays in force");
    }
}

fn hint(error: &watcher::Error) -> &'static str {
    let cause = match error {
        watcher::Error::InitialListFailed(cause)
        | watcher::Error::WatchStartFailed(cause)
        | watcher::Error::WatchFailed(cause) => cause,
        watcher::Error::WatchError(_) | watcher::Error::NoResourceVersion => return "",
    };
    match cause {
        kube::Error::Api(status) if status.code == 403 => "apply deploy/rbac.yaml",
        kube::Error::Api(status) if status.code == 404 => "apply deploy/crds",
        kube::Error::Api(status) if status.code == 401 => "the API server does not know these credentials",
        kube::Error::Api(_) => "",
        _ => "is the API server reachable?",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_never_longer_than_the_longest() {
        assert_eq!(pause(0, 0), RETRY_FROM);
        assert_eq!(pause(1, 0), 2 * RETRY_FROM);
        assert_eq!(pause(100, 0), RETRY_TO);
        for failures in [0, 3, 100] {
            let (longest, shortest) = (pause(failures, 0), pause(failures, 511));
            assert!(shortest >= longest / 2 && shortest < longest, "{failures}");
        }
    }
}
