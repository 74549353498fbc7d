//! Fetching a snapshot once more before it is called damaged.

use holdfast_core::node::Order;
use holdfast_objects::SnapshotError;

use super::Workshop;
use super::failure::StepError;

/// How often a snapshot is fetched that comes damaged.
const TRIES: u32 = 3;

impl Workshop {
    /// Fetches the order's snapshot. What comes damaged may have been damaged on its way, and to call it corrupt is to
    /// crash the actor and to lead it past what it had acknowledged: it is the snapshot's fault if it comes damaged
    /// each time.
    pub(super) async fn fetch_undamaged(&self, order: &Order) -> Result<(), StepError> {
        repeat(|| self.fetch(order)).await
    }
}

async fn repeat<F>(fetch: impl Fn() -> F) -> Result<(), StepError>
where
    F: Future<Output = Result<(), StepError>>,
{
    let mut tries = 1;
    loop {
        match fetch().await {
            Err(StepError::Snapshot(error @ SnapshotError::Corrupt { .. })) if tries < TRIES => {
                tracing::warn!(%error, tries, "a snapshot came damaged; fetching it again");
                tries += 1;
            }
            fetched => return fetched,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_objects::Manifest;
    use std::cell::Cell;

    fn corrupt() -> StepError {
        StepError::from(SnapshotError::Corrupt {
            at: "s3://b/s/pages.img.zstd".into(),
            cause: Manifest::from_json(b"{").unwrap_err().into(),
        })
    }

    #[tokio::test]
    async fn what_comes_damaged_is_fetched_three_times_and_what_is_not_there_once() {
        for (damaged, is_whole, fetched) in [
            (0, true, 1),
            (1, true, 2),
            (2, true, 3),
            (3, false, 3),
            (9, false, 3),
        ] {
            let calls = Cell::new(0);
            let fetch = async || {
                calls.set(calls.get() + 1);
                match calls.get() > damaged {
                    true => Ok(()),
                    false => Err(corrupt()),
                }
            };
            assert_eq!(repeat(fetch).await.is_ok(), is_whole, "{damaged}");
            assert_eq!(calls.get(), fetched, "{damaged}");
        }
        let calls = Cell::new(0);
        let missing = async || {
            calls.set(calls.get() + 1);
            Err(StepError::from(SnapshotError::NotFound {
                at: "s3://b/s".into(),
            }))
        };
        assert!(repeat(missing).await.is_err());
        assert_eq!(calls.get(), 1);
    }
}
