//! Feeds [`holdfast_fuzz::targets::node_report`] what covers more of it.
#![no_main]

holdfast_fuzz::fuzz_binary!(node_report);
