//! The network of a worker: its actor behind a veth pair in a namespace of its own.
//!
//! ```text
//!  pod namespace (the worker process)            interior namespace `ateom:<pod uid>` (the sandbox)
//!  eth0 <pod ip>                                 lo
//!  ateom0 169.254.17.1/30  <---- veth ---->      eth0 169.254.17.2/30, default route via 169.254.17.1
//!  nftables table `ip ateom_actor`: <pod ip>:80 -> 169.254.17.2:80, masquerade on the way out
//! ```
//!
//! Everything is made once per worker. An activation only needs [`WorkerNetwork::reset`], because all that
//! gVisor takes away when it starts is the address of `eth0`; that is two netlink messages, while removing
//! and making the pair again waits for the kernel's grace periods each time.

mod netlink;
pub(crate) mod netns;
mod nft;
mod pod;

use std::fmt;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener};
use std::path::PathBuf;
use std::sync::Mutex;

use thiserror::Error;

use crate::names::Label;
use netlink::{Netlink, Network};
use netns::Netns;
use nft::Filter;
pub use pod::{Pod, SUBNETS, Subnet};

/// Where an actor is reached, from the pod namespace.
pub const ACTOR_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 17, 2);

const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 17, 1);
const PREFIX: u8 = 30;
const HOST_LINK: &str = "ateom0";
const ACTOR_LINK: &str = "eth0";
const POD_LINK: &str = "eth0";
const POSSESSION: &str = "ateom";
const NFT_TABLE: &str = "ateom_actor";
const ACTOR_PORT: u16 = 80;

/// A step of the network set-up that failed.
#[derive(Debug, Error)]
pub enum NetworkError {
    /// The kernel refused.
    #[error("cannot {step}: {source}")]
    Step {
        /// What was being done.
        step: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The worker is not in a pod with an IPv4 address on `eth0`.
    #[error("the pod has no IPv4 address on {POD_LINK}; start the worker in a pod's network namespace")]
    NoPodAddress,
    /// The kernel did not accept the rules.
    #[error("the kernel refused the packet filter: {0}; it takes NF_TABLES, NFT_NAT and NFT_MASQ")]
    PacketFilter(io::Error),
    /// Another worker lives in this network.
    #[error(
        "another ateom has the network of this pod already (its veth pair, its packet filter); start one ateom in \
         each network namespace"
    )]
    InUse,
    /// The subnet asked for is already routed somewhere.
    #[error("subnet {subnet} is already routed on this machine as {routed}; choose another one")]
    SubnetTaken {
        /// The subnet asked for.
        subnet: String,
        /// The route it collides with.
        routed: String,
    },
    /// Some of the clean-up failed; the rest of it was done.
    #[error("network clean-up left something behind: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Cleanup(Vec<NetworkError>),
}

/// The network of one worker process, which lives in the pod's network namespace.
pub struct WorkerNetwork {
    name: String,
    path: PathBuf,
    interior: Mutex<Netlink>,
    /// Nobody else has this network as long as it is open.
    _possession: UnixListener,
}

impl WorkerNetwork {
    /// Makes everything, or adopts what a previous incarnation in this pod made.
    ///
    /// One process has it at a time. To be called in the pod's namespace; `/proc/sys/net/ipv4/ip_forward` must be writable.
    pub fn open(pod_uid: &Label) -> Result<Self, NetworkError> {
        let name = interior_name(pod_uid);
        let possession = possession()?;
        let mut pod = Netlink::open().map_err(step("open a route socket"))?;
        let pod_link = pod
            .link(POD_LINK)
            .map_err(step("look up eth0"))?
            .ok_or(NetworkError::NoPodAddress)?;
        let pod_ip = pod
            .address(pod_link)
            .map_err(step("read the pod's address"))?
            .ok_or(NetworkError::NoPodAddress)?;

        let netns = Netns::create(&name).map_err(step("make the interior network namespace"))?;
        let mut interior = netns
            .netlink()
            .map_err(step("enter the interior network namespace"))?;
        join(&mut pod, &mut interior, &netns).map_err(step("join pod and interior by a veth pair"))?;
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").map_err(step("turn on IPv4 forwarding"))?;
        let filter = Filter {
            pod: pod_ip,
            actor: ACTOR_ADDRESS,
            port: ACTOR_PORT,
        };
        nft::replace(NFT_TABLE, filter).map_err(NetworkError::PacketFilter)?;
        let path = netns.path().to_owned();
        let network = Self {
            name,
            path,
            interior: Mutex::new(interior),
            _possession: possession,
        };
        network.reset()?;
        Ok(network)
    }

