//! `ticketlock verify`: load a server as applications do, and check that it keeps what it promises.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use ticketlock_client::Client;
use ticketlock_client::seams::{BootClock, OsRandom, Random as _};
use ticketlock_verify::{Checked, Link, Plan, Recorder, Worker};
use tokio::sync::RwLock;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::args::Format;
use super::values::parse_positive;

/// How often what was recorded is checked, while no request is under way.
const CHECKED_EVERY: Duration = Duration::from_secs(10);

/// Load a server, record what clients see, and check it against what is promised.
///
/// Mutual exclusion, growing tokens, FIFO, leases that are kept, nothing acknowledged lost, exactly-once requests. Break
/// what you like meanwhile: kill and restart the server, pause it, cut connections.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Examples:\n  ticketlock verify --against http://127.0.0.1:8476 --for 60s\n  \
    ticketlock verify --for 10m --workers 100 --rate 5000 -o json\n\n\
    Exit status 0: nothing was broken. With a memory: store a restart of the server breaks promises, and is reported."
)]
pub struct Verify {
    /// Server, as http://HOST:PORT; several are tried in order.
    #[arg(
        long,
        env = "TICKETLOCK_ENDPOINT",
        default_value = "http://127.0.0.1:8476",
        value_delimiter = ','
    )]
    pub against: Vec<String>,
    /// For how long.
    #[arg(long = "for", value_name = "DURATION", default_value = "60s", value_parser = parse_positive)]
    pub duration: Duration,
    /// How many work at once.
    #[arg(long, default_value = "32", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub workers: u32,
    /// Over how many connections; every fourth uses a stream for each lock.
    #[arg(long, default_value = "4", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub connections: u32,
    /// Keys of each kind: exclusive, shared, with permits.
    #[arg(long, default_value = "16", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub keys: u64,
    /// Requests a second over all workers, at most.
    #[arg(long, default_value = "2000", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub rate: u64,
    /// Length of leases.
    #[arg(long, default_value = "2s", value_parser = parse_positive)]
    pub ttl: Duration,
    /// Draws the same steps again. Default: random.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Keys begin with this.
    #[arg(long, default_value = "verify/")]
    pub prefix: String,
    /// How the result is printed.
    #[arg(short, long, default_value = "table")]
    pub output: Format,
}

/// Loads and checks.
pub async fn run(args: Verify) -> anyhow::Result<ExitCode> {
    let seed = args.seed.unwrap_or_else(any);
    say(&format!("seed {seed}"));
    let recorder = Arc::new(Recorder::new(Arc::new(BootClock)));
    let links = connect(&args, &recorder).await?;
    let mut watching = JoinSet::new();
    for (number, link) in links.iter().enumerate() {
        let (link, key) = (Arc::clone(link), format!("{}held/{number}", args.prefix).into());
        watching.spawn(async move { link.run(&key).await });
    }
    let gate = Arc::new(RwLock::new(()));
    let plan = Arc::new(Plan {
        prefix: args.prefix.clone(),
        keys: args.keys,
        ttl: args.ttl,
        while_busy: Duration::from_millis(20),
        grace: Duration::from_secs(20),
        cuts_are_known: false,
    });
    let every = Duration::from_secs_f64(f64::from(args.workers) / args.rate as f64);
    let mut working = JoinSet::new();
    for (number, link) in (0..args.workers).zip(links.iter().cycle()) {
        let seed = seed.wrapping_add(u64::from(number));
        let worker = Worker::new(Arc::clone(link), Arc::clone(&recorder), Arc::clone(&plan), seed);
        let (gate, recorder, end) = (Arc::clone(&gate), Arc::clone(&recorder), args.duration);
        working.spawn(async move { work(&worker, &recorder, &gate, (every, end)).await });
    }
    let mut all = Checked::default();
    loop {
        if recorder.now() + CHECKED_EVERY >= args.duration {
            break;
        }
        sleep(CHECKED_EVERY).await;
        let _quiet = gate.write().await;
        // What keeps a lock all the time may be on its way to it.
        all.add(told(recorder.check(false)));
    }
    while let Some(done) = working.join_next().await {
        done?;
    }
    links.iter().for_each(|link| link.end());
    while let Some(done) = watching.join_next().await {
        done?;
    }
    all.add(told(recorder.check(true)));
    for link in &links {
        link.client().flush().await;
    }
    print(&args, &all, seed)
}

async fn connect(args: &Verify, recorder: &Arc<Recorder>) -> anyhow::Result<Vec<Arc<Link>>> {
    let mut links = Vec::new();
    for number in 0..args.connections {
        let client = Client::builder()
            .endpoints(args.against.iter().cloned())
            .owner(format!("{}/verify-{number}", super::default_owner()))
            .plain_streams(number % 4 == 3)
            .connect();
        links.push(Link::new(number, client.await?, Arc::clone(recorder)));
    }
    Ok(links)
}

async fn work(worker: &Worker, recorder: &Recorder, gate: &RwLock<()>, (every, end): (Duration, Duration)) {
    let mut due = interval(every);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while recorder.now() < end {
        due.tick().await;
        let _under_way = gate.read().await;
        worker.step().await;
    }
}

fn any() -> u64 {
    let mut seed = [0; 8];
    OsRandom.fill(&mut seed);
    u64::from_le_bytes(seed)
}

/// At once, so that who broke something sees it beside what was done.
fn told(checked: Checked) -> Checked {
    for found in &checked.violations {
        say(&format!("{}; on this key before:\n{}", found.violation, found.before));
    }
    checked
}

fn say(text: &str) {
    // Nobody reads it: the result counts.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

fn print(args: &Verify, all: &Checked, seed: u64) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(all.grants > 0, "nothing was granted, so nothing was checked");
    let mut stdout = std::io::stdout().lock();
    let violations = all.violations.len();
    if args.output == Format::Json {
        let texts: Vec<String> = all.violations.iter().map(|it| it.violation.to_string()).collect();
        let object = json!({
            "seed": seed, "seconds": args.duration.as_secs_f64(), "events": all.events, "grants": all.grants,
            "outcome_unknown": all.unknown, "violations": texts,
        });
        writeln!(stdout, "{object}")?;
    } else {
        writeln!(
            stdout,
            "{} grants, {} events, {} requests of unknown outcome or place: {violations} broken promises",
            all.grants, all.events, all.unknown
        )?;
    }
    Ok(if violations == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
