//! Feeds [`holdfast_fuzz::targets::core_world`] what covers more of it.
#![no_main]

holdfast_fuzz::fuzz_binary!(core_world);
