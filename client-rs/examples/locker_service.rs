//! A service with a lock component: constructed with the defaults, or from a configuration.
//!
//! ```text
//! cargo run -p ticketlock-client --features json,yaml,toml --example locker_service [ENDPOINT [CONFIG]]
//! ```
//!
//! CONFIG is a file that ends in `.json`, `.yaml` or `.toml`; see `LockerConfig` for what may stand in it. Where it
//! names no endpoints, ENDPOINT is used.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example")]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use ticketlock_client::backend::Backends;
use ticketlock_client::locker::{LockOptions, Locker, LockerConfig, LockerError};
use ticketlock_client::{Client, format};

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> ExitCode {
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("locker_service: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let endpoint = args.next().unwrap_or_else(|| "http://127.0.0.1:8476".to_owned());
    let orders = match args.next() {
        None => Orders::new(Client::connect(endpoint).await?)?,
        Some(file) => {
            let mut config = read(&file)?;
            if config.endpoints.is_empty() {
                config.endpoints.push(endpoint);
            }
            Orders::with_config(config, &Backends::default()).await?
        }
    };
    orders.process("123").await?;
    orders.ship("123").await?;
    Ok(())
}

fn read(file: &str) -> Result<LockerConfig, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    let config = match file.rsplit_once('.') {
        Some((_, "json")) => format::from_json(&text),
        Some((_, "yaml" | "yml")) => format::from_yaml(&text),
        Some((_, "toml")) => format::from_toml(&text),
        _ => return Err(format!("{file}: a configuration ends in .json, .yaml or .toml").into()),
    };
    config.map_err(|error| format!("{file}: {error}").into())
}

/// The service. It depends on the component's interface, and knows nothing of where locks are kept.
struct Orders {
    locker: Arc<dyn Locker>,
}

impl Orders {
    /// With the default configuration, over a client that is there already.
    fn new(client: Client) -> Result<Self, Failure> {
        let locker = LockerConfig::default().build_on(client)?;
        Ok(Self { locker })
    }

    /// As configured.
    async fn with_config(config: LockerConfig, backends: &Backends) -> Result<Self, Failure> {
        let locker = config.build(backends).await?;
        Ok(Self { locker })
    }

    /// Under a guard: the lock is given back at the end of the scope, whichever way that is left.
    async fn process(&self, order: &str) -> Result<(), LockerError> {
        let key = format!("order:{order}");
        let guard = self.locker.guard(&key, LockOptions::default()).await?;
        println!("processed under {} with token {}", guard.key(), guard.fencing_token());
        println!("lease of {} s", guard.ttl().as_secs());
        Ok(())
    }

    /// With a lease and a deadline of this call's own, and an unlock by key.
    async fn ship(&self, order: &str) -> Result<(), LockerError> {
        let key = format!("order:{order}");
        let options = LockOptions::default()
            .with_ttl(Duration::from_secs(5))
            .with_deadline(Duration::from_secs(10));
        self.locker.lock(&key, options).await?;
        println!(
            "shipped with token {}",
            self.locker.fencing_token(&key).unwrap_or_default()
        );
        self.locker.unlock(&key).await
    }
}
