//! Feeds [`holdfast_fuzz::targets::served_object`] what covers more of it.
#![no_main]

holdfast_fuzz::fuzz_binary!(served_object);
