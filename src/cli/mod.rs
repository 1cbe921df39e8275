//! The command line: what can be said ([`args`]), and one module per thing that can be done.
//!
//! Output for programs goes to standard output, everything for people to standard error. [`exit`] knows the codes.

mod args;
mod bench;
mod exit;
mod guardian;
mod job;
mod lock;
mod output;
mod query;
mod serve;
mod signals;
mod store;
mod terminal;
mod token;
mod values;
mod verify;

use std::future::Future;
use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use ticketlock_client::Client;

use args::{Args, Command, Connection};

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.command {
        Command::Serve(serve) => block_on(serve::run(serve)),
        Command::Lock(lock) => block_on(lock::run(lock)),
        Command::Guardian(guardian) => guardian::main(guardian),
        Command::Renew(renew) => block_on(token::renew(renew)),
        Command::Unlock(unlock) => block_on(token::unlock(unlock)),
        Command::ForceUnlock(force) => block_on(token::force_unlock(force)),
        Command::Ls(ls) => block_on(query::ls(ls)),
        Command::Show(show) => block_on(query::show(show)),
        Command::Watch(watch) => block_on(query::watch(watch)),
        Command::Drain(drain) => block_on(query::drain(drain)),
        Command::Backup(backup) => block_on(store::backup(backup)),
        Command::Restore(restore) => store::restore(&restore),
        Command::Inspect(inspect) => store::inspect(&inspect),
        Command::Bench(bench) => block_on(bench::run(bench)),
        Command::Verify(verify) => block_on(verify::run(verify)),
        Command::Health(health) => block_on(query::health(health)),
        Command::Completions { shell } => completions(shell),
    };
    result.unwrap_or_else(|error| {
        // A reader that has seen enough is no failure.
        if output::is_broken_pipe(&error) {
            return ExitCode::SUCCESS;
        }
        let _ = writeln!(std::io::stderr().lock(), "ticketlock: {error:#}");
        exit::of_error(&error)
    })
}

fn block_on(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

/// The script goes through a buffer, because the generator takes a broken pipe for a panic.
fn completions(shell: clap_complete::Shell) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "ticketlock", &mut script);
    std::io::stdout().lock().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// Connects as the arguments say.
async fn connect(connection: &Connection) -> anyhow::Result<Client> {
    let owner = connection.owner.clone().unwrap_or_else(default_owner);
    Ok(Client::builder()
        .endpoints(connection.endpoint.iter().cloned())
        .owner(owner)
        .connect()
        .await?)
}

/// Who runs this, where: the same for each call of a script, so that one call can unlock what another one took.
fn default_owner() -> String {
    let name = rustix::system::uname();
    let host = name.nodename().to_string_lossy().into_owned();
    let user = std::env::var("USER").ok().filter(|it| !it.is_empty());
    let user = user.unwrap_or_else(|| format!("uid{}", rustix::process::getuid().as_raw()));
    let owner = format!("{user}@{host}");
    owner.chars().filter(|it| !it.is_control()).take(128).collect()
}
