//! Which server of a cluster has which slots.

use std::fmt;
use std::sync::Arc;

use ::redis::Value;
use holdfast_runtime::net::Address;

use super::slot::SLOTS;

/// A server that accepts writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Master {
    /// What the cluster calls it; never another server's.
    pub(super) id: Arc<str>,
    pub(super) address: Address,
}

/// Nobody has the slot.
const NOBODY: u16 = u16::MAX;

/// A cluster, as one of its servers has told it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Topology {
    masters: Vec<Master>,
    /// Of each slot the index of its master.
    slots: Vec<u16>,
}

/// Without the slots, which are too many to be read.
impl fmt::Debug for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topology")
            .field("masters", &self.masters)
            .finish_non_exhaustive()
    }
}

impl Topology {
    /// Reads the answer to `CLUSTER SLOTS`, given by the server at `asked`; `None` if it is none.
    pub(super) fn read(answer: &Value, asked: &Address) -> Option<Topology> {
        let Value::Array(ranges) = answer else { return None };
        let mut topology = Topology {
            masters: vec![],
            slots: vec![NOBODY; SLOTS],
        };
        for range in ranges {
            let Value::Array(range) = range else { return None };
            let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = &range[..] else {
                return None;
            };
            let (first, last) = (usize::try_from(*first).ok()?, usize::try_from(*last).ok()?);
            let master = topology.index(master_of(master, asked)?)?;
            if first > last {
                return None;
            }
            topology.slots.get_mut(first..=last)?.fill(master);
        }
        // So that two servers who tell the same tell it in the same words.
        let mut order: Vec<usize> = (0..topology.masters.len()).collect();
        order.sort_by_key(|index| topology.masters[*index].id.clone());
        let place = |index: usize| order.iter().position(|known| *known == index);
        let slots = topology.slots.iter().map(|index| match *index {
            NOBODY => Some(NOBODY),
            index => place(usize::from(index)).and_then(|place| u16::try_from(place).ok()),
        });
        Some(Topology {
            slots: slots.collect::<Option<_>>()?,
            masters: order
                .iter()
                .map(|index| topology.masters[*index].clone())
                .collect(),
        })
    }

    pub(super) fn masters(&self) -> &[Master] {
        &self.masters
    }

    /// Who has this slot.
    pub(super) fn owner(&self, slot: u16) -> Option<&Master> {
        let index = self.slots.get(usize::from(slot))?;
        self.masters.get(usize::from(*index))
    }

    pub(super) fn at(&self, address: &Address) -> Option<&Master> {
        self.masters.iter().find(|master| master.address == *address)
    }

    /// Notes that the server at `address` has this slot, if it is known at all.
    pub(super) fn moved(&mut self, slot: u16, address: &Address) -> bool {
        let index = self.masters.iter().position(|master| master.address == *address);
        let index = index.and_then(|index| u16::try_from(index).ok());
        match (index, self.slots.get_mut(usize::from(slot))) {
            (Some(index), Some(owner)) => {
                *owner = index;
                true
            }
            _ => false,
        }
    }

    fn index(&mut self, master: Master) -> Option<u16> {
        let known = self.masters.iter().position(|known| *known == master);
        let index = known.unwrap_or_else(|| {
            self.masters.push(master);
            self.masters.len() - 1
        });
        u16::try_from(index).ok().filter(|index| *index != NOBODY)
    }
}

