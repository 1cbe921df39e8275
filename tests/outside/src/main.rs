//! An application outside the workspace. It knows the client crate's documented interface and nothing else, takes the
//! server's endpoint as its argument, and says what it has done, line by line.

use std::error::Error;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use ticketlock_client::backend::{Backend, BackendConfig, BackendType, Backends, BoxFuture};
use ticketlock_client::leased::{LockClient, LockState};
use ticketlock_client::locker::{LockOptions, LockerConfig};
use ticketlock_client::provider::{LockConfig, LockProviderFactory};
use ticketlock_client::{Client, Outcome, OutcomeStatus, State, Unlocked};

type Failure = Box<dyn Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let endpoint = std::env::args()
        .nth(1)
        .ok_or("an endpoint, http://HOST:PORT, is missing")?;
    let client = Client::connect(&endpoint).await?;
    guards(&client).await?;
    locker(client.clone()).await?;
    lock_objects(client.clone()).await?;
    own_backend(&endpoint).await?;
    client.close(Duration::from_secs(3)).await?;
    say("closed")
}

fn say(what: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{what}").map_err(Failure::from)
}

/// It must hold, or the program fails with these words.
fn check(holds: bool, what: &str) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(what.into()) }
}

/// Lock, guard, unlock; and who waits is handed the outcome.
async fn guards(client: &Client) -> Result<(), Failure> {
    let guard = client.lock("outside/job").ttl(Duration::from_secs(10)).await?;
    check(
        guard.is_held() && guard.state() == State::Locked,
        "a fresh guard is held",
    )?;
    let refused = client.try_lock("outside/job").await.err().ok_or("two hold at once")?;
    check(refused.reason() == "WOULD_WAIT", "a try is refused with its reason")?;
    let (token, lost) = (guard.fencing_token(), guard.lost());
    let waiting = tokio::spawn(client.lock("outside/job").into_future());
    while client.get("outside/job").await?.waiters.is_empty() {
        tokio::task::yield_now().await;
    }
    let outcome = Outcome {
        note: "half".to_owned(),
        ..Outcome::success()
    };
    check(
        guard.unlock(outcome).await? == Unlocked::Unlocked,
        "it was held to the end",
    )?;
    let next = waiting.await??;
    drop(lost);
    let before = next.previous_outcome();
    check(
        before.status == OutcomeStatus::Success && before.note == "half",
        "the outcome is handed on",
    )?;
    check(next.fencing_token() > token, "tokens grow")?;
    drop(next);
    client.flush().await;
    check(
        client.get("outside/job").await?.holders.is_empty(),
        "a dropped guard is given back",
    )?;
    say("guards")
}

/// Three calls, by key.
async fn locker(client: Client) -> Result<(), Failure> {
    let locker = LockerConfig::default().build_on(client)?;
    locker.lock("r", LockOptions::default()).await?;
    check(locker.fencing_token("r").is_some(), "a lock has a token")?;
    check(!locker.try_lock("r", LockOptions::default()).await?, "it is taken")?;
    locker.unlock("r").await?;
    check(locker.unlock("r").await.is_err(), "it was unlocked already")?;
    say("locker")
}

/// A lock with states.
async fn lock_objects(client: Client) -> Result<(), Failure> {
    let locks = LockClient::new(client, "outside");
    let lock = locks.create_lock("object")?;
    let (lease, wait) = (Duration::from_millis(30_000), Duration::from_millis(5_000));
    check(lock.state() == LockState::NotLocked, "it is not held at first")?;
    check(lock.try_lock(lease, wait).await?, "it is free")?;
    check(
        lock.state() == LockState::Locked && lock.lease_rest() <= lease,
        "it is held",
    )?;
    lock.update_lease(lease * 2).await?;
    check(lock.lease_rest() > lease, "its lease was moved")?;
    lock.unlock().await?;
    check(lock.state() == LockState::NotLocked, "it was given back")?;
    locks.remove_lock("object").await;
    check(lock.state() == LockState::Closed, "a removed lock is closed")?;
    say("lock objects")
}

/// A backend of this application's own: implemented, registered, and made by the factory that makes all.
struct Named {
    endpoint: String,
}

impl Backend for Named {
    fn connect<'a>(&'a self, _: &'a BackendConfig) -> BoxFuture<'a, Result<Client, ticketlock_client::Error>> {
        Box::pin(Client::builder().endpoint(&self.endpoint).owner("outside").connect())
    }
}

async fn own_backend(endpoint: &str) -> Result<(), Failure> {
    let endpoint = endpoint.to_owned();
    let factory = LockProviderFactory::new(Backends::default().with("named", Arc::new(Named { endpoint })));
    let config = LockConfig {
        provider: BackendType::from("named"),
        ..LockConfig::default()
    };
    let provider = factory.create_lock_provider(&config).await?;
    provider.lock(config.options("flow", "me")).await?;
    check(
        provider.is_locked("flow").await? == (true, "me".to_owned()),
        "it is held",
    )?;
    provider.unlock("flow", "me").await?;
    provider.close().await?;
    say("a backend of its own")
}
