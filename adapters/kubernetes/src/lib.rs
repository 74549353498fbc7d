//! A Kubernetes cluster as what surrounds a replica: templates, pools and sandbox configurations, worker pods and
//! atelets, and the secrets that templates refer to.
//!
//! ```text
//! API server --list, watch--> pods    --> Fleet        --> a Report for each node, as an atelet would make it
//!                             objects --> Declarations --> Catalog
//!            --get----------> secrets, pods that a row names and no list has
//! ```
//!
//! Every replica follows the cluster for itself and there is no leader: what two of them do about one pod is the
//! same write to the same row, and one of the two is refused.
//!
//! Nothing is written to the API server.

mod access;
mod cluster;
mod declared;
mod fleet;
mod pods;
mod secrets;
mod watch;

pub use access::{Access, AccessError};
pub use cluster::Cluster;
