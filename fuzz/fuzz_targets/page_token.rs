//! Feeds [`holdfast_fuzz::targets::page_token`] what covers more of it.
#![no_main]

holdfast_fuzz::fuzz_binary!(page_token);
