//! The network of a worker: its actor behind a veth pair in a namespace of its own.
//!
//! ```text
//!  pod namespace (the worker process)            interior namespace `ateom:<pod uid>` (the sandbox)
//!  eth0 <pod ip>                                 lo
//!  ateom0 169.254.17.1/30  <---- veth ---->      eth0 169.254.17.2/30, default route via 169.254.17.1
//!  nft table `ip ateom_actor`: <pod ip>:80 -> 169.254.17.2:80, masquerade on the way out
//! ```
//!
//! Everything is made once per worker. An activation only needs [`WorkerNetwork::reset`], because all that
//! gVisor takes away when it starts is the address of `eth0`; that is two netlink messages, while removing
//! and making the pair again waits for the kernel's grace periods each time.
//!
//! The packet filter goes in through the `nft` program rather than netlink: the crates that encode nftables
//! expressions are GPL or link libraries that are, a hand-written encoder would be larger than the rest of
//! this module, and one process per worker start costs nothing.

mod netlink;
pub(crate) mod netns;
mod pod;

use std::fmt;
use std::fs;
use std::io::{self, Seek, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use thiserror::Error;

use crate::names::Label;
use crate::reaper::Reaper;
use crate::scratch;
use netlink::{Netlink, Network};
use netns::Netns;
pub use pod::{Pod, SUBNETS, Subnet};

/// Where an actor is reached, from the pod namespace.
pub const ACTOR_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 17, 2);

const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 17, 1);
const PREFIX: u8 = 30;
const HOST_LINK: &str = "ateom0";
const ACTOR_LINK: &str = "eth0";
const POD_LINK: &str = "eth0";
const NFT_TABLE: &str = "ip ateom_actor";
const NFT_LIMIT: Duration = Duration::from_secs(10);

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
    /// `nft` did not accept the rules.
    #[error(
        "nft refused the packet filter ({fault}); install nftables and a kernel with NF_TABLES and NFT_NAT"
    )]
    PacketFilter {
        /// What it said.
        fault: String,
    },
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
}

impl WorkerNetwork {
    /// Makes everything, or adopts what a previous incarnation in this pod made.
    ///
    /// To be called in the pod's namespace; `/proc/sys/net/ipv4/ip_forward` must be writable.
    pub fn open(pod_uid: &Label, reaper: &'static Reaper) -> Result<Self, NetworkError> {
        let name = interior_name(pod_uid);
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
        packet_filter(reaper, &rules(pod_ip))?;
        let path = netns.path().to_owned();
        let network = Self {
            name,
            path,
            interior: Mutex::new(interior),
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
    pub fn remove(&self, reaper: &'static Reaper) -> Result<(), NetworkError> {
        let mut faults = Vec::new();
        if let Err(fault) = packet_filter(reaper, &format!("table {NFT_TABLE}\ndelete table {NFT_TABLE}\n")) {
            faults.push(fault);
        }
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

/// The whole packet filter as one transaction: whatever table was there is replaced by it.
fn rules(pod_ip: Ipv4Addr) -> String {
    format!(
        "table {NFT_TABLE}
delete table {NFT_TABLE}
table {NFT_TABLE} {{
    chain prerouting {{
        type nat hook prerouting priority -100;
        ip daddr {pod_ip} tcp dport 80 dnat to {ACTOR_ADDRESS}:80
    }}
    chain postrouting {{
        type nat hook postrouting priority 100;
        ip saddr {ACTOR_ADDRESS} masquerade
    }}
    chain forward {{
        type filter hook forward priority 0; policy accept;
        accept
    }}
}}
"
    )
}

fn packet_filter(reaper: &'static Reaper, rules: &str) -> Result<(), NetworkError> {
    let run = || -> io::Result<Option<String>> {
        let mut input = scratch::file("nft-rules")?;
        input.write_all(rules.as_bytes())?;
        input.rewind()?;
        let complaint = scratch::file("nft-complaint")?;
        let mut command = Command::new("nft");
        command
            .args(["-f", "-"])
            .stdin(input)
            .stdout(Stdio::null())
            .stderr(complaint.try_clone()?);
        let nft = reaper.spawn(&mut command)?;
        let Some(status) = nft.wait_timeout(NFT_LIMIT) else {
            nft.signal(rustix::process::Signal::KILL);
            return Ok(Some(format!("no answer within {NFT_LIMIT:?}")));
        };
        if status.success() {
            return Ok(None);
        }
        let text = scratch::read(complaint)?;
        Ok(Some(format!(
            "{status}: {}",
            text.lines().next().unwrap_or("no reason given")
        )))
    };
    match run() {
        Ok(None) => Ok(()),
        Ok(Some(fault)) => Err(NetworkError::PacketFilter { fault }),
        Err(error) => Err(NetworkError::PacketFilter {
            fault: format!("cannot run nft: {error}"),
        }),
    }
}

fn step(what: &str) -> impl FnOnce(io::Error) -> NetworkError + '_ {
    move |source| NetworkError::Step {
        step: what.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packet_filter_replaces_itself_in_one_transaction() {
        let rules = rules(Ipv4Addr::new(10, 88, 0, 2));
        assert!(
            rules.starts_with("table ip ateom_actor\ndelete table ip ateom_actor\ntable ip ateom_actor {")
        );
        assert!(rules.contains("ip daddr 10.88.0.2 tcp dport 80 dnat to 169.254.17.2:80"));
        assert!(rules.contains("ip saddr 169.254.17.2 masquerade"));
    }
}
