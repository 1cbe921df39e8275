//! Data synchronisation: many notice at once that a copy is old; one copies, the others see that it is done.
//!
//! ```text
//! cargo run -p ticketlock-client --example data_sync [ENDPOINT [SOURCE COPY]]
//! ```
//!
//! Start it several times at once. An unlock hands its outcome to the next in line, and each hands it on: whoever stood
//! in line while the copy was made need not make it again. A failure is handed on, too, and the next one tries. Whoever
//! comes later found a free lock, was told nothing, and copies anew.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example")]

use std::path::Path;
use std::process::ExitCode;

use ticketlock_client::{Client, Outcome, OutcomeStatus, Unlocked};

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> ExitCode {
    match synchronise().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("data_sync: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn synchronise() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let endpoint = args.next().unwrap_or_else(|| "http://127.0.0.1:8476".to_owned());
    let source = args.next().unwrap_or_else(|| "source.txt".to_owned());
    let copy = args.next().unwrap_or_else(|| "copy.txt".to_owned());
    let client = Client::connect(endpoint).await?;
    let guard = client.lock("sync/copy").await?;
    let before = guard.previous_outcome().clone();
    if before.status == OutcomeStatus::Success {
        println!("done already: {}", before.note);
        guard.unlock(before).await?;
        return Ok(());
    }
    let copied = copy_whole(Path::new(&source), Path::new(&copy));
    let outcome = match &copied {
        Ok(bytes) => Outcome {
            note: format!("{bytes} bytes"),
            ..Outcome::success()
        },
        Err(_) => Outcome::failure("not copied"),
    };
    let unlocked = guard.unlock(outcome).await?;
    println!("copied {} bytes", copied?);
    match unlocked {
        Unlocked::Unlocked => Ok(()),
        Unlocked::AlreadyLost(reason) => Err(format!("the lock was lost meanwhile: {reason}").into()),
    }
}

/// Readers see the old copy or the new one, never a part.
fn copy_whole(source: &Path, copy: &Path) -> Result<u64, Failure> {
    let unfinished = copy.with_extension(format!("{}.unfinished", std::process::id()));
    let bytes = std::fs::copy(source, &unfinished).map_err(|error| format!("{}: {error}", source.display()))?;
    std::fs::rename(&unfinished, copy).map_err(|error| format!("{}: {error}", copy.display()))?;
    Ok(bytes)
}
