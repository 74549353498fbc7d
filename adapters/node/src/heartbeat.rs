//! Reports to the control plane: to one replica, and to the next when that does not answer.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use holdfast_core::registry::Report;
use holdfast_core::session::{Answered, Grant};
use holdfast_rpc::holdfast_v1::nodes_client::NodesClient;
use holdfast_rpc::holdfast_v1::{PullReport, WorkerReport};
use holdfast_rpc::report;
use holdfast_runtime::net::{Address, Channel, Security, Transport, deadline};

/// How long one replica may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Nobody needs to be asked more often than this, whatever they say.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// Where this node reports.
pub(crate) struct Heartbeat {
    replicas: Vec<Channel>,
    /// The replica that answered last.
    current: AtomicUsize,
    /// How often to report when a replica does not say.
    every: Duration,
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    workers: Vec<WorkerReport>,
    /// Whether the last report was answered; `None` before the first.
    is_heard: Option<bool>,
}

impl Heartbeat {
    pub fn new(replicas: &[Address], security: &Security, every: Duration) -> Self {
        let channel =
            |address: &Address| Channel::secured(address.clone(), Transport::default(), security.clone());
        Self {
            replicas: replicas.iter().map(channel).collect(),
            current: AtomicUsize::new(0),
            every,
            last: Mutex::default(),
        }
    }

    /// The workers of the last report.
    pub fn workers(&self) -> Vec<WorkerReport> {
        self.last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .workers
            .clone()
    }

    /// Takes note of the workers of a report that is about to be sent.
    pub fn note(&self, report: &Report) {
        let workers = report.workers.iter().map(report::worker).collect();
        self.last.lock().unwrap_or_else(PoisonError::into_inner).workers = workers;
    }

    /// Reports to the first replica that answers. Without a control plane to report to there are no
    /// sessions either, and the next report is due after the usual interval.
    pub async fn send(&self, report: &Report, pulls: Vec<PullReport>) -> Result<Answered, String> {
        if self.replicas.is_empty() {
            return Ok(Answered::Granted(Grant {
                ttl: Duration::ZERO,
                heartbeat_every: self.every,
                evict: Vec::new(),
            }));
        }
        let message = report::to_message(report, pulls);
        let first = self.current.load(Ordering::Relaxed);
        let mut failure = String::new();
        for offset in 0..self.replicas.len() {
            let index = (first + offset) % self.replicas.len();
            let replica = &self.replicas[index];
            let mut client = NodesClient::new(replica.clone());
            let answered = deadline(ANSWER_WITHIN, client.heartbeat(message.clone())).await;
            match answered.and_then(|answer| report::answer_from_message(answer.into_inner())) {
                Ok(answer) => {
                    self.current.store(index, Ordering::Relaxed);
                    self.heard(true, &format!("{}", replica.address()));
                    return Ok(self.paced(answer));
                }
                Err(status) => {
                    failure = format!("{}: {}", replica.address(), status.message());
                }
            }
        }
        self.heard(false, &failure);
        Err(failure)
    }

    /// The answer, with an interval that makes sense here.
    fn paced(&self, mut answer: Answered) -> Answered {
        if let Answered::Granted(grant) = &mut answer {
            grant.heartbeat_every = match grant.heartbeat_every {
                Duration::ZERO => self.every,
                every => every.clamp(SHORTEST_INTERVAL, self.every.max(SHORTEST_INTERVAL)),
            };
        }
        answer
    }

    /// One line in the log when it changes, not one with every report.
    fn heard(&self, is_heard: bool, detail: &str) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_heard.replace(is_heard) == Some(is_heard) {
            return;
        }
        if is_heard {
            tracing::info!(replica = detail, "reporting to the control plane");
        } else {
            tracing::warn!(error = detail, "no control plane answers reports; trying on");
        }
    }
}
