//! Statuses that say more than a code: why a call failed and when to try again.
//!
//! They travel as `google.rpc` details. The original attaches one, [`Reason::CrashActor`]; ours carry a
//! domain of their own, so that the original's components never mistake them for theirs.

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_core::effect::Fenced;
use holdfast_core::id::Fence;
use prost::Message;
use tonic::{Code, Status};

/// The domain of the original's reasons.
pub const SUBSTRATE_DOMAIN: &str = "substrate.dev";
/// The domain of our own reasons.
pub const HOLDFAST_DOMAIN: &str = "holdfast.dev";

/// Headers are bounded (16 KiB at many peers), and a status carries its message twice.
const MAX_MESSAGE_BYTES: usize = 2048;
const MAX_DETAILS_BYTES: usize = 6144;

/// Why a call failed, for programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The actor's state cannot be carried forward (design section 7).
    CrashActor,
    /// The receiver has seen a higher fence than the one it was sent.
    StaleFence {
        /// Whose fence it was.
        of: Fenced,
        /// The highest that the receiver has seen.
        highest: Fence,
    },
    /// Another operation of this actor or on this worker is under way.
    Busy,
    /// The session of the node under which something was ordered has been declared over.
    SessionOver,
    /// A checkpoint has not begun, and is refused from now on.
    NotBegun,
    /// The worker hosts another actor.
    Occupied,
    /// The sandbox that was asked for is gone.
    SandboxGone,
    /// The operation ended, and failed, and nothing is lost: not a matter of the connection.
    OperationFailed,
}

const CRASH_ACTOR: &str = "CRASH_ACTOR";
const STALE_FENCE: &str = "STALE_FENCE";
const BUSY: &str = "BUSY";
const SESSION_OVER: &str = "SESSION_OVER";
const NOT_BEGUN: &str = "NOT_BEGUN";
const OCCUPIED: &str = "OCCUPIED";
const SANDBOX_GONE: &str = "SANDBOX_GONE";
const OPERATION_FAILED: &str = "OPERATION_FAILED";

/// The loss of an actor's state, as the original's ateapi expects to hear of it from a node.
pub fn crash_actor(message: impl Into<String>) -> Status {
    with_reason(&Status::data_loss(message), &Reason::CrashActor)
}

/// `status` with a reason in addition to the details it has.
///
/// When the reason cannot be attached, because the status is OK, has unreadable details or has no room
/// for another, the loss is logged and the reason is put in the message.
pub fn with_reason(status: &Status, reason: &Reason) -> Status {
    let info = reason.to_wire();
    let name = info.reason.clone();
    attach(status, &name, Any::pack(ERROR_INFO_URL, &info))
}

/// `status` with the advice to try again after `delay`, in addition to the details it has.
pub fn with_retry_after(status: &Status, delay: Duration) -> Status {
    let retry_delay = prost_types::Duration::try_from(delay).ok();
    attach(
        status,
        "RETRY",
        Any::pack(RETRY_INFO_URL, &RetryInfo { retry_delay }),
    )
}

/// Every reason of `status` that we know. Like the original, we take its reason from any domain.
pub fn reasons(status: &Status) -> Vec<Reason> {
    let mut reasons: Vec<Reason> = details(status, ERROR_INFO_URL)
        .filter_map(|info| Reason::from_wire(&info))
        .collect();
    let lost_in_text = status.code() == Code::DataLoss && status.message().starts_with(&in_text(CRASH_ACTOR));
    if lost_in_text && !reasons.contains(&Reason::CrashActor) {
        reasons.push(Reason::CrashActor);
    }
    reasons
}

/// When trying again may help, as far as `status` says.
pub fn retry_after(status: &Status) -> Option<Duration> {
    details(status, RETRY_INFO_URL)
        .find_map(|info: RetryInfo| info.retry_delay.and_then(|delay| Duration::try_from(delay).ok()))
}

/// `received` as an answer to one's own caller: code, message and details as they came. What the other
/// server said of itself in metadata stays behind.
pub fn forward(received: &Status) -> Status {
    Status::with_details(
        received.code(),
        received.message(),
        received.details().to_vec().into(),
    )
}

impl Reason {
    fn to_wire(&self) -> ErrorInfo {
        let (domain, reason) = match self {
            Self::CrashActor => (SUBSTRATE_DOMAIN, CRASH_ACTOR),
            Self::StaleFence { .. } => (HOLDFAST_DOMAIN, STALE_FENCE),
            Self::Busy => (HOLDFAST_DOMAIN, BUSY),
            Self::SessionOver => (HOLDFAST_DOMAIN, SESSION_OVER),
            Self::NotBegun => (HOLDFAST_DOMAIN, NOT_BEGUN),
            Self::Occupied => (HOLDFAST_DOMAIN, OCCUPIED),
            Self::SandboxGone => (HOLDFAST_DOMAIN, SANDBOX_GONE),
            Self::OperationFailed => (HOLDFAST_DOMAIN, OPERATION_FAILED),
        };
        let mut metadata = BTreeMap::new();
        if let Self::StaleFence { of, highest } = self {
            let of = match of {
                Fenced::Actor => "actor",
                Fenced::Worker => "worker",
            };
            metadata.insert("of".to_owned(), of.to_owned());
            metadata.insert("highest".to_owned(), highest.to_string());
        }
        ErrorInfo {
            reason: reason.to_owned(),
            domain: domain.to_owned(),
            metadata,
        }
    }

