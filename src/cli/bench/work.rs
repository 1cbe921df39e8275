//! What the workers of a run do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::sleep;

use ticketlock_client::{Client, Error, Outcome};

use super::measure::{Clock, Latencies, Phase, Report, latencies, record};
use super::{Bench, Workload};

/// Between two hand-offs, so that each meets a server at rest.
const HANDOFF_PAUSE: Duration = Duration::from_millis(30);

/// Runs the workload.
pub async fn run(args: &Arc<Bench>, clients: &[Client], clock: Clock) -> anyhow::Result<Report> {
    match args.workload {
        Workload::Pairs | Workload::Hot | Workload::Mixed => loops(args, clients, clock).await,
        Workload::Handoff => handoff(args, clients, clock).await,
        Workload::Waiters => waiters(args, clients, clock).await,
    }
}

/// What one worker has done.
#[derive(Default)]
struct Done {
    pairs: u64,
    errors: u64,
}

/// A worker's place in a run.
struct Worker {
    client: Client,
    number: u32,
    args: Arc<Bench>,
    clock: Clock,
    /// What counts begins and ends then.
    span: (Duration, Duration),
    /// Shared by all workers of a connection: a histogram is larger than all else that a worker needs.
    latencies: Arc<Mutex<Latencies>>,
}

/// Workers that lock and unlock until the time is over.
async fn loops(args: &Arc<Bench>, clients: &[Client], clock: Clock) -> anyhow::Result<Report> {
    let begin = clock.now() + args.duration / 10;
    let shared: Vec<_> = clients.iter().map(|_| Arc::new(Mutex::new(latencies()))).collect();
    let mut tasks = JoinSet::new();
    for (number, (client, latencies)) in (0..args.workers).zip(clients.iter().zip(&shared).cycle()) {
        let worker = Worker {
            client: client.clone(),
            number,
            args: Arc::clone(args),
            clock,
            span: (begin, begin + args.duration),
            latencies: Arc::clone(latencies),
        };
        tasks.spawn(async move { worker.run().await });
    }
    let mut served = (u64::MAX, 0);
    let mut errors = 0;
    while let Some(done) = tasks.join_next().await {
        let done = done?;
        errors += done.errors;
        served = (served.0.min(done.pairs), served.1.max(done.pairs));
    }
    let mut all = latencies();
    for part in shared {
        all.add(&*part.lock().unwrap_or_else(PoisonError::into_inner))?;
    }
    let phases = vec![Phase {
        name: "lock+unlock",
        took: args.duration,
        latencies: all,
    }];
    Ok(Report { phases, served, errors })
}

impl Worker {
    async fn run(self) -> Done {
        let (workers, (begin, end)) = (f64::from(self.args.workers), self.span);
        let own = format!("{}own/{}", self.args.prefix, self.number);
        let hot = format!("{}hot", self.args.prefix);
        // Each worker's share of the rate, beginning at its part of the first interval.
        let every = self
            .args
            .rate
            .map(|rate| Duration::from_secs_f64(workers / rate as f64));
        let mut due = every.map(|every| self.clock.now() + every.mul_f64(f64::from(self.number) / workers));
        let mut done = Done::default();
        for round in 0_u64.. {
            let now = self.clock.now();
            if now >= end {
                break;
            }
            let mut from = now;
            if let (Some(at), Some(every)) = (&mut due, every) {
                sleep(at.saturating_sub(now)).await;
                from = *at;
                *at += every;
            }
            let result = match self.args.workload {
                // A rival gives back and queues again in one breath; its pair ends with the next grant.
                Workload::Hot => self.client.lock(&hot).await.map(drop),
                Workload::Mixed if round % 10 == 0 => pair(&self.client, &hot).await,
                _ => pair(&self.client, &own).await,
            };
            let now = self.clock.now();
            if result.is_err() {
                done.errors += 1;
                sleep(Duration::from_millis(100)).await;
            } else if from >= begin && now <= end {
                done.pairs += 1;
                let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
                record(&mut latencies, now.saturating_sub(from));
            }
        }
        done
    }
}

