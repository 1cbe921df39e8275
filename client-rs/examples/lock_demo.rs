//! A lock object: a lease of 30 s, a wait of 5 s, and its states on the way.
//!
//! ```text
//! cargo run -p ticketlock-client --example lock_demo [ENDPOINT [HOLD_MS [TURNS]]]
//! ```
//!
//! Start it in two terminals: they take turns.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example")]

use std::process::ExitCode;
use std::time::Duration;

use ticketlock_client::Client;
use ticketlock_client::leased::{DistributedLock, LockClient};

const LEASE: Duration = Duration::from_millis(30_000);
const WAIT: Duration = Duration::from_millis(5_000);

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> ExitCode {
    match demo().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lock_demo: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn demo() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let endpoint = args.next().unwrap_or_else(|| "http://127.0.0.1:8476".to_owned());
    let hold: u64 = args.next().unwrap_or_else(|| "1000".to_owned()).parse()?;
    let turns: u32 = args.next().unwrap_or_else(|| "3".to_owned()).parse()?;
    let locks = LockClient::new(Client::connect(endpoint).await?, "demo");
    let lock = locks.create_lock("myResource")?;
    let mut done = Ok(());
    for _ in 0..turns {
        done = turn(&lock, Duration::from_millis(hold)).await;
        if done.is_err() {
            break;
        }
    }
    // What is still held is given back here, after an error as well.
    locks.stop(Duration::from_secs(3)).await?;
    println!("state {:?}", lock.state());
    done
}

async fn turn(lock: &DistributedLock, hold: Duration) -> Result<(), Failure> {
    println!("state {:?}", lock.state());
    if !lock.try_lock(LEASE, WAIT).await? {
        return Err(format!("{} is still held by somebody else after {WAIT:?}", lock.key()).into());
    }
    let token = lock
        .fencing_token()
        .ok_or("the lease ended before the work had begun")?;
    println!(
        "state {:?}, token {token}, lease of {} ms left",
        lock.state(),
        lock.lease_rest().as_millis()
    );
    // Here the work is done; the token goes with all that it writes.
    tokio::time::sleep(hold).await;
    lock.unlock().await?;
    Ok(())
}