    fn from_wire(info: &ErrorInfo) -> Option<Self> {
        match (info.domain.as_str(), info.reason.as_str()) {
            (_, CRASH_ACTOR) => Some(Self::CrashActor),
            (HOLDFAST_DOMAIN, STALE_FENCE) => {
                let of = match info.metadata.get("of")?.as_str() {
                    "actor" => Fenced::Actor,
                    "worker" => Fenced::Worker,
                    _ => return None,
                };
                Some(Self::StaleFence {
                    of,
                    highest: Fence::try_from(info.metadata.get("highest")?.parse::<u64>().ok()?).ok()?,
                })
            }
            (HOLDFAST_DOMAIN, BUSY) => Some(Self::Busy),
            (HOLDFAST_DOMAIN, SESSION_OVER) => Some(Self::SessionOver),
            (HOLDFAST_DOMAIN, NOT_BEGUN) => Some(Self::NotBegun),
            (HOLDFAST_DOMAIN, OCCUPIED) => Some(Self::Occupied),
            (HOLDFAST_DOMAIN, SANDBOX_GONE) => Some(Self::SandboxGone),
            (HOLDFAST_DOMAIN, OPERATION_FAILED) => Some(Self::OperationFailed),
            _ => None,
        }
    }
}

fn attach(status: &Status, name: &str, detail: Any) -> Status {
    let message = shortened(status.message());
    match extended(status, message, detail) {
        Ok(details) => Status::with_details(status.code(), message, details.into()),
        Err(why) => {
            tracing::error!(reason = name, code = ?status.code(), why, "cannot attach a reason to a status");
            let code = if status.code() == Code::Ok {
                Code::Unknown
            } else {
                status.code()
            };
            Status::new(code, format!("{}{message}", in_text(name)))
        }
    }
}

/// The original's text for a reason that could not be attached.
fn in_text(reason: &str) -> String {
    format!("Reason:{reason}, Error ")
}

fn extended(status: &Status, message: &str, detail: Any) -> Result<Vec<u8>, &'static str> {
    if status.code() == Code::Ok {
        return Err("success has no details");
    }
    let mut wire = RpcStatus::decode(status.details()).map_err(|_| "its details cannot be read")?;
    wire.code = i32::from(status.code());
    wire.message = message.to_owned();
    wire.details.push(detail);
    let encoded = wire.encode_to_vec();
    if encoded.len() > MAX_DETAILS_BYTES {
        Err("its details are too long")
    } else {
        Ok(encoded)
    }
}

fn shortened(message: &str) -> &str {
    &message[..message.floor_char_boundary(MAX_MESSAGE_BYTES)]
}

fn details<T: Message + Default>(status: &Status, type_url: &'static str) -> impl Iterator<Item = T> {
    let wire = RpcStatus::decode(status.details()).unwrap_or_default();
    wire.details
        .into_iter()
        .filter(move |detail| detail.type_url == type_url)
        .filter_map(|detail| T::decode(detail.value.as_slice()).ok())
}

// The messages of `google.rpc` that travel, with ordered maps: equal statuses are equal bytes.

const ERROR_INFO_URL: &str = "type.googleapis.com/google.rpc.ErrorInfo";
const RETRY_INFO_URL: &str = "type.googleapis.com/google.rpc.RetryInfo";

#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

impl Any {
    fn pack(type_url: &str, message: &impl Message) -> Self {
        Self {
            type_url: type_url.to_owned(),
            value: message.encode_to_vec(),
        }
    }
}

