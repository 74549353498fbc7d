//! Feeds [`holdfast_fuzz::targets::address`] what covers more of it.
#![no_main]

holdfast_fuzz::fuzz_binary!(address);
