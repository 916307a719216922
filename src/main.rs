//! The program: hands its words to the library and exits with the code that comes back.
//!
//! Everything it does is in the library, whose documentation is the map.

use std::process::ExitCode;

fn main() -> ExitCode {
    flow_uring::cli::main(std::env::args_os().skip(1))
}
