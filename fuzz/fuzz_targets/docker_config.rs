//! Feeds [`holdfast_fuzz::targets::docker_config`] what covers more of it.
#![no_main]

holdfast_fuzz::fuzz_binary!(docker_config);
