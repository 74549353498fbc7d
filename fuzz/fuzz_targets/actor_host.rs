//! Feeds [`holdfast_fuzz::targets::actor_host`] what covers more of it.
#![no_main]

holdfast_fuzz::fuzz_binary!(actor_host);
