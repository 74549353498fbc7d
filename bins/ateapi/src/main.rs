//! The program. What it does is in the library of the same name, so that tests can ask for its declaration.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Every call makes and drops some hundreds of small things, on more threads than one (decision 022).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    ateapi::main()
}
