//! The packet filter of a worker, over netlink: one table, replaced or removed in one transaction.
//!
//! Only what that table needs of nftables is written here: messages of `linux/netfilter/nf_tables.h`, each in the
//! order of its attributes there. The kernel reads integers in network order, and everything padded to four bytes.

use std::io;
use std::net::Ipv4Addr;

use netlink_packet_core::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFPROTO_IPV4: u8 = 2;
const NLMSG_ERROR: u16 = 2;
const HEADER_BYTES: usize = 16;

const NFT_MSG_NEWTABLE: u16 = 0;
const NFT_MSG_DELTABLE: u16 = 2;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_NEWRULE: u16 = 6;

const NLA_F_NESTED: u16 = 1 << 15;
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_NAT_TYPE: u16 = 1;
const NFTA_NAT_FAMILY: u16 = 2;
const NFTA_NAT_REG_ADDR_MIN: u16 = 3;
const NFTA_NAT_REG_PROTO_MIN: u16 = 5;

const NF_ACCEPT: u32 = 1;
const NFT_NAT_DNAT: u32 = 1;
const NFT_META_L4PROTO: u32 = 16;
const IPPROTO_TCP: u8 = 6;
/// The registers that expressions hand values to each other in; the first is where a verdict goes.
const VERDICT: u32 = 0;
const ADDRESS: u32 = 1;
const PORT: u32 = 2;

/// Where the kernel asks a chain.
#[derive(Debug, Clone, Copy)]
enum Hook {
    Prerouting = 0,
    Forward = 2,
    Postrouting = 4,
}

/// Which header of a packet a field is in.
#[derive(Debug, Clone, Copy)]
enum Header {
    Network = 1,
    Transport = 2,
}

/// A place in a header: offset and length.
#[derive(Debug, Clone, Copy)]
struct Field(Header, u32, u32);

const SOURCE_ADDRESS: Field = Field(Header::Network, 12, 4);
const DESTINATION_ADDRESS: Field = Field(Header::Network, 16, 4);
const DESTINATION_PORT: Field = Field(Header::Transport, 2, 2);

/// What a worker's table does: what comes to `pod` on `port` goes to `actor`, and what `actor` sends bears the
/// address of the pod.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filter {
    pub pod: Ipv4Addr,
    pub actor: Ipv4Addr,
    pub port: u16,
}

/// Puts a table in force, in the place of whatever is called that. All of it, or nothing.
pub(super) fn replace(table: &str, filter: Filter) -> io::Result<()> {
    let mut batch = Batch::default();
    batch.without(table);
    batch.table(table);
    let nat = |hook, priority| (hook, "nat", priority);
    batch.chain(table, "prerouting", nat(Hook::Prerouting, -100), None);
    batch.chain(table, "postrouting", nat(Hook::Postrouting, 100), None);
    batch.chain(table, "forward", (Hook::Forward, "filter", 0), Some(NF_ACCEPT));
    let mut to_actor = Expressions::default();
    to_actor.field_is(DESTINATION_ADDRESS, &filter.pod.octets());
    to_actor.is_tcp();
    to_actor.field_is(DESTINATION_PORT, &filter.port.to_be_bytes());
    to_actor.load(ADDRESS, &filter.actor.octets());
    to_actor.load(PORT, &filter.port.to_be_bytes());
    to_actor.destination_nat();
    batch.rule(table, "prerouting", &to_actor);
    let mut from_actor = Expressions::default();
    from_actor.field_is(SOURCE_ADDRESS, &filter.actor.octets());
    from_actor.masquerade();
    batch.rule(table, "postrouting", &from_actor);
    let mut all = Expressions::default();
    all.accept();
    batch.rule(table, "forward", &all);
    batch.commit()
}

/// Removes a table; it is fine when there is none.
pub(super) fn remove(table: &str) -> io::Result<()> {
    let mut batch = Batch::default();
    batch.without(table);
    batch.commit()
}

/// Messages that take effect together.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    messages: u32,
}

impl Batch {
    /// As there is no message that removes what may not be there, it is made first.
    fn without(&mut self, table: &str) {
        self.table(table);
        self.message(NFT_MSG_DELTABLE, 0, &text(NFTA_TABLE_NAME, table));
    }

