//! Feeds [`holdfast_fuzz::targets::store_record`] what covers more of it.
#![no_main]

holdfast_fuzz::fuzz_binary!(store_record);
