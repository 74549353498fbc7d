//! Every decision of Holdfast, as pure deterministic state machines.
//!
//! Nothing here reads a clock, draws a random number or performs an effect. A machine is told what
//! happened and when, and answers with effects as plain data; see [`machine::Machine`] for the shape
//! that all of them have. The same code runs behind sockets, in the simulator and under a model
//! checker.
//!
//! One request's whole way through it:
//!
//! ```text
//! rpc adapter --Request--> replica::Replica --+--> workflow::Workflow --StoreOp--> store adapter
//!      ^                        |             |        (lease::Keeper,  --NodeCall--> atelet
//!      +-------Verdict----------+             |         plan::next)            |
//!                                             +--> registry::Registry          v
//!                                                                     node::Node --NodeEffect--> sandboxes,
//!                                                                     (pull::Pulls)               images, snapshots
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod actor;
pub mod attention;
pub mod bounds;
pub mod catalog;
mod collection;
pub mod digits;
pub mod effect;
pub mod failure;
pub mod few;
pub mod id;
pub mod lease;
pub mod licence;
pub mod machine;
pub mod name;
pub mod node;
pub mod plan;
pub mod pull;
pub mod registry;
pub mod replica;
pub mod request;
pub mod session;
pub mod settings;
pub mod sweep;
pub mod table;
pub mod time;
pub mod timers;
pub mod trie;
pub mod worker;
pub mod workflow;
