//! Feeds [`holdfast_fuzz::targets::sparse_file`] what covers more of it.
#![no_main]

holdfast_fuzz::fuzz_binary!(sparse_file);
