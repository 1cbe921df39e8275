//! Exit codes.

use std::process::{ExitCode, ExitStatus};

use std::os::unix::process::ExitStatusExt as _;
use ticketlock_client::Error;

/// The server could not be reached, or not serve (EX_UNAVAILABLE).
pub const UNAVAILABLE: u8 = 69;
/// The lock was not acquired (EX_TEMPFAIL).
pub const NOT_ACQUIRED: u8 = 75;
/// The lock was acquired and lost.
pub const LOST: u8 = 76;
/// The command exists and cannot be run.
pub const NOT_EXECUTABLE: u8 = 126;
/// The command does not exist.
pub const NOT_FOUND: u8 = 127;

/// The code of an error that ends the program.
pub fn of_error(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref::<Error>() {
        Some(Error::NotAcquired { .. }) => ExitCode::from(NOT_ACQUIRED),
        Some(error) if error.is_unavailable() => ExitCode::from(UNAVAILABLE),
        _ => ExitCode::FAILURE,
    }
}

/// A command's status as a shell would pass it on.
pub fn of_status(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(1);
    u8::try_from(code & 0xff).unwrap_or(1)
}
