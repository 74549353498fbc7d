//! Feeds [`holdfast_fuzz::targets::duration`] what covers more of it.
#![no_main]

holdfast_fuzz::fuzz_binary!(duration);
