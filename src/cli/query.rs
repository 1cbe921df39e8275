//! The commands that look: ls, show, watch, health.

use std::io::Write as _;
use std::process::ExitCode;

use serde_json::json;
use ticketlock_client::{Error, LockInfo, WatchChange, WatchEvent};

use super::args::{Drain, Format, Health, Ls, Show, Watch};
use super::output::{age, event_json, info_json, mode_text, printable, table};
use super::{connect, exit};

/// `ticketlock ls`.
pub async fn ls(args: Ls) -> anyhow::Result<ExitCode> {
    let locks = connect(&args.connection).await?.list(&args.prefix).await?;
    let mut stdout = std::io::stdout().lock();
    if args.output == Format::Json {
        for info in &locks {
            writeln!(stdout, "{}", info_json(info))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = vec![
        ["KEY", "MODE", "HOLDER", "TOKEN", "HELD", "LEASE LEFT", "WAITING"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for info in &locks {
        rows.extend(ls_rows(info));
    }
    write!(stdout, "{}", table(&rows))?;
    Ok(ExitCode::SUCCESS)
}

/// One row per holder; one for a key that has none.
fn ls_rows(info: &LockInfo) -> Vec<Vec<String>> {
    let waiting = info.waiters_total.to_string();
    let dash = || "-".to_owned();
    if info.holders.is_empty() {
        return vec![vec![
            printable(&info.key),
            dash(),
            dash(),
            dash(),
            dash(),
            dash(),
            waiting,
        ]];
    }
    let row = |it: &ticketlock_client::Holder| {
        vec![
            printable(&info.key),
            mode_text(it.mode),
            printable(&it.owner),
            it.fencing_token.to_string(),
            age(it.held),
            age(it.lease_left),
            waiting.clone(),
        ]
    };
    info.holders.iter().map(row).collect()
}

/// `ticketlock show`.
pub async fn show(args: Show) -> anyhow::Result<ExitCode> {
    let info = connect(&args.connection).await?.get(&args.key).await?;
    let mut stdout = std::io::stdout().lock();
    if args.output == Format::Json {
        writeln!(stdout, "{}", info_json(&info))?;
        return Ok(ExitCode::SUCCESS);
    }
    if info.holders.is_empty() && info.waiters_total == 0 {
        writeln!(stdout, "{}: free", printable(&args.key))?;
    }
    if let Some(left) = info.lock_delay_left {
        writeln!(stdout, "lock-delay: {} left", age(left))?;
    }
    let mut rows = Vec::new();
    if !info.holders.is_empty() || !info.waiters.is_empty() {
        let header = [
            "",
            "OWNER",
            "MODE",
            "TICKET",
            "TOKEN",
            "SINCE",
            "LEASE LEFT",
            "CONNECTED",
            "METADATA",
        ];
        rows.push(header.map(str::to_owned).to_vec());
    }
    for it in &info.holders {
        rows.push(vec![
            "holds".to_owned(),
            printable(&it.owner),
            mode_text(it.mode),
            it.ticket.to_string(),
            it.fencing_token.to_string(),
            age(it.held),
            age(it.lease_left),
            if it.connected { "yes" } else { "no" }.to_owned(),
            pairs(&it.metadata),
        ]);
    }
    for it in &info.waiters {
        rows.push(vec![
            format!("waits {}", it.position),
            printable(&it.owner),
            mode_text(it.mode),
            it.ticket.to_string(),
            "-".to_owned(),
            age(it.waited),
            "-".to_owned(),
            if it.connected { "yes" } else { "no" }.to_owned(),
            pairs(&it.metadata),
        ]);
    }
    write!(stdout, "{}", table(&rows))?;
    let shown = [
        (info.holders_total, info.holders.len(), "hold"),
        (info.waiters_total, info.waiters.len(), "wait"),
    ];
    for (total, shown, verb) in shown {
        let hidden = total.saturating_sub(u64::try_from(shown)?);
        if hidden > 0 {
            writeln!(stdout, "and {hidden} more {verb}")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn pairs(metadata: &std::collections::BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = metadata
        .iter()
        .map(|(name, value)| printable(&format!("{name}={value}")))
        .collect();
    pairs.join(" ")
}

/// `ticketlock watch`. Ends with the server, or when nobody reads any more.
pub async fn watch(args: Watch) -> anyhow::Result<ExitCode> {
    let client = connect(&args.connection).await?;
    let mut watch = client.watch(&args.prefix).await?;
    while let Some(event) = watch.next().await {
        let event = event?;
        let line = match args.output {
            Format::Json => Some(event_json(&event).to_string()),
            Format::Table => event_line(&event),
        };
        if let Some(line) = line {
            let mut stdout = std::io::stdout().lock();
            writeln!(stdout, "{line}")?;
            stdout.flush()?;
        }
    }
    // A watch has no end of its own: the server is stopping.
    writeln!(std::io::stderr().lock(), "ticketlock: the server ended the watch")?;
    Ok(ExitCode::from(exit::UNAVAILABLE))
}

/// Ends of snapshots are for programs.
fn event_line(event: &WatchEvent) -> Option<String> {
    match &event.change {
        WatchChange::Snapshot(info) => {
            let owners: Vec<String> = info.holders.iter().map(|it| printable(&it.owner)).collect();
            let holders = if owners.is_empty() {
                "-".to_owned()
            } else {
                owners.join(",")
            };
            Some(format!(
                "{:<13} {} holders={holders} waiting={}",
                "present",
                printable(&info.key),
                info.waiters_total
            ))
        }
        WatchChange::Changed(it) => {
            let token = it
                .fencing_token
                .map(|token| format!(" token={token}"))
                .unwrap_or_default();
            let (kind, key, owner) = (it.kind.as_str(), printable(&it.key), printable(&it.owner));
            Some(format!(
                "{kind:<13} {key} owner={owner} ticket={}{token} waiting={}",
                it.ticket, it.waiters
            ))
        }
        WatchChange::Resync => Some(format!("{:<13} shard={}", "resync", event.shard)),
        _ => None,
    }
}

/// `ticketlock drain`.
pub async fn drain(args: Drain) -> anyhow::Result<ExitCode> {
    let endpoints = &args.connection.endpoint;
    anyhow::ensure!(
        endpoints.len() == 1,
        "one server is drained at a time: name one --endpoint"
    );
    let client = connect(&args.connection).await?;
    let by = client.owner().to_owned();
    let kept = if client.drain(&args.reason, &by).await? {
        "what was held or waited for is kept for the next server on its store"
    } else {
        "its store keeps nothing: what was held or waited for has ended"
    };
    writeln!(std::io::stdout().lock(), "drained: {kept}")?;
    Ok(ExitCode::SUCCESS)
}

/// `ticketlock health`.
pub async fn health(args: Health) -> anyhow::Result<ExitCode> {
    let client = connect(&args.connection).await?;
    let serving = client.health().await?;
    let info = match client.server_info().await {
        Ok(info) => Some(info),
        Err(error) if error.is_unavailable() => None,
        Err(error) => return Err(Error::into(error)),
    };
    let mut stdout = std::io::stdout().lock();
    let status = if serving { "SERVING" } else { "NOT_SERVING" };
    match args.output {
        Format::Json => {
            let object = json!({
                "status": status,
                "version": info.as_ref().map(|it| it.version.clone()),
                "store": info.as_ref().map(|it| it.store.clone()),
                "shards": info.as_ref().map(|it| it.shards),
                "uptime_ms": info.as_ref().and_then(|it| u64::try_from(it.uptime.as_millis()).ok()),
            });
            writeln!(stdout, "{object}")?;
        }
        Format::Table => match info {
            Some(it) => writeln!(
                stdout,
                "{status} {} store={} up {}",
                it.version,
                it.store,
                age(it.uptime)
            )?,
            None => writeln!(stdout, "{status}")?,
        },
    }
    Ok(if serving {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(exit::UNAVAILABLE)
    })
}
