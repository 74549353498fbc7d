//! One server, or a cluster: who is asked what, and what becomes of a question that was put to the wrong one.
//!
//! A server that does not have a key says who does, and has done nothing: the question is put again to whoever was
//! named. That, and a server that was not even reached, are the only reasons for which anything is sent twice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use ::redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value, cmd};
use futures_util::future::try_join_all;
use holdfast_core::effect::StoreError;
use holdfast_runtime::net::Address;
use holdfast_runtime::tokio;
use holdfast_runtime::tokio::time::Instant;

use super::deadline::{Deadline, Pauses};
use super::link::{Link, Live, Mode, Place, Reply, Unanswered};
use super::slot::slot;
use super::topology::{Account, Topology, redirected};
use super::{Fault, Timing, classify};

/// How often one question is passed on without a pause. Servers that do not agree with each other yet, as after a
/// slot has moved, need some time for that.
const REDIRECTIONS_AT_ONCE: u32 = 3;
/// How long a topology is believed before somebody who doubts it may ask again.
const REFRESH_EVERY: Duration = Duration::from_millis(100);
/// How long a write may wait for replicas. Meanwhile nothing else is done on its connection.
const COPY_LONGEST: Duration = Duration::from_secs(1);
/// The pauses while a slot is between two servers.
const MOVING_FROM: Duration = Duration::from_millis(2);
const MOVING_TO: Duration = Duration::from_millis(100);

/// Whom a command is made for.
pub(super) struct Target<'a> {
    /// What the cluster calls the server; empty where there is no cluster.
    pub(super) origin: &'a str,
    /// Which run of the server it is.
    pub(super) run: &'a str,
    /// Whether the server has not got the script.
    pub(super) wants_script: bool,
}

/// Something to be asked of the server that has `key`.
pub(super) struct Question<'a> {
    pub(super) key: &'a str,
    /// Whether replicas are to have it, as far as that is asked for at all.
    pub(super) is_write: bool,
    pub(super) command: &'a (dyn Fn(&Target<'_>) -> Cmd + Send + Sync),
}

/// What was answered, and by which run of which server.
pub(super) struct Answered {
    pub(super) value: Value,
    pub(super) run: Arc<str>,
}

/// The servers of one store.
pub(super) struct Servers {
    pub(super) place: Place,
    pub(super) timing: Timing,
    /// How many replicas must have a write before it counts.
    copies: u32,
    seed: Arc<Link>,
    /// The servers of the cluster, by where they are.
    nodes: Mutex<BTreeMap<Address, Arc<Link>>>,
    /// None until the seed has turned out to belong to a cluster.
    topology: RwLock<Option<Arc<Topology>>>,
    /// Since when it is believed; held by the one who asks for it.
    refreshed: tokio::sync::Mutex<Option<Instant>>,
}

impl Servers {
    pub(super) fn new(place: Place, timing: Timing, copies: u32) -> Servers {
        Servers {
            seed: Link::new(place.clone(), timing),
            place,
            timing,
            copies,
            nodes: Mutex::default(),
            topology: RwLock::default(),
            refreshed: tokio::sync::Mutex::default(),
        }
    }

    /// The server that was named by whoever set this up.
    pub(super) fn seed(&self) -> &Arc<Link> {
        &self.seed
    }

    /// The cluster; none if the seed stands alone.
    pub(super) async fn topology(&self, deadline: Deadline) -> Result<Option<Arc<Topology>>, Unanswered> {
        if let Some(known) = self.known() {
            return Ok(Some(known));
        }
        let live = self.seed.live(deadline).await.map_err(Unanswered::Unsent)?;
        match live.mode {
            Mode::Alone => Ok(None),
            Mode::Clustered => self.refresh(deadline).await.map(Some).map_err(Unanswered::Unsent),
        }
    }

