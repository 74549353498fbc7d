//! The way to one server: connects when needed, gives up in time, and fails at once while the server is away.
//!
//! ```text
//!             an operation dials                    the connection ends
//!   idle ------------------------------> live ------------------------------> idle
//!    |                                    |
//!    | nobody answers                     | an operation is not answered in time
//!    +---------------> away <-------------+
//!                       | a task of its own dials, with pauses that grow; until it has succeeded,
//!                       | operations fail without waiting
//!                       +---------------------------------------------------> live
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use ::redis::aio::{ConnectionLike, MultiplexedConnection};
use ::redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, Pipeline, ProtocolVersion, RedisError, ServerErrorKind, Value,
};
use holdfast_core::effect::StoreError;
use holdfast_runtime::entropy::fresh_u64;
use holdfast_runtime::net::{Address, Socket};
use holdfast_runtime::tokio;
use holdfast_runtime::tokio::task::JoinHandle;

use super::deadline::{Deadline, Pauses};
use super::tls::{Insecure, Tls, objection};
use super::url::Url;
use super::{Timing, classify};

/// Where servers are, who we are there, and how they are known to be who they are.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) url: Url,
    pub(super) tls: Tls,
}

impl Place {
    /// The same, of one server that another has named.
    pub(super) fn at(&self, address: &Address) -> Place {
        Place {
            url: self.url.at(address.clone()),
            tls: self.tls.clone(),
        }
    }
}

/// What one command was answered, an error of the server included.
pub(super) type Reply = Result<Value, RedisError>;

/// Why there are no answers.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// Nothing was sent.
    Unsent(StoreError),
    /// It may have been done.
    Unknown(StoreError),
}

impl From<Unanswered> for StoreError {
    fn from(unanswered: Unanswered) -> StoreError {
        match unanswered {
            Unanswered::Unsent(error) | Unanswered::Unknown(error) => error,
        }
    }
}

/// Whether the server is one of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Alone,
    Clustered,
}

/// The way to one server.
pub(super) struct Link {
    place: Place,
    timing: Timing,
    state: Mutex<State>,
    /// Held by the one who connects.
    dialling: tokio::sync::Mutex<()>,
    me: Weak<Link>,
}

enum State {
    Idle,
    Live(Live),
    Away(Away),
}

/// Why nobody is asked, and which search will end that.
#[derive(Clone)]
struct Away {
    why: String,
    search: Arc<()>,
}

/// A connection, and the task that moves its bytes for as long as somebody uses it.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) connection: MultiplexedConnection,
    /// Whom it leads to.
    pub(super) address: Address,
    /// Which run of the server that is.
    pub(super) run: Arc<str>,
    pub(super) mode: Mode,
    driver: Arc<Driver>,
}

struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Live {
    /// Whether the connection has ended.
    fn is_over(&self) -> bool {
        self.driver.0.is_finished()
    }
}

impl Link {
    pub(super) fn new(place: Place, timing: Timing) -> Arc<Link> {
        Arc::new_cyclic(|me| Link {
            place,
            timing,
            state: Mutex::new(State::Idle),
            dialling: tokio::sync::Mutex::new(()),
            me: me.clone(),
        })
    }

    pub(super) fn url(&self) -> &Url {
        &self.place.url
    }

    /// Whether operations fail without waiting at this time.
    pub(super) fn is_away(&self) -> bool {
        matches!(*self.state(), State::Away(_))
    }

    /// Sends what is made for the server that answers here, and hears every answer. Nothing is repeated.
    pub(super) async fn send(
        &self,
        deadline: Deadline,
        build: impl FnOnce(&Live) -> Vec<Cmd>,
    ) -> Result<(Vec<Reply>, Live), Unanswered> {
        let live = self.live(deadline).await.map_err(Unanswered::Unsent)?;
        let commands = build(&live);
        let replies = self.send_on(&live, deadline, &commands).await?;
        Ok((replies, live))
    }