async fn pair(client: &Client, key: &str) -> Result<(), Error> {
    let guard = client.lock(key).await?;
    guard.unlock(Outcome::default()).await?;
    Ok(())
}

/// Two take turns: from one's unlock to the other's grant.
async fn handoff(args: &Bench, clients: &[Client], clock: Clock) -> anyhow::Result<Report> {
    let key = format!("{}handoff", args.prefix);
    let [first, second] = clients else {
        let both = [clients.first(), clients.get(1).or(clients.first())];
        let [Some(first), Some(second)] = both else {
            anyhow::bail!("no connection")
        };
        let pair = [first.clone(), second.clone()];
        return Box::pin(handoff(args, &pair, clock)).await;
    };
    let began = clock.now();
    let mut seen = latencies();
    let mut holder = first.lock(&key).await?;
    for round in 0_u64.. {
        if clock.now() - began >= args.duration {
            break;
        }
        let next = if round % 2 == 0 { second } else { first };
        let queued = Arc::new(Notify::new());
        let tell = Arc::clone(&queued);
        let lock = next.lock(&key).on_queued(move |_| tell.notify_one());
        let granted = tokio::spawn(async move {
            let guard = lock.await;
            (guard, clock.now())
        });
        queued.notified().await;
        sleep(HANDOFF_PAUSE).await;
        let sent = clock.now();
        holder.unlock(Outcome::default()).await?;
        let (guard, at) = granted.await?;
        holder = guard?;
        record(&mut seen, at.saturating_sub(sent));
    }
    holder.unlock(Outcome::default()).await?;
    let phases = vec![Phase {
        name: "hand-off",
        took: clock.now() - began,
        latencies: seen,
    }];
    Ok(Report {
        phases,
        served: (0, 0),
        errors: 0,
    })
}

/// So many wait on one key; then each takes its turn.
async fn waiters(args: &Arc<Bench>, clients: &[Client], clock: Clock) -> anyhow::Result<Report> {
    let key = format!("{}line", args.prefix);
    let Some(first) = clients.first() else {
        anyhow::bail!("no connection")
    };
    let holder = first.lock(&key).await?;
    let began = clock.now();
    let queued = Arc::new(Mutex::new(latencies()));
    let all_queued = Arc::new(Notify::new());
    let mut tasks = JoinSet::new();
    for (_, client) in (0..args.workers).zip(clients.iter().cycle()) {
        let (queued, all, workers) = (Arc::clone(&queued), Arc::clone(&all_queued), u64::from(args.workers));
        let asked = clock.now();
        let told = AtomicBool::new(false);
        let lock = client.lock(&key).on_queued(move |_| {
            // Its place is told again as it changes.
            if told.swap(true, Ordering::Relaxed) {
                return;
            }
            let mut queued = queued.lock().unwrap_or_else(PoisonError::into_inner);
            record(&mut queued, clock.now() - asked);
            if queued.len() == workers {
                all.notify_one();
            }
        });
        tasks.spawn(async move {
            let guard = lock.await?;
            let at = clock.now();
            guard.unlock(Outcome::default()).await?;
            Ok::<_, Error>(at)
        });
    }
    all_queued.notified().await;
    let (enqueued, mut waited) = (clock.now(), latencies());
    holder.unlock(Outcome::default()).await?;
    let mut errors = 0;
    while let Some(done) = tasks.join_next().await {
        match done? {
            Ok(at) => record(&mut waited, at.saturating_sub(enqueued)),
            Err(_) => errors += 1,
        }
    }
    let drained = clock.now();
    let queued = queued.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let phases = vec![
        Phase {
            name: "queued",
            took: enqueued - began,
            latencies: queued,
        },
        Phase {
            name: "granted",
            took: drained - enqueued,
            latencies: waited,
        },
    ];
    Ok(Report {
        phases,
        served: (0, 0),
        errors,
    })
}