    /// What a server of the cluster says of it now, or said a moment ago.
    pub(super) async fn refresh(&self, deadline: Deadline) -> Result<Arc<Topology>, StoreError> {
        let mut refreshed = self.refreshed.lock().await;
        let is_fresh = refreshed.is_some_and(|at| at.elapsed() < REFRESH_EVERY);
        if let Some(known) = self.known()
            && is_fresh
        {
            return Ok(known);
        }
        let mut asked: Vec<Arc<Link>> = vec![];
        if let Some(known) = self.known() {
            asked.extend(known.masters().iter().map(|master| self.node(&master.address)));
        }
        // Those that are away at this time are asked only if nobody else is left.
        asked.retain(|link| !link.is_away());
        asked.push(self.seed.clone());
        let mut last = None;
        for (index, link) in asked.iter().enumerate() {
            let share = deadline.left() / u32::try_from(asked.len() - index).unwrap_or(1);
            match self.ask_for_topology(link, deadline.within(share)).await {
                Ok(topology) => {
                    let topology = Arc::new(topology);
                    self.set(topology.clone());
                    *refreshed = Some(Instant::now());
                    return Ok(topology);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("at least the seed was asked"))
    }

    async fn ask_for_topology(&self, link: &Arc<Link>, deadline: Deadline) -> Result<Topology, StoreError> {
        let slots = |_: &Live| vec![cmd("CLUSTER").arg("SLOTS").take()];
        let (replies, live) = link.send(deadline, slots).await?;
        let [told] = first(replies).map_err(|error| link.blame(&error))?;
        Topology::read(&told, &live.address).ok_or_else(|| {
            link.unavailable("says something else than which server of the cluster has which slots")
        })
    }

    /// The way to a server of the cluster.
    pub(super) fn node(&self, address: &Address) -> Arc<Link> {
        let mut nodes = self.nodes();
        let link = nodes
            .entry(address.clone())
            .or_insert_with(|| Link::new(self.place.at(address), self.timing));
        link.clone()
    }

    /// Asks the server that has the key.
    pub(super) async fn ask(&self, question: &Question<'_>, deadline: Deadline) -> Result<Answered, Fault> {
        let slot = slot(question.key.as_bytes());
        let (mut wants_script, mut redirections) = (false, 0);
        let mut invited: Option<Address> = None;
        let mut pauses = Pauses::new(MOVING_FROM, MOVING_TO);
        loop {
            let topology = self.topology(deadline).await?;
            let way = self.way(topology.as_deref(), slot, invited.take());
            let Some((link, origin, is_invited)) = way else {
                self.refresh(deadline).await?;
                let why = format!(
                    "no server of the cluster has slot {slot}, where {} is",
                    question.key
                );
                return Err(self.seed.unavailable(&why).into());
            };
            let mut must_copy = 0;
            let build = |live: &Live| {
                let mut commands = vec![];
                if is_invited {
                    commands.push(cmd("ASKING"));
                }
                commands.push((question.command)(&Target {
                    origin: &origin,
                    run: &live.run,
                    wants_script,
                }));
                if question.is_write && self.copies > 0 {
                    must_copy = self.copies;
                    commands.push(wait_for_copies(self.copies, deadline));
                }
                commands
            };
            let (mut replies, live) = match link.send(deadline, build).await {
                Ok(answers) => answers,
                // Whoever has taken its place may be known by now.
                Err(Unanswered::Unsent(StoreError::Unavailable(why))) if topology.is_some() => {
                    redirections += 1;
                    let known = self.refresh(deadline).await?;
                    let now = known.owner(slot).map(|owner| &owner.address);
                    let same = now.is_none_or(|now| *now == link.url().addresses()[0]);
                    if same || redirections > REDIRECTIONS_AT_ONCE {
                        return Err(StoreError::Unavailable(why).into());
                    }
                    continue;
                }
                Err(unanswered) => return Err(unanswered.into()),
            };
            let copied = if must_copy > 0 { replies.pop() } else { None };
            let error = match replies.pop().unwrap_or_else(nothing) {
                Ok(value) => {
                    check_copies(copied, must_copy).map_err(|why| link.unavailable(&why))?;
                    let run = live.run;
                    return Ok(Answered { value, run });
                }
                Err(error) => error,
            };
            // None of these has done anything.
            match error.kind() {
                ErrorKind::Server(ServerErrorKind::NoScript) if !wants_script => {
                    wants_script = true;
                    invited = is_invited.then(|| live.address.clone());
                }
                ErrorKind::Server(ServerErrorKind::Moved) if !deadline.left().is_zero() => {
                    redirections += 1;
                    if redirections > REDIRECTIONS_AT_ONCE {
                        pauses.wait().await;
                    }
                    let to = error.detail().and_then(|told| redirected(told, &live.address));
                    if to.is_none_or(|(slot, address)| !self.moved(slot, &address)) {
                        self.forget_topology_age().await;
                        self.refresh(deadline).await?;
                    }
                }
                ErrorKind::Server(ServerErrorKind::Ask) if !deadline.left().is_zero() => {
                    redirections += 1;
                    if redirections > REDIRECTIONS_AT_ONCE {
                        pauses.wait().await;
                    }
                    invited = error
                        .detail()
                        .and_then(|told| redirected(told, &live.address))
                        .map(|(_, address)| address);
                }
                ErrorKind::Server(ServerErrorKind::TryAgain) if !deadline.left().is_zero() => {
                    pauses.wait().await
                }
                _ => return Err(link.blame(&error).into()),
            }
        }
    }

    /// Which server to ask, what the cluster calls it, and whether another one has sent us there.
    fn way(
        &self,
        topology: Option<&Topology>,
        slot: u16,
        invited: Option<Address>,
    ) -> Option<(Arc<Link>, Arc<str>, bool)> {
        let Some(topology) = topology else {
            return Some((self.seed.clone(), "".into(), false));
        };
        if let Some(address) = invited {
            let id = topology
                .at(&address)
                .map_or("".into(), |master| master.id.clone());
            return Some((self.node(&address), id, true));
        }
        let owner = topology.owner(slot)?;
        Some((self.node(&owner.address), owner.id.clone(), false))
    }

    /// Fetches the value of each key, in this order; those that are gone are left out.
    pub(super) async fn fetch(
        &self,
        keys: &[String],
        deadline: Deadline,
        mut each: impl FnMut(usize, &[u8]),
    ) -> Result<(), Fault> {
        let Some(topology) = self.topology(deadline).await? else {
            let mut get = cmd("MGET");
            get.arg(keys);
            let (replies, live) = self.seed.send(deadline, |_| vec![get]).await?;
            let [values] = first(replies).map_err(|error| self.blame(&live, &error))?;
            let values: Vec<Option<Vec<u8>>> = ::redis::from_redis_value(values).map_err(RedisError::from)?;
            for (index, value) in values.iter().enumerate() {
                if let Some(value) = value {
                    each(index, value);
                }
            }
            return Ok(());
        };
        let mut by_owner: BTreeMap<Option<&Address>, Vec<usize>> = BTreeMap::new();
        for (index, key) in keys.iter().enumerate() {
            let owner = topology.owner(slot(key.as_bytes()));
            by_owner
                .entry(owner.map(|owner| &owner.address))
                .or_default()
                .push(index);
        }
        let asked = by_owner.into_iter().map(async |(owner, indices)| {
            let replies = match owner {
                Some(owner) => {
                    let gets = |_: &Live| indices.iter().map(|index| get(&keys[*index])).collect();
                    self.node(owner)
                        .send(deadline, gets)
                        .await
                        .map(|(replies, _)| replies)
                }
                None => Ok(vec![]),
            };
            let mut replies = replies.unwrap_or_default().into_iter();
            let mut values = Vec::with_capacity(indices.len());
            for index in indices {
                let value = match replies.next() {
                    Some(Ok(value)) => value,
                    // Its slot has moved, or its server is away: ask for it as for any other.
                    Some(Err(_)) | None => {
                        let question = Question {
                            key: &keys[index],
                            is_write: false,
                            command: &|_| get(&keys[index]),
                        };
                        self.ask(&question, deadline).await?.value
                    }
                };
                values.push((index, value));
            }
            Ok::<_, Fault>(values)
        });
        let mut values: Vec<(usize, Value)> = try_join_all(asked).await?.into_iter().flatten().collect();
        values.sort_by_key(|(index, _)| *index);
        for (index, value) in values {
            let value: Option<Vec<u8>> = ::redis::from_redis_value(value).map_err(RedisError::from)?;
            if let Some(value) = value {
                each(index, &value);
            }
        }
        Ok(())
    }

    /// What every master says of itself and of the others.
    pub(super) async fn accounts(
        &self,
        topology: &Topology,
        deadline: Deadline,
    ) -> Result<Vec<Account>, Fault> {
        let asked = topology.masters().iter().map(async |master| {
            let link = self.node(&master.address);
            let nodes = |_: &Live| vec![cmd("CLUSTER").arg("NODES").take()];
            let (replies, live) = link.send(deadline, nodes).await?;
            let [told] = first(replies).map_err(|error| link.blame(&error))?;
            let told: String = ::redis::from_redis_value(told).map_err(RedisError::from)?;
            Ok::<_, Fault>(Account::read(&told, &live.address))
        });
        try_join_all(asked).await
    }

    /// The error as the caller hears it, naming the server of that connection.
    pub(super) fn blame(&self, live: &Live, error: &RedisError) -> StoreError {
        let url = self.place.url.at(live.address.clone());
        match classify(error) {
            StoreError::Unavailable(text) => StoreError::Unavailable(format!("{url}: {text}")),
            StoreError::Refused(text) => StoreError::Refused(format!("{url}: {text}")),
        }
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<Address, Arc<Link>>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> Option<Arc<Topology>> {
        self.topology
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, topology: Arc<Topology>) {
        let mut known = self.topology.write().unwrap_or_else(PoisonError::into_inner);
        // Servers that are none of it any more are not looked for any longer.
        self.nodes().retain(|address, _| topology.at(address).is_some());
        *known = Some(topology);
    }

    fn moved(&self, slot: u16, address: &Address) -> bool {
        let mut known = self.topology.write().unwrap_or_else(PoisonError::into_inner);
        known
            .as_mut()
            .is_some_and(|known| Arc::make_mut(known).moved(slot, address))
    }

    /// What was believed has just been contradicted.
    async fn forget_topology_age(&self) {
        *self.refreshed.lock().await = None;
    }
}

fn get(key: &str) -> Cmd {
    cmd("GET").arg(key).take()
}

/// `WAIT`, behind a write on the same connection: how many replicas have that write by now.
fn wait_for_copies(copies: u32, deadline: Deadline) -> Cmd {
    let longest = (deadline.left() / 2)
        .min(COPY_LONGEST)
        .max(Duration::from_millis(1));
    let millis = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
    cmd("WAIT").arg(copies).arg(millis).take()
}

fn check_copies(copied: Option<Reply>, wanted: u32) -> Result<(), String> {
    match copied {
        None => Ok(()),
        Some(Ok(Value::Int(copied))) if copied >= i64::from(wanted) => Ok(()),
        Some(Ok(Value::Int(copied))) => Err(format!(
            "written, but {copied} of the {wanted} replicas that --redis-wait-replicas asks for have it so far"
        )),
        Some(Ok(_)) => Err("written, but says nothing about its replicas".into()),
        Some(Err(error)) => Err(format!("written, but does not wait for its replicas: {error}")),
    }
}

fn nothing() -> Reply {
    Err((ErrorKind::UnexpectedReturnType, "fewer answers than commands").into())
}

/// The answers to as many commands.
pub(super) fn first<const N: usize>(replies: Vec<Reply>) -> Result<[Value; N], RedisError> {
    let values: Vec<Value> = replies.into_iter().collect::<Result<_, _>>()?;
    values
        .try_into()
        .map_err(|_| (ErrorKind::UnexpectedReturnType, "not one answer per command").into())
}