/// `[host, port, id, ...]`. A server that does not know its own name, or whose name is that of whoever asks, says
/// none: it is where it was asked.
fn master_of(told: &[Value], asked: &Address) -> Option<Master> {
    let [host, Value::Int(port), id, ..] = told else {
        return None;
    };
    let host = text(host).filter(|host| !host.is_empty() && *host != "?");
    let address = Address::Tcp {
        host: match (host, asked) {
            (Some(host), _) => host.to_owned(),
            (None, Address::Tcp { host, .. }) => host.clone(),
            (None, Address::Unix(_)) => return None,
        },
        port: u16::try_from(*port).ok()?,
    };
    Some(Master {
        id: text(id)?.into(),
        address,
    })
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

/// Where a redirection leads, as in `3999 127.0.0.1:6381`, said by the server at `asked`.
pub(super) fn redirected(told: &str, asked: &Address) -> Option<(u16, Address)> {
    let (slot, place) = told.trim().split_once(' ')?;
    let (host, port) = place.rsplit_once(':')?;
    let host = match (host, asked) {
        ("" | "?", Address::Tcp { host, .. }) => host.clone(),
        (host, _) => host.trim_start_matches('[').trim_end_matches(']').to_owned(),
    };
    let address = Address::Tcp {
        host,
        port: port.parse().ok()?,
    };
    Some((slot.parse().ok()?, address))
}

/// What one master says of itself and of the others (`CLUSTER NODES`), as far as lists need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    /// Its own epoch and slots, those included that it is about to give or to get.
    own: String,
    /// Whether there are such slots.
    pub(super) is_moving: bool,
    /// Every master that is in its place, also those without slots.
    masters: Vec<Listed>,
}

/// A master as `CLUSTER NODES` lists it: by its IP address, and by its name, if it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listed {
    id: String,
    by_ip: Address,
    by_name: Option<Address>,
}

impl Account {
    /// Reads the answer to `CLUSTER NODES`; nothing in it that is not understood matters to lists.
    pub(super) fn read(told: &str, asked: &Address) -> Account {
        let mut account = Account {
            own: String::new(),
            is_moving: false,
            masters: vec![],
        };
        for line in told.lines() {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let [id, place, flags, _of, _ping, _pong, epoch, _link, slots @ ..] = &words[..] else {
                continue;
            };
            let flags: Vec<&str> = flags.split(',').collect();
            let has = |flag: &str| flags.contains(&flag);
            if has("myself") {
                account.own = format!("{epoch} {}", slots.join(" "));
                account.is_moving = slots.iter().any(|slot| slot.starts_with('['));
            }
            if !has("master") || has("fail") || has("handshake") || has("noaddr") {
                continue;
            }
            let (place, name) = place.split_once(',').unwrap_or((place, ""));
            let place = place.split_once('@').map_or(place, |(place, _)| place);
            let Some((_, by_ip)) = redirected(&format!("0 {place}"), asked) else {
                continue;
            };
            let by_name = match &by_ip {
                Address::Tcp { port, .. } if !name.is_empty() => Some(Address::Tcp {
                    host: name.to_owned(),
                    port: *port,
                }),
                _ => None,
            };
            account.masters.push(Listed {
                id: (*id).to_owned(),
                by_ip,
                by_name,
            });
        }
        account
    }

