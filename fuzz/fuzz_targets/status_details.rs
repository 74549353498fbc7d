//! Feeds [`holdfast_fuzz::targets::status_details`] what covers more of it.
#![no_main]

holdfast_fuzz::fuzz_binary!(status_details);
