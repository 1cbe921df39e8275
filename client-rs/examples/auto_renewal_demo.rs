//! A lock that renews itself: held until the process is told to end, and given back before it does.
//!
//! ```text
//! cargo run -p ticketlock-client --example auto_renewal_demo [ENDPOINT [LEASE_MS]]
//! ```
//!
//! Start it in two terminals. End the first one with Ctrl-C or SIGTERM, and the second one has the lock at once. End it
//! with `kill -9`, and that takes until the lease has ended, and at least the 10 s that a client has to come back.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example")]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use ticketlock_client::Client;
use ticketlock_client::leased::{AutoRenewalListener, LockClient};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> ExitCode {
    match demo().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("auto_renewal_demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Says what it is told. A listener that starts and stops work does so here.
struct Teller;

impl AutoRenewalListener for Teller {
    fn on_acquired(&self) {
        println!("acquired");
    }

    fn on_lost(&self) {
        println!("lost");
    }
}

async fn demo() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let endpoint = args.next().unwrap_or_else(|| "http://127.0.0.1:8476".to_owned());
    let lease: u64 = args.next().unwrap_or_else(|| "30000".to_owned()).parse()?;
    // Order: signals are caught before there is anything to give back.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);

    let locks = LockClient::new(Client::connect(endpoint).await?, "demo");
    let lock = locks.create_auto_renewal_lock("renewed", Duration::from_millis(lease), Arc::new(Teller))?;
    println!("waiting for {}", lock.key());
    tokio::select! {
        biased;
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    locks.stop(Duration::from_secs(3)).await?;
    println!("given back");
    Ok(())
}