    /// The file that stands for the interior namespace, as an OCI specification wants it.
    pub fn netns(&self) -> &std::path::Path {
        &self.path
    }

    /// Makes the interior namespace fit for a sandbox to start in. Costs about a millisecond.
    pub fn reset(&self) -> Result<(), NetworkError> {
        let mut interior = self
            .interior
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let result: io::Result<()> = (|| {
            let link = interior.existing_link(ACTOR_LINK)?;
            interior.set_address(
                link,
                Network {
                    address: ACTOR_ADDRESS,
                    prefix: PREFIX,
                },
            )?;
            interior.set_up(link)?;
            interior.set_default_route(GATEWAY, link)
        })();
        result.map_err(step("give the actor's link its address and route"))
    }

    /// Removes everything. Each part is tried whatever becomes of the others.
    pub fn remove(&self) -> Result<(), NetworkError> {
        let mut faults = Vec::new();
        faults.extend(nft::remove(NFT_TABLE).map_err(NetworkError::PacketFilter).err());
        let link = Netlink::open().and_then(|mut pod| pod.remove_link(HOST_LINK));
        faults.extend(link.map_err(step("remove the veth pair")).err());
        faults.extend(
            Netns::remove(&self.name)
                .map_err(step("remove the interior namespace"))
                .err(),
        );
        if faults.is_empty() {
            Ok(())
        } else {
            Err(NetworkError::Cleanup(faults))
        }
    }
}

impl fmt::Debug for WorkerNetwork {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("WorkerNetwork")
            .field("netns", &self.path)
            .finish_non_exhaustive()
    }
}

/// The file that stands for the interior namespace of a worker, whether it is there yet or not.
pub fn interior_netns(pod_uid: &Label) -> PathBuf {
    netns::path(&interior_name(pod_uid))
}

fn interior_name(pod_uid: &Label) -> String {
    format!("ateom:{pod_uid}")
}

/// Takes the network namespace of this thread for this process, or says that another process has it.
///
/// Names of abstract sockets are of one network namespace, and gone with their process: a lock that nobody has to
/// clear away.
fn possession() -> Result<UnixListener, NetworkError> {
    let name = UnixAddress::from_abstract_name(POSSESSION);
    match name.and_then(|name| UnixListener::bind_addr(&name)) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(NetworkError::InUse),
        taken => taken.map_err(step("take possession of the pod's network")),
    }
}

/// Makes the veth pair unless both of its ends are there.
fn join(pod: &mut Netlink, interior: &mut Netlink, netns: &Netns) -> io::Result<()> {
    let whole = pod.link(HOST_LINK)?.is_some() && interior.link(ACTOR_LINK)?.is_some();
    if !whole {
        pod.remove_link(HOST_LINK)?;
        interior.remove_link(ACTOR_LINK)?;
        pod.add_veth(HOST_LINK, ACTOR_LINK, netns.file().as_fd())?;
    }
    let host = pod.existing_link(HOST_LINK)?;
    pod.set_address(
        host,
        Network {
            address: GATEWAY,
            prefix: PREFIX,
        },
    )?;
    pod.set_up(host)?;
    let loopback = interior.existing_link("lo")?;
    interior.set_up(loopback)
}

fn step(what: &str) -> impl FnOnce(io::Error) -> NetworkError + '_ {
    move |source| NetworkError::Step {
        step: what.to_owned(),
        source,
    }
}
