//! What can be said on the command line. The help texts are the reference.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::ArgPredicate;
use clap::{ArgAction, Parser, Subcommand, ValueEnum};

use super::values::{
    OnDisconnect, StoreUrl, parse_duration, parse_on_disconnect, parse_pair, parse_positive, parse_store,
};

const LOCK_HELP: &str = "\
Examples:
  ticketlock lock jobs/nightly -- ./backup.sh
  ticketlock lock db/migrate --wait 10m --ttl 15s -- make migrate
  ticketlock lock builds --permits 1 --capacity 4 -- cargo build
  token=$(ticketlock lock deploy --detach --ttl 5m)
  ticketlock unlock deploy --token \"$token\"

The command finds TICKETLOCK_KEY, TICKETLOCK_FENCING_TOKEN and TICKETLOCK_OWNER in its environment.

Exit status:
  the command's own, 128+n if signal n ended it
  126 the command cannot be run   127 the command was not found
  75  not acquired (or -E CODE)   76  acquired and lost
  69  the server is unavailable   2   wrong usage";

/// A fair lock service: take a ticket, wait in line, be told when it is your turn.
#[derive(Debug, Parser)]
#[command(name = "ticketlock", version, about, long_about = None, disable_help_subcommand = true)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a server.
    Serve(Serve),
    /// Take a lock, run a command under it, give it back.
    #[command(after_long_help = LOCK_HELP, after_help = "More, with examples and exit codes: --help")]
    Lock(Box<Lock>),
    /// Extend a lock that was taken with `lock --detach`.
    Renew(Renew),
    /// Give a lock back that was taken with `lock --detach`.
    Unlock(Unlock),
    /// List the keys that somebody holds or waits for.
    Ls(Ls),
    /// Show one key: its holders, its waiters in order.
    Show(Show),
    /// Show what happens to keys, as it happens.
    Watch(Watch),
    /// Take a lock from its holder.
    ForceUnlock(ForceUnlock),
    /// End a server in good order; nobody loses a lock or a place where its store keeps them.
    Drain(Drain),
    /// Copy a server's store into a file, while it serves.
    Backup(Backup),
    /// Make a store of a backup, in a directory of its own.
    Restore(Restore),
    /// Show what a store holds that no server has open.
    Inspect(Inspect),
    /// Load a server, and show what it does.
    Bench(super::bench::Bench),
    /// Load a server, and check that it keeps what it promises.
    Verify(super::verify::Verify),
    /// Ask whether the server serves; exit status 0 if so.
    Health(Health),
    /// Print completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Stays between `ticketlock lock` and its command.
    #[command(name = "__guardian", hide = true)]
    Guardian(Guardian),
}

/// Where the server is, and who asks.
#[derive(Debug, clap::Args)]
pub struct Connection {
    /// Server, as http://HOST:PORT; several are tried in order.
    #[arg(
        long,
        env = "TICKETLOCK_ENDPOINT",
        default_value = "http://127.0.0.1:8476",
        value_delimiter = ','
    )]
    pub endpoint: Vec<String>,
    /// Who asks, shown to everyone who waits. Default: user@host.
    #[arg(long, env = "TICKETLOCK_OWNER")]
    pub owner: Option<String>,
}

/// `ticketlock backup`.
#[derive(Debug, clap::Args)]
pub struct Backup {
    /// Where to; it must not be there yet.
    pub file: PathBuf,
    #[command(flatten)]
    pub connection: Connection,
}

/// `ticketlock drain`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Ends as the server has given everything back: 10 s later at most, at once with the file store."
)]
pub struct Drain {
    /// Why; logged by the server.
    #[arg(long, default_value = "")]
    pub reason: String,
    #[command(flatten)]
    pub connection: Connection,
}

/// `ticketlock restore`.
#[derive(Debug, clap::Args)]
pub struct Restore {
    /// A file that `ticketlock backup` wrote.
    pub file: PathBuf,
    /// A directory without a store; for `serve --store file:DIR`.
    pub dir: PathBuf,
}