    /// The same, on this connection and no other.
    pub(super) async fn send_on(
        &self,
        live: &Live,
        deadline: Deadline,
        commands: &[Cmd],
    ) -> Result<Vec<Reply>, Unanswered> {
        let patience = deadline.left();
        let mut connection = live.connection.clone();
        let sent = async {
            match commands {
                [command] => Ok(vec![connection.req_packed_command(command).await?]),
                commands => {
                    let mut pipeline = Pipeline::with_capacity(commands.len());
                    for command in commands {
                        pipeline.add_command(command.clone());
                    }
                    let answers = connection.req_packed_commands(&pipeline, 0, commands.len());
                    answers.await
                }
            }
        };
        match deadline.bound(sent).await {
            Some(Ok(values)) => {
                let replies: Vec<Reply> = values.into_iter().map(Value::extract_error).collect();
                if replies.iter().any(must_introduce_itself_again) {
                    self.forget(live);
                }
                Ok(replies)
            }
            Some(Err(error)) => {
                self.forget(live);
                Err(Unanswered::Unknown(self.blame(&error)))
            }
            None => {
                let why = deadline.passed();
                if self.is_long(patience) {
                    self.away(Some(live), &why);
                }
                Err(Unanswered::Unknown(self.unavailable(&why)))
            }
        }
    }

    /// The connection, made now if there is none.
    pub(super) async fn live(&self, deadline: Deadline) -> Result<Live, StoreError> {
        if let Some(live) = self.known()? {
            return Ok(live);
        }
        let deadline = deadline.within(self.timing.operation);
        let patience = deadline.left();
        let dial = async {
            let _turn = self.dialling.lock().await;
            // Somebody else may have had more luck, or none.
            if let Some(live) = self.known()? {
                return Ok(live);
            }
            let live = self.dial(deadline).await?;
            *self.state() = State::Live(live.clone());
            Ok(live)
        };
        match deadline.bound(dial).await {
            Some(Err(StoreError::Unavailable(why))) => {
                self.away(None, &why);
                Err(StoreError::Unavailable(why))
            }
            Some(outcome) => outcome,
            None => {
                let error = self.unavailable(&deadline.passed());
                if let (StoreError::Unavailable(why), true) = (&error, self.is_long(patience)) {
                    self.away(None, why);
                }
                Err(error)
            }
        }
    }

    /// Whether a server that has not answered for so long is away. Of an operation that has come about, and has
    /// little time left, nothing can be learnt.
    fn is_long(&self, patience: Duration) -> bool {
        patience >= self.timing.operation / 2
    }

    /// The error as the caller hears it, naming the server.
    pub(super) fn blame(&self, error: &RedisError) -> StoreError {
        match classify(error) {
            StoreError::Unavailable(text) => self.unavailable(&text),
            StoreError::Refused(text) => self.refused(&text),
        }
    }

    pub(super) fn unavailable(&self, why: &str) -> StoreError {
        StoreError::Unavailable(format!("{}: {why}", self.place.url))
    }

