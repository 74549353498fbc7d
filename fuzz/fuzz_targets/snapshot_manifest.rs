//! Feeds [`holdfast_fuzz::targets::snapshot_manifest`] what covers more of it.
#![no_main]

holdfast_fuzz::fuzz_binary!(snapshot_manifest);
