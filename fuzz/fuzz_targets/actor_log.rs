//! Feeds [`holdfast_fuzz::targets::actor_log`] what covers more of it.
#![no_main]

holdfast_fuzz::fuzz_binary!(actor_log);
