//! Feeds [`holdfast_fuzz::targets::manifests`] what covers more of it.
#![no_main]

holdfast_fuzz::fuzz_binary!(manifests);