    pub(super) fn refused(&self, why: &str) -> StoreError {
        StoreError::Refused(format!("{}: {why}", self.place.url))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> Result<Option<Live>, StoreError> {
        let mut state = self.state();
        match &*state {
            State::Live(live) if !live.is_over() => Ok(Some(live.clone())),
            State::Away(away) => Err(StoreError::Unavailable(format!(
                "the store is away, and looked for: {}",
                away.why
            ))),
            // A server that went away is noticed before anything is sent to it, not after.
            State::Live(_) | State::Idle => {
                *state = State::Idle;
                Ok(None)
            }
        }
    }

    /// The next operation makes a connection of its own; those under way end on theirs.
    fn forget(&self, used: &Live) {
        let mut state = self.state();
        if matches!(&*state, State::Live(live) if Arc::ptr_eq(&live.driver, &used.driver)) {
            *state = State::Idle;
        }
    }

    /// From now on operations fail at once, until the server is found again. Only the end of the connection
    /// that is in use says anything about the server.
    fn away(&self, used: Option<&Live>, why: &str) {
        let mut state = self.state();
        let is_news = match (&*state, used) {
            (State::Live(live), Some(used)) => Arc::ptr_eq(&live.driver, &used.driver),
            (State::Live(live), None) => live.is_over(),
            (State::Idle, None) => true,
            (State::Idle, Some(_)) | (State::Away(_), _) => false,
        };
        if is_news {
            tracing::warn!(server = %self.place.url, why, "the store is away");
            let away = Away {
                why: why.to_owned(),
                search: Arc::default(),
            };
            tokio::spawn(look_for(self.me.clone(), away.search.clone(), self.timing));
            *state = State::Away(away);
        }
    }

    /// Connects to the first of the addresses that is of use.
    async fn dial(&self, deadline: Deadline) -> Result<Live, StoreError> {
        let addresses = self.place.url.addresses();
        let mut last = None;
        for (index, address) in addresses.iter().enumerate() {
            // One that does not answer leaves time for the others.
            let share = deadline.left() / u32::try_from(addresses.len() - index).unwrap_or(1);
            let place = self.place.at(address);
            let turn = deadline.within(share);
            let config = AsyncConnectionConfig::new();
            let found = turn.bound(introduced(&place, address, turn, config)).await;
            let error = match found {
                Some(Ok(live)) => return Ok(live),
                Some(Err(error)) => error,
                None => StoreError::Unavailable(format!("{}: {}", place.url, turn.passed())),
            };
            // Whoever turns us away has been reached, and the others have the same users.
            if let StoreError::Refused(_) = error {
                return Err(error);
            }
            last = Some(match last {
                Some(StoreError::Unavailable(before)) => {
                    let (StoreError::Unavailable(text) | StoreError::Refused(text)) = error;
                    StoreError::Unavailable(format!("{before}; {text}"))
                }
                _ => error,
            });
        }
        Err(last.expect("a URL has an address"))
    }
}

/// Dials until the server is back, somebody else has found it, or nobody needs it any more.
async fn look_for(link: Weak<Link>, search: Arc<()>, timing: Timing) {
    let mut pauses = Pauses::of(&timing);
    loop {
        pauses.wait().await;
        let Some(link) = link.upgrade() else { return };
        if !is_searched(&link.state(), &search) {
            return;
        }
        let deadline = Deadline::after(timing.operation);
        let found = match deadline.bound(link.dial(deadline)).await {
            Some(found) => found,
            None => Err(link.unavailable(&deadline.passed())),
        };
        let mut state = link.state();
        if !is_searched(&state, &search) {
            return;
        }
        *state = match found {
            Ok(live) => {
                tracing::info!(server = %link.place.url, "the store is back");
                State::Live(live)
            }
            // It is there, and the next operation is told by itself what it has against us.
            Err(StoreError::Refused(_)) => State::Idle,
            Err(StoreError::Unavailable(why)) => {
                let search = search.clone();
                *state = State::Away(Away { why, search });
                continue;
            }
        };
        return;
    }
}

/// Whether this search is still the one that is waited for.
fn is_searched(state: &State, search: &Arc<()>) -> bool {
    matches!(state, State::Away(away) if Arc::ptr_eq(&away.search, search))
}

/// Whether the connection is of no use until the server has been asked anew who it is: it is no master any more,
/// or none yet.
fn must_introduce_itself_again(reply: &Reply) -> bool {
    let of_use = |error: &RedisError| {
        !matches!(
            error.kind(),
            ErrorKind::Server(
                ServerErrorKind::ReadOnly | ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown
            )
        )
    };
    reply.as_ref().is_err_and(|error| !of_use(error))
}

/// Connects to one server and hears what it is. One that stands alone and copies another is of no use.
async fn introduced(
    place: &Place,
    address: &Address,
    deadline: Deadline,
    config: AsyncConnectionConfig,
) -> Result<Live, StoreError> {
    let mut live = dial(place, address, deadline, ProtocolVersion::RESP2, config).await?;
    let said = ::redis::cmd("INFO")
        .query_async::<String>(&mut live.connection)
        .await;
    let said = match said {
        Ok(said) => said,
        // A user who may not ask: the server is taken for what most are.
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) => String::new(),
        Err(error) if matches!(error.kind(), ErrorKind::Server(ServerErrorKind::ResponseError)) => {
            String::new()
        }
        Err(error) => return Err(blame(place, &error)),
    };
    let field = |name: &str| {
        said.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
    };
    live.run = match field("run_id") {
        Some(run) => run.into(),
        None => format!("{:016x}", fresh_u64()).into(),
    };
    match field("redis_mode").or(field("server_mode")) {
        Some("cluster") => live.mode = Mode::Clustered,
        Some("sentinel") => {
            return Err(StoreError::Refused(format!(
                "{}: is a sentinel, which keeps no records; name the servers that it watches, with commas between \
                 them",
                place.url
            )));
        }
        Some(_) => {}
        None if is_clustered(&mut live.connection).await => live.mode = Mode::Clustered,
        None => {}
    }
    if live.mode == Mode::Alone && field("role") == Some("slave") {
        return Err(StoreError::Unavailable(format!(
            "{}: is a replica of {}:{} at this time, so that it is read only",
            place.url,
            field("master_host").unwrap_or("another"),
            field("master_port").unwrap_or("server"),
        )));
    }
    Ok(live)
}

