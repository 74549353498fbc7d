//! Words for people, on standard output and standard error, where nobody may be reading any more.
//!
//! `println!` and `eprintln!` panic when they cannot write. A closed pipe or a full disk is no reason for that.

use std::fmt::Display;
use std::io::{self, Write};

/// Writes a line to standard error. Where it cannot be written it is lost.
pub fn tell(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Writes a line to standard output: what was asked for.
///
/// # Errors
/// Those of the operating system.
pub fn answer(line: impl Display) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}
