//! Leader election: of all candidates one leads, the others know who, and step in when it goes.
//!
//! ```text
//! cargo run -p ticketlock-client --example leader_election [ENDPOINT [NAME [LEASE_MS]]]
//! ```
//!
//! Start it in three terminals, with three names. Ctrl-C or SIGTERM resigns, and the next one leads at once. After
//! `kill -9` that takes until the lease has ended, and at least the 10 s that a client has to come back.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example")]

use std::process::ExitCode;
use std::time::Duration;

use ticketlock_client::Client;
use ticketlock_client::leased::{Election, Leadership, Observing};
use tokio::signal::unix::{SignalKind, signal};

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> ExitCode {
    match candidate().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("leader_election: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn candidate() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let endpoint = args.next().unwrap_or_else(|| "http://127.0.0.1:8476".to_owned());
    let name = args
        .next()
        .unwrap_or_else(|| format!("candidate-{}", std::process::id()));
    let lease: u64 = args.next().unwrap_or_else(|| "10000".to_owned()).parse()?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);

    let client = Client::connect(endpoint).await?;
    let election = Election::new(client.clone(), "leaders/example").ttl(Duration::from_millis(lease));
    let observing = election.observe().await?;
    tokio::select! {
        biased;
        _ = terminate.recv() => println!("SIGTERM"),
        _ = interrupt.recv() => println!("Ctrl-C"),
        ended = follow(observing) => ended?,
        ended = lead(&election, &name) => ended?,
    }
    // What was dropped above resigns, or leaves the line, before the process ends.
    client.flush().await;
    println!("resigned");
    Ok(())
}

/// Campaigns again whenever leadership was lost.
async fn lead(election: &Election, name: &str) -> Result<(), Failure> {
    loop {
        let leadership: Leadership = election.campaign(name).await?;
        println!("elected with token {}", leadership.fencing_token());
        // Here a leader works, for as long as `leadership.is_leader()`.
        println!("deposed: {}", leadership.lost().await);
    }
}

/// Tells who leads.
async fn follow(mut observing: Observing) -> Result<(), Failure> {
    while let Some(leader) = observing.next().await {
        match leader? {
            Some(leader) => println!("{} leads with token {}", leader.name, leader.fencing_token),
            None => println!("nobody leads"),
        }
    }
    Err("the server ended the watch".into())
}
