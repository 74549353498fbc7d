//! Feeds [`holdfast_fuzz::targets::sandbox_names`] what covers more of it.
#![no_main]

holdfast_fuzz::fuzz_binary!(sandbox_names);
