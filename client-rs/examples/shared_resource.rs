//! Access to a resource: processes count up in one file, which refuses whoever comes with an old token.
//!
//! ```text
//! cargo run -p ticketlock-client --example shared_resource [ENDPOINT [FILE [TIMES]]]
//! ```
//!
//! Start it several times: no count is lost. The file keeps the highest token that it has seen, so that a holder that
//! was stopped for longer than its lease cannot undo what its successor wrote. A real resource looks at the token and
//! writes in one step, as a database does in a transaction; a file cannot, and leaves a small gap.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use ticketlock_client::{Client, Outcome, Unlocked};

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> ExitCode {
    match count().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shared_resource: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn count() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let endpoint = args.next().unwrap_or_else(|| "http://127.0.0.1:8476".to_owned());
    let file = args.next().unwrap_or_else(|| "counter.txt".to_owned());
    let times: u32 = args.next().unwrap_or_else(|| "10".to_owned()).parse()?;
    let counter = Counter { file: file.into() };
    let client = Client::connect(endpoint).await?;
    for _ in 0..times {
        let guard = client.lock("files/counter").ttl(Duration::from_secs(10)).await?;
        let token = guard.fencing_token();
        let count = counter.read()?.count + 1;
        counter.write(Counted { count, token })?;
        println!("{count} with token {token}");
        if let Unlocked::AlreadyLost(reason) = guard.unlock(Outcome::success()).await? {
            return Err(format!("the lock was lost meanwhile: {reason}").into());
        }
    }
    Ok(())
}

/// What the lock protects.
struct Counter {
    file: PathBuf,
}

/// What the file says.
#[derive(Default)]
struct Counted {
    count: u64,
    /// Under which it was written.
    token: u64,
}

impl Counter {
    fn read(&self) -> Result<Counted, Failure> {
        let text = match std::fs::read_to_string(&self.file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Counted::default()),
            Err(error) => return Err(unusable(&self.file, &error)),
        };
        let (count, token) = text.trim().split_once(' ').ok_or("the file is not `COUNT TOKEN`")?;
        Ok(Counted {
            count: count.parse().map_err(|error| unusable(&self.file, &error))?,
            token: token.parse().map_err(|error| unusable(&self.file, &error))?,
        })
    }

    fn write(&self, new: Counted) -> Result<(), Failure> {
        let seen = self.read()?.token;
        if new.token < seen {
            return Err(format!("refused: token {} is older than {seen}", new.token).into());
        }
        std::fs::write(&self.file, format!("{} {}\n", new.count, new.token))
            .map_err(|error| unusable(&self.file, &error))
    }
}

fn unusable(file: &Path, error: &dyn std::error::Error) -> Failure {
    format!("{}: {error}", file.display()).into()
}
