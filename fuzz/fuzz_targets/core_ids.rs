//! Feeds [`holdfast_fuzz::targets::core_ids`] what covers more of it.
#![no_main]

holdfast_fuzz::fuzz_binary!(core_ids);
