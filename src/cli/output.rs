//! The output of commands: to stdout, and of a check also to stderr.

use std::io::{self, Write};
use std::process::ExitCode;

use super::check::CheckReport;
use super::failure::Failure;

/// # Errors
/// That of stdout.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes()).and_then(|()| output.flush()).map_err(Failure::Output)
}

/// Prints what may be longer than its reader wants it, such as `head`: who goes away has seen enough.
pub fn print_listing(text: &str) -> Result<(), Failure> {
    match print(text) {
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

pub fn printed(text: &str) -> ExitCode {
    match print(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

pub fn tell(report: &CheckReport) -> Result<(), Failure> {
    print(&report.found.iter().map(|line| format!("{line}\n")).collect::<String>())?;
    let warnings = report.warnings.iter().map(|line| ("warning", line));
    for (kind, line) in warnings.chain(report.problems.iter().map(|line| ("problem", line))) {
        let _ = writeln!(io::stderr(), "{kind}: {line}");
    }
    if report.is_good() { Ok(()) } else { Err(Failure::Check) }
}