    fn table(&mut self, name: &str) {
        self.message(NFT_MSG_NEWTABLE, NLM_F_CREATE, &text(NFTA_TABLE_NAME, name));
    }

    fn chain(
        &mut self,
        table: &str,
        name: &str,
        (hook, kind, priority): (Hook, &str, i32),
        policy: Option<u32>,
    ) {
        let hook = [
            number(NFTA_HOOK_HOOKNUM, hook as u32),
            attribute(NFTA_HOOK_PRIORITY, &priority.to_be_bytes()),
        ];
        let body = [
            text(NFTA_CHAIN_TABLE, table),
            text(NFTA_CHAIN_NAME, name),
            nested(NFTA_CHAIN_HOOK, &hook.concat()),
            policy.map_or_else(Vec::new, |policy| number(NFTA_CHAIN_POLICY, policy)),
            text(NFTA_CHAIN_TYPE, kind),
        ];
        self.message(NFT_MSG_NEWCHAIN, NLM_F_CREATE, &body.concat());
    }

    fn rule(&mut self, table: &str, chain: &str, expressions: &Expressions) {
        let body = [
            text(NFTA_RULE_TABLE, table),
            text(NFTA_RULE_CHAIN, chain),
            nested(NFTA_RULE_EXPRESSIONS, &expressions.0),
        ];
        self.message(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, &body.concat());
    }

    /// Each is acknowledged; its number is its place in the batch, from 1 on.
    fn message(&mut self, kind: u16, flags: u16, body: &[u8]) {
        self.messages += 1;
        let kind = NFNL_SUBSYS_NFTABLES << 8 | kind;
        let sequence = self.messages;
        let packed = packed(
            kind,
            NLM_F_REQUEST | NLM_F_ACK | flags,
            sequence,
            (NFPROTO_IPV4, 0),
            body,
        );
        self.bytes.extend(packed);
    }

    /// Sends the batch, and reads what became of each of its messages. By the time that it is sent, it has been
    /// carried out, and every answer is there.
    fn commit(self) -> io::Result<()> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        let mark = |kind| packed(kind, NLM_F_REQUEST, 0, (0, NFNL_SUBSYS_NFTABLES), &[]);
        let bytes = [mark(NFNL_MSG_BATCH_BEGIN), self.bytes, mark(NFNL_MSG_BATCH_END)].concat();
        socket.send(&bytes, 0)?;
        let mut answered = 0;
        while answered < self.messages {
            let (datagram, _) = socket.recv_from_full()?;
            for error in errors(&datagram)? {
                match error {
                    0 => answered += 1,
                    error => return Err(io::Error::from_raw_os_error(-error)),
                }
            }
        }
        Ok(())
    }
}

/// What a rule does to a packet, one thing after the other.
#[derive(Default)]
struct Expressions(Vec<u8>);

impl Expressions {
    fn add(&mut self, name: &str, data: &[Vec<u8>]) {
        let body = [text(NFTA_EXPR_NAME, name), nested(NFTA_EXPR_DATA, &data.concat())];
        self.0.extend(nested(NFTA_LIST_ELEM, &body.concat()));
    }

    /// The rule ends here unless the field of the packet is this.
    fn field_is(&mut self, Field(header, offset, length): Field, value: &[u8]) {
        let load = [
            number(1, ADDRESS),
            number(2, header as u32),
            number(3, offset),
            number(4, length),
        ];
        self.add("payload", &load);
        self.register_is(value);
    }

    /// The rule ends here unless it is TCP.
    fn is_tcp(&mut self) {
        self.add("meta", &[number(1, ADDRESS), number(2, NFT_META_L4PROTO)]);
        self.register_is(&[IPPROTO_TCP]);
    }

    fn register_is(&mut self, value: &[u8]) {
        const EQUAL: u32 = 0;
        let value = nested(3, &attribute(NFTA_DATA_VALUE, value));
        self.add("cmp", &[number(1, ADDRESS), number(2, EQUAL), value]);
    }

    fn load(&mut self, register: u32, value: &[u8]) {
        let value = nested(2, &attribute(NFTA_DATA_VALUE, value));
        self.add("immediate", &[number(1, register), value]);
    }

