//! The program. What it does is in the library of the same name, so that tests can ask for its declaration.

use std::process::ExitCode;

fn main() -> ExitCode {
    ateom_gvisor::main()
}
