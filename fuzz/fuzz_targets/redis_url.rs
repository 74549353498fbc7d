//! Feeds [`holdfast_fuzz::targets::redis_url`] what covers more of it.
#![no_main]

holdfast_fuzz::fuzz_binary!(redis_url);