/// `ticketlock inspect`.
#[derive(Debug, clap::Args)]
pub struct Inspect {
    /// A directory that `serve --store file:DIR` used.
    pub dir: PathBuf,
    /// How the answer is printed.
    #[arg(short, long, default_value = "table")]
    pub output: Format,
}

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs: one object per line.
    Json,
}

/// Run a server.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Examples:\n  ticketlock serve\n  ticketlock serve --listen 0.0.0.0:8476 --shards 64\n\n\
    SIGTERM and SIGINT stop it: waiters are told, and it ends within 10 s. A line on standard output says where it\n\
    listens."
)]
pub struct Serve {
    /// Address of the gRPC API; port 0 picks one.
    #[arg(long, env = "TICKETLOCK_LISTEN", default_value = "127.0.0.1:8476")]
    pub listen: SocketAddr,
    /// Address of /metrics, /healthz and /readyz.
    #[arg(long, env = "TICKETLOCK_HTTP", default_value = "127.0.0.1:8477")]
    pub http: SocketAddr,
    /// Count nothing; /metrics stays empty.
    #[arg(long, env = "TICKETLOCK_NO_METRICS")]
    pub no_metrics: bool,
    /// Where locks are kept: file:DIR, or memory: for locks that end with the process.
    #[arg(long, env = "TICKETLOCK_STORE", default_value = "file:ticketlock-data", value_parser = parse_store)]
    pub store: StoreUrl,
    /// Number of shards, a power of two from 1 to 1024.
    #[arg(long, env = "TICKETLOCK_SHARDS", default_value = "32", value_parser = super::serve::parse_shards)]
    pub shards: u32,
    /// How log lines look.
    #[arg(long, env = "TICKETLOCK_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// What is logged: a level, or directives such as info,ticketlock=debug.
    #[arg(long, env = "TICKETLOCK_LOG", default_value = "info")]
    pub log: String,
    /// A connection that was silent for so long is pinged.
    #[arg(long, env = "TICKETLOCK_KEEPALIVE_INTERVAL", default_value = "10s", value_parser = parse_positive)]
    pub keepalive_interval: Duration,
    /// A ping without an answer for so long ends the connection.
    #[arg(long, env = "TICKETLOCK_KEEPALIVE_TIMEOUT", default_value = "5s", value_parser = parse_positive)]
    pub keepalive_timeout: Duration,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Take a lock, run a command under it, give it back.
#[derive(Debug, clap::Args)]
pub struct Lock {
    /// The key.
    pub key: String,
    /// Share the lock with other shared holders.
    #[arg(long, conflicts_with_all = ["permits", "capacity"])]
    pub shared: bool,
    /// Take so many of the key's permits.
    #[arg(long, requires = "capacity")]
    pub permits: Option<u32>,
    /// How many permits the key has.
    #[arg(long, requires = "permits")]
    pub capacity: Option<u32>,
    /// Length of the lease; it is renewed while the command runs.
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    pub ttl: Duration,
    /// Wait in line for at most so long. Default: for ever.
    #[arg(long, value_parser = parse_duration, conflicts_with = "no_wait")]
    pub wait: Option<Duration>,
    /// Do not wait in line.
    #[arg(long)]
    pub no_wait: bool,
    /// What becomes of the lock when the connection is lost: release, grace=DURATION or lease.
    #[arg(long, default_value = "release", default_value_if("detach", ArgPredicate::Equals("true".into()), "lease"))]
    #[arg(value_parser = parse_on_disconnect, value_name = "POLICY")]
    pub on_disconnect: OnDisconnect,
    /// What becomes of the command when the lock is lost.
    #[arg(long, default_value = "term")]
    pub on_lost: OnLost,
    /// With `--on-lost term`: time from SIGTERM to SIGKILL, at most a third of the TTL.
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    pub grace: Duration,
    /// Exit status if the lock is not acquired.
    #[arg(short = 'E', long = "conflict-exit-code", value_name = "CODE", default_value_t = super::exit::NOT_ACQUIRED)]
    pub not_acquired_code: u8,
    /// Take the lock for its lease, print its token, and run nothing.
    #[arg(long, conflicts_with_all = ["command", "on_lost", "grace"])]
    pub detach: bool,
    /// With `--detach`: how the token is printed.
    #[arg(short, long, default_value = "table")]
    pub output: Format,
    /// A pair that everyone who reads the key can see; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub metadata: Vec<(String, String)>,
    #[command(flatten)]
    pub connection: Connection,
    /// The command and its arguments; no shell is involved.
    #[arg(last = true, required_unless_present = "detach", value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// What becomes of the command when the lock is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnLost {
    /// SIGTERM a grace before the lock's validity ends, SIGKILL before it has ended.
    Term,
    /// SIGKILL before the lock's validity ends.
    Kill,
    /// It goes on.
    Ignore,
}

/// Stays between `ticketlock lock` and its command.
#[derive(Debug, clap::Args)]
pub struct Guardian {
    /// The inherited end of the pipe whose other end `ticketlock lock` keeps open.
    #[arg(long)]
    pub pipe: i32,
    /// Process group to give the terminal back to.
    #[arg(long)]
    pub foreground: Option<i32>,
    /// The command.
    #[arg(last = true, required = true)]
    pub command: Vec<OsString>,
}

/// Extend a lock that was taken with `lock --detach`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status: 0 renewed, 76 not held any more, 69 unavailable.")]
pub struct Renew {
    /// The key.
    pub key: String,
    /// The token that `lock --detach` printed.
    #[arg(long)]
    pub token: u64,
    /// New length of the lease. Default: as before.
    #[arg(long, value_parser = parse_duration)]
    pub ttl: Option<Duration>,
    /// How the answer is printed.
    #[arg(short, long, default_value = "table")]
    pub output: Format,
    #[command(flatten)]
    pub connection: Connection,
}

/// Give a lock back that was taken with `lock --detach`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status: 0 given back, 76 not held any more, 69 unavailable.")]
pub struct Unlock {
    /// The key.
    pub key: String,
    /// The token that `lock --detach` printed.
    #[arg(long)]
    pub token: u64,
    /// Tell the next holder that the work failed, and how.
    #[arg(long, value_name = "NOTE", num_args = 0..=1, default_missing_value = "")]
    pub failed: Option<String>,
    /// How the answer is printed.
    #[arg(short, long, default_value = "table")]
    pub output: Format,
    #[command(flatten)]
    pub connection: Connection,
}

/// List the keys that somebody holds or waits for.
#[derive(Debug, clap::Args)]
pub struct Ls {
    /// Keys that begin with this. Default: all.
    #[arg(default_value = "")]
    pub prefix: String,
    /// How they are printed.
    #[arg(short, long, default_value = "table")]
    pub output: Format,
    #[command(flatten)]
    pub connection: Connection,
}

/// Show one key.
#[derive(Debug, clap::Args)]
pub struct Show {
    /// The key.
    pub key: String,
    /// How it is printed.
    #[arg(short, long, default_value = "table")]
    pub output: Format,
    #[command(flatten)]
    pub connection: Connection,
}

/// Show what happens to keys.
#[derive(Debug, clap::Args)]
pub struct Watch {
    /// Keys that begin with this. Default: all.
    #[arg(default_value = "")]
    pub prefix: String,
    /// How it is printed.
    #[arg(short, long, default_value = "table")]
    pub output: Format,
    #[command(flatten)]
    pub connection: Connection,
}

/// Take a lock from its holder.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status: 0 taken, 75 another token holds, 69 unavailable. Asks first on a terminal.")]
pub struct ForceUnlock {
    /// The key.
    pub key: String,
    /// The token that is expected to hold; refused if it does not.
    #[arg(long)]
    pub token: u64,
    /// Why; told to the holder and logged.
    #[arg(long)]
    pub reason: String,
    /// Do not ask.
    #[arg(short, long, action = ArgAction::SetTrue)]
    pub yes: bool,
    /// How the answer is printed.
    #[arg(short, long, default_value = "table")]
    pub output: Format,
    #[command(flatten)]
    pub connection: Connection,
}

/// Ask whether the server serves.
#[derive(Debug, clap::Args)]
pub struct Health {
    /// How the answer is printed.
    #[arg(short, long, default_value = "table")]
    pub output: Format,
    #[command(flatten)]
    pub connection: Connection,
}
