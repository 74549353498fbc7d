//! Feeds [`holdfast_fuzz::targets::pods_ledger`] what covers more of it.
#![no_main]

holdfast_fuzz::fuzz_binary!(pods_ledger);
