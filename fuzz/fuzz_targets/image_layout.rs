//! Feeds [`holdfast_fuzz::targets::image_layout`] what covers more of it.
#![no_main]

holdfast_fuzz::fuzz_binary!(image_layout);
