//! What the world tells while it plays, by reference: nobody who does not listen pays for it.

use crate::fact::Fact;
use crate::plan::Fault;
use crate::world::knife;
use holdfast_core::id::{PodUid, ReplicaId};
use holdfast_core::{node, replica};
use std::fmt;

/// One thing that the world has to tell.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Line<'a> {
    Fact(&'a Fact),
    Fault(&'a Fault),
    /// A cut effect: its number, what it is, and whose.
    Cut(knife::Fault, u64, &'static str, &'a knife::Who),
    Calm,
    ReplicaStarts(usize, ReplicaId),
    ReplicaDies(usize),
    ReplicaWakes(usize, &'a replica::Timer),
    ReplicaHears(usize, &'a replica::Input),
    ReplicaDoes(usize, &'a replica::Output),
    NodeStarts(usize, u32),
    NodeDies(usize),
    NodeWakes(usize, &'a node::Timer),
    NodeHears(usize, &'a node::Input),
    NodeDoes(usize, &'a node::Output),
    AteomStarts(usize, &'a PodUid),
    AteomDies(usize, &'a PodUid),
    /// A pod of a node is replaced by another one.
    PodReplaced(usize, &'a PodUid, &'a PodUid),
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Fact(fact) => write!(f, "FACT {fact:?}"),
            Line::Fault(fault) => write!(f, "FAULT {fault:?}"),
            Line::Cut(fault, number, what, who) => {
                write!(f, "FAULT {fault:?} at effect {number}, {what} of {who:?}")
            }
            Line::Calm => write!(f, "CALM"),
            Line::ReplicaStarts(index, id) => write!(f, "replica {index} starts as {id}"),
            Line::ReplicaDies(index) => write!(f, "replica {index} dies"),
            Line::ReplicaWakes(index, timer) => write!(f, "replica {index} wakes for {timer:?}"),
            Line::ReplicaHears(index, input) => write!(f, "replica {index} <- {input:?}"),
            Line::ReplicaDoes(index, output) => write!(f, "replica {index} -> {output:?}"),
            Line::NodeStarts(index, life) => write!(f, "node {index} starts, life {life}"),
            Line::NodeDies(index) => write!(f, "node {index} dies"),
            Line::NodeWakes(index, timer) => write!(f, "node {index} wakes for {timer:?}"),
            Line::NodeHears(index, input) => write!(f, "node {index} <- {input:?}"),
            Line::NodeDoes(index, output) => write!(f, "node {index} -> {output:?}"),
            Line::AteomStarts(node, uid) => write!(f, "ateom {uid} of node {node} starts"),
            Line::AteomDies(node, uid) => write!(f, "ateom {uid} of node {node} dies"),
            Line::PodReplaced(node, old, new) => write!(f, "pod {old} of node {node} is replaced by {new}"),
        }
    }
}
