//! `ticketlock lock`: waits in line, runs the command, ends it in time if the lock is lost, gives the lock back.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use rustix::process::Signal;
use ticketlock_client::{Client, Error, Guard, LockBuilder, LostReason, Outcome, Unlocked};
use tokio::time::{sleep, timeout};

use super::args::{Format, Lock, OnLost};
use super::job::Job;
use super::signals::{self, Stops};
use super::{connect, exit, terminal};

/// SIGKILL comes so long before the promise ends, at most; a short TTL has a smaller margin.
const KILL_MARGIN: Duration = Duration::from_millis(200);
/// Giving back what seems lost is a courtesy to the next in line, and waits no longer than this for an answer.
const COURTESY_WITHIN: Duration = Duration::from_secs(1);

/// Runs the command.
pub async fn run(args: Box<Lock>) -> anyhow::Result<ExitCode> {
    let client = connect(&args.connection).await?;
    let mut stops = Stops::listen()?;
    let guard = tokio::select! {
        biased;
        guard = acquire(&client, &args) => guard,
        signal = stops.next() => {
            terminal_clear();
            // Out of the line before the process is gone.
            let _ = timeout(COURTESY_WITHIN, client.flush()).await;
            return Ok(ExitCode::from(signals::exit_code(signal)));
        }
    };
    terminal_clear();
    let guard = match guard {
        Ok(guard) => guard,
        Err(error @ Error::NotAcquired { .. }) => {
            say(&format!("{}: {error}", args.key));
            return Ok(ExitCode::from(args.not_acquired_code));
        }
        Err(error) => return Err(error.into()),
    };
    if args.detach {
        return detach(guard, args.output).await;
    }
    let code = hold(guard, &args, &mut stops).await?;
    // What is not given back by then goes with the connection, or by its lease.
    let _ = timeout(COURTESY_WITHIN, client.flush()).await;
    Ok(ExitCode::from(code))
}

async fn acquire(client: &Client, args: &Lock) -> Result<Guard, Error> {
    let mut lock: LockBuilder = client.lock(&args.key).ttl(args.ttl).on_disconnect(args.on_disconnect);
    if args.shared {
        lock = lock.shared();
    }
    if let (Some(permits), Some(capacity)) = (args.permits, args.capacity) {
        lock = lock.permits(permits, capacity);
    }
    if let Some(wait) = args.wait {
        lock = lock.wait(wait);
    }
    if args.no_wait {
        lock = lock.no_wait();
    }
    for (name, value) in &args.metadata {
        lock = lock.metadata(name, value);
    }
    if std::io::stderr().is_terminal() {
        let key = args.key.clone();
        lock = lock.on_queued(move |queued| terminal::draw_place(&key, &queued));
        let key = args.key.clone();
        lock = lock.on_suspended(move || terminal::draw_absence(&key));
    }
    lock.await
}

async fn detach(guard: Guard, format: Format) -> anyhow::Result<ExitCode> {
    let (key, owner, ttl) = (guard.key().to_owned(), guard.owner().to_owned(), guard.ttl());
    let token = guard.detach().await?;
    let mut stdout = std::io::stdout().lock();
    match format {
        Format::Table => writeln!(stdout, "{token}")?,
        Format::Json => {
            let ttl_ms = u64::try_from(ttl.as_millis())?;
            let line = serde_json::json!({
                "key": key, "owner": owner, "fencing_token": token, "ttl_ms": ttl_ms,
            });
            writeln!(stdout, "{line}")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs the command under the lock, and answers the exit code.
async fn hold(guard: Guard, args: &Lock, stops: &mut Stops) -> anyhow::Result<u8> {
    // Not before the lock is certain: a grant that had to wait promises nothing by time.
    if let Err(reason) = guard.confirmed().await {
        say(&format!("{}: lost: {reason}", args.key));
        return Ok(exit::LOST);
    }
    let variables = [
        ("TICKETLOCK_KEY", guard.key().to_owned()),
        ("TICKETLOCK_FENCING_TOKEN", guard.fencing_token().to_string()),
        ("TICKETLOCK_OWNER", guard.owner().to_owned()),
    ];
    let mut job = Job::start(&args.command, &variables)?;
    let (code, lost) = attend(&mut job, &guard, args, stops).await?;
    let outcome = match code {
        0 => Outcome::success(),
        code => Outcome::failure(format!("exit status {code}")),
    };
    let lost = match lost {
        Some(reason) => {
            drop(guard);
            Some(reason)
        }
        None => match guard.unlock(outcome).await {
            Ok(Unlocked::Unlocked) => None,
            Ok(Unlocked::AlreadyLost(reason)) => Some(reason),
            Err(error) => {
                say(&format!("{}: cannot unlock, its lease ends it: {error}", args.key));
                None
            }
        },
    };
    match lost {
        Some(reason) => {
            say(&format!("{}: lost: {reason}", args.key));
            Ok(if args.on_lost == OnLost::Ignore {
                code
            } else {
                exit::LOST
            })
        }
        None => Ok(code),
    }
}

/// Waits for the command's end; passes signals on; ends the command if the lock is lost. Answers the command's code,
/// and why the lock was lost, if it was.
async fn attend(
    job: &mut Job,
    guard: &Guard,
    args: &Lock,
    stops: &mut Stops,
) -> anyhow::Result<(u8, Option<LostReason>)> {
    let grace = match args.on_lost {
        OnLost::Term => args.grace.min(guard.ttl() / 3),
        OnLost::Kill | OnLost::Ignore => Duration::ZERO,
    };
    let margin = KILL_MARGIN.min(guard.ttl() / 20);
    let mut lost = std::pin::pin!(guard.lost());
    let reason = loop {
        // A renewal moves the end; so this is asked again each time it seems to have come.
        let left = guard.promised_for().saturating_sub(grace.max(margin));
        tokio::select! {
            biased;
            status = job.wait() => return Ok((exit::of_status(status?), None)),
            signal = stops.next() => job.signal(signal),
            reason = &mut lost => break reason,
            () = sleep(left), if args.on_lost != OnLost::Ignore => {
                if guard.promised_for() <= grace.max(margin) {
                    break LostReason::Unconfirmed;
                }
            }
        }
    };
    if args.on_lost == OnLost::Ignore {
        return attend_to_the_end(job, stops).await.map(|code| (code, Some(reason)));
    }
    if args.on_lost == OnLost::Term {
        // Where the lock has gone already, the command has its grace all the same: there is nothing left to protect
        // but its own tidying up.
        let left = match guard.promised_for() {
            Duration::ZERO => grace,
            left => left.saturating_sub(margin).min(grace),
        };
        job.signal(Signal::TERM);
        let until_kill = sleep(left);
        let mut until_kill = std::pin::pin!(until_kill);
        loop {
            tokio::select! {
                biased;
                status = job.wait() => return Ok((exit::of_status(status?), Some(reason))),
                signal = stops.next() => job.signal(signal),
                () = &mut until_kill => break,
            }
        }
    }
    job.kill().await;
    Ok((exit::of_status(job.wait().await?), Some(reason)))
}

async fn attend_to_the_end(job: &mut Job, stops: &mut Stops) -> anyhow::Result<u8> {
    loop {
        tokio::select! {
            biased;
            status = job.wait() => return Ok(exit::of_status(status?)),
            signal = stops.next() => job.signal(signal),
        }
    }
}

fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "ticketlock: {text}");
}

fn terminal_clear() {
    if std::io::stderr().is_terminal() {
        terminal::clear_place();
    }
}