    fn destination_nat(&mut self) {
        let to = [
            number(NFTA_NAT_TYPE, NFT_NAT_DNAT),
            number(NFTA_NAT_FAMILY, NFPROTO_IPV4.into()),
            number(NFTA_NAT_REG_ADDR_MIN, ADDRESS),
            number(NFTA_NAT_REG_PROTO_MIN, PORT),
        ];
        self.add("nat", &to);
    }

    fn masquerade(&mut self) {
        self.add("masq", &[]);
    }

    fn accept(&mut self) {
        let verdict = nested(NFTA_DATA_VERDICT, &number(NFTA_VERDICT_CODE, NF_ACCEPT));
        self.add("immediate", &[number(1, VERDICT), nested(2, &verdict)]);
    }
}

/// A netlink message of a netfilter subsystem.
fn packed(kind: u16, flags: u16, sequence: u32, (family, resource): (u8, u16), body: &[u8]) -> Vec<u8> {
    const FAMILY_BYTES: usize = 4;
    let length = HEADER_BYTES + FAMILY_BYTES + body.len();
    let mut message = Vec::with_capacity(length);
    message.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend(0u32.to_ne_bytes());
    message.extend([family, 0]);
    message.extend(resource.to_be_bytes());
    message.extend(body);
    message
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn nested(kind: u16, attributes: &[u8]) -> Vec<u8> {
    attribute(kind | NLA_F_NESTED, attributes)
}

fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

fn text(kind: u16, value: &str) -> Vec<u8> {
    attribute(kind, &[value.as_bytes(), &[0]].concat())
}

/// The error numbers in a datagram of acknowledgements: negative, or 0 where all is well.
fn errors(mut datagram: &[u8]) -> io::Result<Vec<i32>> {
    let torn = || io::Error::new(io::ErrorKind::InvalidData, "a torn answer of nftables");
    let mut errors = Vec::new();
    while !datagram.is_empty() {
        let word = |at: usize| -> io::Result<[u8; 4]> {
            let bytes = datagram.get(at..at + 4).ok_or_else(torn)?;
            bytes.try_into().map_err(|_| torn())
        };
        let length = u32::from_ne_bytes(word(0)?) as usize;
        let [kind_low, kind_high, ..] = word(4)?;
        if u16::from_ne_bytes([kind_low, kind_high]) == NLMSG_ERROR {
            errors.push(i32::from_ne_bytes(word(HEADER_BYTES)?));
        }
        // Never less than a header, so that this ends.
        let length = length.max(HEADER_BYTES).next_multiple_of(4);
        datagram = datagram.get(length..).unwrap_or_default();
    }
    Ok(errors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_their_length_is_not() {
        let bytes = text(NFTA_TABLE_NAME, "ab");
        assert_eq!(bytes.len(), 8);
        assert_eq!(u16::from_ne_bytes([bytes[0], bytes[1]]), 7);
        assert_eq!(number(3, 1)[4..], [0, 0, 0, 1]);
        assert_eq!(
            u16::from_ne_bytes([nested(4, &[])[2], nested(4, &[])[3]]),
            4 | NLA_F_NESTED
        );
    }

    #[test]
    fn answers_are_read_to_the_last_one_and_a_torn_one_is_an_error() {
        let answer = |error: i32| {
            let mut bytes = 20u32.to_ne_bytes().to_vec();
            bytes.extend(NLMSG_ERROR.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(error.to_ne_bytes());
            bytes
        };
        let both = [answer(0), answer(-2)].concat();
        assert_eq!(errors(&both).unwrap(), [0, -2]);
        assert!(errors(&both[..30]).is_err());
        assert_eq!(errors(&[0; 16]).unwrap(), [0; 0], "a message without a length");
    }

    #[test]
    fn what_the_kernel_refuses_is_an_error_and_nothing_of_it_stays() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: takes root");
            return;
        }
        let mut batch = Batch::default();
        batch.table("holdfast_refused");
        batch.rule("holdfast_refused", "no_such_chain", &Expressions::default());
        let error = batch.commit().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
        let mut batch = Batch::default();
        batch.message(NFT_MSG_DELTABLE, 0, &text(NFTA_TABLE_NAME, "holdfast_refused"));
        assert!(batch.commit().is_err(), "the table was part of it");
    }
}