/// For servers that do not say so: those who stand alone have no slots to tell of.
async fn is_clustered(connection: &mut MultiplexedConnection) -> bool {
    let slots: Result<Value, _> = ::redis::cmd("CLUSTER").arg("SLOTS").query_async(connection).await;
    matches!(slots, Ok(Value::Array(_)))
}

/// Connects and says who we are; the caller sets the bound. The crate's own timers are all off: they are those of
/// a runtime that the simulator does not have.
pub(super) async fn dial(
    place: &Place,
    address: &Address,
    deadline: Deadline,
    protocol: ProtocolVersion,
    config: AsyncConnectionConfig,
) -> Result<Live, StoreError> {
    let failed = |error: &RedisError| blame(place, error);
    let socket = Socket::connect(address, deadline.left())
        .await
        .map_err(|error| failed(&error.into()))?;
    let config = config.set_response_timeout(None).set_connection_timeout(None);
    let greeting = place.url.greeting(protocol);
    let (connection, driver) = if place.url.is_secure() {
        let host = match address {
            Address::Tcp { host, .. } => host.as_str(),
            Address::Unix(_) => "localhost",
        };
        let secured = place.tls.secure(host, socket).await;
        let secured = secured.map_err(|error| match error {
            Insecure::Handshake(error) => failed(&error.into()),
            Insecure::Ours(error) => StoreError::Refused(format!("{}: TLS: {error}", place.url)),
        })?;
        let (connection, driver) = MultiplexedConnection::new_with_config(&greeting, secured, config)
            .await
            .map_err(|error| failed(&error))?;
        (connection, tokio::spawn(driver))
    } else {
        let (connection, driver) = MultiplexedConnection::new_with_config(&greeting, socket, config)
            .await
            .map_err(|error| failed(&error))?;
        (connection, tokio::spawn(driver))
    };
    Ok(Live {
        connection,
        address: address.clone(),
        run: "".into(),
        mode: Mode::Alone,
        driver: Arc::new(Driver(driver)),
    })
}

/// The error as the caller hears it, naming the server. What TLS has against it no second attempt mends.
fn blame(place: &Place, error: &RedisError) -> StoreError {
    if let Some(objection) = objection(error) {
        return StoreError::Refused(format!("{}: TLS: {objection}", place.url));
    }
    match classify(error) {
        StoreError::Unavailable(text) => StoreError::Unavailable(format!("{}: {text}", place.url)),
        StoreError::Refused(text) => StoreError::Refused(format!("{}: {text}", place.url)),
    }
}
