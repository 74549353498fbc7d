//! Renewals of leases, many at a time.
//!
//! A replica that holds ten thousand leases renews a thousand of them per second. Each alone is a task, a timer, a
//! write, a read and two threads that are woken. So renewals wait for each other for a moment, which is nothing beside the ten
//! seconds after which they are due and the thirty for which they last, and go to each server together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::redis::RedisError;
use futures_util::future::join_all;
use holdfast_core::effect::StoreError;
use holdfast_runtime::net::Address;
use holdfast_runtime::tokio;
use holdfast_runtime::tokio::sync::oneshot;

use super::Fault;
use super::deadline::Deadline;
use super::link::{Link, Live, Reply};
use super::scripts::{Call, Scripts};
use super::servers::{Question, Servers};
use super::slot::slot;

/// How long renewals wait for others.
const GATHERED_FOR: Duration = Duration::from_millis(20);
/// As many go in one write; more are in several.
const TOGETHER_MAX: usize = 1000;

/// Renewals that wait for others.
#[derive(Default)]
pub(super) struct Renewals {
    waiting: Mutex<Vec<Renewal>>,
}

struct Renewal {
    /// Where the lease is.
    lease: String,
    token: String,
    millis: u64,
    answer: oneshot::Sender<Result<bool, StoreError>>,
}

impl Renewals {
    /// Renews a lease, unless it is not the token's.
    pub(super) async fn renew(
        self: &Arc<Self>,
        servers: &Arc<Servers>,
        scripts: &Arc<Scripts>,
        lease: String,
        token: String,
        millis: u64,
    ) -> Result<bool, StoreError> {
        let (answer, answered) = oneshot::channel();
        let is_first = {
            let mut waiting = self.waiting();
            waiting.push(Renewal {
                lease,
                token,
                millis,
                answer,
            });
            waiting.len() == 1
        };
        if is_first {
            let (renewals, servers, scripts) = (self.clone(), servers.clone(), scripts.clone());
            tokio::spawn(async move {
                tokio::time::sleep(GATHERED_FOR).await;
                let all = std::mem::take(&mut *renewals.waiting());
                renew(&servers, &scripts, all).await;
            });
        }
        let gone = |_| StoreError::Unavailable("nobody is left to renew leases".into());
        answered.await.map_err(gone)?
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Renewal>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Renewal {
    fn call<'a>(&self, scripts: &'a Scripts) -> Call<'a> {
        let call = scripts.renew.call().key(self.lease.clone());
        call.arg(&self.token).arg(self.millis)
    }

    fn tell(self, outcome: Result<bool, StoreError>) {
        // Whoever does not wait any more has lost interest, and nothing else.
        let _ = self.answer.send(outcome);
    }
}

async fn renew(servers: &Servers, scripts: &Scripts, mut all: Vec<Renewal>) {
    let deadline = Deadline::after(servers.timing.operation);
    let topology = match servers.topology(deadline).await {
        Ok(topology) => topology,
        Err(unanswered) => {
            let error = StoreError::from(unanswered);
            return all
                .into_iter()
                .for_each(|renewal| renewal.tell(Err(error.clone())));
        }
    };
    let Some(topology) = topology else {
        while !all.is_empty() {
            let rest = all.split_off(all.len().min(TOGETHER_MAX));
            together(servers, servers.seed(), scripts, deadline, all).await;
            all = rest;
        }
        return;
    };
    let mut by_owner: BTreeMap<Address, Vec<Renewal>> = BTreeMap::new();
    let mut homeless = vec![];
    for renewal in all {
        match topology.owner(slot(renewal.lease.as_bytes())) {
            Some(owner) => by_owner.entry(owner.address.clone()).or_default().push(renewal),
            None => homeless.push(renewal),
        }
    }
    let each = by_owner.into_iter().map(async |(owner, mut all)| {
        let link = servers.node(&owner);
        while !all.is_empty() {
            let rest = all.split_off(all.len().min(TOGETHER_MAX));
            together(servers, &link, scripts, deadline, all).await;
            all = rest;
        }
    });
    join_all(each).await;
    alone(servers, scripts, deadline, homeless).await;
}

/// In one write to one server. What it has against any of them may be different for each: they are asked for alone then.
async fn together(
    servers: &Servers,
    link: &Arc<Link>,
    scripts: &Scripts,
    deadline: Deadline,
    all: Vec<Renewal>,
) {
    let commands = |_: &Live| {
        let calls = all.iter().map(|renewal| renewal.call(scripts));
        calls.map(|call| call.command(false, &[])).collect()
    };
    let replies = match link.send(deadline, commands).await {
        Ok((replies, _)) => replies,
        // Whoever has taken the server's place may be known by now.
        Err(_) if link.is_away() && !std::ptr::eq(Arc::as_ptr(link), Arc::as_ptr(servers.seed())) => vec![],
        Err(unanswered) => {
            let error = StoreError::from(unanswered);
            return all
                .into_iter()
                .for_each(|renewal| renewal.tell(Err(error.clone())));
        }
    };
    let mut replies = replies.into_iter();
    let mut again = vec![];
    for renewal in all {
        match replies.next().map(renewed) {
            Some(Ok(is_owner)) => renewal.tell(Ok(is_owner)),
            Some(Err(_)) | None => again.push(renewal),
        }
    }
    alone(servers, scripts, deadline, again).await;
}

async fn alone(servers: &Servers, scripts: &Scripts, deadline: Deadline, all: Vec<Renewal>) {
    let each = all.into_iter().map(async |renewal| {
        let call = renewal.call(scripts);
        let question = Question {
            key: &renewal.lease,
            is_write: false,
            command: &|target| call.command(target.wants_script, &[]),
        };
        let outcome = match servers.ask(&question, deadline).await {
            Ok(answered) => renewed(Ok(answered.value)).map_err(|error| Fault::Server(error).told()),
            Err(fault) => Err(fault.told()),
        };
        drop(call);
        renewal.tell(outcome);
    });
    join_all(each).await;
}

fn renewed(reply: Reply) -> Result<bool, RedisError> {
    Ok(::redis::from_redis_value(reply?)?)
}
