//! What is said to the person at the terminal. Colours go where they are understood and nowhere else.

use std::time::Duration;

use clap::builder::styling::{AnsiColor, Style};

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();

/// A part of the work begins.
pub fn heading(text: &str) {
    anstream::eprintln!("\n{BOLD}{text}{BOLD:#}");
}

/// Something is so, or is done.
pub fn ok(text: &str) {
    mark(AnsiColor::Green, "✓", text);
}

/// Something is missing or worse than it could be, and work goes on.
pub fn warn(text: &str) {
    mark(AnsiColor::Yellow, "!", text);
}

/// Something ended the work.
pub fn failed(text: &str) {
    mark(AnsiColor::Red, "✗", text);
}

/// A command that is run, or that the reader could run.
pub fn command(text: &str) {
    anstream::eprintln!("  {DIM}${DIM:#} {text}");
}

/// A time for people: tenths of a second, minutes when there are any.
pub fn time(duration: Duration) -> String {
    match duration.as_secs() {
        0..60 => format!("{:.1} s", duration.as_secs_f64()),
        seconds => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

fn mark(color: AnsiColor, sign: &str, text: &str) {
    let style = color.on_default().bold();
    anstream::eprintln!("{style}{sign}{style:#} {text}");
}
