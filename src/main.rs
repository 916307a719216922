//! The program: passes its arguments to the library and exits with the code that it returns.
//!
//! Everything it does is in the library, whose documentation is the map.

use std::process::ExitCode;

fn main() -> ExitCode {
    flow_uring::cli::main(std::env::args_os().skip(1))
}