    /// Every master besides those of `known`: they have no slots, but may be about to get some. They are called
    /// by name if the others are.
    pub(super) fn others(&self, known: &Topology) -> Vec<Address> {
        let is_name = |address: &Address| match address {
            Address::Tcp { host, .. } => host.parse::<std::net::IpAddr>().is_err(),
            Address::Unix(_) => false,
        };
        let by_name = known.masters.iter().any(|master| is_name(&master.address));
        let others = self
            .masters
            .iter()
            .filter(|listed| known.masters.iter().all(|master| *master.id != listed.id));
        others
            .map(|listed| match &listed.by_name {
                Some(name) if by_name => name.clone(),
                _ => listed.by_ip.clone(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn range(first: i64, last: i64, host: Value, port: i64, id: &str) -> Value {
        let server = |id| {
            Value::Array(vec![
                host.clone(),
                Value::Int(port),
                bulk(id),
                Value::Array(vec![]),
            ])
        };
        Value::Array(vec![
            Value::Int(first),
            Value::Int(last),
            server(id),
            server("replica"),
        ])
    }

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn slots_lead_to_masters_and_the_order_in_which_they_are_told_does_not_matter() {
        let a = range(0, 8191, bulk("10.0.0.1"), 1, "a");
        let b = range(8192, 16382, bulk("db-1.example"), 2, "b");
        let asked = address("seed:1");
        let told = Topology::read(&Value::Array(vec![b.clone(), a.clone()]), &asked).unwrap();
        assert_eq!(told, Topology::read(&Value::Array(vec![a, b]), &asked).unwrap());
        assert_eq!(told.owner(0).unwrap().address, address("10.0.0.1:1"));
        assert_eq!(told.owner(8192).unwrap().address, address("db-1.example:2"));
        assert_eq!(told.owner(16383), None);
        assert_eq!(told.masters().len(), 2);
    }

    #[test]
    fn a_server_that_does_not_say_where_it_is_is_where_it_was_asked() {
        for host in [Value::Nil, bulk(""), bulk("?")] {
            let told = Value::Array(vec![range(0, 16383, host, 7, "a")]);
            let told = Topology::read(&told, &address("seed:1")).unwrap();
            assert_eq!(told.owner(5).unwrap().address, address("seed:7"));
        }
        assert_eq!(
            redirected("5 :7001", &address("seed:1")),
            Some((5, address("seed:7001")))
        );
    }

    #[test]
    fn a_slot_that_has_moved_is_found_again_if_its_server_is_known() {
        let told = Value::Array(vec![
            range(0, 1, bulk("h"), 1, "a"),
            range(2, 3, bulk("h"), 2, "b"),
        ]);
        let mut told = Topology::read(&told, &address("h:1")).unwrap();
        assert!(told.moved(0, &address("h:2")));
        assert_eq!(told.owner(0).unwrap().id.as_ref(), "b");
        assert!(!told.moved(0, &address("h:3")) && !told.moved(16384, &address("h:1")));
    }

    #[test]
    fn what_is_no_topology_is_none() {
        for bad in [
            Value::Nil,
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![range(0, 16384, bulk("h"), 1, "a")]),
            Value::Array(vec![range(2, 1, bulk("h"), 1, "a")]),
            Value::Array(vec![range(0, 1, bulk("h"), 70_000, "a")]),
        ] {
            assert_eq!(Topology::read(&bad, &address("h:1")), None, "{bad:?}");
        }
    }

    #[test]
    fn redirections_are_read_and_nonsense_is_not() {
        let asked = address("seed:1");
        assert_eq!(
            redirected("3999 127.0.0.1:6381", &asked),
            Some((3999, address("127.0.0.1:6381")))
        );
        assert_eq!(
            redirected("1 [::1]:6381", &asked),
            Some((1, address("[::1]:6381")))
        );
        for bad in ["", "1", "x h:1", "1 h", "1 h:x", "70000 h:1"] {
            assert_eq!(redirected(bad, &asked), None, "{bad}");
        }
    }

    #[test]
    fn an_account_names_slots_that_are_moving_and_masters_without_any() {
        let told = "a :7000@17000 myself,master - 0 0 3 connected 0-5460 [93-<-b] [77->-c]\n\
                    b 10.0.0.2:7001@17001,db-2 master - 0 1 2 connected 5461-10922\n\
                    c 10.0.0.3:7002@17002 master - 0 1 0 connected\n\
                    d 10.0.0.4:7003@17003 slave a 0 1 3 connected\n\
                    e 10.0.0.5:7004@17004 master,fail - 0 1 1 connected\n";
        let account = Account::read(told, &address("seed:7000"));
        assert!(account.is_moving);
        let known = |host: &str| {
            let told = Value::Array(vec![range(0, 5460, bulk(host), 7000, "a")]);
            Topology::read(&told, &address("seed:7000")).unwrap()
        };
        assert_eq!(
            account.others(&known("10.0.0.1")),
            ["10.0.0.2:7001", "10.0.0.3:7002"].map(address)
        );
        assert_eq!(
            account.others(&known("db-1")),
            ["db-2:7001", "10.0.0.3:7002"].map(address)
        );
        assert_ne!(
            account,
            Account::read(&told.replace("0-5460", "0-5461"), &address("seed:7000"))
        );
        assert!(!Account::read("", &address("seed:7000")).is_moving);
    }
}
