//! Pod networks for a cluster that is one machine: what a container runtime's network plug-in does in a
//! real one. A worker process started inside is reached at its pod address, from the machine only.

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::netlink::{Netlink, Network};
use super::netns::{self, Netns};
use super::{NetworkError, POD_LINK, step};
use crate::names::Label;

const PREFIX: u8 = 30;

/// So many subnets has a pod network, which is a /16.
pub const SUBNETS: u16 = 1 << 14;

/// A /30: one address for the machine, one for the pod.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    network: Ipv4Addr,
}

impl Subnet {
    /// The `index`-th /30 of the /16 that `base` lies in; `None` past the last of [`SUBNETS`].
    pub fn nth(base: Ipv4Addr, index: u16) -> Option<Self> {
        let [first, second, ..] = base.octets();
        let offset = u32::from(index) * 4;
        let network = u32::from(Ipv4Addr::new(first, second, 0, 0)) + offset;
        (index < SUBNETS).then(|| Self {
            network: Ipv4Addr::from(network),
        })
    }

    /// The machine's address in it.
    pub fn host(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) + 1)
    }

    /// The pod's address in it.
    pub fn pod(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) + 2)
    }

    /// Until [`Subnet::release`], what is sent to this subnet while no pod is there is refused on this machine.
    ///
    /// Otherwise it would leave by the default route, and whoever has that address elsewhere would be taken
    /// for the pod. One reservation excludes another, also of a cluster that does not know this one.
    ///
    /// # Errors
    /// [`NetworkError::SubnetTaken`] when it is reserved already, or what the kernel says.
    pub fn reserve(self) -> Result<(), NetworkError> {
        match Netlink::open().and_then(|mut host| host.add_unreachable(self.network())) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(NetworkError::SubnetTaken {
                subnet: self.to_string(),
                routed: format!("unreachable {self}"),
            }),
            reserved => reserved.map_err(step("reserve the pod's subnet")),
        }
    }

    /// Takes back a [`Subnet::reserve`] of one's own; it is fine when that has been done.
    pub fn release(self) -> Result<(), NetworkError> {
        Netlink::open()
            .and_then(|mut host| host.remove_unreachable(self.network()))
            .map_err(step("release the pod's subnet"))
    }

    fn network(self) -> Network {
        Network {
            address: self.network,
            prefix: PREFIX,
        }
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{PREFIX}", self.network)
    }
}

impl fmt::Debug for Subnet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// A pod's network namespace and its link to the machine.
#[derive(Debug)]
pub struct Pod {
    netns: Netns,
    subnet: Subnet,
}

impl Pod {
    /// Makes the network of pod `uid`. One that is left from before is replaced.
    pub fn create(uid: &Label, subnet: Subnet) -> Result<Self, NetworkError> {
        Self::delete(uid)?;
        let name = name(uid);
        let made = make(&name, subnet);
        if made.is_err() {
            let _ = Self::delete(uid);
        }
        made
    }

    /// Removes the network of pod `uid`; it is fine when there is none.
    pub fn delete(uid: &Label) -> Result<(), NetworkError> {
        let name = name(uid);
        let mut faults = Vec::new();
        let link = Netlink::open().and_then(|mut host| host.remove_link(&name));
        faults.extend(link.map_err(step("remove the pod's link")).err());
        faults.extend(
            Netns::remove(&name)
                .map_err(step("remove the pod's namespace"))
                .err(),
        );
        if faults.is_empty() {
            Ok(())
        } else {
            Err(NetworkError::Cleanup(faults))
        }
    }

    /// The pod's address.
    pub fn address(&self) -> Ipv4Addr {
        self.subnet.pod()
    }

    /// The machine's address as the pod sees it.
    pub fn host(&self) -> Ipv4Addr {
        self.subnet.host()
    }

    /// Makes `command` start inside the pod's network.
    pub fn confine(&self, command: &mut Command) -> io::Result<()> {
        let namespace = self.netns.file().try_clone()?;
        // SAFETY: `setns` on a file opened before the fork is a single system call, and allocates nothing.
        unsafe { command.pre_exec(move || netns::enter(&namespace)) };
        Ok(())
    }

    /// Moves the calling thread into the pod's network, for good. Threads it starts later are there, too.
    pub fn enter(&self) -> io::Result<()> {
        netns::enter(self.netns.file())
    }
}

/// Name of both the namespace and the machine's end of the link, which the kernel limits to 15 bytes.
fn name(uid: &Label) -> String {
    // The last characters: uids made by counting differ there, and random ones anywhere.
    let uid = uid.as_str();
    let short: String = uid.chars().filter(|c| *c != '-').collect();
    format!("hf-{}", &short[short.len().saturating_sub(12)..])
}

fn make(name: &str, subnet: Subnet) -> Result<Pod, NetworkError> {
    let mut host = Netlink::open().map_err(step("open a route socket"))?;
    let routed = host
        .routed_networks()
        .map_err(step("list the machine's routes"))?;
    if let Some(taken) = routed
        .into_iter()
        .find(|routed| routed.overlaps(subnet.network()))
    {
        let routed = format!("{}/{}", taken.address, taken.prefix);
        return Err(NetworkError::SubnetTaken {
            subnet: subnet.to_string(),
            routed,
        });
    }
    let netns = Netns::create(name).map_err(step("make the pod's network namespace"))?;
    let mut wire = || -> io::Result<()> {
        let mut pod = netns.netlink()?;
        host.add_veth(name, POD_LINK, netns.file().as_fd())?;
        let host_end = host.existing_link(name)?;
        host.set_address(
            host_end,
            Network {
                address: subnet.host(),
                prefix: PREFIX,
            },
        )?;
        host.set_up(host_end)?;
        let loopback = pod.existing_link("lo")?;
        pod.set_up(loopback)?;
        let pod_end = pod.existing_link(POD_LINK)?;
        pod.set_address(
            pod_end,
            Network {
                address: subnet.pod(),
                prefix: PREFIX,
            },
        )?;
        pod.set_up(pod_end)?;
        pod.set_default_route(subnet.host(), pod_end)
    };
    wire().map_err(step("wire the pod to the machine"))?;
    Ok(Pod { netns, subnet })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_are_counted_through_a_slash_16_and_end_there() {
        let base = Ipv4Addr::new(10, 88, 0, 0);
        let third = Subnet::nth(base, 2).unwrap();
        assert_eq!(
            (third.host(), third.pod()),
            ([10, 88, 0, 9].into(), [10, 88, 0, 10].into())
        );
        assert_eq!(third.to_string(), "10.88.0.8/30");
        assert_eq!(
            Subnet::nth(base, 16383).unwrap().pod(),
            Ipv4Addr::new(10, 88, 255, 254)
        );
        assert_eq!(Subnet::nth(base, 16384), None);
    }

    #[test]
    fn the_name_of_a_pods_link_fits_the_kernels_limit() {
        let uid = Label::parse("pod UID", "3f9a2b1c-0d4e-4f60-8a7b-1c2d3e4f5a6b").unwrap();
        assert_eq!(name(&uid), "hf-1c2d3e4f5a6b");
        assert_eq!(name(&Label::parse("pod UID", "w-1").unwrap()), "hf-w1");
    }
}
