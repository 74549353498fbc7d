//! Fences and identities on node calls, as metadata: an original atelet ignores them.

use std::fmt::Display;
use std::str::FromStr;

use holdfast_core::id::{Fence, Incarnation, Name, OpId};
use holdfast_core::name::check_atespace;
use holdfast_core::time::Instant;
use tonic::Status;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

const ACTOR_FENCE: &str = "holdfast-actor-fence";
const WORKER_FENCE: &str = "holdfast-worker-fence";
const OPERATION_ID: &str = "holdfast-operation-id";
const ACTOR_INCARNATION: &str = "holdfast-actor-incarnation";
const NODE_SESSION: &str = "holdfast-node-session";
const NODE_RUN: &str = "holdfast-node-run";
const RUNS_UNTIL: &str = "holdfast-runs-until";
const ATESPACE: &str = "holdfast-atespace";

/// Who sends an effect, so that the receiver can refuse a stale owner (design section 4).
///
/// What is absent was not sent: an original ateapi sends none of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The sender's fence for the actor.
    pub actor_fence: Option<Fence>,
    /// The sender's fence for the worker.
    pub worker_fence: Option<Fence>,
    /// The operation: a repetition carries the same one.
    pub operation: Option<OpId>,
    /// Which actor of its name is meant.
    pub incarnation: Option<Incarnation>,
    /// The actor's atespace, which the original's node calls lack.
    pub atespace: Option<Name>,
    /// The session of the node that an order is given under.
    pub session: Option<u64>,
    /// The run of atelet that an order is for.
    pub run: Option<Name>,
    /// Until when a worker may let an actor run that it boots or restores, on the clock of their host.
    pub until: Option<Instant>,
}

impl Credentials {
    /// Reads them from a request's metadata.
    ///
    /// # Errors
    /// `InvalidArgument` that names the key whose value is malformed or given twice.
    pub fn read(metadata: &MetadataMap) -> Result<Self, Status> {
        let atespace = text(metadata, ATESPACE)?;
        if let Some(name) = atespace {
            check_atespace(name).map_err(|failure| malformed(ATESPACE, &failure.message))?;
        }
        Ok(Self {
            actor_fence: fence(metadata, ACTOR_FENCE)?,
            worker_fence: fence(metadata, WORKER_FENCE)?,
            operation: parsed(metadata, OPERATION_ID)?,
            incarnation: parsed(metadata, ACTOR_INCARNATION)?.map(Incarnation),
            atespace: atespace.map(Name::from),
            session: parsed(metadata, NODE_SESSION)?,
            run: text(metadata, NODE_RUN)?.map(Name::from),
            until: parsed(metadata, RUNS_UNTIL)?.map(Instant::from_micros),
        })
    }

    /// Writes them into a request's metadata, replacing what was there; what is absent is removed.
    ///
    /// # Errors
    /// `InvalidArgument` when the atespace is no name that metadata can carry.
    pub fn write(&self, metadata: &mut MetadataMap) -> Result<(), Status> {
        put(metadata, ACTOR_FENCE, self.actor_fence)?;
        put(metadata, WORKER_FENCE, self.worker_fence)?;
        put(metadata, OPERATION_ID, self.operation)?;
        put(metadata, ACTOR_INCARNATION, self.incarnation)?;
        put(metadata, ATESPACE, self.atespace.as_ref())?;
        put(metadata, NODE_SESSION, self.session)?;
        put(metadata, NODE_RUN, self.run.as_ref())?;
        put(metadata, RUNS_UNTIL, self.until.map(Instant::as_micros))
    }
}

fn put(metadata: &mut MetadataMap, key: &'static str, value: Option<impl Display>) -> Result<(), Status> {
    metadata.remove(key);
    if let Some(value) = value {
        let value: MetadataValue<Ascii> = value
            .to_string()
            .parse()
            .map_err(|_| malformed(key, "it is not printable ASCII"))?;
        metadata.insert(key, value);
    }
    Ok(())
}

fn fence(metadata: &MetadataMap, key: &'static str) -> Result<Option<Fence>, Status> {
    let number: Option<u64> = parsed(metadata, key)?;
    number
        .map(Fence::try_from)
        .transpose()
        .map_err(|error| malformed(key, &error))
}

fn parsed<T>(metadata: &MetadataMap, key: &'static str) -> Result<Option<T>, Status>
where
    T: FromStr<Err: Display>,
{
    let Some(text) = text(metadata, key)? else {
        return Ok(None);
    };
    text.parse()
        .map(Some)
        .map_err(|error: T::Err| malformed(key, &error))
}

fn text<'a>(metadata: &'a MetadataMap, key: &'static str) -> Result<Option<&'a str>, Status> {
    let mut values = metadata.get_all(key).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(malformed(key, "it is given twice"));
    }
    value
        .to_str()
        .map(Some)
        .map_err(|_| malformed(key, "it is not printable ASCII"))
}

fn malformed(key: &str, why: &(impl Display + ?Sized)) -> Status {
    Status::invalid_argument(format!("malformed metadata {key}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::id::ReplicaId;
    use tonic::Code;

    fn full() -> Credentials {
        Credentials {
            actor_fence: Some(Fence(7)),
            worker_fence: Some(Fence::MAX),
            operation: Some(OpId {
                replica: ReplicaId(0xfeed),
                seq: 3,
            }),
            incarnation: Some(Incarnation(1)),
            atespace: Some(Name::from("team-a")),
            session: Some(2),
            run: Some("a1".into()),
            until: Some(Instant::from_micros(1)),
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for credentials in [full(), Credentials::default()] {
            let mut metadata = MetadataMap::new();
            full().write(&mut metadata).unwrap();
            credentials.write(&mut metadata).unwrap();
            assert_eq!(Credentials::read(&metadata).unwrap(), credentials);
        }
    }

    #[test]
    fn a_malformed_value_is_refused_by_name() {
        for (key, value) in [
            (ACTOR_FENCE, "-1"),
            (ACTOR_FENCE, ""),
            (ACTOR_FENCE, "9223372036854775808"),
            (WORKER_FENCE, "18446744073709551615"),
            (WORKER_FENCE, "18446744073709551616"),
            (OPERATION_ID, "feed-3"),
            (ACTOR_INCARNATION, "one"),
            (NODE_SESSION, "-1"),
            (RUNS_UNTIL, "soon"),
            (ATESPACE, "../../etc"),
            (ATESPACE, ""),
        ] {
            let mut metadata = MetadataMap::new();
            metadata.insert(key, value.parse().unwrap());
            let error = Credentials::read(&metadata).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument, "{key}={value}");
            assert!(error.message().contains(key), "{error:?}");
        }
    }

    #[test]
    fn of_two_fences_neither_is_believed() {
        let mut metadata = MetadataMap::new();
        full().write(&mut metadata).unwrap();
        metadata.append(ACTOR_FENCE, MetadataValue::from_static("8"));
        let error = Credentials::read(&metadata).unwrap_err();
        assert!(error.message().contains(ACTOR_FENCE), "{error:?}");
    }
}
