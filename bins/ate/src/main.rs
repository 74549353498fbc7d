//! The program. What it does is in the library of the same name, so that tests can ask for its declaration.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// What puts a load on a server must not be the slower of the two (decision 022).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    ate::main()
}
