//! All keys of a pattern, on one server or on all masters of a cluster.
//!
//! `SCAN` shows what is on a server from the beginning of a scan to its end. A key that goes from one server to
//! another meanwhile could be on neither when its turn comes. So it is looked whether slots are on the move,
//! before and after; if any are, all masters are scanned once more, after the last of the first scans has ended: a
//! key that moves at most once was on its first server all through the first scan, or is on its second one all
//! through the second. Where slots have changed hands during the second, there is a third, and so on.

use std::sync::{Mutex, PoisonError};

use ::redis::{RedisError, cmd};
use futures_util::future::try_join_all;

use super::Fault;
use super::deadline::Deadline;
use super::link::Link;
use super::servers::{Servers, first};

/// How often everything is scanned at most, however much moves. One that moves more than once meanwhile may need so
/// many.
const ROUNDS_MAX: u32 = 5;
/// How many keys a server looks at per step.
const STEP: usize = 1000;

/// Whether a walk has seen enough.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Walk {
    On,
    Enough,
}

impl Servers {
    /// Shows every key of a pattern that exists throughout, at least once.
    pub(super) async fn walk(
        &self,
        pattern: &str,
        deadline: Deadline,
        each: impl FnMut(&str) -> Walk + Send,
    ) -> Result<(), Fault> {
        let each = Mutex::new(each);
        if self.topology(deadline).await?.is_none() {
            return scan(self.seed(), pattern, deadline, &each).await.map(drop);
        }
        let mut topology = self.refresh(deadline).await?;
        let mut before = self.accounts(&topology, deadline).await?;
        let mut round = 1;
        loop {
            let mut addresses: Vec<_> = topology
                .masters()
                .iter()
                .map(|master| master.address.clone())
                .collect();
            for other in before.iter().flat_map(|account| account.others(&topology)) {
                if before.iter().any(|account| account.is_moving) && !addresses.contains(&other) {
                    addresses.push(other);
                }
            }
            let scans = addresses.iter().map(async |address| {
                let link = self.node(address);
                scan(&link, pattern, deadline, &each).await
            });
            let ends = try_join_all(scans).await?;
            if ends.contains(&Walk::Enough) || round == ROUNDS_MAX {
                return Ok(());
            }
            let now = self.refresh(deadline).await?;
            let after = self.accounts(&now, deadline).await?;
            let is_same = after == before;
            let is_still = after.iter().all(|account| !account.is_moving);
            if is_same && (is_still || round > 1) {
                return Ok(());
            }
            (topology, before) = (now, after);
            round += 1;
        }
    }
}

/// All of it on one connection: a server that was started anew has another order of its keys.
async fn scan(
    link: &Link,
    pattern: &str,
    deadline: Deadline,
    each: &Mutex<impl FnMut(&str) -> Walk>,
) -> Result<Walk, Fault> {
    let live = link.live(deadline).await?;
    let mut cursor = 0_u64;
    loop {
        let mut step = cmd("SCAN");
        step.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(STEP);
        let replies = link.send_on(&live, deadline, &[step]).await?;
        let [shown] = first(replies).map_err(|error| link.blame(&error))?;
        let (next, keys): (u64, Vec<Vec<u8>>) = ::redis::from_redis_value(shown).map_err(RedisError::from)?;
        for key in keys.iter().filter_map(|key| str::from_utf8(key).ok()) {
            let mut each = each.lock().unwrap_or_else(PoisonError::into_inner);
            if (*each)(key) == Walk::Enough {
                return Ok(Walk::Enough);
            }
        }
        if next == 0 {
            return Ok(Walk::On);
        }
        cursor = next;
    }
}