#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
    #[prost(btree_map = "string, string", tag = "3")]
    metadata: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<prost_types::Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::StatusExt;

    fn every_reason() -> Vec<Reason> {
        vec![
            Reason::CrashActor,
            Reason::StaleFence {
                of: Fenced::Actor,
                highest: Fence::MAX,
            },
            Reason::StaleFence {
                of: Fenced::Worker,
                highest: Fence(0),
            },
            Reason::Busy,
            Reason::Occupied,
            Reason::SandboxGone,
            Reason::OperationFailed,
        ]
    }

    #[test]
    fn every_reason_is_read_back_beside_the_others() {
        let mut status = with_retry_after(&Status::aborted("not now"), Duration::from_millis(1500));
        for reason in every_reason() {
            status = with_reason(&status, &reason);
        }
        assert_eq!(reasons(&status), every_reason());
        assert_eq!(retry_after(&status), Some(Duration::from_millis(1500)));
        assert_eq!((status.code(), status.message()), (Code::Aborted, "not now"));
    }

    #[test]
    fn a_fence_that_nobody_can_have_counted_up_to_is_not_believed() {
        let stale = |highest| {
            let reason = Reason::StaleFence {
                of: Fenced::Actor,
                highest,
            };
            reasons(&with_reason(&Status::failed_precondition("stale"), &reason))
        };
        assert_eq!(stale(Fence(Fence::MAX.0 + 1)), []);
        assert_eq!(stale(Fence::MAX).len(), 1);
    }

    #[test]
    fn other_implementations_read_what_is_written_and_the_other_way_round() {
        let status = with_reason(
            &crash_actor("pages.img is gone"),
            &Reason::StaleFence {
                of: Fenced::Worker,
                highest: Fence(9),
            },
        );
        let status = with_retry_after(&status, Duration::from_secs(2));
        let details = status.get_error_details_vec();
        assert_eq!(details.len(), 3);
        let info = status.get_details_error_info().unwrap();
        assert_eq!(
            (info.domain.as_str(), info.reason.as_str()),
            ("substrate.dev", "CRASH_ACTOR")
        );
        assert_eq!(
            status.get_details_retry_info().unwrap().retry_delay,
            Some(Duration::from_secs(2))
        );

        let foreign = Status::with_error_details_vec(Code::DataLoss, "snapshot corrupt", details);
        assert_eq!(reasons(&foreign), reasons(&status));
        assert_eq!(retry_after(&foreign), Some(Duration::from_secs(2)));
    }

    #[test]
    fn equal_statuses_are_equal_bytes() {
        let reason = Reason::StaleFence {
            of: Fenced::Actor,
            highest: Fence(1),
        };
        let once = with_reason(&Status::aborted("stale"), &reason);
        assert_eq!(
            once.details(),
            with_reason(&Status::aborted("stale"), &reason).details()
        );
    }

    #[test]
    fn a_reason_that_cannot_be_attached_is_put_in_the_message() {
        let unreadable = Status::with_details(Code::DataLoss, "corrupt", vec![0xff; 3].into());
        let status = with_reason(&unreadable, &Reason::CrashActor);
        assert_eq!(status.code(), Code::DataLoss);
        assert_eq!(status.message(), "Reason:CRASH_ACTOR, Error corrupt");
        assert_eq!(reasons(&status), [Reason::CrashActor], "the text is read as well");

        let status = with_reason(&Status::ok(""), &Reason::Busy);
        assert_eq!(
            (status.code(), status.message()),
            (Code::Unknown, "Reason:BUSY, Error ")
        );

        let mut crowded = Status::aborted("x".repeat(MAX_MESSAGE_BYTES));
        while crowded.details().len() + 200 < MAX_DETAILS_BYTES {
            crowded = with_reason(&crowded, &Reason::OperationFailed);
        }
        for _ in 0..10 {
            crowded = with_reason(&crowded, &Reason::Busy);
        }
        assert!(crowded.message().contains("Reason:BUSY"), "{}", crowded.message());
        assert!(crowded.details().len() <= MAX_DETAILS_BYTES);
    }

    #[test]
    fn a_message_that_would_not_fit_a_header_is_cut_between_characters() {
        let status = crash_actor("ä".repeat(MAX_MESSAGE_BYTES));
        assert_eq!(status.message().len(), MAX_MESSAGE_BYTES);
        let status = crash_actor(format!("a{}", "ä".repeat(MAX_MESSAGE_BYTES)));
        assert_eq!(status.message().len(), MAX_MESSAGE_BYTES - 1);
        assert_eq!(reasons(&status), [Reason::CrashActor]);
    }

    #[test]
    fn reasons_of_others_are_left_alone_except_a_crash() {
        let info = |domain: &str, reason: &str| {
            let details = tonic_types::ErrorDetails::with_error_info(reason, domain, []);
            Status::with_error_details(Code::DataLoss, "x", details)
        };
        assert_eq!(reasons(&info("elsewhere.dev", "BUSY")), []);
        assert_eq!(reasons(&info("holdfast.dev", "NEWER_THAN_US")), []);
        assert_eq!(
            reasons(&info("holdfast.dev", "STALE_FENCE")),
            [],
            "without the highest it says nothing"
        );
        assert_eq!(
            reasons(&info("elsewhere.dev", "CRASH_ACTOR")),
            [Reason::CrashActor]
        );
        assert_eq!(
            reasons(&Status::with_details(Code::DataLoss, "x", vec![0xff].into())),
            []
        );
    }
}
