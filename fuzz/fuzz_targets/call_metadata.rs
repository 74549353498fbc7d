//! Feeds [`holdfast_fuzz::targets::call_metadata`] what covers more of it.
#![no_main]

holdfast_fuzz::fuzz_binary!(call_metadata);
