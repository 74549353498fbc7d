//! A real cluster of `redis-server` processes on loopback.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use crate::server::Server;

/// Masters with all slots between them, and their replicas.
pub struct Cluster {
    pub masters: Vec<Server>,
    pub replicas: Vec<Server>,
}

const SLOTS: usize = 16384;
/// A server is held for dead after a second; one that has given its last slot away stays a master.
const OPTIONS: [&str; 8] = [
    "--cluster-enabled",
    "yes",
    "--cluster-node-timeout",
    "1000",
    "--cluster-allow-replica-migration",
    "no",
    "--repl-diskless-sync-delay",
    "0",
];

impl Cluster {
    /// Starts so many masters, each with a replica if `replicas`, and waits until they are one cluster.
    pub fn start(masters: usize, replicas: bool) -> Cluster {
        let start = || Server::start_on_free_bus(&OPTIONS);
        let cluster = Cluster {
            masters: (0..masters).map(|_| start()).collect(),
            replicas: (0..if replicas { masters } else { 0 }).map(|_| start()).collect(),
        };
        for (index, master) in cluster.masters.iter().enumerate() {
            let (first, end) = (index * SLOTS / masters, (index + 1) * SLOTS / masters);
            cluster.tell(
                master,
                &["ADDSLOTSRANGE", &first.to_string(), &(end - 1).to_string()],
            );
            cluster.tell(master, &["SET-CONFIG-EPOCH", &(index + 1).to_string()]);
        }
        for other in cluster.all().skip(1) {
            cluster.introduce(other);
        }
        cluster.wait_until("all know each other", |cluster| {
            cluster
                .all()
                .all(|server| nodes(server).lines().count() == cluster.all().count())
        });
        for (replica, master) in cluster.replicas.iter().zip(&cluster.masters) {
            cluster.tell(replica, &["REPLICATE", &id(master)]);
        }
        cluster.wait_until("all slots are served, and copied", |cluster| {
            cluster.all().all(is_ok)
                && cluster
                    .replicas
                    .iter()
                    .all(|replica| info(replica, "INFO").contains("master_link_status:up"))
        });
        cluster
    }

    /// A server that has met the others, and has no slots.
    pub fn join(&mut self) {
        self.masters.push(Server::start_on_free_bus(&OPTIONS));
        let newcomer = self.masters.last().unwrap();
        self.introduce(newcomer);
        self.wait_until("the newcomer is known", |cluster| {
            cluster
                .all()
                .all(|server| nodes(server).lines().count() == cluster.all().count())
                && cluster.all().all(is_ok)
        });
    }

    /// Moves a slot with its keys, as a resharding does.
    pub fn move_slot(&self, slot: u16, from: usize, to: usize) {
        self.open_slot(slot, from, to);
        self.move_keys(slot, from, to);
        self.close_slot(slot, to);
    }

    /// The beginning of a move.
    pub fn open_slot(&self, slot: u16, from: usize, to: usize) {
        let (from, to, slot) = (&self.masters[from], &self.masters[to], slot.to_string());
        self.tell(to, &["SETSLOT", &slot, "IMPORTING", &id(from)]);
        self.tell(from, &["SETSLOT", &slot, "MIGRATING", &id(to)]);
    }

    /// What is in the middle of a move.
    pub fn move_keys(&self, slot: u16, from: usize, to: usize) {
        let mut raw = self.masters[from].raw();
        let keys: Vec<String> = redis::cmd("CLUSTER")
            .arg("GETKEYSINSLOT")
            .arg(slot)
            .arg(100_000)
            .query(&mut raw)
            .unwrap();
        for key in keys {
            let address = self.masters[to].address();
            let _: String = redis::cmd("MIGRATE")
                .arg(address.ip().to_string())
                .arg(address.port())
                .arg(key)
                .arg(&[0, 5000])
                .query(&mut raw)
                .unwrap();
        }
    }

    /// The end of a move.
    pub fn close_slot(&self, slot: u16, to: usize) {
        let new_owner = id(&self.masters[to]);
        // Whoever gets it hears of it first.
        self.tell(
            &self.masters[to],
            &["SETSLOT", &slot.to_string(), "NODE", &new_owner],
        );
        for (index, server) in self.masters.iter().enumerate() {
            if index != to {
                self.tell(server, &["SETSLOT", &slot.to_string(), "NODE", &new_owner]);
            }
        }
    }

    /// Removes every record.
    pub fn flush(&self) {
        for master in &self.masters {
            let _: String = redis::cmd("FLUSHALL").query(&mut master.raw()).unwrap();
        }
    }

    /// The first master.
    pub fn url(&self) -> String {
        format!("redis://{}", self.masters[0].address())
    }

    pub fn wait_until(&self, what: &str, is_so: impl Fn(&Cluster) -> bool) {
        let begin = Instant::now();
        while !is_so(self) {
            assert!(begin.elapsed() < Duration::from_secs(60), "{what}: in vain");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn all(&self) -> impl Iterator<Item = &Server> {
        self.masters.iter().chain(&self.replicas)
    }

    fn introduce(&self, other: &Server) {
        let (address, bus) = (other.address(), other.bus());
        let port = address.port().to_string();
        self.tell(
            &self.masters[0],
            &["MEET", &address.ip().to_string(), &port, &bus.to_string()],
        );
    }

    fn tell(&self, server: &Server, words: &[&str]) {
        let _: String = redis::cmd("CLUSTER").arg(words).query(&mut server.raw()).unwrap();
    }
}

/// What the cluster calls it.
fn id(server: &Server) -> String {
    redis::cmd("CLUSTER")
        .arg("MYID")
        .query(&mut server.raw())
        .unwrap()
}

pub fn info(server: &Server, words: &str) -> String {
    let mut words = words.split(' ');
    let mut command = redis::cmd(words.next().unwrap());
    for word in words {
        command.arg(word);
    }
    command.query(&mut server.raw()).unwrap()
}

fn is_ok(server: &Server) -> bool {
    info(server, "CLUSTER INFO").contains("cluster_state:ok")
}

fn nodes(server: &Server) -> String {
    info(server, "CLUSTER NODES")
}

impl Server {
    /// A server whose port for other servers is free as well.
    fn start_on_free_bus(options: &[&str]) -> Server {
        let bus: SocketAddr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Server::start(&[&["--cluster-port", &bus.port().to_string()], options].concat())
    }

    fn bus(&self) -> u16 {
        let known = nodes(self);
        let own = known.lines().find(|line| line.contains("myself")).unwrap();
        let (_, after) = own.split_once('@').unwrap();
        let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap()
    }
}
