//! What the demo says, in colour where a terminal shows it.

use std::fmt::Display;

const BOLD: &str = "\x1b[1m";
const GREEN: &str = "\x1b[32m";
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

pub fn title(text: &str) {
    anstream::println!("\n{BOLD}{text}{PLAIN}");
}

/// A scene begins.
pub fn scene(number: u8, text: &str) {
    anstream::println!("\n{BOLD}{number}. {text}{PLAIN}");
}

/// Something was seen to be as it should.
pub fn seen(text: impl Display) {
    anstream::println!("   {GREEN}✓{PLAIN} {text}");
}

/// Something to know.
pub fn note(text: &str) {
    anstream::println!("   {DIM}{text}{PLAIN}");
}
